//! Writing a Parquet file and publishing it in one step.
//!
//! A file is written under a name that no `*.parquet` glob matches, synced, renamed, and then its folder and every
//! folder made for it are synced: a reader sees the whole file or none, also after a power loss.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::batch;
use crate::record::{Kind, Table, Type};

use super::lake::DataFile;
use super::partition;

/// The version of the tables' layout, in every file's metadata as `kymo.schema_version`.
pub const SCHEMA_VERSION: &str = "1";
/// A low level: higher ones cost several times the CPU for a few per cent of size.
const ZSTD_LEVEL: i32 = 1;
/// Rows a row group: bounds the writer's memory, and is what a reader can skip at once.
const ROW_GROUP_ROWS_MAX: usize = 262_144;
/// Rows a page: what the page index lets a reader skip within a row group.
const PAGE_ROWS_MAX: usize = 16_384;

/// Rows of one table that shall become one file.
#[derive(Debug)]
pub struct Segment {
    /// Sequence number of the first row.
    pub first_seq: u64,
    /// The rows, in the order of their sequence numbers.
    pub batches: Vec<RecordBatch>,
}

/// What goes into a file beside its rows.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The table.
    pub table: &'static Table,
    /// The `host=` partition.
    pub host: &'a str,
    /// Interval of the collector that sampled the rows, if one did.
    pub interval: Option<Duration>,
}

/// Why a file was not published.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The rows could not be encoded or written.
    #[error("write {}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        source: ParquetError,
    },
}

/// Writes and publishes the rows as Parquet, one file a UTC day, sorted by time.
///
/// # Errors
/// When the file system refuses; files published before that are returned in neither case, but they are whole, and
/// publishing the same rows again replaces them.
pub fn publish(lake: &Path, origin: Origin<'_>, segment: &Segment) -> Result<Vec<DataFile>, WriteError> {
    split_by_date(segment).iter().map(|(date, part)| publish_day(lake, origin, *date, part)).collect()
}

/// The segment's rows as runs of one UTC day each.
fn split_by_date(segment: &Segment) -> Vec<(jiff::civil::Date, Segment)> {
    let mut days: Vec<(jiff::civil::Date, Segment)> = Vec::new();
    let mut seq = segment.first_seq;
    for batch in &segment.batches {
        let times = times(batch);
        let mut start = 0;
        while start < times.len() {
            let date = partition::date_of(times[start]);
            let len = times[start..].iter().take_while(|time| partition::date_of(**time) == date).count();
            let rows = batch.slice(start, len);
            match days.last_mut() {
                Some((last, day)) if *last == date => day.batches.push(rows),
                _ => days.push((date, Segment { first_seq: seq, batches: vec![rows] })),
            }
            start += len;
            seq += len as u64;
        }
    }
    days
}

fn publish_day(
    lake: &Path,
    origin: Origin<'_>,
    date: jiff::civil::Date,
    segment: &Segment,
) -> Result<DataFile, WriteError> {
    let folder = partition::folder(lake, origin.table.name, origin.host, date);
    create_synced(lake, &folder)?;
    let rows: usize = segment.batches.iter().map(RecordBatch::num_rows).sum();
    let end_seq = segment.first_seq + rows as u64;
    let (start, end) = time_range(&segment.batches);
    let name = partition::file_name(start, segment.first_seq, end_seq);
    let temporary = folder.join(partition::temporary_name(&name));
    let path = folder.join(name);

    let written = write(&temporary, origin, segment, end_seq);
    if written.is_err() {
        // What is left of it is removed at the next start if it can't be removed now.
        let _ = fs::remove_file(&temporary);
    }
    let bytes = written?;
    fs::rename(&temporary, &path).map_err(|source| WriteError::Io {
        operation: "rename to",
        path: path.clone(),
        source,
    })?;
    sync_folder(&folder)?;
    Ok(DataFile::new(path, (segment.first_seq, end_seq), rows as u64, bytes, (start, end)))
}

/// Writes and syncs; the size in bytes.
fn write(path: &Path, origin: Origin<'_>, segment: &Segment, end_seq: u64) -> Result<u64, WriteError> {
    let io = |operation| move |source| WriteError::Io { operation, path: path.into(), source };
    let encode = |source| WriteError::Parquet { path: path.into(), source };
    let file = File::create(path).map_err(io("create"))?;
    let options = ArrowWriterOptions::new()
        .with_properties(properties(origin, segment.first_seq, end_seq))
        // Without Arrow's schema inside, readers take labels for the plain strings that they are in Parquet.
        .with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(&file, origin.table.schema(), options).map_err(encode)?;
    for batch in sorted(&segment.batches).map_err(|error| encode(error.into()))? {
        writer.write(&batch).map_err(encode)?;
    }
    writer.close().map_err(encode)?;
    file.sync_all().map_err(io("sync"))?;
    Ok(file.metadata().map_err(io("stat"))?.len())
}

/// The batches in the order of `time`: as they are in the usual case, one sorted batch when the clock stepped back.
fn sorted(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>, arrow::error::ArrowError> {
    let in_order = batches.iter().flat_map(|batch| times(batch).iter()).is_sorted();
    if in_order || batches.is_empty() {
        return Ok(batches.to_vec());
    }
    let merged = batch::merge(batches)?;
    let times = times(&merged);
    let mut order: Vec<u32> = (0..).take(times.len()).collect();
    order.sort_by_key(|row| times[*row as usize]);
    Ok(vec![take_record_batch(&merged, &UInt32Array::from(order))?])
}

fn properties(origin: Origin<'_>, first_seq: u64, end_seq: u64) -> WriterProperties {
    let mut metadata = vec![
        KeyValue::new("kymo.schema_version".into(), SCHEMA_VERSION.to_owned()),
        KeyValue::new("kymo.host".into(), origin.host.to_owned()),
        KeyValue::new("kymo.first_seq".into(), first_seq.to_string()),
        KeyValue::new("kymo.last_seq".into(), end_seq.saturating_sub(1).to_string()),
    ];
    if let Some(interval) = origin.interval {
        metadata.push(KeyValue::new("kymo.interval_us".into(), interval.as_micros().to_string()));
    }
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("kymo version ", env!("CARGO_PKG_VERSION")).into())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .set_data_page_row_count_limit(PAGE_ROWS_MAX)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(vec![SortingColumn { column_idx: 0, descending: false, nulls_first: false }]))
        .set_key_value_metadata(Some(metadata));
    for column in origin.table.columns {
        let path = ColumnPath::from(column.name);
        // Times and counters grow by small steps: their differences pack into a few bits.
        if column.kind == Kind::Time || column.ty == Type::Int64 {
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    properties.build()
}

/// Makes `folder` below `root`, and syncs every parent that got a new entry.
fn create_synced(root: &Path, folder: &Path) -> Result<(), WriteError> {
    let mut missing: Vec<&Path> =
        folder.ancestors().take_while(|ancestor| *ancestor != root && !ancestor.is_dir()).collect();
    if !root.is_dir() {
        missing.push(root);
    }
    for folder in missing.into_iter().rev() {
        fs::create_dir_all(folder).map_err(|source| WriteError::Io {
            operation: "create folder",
            path: folder.into(),
            source,
        })?;
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> Result<(), WriteError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| WriteError::Io {
        operation: "sync folder",
        path: folder.into(),
        source,
    })
}

/// The `time` column's values, µs.
#[must_use]
pub(super) fn times(batch: &RecordBatch) -> &[i64] {
    batch.column(0).as_primitive::<TimestampMicrosecondType>().values()
}

/// Smallest and greatest `time` of the batches, µs; (0, 0) without rows.
#[must_use]
pub(super) fn time_range(batches: &[RecordBatch]) -> (i64, i64) {
    let times = || batches.iter().flat_map(|batch| times(batch).iter().copied());
    (times().min().unwrap_or(0), times().max().unwrap_or(0))
}

/// Turns files into what a view holds.
#[must_use]
pub(super) fn shared(files: Vec<DataFile>) -> Vec<Arc<DataFile>> {
    files.into_iter().map(Arc::new).collect()
}
