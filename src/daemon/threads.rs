//! The threads of the recording path: started in the order of the records, watched, and stopped in the same order.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::store::recovery::Recovery;
use crate::store::{Appender, Store};

use super::alert_keeper::AlertKeeper;
use super::drain::Drain;
use super::flusher::Requests;
use super::operator::Daemon;
use super::upkeep::Upkeep;

/// How often the threads are checked, and changes of the collectors' health are logged.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// Added to the flush thread's nice value: sampling and draining come first. The kernel derives the priority of its reads
/// and writes from it (`ioprio_set(2)`).
const FLUSH_NICE: i32 = 10;
/// Added to the upkeep thread's nice value: its work is never urgent.
const UPKEEP_NICE: i32 = 19;

/// The running threads, apart from the collectors'.
pub(super) struct Threads {
    daemon: Daemon,
    upkeep: Arc<Upkeep>,
    /// Returns the rows that may still wait for the journal.
    drain: JoinHandle<Appender>,
    flush: JoinHandle<()>,
    /// For retention and compaction, and for the disk's problems.
    keepers: [JoinHandle<()>; 2],
    /// For writing the journal and for syncing it.
    journal: [JoinHandle<()>; 2],
    /// For the alerts in the data folder.
    alerts: JoinHandle<()>,
}

impl Threads {
    /// Starts all of them. Nothing is sampled yet. The first rows are those of the table `gap` about what the start could not
    /// recover.
    pub(super) fn start(
        daemon: Daemon,
        mut drain: Drain,
        requests: Requests,
        recovery: &Recovery,
        [drain_interval, flush_interval]: [Duration; 2],
    ) -> anyhow::Result<Threads> {
        let (write_journal, sync_journal) = daemon.store.start_journal();
        let journal = [spawn("kymo-journal", write_journal)?, spawn("kymo-sync", sync_journal)?];
        // The journal takes rows from here on: whoever is shown these still has them if the daemon is killed at once.
        drain.append_gaps(recovery);
        let (store, keeping) = (Arc::clone(&daemon.store), Arc::clone(&daemon.alert_keeper));
        let alerts = spawn("kymo-alerts", move || keeping.run(&store))?;
        let drain = spawn("kymo-drain", move || drain.run(drain_interval))?;
        let (store, progress) = (Arc::clone(&daemon.store), Arc::clone(&daemon.progress));
        let flush = spawn("kymo-flush", move || {
            lower_priority(FLUSH_NICE);
            requests.serve_until_stopped(flush_interval, &store, &progress);
        })?;
        let upkeep = Arc::new(Upkeep::default());
        let (store, keeping) = (Arc::clone(&daemon.store), Arc::clone(&upkeep));
        let keep = spawn("kymo-upkeep", move || {
            lower_priority(UPKEEP_NICE);
            keeping.run(flush_interval, &store);
        })?;
        let (store, checking) = (Arc::clone(&daemon.store), Arc::clone(&upkeep));
        let check = spawn("kymo-check", move || checking.check(&store))?;
        Ok(Threads { daemon, upkeep, drain, flush, keepers: [keep, check], journal, alerts })
    }

    /// What keeps the alerts, and where.
    pub(super) fn alerts(&self) -> (Arc<Store>, Arc<AlertKeeper>) {
        (Arc::clone(&self.daemon.store), Arc::clone(&self.daemon.alert_keeper))
    }

    /// Logs changes of the collectors' health. Ends, with an error, when a thread has ended that must not.
    pub(super) async fn watch(&self) -> anyhow::Error {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            self.daemon.collectors.log_changes();
            let threads = [&self.flush].into_iter().chain(&self.keepers).chain(&self.journal).chain([&self.alerts]);
            if let Some(name) = ended(&self.drain).or_else(|| threads.into_iter().find_map(ended)) {
                return anyhow!("the thread {name} ended unexpectedly; this is a bug");
            }
        }
    }

    /// Stops sampling, drains the rings and flushes memory. Fails if a thread panicked or memory could not be flushed.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        let Daemon { store, progress, collectors, flusher, alert_keeper, .. } = self.daemon;
        collectors.stop_all();
        progress.stop();
        // If the drain thread panicked, the rows left in the rings are lost.
        let drained = self.drain.join().map_err(|_| anyhow!("the drain thread panicked"));
        alert_keeper.stop();
        flusher.stop();
        self.upkeep.stop();
        let flushed = join("flush", [self.flush]);
        let kept = join("upkeep", self.keepers).and(join("alert", [self.alerts]));
        store.stop_journal();
        let journaled = join("journal", self.journal);
        // The appender shows the rows that it held back for the journal.
        let drained = drained.map(drop);
        let last =
            store.flush().context("flush the rows in memory; the next start recovers those that are in the journal")?;
        store.close();
        tracing::info!(rows = last.rows, files = last.files.len(), "flushed");
        drained.and(flushed).and(kept).and(journaled)
    }
}

/// Waits for threads that were asked to end.
fn join(what: &str, threads: impl IntoIterator<Item = JoinHandle<()>>) -> anyhow::Result<()> {
    let joined: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
    joined.into_iter().try_for_each(|one| one.map_err(|_| anyhow!("a {what} thread panicked")))
}

/// The name of a thread, if it has ended.
fn ended<T>(thread: &JoinHandle<T>) -> Option<&str> {
    thread.is_finished().then(|| thread.thread().name().unwrap_or_default())
}

/// Starts a thread of this name.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.into()).spawn(work).with_context(|| format!("start the thread {name}"))
}

/// Lowers the calling thread's priority. If that is refused, the thread only competes more with the others.
fn lower_priority(nice: i32) {
    // On Linux this is about the calling thread only (setpriority(2), "C library/kernel differences").
    let own = rustix::process::getpriority_process(None).unwrap_or(0);
    let _ = rustix::process::setpriority_process(None, own + nice);
}
