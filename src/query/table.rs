//! A table for the planner: one scan over the rows in memory and the Parquet files of one view.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
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
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, cast, lit};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use object_store::path::Path as ObjectPath;

use super::file::{Files, LabelFooters};
use super::named::Named;
use super::rows::{self, Found, HotRows, RowSource, Wanted};
use crate::record::{self, TIME_ZONE};
use crate::store::lake::DataFile;

/// A table for the planner. It holds the source of its rows until the plan is dropped.
#[derive(Debug)]
pub(super) struct SqlTable {
    table: Named,
    rows: Arc<dyn RowSource>,
    /// The columns of files, and the host, which each file and each batch has one of.
    schema: TableSchema,
}

impl SqlTable {
    pub(super) fn new(table: Named, rows: Arc<dyn RowSource>) -> SqlTable {
        // DataFusion groups and compares plain strings fast, and Parquet files hold plain strings. Only the few rows in
        // memory need a cast.
        let sql = table.table.sql_schema();
        let host = sql.fields()[table.table.columns.len()..].to_vec();
        let schema = TableSchema::builder(table.table.plain_schema()).with_table_partition_cols(host).build();
        SqlTable { table, rows, schema }
    }

    /// The position of the column `host`.
    fn host(&self) -> usize {
        self.table.table.columns.len()
    }

    fn project(&self, projection: Option<&Vec<usize>>) -> Result<SchemaRef> {
        project_schema(self.schema.table_schema(), projection)
    }

    /// The files and batches that may hold rows matching `filters`.
    fn select<'a>(
        &self,
        state: &dyn Session,
        filters: &[Expr],
        found: &'a Found,
    ) -> (Vec<&'a DataFile>, Vec<&'a HotRows>) {
        let kept = self.kept(state, filters, found).unwrap_or_default();
        let keeps = |position: usize| kept.get(position).copied().unwrap_or(true);
        let files = found.files.iter().enumerate();
        let hot = found.hot.iter().enumerate();
        (
            files.filter(|(position, _)| keeps(*position)).map(|(_, file)| file.as_ref()).collect(),
            hot.filter(|(position, _)| keeps(found.files.len() + *position)).map(|(_, hot)| hot).collect(),
        )
    }

    /// Whether each file, and then each batch, may hold matching rows. `None` if the filters use neither time nor host.
    fn kept(&self, state: &dyn Session, filters: &[Expr], found: &Found) -> Option<Vec<bool>> {
        let filter = conjunction(filters.iter().cloned())?;
        let schema = DFSchema::try_from(self.schema()).ok()?;
        let filter = state.create_physical_expr(filter, &schema).ok()?;
        let predicate = PruningPredicateBuilder::new().with_file_schema(self.schema()).build(filter)?;
        predicate.prune(&Parts(found)).ok()
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
        let labels = state.config().get_extension::<LabelFooters>().unwrap_or_default();
        let readers = Files::new(runtime.cache_manager.get_file_metadata_cache(), labels);
        let source = ParquetSource::new(self.schema.clone())
            .with_table_parquet_options(state.table_options().parquet.clone())
            .with_parquet_file_reader_factory(Arc::new(readers));
        let parts = files.iter().map(|file| self.partitioned(file)).collect::<Result<Vec<_>>>()?;
        let statistics = self.statistics(files).add_column_statistics(host_statistics(&parts));
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(FileGroup::new(parts).split_files(state.config().target_partitions()))
            .with_statistics(statistics)
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
        // The statistics of the host follow from its value.
        let part = part.with_partition_values(vec![ScalarValue::from(file.host())]);
        Ok(part.with_statistics(Arc::new(self.statistics(&[file]))))
    }

    /// Statistics of files without the host: only the number of rows and the times are known.
    fn statistics(&self, files: &[&DataFile]) -> Statistics {
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        let from = files.iter().map(|file| file.time_range.0).min();
        let to = files.iter().map(|file| file.time_range.1).max();
        let mut columns = vec![ColumnStatistics::new_unknown(); self.table.table.columns.len()];
        if let (Some((from, to)), Some(time)) = (from.zip(to), columns.first_mut()) {
            let value = |us| ScalarValue::TimestampMicrosecond(Some(us), Some(TIME_ZONE.into()));
            time.min_value = Precision::Exact(value(from));
            time.max_value = Precision::Exact(value(to));
            time.null_count = Precision::Exact(0);
        }
        let num_rows = usize::try_from(rows).map_or(Precision::Absent, Precision::Exact);
        Statistics { num_rows, total_byte_size: Precision::Absent, column_statistics: columns }
    }

    /// A scan of batches of one host. They have the columns `stored`.
    fn scan_hot(
        &self,
        state: &dyn Session,
        hot: &[&HotRows],
        projection: Option<&Vec<usize>>,
        stored: &Vec<usize>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = spread(hot, state.config().target_partitions());
        let schema = project_schema(&self.table.table.schema(), Some(stored))?;
        let source = MemorySourceConfig::try_new(&partitions, schema, None)?.with_limit(limit);
        let scan = DataSourceExec::from_data_source(source);
        // Labels are dictionaries in memory and strings in files. A plan needs one type for both.
        let stored = scan.schema();
        let wanted = self.project(projection)?;
        if stored == wanted {
            return Ok(scan);
        }
        let mut columns: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::with_capacity(wanted.fields().len());
        let mut position = 0;
        for field in wanted.fields() {
            let column = if field.name() == record::Column::HOST.name {
                lit(hot.first().map_or("", |hot| &*hot.host))
            } else {
                position += 1;
                let column = Arc::new(PhysicalColumn::new(field.name(), position - 1));
                cast(column, &stored, field.data_type().clone())?
            };
            columns.push((column, field.name().clone()));
        }
        Ok(Arc::new(ProjectionExec::try_new(columns, scan)?))
    }
}

/// Statistics of the host over files.
fn host_statistics(files: &[PartitionedFile]) -> ColumnStatistics {
    let mut statistics = ColumnStatistics::new_unknown();
    let hosts = || files.iter().filter_map(|file| file.partition_values.first());
    let order = |one: &&ScalarValue, other: &&ScalarValue| one.partial_cmp(other).unwrap_or(Ordering::Equal);
    if let (Some(first), Some(last)) = (hosts().min_by(order), hosts().max_by(order)) {
        statistics.min_value = Precision::Exact(first.clone());
        statistics.max_value = Precision::Exact(last.clone());
        statistics.null_count = Precision::Exact(0);
    }
    statistics
}

#[async_trait]
impl TableProvider for SqlTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
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
        let host = self.host();
        let all = || (0..host).collect();
        let stored: Vec<usize> = projection
            .map_or_else(all, |positions| positions.iter().copied().filter(|position| *position != host).collect());
        let wanted =
            Wanted { table: self.table, columns: stored.clone(), times: rows::times(filters), with_stretches: false };
        let found = self.rows.rows(wanted).await?;
        let (files, hot) = self.select(state, filters, &found);
        let mut scans = Vec::new();
        if !files.is_empty() {
            scans.push(self.scan_files(state, &files, projection, limit)?);
        }
        for hot in hot.chunk_by(|one, next| one.host == next.host) {
            scans.push(self.scan_hot(state, hot, projection, &stored, limit)?);
        }
        match scans.pop() {
            None => Ok(Arc::new(EmptyExec::new(self.project(projection)?))),
            Some(only) if scans.is_empty() => Ok(only),
            Some(last) => {
                scans.push(last);
                UnionExec::try_new(scans)
            }
        }
    }
}

/// The batches in at most `count` parts with about the same number of rows.
fn spread(hot: &[&HotRows], count: usize) -> Vec<Vec<RecordBatch>> {
    let rows: usize = hot.iter().map(|hot| hot.batch.num_rows()).sum();
    let rows_a_part = rows.div_ceil(count.max(1)).max(1);
    let mut parts = vec![Vec::new()];
    let mut rows_in_last = 0;
    for HotRows { batch, .. } in hot {
        if rows_in_last >= rows_a_part {
            parts.push(Vec::new());
            rows_in_last = 0;
        }
        rows_in_last += batch.num_rows();
        if let Some(last) = parts.last_mut() {
            last.push(batch.clone());
        }
    }
    parts
}

/// The times and the host of each file, and then of each batch in memory, to skip those that a query does not ask for.
struct Parts<'a>(&'a Found);

impl Parts<'_> {
    fn ranges(&self) -> impl Iterator<Item = (i64, i64)> {
        let files = self.0.files.iter().map(|file| file.time_range);
        files.chain(self.0.hot.iter().map(|hot| hot.time_range))
    }

    fn hosts(&self) -> ArrayRef {
        let files = self.0.files.iter().map(|file| file.host());
        Arc::new(StringArray::from_iter_values(files.chain(self.0.hot.iter().map(|hot| (*hot.host).into()))))
    }

    fn bounds(&self, column: &Column, of: impl Fn((i64, i64)) -> i64) -> Option<ArrayRef> {
        if is_time(column) {
            let times = TimestampMicrosecondArray::from_iter_values(self.ranges().map(of));
            return Some(Arc::new(times.with_timezone(TIME_ZONE)));
        }
        is_host(column).then(|| self.hosts())
    }
}

impl PruningStatistics for Parts<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |(from, _)| from)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |(_, to)| to)
    }

    fn num_containers(&self) -> usize {
        self.0.files.len() + self.0.hot.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let no_nulls = || Arc::new(UInt64Array::from(vec![0; self.num_containers()])) as ArrayRef;
        (is_time(column) || is_host(column)).then(no_nulls)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let files = self.0.files.iter().map(|file| file.rows);
        let hot = self.0.hot.iter().map(|hot| hot.batch.num_rows() as u64);
        Some(Arc::new(UInt64Array::from_iter_values(files.chain(hot))))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if !is_host(column) {
            return None;
        }
        let hosts = self.hosts();
        let is_one = |at| ScalarValue::try_from_array(&hosts, at).is_ok_and(|host| values.contains(&host));
        Some((0..hosts.len()).map(|at| Some(is_one(at))).collect())
    }
}

fn is_time(column: &Column) -> bool {
    column.name == record::Column::TIME.name
}

fn is_host(column: &Column) -> bool {
    column.name == record::Column::HOST.name
}
