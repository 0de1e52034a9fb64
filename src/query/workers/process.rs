//! A worker process, as the recorder holds it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::project_schema;
use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use socket2::SockRef;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinError;
use tokio::time::{sleep, timeout};

use crate::family::tables::TableId;
use crate::query::ViewSource;
use crate::query::error::QueryError;
use crate::query::rows::{HotRows, Wanted};
use crate::query::worker::message::{self, Channel, Hot, Order, Rows, order};
use crate::scheduling::be_background;
use crate::scheduling::cpus::Cpus;
use crate::store::View;

/// The hidden command that runs a worker.
const COMMAND: &str = "query-worker";
/// So much of a worker's file in memory is kept for a statement that follows soon, because new pages cost more than writing to
/// old ones.
const MEMORY_KEPT_BYTES: u64 = 64 << 20;
/// Added to the recorder's niceness for a worker.
const NICENESS: i32 = 10;
/// A worker that has taken so much private memory more than at its start is not used again: the allocator keeps some of it, and
/// later statements would have less.
const RESTING_BYTES_MAX: u64 = 96 << 20;
/// So much of what a dead worker wrote to stderr is read.
const SAID_BYTES_MAX: u64 = 64 << 10;
/// So much of a result may wait in the kernel. A part of a result fits, so it takes few context switches.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// How soon a process that ends is looked at, and how often later.
const REAP_INTERVAL_MIN: Duration = Duration::from_millis(1);
const REAP_INTERVAL_MAX: Duration = Duration::from_millis(64);
/// A worker whose socket is closed has ended or does so within this time.
const ENDING_MAX: Duration = Duration::from_millis(150);
/// A worker that was killed is waited for so long before its client is told.
const KILLED_MAX: Duration = Duration::from_millis(50);

/// A worker process. Dropping it kills it.
pub(super) struct Worker {
    child: Process,
    pub(super) channel: Channel,
    /// A file in memory, which the worker has open for reading: the rows in memory that the statement asked for, one after the other.
    memory: Arc<File>,
    pub(super) idle_since: Instant,
    /// Bytes in the file that are of the present statement.
    given_bytes: u64,
    /// Bytes that the file may have while no statement runs.
    pub(super) kept_bytes: u64,
    /// What its private memory was before its first statement.
    first_data_bytes: u64,
    /// The folder that it may read.
    folder: Option<FolderId>,
    killed: bool,
}

/// Which folder a path led to: the device and the inode.
pub(super) type FolderId = (u64, u64);

/// Which folder the path leads to now. It is another one after a disk was mounted there.
pub(super) fn folder_id(path: &Path) -> Option<FolderId> {
    fs::metadata(path).ok().map(|folder| (folder.dev(), folder.ino()))
}

/// A child, which is killed when this is dropped.
struct Process {
    /// Taken when dropped only.
    child: Option<Child>,
    all: Processes,
    /// For its statement. Another one may run when this process has ended or is free.
    permit: Option<OwnedSemaphorePermit>,
}

impl Process {
    fn start(command: Command, all: &Processes, memory: &Arc<File>) -> io::Result<Process> {
        let child = spawn(command, all)?;
        all.add(child.id(), memory);
        Ok(Process { child: Some(child), all: all.clone(), permit: None })
    }

    fn child(&mut self) -> io::Result<&mut Child> {
        self.child.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let (all, permit) = (self.all.clone(), self.permit.take());
        // This fails if it has ended already.
        let _ = child.kill();
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    reap(&mut child).await;
                    all.remove(child.id());
                    drop(permit);
                });
            }
            // The kernel reaps it when this process has ended.
            Err(_) => all.remove(child.id()),
        }
    }
}

/// Waits until a process has ended. This asks time after time, as the kernel takes long to free the memory of a large process, and
/// a thread that waits in a system call for that delays others.
async fn reap(child: &mut Child) -> Option<ExitStatus> {
    let mut interval = REAP_INTERVAL_MIN;
    loop {
        match child.try_wait() {
            Ok(None) => {
                sleep(interval).await;
                interval = (2 * interval).min(REAP_INTERVAL_MAX);
            }
            Ok(status) => return status,
            Err(_) => return None,
        }
    }
}

/// How a worker ended.
#[derive(Default)]
pub(super) struct Ending {
    pub(super) status: Option<ExitStatus>,
    /// What it wrote to stderr.
    pub(super) said: String,
    /// It had not ended by itself.
    pub(super) killed: bool,
}

impl Worker {
    pub(super) fn spawn(processes: &Processes, reply_bytes_max: usize, folder: &Path) -> io::Result<Worker> {
        // Before it starts: if the folder changes meanwhile, the worker counts as one of the former folder.
        let folder = folder_id(folder);
        let (orders, its_orders) = UnixStream::pair()?;
        // A refusal only costs some context switches.
        let _ = SockRef::from(&its_orders).set_send_buffer_size(SEND_BUFFER_BYTES);
        // Nobody can seal it, and the worker can neither write to it nor open it for writing: it may not change its rights.
        let memory = Arc::new(File::from(memfd_create("kymo-rows", MemfdFlags::CLOEXEC)?));
        fchmod(&memory, Mode::RUSR)?;
        let its_memory = File::open(format!("/proc/self/fd/{}", memory.as_raw_fd()))?;
        // The program of this process, even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("kymo")
            .arg(COMMAND)
            .env_clear()
            // A signal for the recorder's group, such as Ctrl-C, is not for the worker.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(its_orders)))
            .stdout(Stdio::from(its_memory))
            .stderr(Stdio::piped());
        let child = Process::start(command, processes, &memory)?;
        let channel = Channel::new(orders, reply_bytes_max)?;
        Ok(Worker {
            child,
            channel,
            memory,
            idle_since: Instant::now(),
            given_bytes: 0,
            kept_bytes: 0,
            first_data_bytes: 0,
            folder,
            killed: false,
        })
    }

    pub(super) async fn send(&mut self, kind: order::Kind) -> io::Result<()> {
        self.channel.send(&Order { kind: Some(kind) }).await
    }

    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.child().and_then(Child::try_wait), Ok(None))
    }

    /// Whether it was stopped, as by SIGSTOP, and does not go on.
    pub(super) fn is_stopped(&self) -> bool {
        let id = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let look = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        id.is_some_and(|id| matches!(waitid(WaitId::Pid(id), look), Ok(Some(status)) if status.stopped()))
    }

    /// Whether it has ended, or does so right now.
    pub(super) async fn has_ended(&mut self) -> bool {
        match self.child.child() {
            Ok(child) => timeout(ENDING_MAX, reap(child)).await.is_ok(),
            Err(_) => true,
        }
    }

    /// Whether it may read what is at the path of its folder now.
    pub(super) fn reads(&self, now: Option<FolderId>) -> bool {
        self.folder == now
    }

    /// Notes that it takes statements now.
    pub(super) fn ready(&mut self) {
        self.first_data_bytes = self.data_bytes();
        // Some of its threads may have started while CPUs were divided.
        if let Some(id) = self.child.id() {
            self.child.all.place(id);
        }
    }

    /// Frees the file in memory.
    pub(super) fn free_memory(&mut self) {
        // A refusal leaves the memory to the next statement.
        if std::mem::take(&mut self.kept_bytes) > 0 {
            let _ = self.memory.set_len(0);
        }
    }

    /// Private memory, which the kernel bounds. Unlike what is resident, it does not shrink when a statement has ended.
    fn data_bytes(&self) -> u64 {
        let pages = self.child.id().and_then(|id| statm(id, DATA)).unwrap_or(0);
        pages * rustix::param::page_size() as u64
    }

    /// Counts its peak of resident memory anew (`proc_pid_clear_refs(5)`).
    pub(super) fn forget_peak(&self) {
        if let Some(id) = self.child.id() {
            // If the kernel refuses, the peak is that of all its statements.
            let _ = fs::write(format!("/proc/{id}/clear_refs"), "5");
        }
    }

    /// The most resident memory that it had since then, unless it is gone (`proc_pid_status(5)`).
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
    }

    /// How it ended, and what it wrote to stderr. It is killed if it has not ended.
    pub(super) async fn wait(mut self) -> Ending {
        let Ok(child) = self.child.child() else { return Ending::default() };
        let (status, killed) = match timeout(ENDING_MAX, reap(child)).await {
            Ok(status) => (status, false),
            Err(_) => {
                let _ = child.kill();
                let status = timeout(KILLED_MAX, reap(child)).await.unwrap_or_default();
                (status, status.is_none_or(|status| status.signal() == Some(libc::SIGKILL)))
            }
        };
        let mut said = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            // What cannot be read is missing in a log line.
            let _ = stderr.take(SAID_BYTES_MAX).read_to_end(&mut said);
        }
        Ending { status, said: String::from_utf8_lossy(&said).into_owned(), killed }
    }

    /// Gives the worker the rows of `view` that it asked for, or of the newest one, at most `bytes_max` for one statement. Returns
    /// the view.
    pub(super) async fn give(
        &mut self,
        views: ViewSource,
        view: Option<Arc<View>>,
        wanted: message::Wanted,
        bytes_max: usize,
    ) -> Result<Arc<View>, QueryError> {
        let failed = |error: io::Error| QueryError::Failed(format!("give rows to the query's process: {error}"));
        let (memory, start) = (Arc::clone(&self.memory), self.given_bytes);
        let packed = tokio::task::spawn_blocking(move || {
            let view = view.unwrap_or_else(|| views());
            pack(&view, &wanted, &memory, start, bytes_max as u64).map(|rows| (view, rows))
        });
        let (view, rows) = packed.await.map_err(not_packed)?.map_err(failed)?;
        let Some(rows) = rows else {
            return Err(QueryError::Memory { bytes_max, detail: "it reads more rows that are in memory".into() });
        };
        self.given_bytes = rows.hot.last().map_or(start, |hot| hot.end);
        self.send(order::Kind::Rows(rows)).await.map_err(failed)?;
        Ok(view)
    }

    /// Holds the permit for its statement until it rests or has ended.
    pub(super) fn hold(mut self, permit: Option<OwnedSemaphorePermit>) -> Worker {
        self.child.permit = permit;
        self
    }

    /// Ends it, and returns the permit for the statement, which goes to another one.
    pub(super) fn replace(mut self) -> Option<OwnedSemaphorePermit> {
        self.child.permit.take()
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        self.killed = true;
        if let Ok(child) = self.child.child() {
            // This fails if it has ended already.
            let _ = child.kill();
        }
    }

    pub(super) fn is_killed(&self) -> bool {
        self.killed
    }

    /// Ends a statement: its rows in memory are no longer needed. Returns whether the worker can take another one: one that has
    /// used much of its memory cannot.
    pub(super) fn rest(&mut self) -> bool {
        self.idle_since = Instant::now();
        self.child.permit = None;
        let given_bytes = std::mem::take(&mut self.given_bytes);
        self.kept_bytes = self.kept_bytes.max(given_bytes);
        if given_bytes > MEMORY_KEPT_BYTES {
            self.free_memory();
        }
        self.data_bytes().saturating_sub(self.first_data_bytes) < RESTING_BYTES_MAX
    }
}

/// Starts a program at low priority. A process starts with the priority of the thread that starts it, and a thread may not raise
/// its own again. So this is a thread for the start alone.
fn spawn(mut command: Command, all: &Processes) -> io::Result<Child> {
    let all = all.clone();
    let starting = std::thread::Builder::new().name("kymo-start".into()).spawn(move || {
        // A refusal leaves queries at ordinary priority, and on all CPUs.
        let _ = be_background(NICENESS);
        let _ = all.cpus.place_query(all.is_apart());
        command.spawn()
    })?;
    starting.join().map_err(|_| io::Error::other("the thread that starts a query worker panicked"))?
}

fn not_packed(error: JoinError) -> QueryError {
    if error.is_panic() { QueryError::Panicked(error.to_string()) } else { QueryError::Stopped }
}

/// The answer to a worker that asks for rows. Rows in memory go into the file `memory`, from the byte `start` to `end` at most;
/// `None` if they do not fit.
fn pack(view: &View, wanted: &message::Wanted, memory: &File, start: u64, end: u64) -> io::Result<Option<Rows>> {
    let table = TableId::find(&wanted.table).ok_or_else(|| io::Error::other("an unknown table"))?;
    let columns = wanted.columns.iter().map(|column| *column as usize).collect();
    let scan = Wanted { table, columns, times: (wanted.from_us, wanted.to_us) };
    let found = view.find(&scan).map_err(io::Error::other)?;
    let files = found.files.iter().map(|file| (&**file).into()).collect();
    let hot = match &found.hot[..] {
        [] => Vec::new(),
        // Only their number is asked for.
        hot if scan.columns.is_empty() => hot.iter().map(|hot| describe(hot, start)).collect(),
        hot => match write(&scan, hot, memory, start, end)? {
            Some(hot) => hot,
            None => return Ok(None),
        },
    };
    Ok(Some(Rows { number: wanted.number, files, start, hot }))
}

/// Writes rows as an Arrow IPC stream, and returns where in the file they are; `None` if they go beyond `end`.
fn write(scan: &Wanted, rows: &[HotRows], mut memory: &File, start: u64, end: u64) -> io::Result<Option<Vec<Hot>>> {
    let failed = |error: ArrowError| io::Error::other(error);
    memory.seek(SeekFrom::Start(start))?;
    let schema = project_schema(&scan.table.table().schema(), Some(&scan.columns)).map_err(io::Error::other)?;
    let mut writer = StreamWriter::try_new(memory, &schema).map_err(failed)?;
    let mut hot = Vec::with_capacity(rows.len());
    for rows in rows {
        writer.write(&rows.batch).map_err(failed)?;
        hot.push(describe(rows, memory.stream_position()?));
        if hot.last().is_some_and(|hot| hot.end > end) {
            return Ok(None);
        }
    }
    Ok(Some(hot))
}

/// Rows that end at this byte of the file in memory.
fn describe(HotRows { host, batch, time_range }: &HotRows, end: u64) -> Hot {
    Hot { end, from_us: time_range.0, to_us: time_range.1, rows: batch.num_rows() as u64, host: (**host).into() }
}

/// All workers that run. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Processes {
    state: Arc<Mutex<State>>,
    cpus: Arc<Cpus>,
}

#[derive(Debug, Default)]
struct State {
    /// The process of each, and its file in memory.
    workers: BTreeMap<u32, Arc<File>>,
    /// They leave CPUs to collectors.
    apart: bool,
}

impl Processes {
    pub(super) fn new(cpus: Arc<Cpus>) -> Processes {
        Processes { state: Arc::default(), cpus }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, id: u32, memory: &Arc<File>) {
        self.change(|state| state.workers.insert(id, Arc::clone(memory)));
        self.place(id);
    }

    fn remove(&self, id: u32) {
        self.change(|state| state.workers.remove(&id));
    }

    /// Has all workers leave CPUs to fast collectors, if any run, or ends that. A collector that starts later waits for the next
    /// call.
    pub(super) fn divide(&self, apart: bool) {
        let apart = apart && self.cpus.has_fast();
        let ids = self.change(|state| {
            state.apart = apart;
            state.workers.keys().copied().collect::<Vec<_>>()
        });
        // Without the lock: the kernel may take a while, and the drain thread asks for the status.
        for id in ids {
            self.place(id);
        }
        // The workers have left before the collectors come.
        self.cpus.set_apart(apart);
    }

    /// Puts a worker where it belongs now.
    fn place(&self, id: u32) {
        let mut apart = !self.is_apart();
        // Again if it changed meanwhile.
        while apart != self.is_apart() {
            apart = !apart;
            // A refusal leaves it where it is.
            let _ = self.cpus.place_queries(id, apart);
        }
    }

    /// How many CPUs they leave to collectors while divided, of how many.
    pub(super) fn kept_cpus(&self) -> Option<(u32, u32)> {
        self.cpus.kept()
    }

    fn is_apart(&self) -> bool {
        self.change(|state| state.apart)
    }

    pub(super) fn count(&self) -> u64 {
        self.change(|state| state.workers.len() as u64)
    }

    /// Resident memory of all of them, and that of their files in memory. One that ends meanwhile counts nothing.
    pub(super) fn rss_bytes(&self) -> u64 {
        let workers = self.change(|state| state.workers.clone());
        let pages: u64 = workers.keys().filter_map(|id| statm(*id, RESIDENT)).sum();
        let files = workers.values().filter_map(|memory| memory.metadata().ok());
        pages * rustix::param::page_size() as u64 + files.map(|file| file.blocks() * BLOCK_BYTES).sum::<u64>()
    }
}

/// Pages of a process, by the position of the figure in `/proc/<id>/statm` (proc(5)).
fn statm(id: u32, position: usize) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{id}/statm")).ok()?;
    statm.split_ascii_whitespace().nth(position)?.parse().ok()
}

/// The unit of `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;
const RESIDENT: usize = 1;
const DATA: usize = 5;
