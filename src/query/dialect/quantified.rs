//! Comparisons with an inner query: ANY, ALL, EXISTS and IN, where the planner does not know them or answers wrongly.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArguments, GroupByExpr, Ident, LimitClause, OrderByKind, Query, Select, SelectItem,
    SetExpr, Value,
};

use super::super::refusal::{GuardError, refuse};
use super::build;
use super::call::is_aggregate_item;
use super::order::by_computation;
use super::scope::is_correlated;

/// The name of the compared column.
const VALUE: &str = "value";

/// Takes the parentheses off an inner query behind ANY or ALL, which the planner would not know behind them.
pub(super) fn bare(expr: &mut Expr) {
    let (Expr::AnyOp { right, .. } | Expr::AllOp { right, .. }) = expr else { return };
    while let Expr::Nested(inner) = &mut **right {
        *right = std::mem::replace(inner, Box::new(build::null()));
    }
}

/// `x IN (VALUES (a), (b))` is `x IN (a, b)`: the planner does not know rows of `VALUES` that name columns of the outer query.
pub(super) fn in_values(expr: &mut Expr) {
    let Expr::InSubquery { expr: value, subquery, negated } = &*expr else { return };
    let Query { with: None, order_by: None, limit_clause: None, fetch: None, body, .. } = &**subquery else { return };
    let SetExpr::Values(values) = &**body else { return };
    if values.rows.iter().flat_map(|row| row.iter()).all(|value| matches!(value, Expr::Value(_))) {
        return;
    }
    let list: Option<Vec<Expr>> =
        values.rows.iter().map(|row| Some(<&[Expr; 1]>::try_from(&row[..]).ok()?[0].clone())).collect();
    if let Some(list) = list {
        *expr = Expr::InList { expr: value.clone(), list, negated: *negated };
    }
}

/// `(a, b) IN (SELECT x, y …)` as a condition asks whether such a row exists, which the planner knows for one column only.
pub(super) fn rows_in(condition: &mut Expr) {
    let mut rest = condition;
    loop {
        match rest {
            Expr::Nested(inner) => rest = inner,
            // A chain is as deep as it is long.
            Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
                rows_in(right);
                rest = left;
            }
            part => return row_in(part),
        }
    }
}

fn row_in(condition: &mut Expr) {
    let Expr::InSubquery { expr, subquery, negated: false } = &*condition else { return };
    let Expr::Tuple(parts) = &**expr else { return };
    if is_correlated(subquery) {
        return;
    }
    let columns: Vec<Ident> = (1..=parts.len()).map(|number| build::name(format!("__{VALUE}_{number}"))).collect();
    let same = |(part, column): (&Expr, &Ident)| {
        build::binary(build::column(&[], column), BinaryOperator::Eq, Expr::Nested(Box::new(part.clone())))
    };
    let same = build::all(parts.iter().zip(&columns).map(same));
    let rows = build::derived((**subquery).clone(), "__compared", columns);
    let mut select = build::select(vec![SelectItem::UnnamedExpr(build::number(1))], vec![rows]);
    select.selection = Some(same);
    let subquery = Box::new(build::query(SetExpr::Select(Box::new(select))));
    *condition = Expr::Exists { subquery, negated: false };
}

/// Refuses the others.
pub(super) fn refuse_rows(expr: &Expr) -> ControlFlow<GuardError> {
    match expr {
        Expr::InSubquery { expr, negated, .. } if matches!(**expr, Expr::Tuple(_)) => {
            let (what, instead) = if *negated {
                ("NOT IN", "write NOT EXISTS (SELECT 1 FROM … WHERE x = a AND y = b) behind WHERE")
            } else {
                ("IN", "write EXISTS (SELECT 1 FROM … WHERE x = a AND y = b) behind WHERE")
            };
            refuse(&format!("{what} with several columns and an inner query here"), instead)
        }
        _ => ControlFlow::Continue(()),
    }
}

/// Rewrites EXISTS over a query that always has one row, or that has no columns.
pub(super) fn exists(expr: &mut Expr) {
    let Expr::Exists { subquery, negated } = expr else { return };
    let Some(select) = sole_select(subquery) else { return };
    if is_one_row(select) && keeps_first_row(subquery) {
        *expr = build::truth(!*negated);
        return;
    }
    if let SetExpr::Select(select) = &mut *subquery.body
        && select.projection.is_empty()
    {
        select.projection.push(SelectItem::UnnamedExpr(build::number(1)));
    }
}

/// Rewrites EXISTS where it is a value and no condition: whether the number of rows is above zero.
pub(super) fn exists_as_value(expr: &mut Expr) {
    let Expr::Exists { subquery, negated } = expr else { return };
    let Some(select) = sole_select(subquery) else { return };
    let is_plain = matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
        && select.having.is_none()
        && select.qualify.is_none()
        && !select.projection.iter().any(is_aggregate_item)
        && keeps_first_row(subquery);
    if !is_plain {
        return;
    }
    let mut counted = (**subquery).clone();
    (counted.order_by, counted.limit_clause) = (None, None);
    if let SetExpr::Select(select) = &mut *counted.body {
        select.distinct = None;
        select.projection = vec![SelectItem::UnnamedExpr(Expr::Function(build::count()))];
    }
    let op = if *negated { BinaryOperator::Eq } else { BinaryOperator::Gt };
    *expr = build::binary(Expr::Subquery(Box::new(counted)), op, build::number(0));
}

fn sole_select(query: &Query) -> Option<&Select> {
    match &*query.body {
        SetExpr::Select(select) if query.pipe_operators.is_empty() && query.fetch.is_none() => Some(select),
        _ => None,
    }
}

/// Whether a SELECT makes one group of all rows, even of none.
fn is_one_row(select: &Select) -> bool {
    matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
        && select.having.is_none()
        && select.qualify.is_none()
        && select.projection.iter().any(is_aggregate_item)
}

/// Whether LIMIT and OFFSET keep the first row.
fn keeps_first_row(query: &Query) -> bool {
    match &query.limit_clause {
        None => true,
        Some(LimitClause::LimitOffset { limit, offset: None, limit_by }) if limit_by.is_empty() => {
            limit.as_ref().is_none_or(|limit| positive(limit).is_some())
        }
        Some(_) => false,
    }
}

fn positive(expr: &Expr) -> Option<u64> {
    let Expr::Value(value) = expr else { return None };
    let Value::Number(number, _) = &value.value else { return None };
    number.parse().ok().filter(|number| *number > 0)
}

/// `(SELECT x … ORDER BY t DESC LIMIT 1)` is the value of `x` in the first row: an aggregate, which the planner can compute for
/// each row of the outer query.
pub(super) fn first_row(query: &mut Query) {
    let Some(Some(limit)) = query.limit_clause.as_ref().map(sole_limit) else { return };
    if positive(limit) != Some(1) || query.with.is_some() || !is_correlated(query) {
        return;
    }
    let Some(select) = sole_select(query) else { return };
    let is_plain = matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
        && select.having.is_none()
        && select.qualify.is_none()
        && select.distinct.is_none()
        && select.top.is_none();
    let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] = select.projection.as_slice()
    else {
        return;
    };
    if !is_plain
        || select.projection.iter().any(is_aggregate_item)
        || matches!(value, Expr::Function(of) if of.over.is_some())
    {
        return;
    }
    let mut order = match query.order_by.as_ref().map(|order_by| &order_by.kind) {
        None => Vec::new(),
        Some(OrderByKind::Expressions(order)) if !order.iter().any(|order| matches!(order.expr, Expr::Value(_))) => {
            order.clone()
        }
        Some(_) => return,
    };
    by_computation(&mut order, &select.projection);
    let mut first = build::function_of("first_value", Vec::new());
    if let FunctionArguments::List(list) = &mut first.args {
        use datafusion::sql::sqlparser::ast::{FunctionArg, FunctionArgExpr, FunctionArgumentClause};
        list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(value.clone())));
        if !order.is_empty() {
            list.clauses.push(FunctionArgumentClause::OrderBy(order));
        }
    }
    let alias = build::name(VALUE);
    (query.order_by, query.limit_clause) = (None, None);
    if let SetExpr::Select(select) = &mut *query.body {
        select.projection = vec![build::item(Expr::Function(first), alias)];
    }
}

fn sole_limit(clause: &LimitClause) -> Option<&Expr> {
    match clause {
        LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by } if limit_by.is_empty() => Some(limit),
        _ => None,
    }
}

/// `x IN (SELECT y … LIMIT 1)` is `x = (SELECT y … LIMIT 1)`, where it is a condition.
pub(super) fn in_first_row(expr: &mut Expr) -> ControlFlow<GuardError> {
    let Expr::InSubquery { expr: left, subquery, negated } = &*expr else { return ControlFlow::Continue(()) };
    let one = subquery.limit_clause.as_ref().and_then(sole_limit).and_then(positive) == Some(1);
    if !one || !is_correlated(subquery) {
        return ControlFlow::Continue(());
    }
    if *negated {
        return refuse("NOT IN with a query that ends with LIMIT", "compare with <> and the query in parentheses");
    }
    let mut first = subquery.clone();
    first_row(&mut first);
    *expr = build::binary((**left).clone(), BinaryOperator::Eq, Expr::Subquery(first));
    ControlFlow::Continue(())
}
