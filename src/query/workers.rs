//! The recorder's side of the query workers: starting them, giving them statements and rows, and ending them.
//!
//! A statement runs in a process of its own. The recorder keeps the view of the moment, so files stay until the worker has
//! ended or died, and sends the rows that the plan asks for. Results are not decoded here.

mod allowance;
mod child;
mod client;
mod fault;
mod folders;
mod follow;
mod look;
mod pack;
mod pool;
mod process;
mod processes;
mod run;
mod schemas;
mod strikes;
mod tails;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow_flight::FlightData;
use async_trait::async_trait;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::error::{QueryError, WAIT_MAX};
use super::guard;
use super::history::{self, Cost, Ended, History};
use super::ipc;
use super::request::{Moment, Request};
use super::room::{Close, Need, Room};
use super::sql_view::SqlViews;
use super::statements::{Frames, Statements};
use super::tail::TailRequest;
use super::worker::message::Statement;
use super::{Prepared, QuerySettings, ViewSource};
use crate::sampler;
use crate::scheduling::cpus::Cpus;
use allowance::Allowance;
use client::Client;
use process::Worker;
use processes::Processes;
use schemas::Schemas;
use strikes::Strikes;
use tails::Tails;

pub use fault::Fault;
pub use folders::Folders;

/// What a reply has beyond a part of a result.
const REPLY_BYTES_MORE: usize = 1 << 20;
/// Another worker is started if none was idle for this long.
const WARM_AFTER: Duration = Duration::from_millis(50);
/// How often idle workers are looked at.
const KEEP_INTERVAL: Duration = Duration::from_secs(2);

/// Runs statements in worker processes. Clones share everything.
#[derive(Clone)]
pub struct Workers {
    inner: Arc<Inner>,
}

struct Inner {
    views: ViewSource,
    settings: QuerySettings,
    folders: Folders,
    /// Results are split so that a message is about this large at most.
    batch_bytes_max: usize,
    /// What statements may use like tables.
    sql_views: SqlViews,
    /// The longest idle one is the first.
    idle: Mutex<Vec<Worker>>,
    running: Arc<Semaphore>,
    room: Room,
    processes: Processes,
    allowance: Allowance,
    /// Wakes the task that keeps a worker warm.
    taken: Notify,
    strikes: Strikes,
    schemas: Schemas,
    tails: Arc<Tails>,
    counts: Counts,
    history: History,
    last_fault: Mutex<Option<Fault>>,
    /// What confines the workers, in words; empty before the first has started.
    in_force: Mutex<String>,
}

#[derive(Default)]
struct Counts {
    begun: AtomicU64,
    started: AtomicU64,
    faults: AtomicU64,
}

/// The workers as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkersStatus {
    /// Processes that run.
    pub processes: u64,
    /// Those of them without a statement.
    pub idle: u64,
    /// Resident memory of all of them, of the rows in memory that they were given, and of their results in memory.
    pub rss_bytes: u64,
    /// Processes started since the recorder was.
    pub started: u64,
    /// Processes that died: of a statement, or killed by kymo because they did not end one, or by someone else.
    pub faults: u64,
    /// The newest fault.
    pub last_fault: Option<Fault>,
    /// What the kernel confines them by, in words; empty before the first has started.
    pub in_force: String,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl Workers {
    /// Workers for statements over the rows that `views` gives, which may use `sql_views` like tables. None is started yet.
    #[must_use]
    pub fn new(
        views: ViewSource,
        settings: QuerySettings,
        folders: Folders,
        batch_bytes_max: usize,
        cpus: Arc<Cpus>,
        sql_views: SqlViews,
    ) -> Workers {
        let inner = Inner {
            views,
            settings,
            folders,
            batch_bytes_max,
            sql_views,
            idle: Mutex::default(),
            running: Arc::new(Semaphore::new(settings.concurrent_max)),
            room: Room::new(reply_bytes_max(&settings)),
            processes: Processes::new(cpus),
            allowance: Allowance::new(),
            taken: Notify::new(),
            strikes: Strikes::default(),
            schemas: Schemas::default(),
            tails: Arc::default(),
            counts: Counts::default(),
            history: History::default(),
            last_fault: Mutex::default(),
            in_force: Mutex::default(),
        };
        Workers { inner: Arc::new(inner) }
    }

    /// Keeps a worker ready for the next statement, ends those that were idle for long, and has them leave CPUs to collectors
    /// when they compute for long. Never returns.
    pub async fn keep(self) {
        let divide = self.inner.allowance.watch(|used_up| self.inner.processes.divide(used_up));
        tokio::join!(self.keep_warm(), divide);
    }

    async fn keep_warm(&self) {
        let mut logged = String::new();
        loop {
            self.inner.end_idle();
            // Starting counts as a statement, so that there are never more workers than may run.
            let permit = self.inner.running.try_acquire().ok().filter(|_| self.inner.idle().is_empty());
            if permit.is_some() {
                let outcome = self.inner.start().await.map(|worker| self.inner.give_back(worker));
                let error = outcome.err().map_or_else(String::new, |error| error.to_string());
                // The next statement fails for the same reason and tells it.
                if !error.is_empty() && error != logged {
                    tracing::warn!(error, "a query worker cannot be started");
                }
                logged = error;
            }
            drop(permit);
            let _ = timeout(KEEP_INTERVAL, self.inner.taken.notified()).await;
            // Most statements end soon, and their worker is idle again.
            sleep(WARM_AFTER).await;
        }
    }

    /// The workers as they are now.
    #[must_use]
    pub fn status(&self) -> WorkersStatus {
        let Inner { counts, .. } = &*self.inner;
        WorkersStatus {
            processes: self.inner.processes.count(),
            idle: self.inner.idle().len() as u64,
            rss_bytes: self.inner.processes.rss_bytes(),
            started: counts.started.load(Ordering::Relaxed),
            faults: counts.faults.load(Ordering::Relaxed),
            last_fault: lock(&self.inner.last_fault).clone(),
            in_force: lock(&self.inner.in_force).clone(),
        }
    }

    /// The statements that have ended.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.inner.history
    }

    /// Begins a statement as soon as it may run. Waits for the first part of its result.
    async fn begin(&self, request: &Request, prepare: bool) -> Result<Frames, QueryError> {
        let asked = Asked::of(request, prepare);
        let permit = match self.permit(&request.sql).await {
            Ok(permit) => permit,
            Err(error) => {
                let error = if request.tail.is_some() { error.of_tail() } else { error };
                self.inner.note_ended(asked, history::outcome_of(&error), error.to_string(), Cost::default());
                return Err(error);
            }
        };
        let (client, parts) = Client::new(self.inner.room.reader());
        let reader = Arc::clone(&client.reader);
        let (statement, moment) = (Statement::of(request, prepare), request.moment.clone());
        if !prepare {
            self.inner.counts.begun.fetch_add(1, Ordering::Relaxed);
        }
        // A task of its own: the worker is ended in order even if the caller goes away.
        tokio::spawn(Arc::clone(&self.inner).run(permit, asked, statement, moment, client));
        Frames::of(parts, Some(reader)).await
    }

    /// Waits until a statement may run.
    async fn permit(&self, sql: &str) -> Result<OwnedSemaphorePermit, QueryError> {
        guard::check_length(sql, self.inner.settings.sql_bytes_max)?;
        self.inner.strikes.check(sql)?;
        let waiting = Arc::clone(&self.inner.running).acquire_owned();
        let waiting = self.inner.room.wait(Need::Statement, waiting);
        match timeout(WAIT_MAX, waiting).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(QueryError::Busy(self.inner.settings.concurrent_max)),
        }
    }
}

#[async_trait]
impl Statements for Workers {
    async fn prepare(&self, request: &Request) -> Result<Prepared, QueryError> {
        // One that is refused for a while is refused here, too.
        let known = self.inner.schemas.of(request).filter(|_| self.inner.strikes.check(&request.sql).is_ok());
        if let Some(prepared) = known {
            return Ok(prepared);
        }
        let mut frames = self.begin(request, true).await?;
        let mut schemas = Vec::with_capacity(2);
        // To the end, because leaving earlier would cancel the statement.
        while let Some(frame) = frames.try_next().await? {
            let schema = ipc::schema_of(&frame.data_header);
            schemas.push(schema.map_err(|error| QueryError::Failed(error.to_string()))?);
        }
        match <[_; 2]>::try_from(schemas) {
            Ok([schema, parameters]) => {
                let prepared = Prepared { schema, parameters };
                self.inner.schemas.add(request, &prepared);
                Ok(prepared)
            }
            Err(_) => Err(QueryError::Failed("its process did not tell its schema".into())),
        }
    }

    async fn execute(&self, request: &Request) -> Result<Frames, QueryError> {
        self.begin(request, false).await
    }

    async fn tail(
        &self,
        request: &TailRequest,
        close: Option<Close>,
    ) -> Result<BoxStream<'static, Result<FlightData, QueryError>>, QueryError> {
        self.follow(request, close).await
    }

    async fn moment(&self) -> Result<Moment, QueryError> {
        let views = Arc::clone(&self.inner.views);
        let view = spawn_blocking(move || views()).await.map_err(|_| QueryError::Stopped)?;
        Ok(Moment { view, now_us: sampler::wall_us() })
    }

    fn time_max(&self) -> Duration {
        self.inner.settings.time_max
    }

    fn sql_views(&self) -> &SqlViews {
        &self.inner.sql_views
    }

    fn begun(&self) -> u64 {
        self.inner.counts.begun.load(Ordering::Relaxed)
    }
}

/// The longest message of a worker.
fn reply_bytes_max(settings: &QuerySettings) -> usize {
    settings.message_bytes_max.saturating_add(REPLY_BYTES_MORE)
}

/// A statement, and who asked for it when.
struct Asked {
    sql: String,
    client: String,
    at: Instant,
    /// Only its plan is asked for.
    prepare: bool,
}

impl Asked {
    fn of(request: &Request, prepare: bool) -> Asked {
        Asked { sql: request.sql.clone(), client: request.client.clone(), at: Instant::now(), prepare }
    }
}

impl Inner {
    /// Keeps a statement for the table `statement`. Of plans, only those that failed are kept: a statement that works is run next.
    fn note_ended(&self, asked: Asked, outcome: &'static str, error: String, cost: Cost) {
        if asked.prepare && error.is_empty() {
            return;
        }
        let duration_us = i64::try_from(asked.at.elapsed().as_micros()).unwrap_or(i64::MAX);
        let Asked { sql: text, client, .. } = asked;
        self.history.push(Ended { time_us: sampler::wall_us(), client, text, outcome, error, cost, duration_us });
    }

    fn note_died(&self, reason: &str) {
        self.counts.faults.fetch_add(1, Ordering::Relaxed);
        *lock(&self.last_fault) = Some(Fault::now(reason));
        self.taken.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
