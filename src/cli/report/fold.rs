//! Rows folded into buckets of one width: the least, the greatest and the mean value of a gauge, or of a counter's rate. A step into a
//! bucket belongs to it.

use crate::record::Kind;

/// µs of a second.
const MICROS: f64 = 1e6;

/// What a bucket has of a column.
#[derive(Clone, Copy, Debug)]
struct Sum {
    low: f64,
    high: f64,
    amount: f64,
    weight: f64,
}

/// A bucket of a series.
#[derive(Clone, Debug)]
struct Bucket {
    /// When it begins.
    us: i64,
    /// Its rows.
    ticks: i64,
    sums: Vec<Option<Sum>>,
}

/// A series.
#[derive(Clone, Debug, Default)]
struct Own {
    buckets: Vec<Bucket>,
    /// Of each column the newest value, and its time.
    before: Vec<Option<(i64, f64)>>,
}

/// Buckets of the series of a table.
#[derive(Debug)]
pub(super) struct Fold {
    width_us: i64,
    kinds: Vec<Kind>,
    series: Vec<Own>,
}

impl Fold {
    pub(super) fn new(width_us: i64, kinds: Vec<Kind>) -> Fold {
        Fold { width_us, kinds, series: Vec::new() }
    }

    /// Takes the next row of a series, whose value of each column `value` gives.
    pub(super) fn take(&mut self, number: usize, us: i64, value: impl Fn(usize) -> Option<f64>) {
        if self.series.len() <= number {
            self.series.resize(number + 1, Own::default());
        }
        let Own { buckets, before } = &mut self.series[number];
        before.resize(self.kinds.len(), None);
        let begin_us = us - us.rem_euclid(self.width_us);
        let at = match buckets.last() {
            Some(last) if last.us == begin_us => buckets.len() - 1,
            // A clock that was set back comes to a bucket again.
            _ => buckets.binary_search_by_key(&begin_us, |bucket| bucket.us).unwrap_or_else(|at| {
                buckets.insert(at, Bucket { us: begin_us, ticks: 0, sums: vec![None; self.kinds.len()] });
                at
            }),
        };
        let bucket = &mut buckets[at];
        bucket.ticks += 1;
        for (column, kind) in self.kinds.iter().enumerate() {
            let Some(value) = value(column) else { continue };
            let last = before[column].replace((us, value));
            let Some(own) = sum(*kind, us, value, last) else { continue };
            bucket.sums[column] = Some(match bucket.sums[column] {
                None => own,
                Some(known) => Sum {
                    low: known.low.min(own.low),
                    high: known.high.max(own.high),
                    amount: known.amount + own.amount,
                    weight: known.weight + own.weight,
                },
            });
        }
    }

    /// How many buckets a series has.
    pub(super) fn rows(&self, number: usize) -> usize {
        self.series.get(number).map_or(0, |own| own.buckets.len())
    }

    /// When the buckets of these series begin.
    pub(super) fn times(&self, order: &[usize]) -> Vec<Option<i64>> {
        self.all(order).map(|bucket| Some(bucket.us)).collect()
    }

    /// How many rows they have.
    pub(super) fn ticks(&self, order: &[usize]) -> Vec<Option<i64>> {
        self.all(order).map(|bucket| Some(bucket.ticks)).collect()
    }

    /// The least, the greatest and the mean values of a column.
    pub(super) fn values(&self, order: &[usize], column: usize) -> [Vec<Option<f64>>; 3] {
        let of = |told: fn(Sum) -> f64| self.all(order).map(|bucket| bucket.sums[column].map(told)).collect();
        [of(|sum| sum.low), of(|sum| sum.high), of(|sum| sum.amount / sum.weight)]
    }

    fn all<'a>(&'a self, order: &'a [usize]) -> impl Iterator<Item = &'a Bucket> {
        order.iter().filter_map(|number| self.series.get(*number)).flat_map(|own| &own.buckets)
    }
}

/// What a row has of a column: a gauge's value, or the rate of a counter since `last`.
fn sum(kind: Kind, us: i64, value: f64, last: Option<(i64, f64)>) -> Option<Sum> {
    if kind != Kind::Counter {
        return Some(Sum { low: value, high: value, amount: value, weight: 1.0 });
    }
    let (last_us, before) = last.filter(|(last_us, _)| us > *last_us)?;
    // Below the value before it, it began anew at zero.
    let amount = if value >= before { value - before } else { value.max(0.0) };
    let weight = (us - last_us) as f64 / MICROS;
    let rate = amount / weight;
    Some(Sum { low: rate, high: rate, amount, weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_has_its_greatest_rate_and_a_step_belongs_to_the_bucket_into_which_it_leads() {
        let mut fold = Fold::new(1_000_000, vec![Kind::Counter, Kind::Gauge]);
        for (us, counter, gauge) in
            [(900_000, 10.0, 1.0), (1_100_000, 30.0, 5.0), (1_101_000, 90.0, 2.0), (1_999_000, 5.0, 3.0)]
        {
            fold.take(0, us, |column| Some(if column == 0 { counter } else { gauge }));
        }
        assert_eq!(fold.times(&[0]), [Some(0), Some(1_000_000)]);
        assert_eq!(fold.ticks(&[0]), [Some(1), Some(3)]);
        let [low, high, mean] = fold.values(&[0], 0);
        // Nothing leads into the first row. 20 in 200 ms, 60 in a ms, and 5 since it began anew, in 898 ms.
        assert_eq!((low[0], high[0], mean[0]), (None, None, None));
        assert_eq!(low[1], Some(5.0 / 0.898));
        assert!((high[1].unwrap() - 60_000.0).abs() < 1e-6);
        assert!((mean[1].unwrap() - 85.0 / 1.099).abs() < 1e-9);
        assert_eq!(fold.values(&[0], 1).map(|values| values[1]), [Some(2.0), Some(5.0), Some(10.0 / 3.0)]);
    }

    #[test]
    fn a_clock_that_was_set_back_comes_to_a_bucket_again() {
        let mut fold = Fold::new(10, vec![Kind::Gauge]);
        for (us, value) in [(5, 1.0), (25, 2.0), (7, 3.0)] {
            fold.take(1, us, |_| Some(value));
        }
        assert_eq!((fold.rows(0), fold.rows(1)), (0, 2));
        assert_eq!(fold.times(&[1]), [Some(0), Some(20)]);
        assert_eq!(fold.values(&[1], 0)[1], [Some(3.0), Some(2.0)]);
    }
}
