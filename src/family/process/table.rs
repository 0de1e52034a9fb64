//! All processes as they were at the last two ticks.

use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, fstatfs, statat};
use rustix::io::Errno;

use super::forbidden::Forbidden;
use super::stat::{COMMAND_BYTES_MAX, Stat, parse_cgroup, parse_io, parse_stat, stable_command};
use crate::reading::census::Counts;
use crate::reading::folder::{Listing, c_path, list, listing, open_folder, open_folder_at};
use crate::reading::prelude::*;
use crate::reading::reader::{Kept, Reader, is_gone};

/// The most processes that are read: those with the lowest pids.
pub(super) const PROCESSES_MAX: usize = 32_768;
/// There is room for this many processes from the start, so that only hosts with more allocate for new ones.
pub(super) const PROCESSES_USUAL: usize = 1_024;
/// If the kernel does not report the number of open files, they are counted up to this many.
const OPEN_FILES_MAX: i64 = 4_096;
/// The file system type that `statfs(2)` reports for procfs.
const PROCFS_MAGIC: u64 = 0x9fa0;

const FILE: &str = "PID/stat";
const NS_PER_SECOND: f64 = 1e9;

/// The processes of a host, by pid.
#[derive(Debug)]
pub(super) struct ProcessTable {
    pub(super) procfs: PathBuf,
    /// Those that the last [`ProcessTable::refresh`] could read.
    pub(super) processes: Vec<Entry>,
    /// A second buffer, for ticks at which processes came or went.
    next: Vec<Entry>,
    /// Those that were listed.
    pub(super) pids: Vec<i32>,
    listing: Listing,
    path: Vec<u8>,
    reader: Reader,
    root: Option<Root>,
    processes_max: usize,
    /// There were too many, and this was reported.
    beyond: bool,
    /// What kymo may not read at this tick.
    pub(super) forbidden: Forbidden,
}

#[derive(Debug)]
struct Root {
    folder: OwnedFd,
    /// It is the kernel's, not a recorded tree.
    is_procfs: bool,
    /// The kernel has reported a number of open files, so they need not be listed.
    tells_open_files: bool,
}

/// Identifies a process: the kernel reuses a pid some time after its process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// In clock ticks since boot.
    pub(super) start: i64,
}

/// A process at this tick.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is about a tick of its own or about other processes")]
pub(super) struct Entry {
    pid: i32,
    pub(super) stat: Stat,
    /// CPU time at the previous tick, in clock ticks, and the time of that tick.
    before: Option<(i64, i64)>,
    /// When it was read.
    read_ns: i64,
    command: [u8; COMMAND_BYTES_MAX],
    command_len: usize,
    file: Kept,
    /// The slot of its last row.
    pub(super) slot: Option<usize>,
    /// It has a row at this tick.
    pub(super) chosen: bool,
    /// It had a row at the previous tick.
    pub(super) was_chosen: bool,
    /// A process that is asked for has started it, or one that this one has started.
    pub(super) is_below: bool,
    /// It could not be read at this tick.
    is_gone: bool,
}

impl ProcessTable {
    /// The processes of `procfs`; nothing is read yet.
    pub(super) fn new(procfs: PathBuf) -> ProcessTable {
        ProcessTable {
            procfs,
            processes: Vec::with_capacity(PROCESSES_USUAL),
            next: Vec::with_capacity(PROCESSES_USUAL),
            pids: Vec::with_capacity(PROCESSES_USUAL),
            listing: listing(),
            path: Vec::new(),
            reader: Reader::default(),
            root: None,
            processes_max: PROCESSES_MAX,
            beyond: false,
            forbidden: Forbidden::default(),
        }
    }

    /// Lists the processes, up to the limit; whether there are more.
    pub(super) fn list(&mut self) -> Result<bool, SampleError> {
        let root = open_root(&self.procfs, &mut self.root)?;
        let ProcessTable { pids, listing, processes_max, .. } = self;
        pids.clear();
        let mut beyond = false;
        list(&root.folder, listing, |entry| {
            let Some(pid) = number(entry.file_name().to_bytes()).and_then(|pid| i32::try_from(pid).ok()) else {
                return true;
            };
            beyond = pids.len() == *processes_max;
            if !beyond {
                pids.push(pid);
            }
            !beyond
        })
        .map_err(|error| failed("processes", error))?;
        // The kernel lists them in order; a recorded tree may not.
        pids.sort_unstable();
        Ok(beyond)
    }

    /// Lists the processes and reads each at the tick of `now_ns`, but those that end meanwhile or kymo may not see.
    pub(super) fn refresh(&mut self, now_ns: i64, outcome: &mut Outcome) -> Result<(), SampleError> {
        let beyond = self.list()?;
        if beyond && !self.beyond {
            outcome.fail("processes", format_args!("more than {}; the others are not read", self.processes_max));
        }
        self.beyond = beyond;
        self.adopt();
        let ProcessTable { procfs, processes, reader, root, forbidden, .. } = self;
        let root = open_root(procfs, root)?;
        let mut some_gone = false;
        // Each is parsed right after its read: reading many first would push them out of the processor's nearest cache.
        for process in &mut *processes {
            let pid = process.pid;
            process.is_gone = true;
            match reader.read(&root.folder, path_of(pid, "stat"), &mut process.file) {
                Ok(bytes) => match parse_stat(bytes) {
                    Some((command, stat)) => process.update(command, stat, now_ns),
                    None => outcome.fail(FILE, format_args!("{pid}: {}", bytes.escape_ascii())),
                },
                Err(error) if is_gone(error) => {}
                Err(error) if is_forbidden(error) => forbidden.processes += 1,
                Err(error) => outcome.fail(FILE, format_args!("{pid}: {error}")),
            }
            some_gone |= process.is_gone;
        }
        if some_gone {
            processes.retain(|process| !process.is_gone);
        }
        Ok(())
    }

    /// How many of them are in which state.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.processes.iter().for_each(|process| counts.add(process.stat.state));
        counts
    }

    /// Marks the processes that `root` has started, and those that these have started.
    pub(super) fn mark_below(&mut self, root: i32) {
        // Most processes have greater ids than their parents, so the second round usually marks none.
        loop {
            let mut marked = false;
            for at in 0..self.processes.len() {
                let Some(process) = self.processes.get(at).filter(|process| !process.is_below) else { continue };
                let parent = i32::try_from(process.stat.parent).unwrap_or(0);
                let of_marked = || {
                    let found = self.processes.binary_search_by_key(&parent, |other| other.pid).ok();
                    found.and_then(|at| self.processes.get(at)).is_some_and(|parent| parent.is_below)
                };
                if parent == root || of_marked() {
                    marked = true;
                    self.processes.iter_mut().skip(at).take(1).for_each(|process| process.is_below = true);
                }
            }
            if !marked {
                return;
            }
        }
    }

    /// Makes `processes` the listed ones, keeping what is known. At most ticks nothing changes.
    fn adopt(&mut self) {
        let ProcessTable { processes, next, pids, .. } = self;
        if processes.iter().map(|process| process.pid).eq(pids.iter().copied()) {
            return;
        }
        next.clear();
        let mut known = processes.drain(..).peekable();
        for &pid in pids.iter() {
            while known.next_if(|process| process.pid < pid).is_some() {}
            next.push(known.next_if(|process| process.pid == pid).unwrap_or_else(|| Entry::new(pid)));
        }
        drop(known);
        std::mem::swap(processes, next);
    }

    /// The bytes that the process read from and wrote to storage; `None` if kymo may not see them.
    pub(super) fn io(&mut self, pid: i32, kept: &mut Kept) -> (Option<i64>, Option<i64>) {
        let Ok(root) = open_root(&self.procfs, &mut self.root) else { return (None, None) };
        let read = self.reader.read(&root.folder, path_of(pid, "io"), kept);
        self.forbidden.io += u32::from(read.is_err_and(is_forbidden));
        read.map_or((None, None), parse_io)
    }

    /// Whose process it is; `None` for a recorded tree, or if it has ended.
    pub(super) fn user(&mut self, pid: i32) -> Option<i64> {
        let root = open_root(&self.procfs, &mut self.root).ok()?;
        // The folder of a process belongs to its effective user, whatever it may be seen of it.
        let path = c_path(&mut self.path, path_of(pid, "")).ok()?;
        let stat = statat(&root.folder, path, AtFlags::empty()).ok()?;
        root.is_procfs.then(|| i64::from(stat.st_uid))
    }

    /// Writes the path of the process's control group to `path`; nothing if it is not known.
    pub(super) fn cgroup(&mut self, pid: i32, path: &mut Vec<u8>) {
        path.clear();
        let Ok(root) = open_root(&self.procfs, &mut self.root) else { return };
        let read = self.reader.read(&root.folder, path_of(pid, "cgroup"), &mut Kept::default());
        path.extend_from_slice(read.ok().and_then(parse_cgroup).unwrap_or_default());
    }

    /// The number of open files of the process; `None` if kymo may not see it.
    pub(super) fn open_files(&mut self, pid: i32) -> Option<i64> {
        let root = open_root(&self.procfs, &mut self.root).ok()?;
        let path = c_path(&mut self.path, path_of(pid, "fd")).ok()?;
        if root.is_procfs {
            // Since Linux 6.2 the folder's size is the number of files; before, and for kernel threads, it is zero.
            let size = statat(&root.folder, path, AtFlags::empty()).ok()?.st_size;
            root.tells_open_files |= size > 0;
            if root.tells_open_files {
                return Some(size);
            }
        }
        let opened = open_folder_at(&root.folder, path);
        self.forbidden.files += u32::from(opened.as_ref().is_err_and(|error| is_forbidden(*error)));
        let folder = opened.ok()?;
        let mut files = 0;
        list(folder, &mut self.listing, |_| {
            files += 1;
            files <= OPEN_FILES_MAX
        })
        .ok()?;
        (files <= OPEN_FILES_MAX).then_some(files)
    }
}

impl Entry {
    fn new(pid: i32) -> Entry {
        Entry {
            pid,
            stat: Stat::default(),
            before: None,
            read_ns: i64::MIN,
            command: [0; COMMAND_BYTES_MAX],
            command_len: 0,
            file: Kept::default(),
            slot: None,
            chosen: false,
            was_chosen: false,
            is_below: false,
            is_gone: false,
        }
    }

    fn update(&mut self, command: &[u8], stat: Stat, now_ns: i64) {
        let same = self.read_ns != i64::MIN && self.stat.start == stat.start;
        self.before = same.then(|| (self.stat.cpu(), self.read_ns));
        self.was_chosen = same && self.chosen;
        if !same {
            (self.slot, self.is_below) = (None, false);
        }
        (self.chosen, self.is_gone) = (false, false);
        self.read_ns = now_ns;
        self.stat = stat;
        let command = stable_command(command);
        let (len, room) = (command.len().min(COMMAND_BYTES_MAX), &mut self.command);
        if let (Some(to), Some(from)) = (room.get_mut(..len), command.get(..len)) {
            to.copy_from_slice(from);
            self.command_len = len;
        }
    }

    pub(super) fn identity(&self) -> Identity {
        Identity { pid: self.pid, start: self.stat.start }
    }

    /// The name that the process gave itself, or that of its executable file.
    pub(super) fn command(&self) -> &[u8] {
        self.command.get(..self.command_len).unwrap_or_default()
    }

    /// CPU time since the previous tick, in clock ticks; all of it if the process was not there then.
    pub(super) fn cpu_since(&self) -> i64 {
        self.stat.cpu().saturating_sub(self.before.map_or(0, |(cpu, _)| cpu))
    }

    /// The share of one CPU since the previous tick; NaN if the process was not there then.
    pub(super) fn cpu_ratio(&self, clock_ticks_per_second: f64) -> f64 {
        let Some((_, before_ns)) = self.before else { return f64::NAN };
        let seconds = self.read_ns.saturating_sub(before_ns) as f64 / NS_PER_SECOND;
        let since = self.cpu_since();
        if seconds > 0.0 && since >= 0 { since as f64 / (clock_ticks_per_second * seconds) } else { f64::NAN }
    }
}

fn open_root<'a>(procfs: &Path, root: &'a mut Option<Root>) -> Result<&'a mut Root, SampleError> {
    if root.is_none() {
        let folder =
            open_folder(procfs).map_err(|error| failed("processes", format_args!("{}: {error}", procfs.display())))?;
        let is_procfs = fstatfs(&folder).is_ok_and(|found| u64::try_from(found.f_type) == Ok(PROCFS_MAGIC));
        *root = Some(Root { folder, is_procfs, tells_open_files: false });
    }
    root.as_mut().ok_or_else(|| failed("processes", "procfs is not open"))
}

/// With `hidepid`, procfs shows only the pids of other users' processes, or nothing of them.
fn is_forbidden(error: Errno) -> bool {
    matches!(error, Errno::ACCESS | Errno::PERM)
}

/// Writes the path of a process's file.
fn path_of(pid: i32, file: &str) -> impl FnOnce(&mut Vec<u8>) {
    // Writing to memory does not fail.
    move |path| _ = write!(path, "{pid}/{file}")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn stat(pid: usize) -> String {
        format!("{pid} (x) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 9 0 10 11 12\n")
    }

    fn refresh(table: &mut ProcessTable, now_ns: i64) -> Result<(), SampleError> {
        let mut outcome = Outcome::default();
        table.refresh(now_ns, &mut outcome).unwrap();
        outcome.into_result()
    }

    #[test]
    fn ten_thousand_processes_are_read_and_no_more_than_there_may_be() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("1")).unwrap();
        fs::write(folder.path().join("1/stat"), stat(1)).unwrap();
        for pid in 2..=10_000 {
            symlink("1", folder.path().join(pid.to_string())).unwrap();
        }
        let mut table = ProcessTable::new(folder.path().into());
        for now_ns in 0..2 {
            refresh(&mut table, now_ns).unwrap();
            assert!(table.processes.iter().map(|process| process.pid).eq(1..=10_000));
        }
        let mut table = ProcessTable { processes_max: 300, ..ProcessTable::new(folder.path().into()) };
        for now_ns in 0..3 {
            // It is reported once.
            assert_eq!(refresh(&mut table, now_ns).is_err(), now_ns == 0);
            assert_eq!(table.processes.len(), 300);
        }
    }

    #[test]
    fn the_steady_state_needs_no_more_room() {
        let folder = tempfile::tempdir().unwrap();
        for pid in 1..=100 {
            fs::create_dir(folder.path().join(pid.to_string())).unwrap();
            fs::write(folder.path().join(format!("{pid}/stat")), stat(pid)).unwrap();
        }
        let mut table = ProcessTable::new(folder.path().into());
        let mut rooms = Vec::new();
        for now_ns in 0..5 {
            refresh(&mut table, now_ns).unwrap();
            let mut tables = [table.processes.as_ptr(), table.next.as_ptr()];
            tables.sort_unstable();
            rooms.push((tables, table.pids.as_ptr(), table.listing.as_ptr()));
        }
        assert_eq!(rooms[2], rooms[1]);
        assert_eq!(rooms[4], rooms[1]);
    }

    #[test]
    fn without_procfs_there_is_an_error_that_names_it() {
        let error = ProcessTable::new("/nowhere/at all".into()).list().unwrap_err();
        assert_eq!(error.to_string(), "read processes: /nowhere/at all: No such file or directory (os error 2)");
    }

    /// The kernel before 6.2 does not say how many there are.
    #[test]
    fn open_files_are_counted_up_to_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("7/fd")).unwrap();
        let mut table = ProcessTable::new(folder.path().into());
        assert_eq!((table.open_files(7), table.open_files(8)), (Some(0), None));
        let open = |file: i64| symlink("/dev/null", folder.path().join(format!("7/fd/{file}"))).unwrap();
        (0..OPEN_FILES_MAX).for_each(open);
        assert_eq!(table.open_files(7), Some(OPEN_FILES_MAX));
        open(OPEN_FILES_MAX);
        assert_eq!(table.open_files(7), None);
    }
}
