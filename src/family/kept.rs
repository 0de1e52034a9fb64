//! Many small files, one after the other: read into one buffer, on descriptors of which only so many are kept.
//!
//! The snapshot of `heim-runtime` keeps a buffer for each file, for all of its readers, and few files. Families that
//! read a file of every process or control group have one reader and thousands of files: they keep descriptors where
//! they keep what they know of the process or group, and the bytes of a file last until the next one is read, or all are
//! cleared.
//!
//! A read on a kept descriptor is one `pread`; beyond the limit a file is opened, read and closed. Each open file costs
//! the kernel a page (`Documentation/filesystems/seq_file.rst`).

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, RawDir, RawDirEntry, SeekFrom, openat, seek};
use rustix::io::{Errno, pread, retry_on_intr};
use rustix::path::Arg;
use rustix::process::{Resource, getrlimit};

/// Descriptors that a reader keeps.
const KEPT_MAX: usize = 512;
/// It keeps no more than this part of what the process may have (`RLIMIT_NOFILE`).
const KEPT_PART_OF_LIMIT: u64 = 4;
/// A larger file is refused. The longest have a line for each disk.
const FILE_BYTES_MAX: usize = 1 << 20;
/// The buffer has at least so much room left before a read: files that are shorter need one.
const ROOM_BYTES_MIN: usize = 4 << 10;
/// Names of a folder come in portions of this size, where there may be many.
const LISTING_BYTES: usize = 32 << 10;

/// Where the names of folders are put, one folder after the other.
pub(super) type Listing = Box<[MaybeUninit<u8>]>;

/// A file's descriptor, if it is kept. Dropping it makes room for another.
#[derive(Debug, Default)]
pub(super) struct Kept(Option<(OwnedFd, Arc<()>)>);

/// Reads files whole, one after the other.
#[derive(Debug)]
pub(super) struct Reader {
    /// Shared with each kept descriptor: what counts them.
    kept: Arc<()>,
    kept_max: usize,
    path: Vec<u8>,
    bytes: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Reader {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / KEPT_PART_OF_LIMIT;
        Reader::keeping(usize::try_from(limit).unwrap_or(KEPT_MAX).min(KEPT_MAX))
    }
}

impl Reader {
    /// A reader that keeps so many descriptors at most.
    pub(super) fn keeping(kept_max: usize) -> Reader {
        Reader { kept: Arc::default(), kept_max, path: Vec::new(), bytes: Vec::new() }
    }

    /// The bytes of the file whose path below `folder` is what `path` writes; only where it has to be opened, that is
    /// called. When a kept descriptor fails, its file is gone, and another may have the path by now.
    pub(super) fn read(
        &mut self,
        folder: impl AsFd,
        path: impl FnOnce(&mut Vec<u8>),
        kept: &mut Kept,
    ) -> Result<&[u8], Errno> {
        self.clear();
        let part = self.append(folder, path, kept)?;
        Ok(self.part(&part))
    }

    /// Forgets what was read.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// As [`read`](Self::read), but the bytes of files read before stay until [`clear`](Self::clear): where these are
    /// tells [`part`](Self::part). Files that are read one right after the other, and looked at only then, are closer to
    /// one moment, and cost less for the processor stays on the kernel's path.
    pub(super) fn append(
        &mut self,
        folder: impl AsFd,
        path: impl FnOnce(&mut Vec<u8>),
        kept: &mut Kept,
    ) -> Result<Range<usize>, Errno> {
        let start = self.bytes.len();
        if let Kept(Some((file, _))) = kept {
            if fill(&mut self.bytes, file).is_ok() {
                return Ok(start..self.bytes.len());
            }
            kept.0 = None;
        }
        let file = self.open(folder, path)?;
        fill(&mut self.bytes, &file)?;
        // One of the count is the reader's own.
        if Arc::strong_count(&self.kept) <= self.kept_max {
            kept.0 = Some((file, Arc::clone(&self.kept)));
        }
        Ok(start..self.bytes.len())
    }

    /// The bytes that were read there.
    pub(super) fn part(&self, part: &Range<usize>) -> &[u8] {
        self.bytes.get(part.clone()).unwrap_or_default()
    }

    /// The bytes of a file that is seldom read.
    pub(super) fn read_once(&mut self, folder: impl AsFd, path: impl FnOnce(&mut Vec<u8>)) -> Result<&[u8], Errno> {
        self.clear();
        let file = self.open(folder, path)?;
        fill(&mut self.bytes, &file)?;
        Ok(&self.bytes)
    }

    fn open(&mut self, folder: impl AsFd, path: impl FnOnce(&mut Vec<u8>)) -> Result<OwnedFd, Errno> {
        let path = c_path(&mut self.path, path)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        retry_on_intr(|| openat(folder.as_fd(), path, flags, Mode::empty()))
    }
}

/// Whether an error says that a process, a control group or a device is gone, and no more.
pub(super) fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::SRCH | Errno::NODEV | Errno::NOTDIR)
}

/// What `write` writes, with its NUL. Beyond the first time this allocates nothing.
pub(super) fn c_path(path: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<&CStr, Errno> {
    path.clear();
    write(path);
    path.push(0);
    CStr::from_bytes_with_nul(path).map_err(|_| Errno::INVAL)
}

/// Opens a folder below the working folder.
pub(super) fn open_folder(path: impl Arg + Copy) -> Result<OwnedFd, Errno> {
    open_folder_at(CWD, path)
}

/// Opens a folder below `folder`.
pub(super) fn open_folder_at(folder: impl AsFd, path: impl Arg + Copy) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| openat(folder.as_fd(), path, flags, Mode::empty()))
}

/// Room for [`list`].
pub(super) fn listing() -> Listing {
    Box::new_uninit_slice(LISTING_BYTES)
}

/// Shows `look` the entries of `folder` until it gives `false`. It allocates nothing.
pub(super) fn list(
    folder: impl AsFd,
    room: &mut [MaybeUninit<u8>],
    mut look: impl FnMut(&RawDirEntry<'_>) -> bool,
) -> Result<(), Errno> {
    seek(folder.as_fd(), SeekFrom::Start(0))?;
    let mut entries = RawDir::new(folder.as_fd(), room);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." && !look(&entry) {
            break;
        }
    }
    Ok(())
}

/// Adds all bytes of `file` to `bytes`; none where it fails.
fn fill(bytes: &mut Vec<u8>, file: &OwnedFd) -> Result<(), Errno> {
    let start = bytes.len();
    let filled = fill_from(bytes, start, file);
    if filled.is_err() {
        bytes.truncate(start);
    }
    filled
}

fn fill_from(bytes: &mut Vec<u8>, start: usize, file: &OwnedFd) -> Result<(), Errno> {
    // Ends: each round but the last adds bytes, and their number is limited.
    loop {
        if bytes.capacity() - bytes.len() < ROOM_BYTES_MIN {
            bytes.reserve(bytes.len().max(2 * ROOM_BYTES_MIN));
        }
        let (room, offset) = (bytes.capacity() - bytes.len(), (bytes.len() - start) as u64);
        let n = retry_on_intr(|| pread(file, spare_capacity(&mut *bytes), offset))?;
        // The kernel makes each of these files as one record (`single_open`): where room is left, that was all.
        if n < room {
            return Ok(());
        }
        if bytes.len() - start > FILE_BYTES_MAX {
            return Err(Errno::FBIG);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};

    use rustix::fs::FileType;

    use super::*;

    fn tree(files: &[(&str, &[u8])]) -> (tempfile::TempDir, OwnedFd) {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let descriptor = open_folder(folder.path()).unwrap();
        (folder, descriptor)
    }

    fn named(name: &str) -> impl FnOnce(&mut Vec<u8>) {
        move |path| path.extend_from_slice(name.as_bytes())
    }

    #[test]
    fn files_of_any_length_are_read_whole_and_only_so_many_descriptors_kept() {
        let long: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).take(200_001).collect();
        let (folder, root) = tree(&[("a", b"one"), ("b", b""), ("c", &long)]);
        let mut reader = Reader::keeping(2);
        let mut kept = [Kept::default(), Kept::default(), Kept::default()];
        for _ in 0..3 {
            for ((name, bytes), kept) in [("a", &b"one"[..]), ("b", b""), ("c", &long)].iter().zip(&mut kept) {
                assert!(reader.read(&root, named(name), kept).unwrap() == *bytes, "{name}");
                assert!(reader.read_once(&root, named(name)).unwrap() == *bytes, "{name}");
            }
        }
        assert_eq!(kept.each_ref().map(|kept| kept.0.is_some()), [true, true, false]);
        kept[0] = Kept::default();
        reader.read(&root, named("c"), &mut kept[2]).unwrap();
        assert!(kept[2].0.is_some(), "there is room again");
        reader.clear();
        let parts = ["a", "no", "large", "b", "a"].map(|name| {
            if name == "large" {
                fs::File::create(folder.path().join(name)).unwrap().set_len(FILE_BYTES_MAX as u64 * 2).unwrap();
            }
            reader.append(&root, named(name), &mut Kept::default()).map(|part| reader.part(&part).to_vec())
        });
        let [a, missing, large, b, again] = parts;
        assert_eq!((missing, large), (Err(Errno::NOENT), Err(Errno::FBIG)));
        assert_eq!((a, b, again), (Ok(b"one".to_vec()), Ok(Vec::new()), Ok(b"one".to_vec())));
        assert_eq!(reader.bytes, b"oneone", "what failed leaves nothing");
        fs::write(folder.path().join("c"), "rewritten").unwrap();
        assert_eq!(reader.read(&root, |_| panic!("it is open"), &mut kept[2]).unwrap(), b"rewritten");
    }

    #[test]
    fn what_is_missing_or_too_large_is_an_error() {
        let (folder, root) = tree(&[("large", b"")]);
        let file = fs::File::create(folder.path().join("large")).unwrap();
        file.set_len(FILE_BYTES_MAX as u64 * 4).unwrap();
        let mut reader = Reader::default();
        let mut kept = Kept::default();
        assert_eq!(reader.read(&root, named("large"), &mut kept).unwrap_err(), Errno::FBIG);
        assert_eq!(reader.read_once(&root, named("a\0b")).unwrap_err(), Errno::INVAL);
        let missing = reader.read(&root, named("missing"), &mut kept).unwrap_err();
        assert!(is_gone(missing) && !is_gone(Errno::ACCESS) && kept.0.is_none());
        assert!(reader.read(&root, named("."), &mut kept).is_err());
    }

    /// Its descriptor fails then, and so does its path.
    #[test]
    fn a_process_that_ended_is_gone() {
        let root = open_folder("/proc").unwrap();
        let mut reader = Reader::default();
        let mut kept = Kept::default();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let path = format!("{}/stat", child.id());
        assert!(!reader.read(&root, named(&path), &mut kept).unwrap().is_empty());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(is_gone(reader.read(&root, named(&path), &mut kept).unwrap_err()));
        assert!(kept.0.is_none());
    }

    #[test]
    fn a_folder_is_listed_as_often_as_asked() {
        let (_folder, root) = tree(&[("a", b""), ("b", b""), ("c", b"")]);
        let mut room = listing();
        for _ in 0..2 {
            let mut names = Vec::new();
            list(&root, &mut room, |entry| {
                names.push((entry.file_name().to_bytes().to_vec(), entry.file_type() == FileType::RegularFile));
                true
            })
            .unwrap();
            names.sort();
            assert_eq!(names, [(b"a".to_vec(), true), (b"b".to_vec(), true), (b"c".to_vec(), true)]);
        }
        let mut seen = 0;
        list(&root, &mut room, |_| {
            seen += 1;
            false
        })
        .unwrap();
        assert_eq!(seen, 1);
    }
}
