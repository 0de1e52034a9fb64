//! A cut: the rows of a stretch of time in a data folder, from its files and, where no file has them yet, from its journal.
//!
//! Nothing is changed, and a daemon may be recording there. The journal is read before files are listed, so rows that are flushed
//! meanwhile are in both, and are taken from the file.

mod new_lake;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;

use super::conform::conform;
use super::data_folder::{FolderError, JOURNAL, entries, open_regular, read_regular, replace};
use super::disk::{DiskError, LocalDisk, is_absent};
use super::hot::{HotBatch, span, time_range, times};
use super::identity::{self, Identity};
use super::journal::{parse_path, replay};
use super::lake::{self, BATCH_ROWS, DataFile, PANICKED, unless_panic};
use super::recovery::Ends;
use super::writer::{Rows, WriteError, interval_of, split_by_date};
use crate::family::{FamilyId, PerFamily};
use new_lake::Take;
pub use new_lake::{NewLake, UNREADY, Written};

/// The rows of some tables from one time to another.
#[derive(Debug)]
pub struct Cut {
    /// From, and to the first time after.
    pub window: (i64, i64),
    /// By table, in the order of sequence numbers: files, then what only the journal has.
    pieces: PerFamily<Vec<Piece>>,
    /// What could not be read, and why.
    pub left_out: Vec<(PathBuf, String)>,
    /// Who recorded, as the folder keeps it.
    identity: Option<Identity>,
}

/// Rows that were recorded one after the other.
#[derive(Debug)]
enum Piece {
    /// Those of a file that are in the window.
    File(Arc<DataFile>),
    /// Those of a day that only the journal has.
    Journaled(Rows),
}

impl Cut {
    /// Finds the rows of `families` in the folder `data` whose time is in `window`, which does not have its end.
    ///
    /// # Errors
    /// When the folder has no lake, or cannot be read.
    pub fn find(data: &Path, families: &[FamilyId], window: Range<i64>) -> Result<Cut, FolderError> {
        let mut left_out = Vec::new();
        let segments = segments(data, &mut left_out)?;
        let scan = lake::scan_read_only(data)?;
        left_out.extend(scan.foreign);
        let hot = journaled(segments, Ends::of_files(&scan.files), &mut left_out);
        let pieces = PerFamily::from_fn(|family| {
            if !families.contains(&family) {
                return Vec::new();
            }
            let is_inside = |(first, last): (i64, i64)| first < window.end && window.start <= last;
            let files = scan.files[family].iter().filter(|file| is_inside(file.time_range));
            let mut pieces: Vec<Piece> = files.map(|file| Piece::File(Arc::clone(file))).collect();
            let hot: Vec<Arc<HotBatch>> = hot[family].iter().flat_map(|batch| inside(batch, &window)).collect();
            let runs = hot.chunk_by(|one, next| one.end_seq() == next.first_seq && one.host == next.host);
            pieces.extend(runs.flat_map(split_by_date).map(Piece::Journaled));
            pieces
        });
        Ok(Cut { window: (window.start, window.end), pieces, left_out, identity: Identity::of_folder(data)? })
    }

    /// Whether files are gone: a running daemon may merge what was just found.
    #[must_use]
    pub fn has_lost_files(&self) -> bool {
        let is_lost = |piece: &Piece| matches!(piece, Piece::File(file) if is_absent(&file.path));
        self.pieces.values().flatten().any(is_lost)
    }

    /// About how many bytes its rows take in files: the shares of these that are in the window.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let (from_us, to_us) = self.window;
        let bytes = |piece: &Piece| match piece {
            Piece::Journaled(_) => 0,
            Piece::File(file) => {
                let (first, last) = file.time_range;
                let inside = last.min(to_us).saturating_sub(first.max(from_us)).max(0);
                let share = u128::from(file.bytes) * u128::from(inside.unsigned_abs());
                share / u128::from(last.saturating_sub(first).max(1).unsigned_abs())
            }
        };
        u64::try_from(self.pieces.values().flatten().map(bytes).sum::<u128>()).unwrap_or(u64::MAX)
    }

    /// The first and the last time of its rows, about; `None` if it has none.
    #[must_use]
    pub fn times(&self) -> Option<(i64, i64)> {
        let (from_us, to_us) = self.window;
        span(self.pieces.values().flatten().map(Piece::time_range))
            .map(|(first, last)| (first.max(from_us), last.min(to_us.saturating_sub(1))))
    }

    /// Leaves out the rows of all other hosts.
    pub fn keep_host(&mut self, host: &str) {
        self.pieces.iter_mut().for_each(|(_, pieces)| pieces.retain(|piece| &*piece.host() == host));
    }

    /// Who recorded into the folder last, if it says so.
    #[must_use]
    pub fn recorder(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| identity.name.as_str())
    }

    /// The newest time of a row of a host.
    #[must_use]
    pub fn newest_of(&self, host: &str) -> Option<i64> {
        self.pieces.values().flatten().filter(|piece| &*piece.host() == host).map(|piece| piece.time_range().1).max()
    }

    /// The hosts whose rows it has.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<Arc<str>> {
        self.pieces.values().flatten().map(Piece::host).collect()
    }

    /// How often the newest file's rows of a table were sampled.
    #[must_use]
    pub fn interval(&self, family: FamilyId) -> Option<Duration> {
        self.pieces[family].iter().rev().find_map(Piece::interval)
    }

    /// Hands over the rows of a table, a batch at a time, with these of its columns and the host. Labels are plain strings. Each call
    /// hands over the same rows in the same order.
    ///
    /// # Errors
    /// When a file cannot be read, and those of `take`.
    pub fn rows(
        &self,
        family: FamilyId,
        columns: &[usize],
        take: &mut dyn FnMut(&str, &RecordBatch) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        self.pieces[family].iter().try_for_each(|piece| {
            let host = piece.host();
            piece.rows(family, Some(columns), self.window, &mut |_, batch| take(&host, &batch))
        })
    }
}

impl Cut {
    /// Writes the rows into `folder`, which is there and is empty, as files of a lake. Returns what each table has that has rows.
    ///
    /// # Errors
    /// When a file cannot be read or written, and once `stop` is set. Then the folder is as it was.
    pub fn write(&self, folder: &Path, stop: &AtomicBool) -> Result<Vec<Written>, WriteError> {
        let mut lake = NewLake::begin(folder)?;
        let (from_us, to_us) = self.window;
        for (family, piece) in self.pieces.iter().flat_map(|(family, all)| all.iter().map(move |one| (family, one))) {
            // Relaxed: the flag guards no other data.
            if stop.load(Ordering::Relaxed) {
                return Err(WriteError::Stopped);
            }
            match piece {
                Piece::File(file) if from_us <= file.time_range.0 && file.time_range.1 < to_us => {
                    lake.copy(family, file)?;
                }
                Piece::File(file) => lake.part(family, file, piece.interval(), &|columns, take| {
                    piece.rows(family, columns, self.window, take)
                })?,
                Piece::Journaled(rows) => {
                    lake.add(family, self.interval(family), &rows.host, rows.first_seq, &piece.plain(family)?)?;
                }
            }
        }
        if let Some(identity) = &self.identity {
            replace(&LocalDisk, &folder.join(identity::FILE), &identity.text())?;
        }
        lake.finish()
    }
}

/// The first and the newest time of a row in the folder `data`, µs; `None` if it has none.
///
/// # Errors
/// When the folder has no lake, or cannot be read.
pub fn bounds(data: &Path) -> Result<Option<(i64, i64)>, FolderError> {
    let segments = segments(data, &mut Vec::new())?;
    let scan = lake::scan_read_only(data)?;
    let hot = journaled(segments, Ends::of_files(&scan.files), &mut Vec::new());
    let of_files = scan.files.values().flatten().map(|file| file.time_range);
    Ok(span(of_files.chain(hot.values().flatten().map(|batch| batch.time_range))))
}

/// The bytes of all segments of the journal that can be read.
fn segments(data: &Path, left_out: &mut Vec<(PathBuf, String)>) -> Result<Vec<(PathBuf, Vec<u8>)>, FolderError> {
    let mut segments = Vec::new();
    for path in entries(&data.join(JOURNAL))? {
        match parse_path(&path) {
            Some((_, false)) => match read_regular(&path) {
                Ok(bytes) => segments.push((path, bytes)),
                // A flush was faster: files have its rows.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => left_out.push((path, format!("read: {error}"))),
            },
            Some((_, true)) => {
                left_out.push((path, "was set aside because something in it could not be read".into()));
            }
            None => left_out.push((path, "is not a segment of a journal".into())),
        }
    }
    Ok(segments)
}

/// The rows that segments have beyond `ends`, those of files.
fn journaled(
    segments: Vec<(PathBuf, Vec<u8>)>,
    mut ends: Ends,
    left_out: &mut Vec<(PathBuf, String)>,
) -> PerFamily<Vec<Arc<HotBatch>>> {
    let mut hot = PerFamily::<Vec<Arc<HotBatch>>>::default();
    for (path, bytes) in segments {
        let replayed = replay::read(&bytes, &|host, family| ends.of(host, family));
        if !replayed.foreign.is_empty() {
            let tables = replayed.foreign.join(", ");
            left_out.push((path.clone(), format!("its rows of {tables} are not as this kymo has them")));
        }
        if let Some(broken) = replayed.broken
            && !replayed.is_torn(&bytes)
        {
            left_out.push((path, format!("its rows after byte {} of {}: {broken}", replayed.bytes, bytes.len())));
        }
        let mut batches = replayed.batches;
        for (family, batches) in batches.iter_mut() {
            for batch in batches.drain(..) {
                ends.note(&batch.host, family, batch.end_seq(), batch.time_range.1);
                hot[family].push(Arc::new(batch));
            }
        }
    }
    hot
}

/// The runs of a batch's rows that are in the window.
fn inside(batch: &HotBatch, window: &Range<i64>) -> Vec<Arc<HotBatch>> {
    let mut runs = Vec::new();
    let mut first = 0;
    for run in times(&batch.batch).chunk_by(|one, next| window.contains(one) == window.contains(next)) {
        if run.first().is_some_and(|time| window.contains(time)) {
            let rows = batch.batch.slice(first, run.len());
            runs.push(Arc::new(HotBatch::new(Arc::clone(&batch.host), batch.first_seq + first as u64, rows)));
        }
        first += run.len();
    }
    runs
}

impl Piece {
    /// Who recorded them.
    fn host(&self) -> Arc<str> {
        match self {
            Piece::File(file) => file.host().into(),
            Piece::Journaled(rows) => Arc::clone(&rows.host),
        }
    }

    /// The first and the last time of the rows of which it has some.
    fn time_range(&self) -> (i64, i64) {
        match self {
            Piece::File(file) => file.time_range,
            Piece::Journaled(rows) => span(rows.batches.iter().map(time_range)).unwrap_or_default(),
        }
    }

    /// How often they were sampled, as far as that is known.
    fn interval(&self) -> Option<Duration> {
        if let Piece::File(file) = self { interval_of(&file.path) } else { None }
    }

    /// Rows that are in memory, as plain strings and numbers.
    fn plain(&self, family: FamilyId) -> Result<Vec<RecordBatch>, WriteError> {
        let mut batches = Vec::new();
        self.rows(family, None, (i64::MIN, i64::MAX), &mut |_, batch| {
            batches.push(batch);
            Ok(())
        })?;
        Ok(batches)
    }

    /// Hands over the rows that are in the window, with these columns or all, as plain strings and numbers.
    fn rows(
        &self,
        family: FamilyId,
        columns: Option<&[usize]>,
        window: (i64, i64),
        take: &mut Take<'_>,
    ) -> Result<(), WriteError> {
        let schema = family.table.plain_schema();
        let schema = match columns {
            Some(columns) => Arc::new(schema.project(columns).map_err(|error| of_table(family)(error.into()))?),
            None => schema,
        };
        match self {
            Piece::File(file) => {
                let panicked = || Err(WriteError::parquet("read", &file.path)(ParquetError::General(PANICKED.into())));
                unless_panic(|| of_file(file, &schema, window, take)).unwrap_or_else(panicked)
            }
            Piece::Journaled(rows) => rows.batches.iter().try_for_each(|batch| {
                let batch = plain(batch, &schema).map_err(of_table(family))?;
                take(0, batch)
            }),
        }
    }
}

fn of_table(family: FamilyId) -> impl Fn(ParquetError) -> WriteError {
    move |source| WriteError::Sort(family.name(), source)
}

/// The rows with the columns of `schema`, whose labels are plain strings.
fn plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ParquetError> {
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name()).ok_or_else(|| ParquetError::General(field.name().clone()))?;
        Ok(cast(column, field.data_type())?)
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, ParquetError>>()?)?)
}

/// Hands over the rows of a file that are in the window. The file is in the order of time.
fn of_file(file: &DataFile, schema: &SchemaRef, window: (i64, i64), take: &mut Take<'_>) -> Result<(), WriteError> {
    let (from_us, to_us) = window;
    let failed = WriteError::parquet("read", &file.path);
    let opened = open_regular(&file.path).map_err(DiskError::of("open", &file.path))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(opened).map_err(&failed)?;
    let mut first = 0;
    let mut groups = Vec::new();
    let is_before = |group: &RowGroupMetaData| range_of(group).is_some_and(|(_, last)| last < from_us);
    let is_after = |group: &RowGroupMetaData| range_of(group).is_some_and(|(earliest, _)| earliest >= to_us);
    for (at, group) in builder.metadata().row_groups().iter().enumerate() {
        if is_before(group) && groups.is_empty() {
            first += u64::try_from(group.num_rows()).unwrap_or(0);
        } else if !is_after(group) {
            groups.push(at);
        }
    }
    // The time decides which rows are taken.
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).chain(["time"]).collect();
    let mask = ProjectionMask::columns(builder.parquet_schema(), names);
    let reader = builder.with_batch_size(BATCH_ROWS).with_row_groups(groups).with_projection(mask).build();
    let mut last = i64::MIN;
    for batch in reader.map_err(&failed)? {
        let batch = batch.map_err(|error| failed(error.into()))?;
        let own = times(&batch);
        if !own.is_sorted() || own.first().is_some_and(|first| *first < last) {
            return Err(failed(ParquetError::General("its rows are not in the order of time".into())));
        }
        last = own.last().copied().unwrap_or(last);
        let (from, to) = (own.partition_point(|us| *us < from_us), own.partition_point(|us| *us < to_us));
        if from < to {
            let rows = conform(&batch.slice(from, to - from), schema).map_err(|error| failed(error.into()))?;
            take(first + from as u64, rows)?;
        }
        first += batch.num_rows() as u64;
    }
    Ok(())
}

/// The least and the greatest time of a group of rows.
fn range_of(group: &RowGroupMetaData) -> Option<(i64, i64)> {
    match group.column(0).statistics() {
        Some(Statistics::Int64(times)) => Some((*times.min_opt()?, *times.max_opt()?)),
        _ => None,
    }
}
