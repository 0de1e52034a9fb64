//! `SELECT …, (SELECT max(x) FROM b WHERE b.time <= a.time) FROM a`: an aggregate over other rows for each outer one, chosen by more
//! than equality, which the planner cannot do. It is computed once for each value of the outer columns, and joined.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Distinct, Expr, Function, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, Query, Select,
    SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use super::build;
use super::call::{is_aggregate_item, name};
use super::join::split;
use super::names::folded;
use super::quantified::first_row;
use super::scope::{factors, qualifier};
use super::visit;

/// Names that no table has.
const VALUE: &str = "__value";
const KEY: &str = "__key";

/// Rewrites the inner queries behind SELECT for which the planner needs it.
pub(super) fn rewrite(select: &mut Select) {
    let [TableWithJoins { relation, joins }] = select.from.as_slice() else { return };
    let is_grouped = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
        || select.projection.iter().any(is_aggregate_item);
    let has_wildcard = select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_)));
    // It is read once more.
    let (TableFactor::Table { args: None, .. }, Some(outer)) = (relation, qualifier(relation)) else { return };
    if is_grouped || has_wildcard || !joins.is_empty() {
        return;
    }
    let mut rewriter = Rewriter { outer, relation: relation.clone(), joins: Vec::new() };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            visit::change(expr, |expr| {
                let Expr::Subquery(query) = expr else { return };
                first_row(query);
                if let Some(value) = rewriter.joined(query) {
                    *expr = value;
                }
            });
        }
    }
    if let Some(table) = select.from.first_mut() {
        table.joins.extend(rewriter.joins);
    }
}

struct Rewriter {
    /// What the columns of the outer table are qualified by.
    outer: Vec<Ident>,
    relation: TableFactor,
    joins: Vec<Join>,
}

impl Rewriter {
    /// Joins what a query computes for the values of the outer columns. Gives its value for a row.
    fn joined(&mut self, query: &Query) -> Option<Expr> {
        let aggregate = sole_aggregate(query)?;
        let is_count = name(aggregate) == "count";
        let SetExpr::Select(select) = &*query.body else { return None };
        let [TableWithJoins { relation: inner, joins }] = select.from.as_slice() else { return None };
        let own: Vec<String> =
            factors(&select.from).filter_map(|factor| qualifier(factor)?.last().map(folded)).collect();
        let table = folded(self.outer.last()?);
        if own.contains(&table) || !joins.is_empty() {
            return None;
        }
        let mut conditions = Vec::new();
        split(select.selection.clone()?, &mut conditions);
        if conditions.iter().all(|condition| is_equality(condition) || !mentions(condition, &table)) {
            return None;
        }
        let number = self.joins.len() + 1;
        let (domain, result) = (build::name(format!("__domain_{number}")), build::name(format!("__result_{number}")));
        let mut renaming = Renaming { table: &table, domain: &domain, columns: Vec::new() };
        let mut condition = build::all(conditions);
        let mut aggregate = Expr::Function(aggregate.clone());
        let _ = condition.visit(&mut renaming);
        let _ = aggregate.visit(&mut renaming);
        let columns = renaming.columns;
        let keys: Vec<Ident> = (1..=columns.len()).map(|number| build::name(format!("{KEY}_{number}"))).collect();

        let values =
            columns.iter().zip(&keys).map(|(column, key)| build::item(build::column(&self.outer, column), key.clone()));
        let from = vec![TableWithJoins { relation: self.relation.clone(), joins: Vec::new() }];
        let mut values = build::select(values.collect(), from);
        values.distinct = Some(Distinct::Distinct);
        let values = factor(values, &domain);

        let domain = [domain.clone()];
        let key_of = |key: &Ident| build::column(&domain, key);
        let mut items: Vec<SelectItem> = keys.iter().map(|key| build::item(key_of(key), key.clone())).collect();
        items.push(build::item(aggregate, build::name(VALUE)));
        let mut from = TableWithJoins { relation: inner.clone(), joins: Vec::new() };
        from.joins.push(inner_join(values, condition));
        let mut computed = build::select(items, vec![from]);
        computed.group_by = GroupByExpr::Expressions(keys.iter().map(key_of).collect(), Vec::new());

        let table = [result.clone()];
        let same = |(column, key): (&Ident, &Ident)| {
            let outer = Box::new(build::column(&self.outer, column));
            Expr::IsNotDistinctFrom(outer, Box::new(build::column(&table, key)))
        };
        let condition = build::all(columns.iter().zip(&keys).map(same));
        self.joins.push(Join {
            relation: factor(computed, &result),
            global: false,
            join_operator: JoinOperator::Left(JoinConstraint::On(condition)),
        });
        let value = build::column(&table, &build::name(VALUE));
        Some(if is_count { build::call("coalesce", vec![value, build::number(0)]) } else { value })
    }
}

fn factor(select: Select, alias: &Ident) -> TableFactor {
    TableFactor::Derived {
        lateral: false,
        subquery: Box::new(build::query(SetExpr::Select(Box::new(select)))),
        alias: Some(TableAlias { explicit: true, name: alias.clone(), columns: Vec::new(), at: None }),
        sample: None,
    }
}

fn inner_join(relation: TableFactor, condition: Expr) -> Join {
    Join { relation, global: false, join_operator: JoinOperator::Inner(JoinConstraint::On(condition)) }
}

/// The only column of a query, if it is one aggregate over all its rows.
fn sole_aggregate(query: &Query) -> Option<&Function> {
    if query.with.is_some() || query.limit_clause.is_some() || query.fetch.is_some() || !query.pipe_operators.is_empty()
    {
        return None;
    }
    let SetExpr::Select(select) = &*query.body else { return None };
    let is_plain = matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
        && select.having.is_none()
        && select.qualify.is_none()
        && select.distinct.is_none();
    match select.projection.as_slice() {
        [
            item @ (SelectItem::UnnamedExpr(Expr::Function(function))
            | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. }),
        ] if is_plain && is_aggregate_item(item) && function.over.is_none() => Some(function),
        _ => None,
    }
}

fn is_equality(condition: &Expr) -> bool {
    matches!(condition, Expr::BinaryOp { op: BinaryOperator::Eq, .. })
}

fn is_of(expr: &Expr, table: &str) -> bool {
    matches!(expr, Expr::CompoundIdentifier(parts) if matches!(parts.as_slice(), [.., of, _] if folded(of) == table))
}

fn mentions(expr: &Expr, table: &str) -> bool {
    visit::has_anywhere(expr, |expr| is_of(expr, table))
}

/// Lets columns of the outer table be those of its values.
struct Renaming<'a> {
    table: &'a str,
    domain: &'a Ident,
    columns: Vec<Ident>,
}

impl VisitorMut for Renaming<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if !is_of(expr, self.table) {
            return ControlFlow::Continue(());
        }
        if let Expr::CompoundIdentifier(parts) = &*expr
            && let Some(column) = parts.last()
        {
            let known = self.columns.iter().position(|other| folded(other) == folded(column));
            let position = known.unwrap_or(self.columns.len());
            if known.is_none() {
                self.columns.push(column.clone());
            }
            let key = build::name(format!("{KEY}_{}", position + 1));
            *expr = build::column(std::slice::from_ref(self.domain), &key);
        }
        ControlFlow::Continue(())
    }
}
