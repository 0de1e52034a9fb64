//! `rate(counter)`: increase per second over the trailing second, for each series by itself.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::error::ArrowError;

use super::expression::{counters, extended};
use super::state::{SeriesKey, SeriesMap};
use crate::record::Table;

/// How far back a rate looks. If rows are further apart, it looks back to the previous row.
const WINDOW_US: i64 = 1_000_000;

/// There is no rate over less than this: a few ticks say little about a second.
const HISTORY_US_MIN: i64 = 500_000;

/// Points of the history are at least this far apart, so that a series at 1 kHz needs no more memory than at 20 Hz.
const SPACING_US: i64 = 50_000;

/// The most points of one history: those of a window, one at each end, and room for a late one.
const POINTS_MAX: usize = 24;

/// How many series of one table have rates. Further ones have none and are counted.
const SERIES_MAX: usize = 10_000;

/// A series without a row for this long is forgotten when room is needed.
const GONE_AFTER_US: i64 = 300_000_000;

/// The columns of rates behind those of a batch.
#[derive(Debug)]
pub(super) struct RateColumns {
    schema: SchemaRef,
    rates: Rates,
    /// For each counter of the table: which of the rates is its own, if a rule uses it.
    places: Vec<Option<usize>>,
    /// Nulls for unused rates, as long as the longest batch so far.
    absent: ArrayRef,
}

impl RateColumns {
    /// The rates of the counters `used`, by their place among those of `table`. `None` if none is used.
    pub(super) fn new<'a>(table: &'static Table, used: impl Iterator<Item = &'a usize>) -> Option<Self> {
        let positions: Vec<usize> = counters(table).map(|(position, _)| position).collect();
        let mut used: Vec<usize> = used.copied().collect();
        used.sort_unstable();
        used.dedup();
        if used.is_empty() {
            return None;
        }
        Some(RateColumns {
            schema: Arc::new(extended(table)),
            places: (0..positions.len()).map(|counter| used.iter().position(|used| *used == counter)).collect(),
            rates: Rates::new(used.iter().map(|counter| positions[*counter]).collect()),
            absent: Arc::new(Float64Array::new_null(0)),
        })
    }

    /// How many rows had no rate because of [`SERIES_MAX`], since the last call.
    pub(super) fn take_excess(&mut self) -> u64 {
        std::mem::take(&mut self.rates.excess)
    }

    /// Forgets the series that have one of these keys among their so many labels.
    pub(super) fn forget(&mut self, keys: &BTreeSet<i32>, labels: usize) {
        let has = |series: &SeriesKey| (0..labels).any(|index| keys.contains(&series.label(index, labels)));
        self.rates.series.retain(|series, _| !has(series));
    }

    /// `batch`, whose rows were sampled at these times of `CLOCK_MONOTONIC`, with the counters' rates behind its columns.
    pub(super) fn extend(
        &mut self,
        batch: &RecordBatch,
        times: &[i64],
        keys: &[SeriesKey],
    ) -> Result<RecordBatch, ArrowError> {
        let rows = batch.num_rows();
        if self.absent.len() < rows {
            self.absent = Arc::new(Float64Array::new_null(rows.next_power_of_two()));
        }
        let rates = self.rates.advance(batch, times, keys);
        let absent = self.absent.slice(0, rows);
        let rates = self.places.iter().map(|place| place.map_or(&absent, |place| &rates[place]));
        let columns = batch.columns().iter().chain(rates).cloned().collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

/// The rates of one table's counters.
#[derive(Debug)]
struct Rates {
    /// Positions of the counters in the table.
    counters: Vec<usize>,
    series: SeriesMap<Box<[History]>>,
    excess: u64,
    /// When it was last full and swept. Sweeping for each row of a flood of series would cost more than the rates.
    swept_us: i64,
}

impl Rates {
    /// The rates of the counters at these positions of the table.
    fn new(counters: Vec<usize>) -> Self {
        Rates { counters, series: SeriesMap::default(), excess: 0, swept_us: i64::MIN }
    }

    /// Takes the rows of `batch`, whose times and series are `times` and `keys`. Returns one column a counter.
    fn advance(&mut self, batch: &RecordBatch, times: &[i64], keys: &[SeriesKey]) -> Vec<ArrayRef> {
        let counters: Vec<_> =
            self.counters.iter().map(|position| batch.column(*position).as_primitive::<Int64Type>()).collect();
        let mut rates: Vec<Vec<Option<f64>>> = counters.iter().map(|_| Vec::with_capacity(times.len())).collect();
        for (row, (time, key)) in times.iter().zip(keys).enumerate() {
            if self.series.len() >= SERIES_MAX && !self.series.contains_key(key) {
                self.sweep(*time);
                if self.series.len() >= SERIES_MAX {
                    self.excess += 1;
                    for rates in &mut rates {
                        rates.push(None);
                    }
                    continue;
                }
            }
            let histories =
                self.series.entry(*key).or_insert_with(|| counters.iter().map(|_| History::default()).collect());
            for ((counter, history), rates) in counters.iter().zip(histories.iter_mut()).zip(&mut rates) {
                let rate = if counter.is_null(row) { None } else { history.advance(*time, counter.value(row)) };
                rates.push(rate);
            }
        }
        rates.into_iter().map(|rates| Arc::new(Float64Array::from(rates)) as ArrayRef).collect()
    }

    fn sweep(&mut self, now_us: i64) {
        if now_us.saturating_sub(self.swept_us) < GONE_AFTER_US / 10 {
            return;
        }
        self.swept_us = now_us;
        self.series.retain(|_, histories| {
            histories.iter().any(|history| now_us.saturating_sub(history.seen_us) < GONE_AFTER_US)
        });
    }
}

/// The history of one series' counter: its increase since first seen, at points of the last second.
#[derive(Debug)]
struct History {
    seen_us: i64,
    value: i64,
    increase: i64,
    /// (time, increase), oldest first; the first one is where the window starts.
    points: VecDeque<(i64, i64)>,
}

impl Default for History {
    fn default() -> Self {
        History { seen_us: i64::MIN, value: 0, increase: 0, points: VecDeque::new() }
    }
}

impl History {
    /// Takes the counter's `value` at `time_us`. Returns its rate if the history is long enough.
    fn advance(&mut self, time_us: i64, value: i64) -> Option<f64> {
        if time_us < self.seen_us {
            // Rows around a step of the wall clock may be placed the other way round: nothing is known of the time between.
            self.points.clear();
        }
        if !self.points.is_empty() {
            // A counter that went down was reset to zero and has grown to its value since.
            let grown = if value >= self.value { value.wrapping_sub(self.value) } else { value.max(0) };
            self.increase = self.increase.wrapping_add(grown);
        }
        self.seen_us = time_us;
        self.value = value;
        // The window starts at the last point that is not inside it.
        while self.points.get(1).is_some_and(|(second_us, _)| time_us - second_us >= WINDOW_US) {
            self.points.pop_front();
        }
        let rate = self.points.front().and_then(|(start_us, start)| {
            let past_us = time_us - start_us;
            let grown = self.increase.wrapping_sub(*start);
            (past_us >= HISTORY_US_MIN).then(|| grown as f64 * 1e6 / past_us as f64)
        });
        let due = self.points.back().is_none_or(|(last_us, _)| time_us - last_us >= SPACING_US);
        if due && self.points.len() < POINTS_MAX {
            self.points.push_back((time_us, self.increase));
        }
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(rows: impl IntoIterator<Item = (i64, i64)>) -> Vec<Option<f64>> {
        let mut history = History::default();
        rows.into_iter().map(|(time_ms, value)| history.advance(time_ms * 1_000, value)).collect()
    }

    #[test]
    fn a_steady_counter_has_its_rate_after_half_a_second() {
        let rates = rates((0..3_000).map(|ms| (ms, 7_000 + ms * 20)));
        assert_eq!(rates[499], None);
        assert!(rates[500..].iter().all(|rate| *rate == Some(20_000.0)), "{:?}", &rates[500..510]);
    }

    #[test]
    fn the_window_is_the_trailing_second() {
        // Still for two seconds, 1,000 at once, still again.
        let rates = rates((0..4_000).map(|ms| (ms, if ms < 2_000 { 5 } else { 1_005 })));
        assert_eq!(rates[1_999], Some(0.0));
        let at_step = rates[2_000].unwrap();
        assert!((950.0..=1_000.0).contains(&at_step), "{at_step}");
        assert!(rates[2_900].unwrap() > 900.0);
        assert_eq!(rates[3_100], Some(0.0));
    }

    #[test]
    fn a_reset_counts_from_zero() {
        let rows =
            (0..=10).map(|tenth| (tenth * 100, if tenth < 8 { 1_000_000 + tenth * 10 } else { (tenth - 8) * 10 + 4 }));
        // 70 before the reset, 4 after it, 20 since.
        assert_eq!(rates(rows)[10], Some(94.0));
    }

    #[test]
    fn rows_further_apart_than_the_window_use_the_row_before() {
        assert_eq!(rates([(0, 0), (10_000, 500), (20_000, 600)]), [None, Some(50.0), Some(10.0)]);
    }

    #[test]
    fn rows_the_other_way_round_start_anew() {
        let rates = rates([(5_000, 0), (6_000, 100), (1_000, 200), (1_400, 300), (1_600, 320)]);
        assert_eq!(rates, [None, Some(100.0), None, None, Some(200.0)]);
    }

    #[test]
    fn memory_does_not_grow_with_the_rate_of_rows() {
        let mut history = History::default();
        for time_us in (0..20_000_000).step_by(500) {
            history.advance(time_us, time_us);
            assert!(history.points.len() < POINTS_MAX);
        }
    }
}
