//! The daemon as the control API sees it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::RecordBatch;

use crate::family::FamilyId;
#[cfg(doc)]
use crate::sampler::INTERVAL_MAX;
use crate::sampler::Scheduling;
use crate::sampler::health::Unavailable;

/// What the control API asks of the daemon.
///
/// Names and numbers that can be judged without the daemon's state are checked before these methods are called;
/// what they check themselves is said at each. Every method may be called from many tasks at once, and the returned
/// futures may be dropped when a client goes away: a change that was begun is then still completed or left undone as
/// a whole.
pub trait Operator: Send + Sync + 'static {
    /// Starts a collector.
    ///
    /// # Errors
    /// [`OperatorError::AlreadyExists`] when one of that name runs; [`OperatorError::FailedPrecondition`] when another
    /// collector has one of the families; [`OperatorError::InvalidArgument`] when the name has a wrong form, or the
    /// interval is shorter than any collector's may be or, unless `force` is set, than a family allows.
    fn start_collector(
        &self,
        start: StartCollector,
    ) -> impl Future<Output = Result<CollectorStatus, OperatorError>> + Send;

    /// Stops a collector, waits for its thread, and says what it had done.
    ///
    /// # Errors
    /// [`OperatorError::NotFound`] when none of that name runs.
    fn stop_collector(&self, name: &str) -> impl Future<Output = Result<CollectorStatus, OperatorError>> + Send;

    /// Changes interval, families or both of a running collector.
    ///
    /// # Errors
    /// [`OperatorError::NotFound`] when none of that name runs, else as for
    /// [`start_collector`](Self::start_collector).
    fn retune_collector(
        &self,
        retune: RetuneCollector,
    ) -> impl Future<Output = Result<CollectorStatus, OperatorError>> + Send;

    /// The collectors that run, in the order of their names.
    ///
    /// # Errors
    /// [`OperatorError::Unavailable`] while the daemon starts or stops.
    fn list_collectors(&self) -> impl Future<Output = Result<Vec<CollectorStatus>, OperatorError>> + Send;

    /// For each family of a collector the newest rows, in the schema of [`Table::schema`](crate::record::Table::schema).
    /// They may be of several ticks; a family that has no rows yet is left out or has an empty batch.
    ///
    /// # Errors
    /// [`OperatorError::NotFound`] when none of that name runs.
    fn latest(
        &self,
        collector: &str,
    ) -> impl Future<Output = Result<Vec<(FamilyId, RecordBatch)>, OperatorError>> + Send;

    /// What the daemon is and how it does.
    ///
    /// # Errors
    /// [`OperatorError::Unavailable`] while the daemon starts or stops.
    fn status(&self) -> impl Future<Output = Result<DaemonStatus, OperatorError>> + Send;

    /// Writes everything that is in memory only to files, and waits until they are published.
    ///
    /// # Errors
    /// [`OperatorError::Internal`] with the reason when a file could not be written.
    fn flush(&self) -> impl Future<Output = Result<Flushed, OperatorError>> + Send;

    /// The alert rules with their states, in the order of the configuration.
    ///
    /// # Errors
    /// [`OperatorError::Unavailable`] while the daemon starts or stops.
    fn alerts(&self) -> impl Future<Output = Result<Vec<AlertStatus>, OperatorError>> + Send;
}

/// Why the daemon did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// The thing does not exist. The text names it.
    #[error("{0}")]
    NotFound(String),
    /// The thing exists. The text names it.
    #[error("{0}")]
    AlreadyExists(String),
    /// The request was wrong whatever the daemon's state.
    #[error("{field}: {message}")]
    InvalidArgument {
        /// The field of [`StartCollector`] or [`RetuneCollector`] at fault, such as `interval`.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        message: String,
    },
    /// The daemon's state does not allow it now.
    #[error("{0}")]
    FailedPrecondition(String),
    /// The daemon is starting or stopping.
    #[error("{0}")]
    Unavailable(String),
    /// It was tried and failed.
    #[error("{0}")]
    Internal(String),
}

/// A collector to start.
#[derive(Clone, Debug)]
pub struct StartCollector {
    /// Its name, not empty.
    pub name: String,
    /// The time between two ticks: above zero, whole microseconds, at most [`INTERVAL_MAX`].
    pub interval: Duration,
    /// What it samples: at least one, each once, none internal.
    pub families: Vec<FamilyId>,
    /// Whether intervals shorter than [`interval_min`](crate::family::Sampling::interval_min) are allowed.
    pub force: bool,
    /// How its thread is scheduled.
    pub scheduling: Scheduling,
}

/// A collector to change. At least one of `interval`, `families` and `scheduling` is given.
#[derive(Clone, Debug)]
pub struct RetuneCollector {
    /// Its name, not empty.
    pub name: String,
    /// The new interval, as in [`StartCollector`].
    pub interval: Option<Duration>,
    /// The new families, as in [`StartCollector`].
    pub families: Option<Vec<FamilyId>>,
    /// As in [`StartCollector`].
    pub force: bool,
    /// The new scheduling, as in [`StartCollector`].
    pub scheduling: Option<Scheduling>,
}

/// A collector and what it has done since it was started or last retuned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorStatus {
    /// Its name.
    pub name: String,
    /// The time between two ticks.
    pub interval: Duration,
    /// Names of the families it samples.
    pub families: Vec<&'static str>,
    /// When it was started or last retuned, µs since the epoch.
    pub running_since_us: i64,
    /// Ticks that the clock called for.
    pub scheduled_ticks: i64,
    /// Ticks taken.
    pub ticks: i64,
    /// Ticks skipped because the thread was late.
    pub missed_ticks: i64,
    /// Records that went into the rings.
    pub pushed_records: i64,
    /// Records that found their ring full.
    pub dropped_records: i64,
    /// Times that a family could not be read.
    pub failed_reads: i64,
    /// Why, the last time.
    pub last_error: Option<String>,
    /// Families that it does not sample, as the host lacks what they read.
    pub unavailable: Vec<Unavailable>,
    /// What someone should look at, in sentences.
    pub warnings: Vec<String>,
    /// How its thread is to be scheduled.
    pub scheduling: Scheduling,
}

/// What the daemon is and how it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonStatus {
    /// The host's name, as in the `host=` partitions.
    pub host: String,
    /// When the daemon was started, µs since the epoch.
    pub started_at_us: i64,
    /// How long it runs.
    pub uptime: Duration,
    /// The data folder.
    pub data_dir: PathBuf,
    /// Memory and files.
    pub store: StoreStatus,
    /// The collectors that run.
    pub collectors: Vec<CollectorStatus>,
    /// Sockets that the daemon listens on, with what each is for.
    pub listeners: Vec<(&'static str, SocketAddr)>,
    /// What is wrong, in sentences; empty when all is well.
    pub degraded: Vec<String>,
    /// What the start found in the data folder, in sentences.
    pub found_at_start: Vec<String>,
    /// What was lost since the start.
    pub losses: Losses,
}

/// The store's sizes, and its counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Rows in memory only.
    pub hot_rows: u64,
    /// Memory that they take.
    pub hot_bytes: u64,
    /// Parquet files.
    pub files: u64,
    /// Their size.
    pub file_bytes: u64,
    /// Flushes that published what they had.
    pub flushes: u64,
    /// Flushes that failed.
    pub failed_flushes: u64,
    /// Size of the journal.
    pub journal_bytes: u64,
}

/// What was lost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Ticks not taken though they were due, of all collectors, stopped ones too.
    pub missed_ticks: u64,
    /// Records that found their ring full, of all collectors, stopped ones too.
    pub dropped_records: u64,
    /// Rows dropped because memory was full.
    pub lost_rows: u64,
    /// Notifications given up.
    pub lost_notifications: u64,
    /// Exports that did not reach their endpoint.
    pub lost_exports: u64,
}

/// What a flush wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Files published.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
}

/// An alert rule and how it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertStatus {
    /// The name.
    pub name: String,
    /// The table whose rows it is evaluated on.
    pub table: &'static str,
    /// The condition as a SQL expression.
    pub condition: String,
    /// How long the condition must hold before the alert fires.
    pub hold: Duration,
    /// How many series have the condition holding, but not for long enough yet.
    pub pending: u64,
    /// How many series are firing.
    pub firing: u64,
    /// Labels of the firing series; not all are listed when there are many.
    pub firing_series: Vec<Vec<(&'static str, String)>>,
    /// How often it fired since the start.
    pub fired: u64,
    /// How often it resolved since the start.
    pub resolved: u64,
    /// Who is told.
    pub notify: Vec<String>,
}
