//! `AggregateMetrics`: a checked request becomes one SQL statement, and its result the rows of the answer.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use futures::TryStreamExt;
use tonic::Status;

use super::error::invalid_field;
use super::proto::{Aggregate, AggregateMetricsRequest, AggregateRow, LabelNames};
use super::{rows, trace, wire};
use crate::family::{FAMILIES, Family, FamilyId};
use crate::query::Engine;
use crate::record::{Column, Kind, TIME_ZONE, Table};
use crate::sampler;

/// The most aggregates of an answer, rows times columns: about 3 MiB. Clients refuse messages above 4 MiB by default.
const AGGREGATES_MAX: usize = 25_000;

/// The widest time bucket.
const BUCKET_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Count, minimum, maximum, average and last value of each column, selected in this order.
const FUNCTIONS: usize = 5;

/// A checked request.
#[derive(Debug)]
pub(super) struct Aggregation {
    table: &'static Table,
    /// At least one.
    columns: Vec<&'static Column>,
    /// The most rows: with these columns they have [`AGGREGATES_MAX`].
    rows_max: usize,
    group_by: Vec<&'static Column>,
    filters: Vec<(&'static Column, String)>,
    /// First µs in the range, and first after it.
    range: (i64, i64),
    bucket: Option<Duration>,
}

impl TryFrom<AggregateMetricsRequest> for Aggregation {
    type Error = Status;

    fn try_from(request: AggregateMetricsRequest) -> Result<Self, Status> {
        let Some(family) = FamilyId::find(&request.table) else {
            let names: Vec<_> = FAMILIES.iter().map(Family::name).collect();
            return Err(invalid_field(
                "table",
                format!("{:?} is not a table: there are {}", request.table, names.join(", ")),
            ));
        };
        let table = family.table;
        let Some(from) = request.start_time else {
            return Err(invalid_field("start_time", "missing: say where the range begins"));
        };
        let from = wire::micros("start_time", from)?;
        let to = match request.end_time {
            Some(to) => wire::micros("end_time", to)?,
            None => sampler::wall_us(),
        };
        if from >= to {
            return Err(invalid_field("end_time", "the range is empty: it must end later than it starts"));
        }
        let bucket = request.bucket.map(|bucket| wire::positive_duration("bucket", bucket, BUCKET_MAX)).transpose()?;
        let columns = columns(table, &request.columns)?;
        let rows_max = AGGREGATES_MAX / columns.len();
        if let Some(bucket) = bucket {
            let buckets = u128::from(to.abs_diff(from)) / bucket.as_micros();
            if buckets > rows_max as u128 {
                let message = format!("{buckets} buckets in the range: at most {rows_max} are answered");
                return Err(invalid_field("bucket", message));
            }
        }
        let mut filters = Vec::with_capacity(request.labels.len());
        for (name, value) in request.labels {
            filters.push((label(table, "labels", &name)?, value));
        }
        Ok(Aggregation {
            table,
            columns,
            rows_max,
            group_by: group_by(table, request.group_by)?,
            filters,
            range: (from, to),
            bucket,
        })
    }
}

impl Aggregation {
    /// Queries the engine and checks that the answer is small enough to send.
    pub(super) async fn run(&self, engine: &Engine) -> Result<Vec<AggregateRow>, Status> {
        let sql = self.sql();
        let span = trace::query("AggregateMetrics", &sql);
        let work = async {
            let mut batches = engine.execute(&sql).await?;
            let mut answer = Vec::new();
            while let Some(batch) = batches.try_next().await? {
                self.append(&batch, &mut answer)?;
            }
            if answer.len() > self.rows_max {
                return Err(Status::resource_exhausted(format!(
                    "the answer has more than {} rows: take wider buckets, a shorter range, fewer labels or fewer \
                     columns, or ask in SQL over Arrow Flight, which has no such limit",
                    self.rows_max
                )));
            }
            Ok(answer)
        };
        let answer = trace::within(&span, work).await?;
        span.record("rows", answer.len());
        Ok(answer)
    }

    /// The statement. Names come from the table's declaration. Only label values come from the client, as literals.
    fn sql(&self) -> String {
        let time = match self.bucket {
            Some(bucket) => format!("date_bin(INTERVAL '{} microseconds', time)", bucket.as_micros()),
            None => moment(self.range.0),
        };
        let mut sql = format!("SELECT {time} AS bucket");
        for label in &self.group_by {
            let _ = write!(sql, ", {}", identifier(label.name));
        }
        for (index, column) in self.columns.iter().enumerate() {
            let name = identifier(column.name);
            let _ = write!(
                sql,
                ", count({name}) AS count{index}, min({name}) AS min{index}, max({name}) AS max{index}, avg({name}) AS \
                 avg{index}, last_value({name} ORDER BY time) FILTER (WHERE {name} IS NOT NULL) AS last{index}"
            );
        }
        let (from, to) = (moment(self.range.0), moment(self.range.1));
        let _ = write!(sql, " FROM {} WHERE time >= {from} AND time < {to}", identifier(self.table.name));
        for (label, value) in &self.filters {
            let _ = write!(sql, " AND {} = {}", identifier(label.name), literal(value));
        }
        // By position, because an alias may equal the name of a column.
        let bucket = self.bucket.is_some().then_some(1);
        let keys: Vec<_> =
            bucket.into_iter().chain(2..self.group_by.len() + 2).map(|position| position.to_string()).collect();
        if !keys.is_empty() {
            let _ = write!(sql, " GROUP BY {}", keys.join(", "));
        }
        sql.push_str(" HAVING count(*) > 0");
        if !keys.is_empty() {
            let _ = write!(sql, " ORDER BY {}", keys.join(", "));
        }
        let _ = write!(sql, " LIMIT {}", self.rows_max + 1);
        sql
    }

    fn append(&self, batch: &RecordBatch, answer: &mut Vec<AggregateRow>) -> Result<(), Status> {
        let mut columns = batch.columns().iter();
        let mut next = || columns.next().ok_or_else(|| Status::internal("an aggregate is missing in the result"));
        let times = convert(next()?, &DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into())))?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let mut labels = Vec::with_capacity(self.group_by.len());
        for label in &self.group_by {
            labels.push((label.name, rows::text(next()?)?));
        }
        let mut values = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let mut five = Vec::with_capacity(FUNCTIONS);
            for _ in 0..FUNCTIONS {
                five.push(next()?);
            }
            values.push(Values::new(column, &five)?);
        }
        answer.extend((0..batch.num_rows()).map(|row| AggregateRow {
            time: Some(wire::timestamp(times.value(row))),
            labels: if labels.is_empty() { BTreeMap::new() } else { rows::label_map(&labels, row) },
            aggregates: values.iter().map(|values| values.aggregate(row)).collect(),
        }));
        Ok(())
    }
}

/// The aggregates of one column in a batch.
struct Values<'a> {
    column: &'static Column,
    count: ArrayRef,
    min: &'a ArrayRef,
    max: &'a ArrayRef,
    avg: ArrayRef,
    last: &'a ArrayRef,
}

impl<'a> Values<'a> {
    fn new(column: &'static Column, arrays: &[&'a ArrayRef]) -> Result<Self, Status> {
        let [count, min, max, avg, last] = arrays else {
            return Err(Status::internal("an aggregate is missing in the result"));
        };
        let (count, avg) = (convert(count, &DataType::Int64)?, convert(avg, &DataType::Float64)?);
        Ok(Values { column, count, min, max, avg, last })
    }

    fn aggregate(&self, row: usize) -> Aggregate {
        let count = self.count.as_primitive::<Int64Type>().value(row);
        Aggregate {
            column: self.column.name.to_owned(),
            unit: self.column.unit.symbol().to_owned(),
            count,
            min: wire::number(self.min, row),
            max: wire::number(self.max, row),
            avg: (count > 0).then(|| self.avg.as_primitive::<Float64Type>().value(row)),
            last: wire::number(self.last, row),
        }
    }
}

fn convert(array: &ArrayRef, ty: &DataType) -> Result<ArrayRef, Status> {
    cast(array, ty).map_err(|error| Status::internal(format!("reading an aggregate: {error}")))
}

/// The columns of these names, each once. Without names, all counters and gauges.
fn columns(table: &'static Table, names: &[String]) -> Result<Vec<&'static Column>, Status> {
    if names.is_empty() {
        return Ok(table.values().map(|(_, column)| column).collect());
    }
    let mut columns: Vec<&'static Column> = Vec::with_capacity(names.len().min(table.columns.len()));
    for name in names {
        let column = table.values().map(|(_, column)| column).find(|column| column.name == name);
        let Some(column) = column else {
            let known: Vec<_> = table.values().map(|(_, column)| column.name).collect();
            let known = known.join(", ");
            return Err(invalid_field(
                "columns",
                format!("{name:?} is not a value of {}: there are {known}", table.name),
            ));
        };
        if columns.iter().any(|other| other.name == column.name) {
            return Err(invalid_field("columns", format!("{name:?} is listed twice")));
        }
        columns.push(column);
    }
    Ok(columns)
}

/// The labels to group by, each once. By default all labels of the table.
fn group_by(table: &'static Table, names: Option<LabelNames>) -> Result<Vec<&'static Column>, Status> {
    let Some(LabelNames { names }) = names else {
        return Ok(table.labels().map(|(_, column)| column).collect());
    };
    let mut labels: Vec<&'static Column> = Vec::with_capacity(names.len().min(table.columns.len()));
    for name in &names {
        let label = label(table, "group_by", name)?;
        if labels.iter().any(|other| other.name == label.name) {
            return Err(invalid_field("group_by", format!("{name:?} is listed twice")));
        }
        labels.push(label);
    }
    Ok(labels)
}

fn label(table: &'static Table, field: &'static str, name: &str) -> Result<&'static Column, Status> {
    match table.column(name) {
        Some((_, column)) if column.kind == Kind::Label => Ok(column),
        _ => {
            let known: Vec<_> = table.labels().map(|(_, column)| column.name).collect();
            let known =
                if known.is_empty() { "it has none".to_owned() } else { format!("there are {}", known.join(", ")) };
            Err(invalid_field(field, format!("{name:?} is not a label of {}: {known}", table.name)))
        }
    }
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A moment in the type of `time`, so that comparisons with it can skip files and batches.
fn moment(time_us: i64) -> String {
    format!("arrow_cast({time_us}, 'Timestamp(Microsecond, Some(\"{TIME_ZONE}\"))')")
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn request(table: &str) -> AggregateMetricsRequest {
        AggregateMetricsRequest {
            table: table.to_owned(),
            start_time: Some(wire::timestamp(0)),
            end_time: Some(wire::timestamp(1_000_000)),
            ..AggregateMetricsRequest::default()
        }
    }

    #[test]
    fn names_are_quoted_and_label_values_are_literals() {
        let mut request = request("gap");
        request.columns = vec!["lost".to_owned()];
        request.labels = [("reason".to_owned(), "it's; DROP TABLE gap --".to_owned())].into();
        request.group_by = Some(LabelNames { names: vec!["collector".to_owned()] });
        request.bucket = Some(prost_types::Duration { seconds: 0, nanos: 500_000 });
        let sql = Aggregation::try_from(request).unwrap().sql();
        for part in [
            "date_bin(INTERVAL '500 microseconds', time) AS bucket, \"collector\", count(\"lost\")",
            "AND \"reason\" = 'it''s; DROP TABLE gap --' GROUP BY 1, 2 HAVING",
            "ORDER BY 1, 2 LIMIT 25001",
        ] {
            assert!(sql.contains(part), "{sql}");
        }
    }

    #[test]
    fn unsaid_columns_and_labels_are_all_of_them() {
        let aggregation = Aggregation::try_from(request("gap")).unwrap();
        assert_eq!(aggregation.columns.len(), 3);
        assert_eq!(aggregation.group_by.iter().map(|label| label.name).collect::<Vec<_>>(), ["collector", "reason"]);
        let none = AggregateMetricsRequest { group_by: Some(LabelNames::default()), ..request("gap") };
        assert!(!Aggregation::try_from(none).unwrap().sql().contains("GROUP BY"));
    }

    #[test]
    fn bad_requests_name_the_field_and_what_there_is() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let base = || request("gap");
        let cases = [
            (request("gaps"), "table", "gap"),
            (request("gap\"; --"), "table", "not a table"),
            (AggregateMetricsRequest { columns: names(&["lots"]), ..base() }, "columns", "from_us, to_us, lost"),
            (AggregateMetricsRequest { columns: names(&["reason"]), ..base() }, "columns", "not a value"),
            (AggregateMetricsRequest { columns: names(&["lost", "lost"]), ..base() }, "columns", "twice"),
            (AggregateMetricsRequest { start_time: None, ..base() }, "start_time", "missing"),
            (AggregateMetricsRequest { end_time: Some(wire::timestamp(0)), ..base() }, "end_time", "empty"),
            (AggregateMetricsRequest { end_time: Some(wire::timestamp(-1)), ..base() }, "end_time", "empty"),
            (AggregateMetricsRequest { bucket: seconds(0), ..base() }, "bucket", "above zero"),
            (AggregateMetricsRequest { bucket: seconds(-1), ..base() }, "bucket", "above zero"),
            (
                AggregateMetricsRequest { bucket: Some(prost_types::Duration { seconds: 0, nanos: 1_000 }), ..base() },
                "bucket",
                "at most 8333",
            ),
            (
                AggregateMetricsRequest { labels: [("lost".to_owned(), String::new())].into(), ..base() },
                "labels",
                "collector, reason",
            ),
            (
                AggregateMetricsRequest { group_by: Some(LabelNames { names: names(&["nope"]) }), ..base() },
                "group_by",
                "not a label",
            ),
        ];
        for (request, field, text) in cases {
            let status = Aggregation::try_from(request).expect_err(text);
            assert!(status.message().contains(text), "{status}");
            assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, field);
        }
    }
}
