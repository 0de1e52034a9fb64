//! The daemon's side of the control API.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::alert::notify::Outbox;
use crate::alert::status::{Board, RuleStatus};
use crate::config::{CollectorError, CollectorField, CollectorSettings, check_collector};
use crate::export::losses::Losses as ExportLosses;
use crate::family::FamilyId;
use crate::latest::{LatestRows, SourceId};
use crate::sampler::Totals;
use crate::sampler::health::CollectorHealth;
use crate::sampler::report::Collector;
use crate::serve::{
    AlertStatus, CollectorStatus, DaemonStatus, Flushed, Losses, Operator, OperatorError, RetuneCollector,
    StartCollector, StoreStatus,
};
use crate::store::Store;
use crate::store::partition::timestamp;

use super::FRESH_PATIENCE;
use super::background::{Background, FlushError};
use super::collectors::{CollectorInfo, Collectors, CollectorsError, refused_scheduling};
use super::drain::Progress;

/// What the control API works on.
#[derive(Clone)]
pub(super) struct Control {
    pub(super) store: Arc<Store>,
    pub(super) latest: Arc<LatestRows>,
    pub(super) collectors: Arc<Collectors>,
    pub(super) background: Background,
    pub(super) progress: Arc<Progress>,
    pub(super) board: Arc<Board>,
    pub(super) outbox: Outbox,
    pub(super) exports: ExportLosses,
    /// Known once the port is bound, which is before the first call.
    pub(super) address: Arc<OnceLock<SocketAddr>>,
    pub(super) started_at_us: i64,
    pub(super) started: Instant,
    /// In the data folder, at the start.
    pub(super) found: Vec<String>,
}

impl Operator for Control {
    async fn start_collector(&self, start: StartCollector) -> Result<CollectorStatus, OperatorError> {
        self.blocking(move |control| {
            let others = control.settings_but(None);
            let settings = check(&start.name, start.interval, &start.families, start.force, &others)?;
            let settings = CollectorSettings { scheduling: start.scheduling, ..settings };
            control.collectors.start(settings)?;
            tracing::info!(collector = start.name, "started");
            control.collector(&start.name)
        })
        .await
    }

    async fn stop_collector(&self, name: &str) -> Result<CollectorStatus, OperatorError> {
        let name = name.to_owned();
        self.blocking(move |control| {
            let stopped = control.collectors.stop(&name)?;
            tracing::info!(collector = name, "stopped");
            Ok(status_of(&stopped, &[]))
        })
        .await
    }

    async fn retune_collector(&self, retune: RetuneCollector) -> Result<CollectorStatus, OperatorError> {
        self.blocking(move |control| {
            let running = control.collectors.find(&retune.name)?.settings;
            let others = control.settings_but(Some(&retune.name));
            let only_scheduling = retune.interval.is_none() && retune.families.is_none();
            let interval = retune.interval.unwrap_or(running.interval);
            let families = retune.families.unwrap_or(running.families);
            // What was forced stays so, unless the interval or the families are what is asked about.
            let force = retune.force || (running.force && only_scheduling);
            let settings = check(&retune.name, interval, &families, force, &others)?;
            let scheduling = retune.scheduling.unwrap_or(running.scheduling);
            control.collectors.retune(CollectorSettings { scheduling, ..settings })?;
            tracing::info!(collector = retune.name, ?interval, "retuned");
            control.collector(&retune.name)
        })
        .await
    }

    async fn list_collectors(&self) -> Result<Vec<CollectorStatus>, OperatorError> {
        self.blocking(|control| Ok(control.survey().0)).await
    }

    async fn latest(&self, collector: &str) -> Result<Vec<(FamilyId, RecordBatch)>, OperatorError> {
        let name = collector.to_owned();
        self.blocking(move |control| {
            let families = control.collectors.find(&name)?.settings.families;
            control.progress.wait_for_drain(FRESH_PATIENCE);
            let families = FamilyId::all().filter(|family| families.contains(family));
            Ok(families.filter_map(|family| Some((family, control.latest.merged(family)?))).collect())
        })
        .await
    }

    async fn status(&self) -> Result<DaemonStatus, OperatorError> {
        self.blocking(|control| Ok(control.status())).await
    }

    async fn flush(&self) -> Result<Flushed, OperatorError> {
        self.blocking(|control| {
            let flushed = control.background.flush().map_err(|error| match error {
                FlushError::Busy | FlushError::Stopping => OperatorError::Unavailable(error.to_string()),
                FlushError::Write(_) => OperatorError::Internal(error.to_string()),
            })?;
            Ok(Flushed { files: flushed.files.len() as u64, rows: flushed.rows })
        })
        .await
    }

    async fn alerts(&self) -> Result<Vec<AlertStatus>, OperatorError> {
        Ok(self.board.rules().into_iter().map(alert_status).collect())
    }
}

impl Control {
    /// Runs work that waits for threads or locks where it blocks nobody. It is completed even when nobody waits for its
    /// result any more, so a change is made as a whole or not at all.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Control) -> Result<T, OperatorError> + Send + 'static,
    ) -> Result<T, OperatorError> {
        let control = self.clone();
        tokio::task::spawn_blocking(move || work(&control))
            .await
            .unwrap_or_else(|error| Err(OperatorError::Internal(error.to_string())))
    }

    fn settings_but(&self, name: Option<&str>) -> Vec<CollectorSettings> {
        let all = self.collectors.list().into_iter().map(|info| info.settings);
        all.filter(|settings| Some(settings.name.as_str()) != name).collect()
    }

    fn collector(&self, name: &str) -> Result<CollectorStatus, OperatorError> {
        let reports = self.reports();
        Ok(status_of(&self.collectors.find(name)?, &reports))
    }

    /// The collectors that run, and what those that were stopped had missed and dropped.
    fn survey(&self) -> (Vec<CollectorStatus>, Totals) {
        let reports = self.reports();
        let (infos, retired) = self.collectors.survey();
        (infos.iter().map(|info| status_of(info, &reports)).collect(), retired)
    }

    /// What the collectors last reported of themselves: at most a second old. Taken before the collectors are listed, so
    /// that a collector which stops in between is either not listed, or its report is still here.
    fn reports(&self) -> Vec<(SourceId, RecordBatch)> {
        self.latest.by_source(FamilyId::of::<Collector>())
    }

    fn status(&self) -> DaemonStatus {
        let stats = self.store.stats();
        let (collectors, retired) = self.survey();
        let sum = |retired: i64, count: fn(&CollectorStatus) -> i64| {
            (retired + collectors.iter().map(count).sum::<i64>()).max(0).cast_unsigned()
        };
        let losses = Losses {
            missed_ticks: sum(retired.missed, |collector| collector.missed_ticks),
            dropped_records: sum(retired.dropped, |collector| collector.dropped_records),
            lost_rows: stats.lost_rows,
            lost_notifications: self.outbox.lost(),
            lost_exports: self.exports.count(),
        };
        let mut degraded = Vec::new();
        let troubles = self.store.degraded();
        degraded.extend(troubles.iter().map(|one| format!("since {:.0}: {}", timestamp(one.since_us), one.reason)));
        for collector in &collectors {
            degraded.extend(collector.warnings.iter().map(|text| format!("collector {}: {text}", collector.name)));
        }
        DaemonStatus {
            host: self.store.settings().host.clone(),
            started_at_us: self.started_at_us,
            uptime: self.started.elapsed(),
            data_dir: self.store.settings().path.clone(),
            store: StoreStatus {
                hot_rows: stats.hot_rows,
                hot_bytes: stats.hot_bytes,
                files: stats.lake_files,
                file_bytes: stats.lake_bytes,
                flushes: stats.flushes,
                failed_flushes: stats.failed_flushes,
                journal_bytes: stats.journal_bytes,
            },
            collectors,
            listeners: self.address.get().map(|address| ("Flight SQL and control", *address)).into_iter().collect(),
            degraded,
            found_at_start: self.found.clone(),
            losses,
        }
    }
}

fn alert_status(rule: RuleStatus) -> AlertStatus {
    AlertStatus {
        name: rule.name,
        table: rule.table,
        condition: rule.condition,
        hold: rule.hold,
        pending: rule.pending as u64,
        firing: rule.firing as u64,
        firing_series: rule.firing_series.into_iter().map(|labels| labels.into_iter().collect()).collect(),
        fired: rule.fired,
        resolved: rule.resolved,
        notify: rule.notify,
    }
}

/// A collector's counts as status shows them.
#[derive(Clone, Copy, Debug)]
struct Counts {
    scheduled: i64,
    ticks: i64,
    missed: i64,
    pushed: i64,
    dropped: i64,
    failed: i64,
}

impl From<&Totals> for Counts {
    fn from(totals: &Totals) -> Counts {
        let Totals { scheduled, ticks, missed, pushed, dropped, failed, read_ns: _ } = *totals;
        Counts { scheduled, ticks, missed, pushed, dropped, failed }
    }
}

impl Counts {
    /// Those of the last report in a batch of the table `collector`.
    fn last(reports: &RecordBatch) -> Option<Counts> {
        let row = reports.num_rows().checked_sub(1)?;
        let value = |column: &str| -> Option<i64> {
            Some(reports.column_by_name(column)?.as_primitive_opt::<Int64Type>()?.value(row))
        };
        Some(Counts {
            scheduled: value("scheduled_ticks")?,
            ticks: value("ticks")?,
            missed: value("missed_ticks")?,
            pushed: value("pushed_records")?,
            dropped: value("dropped_records")?,
            failed: value("failed_reads")?,
        })
    }
}

/// A collector with its counts as last reported; until its first report they are those that it goes on from.
fn status_of(info: &CollectorInfo, reports: &[(SourceId, RecordBatch)]) -> CollectorStatus {
    let report = reports.iter().find(|(source, _)| *source == info.source);
    let counts = report.and_then(|(_, report)| Counts::last(report)).unwrap_or_else(|| Counts::from(&info.totals));
    CollectorStatus {
        name: info.settings.name.clone(),
        interval: info.settings.interval,
        families: info.settings.families.iter().map(|family| family.name()).collect(),
        running_since_us: info.since,
        scheduled_ticks: counts.scheduled,
        ticks: counts.ticks,
        missed_ticks: counts.missed,
        pushed_records: counts.pushed,
        dropped_records: counts.dropped,
        failed_reads: counts.failed,
        last_error: info.health.last_error.clone(),
        unavailable: info.health.unavailable.clone(),
        warnings: warnings(&info.health),
        scheduling: info.settings.scheduling,
    }
}

fn warnings(health: &CollectorHealth) -> Vec<String> {
    let failing = health.failing.iter().map(|one| one.error.clone());
    let overload = health.overload.iter().map(ToString::to_string);
    failing.chain(overload).chain(health.refused_scheduling.as_deref().map(refused_scheduling)).collect()
}

fn check(
    name: &str,
    interval: Duration,
    families: &[FamilyId],
    force: bool,
    others: &[CollectorSettings],
) -> Result<CollectorSettings, OperatorError> {
    let names: Vec<&str> = families.iter().map(|family| family.name()).collect();
    check_collector(name, interval, &names, force, others).map_err(|CollectorError { field, message, conflict }| {
        match field {
            CollectorField::Name if conflict => OperatorError::AlreadyExists(message),
            _ if conflict => OperatorError::FailedPrecondition(message),
            CollectorField::Name => OperatorError::InvalidArgument { field: "name", message },
            CollectorField::Interval => OperatorError::InvalidArgument { field: "interval", message },
            CollectorField::Metrics | CollectorField::Metric(_) => {
                OperatorError::InvalidArgument { field: "families", message }
            }
        }
    })
}

impl From<CollectorsError> for OperatorError {
    fn from(error: CollectorsError) -> OperatorError {
        let message = error.to_string();
        match error {
            CollectorsError::Exists(_) => OperatorError::AlreadyExists(message),
            CollectorsError::Missing { .. } => OperatorError::NotFound(message),
            CollectorsError::Taken { .. } | CollectorsError::Full => OperatorError::FailedPrecondition(message),
            CollectorsError::Thread { .. } => OperatorError::Internal(message),
            CollectorsError::Stopping => OperatorError::Unavailable(message),
        }
    }
}
