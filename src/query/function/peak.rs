//! The greatest growth of a counter over any window of one length, and when that window began.
//!
//! Between two rows the counter is taken to grow evenly, as `rate` takes it; a gap has its average. A reset begins at zero. The
//! growth of a moving window then changes evenly, too, until one of its ends meets a row. So it is greatest in one of the windows
//! that begin or end at a row.

use super::growth::{Counter, add, clash, step};
use super::run::{Disorder, Points, Sorted};

/// A window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Peak {
    /// How much the counter grew in it.
    pub(super) growth: f64,
    /// Where it begins, µs.
    pub(super) start_us: i64,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unclear {
    /// There are rows of several series at this time.
    Clash(i64),
    Disorder,
}

impl From<Disorder> for Unclear {
    fn from(_: Disorder) -> Unclear {
        Unclear::Disorder
    }
}

/// The window of this length in which the counter grew most, and the first of several. `None` if no window lies between the first
/// and the last row.
pub(super) fn peak<C: Counter>(rows: &Sorted<'_, C>, width_us: i64) -> Result<Option<Peak>, Unclear> {
    let (Some(mut begin), Some(mut end)) = (Segments::of(rows)?, Segments::of(rows)?) else { return Ok(None) };
    let mut start_us = begin.from.time;
    while end.to.time < start_us.saturating_add(width_us) {
        if !end.advance()? {
            return Ok(None);
        }
    }
    let mut best: Option<Peak> = None;
    loop {
        let whole = end.from.grown.sub_wrapping(begin.from.grown).float();
        let growth = whole + end.growth_until(start_us.saturating_add(width_us)) - begin.growth_until(start_us);
        if best.is_none_or(|best| growth > best.growth) {
            best = Some(Peak { growth, start_us });
        }
        // To the next window that begins or ends at a row. It begins later, so both ends come to the last row in the end.
        while begin.to.time <= start_us {
            if !begin.advance()? {
                return Ok(best);
            }
        }
        while end.to.time.saturating_sub(width_us) <= start_us {
            if !end.advance()? {
                return Ok(best);
            }
        }
        start_us = begin.to.time.min(end.to.time.saturating_sub(width_us));
    }
}

/// A row, and how much the counter grew up to it.
#[derive(Clone, Copy, Debug)]
struct Knot<C> {
    time: i64,
    value: C,
    grown: C,
}

/// The time between two neighbouring rows, and then between the next two.
struct Segments<'a, C> {
    rows: Points<'a, C>,
    from: Knot<C>,
    to: Knot<C>,
}

impl<'a, C: Counter> Segments<'a, C> {
    fn of(rows: &Sorted<'a, C>) -> Result<Option<Segments<'a, C>>, Disorder> {
        let mut rows = rows.points();
        let Some(first) = rows.next() else { return Ok(None) };
        let (time, value) = first?;
        let first = Knot { time, value, grown: C::ZERO };
        Ok(Some(Segments { rows, from: first, to: first }))
    }

    /// Whether there is another one.
    fn advance(&mut self) -> Result<bool, Unclear> {
        for row in self.rows.by_ref() {
            let (time, value) = row?;
            if let Some(time) = clash((self.to.time, self.to.value), (time, value)) {
                return Err(Unclear::Clash(time));
            }
            if time > self.to.time {
                let grown = add(self.to.grown, step(self.to.value, value));
                self.from = std::mem::replace(&mut self.to, Knot { time, value, grown });
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The growth from the first row of the segment to a time in it.
    fn growth_until(&self, time: i64) -> f64 {
        let whole = self.to.grown.sub_wrapping(self.from.grown).float();
        if time >= self.to.time {
            return whole;
        }
        // Times of one recording are less than 2^53 µs apart.
        whole * ((time - self.from.time) as f64 / (self.to.time - self.from.time) as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::course::Course;
    use super::super::course::tests::config;
    use super::*;

    fn peak_of(points: &[(i64, i64)], width_us: i64) -> Result<Option<Peak>, Unclear> {
        let mut course = Course::default();
        points.iter().for_each(|(time, value)| course.push(*time, *value));
        peak(&course.sorted(), width_us)
    }

    /// The growth up to a time, by a search through all points.
    fn grown(points: &[(i64, i64)], time: i64) -> f64 {
        points.windows(2).fold(0.0, |sum, pair| {
            let ((t0, v0), (t1, v1)) = (pair[0], pair[1]);
            let more = if v1 < v0 { v1.max(0) } else { v1 - v0 } as f64;
            let share = ((time - t0) as f64 / (t1 - t0) as f64).clamp(0.0, 1.0);
            sum + more * share
        })
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn no_window_has_more_growth_than_the_peak(
            steps in prop::collection::vec((1..12_i64, 0..50_i64, prop::bool::weighted(0.1), 0..1_000_u16), 1..30),
            (width, doubled) in (1..60_i64, prop::bool::ANY),
        ) {
            let (mut time, mut value) = (0, 0);
            let mut keyed: Vec<(u16, (i64, i64))> = steps.iter().map(|(later, more, reset, key)| {
                time += later;
                value = if *reset { *more } else { value + more };
                (*key, (time, value))
            }).collect();
            let points: Vec<(i64, i64)> = keyed.iter().map(|(_, point)| *point).collect();
            if doubled {
                keyed.extend(keyed.clone());
            }
            keyed.sort_unstable();
            let shuffled: Vec<(i64, i64)> = keyed.into_iter().map(|(_, point)| point).collect();
            let told = peak_of(&shuffled, width).unwrap();
            let (first, last) = (points[0].0, points[points.len() - 1].0);
            // Every window that begins at a whole µs.
            let growth = |start: i64| grown(&points, start + width) - grown(&points, start);
            let most = (first..=last - width).map(growth).max_by(f64::total_cmp);
            prop_assert_eq!(told.is_some(), most.is_some());
            if let (Some(told), Some(most)) = (told, most) {
                prop_assert!((told.growth - most).abs() < 1e-9, "{told:?}, not {most}");
                prop_assert!((growth(told.start_us) - most).abs() < 1e-9, "{told:?} is elsewhere");
                let before = (first..told.start_us).map(growth).max_by(f64::total_cmp);
                prop_assert!(before.is_none_or(|before| before < most + 1e-9));
            }
        }
    }

    #[test]
    fn a_burst_is_found_with_its_beginning() {
        // 10 a tick, and 500 in one.
        let points: Vec<(i64, i64)> =
            (0..100).map(|at| (1_000 * at, 10 * at + if at > 60 { 490 } else { 0 })).collect();
        assert_eq!(peak_of(&points, 1_000), Ok(Some(Peak { growth: 500.0, start_us: 60_000 })));
        assert_eq!(peak_of(&points, 10_000), Ok(Some(Peak { growth: 590.0, start_us: 51_000 })));
        assert_eq!(peak_of(&points, 99_000), Ok(Some(Peak { growth: 1_480.0, start_us: 0 })));
        assert_eq!(peak_of(&points, 99_001), Ok(None));
        assert_eq!(peak_of(&points, i64::MAX), Ok(None));
        // Half of the tick.
        assert_eq!(peak_of(&points, 500), Ok(Some(Peak { growth: 250.0, start_us: 60_000 })));
    }

    #[test]
    fn too_few_rows_and_rows_of_several_counters_are_told() {
        assert_eq!(peak_of(&[], 10), Ok(None));
        assert_eq!(peak_of(&[(5, 1)], 10), Ok(None));
        assert_eq!(peak_of(&[(5, 1), (5, 1)], 10), Ok(None));
        assert_eq!(peak_of(&[(5, 1), (20, 1), (20, 7)], 10), Err(Unclear::Clash(20)));
    }
}
