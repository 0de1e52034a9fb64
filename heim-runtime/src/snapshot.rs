//! One thread's view of procfs and sysfs, tick by tick.
//!
//! A tick lasts from [`begin`] until its guard is dropped. In a tick, a file is read for its first
//! reader. All later readers, heim as well as [`with_proc`] and [`with_sys`], get the same bytes.
//! Outside of a tick every read is fresh. In both cases the descriptor and the buffer are kept for
//! the next read, so a read costs one `pread` and allocates nothing.
//!
//! Different files of one tick are still read one after the other.
//!
//! # Limits
//!
//! A thread keeps 128 files and 32 MiB of buffers. The least recently used files are dropped first,
//! but none that the present tick has read. A file for which there is no room then is read again at
//! each request.
//!
//! # Files that change
//!
//! A kept descriptor stays with the file that it was opened on. The kernel refuses to read a device,
//! a control group or a process that is gone. Then the path is opened once more, and if that fails,
//! this is the error. So a file of procfs or sysfs is always the one at its path, except that files
//! below `net` stay with the network namespace in which they were opened.
//!
//! In a tree of plain files, a file that is rewritten in place shows its new bytes. A file that is
//! replaced by a rename, or deleted, shows its old bytes until
//! [`set_roots`](crate::linux::set_roots) is called.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::OwnedFd;

use crate::file::{self, Content, Shape};

/// Descriptors that a thread keeps.
const FILES_MAX: usize = 128;

/// Bytes of buffer that a thread keeps, over all files.
const BUFFERS_BYTES_MAX: usize = 32 << 20;

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::default());
}

/// Starts a tick on this thread: drops the bytes of earlier ticks, keeps descriptors and buffers.
///
/// The tick ends when the guard is dropped or another tick begins. Dropping the older guard then has
/// no effect.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use heim_runtime::snapshot;
///
/// let _tick = snapshot::begin();
/// let first = snapshot::with_proc("uptime", <[u8]>::to_vec)?;
/// let again = snapshot::with_proc("uptime", <[u8]>::to_vec)?;
/// assert_eq!(first, again);
/// # Ok(())
/// # }
/// ```
#[inline]
pub fn begin() -> Tick {
    STATE.with_borrow_mut(|state| {
        state.ticks += 1;
        state.tick = Some(state.ticks);
        Tick { number: state.ticks, thread: PhantomData }
    })
}

/// A tick that is open on this thread. Dropping it ends the tick.
#[derive(Debug)]
#[must_use = "the tick ends when this is dropped"]
pub struct Tick {
    number: u64,
    // Makes the guard not `Send`: on another thread it would end nothing.
    thread: PhantomData<*const ()>,
}

impl Drop for Tick {
    #[inline]
    fn drop(&mut self) {
        // When the thread ends, its state and the tick may already be gone.
        let _ = STATE.try_with(|state| {
            let mut state = state.borrow_mut();
            if state.tick == Some(self.number) {
                state.tick = None;
            }
        });
    }
}

/// Calls `parse` with the bytes of the file `name` below procfs' root, such as `"net/dev"`.
///
/// `parse` may read other files, and even this one.
///
/// # Errors
///
/// If the file cannot be opened or read, or has more than 16 MiB. The error names the path.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let cpus = heim_runtime::snapshot::with_proc("stat", |bytes| {
///     bytes.split(|&b| b == b'\n').filter(|line| line.starts_with(b"cpu")).count() - 1
/// })?;
/// assert!(cpus > 0);
/// # Ok(())
/// # }
/// ```
pub fn with_proc<R>(name: impl AsRef<Path>, parse: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
    let content = STATE.with_borrow_mut(|state| state.read_below(Root::Proc, name.as_ref()))?;
    Ok(parse(&content.bytes))
}

/// Reads these files below procfs' root now, one right after the other, for later readers in the open tick.
///
/// That brings the files closer to one moment than reading each on request, with parsing in between. It also saves
/// time, as the processor's predictions stay on the kernel's path. A file that cannot be read is tried again when it is
/// requested, and the error is returned then. Without an open tick nothing is read.
pub fn read_ahead_proc(names: impl IntoIterator<Item = impl AsRef<Path>>) {
    for name in names {
        STATE.with_borrow_mut(|state| {
            if state.tick.is_some() {
                let _ = state.read_below(Root::Proc, name.as_ref());
            }
        });
    }
}

/// Calls `parse` with the bytes of the file `name` below sysfs' root, such as
/// `"class/net/eth0/speed"`.
///
/// # Errors
///
/// As those of [`with_proc`].
pub fn with_sys<R>(name: impl AsRef<Path>, parse: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
    let content = STATE.with_borrow_mut(|state| state.read_below(Root::Sys, name.as_ref()))?;
    Ok(parse(&content.bytes))
}

/// The bytes of the file at `path`: of this tick if it is below a root, fresh otherwise.
pub(crate) fn read(path: &Path) -> io::Result<Arc<Content>> {
    STATE.with_borrow_mut(|state| state.read(path))
}

/// Gives readers `content` in place of its file, and returns the previous substitute.
pub(crate) fn replace_substitute(content: Option<Arc<Content>>) -> Option<Arc<Content>> {
    // When the thread ends, there are no readers any more.
    STATE.try_with(|state| std::mem::replace(&mut state.borrow_mut().substitute, content)).unwrap_or_default()
}

pub(crate) fn procfs_root() -> Arc<Path> {
    STATE.with_borrow(|state| Arc::clone(&state.procfs))
}

pub(crate) fn sysfs_root() -> Arc<Path> {
    STATE.with_borrow(|state| Arc::clone(&state.sysfs))
}

pub(crate) fn set_roots(procfs: Arc<Path>, sysfs: Arc<Path>, through_init: bool) {
    STATE.with_borrow_mut(|state| {
        state.procfs = procfs;
        state.sysfs = sysfs;
        state.through_init = through_init;
        state.files.clear();
        state.buffers_bytes = 0;
    });
}

/// What a thread keeps. It is never borrowed while a caller's code runs.
struct State {
    procfs: Arc<Path>,
    sysfs: Arc<Path>,
    /// Whether files that depend on the reader's namespace are read as the first process's.
    through_init: bool,
    /// The open tick.
    tick: Option<u64>,
    /// The number of ticks begun, which is the number of the last one.
    ticks: u64,
    /// The number of reads of kept files: a clock to find the least recently used file.
    uses: u64,
    /// They are few, and a collector that ticks often reads two or three. Searching through them then touches less memory
    /// than a hash map.
    files: Vec<File>,
    /// The bytes that heim gets in place of a file. Its path is relative to procfs' root.
    substitute: Option<Arc<Content>>,
    /// The sum of the capacities of the files' buffers.
    buffers_bytes: usize,
    /// A buffer in which [`State::read_below`] joins a path without allocating.
    joined: Vec<u8>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            procfs: Path::new("/proc").into(),
            sysfs: Path::new("/sys").into(),
            through_init: false,
            tick: None,
            ticks: 0,
            uses: 0,
            files: Vec::new(),
            substitute: None,
            buffers_bytes: 0,
            joined: Vec::new(),
        }
    }
}

#[derive(Clone, Copy)]
enum Root {
    Proc,
    Sys,
}

impl State {
    #[inline]
    fn read_below(&mut self, root: Root, name: &Path) -> io::Result<Arc<Content>> {
        let mut path = mem::take(&mut self.joined);
        path.clear();
        let below = match root {
            Root::Proc => &self.procfs,
            Root::Sys => &self.sysfs,
        };
        // The path must equal the one that heim joins; otherwise they would be two files.
        path.extend_from_slice(below.as_os_str().as_bytes());
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_os_str().as_bytes());
        let content = self.read_kept(&path);
        self.joined = path;
        content
    }

    fn read(&mut self, path: &Path) -> io::Result<Arc<Content>> {
        let bytes = path.as_os_str().as_bytes();
        if let Some(content) = &self.substitute
            && below(&self.procfs, bytes) == Some(content.path.as_os_str().as_bytes())
        {
            return Ok(Arc::clone(content));
        }
        if below(&self.procfs, bytes).is_some() || below(&self.sysfs, bytes).is_some() {
            return self.read_kept(bytes);
        }
        let mut content = Content::new(path.to_path_buf());
        content.fill(&file::open(path)?, Shape::Unknown)?;
        Ok(Arc::new(content))
    }

    #[inline]
    fn read_kept(&mut self, path: &[u8]) -> io::Result<Arc<Content>> {
        self.uses += 1;
        let Some(at) = self.files.iter().position(|file| *file.path == *path) else {
            return self.read_first(path);
        };
        let file = &mut self.files[at];
        file.used = self.uses;
        if self.tick.is_some() && file.tick == self.tick {
            return Ok(Arc::clone(&file.content));
        }
        self.buffers_bytes -= file.buffer_bytes();
        match file.refresh() {
            Ok(()) => {
                file.tick = self.tick;
                self.buffers_bytes += file.buffer_bytes();
                let content = Arc::clone(&file.content);
                self.trim();
                Ok(content)
            }
            Err(error) => {
                self.files.swap_remove(at);
                Err(error)
            }
        }
    }

    #[cold]
    fn read_first(&mut self, path: &[u8]) -> io::Result<Arc<Content>> {
        let shape = match below(&self.procfs, path) {
            Some(name) => Shape::of_proc(name),
            None => below(&self.sysfs, path).map_or(Shape::Unknown, Shape::of_sys),
        };
        let mut content = Content::new(self.real_path(path));
        let descriptor = file::open(&content.path)?;
        content.fill(&descriptor, shape)?;
        let content = Arc::new(content);
        let file = File {
            path: path.into(),
            descriptor,
            shape,
            content: Arc::clone(&content),
            tick: self.tick,
            used: self.uses,
        };
        self.buffers_bytes += file.buffer_bytes();
        self.files.push(file);
        self.trim();
        Ok(content)
    }

    /// The path that is opened for `path`: procfs' `net` and `mounts` depend on the reading process.
    fn real_path(&self, path: &[u8]) -> PathBuf {
        match below(&self.procfs, path) {
            Some(name) if self.through_init && (name.starts_with(b"net/") || name == b"mounts") => {
                self.procfs.join("1").join(OsStr::from_bytes(name))
            }
            _ => PathBuf::from(OsStr::from_bytes(path)),
        }
    }

    /// Drops files until the limits are kept. Files that the open tick has read stay; if there are no
    /// others, the file just read is dropped.
    #[inline]
    fn trim(&mut self) {
        while self.files.len() > FILES_MAX || self.buffers_bytes > BUFFERS_BYTES_MAX {
            let rank = |file: &File| {
                let spared = self.tick.is_some() && file.tick == self.tick;
                (spared, if spared { u64::MAX - file.used } else { file.used })
            };
            let Some((at, _)) = self.files.iter().enumerate().min_by_key(|(_, file)| rank(file)) else {
                return;
            };
            self.buffers_bytes -= self.files.swap_remove(at).buffer_bytes();
        }
    }
}

/// A file that is kept open.
struct File {
    /// As it was asked for.
    path: Box<[u8]>,
    descriptor: OwnedFd,
    shape: Shape,
    /// Shared with readers; the buffer is reused when they are gone.
    content: Arc<Content>,
    /// The tick in which the content was read, if any.
    tick: Option<u64>,
    /// The value of [`State::uses`] at its last use.
    used: u64,
}

impl File {
    #[inline]
    fn refresh(&mut self) -> io::Result<()> {
        if let Some(content) = Arc::get_mut(&mut self.content) {
            return refill(content, &mut self.descriptor, self.shape);
        }
        let mut content = Content::new(self.content.path.clone());
        refill(&mut content, &mut self.descriptor, self.shape)?;
        self.content = Arc::new(content);
        Ok(())
    }

    fn buffer_bytes(&self) -> usize {
        self.content.bytes.capacity()
    }
}

/// Reads a file that was read before. The file behind `descriptor` may be gone, and a new one may be
/// at its path.
#[inline]
fn refill(content: &mut Content, descriptor: &mut OwnedFd, shape: Shape) -> io::Result<()> {
    match content.fill(descriptor, shape) {
        Err(error) if error.kind() != io::ErrorKind::FileTooLarge => {
            *descriptor = file::open(&content.path)?;
            content.fill(descriptor, shape)
        }
        done => done,
    }
}

/// The part of `path` below `root`.
fn below<'a>(root: &Path, path: &'a [u8]) -> Option<&'a [u8]> {
    let root = root.as_os_str().as_bytes();
    let root = root.strip_suffix(b"/").unwrap_or(root);
    path.strip_prefix(root)?.strip_prefix(b"/")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};
    use std::thread;

    use tempfile::TempDir;

    use super::*;
    use crate::{fs as heim_fs, linux, ready};

    /// A recorded tree as this thread's procfs and sysfs.
    struct Tree(TempDir);

    impl Tree {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("proc/net")).unwrap();
            fs::create_dir_all(folder.path().join("sys/class")).unwrap();
            linux::set_roots(folder.path().join("proc"), folder.path().join("sys"));
            Self(folder)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) {
            fs::write(self.path(name), text).unwrap();
        }
    }

    fn proc(name: &str) -> Vec<u8> {
        with_proc(name, <[u8]>::to_vec).unwrap()
    }

    fn kept<R>(look: impl FnOnce(&State) -> R) -> R {
        STATE.with_borrow(look)
    }

    #[test]
    fn all_readers_of_a_tick_get_the_same_bytes() {
        let tree = Tree::new();
        tree.write("proc/stat", "one\n");
        tree.write("sys/class/x", "one\n");
        let tick = begin();
        assert_eq!(proc("stat"), b"one\n");
        with_sys("class/x", |bytes| assert_eq!(bytes, b"one\n")).unwrap();
        tree.write("proc/stat", "two, and longer\n");
        tree.write("sys/class/x", "two\n");
        assert_eq!(proc("stat"), b"one\n");
        with_sys("class/x", |bytes| assert_eq!(bytes, b"one\n")).unwrap();
        let path = linux::procfs_root().join("stat");
        assert_eq!(ready(heim_fs::read_to_string(path)).unwrap().unwrap(), "one\n");
        drop(tick);

        let _tick = begin();
        assert_eq!(proc("stat"), b"two, and longer\n");
        with_sys("class/x", |bytes| assert_eq!(bytes, b"two\n")).unwrap();
        tree.write("proc/stat", "");
        let _tick = begin();
        assert_eq!(proc("stat"), b"");
    }

    #[test]
    fn namespaces_of_a_host_are_those_of_its_first_process() {
        let tree = Tree::new();
        fs::create_dir_all(tree.path("proc/1/net")).unwrap();
        for (name, text) in [("net/dev", "own"), ("1/net/dev", "host's"), ("mounts", "own"), ("1/mounts", "host's")] {
            tree.write(&format!("proc/{name}"), text);
        }
        assert_eq!((proc("net/dev"), proc("mounts")), (b"own".to_vec(), b"own".to_vec()));
        linux::set_roots_of_host(tree.path("proc"), tree.path("sys"));
        assert_eq!((proc("net/dev"), proc("mounts")), (b"host's".to_vec(), b"host's".to_vec()));
        let path = linux::procfs_root().join("net/dev");
        assert_eq!(ready(heim_fs::read_to_string(path)).unwrap().unwrap(), "host's");
        linux::set_roots(tree.path("proc"), tree.path("sys"));
        assert_eq!(proc("net/dev"), b"own");
    }

    #[test]
    fn outside_of_a_tick_every_read_is_fresh() {
        let tree = Tree::new();
        for text in ["one", "two"] {
            tree.write("proc/stat", text);
            assert_eq!(proc("stat"), text.as_bytes());
        }
        // What was read outside of a tick is not taken for a later one's, nor the other way round.
        tree.write("proc/stat", "three");
        let tick = begin();
        assert_eq!(proc("stat"), b"three");
        drop(tick);
        tree.write("proc/stat", "four");
        assert_eq!(proc("stat"), b"four");
    }

    #[test]
    fn an_older_guard_does_not_end_a_newer_tick() {
        let tree = Tree::new();
        tree.write("proc/stat", "one");
        let older = begin();
        let newer = begin();
        assert_eq!(proc("stat"), b"one");
        drop(older);
        tree.write("proc/stat", "two");
        assert_eq!(proc("stat"), b"one");
        drop(newer);
        assert_eq!(proc("stat"), b"two");
    }

    #[test]
    fn a_buffer_is_used_again_unless_somebody_still_reads_it() {
        let tree = Tree::new();
        tree.write("proc/stat", "one\n");
        let at = || with_proc("stat", <[u8]>::as_ptr).unwrap();
        let first = at();
        let _tick = begin();
        assert_eq!(at(), first);

        let reader = read(&linux::procfs_root().join("stat")).unwrap();
        tree.write("proc/stat", "two\n");
        let _tick = begin();
        assert_eq!(proc("stat"), b"two\n");
        assert_eq!(reader.bytes, b"one\n");
        kept(|state| assert_eq!(state.files.len(), 1));
    }

    #[test]
    fn a_parser_may_read() {
        let tree = Tree::new();
        tree.write("proc/stat", "one");
        tree.write("proc/net/dev", "two");
        let _tick = begin();
        with_proc("stat", |outer| {
            assert_eq!(proc("net/dev"), b"two");
            let _tick = begin();
            tree.write("proc/stat", "new");
            assert_eq!(proc("stat"), b"new");
            assert_eq!(outer, b"one");
        })
        .unwrap();
    }

    #[test]
    fn new_roots_drop_what_was_kept() {
        let old = Tree::new();
        old.write("proc/stat", "old");
        let _tick = begin();
        assert_eq!(proc("stat"), b"old");
        let new = Tree::new();
        new.write("proc/stat", "new");
        kept(|state| assert_eq!((state.files.len(), state.buffers_bytes), (0, 0)));
        assert_eq!(proc("stat"), b"new");

        linux::set_procfs_root(old.path("proc"));
        assert_eq!(proc("stat"), b"old");
        assert_eq!(*linux::sysfs_root(), *new.path("sys"));
        linux::set_sysfs_root("/sys");
        assert_eq!(*linux::procfs_root(), *old.path("proc"));
        assert_eq!(*linux::sysfs_root(), *Path::new("/sys"));
        let roots = || (linux::procfs_root(), linux::sysfs_root());
        let elsewhere = thread::spawn(roots).join().unwrap();
        assert_eq!(elsewhere, (Path::new("/proc").into(), Path::new("/sys").into()));
    }

    #[test]
    fn a_root_may_end_with_a_slash() {
        let tree = Tree::new();
        tree.write("proc/stat", "one");
        linux::set_roots(tree.path("proc/"), tree.path("sys/"));
        proc("stat");
        ready(heim_fs::read_to_string(linux::procfs_root().join("stat"))).unwrap().unwrap();
        kept(|state| assert_eq!(state.files.len(), 1));
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_with_its_path() {
        let tree = Tree::new();
        let error = with_proc("stat", |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let path = tree.path("proc/stat");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        kept(|state| assert_eq!((state.files.len(), state.buffers_bytes), (0, 0)));
        // Not even inside of one tick is it remembered.
        let _tick = begin();
        assert!(with_proc("stat", |_| ()).is_err());
        tree.write("proc/stat", "late");
        assert_eq!(proc("stat"), b"late");
        let error = with_proc("net", |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn a_process_that_ended_is_an_error_with_its_path() {
        linux::set_roots("/proc", "/sys");
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let name = format!("{}/stat", child.id());
        with_proc(&name, |bytes| assert!(!bytes.is_empty())).unwrap();
        kept(|state| assert_eq!(state.files.len(), 1));
        drop(child.stdin.take());
        child.wait().unwrap();
        let error = with_proc(&name, |_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains(&name), "{error}");
        kept(|state| assert_eq!((state.files.len(), state.buffers_bytes), (0, 0)));
    }

    /// A descriptor that fails, as one of a device that was unplugged does, and a path that leads
    /// to another device by now.
    #[test]
    fn a_descriptor_that_fails_is_opened_anew() {
        let tree = Tree::new();
        tree.write("proc/stat", "one");
        proc("stat");
        STATE.with_borrow_mut(|state| {
            for file in &mut state.files {
                file.descriptor = file::open(tree.0.path()).unwrap();
            }
        });
        tree.write("proc/stat", "two");
        assert_eq!(proc("stat"), b"two");
        kept(|state| assert_eq!(state.files.len(), 1));
    }

    #[test]
    fn the_least_recently_used_files_go_first() {
        let tree = Tree::new();
        let names: Vec<String> = (0..FILES_MAX + 10).map(|i| format!("{i}")).collect();
        for name in &names {
            tree.write(&format!("proc/{name}"), name);
        }
        tree.write("proc/stat", "used all the time");
        for name in &names {
            assert_eq!(proc(name), name.as_bytes());
            proc("stat");
        }
        let key = |name: &str| -> Vec<u8> { tree.path("proc").join(name).into_os_string().into_encoded_bytes() };
        kept(|state| {
            assert_eq!(state.files.len(), FILES_MAX);
            let sum: usize = state.files.iter().map(File::buffer_bytes).sum();
            assert_eq!(state.buffers_bytes, sum);
            let has = |name| state.files.iter().any(|file| *file.path == *key(name));
            assert_eq!(["stat", "10", "11"].map(has), [true, false, true]);
        });
    }

    #[test]
    fn what_a_tick_has_read_is_kept_before_what_it_reads_later() {
        let tree = Tree::new();
        tree.write("proc/early", "one");
        tree.write("proc/late", "one");
        let _tick = begin();
        proc("early");
        for i in 1..FILES_MAX {
            tree.write(&format!("proc/{i}"), "");
            proc(&format!("{i}"));
        }
        assert_eq!(proc("late"), b"one");
        tree.write("proc/early", "two");
        tree.write("proc/late", "two");
        assert_eq!(proc("early"), b"one");
        assert_eq!(proc("late"), b"two");
        kept(|state| assert_eq!(state.files.len(), FILES_MAX));
    }

    #[test]
    fn large_buffers_are_not_kept_for_ever() {
        let tree = Tree::new();
        for i in 0..4 {
            let path = tree.path(&format!("proc/{i}"));
            fs::File::create(path).unwrap().set_len(12 << 20).unwrap();
        }
        for _ in 0..2 {
            let _tick = begin();
            for i in 0..4 {
                with_proc(format!("{i}"), |bytes| assert_eq!(bytes.len(), 12 << 20)).unwrap();
                kept(|state| assert!(state.buffers_bytes <= BUFFERS_BYTES_MAX));
            }
        }
        kept(|state| assert!(!state.files.is_empty()));
    }

    #[test]
    fn a_path_is_below_a_root_by_whole_names() {
        let below = |root: &str, path: &'static str| below(Path::new(root), path.as_bytes());
        assert_eq!(below("/proc", "/proc/net/dev"), Some(&b"net/dev"[..]));
        assert_eq!(below("/proc/", "/proc/stat"), Some(&b"stat"[..]));
        assert_eq!(below("/proc", "/process/stat"), None);
        assert_eq!(below("/proc", "/sys/x"), None);
        assert_eq!(below("/", "/x"), Some(&b"x"[..]));
    }
}
