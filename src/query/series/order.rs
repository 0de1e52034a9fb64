//! The order of time: the same plan, with partitions that are stretches of time, one after the other, each in order.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::{Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{
    FileGroup, FileGroupPartitioner, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;

use crate::record;

/// A plan in the order of time, and the first and last time that it may have, µs.
type Ordered = (Arc<dyn ExecutionPlan>, (i64, i64));

/// A plan with the same rows in the order of the column at the position `time`. `None` if that is not the time of a table, or the
/// table's files or batches overlap.
pub(super) fn in_order(
    plan: &Arc<dyn ExecutionPlan>,
    time: usize,
    options: &ConfigOptions,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    Ok(ordered(plan, time, options)?.map(|(plan, _)| plan))
}

fn ordered(plan: &Arc<dyn ExecutionPlan>, time: usize, options: &ConfigOptions) -> Result<Option<Ordered>> {
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let below = filter.projection().as_ref().map_or(Some(time), |projection| projection.get(time).copied());
        let Some(below) = below.filter(|_| filter.fetch().is_none()) else { return Ok(None) };
        return over(plan, filter.input(), below, options);
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let column = projection.expr().get(time).and_then(|expr| expr.expr.downcast_ref::<Column>());
        let Some(column) = column else { return Ok(None) };
        return over(plan, projection.input(), column.index(), options);
    }
    if let Some(union) = plan.downcast_ref::<UnionExec>() {
        let inputs = union.inputs().iter().map(|input| ordered(input, time, options));
        let Some(inputs) = inputs.collect::<Result<Option<Vec<Ordered>>>>()? else { return Ok(None) };
        let (inputs, times): (Vec<_>, Vec<_>) = inputs.into_iter().unzip();
        return following(&times).map(|times| Ok((UnionExec::try_new(inputs)?, times))).transpose();
    }
    let Some(scan) = plan.downcast_ref::<DataSourceExec>() else { return Ok(None) };
    if let Some((config, source)) = scan.downcast_to_file_source::<ParquetSource>() {
        return Ok(files(config, source, time, options));
    }
    let memory = scan.data_source().downcast_ref::<MemorySourceConfig>();
    let times = memory.filter(|memory| memory.projection().is_none()).and_then(|memory| batches(memory, plan, time));
    Ok(times.map(|times| (Arc::clone(plan), times)))
}

fn over(
    plan: &Arc<dyn ExecutionPlan>,
    input: &Arc<dyn ExecutionPlan>,
    time: usize,
    options: &ConfigOptions,
) -> Result<Option<Ordered>> {
    let Some((input, times)) = ordered(input, time, options)? else { return Ok(None) };
    let children = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Ok(Some((Arc::clone(plan).replace_children(vec![input], children)?, times)))
}

/// The times of all of these together, if each begins when the one before has ended.
fn following(times: &[(i64, i64)]) -> Option<(i64, i64)> {
    let is_following = times.windows(2).all(|pair| pair[0].1 <= pair[1].0);
    times.first().zip(times.last()).filter(|_| is_following).map(|(first, last)| (first.0, last.1))
}

fn files(config: &FileScanConfig, source: &ParquetSource, time: usize, options: &ConfigOptions) -> Option<Ordered> {
    let column = file_time(source, time)?;
    if config.limit.is_some() {
        return None;
    }
    let mut times = Vec::new();
    for file in config.file_groups.iter().flat_map(FileGroup::iter) {
        let column = file.statistics.as_ref()?.column_statistics.get(column)?;
        times.push((moment(column.min_value.get_value()?)?, moment(column.max_value.get_value()?)?));
    }
    let times = following(&times)?;
    let mut groups = config.file_groups.clone();
    let divided = FileGroupPartitioner::new()
        .with_target_partitions(options.execution.target_partitions)
        .with_repartition_file_min_size(options.optimizer.repartition_file_min_size)
        .repartition_file_groups(&groups);
    if let Some(divided) = divided {
        groups = divided;
    }
    let config = FileScanConfigBuilder::from(config.clone()).with_file_groups(groups).with_preserve_order(true).build();
    Some((DataSourceExec::from_data_source(config), times))
}

/// The position in files of the column `time` of a scan, if it is their time.
pub(super) fn file_time(source: &ParquetSource, time: usize) -> Option<usize> {
    let column = source.projection()?.as_ref().get(time)?.expr.downcast_ref::<Column>()?;
    (column.name() == record::Column::TIME.name).then(|| column.index())
}

fn batches(memory: &MemorySourceConfig, plan: &Arc<dyn ExecutionPlan>, time: usize) -> Option<(i64, i64)> {
    if plan.schema().field(time).name() != record::Column::TIME.name {
        return None;
    }
    let mut times = Vec::new();
    for batch in memory.partitions().iter().flatten() {
        let column = batch.column(time).as_primitive_opt::<TimestampMicrosecondType>()?.values();
        if !column.is_sorted() {
            return None;
        }
        times.extend(column.first().copied().zip(column.last().copied()));
    }
    following(&times)
}

/// The µs of a time.
pub(super) fn moment(value: &ScalarValue) -> Option<i64> {
    if let ScalarValue::TimestampMicrosecond(at, _) = value { *at } else { None }
}
