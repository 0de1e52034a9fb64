//! One thread's view of procfs and sysfs, tick by tick.
//!
//! A tick lasts from [`begin`] until its guard is dropped. Inside of it a file is read when the first reader
//! asks for it, and every further reader, be it heim or one of [`with_proc`] and [`with_sys`], gets the same
//! bytes. Outside of a tick every read is fresh. In both cases the descriptor and the buffer are kept for the
//! next read, so that a read costs one `pread` and nothing is allocated.
//!
//! Different files of one tick are still read one after the other.
//!
//! # Limits
//!
//! A thread keeps 128 files and 32 MiB of buffers. What was not used for the longest time goes first, but
//! nothing that the present tick has read: a file which finds no room then is served and not kept, and is read
//! anew when it is asked for again.
//!
//! # Files that change
//!
//! A kept descriptor stays with the file it was opened on. The kernel refuses to read a device, a control group
//! or a process that is gone, and then the path is opened once more; if that fails, this is the error. So a file
//! of procfs or sysfs is what its path says. In a tree of plain files, one that was rewritten in place shows its
//! new bytes, while one that was replaced by a rename, or deleted, shows its old ones until
//! [`set_roots`](crate::linux::set_roots) is called.

use std::cell::RefCell;
use std::collections::HashMap;
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

/// Starts a tick on this thread: bytes of earlier ticks are forgotten, descriptors and buffers are kept.
///
/// The tick ends when the guard is dropped, or when another one begins; the older guard then ends nothing.
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
pub fn begin() -> Tick {
    STATE.with_borrow_mut(|state| {
        state.ticks += 1;
        state.tick = Some(state.ticks);
        Tick {
            number: state.ticks,
            thread: PhantomData,
        }
    })
}

/// A tick that is open on this thread. Dropping it ends the tick.
#[derive(Debug)]
#[must_use = "the tick ends when this is dropped"]
pub struct Tick {
    number: u64,
    // Ending a tick on another thread would be ending nothing: this makes the guard stay where it is.
    thread: PhantomData<*const ()>,
}

impl Drop for Tick {
    fn drop(&mut self) {
        // When the thread is ending its state may be gone already, and the tick with it.
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

/// Calls `parse` with the bytes of the file `name` below sysfs' root, such as `"class/net/eth0/speed"`.
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

pub(crate) fn procfs_root() -> Arc<Path> {
    STATE.with_borrow(|state| Arc::clone(&state.procfs))
}

pub(crate) fn sysfs_root() -> Arc<Path> {
    STATE.with_borrow(|state| Arc::clone(&state.sysfs))
}

pub(crate) fn set_roots(procfs: Arc<Path>, sysfs: Arc<Path>) {
    STATE.with_borrow_mut(|state| {
        state.procfs = procfs;
        state.sysfs = sysfs;
        state.files.clear();
        state.buffers_bytes = 0;
    });
}

/// What a thread keeps. It is never borrowed while a caller's code runs.
struct State {
    procfs: Arc<Path>,
    sysfs: Arc<Path>,
    /// The open tick.
    tick: Option<u64>,
    /// Ticks begun; the number of the last one.
    ticks: u64,
    /// Reads of kept files; the clock by which the least recently used is found.
    uses: u64,
    files: HashMap<Box<[u8]>, File>,
    /// The sum of the capacities of the files' buffers.
    buffers_bytes: usize,
    /// Where [`State::read_below`] joins a path, so that it need not allocate one.
    joined: Vec<u8>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            procfs: Path::new("/proc").into(),
            sysfs: Path::new("/sys").into(),
            tick: None,
            ticks: 0,
            uses: 0,
            files: HashMap::new(),
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
    fn read_below(&mut self, root: Root, name: &Path) -> io::Result<Arc<Content>> {
        let mut path = mem::take(&mut self.joined);
        path.clear();
        let below = match root {
            Root::Proc => &self.procfs,
            Root::Sys => &self.sysfs,
        };
        // The path has to be the one that heim joins, or the two would be two files.
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
        if below(&self.procfs, bytes).is_some() || below(&self.sysfs, bytes).is_some() {
            return self.read_kept(bytes);
        }
        let mut content = Content::new(path.to_path_buf());
        content.fill(&file::open(path)?, Shape::Unknown)?;
        Ok(Arc::new(content))
    }

    fn read_kept(&mut self, path: &[u8]) -> io::Result<Arc<Content>> {
        self.uses += 1;
        let Some(file) = self.files.get_mut(path) else {
            return self.read_first(path);
        };
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
                self.files.remove(path);
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
        let mut content = Content::new(PathBuf::from(OsStr::from_bytes(path)));
        let descriptor = file::open(&content.path)?;
        content.fill(&descriptor, shape)?;
        let content = Arc::new(content);
        let file = File {
            descriptor,
            shape,
            content: Arc::clone(&content),
            tick: self.tick,
            used: self.uses,
        };
        self.buffers_bytes += file.buffer_bytes();
        self.files.insert(path.into(), file);
        self.trim();
        Ok(content)
    }

    /// Lets files go until the limits are kept. In a tick the files it has read are spared, and if there are no
    /// others, the one just read goes.
    fn trim(&mut self) {
        while self.files.len() > FILES_MAX || self.buffers_bytes > BUFFERS_BYTES_MAX {
            let spared = |file: &File| self.tick.is_some() && file.tick == self.tick;
            let rank = |file: &File| match spared(file) {
                false => (false, file.used),
                true => (true, u64::MAX - file.used),
            };
            let Some(path) = self
                .files
                .iter()
                .min_by_key(|(_, file)| rank(file))
                .map(|(path, _)| path.clone())
            else {
                return;
            };
            if let Some(file) = self.files.remove(&path) {
                self.buffers_bytes -= file.buffer_bytes();
            }
        }
    }
}

/// A file that is kept open.
struct File {
    descriptor: OwnedFd,
    shape: Shape,
    /// Shared with readers; the buffer is used again once they are gone.
    content: Arc<Content>,
    /// The tick in which the content was read, if in any.
    tick: Option<u64>,
    /// The value of [`State::uses`] when it was last asked for.
    used: u64,
}

impl File {
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

/// Reads a file that was read before. What `descriptor` was opened on may be gone, and something new be in its
/// place.
fn refill(content: &mut Content, descriptor: &mut OwnedFd, shape: Shape) -> io::Result<()> {
    match content.fill(descriptor, shape) {
        Err(error) if error.kind() != io::ErrorKind::FileTooLarge => {
            *descriptor = file::open(&content.path)?;
            content.fill(descriptor, shape)
        }
        done => done,
    }
}

/// What follows `root` and a slash in `path`.
fn below<'a>(root: &Path, path: &'a [u8]) -> Option<&'a [u8]> {
    let root = root.as_os_str().as_bytes();
    let root = root.strip_suffix(b"/").unwrap_or(root);
    path.strip_prefix(root)?.strip_prefix(b"/")
}
