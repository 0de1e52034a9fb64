//! The expressions of a part of a statement, with or without those of the inner queries in it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, Visit, VisitMut, Visitor, VisitorMut, visit_expressions};

/// Changes each expression outside of inner queries, the innermost ones first.
pub(super) fn change(part: &mut impl VisitMut, change: impl FnMut(&mut Expr)) {
    let _ = part.visit(&mut Changer { change, queries: 0 });
}

/// Whether an expression outside of inner queries is one of these.
pub(super) fn has(part: &impl Visit, is: impl FnMut(&Expr) -> bool) -> bool {
    part.visit(&mut Finder { is, queries: 0 }).is_break()
}

/// The same for expressions of inner queries, too.
pub(super) fn has_anywhere(part: &impl Visit, mut is: impl FnMut(&Expr) -> bool) -> bool {
    let found = |expr: &Expr| if is(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    visit_expressions(part, found).is_break()
}

struct Changer<F> {
    change: F,
    /// How many queries are around the expression.
    queries: usize,
}

impl<F: FnMut(&mut Expr)> VisitorMut for Changer<F> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.queries == 0 {
            (self.change)(expr);
        }
        ControlFlow::Continue(())
    }
}

struct Finder<F> {
    is: F,
    queries: usize,
}

impl<F: FnMut(&Expr) -> bool> Visitor for Finder<F> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.queries == 0 && (self.is)(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
