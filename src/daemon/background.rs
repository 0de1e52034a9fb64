//! The background thread: flush and retention, at low priority, where waiting for a disk hurts nobody.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sampler::wall_us;
use crate::store::writer::WriteError;
use crate::store::{Flushed, Store};

use super::collectors::Collectors;
use super::drain::Progress;

/// How many flush requests may wait; a further one is refused.
const REQUESTS_MAX: usize = 64;
/// How often troubles are looked for.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a flush waits for the drain before it.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// Added to the thread's nice value: sampling and draining come first.
const NICE: i32 = 10;

/// Asks the background thread for work.
#[derive(Clone, Debug)]
pub(super) struct Background {
    requests: SyncSender<Request>,
    /// Why the last flush failed, if it did: for status.
    trouble: Arc<Mutex<Option<String>>>,
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
    /// The handle, and what [`run`] needs of it.
    pub(super) fn new() -> (Background, Requests) {
        let (requests, received) = mpsc::sync_channel(REQUESTS_MAX);
        let trouble = Arc::default();
        (Background { requests, trouble: Arc::clone(&trouble) }, Requests { received, trouble })
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

    /// Why the last flush failed; nothing when it succeeded.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the thread end after the work under way.
    pub(super) fn stop(&self) {
        // A full queue delays the stop by the flushes in it, which are quick one after the other.
        let _ = self.requests.send(Request::Stop);
    }
}

/// The receiving end of [`Background`].
pub(super) struct Requests {
    received: Receiver<Request>,
    trouble: Arc<Mutex<Option<String>>>,
}

/// Flushes every `interval`, when memory is half full, and on request; applies retention, and logs read errors, until stopped.
pub(super) fn run(
    requests: &Requests,
    interval: Duration,
    store: &Store,
    progress: &Progress,
    collectors: &Arc<Collectors>,
) {
    lower_priority(NICE);
    let flush = || {
        let result = flush(store, progress);
        let trouble = result.as_ref().err().map(ToString::to_string);
        let before = {
            let mut slot = requests.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *slot, trouble.clone())
        };
        match (before, trouble) {
            (Some(_), None) => tracing::info!("flushes succeed again"),
            // Said once an outage: rows stay in memory, and the counts are in the table kymo.
            (None, Some(error)) => tracing::error!(error, "flush failed; rows stay in memory until it succeeds"),
            _ => {}
        }
        let expired = store.retain(wall_us());
        if expired > 0 {
            tracing::info!(files = expired, "retention deleted files");
        }
        result
    };
    let mut due = Instant::now() + interval;
    loop {
        let patience = due.saturating_duration_since(Instant::now()).min(CHECK_INTERVAL);
        match requests.received.recv_timeout(patience) {
            Ok(Request::Flush(reply)) => {
                // Whoever asked may be gone by now.
                let _ = reply.try_send(flush());
            }
            Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        // A host with many devices fills memory before the interval is over: better a file more than rows dropped.
        let filling = store.stats().hot_bytes > store.settings().hot_bytes_max / 2;
        if Instant::now() >= due || filling {
            let _ = flush();
            due = Instant::now() + interval;
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

/// Lowers the calling thread's priority; a refusal changes nothing but how fair the scheduler is to it.
fn lower_priority(nice: i32) {
    // On Linux this is about the calling thread only (setpriority(2), "C library/kernel differences").
    let own = rustix::process::getpriority_process(None).unwrap_or(0);
    let _ = rustix::process::setpriority_process(None, own + nice);
}
