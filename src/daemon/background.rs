//! The background threads: flush, and retention with compaction, at low priority, where waiting for a disk hurts nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sampler::wall_us;
use crate::store::writer::WriteError;
use crate::store::{Flushed, Store};

use super::collectors::Collectors;
use super::drain::Progress;

/// How many flush requests may wait; a further one is refused.
const REQUESTS_MAX: usize = 64;
/// How often troubles are looked for.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a flush waits for the drain before it.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// A flush that failed is tried again after this.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// And after this, once it has failed several times.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(16);
/// How often files are looked for that are to be deleted or to become one.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Added to the flush thread's nice value: sampling and draining come first. What it reads and writes is of low priority
/// then, too, as long as nobody sets another (`ioprio_set(2)`).
const FLUSH_NICE: i32 = 10;
/// The same for upkeep, which has all the time in the world.
const UPKEEP_NICE: i32 = 19;

/// Asks the flush thread for work.
#[derive(Clone, Debug)]
pub(super) struct Background {
    requests: SyncSender<Request>,
}

enum Request {
    Flush(SyncSender<Result<Flushed, WriteError>>),
    Stop,
}

/// Why a flush did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlushError {
    #[error("{REQUESTS_MAX} flushes are waiting already")]
    Busy,
    #[error("the daemon is stopping")]
    Stopping,
    #[error("flush: {0}")]
    Write(#[from] WriteError),
}

impl Background {
    /// The handle, and what [`flush_until_stopped`] needs of it.
    pub(super) fn new() -> (Background, Requests) {
        let (requests, received) = mpsc::sync_channel(REQUESTS_MAX);
        (Background { requests }, Requests(received))
    }

    /// Flushes what was sampled until now and waits for it. Blocks.
    pub(super) fn flush(&self) -> Result<Flushed, FlushError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.requests.try_send(Request::Flush(reply)).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => FlushError::Busy,
            mpsc::TrySendError::Disconnected(_) => FlushError::Stopping,
        })?;
        Ok(answer.recv().map_err(|_| FlushError::Stopping)??)
    }

    /// Has the thread end after the work under way.
    pub(super) fn stop(&self) {
        // A full queue delays the stop by the flushes in it, which are quick one after the other.
        let _ = self.requests.send(Request::Stop);
    }
}

/// The receiving end of [`Background`].
pub(super) struct Requests(Receiver<Request>);

/// Flushes every `interval`, when memory is half full, when the journal has lost something, and on request; looks after
/// the store and the collectors, until stopped.
pub(super) fn flush_until_stopped(
    requests: &Requests,
    interval: Duration,
    store: &Store,
    progress: &Progress,
    collectors: &Arc<Collectors>,
) {
    lower_priority(FLUSH_NICE);
    let mut due = Instant::now() + interval;
    // What was recovered goes to disk at once: a kymo that is killed again and again has no other time for it.
    if store.stats().hot_rows > 0 {
        let _ = flush(store, progress);
    }
    // Since the last flush began.
    let mut flushed = Instant::now();
    let mut wanted = false;
    let mut retry = RETRY_INTERVAL;
    loop {
        let patience = due.saturating_duration_since(Instant::now()).min(CHECK_INTERVAL);
        match requests.0.recv_timeout(patience) {
            Ok(Request::Flush(reply)) => {
                // Whoever asked may be gone by now.
                let _ = reply.try_send(flush(store, progress));
            }
            Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        wanted |= store.check();
        // A host with many devices fills memory or the journal before the interval is over: better a file more than rows dropped.
        let (stats, settings) = (store.stats(), store.settings());
        let filling =
            stats.hot_bytes > settings.hot_bytes_max / 2 || stats.journal_bytes > settings.journal_bytes_max / 2;
        let soon = (wanted || filling) && flushed.elapsed() >= retry;
        if Instant::now() >= due || soon {
            (flushed, wanted) = (Instant::now(), false);
            let outcome = flush(store, progress);
            due = Instant::now() + if outcome.is_ok() { interval } else { interval.min(retry) };
            // Each try gives the tables that can be written a file.
            retry = if outcome.is_ok() { RETRY_INTERVAL } else { (2 * retry).min(RETRY_INTERVAL_MAX) };
        }
        collectors.tell_changes();
    }
}

/// Flushes what was sampled until now.
pub(super) fn flush(store: &Store, progress: &Progress) -> Result<Flushed, WriteError> {
    let span = tracing::info_span!(
        "flush",
        rows = tracing::field::Empty,
        files = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
        otel.status_description = tracing::field::Empty
    );
    let _entered = span.enter();
    progress.wait_for_drain(DRAIN_PATIENCE);
    let result = store.flush();
    match &result {
        Ok(flushed) => {
            span.record("rows", flushed.rows);
            span.record("files", flushed.files.len());
            tracing::debug!(rows = flushed.rows, bytes = flushed.bytes, took = ?flushed.took, "flushed");
        }
        Err(error) => {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", error.to_string());
        }
    }
    result
}

/// Has the upkeep end, in the middle of a file if need be.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    stop: AtomicBool,
    sleeping: Mutex<()>,
    wake: Condvar,
}

impl Upkeep {
    /// Deletes files past their retention and makes one of those of a stretch of time that is over, until stopped.
    pub(super) fn run(&self, flush_interval: Duration, store: &Store) {
        lower_priority(UPKEEP_NICE);
        // Rows of a stretch may come with the flush after its end.
        let settle = flush_interval + UPKEEP_INTERVAL;
        loop {
            let guard = self.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
            let awake = |(): &mut ()| !self.stop.load(Ordering::Relaxed);
            drop(self.wake.wait_timeout_while(guard, UPKEEP_INTERVAL, awake));
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            store.look_for_files();
            let expired = store.retain(wall_us());
            if expired > 0 {
                tracing::info!(files = expired, "retention deleted files");
            }
            match store.compact(wall_us(), settle, &self.stop) {
                Ok(done) if done.files > 0 => tracing::info!(from = done.from, files = done.files, "compacted"),
                Ok(_) | Err(WriteError::Stopped) => {}
                // Once an outage this is told by the store.
                Err(error) => tracing::debug!(%error, "compact"),
            }
        }
    }

    pub(super) fn stop(&self) {
        let _guard = self.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: whoever sleeps looks at it under the lock, and the others will see it sooner or later.
        self.stop.store(true, Ordering::Relaxed);
        self.wake.notify_all();
    }
}

/// Lowers the calling thread's priority; a refusal changes nothing but how fair the scheduler is to it.
fn lower_priority(nice: i32) {
    // On Linux this is about the calling thread only (setpriority(2), "C library/kernel differences").
    let own = rustix::process::getpriority_process(None).unwrap_or(0);
    let _ = rustix::process::setpriority_process(None, own + nice);
}
