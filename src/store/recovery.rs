//! Starting after whatever happened: what the journal has that no file has is put back into memory.
//!
//! Every segment is read up to its first frame that is not whole. If no whole frame follows, the end was torn off by a
//! kill or a power loss, and is cut. If one does, something else broke the segment: its valid beginning is recovered,
//! and once that is in files the segment is kept under another name. Nothing is deleted that could not be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::hot::{self, HotBatch};
use super::journal::frame::Broken;
use super::journal::replay::{self, Replayed};
use super::journal::{self, ASIDE, Left, segment_number};
use super::lake::{LakeError, entries};
use crate::family::{FamilyId, PerFamily};

/// Behind a frame that is not whole, so many bytes are searched for one that is. A torn end is shorter.
const SEARCHED_BYTES_MAX: usize = 1 << 20;

/// What a start found in the journal.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Segments that were read.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows in them that no file has, now in memory.
    pub rows: u64,
    /// Bytes that were torn off the end of segments.
    pub torn_bytes: u64,
    /// Segments that something is wrong with, and what. They are kept.
    pub kept: Vec<(PathBuf, String)>,
    /// Files that are not kymo's, or not of this host's data. They are left alone.
    pub foreign: Vec<(PathBuf, String)>,
    /// Rows that are neither in files nor in the journal though later ones are.
    pub missing: Vec<Missing>,
    /// The greatest `time` that is known, µs, if there were segments: kymo was killed some time after.
    pub last_us: Option<i64>,
    /// How long it took.
    pub took: Duration,
}

/// Rows that are missing within the sequence of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The table.
    pub family: FamilyId,
    /// How many.
    pub rows: u64,
    /// The `time` of the rows before and after them, µs.
    pub time_range: (i64, i64),
}

/// What a store goes on with.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Rows that no file has.
    pub(super) hot: PerFamily<Vec<Arc<HotBatch>>>,
    /// The sequence number of each table's next row.
    pub(super) next_seqs: PerFamily<u64>,
    pub(super) left: Vec<Left>,
    pub(super) next_number: u64,
}

/// The ends of the files of a table: one more than the last sequence number, and the greatest time.
pub(super) type FilesEnd = Option<(u64, i64)>;

/// Reads the journal in `folder`, as far as it is of `host` and no file has it.
///
/// # Errors
/// When the folder cannot be read. What is wrong with a segment is in the report.
pub(super) fn recover(
    disk: &dyn Disk,
    folder: &Path,
    host: &str,
    files: PerFamily<FilesEnd>,
) -> Result<(Recovered, Recovery), LakeError> {
    let begun = Instant::now();
    let mut recovery = Recovery::default();
    let last_us = files.values().flatten().map(|(_, time)| *time).max();
    let mut going = Going { hot: PerFamily::default(), ends: files, left: Vec::new(), next_number: 0 };
    for path in entries(folder)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let aside = name.strip_suffix(ASIDE).and_then(|name| name.strip_suffix('.'));
        let Some(number) = segment_number(aside.unwrap_or(name)) else {
            recovery.foreign.push((path, "its name is not that of a segment".into()));
            continue;
        };
        // Numbers of those that are kept are not given again.
        going.next_number = going.next_number.max(number.saturating_add(1));
        if aside.is_some() {
            recovery.kept.push((path, "an earlier start could not read something in it".into()));
            continue;
        }
        match fs::read(&path) {
            Ok(bytes) => going.take(disk, path, &bytes, host, &mut recovery),
            Err(error) => {
                // Its sequence numbers are not known, so they may be given again: it must not be replayed later.
                let _ = disk.rename(&path, &journal::aside(&path));
                recovery.kept.push((path, format!("it could not be read: {error}")));
            }
        }
    }
    recovery.took = begun.elapsed();
    if recovery.segments > 0 {
        recovery.last_us = recovery.last_us.max(last_us);
    }
    let Going { hot, ends, left, next_number } = going;
    let next_seqs = ends.map(|_, end| end.map_or(0, |(end_seq, _)| end_seq));
    Ok((Recovered { hot, next_seqs, left, next_number }, recovery))
}

/// What was recovered so far.
struct Going {
    hot: PerFamily<Vec<Arc<HotBatch>>>,
    /// Where each table's rows end, in files and segments.
    ends: PerFamily<FilesEnd>,
    left: Vec<Left>,
    next_number: u64,
}

impl Going {
    /// Takes in a segment.
    fn take(&mut self, disk: &dyn Disk, path: PathBuf, bytes: &[u8], host: &str, recovery: &mut Recovery) {
        let end_seq = |family: FamilyId| self.ends[family].map_or(0, |(end_seq, _)| end_seq);
        let replayed = replay::read(bytes, &end_seq);
        if !replayed.host.is_empty() && replayed.host != host {
            let reason = format!("it has rows of host {:?}; start kymo with that as storage.host", replayed.host);
            recovery.foreign.push((path, reason));
            return;
        }
        recovery.segments += 1;
        recovery.bytes += bytes.len() as u64;
        let mut wrong = (!replayed.foreign.is_empty())
            .then(|| format!("its rows of {} are not as this kymo has them", replayed.foreign.join(", ")));
        if let Some(broken) = replayed.broken {
            if is_torn(bytes, &replayed) {
                recovery.torn_bytes += bytes.len() as u64 - replayed.bytes;
                if replayed.end_seqs.values().all(|end_seq| *end_seq == 0) && replayed.foreign.is_empty() {
                    // It has no row. What cannot be removed is tried again at the next start.
                    let _ = disk.remove(&path);
                    return;
                }
                let _ = disk.cut(&path, replayed.bytes);
            } else {
                wrong = Some(format!("{broken} at byte {} of {}", replayed.bytes, bytes.len()));
            }
        }
        let set_aside = wrong.is_some();
        recovery.kept.extend(wrong.map(|wrong| (path.clone(), wrong)));
        let mut batches = replayed.batches;
        for (family, batches) in batches.iter_mut() {
            for batch in batches.drain(..) {
                self.add(family, batch, recovery);
            }
        }
        self.left.push(Left { path, bytes: replayed.bytes, end_seqs: replayed.end_seqs, set_aside });
    }

    fn add(&mut self, family: FamilyId, batch: HotBatch, recovery: &mut Recovery) {
        let end = &mut self.ends[family];
        if let Some((end_seq, time)) = *end
            && batch.first_seq > end_seq
        {
            let rows = batch.first_seq - end_seq;
            recovery.missing.push(Missing { family, rows, time_range: (time, batch.time_range.0) });
        }
        // Rows are there once, whatever somebody made of a segment.
        let Some(batch) = hot::from(&Arc::new(batch), end.map_or(0, |(end_seq, _)| end_seq)) else { return };
        *end = Some((batch.end_seq(), batch.time_range.1));
        recovery.rows += batch.batch.num_rows() as u64;
        recovery.last_us = recovery.last_us.max(Some(batch.time_range.1));
        self.hot[family].push(batch);
    }
}

/// Whether reading ended where writing was cut off: at a frame that is not whole, with nothing whole after it.
fn is_torn(bytes: &[u8], replayed: &Replayed) -> bool {
    if !matches!(replayed.broken, Some(Broken::Cut | Broken::Checksum)) {
        return false;
    }
    let end = usize::try_from(replayed.bytes).unwrap_or(usize::MAX);
    let rest = bytes.get(end..).unwrap_or_default();
    rest.len() <= SEARCHED_BYTES_MAX && replay::next_whole(rest, 0).is_none()
}
