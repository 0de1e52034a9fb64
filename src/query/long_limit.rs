//! `ORDER BY` with a LIMIT of many rows.
//!
//! DataFusion keeps the rows below a limit in a heap, one for each thread, which cannot spill. If the heaps may not fit into memory,
//! the limit is put above a sort, which can. A sort of all rows may need more disk than there is, so a heap that fits is kept.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::sorts::sort::SortExec;

/// A heap may take this part of a query's memory. Values are mostly shorter than they are taken for.
const HEAP_PARTS: usize = 2;
/// What a text or another value without a fixed width is taken for.
const VALUE_BYTES: usize = 32;
/// What a heap keeps of a row beside its values: the key that it is sorted by, and its place.
const PLACE_BYTES: usize = 100;

/// Runs after limits were moved down, and before a heap tells the scan below it what it still looks for.
#[derive(Debug)]
pub(super) struct LongLimitRule {
    /// The memory of a query.
    pub(super) memory_bytes_max: usize,
}

impl LongLimitRule {
    fn rows_max(&self, schema: &Schema) -> usize {
        let values = schema.fields().iter().map(|field| field.data_type().primitive_width().unwrap_or(VALUE_BYTES));
        self.memory_bytes_max / HEAP_PARTS / (PLACE_BYTES + values.sum::<usize>())
    }
}

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
            let Some(rows) = sort.fetch().filter(|rows| *rows > self.rows_max(&sort.schema())) else {
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

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn a_heap_that_fits_is_kept() {
        let columns = |count: usize| (0..count).map(|at| Field::new(at.to_string(), DataType::Int64, false));
        let rows_max = |count| {
            LongLimitRule { memory_bytes_max: 256 << 20 }.rows_max(&Schema::new(columns(count).collect::<Vec<_>>()))
        };
        assert_eq!((rows_max(1), rows_max(10)), (1_242_756, 745_654));
        assert_eq!(LongLimitRule { memory_bytes_max: 0 }.rows_max(&Schema::empty()), 0);
    }
}
