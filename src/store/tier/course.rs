//! The rows of a batch by series, so that each column goes through one series after the other.
//!
//! Rows of several series take turns. What is the same for all columns is worked out once: which rows a series has, which of them begin
//! a bucket, and how long after the row before they are. A column then keeps the bucket that it adds to in registers.

use super::number::Number;

/// Values that are compared in one go.
const COMPARED: usize = 64;

/// Where rows go: their series, and what ends before them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) slot: u32,
    pub(super) ends_second: bool,
    pub(super) ends_minute: bool,
}

/// What the rows of a batch are to each series.
#[derive(Debug)]
pub(super) struct Courses {
    /// The positions of the rows in the batch, by series, and those of each in their order.
    rows: Vec<u32>,
    /// Of each of these rows: its time, µs.
    times: Vec<i64>,
    /// Of each of these rows: how long after the one before of its series it is, seconds; 0 without one, and where the clock was set
    /// back.
    spans: Vec<f64>,
    /// The rows of a series in one second, in the order of `rows`: what ends before them, and where they end.
    seconds: Vec<(Step, usize)>,
    /// How many series the rows are of, if these take turns throughout: then a series has every so many-th row.
    turn: Option<usize>,
}

/// Rows of a series in one second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub(super) step: Step,
    pub(super) rows: &'a [u32],
    pub(super) times: &'a [i64],
    pub(super) spans: &'a [f64],
    turn: Option<usize>,
}

impl Run<'_> {
    /// The value of its first row. `values` are those of the batch.
    pub(super) fn first<N: Copy>(&self, values: &[N]) -> Option<N> {
        values.get(*self.rows.first()? as usize).copied()
    }

    /// The value of its last row.
    pub(super) fn last<N: Copy>(&self, values: &[N]) -> Option<N> {
        values.get(*self.rows.last()? as usize).copied()
    }

    /// How many rows follow the first one.
    pub(super) fn others(&self) -> u64 {
        self.rows.len().saturating_sub(1) as u64
    }

    /// Whether all its values are this one. `false` if that takes a search.
    pub(super) fn stands<N: Number>(&self, values: &[N], value: N) -> bool {
        let own = self.rows.first().and_then(|first| values.get(*first as usize..));
        self.turn.zip(own).is_some_and(|(turn, own)| {
            own.iter().step_by(turn).take(self.rows.len()).all(|other| other.word() == value.word())
        })
    }

    /// Hands the values of the rows after the first one to `take`, in their order, each with the time since the row before, seconds.
    pub(super) fn each_other<N: Copy>(&self, values: &[N], mut take: impl FnMut(N, f64)) {
        let own = self.rows.first().and_then(|first| values.get(*first as usize..));
        if let Some((turn, own)) = self.turn.zip(own) {
            own.iter().step_by(turn).zip(self.spans).skip(1).for_each(|(value, span)| take(*value, *span));
            return;
        }
        for (row, span) in self.rows.iter().zip(self.spans).skip(1) {
            if let Some(value) = values.get(*row as usize) {
                take(*value, *span);
            }
        }
    }

    /// Whether time passes between its rows. The wall clock may have been set back.
    pub(super) fn goes_on(&self) -> bool {
        self.spans.iter().skip(1).any(|span| *span > 0.0)
    }
}

impl Courses {
    /// Takes the series of each row, of which there are `series`, and its time. `next` is told a series and the times of its next rows.
    /// It takes some of them, which are in one second, adds to the vector for each how long after the row before it is, seconds, and
    /// returns what ends before them.
    pub(super) fn new(
        slots: &[u32],
        series: usize,
        times: &[i64],
        mut next: impl FnMut(u32, &[i64], &mut Vec<f64>) -> Step,
    ) -> Courses {
        let turn = turn(slots);
        let (rows, times, ends) = match turn {
            Some(turn) => by_turn(&slots[..turn], times),
            None => by_series(slots, series, times),
        };
        let mut spans = Vec::with_capacity(rows.len());
        let mut seconds: Vec<(Step, usize)> = Vec::new();
        for (slot, end) in ends {
            while spans.len() < end {
                let (rest, before) = (&times[spans.len()..end], spans.len());
                let step = next(slot, rest, &mut spans);
                if spans.len() == before {
                    break;
                }
                seconds.push((step, spans.len()));
            }
        }
        Courses { rows, times, spans, seconds, turn }
    }

    /// Whether each series has the same value in all rows of the batch. `false` if that takes a search through each series.
    pub(super) fn stand<N: Number>(&self, values: &[N]) -> bool {
        let Some(turn) = self.turn.filter(|turn| *turn <= values.len()) else { return false };
        let (before, after) = (&values[..values.len() - turn], &values[turn..]);
        // Without a branch for each value, so that several are compared at once.
        let differ = |(one, next): (&[N], &[N])| {
            one.iter().zip(next).fold(0, |differ, (one, next)| differ | (one.word() ^ next.word()))
        };
        before.chunks(COMPARED).zip(after.chunks(COMPARED)).all(|parts| differ(parts) == 0)
    }

    /// The rows of each series, one second after the other.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let mut from = 0;
        self.seconds.iter().filter_map(move |(step, end)| {
            let range = std::mem::replace(&mut from, *end)..*end;
            let (rows, times) = (self.rows.get(range.clone())?, self.times.get(range.clone())?);
            Some(Run { step: *step, rows, times, spans: self.spans.get(range)?, turn: self.turn })
        })
    }
}

/// How many series take turns in these rows, always in the same order.
fn turn(slots: &[u32]) -> Option<usize> {
    let first = slots.first()?;
    let turn = slots.iter().skip(1).position(|slot| slot == first).map_or(slots.len(), |at| at + 1);
    let mut series = slots.get(..turn)?.to_vec();
    series.sort_unstable();
    series.dedup();
    let is_repeated = slots.get(turn..) == slots.get(..slots.len() - turn);
    (series.len() == turn && is_repeated).then_some(turn)
}

/// The positions of rows and their times, by series, and where those of each series end.
type Ordered = (Vec<u32>, Vec<i64>, Vec<(u32, usize)>);

/// The rows of series that take turns.
fn by_turn(slots: &[u32], times: &[i64]) -> Ordered {
    let mut order: Vec<(u32, u32)> = slots.iter().copied().zip(0..).collect();
    order.sort_unstable();
    let (mut rows, mut ordered) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
    let mut ends = Vec::with_capacity(slots.len());
    for (slot, first) in order {
        rows.extend((first..).step_by(slots.len()).take_while(|row| (*row as usize) < times.len()));
        ordered.extend(times.iter().skip(first as usize).step_by(slots.len()));
        ends.push((slot, rows.len()));
    }
    (rows, ordered, ends)
}

/// The rows of any series.
fn by_series(slots: &[u32], series: usize, times: &[i64]) -> Ordered {
    // Where the next row of each series goes.
    let mut places = vec![0; series + 1];
    for slot in slots {
        if let Some(count) = places.get_mut(*slot as usize + 1) {
            *count += 1;
        }
    }
    let mut end = 0;
    for place in &mut places {
        end += *place;
        *place = end;
    }
    let mut rows = vec![0; slots.len()];
    let mut ordered = vec![0; slots.len()];
    for ((row, slot), time) in (0..).zip(slots).zip(times) {
        let Some(place) = places.get_mut(*slot as usize) else { continue };
        if let (Some(to), Some(of)) = (rows.get_mut(*place), ordered.get_mut(*place)) {
            (*to, *of) = (row, *time);
        }
        *place += 1;
    }
    // The next row of a series would go to where its rows end.
    let mut end = 0;
    let mut has_rows = |place: &usize| std::mem::replace(&mut end, *place) < *place;
    let ends = (0..).zip(places.iter().copied().take(series)).filter(|(_, place)| has_rows(place)).collect();
    (rows, ordered, ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_take_turns_are_told_by_series_and_second() {
        // Series 1 has rows in every second, series 0 in the first alone.
        let slots = [1, 0, 1, 0, 1, 1, 3];
        let times = [10, 11, 20, 21, 1_000_030, 1_000_040, 50];
        let mut told = Vec::new();
        let courses = Courses::new(&slots, 4, &times, |slot, times, spans| {
            let own: Vec<i64> =
                times.iter().copied().take_while(|time| time / 1_000_000 == times[0] / 1_000_000).collect();
            told.extend(own.iter().map(|time| (slot, *time)));
            spans.extend(own.iter().map(|time| (time % 1_000) as f64 / 1e6));
            Step { slot, ends_second: times[0] == 1_000_030, ends_minute: false }
        });
        let expected = [(0, 11), (0, 21), (1, 10), (1, 20), (1, 1_000_030), (1, 1_000_040), (3, 50)];
        assert_eq!(told, expected);
        let runs: Vec<_> = courses.runs().map(|run| (run.step.slot, run.step.ends_second, run.rows.to_vec())).collect();
        assert_eq!(runs, [(0, false, vec![1, 3]), (1, false, vec![0, 2]), (1, true, vec![4, 5]), (3, false, vec![6])]);
        assert!(courses.runs().flat_map(|run| run.times).eq(expected.iter().map(|(_, time)| time)));
        assert!(courses.runs().flat_map(|run| run.spans).eq(&[11e-6, 21e-6, 10e-6, 20e-6, 30e-6, 40e-6, 50e-6]));
        assert_eq!(courses.turn, None);
        assert!(!courses.stand(&[5; 7]));
    }

    #[test]
    fn series_that_take_turns_are_found_and_whether_their_values_stand() {
        let found = [
            &[7][..],
            &[1, 1, 1],
            &[1, 0, 2, 1, 0, 2, 1],
            &[0, 1, 1, 0, 1, 1],
            &[0, 1, 0, 0, 1, 0],
            &[0, 1, 2, 0, 2, 1],
            &[],
        ];
        assert_eq!(found.map(turn), [Some(1), Some(1), Some(3), None, None, None, None]);
        let slots: Vec<u32> = (0..300).map(|row| row % 3).collect();
        let times: Vec<i64> = (0..300).collect();
        let courses = Courses::new(&slots, 3, &times, |slot, times, spans| {
            spans.resize(spans.len() + times.len(), 1.0);
            Step { slot, ends_second: false, ends_minute: false }
        });
        assert_eq!(by_turn(&slots[..3], &times), by_series(&slots, 3, &times));
        let mut values: Vec<i64> = (0..300).map(|row| row % 3).collect();
        assert!(courses.stand(&values));
        values[297] = 8;
        assert!(!courses.stand(&values));
        let mut told = Vec::new();
        courses.runs().for_each(|run| run.each_other(&values, |value, _| told.push(value)));
        assert_eq!((told[98], told[99], told[296], told.len()), (8, 1, 2, 297));
        // A float's zero has a sign.
        assert!(!courses.stand(&(0..300).map(|row| if row < 150 { 0.0 } else { -0.0 }).collect::<Vec<f64>>()));
    }
}
