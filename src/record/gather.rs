//! Columns from records: all values of a batch in one allocation.

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::Int32Type;

use super::label::Label;
use super::{ABSENT, Record, TIME_ZONE, Type};

/// The columns of `slices`, one after the other, in the order of [`Table::columns`](super::Table::columns).
///
/// `values` holds the text of every label in the records ([`Labels::values`](super::label::Labels::values)). A label
/// that it lacks, which no label of the same interner does, reads as the empty text.
///
/// All columns share one buffer: a drain makes many small batches, and an allocation for each column would cost more
/// than filling it.
#[must_use]
pub fn columns<R: Record>(slices: &[&[R]], values: &ArrayRef) -> Vec<ArrayRef> {
    let rows = slices.iter().map(|slice| slice.len()).sum();
    let mut gather = Gather::new(R::TABLE.columns.len(), rows);
    R::gather(slices, &mut gather);
    let buffer: Buffer = gather.buffer.into();
    let column = |(index, column): (usize, &super::Column)| array(column.ty, &buffer, index * rows, rows, values);
    R::TABLE.columns.iter().enumerate().map(column).collect()
}

/// Takes the values of one column after the other.
#[derive(Debug)]
pub struct Gather {
    /// Eight bytes a value, column by column. Keys of labels fill the first half of their column.
    buffer: MutableBuffer,
    rows: usize,
    /// Columns that are filled.
    filled: usize,
}

impl Gather {
    fn new(columns: usize, rows: usize) -> Gather {
        Gather { buffer: MutableBuffer::from_len_zeroed(columns * rows * size_of::<i64>()), rows, filled: 0 }
    }

    /// The next column is one of integers, or of times.
    pub fn integers<R: Record>(&mut self, slices: &[&[R]], field: impl Fn(&R) -> i64) {
        let start = self.next();
        fill(&mut self.buffer.typed_data_mut::<i64>()[start..start + self.rows], slices, field);
    }

    /// The next column is one of floats.
    pub fn floats<R: Record>(&mut self, slices: &[&[R]], field: impl Fn(&R) -> f64) {
        let start = self.next();
        fill(&mut self.buffer.typed_data_mut::<f64>()[start..start + self.rows], slices, field);
    }

    /// The next column is one of labels.
    pub fn labels<R: Record>(&mut self, slices: &[&[R]], field: impl Fn(&R) -> Label) {
        let start = 2 * self.next();
        fill(&mut self.buffer.typed_data_mut::<i32>()[start..start + self.rows], slices, |record| field(record).key());
    }

    /// Where the next column begins, in values.
    fn next(&mut self) -> usize {
        self.filled += 1;
        (self.filled - 1) * self.rows
    }
}

fn fill<R, T>(out: &mut [T], slices: &[&[R]], field: impl Fn(&R) -> T) {
    let mut rest = out;
    for slice in slices {
        let (part, after) = rest.split_at_mut(slice.len());
        part.iter_mut().zip(*slice).for_each(|(out, record)| *out = field(record));
        rest = after;
    }
}

/// The column of `rows` values that begins at the value `start` of `buffer`.
fn array(ty: Type, buffer: &Buffer, start: usize, rows: usize, values: &ArrayRef) -> ArrayRef {
    match ty {
        Type::Timestamp => times(ScalarBuffer::new(buffer.clone(), start, rows)),
        Type::Text => labels(ScalarBuffer::new(buffer.clone(), 2 * start, rows), values),
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

/// A column of labels with these keys. A key that the dictionary `values` lacks reads as the empty label.
#[must_use]
pub fn labels(keys: ScalarBuffer<i32>, values: &ArrayRef) -> ArrayRef {
    let known = 0..i32::try_from(values.len()).unwrap_or(i32::MAX);
    let keys = if keys.iter().all(|key| known.contains(key)) {
        keys
    } else {
        keys.iter().map(|key| if known.contains(key) { *key } else { Label::EMPTY.key() }).collect()
    };
    match DictionaryArray::<Int32Type>::try_new(Int32Array::new(keys, None), Arc::clone(values)) {
        Ok(array) => Arc::new(array),
        Err(error) => unreachable!("keys are bounded by the dictionary's length: {error}"),
    }
}

fn nulls<T>(values: &[T], present: impl Fn(&T) -> bool) -> Option<NullBuffer> {
    if values.iter().all(&present) { None } else { Some(values.iter().map(present).collect()) }
}
