//! Writing a Parquet file and publishing it in one step.
//!
//! A file is written under a name that no `*.parquet` glob matches, synced and renamed. Then its folder and every folder
//! made for it are synced. So a reader sees the whole file or none, also after a power loss.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::batch;
use crate::record::{Kind, Table, Type};

use super::data_folder::FolderError;
use super::disk::{Disk, DiskError, DiskFile, step};
use super::folders::Folders;
use super::lake::DataFile;
use super::partition;
use super::trash::Trash;

/// The version of the tables' layout, in every file's metadata as `kymo.schema_version`.
pub const SCHEMA_VERSION: &str = "1";
/// For files that compaction soon replaces.
const FLUSH_ZSTD_LEVEL: i32 = 1;
/// For files that stay. Higher levels save a per cent of size and cost several times the CPU.
pub(super) const ZSTD_LEVEL: i32 = 3;
/// Rows of a row group: bounds the writer's memory. A reader can skip a whole group.
const ROW_GROUP_ROWS_MAX: usize = 262_144;
/// Rows of a page: with the page index a reader can skip single pages of a row group.
const PAGE_ROWS_MAX: usize = 16_384;

/// Rows of one table that become one file.
#[derive(Debug)]
pub struct Rows {
    /// Sequence number of the first row.
    pub first_seq: u64,
    /// The rows, in the order of their sequence numbers.
    pub batches: Vec<RecordBatch>,
}

/// Where a file's rows come from, for its path and metadata.
#[derive(Clone, Copy, Debug)]
pub struct Provenance<'a> {
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
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The data folder is absent, or another process has it.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A published file could not be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        source: ParquetError,
    },
    /// Rows could not be sorted.
    #[error("sort rows of {table}: {source}")]
    Encode {
        /// Their table.
        table: &'static str,
        /// What was wrong.
        source: ParquetError,
    },
    /// Files have more or fewer rows than their names say.
    #[error("files of {table} have other numbers of rows than their names say; kymo verify says which")]
    Rows {
        /// Their table.
        table: &'static str,
    },
    /// The daemon is stopping.
    #[error("stopped before it was done")]
    Stopped,
    /// The rows could not be encoded or written.
    #[error("write {}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What was wrong.
        source: ParquetError,
    },
}

/// The rows as runs of one UTC day each.
#[must_use]
pub fn split_by_date(rows: &Rows) -> Vec<(jiff::civil::Date, Rows)> {
    let mut days: Vec<(jiff::civil::Date, Rows)> = Vec::new();
    let mut seq = rows.first_seq;
    for batch in &rows.batches {
        let times = times(batch);
        let mut start = 0;
        while start < times.len() {
            let date = partition::date_of(times[start]);
            let len = times[start..].iter().take_while(|time| partition::date_of(**time) == date).count();
            let batch = batch.slice(start, len);
            match days.last_mut() {
                Some((last, day)) if *last == date => day.batches.push(batch),
                _ => days.push((date, Rows { first_seq: seq, batches: vec![batch] })),
            }
            start += len;
            seq += len as u64;
        }
    }
    days
}

/// Where files are published.
#[derive(Debug)]
pub(super) struct Publisher {
    disk: Arc<dyn Disk>,
    lake: PathBuf,
    trash: Arc<Trash>,
    folders: Folders,
}

/// A file that is about to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) provenance: Provenance<'a>,
    pub(super) date: jiff::civil::Date,
    /// The sequence numbers of its rows: the first, and one past the last.
    pub(super) sequence: (u64, u64),
    pub(super) time_range: (i64, i64),
    pub(super) zstd_level: i32,
}

impl Publisher {
    /// Publishes into the lake at `lake`. What a failure leaves goes to `trash`.
    pub(super) fn new(disk: Arc<dyn Disk>, lake: PathBuf, trash: Arc<Trash>) -> Publisher {
        Publisher { disk, lake, trash, folders: Folders::default() }
    }

    /// Writes and publishes the rows, all of the UTC day `date`, as one Parquet file sorted by time.
    ///
    /// # Errors
    /// When the file system refuses. Nothing is published then, and the same rows can be published again.
    pub(super) fn publish_rows(
        &self,
        provenance: Provenance<'_>,
        date: jiff::civil::Date,
        rows: &Rows,
    ) -> Result<DataFile, WriteError> {
        let count: usize = rows.batches.iter().map(RecordBatch::num_rows).sum();
        let sequence = (rows.first_seq, rows.first_seq + count as u64);
        let time_range = time_range(&rows.batches);
        let target = Target { provenance, date, sequence, time_range, zstd_level: FLUSH_ZSTD_LEVEL };
        let encode = |source: ArrowError| WriteError::Encode { table: provenance.table.name, source: source.into() };
        let sorted = sorted(&rows.batches).map_err(encode)?;
        self.publish(target, &provenance.table.schema(), sorted.into_iter().map(Ok))
    }

    /// Writes the rows under a name that no glob matches, and then gives the file its name: readers see all or nothing.
    ///
    /// # Errors
    /// When the file system refuses, or `rows` does.
    pub(super) fn publish(
        &self,
        target: Target<'_>,
        schema: &SchemaRef,
        rows: impl Iterator<Item = Result<RecordBatch, WriteError>>,
    ) -> Result<DataFile, WriteError> {
        let Target { provenance, date, sequence, time_range, .. } = target;
        let folder = partition::folder(&self.lake, provenance.table.name, provenance.host, date);
        self.folders.ensure(&*self.disk, &self.lake, &folder)?;
        let name = partition::file_name(time_range.0, sequence.0, sequence.1);
        let temporary = folder.join(partition::temporary_name(&name));
        let path = folder.join(name);
        self.trash.keep(&temporary);
        self.trash.keep(&path);
        let written = self.write(target, &temporary, schema, rows);
        let written = written.and_then(|bytes| {
            let renamed = step("publish.rename").and_then(|()| self.disk.rename(&temporary, &path));
            renamed.map_err(DiskError::of("rename to", &path))?;
            Ok(bytes)
        });
        let bytes = written.inspect_err(|_| self.trash.remove(&temporary))?;
        let synced = step("publish.sync_folder").and_then(|()| self.disk.sync_folder(&folder));
        let published = synced
            .map_err(DiskError::of("sync folder", &folder))
            .and_then(|()| step("publish.done").map_err(DiskError::of("publish", &path)));
        // The next try may have more rows and so another name. Two files must not have the same rows.
        published.inspect_err(|_| self.trash.remove(&path))?;
        Ok(DataFile::new(path, sequence, sequence.1 - sequence.0, bytes, time_range))
    }

    /// Writes and syncs the file. Returns its size in bytes.
    fn write(
        &self,
        target: Target<'_>,
        path: &Path,
        schema: &SchemaRef,
        rows: impl Iterator<Item = Result<RecordBatch, WriteError>>,
    ) -> Result<u64, WriteError> {
        let encode = |source| WriteError::Parquet { path: path.into(), source };
        let created = step("publish.create").and_then(|()| self.disk.create(path));
        let file = created.map_err(DiskError::of("create", path))?;
        let options = ArrowWriterOptions::new()
            .with_properties(properties(target))
            // Without Arrow's schema in the file, readers see labels as plain strings.
            .with_skip_arrow_metadata(true);
        let mut writer =
            ArrowWriter::try_new_with_options(Sink(&*file), Arc::clone(schema), options).map_err(encode)?;
        for batch in rows {
            step("publish.write").map_err(DiskError::of("write", path))?;
            writer.write(&batch?).map_err(encode)?;
        }
        writer.finish().map_err(encode)?;
        let bytes = writer.bytes_written() as u64;
        let synced = step("publish.sync").and_then(|()| file.sync());
        synced.map_err(DiskError::of("sync", path))?;
        Ok(bytes)
    }
}

/// The file, for the encoder.
struct Sink<'a>(&'a dyn DiskFile);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The rows in the order of `time`: usually the batches as they are; one sorted batch if the clock stepped back.
fn sorted(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>, ArrowError> {
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

fn properties(target: Target<'_>) -> WriterProperties {
    let Target { provenance, sequence: (first_seq, end_seq), zstd_level, .. } = target;
    let mut metadata = vec![
        KeyValue::new("kymo.schema_version".into(), SCHEMA_VERSION.to_owned()),
        KeyValue::new("kymo.host".into(), provenance.host.to_owned()),
        KeyValue::new("kymo.first_seq".into(), first_seq.to_string()),
        KeyValue::new("kymo.last_seq".into(), end_seq.saturating_sub(1).to_string()),
    ];
    if let Some(interval) = provenance.interval {
        metadata.push(KeyValue::new("kymo.interval_us".into(), interval.as_micros().to_string()));
    }
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("kymo version ", env!("CARGO_PKG_VERSION")).into())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(zstd_level).unwrap_or_default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .set_data_page_row_count_limit(PAGE_ROWS_MAX)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(vec![SortingColumn { column_idx: 0, descending: false, nulls_first: false }]))
        .set_key_value_metadata(Some(metadata));
    for column in provenance.table.columns {
        let path = ColumnPath::from(column.name);
        // Measured on traces (ARCHITECTURE.md, "Encodings"): rows of several series take turns. Zstd finds what a value has
        // in common with one a few rows before, which differences between neighbours would hide. Only time grows from row
        // to row.
        let encoding = match (column.kind, column.ty) {
            (_, Type::Text) => continue,
            (Kind::Time, _) => Encoding::DELTA_BINARY_PACKED,
            _ => Encoding::PLAIN,
        };
        properties = properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding);
    }
    properties.build()
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
