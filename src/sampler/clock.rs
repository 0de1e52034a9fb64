//! Suspensions and steps of the wall clock, seen from one tick to the next.
//!
//! `CLOCK_MONOTONIC` never steps and stops while the host is suspended (`clock_gettime(2)`). So a jump of the wall
//! clock against it is a step or a suspension. `CLOCK_BOOTTIME`, which continues during suspension, tells them apart.

use rustix::time::ClockId;

use super::{Tick, clock_us};

/// A smaller difference is no jump: the clocks are read one after the other.
const JUMP_MIN_US: i64 = 10_000;
/// The kernel slews the wall clock by up to a 1000th: half of it the frequency (`adjtimex(2)`), half `adjtime(3)`.
const SLEW_PARTS: i64 = 1_000;
/// A reading of the clocks that took longer was interrupted.
const READING_MAX_US: i64 = 1_000;
const READINGS_MAX: usize = 8;

/// How far the clocks are ahead of `CLOCK_MONOTONIC`, µs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    wall_us: i64,
    boot_us: i64,
}

/// What happened to the clocks between two ticks, µs. At least one value is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    /// The time that the host was suspended.
    pub(super) suspended_us: i64,
    /// The time that the wall clock was set forward, or back if negative.
    pub(super) stepped_us: i64,
}

/// The clocks as of the last tick.
#[derive(Debug)]
pub(super) struct Clocks {
    known: Offsets,
    at_us: i64,
}

impl Clocks {
    pub(super) fn new() -> Clocks {
        Clocks { known: read(), at_us: super::monotonic_ns() / 1_000 }
    }

    /// The jump of the clocks since the last tick, if there was one. Reads a clock only if a jump is likely.
    pub(super) fn jump(&mut self, tick: &Tick) -> Option<Jump> {
        self.jump_by(tick, read)
    }

    fn jump_by(&mut self, tick: &Tick, read: impl FnOnce() -> Offsets) -> Option<Jump> {
        let at_us = tick.monotonic_ns / 1_000;
        let allowed_us = JUMP_MIN_US + (at_us - self.at_us).max(0) / SLEW_PARTS;
        self.at_us = at_us;
        let wall_us = tick.time - at_us;
        if (wall_us - self.known.wall_us).abs() < allowed_us {
            // A slew may last long, so the known offset follows it.
            self.known.wall_us = wall_us;
            return None;
        }
        // The difference may also be due to an interruption between the tick's two readings, so read again.
        let before = std::mem::replace(&mut self.known, read());
        let beyond = |us: i64| if us.abs() < allowed_us { 0 } else { us };
        let suspended_us = beyond(self.known.boot_us - before.boot_us).max(0);
        let stepped_us = beyond(self.known.wall_us - before.wall_us - suspended_us);
        (suspended_us != 0 || stepped_us != 0).then_some(Jump { suspended_us, stepped_us })
    }
}

fn read() -> Offsets {
    let mut best = (i64::MAX, Offsets { wall_us: 0, boot_us: 0 });
    for _ in 0..READINGS_MAX {
        let before = clock_us(ClockId::Monotonic);
        let (wall, boot) = (clock_us(ClockId::Realtime), clock_us(ClockId::Boottime));
        let took = clock_us(ClockId::Monotonic) - before;
        if took < best.0 {
            best = (took, Offsets { wall_us: wall - before, boot_us: boot - before });
        }
        if took <= READING_MAX_US {
            break;
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: i64 = 3_600_000_000;

    fn clocks() -> Clocks {
        Clocks { known: Offsets { wall_us: HOUR_US, boot_us: 0 }, at_us: 0 }
    }

    /// A tick at `at_us` of the monotonic clock, with the wall clock `wall_us` ahead.
    fn tick(at_us: i64, wall_us: i64) -> Tick {
        Tick { time: at_us + wall_us, monotonic_ns: at_us * 1_000 }
    }

    fn unread() -> Offsets {
        unreachable!("the clocks are not read again at an ordinary tick")
    }

    #[test]
    fn a_slewed_clock_does_not_jump() {
        let mut clocks = clocks();
        for second in 1..100_000 {
            let at_us = second * 1_000_000;
            assert_eq!(clocks.jump_by(&tick(at_us, HOUR_US + at_us / 1_000), unread), None);
        }
        let mut clocks = Clocks { at_us: 0, ..clocks };
        let slewed = clocks.known.wall_us + 24 * HOUR_US / 1_000;
        assert_eq!(clocks.jump_by(&tick(24 * HOUR_US, slewed), unread), None);
    }

    #[test]
    fn an_interrupted_reading_is_no_jump() {
        let mut clocks = clocks();
        let offsets = clocks.known;
        assert_eq!(clocks.jump_by(&tick(1_000, HOUR_US + 50_000), || offsets), None);
        assert_eq!(clocks.jump_by(&tick(2_000, HOUR_US), unread), None);
    }

    #[test]
    fn steps_and_suspensions_are_told_apart_with_their_sizes() {
        let mut clocks = clocks();
        let mut jump = |at_us, wall_us, boot_us| {
            let offsets = Offsets { wall_us, boot_us };
            let jump = clocks.jump_by(&tick(at_us, wall_us), || offsets);
            jump.map(|jump| (jump.suspended_us, jump.stepped_us))
        };
        assert_eq!(jump(1_000, HOUR_US - 20_000, 0), Some((0, -20_000)));
        assert_eq!(jump(2_000, 3 * HOUR_US - 20_000, 2 * HOUR_US), Some((2 * HOUR_US, 0)));
        assert_eq!(jump(3_000, 5 * HOUR_US, 3 * HOUR_US), Some((HOUR_US, HOUR_US + 20_000)));
        assert_eq!(jump(4_000, 5 * HOUR_US, 3 * HOUR_US), None);
    }

    #[test]
    fn the_real_clocks_stand_still_against_each_other() {
        let mut clocks = Clocks::new();
        for _ in 0..100 {
            let tick = Tick { time: super::super::wall_us(), monotonic_ns: super::super::monotonic_ns() };
            assert_eq!(clocks.jump(&tick), None);
        }
    }
}
