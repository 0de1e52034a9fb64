//! The series of a table: rows of equal labels, identity and host.

use std::collections::HashMap;

use anyhow::Context;
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;

use crate::record::{Column, Table, Type};

/// What tells a series apart, the host last.
type Key = Vec<Part>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Part {
    Text(String),
    Whole(Option<i64>),
}

/// The series that were seen, numbered as they came.
#[derive(Debug, Default)]
pub(super) struct Series {
    keys: Vec<Key>,
    numbers: HashMap<Key, usize>,
    /// Which series followed each one the last time: mostly it does again, and then no key is looked up.
    after: Vec<usize>,
    last: usize,
}

/// The columns of a batch by which its series are told apart.
enum Parts<'a> {
    Texts(&'a StringArray),
    Wholes(&'a Int64Array),
}

/// The columns of a table by which its series are told apart, with their positions.
pub(super) fn keys(table: &'static Table) -> impl Iterator<Item = (usize, &'static Column)> {
    table.labels().chain(table.identities())
}

impl Series {
    /// Numbers the rows of a batch, whose columns after the first `skipped` ones are those of [`keys`].
    pub(super) fn number(
        &mut self,
        host: &str,
        batch: &RecordBatch,
        skipped: usize,
        mut take: impl FnMut(usize, usize),
    ) -> anyhow::Result<()> {
        let columns = batch.columns().iter().skip(skipped).map(|column| {
            let texts = column.as_string_opt::<i32>().map(Parts::Texts);
            let parts = texts.or_else(|| column.as_primitive_opt::<Int64Type>().map(Parts::Wholes));
            parts.context("a label that is neither a text nor a number")
        });
        let columns = columns.collect::<anyhow::Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let guess = self.after.get(self.last).copied().filter(|guess| self.is(*guess, &columns, row, host));
            let number = guess.unwrap_or_else(|| self.find(&columns, row, host));
            if let Some(after) = self.after.get_mut(self.last) {
                *after = number;
            }
            self.last = number;
            take(row, number);
        }
        Ok(())
    }

    fn is(&self, number: usize, columns: &[Parts<'_>], row: usize, host: &str) -> bool {
        let Some((known, own)) = self.keys.get(number).and_then(|key| key.split_last()) else { return false };
        let is_part = |(part, column): (&Part, &Parts<'_>)| match (part, column) {
            (Part::Text(text), Parts::Texts(of)) => text == text_of(of, row),
            (Part::Whole(whole), Parts::Wholes(of)) => *whole == whole_of(of, row),
            _ => false,
        };
        matches!(known, Part::Text(known) if known == host) && own.iter().zip(columns).all(is_part)
    }

    fn find(&mut self, columns: &[Parts<'_>], row: usize, host: &str) -> usize {
        let part = |column: &Parts<'_>| match column {
            Parts::Texts(of) => Part::Text(text_of(of, row).to_owned()),
            Parts::Wholes(of) => Part::Whole(whole_of(of, row)),
        };
        let key: Key = columns.iter().map(part).chain([Part::Text(host.to_owned())]).collect();
        let next = self.keys.len();
        let number = *self.numbers.entry(key.clone()).or_insert(next);
        if number == next {
            self.keys.push(key);
            self.after.push(next);
        }
        number
    }

    /// The numbers of the series in their order.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.keys.len()).collect();
        order.sort_by(|one, other| self.keys[*one].cmp(&self.keys[*other]));
        order
    }

    /// What tells a series apart, as texts.
    pub(super) fn texts(&self, number: usize) -> Vec<String> {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Whole(whole) => whole.map(|whole| whole.to_string()).unwrap_or_default(),
        };
        self.keys[number].iter().map(text).collect()
    }

    /// The names of what tells series of a table apart.
    pub(super) fn names(table: &'static Table) -> Vec<&'static str> {
        keys(table).map(|(_, column)| column.name).chain([Column::HOST.name]).collect()
    }
}

fn text_of(texts: &StringArray, row: usize) -> &str {
    if texts.is_valid(row) { texts.value(row) } else { "" }
}

fn whole_of(wholes: &Int64Array, row: usize) -> Option<i64> {
    wholes.is_valid(row).then(|| wholes.value(row))
}

/// Whether a column has whole numbers.
pub(super) fn is_whole(column: &Column) -> bool {
    column.ty == Type::Int64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ArrayRef;

    use super::*;

    #[test]
    fn rows_of_equal_keys_have_one_number_in_any_turn() {
        let texts = Arc::new(StringArray::from(vec!["b", "a", "b", "a", "a", "c"])) as ArrayRef;
        let wholes = Arc::new(Int64Array::from(vec![Some(7), Some(7), Some(7), None, Some(7), Some(7)])) as ArrayRef;
        let batch = RecordBatch::try_from_iter_with_nullable([("label", texts, true), ("pid", wholes, true)]).unwrap();
        let mut series = Series::default();
        let mut numbers = Vec::new();
        for host in ["h", "h", "i"] {
            series.number(host, &batch, 0, |_, number| numbers.push(number)).unwrap();
        }
        assert_eq!(numbers, [0, 1, 0, 2, 1, 3, 0, 1, 0, 2, 1, 3, 4, 5, 4, 6, 5, 7]);
        let ordered: Vec<Vec<String>> = series.order().into_iter().map(|number| series.texts(number)).collect();
        assert_eq!(ordered[..3], [["a", "", "h"], ["a", "", "i"], ["a", "7", "h"]]);
    }
}
