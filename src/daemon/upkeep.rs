//! Keeping the data folder in order: retention and compaction on one thread, problems of the disk on another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::sampler::{boot_us, wall_us};
use crate::store::Store;
use crate::store::writer::WriteError;

/// How often files are searched that must be deleted or merged.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How often problems of the disk are searched.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Ends both threads. Upkeep ends even in the middle of a file.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    stop: AtomicBool,
    sleeping: Mutex<()>,
    wake: Condvar,
}

impl Upkeep {
    /// Deletes files past their retention and merges the files of periods that are over, until stopped.
    pub(super) fn run(&self, flush_interval: Duration, store: &Store) {
        // Rows of a period may come with the flush after its end.
        let settle = flush_interval + UPKEEP_INTERVAL;
        while self.sleep(UPKEEP_INTERVAL) {
            store.look_for_files();
            let expired = store.retain(store.trusted_time(wall_us(), boot_us()));
            if expired > 0 {
                tracing::info!(files = expired, "retention deleted files");
            }
            match store.compact(wall_us(), settle, &self.stop) {
                Ok(done) if done.files > 0 => tracing::info!(from = done.from, files = done.files, "compacted"),
                Ok(_) | Err(WriteError::Stopped) => {}
                // The store logs this once an outage.
                Err(error) => tracing::debug!(%error, "compact"),
            }
        }
    }

    /// Looks for problems that no call to the store reports, until stopped.
    pub(super) fn check(&self, store: &Store) {
        while self.sleep(CHECK_INTERVAL) {
            store.check();
        }
    }

    pub(super) fn stop(&self) {
        let _guard = self.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: a sleeping thread reads it under the lock, a working one may see it later.
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }

    /// Sleeps for `interval`; `false` once stopped.
    fn sleep(&self, interval: Duration) -> bool {
        let guard = self.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = |(): &mut ()| !self.stop.load(Ordering::Relaxed);
        drop(self.wake.wait_timeout_while(guard, interval, runs));
        !self.stop.load(Ordering::Relaxed)
    }
}
