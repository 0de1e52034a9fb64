//! Why a worker is gone.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::query::error::QueryError;
use crate::sampler::wall_us;

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
/// What Rust writes before it aborts because an allocation failed.
const NO_MEMORY: &str = "memory allocation of ";
/// What Rust writes before it aborts because a stack is full.
const STACK_FULL: &str = "has overflowed its stack";

/// A worker that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When it was noticed, µs since the epoch.
    pub at_us: i64,
    /// Why, for people.
    pub reason: String,
}

impl Fault {
    pub(super) fn now(reason: &str) -> Fault {
        Fault { at_us: wall_us(), reason: reason.into() }
    }
}

/// What the client of a statement is told whose worker ended with `status`, after it wrote `said` to stderr.
pub(super) fn error(status: Option<ExitStatus>, said: &str, memory_bytes_max: usize) -> QueryError {
    match status.and_then(|status| status.signal()) {
        Some(SIGABRT) if said.contains(NO_MEMORY) => QueryError::Memory {
            bytes_max: memory_bytes_max,
            detail: "an expression or the planner took the rest of what its process may have".into(),
        },
        Some(SIGABRT) if said.contains(STACK_FULL) => {
            QueryError::Invalid("it nests deeper than the planner can follow; use WITH to name its inner parts".into())
        }
        Some(SIGKILL) => QueryError::Killed(
            "by the kernel or an administrator (SIGKILL), perhaps because the host is short of memory".into(),
        ),
        Some(signal) => QueryError::Killed(format!("by signal {signal}")),
        None => {
            QueryError::Killed(status.map_or_else(|| "for an unknown reason".into(), |status| format!("with {status}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_why_the_process_ended() {
        let told = |status, said| error(Some(ExitStatus::from_raw(status)), said, 1 << 20).to_string();
        assert!(told(SIGABRT, "memory allocation of 9 bytes failed\n").contains("`query.memory_bytes_max`"));
        assert!(told(SIGABRT, "thread 'x' has overflowed its stack").contains("nests deeper"));
        assert!(told(SIGABRT, "").contains("by signal 6"));
        assert!(told(SIGKILL, "").contains("short of memory"));
        assert!(told(1 << 8, "").contains("exit status: 1"));
        assert!(error(None, "", 1).to_string().contains("unknown"));
    }
}
