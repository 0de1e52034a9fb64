//! The daemon's parts, connected with each other. Nothing runs yet.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use crate::alert;
use crate::alert::moment::Moment;
use crate::alert::notify::Deliverer;
use crate::alert::saved::{Saved, SavedNotification};
use crate::collector::{COLLECTORS_MAX, CollectorSettings};
use crate::config::Settings;
use crate::export::losses::LostExports;
use crate::family::PerFamily;
use crate::latest::LatestRows;
use crate::query::ViewSource;
use crate::query::workers::{Folders, Workers};
use crate::reading::foreign::Foreign;
use crate::record::label::Labels;
use crate::sampler::wall_us;
use crate::scheduling::cpus::Cpus;
use crate::serve::http::{HttpServer, HttpSettings, HttpState};
use crate::serve::security::Security;
use crate::serve::{ServeError, ServeSettings, Server};
use crate::store::{Appender, Store};

use super::alert_keeper::AlertKeeper;
use super::collectors::Collectors;
use super::drain::{Drain, FRESH_PATIENCE, Own, Progress};
use super::flusher::{Flusher, Requests};
use super::operator::Daemon;

/// The parts of a daemon.
pub(super) struct Parts {
    pub(super) daemon: Daemon,
    pub(super) drain: Drain,
    pub(super) drain_interval: Duration,
    pub(super) requests: Requests,
    pub(super) flush_interval: Duration,
    /// They run the server's queries.
    pub(super) workers: Workers,
    pub(super) deliverer: Deliverer,
    /// Those of the configuration.
    pub(super) collectors: Vec<CollectorSettings>,
}

impl Parts {
    /// Connects the parts. `saved` is what goes on from the last daemon's alerts, `found` is what the start found in the data
    /// folder. Fails if a part does not accept its settings.
    pub(super) fn build(
        settings: Settings,
        store: Arc<Store>,
        appender: Appender,
        cpus: Arc<Cpus>,
        saved: Saved,
        found: Vec<String>,
        exports: LostExports,
    ) -> anyhow::Result<Parts> {
        let (started, started_at_us) = (Instant::now(), wall_us());
        let foreign = Foreign::of(&settings.context.roots);
        foreign.unseen.iter().for_each(|text| tracing::warn!("{text}"));
        foreign.own.iter().for_each(|text| tracing::info!("{text}"));
        let progress = Arc::new(Progress::default());
        let folders = Folders::of_daemon(std::path::absolute(&store.settings().path)?);
        let batch_bytes_max = settings.serve.batch_bytes_max;
        let views = fresh_views(&store, &progress);
        let workers = Workers::new(views, settings.query, folders, batch_bytes_max, Arc::clone(&cpus), settings.views);
        store.listen(workers.feed());
        let (outbox, deliverer) = Deliverer::new(settings.notifiers, &store.settings().host)?;
        let labels: PerFamily<Arc<Labels>> = PerFamily::default();
        let now = Moment::now();
        let mut engine = alert::Engine::new(settings.rules, outbox.clone(), labels.clone(), now);
        let keeper = Arc::new(AlertKeeper::new(&saved, outbox.clone()));
        for SavedNotification { notifier, notification } in saved.waiting {
            outbox.resume(&notifier, &Arc::new(notification));
        }
        engine.resume(saved.alerts, now);
        let board = engine.board();

        let (sources, arriving) = sync_channel(COLLECTORS_MAX);
        let latest = Arc::new(LatestRows::default());
        let collectors = Arc::new(Collectors::new(
            sources,
            labels.clone(),
            Arc::clone(&latest),
            Arc::clone(&store),
            settings.context,
            cpus,
        ));
        let (flusher, requests) = Flusher::new();
        let daemon = Daemon {
            store,
            latest: Arc::clone(&latest),
            collectors,
            flusher,
            progress: Arc::clone(&progress),
            workers: workers.clone(),
            board,
            outbox,
            alert_keeper: Arc::clone(&keeper),
            exports,
            addresses: Arc::default(),
            http: HttpState::default(),
            started_at_us,
            started,
            found,
            foreign,
        };
        let reporter = daemon.clone();
        let report = Box::new(move |time| reporter.report(time));
        let alerts = (engine, keeper);
        let ended = {
            let workers = workers.clone();
            Box::new(move || workers.history().take())
        };
        let own = Own { report, ended };
        let drain = Drain::new(arriving, alerts, Arc::clone(&latest), appender, labels, own, progress);
        let (drain_interval, flush_interval) = (settings.drain_interval, settings.flush_interval);
        let collectors = settings.collectors;
        Ok(Parts { daemon, drain, drain_interval, requests, flush_interval, workers, deliverer, collectors })
    }
}

/// What others connect to.
pub(super) struct Edges {
    pub(super) server: Server,
    pub(super) http: HttpServer,
    pub(super) security: Arc<Security>,
}

impl Edges {
    /// Binds the port. Fails if that is refused, or a file of tokens or TLS cannot be used.
    pub(super) fn bind(serve: ServeSettings, http: HttpSettings, parts: &Parts) -> anyhow::Result<Edges> {
        let (daemon, workers) = (&parts.daemon, &parts.workers);
        let security = Arc::new(Security::open(&serve.security).map_err(ServeError::from)?);
        let (operator, statements) = (Arc::new(daemon.clone()), Arc::new(workers.clone()));
        let http = HttpServer::new(http, &security, Arc::clone(&operator), statements.clone(), daemon.http.clone());
        let server = Server::bind(serve, Arc::clone(&security), operator, statements)?;
        daemon.addresses.get_or_init(|| server.addresses());
        Ok(Edges { server, http, security })
    }
}

/// Views with all rows sampled until the view is taken.
fn fresh_views(store: &Arc<Store>, progress: &Arc<Progress>) -> ViewSource {
    let (store, progress) = (Arc::clone(store), Arc::clone(progress));
    Arc::new(move || {
        progress.wait_for_drain(FRESH_PATIENCE);
        store.view()
    })
}
