//! `ORDER BY` with a LIMIT of many rows.
//!
//! DataFusion keeps the rows below a limit in a heap, which cannot spill. A heap of many rows needs the memory of a sort without its
//! way out, so such a limit is put above a sort.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::sorts::sort::SortExec;

/// Rows that a heap may have.
const HEAP_ROWS_MAX: usize = 1 << 17;

/// Runs after limits were moved down, and before a heap tells the scan below it what it still looks for.
#[derive(Debug)]
pub(super) struct LongLimitRule;

impl PhysicalOptimizerRule for LongLimitRule {
    fn name(&self) -> &'static str {
        "long_limit"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|plan| {
            let Some(sort) = plan.downcast_ref::<SortExec>() else { return Ok(Transformed::no(plan)) };
            let Some(rows) = sort.fetch().filter(|rows| *rows > HEAP_ROWS_MAX) else {
                return Ok(Transformed::no(plan));
            };
            let whole = Arc::new(sort.with_fetch(None));
            Ok(Transformed::yes(if sort.preserve_partitioning() {
                Arc::new(LocalLimitExec::new(whole, rows)) as Arc<dyn ExecutionPlan>
            } else {
                Arc::new(GlobalLimitExec::new(whole, 0, Some(rows)))
            }))
        });
        Ok(changed?.data)
    }
}
