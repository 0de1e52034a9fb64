//! `AggregateMetrics`: a checked request becomes one SQL statement, and its result the rows of the answer.

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
use crate::query::request::Request;
use crate::query::statements::{Statements, query_error};
use crate::record::{Column, TIME_ZONE, Table};
use crate::sampler;
use crate::words::list;

/// The most aggregates of an answer, rows times columns: about 3 MiB. Clients refuse messages above 4 MiB by default.
const AGGREGATES_MAX: usize = 25_000;

/// The call, for spans and for the table `statement`.
const METHOD: &str = "AggregateMetrics";
/// The widest time bucket.
const BUCKET_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

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
            let names = list(FAMILIES.iter().map(Family::name));
            return Err(invalid_field("table", format!("{:?} is not a table: there are {names}", request.table)));
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
        let values = Choice { table, what: "value", known: table.values().map(|(_, column)| column).collect() };
        // The host is a part of a series' identity.
        let labels = table.labels().map(|(_, column)| column).chain([&Column::HOST]).collect();
        let labels = Choice { table, what: "label", known: labels };
        let columns = match request.columns.as_slice() {
            [] => values.known,
            names => values.each_once("columns", names)?,
        };
        let rows_max = AGGREGATES_MAX / columns.len();
        if let Some(bucket) = bucket {
            let buckets = u128::from(to.abs_diff(from)) / bucket.as_micros();
            if buckets > rows_max as u128 {
                let message = format!("{buckets} buckets in the range: at most {rows_max} are answered");
                return Err(invalid_field("bucket", message));
            }
        }
        let filters = request.labels.into_iter().map(|(name, value)| Ok((labels.find("labels", &name)?, value)));
        let filters = filters.collect::<Result<_, Status>>()?;
        let group_by = match request.group_by {
            None => labels.known,
            Some(LabelNames { names }) => labels.each_once("group_by", &names)?,
        };
        Ok(Aggregation { table, columns, rows_max, group_by, filters, range: (from, to), bucket })
    }
}

impl Aggregation {
    /// Runs the statement and checks that the answer is small enough to send.
    pub(super) async fn run(&self, statements: &dyn Statements) -> Result<Vec<AggregateRow>, Status> {
        let sql = self.sql();
        let span = trace::query(METHOD, &sql);
        let work = async {
            let request = Request { client: METHOD.into(), ..Request::new(sql) };
            let mut batches = statements.execute(&request).await?.decode().map_err(query_error);
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
        let labels = self.group_by.iter().map(|label| Ok((label.name, rows::text(next()?)?)));
        let labels = labels.collect::<Result<Vec<_>, Status>>()?;
        let mut values = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            values.push(Values {
                column,
                count: convert(next()?, &DataType::Int64)?,
                min: next()?,
                max: next()?,
                avg: convert(next()?, &DataType::Float64)?,
                last: next()?,
            });
        }
        answer.extend((0..batch.num_rows()).map(|row| AggregateRow {
            time: Some(wire::timestamp(times.value(row))),
            labels: rows::label_map(&labels, row),
            aggregates: values.iter().map(|values| values.aggregate(row)).collect(),
        }));
        Ok(())
    }
}

/// The aggregates of one column in a batch, in the order of the statement.
struct Values<'a> {
    column: &'static Column,
    count: ArrayRef,
    min: &'a ArrayRef,
    max: &'a ArrayRef,
    avg: ArrayRef,
    last: &'a ArrayRef,
}

impl Values<'_> {
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

/// What a request may name: the labels of a table, or its counters and gauges.
struct Choice {
    table: &'static Table,
    what: &'static str,
    known: Vec<&'static Column>,
}

impl Choice {
    fn find(&self, field: &'static str, name: &str) -> Result<&'static Column, Status> {
        let found = self.known.iter().copied().find(|column| column.name == name);
        found.ok_or_else(|| {
            let known = list(self.known.iter().map(|column| column.name));
            let known = if known.is_empty() { "it has none".to_owned() } else { format!("there are {known}") };
            invalid_field(field, format!("{name:?} is not a {} of {}: {known}", self.what, self.table.name))
        })
    }

    /// The columns of these names, each once.
    fn each_once(&self, field: &'static str, names: &[String]) -> Result<Vec<&'static Column>, Status> {
        let mut columns: Vec<&'static Column> = Vec::with_capacity(names.len().min(self.known.len()));
        for name in names {
            let column = self.find(field, name)?;
            if columns.iter().any(|other| other.name == column.name) {
                return Err(invalid_field(field, format!("{name:?} is listed twice")));
            }
            columns.push(column);
        }
        Ok(columns)
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
        request.columns = names(&["lost"]);
        request.labels = [("reason".to_owned(), "it's; DROP TABLE gap --".to_owned())].into();
        request.group_by = Some(LabelNames { names: names(&["collector"]) });
        request.bucket = duration(0, 500_000);
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
        assert_eq!(
            aggregation.group_by.iter().map(|label| label.name).collect::<Vec<_>>(),
            ["collector", "reason", "host"]
        );
        let none = AggregateMetricsRequest { group_by: Some(LabelNames::default()), ..request("gap") };
        assert!(!Aggregation::try_from(none).unwrap().sql().contains("GROUP BY"));
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands where a request's optional bucket stands")]
    fn duration(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos })
    }

    #[test]
    fn bad_requests_name_the_field_and_what_there_is() {
        let cases: [(fn(&mut AggregateMetricsRequest), _, _); 13] = [
            (|bad| bad.table = "gaps".to_owned(), "table", "gap"),
            (|bad| bad.table = "gap\"; --".to_owned(), "table", "not a table"),
            (|bad| bad.columns = names(&["lots"]), "columns", "from_us, to_us, lost"),
            (|bad| bad.columns = names(&["reason"]), "columns", "not a value"),
            (|bad| bad.columns = names(&["lost", "lost"]), "columns", "twice"),
            (|bad| bad.start_time = None, "start_time", "missing"),
            (|bad| bad.end_time = Some(wire::timestamp(0)), "end_time", "empty"),
            (|bad| bad.end_time = Some(wire::timestamp(-1)), "end_time", "empty"),
            (|bad| bad.bucket = duration(0, 0), "bucket", "above zero"),
            (|bad| bad.bucket = duration(-1, 0), "bucket", "above zero"),
            (|bad| bad.bucket = duration(0, 1_000), "bucket", "at most 8333"),
            (|bad| bad.labels = [("lost".to_owned(), String::new())].into(), "labels", "collector, reason, host"),
            (|bad| bad.group_by = Some(LabelNames { names: names(&["nope"]) }), "group_by", "not a label"),
        ];
        for (change, field, text) in cases {
            let mut bad = request("gap");
            change(&mut bad);
            let status = Aggregation::try_from(bad).expect_err(text);
            assert!(status.message().contains(text), "{status}");
            assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, field);
        }
    }
}
