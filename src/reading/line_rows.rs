//! Rows that are parsed only when their bytes have changed.
//!
//! At a thousand ticks a second most lines of a file are the same as a tick ago: an interface without traffic, an idle
//! device. A line with the same bytes means the same record, so heim gets only the changed lines, and is not called if
//! there are none.

use std::io;

use heim_runtime::substitute::Substitute;

use super::text::{has_long_number, with_room};
use crate::record::Record;

/// The rows of one file, as last parsed.
#[derive(Debug)]
pub(crate) struct LineRows<R> {
    rows: Vec<LineRow<R>>,
    /// The text that heim gets: headings and the changed lines, in their order.
    text: Substitute,
    /// The rows of the changed lines.
    changed: Vec<usize>,
}

#[derive(Debug)]
struct LineRow<R> {
    bytes: Vec<u8>,
    parsed: Parsed<R>,
}

/// What a line's bytes mean.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parsed<R> {
    /// It could not be parsed; the next tick tries again.
    Failed,
    /// It has no record.
    Idle,
    /// This record, except its time.
    Record(R),
}

impl<R: Record> LineRows<R> {
    /// The file `name` below procfs' root, without rows yet.
    pub(crate) fn of_proc(name: &'static str) -> LineRows<R> {
        LineRows { rows: Vec::new(), text: Substitute::new(name), changed: Vec::new() }
    }

    /// Compares all lines of a tick. heim gets `headings` before the changed lines.
    pub(crate) fn compare_all<'a>(&mut self, headings: &[u8], lines: impl Iterator<Item = &'a [u8]>) {
        self.begin(headings);
        let mut count = 0;
        for line in lines {
            self.compare(count, b"", line);
            count += 1;
        }
        self.end(count);
    }

    /// Begins to compare a tick's lines one by one. heim gets `headings` before the changed lines.
    pub(crate) fn begin(&mut self, headings: &[u8]) {
        self.changed.clear();
        self.text.clear();
        self.text.push(headings);
    }

    /// Compares the line at `row`, which is a known row or the one after the last. If it changed, heim gets `before`
    /// and `bytes` as one line, or an empty line if `bytes` has a number that heim cannot handle.
    pub(crate) fn compare(&mut self, row: usize, before: &[u8], bytes: &[u8]) {
        match self.rows.get_mut(row) {
            Some(known) if known.bytes == bytes && !matches!(known.parsed, Parsed::Failed) => return,
            Some(known) => {
                known.bytes.clear();
                known.bytes.extend_from_slice(bytes);
                known.parsed = Parsed::Failed;
            }
            None => self.rows.push(LineRow { bytes: with_room(bytes), parsed: Parsed::Failed }),
        }
        self.changed.push(row);
        if !has_long_number(bytes) {
            self.text.push(before);
            self.text.push(bytes);
        }
        self.text.push(b"\n");
    }

    /// Ends the comparison: the file has `rows` rows.
    pub(crate) fn end(&mut self, rows: usize) {
        self.rows.truncate(rows);
    }

    /// Runs `parse`, in which heim reads the changed lines; does not run it if there are none.
    pub(crate) fn parse<T: Default>(&mut self, parse: impl FnOnce(Changed<'_, R>) -> io::Result<T>) -> io::Result<T> {
        if self.changed.is_empty() {
            return Ok(T::default());
        }
        let changed = Changed { rows: &mut self.rows, changed: self.changed.iter() };
        self.text.during(|| parse(changed))
    }

    /// The bytes and the record of every row that has one.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&[u8], R)> {
        self.rows.iter().filter_map(|row| match row.parsed {
            Parsed::Record(record) => Some((row.bytes.as_slice(), record)),
            Parsed::Failed | Parsed::Idle => None,
        })
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// The changed lines of a tick, in their order.
pub(crate) struct Changed<'a, R> {
    rows: &'a mut [LineRow<R>],
    changed: std::slice::Iter<'a, usize>,
}

impl<R> Changed<'_, R> {
    /// The next changed line: its row, its bytes and the place of its parsed form.
    pub(crate) fn next(&mut self) -> Option<(usize, &[u8], &mut Parsed<R>)> {
        let row = *self.changed.next()?;
        let LineRow { bytes, parsed } = self.rows.get_mut(row)?;
        Some((row, bytes, parsed))
    }
}
