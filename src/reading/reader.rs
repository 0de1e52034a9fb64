//! Reading many small files one after the other into one buffer, with a bounded number of kept descriptors.
//!
//! The snapshot of `heim-runtime` has few files, with a buffer for each that readers share. Families that read a file
//! of every process or control group have one reader and thousands of files. They keep a descriptor beside what they
//! know of the process or group. The bytes of a file last until the next is read or the reader is cleared.
//!
//! A read on a kept descriptor is one `pread`. Beyond the limit, a file is opened, read and closed. Each open file
//! costs the kernel a page (`Documentation/filesystems/seq_file.rst`).

use std::ops::Range;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{Errno, pread, retry_on_intr};
use rustix::process::{Resource, getrlimit};

use super::folder::{c_path, open_file_at};

/// The most descriptors that a reader keeps.
const KEPT_MAX: usize = 512;
/// A reader keeps at most 1 ÷ this of the descriptors that the process may open (`RLIMIT_NOFILE`).
const KEPT_PART_OF_LIMIT: u64 = 4;
/// A larger file is refused. The longest files have a line for each disk.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Before a read, the buffer has at least this much room, so that a shorter file needs one read.
const ROOM_BYTES_MIN: usize = 4 << 10;

/// A file's descriptor, if it is kept. Dropping it makes room for another.
#[derive(Debug, Default)]
pub(crate) struct Kept(Option<(OwnedFd, Arc<()>)>);

/// Reads files whole, one after the other.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Shared with each kept descriptor; its reference count is their number plus one.
    kept: Arc<()>,
    kept_max: usize,
    path: Vec<u8>,
    bytes: Vec<u8>,
    replaced: bool,
}

impl Default for Reader {
    fn default() -> Reader {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / KEPT_PART_OF_LIMIT;
        Reader::keeping(usize::try_from(limit).unwrap_or(KEPT_MAX).min(KEPT_MAX))
    }
}

impl Reader {
    /// A reader that keeps at most `kept_max` descriptors.
    pub(crate) fn keeping(kept_max: usize) -> Reader {
        Reader { kept: Arc::default(), kept_max, path: Vec::new(), bytes: Vec::new(), replaced: false }
    }

    /// The bytes of the file below `folder` at the path that `path` writes, which is called only to open the file. If a
    /// kept descriptor fails, its file is gone; the path is opened anew, as it may be another file's by now.
    pub(crate) fn read(
        &mut self,
        folder: impl AsFd,
        path: impl FnOnce(&mut Vec<u8>),
        kept: &mut Kept,
    ) -> Result<&[u8], Errno> {
        self.clear();
        let part = self.append(folder, path, kept)?;
        Ok(self.part(&part))
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.replaced = false;
    }

    /// Whether, since it was cleared, the file of a kept descriptor was gone, so that the bytes are another file's.
    pub(crate) fn has_replaced(&self) -> bool {
        self.replaced
    }

    /// Like [`read`](Self::read), but keeps the bytes of earlier files until [`clear`](Self::clear). The returned range
    /// is for [`part`](Self::part). Reading all files before parsing any brings them closer to one moment and costs
    /// less, as the processor's predictions stay on the kernel's path.
    pub(crate) fn append(
        &mut self,
        folder: impl AsFd,
        path: impl FnOnce(&mut Vec<u8>),
        kept: &mut Kept,
    ) -> Result<Range<usize>, Errno> {
        let start = self.bytes.len();
        if let Kept(Some((file, _))) = kept
            && fill(&mut self.bytes, file).is_ok()
        {
            return Ok(start..self.bytes.len());
        }
        let was_kept = kept.0.take().is_some();
        let file = open_file_at(folder, c_path(&mut self.path, path)?)?;
        fill(&mut self.bytes, &file)?;
        self.replaced |= was_kept;
        // The reader itself holds one reference.
        if Arc::strong_count(&self.kept) <= self.kept_max {
            kept.0 = Some((file, Arc::clone(&self.kept)));
        }
        Ok(start..self.bytes.len())
    }

    /// The bytes in the range that [`append`](Self::append) returned.
    pub(crate) fn part(&self, part: &Range<usize>) -> &[u8] {
        self.bytes.get(part.clone()).unwrap_or_default()
    }
}

/// Whether an error means only that a process, a control group or a device is gone.
pub(crate) fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::SRCH | Errno::NODEV | Errno::NOTDIR)
}

/// Adds all bytes of `file` to `bytes`; none if a read fails.
fn fill(bytes: &mut Vec<u8>, file: &OwnedFd) -> Result<(), Errno> {
    let start = bytes.len();
    // This ends: each round but the last adds bytes, and their number is limited.
    let error = loop {
        if bytes.capacity() - bytes.len() < ROOM_BYTES_MIN {
            bytes.reserve(bytes.len().max(2 * ROOM_BYTES_MIN));
        }
        let (room, offset) = (bytes.capacity() - bytes.len(), (bytes.len() - start) as u64);
        match retry_on_intr(|| pread(file, spare_capacity(&mut *bytes), offset)) {
            // The kernel makes each file as one record (`single_open`), so a read that leaves room is the last.
            Ok(n) if n < room => return Ok(()),
            Ok(_) if bytes.len() - start > FILE_BYTES_MAX => break Errno::FBIG,
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    bytes.truncate(start);
    Err(error)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::reading::folder::open_folder;

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
                assert!(reader.read(&root, named(name), &mut Kept::default()).unwrap() == *bytes, "{name}");
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
        assert_eq!(reader.read(&root, named("a\0b"), &mut kept).unwrap_err(), Errno::INVAL);
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
}
