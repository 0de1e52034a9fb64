//! Rows that are padded with nulls: those of ROLLUP, CUBE and GROUPING SETS, and of outer joins.
//!
//! A key of a grouping set has rows in which it is null, and so has a column of the side of a join without whose rows the other side
//! goes on. DataFusion still takes such a column for one in order if it was before, and for one value if it was one before. So it
//! left out what sorts by it, told groups before they were complete, and tore partitions apart. Here it is not told of order or
//! constants below such a step, and keys without columns become one.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result};
use datafusion::config::ConfigOptions;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// Runs before sorts are added and left out.
#[derive(Debug)]
pub(super) struct PaddedRule;

impl PhysicalOptimizerRule for PaddedRule {
    fn name(&self) -> &'static str {
        "padded"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|plan| match plan.downcast_ref::<AggregateExec>() {
            Some(aggregate) if !aggregate.group_expr().is_single() => {
                Ok(Transformed::yes(Arc::new(unordered(aggregate)?) as Arc<dyn ExecutionPlan>))
            }
            _ => outer_join(plan),
        });
        Ok(changed?.data)
    }
}

/// The plan; if it is an outer join, with its padded sides unordered.
fn outer_join(plan: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let hash = plan.downcast_ref::<HashJoinExec>().map(|join| *join.join_type());
    let nested = plan.downcast_ref::<NestedLoopJoinExec>().map(|join| *join.join_type());
    let merge = plan.downcast_ref::<SortMergeJoinExec>().map(SortMergeJoinExec::join_type);
    let padded = match hash.or(nested).or(merge) {
        Some(JoinType::Left) => [false, true],
        Some(JoinType::Right) => [true, false],
        Some(JoinType::Full) => [true, true],
        _ => return Ok(Transformed::no(plan)),
    };
    let inputs = plan.children().into_iter().zip(padded).map(|(input, is_padded)| -> Arc<dyn ExecutionPlan> {
        if is_padded { Arc::new(UnorderedExec::new(Arc::clone(input))) } else { Arc::clone(input) }
    });
    let inputs = inputs.collect();
    Ok(Transformed::yes(plan.replace_children(inputs, recomputed())?))
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

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(result))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}

fn recomputed() -> ReplaceChildrenOptions {
    ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute)
}
