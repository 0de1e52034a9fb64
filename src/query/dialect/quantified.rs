//! Comparisons with an inner query: `= ANY`, `>= ALL`, EXISTS and IN, where the planner does not know them or answers wrongly.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArguments, GroupByExpr, LimitClause, OrderByKind, Query, Select, SelectItem, SetExpr,
    Value,
};

use super::super::refusal::{GuardError, refuse};
use super::build;
use super::call::is_aggregate_item;
use super::scope::is_correlated;

/// The name of the compared column, and of its rows.
const VALUE: &str = "value";
const ROWS: &str = "compared";

/// Rewrites a comparison with any or all rows of an inner query. Says how many copies of the query it has then.
pub(super) fn compare(expr: &mut Expr) -> Result<usize, GuardError> {
    let (left, op, right, all) = match &*expr {
        Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right, false),
        Expr::AllOp { left, compare_op, right } => (left, compare_op, right, true),
        _ => return Ok(1),
    };
    let Some(subquery) = subquery(right) else { return Ok(1) };
    let (left, op) = (left.clone(), op.clone());
    let is_in = match (&op, all) {
        (BinaryOperator::Eq, false) => Some(false),
        (BinaryOperator::NotEq, true) => Some(true),
        _ => None,
    };
    if let Some(negated) = is_in {
        *expr = Expr::InSubquery { expr: left, subquery: Box::new(subquery.clone()), negated };
        return Ok(1);
    }
    *expr = against_extremes(&left, op, subquery, all)?;
    Ok(4)
}

fn subquery(expr: &Expr) -> Option<&Query> {
    match expr {
        Expr::Subquery(query) => Some(query),
        Expr::Nested(inner) => subquery(inner),
        _ => None,
    }
}

/// A comparison with the least and the greatest value of a query decides what one with each value would. Nulls are among the
/// values that could be anything, and without values ALL holds and ANY does not.
fn against_extremes(left: &Expr, op: BinaryOperator, query: &Query, all: bool) -> Result<Expr, GuardError> {
    use BinaryOperator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};

    let aggregate = |expr: Expr| {
        let column = build::name(VALUE);
        let rows = build::derived(query.clone(), ROWS, vec![column]);
        let select = build::select(vec![SelectItem::UnnamedExpr(expr)], vec![rows]);
        Expr::Subquery(Box::new(build::query(SetExpr::Select(Box::new(select)))))
    };
    let value = || build::column(&[], &build::name(VALUE));
    let extreme = |function: &str| aggregate(build::call(function, vec![value()]));
    let compared = |op: BinaryOperator, function: &str| build::binary(left.clone(), op, extreme(function));
    let both = |op: BinaryOperator, joined: BinaryOperator| {
        build::binary(compared(op.clone(), "min"), joined, compared(op, "max"))
    };
    let decided = match (&op, all) {
        (Gt | GtEq, true) | (Lt | LtEq, false) => compared(op, "max"),
        (Lt | LtEq, true) | (Gt | GtEq, false) => compared(op, "min"),
        (Eq, true) => both(Eq, And),
        (NotEq, false) => both(NotEq, Or),
        _ => {
            return Err(GuardError::Refused {
                what: format!("{op} with ANY or ALL"),
                instead: "use =, <>, <, <=, > or >=".into(),
            });
        }
    };
    let decided = || Expr::Nested(Box::new(decided.clone()));
    let rows = aggregate(Expr::Function(build::count()));
    let nulls = aggregate(build::binary(
        Expr::Function(build::count()),
        BinaryOperator::Minus,
        build::call("count", vec![value()]),
    ));
    let early = if all { Expr::IsFalse(Box::new(decided())) } else { Expr::IsTrue(Box::new(decided())) };
    let unknown = build::cast(build::null(), datafusion::sql::sqlparser::ast::DataType::Boolean);
    Ok(build::case(
        vec![
            (build::binary(rows, Eq, build::number(0)), build::truth(all)),
            (early, build::truth(!all)),
            (build::binary(nulls, Gt, build::number(0)), unknown),
        ],
        decided(),
    ))
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
    let order = match query.order_by.as_ref().map(|order_by| &order_by.kind) {
        None => Vec::new(),
        Some(OrderByKind::Expressions(order)) if !order.iter().any(|order| matches!(order.expr, Expr::Value(_))) => {
            order.clone()
        }
        Some(_) => return,
    };
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
