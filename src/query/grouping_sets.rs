//! ROLLUP, CUBE and GROUPING SETS.
//!
//! A key of a grouping set has rows in which it is null. DataFusion still takes the order of the rows that are grouped for that of
//! the groups, and a key that is one value before for one after. So it left out what sorts by that key, and told groups before
//! they were complete. Here it is not told of order or constants below such a grouping, and keys that have no columns become one.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Runs before sorts are added and left out.
#[derive(Debug)]
pub(super) struct GroupingSetsRule;

impl PhysicalOptimizerRule for GroupingSetsRule {
    fn name(&self) -> &'static str {
        "grouping_sets"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|plan| match plan.downcast_ref::<AggregateExec>() {
            Some(aggregate) if !aggregate.group_expr().is_single() => {
                Ok(Transformed::yes(Arc::new(unordered(aggregate)?) as Arc<dyn ExecutionPlan>))
            }
            _ => Ok(Transformed::no(plan)),
        });
        Ok(changed?.data)
    }
}

fn unordered(aggregate: &AggregateExec) -> Result<AggregateExec> {
    let by = aggregate.group_expr();
    let schema = aggregate.input().schema();
    let name_of = |(position, field): (usize, &FieldRef)| {
        (Arc::new(Column::new(field.name(), position)) as Arc<dyn PhysicalExpr>, field.name().clone())
    };
    let mut columns: Vec<_> = schema.fields().iter().enumerate().map(name_of).collect();
    let mut keys = by.expr().to_vec();
    for (key, name) in keys.iter_mut().filter(|(key, _)| collect_columns(key).is_empty()) {
        let column = Column::new(name, columns.len());
        columns.push((std::mem::replace(key, Arc::new(column)), name.clone()));
    }
    let mut input = Arc::clone(aggregate.input());
    if columns.len() > schema.fields().len() {
        input = Arc::new(ProjectionExec::try_new(columns, input)?);
    }
    let input: Arc<dyn ExecutionPlan> = Arc::new(UnorderedExec::new(input));
    let by = PhysicalGroupBy::new(keys, by.null_expr().to_vec(), by.groups().to_vec(), by.has_grouping_set());
    let (results, filters) = (aggregate.aggr_expr().to_vec(), aggregate.filter_expr().to_vec());
    let of_rows = input.schema();
    AggregateExec::try_new(*aggregate.mode(), by, results, filters, input, of_rows)
}

/// The rows of its input, of which nothing is known.
#[derive(Debug)]
struct UnorderedExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl UnorderedExec {
    fn new(input: Arc<dyn ExecutionPlan>) -> UnorderedExec {
        let known = input.properties();
        let nothing = EquivalenceProperties::new(input.schema());
        let partitioning = known.output_partitioning().clone();
        let properties = PlanProperties::new(nothing, partitioning, known.emission_type, known.boundedness);
        UnorderedExec { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for UnorderedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnorderedExec")
    }
}

impl ExecutionPlan for UnorderedExec {
    fn name(&self) -> &'static str {
        "UnorderedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(UnorderedExec::new(children.pop().unwrap_or_else(|| Arc::clone(&self.input)))))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, recomputed())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}

fn recomputed() -> ReplaceChildrenOptions {
    ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute)
}
