//! `downsample(table, column, from, to, buckets)` in FROM: a column of a window of time, in so many steps.
//!
//! `column` may be several with commas between them, which one scan reads. Then each has `<column>_min`, `_max`, `_mean` and `_count`, and
//! there is neither a first and a last value nor the row before the window. A rate of one of several is between rows that follow each
//! other and both have it.
//!
//! Each series has a row for each bucket in which it has values, with their least, greatest and mean value, the first and the last,
//! and how many there are; of a counter, these are of its rate. Where a bucket has one row, this row has its own time, so few rows
//! are told as they are. Before them comes the last row before the window, to draw from. Buckets depend on the window alone, never on
//! the rows.
//!
//! A long window is told from tiers (`cover.rs`): `tier` names the widest that a bucket is made of. There a bucket begins with the first
//! row of the tier after its edge, which is the `time` that is told, and ends with the row before the next one's: so it has these
//! rows as a whole, whatever the length of buckets. Of a counter's tier, `first` and `last` are rates over whole rows of it, and the
//! mean is over the time that rows cover, also where a bucket has only begun. `end_time` is the time of a bucket's last row, or the end of
//! its last row of a tier. `missed` is known of tiers: a row does not say which
//! collector it is of, so a bucket that has rows beside a tier's has no figure for it, rather than one that is too small.

mod budget;
mod cells;
mod cover;
mod exec;
mod scan;
mod share;
mod slice;
mod told;
mod window;

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::named::{Named, Which};
use super::place::{DOWNSAMPLE as NAME, DOWNSAMPLE_HOW as HOW};
use super::tables::rows_of;
use crate::record::{Column, Role, TIME_ZONE};
use crate::words::{list, shortened, unknown};
use exec::BucketsExec;
pub(super) use exec::ShowScans;
use window::{Covered, Window};

/// Buckets of a window.
const BUCKETS_MAX: i64 = 20_000;
/// Columns of a window.
const COLUMNS_MAX: usize = 32;

/// The function.
#[derive(Debug)]
pub(super) struct Downsample;

impl TableFunctionImpl for Downsample {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let [table, column, from, to, buckets] = args.exprs() else {
            return plan_err!("{NAME} takes a table, a column, two times and a number of buckets: {HOW}");
        };
        let (table, column) = (text("the table", table)?, text("the column", column)?);
        let named = find_table(&table)?;
        let columns = find_columns(&named, &column)?;
        let (from_us, to_us) = (time("from", from)?, time("to", to)?);
        let buckets = number_of_buckets(buckets)?;
        if from_us >= to_us {
            return plan_err!("{NAME} takes a time and a later one, but from is not before to: {HOW}");
        }
        // Their product must be a number.
        if to_us.checked_sub(from_us).and_then(|span| span.checked_mul(buckets)?.checked_add(buckets)).is_none() {
            return plan_err!("{NAME} cannot divide so long a window: take times that are nearer to each other");
        }
        let window = Window { table: named, columns, from_us, to_us, buckets };
        Ok(Arc::new(Downsampled { schema: window.schema(), window }))
    }
}

/// The table whose rows are asked for.
fn find_table(name: &str) -> Result<Named> {
    let is_rows = |named: &Named| named.rows == Which::All;
    match Named::find(name) {
        Some(named) if is_rows(&named) => Ok(named),
        Some(other) => plan_err!(
            "{NAME} chooses between rows, seconds and minutes itself: write '{}', not '{name}'",
            other.family.name()
        ),
        None => {
            let known = Named::all().filter(is_rows).map(|named| named.table.name);
            plan_err!("{}", unknown("table", name, known.collect::<Vec<_>>().into_iter()))
        }
    }
}

/// The columns of these names, which have commas between them.
fn find_columns(named: &Named, names: &str) -> Result<Vec<&'static Column>> {
    let mut columns: Vec<&Column> = Vec::new();
    for name in names.split(',').map(str::trim) {
        let column = find_column(named, name)?;
        if columns.iter().any(|other| other.name == name) {
            return plan_err!("{NAME} takes each column once, and `{name}` is there twice");
        }
        if columns.len() == COLUMNS_MAX {
            return plan_err!(
                "{NAME} takes at most {COLUMNS_MAX} columns at once: ask for the others in another statement"
            );
        }
        columns.push(column);
    }
    Ok(columns)
}

/// The counter or gauge of a table.
fn find_column(named: &Named, name: &str) -> Result<&'static Column> {
    let figures = named.table.values().map(|(_, column)| column).filter(|column| column.role == Role::Figure);
    let known: Vec<&str> = figures.map(|column| column.name).collect();
    let table = named.table.name;
    match named.table.column(name) {
        Some((_, column)) if known.contains(&column.name) => Ok(column),
        _ if known.is_empty() => plan_err!("{NAME} takes a counter or gauge, and `{table}` has none"),
        None if name != Column::HOST.name => plan_err!("{}", unknown("counter or gauge", name, known.into_iter())),
        _ => plan_err!(
            "{NAME} takes a counter or gauge, and `{name}` of `{table}` is neither: it tells rows apart; take one of {}",
            list(known)
        ),
    }
}

fn number_of_buckets(expr: &Expr) -> Result<i64> {
    let value = literal("buckets", expr)?;
    let number = value.data_type().is_integer().then(|| value.cast_to(&DataType::Int64)).transpose()?;
    match number {
        Some(ScalarValue::Int64(Some(buckets))) if (1..=BUCKETS_MAX).contains(&buckets) => Ok(buckets),
        _ => plan_err!("{NAME} takes buckets as a whole number from 1 to {BUCKETS_MAX}, not {}: {HOW}", shown(value)),
    }
}

fn literal<'a>(what: &str, expr: &'a Expr) -> Result<&'a ScalarValue> {
    match expr {
        Expr::Literal(value, _) if value.is_null() => plan_err!("{NAME} takes {what}, not NULL: {HOW}"),
        Expr::Literal(value, _) => Ok(value),
        _ => plan_err!("{NAME} takes {what} as a constant: {HOW}"),
    }
}

fn text(what: &str, expr: &Expr) -> Result<String> {
    let value = literal(what, expr)?;
    match value.try_as_str() {
        Some(Some(text)) => Ok(text.to_owned()),
        _ => plan_err!("{NAME} takes {what} as a text, not {}: {HOW}", shown(value)),
    }
}

fn time(what: &str, expr: &Expr) -> Result<i64> {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into()));
    let value = literal(what, expr)?;
    let is_time = value.data_type().is_temporal() || value.data_type().is_string();
    match is_time.then(|| value.cast_to(&micros)) {
        Some(Ok(ScalarValue::TimestampMicrosecond(Some(us), _))) => Ok(us),
        _ => plan_err!(
            "{NAME} takes {what} as a time, such as now() - interval '1 hour' or '2026-11-25 14:00:00', not {}",
            shown(value)
        ),
    }
}

/// A constant as it is written, if it is short.
fn shown(value: &ScalarValue) -> String {
    match value.try_as_str() {
        Some(Some(text)) => format!("'{}'", shortened(text)),
        _ => shortened(&value.to_string()).to_owned(),
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
        let is_key = |name: &str| self.window.keys().any(|key| key.name == name) || name == Column::HOST.name;
        filter.column_refs().iter().all(|column| is_key(&column.name)) && !filter.is_volatile() && is_of_one_row(filter)
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
        let covered = self.window.covered(&*rows).await?;
        let mut hosts = Vec::with_capacity(covered.len());
        for Covered { hosts: of, parts } in covered {
            let mut scans = Vec::with_capacity(parts.len());
            for (at, part) in parts.into_iter().enumerate() {
                // Conditions on series go down to the scans.
                let part = (part, at == 0);
                let scan = scan::of_part(&self.window, part, of.as_deref(), filters, state, Arc::clone(&rows)).await?;
                scans.push(Arc::new(scan));
            }
            hosts.push(scans);
        }
        Ok(Arc::new(BucketsExec::new(self.window.clone(), hosts, projection)?))
    }
}
