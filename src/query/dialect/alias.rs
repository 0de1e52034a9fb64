//! Names of a SELECT's own columns in its other columns and behind WHERE, where no column that is read has that name.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Query, Select, SelectItem, Statement, Visit, VisitMut, Visitor, VisitorMut,
};

use super::names::folded;

/// Puts what a name stands for in its place, in each SELECT that gives a column this name. Says whether there was one.
pub(super) fn substitute(statement: &mut Statement, name: &str) -> bool {
    let mut substitution = Substitution { name, done: false };
    let _ = statement.visit(&mut substitution);
    substitution.done
}

struct Substitution<'a> {
    name: &'a str,
    done: bool,
}

impl VisitorMut for Substitution<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let named = select
            .projection
            .iter()
            .position(|item| matches!(item, SelectItem::ExprWithAlias { alias, .. } if folded(alias) == self.name));
        let Some(position) = named else { return ControlFlow::Continue(()) };
        let Some(SelectItem::ExprWithAlias { expr, .. }) = select.projection.get(position) else {
            return ControlFlow::Continue(());
        };
        let meaning = Expr::Nested(Box::new(expr.clone()));
        // Its own name would stay.
        if meaning.visit(&mut Finder { name: self.name }).is_break() {
            return ControlFlow::Continue(());
        }
        let mut replacer = Replacer { name: self.name, meaning: &meaning, queries: 0, done: false };
        let _ = VisitMut::visit(&mut select.selection, &mut replacer);
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
            let _ = VisitMut::visit(keys, &mut replacer);
        }
        for (other, item) in select.projection.iter_mut().enumerate() {
            if let SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr) = item
                && other != position
            {
                let _ = VisitMut::visit(expr, &mut replacer);
            }
        }
        self.done |= replacer.done;
        ControlFlow::Continue(())
    }
}

fn is_name(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Identifier(other) if folded(other) == name)
}

struct Finder<'a> {
    name: &'a str,
}

impl Visitor for Finder<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if is_name(expr, self.name) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Replaces a name outside of inner queries.
struct Replacer<'a> {
    name: &'a str,
    meaning: &'a Expr,
    queries: usize,
    done: bool,
}

impl VisitorMut for Replacer<'_> {
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
        if self.queries == 0 && is_name(expr, self.name) {
            *expr = self.meaning.clone();
            self.done = true;
        }
        ControlFlow::Continue(())
    }
}
