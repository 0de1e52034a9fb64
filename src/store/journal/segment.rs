//! The journal's files: their names, and when they go.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Journal;
use crate::family::PerFamily;
use crate::store::disk::{DiskError, DiskFile, step};
use crate::store::health::Part;

/// The folder of the segments within the data folder.
pub const JOURNAL: &str = "journal";
/// How a segment's name ends.
pub const SUFFIX: &str = "journal";

/// How the name ends of one that is kept because something in it could not be read.
pub(in crate::store) const ASIDE: &str = "aside";

/// A segment on disk.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) synced_bytes: u64,
    /// None for one of an earlier process, and once it is not written any more and synced.
    pub(super) file: Option<Arc<dyn DiskFile>>,
    /// Not written any more.
    pub(super) closed: bool,
    /// It has something that could not be read, so it is kept under another name instead of being deleted.
    pub(super) set_aside: bool,
    /// One more than the sequence number of its last row of each table.
    pub(super) end_seqs: PerFamily<u64>,
}

/// A segment that an earlier process left, whose rows were read again.
#[derive(Debug)]
pub(in crate::store) struct Left {
    pub(in crate::store) path: PathBuf,
    pub(in crate::store) bytes: u64,
    pub(in crate::store) end_seqs: PerFamily<u64>,
    /// Something in it could not be read.
    pub(in crate::store) set_aside: bool,
}

impl Journal {
    /// Deletes segments all of whose rows are before `covered`, and the oldest beyond the bytes that all may have.
    pub(in crate::store) fn delete_covered(&self, covered: &PerFamily<u64>) {
        let deleted = self.checkpoint(covered).and_then(|()| self.shrink());
        self.health.note(Part::JournalDelete, deleted.err());
    }

    /// Deletes segments all of whose rows are before `covered`: those are in files, or dropped and counted.
    ///
    /// # Errors
    /// When a segment cannot be deleted. It is tried again the next time.
    fn checkpoint(&self, covered: &PerFamily<u64>) -> Result<(), DiskError> {
        loop {
            let mut state = self.lock();
            let has_all = |segment: &Segment| {
                segment.closed && segment.end_seqs.iter().all(|(family, end)| *end <= covered[family])
            };
            let Some(at) = state.segments.iter().position(has_all) else { return Ok(()) };
            let Some(segment) = state.segments.remove(at) else { return Ok(()) };
            drop(state);
            if let Err(error) = self.delete(&segment) {
                self.lock().segments.push_front(segment);
                return Err(error);
            }
        }
    }

    /// Deletes the oldest segments until all of them have at most the bytes that they may have. Rows in them that are not
    /// in files are in memory only.
    ///
    /// # Errors
    /// When a segment cannot be deleted.
    pub(super) fn shrink(&self) -> Result<(), DiskError> {
        loop {
            let mut state = self.lock();
            let bytes: u64 = state.segments.iter().map(|segment| segment.bytes).sum();
            let oldest = state.segments.pop_front_if(|oldest| oldest.closed && bytes > self.settings.bytes_max);
            let Some(oldest) = oldest else { return Ok(()) };
            drop(state);
            // Over with the next flush that succeeds.
            self.health
                .bad(Part::JournalSize, "the journal is full, as no flush succeeds: its oldest segments were deleted");
            if let Err(error) = self.delete(&oldest) {
                self.lock().segments.push_front(oldest);
                return Err(error);
            }
        }
    }

    fn delete(&self, segment: &Segment) -> Result<(), DiskError> {
        let path = &segment.path;
        let delete = || if segment.set_aside { self.disk.rename(path, &aside(path)) } else { self.disk.remove(path) };
        let deleted = step("journal.delete").and_then(|()| delete());
        match deleted {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DiskError::of("delete the segment", path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// The name of a segment that is kept because something in it could not be read.
pub(in crate::store) fn aside(path: &Path) -> PathBuf {
    path.with_added_extension(ASIDE)
}

/// The name of the segment of this number.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:020}.{SUFFIX}")
}

/// The number in a segment's name; `None` for a name that kymo did not give.
pub(in crate::store) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?.strip_suffix('.')?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}
