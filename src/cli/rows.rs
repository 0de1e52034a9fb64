//! Columns of an answer, by their names.

use anyhow::Context;
use arrow::array::{Array, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};

/// Rows of one batch.
pub(super) struct Rows<'a> {
    batch: &'a RecordBatch,
}

impl Rows<'_> {
    pub(super) fn of(batch: &RecordBatch) -> Rows<'_> {
        Rows { batch }
    }

    pub(super) fn count(&self) -> usize {
        self.batch.num_rows()
    }

    /// A column of texts, whatever they are kept as.
    pub(super) fn texts(&self, name: &str) -> anyhow::Result<StringArray> {
        let column = cast(self.column(name)?, &DataType::Utf8).with_context(|| format!("read the column {name}"))?;
        Ok(column.as_string::<i32>().clone())
    }

    /// A column of numbers.
    pub(super) fn floats(&self, name: &str) -> anyhow::Result<Float64Array> {
        let column = cast(self.column(name)?, &DataType::Float64).with_context(|| format!("read the column {name}"))?;
        Ok(column.as_primitive::<Float64Type>().clone())
    }

    /// A column of whole numbers, or of times, which are in microseconds then.
    pub(super) fn wholes(&self, name: &str) -> anyhow::Result<Int64Array> {
        let column = self.column(name)?;
        let micros = match column.data_type() {
            DataType::Timestamp(_, zone) => cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?,
            _ => column.clone(),
        };
        let column = cast(&micros, &DataType::Int64).with_context(|| format!("read the column {name}"))?;
        Ok(column.as_primitive::<Int64Type>().clone())
    }

    fn column(&self, name: &str) -> anyhow::Result<&std::sync::Arc<dyn Array>> {
        self.batch.column_by_name(name).with_context(|| format!("the answer has no column {name}"))
    }
}

/// A value, or `None` for null.
pub(super) fn float(column: &Float64Array, row: usize) -> Option<f64> {
    column.is_valid(row).then(|| column.value(row))
}

/// A value, or `None` for null.
pub(super) fn whole(column: &Int64Array, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.value(row))
}

/// A text, empty for null.
pub(super) fn text(column: &StringArray, row: usize) -> &str {
    if column.is_valid(row) { column.value(row) } else { "" }
}
