//! `increase` and `rate` over rows that come in the order of time keep only the ends of runs, so they are told where that is so.
//!
//! The scan tells it: each file and each batch in memory is in the order of time, and its first and last time are known.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;

use super::super::function::counter;
use super::super::function::sections::{Piece, Sections};
use super::grouping::GroupExec;
use super::order::{file_time, moment};
use crate::record;

/// Tells counters' functions the order of their rows. It runs once threads have their parts.
#[derive(Debug)]
pub(super) struct CountersRule;

impl PhysicalOptimizerRule for CountersRule {
    fn name(&self) -> &'static str {
        "counters"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|plan| {
            let told = if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
                of_aggregate(aggregate)?
            } else if let Some(group) = plan.downcast_ref::<GroupExec>() {
                let told = tell(group.aggregates(), group.input())?;
                told.map(|(aggregates, input)| Arc::new(group.with(aggregates, input)) as _)
            } else {
                None
            };
            Ok(told.map_or_else(|| Transformed::no(plan), Transformed::yes))
        });
        Ok(changed?.data)
    }
}

/// The first stage of an aggregate, or one that has no second.
fn of_aggregate(aggregate: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    use AggregateMode::{Partial, Single, SinglePartitioned};
    if !matches!(aggregate.mode(), Partial | Single | SinglePartitioned) {
        return Ok(None);
    }
    let Some((aggregates, input)) = tell(aggregate.aggr_expr(), aggregate.input())? else { return Ok(None) };
    let told: Arc<dyn ExecutionPlan> = Arc::new(aggregate.with_new_aggr_exprs(aggregates));
    let children = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Ok(Some(told.replace_children(vec![input], children)?))
}

type Aggregates = Vec<Arc<AggregateFunctionExpr>>;

/// The same aggregates over the same rows, in which those of counters know the order. `None` if there is none to tell.
fn tell(
    aggregates: &[Arc<AggregateFunctionExpr>],
    input: &Arc<dyn ExecutionPlan>,
) -> Result<Option<(Aggregates, Arc<dyn ExecutionPlan>)>> {
    let Some(time) = aggregates.iter().find_map(|aggregate| time_of(aggregate)) else { return Ok(None) };
    let mut pieces = Pieces::default();
    let Some(scanned) = pieces.gather(input, time)? else { return Ok(None) };
    let sections = Arc::new(Sections::of_pieces(&pieces.found));
    let schema = scanned.schema();
    let told = aggregates.iter().map(|aggregate| {
        let is_of_time = time_of(aggregate) == Some(time);
        let function = is_of_time.then(|| counter::in_sections(aggregate.fun(), Arc::clone(&sections))).flatten();
        let Some(function) = function else { return Ok(Arc::clone(aggregate)) };
        let told = AggregateExprBuilder::new(Arc::new(function), aggregate.expressions())
            .schema(Arc::clone(&schema))
            .alias(aggregate.name())
            .with_distinct(aggregate.is_distinct())
            .with_ignore_nulls(aggregate.ignore_nulls())
            .build()?;
        Ok(Arc::new(told))
    });
    Ok(Some((told.collect::<Result<_>>()?, scanned)))
}

/// The column with the time of a counter's function.
fn time_of(aggregate: &AggregateFunctionExpr) -> Option<usize> {
    let is_of_counters = counter::knows_counters(aggregate.fun());
    let arguments = aggregate.expressions();
    let time = arguments.get(1).filter(|_| is_of_counters)?;
    Some(time.downcast_ref::<Column>()?.index())
}

/// The pieces of a plan's rows, in the order in which threads read them.
#[derive(Default)]
struct Pieces {
    found: Vec<Piece>,
    places: usize,
}

impl Pieces {
    /// The same plan, whose threads keep to the order of their parts. `None` if rows come in another order than in the pieces.
    fn gather(&mut self, plan: &Arc<dyn ExecutionPlan>, time: usize) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            let below = filter.projection().as_ref().map_or(Some(time), |projection| projection.get(time).copied());
            let Some(below) = below.filter(|_| filter.fetch().is_none()) else { return Ok(None) };
            return self.over(plan, &[filter.input()], below);
        }
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let column = projection.expr().get(time).and_then(|expr| expr.expr.downcast_ref::<Column>());
            let Some(column) = column else { return Ok(None) };
            return self.over(plan, &[projection.input()], column.index());
        }
        if let Some(union) = plan.downcast_ref::<UnionExec>() {
            return self.over(plan, &union.inputs().iter().collect::<Vec<_>>(), time);
        }
        let Some(scan) = plan.downcast_ref::<DataSourceExec>() else { return Ok(None) };
        if let Some((config, source)) = scan.downcast_to_file_source::<ParquetSource>() {
            return Ok(self.files(config, source, time));
        }
        let memory = scan.data_source().downcast_ref::<MemorySourceConfig>();
        Ok(memory.and_then(|memory| self.batches(memory, time)).map(|()| Arc::clone(plan)))
    }

    fn over(
        &mut self,
        plan: &Arc<dyn ExecutionPlan>,
        inputs: &[&Arc<dyn ExecutionPlan>],
        time: usize,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let inputs = inputs.iter().map(|input| self.gather(input, time)).collect::<Result<Option<Vec<_>>>>()?;
        let Some(inputs) = inputs else { return Ok(None) };
        let children = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        Ok(Some(Arc::clone(plan).replace_children(inputs, children)?))
    }

    fn files(
        &mut self,
        config: &FileScanConfig,
        source: &ParquetSource,
        time: usize,
    ) -> Option<Arc<dyn ExecutionPlan>> {
        let column = file_time(source, time)?;
        if config.limit.is_some() {
            return None;
        }
        let mut before = None;
        for file in config.file_groups.iter().flat_map(FileGroup::iter) {
            // A file of which two threads read parts.
            let path = &file.object_meta.location;
            if before.replace(path) == Some(path) {
                continue;
            }
            let times = file.statistics.as_ref()?.column_statistics.get(column)?;
            let times = (moment(times.min_value.get_value()?)?, moment(times.max_value.get_value()?)?);
            let host = match file.partition_values.first() {
                Some(ScalarValue::Utf8(host)) => host.clone(),
                _ => None,
            };
            self.add(host, times);
        }
        let config = FileScanConfigBuilder::from(config.clone()).with_preserve_order(true).build();
        Some(DataSourceExec::from_data_source(config))
    }

    fn batches(&mut self, memory: &MemorySourceConfig, time: usize) -> Option<()> {
        let time = memory.projection().as_ref().map_or(Some(time), |projection| projection.get(time).copied())?;
        for batch in memory.partitions().iter().flatten() {
            let schema = batch.schema();
            let is_time = schema.fields().get(time).is_some_and(|field| field.name() == record::Column::TIME.name);
            let column = batch.columns().get(time).filter(|_| is_time)?;
            let times = column.as_primitive_opt::<TimestampMicrosecondType>()?.values();
            if !times.is_sorted() {
                return None;
            }
            if let Some(times) = times.first().copied().zip(times.last().copied()) {
                self.add(None, times);
            }
        }
        Some(())
    }

    fn add(&mut self, host: Option<String>, times: (i64, i64)) {
        self.found.push(Piece { host, place: self.places, times });
        self.places += 1;
    }
}
