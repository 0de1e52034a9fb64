//! The first or last rows in the order of time: the same plan, which reads the files and row groups that have them first.
//!
//! What was found soon rules out all row groups that come later. DataFusion asks this of a scan only if nothing but projections is
//! between it and the sort.

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::Result;
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, SortOrderPushdownResult};

use crate::record;

/// A sort that keeps few rows, over a plan that reads them first. `None` if it sorts by something else than time, or over anything
/// but filtered rows of a table.
pub(super) fn first_rows(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(sort) = plan.downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_some()) else { return Ok(None) };
    let order = sort.expr().first();
    let Some(time) = order.expr.downcast_ref::<Column>() else { return Ok(None) };
    // A scan without anything between was asked already.
    let is_between = |plan: &Arc<dyn ExecutionPlan>| plan.is::<FilterExec>() || plan.is::<UnionExec>();
    if !has(sort.input(), &is_between) {
        return Ok(None);
    }
    let Some(input) = beginning_with(sort.input(), time.index(), order.options)? else { return Ok(None) };
    let sorted = SortExec::new(sort.expr().clone(), input)
        .with_fetch(sort.fetch())
        .with_preserve_partitioning(sort.preserve_partitioning());
    Ok(Some(Arc::new(sorted)))
}

fn has(plan: &Arc<dyn ExecutionPlan>, is_wanted: &impl Fn(&Arc<dyn ExecutionPlan>) -> bool) -> bool {
    is_wanted(plan) || plan.children().into_iter().any(|child| has(child, is_wanted))
}

/// The same rows, beginning with those that come first in the order of the column at the position `time`, as far as the scans can.
fn beginning_with(
    plan: &Arc<dyn ExecutionPlan>,
    time: usize,
    options: SortOptions,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
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
        let mut inputs = Vec::with_capacity(union.inputs().len());
        for input in union.inputs() {
            inputs.push(beginning_with(input, time, options)?.unwrap_or_else(|| Arc::clone(input)));
        }
        // The rows in memory are the newest ones, and the last input.
        if options.descending {
            inputs.reverse();
        }
        return UnionExec::try_new(inputs).map(Some);
    }
    if plan.is::<CoalescePartitionsExec>() || plan.is::<RepartitionExec>() {
        let [input] = plan.children()[..] else { return Ok(None) };
        return over(plan, input, time, options);
    }
    if plan.schema().field(time).name() != record::Column::TIME.name {
        return Ok(None);
    }
    let column = Arc::new(Column::new(record::Column::TIME.name, time));
    Ok(match plan.try_pushdown_sort(&[PhysicalSortExpr::new(column, options)])? {
        SortOrderPushdownResult::Exact { inner } | SortOrderPushdownResult::Inexact { inner } => {
            Some(without_pages(&inner).unwrap_or(inner))
        }
        SortOrderPushdownResult::Unsupported => None,
    })
}

/// The same scan of files, which leaves out whole row groups only: a scan that leaves out pages leaves out no row groups while it
/// reads.
fn without_pages(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let (config, source) = plan.downcast_ref::<DataSourceExec>()?.downcast_to_file_source::<ParquetSource>()?;
    let source = Arc::new(source.clone().with_enable_page_index(false));
    Some(DataSourceExec::from_data_source(FileScanConfigBuilder::from(config.clone()).with_source(source).build()))
}

fn over(
    plan: &Arc<dyn ExecutionPlan>,
    input: &Arc<dyn ExecutionPlan>,
    time: usize,
    options: SortOptions,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(input) = beginning_with(input, time, options)? else { return Ok(None) };
    let children = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Ok(Some(Arc::clone(plan).replace_children(vec![input], children)?))
}
