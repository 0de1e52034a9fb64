//! Reading everything that a data folder has, and saying what is wrong with it.
//!
//! Nothing is changed, and a daemon may be running: what is published while this reads may or may not be looked at.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;

use super::journal::replay;
use super::journal::{ASIDE, JOURNAL, segment_number};
use super::lake::{DataFile, LakeError, Scan, entries, scan_read_only};
use super::writer::{SCHEMA_VERSION, times};
use crate::family::FAMILIES;

/// Rows are read in batches of so many.
const BATCH_ROWS: usize = 8_192;

/// What a data folder has, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Report {
    /// Files that were read, their bytes and rows.
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
    /// What is as it may be, but worth knowing: files that kymo did not make, parts of the sequence that are missing,
    /// as after retention or a full memory, and what an interrupted kymo left for its next start.
    pub notes: Vec<(PathBuf, String)>,
}

/// Reads all files and segments in `data`.
///
/// # Errors
/// When there is no lake in the folder, or a folder cannot be read.
pub fn verify(data: &Path) -> Result<Report, LakeError> {
    let scan = scan_read_only(data)?;
    let mut report = Report::default();
    let Scan { files, foreign, temporaries, superseded } = scan;
    for (path, reason) in foreign {
        let is_ours = path.extension().is_some_and(|extension| extension == "parquet");
        if is_ours { report.wrong.push((path, reason)) } else { report.notes.push((path, reason)) }
    }
    let left = "is being written, or was when kymo was killed; the next start removes it";
    report.notes.extend(temporaries.into_iter().map(|path| (path, left.into())));
    let left = "has only rows that another file has; the next start removes it";
    report.notes.extend(superseded.into_iter().map(|path| (path, left.into())));
    for (family, files) in FAMILIES.iter().zip(&files) {
        for file in files {
            report.files += 1;
            report.bytes += file.bytes;
            report.rows += file.rows;
            if let Err(reason) = read(file) {
                report.wrong.push((file.path.clone(), reason));
            }
        }
        for pair in files.windows(2) {
            sequence(family.name(), &pair[0], &pair[1], &mut report);
        }
    }
    let folder = data.join(JOURNAL);
    for path in entries(&folder)? {
        segment(path, &mut report);
    }
    Ok(report)
}

/// Reads a file whole and compares it with what its name and metadata say.
fn read(file: &DataFile) -> Result<(), String> {
    let opened = File::open(&file.path).map_err(|error| format!("open: {error}"))?;
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

/// Compares the sequence numbers of files that follow each other.
fn sequence(table: &str, one: &DataFile, next: &DataFile, report: &mut Report) {
    let host = |file: &DataFile| file.path.parent().and_then(Path::parent).map(Path::to_owned);
    if host(one) != host(next) {
        return;
    }
    if next.first_seq < one.end_seq {
        let rows = one.end_seq - next.first_seq;
        report
            .wrong
            .push((next.path.clone(), format!("its first {rows} rows of {table} are in {} too", one.path.display())));
    } else if next.first_seq > one.end_seq {
        let rows = next.first_seq - one.end_seq;
        report.notes.push((next.path.clone(), format!("{rows} rows of {table} before it are missing")));
    }
}

fn segment(path: PathBuf, report: &mut Report) {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if path.extension().is_some_and(|extension| extension == ASIDE) {
        report.notes.push((path, "was set aside because something in it could not be read".into()));
        return;
    }
    if segment_number(name).is_none() {
        report.notes.push((path, "is not a segment of a journal".into()));
        return;
    }
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => return report.wrong.push((path, format!("read: {error}"))),
    };
    let replayed = replay::read(&bytes, &|_| 0);
    report.segments += 1;
    report.segment_bytes += bytes.len() as u64;
    report.journal_rows += replayed.batches.iter().flatten().map(|hot| hot.batch.num_rows() as u64).sum::<u64>();
    let Some(broken) = replayed.broken else { return };
    let what = format!("{broken}, at byte {} of {}", replayed.bytes, bytes.len());
    let end = usize::try_from(replayed.bytes).unwrap_or(usize::MAX);
    match replay::next_whole(&bytes, end) {
        Some(_) => report.wrong.push((path, what)),
        None => report.notes.push((path, format!("{what}: it was cut off, or is being written"))),
    }
}
