//! Starting after any end of the process before: rows that the journal has and no file has are put back into memory.
//!
//! Every segment is read up to its first frame that is not whole. If what follows is no more than one write has, and no whole
//! frame is in it, a kill or a power loss tore the end off, and it is cut: its rows are lost, and their numbers are given to
//! other rows. Else something else broke the segment: the rows before the break are recovered, and once they are in files
//! the segment is kept under another name. Nothing is deleted that could not be read.
//!
//! A segment that is kept may have rows that nobody can read now. Their numbers are not given again: new rows have numbers
//! from the bound on that the segment's number and size set (`journal::end_seq_max`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::data_folder::{FolderError, entries, read_regular};
use super::disk::Disk;
use super::hot::{self, HotBatch};
use super::journal::replay::{self, Replayed};
use super::journal::{self, Segment, parse_path};
use super::lake::DataFile;
use super::partition::is_beyond;
use super::shared::Loss;
use crate::family::{FamilyId, PerFamily};

/// No segment has more bytes: for those whose size cannot be read.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// What a start found in the journal.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Segments that were read.
    pub segments: u64,
    /// Rows in them that no file has, now in memory.
    pub rows: u64,
    /// Bytes that were torn off the end of segments.
    pub torn_bytes: u64,
    /// Segments with something wrong, and what. They are kept.
    pub kept: Vec<(PathBuf, String)>,
    /// Files that are not kymo's, or have numbers of another host's rows. They are left alone.
    pub foreign: Vec<(PathBuf, String)>,
    /// Rows that are neither in files nor in the journal though later ones are.
    pub missing: Vec<Loss>,
    /// If there were segments: the greatest known `time`, µs. Kymo was killed some time after.
    pub last_us: Option<i64>,
    /// How long it took.
    pub took: Duration,
}

/// What a store goes on with.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// Rows that no file has.
    pub(super) hot: PerFamily<Vec<Arc<HotBatch>>>,
    /// The segments that were read.
    pub(super) segments: Vec<Segment>,
    /// Greater than the number of any segment.
    pub(super) next_number: u64,
    /// Where rows end, in files and segments.
    ends: Ends,
    /// The bounds of the segments that are kept.
    end_seqs_max: Vec<u64>,
}

/// Where the rows of each host and table end: one more than the last sequence number, and the greatest time.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<String, PerFamily<Option<(u64, i64)>>>);

impl Ends {
    pub(super) fn of_files(files: &PerFamily<Vec<Arc<DataFile>>>) -> Ends {
        let mut ends = Ends::default();
        for (family, files) in files.iter() {
            for of_folder in files.chunk_by(|one, next| one.path.parent() == next.path.parent()) {
                let end_seq = of_folder.iter().map(|file| file.end_seq).max();
                let time = of_folder.iter().map(|file| file.time_range.1).max();
                if let (Some(file), Some(end_seq), Some(time)) = (of_folder.first(), end_seq, time) {
                    ends.note(&file.host(), family, end_seq, time);
                }
            }
        }
        ends
    }

    pub(super) fn note(&mut self, host: &str, family: FamilyId, end_seq: u64, time: i64) {
        if !self.0.contains_key(host) {
            self.0.insert(host.into(), PerFamily::default());
        }
        if let Some(tables) = self.0.get_mut(host) {
            let known = tables[family].unwrap_or((end_seq, time));
            tables[family] = Some((known.0.max(end_seq), known.1.max(time)));
        }
    }

    pub(super) fn of(&self, host: &str, family: FamilyId) -> u64 {
        self.0.get(host).and_then(|tables| tables[family]).map_or(0, |(end_seq, _)| end_seq)
    }

    /// The last end of a table's rows up to the sequence number `seq`, of any host: one that got another name goes on with the
    /// numbers.
    fn before(&self, family: FamilyId, seq: u64) -> Option<(u64, i64)> {
        self.0.values().filter_map(|tables| tables[family]).filter(|(end_seq, _)| *end_seq <= seq).max()
    }

    fn values(&self) -> impl Iterator<Item = (u64, i64)> {
        self.0.values().flat_map(PerFamily::values).copied().flatten()
    }
}

/// Reads the segments in `folder`. `files` says where the rows in files end. What is wrong with a segment is in the report, and
/// no error.
pub(super) fn recover(disk: &dyn Disk, folder: &Path, files: Ends) -> Result<(Recovered, Recovery), FolderError> {
    let begun = Instant::now();
    let mut recovery = Recovery::default();
    let last_us = files.values().map(|(_, time)| time).max();
    let mut recovered = Recovered { ends: files, ..Recovered::default() };
    for path in entries(folder)? {
        let Some((number, is_aside)) = parse_path(&path) else {
            recovery.foreign.push((path, "its name is not that of a segment".into()));
            continue;
        };
        recovered.next_number = recovered.next_number.max(number.saturating_add(1));
        let end_seq_max = journal::end_seq_max(number, path.metadata().map_or(SEGMENT_BYTES_MAX, |found| found.len()));
        if is_beyond(end_seq_max.max(recovered.next_number)) {
            return Err(FolderError::Numbers(path));
        }
        if is_aside {
            recovered.end_seqs_max.push(end_seq_max);
            recovery.kept.push((path, "an earlier start could not read something in it".into()));
            continue;
        }
        let is_damaged = match read_regular(&path) {
            Ok(bytes) => recovered.take(disk, path.clone(), &bytes, end_seq_max, &mut recovery),
            Err(error) => {
                // New rows have greater numbers than those in it, so no later start could use them.
                let _ = disk.rename(&path, &journal::aside(&path));
                recovery.kept.push((path.clone(), format!("it could not be read: {error}")));
                true
            }
        };
        if recovered.ends.values().any(|(end_seq, _)| is_beyond(end_seq)) {
            return Err(FolderError::Numbers(path));
        }
        recovered.end_seqs_max.extend(is_damaged.then_some(end_seq_max));
    }
    recovery.took = begun.elapsed();
    if recovery.segments > 0 {
        recovery.last_us = recovery.last_us.max(last_us);
    }
    Ok((recovered, recovery))
}

impl Recovered {
    /// The sequence number of a table's next row, as far as the journal and files that can be read say.
    pub(super) fn next_seq(&self, family: FamilyId) -> u64 {
        let ends = self.ends.0.values().filter_map(|tables| tables[family]).map(|(end_seq, _)| end_seq);
        ends.chain(self.end_seqs_max.iter().copied()).max().unwrap_or(0)
    }

    /// The greatest time of a row, in files and segments.
    pub(super) fn last_us(&self) -> Option<i64> {
        self.ends.values().map(|(_, time)| time).max()
    }

    /// Takes in a segment; whether it is kept because something in it could not be read.
    fn take(
        &mut self,
        disk: &dyn Disk,
        path: PathBuf,
        bytes: &[u8],
        end_seq_max: u64,
        recovery: &mut Recovery,
    ) -> bool {
        let replayed = replay::read(bytes, &|host, family| self.ends.of(host, family));
        if let Some(other) = self.host_with_numbers_of(&replayed) {
            let reason = format!(
                "its rows of host {:?} have numbers that rows of host {other:?} have, too; put it into a data folder of its \
                 own, and start kymo there",
                replayed.host
            );
            recovery.foreign.push((path, reason));
            self.end_seqs_max.push(end_seq_max);
            return false;
        }
        recovery.segments += 1;
        let mut wrong = (!replayed.foreign.is_empty())
            .then(|| format!("its rows of {} are not as this kymo has them", replayed.foreign.join(", ")));
        if let Some(broken) = replayed.broken {
            if replayed.is_torn(bytes) {
                recovery.torn_bytes += bytes.len() as u64 - replayed.bytes;
                if replayed.end_seqs.values().all(|end_seq| *end_seq == 0) && replayed.foreign.is_empty() {
                    // It has no row. If it cannot be removed, the next start tries again.
                    let _ = disk.remove(&path);
                    return false;
                }
                let _ = disk.cut(&path, replayed.bytes);
            } else {
                wrong = Some(format!("{broken} at byte {} of {}", replayed.bytes, bytes.len()));
            }
        }
        let is_damaged = wrong.is_some();
        recovery.kept.extend(wrong.map(|wrong| (path.clone(), wrong)));
        let mut batches = replayed.batches;
        for (family, batches) in batches.iter_mut() {
            for batch in batches.drain(..) {
                self.add(family, batch, recovery);
            }
        }
        self.segments.push(Segment::left(path, replayed.bytes, replayed.end_seqs, is_damaged));
        is_damaged
    }

    /// The host of recovered rows which are not all before those of a segment of another host. Somebody copied that.
    fn host_with_numbers_of(&self, replayed: &Replayed) -> Option<&str> {
        replayed.batches.iter().find_map(|(family, batches)| {
            let (first, last) = (batches.first()?, self.hot[family].last()?);
            (last.host != first.host && first.first_seq < last.end_seq()).then_some(&*last.host)
        })
    }

    fn add(&mut self, family: FamilyId, batch: HotBatch, recovery: &mut Recovery) {
        let own_end = self.ends.of(&batch.host, family);
        // Where its first rows are known already, nothing can be missing before them.
        let before = if own_end > batch.first_seq { None } else { self.ends.before(family, batch.first_seq) };
        if let Some((end_seq, time)) = before {
            let rows = journal::missing_rows(end_seq, batch.first_seq, &self.end_seqs_max);
            let missing = Loss { family, reason: "not recovered", rows, time_range: (time, batch.time_range.0) };
            recovery.missing.extend((rows > 0).then_some(missing));
        }
        // Each row once, even if somebody copied a segment.
        let Some(batch) = hot::from(&Arc::new(batch), own_end) else { return };
        self.ends.note(&batch.host, family, batch.end_seq(), batch.time_range.1);
        recovery.rows += batch.batch.num_rows() as u64;
        recovery.last_us = recovery.last_us.max(Some(batch.time_range.1));
        self.hot[family].push(batch);
    }
}
