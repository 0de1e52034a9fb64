//! What rules missed: how much since the start, and whether it goes on.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A loss has ended if there was no more of it for this time.
pub(super) const ENDED_AFTER_US: i64 = 10 * 60 * 1_000_000;

/// Counted by the engine, read by other threads.
#[derive(Debug, Default)]
pub(super) struct Loss {
    count: AtomicU64,
    /// When there was some last, on `CLOCK_MONOTONIC`.
    last_us: AtomicI64,
}

impl Loss {
    pub(super) fn add(&self, count: u64, now_us: i64) {
        if count > 0 {
            // Relaxed: these are figures for people, and no other memory is read because of them.
            self.last_us.store(now_us, Ordering::Relaxed);
            self.count.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// All of it since the start.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// All of it since the start, while it goes on.
    pub(super) fn current(&self, now_us: i64) -> Option<u64> {
        let goes_on = now_us.saturating_sub(self.last_us.load(Ordering::Relaxed)) < ENDED_AFTER_US;
        Some(self.count()).filter(|count| *count > 0 && goes_on)
    }
}
