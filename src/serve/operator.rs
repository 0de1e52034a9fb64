//! The daemon as the control API sees it.

use std::path::PathBuf;
use std::time::Duration;

use arrow::array::RecordBatch;

use crate::alert::status::RuleStatus;
use crate::collector::{CollectorError, CollectorStatus, RetuneCollector, StartCollector};
use crate::export::prometheus::Format;
use crate::family::FamilyId;
use crate::query::workers::WorkersStatus;
use crate::sampler::Totals;
use crate::store::{Flushed, StoreStats};

/// What the daemon answers.
pub type Answer<T> = Result<T, OperatorError>;

/// What the control API asks of the daemon.
///
/// Requests are as clients sent them, apart from their form: the operator checks them against the rules and against its
/// own state. Every method may be called from many tasks at once. A client that goes away drops the future; a change that
/// was begun is then still completed or not made at all.
///
/// While the daemon starts or stops, an answer may be [`OperatorError::Unavailable`].
pub trait Operator: Send + Sync + 'static {
    /// Starts a collector.
    ///
    /// # Errors
    /// [`OperatorError::Collector`] when there can be no such collector.
    fn start_collector(&self, start: StartCollector) -> impl Future<Output = Answer<CollectorStatus>> + Send;

    /// Stops a collector, waits for its thread, and returns its last status.
    ///
    /// # Errors
    /// [`OperatorError::NotFound`] when none of that name runs; [`OperatorError::Hanging`] if it stops only once a read returns.
    fn stop_collector(&self, name: &str) -> impl Future<Output = Answer<CollectorStatus>> + Send;

    /// Changes interval, families or scheduling of a running collector.
    ///
    /// # Errors
    /// [`OperatorError::NotFound`] when none of that name runs; [`OperatorError::Hanging`] if it changes only once a read
    /// returns; else as for [`start_collector`](Self::start_collector).
    fn retune_collector(&self, retune: RetuneCollector) -> impl Future<Output = Answer<CollectorStatus>> + Send;

    /// The collectors that run, in the order of their names.
    fn list_collectors(&self) -> impl Future<Output = Answer<Vec<CollectorStatus>>> + Send;

    /// The newest rows of each family of a collector, in the schema of [`Table::schema`](crate::record::Table::schema).
    /// They may be of several ticks. A family without rows is left out or has an empty batch.
    ///
    /// # Errors
    /// [`OperatorError::NotFound`] when none of that name runs.
    fn latest(&self, collector: &str) -> impl Future<Output = Answer<Vec<(FamilyId, RecordBatch)>>> + Send;

    /// The newest value of every series, as text for Prometheus.
    fn metrics(&self, format: Format) -> impl Future<Output = Answer<String>> + Send;

    /// What the daemon is and does.
    fn status(&self) -> impl Future<Output = Answer<DaemonStatus>> + Send;

    /// Writes all rows in memory to files and waits until these are published.
    ///
    /// # Errors
    /// [`OperatorError::Internal`] with the reason when a file could not be written.
    fn flush(&self) -> impl Future<Output = Answer<Flushed>> + Send;

    /// The alert rules with their states, in the order of the configuration.
    fn alerts(&self) -> impl Future<Output = Answer<Vec<RuleStatus>>> + Send;
}

/// Why the daemon did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// The thing does not exist. The text names it.
    #[error("{0}")]
    NotFound(String),
    /// A collector cannot be what it was asked to be.
    #[error(transparent)]
    Collector(#[from] CollectorError),
    /// A read hangs in the collector. It changes once that returns.
    #[error("{0}")]
    Hanging(String),
    /// The daemon is busy, starting or stopping.
    #[error("{0}")]
    Unavailable(String),
    /// It was tried and failed.
    #[error("{0}")]
    Internal(String),
}

/// What the daemon is and does. Counts are since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DaemonStatus {
    /// The host's name, as in the `host=` partitions.
    pub host: String,
    /// When the daemon was started, µs since the epoch.
    pub started_at_us: i64,
    /// How long it has been running.
    pub uptime: Duration,
    /// The data folder.
    pub data_dir: PathBuf,
    /// Memory and files.
    pub store: StoreStats,
    /// The collectors that run.
    pub collectors: Vec<CollectorStatus>,
    /// What collectors that were stopped had missed and dropped.
    pub retired: Totals,
    /// Sockets that the daemon listens on, and their purpose.
    pub listeners: Vec<(&'static str, String)>,
    /// Problems, in sentences; empty when all is well.
    pub degraded: Vec<String>,
    /// What the start found in the data folder, in sentences.
    pub found_at_start: Vec<String>,
    /// What kymo sees of its own namespaces instead of the host, in sentences.
    pub foreign: Vec<String>,
    /// The alert rules that cannot fire, because no collector records their table, in sentences.
    pub silent_alerts: Vec<String>,
    /// The processes that run queries.
    pub workers: WorkersStatus,
    /// Notifications given up.
    pub lost_notifications: u64,
    /// Exports that did not reach their endpoint.
    pub lost_exports: u64,
}
