//! Keys as the engine needs them.
//!
//! Intervals of one length are one value: '24 hours' is '1 day'. The engine compares intervals field by field, and doubles bit by bit
//! ([`number`](super::number)), so whatever is grouped, joined, sorted or made distinct by one takes its normal form. And a key of a
//! grouping set that is computed has a name: the engine looks for it by that name, also where it then computes it in another way.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, ExprSchemable, Join, LogicalPlan, Projection, Sort, SortExpr, Window, cast,
};

use super::arithmetic::{LENGTH, NORMAL};
use super::number;

/// Aggregates that choose one of their values by comparing them.
const CHOOSING: &[&str] = &["min", "max", "median", "mode", "percentile_cont", "percentile_disc", "approx_distinct"];

/// Puts the keys of a plan that are intervals or doubles in their normal form.
///
/// # Errors
/// When a type is unknown.
pub(in crate::query) fn keys(plan: LogicalPlan) -> Result<LogicalPlan> {
    let told = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Aggregate(aggregate)
            if matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)])
                || has_key(aggregate.group_expr.iter().chain(&aggregate.aggr_expr), &aggregate.input) =>
        {
            let rows = Arc::clone(&aggregate.input);
            let groups = aggregate.group_expr.into_iter().map(|expr| named(expr, |expr| group(expr, &rows)));
            let results = aggregate.aggr_expr.into_iter().map(|expr| within(expr, &rows));
            let (groups, results) = (groups.collect::<Result<_>>()?, results.collect::<Result<_>>()?);
            Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(aggregate.input, groups, results)?)))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
            if !has_key(&columns, &input) {
                return Ok(Transformed::no(LogicalPlan::Distinct(Distinct::All(input))));
            }
            let columns = columns.into_iter().map(|column| named(column, |column| Ok(key(column, &input))));
            let rows = Projection::try_new(columns.collect::<Result<_>>()?, input)?;
            Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::All(Arc::new(LogicalPlan::Projection(rows))))))
        }
        LogicalPlan::Distinct(Distinct::On(DistinctOn { on_expr, select_expr, sort_expr, input, .. }))
            if has_key(&on_expr, &input) =>
        {
            let on = on_expr.into_iter().map(|expr| key(expr, &input)).collect();
            let sorts = sort_expr.map(|sorts| sorted(sorts, &input));
            Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::On(DistinctOn::try_new(
                on,
                select_expr,
                sorts,
                input,
            )?))))
        }
        LogicalPlan::Sort(Sort { expr, input, fetch }) if has_key(expr.iter().map(|sort| &sort.expr), &input) => {
            let expr = sorted(expr, &input);
            Ok(Transformed::yes(LogicalPlan::Sort(Sort { expr, input, fetch })))
        }
        LogicalPlan::Window(Window { input, window_expr, .. }) if has_key(&window_expr, &input) => {
            let results = window_expr.into_iter().map(|expr| within(expr, &input)).collect::<Result<_>>()?;
            Ok(Transformed::yes(LogicalPlan::Window(Window::try_new(results, input)?)))
        }
        LogicalPlan::Join(join) if !join.on.is_empty() => {
            let pair = |(left, right)| {
                if is_interval(&left, join.left.schema()) || is_interval(&right, join.right.schema()) {
                    return (length(left), length(right));
                }
                (key(left, &join.left), key(right, &join.right))
            };
            let on = join.on.iter().cloned().map(pair).collect();
            Ok(Transformed::yes(LogicalPlan::Join(Join { on, ..join })))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(told?.data)
}

/// The length of an interval, a difference of times or a text that is one.
pub(in crate::query) fn length(expr: Expr) -> Expr {
    LENGTH.function().call(vec![expr])
}

/// Whether one of the expressions over the rows of `input` has a key that may not be in its normal form.
fn has_key<'a>(exprs: impl IntoIterator<Item = &'a Expr>, input: &LogicalPlan) -> bool {
    let schema = input.schema();
    let is = |expr: &Expr| is_interval(expr, schema) || number::is_computed(expr, input);
    let sorts = |sorts: &[SortExpr]| sorts.iter().any(|sort| is(&sort.expr));
    exprs.into_iter().any(|expr| match expr.clone().unalias() {
        Expr::GroupingSet(sets) => sets.distinct_expr().into_iter().any(is),
        Expr::AggregateFunction(AggregateFunction { params, .. }) => {
            params.args.iter().any(is) || sorts(&params.order_by)
        }
        Expr::WindowFunction(call) => {
            let is_length = |sort: &SortExpr| is(&sort.expr) || has_no_frames(&sort.expr, schema);
            let params = &call.params;
            params.partition_by.iter().chain(&params.args).any(is) || params.order_by.iter().any(is_length)
        }
        other => is(&other),
    })
}

pub(super) fn is_interval(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|ty| matches!(ty, DataType::Interval(_)))
}

/// Whether the engine has no frames over values of this type, which are whole numbers.
fn has_no_frames(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema)
        .is_ok_and(|ty| matches!(ty, DataType::Duration(_) | DataType::Time32(_) | DataType::Time64(_)))
}

/// An expression over the rows of `input` in its normal form.
fn key(expr: Expr, input: &LogicalPlan) -> Expr {
    if is_interval(&expr, input.schema()) {
        normal_interval(expr)
    } else if number::is_computed(&expr, input) {
        number::normal(expr)
    } else {
        expr
    }
}

/// An interval in its normal form.
pub(super) fn normal_interval(expr: Expr) -> Expr {
    NORMAL.function().call(vec![expr])
}

/// What is above a step knows its columns by their names.
fn named(expr: Expr, change: impl FnOnce(Expr) -> Result<Expr>) -> Result<Expr> {
    let name = NamePreserver::new_for_projection().save(&expr);
    Ok(name.restore(change(expr)?))
}

fn group(expr: Expr, input: &LogicalPlan) -> Result<Expr> {
    match expr {
        Expr::GroupingSet(_) => Ok(expr.map_children(|child| Ok(Transformed::yes(of_set(child, input)?)))?.data),
        other => Ok(key(other, input)),
    }
}

/// A key of a grouping set. One that is computed has its name from here on.
fn of_set(expr: Expr, input: &LogicalPlan) -> Result<Expr> {
    if matches!(expr, Expr::Column(_) | Expr::Alias(_)) {
        return named(expr, |expr| Ok(key(expr, input)));
    }
    let name = expr.schema_name().to_string();
    Ok(key(expr, input).alias(name))
}

fn sorted(sorts: Vec<SortExpr>, input: &LogicalPlan) -> Vec<SortExpr> {
    sorts.into_iter().map(|sort| SortExpr { expr: key(sort.expr, input), ..sort }).collect()
}

/// The keys within a call of an aggregate or a window function.
fn within(expr: Expr, input: &LogicalPlan) -> Result<Expr> {
    let all = |exprs: Vec<Expr>| exprs.into_iter().map(|expr| key(expr, input)).collect();
    named(expr, |expr| {
        let told = expr.transform_up(|expr| {
            Ok(Transformed::yes(match expr {
                Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
                    params.order_by = sorted(params.order_by, input);
                    // It names keys, as they are named.
                    if func.name() == "grouping" {
                        params.args = params.args.into_iter().map(|key| of_set(key, input)).collect::<Result<_>>()?;
                    }
                    if params.distinct || CHOOSING.contains(&func.name()) {
                        params.args = all(params.args);
                    }
                    Expr::AggregateFunction(AggregateFunction { func, params })
                }
                Expr::WindowFunction(call) => {
                    let WindowFunction { fun, mut params } = *call;
                    for sort in &mut params.order_by {
                        // The engine has no frames over these.
                        let by = std::mem::take(&mut sort.expr);
                        sort.expr = match by.get_type(input.schema()) {
                            Ok(DataType::Time32(_) | DataType::Time64(_)) => cast(by, DataType::Int64),
                            Ok(DataType::Interval(_) | DataType::Duration(_)) => cast(length(by), DataType::Int64),
                            _ => key(by, input),
                        };
                    }
                    params.partition_by = all(params.partition_by);
                    if CHOOSING.contains(&fun.name()) {
                        params.args = all(params.args);
                    }
                    Expr::WindowFunction(Box::new(WindowFunction { fun, params }))
                }
                other => other,
            }))
        })?;
        Ok(told.data)
    })
}
