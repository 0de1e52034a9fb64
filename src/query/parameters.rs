//! Parameters of statements: finding them, telling their types, and putting values in their places.
//!
//! Values are put into the plan, never into the text. A value counts like a literal of its type, so the planner compares and
//! converts it as it does literals. Before that it gets the type that the plan expects, if that changes nothing about it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, Result, ScalarValue};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{BinaryExpr, Expr, Limit, LogicalPlan, Operator};
use datafusion::sql::sqlparser::ast::{Statement as SqlStatement, Value, ValueWithSpan, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::tokenizer::Location;
use futures::{TryStreamExt, stream};

use super::error::QueryError;
use super::refusal::{GuardError, refuse};
use super::request::Frame;
use super::wire::plain;

/// Parameters of one statement.
const PARAMETERS_MAX: usize = 1_000;
/// Rows of values for one statement: it runs once for each.
pub(super) const ROWS_MAX: usize = 1_000;
/// The type that clients are told for a parameter whose type does not follow from the statement. Values of every type are taken.
const UNKNOWN: DataType = DataType::Utf8;

/// Writes the parameters of a statement as `$1`, `$2` …: those written `?` are numbered in the order of the text.
///
/// # Errors
/// When a parameter is written in another way, or one statement has both ways.
pub(super) fn number(statement: &mut SqlStatement) -> Result<(), GuardError> {
    let mut marks = Marks::default();
    let ControlFlow::Continue(()) = statement.visit(&mut marks);
    marks.0.sort_unstable();
    match statement.visit(&mut Numbers(&marks.0)) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// The places of all `?`.
#[derive(Default)]
struct Marks(Vec<Location>);

impl VisitorMut for Marks {
    type Break = Infallible;

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<Infallible> {
        if matches!(&value.value, Value::Placeholder(name) if name == "?") {
            self.0.push(value.span.start);
        }
        ControlFlow::Continue(())
    }
}

/// Numbers each `?` by its place among all of them.
struct Numbers<'a>(&'a [Location]);

impl VisitorMut for Numbers<'_> {
    type Break = GuardError;

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<GuardError> {
        let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        let number = match self.0.binary_search(&value.span.start) {
            Ok(before) => Some(before + 1),
            Err(_) => name.strip_prefix('$').and_then(|number| number.parse().ok()),
        };
        match number {
            Some(1..=PARAMETERS_MAX) if name != "?" && !self.0.is_empty() => {
                refuse(&format!("the parameter {name} beside ?"), "write all parameters as ?, or all as $1, $2 …")
            }
            Some(number @ 1..=PARAMETERS_MAX) => {
                value.value = Value::Placeholder(format!("${number}"));
                ControlFlow::Continue(())
            }
            _ => {
                refuse(&format!("the parameter {name}"), "write parameters as $1, $2 … or as ?, at most 1,000 of them")
            }
        }
    }
}

/// The type that the plan expects of each parameter, `$1` first; `None` where that does not follow from the statement.
pub(super) fn types(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>> {
    let mut known: BTreeMap<usize, Option<DataType>> = BTreeMap::new();
    // What is added to a time is no time, as the planner guesses.
    let mut added = BTreeSet::new();
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::Limit(Limit { skip, fetch, .. }) = plan {
            let counts = [skip, fetch].into_iter().flatten().filter_map(|count| placeholder(count));
            known.extend(counts.map(|(number, _)| (number, Some(DataType::Int64))));
            return Ok(TreeNodeRecursion::Continue);
        }
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus | Operator::Minus, right }) => {
                        let sides = [left, right].into_iter().filter_map(|side| placeholder(side));
                        added.extend(
                            sides.filter(|(_, ty)| ty.as_ref().is_some_and(DataType::is_temporal)).map(|of| of.0),
                        );
                    }
                    expr => {
                        if let Some((number, ty)) = placeholder(expr) {
                            let before = known.entry(number).or_insert_with(|| ty.clone());
                            if *before != ty {
                                *before = None;
                            }
                        }
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let count = known.last_key_value().map_or(0, |(last, _)| *last);
    let of = |number: usize| known.remove(&number).flatten().filter(|_| !added.contains(&number));
    Ok((1..=count).map(of).collect())
}

/// The number of a parameter, and the type that the planner gave it.
fn placeholder(expr: &Expr) -> Option<(usize, Option<DataType>)> {
    let Expr::Placeholder(Placeholder { id, field }) = expr else { return None };
    let number = id.strip_prefix('$')?.parse().ok()?;
    let ty = field.as_ref().map(|field| plain(field.data_type()));
    Some((number, ty.filter(|ty| *ty != DataType::Null)))
}

/// The parameters as clients are told them. Times are told in milliseconds: the JDBC driver 18 writes these, whatever the unit is.
pub(super) fn schema(types: &[Option<DataType>]) -> SchemaRef {
    let told = |ty: &Option<DataType>| match ty {
        Some(DataType::Timestamp(_, zone)) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        Some(ty) => ty.clone(),
        None => UNKNOWN,
    };
    let field = |(at, ty): (usize, &Option<DataType>)| Field::new(format!("${}", at + 1), told(ty), true);
    Arc::new(Schema::new(types.iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// A null for each parameter, to plan with before values are known.
pub(super) fn nulls(types: &[Option<DataType>]) -> Result<ParamValues> {
    let null = |ty: &Option<DataType>| ScalarValue::try_from(ty.as_ref().unwrap_or(&UNKNOWN));
    Ok(types.iter().map(null).collect::<Result<Vec<_>>>()?.into())
}

/// The values of all parameters, for each time that the statement runs.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) rows: Vec<ParamValues>,
    /// Which values have another type than the plan expects, for errors.
    pub(super) misfits: String,
}

/// Binds the values that a client sent to parameters of these types.
///
/// # Errors
/// When they cannot be read, or are not one column for each parameter.
pub(super) async fn bind(types: &[Option<DataType>], frames: &[Frame]) -> Result<Bound, QueryError> {
    let Some(values) = decode(frames).await? else {
        return match types.len() {
            0 => Ok(Bound { rows: vec![ParamValues::List(Vec::new())], misfits: String::new() }),
            count => Err(invalid(format!("the statement has {}: bind a value to each", named(count)))),
        };
    };
    if values.num_columns() != types.len() {
        let columns = values.num_columns();
        return Err(invalid(format!("the statement has {}, and {columns} values are bound", named(types.len()))));
    }
    if types.is_empty() {
        return Ok(Bound { rows: vec![ParamValues::List(Vec::new())], misfits: String::new() });
    }
    let mut columns = Vec::with_capacity(types.len());
    let mut misfits = Vec::new();
    for (at, (column, wanted)) in values.columns().iter().zip(types).enumerate() {
        let unreadable = |error: ArrowError| invalid(format!("the parameter ${}: {error}", at + 1));
        let column = fitted(column, wanted.as_ref()).map_err(unreadable)?;
        if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != column.data_type()) {
            misfits.push(format!("${} is bound to {} where the plan expects {wanted}", at + 1, column.data_type()));
        }
        columns.push(column);
    }
    let row = |row: usize| {
        let values = columns.iter().map(|column| ScalarValue::try_from_array(column, row)).collect::<Result<Vec<_>>>();
        values.map(ParamValues::from).map_err(QueryError::invalid)
    };
    let rows = (0..values.num_rows()).map(row).collect::<Result<Vec<_>, _>>()?;
    Ok(Bound { rows, misfits: misfits.join(", ") })
}

impl Bound {
    /// The error of a plan with these values.
    pub(super) fn blame(&self, error: QueryError) -> QueryError {
        match error {
            QueryError::Invalid(text) if !self.misfits.is_empty() => invalid(format!("{}: {text}", self.misfits)),
            error => error,
        }
    }
}

/// All values that a client sent, as one batch; `None` if it sent none.
async fn decode(frames: &[Frame]) -> Result<Option<RecordBatch>, QueryError> {
    if frames.is_empty() {
        return Ok(None);
    }
    let unreadable =
        |error: &dyn std::fmt::Display| invalid(format!("the values of the parameters cannot be read: {error}"));
    let messages: Vec<_> = frames
        .iter()
        .map(|Frame { header, body }| {
            Ok(FlightData { data_header: header.clone(), data_body: body.clone(), ..FlightData::default() })
        })
        .collect();
    let mut stream = FlightRecordBatchStream::new_from_flight_data(stream::iter(messages));
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut rows = 0;
    while let Some(batch) = stream.try_next().await.map_err(|error| unreadable(&error))? {
        rows += batch.num_rows();
        if rows > ROWS_MAX {
            return Err(invalid(format!("more than {ROWS_MAX} rows of parameters: bind them in several parts")));
        }
        batches.push(batch);
    }
    let schema = stream.schema().cloned().ok_or_else(|| unreadable(&"their schema is missing"))?;
    concat_batches(&schema, &batches).map(Some).map_err(|error| unreadable(&error))
}

/// The values in the type that the plan expects, if that changes none of them. Otherwise as they are, in a plain type: the
/// planner then judges them as it does literals.
fn fitted(values: &ArrayRef, wanted: Option<&DataType>) -> Result<ArrayRef, ArrowError> {
    let strict = CastOptions { safe: false, format_options: FormatOptions::default() };
    let values = &chosen(values)?;
    let ty = match plain(values.data_type()) {
        DataType::LargeUtf8 => DataType::Utf8,
        DataType::LargeBinary => DataType::Binary,
        ty => ty,
    };
    let values = cast_with_options(values, &ty, &strict)?;
    let Some(wanted) = wanted.filter(|wanted| fits(&ty, wanted)) else { return Ok(values) };
    let Ok(cast) = cast_with_options(&values, wanted, &strict) else { return Ok(values) };
    // A text names one value; other types hold what this one may not.
    let is_exact = matches!(Class::of(&ty), Class::Text | Class::Null)
        || Class::of(wanted) == Class::Text
        || cast_with_options(&cast, &ty, &strict).is_ok_and(|back| *back == *values);
    Ok(if is_exact { cast } else { values })
}

/// Values that some clients send as unions of all types that they know, in the type that each of them has.
fn chosen(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if !matches!(values.data_type(), DataType::Union(..)) || values.is_empty() {
        return Ok(Arc::clone(values));
    }
    let value = |row| match ScalarValue::try_from_array(values, row)? {
        ScalarValue::Union(Some((_, value)), ..) => Ok(*value),
        _ => Ok(ScalarValue::Null),
    };
    let chosen = (0..values.len()).map(value).collect::<Result<Vec<_>>>().and_then(ScalarValue::iter_to_array);
    chosen.map_err(|error| ArrowError::InvalidArgumentError(error.strip_backtrace()))
}

/// Whether a value of one type can mean one of the other.
fn fits(from: &DataType, to: &DataType) -> bool {
    match (Class::of(from), Class::of(to)) {
        (_, Class::Other) => from.is_null(),
        (Class::Null | Class::Text, _) | (Class::Number | Class::Bool, Class::Text) => true,
        (from, to) => from == to,
    }
}

/// Types whose values can be turned into each other without a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Null,
    Bool,
    Number,
    Text,
    Bytes,
    Moment,
    TimeOfDay,
    Span,
    Other,
}

impl Class {
    fn of(ty: &DataType) -> Class {
        match ty {
            DataType::Null => Class::Null,
            DataType::Boolean => Class::Bool,
            DataType::Utf8 => Class::Text,
            DataType::Binary | DataType::FixedSizeBinary(_) => Class::Bytes,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Class::Moment,
            DataType::Time32(_) | DataType::Time64(_) => Class::TimeOfDay,
            DataType::Duration(_) | DataType::Interval(_) => Class::Span,
            ty if ty.is_numeric() => Class::Number,
            _ => Class::Other,
        }
    }
}

fn named(count: usize) -> String {
    match count {
        0 => "no parameters".into(),
        1 => "one parameter ($1)".into(),
        count => format!("{count} parameters ($1 to ${count})"),
    }
}

fn invalid(text: String) -> QueryError {
    QueryError::Invalid(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Date32Array, Decimal128Array, DurationMicrosecondArray, Float64Array, Int32Array, Int64Array, LargeStringArray,
        NullArray, StringArray, StringViewArray, TimestampMillisecondArray, TimestampNanosecondArray, UnionArray,
    };

    fn numbered(sql: &str) -> Result<String, String> {
        let dialect = datafusion::sql::sqlparser::dialect::GenericDialect {};
        let mut parsed = datafusion::sql::sqlparser::parser::Parser::parse_sql(&dialect, sql).unwrap();
        number(&mut parsed[0]).map(|()| parsed[0].to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn marks_are_numbered_in_the_order_of_the_text() {
        let sql = "WITH a AS (SELECT ?) SELECT CASE ? WHEN ? THEN ? END FROM a WHERE x BETWEEN ? AND ?\nORDER BY ? LIMIT ? OFFSET ?";
        let expected = "WITH a AS (SELECT $1) SELECT CASE $2 WHEN $3 THEN $4 END FROM a WHERE x BETWEEN $5 AND $6 ORDER BY $7 LIMIT $8 OFFSET $9";
        assert_eq!(numbered(sql).unwrap(), expected);
        assert_eq!(numbered("SELECT $2, $1, '?', \"?\"").unwrap(), "SELECT $2, $1, '?', \"?\"");
    }

    #[test]
    fn other_ways_to_write_parameters_are_refused() {
        for (sql, what) in [
            ("SELECT ?, $1", "the parameter $1 beside ?"),
            ("SELECT $0", "the parameter $0"),
            ("SELECT $1001", "the parameter $1001"),
            ("SELECT $name", "the parameter $name"),
            ("SELECT :name", "the parameter :name"),
            ("SELECT ?1", "the parameter ?1"),
        ] {
            let error = numbered(sql).unwrap_err();
            assert!(error.starts_with(&format!("{what} is refused: ")), "{sql}: {error}");
        }
    }

    #[test]
    fn a_value_gets_the_expected_type_where_that_changes_nothing() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let ns = |ns: i64| Arc::new(TimestampNanosecondArray::from(vec![ns])) as ArrayRef;
        let cases: Vec<(ArrayRef, &DataType, bool)> = vec![
            (Arc::new(Int32Array::from(vec![7])), &DataType::Int64, true),
            (Arc::new(Int64Array::from(vec![1 << 40])), &DataType::Int32, false),
            (Arc::new(Float64Array::from(vec![2.0])), &DataType::Int64, true),
            (Arc::new(Float64Array::from(vec![2.5])), &DataType::Int64, false),
            (
                Arc::new(Decimal128Array::from(vec![250]).with_precision_and_scale(5, 2).unwrap()),
                &DataType::Int64,
                false,
            ),
            (
                Arc::new(Decimal128Array::from(vec![200]).with_precision_and_scale(5, 2).unwrap()),
                &DataType::Int64,
                true,
            ),
            (Arc::new(StringArray::from(vec!["12"])), &DataType::Int64, true),
            (Arc::new(StringArray::from(vec!["x"])), &DataType::Int64, false),
            (Arc::new(StringArray::from(vec!["2026-11-26T14:43:00Z"])), &time, true),
            (Arc::new(StringViewArray::from(vec!["total"])), &DataType::Utf8, true),
            (Arc::new(LargeStringArray::from(vec!["total"])), &DataType::Utf8, true),
            (Arc::new(Int64Array::from(vec![0])), &DataType::Utf8, true),
            (Arc::new(Int64Array::from(vec![0])), &time, false),
            (ns(1_000), &time, true),
            (ns(1_001), &time, false),
            (Arc::new(TimestampMillisecondArray::from(vec![5]).with_timezone("UTC")), &time, true),
            (Arc::new(Date32Array::from(vec![20_000])), &time, true),
            (Arc::new(DurationMicrosecondArray::from(vec![5])), &time, false),
            (Arc::new(NullArray::new(1)), &time, true),
            (Arc::new(NullArray::new(1)), &DataType::Boolean, true),
        ];
        for (values, wanted, fits) in cases {
            let fitted = fitted(&values, Some(wanted)).unwrap();
            assert_eq!(fitted.data_type() == wanted, fits, "{values:?} as {wanted}: {fitted:?}");
            assert_eq!(fitted.null_count() + fitted.logical_null_count(), 2 * values.logical_null_count());
        }
    }

    #[test]
    fn a_union_is_the_value_that_it_holds() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
        let fields = [
            (0, Arc::new(Field::new("n", DataType::Int64, true))),
            (1, Arc::new(Field::new("t", DataType::Utf8, true))),
        ];
        let union = |types: Vec<i8>, offsets: Vec<i32>| {
            let children = vec![Arc::clone(&numbers), Arc::clone(&texts)];
            let fields = fields.iter().cloned().collect();
            Arc::new(UnionArray::try_new(fields, types.into(), Some(offsets.into()), children).unwrap()) as ArrayRef
        };
        assert_eq!(*fitted(&union(vec![1, 1], vec![1, 0]), None).unwrap(), StringArray::from(vec!["y", "x"]));
        assert_eq!(*fitted(&union(vec![0], vec![0]), Some(&DataType::Utf8)).unwrap(), StringArray::from(vec!["7"]));
        fitted(&union(vec![0, 1], vec![0, 0]), None).unwrap_err();
    }

    #[tokio::test]
    async fn a_missing_value_is_told_by_count() {
        let error = bind(&[None, Some(DataType::Int64)], &[]).await.unwrap_err().to_string();
        assert!(error.contains("2 parameters ($1 to $2): bind a value to each"), "{error}");
        assert_eq!(bind(&[], &[]).await.unwrap().rows.len(), 1);
        let garbage = Frame { header: b"garbage"[..].into(), body: b""[..].into() };
        let error = bind(&[None], &[garbage]).await.unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
}
