//! Which rows a scan reads, and who gives them: a view in this process, or the recorder in another.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};

use super::named::{Named, Which};
use crate::family::tables::TableId;
use crate::record::Column;
use crate::store::lake::DataFile;
use crate::store::last::LastRows;
use crate::store::stretch::{InMemory, Stretch};
use crate::store::{HotBatch, View};

/// All times.
const EVER: (i64, i64) = (i64::MIN, i64::MAX);

/// What a scan asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The table.
    pub table: Named,
    /// The positions of the columns that it reads, as in batches. The host is none of them: it comes with each part.
    pub columns: Vec<usize>,
    /// The first and the last time of rows that may match, µs.
    pub times: (i64, i64),
    /// Whether it asks when the table has all rows.
    pub with_stretches: bool,
}

/// The rows that a scan asked for, and perhaps others of the same table.
#[derive(Debug, Default)]
pub struct Found {
    /// Files, in the order of their sequence numbers. They stay as long as the query runs.
    pub files: Vec<Arc<DataFile>>,
    /// Rows that no file has, with the wanted columns only.
    pub hot: Vec<HotRows>,
    /// If they are asked for: those that have wanted times.
    pub stretches: Vec<Stretch>,
}

/// Rows in memory.
#[derive(Debug)]
pub struct HotRows {
    /// The host that recorded them.
    pub host: Arc<str>,
    /// The rows.
    pub batch: RecordBatch,
    /// Smallest and greatest `time`, µs.
    pub time_range: (i64, i64),
}

/// Gives a query its rows, all of one moment.
#[async_trait]
pub trait RowSource: Debug + Send + Sync {
    /// The files and batches that may hold wanted rows.
    async fn rows(&self, wanted: Wanted) -> Result<Found>;
}

#[async_trait]
impl RowSource for View {
    async fn rows(&self, wanted: Wanted) -> Result<Found> {
        Ok(self.find(&wanted)?)
    }
}

/// The tables without rows, for plans that are not run.
#[derive(Debug)]
pub(super) struct NoRows;

#[async_trait]
impl RowSource for NoRows {
    async fn rows(&self, _: Wanted) -> Result<Found> {
        Ok(Found::default())
    }
}

impl View {
    /// The files and batches that may hold wanted rows.
    pub(super) fn find(&self, wanted: &Wanted) -> std::result::Result<Found, ArrowError> {
        let table = &self.tables[wanted.table.family];
        let (from, to) = wanted.times;
        let overlaps = |(first, last): (i64, i64)| first <= to && last >= from;
        let tier = match wanted.table.rows {
            Which::Last => return last(&table.last(), &wanted.columns),
            Which::Tier(tier) => Some(tier),
            Which::All => None,
        };
        let width = tier.and_then(TableId::tier);
        let stretches = |memory: Vec<InMemory>| {
            let all = if wanted.with_stretches { table.stretches(width, &memory) } else { Vec::new() };
            all.into_iter().filter(|stretch| overlaps(stretch.times)).collect()
        };
        let files = table.files_of(width);
        let files = files.iter().filter(|file| overlaps(file.time_range)).map(Arc::clone).collect();
        if let Some(tier) = tier {
            let parts = self.open_buckets(tier, &wanted.columns)?;
            let stretches = stretches(parts.iter().map(|(host, _, times)| (Arc::clone(host), *times)).collect());
            let hot = parts.into_iter().map(|(host, batch, time_range)| HotRows { host, batch, time_range });
            return Ok(Found { files, hot: hot.filter(|hot| overlaps(hot.time_range)).collect(), stretches });
        }
        let stretches = stretches(table.hot.iter().map(|hot| (Arc::clone(&hot.host), hot.time_range)).collect());
        let hot = table.hot.iter().filter(|hot| overlaps(hot.time_range)).map(|hot| {
            let batch = hot.batch.project(&wanted.columns)?;
            Ok(HotRows { host: Arc::clone(&hot.host), batch, time_range: hot.time_range })
        });
        Ok(Found { files, hot: hot.collect::<std::result::Result<_, ArrowError>>()?, stretches })
    }
}

fn last(rows: &LastRows, columns: &[usize]) -> std::result::Result<Found, ArrowError> {
    let hot = rows.batches().map(|(host, batch)| {
        let rows = HotBatch::new(Arc::clone(host), 0, batch.clone());
        Ok(HotRows { host: rows.host, batch: rows.batch.project(columns)?, time_range: rows.time_range })
    });
    Ok(Found { hot: hot.collect::<std::result::Result<_, ArrowError>>()?, ..Found::default() })
}

/// The times between which a row must be to pass all of `filters`. A filter that says nothing about the time lets all pass.
pub(super) fn times(filters: &[Expr]) -> (i64, i64) {
    filters.iter().map(times_of).fold(EVER, both)
}

fn times_of(filter: &Expr) -> (i64, i64) {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => both(times_of(left), times_of(right)),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => either(times_of(left), times_of(right)),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let compared = |op: Operator, left: &Expr, right: &Expr| (is_time(left).then_some(op)).zip(moment(right));
            let swapped = || compared(op.swap()?, right, left);
            compared(*op, left, right).or_else(swapped).map_or(EVER, |(op, at)| match op {
                Operator::Eq => (at, at),
                Operator::Lt => (i64::MIN, at.saturating_sub(1)),
                Operator::LtEq => (i64::MIN, at),
                Operator::Gt => (at.saturating_add(1), i64::MAX),
                Operator::GtEq => (at, i64::MAX),
                _ => EVER,
            })
        }
        Expr::Between(Between { expr, negated: false, low, high }) if is_time(expr) => {
            (moment(low).unwrap_or(i64::MIN), moment(high).unwrap_or(i64::MAX))
        }
        _ => EVER,
    }
}

fn both(one: (i64, i64), other: (i64, i64)) -> (i64, i64) {
    (one.0.max(other.0), one.1.min(other.1))
}

fn either(one: (i64, i64), other: (i64, i64)) -> (i64, i64) {
    (one.0.min(other.0), one.1.max(other.1))
}

fn is_time(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(column) if column.name == Column::TIME.name)
}

/// The moment that a constant is, if it has the type of `time`.
fn moment(expr: &Expr) -> Option<i64> {
    if let Expr::Literal(ScalarValue::TimestampMicrosecond(at, _), _) = expr { *at } else { None }
}
