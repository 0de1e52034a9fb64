//! Inner queries that name columns of the outer one, where the planner gets them wrong.
//!
//! It takes the comparison with the outer row out of the inner query, and joins by it afterwards. What was computed in between then
//! had the rows of all outer rows: a window function numbered them, and an outer join kept rows that only other outer rows had
//! matched. An aggregate without rows is null or zero, and has no row to join with; HAVING then does not see it. Such a query is
//! refused, unless it comes to the same.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, Filter, LogicalPlan, Operator, Projection, Subquery, SubqueryAlias, Window,
};

/// The plan, if it has no such inner query.
///
/// # Errors
/// When it has one.
pub(super) fn checked(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.apply_with_subqueries(|step| {
        if let LogicalPlan::Subquery(lateral) = step {
            rows_of(lateral)?;
            having_of(lateral)?;
        }
        for expr in step.expressions() {
            expr.apply(|part| {
                match part {
                    Expr::ScalarSubquery(inner) => {
                        rows_of(inner)?;
                        having_of(inner)?;
                    }
                    Expr::Exists(Exists { subquery, .. }) => {
                        rows_of(subquery)?;
                        aggregates_of(subquery, false)?;
                    }
                    Expr::InSubquery(InSubquery { subquery, negated, .. }) => {
                        rows_of(subquery)?;
                        aggregates_of(subquery, !negated)?;
                    }
                    Expr::SetComparison(SetComparison { subquery, quantifier, .. }) => {
                        rows_of(subquery)?;
                        aggregates_of(subquery, *quantifier == SetQuantifier::Any)?;
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(plan)
}

/// Whether rows of a plan depend on the outer row.
fn depends(plan: &LogicalPlan) -> bool {
    !plan.all_out_ref_exprs().is_empty()
}

/// Checks what computes with several rows of an inner query.
fn rows_of(inner: &Subquery) -> Result<()> {
    inner.subquery.apply(|step| {
        match step {
            LogicalPlan::Window(window) if depends(&window.input) && !is_divided(window)? => plan_err!(
                "a window function in an inner query that names columns of the outer one: compute it in a query behind FROM \
                 that names none of them, with PARTITION BY the columns that they are compared with"
            ),
            LogicalPlan::Join(join) => {
                let padded = match join.join_type {
                    JoinType::Left => depends(&join.right),
                    JoinType::Right => depends(&join.left),
                    JoinType::Full => depends(&join.left) || depends(&join.right),
                    _ => false,
                };
                if padded {
                    return plan_err!(
                        "an outer join in an inner query, of which a side names columns of the outermost one: join in a query \
                         behind FROM that names none of them"
                    );
                }
                Ok(TreeNodeRecursion::Continue)
            }
            _ => Ok(TreeNodeRecursion::Continue),
        }
    })?;
    Ok(())
}

/// Whether each partition has the rows of one outer row: whatever is compared with it is a key.
fn is_divided(window: &Window) -> Result<bool> {
    let mut keys: Vec<&Expr> = Vec::new();
    for (at, expr) in window.window_expr.iter().enumerate() {
        let Expr::WindowFunction(call) = unaliased(expr) else { return Ok(false) };
        let by = &call.params.partition_by;
        if at == 0 { keys.extend(by) } else { keys.retain(|key| by.contains(key)) }
    }
    let is_key = |column: &Column| keys.iter().any(|key| matches!(key, Expr::Column(key) if key.name == column.name));
    let mut is_divided = true;
    window.input.apply(|step| {
        if let LogicalPlan::Filter(Filter { predicate, .. }) = step {
            let outer = split_conjunction(predicate).into_iter().filter(|part| part.contains_outer());
            is_divided &= outer.into_iter().all(|part| match part {
                Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (&**left, &**right) {
                    (Expr::Column(column), Expr::OuterReferenceColumn(..))
                    | (Expr::OuterReferenceColumn(..), Expr::Column(column)) => is_key(column),
                    _ => false,
                },
                _ => false,
            });
        } else {
            is_divided &= !step.expressions().iter().any(Expr::contains_outer);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(is_divided)
}

/// Checks aggregates over all rows of an inner query. `null_is_none` says that a null comes to the same as no row.
fn aggregates_of(inner: &Subquery, null_is_none: bool) -> Result<()> {
    let mut plan = &*inner.subquery;
    let mut is_plain = null_is_none;
    loop {
        plan = match plan {
            LogicalPlan::Projection(Projection { expr, input, .. }) => {
                is_plain &= expr.iter().all(|expr| matches!(unaliased(expr), Expr::Column(_)));
                input
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) | LogicalPlan::Filter(Filter { input, .. }) => {
                input
            }
            LogicalPlan::Aggregate(Aggregate { group_expr, aggr_expr, input, .. })
                if group_expr.is_empty() && depends(input) =>
            {
                if is_plain && aggr_expr.iter().all(is_null_without_rows) {
                    return Ok(());
                }
                return plan_err!(
                    "an aggregate over all rows behind IN, ANY, ALL or EXISTS that names columns of the outer query: write it as a \
                     value, as in x = (SELECT count(*) FROM … WHERE …)"
                );
            }
            _ => return Ok(()),
        }
    }
}

/// Checks a condition on an aggregate over all rows of an inner query.
fn having_of(inner: &Subquery) -> Result<()> {
    let mut plan = &*inner.subquery;
    let mut is_filtered = false;
    loop {
        plan = match plan {
            LogicalPlan::Projection(Projection { input, .. })
            | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => input,
            LogicalPlan::Filter(Filter { input, .. }) => {
                is_filtered = true;
                input
            }
            LogicalPlan::Aggregate(Aggregate { group_expr, input, .. })
                if is_filtered && group_expr.is_empty() && depends(input) =>
            {
                return plan_err!(
                    "HAVING without GROUP BY in an inner query that names columns of the outer one: leave it out, and compare the \
                     result in the outer query"
                );
            }
            _ => return Ok(()),
        }
    }
}

fn is_null_without_rows(aggregate: &Expr) -> bool {
    match unaliased(aggregate) {
        Expr::AggregateFunction(call) => {
            call.func.default_value(&arrow::datatypes::DataType::Int64).as_ref().is_ok_and(ScalarValue::is_null)
        }
        _ => false,
    }
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}
