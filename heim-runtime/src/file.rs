//! One file's bytes: how they are read whole with as few calls as the kernel allows.
//!
//! Most files of procfs and sysfs are made by the kernel's `seq_file` (`fs/seq_file.c`,
//! `Documentation/filesystems/seq_file.rst`), in one of two ways, and only the kind of the file says whether a
//! short read was its end:
//!
//! - `single_open()` makes the text as one record. The kernel's buffer grows until the record fits into it, and
//!   a read that leaves room in our buffer has got all of it.
//! - An iterator makes a record at a time. `seq_read_iter()` returns when the next record does not fit into
//!   what is left of the kernel's buffer, which has one page, or a power of two of pages after a record that
//!   was larger; a larger buffer of ours does not change that. If what a read returned leaves more room in the
//!   last page than the longest record takes, then it was the last one. Otherwise only a read of nothing tells.
//!
//! Of files which are in neither list, and where a read may stop is not known, everything is read until a read
//! gives nothing.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{pread, retry_on_intr};

/// The largest file that is read. `/proc/interrupts` of the largest hosts has 2 MiB or so.
const FILE_BYTES_MAX: usize = 16 << 20;

/// What a buffer has at first: `/proc/stat` of a host with 32 CPUs.
const BUFFER_BYTES_MIN: usize = 8 << 10;

/// The smallest page of any architecture; the others are its multiples.
const PAGE_BYTES: usize = 4 << 10;

/// No record of the files called [`Shape::Records`] is longer. The longest are lines of `net/dev` (16 numbers)
/// and `diskstats` (20), whose numbers have up to 20 digits.
const RECORD_BYTES_MAX: usize = 1 << 10;

/// A file's bytes as they were at one moment, and its name for errors about them.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

impl Content {
    pub(crate) fn new(path: PathBuf) -> Self {
        let bytes = Vec::new();
        Self { path, bytes }
    }

    /// All of it as text.
    pub(crate) fn text(&self) -> io::Result<&str> {
        self.text_of(&self.bytes)
    }

    /// A part of it as text.
    pub(crate) fn text_of<'a>(&self, part: &'a [u8]) -> io::Result<&'a str> {
        str::from_utf8(part).map_err(|source| {
            error(
                "parse",
                &self.path,
                io::Error::new(io::ErrorKind::InvalidData, source),
            )
        })
    }

    /// Reads all of `file` into the buffer, which keeps its capacity.
    ///
    /// Several reads are not one moment; the kernel promises that for none of its iterators.
    pub(crate) fn fill(&mut self, file: &OwnedFd, shape: Shape) -> io::Result<()> {
        self.read(file, shape)
            .map_err(|source| error("read", &self.path, source))
    }

    fn read(&mut self, file: &OwnedFd, shape: Shape) -> io::Result<()> {
        let bytes = &mut self.bytes;
        bytes.clear();
        let mut filled = false;
        // Ends: every round but the last adds bytes, and their number is limited.
        loop {
            if bytes.capacity() - bytes.len() <= PAGE_BYTES {
                bytes.reserve(bytes.len().max(BUFFER_BYTES_MIN));
            }
            let room = bytes.capacity() - bytes.len();
            let offset = bytes.len() as u64;
            let n =
                retry_on_intr(|| pread(file.as_fd(), spare_capacity(&mut *bytes), offset))?;
            if n == 0 {
                return Ok(());
            }
            if bytes.len() > FILE_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("has more than {FILE_BYTES_MAX} bytes"),
                ));
            }
            // What follows a read that was cut by our buffer begins in the middle of the kernel's.
            filled |= n == room;
            if !filled && shape.ends_after(n) {
                return Ok(());
            }
        }
    }
}

/// Opens `path` for reading.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))
        .map_err(|source| error("open", path, source.into()))
}

/// What a read that left room in our buffer says about the file's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// It was the end.
    Whole,
    /// It was the end if another record of [`RECORD_BYTES_MAX`] had found room in the kernel's page.
    Records,
    /// Nothing.
    Unknown,
}

impl Shape {
    /// The shape of the file at `name` below procfs' root.
    pub(crate) fn of_proc(name: &[u8]) -> Self {
        let (head, tail) = split(name);
        let of_task = matches!(head, b"self" | b"thread-self") || head.iter().all(u8::is_ascii_digit);
        match name {
            // fs/proc/{stat,meminfo,loadavg,uptime,softirqs}.c, kernel/sched/psi.c, net/ipv{4,6}/proc.c
            b"stat" | b"meminfo" | b"loadavg" | b"uptime" | b"softirqs" => Self::Whole,
            b"pressure/cpu" | b"pressure/io" | b"pressure/irq" | b"pressure/memory" => Self::Whole,
            b"net/netstat" | b"net/snmp" | b"net/snmp6" | b"net/sockstat" | b"net/sockstat6" => {
                Self::Whole
            }
            // block/genhd.c, mm/vmstat.c, net/core/net-procfs.c
            b"diskstats" | b"vmstat" | b"net/dev" | b"net/softnet_stat" => Self::Records,
            _ if of_task => match tail {
                // fs/proc/base.c: entries made by ONE, and comm
                b"stat" | b"statm" | b"status" | b"io" | b"schedstat" | b"cgroup" | b"comm" => {
                    Self::Whole
                }
                _ if split(tail).0 == b"net" => Self::of_proc(tail),
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }

    /// The shape of the file at `name` below sysfs' root.
    ///
    /// Attributes of devices, and of control groups as well, are made in one piece (`fs/kernfs/file.c`), except
    /// that binary attributes come by pages and `cgroup.procs` by lines. Debugging file systems do as they like.
    pub(crate) fn of_sys(name: &[u8]) -> Self {
        match split(name) {
            (b"block" | b"bus" | b"class" | b"devices", _) => Self::Records,
            (b"fs", tail) if split(tail).0 == b"cgroup" => Self::Records,
            _ => Self::Unknown,
        }
    }

    /// Whether a read of `n` bytes, which left room in our buffer, was the last.
    fn ends_after(self, n: usize) -> bool {
        match self {
            Self::Whole => true,
            Self::Records => {
                let in_page = n % PAGE_BYTES;
                in_page != 0 && PAGE_BYTES - in_page > RECORD_BYTES_MAX
            }
            Self::Unknown => false,
        }
    }
}

/// A path's first component and the rest.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().position(|&byte| byte == b'/') {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (name, b""),
    }
}

/// An error with the operation and the path it was done to; its kind and its source are those of `source`.
#[cold]
pub(crate) fn error(operation: &'static str, path: &Path, source: io::Error) -> io::Error {
    io::Error::new(
        source.kind(),
        PathError {
            operation,
            path: path.to_path_buf(),
            source,
        },
    )
}

#[derive(Debug)]
struct PathError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation,
            path,
            source,
        } = self;
        write!(f, "{operation} {}: {source}", path.display())
    }
}

impl Error for PathError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}
