//! A tail's statement as a worker evaluates it on batch after batch: a filter and columns, without a plan for each batch.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, FieldRef, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;

use crate::query::error::QueryError;
use crate::query::request::{Request, Written};
use crate::query::rows::{HotRows, NoRows};
use crate::query::session::Session;
use crate::query::wire::to_wire;
use crate::query::{Engine, guard};
use crate::record::Table;
use crate::sampler::wall_us;
use crate::words::shortened;

/// A client's clock may be so far ahead of this host's.
const CLOCK_AHEAD_US_MAX: i64 = 5_000_000;

/// A statement over one batch.
pub(in crate::query) struct Plan {
    steps: Vec<Step>,
    /// Of its rows as they are sent.
    pub(in crate::query) schema: SchemaRef,
    memory_bytes_max: usize,
}

enum Step {
    /// Takes these columns.
    Take(Vec<usize>),
    /// Leaves out rows that do not meet the condition.
    Filter(Arc<dyn PhysicalExpr>),
    /// Computes columns.
    Compute(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
    /// No row meets the condition.
    Nothing(SchemaRef),
}

impl Engine {
    /// Whether what a client wrote of a tail is what it stands for.
    pub(in crate::query) async fn check_tail(&self, request: &Request) -> Result<(), QueryError> {
        let Some(Written { condition, since }) = &request.tail else { return Ok(()) };
        if !condition.trim().is_empty() {
            guard::check_condition(condition, self.settings().sql_bytes_max)?;
        }
        match since {
            Some(since) => self.check_since(since).await,
            None => Ok(()),
        }
    }

    /// Whether a text is a time that has come. One that has not is mostly a local time in the place of UTC.
    async fn check_since(&self, since: &str) -> Result<(), QueryError> {
        let sql = format!("SELECT TIMESTAMPTZ '{}'", since.replace('\'', "''"));
        let job = self.job(Request::new(&sql)).await?;
        let session = job.session(Arc::new(NoRows))?;
        let plan = session.plan(guard::check(&sql, job.settings.sql_bytes_max)?, &sql).await?;
        let optimized = session.optimize(&plan)?;
        job.sessions.give_back(session);
        let ahead_us = time_of(&optimized).map_or(0, |time_us| time_us.saturating_sub(wall_us()));
        if ahead_us <= CLOCK_AHEAD_US_MAX {
            return Ok(());
        }
        Err(QueryError::Invalid(format!(
            "it is to begin at `{}`, which is in {} s: leave out the time to begin now, or give one that has passed. A time \
             without a zone is in UTC",
            shortened(since),
            ahead_us / 1_000_000
        )))
    }

    /// The plan of a tail's statement.
    pub(in crate::query) async fn tail(&self, request: Request) -> Result<Plan, QueryError> {
        let job = self.job(request).await?;
        let session = job.session(Arc::new(NoRows))?;
        let plan = session.plan(guard::check(&job.request.sql, job.settings.sql_bytes_max)?, &job.request.sql).await?;
        if tells_the_time(&plan).map_err(QueryError::invalid)? {
            return Err(QueryError::Invalid(
                "the condition of a tail is computed once, so now() would stand still: write a time, or compare with `time` where the \
                 rows are read"
                    .into(),
            ));
        }
        let optimized = session.optimize(&plan)?;
        let schema = job.schema(&optimized, &plan);
        let mut steps = Vec::new();
        add_steps(&optimized, &session, &mut steps)?;
        job.sessions.give_back(session);
        Ok(Plan { steps, schema, memory_bytes_max: job.settings.memory_bytes_max })
    }
}

/// The time that a plan gives, in µs, if it is a constant.
fn time_of(plan: &LogicalPlan) -> Option<i64> {
    let expr = plan.expressions().into_iter().next()?.unalias_nested().data;
    let Expr::Literal(value, _) = expr else { return None };
    match value.cast_to(&DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))) {
        Ok(ScalarValue::TimestampMicrosecond(time_us, _)) => time_us,
        _ => None,
    }
}

/// Whether the result depends on when it is computed.
fn tells_the_time(plan: &LogicalPlan) -> Result<bool> {
    const CLOCKS: [&str; 3] = ["now", "current_date", "current_time"];
    let is_clock = |expr: &Expr| matches!(expr, Expr::ScalarFunction(call) if CLOCKS.contains(&call.name()));
    plan.exists(|node| {
        let mut found = false;
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(is_clock(expr)))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(found)
    })
}

fn add_steps(plan: &LogicalPlan, session: &Session, steps: &mut Vec<Step>) -> Result<(), QueryError> {
    match plan {
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            // Its filters stand above it, too.
            steps.extend(scan.projection.clone().map(Step::Take));
        }
        LogicalPlan::SubqueryAlias(alias) => add_steps(&alias.input, session, steps)?,
        LogicalPlan::Filter(filter) => {
            add_steps(&filter.input, session, steps)?;
            let condition = session.physical(&filter.predicate, filter.input.schema());
            steps.push(Step::Filter(condition.map_err(|_| not_of_a_row())?));
        }
        LogicalPlan::Projection(projection) => {
            add_steps(&projection.input, session, steps)?;
            let columns = projection.expr.iter().map(|expr| session.physical(expr, projection.input.schema()));
            let columns = columns.collect::<Result<_>>().map_err(|_| not_of_a_row())?;
            steps.push(Step::Compute(columns, Arc::clone(projection.schema.inner())));
        }
        LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => {
            steps.push(Step::Nothing(Arc::clone(empty.schema.inner())));
        }
        _ => return Err(not_of_a_row()),
    }
    Ok(())
}

/// The statement is valid, as it was planned before. Only what needs other rows cannot be computed without a plan.
fn not_of_a_row() -> QueryError {
    QueryError::Invalid("the condition of a tail looks at one row: it has no subquery, aggregate or window".into())
}

impl Plan {
    /// The rows that meet the condition, as they are sent. `batch` has the columns of the table in SQL.
    pub(in crate::query) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, QueryError> {
        let failed = |error: DataFusionError| QueryError::failed(&error, self.memory_bytes_max);
        let batch = self.steps.iter().try_fold(batch.clone(), |batch, step| step.apply(&batch)).map_err(failed)?;
        to_wire(&batch, &self.schema).map_err(|error| failed(error.into()))
    }
}

impl Step {
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        match self {
            Step::Take(columns) => Ok(batch.project(columns)?),
            Step::Filter(condition) => {
                let meets = condition.evaluate(batch)?.into_array(batch.num_rows())?;
                let meets = meets.as_boolean_opt().ok_or_else(|| {
                    DataFusionError::Plan(format!("the condition gives {}, not a truth value", meets.data_type()))
                })?;
                Ok(filter_record_batch(batch, meets)?)
            }
            Step::Compute(columns, schema) => {
                let rows = batch.num_rows();
                let column = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(rows);
                let columns = columns.iter().map(column).collect::<Result<Vec<ArrayRef>>>()?;
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
            }
            Step::Nothing(schema) => Ok(RecordBatch::new_empty(Arc::clone(schema))),
        }
    }
}

/// Rows in memory with the columns that the table has in SQL.
pub(in crate::query) fn in_sql(table: &Table, rows: &HotRows) -> Result<RecordBatch, ArrowError> {
    let schema = table.sql_schema();
    let host: ArrayRef = Arc::new(StringArray::from(vec![&*rows.host; rows.batch.num_rows()]));
    let columns = rows.batch.columns().iter().chain([&host]).zip(schema.fields());
    let plain = |(column, field): (&ArrayRef, &FieldRef)| match field.data_type() {
        DataType::Utf8 => cast(column, &DataType::Utf8),
        _ => Ok(Arc::clone(column)),
    };
    let columns = columns.map(plain).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema, columns)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::batch::to_batch;
    use crate::query::QuerySettings;
    use crate::record::Record;
    use crate::record::label::Labels;
    use crate::sampler::report::Gap;
    use crate::store::View;

    fn batch() -> RecordBatch {
        let labels = Labels::default();
        let (one, other) = (labels.intern("one"), labels.intern("other"));
        let row = |at: i64| Gap { collector: if at % 2 == 0 { one } else { other }, lost: at, ..Gap::absent(at) };
        let batch = to_batch(&[&(0..10).map(row).collect::<Vec<_>>()], &labels, &Gap::TABLE.schema());
        in_sql(Gap::TABLE, &HotRows { host: "h".into(), batch, time_range: (0, 9) }).unwrap()
    }

    async fn plan(sql: &str) -> Result<Plan, QueryError> {
        let engine = Engine::new(Arc::new(|| Arc::new(View::empty())), QuerySettings::default()).unwrap();
        engine.tail(Request::new(sql)).await
    }

    #[tokio::test]
    async fn rows_are_those_of_the_statement() {
        let lost =
            |batch: &RecordBatch| batch.column_by_name("lost").unwrap().as_primitive::<Int64Type>().values().to_vec();
        for (sql, expected) in [
            ("SELECT * FROM gap WHERE true", (0..10).collect::<Vec<i64>>()),
            ("SELECT lost FROM gap WHERE (collector = 'other' AND lost > 3)", vec![5, 7, 9]),
            ("SELECT reason, lost, host FROM gap WHERE (host = 'h' AND lost < 2)", vec![0, 1]),
            ("SELECT host, lost FROM gap WHERE (host = 'g')", vec![]),
            ("SELECT lost FROM gap WHERE (1 = 2)", vec![]),
            ("SELECT lost FROM gap WHERE (from_us IS NULL AND time > '1970-01-01 00:00:00.000007+00')", vec![8, 9]),
        ] {
            let plan = plan(sql).await.unwrap();
            for _ in 0..2 {
                let rows = plan.apply(&batch()).unwrap();
                assert_eq!(lost(&rows), expected, "{sql}");
                assert_eq!(rows.schema(), plan.schema, "{sql}");
            }
        }
    }

    #[tokio::test]
    async fn what_a_client_wrote_is_judged_by_itself() {
        let engine = Engine::new(Arc::new(|| Arc::new(View::empty())), QuerySettings::default()).unwrap();
        let check = async |condition: &str, since: Option<&str>| {
            let tail = Some(Written { condition: condition.into(), since: since.map(Into::into) });
            let checked = engine.check_tail(&Request { tail, ..Request::default() }).await;
            checked.map_err(|error| error.to_string())
        };
        let ahead =
            |seconds: i64| jiff::Timestamp::from_microsecond(wall_us() + seconds * 1_000_000).unwrap().to_string();
        for since in [None, Some("2026-11-25"), Some("2026-11-25 14:43"), Some(&*ahead(-60)), Some(&*ahead(1))] {
            check(" ", since).await.unwrap();
            check("lost > 1", since).await.unwrap();
        }
        for (condition, since, text) in [
            ("lost > 1) OR (true", None, "it ends before `)` at Line: 1, Column: 9"),
            ("", Some(&*ahead(3_605)), "which is in 360"),
            ("", Some("9999-01-01"), "in UTC"),
            ("", Some("soon"), "soon"),
            ("", Some("it's"), "it's"),
        ] {
            let error = check(condition, since).await.unwrap_err();
            assert!(error.contains(text), "{condition} {since:?}: {error}");
        }
    }

    #[tokio::test]
    async fn more_than_a_look_at_one_row_is_refused() {
        for sql in [
            "SELECT * FROM gap WHERE (lost = (SELECT max(lost) FROM gap))",
            "SELECT * FROM gap WHERE (lost IN (SELECT lost FROM gap))",
            "SELECT * FROM gap LIMIT 5",
            "SELECT max(lost) FROM gap",
        ] {
            let error = plan(sql).await.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("looks at one row"), "{sql}: {error}");
        }
        for clock in ["now()", "current_timestamp", "current_date"] {
            let error = plan(&format!("SELECT lost FROM gap WHERE (time < {clock})")).await.err();
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("would stand still"), "{clock}: {error}");
        }
        let error = plan("SELECT lost FROM gap WHERE (lost / 0 > 1 AND x)").await.err().unwrap();
        assert!(error.to_string().contains('x'), "{error}");
    }
}
