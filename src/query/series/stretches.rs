//! Takes back what divided the input of steps between threads in turns: each thread needs a stretch of time.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};

use super::steps::StepsExec;

/// Runs after the rule that divides rows between threads.
#[derive(Debug)]
pub(super) struct StretchRule;

impl PhysicalOptimizerRule for StretchRule {
    fn name(&self) -> &'static str {
        "stretch"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|plan| {
            let Some(steps) = plan.downcast_ref::<StepsExec>() else { return Ok(Transformed::no(plan)) };
            let Some(input) = in_stretches(steps.input())? else { return Ok(Transformed::no(plan)) };
            Ok(Transformed::yes(plan.replace_children(vec![input], recomputed())?))
        });
        Ok(changed?.data)
    }
}

/// The plan without a division in turns; `None` if it has none.
fn in_stretches(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(divided) = plan.downcast_ref::<RepartitionExec>()
        && matches!(divided.partitioning(), Partitioning::RoundRobinBatch(_))
    {
        let input = in_stretches(divided.input())?;
        return Ok(Some(input.unwrap_or_else(|| Arc::clone(divided.input()))));
    }
    if !plan.is::<FilterExec>() && !plan.is::<ProjectionExec>() && !plan.is::<UnionExec>() {
        return Ok(None);
    }
    let mut is_changed = false;
    let mut inputs = Vec::new();
    for input in plan.children() {
        let other = in_stretches(input)?;
        is_changed |= other.is_some();
        inputs.push(other.unwrap_or_else(|| Arc::clone(input)));
    }
    is_changed.then(|| Arc::clone(plan).replace_children(inputs, recomputed())).transpose()
}

/// There may be fewer partitions than before.
fn recomputed() -> ReplaceChildrenOptions {
    ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute)
}
