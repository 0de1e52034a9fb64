//! Why a query failed.

use std::time::Duration;

use bytesize::ByteSize;
use datafusion::common::DataFusionError;

use super::refusal::GuardError;
use crate::family::{FAMILIES, Family};
use crate::words::unknown;

/// A query waits this long for another one to end before it is refused.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(2);

/// Why a query gave no result, or only a part of it.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// kymo does not run such statements.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The statement reads a table that does not exist.
    #[error("{}", unknown("table", .0, FAMILIES.iter().map(Family::name)))]
    UnknownTable(String),
    /// The planner rejects the statement: an unknown column or function, or types that do not fit.
    #[error("the query is not valid: {0}")]
    Invalid(String),
    /// An error in the data, such as a division by zero.
    #[error("the query failed: {0}")]
    Failed(String),
    /// The query reached its memory limit.
    #[error(
        "the query needs more memory than {} (setting `query.memory_bytes_max`): choose a shorter time range or fewer \
         groups, or raise the limit ({detail})",
        ByteSize(*bytes_max as u64).display().iec()
    )]
    Memory {
        /// The limit.
        bytes_max: usize,
        /// Which part of the plan asked for how much.
        detail: String,
    },
    /// The query reached this time limit.
    #[error(
        "the query took longer than {} s (setting `query.time_max`): choose a shorter time range, or raise the limit",
        .0.as_secs_f64()
    )]
    Time(Duration),
    /// The result has more rows than this limit.
    #[error("the result has more than {0} rows (setting `query.rows_max`): aggregate, add a LIMIT, or raise the limit")]
    Rows(u64),
    /// Too many queries run already: as many as this limit.
    #[error(
        "{} queries are running and none ended within {} s (setting `query.concurrent_max`): try again later, or \
         raise the limit",
        .0, WAIT_MAX.as_secs()
    )]
    Busy(usize),
    /// The engine was dropped while the query ran.
    #[error("the query was stopped because kymo is shutting down")]
    Stopped,
    /// A bug in kymo.
    #[error("the query hit a bug in kymo: {0}")]
    Panicked(String),
    /// The engine cannot be started.
    #[error("start the query engine: {0}")]
    Start(String),
}

impl QueryError {
    pub(super) fn invalid(error: DataFusionError) -> QueryError {
        QueryError::Invalid(error.strip_backtrace())
    }

    pub(super) fn failed(error: &DataFusionError, memory_bytes_max: usize) -> QueryError {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(detail) => {
                QueryError::Memory { bytes_max: memory_bytes_max, detail: detail.clone() }
            }
            root => QueryError::Failed(root.strip_backtrace()),
        }
    }
}
