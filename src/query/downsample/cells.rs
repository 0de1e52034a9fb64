//! Buckets of series, and the figures of what falls into them.

use std::collections::HashMap;

use foldhash::fast::FixedState;

/// About what the map has for an entry.
const ENTRY_BYTES: usize = 40;

/// How a window is divided into buckets. What is before the window is in the bucket −1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Division {
    pub(super) from_us: i64,
    /// The first time after it.
    pub(super) to_us: i64,
    pub(super) buckets: i64,
}

impl Division {
    /// The last bucket that begins before a time or with it. Whole numbers.
    fn bucket(&self, us: i64) -> i64 {
        if us < self.from_us { -1 } else { (us - self.from_us) * self.buckets / (self.to_us - self.from_us) }
    }

    /// The first microsecond of a bucket.
    pub(super) fn edge_us(&self, bucket: i64) -> i64 {
        self.from_us + (bucket * (self.to_us - self.from_us) + self.buckets - 1) / self.buckets
    }

    /// The first time of a bucket, and the first one after it.
    fn times(&self, bucket: i64) -> (i64, i64) {
        let from_us = if bucket < 0 { i64::MIN } else { self.edge_us(bucket) };
        (from_us, self.edge_us(bucket + 1))
    }
}

/// What rows have of one column: one row, or all of a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) low: f64,
    pub(super) high: f64,
    /// The first and the last one. They are told of windows of one column only.
    pub(super) head: f64,
    pub(super) tail: f64,
    /// What is summed, and what that weighs in a mean.
    pub(super) amount: f64,
    pub(super) weight: f64,
    /// How many values these are.
    pub(super) count: i64,
}

/// What rows have of all columns together: one row, or all of a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The times of the first and the last one, and where the last one ends.
    pub(super) first_us: i64,
    pub(super) last_us: i64,
    pub(super) end_us: i64,
    /// How many rows of the table itself these are.
    pub(super) ticks: i64,
    /// How many ticks they miss. Rows of the table itself do not say that, so what is made of them and of a tier has no figure,
    /// rather than one that is too small.
    pub(super) missed: Option<i64>,
    /// 0 for rows of the table itself, and greater for wider tiers.
    pub(super) tier: usize,
}

/// A bucket of a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) series: usize,
    pub(super) bucket: i64,
    pub(super) row: Row,
}

/// The buckets of series. Series are numbers from 0 on.
#[derive(Debug)]
pub(super) struct Cells {
    division: Division,
    columns: usize,
    all: Vec<Cell>,
    /// Of each cell, the value of each column.
    values: Vec<Option<Value>>,
    numbers: HashMap<(usize, i64), usize, FixedState>,
    /// Of each series, its last cell and the times of that: the next row is mostly in it, too.
    last: Vec<(i64, i64, usize)>,
}

impl Cells {
    pub(super) fn new(division: Division, columns: usize) -> Cells {
        let numbers = HashMap::default();
        Cells { division, columns, all: Vec::new(), values: Vec::new(), numbers, last: Vec::new() }
    }

    pub(super) fn division(&self) -> Division {
        self.division
    }

    /// Memory that it takes, about.
    pub(super) fn size(&self) -> usize {
        self.all.capacity() * size_of::<Cell>()
            + self.values.capacity() * size_of::<Option<Value>>()
            + self.numbers.capacity() * ENTRY_BYTES
            + self.last.capacity() * size_of::<(i64, i64, usize)>()
    }

    /// Adds what rows of one series and bucket have. `values` has one for each column.
    pub(super) fn add(&mut self, series: usize, row: Row, values: &[Option<Value>]) {
        let at = self.place(series, row);
        let known = &mut self.all[at].row;
        let (is_first, is_last) = (row.first_us < known.first_us, row.last_us >= known.last_us);
        known.first_us = known.first_us.min(row.first_us);
        known.last_us = known.last_us.max(row.last_us);
        known.end_us = known.end_us.max(row.end_us);
        known.ticks += row.ticks;
        known.missed = known.missed.zip(row.missed).map(|(one, other)| one + other);
        known.tier = known.tier.max(row.tier);
        for (known, value) in self.values[at * self.columns..].iter_mut().zip(values) {
            let Some(value) = value else { continue };
            match known {
                None => *known = Some(*value),
                Some(known) => {
                    known.low = known.low.min(value.low);
                    known.high = known.high.max(value.high);
                    known.amount += value.amount;
                    known.weight += value.weight;
                    known.count += value.count;
                    if is_first {
                        known.head = value.head;
                    }
                    if is_last {
                        known.tail = value.tail;
                    }
                }
            }
        }
    }

    /// Adds all cells of another one. `numbers` has the number that each of its series has here.
    pub(super) fn merge(&mut self, other: &Cells, numbers: &[usize]) {
        for (cell, values) in other.in_turn() {
            self.add(numbers[cell.series], cell.row, values);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The places of the cells, in the order of series and time. What finds a cell is not needed any more.
    pub(super) fn order(&mut self) -> Vec<usize> {
        (self.numbers, self.last) = (HashMap::default(), Vec::new());
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_unstable_by_key(|at| (self.all[*at].series, self.all[*at].bucket));
        order
    }

    /// A cell with its values.
    pub(super) fn get(&self, at: usize) -> (&Cell, &[Option<Value>]) {
        (&self.all[at], &self.values[at * self.columns..][..self.columns])
    }

    fn in_turn(&self) -> impl Iterator<Item = (&Cell, &[Option<Value>])> {
        self.all.iter().zip(self.values.chunks(self.columns.max(1)))
    }

    /// The place of the cell of a row. A new one has nothing.
    fn place(&mut self, series: usize, row: Row) -> usize {
        let us = row.first_us;
        if let Some((from_us, to_us, at)) = self.last.get(series)
            && (*from_us..*to_us).contains(&us)
        {
            return *at;
        }
        let bucket = self.division.bucket(us);
        let next = self.all.len();
        let at = *self.numbers.entry((series, bucket)).or_insert(next);
        if at == next {
            self.all.push(Cell { series, bucket, row: Row { ticks: 0, missed: row.missed.map(|_| 0), ..row } });
            self.values.resize(self.values.len() + self.columns, None);
        }
        if self.last.len() <= series {
            self.last.resize(series + 1, (i64::MAX, i64::MIN, 0));
        }
        let (from_us, to_us) = self.division.times(bucket);
        self.last[series] = (from_us, to_us, at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIVISION: Division = Division { from_us: 100, to_us: 200, buckets: 3 };

    #[test]
    fn a_time_is_in_the_bucket_whose_edges_are_around_it() {
        for us in 0..200 {
            let bucket = DIVISION.bucket(us);
            let (from_us, to_us) = DIVISION.times(bucket);
            assert!((from_us..to_us).contains(&us) && (-1..3).contains(&bucket), "{us}");
        }
        assert_eq!([0, 1, 2, 3].map(|bucket| DIVISION.edge_us(bucket)), [100, 134, 167, 200]);
    }

    #[test]
    fn cells_have_what_was_added_in_any_order_and_in_any_parts() {
        let row =
            |us: i64, missed: Option<i64>| Row { first_us: us, last_us: us, end_us: us + 1, ticks: 1, missed, tier: 1 };
        let value = |of: f64| Value { low: of, high: of, head: of, tail: of, amount: of, weight: 1.0, count: 1 };
        let added = [(0, 120, 5.0), (1, 110, 7.0), (0, 101, 3.0), (0, 150, 9.0), (0, 130, -2.0)];
        let (mut whole, mut other) = (Cells::new(DIVISION, 2), Cells::new(DIVISION, 2));
        let mut parts = [Cells::new(DIVISION, 2), Cells::new(DIVISION, 2)];
        for (at, (series, us, of)) in added.into_iter().enumerate() {
            whole.add(series, row(us, Some(2)), &[Some(value(of)), None]);
            other.add(series, row(us, Some(2)), &[Some(value(of)), None]);
            // The other series has another number there.
            parts[at % 2].add(1 - series, row(us, Some(2)), &[Some(value(of)), None]);
        }
        let mut merged = Cells::new(DIVISION, 2);
        parts.iter().for_each(|part| merged.merge(part, &[1, 0]));
        whole.add(0, row(102, None), &[None, Some(value(1.0))]);
        let (cell, values) = whole.get(0);
        assert!(cell.row.missed.is_none() && values[1] == Some(value(1.0)));
        for mut cells in [other, merged] {
            assert!(cells.size() > 0 && !cells.is_empty());
            let order = cells.order();
            let told: Vec<_> = order.iter().map(|at| cells.get(*at).0).map(|cell| (cell.series, cell.bucket)).collect();
            assert_eq!(told, [(0, 0), (0, 1), (1, 0)]);
            let (cell, values) = cells.get(order[0]);
            assert_eq!((cell.row.first_us, cell.row.last_us, cell.row.ticks, cell.row.missed), (101, 130, 3, Some(6)));
            let expected = Value { low: -2.0, high: 5.0, head: 3.0, tail: -2.0, amount: 6.0, weight: 3.0, count: 3 };
            assert_eq!(values, [Some(expected), None]);
        }
    }
}
