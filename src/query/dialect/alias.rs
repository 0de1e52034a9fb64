//! Names of a SELECT's own columns in its other columns and behind WHERE, where no column that is read has that name.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, GroupByExpr, Select, SelectItem, Statement, VisitMut, VisitorMut};

use super::names::folded;
use super::visit;

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
        if visit::has_anywhere(&meaning, |expr| is_name(expr, self.name)) {
            return ControlFlow::Continue(());
        }
        let (name, mut done) = (self.name, false);
        let mut replace = |expr: &mut Expr| {
            if is_name(expr, name) {
                *expr = meaning.clone();
                done = true;
            }
        };
        visit::change(&mut select.selection, &mut replace);
        if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
            visit::change(keys, &mut replace);
        }
        for (other, item) in select.projection.iter_mut().enumerate() {
            if let SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr) = item
                && other != position
            {
                visit::change(expr, &mut replace);
            }
        }
        self.done |= done;
        ControlFlow::Continue(())
    }
}

fn is_name(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Identifier(other) if folded(other) == name)
}
