//! The flush thread: turns memory into Parquet files at low priority, where waiting for a disk delays nobody.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::serve::OperatorError;
use crate::store::writer::WriteError;
use crate::store::{Flushed, Store};

use super::drain::Progress;

/// How many flush requests may wait. A further one is refused.
const REQUESTS_MAX: usize = 64;
/// How often it is checked whether memory or the journal is filling up, or the journal lost rows.
const FILLING_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a flush waits for the drain before it.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
/// A flush that failed is tried again after this.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// The longest time between two tries, once several have failed.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(16);

/// Sends requests to the flush thread.
#[derive(Clone, Debug)]
pub(super) struct Flusher(SyncSender<Request>);

/// Where a request's outcome goes; an error as text.
type Reply = SyncSender<Result<Flushed, String>>;

enum Request {
    Flush(Reply),
    Stop,
}

/// The flush thread's end of a [`Flusher`].
pub(super) struct Requests(Receiver<Request>);

impl Flusher {
    /// Both ends.
    pub(super) fn new() -> (Flusher, Requests) {
        let (requests, received) = sync_channel(REQUESTS_MAX);
        (Flusher(requests), Requests(received))
    }

    /// Flushes all rows sampled until now and waits for that. Blocks.
    pub(super) fn flush(&self) -> Result<Flushed, OperatorError> {
        let stopping = || OperatorError::Unavailable("the daemon is stopping".into());
        let (reply, answer) = sync_channel(1);
        self.0.try_send(Request::Flush(reply)).map_err(|error| match error {
            TrySendError::Full(_) => OperatorError::Unavailable(format!("{REQUESTS_MAX} flushes are waiting already")),
            TrySendError::Disconnected(_) => stopping(),
        })?;
        let flushed = answer.recv().map_err(|_| stopping())?;
        flushed.map_err(|error| OperatorError::Internal(format!("flush: {error}")))
    }

    /// Ends the thread after its current flush, and one more for the requests that wait.
    pub(super) fn stop(&self) {
        // A full queue has room again after that.
        let _ = self.0.send(Request::Stop);
    }
}

impl Requests {
    /// Flushes every `interval`, when memory or the journal is half full, when the journal lost rows, and on request, until
    /// stopped.
    pub(super) fn serve_until_stopped(&self, interval: Duration, store: &Store, progress: &Progress) {
        let mut due = Instant::now() + interval;
        // Recovered rows go to disk at once: a kymo that is killed again and again may never reach `due`.
        if store.stats().hot_rows > 0 {
            let _ = flush(store, progress, Store::flush_by_interval);
        }
        let mut begun = Instant::now();
        let mut retry = RETRY_INTERVAL;
        let mut wanted = false;
        loop {
            let patience = due.saturating_duration_since(Instant::now()).min(FILLING_CHECK_INTERVAL);
            match self.0.recv_timeout(patience) {
                Ok(Request::Flush(reply)) => {
                    let (replies, stops) = self.waiting(reply);
                    let flushed = flush(store, progress, Store::flush).map_err(|error| error.to_string());
                    // Callers may be gone by now.
                    replies.iter().for_each(|reply| _ = reply.try_send(flushed.clone()));
                    if stops {
                        return;
                    }
                }
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            wanted |= store.take_flush_wanted();
            let soon = (wanted || is_filling(store)) && begun.elapsed() >= retry;
            if Instant::now() >= due || soon {
                wanted = false;
                begun = Instant::now();
                let outcome = flush(store, progress, Store::flush_by_interval);
                due = Instant::now() + if outcome.is_ok() { interval } else { interval.min(retry) };
                // Each try writes one file for each table that can be written, so tries become rarer.
                retry = if outcome.is_ok() { RETRY_INTERVAL } else { (2 * retry).min(RETRY_INTERVAL_MAX) };
            }
        }
    }

    /// The request that was received and those behind it, which one flush serves: it writes all rows sampled until it begins.
    /// Also whether the thread is to stop after it.
    fn waiting(&self, first: Reply) -> (Vec<Reply>, bool) {
        let mut replies = vec![first];
        loop {
            match self.0.try_recv() {
                Ok(Request::Flush(reply)) => replies.push(reply),
                Ok(Request::Stop) => return (replies, true),
                Err(_) => return (replies, false),
            }
        }
    }
}

/// Whether memory or the journal is half full. A host with many devices gets there before the interval is over, and one
/// more file is better than lost rows.
fn is_filling(store: &Store) -> bool {
    let (stats, settings) = (store.stats(), store.settings());
    stats.hot_bytes > settings.hot_bytes_max / 2 || stats.journal_bytes > settings.journal_bytes_max / 2
}

/// Flushes all rows sampled until now.
fn flush(
    store: &Store,
    progress: &Progress,
    flush: impl FnOnce(&Store) -> Result<Flushed, WriteError>,
) -> Result<Flushed, WriteError> {
    let span = tracing::info_span!(
        "flush",
        rows = tracing::field::Empty,
        files = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
        otel.status_description = tracing::field::Empty
    );
    let _entered = span.enter();
    progress.wait_for_drain(DRAIN_PATIENCE);
    let result = flush(store);
    match &result {
        Ok(flushed) => {
            span.record("rows", flushed.rows);
            span.record("files", flushed.files.len());
            let Flushed { rows, bytes, took, tiers_cpu, rows_cpu, .. } = flushed;
            let [tiers_cpu_us, rows_cpu_us] = [tiers_cpu, rows_cpu].map(Duration::as_micros);
            tracing::debug!(rows, bytes, ?took, tiers_cpu_us, rows_cpu_us, "flushed");
        }
        Err(error) => {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", error.to_string());
        }
    }
    result
}
