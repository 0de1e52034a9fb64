//! The functions of SQL that are kymo's own, and how statements use them.
//!
//! DataFusion has most functions. Those here are missing there, or give other answers there than PostgreSQL and DuckDB give.
//! All are in one list, by which a session learns them.

mod arithmetic;
mod bucket;
pub(super) mod burst;
mod clock;
pub(super) mod counter;
mod course;
mod digest;
mod exact;
mod field;
mod format;
mod growth;
mod held;
mod instant;
mod linked;
pub(super) mod manual;
mod measure;
mod moment;
mod moments;
mod moving;
pub(super) mod normal;
pub(super) mod number;
mod ordered;
mod pattern;
mod peak;
mod percentile;
mod planner;
mod precise;
mod printf;
mod rewrite;
mod roots;
mod round;
mod run;
mod scalar;
pub(super) mod sections;
pub(super) mod series;
mod several;
mod shape;
mod shorthand;
mod sliding;
mod span;
mod synonyms;
mod whole;
pub(super) mod written;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::functions_aggregate::{approx_percentile_cont, bool_and_or};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, TypePlanner};
use datafusion::logical_expr::{AggregateUDF, Expr, ScalarUDF};

use scalar::Scalar;

/// Functions of one row, by what they compute.
const SCALARS: &[Scalar] = &[
    arithmetic::CALCULATE,
    arithmetic::LENGTH,
    arithmetic::NORMAL,
    arithmetic::NULLABLE,
    arithmetic::TIMES,
    arithmetic::DIVIDED,
    bucket::DATE_BIN,
    bucket::TIME_BUCKET,
    digest::DIGEST,
    digest::MD5,
    digest::SHA256,
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
    number::NORMAL_NUMBER,
    printf::BYTES,
    printf::FORMAT,
    printf::PRINTF,
    printf::SIZE,
    round::EVEN,
    whole::BIT_COUNT,
    whole::WIDTH_BUCKET,
];

/// The planner of operators, which a session has before those of DataFusion.
pub(super) fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![Arc::new(planner::Operators)]
}

/// The planner of types.
pub(super) fn types() -> Arc<dyn TypePlanner> {
    Arc::new(planner::Types)
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

/// What a function of one row is for people, if it is kymo's own.
pub(super) fn scalar_entry(function: &ScalarUDF) -> Option<manual::Entry> {
    let declared = scalar::about(function).or_else(|| shorthand::about(function));
    declared.or_else(|| manual::entry(function.name()))
}

/// What an aggregate is for people, if it is kymo's own.
pub(super) fn aggregate_entry(function: &AggregateUDF) -> Option<manual::Entry> {
    let documented =
        function.documentation().map(|about| manual::Entry::new(&about.syntax_example, &about.description));
    documented.or_else(|| manual::entry(function.name()))
}

/// A value as it is, which the planner does not take for one that is never null.
pub(super) fn nullable(value: Expr) -> Expr {
    arithmetic::NULLABLE.function().call(vec![value])
}

/// All functions of one row that DataFusion lacks, or has with another meaning.
fn scalars() -> Vec<ScalarUDF> {
    let declared = SCALARS.iter().map(|scalar| scalar.function());
    declared.chain(synonyms::functions()).chain([clock::function(), field::function()]).collect()
}

/// All aggregates that DataFusion lacks, or has with another meaning.
pub(super) fn aggregates() -> Vec<AggregateUDF> {
    let renamed = [
        (bool_and_or::bool_and_udaf(), "every"),
        (approx_percentile_cont::approx_percentile_cont_udaf(), "approx_quantile"),
    ];
    let renamed = renamed.into_iter().map(|(aggregate, alias)| aggregate.as_ref().clone().with_aliases([alias]));
    let own = counter::aggregates().into_iter().chain(exact::aggregates()).chain(ordered::aggregates());
    own.chain(moments::aggregates()).chain(burst::aggregates()).chain(shape::aggregates()).chain(renamed).collect()
}
