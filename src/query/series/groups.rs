//! Numbers for groups of rows. Rows with equal keys have the same number, and numbers are given from 0 on.
//!
//! A key has any number of labels and at most one time. Labels come as dictionaries, of which each text is looked up once, and
//! small tables give numbers to combinations of labels. A time is mostly that of the row before of the same labels.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, StringBuilder};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::common::{Result, exec_datafusion_err, exec_err};
use foldhash::fast::FixedState;

/// No number was given yet.
const NONE: u32 = u32::MAX;
/// Combinations of labels with fewer places than this are found in a table, others in a hash map.
const TABLE_PLACES_MAX: usize = 1 << 16;
/// About what a map has for an entry beyond its key and value.
const ENTRY_BYTES: usize = 16;

/// What a column of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::query) enum Part {
    /// A label: a dictionary of texts, or texts.
    Label,
    /// A time in µs.
    Time,
}

/// The keys seen so far, and their numbers.
#[derive(Debug)]
pub(in crate::query) struct Groups {
    parts: Vec<Part>,
    labels: Vec<Texts>,
    /// The numbers of the first two labels together, of these and the third, and so on.
    pairs: Vec<Pairs>,
    times: Option<Times>,
    /// The numbers of the labels of each row, while they are computed.
    series: Vec<u32>,
    more: Vec<u32>,
}

impl Groups {
    /// `parts` has at most one time.
    pub(in crate::query) fn new(parts: &[Part]) -> Groups {
        let labels = parts.iter().filter(|part| **part == Part::Label).count();
        Groups {
            parts: parts.to_vec(),
            labels: (0..labels).map(|_| Texts::default()).collect(),
            pairs: (1..labels).map(|_| Pairs::default()).collect(),
            times: parts.contains(&Part::Time).then(Times::default),
            series: Vec::new(),
            more: Vec::new(),
        }
    }

    /// How many groups there are.
    pub(in crate::query) fn len(&self) -> usize {
        self.times.as_ref().map_or_else(|| self.series_count(), |times| times.keys.len())
    }

    /// Memory that it takes, about.
    pub(in crate::query) fn size(&self) -> usize {
        let labels: usize = self.labels.iter().map(Texts::size).sum();
        let pairs: usize = self.pairs.iter().map(Pairs::size).sum();
        labels
            + pairs
            + self.times.as_ref().map_or(0, Times::size)
            + 4 * (self.series.capacity() + self.more.capacity())
    }

    /// Writes the number of each row's group to `numbers`.
    pub(in crate::query) fn number(&mut self, columns: &[ArrayRef], numbers: &mut Vec<usize>) -> Result<()> {
        let rows = columns.first().map_or(0, Array::len);
        numbers.clear();
        self.series.clear();
        let mut labels = self.labels.iter_mut();
        let mut pairs = self.pairs.iter_mut();
        let mut time = None;
        let mut is_first = true;
        for (part, column) in self.parts.iter().zip(columns) {
            match part {
                Part::Time => time = Some(column),
                Part::Label => {
                    let Some(texts) = labels.next() else { return exec_err!("more labels than were told") };
                    if is_first {
                        texts.number(column, &mut self.series)?;
                        is_first = false;
                        continue;
                    }
                    let Some(pairs) = pairs.next() else { return exec_err!("more labels than were told") };
                    self.more.clear();
                    texts.number(column, &mut self.more)?;
                    for (series, label) in self.series.iter_mut().zip(&self.more) {
                        *series = pairs.number(*series, *label);
                    }
                }
            }
        }
        if is_first {
            self.series.resize(rows, 0);
        }
        match (&mut self.times, time) {
            (Some(times), Some(column)) => times.number(&self.series, column, numbers)?,
            _ => numbers.extend(self.series.iter().map(|series| *series as usize)),
        }
        Ok(())
    }

    /// The keys of all groups, in the order of their numbers, with these types. Nothing is left.
    pub(in crate::query) fn take(&mut self, types: &[DataType]) -> Result<Vec<ArrayRef>> {
        let columns = self.keys(types);
        *self = Groups::new(&self.parts);
        columns
    }

    /// The keys of all groups, in the order of their numbers, with these types.
    pub(in crate::query) fn keys(&self, types: &[DataType]) -> Result<Vec<ArrayRef>> {
        let (series, times): (Vec<u32>, Vec<Option<i64>>) = match &self.times {
            Some(times) => times.keys.iter().copied().unzip(),
            None => ((0..).take(self.series_count()).collect(), Vec::new()),
        };
        // The last label first: each pair is the number of the labels before it, and that of its own.
        let mut labels: Vec<ArrayRef> = Vec::with_capacity(self.labels.len());
        let mut left = series;
        for at in (0..self.labels.len()).rev() {
            let own: Vec<u32> = match at.checked_sub(1).and_then(|before| self.pairs.get(before)) {
                Some(pairs) => left.iter_mut().map(|number| pairs.parts(*number, number)).collect(),
                None => std::mem::take(&mut left),
            };
            labels.push(Arc::new(self.labels[at].texts_of(&own)));
        }
        let mut times = Some(times);
        let columns = self.parts.iter().zip(types).map(|(part, ty)| {
            let column = match part {
                Part::Label => labels.pop(),
                Part::Time => times.take().map(|times| Arc::new(Int64Array::from(times)) as ArrayRef),
            };
            let column = column.ok_or_else(|| exec_datafusion_err!("fewer keys than were told"))?;
            Ok(if column.data_type() == ty { column } else { cast(&column, ty)? })
        });
        columns.collect()
    }

    /// How many combinations of labels there are.
    fn series_count(&self) -> usize {
        match (self.pairs.last(), self.labels.first()) {
            (Some(pairs), _) => pairs.parts.len(),
            (None, Some(label)) => label.all.len(),
            (None, None) => 1,
        }
    }
}

/// The texts of one label.
#[derive(Debug, Default)]
struct Texts {
    /// Null is a text of its own.
    numbers: HashMap<Option<Arc<str>>, u32, FixedState>,
    all: Vec<Option<Arc<str>>>,
    bytes: usize,
    /// The texts of the last dictionary, and the number of each, as far as it is known.
    dictionary: Option<(StringArray, Vec<u32>)>,
}

impl Texts {
    fn size(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(0, |(_, numbers)| 4 * numbers.capacity());
        // Each text is in the map and in the list, and both share its bytes.
        2 * self.all.len() * (size_of::<Option<Arc<str>>>() + ENTRY_BYTES) + self.bytes + dictionary
    }

    fn find(&mut self, text: Option<&str>) -> Result<u32> {
        // A map of optional texts cannot be asked for a borrowed one, and each text of a dictionary is asked for once.
        let text: Option<Arc<str>> = text.map(Into::into);
        if let Some(number) = self.numbers.get(&text) {
            return Ok(*number);
        }
        let number = u32::try_from(self.all.len()).ok().filter(|number| *number < NONE);
        let number = number.ok_or_else(|| exec_datafusion_err!("a label with more than 2^32 texts"))?;
        self.bytes += text.as_ref().map_or(0, |text| text.len());
        self.all.push(text.clone());
        self.numbers.insert(text, number);
        Ok(number)
    }

    /// Appends the number of each row's text.
    fn number(&mut self, column: &ArrayRef, numbers: &mut Vec<u32>) -> Result<()> {
        if let Some(dictionary) = column.as_dictionary_opt::<Int32Type>()
            && let Some(texts) = dictionary.values().as_string_opt::<i32>()
        {
            return self.number_keys(dictionary.keys().values(), dictionary.keys().nulls(), texts, numbers);
        }
        let Some(texts) = column.as_string_opt::<i32>() else {
            return exec_err!("a label of the type {}", column.data_type());
        };
        // Mostly the text of the row before, as in the column `host`.
        let mut last: Option<(Option<&str>, u32)> = None;
        for text in texts {
            let number = match last {
                Some((before, number)) if before == text => number,
                _ => self.find(text)?,
            };
            last = Some((text, number));
            numbers.push(number);
        }
        Ok(())
    }

    fn number_keys(
        &mut self,
        keys: &ScalarBuffer<i32>,
        nulls: Option<&NullBuffer>,
        texts: &StringArray,
        numbers: &mut Vec<u32>,
    ) -> Result<()> {
        let kept = self.dictionary.take().filter(|(before, _)| is_same(before, texts));
        let (texts, mut known) = kept.unwrap_or_else(|| (texts.clone(), vec![NONE; texts.len()]));
        numbers.reserve(keys.len());
        for (row, key) in keys.iter().enumerate() {
            let key = usize::try_from(*key).ok().filter(|_| nulls.is_none_or(|nulls| nulls.is_valid(row)));
            let number = match key.and_then(|key| known.get(key)) {
                Some(number) if *number != NONE => *number,
                _ => {
                    let key = key.filter(|key| *key < texts.len());
                    let number = self.find(key.filter(|key| texts.is_valid(*key)).map(|key| texts.value(key)))?;
                    if let Some(key) = key {
                        known[key] = number;
                    }
                    number
                }
            };
            numbers.push(number);
        }
        self.dictionary = Some((texts, known));
        Ok(())
    }

    fn texts_of(&self, numbers: &[u32]) -> StringArray {
        let mut texts = StringBuilder::with_capacity(numbers.len(), 0);
        for number in numbers {
            texts.append_option(self.all.get(*number as usize).and_then(Option::as_deref));
        }
        texts.finish()
    }
}

/// Whether both lie in the same memory. The Parquet reader makes a new array over the same dictionary for each batch.
fn is_same(one: &StringArray, other: &StringArray) -> bool {
    one.len() == other.len()
        && one.offsets().as_ptr() == other.offsets().as_ptr()
        && one.value_data().as_ptr() == other.value_data().as_ptr()
        && one.nulls().map(NullBuffer::buffer).map(Buffer::as_ptr)
            == other.nulls().map(NullBuffer::buffer).map(Buffer::as_ptr)
}

/// Numbers for pairs of numbers.
#[derive(Debug, Default)]
struct Pairs {
    parts: Vec<(u32, u32)>,
    /// Where the left number is small: its row has `1 << width` places.
    table: Vec<u32>,
    width: u32,
    numbers: HashMap<(u32, u32), u32, FixedState>,
}

impl Pairs {
    fn size(&self) -> usize {
        8 * self.parts.capacity() + 4 * self.table.capacity() + self.numbers.len() * (12 + ENTRY_BYTES)
    }

    fn number(&mut self, left: u32, right: u32) -> u32 {
        match self.place(left, right).and_then(|place| self.table.get(place)) {
            Some(number) if *number != NONE => *number,
            _ => self.find(left, right),
        }
    }

    fn place(&self, left: u32, right: u32) -> Option<usize> {
        (right >> self.width == 0).then_some(((left as usize) << self.width) | right as usize)
    }

    fn find(&mut self, left: u32, right: u32) -> u32 {
        // There are no more pairs than rows in memory, so their number fits.
        let next = u32::try_from(self.parts.len()).unwrap_or(NONE);
        let number = *self.numbers.entry((left, right)).or_insert(next);
        if number == next {
            self.parts.push((left, right));
        }
        let width = self.width.max(u32::BITS - right.leading_zeros());
        let places = (left as usize + 1) << width;
        if places <= TABLE_PLACES_MAX && self.place(left, right).is_none_or(|place| place >= self.table.len()) {
            let rows = (self.table.len() >> self.width).max(left as usize + 1);
            if rows << width <= TABLE_PLACES_MAX {
                self.width = width;
                self.table = vec![NONE; rows << width];
                for (number, (left, right)) in (0..).zip(&self.parts) {
                    if let Some(place) = self.place(*left, *right).and_then(|place| self.table.get_mut(place)) {
                        *place = number;
                    }
                }
            }
        } else if let Some(place) = self.place(left, right).and_then(|place| self.table.get_mut(place)) {
            *place = number;
        }
        number
    }

    /// Of a pair's number: writes its left number to `left`, and returns the right one.
    fn parts(&self, number: u32, left: &mut u32) -> u32 {
        let (first, second) = self.parts.get(number as usize).copied().unwrap_or((NONE, NONE));
        *left = first;
        second
    }
}

/// Numbers for pairs of labels and times.
#[derive(Debug, Default)]
struct Times {
    keys: Vec<(u32, Option<i64>)>,
    numbers: HashMap<(u32, Option<i64>), u32, FixedState>,
    /// Of each combination of labels: the last time and its number.
    last: Vec<(Option<i64>, u32)>,
}

impl Times {
    fn size(&self) -> usize {
        let entry = size_of::<(u32, Option<i64>)>();
        self.keys.capacity() * entry + self.numbers.capacity() * (entry + 4 + ENTRY_BYTES) + 24 * self.last.capacity()
    }

    fn number(&mut self, series: &[u32], column: &ArrayRef, numbers: &mut Vec<usize>) -> Result<()> {
        let times = cast(column, &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>();
        numbers.reserve(series.len());
        for (row, (series, time)) in series.iter().zip(times.values()).enumerate() {
            let time = times.is_valid(row).then_some(*time);
            let number = match self.last.get(*series as usize) {
                Some((last, number)) if *last == time && *number != NONE => *number,
                _ => self.find(*series, time)?,
            };
            numbers.push(number as usize);
        }
        Ok(())
    }

    fn find(&mut self, series: u32, time: Option<i64>) -> Result<u32> {
        let next = u32::try_from(self.keys.len()).ok().filter(|next| *next < NONE);
        let next = next.ok_or_else(|| exec_datafusion_err!("more than 2^32 groups"))?;
        let number = *self.numbers.entry((series, time)).or_insert(next);
        if number == next {
            self.keys.push((series, time));
        }
        if self.last.len() <= series as usize {
            self.last.resize(series as usize + 1, (None, NONE));
        }
        self.last[series as usize] = (time, number);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::DictionaryArray;

    fn labels(texts: &[Option<&str>]) -> ArrayRef {
        Arc::new(texts.iter().copied().collect::<DictionaryArray<Int32Type>>())
    }

    /// Every row has the number of its key, and the keys are those of the rows: against a search through all keys.
    #[test]
    fn rows_have_one_number_exactly_if_their_keys_are_equal() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..300 {
            let parts =
                [&[Part::Label][..], &[Part::Time], &[Part::Label, Part::Label, Part::Time, Part::Label]][round % 3];
            let texts = [2, 40, 700][random.usize(..3)];
            let mut groups = Groups::new(parts);
            let mut keys: Vec<Vec<String>> = Vec::new();
            for _ in 0..random.usize(1..5) {
                let rows = random.usize(1..400);
                let text = |random: &mut fastrand::Rng| (random.u8(..9) > 0).then(|| random.usize(..texts).to_string());
                let columns: Vec<ArrayRef> = parts
                    .iter()
                    .map(|part| match part {
                        Part::Time => {
                            let time = |_| (random.u8(..9) > 0).then(|| random.i64(-3..3));
                            Arc::new((0..rows).map(time).collect::<Int64Array>()) as ArrayRef
                        }
                        Part::Label => {
                            let texts: Vec<Option<String>> = (0..rows).map(|_| text(&mut random)).collect();
                            let texts: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
                            if random.bool() { labels(&texts) } else { Arc::new(StringArray::from(texts)) }
                        }
                    })
                    .collect();
                let mut numbers = Vec::new();
                groups.number(&columns, &mut numbers).unwrap();
                assert_eq!(numbers.len(), rows);
                let shown: Vec<ArrayRef> =
                    columns.iter().map(|column| cast(column, &DataType::Utf8).unwrap()).collect();
                for (row, number) in numbers.into_iter().enumerate() {
                    let text = |column: &ArrayRef| {
                        let texts = column.as_string::<i32>();
                        if texts.is_valid(row) { texts.value(row).to_owned() } else { "null".into() }
                    };
                    let key: Vec<String> = shown.iter().map(text).collect();
                    if number == keys.len() {
                        assert!(!keys.contains(&key));
                        keys.push(key);
                    } else {
                        assert_eq!(keys[number], key);
                    }
                }
            }
            assert_eq!(groups.len(), keys.len());
            assert!(groups.size() >= keys.len());
            let columns = groups.take(&vec![DataType::Utf8; parts.len()]).unwrap();
            for (row, key) in keys.iter().enumerate() {
                for (column, text) in columns.iter().zip(key) {
                    let column = column.as_string::<i32>();
                    assert_eq!(if column.is_valid(row) { column.value(row) } else { "null" }, text);
                }
            }
            assert_eq!(groups.len(), 0);
        }
    }
}
