//! Times of rows on a clock that never steps.
//!
//! Rows have the time of the wall clock, which may be set forward or back by years. How long a condition holds, and how long a
//! series has had no rows, is measured by `CLOCK_MONOTONIC` (`clock_gettime(2)`). It stands still while the host is suspended.

use crate::sampler::{monotonic_ns, wall_us};

/// A tick begins up to this long before its rows can be drained. If its wall clock says more, that clock was set since.
const TICK_US_MAX: i64 = 1_000_000;

/// Rings are emptied more often than this. Time beyond it is time in which kymo did not run.
const DRAIN_US_MAX: i64 = 2_000_000;

/// One moment on both clocks, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock, since the epoch.
    pub wall_us: i64,
    /// `CLOCK_MONOTONIC`.
    pub monotonic_us: i64,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Moment {
        Moment { wall_us: wall_us(), monotonic_us: monotonic_ns() / 1_000 }
    }
}

/// Finds when rows were sampled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    /// When the rings were last emptied before `now`: later rows are newer.
    before: Moment,
    now: Moment,
}

impl Timeline {
    pub(super) fn new(now: Moment) -> Timeline {
        Timeline { before: now, now }
    }

    /// The rings were emptied at `now`.
    pub(super) fn set_now(&mut self, now: Moment) {
        self.now = now;
    }

    /// The rows of the rings were taken. Returns for how many of the µs since the last time kymo did not run: it was stopped,
    /// or its host was.
    pub(super) fn finish(&mut self) -> i64 {
        let passed_us = self.now.monotonic_us - self.before.monotonic_us;
        self.before = self.now;
        (passed_us - DRAIN_US_MAX).max(0)
    }

    /// When a row was sampled, in µs of `CLOCK_MONOTONIC`, by its time. If the wall clock was set since the rings were last
    /// emptied, a row may have its time from before that. A result that is wrong is so by the time between two drains and one
    /// second at most.
    pub(super) fn place(&self, time_us: i64) -> i64 {
        let by = |clocks: Moment| clocks.monotonic_us.saturating_sub(clocks.wall_us.saturating_sub(time_us));
        let (since_us, now_us) = (self.before.monotonic_us, self.now.monotonic_us);
        let oldest_us = since_us.saturating_sub(TICK_US_MAX).min(now_us);
        let (by_now, by_before) = (by(self.now), by(self.before));
        let within = |from_us: i64| [by_now, by_before].into_iter().find(|at_us| (from_us..=now_us).contains(at_us));
        within(since_us).or_else(|| within(oldest_us)).unwrap_or_else(|| by_now.clamp(oldest_us, now_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const YEAR: i64 = 365 * 86_400 * SECOND;

    #[test]
    fn a_step_of_the_wall_clock_moves_no_row() {
        let start = Moment { wall_us: 50 * YEAR, monotonic_us: 1_000 * SECOND };
        let mut timeline = Timeline::new(start);
        let drain = |seconds: i64, step_us: i64| Moment {
            wall_us: start.wall_us + seconds * SECOND + step_us,
            monotonic_us: start.monotonic_us + seconds * SECOND,
        };
        timeline.set_now(drain(10, 0));
        assert_eq!(timeline.place(start.wall_us + 7 * SECOND), start.monotonic_us + 7 * SECOND);
        assert_eq!(timeline.finish(), 8 * SECOND);
        for step_us in [10 * YEAR, -10 * YEAR, 86_400 * SECOND, -86_400 * SECOND, 3 * SECOND, -3 * SECOND] {
            timeline.set_now(drain(12, step_us));
            // One row from before the step, one from after it.
            let before = timeline.place(start.wall_us + 11 * SECOND);
            assert_eq!(before, start.monotonic_us + 11 * SECOND, "after {step_us}");
            let after = timeline.place(start.wall_us + 11 * SECOND + step_us);
            assert_eq!(after, start.monotonic_us + 11 * SECOND);
        }
        assert_eq!(timeline.place(i64::MIN), start.monotonic_us + 9 * SECOND);
        assert_eq!(timeline.place(i64::MAX), start.monotonic_us + 12 * SECOND);
    }

    #[test]
    fn now_is_on_both_clocks() {
        let (before, now) = (Moment::now(), Moment::now());
        assert!(before.monotonic_us <= now.monotonic_us && now.wall_us > 50 * YEAR / 10 * 9);
    }
}
