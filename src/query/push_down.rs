//! Conditions that the engine would compute too early, and then gets wrong.
//!
//! It moves a condition below a grouping if all of its columns are keys, and so one without columns, such as `7 > 8`, below an
//! aggregate over all rows. That has a row even if there is nothing to aggregate. And in its physical plan it finds columns by
//! their names, of which the rows of a join may have two.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{Aggregate, Expr, Filter, GroupingSet, LogicalPlan};
use datafusion::optimizer::optimizer::{ApplyOrder, Optimizer};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};

/// The rule of DataFusion that moves conditions down in a logical plan.
const LOGICAL: &str = "push_down_filter";

/// How the names of those begin that do so in a physical plan.
const PHYSICAL: &str = "FilterPushdown";

type LogicalRule = Arc<dyn OptimizerRule + Send + Sync>;
type PhysicalRule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// DataFusion's rules for logical plans.
pub(super) fn logical_rules() -> Vec<LogicalRule> {
    let guarded = |rule: LogicalRule| -> LogicalRule {
        if rule.name() == LOGICAL { Arc::new(AboveAggregates(rule)) } else { rule }
    };
    Optimizer::new().rules.into_iter().map(guarded).collect()
}

/// A rule for physical plans, kept from confusing columns.
pub(super) fn guarded(rule: PhysicalRule) -> PhysicalRule {
    if rule.name().starts_with(PHYSICAL) { Arc::new(WithoutNamesakes(rule)) } else { rule }
}

/// Leaves conditions above an aggregate over all rows, which may be one of several grouping sets.
#[derive(Debug)]
struct AboveAggregates(LogicalRule);

impl OptimizerRule for AboveAggregates {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Filter(Filter { input, .. }) if is_of_all_rows(input) => Ok(Transformed::no(plan)),
            _ => self.0.rewrite(plan, config),
        }
    }
}

/// Whether a plan is an aggregate over all rows, alone or as one of several grouping sets, or conditions on it.
fn is_of_all_rows(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(Filter { input, .. }) => is_of_all_rows(input),
        LogicalPlan::Aggregate(Aggregate { group_expr, .. }) => match group_expr.as_slice() {
            [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => sets.iter().any(Vec::is_empty),
            [Expr::GroupingSet(_)] | [] => true,
            _ => false,
        },
        _ => false,
    }
}

/// Moves conditions only within those parts of a plan in which no step gets two columns of one name.
#[derive(Debug)]
struct WithoutNamesakes(PhysicalRule);

impl PhysicalOptimizerRule for WithoutNamesakes {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let mut has_namesakes = false;
        for input in plan.children() {
            has_namesakes |= input.exists(|part| Ok(are_namesakes(part)))?;
        }
        if !has_namesakes {
            return self.0.optimize(plan, config);
        }
        let inputs = plan.children().into_iter().map(|input| self.optimize(Arc::clone(input), config));
        let inputs = inputs.collect::<Result<_>>()?;
        plan.replace_children(inputs, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
}

fn are_namesakes(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let schema = plan.schema();
    let mut names = HashSet::new();
    schema.fields().iter().any(|field| !names.insert(field.name().as_str()))
}
