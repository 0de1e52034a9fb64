//! What a batch of the newest rows has of each series, for every exporter.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};

use crate::record::Table;

/// A series whose newest row is older than this is no longer exported: its collector stopped, or the thing it describes
/// is gone.
pub const AGE_MAX_US: i64 = 5 * 60 * 1_000_000;

/// The attribute whose values are integers in the semantic conventions. Rows with another label, such as the `total` of
/// all CPUs, are not exported: a reader that sums the series would count everything twice.
pub const INTEGER_ATTRIBUTE: &str = "cpu.logical_number";

/// The last row of every series in `batch`, unless it is older than [`AGE_MAX_US`]. Rows with equal labels are one series.
/// `now` is µs since the epoch.
pub fn rows(table: &Table, batch: &RecordBatch, now: i64) -> Vec<usize> {
    let Some(times) = batch.column(0).as_primitive_opt::<TimestampMicrosecondType>() else { return Vec::new() };
    let keys: Vec<_> = table
        .labels()
        .filter_map(|(position, _)| batch.column(position).as_dictionary_opt::<Int32Type>())
        .map(|labels| labels.keys().values())
        .collect();
    let mut seen = HashSet::new();
    let series = |row: usize| keys.iter().filter_map(|keys| keys.get(row).copied()).collect::<Vec<i32>>();
    let newest = (0..batch.num_rows()).rev().filter(|row| seen.insert(series(*row)));
    newest.filter(|row| now.saturating_sub(times.value(*row)) <= AGE_MAX_US).collect()
}

/// A value as a float; `None` if it is absent.
pub fn number(values: &ArrayRef, row: usize) -> Option<f64> {
    if values.is_null(row) {
        return None;
    }
    let integers = values.as_primitive_opt::<Int64Type>().map(|values| values.value(row) as f64);
    integers.or_else(|| values.as_primitive_opt::<Float64Type>().map(|values| values.value(row)))
}

/// The text of a label.
pub fn text(labels: &ArrayRef, row: usize) -> Option<&str> {
    let labels = labels.as_dictionary_opt::<Int32Type>()?;
    let texts = labels.values().as_string_opt::<i32>()?;
    labels.key(row).map(|key| texts.value(key))
}
