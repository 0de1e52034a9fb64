//! Gathering: the values of a batch of records, column by column, in one allocation.
//!
//! A drain makes many small batches, and an allocation for each column would cost more than filling it.

use arrow::buffer::{Buffer, MutableBuffer};

use super::label::Label;

/// Takes the values of one column after the other.
#[derive(Debug)]
pub struct Gather {
    /// Eight bytes a value, column by column. Labels, as numbers, fill the first half of their column.
    buffer: MutableBuffer,
    rows: usize,
    /// Columns that are filled.
    filled: usize,
}

impl Gather {
    /// For so many columns of so many rows.
    #[must_use]
    pub fn new(columns: usize, rows: usize) -> Gather {
        Gather { buffer: MutableBuffer::from_len_zeroed(columns * rows * size_of::<i64>()), rows, filled: 0 }
    }

    /// The next column is one of integers, or of times.
    pub fn integers<R>(&mut self, slices: &[&[R]], field: impl Fn(&R) -> i64) {
        let start = self.next();
        fill(&mut self.buffer.typed_data_mut::<i64>()[start..start + self.rows], slices, field);
    }

    /// The next column is one of floats.
    pub fn floats<R>(&mut self, slices: &[&[R]], field: impl Fn(&R) -> f64) {
        let start = self.next();
        fill(&mut self.buffer.typed_data_mut::<f64>()[start..start + self.rows], slices, field);
    }

    /// The next column is one of labels.
    pub fn labels<R>(&mut self, slices: &[&[R]], field: impl Fn(&R) -> Label) {
        let start = 2 * self.next();
        fill(&mut self.buffer.typed_data_mut::<i32>()[start..start + self.rows], slices, |record| field(record).bits());
    }

    /// The values of all columns, eight bytes each.
    #[must_use]
    pub fn finish(self) -> Buffer {
        self.buffer.into()
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
