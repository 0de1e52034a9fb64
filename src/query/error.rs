//! Why a query failed.

use std::time::Duration;

use arrow::error::ArrowError;
use bytesize::ByteSize;
use datafusion::common::DataFusionError;

use super::guard::GuardError;
use crate::family::FAMILIES;
use crate::words::list;

/// A query waits this long for another one to end before it is refused.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(2);

/// Why a query gave no result, or only a part of it.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// kymo does not run such statements.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The statement reads a table that does not exist.
    #[error("there is no table {name}; the tables are {}", table_names())]
    UnknownTable {
        /// The name as written.
        name: String,
    },
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
    /// The query reached its time limit.
    #[error(
        "the query took longer than {} s (setting `query.time_max`): choose a shorter time range, or raise the limit",
        time_max.as_secs_f64()
    )]
    Time {
        /// The limit.
        time_max: Duration,
    },
    /// The result has too many rows.
    #[error(
        "the result has more than {rows_max} rows (setting `query.rows_max`): aggregate, add a LIMIT, or raise the limit"
    )]
    Rows {
        /// The limit.
        rows_max: u64,
    },
    /// Too many queries run already.
    #[error(
        "{concurrent_max} queries are running and none ended within {} s (setting `query.concurrent_max`): try again \
         later, or raise the limit",
        WAIT_MAX.as_secs()
    )]
    Busy {
        /// The limit.
        concurrent_max: usize,
    },
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

    pub(super) fn shape(error: &ArrowError) -> QueryError {
        QueryError::Failed(format!("convert a batch to the result's schema: {error}"))
    }
}

fn table_names() -> String {
    list(FAMILIES.iter().map(|family| family.table.name))
}
