//! The journal's files: their names, and what is known of each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::family::{FamilyId, PerFamily};
use crate::store::disk::DiskFile;
use crate::store::partition::NAMED_MAX;

/// How a segment's name ends.
const SUFFIX: &str = "journal";
/// What follows in the name of a segment that is kept because something in it could not be read.
const ASIDE: &str = "aside";
/// Every row has a time, so it takes at least so many bytes.
const ROW_BYTES_MIN: u64 = 8;

/// What is known of a segment on disk.
#[derive(Debug)]
pub(in crate::store) struct Segment {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) synced_bytes: u64,
    /// One more than the sequence number of its last row of each table.
    end_seqs: PerFamily<u64>,
    /// Set while it is written, or has bytes that a sync may still bring to the device.
    pub(super) file: Option<Arc<dyn DiskFile>>,
    /// Something in it could not be read: it is kept under another name instead of being deleted.
    pub(super) is_damaged: bool,
}

impl Segment {
    /// An empty segment.
    pub(super) fn new(path: PathBuf, file: Arc<dyn DiskFile>) -> Segment {
        Segment { file: Some(file), ..Segment::left(path, 0, PerFamily::default(), false) }
    }

    /// A segment of an earlier process, whose `bytes` have rows up to `end_seqs`.
    pub(in crate::store) fn left(path: PathBuf, bytes: u64, end_seqs: PerFamily<u64>, is_damaged: bool) -> Segment {
        Segment { path, bytes, synced_bytes: bytes, end_seqs, file: None, is_damaged }
    }

    /// Adds what was written: so many bytes, with rows up to `end_seqs`.
    pub(super) fn grow(&mut self, bytes: usize, end_seqs: &[(FamilyId, u64)]) {
        self.bytes += bytes as u64;
        for (family, end_seq) in end_seqs {
            let known = &mut self.end_seqs[*family];
            *known = (*end_seq).max(*known);
        }
    }

    /// Nothing is written to it any more.
    pub(super) fn seal(mut self) -> Segment {
        if self.is_synced() {
            self.file = None;
        }
        self
    }

    pub(super) fn is_synced(&self) -> bool {
        self.synced_bytes == self.bytes
    }

    /// Whether all its rows are before `covered`.
    pub(super) fn is_covered(&self, covered: &PerFamily<u64>) -> bool {
        self.end_seqs.iter().all(|(family, end_seq)| *end_seq <= covered[family])
    }
}

/// The name of the segment of this number.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:020}.{SUFFIX}")
}

/// The name of a segment that is kept because something in it could not be read.
pub(in crate::store) fn aside(path: &Path) -> PathBuf {
    path.with_added_extension(ASIDE)
}

/// The number in the name of a segment, and whether it was set aside; `None` for a name that kymo did not give.
pub(in crate::store) fn parse_path(path: &Path) -> Option<(u64, bool)> {
    let name = path.file_name()?.to_str()?;
    let aside = name.strip_suffix(ASIDE).and_then(|name| name.strip_suffix('.'));
    let digits = aside.unwrap_or(name).strip_suffix(SUFFIX)?.strip_suffix('.')?;
    let number =
        (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())??;
    (number <= NAMED_MAX).then_some((number, aside.is_some()))
}

/// An upper bound of the sequence numbers in a segment that cannot be read, from its number and size: no row in it has this
/// number or a greater one.
///
/// A segment's number is greater than all sequence numbers that were given before it began, and within it a table's numbers
/// follow each other.
pub(in crate::store) fn end_seq_max(number: u64, bytes: u64) -> u64 {
    number.saturating_add(bytes / ROW_BYTES_MIN)
}

/// How many rows are missing between two of a table: after those up to `end_seq`, the next has the number `first_seq`. Numbers
/// that were skipped for the sake of unreadable segments, whose bounds are `end_seqs_max`, are no missing rows.
pub(in crate::store) fn missing_rows(end_seq: u64, first_seq: u64, end_seqs_max: &[u64]) -> u64 {
    let skipped = end_seqs_max.iter().filter(|end_seq_max| **end_seq_max <= first_seq).max();
    first_seq.saturating_sub(skipped.copied().unwrap_or(0).max(end_seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_numbers_that_kymo_never_gives_are_not_segments() {
        assert_eq!(parse_path(segment_name(NAMED_MAX).as_ref()), Some((NAMED_MAX, false)));
        for name in [segment_name(NAMED_MAX + 1), segment_name(u64::MAX), "99999999999999999999.journal".into()] {
            assert_eq!(parse_path(name.as_ref()), None, "{name}");
        }
    }
}
