//! What DataFusion does not know of tables of series: labels are few and repeat, and rows come in the order of time.
//!
//! Plans are changed where that saves most of the work:
//! - a grouping by labels, or by one time, keeps labels as dictionaries (`series/grouping.rs`);
//! - a condition on a label compares keys of its dictionary (`series/labels.rs`);
//! - `lag` over the rows of each series needs no sort (`series/steps.rs`), and its input stays in stretches of time (`series/stretches.rs`);
//! - the newest or oldest rows are read first where few rows are asked for (`series/first.rs`);
//! - `increase` and `rate` are told where rows come in order, so that they need not keep them (`series/counters.rs`).
//!
//! A plan with anything else stays as it is.

mod bins;
mod counters;
mod first;
mod grouping;
mod groups;
mod labels;
mod order;
mod steps;
mod stretches;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::window::{StandardWindowExpr, StandardWindowFunctionExpr, WindowExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec, WindowUDFExpr};

use super::long_limit::LongLimitRule;
use super::padded::PaddedRule;
use super::push_down::guarded;
use bins::Bin;
use counters::CountersRule;
use first::first_rows;
use grouping::{GroupExec, Key};
pub(super) use groups::{Groups, Part};
pub(super) use labels::Columns;
use labels::{as_dictionaries, filter_of_dictionaries, used};
use order::in_order;
use steps::StepsExec;
use stretches::StretchRule;

/// The rule of DataFusion that adds sorts and divides rows between threads. Plans are changed before it, but for counters.
const DIVIDE: &str = "EnsureRequirements";

/// The rule of DataFusion that asks scans for an order, after which they are asked again.
const AFTER: &str = "PushdownSort";

/// All rules for plans of queries with so much memory: DataFusion's, and kymo's.
pub(super) fn rules(memory_bytes_max: usize) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules: Vec<_> = PhysicalOptimizer::new().rules.into_iter().map(guarded).collect();
    let place = rules.iter().position(|rule| rule.name() == DIVIDE).unwrap_or(rules.len());
    rules.insert(place, Arc::new(PaddedRule));
    let place = (place + 1).min(rules.len());
    rules.insert(place, Arc::new(SeriesRule));
    rules.insert((place + 2).min(rules.len()), Arc::new(StretchRule));
    rules.insert((place + 3).min(rules.len()), Arc::new(CountersRule));
    let place = rules.iter().position(|rule| rule.name() == AFTER).map_or(rules.len(), |place| place + 1);
    rules.insert(place, Arc::new(FirstRule));
    rules.insert((place + 1).min(rules.len()), Arc::new(LongLimitRule { memory_bytes_max }));
    rules
}

/// Rows of a table with the labels at the positions `labels` as dictionaries, if they can be, and whether its partitions are stretches of
/// time that follow each other, each in the order of the column `time`. If not, labels are texts.
pub(super) fn in_time(
    plan: &Arc<dyn ExecutionPlan>,
    time: usize,
    labels: &Columns,
    options: &ConfigOptions,
) -> Result<(Arc<dyn ExecutionPlan>, bool)> {
    let Some(ordered) = in_order(plan, time, options)? else { return Ok((Arc::clone(plan), false)) };
    Ok((as_dictionaries(&ordered, labels)?.unwrap_or(ordered), true))
}

#[derive(Debug)]
struct FirstRule;

impl PhysicalOptimizerRule for FirstRule {
    fn name(&self) -> &'static str {
        "first"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|plan| {
            let other = first_rows(&plan)?;
            Ok(other.map_or_else(|| Transformed::no(plan), Transformed::yes))
        });
        Ok(changed?.data)
    }
}

#[derive(Debug)]
struct SeriesRule;

impl PhysicalOptimizerRule for SeriesRule {
    fn name(&self) -> &'static str {
        "series"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, options: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|plan| {
            let other = match steps(&plan, options)? {
                Some(steps) => Some(steps),
                None => match grouping(&plan)? {
                    Some(groups) => Some(groups),
                    None => filter_of_dictionaries(&plan)?,
                },
            };
            Ok(other.map_or_else(|| Transformed::no(plan), Transformed::yes))
        });
        Ok(changed?.data)
    }
}

/// A first stage of a grouping, with dictionaries.
fn grouping(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(aggregate) = plan.downcast_ref::<AggregateExec>() else { return Ok(None) };
    let is_plain = *aggregate.mode() == AggregateMode::Partial
        && aggregate.group_expr().is_single()
        && !aggregate.group_expr().is_empty()
        && aggregate.limit_options().is_none()
        && aggregate.aggr_expr().iter().all(|aggregate| aggregate.order_bys().is_empty());
    if !is_plain {
        return Ok(None);
    }
    let schema = aggregate.input_schema();
    let arguments = aggregate.aggr_expr().iter().flat_map(|aggregate| aggregate.expressions());
    let filters = aggregate.filter_expr().iter().flatten().cloned();
    let elsewhere: Columns = arguments.chain(filters).flat_map(|expr| used(&expr)).collect();
    let mut wanted = Columns::new();
    let mut keys = Vec::new();
    for (expr, _) in aggregate.group_expr().expr() {
        let key = match (expr.data_type(&schema)?, expr.downcast_ref::<Column>()) {
            (DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _), _) => {
                let bin = Bin::of(expr, &schema).map(|bin| Arc::new(bin) as Arc<dyn PhysicalExpr>);
                Key { expr: bin.unwrap_or_else(|| Arc::clone(expr)), part: Part::Time }
            }
            (DataType::Utf8, Some(label)) => {
                if !elsewhere.contains(&label.index()) {
                    wanted.insert(label.index());
                }
                Key { expr: Arc::clone(expr), part: Part::Label }
            }
            _ => return Ok(None),
        };
        keys.push(key);
    }
    let times = keys.iter().filter(|key| key.part == Part::Time).count();
    let used_by_keys: Vec<Columns> = keys.iter().map(|key| used(&key.expr)).collect();
    let computed = keys.iter().zip(&used_by_keys).filter(|(key, _)| key.part == Part::Time);
    if times > 1 || computed.into_iter().any(|(_, used)| !used.is_disjoint(&wanted)) {
        return Ok(None);
    }
    // The host has one value for each file, and is no dictionary.
    let hosts = wanted.iter().copied().filter(|at| schema.field(*at).name() == crate::record::Column::HOST.name);
    for host in hosts.collect::<Vec<_>>() {
        wanted.remove(&host);
    }
    if wanted.is_empty() && times == 0 {
        return Ok(None);
    }
    let Some(input) = as_dictionaries(aggregate.input(), &wanted)? else { return Ok(None) };
    Ok(Some(Arc::new(GroupExec::new(aggregate, keys, input))))
}

/// `lag` over the rows of each series in the order of time.
fn steps(plan: &Arc<dyn ExecutionPlan>, options: &ConfigOptions) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let (exprs, input) = if let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() {
        (window.window_expr(), window.input())
    } else if let Some(window) = plan.downcast_ref::<WindowAggExec>() {
        (window.window_expr(), window.input())
    } else {
        return Ok(None);
    };
    let mut values = Vec::with_capacity(exprs.len());
    for expr in exprs {
        match value_before(expr)? {
            Some(value) => values.push(value),
            None => return Ok(None),
        }
    }
    let Some(first) = exprs.first() else { return Ok(None) };
    let [order] = first.order_by() else { return Ok(None) };
    let Some(time) = order.expr.downcast_ref::<Column>().filter(|_| !order.options.descending) else { return Ok(None) };
    let labels = first.partition_by().iter().map(|label| Some(label.downcast_ref::<Column>()?.index()));
    let Some(labels) = labels.collect::<Option<Vec<usize>>>() else { return Ok(None) };
    let schema = input.schema();
    if labels.iter().any(|label| *schema.field(*label).data_type() != DataType::Utf8) {
        return Ok(None);
    }
    let Some(input) = in_order(input, time.index(), options)? else { return Ok(None) };
    let wanted: Columns =
        labels.iter().copied().filter(|at| schema.field(*at).name() != crate::record::Column::HOST.name).collect();
    if values.iter().any(|value| !used(value).is_disjoint(&wanted)) {
        return Ok(None);
    }
    let Some(input) = as_dictionaries(&input, &wanted)? else { return Ok(None) };
    Ok(Some(Arc::new(StepsExec::new(input, labels, time.index(), values, plan.schema()))))
}

/// The value of which `expr` gives the one of the row before, if it is `lag` without a default.
fn value_before(expr: &Arc<dyn WindowExpr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let Some(standard) = expr.as_any().downcast_ref::<StandardWindowExpr>() else { return Ok(None) };
    let function = standard.get_standard_func_expr();
    let Some(lag) = function.as_any().downcast_ref::<WindowUDFExpr>().filter(|window| window.fun().name() == "lag")
    else {
        return Ok(None);
    };
    let [value] = &function.expressions()[..] else { return Ok(None) };
    // How far back it goes, its default, and whether it leaves out nulls show in what it does to some values.
    let ty = lag.field()?.data_type().clone();
    let probe: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)]));
    let Ok(probe) = cast(&probe, &ty) else { return Ok(None) };
    let Ok(shifted) = lag.create_evaluator()?.evaluate_all(&[probe], 4) else { return Ok(None) };
    let Ok(shifted) = cast(&shifted, &DataType::Int64) else { return Ok(None) };
    let shifted = shifted.as_primitive::<Int64Type>();
    let is_plain = shifted.len() == 4 && shifted.iter().eq([None, Some(1), None, Some(3)]);
    Ok(is_plain.then(|| Arc::clone(value)))
}
