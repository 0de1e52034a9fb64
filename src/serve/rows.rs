//! Record batches as the rows of `GetMetrics`.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use tonic::Status;

use super::proto::{FamilyMetrics, MetricRow, MetricValue};
use super::wire;
use crate::record::Table;

/// The rows of the newest tick in `batch`, which has the schema of `table`.
pub(super) fn newest(table: &'static Table, batch: &RecordBatch) -> Result<FamilyMetrics, Status> {
    let family = table.name.to_owned();
    let times = batch.columns().first().and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let (Some(times), true) = (times, batch.num_columns() == table.columns.len()) else {
        return Err(Status::internal(format!("the newest rows of {family} have another schema than the table")));
    };
    // All rows of a tick have its time.
    let newest = times.values().iter().copied().max().unwrap_or_default();
    let labels = table.labels().map(|(index, column)| Ok((column.name, text(batch.column(index))?)));
    let labels = labels.collect::<Result<Vec<_>, Status>>()?;
    let row = |row: usize| {
        let values = table.values().map(|(index, column)| MetricValue {
            name: column.name.to_owned(),
            unit: column.unit.symbol().to_owned(),
            value: wire::number(batch.column(index), row),
        });
        let (time, labels) = (Some(wire::timestamp(newest)), label_map(&labels, row));
        MetricRow { time, labels, values: values.collect() }
    };
    let rows = (0..batch.num_rows()).filter(|index| times.value(*index) == newest).map(row).collect();
    Ok(FamilyMetrics { family, rows })
}

/// A label column as plain strings, whatever encoding it has.
pub(super) fn text(column: &ArrayRef) -> Result<StringArray, Status> {
    let plain = cast(column, &DataType::Utf8).map_err(|error| Status::internal(format!("reading a label: {error}")))?;
    Ok(plain.as_string::<i32>().clone())
}

/// The labels of one row.
pub(super) fn label_map(labels: &[(&'static str, StringArray)], row: usize) -> BTreeMap<String, String> {
    labels
        .iter()
        .filter(|(_, values)| values.is_valid(row))
        .map(|(name, values)| ((*name).to_owned(), values.value(row).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::to_batch;
    use crate::record::Record;
    use crate::record::label::Labels;
    use crate::sampler::report::Gap;
    use crate::serve::proto::number::Value;

    #[test]
    fn only_the_newest_tick_counts_and_absent_values_stay_absent() {
        let labels = Labels::default();
        let (a, b) = (labels.intern("a"), labels.intern("b"));
        let records = [
            Gap { collector: a, lost: 1, ..Gap::absent(10) },
            Gap { collector: a, lost: 2, ..Gap::absent(20) },
            Gap { collector: b, ..Gap::absent(20) },
        ];
        let batch = to_batch(&[&records], &labels, &Gap::TABLE.schema());
        let metrics = newest(Gap::TABLE, &batch).unwrap();

        assert_eq!(metrics.family, "gap");
        let names: Vec<_> = metrics.rows.iter().map(|row| row.labels["collector"].as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(metrics.rows[0].time, Some(wire::timestamp(20)));
        let lost = |row: usize| metrics.rows[row].values.iter().find(|value| value.name == "lost").unwrap();
        assert_eq!(lost(0).value.unwrap().value, Some(Value::IntValue(2)));
        assert_eq!((lost(1).value, lost(1).unit.as_str()), (None, "tick"));
    }

    #[test]
    fn a_family_without_rows_is_listed_without_rows() {
        let batch = RecordBatch::new_empty(Gap::TABLE.schema());
        assert_eq!(newest(Gap::TABLE, &batch).unwrap().rows, []);
    }
}
