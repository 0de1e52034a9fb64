//! What `increase`, `rate` and the aggregates of bursts have to know of the rows that they are given: whether the column is a
//! counter, which labels its rows may still differ by, and whether their groups are stretches of time.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, plan_err};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction, WindowFunctionDefinition};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, Expr, ExprSchemable, LogicalPlan, Projection, Window, WindowUDF,
};

use super::burst;
use super::counter;
use super::linked;
use super::measure::Output;
use super::roots::{add_equal, grows_with, is_of_other_rows, recorded, roots};
use crate::query::named::Named;
use crate::record::{Kind, Table};

/// Checks each `increase`, `rate` and aggregate of bursts of a plan, tells it the labels for its errors, and gives stretches of
/// time the steps into them.
///
/// # Errors
/// When the column is a gauge, or the time is that of other rows.
pub(in crate::query) fn tell(plan: LogicalPlan) -> Result<LogicalPlan> {
    let told = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let aggregate = Aggregate::try_new(
                Arc::clone(&aggregate.input),
                aggregate.group_expr.clone(),
                named(&aggregate.input, aggregate.aggr_expr, &aggregate.group_expr)?,
            )?;
            linked_groups(aggregate)
        }
        LogicalPlan::Window(Window { input, window_expr, .. }) => {
            let window_expr = named(&input, window_expr, &[])?;
            Ok(Transformed::yes(LogicalPlan::Window(Window::try_new(window_expr, input)?)))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(told?.data)
}

/// The same expressions, in which the functions know the labels that are not in `keys`.
fn named(input: &LogicalPlan, exprs: Vec<Expr>, keys: &[Expr]) -> Result<Vec<Expr>> {
    let names = NamePreserver::new_for_projection();
    exprs
        .into_iter()
        .map(|expr| {
            let name = names.save(&expr);
            let told = expr.transform_up(|expr| {
                Ok(match expr {
                    Expr::AggregateFunction(mut call) => {
                        if let Some(function) = told(input, &call.func, &call.params.args, keys)? {
                            call.func = function;
                        }
                        Transformed::yes(Expr::AggregateFunction(call))
                    }
                    Expr::WindowFunction(mut call) => {
                        if let WindowFunctionDefinition::AggregateUDF(function) = &call.fun
                            && let Some(told) = told(input, function, &call.params.args, &call.params.partition_by)?
                        {
                            if burst::burst_of(function).is_some() && !call.params.order_by.is_empty() {
                                let name = function.name();
                                return plan_err!(
                                    "{name} is over all rows of a partition: write {name}(…) OVER (PARTITION BY …) without ORDER \
                                     BY, or {name}(…) with GROUP BY date_bin(interval '1 minute', time)"
                                );
                            }
                            call.fun = WindowFunctionDefinition::AggregateUDF(told);
                        }
                        Transformed::yes(Expr::WindowFunction(call))
                    }
                    other => Transformed::no(other),
                })
            })?;
            Ok(name.restore(told.data))
        })
        .collect()
}

/// The same function, which knows the labels that are not in `keys`. `None` if it needs none.
fn told(
    input: &LogicalPlan,
    function: &AggregateUDF,
    args: &[Expr],
    keys: &[Expr],
) -> Result<Option<Arc<AggregateUDF>>> {
    if counter::output_of(function).is_some() || burst::burst_of(function).is_some() {
        check_time(input, function.name(), args)?;
    }
    if let Some(output) = counter::output_of(function) {
        let labels = labels(input, function.name(), args, keys)?;
        return Ok(Some(Arc::new(counter::with_labels(output, labels))));
    }
    let Some(burst) = burst::burst_of(function) else { return Ok(None) };
    let labels = if burst.is_of_counter() {
        labels(input, function.name(), args, keys)?
    } else {
        free_labels(input, args, keys)
    };
    Ok(Some(Arc::new(burst::with_labels(burst, labels))))
}

/// Values are taken in the order of their own times.
fn check_time(input: &LogicalPlan, function: &str, args: &[Expr]) -> Result<()> {
    let [value, time, ..] = args else { return Ok(()) };
    if !is_of_other_rows(input, value, time) {
        return Ok(());
    }
    let name =
        |expr: &Expr, other: &str| if let Expr::Column(column) = expr { column.to_string() } else { other.into() };
    let (said, taken) = (name(value, "the value"), name(time, "this time"));
    let table = value.column_refs().into_iter().find_map(|column| column.relation.as_ref());
    let way = match table.map(|table| format!("{}.time", table.table())) {
        Some(own) if own != taken => format!("write {function}({}, {own})", name(value, "…")),
        _ => "take both from one table".into(),
    };
    plan_err!("{taken} is that of another table's row, and not when {said} was read: {way}, or join by equal times")
}

/// The labels of the counter's table that rows of one group may differ by.
fn labels(input: &LogicalPlan, function: &str, args: &[Expr], keys: &[Expr]) -> Result<Vec<String>> {
    let Some(counter) = args.first() else { return Ok(Vec::new()) };
    let columns = recorded(input, counter);
    if let Some((table, gauge)) = columns.iter().find(|(_, column)| column.kind == Kind::Gauge) {
        let (table, gauge) = (table.name, gauge.name);
        // Of a bucket, whose rows are gone.
        if let Some(counter) = gauge.strip_suffix("_increase")
            && let Some(fastest) = table_column(table, &format!("{counter}_max_rate"))
        {
            return plan_err!(
                "{table}.{gauge} is the growth of {counter} in each bucket, and no counter: its {function} is sum({gauge}) over the \
                 buckets, and the greatest rate between two rows max({fastest})"
            );
        }
        return plan_err!(
            "{table}.{gauge} is a gauge, so its {function} says nothing: write avg({gauge}), max({gauge}) or last({gauge}, \
             time) - first({gauge}, time); `kymo tables {table}` lists the counters"
        );
    }
    Ok(free_labels(input, args, keys))
}

/// The column of this name.
fn table_column(table: &str, name: &str) -> Option<&'static str> {
    Some(Named::find(table)?.table.columns.iter().find(|column| column.name == name)?.name)
}

/// The labels of the table of the first argument that are not in `keys`.
fn free_labels(input: &LogicalPlan, args: &[Expr], keys: &[Expr]) -> Vec<String> {
    let tables: Vec<&Table> =
        args.first().into_iter().flat_map(|of| recorded(input, of)).map(|(table, _)| table).collect();
    let fixed: BTreeSet<&str> =
        keys.iter().flat_map(|key| recorded(input, key)).map(|(_, column)| column.name).collect();
    let free = tables.first().into_iter().flat_map(|table| table.labels()).map(|(_, label)| label.name);
    free.filter(|label| !fixed.contains(label)).map(str::to_owned).collect()
}

/// The call of a counter's function that an expression is, whatever name it was given.
fn call_in(expr: &Expr) -> Option<(&AggregateFunction, Output)> {
    match expr {
        Expr::Alias(alias) => call_in(&alias.expr),
        Expr::AggregateFunction(call) => counter::output_of(&call.func).map(|output| (call, output)),
        _ => None,
    }
}

/// Gives groups that are stretches of time the steps into them.
fn linked_groups(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let input = Arc::clone(&aggregate.input);
    let schema = Arc::clone(&aggregate.schema);
    let keys = &aggregate.group_expr;
    let mut exprs = aggregate.aggr_expr.clone();
    let mut windows = Vec::new();
    // The columns above the aggregate: its keys, and then its results.
    let outputs: Vec<Column> = schema.iter().map(Column::from).collect();
    let mut shown: Vec<Expr> = outputs.iter().cloned().map(Expr::Column).collect();
    let key_count = outputs.len().saturating_sub(exprs.len());
    for (position, expr) in aggregate.aggr_expr.iter().enumerate() {
        let Some((call, output)) = call_in(expr) else { continue };
        let [value, time, ..] = call.params.args.as_slice() else { continue };
        // The time of another table is the same where a join says so.
        let mut certain = roots(&input, time);
        add_equal(&input, &mut certain, false);
        let mut time = certain.clone();
        add_equal(&input, &mut time, true);
        let of_time = |key: &Expr| !roots(&input, key).is_disjoint(&time);
        if !keys.iter().any(of_time) {
            continue;
        }
        if keys.iter().any(|key| matches!(key, Expr::GroupingSet(_))) {
            return plan_err!(
                "{} in stretches of time takes no ROLLUP, CUBE or GROUPING SETS: write GROUP BY with one list",
                call.func.name()
            );
        }
        let stretches: Vec<&Expr> = keys.iter().filter(|key| of_time(key)).collect();
        let points = !matches!(stretches.as_slice(), [one] if grows_with(&input, one, &certain));
        let series =
            outputs.iter().zip(keys).filter(|(_, key)| !of_time(key)).map(|(column, _)| Expr::Column(column.clone()));
        let labels = labels(&input, call.func.name(), &call.params.args, keys)?;
        let counter_type = value.get_type(input.schema())?;
        let float = !(counter_type.is_integer() || counter_type == DataType::Null);

        let course_name = format!("course {position}");
        let mut course = call.clone();
        course.func = Arc::new(counter::with_labels(Output::Course { points }, labels.clone()));
        exprs[position] = Expr::AggregateFunction(course).alias(&course_name);
        let function: Arc<WindowUDF> = Arc::new(linked::function(output, float, labels));
        let mut window = WindowFunction::new(function, vec![Expr::Column(Column::new_unqualified(course_name))]);
        window.params.partition_by = series.collect();
        let linked_name = format!("linked {position}");
        windows.push(Expr::WindowFunction(Box::new(window)).alias(&linked_name));
        let result = Expr::Column(Column::new_unqualified(linked_name));
        let name = &outputs[key_count + position];
        shown[key_count + position] = result.alias_qualified(name.relation.clone(), &name.name);
    }
    if windows.is_empty() {
        return Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)));
    }
    let courses = Aggregate::try_new(input, aggregate.group_expr, exprs)?;
    let linked = Window::try_new(windows, Arc::new(LogicalPlan::Aggregate(courses)))?;
    let projection = Projection::try_new(shown, Arc::new(LogicalPlan::Window(linked)))?;
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}
