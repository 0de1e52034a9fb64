//! SQL over memory and files, with a bound on everything a query can take.
//!
//! An [`Engine`] plans each statement over one [`View`], so all tables of a query are of one moment and each record
//! is seen once. Queries run on threads of their own, at low priority, and hand their batches over a short queue:
//! neither a slow query nor a slow reader holds up recording.

mod course;
pub mod function;
pub mod guard;
mod session;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::execution::session_state::SessionState;
use futures::StreamExt;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::family::FAMILIES;
use crate::sampler;
use crate::store::View;
use guard::GuardError;
use session::Session;

pub use session::{CATALOG, SCHEMA};
pub use stream::QueryStream;
pub use wire::wire_schema;

/// Where a query gets its view: the store's newest, or one read from disk. Called on the threads of queries, where it may
/// wait for the newest rows.
pub type ViewSource = Arc<dyn Fn() -> Arc<View> + Send + Sync>;

/// Threads that run queries, however many CPUs there are: recording comes first.
const THREADS_MAX: usize = 4;
/// With one thread, a query that computes for long without a pause would also hold up the clock of its time limit.
const THREADS_MIN: usize = 2;
/// Added to the niceness of the query threads.
const NICENESS: i32 = 10;
/// Stack of a query thread. Only what is used takes memory.
const STACK_BYTES: usize = 8 << 20;
/// A query waits this long for a running one to end before it is told that there are too many.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What a query may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuerySettings {
    /// Memory that one query may hold for sorting, grouping and joining. Nothing spills to disk.
    pub memory_bytes_max: usize,
    /// Wall time from the start of planning to the last row read.
    pub time_max: Duration,
    /// Rows in one result.
    pub rows_max: Option<u64>,
    /// Queries that run at the same time.
    pub concurrent_max: usize,
    /// Length of a statement.
    pub sql_bytes_max: usize,
}

impl Default for QuerySettings {
    fn default() -> QuerySettings {
        QuerySettings {
            memory_bytes_max: 256 << 20,
            time_max: Duration::from_secs(60),
            rows_max: None,
            concurrent_max: 4,
            sql_bytes_max: 256 << 10,
        }
    }
}

/// Why there is no result, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is not one that kymo answers.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// It reads a table that does not exist.
    #[error("there is no table {name}; the tables are {}", table_names())]
    UnknownTable {
        /// Its name as written.
        name: String,
    },
    /// The planner does not understand it: a column or function that does not exist, types that do not fit.
    #[error("the query cannot be planned: {0}")]
    Invalid(String),
    /// It failed over the data, such as by dividing by zero.
    #[error("the query failed: {0}")]
    Failed(String),
    /// It needed more memory than it may have.
    #[error(
        "the query needs more than {bytes_max} bytes of memory (setting `query.memory_bytes_max`): choose a shorter time \
         range or fewer groups, or raise it ({detail})"
    )]
    Memory {
        /// What is allowed.
        bytes_max: usize,
        /// Which part of the plan asked for how much.
        detail: String,
    },
    /// It took too long.
    #[error(
        "the query took longer than {} s (setting `query.time_max`): choose a shorter time range, or raise it",
        time_max.as_secs_f64()
    )]
    Time {
        /// What is allowed.
        time_max: Duration,
    },
    /// The result has too many rows.
    #[error("the result has more than {rows_max} rows (setting `query.rows_max`): aggregate, add a LIMIT, or raise it")]
    Rows {
        /// What is allowed.
        rows_max: u64,
    },
    /// Too many queries run already.
    #[error(
        "{concurrent_max} queries are running and none ended within {} s (setting `query.concurrent_max`): try again \
         later, or raise it",
        WAIT_MAX.as_secs()
    )]
    Busy {
        /// How many may run.
        concurrent_max: usize,
    },
    /// The engine went away while the query ran.
    #[error("the query was stopped because kymo is shutting down")]
    Stopped,
    /// A fault of kymo.
    #[error("the query ended by a fault in kymo: {0}")]
    Panicked(String),
    /// The engine cannot be made.
    #[error("start the query engine: {0}")]
    Start(String),
}

impl QueryError {
    fn invalid(error: DataFusionError) -> QueryError {
        QueryError::Invalid(error.strip_backtrace())
    }

    fn failed(error: &DataFusionError, memory_bytes_max: usize) -> QueryError {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(detail) => {
                QueryError::Memory { bytes_max: memory_bytes_max, detail: detail.clone() }
            }
            root => QueryError::Failed(root.strip_backtrace()),
        }
    }

    fn shape(error: &ArrowError) -> QueryError {
        QueryError::Failed(format!("bring a batch into the shape of the result: {error}"))
    }
}

fn table_names() -> String {
    FAMILIES.iter().map(crate::family::Family::name).collect::<Vec<_>>().join(", ")
}

/// A statement that was understood.
#[derive(Clone, Debug)]
pub struct Prepared {
    schema: SchemaRef,
}

impl Prepared {
    /// The schema of its result, whenever it is executed.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// Plans and runs queries. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    views: ViewSource,
    settings: QuerySettings,
    shared: Arc<SessionState>,
    running: Arc<Semaphore>,
    begun: AtomicU64,
    threads: Threads,
}

/// The threads of queries.
struct Threads {
    handle: Handle,
    /// Taken when dropped only.
    runtime: Option<Runtime>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        // An ordinary drop waits for the threads, which is not allowed on a thread that runs async tasks.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("settings", &self.inner.settings).field("begun", &self.begun()).finish()
    }
}

impl Engine {
    /// An engine with threads of its own, over the views that `views` gives.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(views: ViewSource, settings: QuerySettings) -> Result<Engine, QueryError> {
        let cpus = std::thread::available_parallelism().map_or(THREADS_MIN, usize::from);
        let count = cpus.clamp(THREADS_MIN, THREADS_MAX);
        // Absolute, because a thread starts with the niceness of the thread that starts it.
        let niceness = rustix::process::getpriority_process(None).unwrap_or(0) + NICENESS;
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            // Files are read on these; more would only wait for the same disk.
            .max_blocking_threads(2 * count)
            .thread_name("kymo-query")
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(move || set_niceness(niceness))
            .enable_time()
            .build()
            .map_err(|error| QueryError::Start(error.to_string()))?;
        let shared = session::shared(count).map_err(|error| QueryError::Start(error.strip_backtrace()))?;
        let threads = Threads { handle: runtime.handle().clone(), runtime: Some(runtime) };
        let running = Arc::new(Semaphore::new(settings.concurrent_max));
        let inner = Inner { views, settings, shared: Arc::new(shared), running, begun: AtomicU64::new(0), threads };
        Ok(Engine { inner: Arc::new(inner) })
    }

    /// What a query may take.
    #[must_use]
    pub fn settings(&self) -> &QuerySettings {
        &self.inner.settings
    }

    /// Queries that began to run since the engine was made; those that failed count too.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.inner.begun.load(Ordering::Relaxed)
    }

    /// Plans a statement without running it.
    ///
    /// # Errors
    /// When it is refused, not understood, or planning meets a limit.
    pub async fn prepare(&self, sql: &str) -> Result<Prepared, QueryError> {
        let (schema, told) = oneshot::channel();
        let job = self.job(sql).await?;
        let mut task = self.spawn(async move {
            // The plan's schema does not depend on the rows there are.
            let session = job.session(Arc::new(View::empty()))?;
            let plan = session.plan(guard::check(&job.sql, job.settings.sql_bytes_max)?).await?;
            // Nobody listens when the caller went away.
            let _ = schema.send(wire_schema(plan.schema().as_arrow()));
            Ok(())
        });
        Ok(Prepared { schema: first(told, &mut task).await? })
    }

    /// Runs a statement over the newest view.
    ///
    /// The result's batches are made while they are read, [`QueryStream`] tells how it went on.
    ///
    /// # Errors
    /// When it is refused, not understood, or meets a limit before its first row.
    pub async fn execute(&self, sql: &str) -> Result<QueryStream, QueryError> {
        let (schema, told) = oneshot::channel();
        let (batches, received) = mpsc::channel(stream::BATCHES_AHEAD_MAX);
        let job = self.job(sql).await?;
        self.inner.begun.fetch_add(1, Ordering::Relaxed);
        let mut task = self.spawn(run(job, schema, batches));
        let schema = first(told, &mut task).await?;
        Ok(QueryStream::new(schema, received, task))
    }

    /// What a query needs, once there is a place for it.
    async fn job(&self, sql: &str) -> Result<Job, QueryError> {
        let inner = &self.inner;
        let busy = QueryError::Busy { concurrent_max: inner.settings.concurrent_max };
        let waiting = Arc::clone(&inner.running).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout(WAIT_MAX, waiting).await else { return Err(busy) };
        Ok(Job {
            sql: sql.into(),
            settings: inner.settings,
            shared: Arc::clone(&inner.shared),
            views: Arc::clone(&inner.views),
            _place: place,
        })
    }

    /// Runs `work` on the query threads, for as long as a query may take. Dropping the set ends it.
    fn spawn(
        &self,
        work: impl Future<Output = Result<(), QueryError>> + Send + 'static,
    ) -> JoinSet<Result<(), QueryError>> {
        let time_max = self.inner.settings.time_max;
        let mut watcher = JoinSet::new();
        watcher.spawn_on(
            async move {
                // In a task of its own, so that the clock goes on while it computes.
                let mut worker = JoinSet::new();
                worker.spawn(work);
                match tokio::time::timeout(time_max, worker.join_next()).await {
                    Ok(ended) => stream::outcome(ended),
                    Err(_) => Err(QueryError::Time { time_max }),
                }
            },
            &self.inner.threads.handle,
        );
        watcher
    }
}

/// The schema that a task tells first, or why it ended without.
async fn first(
    told: oneshot::Receiver<SchemaRef>,
    task: &mut JoinSet<Result<(), QueryError>>,
) -> Result<SchemaRef, QueryError> {
    let mut told = told;
    tokio::select! {
        biased;
        Ok(schema) = &mut told => Ok(schema),
        ended = task.join_next() => {
            stream::outcome(ended)?;
            told.try_recv().map_err(|_| QueryError::Stopped)
        }
    }
}

/// One query with all it needs.
struct Job {
    sql: String,
    settings: QuerySettings,
    shared: Arc<SessionState>,
    views: ViewSource,
    /// Freed when the query has ended, also when it was given up earlier.
    _place: OwnedSemaphorePermit,
}

impl Job {
    fn session(&self, view: Arc<View>) -> Result<Session, QueryError> {
        Session::new(&self.shared, view, self.settings.memory_bytes_max, sampler::wall_us())
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &DataFusionError) -> QueryError {
        QueryError::failed(error, self.settings.memory_bytes_max)
    }
}

async fn run(
    job: Job,
    told: oneshot::Sender<SchemaRef>,
    batches: mpsc::Sender<arrow::array::RecordBatch>,
) -> Result<(), QueryError> {
    let statement = guard::check(&job.sql, job.settings.sql_bytes_max)?;
    // Held to the end: files in it are not deleted before.
    let view = tokio::task::block_in_place(|| (job.views)());
    let session = job.session(view)?;
    let plan = session.plan(statement).await?;
    let schema = wire_schema(plan.schema().as_arrow());
    let mut rows = session.execute(&plan).await.map_err(|error| job.failed(&error))?;
    let mut rows_left = job.settings.rows_max;
    // The result is not read any more when its reader is gone.
    if told.send(Arc::clone(&schema)).is_err() {
        return Ok(());
    }
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|error| job.failed(&error))?;
        if batch.num_rows() == 0 {
            continue;
        }
        if let Some(left) = &mut rows_left {
            let rows_max = job.settings.rows_max.unwrap_or_default();
            *left = left.checked_sub(batch.num_rows() as u64).ok_or(QueryError::Rows { rows_max })?;
        }
        let batch = wire::to_wire(&batch, &schema).map_err(|error| QueryError::shape(&error))?;
        if batches.send(batch).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Sets the calling thread's niceness. Where that is refused, queries run at ordinary priority.
fn set_niceness(niceness: i32) {
    // On Linux, the priority set for "this process" is that of the calling thread alone.
    let _ = rustix::process::setpriority_process(None, niceness);
}
