//! Equalities from which the engine would reason in circles.
//!
//! The engine takes `a = b` in a condition for leave to write one for the other. With `a = f(a)`, or `a = f(b)` and `a = b`, it
//! replaces a key of an order by what contains that key, loses sight of the order, and refuses its own plan. The sides of such an
//! equality become calls that it does not see through.

use std::collections::BTreeMap;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator};

use super::function::nullable;

/// Hides equalities that close a circle.
///
/// # Errors
/// When the plan is broken.
pub(super) fn opened(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut equal = Classes::default();
    let mut has_computed = false;
    plan.apply_with_subqueries(|step| {
        for (left, right) in equalities(step) {
            match (left, right) {
                (Expr::Column(left), Expr::Column(right)) => equal.join([left, right]),
                _ => has_computed = true,
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !has_computed {
        return Ok(plan);
    }
    let told = plan.transform_up_with_subqueries(|step| match step {
        LogicalPlan::Filter(Filter { predicate, input, .. }) => {
            let predicate = equal.opened(predicate)?;
            let changed = predicate.transformed;
            Ok(Transformed::new_transformed(LogicalPlan::Filter(Filter::try_new(predicate.data, input)?), changed))
        }
        LogicalPlan::Join(mut join) => {
            let filter = join.filter.take().map(|filter| equal.opened(filter)).transpose()?;
            let changed = filter.as_ref().is_some_and(|filter| filter.transformed);
            join.filter = filter.map(|filter| filter.data);
            Ok(Transformed::new_transformed(LogicalPlan::Join(join), changed))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(told?.data)
}

/// What the conditions of a step say to be equal.
fn equalities(step: &LogicalPlan) -> Vec<(&Expr, &Expr)> {
    let conditions = match step {
        LogicalPlan::Filter(filter) => split_conjunction(&filter.predicate),
        LogicalPlan::Join(join) => join.filter.iter().flat_map(split_conjunction).collect(),
        _ => Vec::new(),
    };
    let joined = match step {
        LogicalPlan::Join(join) => join.on.as_slice(),
        _ => &[],
    };
    let sides = conditions.into_iter().filter_map(|condition| match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq | Operator::IsNotDistinctFrom, right }) => {
            Some((&**left, &**right))
        }
        _ => None,
    });
    sides.chain(joined.iter().map(|(left, right)| (left, right))).collect()
}

/// Columns that depend on each other. Those of one name count as one.
#[derive(Default)]
struct Classes {
    /// The next column of the same class, up to one that has none.
    next: BTreeMap<Column, Column>,
}

impl Classes {
    fn root(&self, column: &Column) -> Column {
        let mut column = column;
        while let Some(next) = self.next.get(column) {
            column = next;
        }
        column.clone()
    }

    fn join<'a>(&mut self, columns: impl IntoIterator<Item = &'a Column>) {
        let mut roots = columns.into_iter().map(|column| self.root(column)).collect::<Vec<_>>().into_iter();
        let Some(first) = roots.next() else { return };
        for root in roots.filter(|root| *root != first) {
            self.next.insert(root, first.clone());
        }
    }

    /// The condition with those equalities hidden that close a circle with the ones before.
    fn opened(&mut self, condition: Expr) -> Result<Transformed<Expr>> {
        condition.transform_down(|part| match part {
            Expr::BinaryExpr(BinaryExpr { op: Operator::And, .. }) => Ok(Transformed::no(part)),
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Eq | Operator::IsNotDistinctFrom), right }) => {
                let closes = self.closes(&left, &right);
                let hidden = |side: Box<Expr>| if closes { Box::new(nullable(*side)) } else { side };
                let equality = Expr::BinaryExpr(BinaryExpr { left: hidden(left), op, right: hidden(right) });
                Ok(Transformed::new(equality, closes, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::new(other, false, TreeNodeRecursion::Jump)),
        })
    }

    fn closes(&mut self, left: &Expr, right: &Expr) -> bool {
        let (lefts, rights) = (left.column_refs(), right.column_refs());
        if lefts.is_empty() || rights.is_empty() || matches!((left, right), (Expr::Column(_), Expr::Column(_))) {
            return false;
        }
        let of_left: Vec<Column> = lefts.iter().map(|column| self.root(column)).collect();
        if rights.iter().any(|column| of_left.contains(&self.root(column))) {
            return true;
        }
        self.join(lefts.into_iter().chain(rights));
        false
    }
}
