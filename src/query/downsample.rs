//! `downsample(table, column, from, to, buckets)` in FROM: a column of a window of time, in so many steps.
//!
//! Each series has a row for each bucket in which it has values, with their least, greatest and mean value, the first and the last,
//! and how many there are; of a counter, these are of its rate. Where a bucket has one row, this row has its own time, so few rows
//! are told as they are. Before them comes the last row before the window, to draw from. Buckets depend on the window alone, never on
//! the rows.
//!
//! A long window is told from tiers (`cover.rs`): `tier` names the widest that a bucket is made of. A row of a tier belongs to the bucket
//! in which it begins. Of a counter's tier, `first`, `last` and `mean` are rates over whole seconds or minutes.

mod cover;
mod sql;
mod window;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err, project_schema};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, TableProviderFilterPushDown, col};
use datafusion::physical_plan::ExecutionPlan;

use super::named::{Named, Which};
use super::place::DOWNSAMPLE as NAME;
use super::tables::rows_of;
use crate::record::{Column, Kind, TIME_ZONE};
use crate::words::unknown;
use cover::cover;
use window::Window;

/// Buckets of a window.
const BUCKETS_MAX: i64 = 20_000;
const HOW: &str = "write downsample('network', 'rx_bytes', now() - interval '1 hour', now(), 1000)";

/// The function.
#[derive(Debug)]
pub(super) struct Downsample;

impl TableFunctionImpl for Downsample {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let [table, column, from, to, buckets] = args.exprs() else {
            return plan_err!("{NAME} takes a table, a column, two times and a number of buckets: {HOW}");
        };
        let (table, column) = (text("table", table)?, text("column", column)?);
        let is_rows = |named: &Named| named.rows == Which::All;
        let known: Vec<&str> = Named::all().filter(is_rows).map(|named| named.table.name).collect();
        let named = Named::find(&table).filter(is_rows);
        let named = named.ok_or_else(|| plan_datafusion_err!("{}", unknown("table", &table, known.iter().copied())))?;
        let values: Vec<&Column> = named.table.values().map(|(_, column)| column).collect();
        let names = values.iter().map(|column| column.name);
        let column = values
            .iter()
            .find(|known| known.name == column)
            .copied()
            .ok_or_else(|| plan_datafusion_err!("{}", unknown("counter or gauge", &column, names)))?;
        let (from_us, to_us) = (time("from", from)?, time("to", to)?);
        let buckets = match literal("buckets", buckets)?.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(Some(buckets)) if (1..=BUCKETS_MAX).contains(&buckets) => buckets,
            other => return plan_err!("{NAME} has from 1 to {BUCKETS_MAX} buckets, not {other}"),
        };
        // Their product must be a number.
        if from_us >= to_us
            || to_us.checked_sub(from_us).and_then(|span| span.checked_mul(buckets)?.checked_add(buckets)).is_none()
        {
            return plan_err!("{NAME} takes a time and a later one: {HOW}");
        }
        let window = Window { table: named, column, from_us, to_us, buckets };
        Ok(Arc::new(Downsampled { schema: window.schema(), window }))
    }
}

fn literal<'a>(what: &str, expr: &'a Expr) -> Result<&'a ScalarValue> {
    match expr {
        Expr::Literal(value, _) if !value.is_null() => Ok(value),
        _ => plan_err!("{NAME} takes {what} as a constant: {HOW}"),
    }
}

fn text(what: &str, expr: &Expr) -> Result<String> {
    match literal(what, expr)?.try_as_str() {
        Some(Some(text)) => Ok(text.to_owned()),
        _ => plan_err!("{NAME} takes {what} as a text: {HOW}"),
    }
}

fn time(what: &str, expr: &Expr) -> Result<i64> {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into()));
    match literal(what, expr)?.cast_to(&micros)? {
        ScalarValue::TimestampMicrosecond(Some(us), _) => Ok(us),
        _ => plan_err!("{NAME} takes {what} as a time: {HOW}"),
    }
}

/// The rows of a window.
#[derive(Debug)]
struct Downsampled {
    window: Window,
    schema: SchemaRef,
}

impl Downsampled {
    /// Whether a condition is about whole series.
    fn is_of_series(&self, filter: &Expr) -> bool {
        let is_label = |name: &str| {
            let label = self.window.table.table.column(name).is_some_and(|(_, column)| column.kind == Kind::Label);
            label || name == Column::HOST.name
        };
        filter.column_refs().iter().all(|column| is_label(&column.name))
            && !filter.is_volatile()
            && is_of_one_row(filter)
    }
}

/// Whether it needs no other plan.
fn is_of_one_row(filter: &Expr) -> bool {
    let needs_plan = |expr: &Expr| {
        Ok(matches!(
            expr,
            Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
        ))
    };
    filter.exists(needs_plan).is_ok_and(|found| !found)
}

#[async_trait]
impl TableProvider for Downsampled {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of = |filter: &&Expr| {
            if self.is_of_series(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(of).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let state = state.as_any().downcast_ref::<SessionState>();
        let state = state.ok_or_else(|| plan_datafusion_err!("{NAME} has no session"))?;
        let rows = rows_of(state).ok_or_else(|| plan_datafusion_err!("{NAME} has no rows"))?;
        let Window { from_us, to_us, buckets, .. } = self.window;
        let sources = self.window.sources(&*rows).await?;
        let parts = cover(from_us, to_us, (to_us - from_us) / buckets, sources);
        if parts.is_empty() {
            let schema = project_schema(&self.schema, projection)?;
            let none = [vec![RecordBatch::new_empty(Arc::clone(&schema))]];
            return Ok(MemorySourceConfig::try_new_exec(&none, schema, None)?);
        }
        let plan = state.create_logical_plan(&sql::of(&self.window, &parts)).await?;
        let mut plan = LogicalPlanBuilder::from(plan);
        for filter in filters {
            // Conditions on series go down to the scans.
            plan = plan.filter(filter.clone())?;
        }
        if let Some(columns) = projection {
            let names = columns.iter().map(|at| self.schema.field(*at).name());
            plan = plan.project(names.map(|name| col(format!("\"{name}\""))))?;
        }
        state.create_physical_plan(&plan.build()?).await
    }
}
