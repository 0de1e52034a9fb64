//! `LATERAL (SELECT t.x * 10 AS y) l`: an inner query that reads no table computes from the outer row. Its columns are put in the
//! place of their names, because the planner has no plan for it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, Ident, JoinConstraint, JoinOperator, Query, Select, SelectItem, SetExpr, TableFactor, Value,
    VisitMut, visit_expressions_mut,
};

use super::build;
use super::call::{is_aggregate_item, name};
use super::names::{folded, item_name, name_columns};
use super::scope::{Named, factors};
use super::visit;

/// Functions with another value at each call.
const VOLATILE: &[&str] = &["gen_random_uuid", "random", "uuid"];

/// The columns of an inner query, by their names.
struct Inlined {
    table: String,
    columns: Vec<(String, Expr)>,
}

/// Rewrites the inner queries of a query's FROM for which this is possible.
pub(super) fn rewrite(query: &mut Query, named: &Named) {
    let SetExpr::Select(select) = &mut *query.body else { return };
    let is_star = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    if select.projection.iter().any(is_star) {
        return;
    }
    while let Some(inlined) = take(select) {
        // A name alone is that of another table's column, if one has it.
        let others: Vec<String> =
            factors(&select.from).filter_map(|factor| named.of_factor(factor)).flatten().collect();
        let outputs: Vec<String> = select.projection.iter().filter_map(item_name).collect();
        // Columns keep the names that the statement gives them.
        name_columns(select);
        for item in &mut select.projection {
            let name = item_name(item);
            if let (SelectItem::UnnamedExpr(expr @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_))), Some(name)) =
                (&*item, name)
            {
                *item = build::item(expr.clone(), build::name(name));
            }
        }
        inlined.replace(&mut **select, &others);
        let taken: Vec<String> = others.into_iter().chain(outputs).collect();
        inlined.replace(&mut query.order_by, &taken);
    }
}

impl Inlined {
    /// Replaces the names of the columns in a part of a statement. Names without the table are left if they are `taken`.
    fn replace(&self, part: &mut impl VisitMut, taken: &[String]) {
        let meaning = |name: &Ident| {
            let known = self.columns.iter().find(|(column, _)| *column == folded(name));
            known.map(|(_, expr)| Expr::Nested(Box::new(expr.clone())))
        };
        visit::change(part, |expr| {
            if let Expr::Identifier(name) = &*expr
                && !taken.contains(&folded(name))
                && let Some(meaning) = meaning(name)
            {
                *expr = meaning;
            }
        });
        let _ = visit_expressions_mut(part, |expr: &mut Expr| {
            if let Expr::CompoundIdentifier(parts) = &*expr
                && let [table, name] = parts.as_slice()
                && folded(table) == self.table
                && let Some(meaning) = meaning(name)
            {
                *expr = meaning;
            }
            ControlFlow::<()>::Continue(())
        });
    }
}

/// Takes an inner query that reads no table out of a FROM.
fn take(select: &mut Select) -> Option<Inlined> {
    for at in 1..select.from.len() {
        let table = select.from.get(at)?;
        if let Some(inlined) = inlined(&table.relation)
            && table.joins.is_empty()
        {
            select.from.remove(at);
            return Some(inlined);
        }
    }
    for table in &mut select.from {
        let found = table.joins.iter().enumerate().find_map(|(at, join)| {
            let always = match &join.join_operator {
                JoinOperator::CrossJoin(_) => true,
                JoinOperator::Join(JoinConstraint::On(on))
                | JoinOperator::Inner(JoinConstraint::On(on))
                | JoinOperator::Left(JoinConstraint::On(on))
                | JoinOperator::LeftOuter(JoinConstraint::On(on)) => is_true(on),
                _ => false,
            };
            Some((at, inlined(&join.relation).filter(|_| always)?))
        });
        if let Some((at, inlined)) = found {
            table.joins.remove(at);
            return Some(inlined);
        }
    }
    None
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if value.value == Value::Boolean(true))
}

/// The columns of an inner query that reads no table.
fn inlined(factor: &TableFactor) -> Option<Inlined> {
    let TableFactor::Derived { lateral: true, subquery, alias: Some(alias), .. } = factor else { return None };
    let SetExpr::Select(select) = &*subquery.body else { return None };
    let plain = build::select(select.projection.clone(), Vec::new());
    let is_plain = Select { select_token: plain.select_token.clone(), ..(**select).clone() } == plain
        && **subquery == build::query(SetExpr::Select(select.clone()));
    let mut columns = Vec::new();
    for (position, item) in select.projection.iter().enumerate() {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { return None };
        // Of a window, or with another value at each place.
        let is_fixed_here = |function: &Function| function.over.is_some() || VOLATILE.contains(&&*name(function));
        if is_aggregate_item(item)
            || visit::has(expr, |expr| matches!(expr, Expr::Function(function) if is_fixed_here(function)))
        {
            return None;
        }
        let column = match alias.columns.get(position) {
            Some(column) => folded(&column.name),
            None => item_name(item)?,
        };
        columns.push((column, expr.clone()));
    }
    (is_plain && !columns.is_empty()).then(|| Inlined { table: folded(&alias.name), columns })
}
