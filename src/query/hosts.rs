//! Series of different hosts are different series, so `increase`, `rate` and the aggregates of bursts are told the host of each
//! row.
//!
//! A statement over one host need not name it. Over several it has to: the aggregates refuse to take rows of two hosts for
//! one counter. The plan below them carries the host of each row to them (`carry.rs`).

mod carry;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::WindowFunctionDefinition;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, Projection};

use super::function::{burst, counter};
use carry::Carrier;

/// Gives each aggregate of one series in a plan the host of its rows as a last argument.
///
/// # Errors
/// When a statement gives them other arguments than they take, or their rows' host cannot be carried to them.
pub(super) fn tell_apart(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut carrier = Carrier::default();
    let told = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => told_all(plan, &mut carrier),
        _ => Ok(Transformed::no(plan)),
    });
    Ok(told?.data)
}

/// The same step of a plan, all of whose calls have the host that need it.
fn told_all(plan: LogicalPlan, carrier: &mut Carrier) -> Result<Transformed<LogicalPlan>> {
    let [input] = plan.inputs()[..] else { return Ok(Transformed::no(plan)) };
    let exprs = plan.expressions();
    if !exprs.iter().any(|expr| expr.exists(|expr| Ok(of_series(expr).is_some())).unwrap_or_default()) {
        return Ok(Transformed::no(plan));
    }
    let mut input = Arc::new(input.clone());
    // What is above the plan knows its columns by their names, which arguments are a part of.
    let names = NamePreserver::new(&plan);
    let mut told = Vec::with_capacity(exprs.len());
    for expr in exprs {
        let name = names.save(&expr);
        let expr = expr.transform_up(|expr| tell(expr, &mut input, carrier))?;
        told.push(name.restore(expr.data));
    }
    let told = plan.with_new_exprs(told, vec![Arc::unwrap_or_clone(input)])?;
    let visible = plan.schema().columns();
    if told.schema().columns() == visible {
        return Ok(Transformed::yes(told));
    }
    // The rows of a window function have what was carried to it.
    let visible = visible.into_iter().map(Expr::Column).collect();
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(visible, Arc::new(told))?)))
}

/// The same call with the host of its rows, if it is one that needs it, over rows of `input`, which carries it then.
fn tell(mut expr: Expr, input: &mut Arc<LogicalPlan>, carrier: &mut Carrier) -> Result<Transformed<Expr>> {
    let Some((function, args)) = of_series(&expr) else { return Ok(Transformed::no(expr)) };
    let mut told = match burst::arguments(function, args) {
        Some(arguments) => arguments?,
        None if args.len() == 2 => args.to_vec(),
        None => return Err(counter::wrong_arguments(function.name(), args.len())),
    };
    let carried = carrier.carry(input, &told.first().map(carry::refs).unwrap_or_default())?;
    *input = carried.plan;
    let (Some(host), Some(args)) = (carried.host, arguments(&mut expr)) else { return Ok(Transformed::no(expr)) };
    told.push(Expr::Column(host));
    *args = told;
    Ok(Transformed::yes(expr))
}

/// The function and the arguments of a call of an aggregate of one series.
fn of_series(expr: &Expr) -> Option<(&AggregateUDF, &[Expr])> {
    let (function, args): (&AggregateUDF, &[Expr]) = match expr {
        Expr::AggregateFunction(call) => (&call.func, &call.params.args),
        Expr::WindowFunction(call) => match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => (function, &call.params.args),
            WindowFunctionDefinition::WindowUDF(_) => return None,
        },
        _ => return None,
    };
    let is_of_series = counter::knows_counters(function) || burst::arguments(function, args).is_some();
    is_of_series.then_some((function, args))
}

fn arguments(call: &mut Expr) -> Option<&mut Vec<Expr>> {
    match call {
        Expr::AggregateFunction(call) => Some(&mut call.params.args),
        Expr::WindowFunction(call) => Some(&mut call.params.args),
        _ => None,
    }
}
