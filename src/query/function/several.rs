//! `percentile_cont(ARRAY[0.5, 0.99])`: a list of percentiles, each of which is an aggregate.

use datafusion::common::{Result, plan_err};
use datafusion::functions_nested::make_array;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::planner::{PlannerResult, RawAggregateExpr};

/// The list that a call stands for, or the call itself.
pub(super) fn planned(raw: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
    let named = ["percentile_cont", "percentile_disc"].contains(&raw.func.name());
    let [value, Expr::ScalarFunction(list)] = raw.args.as_slice() else { return Ok(PlannerResult::Original(raw)) };
    if !named || list.func.name() != "make_array" {
        return Ok(PlannerResult::Original(raw));
    }
    if list.args.is_empty() {
        return plan_err!("{} of no percentile: write ARRAY[0.5, 0.99]", raw.func.name());
    }
    let one = |percentile: &Expr| {
        let RawAggregateExpr { func, distinct, filter, order_by, null_treatment, .. } = raw.clone();
        let args = vec![value.clone(), percentile.clone()];
        Expr::AggregateFunction(AggregateFunction::new_udf(func, args, distinct, filter, order_by, null_treatment))
    };
    Ok(PlannerResult::Planned(make_array::make_array(list.args.iter().map(one).collect())))
}
