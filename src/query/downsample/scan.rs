//! The rows that a part of a window is made of, and where their columns are.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_datafusion_err, plan_datafusion_err};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::cover::Part;
use super::window::Window;
use crate::query::named::Which;
use crate::query::rows::RowSource;
use crate::query::series::in_time;
use crate::query::table::SqlTable;
use crate::record::tier::ELAPSED;
use crate::record::{Column, Kind, TIME_ZONE};

/// The row before a window is looked for two steps back, but at least and at most so far, and in a tier two of its buckets.
const BEFORE_US_MIN: i64 = 10_000_000;
const BEFORE_US_MAX: i64 = 60_000_000;

/// Rows of a part.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub(super) part: Part,
    /// If it needs the order of time, its partitions are stretches of time that follow each other, each in the order of time.
    pub(super) plan: Arc<dyn ExecutionPlan>,
    /// Rows before this are read for the steps from them only.
    pub(super) begin_us: i64,
    pub(super) places: Places,
}

/// Where the columns are.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) time: usize,
    /// What tells series apart: labels, identities and the host.
    pub(super) keys: Vec<usize>,
    pub(super) values: Values,
}

/// Where the values of each column of the window are.
#[derive(Clone, Debug)]
pub(super) enum Values {
    /// In rows of the table itself.
    Rows(Vec<usize>),
    /// In rows of a tier.
    Tier { columns: Vec<Derived>, ticks: usize, missed: usize, elapsed: usize },
}

/// What a tier has of a column.
#[derive(Clone, Debug)]
pub(super) enum Derived {
    Counter { increase: usize, low: usize, high: usize },
    Gauge { low: usize, high: usize, head: usize, tail: usize, sum: usize, count: usize },
}

/// Plans the rows of a part, of these hosts or of all, that pass `filters`, which are about series. Only the first part of a window of
/// one column begins before it.
pub(super) async fn of_part(
    window: &Window,
    (part, is_first): (Part, bool),
    hosts: Option<&[Arc<str>]>,
    filters: &[Expr],
    state: &SessionState,
    rows: Arc<dyn RowSource>,
) -> Result<Scan> {
    let (from_us, begin_us) = begins(window, &part, is_first);
    let table = part.source.table;
    let mut conditions = vec![col(Column::TIME.name).gt_eq(time(from_us)), col(Column::TIME.name).lt(time(part.to_us))];
    if let Some(hosts) = hosts {
        let hosts = hosts.iter().map(|host| lit(host.to_string())).collect();
        conditions.push(col(Column::HOST.name).in_list(hosts, false));
    }
    conditions.extend(filters.iter().cloned());
    let rows = SqlTable::new(table, rows);
    let names = names(window, &part);
    let schema = rows.schema();
    let positions = names.iter().map(|name| Ok(schema.index_of(name)?)).collect::<Result<Vec<usize>>>()?;
    // As the planner asks: in the order of the table.
    let mut projection = positions;
    projection.sort_unstable();
    projection.dedup();
    let plan = rows.scan(state, Some(&projection), &conditions, None).await?;
    let all = conjunction(conditions).ok_or_else(|| plan_datafusion_err!("a part without conditions"))?;
    let predicate = state.create_physical_expr(all, &DFSchema::try_from(plan.schema())?)?;
    let plan: Arc<dyn ExecutionPlan> = Arc::new(FilterExec::try_new(predicate, plan)?);
    // Files are read by it, too: they leave out row groups and pages.
    let plan = FilterPushdown::new().optimize(plan, state.config_options())?;
    let places = places(window, &part, &*plan)?;
    let labels = window.table.table.labels().filter_map(|(_, label)| plan.schema().index_of(label.name).ok()).collect();
    let (ordered, is_ordered) = in_time(&plan, places.time, &labels, state.config_options())?;
    let plan = if is_ordered || !has_steps(window, &part) { ordered } else { sorted(plan, places.time) };
    Ok(Scan { part, plan, begin_us, places })
}

/// Whether rates are between rows that follow each other.
pub(super) fn has_steps(window: &Window, part: &Part) -> bool {
    part.source.table.rows == Which::All && window.columns.iter().any(|column| column.kind == Kind::Counter)
}

/// The first time to read, and the first one that counts.
fn begins(window: &Window, part: &Part, is_first: bool) -> (i64, i64) {
    let step_us = (window.to_us - window.from_us) / window.buckets;
    let before_us = step_us.saturating_mul(2).clamp(BEFORE_US_MIN, BEFORE_US_MAX).max(2 * part.source.width_us);
    let has_before = is_first && window.columns.len() == 1;
    let begin_us = if has_before { part.from_us.saturating_sub(before_us) } else { part.from_us };
    if !has_steps(window, part) {
        return (begin_us, begin_us);
    }
    // The step into the first row is from the row before it.
    (begin_us.saturating_sub(if has_before { BEFORE_US_MIN } else { before_us }), begin_us)
}

fn time(us: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(us), Some(TIME_ZONE.into())))
}

/// The columns that are read.
fn names(window: &Window, part: &Part) -> Vec<String> {
    let mut names = vec![Column::TIME.name.to_owned(), Column::HOST.name.to_owned()];
    names.extend(window.keys().map(|key| key.name.to_owned()));
    if part.source.table.rows == Which::All {
        names.extend(window.columns.iter().map(|column| column.name.to_owned()));
        return names;
    }
    names.extend(["ticks", "missed", ELAPSED].map(str::to_owned));
    for column in &window.columns {
        let of: &[&str] = match (column.kind, window.columns.len()) {
            (Kind::Counter, _) => &["increase", "min_rate", "max_rate"],
            (_, 1) => &["min", "max", "first", "last", "sum", "count"],
            _ => &["min", "max", "sum", "count"],
        };
        names.extend(of.iter().map(|what| format!("{}_{what}", column.name)));
    }
    names
}

fn places(window: &Window, part: &Part, plan: &dyn ExecutionPlan) -> Result<Places> {
    let schema = plan.schema();
    let place = |name: &str| {
        let missing = |_| exec_datafusion_err!("`{}` has no column `{name}`", part.source.table.table.name);
        schema.index_of(name).map_err(missing)
    };
    let keys = window.keys().map(|key| key.name).chain([Column::HOST.name]);
    let values = if part.source.table.rows == Which::All {
        Values::Rows(window.columns.iter().map(|column| place(column.name)).collect::<Result<_>>()?)
    } else {
        let derived = |column: &&'static Column| {
            let of = |what: &str| place(&format!("{}_{what}", column.name));
            // Of several columns, the first and last values are not told.
            let end = |what: &str| of(if window.columns.len() == 1 { what } else { "min" });
            Ok(if column.kind == Kind::Counter {
                Derived::Counter { increase: of("increase")?, low: of("min_rate")?, high: of("max_rate")? }
            } else {
                let (head, tail) = (end("first")?, end("last")?);
                Derived::Gauge { low: of("min")?, high: of("max")?, head, tail, sum: of("sum")?, count: of("count")? }
            })
        };
        Values::Tier {
            columns: window.columns.iter().map(derived).collect::<Result<_>>()?,
            ticks: place("ticks")?,
            missed: place("missed")?,
            elapsed: place(ELAPSED)?,
        }
    };
    Ok(Places { time: place(Column::TIME.name)?, keys: keys.map(place).collect::<Result<_>>()?, values })
}

/// The rows in the order of time, in one stretch. Files overlap after a clock was set back, and of several hosts.
fn sorted(plan: Arc<dyn ExecutionPlan>, time: usize) -> Arc<dyn ExecutionPlan> {
    let column = Arc::new(PhysicalColumn::new(Column::TIME.name, time));
    let Some(order) = LexOrdering::new([PhysicalSortExpr::new_default(column)]) else { return plan };
    let is_one = plan.output_partitioning().partition_count() == 1;
    let plan = if is_one { plan } else { Arc::new(CoalescePartitionsExec::new(plan)) };
    Arc::new(SortExec::new(order, plan))
}
