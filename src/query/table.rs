//! A table for the planner: one scan over the rows in memory and the Parquet files of one view.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{
    Column, ColumnStatistics, DFSchema, DataFusionError, Result, ScalarValue, Statistics, project_schema,
};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, cast};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use object_store::path::Path as ObjectPath;

use super::file::Files;
use super::rows::{self, Found, RowSource, Wanted};
use crate::family::FamilyId;
use crate::record::{self, TIME_ZONE};
use crate::store::lake::DataFile;

/// A table for the planner. It holds the source of its rows until the plan is dropped.
#[derive(Debug)]
pub(super) struct SqlTable {
    family: FamilyId,
    rows: Arc<dyn RowSource>,
    schema: SchemaRef,
}

impl SqlTable {
    pub(super) fn new(family: FamilyId, rows: Arc<dyn RowSource>) -> SqlTable {
        // DataFusion groups and compares plain strings fast, and Parquet files hold plain strings. Only the few rows in
        // memory need a cast.
        let schema = family.table.plain_schema();
        SqlTable { family, rows, schema }
    }

    /// The files and batches that may hold rows matching `filters`.
    fn select<'a>(
        &self,
        state: &dyn Session,
        filters: &[Expr],
        found: &'a Found,
    ) -> (Vec<&'a DataFile>, Vec<&'a RecordBatch>) {
        let kept = self.kept(state, filters, found).unwrap_or_default();
        let keeps = |position: usize| kept.get(position).copied().unwrap_or(true);
        let files = found.files.iter().enumerate();
        let hot = found.hot.iter().enumerate();
        (
            files.filter(|(position, _)| keeps(*position)).map(|(_, file)| file.as_ref()).collect(),
            hot.filter(|(position, _)| keeps(found.files.len() + *position)).map(|(_, hot)| &hot.batch).collect(),
        )
    }

    /// Whether each file, and then each batch, may hold matching rows. `None` if the filters do not use the time.
    fn kept(&self, state: &dyn Session, filters: &[Expr], found: &Found) -> Option<Vec<bool>> {
        let filter = conjunction(filters.iter().cloned())?;
        let schema = DFSchema::try_from(Arc::clone(&self.schema)).ok()?;
        let filter = state.create_physical_expr(filter, &schema).ok()?;
        let predicate = PruningPredicateBuilder::new().with_file_schema(self.schema()).build(filter)?;
        predicate.prune(&TimeRanges(found)).ok()
    }

    fn scan_files(
        &self,
        state: &dyn Session,
        files: &[&DataFile],
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let url = ObjectStoreUrl::local_filesystem();
        let runtime = state.runtime_env();
        let readers = Files::new(runtime.cache_manager.get_file_metadata_cache());
        let source = ParquetSource::new(Arc::clone(&self.schema))
            .with_table_parquet_options(state.table_options().parquet.clone())
            .with_parquet_file_reader_factory(Arc::new(readers));
        let parts = files.iter().map(|file| self.partitioned(file)).collect::<Result<Vec<_>>>()?;
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(FileGroup::new(parts).split_files(state.config().target_partitions()))
            .with_statistics(self.statistics(files))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// A file at its place in the object store over the local file system.
    fn partitioned(&self, file: &DataFile) -> Result<PartitionedFile> {
        let mut part = PartitionedFile::new(String::new(), file.bytes);
        let absolute = std::path::absolute(&file.path)?;
        part.object_meta.location =
            ObjectPath::from_absolute_path(absolute).map_err(|error| DataFusionError::External(error.into()))?;
        Ok(part.with_statistics(Arc::new(self.statistics(&[file]))))
    }

    /// Statistics of files: only the number of rows and the times are known.
    fn statistics(&self, files: &[&DataFile]) -> Statistics {
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        let from = files.iter().map(|file| file.time_range.0).min();
        let to = files.iter().map(|file| file.time_range.1).max();
        let mut columns = vec![ColumnStatistics::new_unknown(); self.schema.fields().len()];
        if let (Some((from, to)), Some(time)) = (from.zip(to), columns.first_mut()) {
            let value = |us| ScalarValue::TimestampMicrosecond(Some(us), Some(TIME_ZONE.into()));
            time.min_value = Precision::Exact(value(from));
            time.max_value = Precision::Exact(value(to));
            time.null_count = Precision::Exact(0);
        }
        let num_rows = usize::try_from(rows).map_or(Precision::Absent, Precision::Exact);
        Statistics { num_rows, total_byte_size: Precision::Absent, column_statistics: columns }
    }

    fn scan_hot(
        &self,
        state: &dyn Session,
        hot: &[&RecordBatch],
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = spread(hot, state.config().target_partitions());
        let schema = project_schema(&self.family.table.schema(), projection)?;
        let source = MemorySourceConfig::try_new(&partitions, schema, None)?.with_limit(limit);
        let scan = DataSourceExec::from_data_source(source);
        // Labels are dictionaries in memory and strings in files. A plan needs one type for both.
        let stored = scan.schema();
        let wanted = project_schema(&self.schema, projection)?;
        if stored == wanted {
            return Ok(scan);
        }
        let columns = wanted.fields().iter().enumerate().map(|(position, field)| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new(field.name(), position));
            Ok((cast(column, &stored, field.data_type().clone())?, field.name().clone()))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(columns, scan)?))
    }
}

#[async_trait]
impl TableProvider for SqlTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Filters choose files, batches, row groups and pages. Rows are filtered above the scan.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.map_or_else(|| (0..self.schema.fields().len()).collect(), Vec::clone);
        let wanted = Wanted { family: self.family, columns, times: rows::times(filters) };
        let found = self.rows.rows(wanted).await?;
        let (files, hot) = self.select(state, filters, &found);
        let mut scans = Vec::new();
        if !files.is_empty() {
            scans.push(self.scan_files(state, &files, projection, limit)?);
        }
        if !hot.is_empty() {
            scans.push(self.scan_hot(state, &hot, projection, limit)?);
        }
        match scans.pop() {
            None => Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?))),
            Some(only) if scans.is_empty() => Ok(only),
            Some(last) => {
                scans.push(last);
                UnionExec::try_new(scans)
            }
        }
    }
}

/// The batches in at most `count` parts with about the same number of rows.
fn spread(batches: &[&RecordBatch], count: usize) -> Vec<Vec<RecordBatch>> {
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    let rows_a_part = rows.div_ceil(count.max(1)).max(1);
    let mut parts = vec![Vec::new()];
    let mut rows_in_last = 0;
    for batch in batches {
        if rows_in_last >= rows_a_part {
            parts.push(Vec::new());
            rows_in_last = 0;
        }
        rows_in_last += batch.num_rows();
        if let Some(last) = parts.last_mut() {
            last.push((*batch).clone());
        }
    }
    parts
}

/// The times of each file, and then of each batch in memory, to skip those outside a query's time range.
struct TimeRanges<'a>(&'a Found);

impl TimeRanges<'_> {
    fn ranges(&self) -> impl Iterator<Item = (i64, i64)> {
        let files = self.0.files.iter().map(|file| file.time_range);
        files.chain(self.0.hot.iter().map(|hot| hot.time_range))
    }

    fn times(&self, column: &Column, of: impl Fn((i64, i64)) -> i64) -> Option<ArrayRef> {
        let times = || TimestampMicrosecondArray::from_iter_values(self.ranges().map(of)).with_timezone(TIME_ZONE);
        is_time(column).then(|| Arc::new(times()) as ArrayRef)
    }
}

impl PruningStatistics for TimeRanges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.times(column, |(from, _)| from)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.times(column, |(_, to)| to)
    }

    fn num_containers(&self) -> usize {
        self.0.files.len() + self.0.hot.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        is_time(column).then(|| Arc::new(UInt64Array::from(vec![0; self.num_containers()])) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let files = self.0.files.iter().map(|file| file.rows);
        let hot = self.0.hot.iter().map(|hot| hot.batch.num_rows() as u64);
        Some(Arc::new(UInt64Array::from_iter_values(files.chain(hot))))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

fn is_time(column: &Column) -> bool {
    column.name == record::Column::TIME.name
}
