//! Counters of different hosts are different counters, so `increase` and `rate` are told the host of each row.
//!
//! A statement over one host need not name it. Over several it has to: the aggregates refuse to take rows of two hosts for
//! one counter. They are told the host where the rows that they read still have it under its name.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchemaRef, Result};
use datafusion::logical_expr::expr::WindowFunctionDefinition;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan};

use super::function::counter;
use crate::record;

/// Gives each `increase` and `rate` of a plan the column `host` of its counter's rows as a third argument.
///
/// # Errors
/// When a statement gives them a third argument of its own.
pub(super) fn tell_apart(plan: LogicalPlan) -> Result<LogicalPlan> {
    let told = plan.transform_up_with_subqueries(|plan| match &plan {
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => {
            let rows = plan.inputs().first().map(|input| input.schema().clone());
            let Some(rows) = rows else { return Ok(Transformed::no(plan)) };
            // What is above the plan knows its columns by their names, which arguments are a part of.
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let told = expr.transform_up(|expr| told(expr, &rows))?;
                Ok(told.update_data(|expr| name.restore(expr)))
            })
        }
        _ => Ok(Transformed::no(plan)),
    });
    Ok(told?.data)
}

/// The same call with the host, if it is one that needs it, over rows of this schema.
fn told(mut expr: Expr, rows: &DFSchemaRef) -> Result<Transformed<Expr>> {
    let Some((function, args)) = call(&mut expr) else { return Ok(Transformed::no(expr)) };
    if !counter::knows_counters(function) {
        return Ok(Transformed::no(expr));
    }
    let [counter, _] = args.as_slice() else {
        return Err(counter::wrong_arguments(function.name(), args.len()));
    };
    let host = |column: &Column| Column::new(column.relation.clone(), record::Column::HOST.name);
    let hosts: Vec<Column> = counter.column_refs().into_iter().map(host).filter(|host| rows.has_column(host)).collect();
    let Some(host) = hosts.into_iter().min() else { return Ok(Transformed::no(expr)) };
    args.push(Expr::Column(host));
    Ok(Transformed::yes(expr))
}

/// The aggregate that an expression calls, and its arguments.
fn call(expr: &mut Expr) -> Option<(&AggregateUDF, &mut Vec<Expr>)> {
    match expr {
        Expr::AggregateFunction(call) => Some((&call.func, &mut call.params.args)),
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => Some((function, &mut call.params.args)),
            WindowFunctionDefinition::WindowUDF(_) => None,
        },
        _ => None,
    }
}
