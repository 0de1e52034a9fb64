//! What one thread makes of the rows that it reads of a part, and the whole that is made of these.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use datafusion::common::{Result, exec_datafusion_err, exec_err};

use super::cells::{Cells, Division, Row, Value};
use super::scan::{Derived, Places, Scan, Values, has_steps};
use super::window::{Window, number};
use crate::query::series::{Groups, Part};
use crate::record::Kind;
use crate::record::tier::ELAPSED;

/// µs of a second.
const MICROS: f64 = 1e6;
/// A series has no row yet.
const NEVER: i64 = i64::MIN;

/// A value as it was recorded.
#[derive(Clone, Copy, Debug)]
enum Number {
    Whole(i64),
    Float(f64),
}

impl Number {
    #[expect(clippy::cast_precision_loss, reason = "as SQL has it: the nearest number")]
    fn float(self) -> f64 {
        match self {
            Number::Whole(of) => of as f64,
            Number::Float(of) => of,
        }
    }

    /// What a counter grew by. Below the value before it, it began anew at zero.
    fn since(self, before: Number) -> f64 {
        match (self, before) {
            (Number::Whole(of), Number::Whole(before)) if of >= before => {
                Number::Whole(of.wrapping_sub(before)).float()
            }
            (Number::Whole(of), Number::Whole(_)) => Number::Whole(of.max(0)).float(),
            (of, before) if of.float() >= before.float() => of.float() - before.float(),
            (of, _) => of.float().max(0.0),
        }
    }
}

/// The values of a column of a batch.
enum Numbers<'a> {
    Whole(&'a Int64Array),
    Float(&'a Float64Array),
}

impl Numbers<'_> {
    fn of(array: &ArrayRef) -> Result<Numbers<'_>> {
        if let Some(array) = array.as_primitive_opt::<Int64Type>() {
            return Ok(Numbers::Whole(array));
        }
        let array = array.as_primitive_opt::<Float64Type>();
        array.map(Numbers::Float).ok_or_else(|| exec_datafusion_err!("a counter or gauge that is no number"))
    }

    fn get(&self, row: usize) -> Option<Number> {
        match self {
            Numbers::Whole(array) => array.is_valid(row).then(|| Number::Whole(array.value(row))),
            Numbers::Float(array) => array.is_valid(row).then(|| Number::Float(array.value(row))),
        }
    }
}

/// Rows of the table itself, and what follows from the one before.
#[derive(Debug)]
struct Steps {
    kinds: Vec<Kind>,
    begin_us: i64,
    /// Of each series, the time of its newest row, and of each column its value.
    newest_us: Vec<i64>,
    newest: Vec<Option<Number>>,
    /// For a row's values, so that they need no memory of their own.
    values: Vec<Option<Value>>,
}

impl Steps {
    fn new(window: &Window, begin_us: i64) -> Steps {
        let kinds = window.columns.iter().map(|column| column.kind).collect();
        Steps { kinds, begin_us, newest_us: Vec::new(), newest: Vec::new(), values: Vec::new() }
    }

    fn resize(&mut self, series: usize) {
        self.newest_us.resize(series, NEVER);
        self.newest.resize(series * self.kinds.len(), None);
    }

    /// Takes the next row of a series into its bucket. A row that has none of the values makes no bucket.
    fn take(&mut self, cells: &mut Cells, series: usize, us: i64, numbers: &[Option<Number>]) {
        let newest = &mut self.newest[series * self.kinds.len()..][..self.kinds.len()];
        let before_us = std::mem::replace(&mut self.newest_us[series], us);
        if us < self.begin_us {
            newest.copy_from_slice(numbers);
            return;
        }
        self.values.clear();
        for ((kind, number), before) in self.kinds.iter().zip(numbers).zip(newest) {
            let before = std::mem::replace(before, *number);
            self.values.push(match (kind, number) {
                (_, None) => None,
                (Kind::Counter, Some(number)) => before
                    .filter(|_| before_us != NEVER && us > before_us)
                    .map(|before| rate(*number, before, us - before_us)),
                (_, Some(number)) => {
                    let of = number.float();
                    Some(Value { low: of, high: of, head: of, tail: of, amount: of, weight: 1.0, count: 1 })
                }
            });
        }
        if self.values.iter().any(Option::is_some) {
            let row = Row { first_us: us, last_us: us, end_us: us, ticks: 1, missed: None, tier: 0 };
            cells.add(series, row, &self.values);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "the time between rows of one window")]
fn rate(number: Number, before: Number, step_us: i64) -> Value {
    let (amount, weight) = (number.since(before), step_us as f64);
    let of = amount / (weight / MICROS);
    Value { low: of, high: of, head: of, tail: of, amount, weight, count: 1 }
}

/// The first row of a series, whose step is from a row that another thread has.
#[derive(Debug)]
struct First {
    series: usize,
    us: i64,
    numbers: Vec<Option<Number>>,
}

/// What one thread makes of rows.
#[derive(Debug)]
pub(super) struct Share {
    /// How many columns tell series apart.
    keys: usize,
    series: Groups,
    cells: Cells,
    steps: Steps,
    firsts: Vec<First>,
    /// The numbers of the series of a batch.
    numbers: Vec<usize>,
    time: i64,
}

impl Share {
    pub(super) fn new(window: &Window, scan: &Scan) -> Share {
        Share {
            keys: scan.places.keys.len(),
            series: Groups::new(&vec![Part::Label; scan.places.keys.len()]),
            cells: Cells::new(division(window), window.columns.len()),
            steps: Steps::new(window, scan.begin_us),
            firsts: Vec::new(),
            numbers: Vec::new(),
            time: NEVER,
        }
    }

    /// Memory that it takes, about.
    pub(super) fn size(&self) -> usize {
        let row = self.steps.kinds.len() * size_of::<Option<Number>>();
        self.series.size()
            + self.cells.size()
            + (self.steps.newest_us.len() + self.firsts.len()) * (row + size_of::<First>())
    }

    pub(super) fn add(&mut self, window: &Window, scan: &Scan, batch: &RecordBatch) -> Result<()> {
        let Places { time, keys, values } = &scan.places;
        self.series.number(&keys_of(batch, keys)?, &mut self.numbers)?;
        let times = batch.column(*time).as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| exec_datafusion_err!("a time that is no time"))?.values();
        match values {
            Values::Rows(columns) => {
                if has_steps(window, &scan.part) {
                    self.check_times(times)?;
                }
                let columns = columns.iter().map(|at| Numbers::of(batch.column(*at))).collect::<Result<Vec<_>>>()?;
                self.add_rows(times, &columns, has_steps(window, &scan.part));
                Ok(())
            }
            Values::Tier { columns, ticks, missed, elapsed } => {
                let [ticks, missed, elapsed] =
                    [ticks, missed, elapsed].map(|at| batch.column(*at).as_primitive_opt::<Int64Type>());
                let of = ticks.zip(missed).zip(elapsed);
                let ((ticks, missed), elapsed) =
                    of.ok_or_else(|| exec_datafusion_err!("`ticks`, `missed` or `{ELAPSED}` is no number"))?;
                let readers = columns.iter().map(|column| Reader::of(column, batch)).collect::<Result<Vec<_>>>()?;
                let source = scan.part.source;
                let mut values: Vec<Option<Value>> = Vec::new();
                for (at, (us, series)) in times.iter().zip(&self.numbers).enumerate() {
                    // Rows of an older layout have none.
                    if elapsed.is_null(at) {
                        continue;
                    }
                    values.clear();
                    values.extend(readers.iter().map(|reader| reader.value(at, ticks.value(at), elapsed.value(at))));
                    if values.iter().all(Option::is_none) {
                        continue;
                    }
                    let row = Row {
                        first_us: *us,
                        last_us: *us,
                        end_us: us.saturating_add(source.width_us),
                        ticks: ticks.value(at),
                        missed: missed.is_valid(at).then(|| missed.value(at)),
                        tier: number(source.table.rows),
                    };
                    self.cells.add(*series, row, &values);
                }
                Ok(())
            }
        }
    }

    /// What tells its series apart, as texts.
    fn keys(&self) -> Result<Vec<ArrayRef>> {
        self.series.keys(&vec![DataType::Utf8; self.keys])
    }

    fn check_times(&mut self, times: &[i64]) -> Result<()> {
        let is_in_order = times.first().is_none_or(|first| *first >= self.time) && times.is_sorted();
        self.time = times.last().copied().unwrap_or(self.time);
        if is_in_order { Ok(()) } else { exec_err!("a file has rows that are not in the order of time") }
    }

    fn add_rows(&mut self, times: &[i64], columns: &[Numbers<'_>], has_steps: bool) {
        self.steps.resize(self.series.len());
        let is_one = columns.len() == 1;
        let mut numbers: Vec<Option<Number>> = Vec::new();
        for (row, us) in times.iter().enumerate() {
            numbers.clear();
            numbers.extend(columns.iter().map(|column| column.get(row)));
            // A rate of one column reaches over rows that lack it.
            if is_one && numbers.iter().all(Option::is_none) {
                continue;
            }
            let series = self.numbers[row];
            if has_steps && self.steps.newest_us[series] == NEVER {
                self.steps.newest_us[series] = *us;
                let columns = numbers.len();
                self.steps.newest[series * columns..][..columns].copy_from_slice(&numbers);
                self.firsts.push(First { series, us: *us, numbers: numbers.clone() });
                continue;
            }
            self.steps.take(&mut self.cells, series, *us, &numbers);
        }
    }
}

/// What is made of all shares of hosts.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) series: Groups,
    pub(super) cells: Cells,
    steps: Steps,
}

impl Whole {
    pub(super) fn new(window: &Window) -> Whole {
        Whole {
            series: Groups::new(&vec![Part::Label; window.keys().count() + 1]),
            cells: Cells::new(division(window), window.columns.len()),
            steps: Steps::new(window, NEVER),
        }
    }

    /// Memory that it takes, about.
    pub(super) fn size(&self) -> usize {
        self.series.size() + self.cells.size()
    }

    /// Begins another part, whose first steps are not from rows of the part before.
    pub(super) fn begin(&mut self, scan: &Scan) {
        self.steps.newest_us.fill(NEVER);
        self.steps.begin_us = scan.begin_us;
    }

    /// Takes the share of the next stretch of time.
    pub(super) fn take(&mut self, share: Share) -> Result<()> {
        let mut numbers = Vec::new();
        self.series.number(&share.keys()?, &mut numbers)?;
        self.steps.resize(self.series.len());
        for First { series, us, numbers: values } in &share.firsts {
            self.steps.take(&mut self.cells, numbers[*series], *us, values);
        }
        let columns = self.steps.kinds.len();
        for (series, us) in share.steps.newest_us.iter().enumerate().filter(|(_, us)| **us != NEVER) {
            let own = numbers[series];
            self.steps.newest_us[own] = *us;
            let newest = &share.steps.newest[series * columns..][..columns];
            self.steps.newest[own * columns..][..columns].copy_from_slice(newest);
        }
        // The first one's series have the same numbers here.
        if self.cells.is_empty() && numbers.iter().enumerate().all(|(at, number)| at == *number) {
            self.cells = share.cells;
        } else {
            self.cells.merge(&share.cells, &numbers);
        }
        Ok(())
    }
}

fn division(window: &Window) -> Division {
    Division { from_us: window.from_us, to_us: window.to_us, buckets: window.buckets }
}

/// What tells the series of a batch apart. Whole numbers are texts.
fn keys_of(batch: &RecordBatch, keys: &[usize]) -> Result<Vec<ArrayRef>> {
    let key = |at: &usize| {
        let key = batch.column(*at);
        Ok(if *key.data_type() == DataType::Int64 { cast(key, &DataType::Utf8)? } else { key.clone() })
    };
    keys.iter().map(key).collect()
}

/// What rows of a tier have of one column.
enum Reader {
    Counter {
        increase: Float64Array,
        low: Float64Array,
        high: Float64Array,
    },
    /// Its least, greatest, first and last value, and their sum.
    Gauge {
        figures: Box<[Float64Array; 5]>,
        count: Int64Array,
    },
}

impl Reader {
    fn of(column: &Derived, batch: &RecordBatch) -> Result<Reader> {
        let floats = |at: &usize| {
            Ok::<_, ArrowError>(cast(batch.column(*at), &DataType::Float64)?.as_primitive::<Float64Type>().clone())
        };
        Ok(match column {
            Derived::Counter { increase, low, high } => {
                Reader::Counter { increase: floats(increase)?, low: floats(low)?, high: floats(high)? }
            }
            Derived::Gauge { low, high, head, tail, sum, count } => {
                let count = cast(batch.column(*count), &DataType::Int64)?.as_primitive::<Int64Type>().clone();
                let [low, high, head, tail, sum] = [low, high, head, tail, sum].map(floats);
                Reader::Gauge { figures: Box::new([low?, high?, head?, tail?, sum?]), count }
            }
        })
    }

    /// The value of a row, if it has one. Of a counter it is the rate over the time of which the row has steps: this is less than its width
    /// if it has only begun, and more after rows that are missing.
    #[expect(clippy::cast_precision_loss, reason = "times and counts of one row")]
    fn value(&self, at: usize, ticks: i64, elapsed_us: i64) -> Option<Value> {
        let of = |array: &Float64Array| array.is_valid(at).then(|| array.value(at));
        match self {
            Reader::Counter { increase, low, high } => {
                let amount = of(increase).filter(|_| elapsed_us > 0)?;
                let weight = elapsed_us as f64;
                let rate = amount / (weight / MICROS);
                Some(Value { low: of(low)?, high: of(high)?, head: rate, tail: rate, amount, weight, count: ticks })
            }
            Reader::Gauge { figures, count } => {
                let [low, high, head, tail, sum] = &**figures;
                let number = count.is_valid(at).then(|| count.value(at))?;
                let (head, tail) = (of(head)?, of(tail)?);
                Some(Value {
                    low: of(low)?,
                    high: of(high)?,
                    head,
                    tail,
                    amount: of(sum)?,
                    weight: number as f64,
                    count: number,
                })
            }
        }
    }
}
