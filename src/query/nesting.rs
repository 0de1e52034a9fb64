//! How deep inner queries nest in expressions.
//!
//! The planner checks an inner query, and then once more with all that is around it, at every level. So its work doubles with each
//! level. Queries behind FROM and WITH cost nothing of that kind.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Statement, Visit, Visitor};

/// The number of levels of the deepest inner query in an expression of a statement.
pub(super) fn inner_queries(statement: &Statement) -> usize {
    let mut levels = Levels::default();
    let ControlFlow::Continue(()) = statement.visit(&mut levels);
    levels.most
}

#[derive(Default)]
struct Levels {
    around: usize,
    most: usize,
}

impl Visitor for Levels {
    type Break = std::convert::Infallible;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        self.around += usize::from(is_inner_query(expr));
        self.most = self.most.max(self.around);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        self.around -= usize::from(is_inner_query(expr));
        ControlFlow::Continue(())
    }
}

fn is_inner_query(expr: &Expr) -> bool {
    matches!(expr, Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. })
}
