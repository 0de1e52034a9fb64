//! `EXISTS` and `IN` ask whether a row is there, and not how often. So the rows that they ask for are made distinct first: a label
//! has few texts, and otherwise each row would be compared with all rows of the same text.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, Result};
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, Join, LogicalPlan, Operator, Projection};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::record;

/// The aggregate of a column that decides: its greatest or its least value.
type Extreme = fn(Expr) -> Expr;

#[derive(Debug)]
pub(super) struct DistinctRows;

impl OptimizerRule for DistinctRows {
    fn name(&self) -> &'static str {
        "distinct_rows"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = plan else { return Ok(Transformed::no(plan)) };
        let asks = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark);
        if !asks || is_distinct(&join.right) {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let keys = of_others(&join, join.on.iter().flat_map(|(_, key)| key.column_refs()));
        let filtered = of_others(&join, join.filter.iter().flat_map(Expr::column_refs));
        let is_of_one_time = keys.iter().any(|column| column.name == record::Column::TIME.name);
        let right = match farthest(&join).filter(|(column, _)| !keys.contains(column)) {
            _ if keys.is_empty() && filtered.is_empty() => None,
            // There are few rows of one time.
            _ if is_of_one_time => None,
            Some((column, extreme)) => Some(with_extreme(&join, keys, column, extreme)?),
            None => Some(grouped(&join, keys.into_iter().chain(filtered).collect(), Vec::new())?),
        };
        Ok(match right {
            Some(right) => Transformed::yes(LogicalPlan::Join(Join { right: Arc::new(right), ..join })),
            None => Transformed::no(LogicalPlan::Join(join)),
        })
    }
}

/// Those of the columns that the rows have which are asked for.
fn of_others<'a>(join: &Join, columns: impl Iterator<Item = &'a Column>) -> BTreeSet<Column> {
    columns.filter(|column| join.right.schema().has_column(column)).cloned().collect()
}

fn grouped(join: &Join, keys: BTreeSet<Column>, aggregates: Vec<Expr>) -> Result<LogicalPlan> {
    let keys = keys.into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::clone(&join.right), keys, aggregates)?))
}

/// If the condition is a comparison of one column: of all rows with equal keys, the one with the greatest or the least value
/// decides.
fn farthest(join: &Join) -> Option<(Column, Extreme)> {
    let Some(Expr::BinaryExpr(BinaryExpr { left, op, right })) = &join.filter else { return None };
    let is_other = |column: &Column| join.right.schema().has_column(column);
    let is_free = |expr: &Expr| !expr.column_refs().into_iter().any(is_other);
    let (column, op) = match (&**left, &**right) {
        (Expr::Column(column), other) if is_other(column) && is_free(other) => (column, *op),
        (other, Expr::Column(column)) if is_other(column) && is_free(other) => (column, op.swap()?),
        _ => return None,
    };
    let extreme: Extreme = match op {
        Operator::Gt | Operator::GtEq => max,
        Operator::Lt | Operator::LtEq => min,
        _ => return None,
    };
    Some((column.clone(), extreme))
}

/// Of all rows with equal keys, one with the extreme value of a column under its name.
fn with_extreme(join: &Join, keys: BTreeSet<Column>, column: Column, extreme: Extreme) -> Result<LogicalPlan> {
    let mut told: Vec<Expr> = keys.iter().cloned().map(Expr::Column).collect();
    let value = extreme(Expr::Column(column.clone()));
    told.push(
        Expr::Column(Column::from_name(value.schema_name().to_string())).alias_qualified(column.relation, column.name),
    );
    let rows = grouped(join, keys, vec![value])?;
    Ok(LogicalPlan::Projection(Projection::try_new(told, Arc::new(rows))?))
}

/// Whether its rows are distinct already.
fn is_distinct(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_distinct(&alias.input),
        // It may leave out some keys, and then its rows are few, too.
        LogicalPlan::Projection(projection) => is_distinct(&projection.input),
        _ => false,
    }
}
