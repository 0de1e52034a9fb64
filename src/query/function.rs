//! The functions of SQL that are kymo's own, and how statements use them.
//!
//! DataFusion has most functions. Those here are missing there, or give other answers there than PostgreSQL and DuckDB give.
//! All are in one list, by which a session learns them.

mod arithmetic;
mod bucket;
mod choice;
mod clock;
pub(super) mod counter;
mod course;
mod field;
mod format;
mod instant;
mod linked;
mod measure;
mod moment;
mod pattern;
mod planner;
mod rewrite;
mod roots;
mod round;
mod scalar;
pub(super) mod series;
mod shorthand;
mod sliding;
mod span;
mod synonyms;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

use scalar::Scalar;

/// Functions of one row, by what they compute.
const SCALARS: &[Scalar] = &[
    arithmetic::ADD,
    arithmetic::SUBTRACT,
    arithmetic::MULTIPLY,
    arithmetic::LENGTH,
    arithmetic::TIMES,
    arithmetic::DIVIDED,
    bucket::DATE_BIN,
    bucket::TIME_BUCKET,
    format::STRFTIME,
    format::TEXT,
    format::TO_CHAR,
    moment::AGE,
    moment::DATE_DIFF,
    moment::DATE_SUB,
    moment::DAY_NAME,
    moment::EPOCH_MS,
    moment::EPOCH_NS,
    moment::EPOCH_US,
    moment::IS_FINITE,
    moment::LAST_DAY,
    moment::MAKE_TIMESTAMP,
    moment::MONTH_NAME,
    moment::STRPTIME,
    moment::TO_TIMESTAMP,
    round::EVEN,
];

/// The planner of operators, which a session has before those of DataFusion.
pub(super) fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![Arc::new(planner::Operators)]
}

/// Gives a session all functions, in place of those of the same name.
pub(super) fn register(state: &mut SessionState) -> Result<()> {
    for function in scalars() {
        state.register_udf(Arc::new(function))?;
    }
    for aggregate in aggregates() {
        state.register_udaf(Arc::new(aggregate))?;
    }
    let meaning: Arc<dyn FunctionRewrite + Send + Sync> = Arc::new(rewrite::Meaning);
    state.register_function_rewrite(meaning)
}

fn scalars() -> impl Iterator<Item = ScalarUDF> {
    let declared = SCALARS.iter().map(|scalar| scalar.function());
    declared.chain(synonyms::functions()).chain([clock::function(), field::function()])
}

fn aggregates() -> impl Iterator<Item = AggregateUDF> {
    counter::aggregates().into_iter().chain(choice::aggregates())
}
