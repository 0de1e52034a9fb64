//! Statements that have ended, on their way to the table `statement`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::error::{ErrorKind, QueryError};

/// Statements that wait for the next drain. Further ones are counted.
const WAITING_MAX: usize = 1_000;
/// So much of a statement, and of its error, is kept.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// So much of a client's name is kept.
const CLIENT_BYTES_MAX: usize = 128;

/// A row of the table `statement`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// When it ended, µs since the epoch.
    pub time_us: i64,
    /// Who asked.
    pub client: String,
    /// The statement.
    pub text: String,
    /// How it ended, in one word.
    pub outcome: &'static str,
    /// What the client was told; empty if there was no error.
    pub error: String,
    /// What the client was sent, and what that took.
    pub cost: Cost,
    /// From the request to the end, µs.
    pub duration_us: i64,
}

/// What a statement gave and took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Rows that were sent.
    pub rows: u64,
    /// Their size as they were sent.
    pub bytes: u64,
    /// The most resident memory of the statement's process, if that is known.
    pub peak_bytes: Option<u64>,
}

/// The statements that ended since the last drain.
#[derive(Debug, Default)]
pub struct History {
    waiting: Mutex<Vec<Ended>>,
    lost: AtomicU64,
}

impl History {
    /// Takes a statement in, unless too many wait.
    pub(super) fn push(&self, mut ended: Ended) {
        shorten(&mut ended.client, CLIENT_BYTES_MAX);
        shorten(&mut ended.text, TEXT_BYTES_MAX);
        shorten(&mut ended.error, TEXT_BYTES_MAX);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING_MAX {
            waiting.push(ended);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that ended since the last call.
    pub fn take(&self) -> Vec<Ended> {
        std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many have no row because too many ended at once.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// How a statement ended whose rows were all sent.
pub(super) const OK: &str = "ok";
/// How a statement ended whose client went away.
pub(super) const CANCELLED: &str = "cancelled";

/// How a statement ended that failed, in one word.
pub(super) fn outcome_of(error: &QueryError) -> &'static str {
    match error.kind() {
        ErrorKind::Invalid => "invalid",
        ErrorKind::Limit => "limit",
        ErrorKind::Time => "time",
        ErrorKind::Stopped => "stopped",
        ErrorKind::Internal => "internal",
    }
}

fn shorten(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_length_have_bounds() {
        let history = History::default();
        let text = "ü".repeat(TEXT_BYTES_MAX);
        for _ in 0..WAITING_MAX + 3 {
            history.push(Ended { client: text.clone(), text: text.clone(), ..Ended::default() });
        }
        let ended = history.take();
        assert_eq!((ended.len(), history.lost()), (WAITING_MAX, 3));
        assert_eq!((ended[0].client.len(), ended[0].text.len()), (CLIENT_BYTES_MAX, TEXT_BYTES_MAX));
        history.push(Ended::default());
        assert_eq!((history.take().len(), history.take().len(), history.lost()), (1, 0, 3));
    }
}
