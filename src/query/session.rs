//! What the planner knows in one query: the tables of one view, kymo's functions, and a memory limit.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
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
use super::guard;
use super::ignored;
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
/// Sessions that are kept for later queries.
const SPARE_MAX: usize = 4;

/// Gives each query a session of its own. A session that is given back serves a later query, because a new one
/// copies the maps of all functions, which takes a tenth of a short query's time.
pub(super) struct Sessions {
    /// What new sessions are copies of.
    first: SessionState,
    memory_bytes_max: usize,
    spare: Mutex<Vec<Session>>,
}

impl Sessions {
    /// `threads` is how many a query computes on, `memory_bytes_max` the limit of each query.
    pub(super) fn new(threads: usize, memory_bytes_max: usize) -> Result<Sessions> {
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
        // SQL lets an inner ORDER BY go, and people expect that a LIMIT around it keeps to it.
        options.sql_parser.enable_subquery_sort_elimination = false;

        let runtime = RuntimeEnvBuilder::new()
            .with_metadata_cache_limit(FOOTER_CACHE_BYTES_MAX)
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()?;
        let mut first = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            // The guard refuses table functions too. This holds even if the guard has a gap.
            .with_table_function_list(Vec::new())
            .with_file_formats(Vec::new())
            .build();
        for aggregate in function::aggregates() {
            datafusion::execution::FunctionRegistry::register_udaf(&mut first, Arc::new(aggregate))?;
        }
        Ok(Sessions { first, memory_bytes_max, spare: Mutex::default() })
    }

    /// A session over the tables of `view`. `now_us` is the value of `now()`.
    pub(super) fn take(&self, view: Arc<View>, now_us: i64) -> Result<Session> {
        let spare = self.lock().pop();
        let mut session = spare.map_or_else(|| Session::copy_of(&self.first, self.memory_bytes_max), Ok)?;
        let (catalogs, catalog) = (MemoryCatalogProviderList::new(), MemoryCatalogProvider::new());
        catalog.register_schema(SCHEMA, Arc::new(Tables(view)))?;
        catalogs.register_catalog(CATALOG.into(), Arc::new(catalog));
        let state = &mut session.state;
        state.register_catalog_list(Arc::new(catalogs));
        state.mark_start_execution();
        // Whole microseconds, as in the tables: with a finer unit every time would be cast before each comparison.
        state.execution_props_mut().query_execution_start_time =
            timestamp_us_to_datetime(now_us).map(|time| time.and_utc());
        Ok(session)
    }

    /// Takes a session back whose query has ended. Drops it if some of that query is left.
    pub(super) fn give_back(&self, mut session: Session) {
        // Whatever may still take memory holds one of these.
        let is_free = Arc::get_mut(&mut session.context).is_some_and(|context| {
            Arc::strong_count(context.memory_pool()) == 1 && Arc::strong_count(&context.runtime_env()) == 2
        });
        // The view holds files, which are then not deleted.
        session.state.register_catalog_list(Arc::new(MemoryCatalogProviderList::new()));
        let mut spare = self.lock();
        if is_free && spare.len() < SPARE_MAX {
            spare.push(session);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Session>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One query's planner and executor.
pub(super) struct Session {
    state: SessionState,
    context: Arc<TaskContext>,
}

impl Session {
    fn copy_of(first: &SessionState, memory_bytes_max: usize) -> Result<Session> {
        let runtime = RuntimeEnvBuilder::from_runtime_env(first.runtime_env())
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes_max)))
            .build_arc()?;
        let context = Arc::new(TaskContext::from(first).with_runtime(runtime));
        Ok(Session { state: first.clone(), context })
    }

    /// The optimized plan of a statement that passed the guard.
    pub(super) async fn plan(&self, statement: Statement) -> Result<LogicalPlan, QueryError> {
        self.check_tables(&statement)?;
        self.check_functions(&statement)?;
        let plan = self.state.statement_to_plan(statement).await.map_err(QueryError::invalid)?;
        // The guard checks the statement, this checks the plan.
        let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        read_only.verify_plan(&plan).map_err(QueryError::invalid)?;
        self.state.optimize(&plan).map_err(QueryError::invalid)
    }

    /// The rows of an optimized plan.
    pub(super) async fn execute(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        let physical = self.state.query_planner().create_physical_plan(plan, &self.state).await?;
        execute_stream(physical, Arc::clone(&self.context))
    }

    /// Checks the functions here, because the guard does not know which of them are aggregates.
    fn check_functions(&self, statement: &Statement) -> Result<(), QueryError> {
        let scalars = self.state.scalar_functions();
        let inner = guard::sql_of(statement);
        match inner.map(|inner| ignored::in_scalars(inner, |name| scalars.contains_key(name))) {
            Some(ControlFlow::Break(error)) => Err(error.into()),
            _ => Ok(()),
        }
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
