//! Reading Parquet files of the lake on the thread that computes the query.
//!
//! DataFusion's own reader gives each read to a thread of its own and waits for it. The files are local and mostly in the page
//! cache, so waking two threads takes longer than the read, and the kernel then often leaves a query's threads on one CPU.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{CachedParquetFileReaderFactory, ParquetFileReaderFactory};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use object_store::local::LocalFileSystem;
use prost::bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::{pread, retry_on_intr};

/// Opens files of the local file system for the planner. Footers come from DataFusion's reader, which caches them.
#[derive(Debug)]
pub(super) struct Files {
    system: Arc<LocalFileSystem>,
    footers: CachedParquetFileReaderFactory,
}

impl Files {
    pub(super) fn new(cache: Arc<FileMetadataCache>) -> Files {
        let system = Arc::new(LocalFileSystem::new());
        Files { footers: CachedParquetFileReaderFactory::new(Arc::clone(&system) as _, cache), system }
    }
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
        let footer = self.footers.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(Box::new(Reader { path, file: None, footer, bytes_scanned }))
    }
}

/// Reads one file.
struct Reader {
    path: PathBuf,
    /// Opened by the first read.
    file: Option<File>,
    footer: Box<dyn AsyncFileReader + Send>,
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
        self.footer.get_metadata(options)
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
