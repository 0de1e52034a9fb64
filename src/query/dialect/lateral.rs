//! `LATERAL (SELECT … WHERE x = outer.x ORDER BY … LIMIT n)`: the first n rows of each group. The planner has no LIMIT for each
//! outer row, so the rows are numbered within their groups.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ExcludeSelectItem, Expr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, LimitClause,
    ObjectName, OrderByExpr, OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    TableFactor, Value, WindowSpec, WindowType,
};

use super::build;
use super::call::is_aggregate_item;
use super::join::split;
use super::names::folded;
use super::order::by_computation;
use super::scope::{factors, qualifier};
use super::visit;

/// Rewrites the inner queries of a SELECT for which this is possible.
pub(super) fn rewrite(select: &mut Select) {
    if select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_))) {
        // The columns by which rows are joined would be among its columns.
        return;
    }
    let mut at = 1;
    while at < select.from.len() {
        let joined = match select.from.get_mut(at) {
            Some(table) => first_rows(&mut table.relation),
            None => None,
        };
        let Some(joined) = joined else {
            at += 1;
            continue;
        };
        let table = select.from.remove(at);
        hide(select, &joined);
        if let Some(before) = select.from.get_mut(at - 1) {
            let join_operator = JoinOperator::Inner(JoinConstraint::On(joined.condition));
            before.joins.push(Join { relation: table.relation, global: false, join_operator });
            before.joins.extend(table.joins);
        }
    }
    let mut all = Vec::new();
    for join in select.from.iter_mut().flat_map(|table| &mut table.joins) {
        let Some(joined) = first_rows(&mut join.relation) else { continue };
        let condition = joined.condition.clone();
        match &mut join.join_operator {
            JoinOperator::Join(on) | JoinOperator::Inner(on) | JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => {
                *on = match std::mem::replace(on, JoinConstraint::None) {
                    JoinConstraint::On(given) => {
                        JoinConstraint::On(build::all([Expr::Nested(Box::new(given)), condition]))
                    }
                    _ => JoinConstraint::On(condition),
                };
            }
            JoinOperator::CrossJoin(_) => join.join_operator = JoinOperator::Inner(JoinConstraint::On(condition)),
            _ => continue,
        }
        all.push(joined);
    }
    for joined in &all {
        hide(select, joined);
    }
}

/// How an inner query that is no longer lateral is joined.
struct Joined {
    alias: Ident,
    keys: Vec<Ident>,
    condition: Expr,
}

/// Lets an inner query give the first rows of all its groups, if it is one that gives those of one.
fn first_rows(factor: &mut TableFactor) -> Option<Joined> {
    let TableFactor::Derived { lateral: lateral @ true, subquery, alias: Some(alias), .. } = factor else {
        return None;
    };
    let limit = literal_limit(subquery)?;
    let mut order_by = plain_order(subquery)?;
    let SetExpr::Select(inner) = &mut *subquery.body else { return None };
    if !is_plain(inner) {
        return None;
    }
    by_computation(&mut order_by, &inner.projection);
    let own: Vec<String> = factors(&inner.from).filter_map(|factor| qualifier(factor)?.last().map(folded)).collect();
    let mut conditions = Vec::new();
    split(inner.selection.clone()?, &mut conditions);
    let mut pairs = Vec::new();
    let mut kept = Vec::new();
    for condition in conditions {
        match &condition {
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if is_outer(left, &own) && is_column(right) => {
                pairs.push(((**right).clone(), (**left).clone()));
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if is_outer(right, &own) && is_column(left) => {
                pairs.push(((**left).clone(), (**right).clone()));
            }
            _ => kept.push(condition),
        }
    }
    if pairs.is_empty() || kept.iter().any(|condition| mentions_outer(condition, &own)) {
        return None;
    }
    inner.selection = (!kept.is_empty()).then(|| build::all(kept));
    let mut number = build::function_of("row_number", Vec::new());
    number.over = Some(WindowType::WindowSpec(WindowSpec {
        window_name: None,
        partition_by: pairs.iter().map(|(own, _)| own.clone()).collect(),
        order_by,
        window_frame: None,
    }));
    inner.qualify = Some(build::binary(Expr::Function(number), BinaryOperator::LtEq, limit));
    let keys: Vec<Ident> = (1..=pairs.len()).map(|number| build::name(format!("__key_{number}"))).collect();
    for ((own, _), key) in pairs.iter().zip(&keys) {
        inner.projection.push(build::item(own.clone(), key.clone()));
    }
    (subquery.order_by, subquery.limit_clause) = (None, None);
    *lateral = false;
    let table = [alias.name.clone()];
    let same = |((_, outer), key): (&(Expr, Expr), &Ident)| {
        build::binary(outer.clone(), BinaryOperator::Eq, build::column(&table, key))
    };
    let condition = build::all(pairs.iter().zip(&keys).map(same));
    Some(Joined { alias: alias.name.clone(), keys, condition })
}

/// Leaves the columns by which rows are joined out of the inner query's `*`.
fn hide(select: &mut Select, joined: &Joined) {
    for item in &mut select.projection {
        if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(table), options) = item
            && table.0.last().and_then(|part| part.as_ident()).map(folded) == Some(folded(&joined.alias))
            && options.opt_exclude.is_none()
        {
            let keys = joined.keys.iter().cloned().map(ObjectName::from).collect();
            options.opt_exclude = Some(ExcludeSelectItem::Multiple(keys));
        }
    }
}

fn literal_limit(query: &Query) -> Option<Expr> {
    match query.limit_clause.as_ref()? {
        LimitClause::LimitOffset { limit: Some(limit @ Expr::Value(value)), offset: None, limit_by } => {
            (limit_by.is_empty() && matches!(value.value, Value::Number(..))).then(|| limit.clone())
        }
        _ => None,
    }
}

/// The order, if it names columns that are read, and not positions.
fn plain_order(query: &Query) -> Option<Vec<OrderByExpr>> {
    match &query.order_by.as_ref()?.kind {
        OrderByKind::Expressions(order) if !order.iter().any(|order| matches!(order.expr, Expr::Value(_))) => {
            Some(order.clone())
        }
        _ => None,
    }
}

fn is_plain(select: &Select) -> bool {
    matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
        && select.distinct.is_none()
        && select.having.is_none()
        && select.qualify.is_none()
        && !select.projection.iter().any(is_aggregate_item)
}

/// Whether it is a column of a table that the inner query does not read.
fn is_outer(expr: &Expr, own: &[String]) -> bool {
    match expr {
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [.., table, _] => !own.contains(&folded(table)),
            _ => false,
        },
        _ => false,
    }
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

fn mentions_outer(expr: &Expr, own: &[String]) -> bool {
    visit::has_anywhere(expr, |expr| is_outer(expr, own))
}
