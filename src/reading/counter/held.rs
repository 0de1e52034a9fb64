//! Counts that step back by a little, held at their highest values.

use crate::reading::value::US_PER_SECOND;
use crate::record::ABSENT;

/// The kernel lets CPU times step back by less than this: idle, waiting for I/O, steal and guest times. A time that falls
/// by this or more has begun anew, as idle time does on many kernels when a CPU comes back.
pub(crate) const CPU_TIME_RESTART_MIN_US: i64 = 3 * US_PER_SECOND;

/// `N` counts of one thing, and the highest value of each since it began anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<const N: usize> {
    highest: [i64; N],
    /// What each grew by at the last call of [`hold`](Self::hold).
    grown: [i64; N],
}

impl<const N: usize> Default for Held<N> {
    fn default() -> Held<N> {
        Held { highest: [ABSENT; N], grown: [0; N] }
    }
}

impl<const N: usize> Held<N> {
    /// Raises the counts that have stepped back to their highest values, except those that have begun anew. Absent counts
    /// stay absent.
    pub(crate) fn hold(&mut self, counts: &mut [i64; N], restart_min: i64) {
        let all_begin_anew = all_begin_anew(counts, &self.highest, restart_min);
        for ((now, highest), grown) in counts.iter_mut().zip(&mut self.highest).zip(&mut self.grown) {
            *grown = 0;
            if *now == ABSENT {
                continue;
            }
            if *highest == ABSENT {
                *highest = *now;
            } else if *now >= *highest || all_begin_anew || begins_anew(*now, *highest, restart_min) {
                *grown = super::growth(*highest, *now);
                *highest = *now;
            }
            *now = *highest;
        }
    }

    /// What each count grew by at the last call of [`hold`](Self::hold): nothing at its first value and while it is held.
    pub(crate) fn grown(&self) -> &[i64; N] {
        &self.grown
    }
}

/// Whether a count has begun anew, and not only stepped back: it fell by `restart_min` or more.
pub(crate) fn begins_anew(now: i64, before: i64, restart_min: i64) -> bool {
    before.saturating_sub(now) >= restart_min
}

/// Whether all counts have begun anew: one surely, and each of the others by half of its value or more.
pub(crate) fn all_begin_anew<const N: usize>(now: &[i64; N], before: &[i64; N], restart_min: i64) -> bool {
    let pairs = || now.iter().zip(before).filter(|(now, before)| **now != ABSENT && **before > 0);
    pairs().any(|(now, before)| begins_anew(*now, *before, restart_min))
        && pairs().all(|(now, before)| begins_anew(*now, *before, restart_min) || *now <= *before / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course<const N: usize>(ticks: &[[i64; N]]) -> Vec<[i64; N]> {
        let mut held = Held::default();
        let hold = |counts: &[i64; N]| {
            let mut counts = *counts;
            held.hold(&mut counts, 100);
            counts
        };
        ticks.iter().map(hold).collect()
    }

    #[test]
    fn a_step_back_is_held_until_the_count_has_passed_it() {
        assert_eq!(course(&[[500], [501], [500], [402], [501], [503]]), [[500], [501], [501], [501], [501], [503]]);
        assert_eq!(course(&[[500], [ABSENT], [499]]), [[500], [ABSENT], [500]]);
    }

    #[test]
    fn a_count_begins_anew_alone_and_others_stay_held() {
        assert_eq!(course(&[[500, 500], [400, 499], [401, 500]]), [[500, 500], [400, 500], [401, 500]]);
        assert_eq!(course(&[[500, 20], [400, 10], [401, 12]]), [[500, 20], [400, 10], [401, 12]], "both began anew");
        assert_eq!(
            course(&[[500, 500, 7], [500, 499, 8], [400, 500, 9], [401, 499, 9]]),
            [[500, 500, 7], [500, 500, 8], [400, 500, 9], [401, 500, 9]]
        );
    }

    #[test]
    fn what_a_count_grew_by_is_known() {
        let mut held = Held::<3>::default();
        for (mut counts, grown) in [([5, 500, ABSENT], [0, 0, 0]), ([6, 499, 3], [1, 0, 0]), ([6, 100, 5], [0, 100, 2])]
        {
            held.hold(&mut counts, 100);
            assert_eq!(held.grown(), &grown);
        }
    }
}
