//! Arrow columns from records. All columns of a batch share one allocation.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::Int32Type;

use crate::record::gather::Gather;
use crate::record::label::Dictionary;
use crate::record::{ABSENT, Column, Record, TIME_ZONE, Type};

/// The columns of `slices`, one after the other, in the order of [`Table::columns`](crate::record::Table::columns).
///
/// `dictionary` holds the texts of the labels in the records. A label that it lacks reads as the empty text.
#[must_use]
pub fn columns<R: Record>(slices: &[&[R]], dictionary: &Dictionary) -> Vec<ArrayRef> {
    let rows = slices.iter().map(|slice| slice.len()).sum();
    let mut gather = Gather::new(R::TABLE.columns.len(), rows);
    R::gather(slices, &mut gather);
    let buffer: Buffer = gather.finish();
    let column = |(index, column): (usize, &Column)| array(column.ty, &buffer, index * rows, rows, dictionary);
    R::TABLE.columns.iter().enumerate().map(column).collect()
}

/// The column of `rows` values that begins at the value `start` of `buffer`.
fn array(ty: Type, buffer: &Buffer, start: usize, rows: usize, dictionary: &Dictionary) -> ArrayRef {
    match ty {
        Type::Timestamp => times(ScalarBuffer::new(buffer.clone(), start, rows)),
        Type::Text => labels(ScalarBuffer::new(buffer.clone(), 2 * start, rows), dictionary),
        Type::Int64 => integers(ScalarBuffer::new(buffer.clone(), start, rows)),
        Type::Float64 => floats(ScalarBuffer::new(buffer.clone(), start, rows)),
    }
}

/// A column of times, µs since the epoch.
#[must_use]
pub fn times(times: ScalarBuffer<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::new(times, None).with_timezone(TIME_ZONE))
}

/// A column of integers. [`ABSENT`] becomes null.
#[must_use]
pub fn integers(integers: ScalarBuffer<i64>) -> ArrayRef {
    let nulls = nulls(&integers, |value| *value != ABSENT);
    Arc::new(Int64Array::new(integers, nulls))
}

/// A column of floats. NaN becomes null.
#[must_use]
pub fn floats(floats: ScalarBuffer<f64>) -> ArrayRef {
    let nulls = nulls(&floats, |value| !value.is_nan());
    Arc::new(Float64Array::new(floats, nulls))
}

/// A column of labels, given as numbers.
fn labels(bits: ScalarBuffer<i32>, dictionary: &Dictionary) -> ArrayRef {
    let keys = dictionary.keys(bits);
    match DictionaryArray::<Int32Type>::try_new(Int32Array::new(keys, None), Arc::clone(&dictionary.values)) {
        Ok(array) => Arc::new(array),
        Err(error) => unreachable!("keys are bounded by the dictionary's length: {error}"),
    }
}

fn nulls<T>(values: &[T], present: impl Fn(&T) -> bool) -> Option<NullBuffer> {
    if values.iter().all(&present) { None } else { Some(values.iter().map(present).collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;
    use crate::record::label::Labels;
    use arrow::array::{Array, AsArray, StringArray};
    use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};

    record! {
        /// A test table.
        pub struct Probe("probe") {
            labels {
                /// Which one.
                name,
            }
            values {
                /// A counter.
                counter seen_us: i64 [Micros],
                /// A gauge.
                gauge share_ratio: f64 [Ratio],
            }
        }
    }

    #[test]
    fn records_become_columns_and_absent_values_nulls() {
        let labels = Labels::default();
        let first = Probe { name: labels.intern("a"), seen_us: 7, ..Probe::absent(1) };
        let second = Probe { name: labels.intern("b"), share_ratio: 0.5, ..Probe::absent(2) };
        let columns = columns(&[&[first], &[second]], &labels.dictionary());
        assert_eq!(columns[0].as_primitive::<TimestampMicrosecondType>().values(), &[1, 2]);
        let names = columns[1].as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), [Some("a"), Some("b")]);
        assert_eq!(columns[2].as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(7), None]);
        assert_eq!(columns[3].as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [None, Some(0.5)]);
        for (column, field) in columns.iter().zip(Probe::TABLE.schema().fields()) {
            assert_eq!(column.data_type(), field.data_type());
        }
    }
}
