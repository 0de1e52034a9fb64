//! Reads everything in a data folder and reports what is wrong with it.
//!
//! Nothing is changed. A daemon may be running: files that it publishes meanwhile may be read or not.

mod tiers;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;

use super::data_folder::{FolderError, JOURNAL, entries, open_regular, read_regular};
use super::disk::is_absent;
use super::hot::{HotBatch, times};
use super::journal::{end_seq_max, missing_rows, parse_path, replay};
use super::lake::{BATCH_ROWS, DataFile, PANICKED, Scan, unless_panic};
use super::view::View;
use super::writer::SCHEMA_VERSION;
use super::{partition, tier};
use crate::family::FamilyId;
use crate::family::tables::TableId;
use tiers::Tiers;

/// What is told of a tier's file that [is older](DataFile::is_older).
const OLDER: &str = "is of an older layout, which is not compared with rows; `downsample` takes rows in its place";

/// What is in a data folder, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Report {
    /// Files that were read.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// Their rows.
    pub rows: u64,
    /// Segments of the journal that were read.
    pub segments: u64,
    /// Their size.
    pub segment_bytes: u64,
    /// Rows in them that no file has.
    pub journal_rows: u64,
    /// What is wrong, and where.
    pub wrong: Vec<(PathBuf, String)>,
    /// What is no error but worth knowing: files that kymo did not make, missing parts of the sequence, as after retention or
    /// a full memory, and what an interrupted kymo left for its next start.
    pub notes: Vec<(PathBuf, String)>,
}

/// Reads all files and segments in `data`.
///
/// # Errors
/// When there is no lake in the folder, or a folder cannot be read.
pub fn verify(data: &Path) -> Result<Report, FolderError> {
    let mut report = Report::default();
    let journaled = Journaled::read(data, &mut report)?;
    let (scan, buckets) = tier::scan_read_only(data)?;
    let Scan { files, tiers, foreign, temporaries, superseded, beyond, .. } = scan;
    report.wrong.extend(beyond.into_iter().map(|path| (path, partition::BEYOND.into())));
    for (path, reason) in foreign {
        let is_ours = path.extension().is_some_and(|extension| extension == "parquet");
        if is_ours { report.wrong.push((path, reason)) } else { report.notes.push((path, reason)) }
    }
    let left = "is being written, or was when kymo was killed; the next start removes it";
    report.notes.extend(temporaries.into_iter().map(|path| (path, left.into())));
    let left = "has only rows that another file has; the next start removes it";
    report.notes.extend(superseded.into_iter().map(|path| (path, left.into())));
    let mut ends = Ends::new();
    for (family, files) in files.iter() {
        for file in files {
            let found = unless_panic(|| read(file)).unwrap_or_else(|| Err(PANICKED.into()));
            if is_absent(&file.path) {
                // Compaction or retention was faster: its rows are in another file, or were to be deleted.
                continue;
            }
            report.files += 1;
            report.bytes += file.bytes;
            report.rows += file.rows;
            report.wrong.extend(found.err().map(|reason| (file.path.clone(), reason)));
            note_end(&mut ends, family, file);
        }
        let told = |rows: u64| format!("{rows} rows of {} before it are missing", family.name());
        sequence(family.name(), files, &journaled.end_seqs_max, told, &mut report);
    }
    for id in TableId::all() {
        let Some(tier) = id.tier() else { continue };
        let files = &tiers[id.family()][tier as usize];
        for file in files {
            let found = unless_panic(|| read(file)).unwrap_or_else(|| Err(PANICKED.into()));
            if !is_absent(&file.path) {
                report.files += 1;
                report.bytes += file.bytes;
                report.wrong.extend(found.err().map(|reason| (file.path.clone(), reason)));
                report.notes.extend(file.is_older.then(|| (file.path.clone(), OLDER.into())));
            }
        }
        sequence(id.name(), files, &[], |rows| missing_buckets(id, rows, "before"), &mut report);
        let next_seq = buckets[id.family()].next_seqs[tier as usize];
        let missing = |last: &Arc<DataFile>| next_seq.checked_sub(last.end_seq).filter(|rows| *rows > 0);
        if let Some((last, rows)) = files.last().and_then(|last| Some((last, missing(last)?))) {
            report.notes.push((last.path.clone(), missing_buckets(id, rows, "after")));
        }
    }
    for family in FamilyId::all().filter(|family| family.has_tiers) {
        let of_family = Tiers { family, files: &files[family], rolled: &tiers[family], buckets: &buckets[family] };
        report.wrong.extend(unless_panic(|| of_family.compare()).unwrap_or_default());
    }
    journaled.count_rows(ends, &mut report);
    Ok(report)
}

/// Which rows the journal of a data folder has. It is read before the files are listed: rows that a daemon flushes
/// meanwhile are then in both, and not in neither.
#[derive(Debug, Default)]
pub struct Journaled {
    segments: Vec<SegmentRows>,
    /// The bounds of segments with something that cannot be read.
    end_seqs_max: Vec<u64>,
}

impl Journaled {
    /// Reads the segments in `data`; `report` gets their sizes and what is wrong with them.
    ///
    /// # Errors
    /// When the journal's folder cannot be read.
    pub fn read(data: &Path, report: &mut Report) -> Result<Journaled, FolderError> {
        let mut journaled = Journaled::default();
        for path in entries(&data.join(JOURNAL))? {
            journaled.segments.extend(segment(path, &mut journaled.end_seqs_max, report));
        }
        Ok(journaled)
    }

    /// The number of rows that no file of `view` has.
    #[must_use]
    pub fn rows_beyond(self, view: &View) -> u64 {
        let mut ends = Ends::new();
        for (family, table) in view.tables.iter() {
            table.files.iter().for_each(|file| note_end(&mut ends, family, file));
        }
        let mut report = Report::default();
        self.count_rows(ends, &mut report);
        report.journal_rows
    }

    /// Counts the rows that no file has.
    fn count_rows(self, mut ends: Ends, report: &mut Report) {
        for SegmentRows { path, host, rows } in self.segments {
            for (family, first_seq, end_seq) in rows {
                let end = ends.entry((host.clone(), family)).or_insert(first_seq);
                let (missing, table) = (missing_rows(*end, first_seq, &self.end_seqs_max), family.name());
                if missing > 0 {
                    report.notes.push((path.clone(), format!("{missing} rows of {table} before its own are missing")));
                }
                report.journal_rows += end_seq.saturating_sub(first_seq.max(*end));
                *end = (*end).max(end_seq);
            }
        }
    }
}

/// The rows of a segment.
#[derive(Debug)]
struct SegmentRows {
    path: PathBuf,
    /// The name of the `host=` folder of its files.
    host: String,
    /// By batch: the table, the first sequence number, and one past the last.
    rows: Vec<(FamilyId, u64, u64)>,
}

/// Where the files of a host's folder and a table end. Segments go on from there.
type Ends = HashMap<(String, FamilyId), u64>;

fn note_end(ends: &mut Ends, family: FamilyId, file: &DataFile) {
    let end = ends.entry((host_folder(file), family)).or_default();
    *end = file.end_seq.max(*end);
}

/// The name of the `host=` folder that a file is in.
fn host_folder(file: &DataFile) -> String {
    let folder = file.path.parent().and_then(Path::parent).and_then(Path::file_name);
    folder.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Reads a file whole and compares it with what its name and metadata say.
fn read(file: &DataFile) -> Result<(), String> {
    let opened = open_regular(&file.path).map_err(|error| format!("open: {error}"))?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(opened).map_err(|error| format!("read its footer: {error}"))?;
    let metadata = builder.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let said = |key: &str| metadata.iter().find(|pair: &&KeyValue| pair.key == key).and_then(|pair| pair.value.clone());
    let last_seq = file.end_seq.saturating_sub(1).to_string();
    for (key, value) in [
        ("kymo.schema_version", SCHEMA_VERSION.to_owned()),
        ("kymo.first_seq", file.first_seq.to_string()),
        ("kymo.last_seq", last_seq),
    ] {
        if said(key).as_deref() != Some(&*value) {
            return Err(format!("its {key} is {}, not {value}", said(key).unwrap_or_else(|| "absent".into())));
        }
    }
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| format!("read: {error}"))?;
    let (mut rows, mut last) = (0, i64::MIN);
    for batch in reader {
        let batch = batch.map_err(|error| format!("read rows after {rows}: {error}"))?;
        let times = times(&batch);
        if !times.is_sorted() || times.first().is_some_and(|first| *first < last) {
            return Err(format!("its rows are not in the order of time after row {rows}"));
        }
        last = times.last().copied().unwrap_or(last);
        rows += batch.num_rows() as u64;
    }
    if rows == file.rows { Ok(()) } else { Err(format!("it has {rows} rows, its footer says {}", file.rows)) }
}

/// Numbers that are left out where a tier begins anew: one by a start that cannot go on, and one more as seconds begin.
const LEFT_OUT_MAX: u64 = 2;

/// What is told of a tier that lacks so many numbers beside a file. Those that are left out stand for any number of buckets.
fn missing_buckets(tier: TableId, numbers: u64, side: &str) -> String {
    let name = tier.name();
    if numbers <= LEFT_OUT_MAX {
        return format!(
            "{name} begins anew {side} it, without the buckets that waited for a file: the file TIERS was lost, damaged or older than \
             the rows, or rows came too seldom for seconds; `downsample` takes rows there"
        );
    }
    format!("{numbers} buckets of {name} {side} it are missing; `downsample` takes rows there")
}

/// Compares the sequence numbers of a table's files, host by host.
/// What is missing is told by `missing`, of a number of rows.
fn sequence(
    table: &str,
    files: &[Arc<DataFile>],
    end_seqs_max: &[u64],
    missing: impl Fn(u64) -> String,
    report: &mut Report,
) {
    // The file that goes furthest so far.
    let mut furthest: HashMap<String, &DataFile> = HashMap::new();
    for file in files.iter().filter(|file| !is_absent(&file.path)) {
        let known = furthest.entry(host_folder(file)).or_insert(file);
        if std::ptr::eq(*known, Arc::as_ptr(file)) {
            continue;
        }
        if file.first_seq < known.end_seq {
            let rows = known.end_seq.min(file.end_seq) - file.first_seq;
            let reason = format!("its first {rows} rows of {table} have numbers of {}", known.path.display());
            report.wrong.push((file.path.clone(), reason));
        }
        let rows = missing_rows(known.end_seq, file.first_seq, end_seqs_max);
        if rows > 0 {
            report.notes.push((file.path.clone(), missing(rows)));
        }
        if file.end_seq > known.end_seq {
            *known = file;
        }
    }
}

/// Reads a segment. Adds to `end_seqs_max` the bound of one with something that cannot be read.
fn segment(path: PathBuf, end_seqs_max: &mut Vec<u64>, report: &mut Report) -> Option<SegmentRows> {
    let Some((number, is_aside)) = parse_path(&path) else {
        report.notes.push((path, "is not a segment of a journal".into()));
        return None;
    };
    let bound = |bytes: u64| end_seq_max(number, bytes);
    if partition::is_beyond(bound(path.metadata().map_or(0, |found| found.len())).max(number + 1)) {
        report.wrong.push((path.clone(), partition::BEYOND.into()));
    }
    if is_aside {
        end_seqs_max.push(bound(path.metadata().map_or(0, |found| found.len())));
        report.notes.push((path, "was set aside because something in it could not be read".into()));
        return None;
    }
    let bytes = match read_regular(&path) {
        Ok(bytes) => bytes,
        // A flush was faster: files have its rows.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            report.wrong.push((path, format!("read: {error}")));
            return None;
        }
    };
    let replayed = replay::read(&bytes, &|_, _| 0);
    report.segments += 1;
    report.segment_bytes += bytes.len() as u64;
    if replayed.frames > 0 && replayed.number != number {
        report.wrong.push((path.clone(), format!("it says that it is number {}", replayed.number)));
    }
    if !replayed.foreign.is_empty() {
        let tables = replayed.foreign.join(", ");
        report.notes.push((path.clone(), format!("its rows of {tables} are not as this kymo has them")));
    }
    let range = |family| move |hot: &HotBatch| (family, hot.first_seq, hot.end_seq());
    let rows = replayed.batches.iter().flat_map(|(family, batches)| batches.iter().map(range(family))).collect();
    if let Some(broken) = replayed.broken {
        let what = format!("{broken}, at byte {} of {}", replayed.bytes, bytes.len());
        if replayed.is_torn(&bytes) {
            report.notes.push((path.clone(), format!("{what}: it was cut off, or is being written")));
        } else {
            end_seqs_max.push(bound(bytes.len() as u64));
            report.wrong.push((path.clone(), what));
        }
    }
    Some(SegmentRows { path, host: partition::host_name(&replayed.host), rows })
}
