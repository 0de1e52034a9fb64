//! Compaction: the files of a period that is over are merged into one.
//!
//! The merged file is published like any other. Then the view shows it in the place of the others, in one step: a query
//! sees each record once, and keeps the files that it began with. The others are deleted after their last reader is gone.
//! If the process ends in between, the next start finds files whose rows another file has, and deletes them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::disk::DiskError;
use super::lake::DataFile;
use super::writer::{WriteError, times};
use crate::record::Table;

/// Rows are read and written in batches of so many.
const BATCH_ROWS: usize = 8_192;
/// A file may begin this much earlier than the file before it ends: several collectors may write one table. If it begins
/// even earlier, the clock was set back, and the files are not merged.
const OVERLAP_US_MAX: i64 = 10_000_000;
/// The most files that are merged into one. The merge opens one at a time, but holds the list of all.
const FILES_MAX: usize = 4_096;

/// The groups of files to merge, for each period of length `window` that ended at least `settle` before `now` (µs since the
/// epoch). A file belongs to the period in which its rows begin. A group ends where sequence numbers are missing or times
/// go back. `files` are in the order of their sequence numbers.
#[must_use]
pub fn due(files: &[Arc<DataFile>], now: i64, window: Duration, settle: Duration) -> Vec<Vec<Arc<DataFile>>> {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX).max(1);
    let window = micros(window);
    let first_open = now.saturating_sub(micros(settle)).div_euclid(window);
    let window_of = |file: &DataFile| file.time_range.0.div_euclid(window);
    let belong = |one: &Arc<DataFile>, next: &Arc<DataFile>| {
        one.end_seq == next.first_seq
            && window_of(one) == window_of(next)
            && one.path.parent() == next.path.parent()
            && next.time_range.0.saturating_add(OVERLAP_US_MAX) >= one.time_range.1
    };
    let runs = files.chunk_by(belong).flat_map(|run| run.chunks(FILES_MAX));
    let is_due = |run: &&[Arc<DataFile>]| run.len() > 1 && run.iter().all(|file| window_of(file) < first_open);
    runs.filter(is_due).map(<[_]>::to_vec).collect()
}

/// The rows of files in the order of time, a batch at a time.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    table: &'static Table,
    schema: SchemaRef,
    files: &'a [Arc<DataFile>],
    /// For each file the earliest time in any later one.
    later: Vec<i64>,
    /// The index of the file that is being read.
    at: usize,
    reader: Option<ParquetRecordBatchReader>,
    /// Rows that may have to follow others which are not read yet.
    held: Option<RecordBatch>,
    /// How many rows are not returned yet.
    left: u64,
    stop: &'a AtomicBool,
    ended: bool,
}

impl<'a> Merge<'a> {
    /// Merges `files` of `table`, which are in the order of their sequence numbers. Ends with an error once `stop` is set.
    pub(super) fn new(table: &'static Table, files: &'a [Arc<DataFile>], stop: &'a AtomicBool) -> Merge<'a> {
        let mut later = vec![i64::MAX; files.len()];
        for at in (1..files.len()).rev() {
            later[at - 1] = later[at].min(files[at].time_range.0);
        }
        let left = files.iter().map(|file| file.rows).sum();
        let schema = table.plain_schema();
        Merge { table, schema, files, later, at: 0, reader: None, held: None, left, stop, ended: false }
    }

    /// The next rows in the order of the files, and a time: all rows up to that time have been read then.
    fn read(&mut self) -> Result<Option<(RecordBatch, i64)>, WriteError> {
        while let Some(file) = self.files.get(self.at) {
            let failed = |source| WriteError::Read { path: file.path.clone(), source };
            if self.reader.is_none() {
                self.reader = Some(open(&file.path)?);
            }
            let Some(batch) = self.reader.as_mut().and_then(Iterator::next) else {
                (self.reader, self.at) = (None, self.at + 1);
                continue;
            };
            let batch = batch.and_then(|batch| conform(&batch, &self.schema)).map_err(|error| failed(error.into()))?;
            let last = times(&batch).last().copied().unwrap_or(i64::MIN);
            return Ok(Some((batch, last.min(self.later[self.at]))));
        }
        Ok(None)
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>, WriteError> {
        let failed = |source: ArrowError| WriteError::Encode { table: self.table.name, source: source.into() };
        loop {
            // Relaxed: the flag guards no other data.
            if self.stop.load(Ordering::Relaxed) {
                return Err(WriteError::Stopped);
            }
            let Some((batch, known)) = self.read()? else { return Ok(self.held.take()) };
            let all = match self.held.take() {
                None => batch,
                Some(held) => {
                    by_time(&concat_batches(&self.schema, [&held, &batch]).map_err(failed)?).map_err(failed)?
                }
            };
            let ready = times(&all).partition_point(|time| *time <= known);
            if ready < all.num_rows() {
                self.held = Some(all.slice(ready, all.num_rows() - ready));
            }
            if ready > 0 {
                return Ok(Some(all.slice(0, ready)));
            }
        }
    }
}

impl Iterator for Merge<'_> {
    type Item = Result<RecordBatch, WriteError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        match &next {
            Some(Ok(batch)) => self.left = self.left.wrapping_sub(batch.num_rows() as u64),
            Some(Err(_)) => self.ended = true,
            None => {
                self.ended = true;
                if self.left != 0 {
                    return Some(Err(WriteError::Rows { table: self.table.name }));
                }
            }
        }
        next
    }
}

fn open(path: &Path) -> Result<ParquetRecordBatchReader, WriteError> {
    let file = File::open(path).map_err(DiskError::of("open", path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map(|builder| builder.with_batch_size(BATCH_ROWS));
    reader
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|source: ParquetError| WriteError::Read { path: path.into(), source })
}

/// The rows with all columns of `schema`. Columns that an older file lacks are null.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => column.clone(),
        None => new_null_array(field.data_type(), batch.num_rows()),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect())
}

fn by_time(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let times = times(batch);
    if times.is_sorted() {
        return Ok(batch.clone());
    }
    let mut order: Vec<u32> = (0..).take(times.len()).collect();
    order.sort_by_key(|row| times[*row as usize]);
    take_record_batch(batch, &UInt32Array::from(order))
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
        let due = due(files, now * 60_000_000, Duration::from_secs(3600), Duration::from_secs(120));
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
    fn what_does_not_follow_stays_apart() {
        // Rows are missing between the second and the third; time steps back before the fifth.
        let files = [file(0, 5, 1, 2), file(5, 5, 2, 3), file(11, 5, 3, 4), file(16, 4, 4, 5), file(20, 5, 3, 4)];
        assert_eq!(firsts(&files, 500), [[0, 5], [11, 16]]);
        assert_eq!(firsts(&[], 500), [[0_u64; 0]; 0]);
    }
}
