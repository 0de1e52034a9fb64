//! Columns that have one value in all rows of a plan.

use datafusion::common::{Column, JoinType, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, ExprSchemable, LogicalPlan, Operator};

/// The value that an expression over the rows of `plan` has in all of them, if the plan says so: it is a constant there, or a
/// condition lets pass no other value.
pub(super) fn value(plan: &LogicalPlan, expr: &Expr) -> Option<ScalarValue> {
    let column = match expr {
        Expr::Alias(alias) => return value(plan, &alias.expr),
        Expr::Literal(value, _) => return Some(value.clone()),
        Expr::Column(column) => column,
        _ => return None,
    };
    let found = match plan {
        LogicalPlan::Projection(projection) => {
            let position = projection.schema.maybe_index_of_column(column)?;
            value(&projection.input, projection.expr.get(position)?)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let position = alias.schema.maybe_index_of_column(column)?;
            value(&alias.input, &Expr::Column(Column::from(alias.input.schema().qualified_field(position))))
        }
        LogicalPlan::Filter(filter) => {
            let mut conditions = split_conjunction(&filter.predicate).into_iter();
            conditions.find_map(|condition| passing(condition, column)).or_else(|| value(&filter.input, expr))
        }
        LogicalPlan::Join(join) => {
            let (left, right) = match join.join_type {
                JoinType::Inner => (true, true),
                JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, false),
                JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (false, true),
                JoinType::Full => (false, false),
            };
            let side = |takes: bool, side: &LogicalPlan| {
                if takes && side.schema().has_column(column) { value(side, expr) } else { None }
            };
            side(left, &join.left).or_else(|| side(right, &join.right))
        }
        LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Distinct(Distinct::All(_)) => plan
            .inputs()
            .into_iter()
            .filter(|input| input.schema().has_column(column))
            .find_map(|input| value(input, expr)),
        _ => None,
    };
    // A constant of another type is cast on the way.
    found.filter(|value| expr.get_type(plan.schema()).is_ok_and(|ty| ty == value.data_type()))
}

/// The only value of a column that passes a condition.
fn passing(condition: &Expr, column: &Column) -> Option<ScalarValue> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (&**left, &**right) {
            (Expr::Column(one), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(one))
                if one == column =>
            {
                Some(value.clone())
            }
            _ => None,
        },
        _ => None,
    }
}
