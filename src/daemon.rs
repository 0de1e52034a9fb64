//! The running daemon: the order of starting and of shutting down.
//!
//! Everything that can fail is tried before the first tick: the data folder is taken, rules are compiled, the port is
//! bound. Shutting down follows the records: sampling stops, the rings are drained, memory is flushed. Serving stops last,
//! so that a client sees the last record. A watchdog limits the time that all this takes, and a second signal ends it at once.

mod alert_keeper;
mod code;
mod collectors;
mod drain;
mod flusher;
mod opened;
mod operator;
mod parts;
pub mod recording;
mod report;
mod service;
mod threads;
mod upkeep;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::alert::notify::Deliverer;
use crate::config::Settings;
use crate::export;
use crate::scheduling::cpus::Cpus;
use crate::serve::http::HttpServer;
use crate::serve::{self, ServeSettings, Server};
use crate::store::identity::name_of;
use crate::store::{Appender, Opened, Store};
use crate::words::{duration, list};

use parts::{Edges, Parts};
use threads::{Threads, spawn};

/// Threads for serving, notifying and exporting. Queries run in processes of their own.
const IO_THREADS: usize = 2;
/// How likely the kernel is to kill the recorder where memory is short, from -1000 (never) to 1000.
const OOM_SCORE_ADJ: i32 = -500;
/// The share of the time for shutting down that requests, notifications and exports have to end. Recording and flushing have the rest.
const EDGES_SHARE: f64 = 0.3;
const EXPORT_SHARE: f64 = 0.15;

/// Records, alerts and serves until SIGTERM or SIGINT, then shuts down in order. SIGHUP changes nothing.
///
/// # Errors
/// When the data folder, the port or a thread cannot be had (nothing was started then), or when a thread ended that must
/// not.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let host = name_of(&settings.store.path, &settings.store.host);
    let mut telemetry = export::init_logging(&settings.log, &settings.tracing, &host)?;
    log_left_out(&settings);
    let cpus = Arc::new(Cpus::of_process());
    let runtime = start_runtime(&cpus)?;
    // From here on this signal does not end the daemon: it comes when a terminal is closed, and from tools that have services
    // reload.
    let hangup = signal_of(&runtime, SignalKind::hangup())?;
    // A taken port is found before a data folder is made.
    serve::check_address(&settings.serve)?;
    let (store, appender, opened) = open(&settings)?;
    protect_from_oom();
    let mut found = opened::tell(&opened);
    let saved = alert_keeper::read(&store, &mut found);
    let shutdown_timeout = settings.shutdown_timeout;
    let stop_timeout = shutdown_timeout.mul_f64(EDGES_SHARE);
    let serve_settings = ServeSettings { stop_timeout, ..settings.serve.clone() };
    let (http_settings, metrics) = (settings.http.clone(), settings.metrics.clone());
    let parts = Parts::build(settings, store, appender, Arc::clone(&cpus), saved, found, telemetry.losses())?;
    let Edges { server, http, security } = Edges::bind(serve_settings, http_settings, &parts)?;
    telemetry.start_metrics(&metrics, &parts.daemon.latest)?;
    // From here on a signal ends the daemon in order, and no longer at once.
    let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
    let signals =
        Signals { terminate: signal_of(&runtime, terminate)?, interrupt: signal_of(&runtime, interrupt)?, hangup };
    let is_secure = server.is_secure();
    let (local, addresses) = (server.local_addr(), server.addresses());
    runtime.spawn(parts.workers.keep());
    runtime.spawn(security.keep());
    let recorder = Arc::clone(&parts.daemon.collectors);
    let intervals = [parts.drain_interval, parts.flush_interval];
    let threads = Threads::start(parts.daemon, parts.drain, parts.requests, &opened.recovery, intervals)?;
    // A refusal only costs memory.
    let _ = code::forget_start();
    for collector in parts.collectors {
        recorder.start_configured(collector)?;
    }
    let own = &addresses[0];
    let flag = if own == serve::DEFAULT_ADDRESS { String::new() } else { format!("--address {own} ") };
    let scheme = if is_secure { "grpc+tls" } else { "grpc" };
    tracing::info!("Flight SQL and gRPC on {scheme}://{local}; try: kymo query {flag}\"SELECT * FROM collector\"");
    for address in addresses.iter().skip(1) {
        tracing::info!("Flight SQL and gRPC on {address}, too");
    }

    runtime.spawn(service::tell(recorder));
    let outcome = runtime.block_on(serve(server, http, parts.deliverer, threads, signals, shutdown_timeout));
    runtime.shutdown_background();
    telemetry.shutdown(shutdown_timeout.mul_f64(EXPORT_SHARE));
    if outcome.is_ok() {
        tracing::info!("stopped");
    }
    outcome
}

/// Logs what a user may not expect of the configuration.
fn log_left_out(settings: &Settings) {
    let unrecorded = settings.unrecorded();
    if !unrecorded.is_empty() {
        let tables = list(unrecorded.iter().map(|family| family.table.name));
        tracing::warn!("not recorded, as no collector of the configuration lists them: {tables}");
    }
    if !settings.ignored_variables.is_empty() {
        let names = list(settings.ignored_variables.iter().map(String::as_str));
        tracing::info!("ignored environment variables, which name no key: {names}");
    }
}

/// Takes the data folder, after everything was checked that needs none.
fn open(settings: &Settings) -> anyhow::Result<(Arc<Store>, Appender, Opened)> {
    settings.context.roots.check()?;
    let (store, appender, opened) = Store::open(settings.store.clone())?;
    // Before the first flush, which may be that of recovered rows.
    for collector in &settings.collectors {
        collector.families.iter().for_each(|family| store.set_source(*family, &collector.name, collector.interval));
    }
    // Much recovered data leaves little room in memory, and rows would be dropped before the first regular flush.
    if store.stats().hot_bytes > store.settings().hot_bytes_max / 2 {
        // The store logs a failure once an outage.
        let _ = store.flush();
    }
    let stats = store.stats();
    tracing::info!(files = stats.lake_files, bytes = stats.lake_bytes, "opened {}", store.settings().path.display());
    Ok((store, appender, opened))
}

/// Where memory is short, the kernel kills other programs first. Only a privileged process may ask for this. If somebody has asked
/// for more protection already, that stays.
fn protect_from_oom() {
    const FILE: &str = "/proc/self/oom_score_adj";
    let own = std::fs::read_to_string(FILE).ok().and_then(|own| own.trim().parse::<i32>().ok());
    if own.is_none_or(|own| own > OOM_SCORE_ADJ) {
        let _ = std::fs::write(FILE, OOM_SCORE_ADJ.to_string());
    }
}

fn start_runtime(cpus: &Arc<Cpus>) -> anyhow::Result<Runtime> {
    let (at_start, at_stop) = (Arc::clone(cpus), Arc::clone(cpus));
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.on_thread_start(move || at_start.begin_to_serve()).on_thread_stop(move || at_stop.end_serving());
    runtime.worker_threads(IO_THREADS).thread_name("kymo-io").enable_all().build().context("start the I/O threads")
}

/// Serves until a signal, has everything recorded and flushed, and then stops serving.
async fn serve(
    server: Server,
    http: HttpServer,
    deliverer: Deliverer,
    threads: Threads,
    mut signals: Signals,
    shutdown_timeout: Duration,
) -> anyhow::Result<()> {
    let (stop, stops) = watch::channel(());
    // Ready when the sender is dropped.
    let stopped = || {
        let mut stops = stops.clone();
        async move { while stops.changed().await.is_ok() {} }
    };
    let health = server.health();
    let mut serving = tokio::spawn(server.run(stopped()));
    let offering = tokio::spawn(http.run(stopped()));
    let notifying = tokio::spawn(deliverer.run(stopped(), shutdown_timeout.mul_f64(EDGES_SHARE)));
    let (store, alerts) = threads.alerts();
    let outcome = tokio::select! {
        () = signals.received() => Ok(()),
        served = &mut serving => Err(match served {
            Ok(Ok(_)) => anyhow!("the server stopped by itself"),
            Ok(Err(error)) => error.into(),
            Err(error) => error.into(),
        }),
        error = threads.watch() => Err(error),
    };
    watchdog(shutdown_timeout)?;
    tokio::spawn(signals.end_at_once());
    service::stopping(shutdown_timeout);
    health.stops().await;
    let recorded = tokio::task::block_in_place(|| threads.stop());
    drop(stop);
    let served = async {
        if serving.is_finished() { Ok(()) } else { serving.await.context("serve")?.map(drop).map_err(Into::into) }
    };
    let (served, offered, notified) = tokio::join!(served, offering, notifying);
    // What was not delivered waits for the next start.
    tokio::task::block_in_place(|| alerts.write(&store));
    outcome.and(recorded).and(served)?;
    offered.context("offer HTTP")?;
    notified.context("deliver the last notifications")
}

/// SIGTERM, SIGINT and SIGHUP.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Waits for a signal to stop.
    async fn received(&mut self) {
        let name = loop {
            tokio::select! {
                _ = self.terminate.recv() => break "SIGTERM",
                _ = self.interrupt.recv() => break "SIGINT",
                _ = self.hangup.recv() => tracing::warn!(
                    "SIGHUP: nothing changed, as this version does not read its configuration again while it runs; \
                     restart kymo to apply a new one"
                ),
            }
        };
        tracing::info!(signal = name, "stopping: draining the rings and flushing memory first");
    }

    /// Ends the process at the next signal to stop.
    async fn end_at_once(mut self) {
        let (name, number) = tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", libc::SIGTERM),
            _ = self.interrupt.recv() => ("SIGINT", libc::SIGINT),
        };
        tracing::warn!(
            signal = name,
            "ending at once: the next start takes rows that are not flushed from the journal"
        );
        std::process::exit(128 + number);
    }
}

fn signal_of(runtime: &Runtime, kind: SignalKind) -> anyhow::Result<Signal> {
    let _entered = runtime.enter();
    signal(kind).context("handle signals")
}

/// Ends the process when shutting down takes too long, as when a disk hangs.
fn watchdog(shutdown_timeout: Duration) -> anyhow::Result<()> {
    spawn("kymo-watchdog", move || {
        thread::sleep(shutdown_timeout);
        tracing::error!(
            "shutting down took longer than {} (service.shutdown_timeout); the next start takes rows that are not flushed \
             from the journal",
            duration(shutdown_timeout)
        );
        std::process::exit(1);
    })?;
    Ok(())
}
