//! The running daemon: the only place that spawns, and the order of starting and of shutting down.
//!
//! Everything that can fail is tried before the first tick: the data folder is taken, rules are compiled, the port is
//! bound. Shutting down goes the way of the records: sampling stops, the rings are drained, memory is flushed, and only
//! then does serving stop, so that a client sees the last record. A watchdog bounds all of it.

mod background;
mod collectors;
mod drain;
mod opened;
mod operator;

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::time::{ClockId, clock_gettime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::alert;
use crate::alert::notify::{Deliverer, Outbox};
use crate::config::{COLLECTORS_MAX, CollectorSettings, Settings};
use crate::export;
use crate::export::losses::Losses;
use crate::family::kymo::Kymo;
use crate::latest::LatestRows;
use crate::query::{self, ViewSource};
use crate::record::{ABSENT, Record};
use crate::sampler::wall_us;
use crate::serve::{self, Server};
use crate::store::{Appender, Store};

use background::{Background, Upkeep};
use collectors::Collectors;
use drain::{Drain, Progress};
use operator::Control;

/// Threads for serving, notifying and exporting. Queries have their own.
const IO_THREADS: usize = 2;
/// After a signal the process ends within this time, come what may.
const SHUTDOWN_MAX: Duration = Duration::from_secs(30);
/// How long the last notifications may take.
const NOTIFY_GRACE: Duration = Duration::from_secs(5);
/// How long the last exports may take.
const EXPORT_GRACE: Duration = Duration::from_secs(3);
/// How long a reader waits for what is in the rings; after that it gets what can be had.
const FRESH_PATIENCE: Duration = Duration::from_millis(100);
/// How often the threads that must not end are looked at.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Records, alerts and serves until SIGTERM or SIGINT, then shuts down in order.
///
/// # Errors
/// When the data folder, the port or a thread cannot be had (nothing was started then), or when a thread that must not
/// end has ended.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let (started, started_at_us) = (Instant::now(), wall_us());
    let mut telemetry = export::init_logging(&settings.log_filter, &settings.tracing)?;
    // Asked early, so that a taken port is told before a data folder is made.
    serve::check_address(&settings.serve)?;
    settings.context.roots.check()?;
    let (store, appender, opened) = Store::open(settings.store)?;
    let found = opened::tell(&opened);
    flush_much(&store);
    let stats = store.stats();
    tracing::info!(files = stats.lake_files, bytes = stats.lake_bytes, "opened {}", store.settings().path.display());
    let progress = Arc::new(Progress::default());
    let engine = query::Engine::new(fresh_views(&store, &progress), settings.query)?;
    let (outbox, deliverer) = Deliverer::new(settings.notifiers, &store.settings().host)?;
    let alerts = alert::Engine::new(settings.rules, outbox.clone());
    let board = alerts.board();

    let (sources, arriving) = sync_channel(COLLECTORS_MAX);
    let labels = collectors::labels();
    let latest = Arc::new(LatestRows::default());
    let collectors =
        Arc::new(Collectors::new(sources, labels.clone(), Arc::clone(&latest), Arc::clone(&store), settings.context));
    let report = reporter(&store, &engine, &outbox, telemetry.losses(), &collectors);
    let mut drain = Drain::new(arriving, alerts, Arc::clone(&latest), appender, &labels, report, Arc::clone(&progress));
    let (background, requests) = Background::new();
    let address = Arc::new(OnceLock::new());
    let control = Control {
        store: Arc::clone(&store),
        latest: Arc::clone(&latest),
        collectors: Arc::clone(&collectors),
        background: background.clone(),
        progress: Arc::clone(&progress),
        board,
        outbox,
        exports: telemetry.losses(),
        address: Arc::clone(&address),
        started_at_us,
        started,
        found,
    };
    let server = Server::bind(settings.serve, Arc::new(control), engine)?;
    let local = *address.get_or_init(|| server.local_addr());
    telemetry.start_metrics(&settings.metrics, &latest)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("kymo-io")
        .enable_all()
        .build()
        .context("start the I/O threads")?;

    let (write_journal, sync_journal) = store.start_journal();
    let journal = [spawn("kymo-journal", write_journal)?, spawn("kymo-sync", sync_journal)?];
    drain.append_gaps(&opened.recovery);
    let (drain_interval, flush_interval) = (settings.drain_interval, settings.flush_interval);
    let drain = spawn("kymo-drain", move || drain.run(drain_interval))?;
    let flusher = {
        let (store, progress, collectors) = (Arc::clone(&store), Arc::clone(&progress), Arc::clone(&collectors));
        let flush = move || {
            background::flush_until_stopped(&requests, flush_interval, &store, &progress, &collectors);
        };
        spawn("kymo-flush", flush)?
    };
    let upkeep = Arc::new(Upkeep::default());
    let keeper = {
        let (store, upkeep) = (Arc::clone(&store), Arc::clone(&upkeep));
        spawn("kymo-upkeep", move || upkeep.run(flush_interval, &store))?
    };
    for collector in settings.collectors {
        tell_collector(&collector);
        collectors.start(collector)?;
    }
    let flag = if local.to_string() == serve::DEFAULT_ADDRESS { String::new() } else { format!("--address {local} ") };
    tracing::info!("Flight SQL and gRPC on grpc://{local}; try: kymo query {flag}\"SELECT * FROM collector\"");

    let running = Running { store, collectors, progress, background, upkeep, drain, flusher, keeper, journal };
    let outcome = runtime.block_on(serve(server, deliverer, running));
    runtime.shutdown_background();
    telemetry.shutdown(EXPORT_GRACE);
    if outcome.is_ok() {
        tracing::info!("stopped");
    }
    outcome
}

/// Serves until a signal, has everything recorded and flushed, and then stops serving.
async fn serve(server: Server, deliverer: Deliverer, running: Running) -> anyhow::Result<()> {
    let (stop_serving, serving_stops) = oneshot::channel::<()>();
    let (stop_notifying, notifying_stops) = oneshot::channel::<()>();
    // Both end when their sender is dropped.
    let mut serving = tokio::spawn(server.run(async { drop(serving_stops.await) }));
    let notifying = tokio::spawn(deliverer.run(async { drop(notifying_stops.await) }, NOTIFY_GRACE));
    let outcome = tokio::select! {
        outcome = signalled() => outcome,
        served = &mut serving => Err(match served {
            Ok(Ok(_)) => anyhow!("the server stopped by itself"),
            Ok(Err(error)) => error.into(),
            Err(error) => error.into(),
        }),
        error = running.watch() => Err(error),
    };
    watchdog()?;
    let recorded = tokio::task::block_in_place(|| running.stop());
    drop(stop_serving);
    if !serving.is_finished() {
        serving.await.context("serve")??;
    }
    drop(stop_notifying);
    notifying.await.context("deliver the last notifications")?;
    outcome.and(recorded)
}

/// Waits for SIGTERM or SIGINT.
async fn signalled() -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "stopping: the rings are drained and memory is flushed first");
    Ok(())
}

/// Ends the process when shutting down takes too long: a disk that hangs must not keep it forever.
fn watchdog() -> anyhow::Result<()> {
    spawn("kymo-watchdog", || {
        thread::sleep(SHUTDOWN_MAX);
        tracing::error!("shutting down took longer than {SHUTDOWN_MAX:?}; what is not flushed by now is lost");
        std::process::exit(1);
    })?;
    Ok(())
}

/// The threads of the recording path.
struct Running {
    store: Arc<Store>,
    collectors: Arc<Collectors>,
    progress: Arc<Progress>,
    background: Background,
    upkeep: Arc<Upkeep>,
    /// Returns what may still wait for the journal.
    drain: JoinHandle<Appender>,
    flusher: JoinHandle<()>,
    keeper: JoinHandle<()>,
    /// The one that writes, and the one that syncs.
    journal: [JoinHandle<()>; 2],
}

impl Running {
    /// Ends, with what is wrong, when a thread has ended that must not.
    async fn watch(&self) -> anyhow::Error {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let threads = [&self.flusher, &self.keeper].into_iter().chain(&self.journal);
            if let Some(name) = ended(&self.drain).or_else(|| threads.into_iter().find_map(ended)) {
                return anyhow!("the thread {name} ended unexpectedly; this is a bug");
            }
        }
    }

    /// Stops sampling, drains the rings and flushes what is in memory.
    fn stop(self) -> anyhow::Result<()> {
        self.collectors.stop_all();
        self.progress.stop();
        // A thread that panicked has told so; what it had not drained stays in the rings and is lost.
        let drained = self.drain.join().map_err(|_| anyhow!("the drain thread panicked"));
        self.background.stop();
        self.upkeep.stop();
        let flushed = self.flusher.join().map_err(|_| anyhow!("the flush thread panicked"));
        let kept = self.keeper.join().map_err(|_| anyhow!("the upkeep thread panicked"));
        self.store.stop_journal();
        let journaled =
            self.journal.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a journal thread panicked")));
        let journaled = journaled.collect::<anyhow::Result<Vec<()>>>();
        // Shows what it held back for the journal.
        let drained = drained.map(drop);
        let last = self
            .store
            .flush()
            .context("flush what is in memory; what the journal has is recovered at the next start")?;
        self.store.close();
        tracing::info!(rows = last.rows, files = last.files.len(), "flushed");
        drained.and(flushed).and(kept).and(journaled.map(drop))
    }
}

/// The name of a thread, if it has ended.
fn ended<T>(thread: &JoinHandle<T>) -> Option<&str> {
    thread.is_finished().then(|| thread.thread().name().unwrap_or_default())
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.into()).spawn(work).with_context(|| format!("start the thread {name}"))
}

/// Views with everything that was sampled until they are asked for.
fn fresh_views(store: &Arc<Store>, progress: &Arc<Progress>) -> ViewSource {
    let (store, progress) = (Arc::clone(store), Arc::clone(progress));
    Arc::new(move || {
        progress.wait_for_drain(FRESH_PATIENCE);
        store.view()
    })
}

/// Gathers the daemon's own figures, once a second on the drain thread.
fn reporter(
    store: &Arc<Store>,
    engine: &query::Engine,
    outbox: &Outbox,
    exports: Losses,
    collectors: &Arc<Collectors>,
) -> Box<dyn FnMut(i64) -> Kymo + Send> {
    let (store, engine, outbox, collectors) =
        (Arc::clone(store), engine.clone(), outbox.clone(), Arc::clone(collectors));
    Box::new(move |time| {
        let stats = store.stats();
        let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Kymo {
            cpu_us: process_cpu_us(),
            rss_bytes: rss_bytes().unwrap_or(ABSENT),
            hot_rows: count(stats.hot_rows),
            hot_bytes: count(stats.hot_bytes),
            lake_bytes: count(stats.lake_bytes),
            journal_bytes: count(stats.journal_bytes),
            lake_files: count(stats.lake_files),
            flushes: count(stats.flushes),
            failed_flushes: count(stats.failed_flushes),
            lost_rows: count(stats.lost_rows),
            unjournaled_rows: count(stats.unjournaled_rows),
            queries: count(engine.begun()),
            alerts_sent: count(outbox.sent()),
            alerts_lost: count(outbox.lost()),
            exports_lost: count(exports.count()),
            overflowed_labels: count(collectors.overflowed_labels()),
            ..Kymo::absent(time)
        }
    })
}

/// CPU time of all threads, ended ones too (`clock_gettime(2)`, `CLOCK_PROCESS_CPUTIME_ID`).
fn process_cpu_us() -> i64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

/// The second number of `/proc/self/statm`, in pages (`proc_pid_statm(5)`).
fn rss_bytes() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * i64::try_from(rustix::param::page_size()).ok()?)
}

/// Flushes before anything is sampled if what was recovered leaves little room in memory, so that nothing of it has to go.
fn flush_much(store: &Store) {
    if store.stats().hot_bytes > store.settings().hot_bytes_max / 2 {
        // Once an outage this is told by the store.
        let _ = store.flush();
    }
}

fn tell_collector(collector: &CollectorSettings) {
    let families: Vec<&str> = collector.families.iter().map(|family| family.name()).collect();
    tracing::info!(collector = collector.name, interval = ?collector.interval, "sampling {}", families.join(", "));
}
