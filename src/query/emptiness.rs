//! An inner query in the place of a value is null if it has no row. The planner takes such a value for one that is never null if the
//! column of the inner query is none, such as `time`, and then drops `IS NULL` and the rest of a `coalesce`.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, EmptyRelation, Expr, LogicalPlan, LogicalPlanBuilder, Projection, Subquery};

use super::function;

/// Lets inner queries in the place of values be null.
///
/// # Errors
/// When the plan is broken.
pub(super) fn may_be_null(plan: LogicalPlan) -> Result<LogicalPlan> {
    let told = plan.transform_up_with_subqueries(|plan| {
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            if !expr.exists(|expr| Ok(is_never_null(expr)))? {
                return Ok(Transformed::no(expr));
            }
            let name = names.save(&expr);
            let told = expr.transform_up(|expr| {
                if !is_never_null(&expr) {
                    return Ok(Transformed::no(expr));
                }
                let Expr::ScalarSubquery(subquery) = expr else { return Ok(Transformed::no(expr)) };
                Ok(Transformed::yes(Expr::ScalarSubquery(nullable(subquery)?)))
            })?;
            Ok(Transformed::yes(name.restore(told.data)))
        })
    });
    Ok(told?.data)
}

/// Whether the planner takes an inner query's value for one that is never null, although the inner query may have no row.
fn is_never_null(expr: &Expr) -> bool {
    let Expr::ScalarSubquery(Subquery { subquery, outer_ref_columns, .. }) = expr else { return false };
    outer_ref_columns.is_empty()
        && !has_row(subquery)
        && subquery.schema().fields().first().is_some_and(|field| !field.is_nullable())
}

/// Whether a plan surely has a row.
fn has_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(Projection { input, .. }) => has_row(input),
        LogicalPlan::SubqueryAlias(alias) => has_row(&alias.input),
        LogicalPlan::Aggregate(Aggregate { group_expr, .. }) => group_expr.is_empty(),
        LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row, .. }) => *produce_one_row,
        _ => false,
    }
}

fn nullable(subquery: Subquery) -> Result<Subquery> {
    let rows = LogicalPlanBuilder::from(Arc::unwrap_or_clone(subquery.subquery));
    let (relation, field) = rows.schema().qualified_field(0);
    let (column, name) = (Column::from((relation, field)), field.name().clone());
    let value = function::nullable(Expr::Column(column)).alias(name);
    let plan = Arc::new(rows.project([value])?.build()?);
    Ok(Subquery { subquery: plan, ..subquery })
}
