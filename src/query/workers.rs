//! The recorder's side of the query workers: starting them, giving them statements and rows, and ending them.
//!
//! A statement runs in a process of its own. The recorder keeps the view of the moment, so files stay until the worker has
//! ended or died, and sends the rows that the plan asks for. Results are not decoded here.

mod allowance;
mod fault;
mod follow;
mod look;
mod process;
mod run;
mod strikes;
mod tails;

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use arrow_flight::FlightData;
use async_trait::async_trait;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::error::{QueryError, WAIT_MAX};
use super::guard;
use super::history::{self, Cost, Ended, History};
use super::ipc;
use super::request::{Moment, Request};
use super::room::{Close, Room};
use super::statements::{FRAMES_AHEAD_MAX, Frames, Part, Statements};
use super::tail::TailRequest;
use super::worker::message::{self, Limits, Reply, Statement, order, reply};
use super::{Prepared, QuerySettings, ViewSource};
use crate::sampler;
use crate::scheduling::cpus::Cpus;
use allowance::Allowance;
use process::{Processes, Worker};
use strikes::Strikes;
use tails::Tails;

pub use fault::Fault;

/// A worker that does not start within this time is killed.
const START_MAX: Duration = Duration::from_secs(10);
/// A worker without a statement for this long is ended, except the last.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// What a reply has beyond a part of a result.
const REPLY_BYTES_MORE: usize = 1 << 20;
/// The folder in a daemon's data folder where queries spill. Its files have no names, so it looks empty.
const SPILL: &str = "spill";
/// Names of temporary files begin with this (crate tempfile).
const TEMPORARY: &str = ".tmp";
/// Another worker is started if none was idle for this long.
const WARM_AFTER: Duration = Duration::from_millis(50);
/// How often idle workers are looked at.
const KEEP_INTERVAL: Duration = Duration::from_secs(2);
/// The memory of a worker for rows is freed after so long without a statement.
const MEMORY_IDLE_MAX: Duration = Duration::from_secs(2);

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
    /// The longest idle one is the first.
    idle: Mutex<Vec<Worker>>,
    running: Arc<Semaphore>,
    room: Room,
    processes: Processes,
    allowance: Allowance,
    /// Wakes the task that keeps a worker warm.
    taken: Notify,
    strikes: Strikes,
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

/// The folders of workers.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The data folder, which workers may read.
    pub data: PathBuf,
    /// Where they may spill, if they may.
    pub spill: Option<PathBuf>,
}

impl Folders {
    /// Those of a daemon that records into `data`.
    #[must_use]
    pub fn of_daemon(data: PathBuf) -> Folders {
        let spill = data.join(SPILL);
        let spill = match make_spill_folder(&spill).and_then(|()| clear_spill_folder(&spill)) {
            Ok(()) => Some(spill),
            Err(error) => {
                tracing::warn!(%error, folder = %spill.display(), "queries cannot spill to disk");
                None
            }
        };
        Folders { data, spill }
    }
}

fn make_spill_folder(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// On a file system that cannot make a file without a name, a spilled file has one for a moment, and a kill may leave it.
fn clear_spill_folder(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name().as_bytes().starts_with(TEMPORARY.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The workers as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkersStatus {
    /// Processes that run.
    pub processes: u64,
    /// Those of them without a statement.
    pub idle: u64,
    /// Resident memory of all of them, and of the rows in memory that they were given.
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
    /// Workers for statements over the views that `views` gives. None is started yet.
    #[must_use]
    pub fn new(
        views: ViewSource,
        settings: QuerySettings,
        folders: Folders,
        batch_bytes_max: usize,
        cpus: Arc<Cpus>,
    ) -> Workers {
        let inner = Inner {
            views,
            settings,
            folders,
            batch_bytes_max,
            idle: Mutex::default(),
            running: Arc::new(Semaphore::new(settings.concurrent_max)),
            room: Room::new(reply_bytes_max(&settings)),
            processes: Processes::new(cpus),
            allowance: Allowance::new(),
            taken: Notify::new(),
            strikes: Strikes::default(),
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

    /// Begins a statement as soon as it may run.
    async fn begin(&self, request: &Request, prepare: bool) -> Result<mpsc::Receiver<Part>, QueryError> {
        let asked = Asked::of(request, prepare);
        let permit = match self.permit(&request.sql).await {
            Ok(permit) => permit,
            Err(error) => {
                self.inner.note_ended(asked, history::outcome_of(&error), error.to_string(), Cost::default());
                return Err(error);
            }
        };
        let (told, parts) = mpsc::channel(FRAMES_AHEAD_MAX);
        let (statement, moment) = (Statement::of(request, prepare), request.moment.clone());
        // A task of its own: the worker is ended in order even if the caller goes away.
        tokio::spawn(Arc::clone(&self.inner).run(permit, asked, statement, moment, told));
        Ok(parts)
    }

    /// Waits until a statement may run.
    async fn permit(&self, sql: &str) -> Result<OwnedSemaphorePermit, QueryError> {
        guard::check_length(sql, self.inner.settings.sql_bytes_max)?;
        self.inner.strikes.check(sql)?;
        let waiting = Arc::clone(&self.inner.running).acquire_owned();
        match timeout(WAIT_MAX, waiting).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(QueryError::Busy(self.inner.settings.concurrent_max)),
        }
    }
}

#[async_trait]
impl Statements for Workers {
    async fn prepare(&self, request: &Request) -> Result<Prepared, QueryError> {
        let mut frames = Frames::of(self.begin(request, true).await?).await?;
        let mut schemas = Vec::with_capacity(2);
        // To the end, because leaving earlier would cancel the statement.
        while let Some(frame) = frames.try_next().await? {
            let schema = ipc::schema_of(&frame.data_header);
            schemas.push(schema.map_err(|error| QueryError::Failed(error.to_string()))?);
        }
        match <[_; 2]>::try_from(schemas) {
            Ok([schema, parameters]) => Ok(Prepared { schema, parameters }),
            Err(_) => Err(QueryError::Failed("its process did not tell its schema".into())),
        }
    }

    async fn execute(&self, request: &Request) -> Result<Frames, QueryError> {
        let frames = self.begin(request, false).await?;
        self.inner.counts.begun.fetch_add(1, Ordering::Relaxed);
        Frames::of(frames).await
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

    /// A worker that takes a statement.
    async fn take(&self) -> io::Result<Worker> {
        loop {
            let idle = self.idle().pop();
            self.taken.notify_one();
            let Some(mut worker) = idle else { return self.start().await };
            if !worker.reads(process::folder_id(&self.folders.data)) {
                // The kernel lets it read the former folder.
                continue;
            }
            if worker.is_stopped() {
                self.note_died("it was stopped by a signal while it was idle, so it was ended");
            } else if worker.is_alive() {
                return Ok(worker);
            } else {
                self.note_died("it ended while it was idle");
            }
        }
    }

    async fn start(&self) -> io::Result<Worker> {
        let spill = self.folders.spill.as_ref().filter(|_| self.settings.spill_bytes_max > 0);
        if let Some(folder) = spill {
            // It is missing if the data folder was made anew. A query that spills tells a refusal.
            let _ = make_spill_folder(folder);
        }
        let limits = Limits {
            memory_bytes_max: self.settings.memory_bytes_max as u64,
            time_us_max: u64::try_from(self.settings.time_max.as_micros()).unwrap_or(u64::MAX),
            rows_max: self.settings.rows_max,
            sql_bytes_max: self.settings.sql_bytes_max as u64,
            batch_bytes_max: self.batch_bytes_max as u64,
            message_bytes_max: self.settings.message_bytes_max as u64,
            folder: message::path_bytes(&self.folders.data),
            spill_folder: spill.map(|folder| message::path_bytes(folder)).unwrap_or_default(),
            spill_bytes_max: spill.map_or(0, |_| self.settings.spill_bytes_max),
            // Not what the worker may use now: it may have to leave some CPUs, and is too confined to see a quota.
            cpus: available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        };
        let (processes, folder) = (self.processes.clone(), self.folders.data.clone());
        let reply_bytes_max = reply_bytes_max(&self.settings);
        // It waits for a thread of low priority.
        let spawned = spawn_blocking(move || Worker::spawn(&processes, reply_bytes_max, &folder));
        let mut worker = spawned.await.map_err(io::Error::other)??;
        self.counts.started.fetch_add(1, Ordering::Relaxed);
        let begin = async {
            worker.send(order::Kind::Limits(limits)).await?;
            worker.channel.receive::<Reply>().await
        };
        match timeout(START_MAX, begin).await {
            Ok(Ok(Some((Reply { kind: Some(reply::Kind::Ready(in_force)) }, _)))) => {
                let kept = self.processes.kept_cpus();
                let kept = kept.map(|(kept, all)| format!(", off {kept} of {all} CPUs while busy"));
                *lock(&self.in_force) = in_force + &kept.unwrap_or_default();
                worker.ready();
                Ok(worker)
            }
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) => {
                Err(io::Error::other(format!("a query worker ended at its start: {}", worker.wait().await.said)))
            }
            Err(_) => Err(io::Error::other(format!("a query worker did not start within {START_MAX:?}"))),
        }
    }

    fn give_back(&self, mut worker: Worker) {
        if worker.rest() {
            self.idle().push(worker);
        } else {
            self.taken.notify_one();
        }
    }

    /// Ends workers that were idle for long, except the one that was used last, and lets go of those that have died.
    fn end_idle(&self) {
        let mut idle = self.idle();
        let dead: Vec<Worker> = idle.extract_if(.., |worker| !worker.is_alive()).collect();
        let spare = idle.len().saturating_sub(1);
        let gone: Vec<Worker> = idle.extract_if(..spare, |worker| worker.idle_since.elapsed() > IDLE_MAX).collect();
        let resting =
            idle.extract_if(.., |worker| worker.kept_bytes > 0 && worker.idle_since.elapsed() > MEMORY_IDLE_MAX);
        let resting: Vec<Worker> = resting.collect();
        drop(idle);
        for mut worker in resting {
            // This takes a while, and others wait for the lock.
            worker.free_memory();
            let mut idle = self.idle();
            let at = idle.partition_point(|other| other.idle_since <= worker.idle_since);
            idle.insert(at, worker);
        }
        drop(gone);
        for _ in dead {
            self.note_died("it ended while it was idle");
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Worker>> {
        lock(&self.idle)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
