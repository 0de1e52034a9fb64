//! What a bucket keeps of one column of one series.

use std::fmt::Debug;

use arrow::array::ArrayRef;

use super::course::Run;
use super::number::Number;

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
    fn add_all(&mut self, run: &Run<'_>, values: &[Self::Value]);

    /// Takes a value of each row of a run, all of which are the same.
    fn add_same(&mut self, run: &Run<'_>, values: &[Self::Value]);

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
        let Some(first) = run.first(values) else { return };
        self.add(0, first);
        let Gauge { mut min, mut max, mut sum, mut last, count, .. } = *self;
        run.each_other(values, |value, _| {
            min = if value < min { value } else { min };
            max = if value > max { value } else { max };
            sum = sum.plus(value);
            last = value;
        });
        *self = Gauge { min, max, sum, last, count: count + run.others(), ..*self };
    }

    fn add_same(&mut self, run: &Run<'_>, values: &[N]) {
        let Some(value) = run.first(values) else { return };
        self.add(0, value);
        self.sum = self.sum.plus_times(value, run.others());
        self.count += run.others();
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

    fn add_all(&mut self, run: &Run<'_>, values: &[N]) {
        self.last = run.last(values).or(self.last);
    }

    fn add_same(&mut self, run: &Run<'_>, values: &[N]) {
        self.add_all(run, values);
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

impl<N: Number> Counter<N> {
    /// Takes of the rows after the first one of a run what does not depend on their values, and whether it `stood` at one of them.
    fn note_others(&mut self, run: &Run<'_>, stood: bool) {
        if stood {
            (self.min_rate, self.max_rate) = (self.min_rate.min(0.0), self.max_rate.max(0.0));
        }
        self.last_time = run.times.last().copied().unwrap_or(self.last_time);
        self.count += run.others();
        self.steps += run.others();
    }
}

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
        let (Some(time), Some(first)) = (run.times.first(), run.first(values)) else { return };
        // The last value may be from before rows without one.
        self.add(*time, first);
        let Counter { mut last, mut increase, mut min_rate, mut max_rate, .. } = *self;
        if run.stands(values, first) {
            self.note_others(run, run.goes_on());
            return;
        }
        // Most counters stand still at most ticks. Then there is nothing to work out.
        let mut stood = false;
        run.each_other(values, |value, span| {
            // The wall clock may have been set back.
            let is_later = span > 0.0;
            if value == last {
                stood |= is_later;
                return;
            }
            let step = value.step_from(last);
            last = value;
            increase = increase.plus(step);
            if is_later {
                let rate = step.float() / span;
                min_rate = if rate < min_rate { rate } else { min_rate };
                max_rate = if rate > max_rate { rate } else { max_rate };
            }
        });
        *self = Counter { last, increase, min_rate, max_rate, ..*self };
        self.note_others(run, stood);
    }

    fn add_same(&mut self, run: &Run<'_>, values: &[N]) {
        let (Some(time), Some(value)) = (run.times.first(), run.first(values)) else { return };
        self.add(*time, value);
        self.note_others(run, run.goes_on());
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
