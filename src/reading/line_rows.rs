//! Rows that are parsed only when their bytes have changed.
//!
//! At a thousand ticks a second most lines, as of an idle device, are the same as a tick ago. A line with the same
//! bytes means the same record, so heim gets only the changed lines, and is not called if there are none.

use std::pin::pin;

use futures::{Stream, StreamExt};
use heim_runtime::substitute::Substitute;

use super::outcome::Outcome;
use super::text::{has_long_number, with_room};
use crate::record::Record;

/// The rows of one file, as last parsed.
#[derive(Debug)]
pub(crate) struct LineRows<R> {
    file: &'static str,
    /// What heim gets before the changed lines.
    headings: &'static [u8],
    rows: Vec<LineRow<R>>,
    /// How many lines were compared at this tick.
    compared: usize,
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
    /// The file `file` below procfs' root, without rows yet.
    pub(crate) fn of_proc(file: &'static str, headings: &'static [u8]) -> LineRows<R> {
        LineRows { file, headings, rows: Vec::new(), compared: 0, text: Substitute::new(file), changed: Vec::new() }
    }

    /// Has all lines parsed anew at the next tick.
    pub(crate) fn forget(&mut self) {
        self.rows.iter_mut().for_each(|row| row.parsed = Parsed::Failed);
    }

    /// Compares all lines of a tick.
    pub(crate) fn compare_all<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>) {
        self.begin();
        lines.for_each(|line| self.compare(b"", line));
    }

    /// Begins to compare a tick's lines one by one.
    pub(crate) fn begin(&mut self) {
        self.compared = 0;
        self.changed.clear();
    }

    /// Compares the next line. If it changed, heim gets `before` and `bytes` as one line, or an empty line if `bytes`
    /// has a number that heim cannot handle.
    pub(crate) fn compare(&mut self, before: &[u8], bytes: &[u8]) {
        let row = self.compared;
        self.compared += 1;
        match self.rows.get_mut(row) {
            Some(known) if known.bytes == bytes && !matches!(known.parsed, Parsed::Failed) => return,
            Some(known) => {
                bytes.clone_into(&mut known.bytes);
                known.parsed = Parsed::Failed;
            }
            None => self.rows.push(LineRow { bytes: with_room(bytes), parsed: Parsed::Failed }),
        }
        if self.changed.is_empty() {
            self.text.clear();
            self.text.push(self.headings);
        }
        self.changed.push(row);
        if !has_long_number(bytes) {
            self.text.push(before);
            self.text.push(bytes);
        }
        self.text.push(b"\n");
    }

    /// Ends the comparison, and lets heim read the changed lines, if there are any. `record` gets each with its row and
    /// heim's item, and gives its meaning or what is wrong with it.
    pub(crate) fn parse<T, S: Stream<Item = heim::Result<T>>>(
        &mut self,
        items: impl Future<Output = heim::Result<S>>,
        outcome: &mut Outcome,
        mut record: impl FnMut(usize, &[u8], heim::Result<T>) -> Result<Parsed<R>, String>,
    ) {
        let LineRows { file, rows, compared, text, changed, .. } = self;
        rows.truncate(*compared);
        if changed.is_empty() {
            return;
        }
        let parse = async {
            let mut items = pin!(items.await?);
            for row in &*changed {
                let (Some(line), Some(item)) = (rows.get_mut(*row), items.next().await) else { break };
                match record(*row, &line.bytes, item) {
                    Ok(parsed) => line.parsed = parsed,
                    Err(error) => outcome.fail(file, error),
                }
            }
            heim::Result::Ok(())
        };
        match text.during(|| heim_runtime::ready(parse)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => outcome.fail(file, error),
            Err(error) => outcome.fail(file, error),
        }
    }

    /// The bytes and the record of every row that has one.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&[u8], R)> {
        self.rows.iter().filter_map(|row| match row.parsed {
            Parsed::Record(record) => Some((row.bytes.as_slice(), record)),
            Parsed::Failed | Parsed::Idle => None,
        })
    }
}
