//! Reading Parquet files of the lake on the thread that computes the query.
//!
//! DataFusion's own reader gives each read to a thread of its own and waits for it. The files are local and mostly in the page
//! cache, so waking two threads takes longer than the read, and the kernel then often leaves a query's threads on one CPU.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{CachedParquetFileReaderFactory, ParquetFileReaderFactory};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema, parquet_to_arrow_schema};
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use object_store::local::LocalFileSystem;
use prost::bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{pread, retry_on_intr};

/// Marks a file that is read with labels as dictionaries.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelsAsDictionaries;

/// Opens files of the local file system for the planner. Footers come from DataFusion's reader, which caches them.
#[derive(Debug)]
pub(super) struct Files {
    system: Arc<LocalFileSystem>,
    footers: CachedParquetFileReaderFactory,
    labels: Arc<LabelFooters>,
}

impl Files {
    pub(super) fn new(cache: Arc<FileMetadataCache>, labels: Arc<LabelFooters>) -> Files {
        let system = Arc::new(LocalFileSystem::new());
        Files { footers: CachedParquetFileReaderFactory::new(Arc::clone(&system) as _, cache), system, labels }
    }
}

/// Footers that tell the reader to keep texts as the dictionaries that files have, for recently read files.
#[derive(Debug, Default)]
pub(super) struct LabelFooters {
    bytes_max: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// For each file its own footer, and the one made of it.
    footers: HashMap<PathBuf, (Arc<ParquetMetaData>, Arc<ParquetMetaData>)>,
    bytes: usize,
}

impl LabelFooters {
    /// They take so much memory at most. At more, all are made anew.
    pub(super) fn new(bytes_max: usize) -> LabelFooters {
        LabelFooters { bytes_max, known: Mutex::default() }
    }

    fn of(&self, path: &Path, footer: &Arc<ParquetMetaData>) -> ParquetResult<Arc<ParquetMetaData>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((own, made)) = known.footers.get(path)
            && Arc::ptr_eq(own, footer)
        {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(with_dictionaries(footer)?);
        known.bytes += made.memory_size();
        if known.bytes > self.bytes_max {
            *known = Known { bytes: made.memory_size(), ..Known::default() };
        }
        known.footers.insert(path.into(), (Arc::clone(footer), Arc::clone(&made)));
        Ok(made)
    }
}

/// The same footer with a schema for Arrow, in which texts are dictionaries.
fn with_dictionaries(footer: &ParquetMetaData) -> ParquetResult<ParquetMetaData> {
    let file = footer.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), None)?;
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => Arc::new(Field::clone(field).with_data_type(dictionary.clone())),
        _ => Arc::clone(field),
    });
    let schema = encode_arrow_schema(&Schema::new(fields.collect::<Vec<_>>()));
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(Into::into),
        Some(vec![KeyValue::new(ARROW_SCHEMA_META_KEY.into(), schema)]),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    Ok(ParquetMetaDataBuilder::new(file)
        .set_row_groups(footer.row_groups().to_vec())
        .set_column_index(footer.column_index().cloned())
        .set_offset_index(footer.offset_index().cloned())
        .build())
}

impl ParquetFileReaderFactory for Files {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let path = self.system.path_to_filesystem(&file.object_meta.location);
        let path = path.map_err(|error| DataFusionError::External(error.into()))?;
        let bytes_scanned = MetricBuilder::new(metrics).counter("bytes_scanned", partition_index);
        let labels = file.extension::<LabelsAsDictionaries>().map(|_| Arc::clone(&self.labels));
        let footer = self.footers.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(Box::new(Reader { path, file: None, footer, labels, bytes_scanned }))
    }
}

/// Reads one file.
struct Reader {
    path: PathBuf,
    /// Opened by the first read.
    file: Option<File>,
    footer: Box<dyn AsyncFileReader + Send>,
    /// Where the footer comes from for labels as dictionaries.
    labels: Option<Arc<LabelFooters>>,
    bytes_scanned: Count,
}

impl Reader {
    fn read(&mut self, Range { start, end }: Range<u64>) -> ParquetResult<Bytes> {
        let failed = |error: io::Error| {
            let text = format!("read {}: {error}", self.path.display());
            ParquetError::External(io::Error::new(error.kind(), text).into())
        };
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(File::open(&self.path).map_err(failed)?),
        };
        let bytes = read(file, start, end).map_err(failed)?;
        self.bytes_scanned.add(bytes.len());
        Ok(bytes.into())
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        ready(self.read(range)).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        ready(ranges.into_iter().map(|range| self.read(range)).collect()).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let footer = self.footer.get_metadata(options).await?;
            match &self.labels {
                Some(labels) => labels.of(&self.path, &footer),
                None => Ok(footer),
            }
        }
        .boxed()
    }
}

/// The bytes of `file` from `start` to `end`.
///
/// # Errors
/// When the file ends before, or cannot be read.
pub(super) fn read(file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let from = start + bytes.len() as u64;
        if retry_on_intr(|| pread(file, spare_capacity(&mut bytes), from))? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}
