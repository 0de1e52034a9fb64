//! A worker process, as the recorder holds it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use socket2::SockRef;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use super::child::{Process, reap};
use super::folders::{FolderId, folder_id};
use super::pack::{pack, write};
use super::processes::{DATA, Processes, RESIDENT, SHARED, statm};
use crate::query::ViewSource;
use crate::query::error::QueryError;
use crate::query::named::Named;
use crate::query::rows::{HotRows, Wanted};
use crate::query::slab::{self, Slabs};
use crate::query::worker::channel::Channel;
use crate::query::worker::message::{self, Order, Rows, order};
use crate::store::View;

/// The hidden command that runs a worker.
const COMMAND: &str = "query-worker";
/// jemalloc unmaps what it frees. Otherwise it keeps the addresses, which count for the kernel's limit of a worker's memory: tables
/// of groups that had grown by doubling took twice the limit of a query, and ended their worker where they were to spill. Pieces
/// above 8 MiB wait for the next use as smaller ones do; a result of 3 M rows, whose columns come in smaller ones, takes as long
/// either way.
const ALLOCATOR: (&str, &str) = ("_RJEM_MALLOC_CONF", "retain:false,oversize_threshold:0");
/// So much of a worker's file in memory is kept for a statement that follows soon, because new pages cost more than writing to
/// old ones.
const MEMORY_KEPT_BYTES: u64 = 64 << 20;
/// A worker that has taken so much private memory more than at its start is not used again: the allocator keeps some of it, and
/// later statements would have less.
const RESTING_BYTES_MAX: u64 = 96 << 20;
/// A worker that has rested keeps so much more memory of its own than at its start, or is ended. The one that was used last may
/// keep more, for footers of files that the next statement reads again.
const RESTED_BYTES_MAX: u64 = 8 << 20;
const LAST_RESTED_BYTES_MAX: u64 = 24 << 20;
/// So much of a result may wait in the kernel.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// A worker whose socket is closed ends within this time: the kernel takes it down, at a low priority.
const ENDING_MAX: Duration = Duration::from_secs(1);
/// A worker that was killed is waited for so long before its client is told.
const KILLED_MAX: Duration = Duration::from_millis(50);

/// A worker process. Dropping it kills it.
pub(super) struct Worker {
    child: Process,
    pub(super) channel: Channel,
    /// A file in memory, which the worker has open for reading: the rows in memory that the statement asked for, one after the other.
    memory: Arc<File>,
    /// Large parts of results, and what it writes to stderr.
    pub(super) slabs: Slabs,
    pub(super) idle_since: Instant,
    /// Bytes in the file that are of the present statement.
    given_bytes: u64,
    /// Bytes that the file may have while no statement runs.
    kept_bytes: u64,
    /// What its private memory was before its first statement.
    first_data_bytes: u64,
    /// The resident part of it.
    first_own_bytes: u64,
    /// It has been looked at since its last statement.
    pub(super) has_rested: bool,
    /// The folder that it may read.
    folder: Option<FolderId>,
    killed: bool,
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
        let slabs = Arc::new(slab::file()?);
        // The program of this process, even if its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("kymo")
            .arg(COMMAND)
            .env_clear()
            .env(ALLOCATOR.0, ALLOCATOR.1)
            // A signal for the recorder's group, such as Ctrl-C, is not for the worker.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(its_orders)))
            .stdout(Stdio::from(its_memory))
            .stderr(Stdio::from(slabs.try_clone()?));
        let child = Process::start(command, processes, [&memory, &slabs].map(Arc::clone))?;
        let channel = Channel::new(orders, reply_bytes_max)?;
        Ok(Worker {
            child,
            channel,
            memory,
            slabs: Slabs::new(slabs),
            idle_since: Instant::now(),
            given_bytes: 0,
            kept_bytes: 0,
            first_data_bytes: 0,
            first_own_bytes: 0,
            has_rested: false,
            folder,
            killed: false,
        })
    }

    pub(super) async fn send(&mut self, kind: order::Kind) -> io::Result<()> {
        self.channel.send(&Order { kind: Some(kind) }).await
    }

    /// The length of its next message; 0 once it has gone. Meanwhile it is told which slabs are free again.
    pub(super) async fn next_bytes(&mut self) -> io::Result<usize> {
        loop {
            let slab = tokio::select! {
                biased;
                bytes = self.channel.next_bytes() => return bytes,
                slab = self.slabs.freed() => slab,
            };
            self.send(order::Kind::Free(slab)).await?;
        }
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
        self.first_own_bytes = self.own_bytes();
        // Some of its threads may have started while CPUs were divided.
        if let Some(id) = self.child.id() {
            self.child.all.place(id);
        }
    }

    /// Whether its files in memory keep memory that no statement uses.
    pub(super) fn keeps_memory(&self) -> bool {
        self.kept_bytes > 0 || self.slabs.has_memory()
    }

    /// Frees this memory.
    pub(super) fn free_memory(&mut self) {
        self.slabs.free_memory();
        self.free_rows();
    }

    fn free_rows(&mut self) {
        // A refusal leaves the memory to the next statement.
        if std::mem::take(&mut self.kept_bytes) > 0 {
            let _ = self.memory.set_len(0);
        }
    }

    /// Private memory, which the kernel bounds. Unlike what is resident, it does not shrink when a statement has ended.
    fn data_bytes(&self) -> u64 {
        self.bytes(DATA)
    }

    /// Resident memory of its own: not the program, whose pages all processes share.
    fn own_bytes(&self) -> u64 {
        self.bytes(RESIDENT).saturating_sub(self.bytes(SHARED))
    }

    fn bytes(&self, position: usize) -> u64 {
        let pages = self.child.id().and_then(|id| statm(id, position)).unwrap_or(0);
        pages * rustix::param::page_size() as u64
    }

    /// Whether a worker without a statement gave back what its last statement took, once its allocator had the time to.
    pub(super) fn gave_back(&self, is_last: bool) -> bool {
        let bytes_max = if is_last { LAST_RESTED_BYTES_MAX } else { RESTED_BYTES_MAX };
        self.own_bytes().saturating_sub(self.first_own_bytes) < bytes_max
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

    /// How it ended, and what it wrote to stderr. It is killed if its socket is open, or if it does not end.
    pub(super) async fn wait(mut self) -> Ending {
        let ending_max = if self.channel.is_closed() { ENDING_MAX } else { Duration::ZERO };
        let Ok(child) = self.child.child() else { return Ending::default() };
        let (status, killed) = match timeout(ending_max, reap(child)).await {
            Ok(status) => (status, false),
            Err(_) => {
                let _ = child.kill();
                let status = timeout(KILLED_MAX, reap(child)).await.unwrap_or_default();
                (status, status.is_none_or(|status| status.signal() == Some(libc::SIGKILL)))
            }
        };
        Ending { status, said: self.slabs.said(), killed }
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
        let packed = spawn_blocking(move || {
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

    /// Writes rows into its file in memory, in the place of those of the batch before.
    pub(super) async fn give_batch(&mut self, table: Named, rows: HotRows, bytes_max: usize) -> io::Result<Rows> {
        let memory = Arc::clone(&self.memory);
        let scan = Wanted {
            table,
            columns: (0..table.table.columns.len()).collect(),
            times: rows.time_range,
            with_stretches: false,
        };
        let written = spawn_blocking(move || write(&scan, &[rows], &memory, 0, bytes_max as u64));
        let hot = written.await.map_err(io::Error::other)??.ok_or_else(|| io::Error::other("the rows have no room"))?;
        self.given_bytes = hot.last().map_or(0, |hot| hot.end);
        Ok(Rows { hot, ..Rows::default() })
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
        self.has_rested = false;
        self.child.permit = None;
        let given_bytes = std::mem::take(&mut self.given_bytes);
        self.kept_bytes = self.kept_bytes.max(given_bytes);
        if given_bytes > MEMORY_KEPT_BYTES {
            self.free_rows();
        }
        self.slabs.rest();
        self.data_bytes().saturating_sub(self.first_data_bytes) < RESTING_BYTES_MAX
    }
}

fn not_packed(error: JoinError) -> QueryError {
    if error.is_panic() { QueryError::Panicked(error.to_string()) } else { QueryError::Stopped }
}
