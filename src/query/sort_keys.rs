//! Keys of sorts that the planner loses sight of become columns first, and a key that comes again is left out.
//!
//! DataFusion derives the order of an expression from its parts. It gives up where it has no range for a part, as for `a % 3` in
//! `CASE WHEN a % 3 < 0 THEN …`, and does not see then that rows sorted by the expression are in its order. So it refuses the plan
//! that it made itself. It does see the order of a column. In its physical plan, a key that comes again in the order of an aggregate is
//! gone in one place and counted in another, and the query fails. Behind a join it forgets that a column has one value, for which it
//! has left out the sort before. So a key that has one value becomes that value.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Projection, Sort, SortExpr, Window, lit};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalSortExpr, create_physical_expr};

use super::fixed;

#[derive(Debug)]
pub(super) struct SortKeys;

impl OptimizerRule for SortKeys {
    fn name(&self) -> &'static str {
        "sort_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Sort(sort) => of_sort(sort),
            LogicalPlan::Window(window) => of_window(window),
            LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate),
            other => Ok(Transformed::no(other)),
        }
    }
}

fn of_sort(sort: Sort) -> Result<Transformed<LogicalPlan>> {
    let mut keys = Keys::of(&sort.input);
    let expr = keys.in_order(sort.expr.clone())?;
    if !keys.is_changed() {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    }
    let kept = (0..sort.input.schema().fields().len()).collect();
    let input = keys.below()?;
    shown(LogicalPlan::Sort(Sort { expr, input, fetch: sort.fetch }), kept, sort.input.schema())
}

fn of_window(window: Window) -> Result<Transformed<LogicalPlan>> {
    let mut keys = Keys::of(&window.input);
    let exprs = window.window_expr.iter().map(|expr| keys.in_windows(expr.clone())).collect::<Result<_>>()?;
    if !keys.is_changed() {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    let (before, added) = (window.input.schema().fields().len(), keys.lost.len());
    let kept = (0..before).chain((0..window.window_expr.len()).map(|at| before + added + at)).collect();
    let other = Window::try_new(exprs, keys.below()?)?;
    shown(LogicalPlan::Window(other), kept, &window.schema)
}

fn of_aggregate(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let mut keys = Keys::of(&aggregate.input);
    let exprs = aggregate.aggr_expr.iter().map(|expr| keys.in_aggregates(expr.clone())).collect::<Result<_>>()?;
    if !keys.is_changed() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let kept = (0..aggregate.schema.fields().len()).collect();
    let other = Aggregate::try_new(keys.below()?, aggregate.group_expr.clone(), exprs)?;
    shown(LogicalPlan::Aggregate(other), kept, &aggregate.schema)
}

/// The columns at these positions, under the names that they had before.
fn shown(plan: LogicalPlan, kept: Vec<usize>, before: &DFSchema) -> Result<Transformed<LogicalPlan>> {
    let columns = kept.into_iter().zip(before.iter()).map(|(position, (relation, field))| {
        let column = Column::from(plan.schema().qualified_field(position));
        let is_same = column.relation.as_ref() == relation && column.name == *field.name();
        let expr = Expr::Column(column);
        if is_same { expr } else { expr.alias_qualified(relation.cloned(), field.name()) }
    });
    let columns = columns.collect();
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?)))
}

/// The keys that are lost over the rows of a plan.
struct Keys<'a> {
    input: &'a Arc<LogicalPlan>,
    lost: Vec<Expr>,
    /// Whether a key came again or has one value.
    is_shorter: bool,
    /// The names of their columns begin with it, and no other's does.
    name: String,
}

impl Keys<'_> {
    fn of(input: &Arc<LogicalPlan>) -> Keys<'_> {
        let mut name = "sort key ".to_owned();
        while input.schema().fields().iter().any(|field| field.name().starts_with(&name)) {
            name.push('+');
        }
        Keys { input, lost: Vec::new(), is_shorter: false, name }
    }

    fn is_changed(&self) -> bool {
        self.is_shorter || !self.lost.is_empty()
    }

    /// The key, or the column or value that it becomes.
    fn key(&mut self, expr: Expr) -> Result<Expr> {
        if matches!(expr, Expr::Column(_))
            && let Some(value) = fixed::value(self.input, &expr)
        {
            self.is_shorter = true;
            return Ok(lit(value));
        }
        if !is_lost(&expr, self.input.schema())? {
            return Ok(expr);
        }
        let position = self.lost.iter().position(|lost| *lost == expr).unwrap_or_else(|| {
            self.lost.push(expr);
            self.lost.len() - 1
        });
        Ok(Expr::Column(Column::new_unqualified(format!("{}{position}", self.name))))
    }

    fn in_order(&mut self, order: Vec<SortExpr>) -> Result<Vec<SortExpr>> {
        let mut kept = Vec::<SortExpr>::with_capacity(order.len());
        for one in order {
            let expr = self.key(one.expr)?;
            if kept.iter().any(|before| before.expr == expr) {
                self.is_shorter = true;
            } else {
                kept.push(SortExpr { expr, ..one });
            }
        }
        // One value is no order, but windows may need a key.
        if self.is_shorter && kept.iter().any(|key| !matches!(key.expr, Expr::Literal(..))) {
            kept.retain(|key| !matches!(key.expr, Expr::Literal(..)));
        }
        Ok(kept)
    }

    fn in_windows(&mut self, expr: Expr) -> Result<Expr> {
        let changed = expr.transform_down(|expr| {
            let Expr::WindowFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
            let params = &mut call.params;
            params.order_by = self.in_order(std::mem::take(&mut params.order_by))?;
            let partitions = std::mem::take(&mut params.partition_by);
            params.partition_by = partitions.into_iter().map(|key| self.key(key)).collect::<Result<_>>()?;
            Ok(Transformed::yes(Expr::WindowFunction(call)))
        });
        Ok(changed?.data)
    }

    fn in_aggregates(&mut self, expr: Expr) -> Result<Expr> {
        let changed = expr.transform_down(|expr| {
            let Expr::AggregateFunction(mut call) = expr else { return Ok(Transformed::no(expr)) };
            // The order of WITHIN GROUP is what such a function is about.
            if !call.func.supports_within_group_clause() {
                call.params.order_by = self.in_order(std::mem::take(&mut call.params.order_by))?;
            }
            Ok(Transformed::yes(Expr::AggregateFunction(call)))
        });
        Ok(changed?.data)
    }

    /// The rows with the lost keys as further columns.
    fn below(self) -> Result<Arc<LogicalPlan>> {
        if self.lost.is_empty() {
            return Ok(Arc::clone(self.input));
        }
        let columns = self.input.schema().iter().map(|field| Expr::Column(Column::from(field)));
        let lost =
            self.lost.into_iter().enumerate().map(|(position, expr)| expr.alias(format!("{}{position}", self.name)));
        let columns = columns.chain(lost).collect();
        Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, Arc::clone(self.input))?)))
    }
}

/// Whether the planner cannot tell that rows sorted by an expression are in its order.
fn is_lost(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    if matches!(expr, Expr::Column(_) | Expr::Literal(..)) {
        return Ok(false);
    }
    // What cannot be computed here is none of these keys.
    let Ok(key) = create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
    else {
        return Ok(false);
    };
    // A key without columns has one value, and needs no order.
    if !key.exists(|part| Ok(part.is::<PhysicalColumn>()))? {
        return Ok(false);
    }
    let order = PhysicalSortExpr::new_default(key);
    let mut known = EquivalenceProperties::new(Arc::clone(schema.inner()));
    known.add_ordering([order.clone()]);
    Ok(!known.ordering_satisfy([order])?)
}
