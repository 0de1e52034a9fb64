//! All worker processes of the recorder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::scheduling::cpus::Cpus;

/// The unit of `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;
pub(super) const RESIDENT: usize = 1;
pub(super) const SHARED: usize = 2;
pub(super) const DATA: usize = 5;

/// All workers that run. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Processes {
    state: Arc<Mutex<State>>,
    cpus: Arc<Cpus>,
}

#[derive(Debug, Default)]
struct State {
    /// The process of each, and its files in memory: for rows, and for results.
    workers: BTreeMap<u32, [Arc<File>; 2]>,
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

    pub(super) fn add(&self, id: u32, memory: [Arc<File>; 2]) {
        self.change(|state| state.workers.insert(id, memory));
        self.place(id);
    }

    pub(super) fn remove(&self, id: u32) {
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
    pub(super) fn place(&self, id: u32) {
        let mut apart = !self.is_apart();
        // Again if it changed meanwhile.
        while apart != self.is_apart() {
            apart = !apart;
            // A refusal leaves it where it is.
            let _ = self.cpus.place_queries(id, apart);
        }
    }

    /// Puts the calling thread, and what it starts, where workers belong now.
    pub(super) fn place_thread(&self) -> io::Result<()> {
        self.cpus.place_query(self.is_apart())
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
        let files = workers.values().flatten().filter_map(|memory| memory.metadata().ok());
        pages * rustix::param::page_size() as u64 + files.map(|file| file.blocks() * BLOCK_BYTES).sum::<u64>()
    }
}

/// Pages of a process, by the position of the figure in `/proc/<id>/statm` (proc(5)).
pub(super) fn statm(id: u32, position: usize) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{id}/statm")).ok()?;
    statm.split_ascii_whitespace().nth(position)?.parse().ok()
}
