//! `EXISTS` and `IN` ask whether a row is there, and not how often. So the rows that they ask for are made distinct first: a label
//! has few texts, and otherwise each row would be compared with all rows of the same text.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, Result};
use datafusion::logical_expr::{Aggregate, Expr, Join, LogicalPlan};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::record;

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
        let columns = asked(&join);
        // There are few rows of one time.
        let is_of_one_time = columns.iter().any(|column| column.name == record::Column::TIME.name);
        if !asks || columns.is_empty() || is_of_one_time || is_distinct(&join.right) {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let columns = columns.into_iter().map(Expr::Column).collect();
        let right = Aggregate::try_new(Arc::clone(&join.right), columns, Vec::new())?;
        let right = Arc::new(LogicalPlan::Aggregate(right));
        Ok(Transformed::yes(LogicalPlan::Join(Join { right, ..join })))
    }
}

/// The columns of the rows that are asked for which decide whether they are there.
fn asked(join: &Join) -> BTreeSet<Column> {
    let keys = join.on.iter().flat_map(|(_, right)| right.column_refs());
    let filters = join.filter.iter().flat_map(Expr::column_refs);
    keys.chain(filters).filter(|column| join.right.schema().has_column(column)).cloned().collect()
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
