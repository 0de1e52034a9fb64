//! How long a condition held: in total, and in its longest run.
//!
//! Each row says whether the condition holds from its time on, until the next row. What holds after the last row is unknown. With
//! a limit, a row says nothing beyond that length of time, so a gap in the rows is not taken for more than that, and it ends a
//! run.

use super::growth::Counter;
use super::peak::Unclear;
use super::run::Sorted;

/// How long a condition held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// In total, µs.
    pub(super) total_us: i64,
    /// The longest run, and the first one of several. `None` if the condition never held.
    pub(super) longest: Option<Run>,
}

/// A time through which a condition held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start_us: i64,
    pub(super) length_us: i64,
}

/// How long the condition held in rows that are 1 where it holds and 0 elsewhere; `None` without rows.
///
/// # Errors
/// If one time has rows with different values, or several rows at all and they are `several` series.
pub(super) fn held<C: Counter>(
    rows: &Sorted<'_, C>,
    limit_us: Option<i64>,
    several: bool,
) -> Result<Option<Held>, Unclear> {
    let mut held = Held::default();
    let mut run: Option<Run> = None;
    let mut before: Option<(i64, bool)> = None;
    for row in rows.points() {
        let (time, value) = row?;
        let holds = value.is_ne(C::ZERO);
        if let Some((since, held_before)) = before {
            if time == since && (several || holds != held_before) {
                return Err(Unclear::Clash(time));
            }
            let apart_us = time - since;
            let lasted_us = limit_us.map_or(apart_us, |limit| apart_us.min(limit));
            if let Some(run) = &mut run {
                run.length_us += lasted_us;
                held.total_us += lasted_us;
                held.compare(*run);
            }
            if !holds || lasted_us < apart_us {
                run = None;
            }
        }
        if holds && run.is_none() {
            held.compare(*run.insert(Run { start_us: time, length_us: 0 }));
        }
        before = Some((time, holds));
    }
    Ok(before.map(|_| held))
}

impl Held {
    fn compare(&mut self, run: Run) {
        if self.longest.is_none_or(|longest| run.length_us > longest.length_us) {
            self.longest = Some(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::course::Course;
    use super::super::course::tests::config;
    use super::*;

    fn held_of(points: &[(i64, i64)], limit_us: Option<i64>) -> Result<Option<Held>, Unclear> {
        let mut course = Course::default();
        points.iter().for_each(|(time, holds)| course.push(*time, *holds));
        held(&course.sorted(), limit_us, false)
    }

    proptest! {
        #![proptest_config(config())]

        /// Asks for each µs whether the condition holds in it.
        #[test]
        fn every_moment_counts_once(
            steps in prop::collection::vec((1..12_i64, 0..2_i64, 0..1_000_u16), 0..40),
            limit in prop::option::of(1..12_i64),
        ) {
            let mut time = 0;
            let mut keyed: Vec<(u16, (i64, i64))> = steps.iter().map(|(later, holds, key)| {
                time += later;
                (*key, (time, *holds))
            }).collect();
            let points: Vec<(i64, i64)> = keyed.iter().map(|(_, point)| *point).collect();
            keyed.sort_unstable();
            let shuffled: Vec<(i64, i64)> = keyed.into_iter().map(|(_, point)| point).collect();
            let told = held_of(&shuffled, limit).unwrap();
            prop_assert_eq!(told.is_some(), !points.is_empty());
            let (first, last) = points.first().map(|first| first.0).zip(points.last().map(|last| last.0)).unwrap_or_default();
            let holds = |moment: i64| {
                let (since, holds) = points.iter().rev().find(|(time, _)| *time <= moment).copied().unwrap_or_default();
                holds != 0 && limit.is_none_or(|limit| moment - since < limit)
            };
            let length = |start: i64| (start..last).find(|moment| !holds(*moment)).unwrap_or(last) - start;
            let total_us = (first..last).map(|moment| i64::from(holds(moment))).sum();
            // A run begins at a row, which may be the last one.
            let runs = points.iter().rev().filter(|(_, holds)| *holds != 0);
            let runs = runs.map(|(time, _)| Run { start_us: *time, length_us: length(*time) });
            let longest = runs.max_by_key(|run| run.length_us);
            prop_assert_eq!(told.unwrap_or_default(), Held { total_us, longest });
        }
    }

    #[test]
    fn a_gap_ends_a_run_if_there_is_a_limit() {
        let points = [(0, 1), (10, 1), (20, 0), (30, 1), (1_000, 1), (1_010, 0)];
        let whole = Held { total_us: 1_000, longest: Some(Run { start_us: 30, length_us: 980 }) };
        assert_eq!(held_of(&points, None), Ok(Some(whole)));
        let limited = Held { total_us: 50, longest: Some(Run { start_us: 0, length_us: 20 }) };
        assert_eq!(held_of(&points, Some(20)), Ok(Some(limited)));
    }

    #[test]
    fn rows_of_one_time_are_of_several_series() {
        assert_eq!(held_of(&[(1, 0), (5, 1), (5, 0)], None), Err(Unclear::Clash(5)));
        let mut course = Course::default();
        [(1, 0), (5, 1), (5, 1)].iter().for_each(|(time, holds)| course.push(*time, *holds));
        assert!(held(&course.sorted(), None, false).is_ok());
        assert_eq!(held(&course.sorted(), None, true), Err(Unclear::Clash(5)));
    }
}
