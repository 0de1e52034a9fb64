//! Counts that the kernel keeps in few bits and that start again at zero.

use crate::record::ABSENT;

/// A count of 32 bits has this many values.
pub(crate) const RANGE_32_BITS: i64 = 1 << 32;
/// A fall by the range is a wrap if the count has risen by less than the range ÷ this meanwhile. What begins anew falls by
/// any amount.
const RISE_PART_MAX: i64 = 4;

/// `N` counts of one thing, and what wraps have taken from each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wraps<const N: usize> {
    last: [i64; N],
    lost: [i64; N],
}

impl<const N: usize> Default for Wraps<N> {
    fn default() -> Wraps<N> {
        Wraps { last: [ABSENT; N], lost: [0; N] }
    }
}

impl<const N: usize> Wraps<N> {
    /// Adds what wraps have taken to the counts, which wrap to zero at `range`. A count that falls for another reason begins
    /// anew. Absent counts stay absent.
    pub(crate) fn carry(&mut self, counts: &mut [i64; N], range: i64) {
        for ((now, last), lost) in counts.iter_mut().zip(&mut self.last).zip(&mut self.lost) {
            if *now == ABSENT {
                continue;
            }
            if *now < *last {
                *lost = wrapped(*last, *now, range).map_or(0, |taken| lost.saturating_add(taken));
            }
            *last = *now;
            *now = now.saturating_add(*lost);
        }
    }
}

/// What wraps at `range` took from a count, or from a sum of such counts, that fell; `None` if it fell for another reason.
pub(crate) fn wrapped(before: i64, now: i64, range: i64) -> Option<i64> {
    let fall = before.checked_sub(now).filter(|fall| *fall > 0)?;
    let taken = fall.checked_add(range - 1)? / range * range;
    (taken - fall < range / RISE_PART_MAX).then_some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fall_means() {
        const RANGE: i64 = RANGE_32_BITS;
        assert_eq!(wrapped(RANGE - 1, 0, RANGE), Some(RANGE));
        assert_eq!(wrapped(3 * RANGE, RANGE + 5, RANGE), Some(2 * RANGE));
        assert_eq!(wrapped(3 * RANGE, RANGE, RANGE), Some(2 * RANGE));
        for (before, now) in [(5, 5), (5, 6), (RANGE / 2, 0), (RANGE / 4 * 3, 0), (RANGE + 5, 0), (0, i64::MIN)] {
            assert_eq!(wrapped(before, now, RANGE), None, "{before} {now}");
        }
    }

    #[test]
    fn counts_go_on_over_wraps_and_begin_anew_alone() {
        let mut wraps = Wraps::<2>::default();
        let mut carry = |mut counts: [i64; 2]| {
            wraps.carry(&mut counts, 1_000);
            counts
        };
        assert_eq!(carry([990, 400]), [990, 400]);
        assert_eq!(carry([5, ABSENT]), [1_005, ABSENT]);
        assert_eq!(carry([999, 100]), [1_999, 100]);
        assert_eq!(carry([0, 101]), [2_000, 101]);
        assert_eq!(carry([500, 102]), [2_500, 102]);
        assert_eq!(carry([100, 103]), [100, 103]);
    }
}
