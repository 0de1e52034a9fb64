//! Reads a whole file with as few calls as the kernel allows.
//!
//! Most files of procfs and sysfs are made by the kernel's `seq_file` (`fs/seq_file.c`,
//! `Documentation/filesystems/seq_file.rst`) in one of two ways. Whether a short read was the end
//! depends on the way:
//!
//! - `single_open()` makes the text as one record. The kernel's buffer grows until the record fits,
//!   so a read that leaves room in our buffer got all of it.
//! - An iterator makes one record at a time. `seq_read_iter()` returns when the next record does not
//!   fit into the rest of the kernel's buffer. That buffer has one page, or a power of two of pages
//!   after a larger record; a larger buffer of ours does not change that. If a read leaves more room
//!   in the last page than the longest record takes, it was the last one. Otherwise only a read of
//!   zero bytes shows the end.
//!
//! Files that are in neither list are read until a read gives zero bytes. `/proc/interrupts` is one
//! of them: its iterator's last record is everything that the architecture adds
//! (`arch_show_interrupts()`), with a number for each CPU on each line, so a record has no bound.
//! One more read of zero bytes costs little next to the kernel's work for the first read.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{pread, retry_on_intr};

/// The largest file that is read. `/proc/interrupts` has 11 bytes for each interrupt and CPU: a
/// thousand interrupts on 512 CPUs are 5.6 MB.
const FILE_BYTES_MAX: usize = 16 << 20;

/// The first size of a buffer. It doubles until the file fits, and keeps its size.
const BUFFER_BYTES_MIN: usize = 8 << 10;

/// The smallest page of Linux; larger pages are multiples of it.
const PAGE_BYTES: usize = 4 << 10;

/// The longest record of files called [`Shape::RECORDS`]. The longest are lines of `net/dev` (16
/// numbers) and `diskstats` (20), whose numbers have up to 20 digits.
const RECORD_BYTES_MAX: usize = 1 << 10;

/// The longest line of `vmstat`: a name of about 30 bytes and a number. On many kernels the file ends
/// near the end of a page, so a low bound saves a read.
const VMSTAT_LINE_BYTES_MAX: usize = 128;

/// A file's bytes at one moment, and its path for errors.
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

    /// All bytes as text.
    pub(crate) fn text(&self) -> io::Result<&str> {
        self.text_of(&self.bytes)
    }

    /// Some of the bytes as text.
    pub(crate) fn text_of<'a>(&self, part: &'a [u8]) -> io::Result<&'a str> {
        str::from_utf8(part)
            .map_err(|source| error("parse", &self.path, io::Error::new(io::ErrorKind::InvalidData, source)))
    }

    /// Reads all of `file` into the buffer, which keeps its capacity.
    ///
    /// If that takes several reads, the bytes are not of one moment; no iterator of the kernel promises that.
    #[inline]
    pub(crate) fn fill(&mut self, file: &OwnedFd, shape: Shape) -> io::Result<()> {
        self.read(file, shape).map_err(|source| error("read", &self.path, source))
    }

    #[inline]
    fn read(&mut self, file: &OwnedFd, shape: Shape) -> io::Result<()> {
        let bytes = &mut self.bytes;
        bytes.clear();
        let mut filled = false;
        // This ends: each round but the last adds bytes, and their number is limited.
        loop {
            if bytes.capacity() - bytes.len() <= PAGE_BYTES {
                bytes.reserve(bytes.len().max(BUFFER_BYTES_MIN));
            }
            let room = bytes.capacity() - bytes.len();
            let offset = bytes.len() as u64;
            let n = retry_on_intr(|| pread(file.as_fd(), spare_capacity(&mut *bytes), offset))?;
            if n == 0 {
                return Ok(());
            }
            if bytes.len() > FILE_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("has more than {FILE_BYTES_MAX} bytes"),
                ));
            }
            // After a read that our buffer cut, the next one begins in the middle of the kernel's buffer.
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
    retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())).map_err(|source| error("open", path, source.into()))
}

/// What a read that left room in our buffer means for the file's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// It was the end.
    Whole,
    /// It was the end if a record of `bytes_max` bytes would still have fitted into the kernel's page.
    Records { bytes_max: usize },
    /// Nothing: only a read of zero bytes shows the end.
    Unknown,
}

impl Shape {
    /// Records of up to [`RECORD_BYTES_MAX`].
    const RECORDS: Self = Self::Records { bytes_max: RECORD_BYTES_MAX };

    /// The shape of the file at `name` below procfs' root.
    pub(crate) fn of_proc(name: &[u8]) -> Self {
        let (head, tail) = split(name);
        let of_task = match head {
            b"" => false,
            b"self" | b"thread-self" => true,
            head => head.iter().all(u8::is_ascii_digit),
        };
        match name {
            // fs/proc/{stat,meminfo,loadavg,uptime,softirqs}.c
            b"stat" | b"meminfo" | b"loadavg" | b"uptime" | b"softirqs"
            // kernel/sched/psi.c
            | b"pressure/cpu" | b"pressure/io" | b"pressure/irq" | b"pressure/memory"
            // net/ipv4/proc.c, net/ipv6/proc.c
            | b"net/netstat" | b"net/snmp" | b"net/snmp6" | b"net/sockstat" | b"net/sockstat6" => Self::Whole,
            // mm/vmstat.c
            b"vmstat" => Self::Records { bytes_max: VMSTAT_LINE_BYTES_MAX },
            // block/genhd.c, net/core/net-procfs.c
            b"diskstats" | b"net/dev" | b"net/softnet_stat" => Self::RECORDS,
            _ if of_task => match tail {
                // fs/proc/base.c: entries made by ONE, and comm
                b"stat" | b"statm" | b"status" | b"io" | b"schedstat" | b"cgroup" | b"comm" => Self::Whole,
                _ if split(tail).0 == b"net" => Self::of_proc(tail),
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }

    /// The shape of the file at `name` below sysfs' root.
    ///
    /// Attributes of devices, and of control groups as well, are made in one piece
    /// (`fs/kernfs/file.c`), except that binary attributes come by pages and `cgroup.procs` by
    /// lines. Debugging file systems follow no rule.
    pub(crate) fn of_sys(name: &[u8]) -> Self {
        match split(name) {
            (b"block" | b"bus" | b"class" | b"devices", _) => Self::RECORDS,
            (b"fs", tail) if split(tail).0 == b"cgroup" => Self::RECORDS,
            _ => Self::Unknown,
        }
    }

    /// Whether a read of `n` bytes, which left room in our buffer, was the last.
    #[inline]
    fn ends_after(self, n: usize) -> bool {
        match self {
            Self::Whole => true,
            Self::Records { bytes_max } => {
                let in_page = n % PAGE_BYTES;
                in_page != 0 && PAGE_BYTES - in_page > bytes_max
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

/// An error that names the operation and the path. Its kind is that of `source`.
#[cold]
pub(crate) fn error(operation: &'static str, path: &Path, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), PathError { operation, path: path.to_path_buf(), source })
}

#[derive(Debug)]
struct PathError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, path, source } = self;
        write!(f, "{operation} {}: {source}", path.display())
    }
}

impl Error for PathError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SHAPES: [Shape; 3] = [Shape::Whole, Shape::RECORDS, Shape::Unknown];

    fn fill(path: &Path, shape: Shape) -> io::Result<(Content, OwnedFd)> {
        let descriptor = open(path)?;
        let mut content = Content::new(path.to_path_buf());
        content.fill(&descriptor, shape)?;
        Ok((content, descriptor))
    }

    #[test]
    fn a_plain_file_of_any_length_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for len in [0_u32, 1, 3071, 3072, 4095, 4096, 4097, 8191, 8192, 8193, 70_000] {
            let bytes: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
            fs::write(&path, &bytes).unwrap();
            for shape in SHAPES {
                let (content, _) = fill(&path, shape).unwrap();
                assert!(content.bytes == bytes, "{len} bytes as {shape:?}");
            }
        }
    }

    /// The lists in [`Shape::of_proc`] against the kernel this runs on: after what was taken for
    /// all of a file, a read gives nothing.
    #[test]
    fn the_kernel_keeps_to_the_shapes() {
        let mut seen = 0;
        for name in [
            "stat",
            "meminfo",
            "loadavg",
            "uptime",
            "softirqs",
            "pressure/cpu",
            "pressure/io",
            "pressure/irq",
            "pressure/memory",
            "net/netstat",
            "net/snmp",
            "net/snmp6",
            "net/sockstat",
            "net/sockstat6",
            "diskstats",
            "vmstat",
            "net/dev",
            "net/softnet_stat",
            "self/stat",
            "self/statm",
            "self/status",
            "self/io",
            "self/schedstat",
            "self/cgroup",
            "self/comm",
            "self/net/dev",
        ] {
            let shape = Shape::of_proc(name.as_bytes());
            assert_ne!(shape, Shape::Unknown, "{name}");
            // What a kernel was built without is not there, and some of it refuses to be opened or
            // read.
            let Ok((content, descriptor)) = fill(&Path::new("/proc").join(name), shape) else {
                continue;
            };
            let end = content.bytes.len() as u64;
            let mut more = Vec::with_capacity(1);
            let n = pread(&descriptor, spare_capacity(&mut more), end).unwrap();
            assert_eq!(n, 0, "{name} goes on after {end} bytes");
            seen += 1;
        }
        assert!(seen > 8, "only {seen} files were there");
    }

    #[test]
    fn a_file_that_is_not_known_has_no_shape() {
        for name in ["mounts", "cpuinfo", "interrupts", "schedstat", "/schedstat", "self/maps", "12/stat2", "", "1"] {
            assert_eq!(Shape::of_proc(name.as_bytes()), Shape::Unknown, "{name}");
        }
        assert_eq!(Shape::of_proc(b"4711/stat"), Shape::Whole);
        assert_eq!(Shape::of_proc(b"4711/net/dev"), Shape::RECORDS);
        assert_eq!(Shape::of_sys(b"class/net/lo/mtu"), Shape::RECORDS);
        assert_eq!(Shape::of_sys(b"fs/cgroup/cpu.stat"), Shape::RECORDS);
        assert_eq!(Shape::of_sys(b"fs/bpf/map"), Shape::Unknown);
        assert_eq!(Shape::of_sys(b"kernel/debug/x"), Shape::Unknown);
    }

    #[test]
    fn records_may_go_on_near_the_end_of_a_page() {
        for (n, ends) in [(1, true), (3071, true), (3072, false), (4095, false), (4096, false), (4097, true)] {
            assert_eq!(Shape::RECORDS.ends_after(n), ends, "{n}");
        }
        let vmstat = Shape::of_proc(b"vmstat");
        for (n, ends) in [(3952, true), (3967, true), (3968, false), (4096, false), (4097, true), (8190, false)] {
            assert_eq!(vmstat.ends_after(n), ends, "{n}");
        }
    }

    #[test]
    fn a_line_of_vmstat_is_no_longer_than_its_bound() {
        let Ok(vmstat) = fs::read_to_string("/proc/vmstat") else { return };
        for line in vmstat.lines() {
            let (name, _) = line.split_once(' ').unwrap();
            assert!(format!("{name} {}\n", u64::MAX).len() <= VMSTAT_LINE_BYTES_MAX, "{name}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        let file = fs::File::create(&path).unwrap();
        file.set_len(FILE_BYTES_MAX as u64).unwrap();
        let (content, _) = fill(&path, Shape::Unknown).unwrap();
        assert_eq!(content.bytes.len(), FILE_BYTES_MAX);
        file.set_len(FILE_BYTES_MAX as u64 + 1).unwrap();
        for shape in SHAPES {
            let error = fill(&path, shape).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn an_error_has_the_kernels_error_as_its_source() {
        let error = open(Path::new("/nowhere/at all")).unwrap_err();
        assert_eq!(error.to_string(), "open /nowhere/at all: No such file or directory (os error 2)");
        let source = error.get_ref().and_then(Error::source).unwrap();
        let source: &io::Error = source.downcast_ref().unwrap();
        assert_eq!(source.raw_os_error(), Some(2));
    }
}
