//! The parts of the daemon that its threads share, and its side of the control API.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arrow::array::RecordBatch;

use crate::alert::moment::Moment;
use crate::alert::notify::{FailingNotifier, Outbox};
use crate::alert::status::{Board, RuleStatus};
use crate::collector::{CollectorStatus, RetuneCollector, StartCollector};
use crate::export::losses::LostExports;
use crate::export::prometheus::{self, Format};
use crate::family::FamilyId;
use crate::latest::LatestRows;
use crate::query::workers::Workers;
use crate::reading::foreign::Foreign;
use crate::sampler::wall_us;
use crate::serve::http::HttpState;
use crate::serve::{DaemonStatus, Operator, OperatorError};
use crate::store::partition::timestamp;
use crate::store::{Flushed, Store};

use super::alert_keeper::AlertKeeper;
use super::collectors::Collectors;
use super::drain::{FRESH_PATIENCE, Progress};
use super::flusher::Flusher;

/// What the daemon's threads and the control API share.
#[derive(Clone)]
pub(super) struct Daemon {
    pub(super) store: Arc<Store>,
    pub(super) latest: Arc<LatestRows>,
    pub(super) collectors: Arc<Collectors>,
    pub(super) flusher: Flusher,
    pub(super) progress: Arc<Progress>,
    pub(super) workers: Workers,
    pub(super) board: Arc<Board>,
    pub(super) outbox: Outbox,
    pub(super) alert_keeper: Arc<AlertKeeper>,
    pub(super) exports: LostExports,
    /// Known once the port is bound, which is before the first call.
    pub(super) addresses: Arc<OnceLock<Vec<String>>>,
    /// Where HTTP is offered, or why it is not.
    pub(super) http: HttpState,
    pub(super) started_at_us: i64,
    pub(super) started: Instant,
    /// What the start found in the data folder.
    pub(super) found: Vec<String>,
    /// What the start saw of kymo's own namespaces instead of the host.
    pub(super) foreign: Foreign,
}

impl Operator for Daemon {
    async fn start_collector(&self, start: StartCollector) -> Result<CollectorStatus, OperatorError> {
        self.blocking(move |daemon| daemon.collectors.start(start)).await
    }

    async fn stop_collector(&self, name: &str) -> Result<CollectorStatus, OperatorError> {
        let name = name.to_owned();
        self.blocking(move |daemon| daemon.collectors.stop(&name)).await
    }

    async fn retune_collector(&self, retune: RetuneCollector) -> Result<CollectorStatus, OperatorError> {
        self.blocking(move |daemon| daemon.collectors.retune(retune)).await
    }

    async fn list_collectors(&self) -> Result<Vec<CollectorStatus>, OperatorError> {
        self.blocking(|daemon| Ok(daemon.collectors.survey().0)).await
    }

    async fn latest(&self, collector: &str) -> Result<Vec<(FamilyId, RecordBatch)>, OperatorError> {
        let name = collector.to_owned();
        self.blocking(move |daemon| {
            let families = daemon.collectors.find(&name)?.settings.families;
            daemon.progress.wait_for_newest(FRESH_PATIENCE);
            let families = FamilyId::all().filter(|family| families.contains(family));
            Ok(families.filter_map(|family| Some((family, daemon.latest.merged(family)?))).collect())
        })
        .await
    }

    async fn metrics(&self, format: Format) -> Result<String, OperatorError> {
        self.blocking(move |daemon| {
            daemon.progress.wait_for_newest(FRESH_PATIENCE);
            Ok(prometheus::write(&daemon.latest, wall_us(), format))
        })
        .await
    }

    async fn status(&self) -> Result<DaemonStatus, OperatorError> {
        self.blocking(|daemon| Ok(daemon.status())).await
    }

    async fn flush(&self) -> Result<Flushed, OperatorError> {
        self.blocking(|daemon| daemon.flusher.flush()).await
    }

    async fn alerts(&self) -> Result<Vec<RuleStatus>, OperatorError> {
        Ok(self.board.rules())
    }
}

impl Daemon {
    /// Runs work that waits for threads or locks on a thread for such work. It is completed even when the caller goes away,
    /// so a change is made as a whole or not at all.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Daemon) -> Result<T, OperatorError> + Send + 'static,
    ) -> Result<T, OperatorError> {
        let daemon = self.clone();
        tokio::task::spawn_blocking(move || work(&daemon))
            .await
            .unwrap_or_else(|error| Err(OperatorError::Internal(error.to_string())))
    }

    fn status(&self) -> DaemonStatus {
        let (collectors, retired) = self.collectors.survey();
        let troubles = self.store.degraded();
        let mut degraded: Vec<String> =
            troubles.iter().map(|one| format!("since {:.0}: {}", timestamp(one.since_us), one.reason)).collect();
        for collector in &collectors {
            let warnings = collector.warnings().into_iter();
            degraded.extend(warnings.map(|text| format!("collector {}: {text}", collector.settings.name)));
        }
        degraded.extend(self.http.trouble());
        degraded.extend(self.foreign.unseen.iter().cloned());
        degraded.extend(self.silent_rules(&collectors));
        degraded.extend(self.board.troubles(Moment::now().monotonic_us));
        degraded.extend(self.outbox.failing().into_iter().map(|FailingNotifier { name, since_us, error, waiting }| {
            format!("since {:.0}: notifier {name}: {error}; notifications that wait: {waiting}", timestamp(since_us))
        }));
        let silent_alerts = self.unrecorded_rules(&collectors);
        DaemonStatus {
            silent_alerts,
            workers: self.workers.status(),
            host: self.store.settings().host.clone(),
            started_at_us: self.started_at_us,
            uptime: self.started.elapsed(),
            data_dir: self.store.settings().path.clone(),
            store: self.store.stats(),
            collectors,
            retired,
            listeners: self.listeners(),
            degraded,
            found_at_start: self.found.clone(),
            foreign: self.foreign.own.clone(),
            lost_notifications: self.outbox.lost(),
            lost_exports: self.exports.count(),
        }
    }

    fn listeners(&self) -> Vec<(&'static str, String)> {
        let grpc = self.addresses.get().into_iter().flatten().map(|address| ("Flight SQL and gRPC", address.clone()));
        let http = self.http.address().map(|address| ("HTTP", address.to_string()));
        grpc.into_iter().chain(http).collect()
    }

    /// The alert rules that cannot fire, because no collector records their table. Whoever lists few tables, or stops a
    /// collector, may want just that: this is no fault.
    fn unrecorded_rules(&self, collectors: &[CollectorStatus]) -> Vec<String> {
        let is_recorded = |table: &str| {
            let is_sampled = FamilyId::find(table).is_some_and(|family| family.sampling().is_some());
            let mut recorded = collectors.iter().flat_map(|collector| &collector.settings.families);
            !is_sampled || recorded.any(|family| family.name() == table)
        };
        let silent = |rule: RuleStatus| {
            let RuleStatus { name, table, .. } = rule;
            (!is_recorded(table)).then(|| format!("alert {name} cannot fire: no collector records `{table}`"))
        };
        self.board.rules().into_iter().filter_map(silent).collect()
    }

    /// The alert rules that cannot fire, because the host lacks their table.
    fn silent_rules(&self, collectors: &[CollectorStatus]) -> Vec<String> {
        let lacking = |table: &str| {
            let mut all = collectors.iter().flat_map(|collector| &collector.health.unavailable);
            all.find(|one| one.family == table)
        };
        let silent = |rule: RuleStatus| {
            let table = lacking(rule.table)?;
            Some(format!("alert {} cannot fire: `{}` is not recorded: {}", rule.name, rule.table, table.reason))
        };
        self.board.rules().into_iter().filter_map(silent).collect()
    }
}
