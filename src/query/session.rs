//! What the planner knows in one query: the tables of one view, kymo's functions, and a memory limit.

mod view;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::temporal_conversions::timestamp_us_to_datetime;
use datafusion::catalog::TableFunction;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, DataFusionError, Result, TableReference};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, ScalarUDF};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;

use crate::family::{FAMILIES, Family};
use crate::record::TIME_ZONE;
use crate::words;

use super::asked::Asked;
use super::catalog::{Catalog, Catalogs};
use super::circular;
use super::correlated;
use super::dialect;
use super::downsample::{self, Downsample, ShowScans};
use super::emptiness;
use super::error::QueryError;
use super::existence::DistinctRows;
use super::file::LabelFooters;
use super::function;
use super::guard;
use super::hint;
use super::hosts;
use super::ignored;
use super::membership;
use super::named::Named;
use super::operator::Meaning;
use super::place::{CATALOG, DOWNSAMPLE, INFORMATION_SCHEMA, PG_CATALOG, SCHEMA, is_table_function};
use super::push_down::logical_rules;
use super::rows::RowSource;
use super::series;
use super::sort_keys::SortKeys;
use super::spill::{Spill, SpillSettings};
use super::sql_view::SqlViews;
use super::sql_view::planned::Planned;
use super::tables::Tables;
use super::tool;

/// Memory for footers of recently read Parquet files, shared by all queries.
const FOOTER_CACHE_BYTES_MAX: usize = 32 << 20;
/// Size of the first read at a file's end: it covers the footer and page index of one hour's file.
const FOOTER_BYTES_HINT: usize = 64 << 10;
/// Rows of a batch of a result that is read as it is: those of a page in the lake's files. With half of them, as in other plans, a
/// result of 3 M rows takes 3 to 14 % more CPU time, as each batch is a message.
const PASSED_ROWS: usize = 16_384;
/// A sort that may spill keeps this share of its memory, on each thread, for reading spilled rows back.
const SPILL_READ_SHARE: usize = 16;
/// Names of a statement's own columns that are replaced by what they stand for. Each may double the statement.
const SUBSTITUTIONS_MAX: usize = 8;
/// Sessions that are kept for later queries.
const SPARE_MAX: usize = 4;

/// Gives each query a session of its own. A session that is given back serves a later query, because a new one
/// copies the maps of all functions, which takes a tenth of a short query's time.
pub(super) struct Sessions {
    /// What new sessions are copies of.
    first: SessionState,
    memory_bytes_max: usize,
    spill: Option<SpillSettings>,
    views: SqlViews,
    spare: Mutex<Vec<Session>>,
}

impl Sessions {
    /// `threads` is how many a query computes on, `memory_bytes_max` the limit of each query, `spill` where it puts what is
    /// beyond that, `views` what it may use like tables.
    pub(super) fn new(
        threads: usize,
        memory_bytes_max: usize,
        spill: Option<SpillSettings>,
        views: SqlViews,
    ) -> Result<Sessions> {
        let mut config = SessionConfig::new()
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_target_partitions(threads)
            .with_extension(Arc::new(LabelFooters::new(FOOTER_CACHE_BYTES_MAX)));
        let options = config.options_mut();
        options.execution.time_zone = Some(TIME_ZONE.into());
        // For reading spilled rows back. A sort that cannot spill needs none.
        let reserved = spill.as_ref().map_or(0, |_| memory_bytes_max / SPILL_READ_SHARE);
        options.execution.sort_spill_reservation_bytes = reserved.min(options.execution.sort_spill_reservation_bytes);
        options.execution.parquet.metadata_size_hint = Some(FOOTER_BYTES_HINT);
        options.sql_parser.map_string_types_to_utf8view = false;
        // As in DuckDB. PostgreSQL has nulls first if the order descends.
        options.sql_parser.default_null_ordering = "nulls_last".into();
        // SQL lets an inner ORDER BY go, and people expect that a LIMIT around it keeps to it.
        options.sql_parser.enable_subquery_sort_elimination = false;
        // It leaves out rows that none of the extremes found so far would change, and forgets the extremes that have found no row
        // yet, and those of expressions: `min(a), max(b) FILTER (…)` lost the second one.
        options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
        // Of a simplified expression, the planner may know less often that it is never null. It would refuse its own plan for that.
        options.execution.skip_physical_aggregate_schema_check = true;

        let runtime = RuntimeEnvBuilder::new()
            .with_metadata_cache_limit(FOOTER_CACHE_BYTES_MAX)
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()?;
        let mut first = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_expr_planners(function::planners())
            .with_type_planner(function::types())
            .with_default_features()
            // The guard refuses all others too.
            .with_table_function_list(table_functions())
            .with_file_formats(Vec::new())
            .with_optimizer_rules(logical_rules())
            .with_optimizer_rule(Arc::new(DistinctRows))
            .with_optimizer_rule(Arc::new(SortKeys))
            .with_physical_optimizer_rules(series::rules(memory_bytes_max))
            .with_physical_optimizer_rule(Arc::new(ShowScans))
            .build();
        for function in tool::functions() {
            datafusion::execution::FunctionRegistry::register_udf(&mut first, Arc::new(function))?;
        }
        // Before the functions' own: `cpu = 0` compares texts.
        datafusion::execution::FunctionRegistry::register_function_rewrite(&mut first, Arc::new(Meaning))?;
        function::register(&mut first)?;
        Ok(Sessions { first, memory_bytes_max, spill, views, spare: Mutex::default() })
    }

    /// A session over the tables of `rows`. `now_us` is the value of `now()`, `schema` where tables without one are looked for.
    pub(super) fn take(&self, rows: Arc<dyn RowSource>, now_us: i64, schema: &str) -> Result<Session> {
        let spare = self.lock().pop();
        let mut session = spare.map_or_else(|| self.session(), Ok)?;
        if let Some(spill) = &session.spill {
            spill.reset();
        }
        session.planned = Arc::default();
        let planned = || Arc::clone(&session.planned);
        let tables = Arc::new(Tables { rows, views: planned() });
        let catalog = Catalog { tables, views: planned() };
        let state = &mut session.state;
        schema.clone_into(&mut state.config_mut().options_mut().catalog.default_schema);
        state.register_catalog_list(Arc::new(Catalogs(Some(Arc::new(catalog)))));
        state.mark_start_execution();
        // Whole microseconds, as in the tables: with a finer unit every time would be cast before each comparison.
        state.execution_props_mut().query_execution_start_time =
            timestamp_us_to_datetime(now_us).map(|time| time.and_utc());
        Ok(session)
    }

    /// Takes a session back whose query has ended. Drops it if some of that query is left.
    pub(super) fn give_back(&self, mut session: Session) {
        // Whatever may still take memory holds one of these.
        let contexts = [&mut session.context, &mut session.passing];
        let is_free = contexts.into_iter().all(|context| {
            Arc::get_mut(context).is_some_and(|context| {
                Arc::strong_count(context.memory_pool()) == 1 && Arc::strong_count(&context.runtime_env()) == 3
            })
        });
        // The view of the rows holds files, which are then not deleted.
        session.state.register_catalog_list(Arc::new(Catalogs(None)));
        session.planned = Arc::default();
        let mut spare = self.lock();
        if is_free && spare.len() < SPARE_MAX {
            spare.push(session);
        }
    }

    /// What queries may use like tables.
    #[cfg(test)]
    pub(super) fn views(&self) -> &SqlViews {
        &self.views
    }

    /// The functions of one row, by their names.
    pub(super) fn scalar_functions(&self) -> &HashMap<String, Arc<ScalarUDF>> {
        self.first.scalar_functions()
    }

    fn session(&self) -> Result<Session> {
        let memory_bytes_max = self.memory_bytes_max;
        let spill = self.spill.clone().map(Spill::new);
        let pool: Arc<dyn MemoryPool> = match spill {
            // What can spill leaves room for what cannot.
            Some(_) => Arc::new(FairSpillPool::new(memory_bytes_max)),
            None => Arc::new(GreedyMemoryPool::new(memory_bytes_max)),
        };
        let files = match &spill {
            Some(spill) => DiskManagerBuilder::default().with_temp_file_factory(Arc::new(spill.clone())),
            None => DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        };
        let runtime = RuntimeEnvBuilder::from_runtime_env(self.first.runtime_env())
            .with_memory_pool(pool)
            .with_disk_manager_builder(files)
            .build_arc()?;
        let context = || TaskContext::from(&self.first).with_runtime(Arc::clone(&runtime));
        let long = self.first.config().clone().with_batch_size(PASSED_ROWS);
        let (context, passing) = (Arc::new(context()), Arc::new(context().with_session_config(long)));
        let (state, views) = (self.first.clone(), Arc::clone(&self.views));
        Ok(Session { state, context, passing, spill, memory_bytes_max, views, planned: Arc::default() })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Session>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `generate_series`, `range` and `downsample`.
fn table_functions() -> Vec<Arc<TableFunction>> {
    let mut functions = datafusion::functions_table::all_default_table_functions();
    functions.push(Arc::new(TableFunction::new(DOWNSAMPLE.into(), Arc::new(Downsample))));
    functions
}

/// One query's planner and executor.
pub(super) struct Session {
    state: SessionState,
    context: Arc<TaskContext>,
    /// For plans through which rows only pass. The runtime is the same.
    passing: Arc<TaskContext>,
    spill: Option<Spill>,
    memory_bytes_max: usize,
    views: SqlViews,
    /// Those that the query uses.
    planned: Arc<Planned>,
}

impl Session {
    /// The plan of a statement that passed the guard, and of this text. It may have parameters.
    pub(super) async fn plan(&self, statement: Statement, sql: &str) -> Result<LogicalPlan, QueryError> {
        self.plan_views(&statement, sql).await?;
        self.whole_plan(statement).await
    }

    /// The plan of a statement whose views are planned.
    async fn whole_plan(&self, statement: Statement) -> Result<LogicalPlan, QueryError> {
        let plan = told(self.checked_plan(&self.state, statement).await?)?;
        // The guard checks the statement, this checks the plan.
        let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        read_only.verify_plan(&plan).map_err(QueryError::invalid)?;
        Ok(plan)
    }

    /// The optimized plan of one whose parameters have values.
    pub(super) fn optimize(&self, plan: &LogicalPlan) -> Result<LogicalPlan, QueryError> {
        self.state.optimize(plan).map_err(QueryError::invalid)
    }

    /// An expression over rows of this schema, to compute it without a plan.
    pub(super) fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        self.state.create_physical_expr(expr.clone(), schema)
    }

    /// The plan as the statement has it.
    async fn checked_plan(&self, state: &SessionState, statement: Statement) -> Result<LogicalPlan, QueryError> {
        self.check_tables(state, &statement)?;
        self.check_functions(&statement)?;
        first_plan(state, statement).await.map_err(QueryError::invalid)
    }

    /// The rows of an optimized plan.
    pub(super) async fn execute(&mut self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        let context = if passes_on(plan) { &self.passing } else { &self.context };
        // Filters take the length of batches from the planner.
        self.state.config_mut().options_mut().execution.batch_size =
            context.session_config().options().execution.batch_size;
        let physical = self.state.query_planner().create_physical_plan(plan, &self.state).await?;
        execute_stream(physical, Arc::clone(context))
    }

    /// The rows of a window, without a plan of a statement.
    pub(super) async fn window(&mut self, asked: &Asked) -> Result<SendableRecordBatchStream> {
        let context = Arc::clone(&self.context);
        // Filters take the length of batches from the planner.
        self.state.config_mut().options_mut().execution.batch_size =
            context.session_config().options().execution.batch_size;
        downsample::rows(asked, &self.state, context).await
    }

    /// Why a query failed that has this session.
    pub(super) fn failed(&self, error: &DataFusionError) -> QueryError {
        let spilling = self.spill.as_ref().and_then(Spill::error);
        spilling.unwrap_or_else(|| QueryError::failed(error, self.memory_bytes_max))
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
    fn check_tables(&self, state: &SessionState, statement: &Statement) -> Result<(), QueryError> {
        let tables = state.resolve_table_references(statement).map_err(QueryError::invalid)?;
        let schema = &state.config_options().catalog.default_schema;
        let is_known = |table: &TableReference| knows(table, schema) || self.view_of(table, schema).is_some();
        let Some(unknown) = tables.into_iter().find(|table| !is_known(table)) else { return Ok(()) };
        let mut names: Vec<&str> = FAMILIES.iter().map(Family::name).collect();
        names.extend(self.views.iter().map(|known| known.name.as_str()));
        Err(QueryError::UnknownTable(words::unknown("table", &unknown.to_string(), names.into_iter())))
    }
}

/// Whether rows only pass through the plan: none is kept, and none becomes much longer, which a long batch has no memory for.
fn passes_on(plan: &LogicalPlan) -> bool {
    use LogicalPlan::{Filter, Limit, Projection, SubqueryAlias, TableScan, Union};
    let grows = |part: &Expr| match part {
        Expr::BinaryExpr(binary) => binary.op == Operator::StringConcat,
        part => matches!(part, Expr::ScalarFunction(_)),
    };
    let passes = matches!(plan, Filter(_) | Limit(_) | Projection(_) | SubqueryAlias(_) | TableScan(_) | Union(_));
    let stays_short = |expr: &Expr| expr.exists(|part| Ok(grows(part))).is_ok_and(|found| !found);
    passes && plan.expressions().iter().all(stays_short) && plan.inputs().into_iter().all(passes_on)
}

/// The plan with what the planner does not know: functions of counters are told whose rows they get, and comparisons that may be
/// unknown stay so.
fn told(plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
    let plan = correlated::checked(plan)
        .and_then(hosts::tell_apart)
        .and_then(function::series::tell)
        .and_then(function::normal::keys);
    let plan = plan.and_then(membership::everywhere).and_then(emptiness::may_be_null);
    plan.and_then(function::number::compared).and_then(circular::opened).map_err(QueryError::invalid)
}

/// The plan as the statement has it. Where the planner misses a column, the statement may mean one of its own.
async fn first_plan(state: &SessionState, mut statement: Statement) -> Result<LogicalPlan> {
    for _ in 0..SUBSTITUTIONS_MAX {
        let error = match state.statement_to_plan(statement.clone()).await {
            Ok(plan) => return Ok(plan),
            Err(error) => error,
        };
        let missing = hint::missing_column(&error);
        let inner = guard::sql_of_mut(&mut statement);
        if !missing.zip(inner).is_some_and(|(name, inner)| dialect::substitute(inner, name)) {
            return Err(error);
        }
    }
    state.statement_to_plan(statement).await
}

fn knows(table: &TableReference, schema: &str) -> bool {
    if matches!(table, TableReference::Bare { table } if is_table_function(table)) {
        return true;
    }
    let table = table.clone().resolve(CATALOG, schema);
    match &*table.schema {
        INFORMATION_SCHEMA | PG_CATALOG => true,
        SCHEMA => *table.catalog == *CATALOG && Named::find(&table.table).is_some(),
        _ => false,
    }
}
