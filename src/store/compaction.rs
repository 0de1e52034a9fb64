//! Compaction: the files of a period that is over are merged into one.
//!
//! The merged file is published like any other. Then the view shows it in the place of the others, in one step: a query
//! sees each record once, and keeps the files that it began with. The others are deleted after their last reader is gone.
//! If the process ends in between, the next start finds files whose rows another file has, and deletes them.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::conform::conform;
use super::data_folder::open_regular;
use super::disk::DiskError;
use super::hot::times;
use super::lake::{BATCH_ROWS, DataFile, PANICKED, unless_panic};
use super::writer::{WriteBatch, WriteError, by_time};
use crate::record::Table;

/// A file may begin this much earlier than the file before it ends: several collectors may write one table. If it begins
/// even earlier, the clock was set back, and the files are not merged.
pub(super) const OVERLAP_US_MAX: i64 = 10_000_000;
/// The most files that are merged into one. The merge opens one at a time, but holds the list of all.
const FILES_MAX: usize = 4_096;

/// Which files are merged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Periods {
    /// The length of a period.
    pub(super) window: Duration,
    /// A period's files are merged so long after its end.
    pub(super) settle: Duration,
    /// A file may begin this much earlier than the file before it ends.
    pub(super) overlap_us_max: i64,
}

/// The groups of files to merge, for each period of length `window` that ended at least `settle` before `now` (µs since the
/// epoch). A file belongs to the period in which its rows begin. A group ends where sequence numbers are missing or times
/// go back. Files of an older layout are left as they are. `files` are in the order of their sequence numbers.
pub(super) fn due(
    files: &[Arc<DataFile>],
    now: i64,
    Periods { window, settle, overlap_us_max }: Periods,
) -> Vec<Vec<Arc<DataFile>>> {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX).max(1);
    let window = micros(window);
    let first_open = now.saturating_sub(micros(settle)).div_euclid(window);
    let window_of = |file: &DataFile| file.time_range.0.div_euclid(window);
    let belong = |one: &Arc<DataFile>, next: &Arc<DataFile>| {
        one.end_seq == next.first_seq
            && !one.is_older
            && !next.is_older
            && window_of(one) == window_of(next)
            && one.path.parent() == next.path.parent()
            && next.time_range.0.saturating_add(overlap_us_max) >= one.time_range.1
    };
    let runs = files.chunk_by(belong).flat_map(|run| run.chunks(FILES_MAX));
    let is_due = |run: &&[Arc<DataFile>]| run.len() > 1 && run.iter().all(|file| window_of(file) < first_open);
    runs.filter(is_due).map(<[_]>::to_vec).collect()
}

/// Hands the rows of `files` to `write` in the order of time, a batch at a time. The files are in the order of their sequence
/// numbers. Ends with an error once `stop` is set, and at a file that cannot be read.
pub(super) fn merge(
    table: &Table,
    schema: &SchemaRef,
    files: &[Arc<DataFile>],
    stop: &AtomicBool,
    write: &mut WriteBatch<'_>,
) -> Result<(), WriteError> {
    let reading = Cell::new(Path::new(""));
    let merged = unless_panic(|| merge_from(&reading, table, schema, files, stop, write));
    let panicked = || Err(WriteError::parquet("read", reading.get())(ParquetError::General(PANICKED.into())));
    merged.unwrap_or_else(panicked)
}

/// The same. `reading` tells the file that is being read.
fn merge_from<'a>(
    reading: &Cell<&'a Path>,
    table: &Table,
    schema: &SchemaRef,
    files: &'a [Arc<DataFile>],
    stop: &AtomicBool,
    write: &mut WriteBatch<'_>,
) -> Result<(), WriteError> {
    let failed = |source: ArrowError| WriteError::Sort(table.name, source.into());
    // For each file the earliest time in any later one.
    let mut later = vec![i64::MAX; files.len()];
    for at in (1..files.len()).rev() {
        later[at - 1] = later[at].min(files[at].time_range.0);
    }
    // Rows that may have to follow others which are not read yet.
    let mut held: Option<RecordBatch> = None;
    let mut rows = 0;
    for (file, later) in files.iter().zip(later) {
        reading.set(&file.path);
        for batch in open(&file.path)? {
            // Relaxed: the flag guards no other data.
            if stop.load(Ordering::Relaxed) {
                return Err(WriteError::Stopped);
            }
            let batch = batch.and_then(|batch| conform(&batch, schema));
            let batch = batch.map_err(|error| WriteError::parquet("read", &file.path)(error.into()))?;
            rows += batch.num_rows() as u64;
            // All rows up to this time have been read.
            let known = times(&batch).last().map_or(i64::MIN, |last| later.min(*last));
            let all = match held.take() {
                None => batch,
                Some(held) => by_time(concat_batches(schema, [&held, &batch]).map_err(failed)?).map_err(failed)?,
            };
            let ready = times(&all).partition_point(|time| *time <= known);
            if ready < all.num_rows() {
                held = Some(all.slice(ready, all.num_rows() - ready));
            }
            if ready > 0 {
                write(&all.slice(0, ready))?;
            }
        }
    }
    held.iter().try_for_each(write)?;
    let expected: u64 = files.iter().map(|file| file.rows).sum();
    if rows == expected { Ok(()) } else { Err(WriteError::Rows(table.name)) }
}

/// Reads a file of the lake.
pub(super) fn open(path: &Path) -> Result<ParquetRecordBatchReader, WriteError> {
    let file = open_regular(path).map_err(DiskError::of("open", path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map(|builder| builder.with_batch_size(BATCH_ROWS));
    reader.and_then(ParquetRecordBatchReaderBuilder::build).map_err(WriteError::parquet("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of `rows` from the sequence number `first` on, of the times `from` to `to` in minutes.
    fn file(first: u64, rows: u64, from: i64, to: i64) -> Arc<DataFile> {
        let minutes = 60_000_000;
        let path = format!("lake/x/host=h/date=1970-01-01/{first}.parquet").into();
        Arc::new(DataFile::new(path, (first, first + rows), rows, 1, (from * minutes, to * minutes)))
    }

    fn firsts(files: &[Arc<DataFile>], now: i64) -> Vec<Vec<u64>> {
        let (window, settle) = (Duration::from_secs(3600), Duration::from_secs(120));
        let due = due(files, now * 60_000_000, Periods { window, settle, overlap_us_max: OVERLAP_US_MAX });
        due.iter().map(|run| run.iter().map(|file| file.first_seq).collect()).collect()
    }

    #[test]
    fn files_that_begin_in_one_window_become_one_once_it_is_over() {
        let files = [file(0, 5, 58, 59), file(5, 5, 59, 61), file(10, 5, 61, 62), file(15, 5, 62, 63)];
        assert_eq!(firsts(&files, 61), [[0_u64; 0]; 0]);
        assert_eq!(firsts(&files, 62), [[0, 5]]);
        assert_eq!(firsts(&files, 121), [[0, 5]]);
        assert_eq!(firsts(&files, 122), [[0, 5], [10, 15]]);
    }

    #[test]
    fn files_of_an_older_layout_are_left_as_they_are() {
        let older = |first: u64| Arc::new(Arc::into_inner(file(first, 5, 1, 2)).unwrap().older_if(true));
        assert_eq!(firsts(&[older(0), older(5), file(10, 5, 1, 2), file(15, 5, 2, 3)], 500), [[10, 15]]);
    }

    #[test]
    fn what_does_not_follow_stays_apart() {
        // Rows are missing between the second and the third; time steps back before the fifth.
        let files = [file(0, 5, 1, 2), file(5, 5, 2, 3), file(11, 5, 3, 4), file(16, 4, 4, 5), file(20, 5, 3, 4)];
        assert_eq!(firsts(&files, 500), [[0, 5], [11, 16]]);
        assert_eq!(firsts(&[], 500), [[0_u64; 0]; 0]);
    }
}
