//! What a bucket keeps of one column of one series.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::{ArrowNativeType, ArrowPrimitiveType, Float64Type, Int64Type};

use super::course::Run;

/// A type of values.
pub(super) trait Number: ArrowNativeType + PartialOrd {
    /// Its type in Arrow.
    type Arrow: ArrowPrimitiveType<Native = Self>;
    const ZERO: Self;

    /// The sum of both. Integers stay at the greatest one: no host has such sums, so it is only kept from being wrong.
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn float(self) -> f64;
    fn word(self) -> u64;
    fn of_word(word: u64) -> Self;
    fn array(values: impl Iterator<Item = Option<Self>>) -> ArrayRef;

    /// How much a counter grew from `before` to this. Below it, the counter began anew at zero.
    fn step_from(self, before: Self) -> Self {
        if self >= before {
            self.minus(before)
        } else if self > Self::ZERO {
            self
        } else {
            Self::ZERO
        }
    }
}

impl Number for i64 {
    type Arrow = Int64Type;
    const ZERO: i64 = 0;

    fn plus(self, other: i64) -> i64 {
        self.saturating_add(other)
    }

    fn minus(self, other: i64) -> i64 {
        self.saturating_sub(other)
    }

    fn float(self) -> f64 {
        self as f64
    }

    fn word(self) -> u64 {
        self.cast_unsigned()
    }

    fn of_word(word: u64) -> i64 {
        word.cast_signed()
    }

    fn array(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
        Arc::new(values.collect::<Int64Array>())
    }
}

impl Number for f64 {
    type Arrow = Float64Type;
    const ZERO: f64 = 0.0;

    fn plus(self, other: f64) -> f64 {
        self + other
    }

    fn minus(self, other: f64) -> f64 {
        self - other
    }

    fn float(self) -> f64 {
        self
    }

    fn word(self) -> u64 {
        self.to_bits()
    }

    fn of_word(word: u64) -> f64 {
        f64::from_bits(word)
    }

    fn array(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
        Arc::new(values.collect::<Float64Array>())
    }
}

/// What a bucket keeps of one column of one series. It takes values in the order in which they were recorded.
pub(super) trait Cell: Copy + Debug {
    type Value: Number;
    /// Of a series that has had no value.
    const EMPTY: Self;
    /// How many words [`words`](Self::words) gives.
    const WORDS: usize;

    /// Takes a value of the time `time`, µs.
    fn add(&mut self, time: i64, value: Self::Value);

    /// Takes a value of each row of a run. Each has one.
    fn add_all(&mut self, run: &Run<'_>, values: &[Self::Value]) {
        for (row, time) in run.rows.iter().zip(run.times) {
            if let Some(value) = values.get(*row as usize) {
                self.add(*time, *value);
            }
        }
    }

    /// Takes what `later` has, the next stretch of the same bucket.
    fn append(&mut self, later: &Self);

    /// Of the same series, without values of its own.
    fn next(&self) -> Self;

    /// The columns of a tier for these.
    fn arrays(cells: &[Self]) -> Vec<ArrayRef>;

    fn words(&self, out: &mut Vec<u64>);

    /// Of [`WORDS`](Self::WORDS) words.
    fn of_words(words: &[u64]) -> Option<Self>;
}

/// Of a gauge. The sum of floats is that in the order of the rows, a minute's that of its seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gauge<N> {
    min: N,
    max: N,
    sum: N,
    first: N,
    last: N,
    count: u64,
}

impl<N: Number> Cell for Gauge<N> {
    type Value = N;
    const EMPTY: Gauge<N> = Gauge { min: N::ZERO, max: N::ZERO, sum: N::ZERO, first: N::ZERO, last: N::ZERO, count: 0 };
    const WORDS: usize = 6;

    fn add(&mut self, _: i64, value: N) {
        if self.count == 0 {
            *self = Gauge { min: value, max: value, sum: value, first: value, last: value, count: 1 };
            return;
        }
        if value < self.min {
            self.min = value;
        }
        if value > self.max {
            self.max = value;
        }
        self.sum = self.sum.plus(value);
        self.last = value;
        self.count += 1;
    }

    fn add_all(&mut self, run: &Run<'_>, values: &[N]) {
        let mut values = run.rows.iter().filter_map(|row| values.get(*row as usize).copied());
        if self.count == 0 {
            let Some(value) = values.next() else { return };
            *self = Gauge { min: value, max: value, sum: value, first: value, last: value, count: 1 };
        }
        let Gauge { mut min, mut max, mut sum, mut last, mut count, .. } = *self;
        for value in values {
            min = if value < min { value } else { min };
            max = if value > max { value } else { max };
            sum = sum.plus(value);
            last = value;
            count += 1;
        }
        *self = Gauge { min, max, sum, last, count, ..*self };
    }

    fn append(&mut self, later: &Gauge<N>) {
        if self.count == 0 {
            *self = *later;
        } else if later.count > 0 {
            if later.min < self.min {
                self.min = later.min;
            }
            if later.max > self.max {
                self.max = later.max;
            }
            self.sum = self.sum.plus(later.sum);
            self.last = later.last;
            self.count += later.count;
        }
    }

    fn next(&self) -> Gauge<N> {
        Gauge::EMPTY
    }

    fn arrays(cells: &[Gauge<N>]) -> Vec<ArrayRef> {
        let of = |value: fn(&Gauge<N>) -> N| N::array(cells.iter().map(|cell| (cell.count > 0).then(|| value(cell))));
        let counts = i64::array(cells.iter().map(|cell| Some(cell.count.cast_signed())));
        vec![
            of(|cell| cell.min),
            of(|cell| cell.max),
            of(|cell| cell.sum),
            counts,
            of(|cell| cell.first),
            of(|cell| cell.last),
        ]
    }

    fn words(&self, out: &mut Vec<u64>) {
        out.extend([self.min, self.max, self.sum, self.first, self.last].map(N::word));
        out.push(self.count);
    }

    fn of_words(words: &[u64]) -> Option<Gauge<N>> {
        let &[min, max, sum, first, last, count] = words else { return None };
        let [min, max, sum, first, last] = [min, max, sum, first, last].map(N::of_word);
        Some(Gauge { min, max, sum, first, last, count })
    }
}

/// Of what belongs to the thing that a series is of: its last value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Detail<N> {
    last: Option<N>,
}

impl<N: Number> Cell for Detail<N> {
    type Value = N;
    const EMPTY: Detail<N> = Detail { last: None };
    const WORDS: usize = 2;

    fn add(&mut self, _: i64, value: N) {
        self.last = Some(value);
    }

    fn append(&mut self, later: &Detail<N>) {
        self.last = later.last.or(self.last);
    }

    fn next(&self) -> Detail<N> {
        Detail::EMPTY
    }

    fn arrays(cells: &[Detail<N>]) -> Vec<ArrayRef> {
        vec![N::array(cells.iter().map(|cell| cell.last))]
    }

    fn words(&self, out: &mut Vec<u64>) {
        out.extend([u64::from(self.last.is_some()), self.last.map_or(0, N::word)]);
    }

    fn of_words(words: &[u64]) -> Option<Detail<N>> {
        let &[is_known, last] = words else { return None };
        Some(Detail { last: (is_known != 0).then(|| N::of_word(last)) })
    }
}

/// Of a counter. It knows the series' last value, from which the next step is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counter<N> {
    /// When the last value was, in this bucket or before it, µs; [`NEVER`] if there was none.
    last_time: i64,
    last: N,
    first: N,
    increase: N,
    /// Infinite without a rate.
    min_rate: f64,
    max_rate: f64,
    /// Values in this bucket.
    count: u64,
    /// Steps that `increase` is the sum of.
    steps: u64,
}

const NEVER: i64 = i64::MIN;

impl<N: Number> Cell for Counter<N> {
    type Value = N;
    const EMPTY: Counter<N> = Counter {
        last_time: NEVER,
        last: N::ZERO,
        first: N::ZERO,
        increase: N::ZERO,
        min_rate: f64::INFINITY,
        max_rate: f64::NEG_INFINITY,
        count: 0,
        steps: 0,
    };
    const WORDS: usize = 8;

    fn add(&mut self, time: i64, value: N) {
        if self.count == 0 {
            self.first = value;
        }
        if self.last_time != NEVER {
            let step = value.step_from(self.last);
            self.increase = self.increase.plus(step);
            self.steps += 1;
            let elapsed_us = time.saturating_sub(self.last_time);
            // The wall clock may have been set back.
            if elapsed_us > 0 {
                let rate = step.float() / (elapsed_us as f64 / 1e6);
                self.min_rate = self.min_rate.min(rate);
                self.max_rate = self.max_rate.max(rate);
            }
        }
        self.last = value;
        self.last_time = time;
        self.count += 1;
    }

    fn add_all(&mut self, run: &Run<'_>, values: &[N]) {
        let value_of = |row: &u32| values.get(*row as usize).copied();
        let (Some(time), Some(first)) = (run.times.first(), run.rows.first().and_then(value_of)) else { return };
        // The last value may be from before rows without one.
        self.add(*time, first);
        let Counter { mut last, mut increase, mut min_rate, mut max_rate, .. } = *self;
        // Most counters stand still at most ticks. Then there is nothing to work out.
        let mut stood = false;
        for (row, span) in run.rows.iter().zip(run.spans).skip(1) {
            let Some(value) = value_of(row) else { continue };
            // The wall clock may have been set back.
            let is_later = *span > 0.0;
            if value == last {
                stood |= is_later;
                continue;
            }
            let step = value.step_from(last);
            last = value;
            increase = increase.plus(step);
            if is_later {
                let rate = step.float() / span;
                min_rate = if rate < min_rate { rate } else { min_rate };
                max_rate = if rate > max_rate { rate } else { max_rate };
            }
        }
        if stood {
            (min_rate, max_rate) = (min_rate.min(0.0), max_rate.max(0.0));
        }
        let more = run.rows.len().saturating_sub(1) as u64;
        let last_time = run.times.last().copied().unwrap_or(*time);
        let (count, steps) = (self.count + more, self.steps + more);
        *self = Counter { last_time, last, increase, min_rate, max_rate, count, steps, ..*self };
    }

    fn append(&mut self, later: &Counter<N>) {
        if later.count == 0 {
            return;
        }
        self.first = if self.count == 0 { later.first } else { self.first };
        self.last = later.last;
        self.last_time = later.last_time;
        self.increase = self.increase.plus(later.increase);
        self.min_rate = self.min_rate.min(later.min_rate);
        self.max_rate = self.max_rate.max(later.max_rate);
        self.count += later.count;
        self.steps += later.steps;
    }

    fn next(&self) -> Counter<N> {
        Counter { last_time: self.last_time, last: self.last, ..Counter::EMPTY }
    }

    fn arrays(cells: &[Counter<N>]) -> Vec<ArrayRef> {
        let of = |value: fn(&Counter<N>) -> N| N::array(cells.iter().map(|cell| (cell.count > 0).then(|| value(cell))));
        let increase = cells.iter().map(|cell| (cell.steps > 0).then_some(cell.increase));
        let rates = |rate: fn(&Counter<N>) -> f64| {
            f64::array(cells.iter().map(rate).map(|rate| Some(rate).filter(|rate| rate.is_finite())))
        };
        vec![
            of(|cell| cell.first),
            of(|cell| cell.last),
            N::array(increase),
            rates(|cell| cell.min_rate),
            rates(|cell| cell.max_rate),
        ]
    }

    fn words(&self, out: &mut Vec<u64>) {
        out.push(self.last_time.cast_unsigned());
        out.extend([self.last, self.first, self.increase].map(N::word));
        out.extend([self.min_rate.to_bits(), self.max_rate.to_bits(), self.count, self.steps]);
    }

    fn of_words(words: &[u64]) -> Option<Counter<N>> {
        let &[last_time, last, first, increase, min_rate, max_rate, count, steps] = words else { return None };
        let [last, first, increase] = [last, first, increase].map(N::of_word);
        let [min_rate, max_rate] = [min_rate, max_rate].map(f64::from_bits);
        Some(Counter { last_time: last_time.cast_signed(), last, first, increase, min_rate, max_rate, count, steps })
    }
}
