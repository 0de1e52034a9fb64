//! Rows that are parsed only when their bytes have changed.
//!
//! At a thousand ticks a second most lines of a file are what they were a tick ago: an interface without traffic, a
//! device at rest. A line of the same bytes means the same record, so heim gets the text of the changed lines only,
//! and not at all where there are none.

use std::io;

use heim_runtime::substitute::Substitute;

use super::source::has_long_number;
use crate::record::Record;

/// The rows of one file as they were last parsed.
#[derive(Debug)]
pub(super) struct LineRows<R> {
    rows: Vec<LineRow<R>>,
    /// What heim gets: headings and the changed lines, in their order.
    text: Substitute,
    /// The rows of the lines in it.
    changed: Vec<usize>,
}

#[derive(Debug)]
struct LineRow<R> {
    bytes: Vec<u8>,
    parsed: Parsed<R>,
}

/// What a line's bytes mean.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parsed<R> {
    /// Nothing, and it is tried again at the next tick.
    Failed,
    /// No record: there is nothing to tell.
    Idle,
    /// This, but for the time.
    Record(R),
}

impl<R: Record> LineRows<R> {
    /// No rows yet of the file `name` below procfs' root.
    pub(super) fn of_proc(name: &'static str) -> LineRows<R> {
        LineRows { rows: Vec::new(), text: Substitute::new(name), changed: Vec::new() }
    }

    /// Compares all lines of a tick. `headings` stand before the changed ones in what heim gets.
    pub(super) fn compare_all<'a>(&mut self, headings: &[u8], lines: impl Iterator<Item = &'a [u8]>) {
        self.begin(headings);
        let mut count = 0;
        for line in lines {
            self.compare(count, b"", line);
            count += 1;
        }
        self.end(count);
    }

    /// Begins the comparison of a tick's lines one by one. `headings` stand before the lines in what heim gets.
    pub(super) fn begin(&mut self, headings: &[u8]) {
        self.changed.clear();
        self.text.clear();
        self.text.push(headings);
    }

    /// The bytes that stand at `row` now, at most one row after the last. What heim would get of them is what `before`
    /// and they are together, or an empty line where it cannot calculate with a number.
    pub(super) fn compare(&mut self, row: usize, before: &[u8], bytes: &[u8]) {
        if row == self.rows.len() {
            self.rows.push(LineRow { bytes: Vec::new(), parsed: Parsed::Failed });
        }
        let Some(known) = self.rows.get_mut(row) else { return };
        if known.bytes == bytes && !matches!(known.parsed, Parsed::Failed) {
            return;
        }
        known.bytes.clear();
        known.bytes.extend_from_slice(bytes);
        known.parsed = Parsed::Failed;
        self.changed.push(row);
        if !has_long_number(bytes) {
            self.text.push(before);
            self.text.push(bytes);
        }
        self.text.push(b"\n");
    }

    /// Ends the comparison: there are so many rows.
    pub(super) fn end(&mut self, rows: usize) {
        self.rows.truncate(rows);
    }

    /// Has `parse` run where heim reads the changed lines; not at all when there are none. It takes them one by one.
    pub(super) fn parse<T: Default>(&mut self, parse: impl FnOnce(Changed<'_, R>) -> io::Result<T>) -> io::Result<T> {
        if self.changed.is_empty() {
            return Ok(T::default());
        }
        let changed = Changed { rows: &mut self.rows, changed: self.changed.iter() };
        self.text.during(|| parse(changed))
    }

    /// The bytes and the record of every row that has one.
    pub(super) fn records(&self) -> impl Iterator<Item = (&[u8], R)> {
        self.rows.iter().filter_map(|row| match row.parsed {
            Parsed::Record(record) => Some((row.bytes.as_slice(), record)),
            Parsed::Failed | Parsed::Idle => None,
        })
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// The changed lines of a tick, in their order.
pub(super) struct Changed<'a, R> {
    rows: &'a mut [LineRow<R>],
    changed: std::slice::Iter<'a, usize>,
}

impl<R> Changed<'_, R> {
    /// The next one: its row, its bytes and where its meaning goes.
    pub(super) fn next(&mut self) -> Option<(usize, &[u8], &mut Parsed<R>)> {
        let row = *self.changed.next()?;
        let LineRow { bytes, parsed } = self.rows.get_mut(row)?;
        Some((row, bytes, parsed))
    }
}
