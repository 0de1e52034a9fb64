//! SQL over memory and files, with a limit on everything that a query uses.
//!
//! An [`Engine`] plans each statement over one [`View`]. All tables of a query are therefore of one moment, and the query
//! sees each row once. Queries run on their own threads and pass batches through a short queue. The daemon has them run
//! in other processes, its [`Workers`](workers::Workers), so neither a slow query nor a slow reader delays recording.

pub mod about;
pub mod asked;
mod catalog;
pub mod cells;
mod circular;
mod correlated;
mod dialect;
mod downsample;
mod emptiness;
mod error;
mod existence;
mod file;
mod fixed;
mod function;
pub mod guard;
mod hint;
pub mod history;
mod hosts;
mod ignored;
pub mod ipc;
mod long_limit;
mod membership;
pub mod named;
mod nesting;
mod operator;
mod origin;
mod padded;
mod parameters;
mod place;
mod push_down;
mod refusal;
pub mod request;
pub mod room;
mod rows;
mod series;
mod session;
mod slab;
mod sort_keys;
mod spill;
pub mod sql_view;
pub mod statements;
mod stream;
mod table;
mod tables;
pub mod tail;
#[cfg(test)]
mod tests;
mod texts;
mod tool;
pub mod vocabulary;
mod wire;
pub mod worker;
pub mod workers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{DataFusionError, ParamValues};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::sampler;
use crate::store::View;
use asked::Asked;
use error::WAIT_MAX;
#[cfg(test)]
use request::Moment;
use request::Request;
use rows::{NoRows, RowSource};
use session::{Session, Sessions};
use spill::SpillSettings;
use sql_view::SqlViews;

pub use error::{ErrorKind, QueryError};
pub use origin::metadata;
pub use place::{CATALOG, DOWNSAMPLE, INFORMATION_SCHEMA, SCHEMA};
pub use stream::QueryStream;
pub use wire::wire_schema;

/// Gives a query its view: the newest one of the store, or one read from disk. [`Workers`](workers::Workers) call it on a thread
/// that may wait.
pub type ViewSource = Arc<dyn Fn() -> Arc<View> + Send + Sync>;

/// Query threads, on a host with many CPUs.
const THREADS_MAX: usize = 4;
/// On a single thread, a query that computes without a pause would also delay its own time limit.
const THREADS_MIN: usize = 2;
/// A thread that has started stays: where a query has taken all memory, no other can start.
const KEPT_ALIVE: Duration = Duration::from_secs(1 << 32);
/// Stack of a query thread. Only the used part takes memory.
const STACK_BYTES: usize = 8 << 20;

/// Limits of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuerySettings {
    /// Memory of one query. Its process may take some more, for planning and for its threads.
    pub memory_bytes_max: usize,
    /// Disk of one query, for sorts and joins that need more memory than that; 0 for none.
    pub spill_bytes_max: u64,
    /// Wall time from the start of planning to the last row read.
    pub time_max: Duration,
    /// Rows in one result.
    pub rows_max: Option<u64>,
    /// Queries that run at the same time.
    pub concurrent_max: usize,
    /// Length of a statement.
    pub sql_bytes_max: usize,
    /// Size of a message of a result. Only a result with very long values reaches it.
    pub message_bytes_max: usize,
}

impl Default for QuerySettings {
    fn default() -> QuerySettings {
        QuerySettings {
            memory_bytes_max: 256 << 20,
            spill_bytes_max: 1 << 30,
            time_max: Duration::from_secs(60),
            rows_max: None,
            concurrent_max: 4,
            sql_bytes_max: 256 << 10,
            message_bytes_max: 16 << 20,
        }
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
    sessions: Arc<Sessions>,
    running: Arc<Semaphore>,
    begun: AtomicU64,
    /// Of the query threads.
    handle: Handle,
    /// Taken when dropped only.
    runtime: Option<Runtime>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // An ordinary drop waits for the threads. A thread that runs async tasks must not wait.
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
    /// An engine over the views that `views` gives. It starts its own threads.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(views: ViewSource, settings: QuerySettings) -> Result<Engine, QueryError> {
        let cpus = std::thread::available_parallelism().map_or(THREADS_MIN, usize::from);
        Engine::whole(views, settings, None, cpus, Arc::default())
    }

    /// An engine whose queries may spill to files and use views, on a host with so many CPUs.
    fn whole(
        views: ViewSource,
        settings: QuerySettings,
        spill: Option<SpillSettings>,
        cpus: usize,
        sql_views: SqlViews,
    ) -> Result<Engine, QueryError> {
        let count = cpus.clamp(THREADS_MIN, THREADS_MAX);
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            // Files are read on these; more would only wait for the same disk.
            .max_blocking_threads(2 * count)
            .thread_keep_alive(KEPT_ALIVE)
            .thread_name("kymo-query")
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .build()
            .map_err(|error| QueryError::Start(error.to_string()))?;
        let sessions = Sessions::new(count, settings.memory_bytes_max, spill, sql_views)
            .map_err(|error| QueryError::Start(error.strip_backtrace()))?;
        start_all(&runtime, 2 * count);
        let inner = Inner {
            views,
            settings,
            sessions: Arc::new(sessions),
            running: Arc::new(Semaphore::new(settings.concurrent_max)),
            begun: AtomicU64::new(0),
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        };
        Ok(Engine { inner: Arc::new(inner) })
    }

    fn settings(&self) -> QuerySettings {
        self.inner.settings
    }

    /// Number of queries that began to run, failed ones included.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.inner.begun.load(Ordering::Relaxed)
    }

    /// Plans a statement without running it.
    ///
    /// # Errors
    /// When the statement is refused or not valid, or planning reaches a limit.
    pub async fn prepare(&self, request: impl Into<Request>) -> Result<Prepared, QueryError> {
        let (prepared, told) = oneshot::channel();
        let job = self.job(request.into()).await?;
        let mut task = self.spawn(async move {
            // The plan's schema does not depend on the rows there are.
            let session = job.session(Arc::new(NoRows))?;
            let plan =
                session.plan(guard::check(&job.request.sql, job.settings.sql_bytes_max)?, &job.request.sql).await?;
            let result = job.prepared(&session, plan).await?;
            job.sessions.give_back(session);
            // This fails if the caller has gone.
            let _ = prepared.send(result);
            Ok(())
        });
        first(told, &mut task).await
    }

    /// Runs a statement over the newest view.
    ///
    /// Batches are computed while the result is read. [`QueryStream`] gives later errors.
    ///
    /// # Errors
    /// When the statement is refused or not valid, or reaches a limit before its first row.
    pub async fn execute(&self, request: impl Into<Request>) -> Result<QueryStream, QueryError> {
        self.begin(request.into(), None).await
    }

    /// Runs a statement over the rows that `rows` gives.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    async fn execute_over(&self, request: Request, rows: Arc<dyn RowSource>) -> Result<QueryStream, QueryError> {
        self.begin(request, Some(rows)).await
    }

    /// An engine for tests whose queries may use views.
    #[cfg(test)]
    pub(crate) fn with_sql_views(
        views: ViewSource,
        settings: QuerySettings,
        sql_views: SqlViews,
    ) -> Result<Engine, QueryError> {
        Engine::whole(views, settings, None, THREADS_MIN, sql_views)
    }

    /// The views that statements may use like tables.
    #[cfg(test)]
    fn sql_views(&self) -> &SqlViews {
        self.inner.sessions.views()
    }

    /// The rows as they are now.
    #[cfg(test)]
    fn moment(&self) -> Moment {
        Moment { view: (self.inner.views)(), now_us: sampler::wall_us() }
    }

    /// Tasks of queries that have not ended.
    fn tasks(&self) -> usize {
        self.inner.handle.metrics().num_alive_tasks()
    }

    async fn begin(&self, request: Request, rows: Option<Arc<dyn RowSource>>) -> Result<QueryStream, QueryError> {
        let (schema, told) = oneshot::channel();
        let (batches, received) = mpsc::channel(stream::BATCHES_AHEAD_MAX);
        let job = self.job(request).await?;
        self.inner.begun.fetch_add(1, Ordering::Relaxed);
        let mut task = self.spawn(run(job, rows, schema, batches));
        let schema = first(told, &mut task).await?;
        Ok(QueryStream { schema, batches: received, task, done: false })
    }

    /// All that a query needs, as soon as it may run.
    async fn job(&self, request: Request) -> Result<Job, QueryError> {
        let inner = &self.inner;
        let busy = QueryError::Busy(inner.settings.concurrent_max);
        let waiting = Arc::clone(&inner.running).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout(WAIT_MAX, waiting).await else { return Err(busy) };
        Ok(Job {
            request,
            settings: inner.settings,
            sessions: Arc::clone(&inner.sessions),
            views: Arc::clone(&inner.views),
            _place: place,
        })
    }

    /// Runs `work` on the query threads, within the time limit of a query. Dropping the set ends the work.
    fn spawn(
        &self,
        work: impl Future<Output = Result<(), QueryError>> + Send + 'static,
    ) -> JoinSet<Result<(), QueryError>> {
        let time_max = self.inner.settings.time_max;
        let mut watcher = JoinSet::new();
        watcher.spawn_on(
            async move {
                // A separate task, so that the clock runs while the query computes.
                let mut running = JoinSet::new();
                running.spawn(work);
                match tokio::time::timeout(time_max, running.join_next()).await {
                    Ok(ended) => stream::outcome(ended),
                    Err(_) => Err(QueryError::Time(time_max)),
                }
            },
            &self.inner.handle,
        );
        watcher
    }
}

/// What is known of a statement before it runs.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The schema of its result, which is the same at each execution. A parameter without a value may change types in it.
    pub schema: SchemaRef,
    /// Its parameters with the types that the plan expects, `$1` first.
    pub parameters: SchemaRef,
}

/// What a task sends first, or the error that it ended with before.
async fn first<T>(mut told: oneshot::Receiver<T>, task: &mut JoinSet<Result<(), QueryError>>) -> Result<T, QueryError> {
    tokio::select! {
        biased;
        Ok(first) = &mut told => Ok(first),
        ended = task.join_next() => {
            stream::outcome(ended)?;
            told.try_recv().map_err(|_| QueryError::Stopped)
        }
    }
}

/// One query with all that it needs.
struct Job {
    request: Request,
    settings: QuerySettings,
    sessions: Arc<Sessions>,
    views: ViewSource,
    /// Held until the query has ended, even if its reader left earlier.
    _place: OwnedSemaphorePermit,
}

impl Job {
    fn session(&self, rows: Arc<dyn RowSource>) -> Result<Session, QueryError> {
        let failed = |error: DataFusionError| QueryError::failed(&error, self.settings.memory_bytes_max);
        let now_us = self.request.moment.as_ref().map_or_else(sampler::wall_us, |moment| moment.now_us);
        self.sessions.take(rows, now_us, self.request.options.schema_name()).map_err(failed)
    }

    /// The rows of the request's moment, or the newest ones.
    fn view(&self) -> Arc<View> {
        self.request.moment.as_ref().map_or_else(|| (self.views)(), |moment| Arc::clone(&moment.view))
    }

    /// The schema in which the rows of a plan are sent: an optimized one, and the one that it was made from.
    fn schema(&self, optimized: &LogicalPlan, plan: &LogicalPlan) -> SchemaRef {
        let nanoseconds = self.request.options.nanoseconds;
        wire_schema(optimized.schema().as_arrow(), &origin::origins(plan), nanoseconds)
    }

    async fn prepared(&self, session: &Session, plan: LogicalPlan) -> Result<Prepared, QueryError> {
        let types = parameters::types(&plan).map_err(QueryError::invalid)?;
        let parameters = parameters::schema(&types);
        if self.request.parameters.is_empty() && !types.is_empty() {
            return Ok(Prepared { schema: self.schema_without_values(session, &plan, &types)?, parameters });
        }
        let bound = parameters::bind(&types, &self.request.parameters).await?;
        let Some(values) = bound.rows.first() else {
            return Ok(Prepared { schema: self.schema_without_values(session, &plan, &types)?, parameters });
        };
        let plan = with_values(&plan, values)?;
        let optimized = session.optimize(&plan).map_err(|error| bound.blame(error))?;
        Ok(Prepared { schema: self.schema(&optimized, &plan), parameters })
    }

    /// The schema of a plan whose parameters have no values.
    fn schema_without_values(
        &self,
        session: &Session,
        plan: &LogicalPlan,
        types: &[Option<DataType>],
    ) -> Result<SchemaRef, QueryError> {
        let nulls = parameters::nulls(types).map_err(QueryError::invalid)?;
        let plan = with_values(plan, &nulls)?;
        // What a null is refused for, a value need not be.
        let optimized = session.optimize(&plan);
        Ok(self.schema(optimized.as_ref().unwrap_or(&plan), &plan))
    }
}

async fn run(
    job: Job,
    rows: Option<Arc<dyn RowSource>>,
    told: oneshot::Sender<SchemaRef>,
    batches: mpsc::Sender<RecordBatch>,
) -> Result<(), QueryError> {
    if let Some(asked) = job.request.window.clone() {
        return run_window(job, &asked, rows, told, batches).await;
    }
    let statement = guard::check(&job.request.sql, job.settings.sql_bytes_max)?;
    // Held to the end: the files in it are not deleted before.
    let rows = rows.unwrap_or_else(|| job.view());
    let mut session = job.session(rows)?;
    let plan = session.plan(statement, &job.request.sql).await?;
    let types = parameters::types(&plan).map_err(QueryError::invalid)?;
    let bound = parameters::bind(&types, &job.request.parameters).await?;
    let mut told = Some(told);
    let mut schema = None;
    let mut rows_left = job.settings.rows_max;
    for (at, values) in bound.rows.iter().enumerate() {
        let plan = with_values(&plan, values)?;
        let optimized = session.optimize(&plan).map_err(|error| bound.blame(error))?;
        let same = schema.get_or_insert_with(|| job.schema(&optimized, &plan));
        if at > 0 && *same != job.schema(&optimized, &plan) {
            return Err(QueryError::Invalid(format!(
                "row {} of the parameters gives a result of other types than the first: run it by itself",
                at + 1
            )));
        }
        let mut rows = session.execute(&optimized).await.map_err(|error| session.failed(&error))?;
        // This fails if the reader has gone.
        if told.take().is_some_and(|told| told.send(Arc::clone(same)).is_err()) {
            return Ok(());
        }
        if !pass_on(&mut rows, same, &session, (&mut rows_left, job.settings.rows_max), &batches).await? {
            return Ok(());
        }
    }
    if let Some(told) = told {
        // No row of values was bound, so the result has none. This fails if the reader has gone.
        let _ = told.send(job.schema_without_values(&session, &plan, &types)?);
    }
    job.sessions.give_back(session);
    Ok(())
}

/// Runs what a statement asks for without planning it.
async fn run_window(
    job: Job,
    asked: &Asked,
    rows: Option<Arc<dyn RowSource>>,
    told: oneshot::Sender<SchemaRef>,
    batches: mpsc::Sender<RecordBatch>,
) -> Result<(), QueryError> {
    // Held to the end: the files in it are not deleted before.
    let rows = rows.unwrap_or_else(|| job.view());
    let mut session = job.session(rows)?;
    let rows = session.window(asked).await;
    let mut rows = rows.map_err(|error| session.failed(&error))?;
    let schema = wire_schema(&rows.schema(), &[], job.request.options.nanoseconds);
    // This fails if the reader has gone.
    if told.send(Arc::clone(&schema)).is_err() {
        return Ok(());
    }
    let mut rows_left = job.settings.rows_max;
    if pass_on(&mut rows, &schema, &session, (&mut rows_left, job.settings.rows_max), &batches).await? {
        drop(rows);
        job.sessions.give_back(session);
    }
    Ok(())
}

/// Sends the rows of a result to its reader, with `schema`. `rows_left` is what is left of the most rows. False if the reader has gone.
async fn pass_on(
    rows: &mut SendableRecordBatchStream,
    schema: &SchemaRef,
    session: &Session,
    (rows_left, rows_max): (&mut Option<u64>, Option<u64>),
    batches: &mpsc::Sender<RecordBatch>,
) -> Result<bool, QueryError> {
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|error| session.failed(&error))?;
        if batch.num_rows() == 0 {
            continue;
        }
        if let Some(left) = rows_left {
            let left_over = left.checked_sub(batch.num_rows() as u64);
            *left = left_over.ok_or(QueryError::Rows(rows_max.unwrap_or_default()))?;
        }
        let batch = wire::to_wire(&batch, schema)
            .map_err(|error| QueryError::Failed(format!("convert a batch to the result's schema: {error}")))?;
        if batches.send(batch).await.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The plan with the values of its parameters.
fn with_values(plan: &LogicalPlan, values: &ParamValues) -> Result<LogicalPlan, QueryError> {
    match values {
        ParamValues::List(none) if none.is_empty() => Ok(plan.clone()),
        values => plan.clone().with_param_values(values.clone()).map_err(QueryError::invalid),
    }
}

/// Starts all threads that read files. They would start when the first query needs them, which may have taken all memory then.
fn start_all(runtime: &Runtime, count: usize) {
    let all = Arc::new(Barrier::new(count + 1));
    for _ in 0..count {
        let all = Arc::clone(&all);
        runtime.spawn_blocking(move || all.wait());
    }
    all.wait();
}
