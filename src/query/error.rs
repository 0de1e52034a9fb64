//! Why a query failed.

use std::time::Duration;

use bytesize::ByteSize;
use datafusion::common::DataFusionError;

use super::hint;
use super::refusal::GuardError;

/// A query waits this long for another one to end before it is refused.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(2);

/// What an error says if the kernel refused memory to a part of the plan that can do without (`TryReserveError`).
const NO_MEMORY: &str = "memory allocation failed because";

/// What an error says if a task of the plan panicked (`JoinError`).
const PANICKED: &str = "panicked with message";

/// What clients get instead of what a bug says.
const BUG: &str = "the query hit a bug in kymo: please report the statement, with the line that kymo's log has of it; \
                   another wording of the statement may work";

/// Why a query gave no result, or only a part of it.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// kymo does not run such statements.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The statement reads a table that does not exist.
    #[error("{0}")]
    UnknownTable(String),
    /// A view that the statement uses cannot be planned.
    #[error("the view `{name}` of the configuration cannot be used: {problem}")]
    View {
        /// The view.
        name: String,
        /// Why.
        problem: String,
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
    /// The query reached this limit of spilled files.
    #[error(
        "the query's sorts and joins need more than {} on disk (setting `query.spill_bytes_max`): choose a shorter time \
         range, add a LIMIT, or raise the limit",
        ByteSize(*.0).display().iec()
    )]
    Spill(u64),
    /// The disk refused what the query spilled.
    #[error("the query's sorts and joins need disk, which was refused: {0}")]
    SpillRefused(String),
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
    /// kymo stopped while the query ran.
    #[error("the query was stopped because kymo is shutting down")]
    Stopped,
    /// The process that ran the query ended.
    #[error("the process that ran the query was ended {0}; other queries go on")]
    Killed(String),
    /// A part of the result is larger than a message may be.
    #[error(
        "one row of the result takes {}, and a message holds {} at most (setting `query.message_bytes_max`): select less of \
         it, or raise the limit",
        ByteSize(*bytes).display().iec(), ByteSize(*bytes_max).display().iec()
    )]
    TooLarge {
        /// The size of the message.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// No room was left for the result.
    #[error(
        "results of {} wait for clients that do not read them, so this one had no room in time: read or close those first",
        ByteSize(*bytes_max).display().iec()
    )]
    Unread {
        /// The room for all results.
        bytes_max: u64,
    },
    /// The statement ended its process several times.
    #[error("this statement ended its process {count} times; it is refused for {} s", left.as_secs() + 1)]
    Struck {
        /// How often.
        count: u32,
        /// It may run again after this time.
        left: Duration,
    },
    /// What another process told of its query.
    #[error("{text}")]
    Told {
        /// What a client can do about it.
        kind: ErrorKind,
        /// The error of that process.
        text: String,
    },
    /// A bug in kymo, found by the planner or by an operator of a plan. The log has these details, and clients do not get them.
    #[error("{BUG}")]
    Bug(String),
    /// A bug in kymo, which may have left its process in disorder. The log has these details.
    #[error("{BUG}")]
    Panicked(String),
    /// What runs queries cannot be started.
    #[error("the query could not be started: {0}")]
    Start(String),
}

/// What a client can do about a [`QueryError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The same statement will fail again.
    Invalid = 1,
    /// A limit was reached.
    Limit,
    /// The time limit was reached.
    Time,
    /// kymo is shutting down.
    Stopped,
    /// A bug or a lack of something in kymo.
    Internal,
}

impl QueryError {
    /// What a client can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            QueryError::Guard(_)
            | QueryError::UnknownTable(_)
            | QueryError::View { .. }
            | QueryError::Invalid(_)
            | QueryError::Failed(_) => ErrorKind::Invalid,
            QueryError::Memory { .. }
            | QueryError::Spill(_)
            | QueryError::SpillRefused(_)
            | QueryError::Rows(_)
            | QueryError::Busy(_)
            | QueryError::TooLarge { .. }
            | QueryError::Unread { .. }
            | QueryError::Struck { .. } => ErrorKind::Limit,
            QueryError::Time(_) => ErrorKind::Time,
            QueryError::Stopped => ErrorKind::Stopped,
            QueryError::Told { kind, .. } => *kind,
            QueryError::Killed(_) | QueryError::Bug(_) | QueryError::Panicked(_) | QueryError::Start(_) => {
                ErrorKind::Internal
            }
        }
    }

    /// The same error of a tail: it has neither a range of time nor groups.
    #[must_use]
    pub(super) fn of_tail(self) -> QueryError {
        let size = |bytes: u64| ByteSize(bytes).display().iec().to_string();
        let text = match &self {
            QueryError::Invalid(problem) => format!("the tail is not valid: {problem}"),
            QueryError::Failed(problem) => format!("the tail failed: {problem}"),
            QueryError::Memory { bytes_max, detail } => format!(
                "the tail needs more memory than {} (setting `query.memory_bytes_max`): write a simpler condition, begin with \
                 fewer rows, or raise the limit ({detail})",
                size(*bytes_max as u64)
            ),
            QueryError::Spill(bytes_max) => format!(
                "sorting the first rows of the tail needs more than {} on disk (setting `query.spill_bytes_max`): begin with \
                 fewer rows, or raise the limit",
                size(*bytes_max)
            ),
            QueryError::SpillRefused(reason) => {
                format!("sorting the first rows of the tail needs disk, which was refused: {reason}")
            }
            QueryError::Time(time_max) => format!(
                "finding the first rows of the tail took longer than {} s (setting `query.time_max`): begin with fewer rows, or \
                 raise the limit",
                time_max.as_secs_f64()
            ),
            QueryError::Rows(rows_max) => format!(
                "the tail begins with more than {rows_max} rows (setting `query.rows_max`): begin with fewer rows, or raise the \
                 limit"
            ),
            QueryError::Stopped => "the tail was ended because kymo is shutting down".into(),
            QueryError::Killed(how) => {
                format!("the process that looked after the tail was ended {how}; other tails go on")
            }
            QueryError::Struck { count, left } => {
                format!("this tail ended its process {count} times; it is refused for {} s", left.as_secs() + 1)
            }
            _ => return self,
        };
        QueryError::Told { kind: self.kind(), text }
    }

    /// What another process told of its query: the number of a kind, or 0 for none, and a text.
    pub(super) fn told(kind: i32, text: String) -> Result<(), QueryError> {
        use ErrorKind::{Internal, Invalid, Limit, Stopped, Time};
        if kind == 0 {
            return Ok(());
        }
        let known = [Invalid, Limit, Time, Stopped].into_iter().find(|known| *known as i32 == kind);
        Err(QueryError::Told { kind: known.unwrap_or(Internal), text })
    }

    /// What the log is to say of a bug.
    pub(super) fn bug(&self) -> Option<&str> {
        match self {
            QueryError::Bug(details) | QueryError::Panicked(details) => Some(details),
            _ => None,
        }
    }

    pub(super) fn invalid(error: DataFusionError) -> QueryError {
        hint::of_bug(&error).map_or_else(|| QueryError::Invalid(hint::of_error(&error)), QueryError::Bug)
    }

    pub(super) fn failed(error: &DataFusionError, memory_bytes_max: usize) -> QueryError {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(detail) => {
                QueryError::Memory { bytes_max: memory_bytes_max, detail: detail.clone() }
            }
            root => {
                let text = root.strip_backtrace();
                if text.contains(NO_MEMORY) {
                    QueryError::Memory { bytes_max: memory_bytes_max, detail: text }
                } else if text.contains(PANICKED) {
                    QueryError::Panicked(text)
                } else {
                    hint::of_bug(error).map_or_else(|| QueryError::Failed(hint::of_error(error)), QueryError::Bug)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_not_told_to_read_less_time() {
        for error in [
            QueryError::Invalid("x".into()),
            QueryError::Failed("x".into()),
            QueryError::Memory { bytes_max: 1 << 20, detail: "x".into() },
            QueryError::Spill(1 << 20),
            QueryError::SpillRefused("x".into()),
            QueryError::Time(Duration::from_secs(60)),
            QueryError::Rows(5),
            QueryError::Stopped,
            QueryError::Killed("by signal 9".into()),
            QueryError::Struck { count: 3, left: Duration::from_secs(9) },
        ] {
            let kind = error.kind();
            let of_tail = error.of_tail();
            assert_eq!(of_tail.kind(), kind);
            let text = of_tail.to_string();
            assert!(text.contains("tail") && !text.contains("query ") && !text.contains("time range"), "{text}");
        }
    }
}
