//! What the planner knows in one query: the tables of one view, kymo's functions, and a memory limit.

use std::sync::Arc;

use arrow::temporal_conversions::timestamp_us_to_datetime;
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
    TableProvider,
};
use datafusion::common::{Result, TableReference};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;

use crate::family::{FAMILIES, FamilyId};
use crate::record::TIME_ZONE;
use crate::store::View;

use super::error::QueryError;
use super::function;
use super::table::SqlTable;

/// The only catalog.
pub const CATALOG: &str = "kymo";
/// The only schema in it, which holds the tables.
pub const SCHEMA: &str = "public";
const INFORMATION_SCHEMA: &str = "information_schema";

/// Memory for footers of recently read Parquet files, shared by all queries.
const FOOTER_CACHE_BYTES_MAX: usize = 32 << 20;
/// Size of the first read at a file's end: it covers the footer and page index of one hour's file.
const FOOTER_BYTES_HINT: usize = 64 << 10;

/// The state that all queries share. Each query gets a copy with its own tables.
pub(super) fn shared(threads: usize) -> Result<SessionState> {
    let mut config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_information_schema(true)
        .with_target_partitions(threads);
    let options = config.options_mut();
    options.execution.time_zone = Some(TIME_ZONE.into());
    // Nothing spills to disk, so a sort reserves no memory for reading spilled rows back.
    options.execution.sort_spill_reservation_bytes = 0;
    options.execution.parquet.metadata_size_hint = Some(FOOTER_BYTES_HINT);
    options.sql_parser.map_string_types_to_utf8view = false;

    let runtime = RuntimeEnvBuilder::new()
        .with_metadata_cache_limit(FOOTER_CACHE_BYTES_MAX)
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        // The guard refuses table functions too. This holds even if the guard has a gap.
        .with_table_function_list(Vec::new())
        .with_file_formats(Vec::new())
        .build();
    for aggregate in function::aggregates() {
        datafusion::execution::FunctionRegistry::register_udaf(&mut state, Arc::new(aggregate))?;
    }
    Ok(state)
}

/// One query's planner and executor.
pub(super) struct Session {
    state: SessionState,
    runtime: Arc<RuntimeEnv>,
}

impl Session {
    /// A session over the tables of `view`, with a memory limit for the plan. `now_us` is the value of `now()`.
    pub(super) fn new(shared: &SessionState, view: Arc<View>, memory_bytes_max: usize, now_us: i64) -> Result<Session> {
        let mut state = shared.clone();
        let (catalogs, catalog) = (MemoryCatalogProviderList::new(), MemoryCatalogProvider::new());
        catalog.register_schema(SCHEMA, Arc::new(Tables(view)))?;
        catalogs.register_catalog(CATALOG.into(), Arc::new(catalog));
        state.register_catalog_list(Arc::new(catalogs));
        state.mark_start_execution();
        // Whole microseconds, as in the tables: with a finer unit every time would be cast before each comparison.
        state.execution_props_mut().query_execution_start_time =
            timestamp_us_to_datetime(now_us).map(|time| time.and_utc());
        let runtime = RuntimeEnvBuilder::from_runtime_env(shared.runtime_env())
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes_max)))
            .build_arc()?;
        Ok(Session { state, runtime })
    }

    /// The optimized plan of a statement that passed the guard.
    pub(super) async fn plan(&self, statement: Statement) -> Result<LogicalPlan, QueryError> {
        self.check_tables(&statement)?;
        let plan = self.state.statement_to_plan(statement).await.map_err(QueryError::invalid)?;
        // The guard checks the statement, this checks the plan.
        let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        read_only.verify_plan(&plan).map_err(QueryError::invalid)?;
        self.state.optimize(&plan).map_err(QueryError::invalid)
    }

    /// The rows of an optimized plan.
    pub(super) async fn execute(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        let physical = self.state.query_planner().create_physical_plan(plan, &self.state).await?;
        let context = TaskContext::from(&self.state).with_runtime(Arc::clone(&self.runtime));
        execute_stream(physical, Arc::new(context))
    }

    /// Checks the tables here, because the planner's own error does not name the existing ones.
    fn check_tables(&self, statement: &Statement) -> Result<(), QueryError> {
        let tables = self.state.resolve_table_references(statement).map_err(QueryError::invalid)?;
        let unknown = tables.into_iter().find(|table| !knows(table));
        unknown.map_or(Ok(()), |table| Err(QueryError::UnknownTable(table.to_string())))
    }
}

fn knows(table: &TableReference) -> bool {
    let table = table.clone().resolve(CATALOG, SCHEMA);
    match &*table.schema {
        INFORMATION_SCHEMA => true,
        SCHEMA => *table.catalog == *CATALOG && FamilyId::find(&table.table).is_some(),
        _ => false,
    }
}

/// All tables of one view.
#[derive(Debug)]
struct Tables(Arc<View>);

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        FAMILIES.iter().map(|family| family.name().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let view = FamilyId::find(name).map(|family| Arc::clone(&self.0.tables[family]));
        Ok(view.map(|view| Arc::new(SqlTable::new(view)) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        FamilyId::find(name).is_some()
    }
}
