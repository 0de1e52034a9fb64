//! Writing a Parquet file and publishing it in one step.
//!
//! A file is written under a name that no `*.parquet` glob matches, synced and renamed. Then its folder and every folder
//! made for it are synced. So a reader sees the whole file or none, also after a power loss.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::batch;
use crate::family::tables::TableId;
use crate::record::{Column, Kind, Type};

use super::data_folder::{FolderError, open_regular};
use super::disk::{Disk, DiskError, DiskFile, make_folders, step};
use super::hot::{HotBatch, span, time_range, times};
use super::lake::DataFile;
use super::partition;
use super::shared::Store;

/// The version of the tables' layout, in every file's metadata as `kymo.schema_version`.
pub(super) const SCHEMA_VERSION: &str = "1";
/// In the metadata of a file whose rows were recorded in the order of their times: sorting them changed nothing.
const IN_ORDER: &str = "kymo.in_order";
/// In the metadata of a file whose rows a collector sampled: how often it did, in µs.
const INTERVAL: &str = "kymo.interval_us";
/// For files that compaction soon replaces.
const FLUSH_ZSTD_LEVEL: i32 = 1;
/// A tier's file of fewer rows is not compressed: its columns have some hundred bytes each, which hardly become fewer, and zstd is set up
/// anew for each of them.
const COMPRESSED_TIER_ROWS_MIN: usize = 128;
/// For files that stay. Higher levels save a per cent of size and cost several times the CPU.
pub(super) const ZSTD_LEVEL: i32 = 3;
/// Rows of a row group: bounds the writer's memory. A reader can skip a whole group.
const ROW_GROUP_ROWS_MAX: usize = 262_144;
/// Rows of a page: with the page index a reader can skip single pages of a row group.
const PAGE_ROWS_MAX: usize = 16_384;
/// Folders that are remembered. At more, all are forgotten and synced once more.
const FOLDERS_MAX: usize = 4_096;

/// Rows of one table and UTC day that become one file.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) host: Arc<str>,
    pub(super) first_seq: u64,
    /// In the order of their sequence numbers.
    pub(super) batches: Vec<RecordBatch>,
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
    /// A Parquet file could not be read or written.
    #[error("{operation} {}: {source}", path.display())]
    Parquet {
        /// "read" or "write".
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What was wrong.
        source: ParquetError,
    },
    /// Rows of this table could not be sorted.
    #[error("sort rows of {0}: {1}")]
    Sort(&'static str, #[source] ParquetError),
    /// Files of this table have more or fewer rows than their names say.
    #[error("files of {0} have other numbers of rows than their names say; kymo verify says which")]
    Rows(&'static str),
    /// The daemon is stopping.
    #[error("stopped before it was done")]
    Stopped,
}

impl WriteError {
    /// Turns an error into that of `operation` on the Parquet file `path`.
    pub(super) fn parquet(operation: &'static str, path: &Path) -> impl Fn(ParquetError) -> WriteError {
        move |source| WriteError::Parquet { operation, path: path.into(), source }
    }
}

/// The rows of batches of one host whose sequence numbers follow each other, as runs of one UTC day each.
pub(super) fn split_by_date(batches: &[Arc<HotBatch>]) -> Vec<Rows> {
    let mut days: Vec<Rows> = Vec::new();
    let mut last_date = None;
    for HotBatch { first_seq, host, batch, .. } in batches.iter().map(Arc::as_ref) {
        let times = times(batch);
        let mut start = 0;
        while start < times.len() {
            let date = partition::date_of(times[start]);
            let len = times[start..].iter().take_while(|time| partition::date_of(**time) == date).count();
            let batch = batch.slice(start, len);
            match days.last_mut() {
                Some(day) if last_date == Some(date) => day.batches.push(batch),
                _ => days.push(Rows {
                    host: Arc::clone(host),
                    first_seq: first_seq + start as u64,
                    batches: vec![batch],
                }),
            }
            last_date = Some(date);
            start += len;
        }
    }
    days
}

/// Takes the rows of a file, a batch at a time.
pub(super) type WriteBatch<'a> = dyn FnMut(&RecordBatch) -> Result<(), WriteError> + 'a;

/// A file that is about to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) table: TableId,
    /// The host that recorded the rows.
    pub(super) host: &'a str,
    /// Interval of the collector that sampled the rows, if one did.
    pub(super) interval: Option<Duration>,
    /// The sequence numbers of its rows: the first, and one past the last.
    pub(super) sequence: (u64, u64),
    pub(super) time_range: (i64, i64),
    /// The rows were recorded in the order of their times.
    pub(super) in_order: bool,
    /// `None` for a file that is not compressed.
    pub(super) zstd_level: Option<i32>,
    /// Columns of a tier that are known to have one value in all rows, by their position.
    pub(super) standing: &'a [usize],
}

impl Store {
    /// Writes and publishes rows as one Parquet file sorted by time. If that fails, nothing is published, and the same rows can
    /// be published again.
    pub(super) fn publish_rows(
        &self,
        table: TableId,
        interval: Option<Duration>,
        Rows { host, first_seq, batches }: Rows,
    ) -> Result<DataFile, WriteError> {
        let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let sequence = (first_seq, first_seq + count as u64);
        let time_range = span(batches.iter().map(time_range)).unwrap_or_default();
        let in_order = batches.iter().flat_map(times).is_sorted();
        let is_tier = table.tier().is_some();
        let zstd_level = (!is_tier || count >= COMPRESSED_TIER_ROWS_MIN).then_some(FLUSH_ZSTD_LEVEL);
        let encode = |source: ArrowError| WriteError::Sort(table.name(), source.into());
        let sorted = sorted(batches).map_err(encode)?;
        let standing = if is_tier { standing(&sorted) } else { Vec::new() };
        let standing = &standing;
        let target = Target { table, host: &host, interval, sequence, time_range, in_order, zstd_level, standing };
        self.publish(target, &table.table().schema(), |write| sorted.iter().try_for_each(write))
    }

    /// Writes the rows that `rows` hands over under a name that no glob matches, and then gives the file its name: readers see
    /// all or nothing.
    pub(super) fn publish(
        &self,
        target: Target<'_>,
        schema: &SchemaRef,
        rows: impl FnOnce(&mut WriteBatch<'_>) -> Result<(), WriteError>,
    ) -> Result<DataFile, WriteError> {
        let Target { table, host, sequence, time_range, .. } = target;
        let date = partition::date_of(time_range.0);
        let folder = partition::folder(&self.lake, table.name(), host, date);
        self.make_folder(&folder)?;
        let name = partition::file_name(time_range.0, sequence.0, sequence.1);
        let temporary = folder.join(partition::temporary_name(&name));
        let path = folder.join(name);
        self.trash.keep(&temporary);
        self.trash.keep(&path);
        let written = write_file(&*self.disk, target, &temporary, schema, rows);
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

    /// Makes sure that a folder of the lake is there, and that its name and those above it are on the device.
    fn make_folder(&self, folder: &Path) -> Result<(), DiskError> {
        let lock = || self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = lock().contains(folder);
        if is_known && folder.is_dir() {
            return Ok(());
        }
        make_folders(&*self.disk, &self.lake, folder)?;
        let mut known = lock();
        if known.len() >= FOLDERS_MAX {
            known.clear();
        }
        known.insert(folder.into());
        Ok(())
    }
}

/// Writes and syncs a file. Returns its size in bytes.
pub(super) fn write_file(
    disk: &dyn Disk,
    target: Target<'_>,
    path: &Path,
    schema: &SchemaRef,
    rows: impl FnOnce(&mut WriteBatch<'_>) -> Result<(), WriteError>,
) -> Result<u64, WriteError> {
    let encode = WriteError::parquet("write", path);
    let created = step("publish.create").and_then(|()| disk.create(path));
    let file = created.map_err(DiskError::of("create", path))?;
    let options = ArrowWriterOptions::new()
        .with_properties(properties(target))
        // Without Arrow's schema in the file, readers see labels as plain strings.
        .with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(&*file, Arc::clone(schema), options).map_err(&encode)?;
    rows(&mut |batch| {
        step("publish.write").map_err(DiskError::of("write", path))?;
        writer.write(batch).map_err(&encode)
    })?;
    writer.finish().map_err(&encode)?;
    let bytes = writer.bytes_written() as u64;
    let synced = step("publish.sync").and_then(|()| file.sync());
    synced.map_err(DiskError::of("sync", path))?;
    Ok(bytes)
}

/// What the metadata of a file say, as pairs; none if they cannot be read.
fn pairs(path: &Path) -> Vec<KeyValue> {
    let metadata = open_regular(path).ok().and_then(|file| ParquetMetaDataReader::new().parse_and_finish(&file).ok());
    let pairs = metadata.as_ref().and_then(|metadata| metadata.file_metadata().key_value_metadata());
    pairs.cloned().unwrap_or_default()
}

/// Whether the rows of a file were recorded in the order of their times. False if that cannot be read.
pub(super) fn is_in_order(path: &Path) -> bool {
    pairs(path).iter().any(|pair| pair.key == IN_ORDER)
}

/// The interval of the collector that sampled the rows of a file, as far as that can be read.
pub(super) fn interval_of(path: &Path) -> Option<Duration> {
    let pairs = pairs(path);
    let micros = pairs.iter().find(|pair| pair.key == INTERVAL)?.value.as_ref()?;
    micros.parse().ok().map(Duration::from_micros)
}

/// For the encoder.
impl Write for &dyn DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The rows in the order of `time`: usually the batches as they are; one sorted batch if the clock stepped back.
fn sorted(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, ArrowError> {
    let in_order = batches.iter().flat_map(times).is_sorted();
    if in_order { Ok(batches) } else { Ok(vec![by_time(batch::merge(&batches)?)?]) }
}

/// The rows in the order of `time`.
pub(super) fn by_time(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let times = times(&batch);
    if times.is_sorted() {
        return Ok(batch);
    }
    let mut order: Vec<u32> = (0..).take(times.len()).collect();
    order.sort_by_key(|row| times[*row as usize]);
    take_record_batch(&batch, &UInt32Array::from(order))
}

/// The columns that have one value in all of these rows, or none.
fn standing(batches: &[RecordBatch]) -> Vec<usize> {
    let [batch] = batches else { return Vec::new() };
    let stands = |column: &ArrayRef| {
        let rows = column.len();
        column.null_count() == rows || column.slice(1, rows - 1).to_data() == column.slice(0, rows - 1).to_data()
    };
    let columns = batch.columns().iter().enumerate();
    columns.filter(|(_, column)| !column.is_empty() && stands(column)).map(|(at, _)| at).collect()
}

fn properties(target: Target<'_>) -> WriterProperties {
    let Target { table, host, interval, sequence: (first_seq, end_seq), in_order, zstd_level, standing, .. } = target;
    let mut metadata = vec![
        KeyValue::new("kymo.schema_version".into(), SCHEMA_VERSION.to_owned()),
        KeyValue::new("kymo.host".into(), host.to_owned()),
        KeyValue::new("kymo.first_seq".into(), first_seq.to_string()),
        KeyValue::new("kymo.last_seq".into(), end_seq.saturating_sub(1).to_string()),
    ];
    if in_order {
        metadata.push(KeyValue::new(IN_ORDER.into(), "true".to_owned()));
    }
    if let Some(interval) = interval {
        metadata.push(KeyValue::new(INTERVAL.into(), interval.as_micros().to_string()));
    }
    // A tier has hundreds of columns and few rows, so their statistics would take more than the values.
    let statistics = if table.tier().is_some() { EnabledStatistics::None } else { EnabledStatistics::Page };
    let compression = zstd_level
        .map_or(Compression::UNCOMPRESSED, |level| Compression::ZSTD(ZstdLevel::try_new(level).unwrap_or_default()));
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("kymo version ", env!("CARGO_PKG_VERSION")).into())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(compression)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .set_data_page_row_count_limit(PAGE_ROWS_MAX)
        .set_statistics_enabled(statistics)
        .set_column_statistics_enabled(ColumnPath::from(Column::TIME.name), EnabledStatistics::Page)
        .set_sorting_columns(Some(vec![SortingColumn { column_idx: 0, descending: false, nulls_first: false }]))
        .set_key_value_metadata(Some(metadata));
    for (at, column) in table.table().columns.iter().enumerate() {
        let path = ColumnPath::from(column.name);
        // It is as small without.
        if standing.contains(&at) {
            properties = properties.set_column_compression(path, Compression::UNCOMPRESSED);
            continue;
        }
        // As measured (docs/src/figures.md, "Encodings"): rows of several series take turns, so only time grows from row to row.
        let encoding = match (column.kind, column.ty) {
            (_, Type::Text) => continue,
            (Kind::Time, _) => Encoding::DELTA_BINARY_PACKED,
            _ => Encoding::PLAIN,
        };
        properties = properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding);
    }
    properties.build()
}
