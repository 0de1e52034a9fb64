//! The time by which files expire: the wall clock, unless it has jumped.
//!
//! A wall clock that is wrong must not delete recordings, so a jump is not believed before it has lasted for a day. Until then
//! time goes on as it would have without the jump, by `CLOCK_BOOTTIME`, which never steps and counts suspensions
//! (`clock_gettime(2)`). What is believed is kept in the data folder, because a wrong clock often comes with a boot. How long a
//! host was off is not known: less than [`OFF_US_MAX`] is taken as such, more counts as a jump. A host that is off for long
//! again and again is believed to have been off as long as it was before the last day that it ran.

use std::fmt::Write;

/// A smaller difference is no jump: an ordinary correction of the clock.
const JUMP_US_MIN: i64 = 60 * 1_000_000;
/// A jump is believed after this time.
const LASTS_US_MIN: i64 = 24 * 3600 * 1_000_000;
/// After a boot, the wall clock may be ahead by so much: the host was off.
const OFF_US_MAX: i64 = 18 * 3600 * 1_000_000;

/// What is known is kept anew after this time.
const KEPT_INTERVAL_US: u64 = 10 * 60 * 1_000_000;

/// The time that is believed.
#[derive(Debug)]
pub(super) struct TrustedClock {
    /// Which boot of the host this is.
    boot_id: String,
    /// None before the first reading of a new data folder.
    known: Option<Known>,
    /// The part of it that is kept for later processes.
    kept: Option<Known>,
    /// How far the wall clock was ahead of what was believed at the last reading of this process, µs.
    ahead_us: Option<i64>,
}

/// What was known at the last reading.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    boot_id: String,
    /// `CLOCK_BOOTTIME`, µs.
    boot_us: i64,
    /// The time, µs since the epoch.
    believed_us: i64,
    jump: Option<Jump>,
}

/// A difference between the wall clock and the time that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    /// How far the wall clock is ahead, or behind if negative, µs.
    pub(super) by_us: i64,
    /// How long that has lasted while kymo ran, µs.
    lasted_us: i64,
    /// It was seen while the host ran. Otherwise the host may have been off. A clock that is set by less than [`OFF_US_MAX`] after
    /// a boot may have been wrong since then.
    pub(super) is_step: bool,
}

impl Jump {
    /// How long it must last on until it is believed, µs.
    pub(super) fn left_us(&self) -> i64 {
        LASTS_US_MIN - self.lasted_us
    }
}

impl TrustedClock {
    /// Goes on with what an earlier process has kept ([`text`](Self::text)). Without that, the time is believed to be at least
    /// `newest_us`, the greatest time of a recording.
    pub(super) fn new(boot_id: String, kept: Option<&str>, newest_us: Option<i64>) -> TrustedClock {
        let of_recordings =
            || newest_us.map(|believed_us| Known { boot_id: String::new(), boot_us: 0, believed_us, jump: None });
        let kept = kept.and_then(Known::parse);
        TrustedClock { boot_id, known: kept.clone().or_else(of_recordings), kept, ahead_us: None }
    }

    /// The time to go by, where the wall clock and `CLOCK_BOOTTIME` show these times. Never later than the wall clock.
    pub(super) fn now(&mut self, wall_us: i64, boot_us: i64) -> i64 {
        let boot_id = self.boot_id.clone();
        let believed = Known { boot_id, boot_us, believed_us: wall_us, jump: None };
        let Some(known) = self.known.take() else {
            self.known = Some(believed);
            return wall_us;
        };
        let is_booted = known.boot_id != self.boot_id;
        // Since the boot, or since an earlier one, no time was believed.
        let was_off = is_booted || known.jump.is_some_and(|jump| !jump.is_step);
        let elapsed_us = if is_booted { 0 } else { boot_us.saturating_sub(known.boot_us).max(0) };
        let off_us_max = if was_off { OFF_US_MAX } else { JUMP_US_MIN };
        let expected_us = known.believed_us.saturating_add(elapsed_us);
        let by_us = wall_us.saturating_sub(expected_us);
        // Since the last reading it was set, and by more than a clock may be wrong after a boot.
        let before_us = self.ahead_us.filter(|_| !is_booted);
        let is_set = before_us.is_some_and(|before_us| by_us.saturating_sub(before_us).saturating_abs() > OFF_US_MAX);
        let about = |us: i64| us.saturating_sub(JUMP_US_MIN)..=us.saturating_add(off_us_max);
        // What a jump adds to the time once it has lasted.
        let mut gained_us = 0;
        let jump = match known.jump {
            _ if about(0).contains(&by_us) => None,
            _ if is_set => Some(Jump { by_us, lasted_us: 0, is_step: true }),
            Some(jump) if about(jump.by_us).contains(&by_us) => {
                Some(Jump { by_us, lasted_us: jump.lasted_us.saturating_add(elapsed_us), ..jump })
            }
            // The host was off for long once more. That it was off before goes on to last; only what is more begins anew.
            Some(jump) if !jump.is_step && (1..by_us).contains(&jump.by_us) => {
                let jump = Jump { lasted_us: jump.lasted_us.saturating_add(elapsed_us), ..jump };
                if jump.left_us() > 0 {
                    Some(jump)
                } else {
                    gained_us = jump.by_us;
                    Some(Jump { by_us: by_us - jump.by_us, lasted_us: 0, is_step: false })
                }
            }
            _ => Some(Jump { by_us, lasted_us: 0, is_step: !was_off }),
        };
        let jump = jump.filter(|jump| jump.left_us() > 0);
        let believed_us = expected_us.saturating_add(gained_us);
        let now = if jump.is_some() { Known { believed_us, jump, ..believed } } else { believed };
        self.ahead_us = Some(wall_us.saturating_sub(now.believed_us));
        self.known.insert(now).believed_us.min(wall_us)
    }

    /// The jump that is not believed yet.
    pub(super) fn jump(&self) -> Option<Jump> {
        self.known.as_ref()?.jump
    }

    /// Whether there is more to be kept than is: a jump has begun or ended, or minutes have passed.
    pub(super) fn is_news(&self) -> bool {
        let Some((known, kept)) = self.known.as_ref().zip(self.kept.as_ref()) else { return self.known.is_some() };
        known.boot_id != kept.boot_id
            || known.jump.is_some() != kept.jump.is_some()
            || known.boot_us.abs_diff(kept.boot_us) >= KEPT_INTERVAL_US
    }

    /// Notes that the [text](Self::text) is kept.
    pub(super) fn note_kept(&mut self) {
        self.kept.clone_from(&self.known);
    }

    /// What is to be kept for later processes.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(Known { boot_id, boot_us, believed_us, jump }) = &self.known {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "boot {boot_id}\nsince_boot_us {boot_us}\nwall_clock_us {believed_us}");
            if let Some(Jump { by_us, lasted_us, is_step }) = jump {
                let _ = writeln!(text, "jump_us {by_us}\nlasted_us {lasted_us}\nis_step {is_step}");
            }
        }
        text
    }
}

impl Known {
    /// `None` for a text that kymo did not write whole.
    fn parse(text: &str) -> Option<Known> {
        let find = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let number = |name| find(name)?.parse().ok();
        let jump = match find("jump_us") {
            None => None,
            Some(by_us) => Some(Jump {
                by_us: by_us.parse().ok()?,
                lasted_us: number("lasted_us")?,
                is_step: find("is_step")?.parse().ok()?,
            }),
        };
        let boot_id = find("boot")?.to_owned();
        Some(Known { boot_id, boot_us: number("since_boot_us")?, believed_us: number("wall_clock_us")?, jump })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_US: i64 = 3_600_000_000;
    const DAY_US: i64 = 24 * HOUR_US;
    const YEAR_US: i64 = 365 * DAY_US;
    /// 2026-11-26
    const NOW_US: i64 = 1_795_651_200_000_000;

    /// A host with a wall clock that may be wrong.
    struct Host {
        clock: TrustedClock,
        boots: u32,
        true_us: i64,
        wrong_by_us: i64,
        boot_us: i64,
    }

    impl Host {
        fn new() -> Host {
            let clock = TrustedClock::new("boot-0".into(), None, None);
            Host { clock, boots: 0, true_us: NOW_US, wrong_by_us: 0, boot_us: HOUR_US }
        }

        /// How far the time that is believed is ahead.
        fn error_us(&mut self) -> i64 {
            self.clock.now(self.true_us + self.wrong_by_us, self.boot_us) - self.true_us
        }

        /// Runs for this time, with a reading every minute, or sleeps. Returns the greatest error.
        fn run(&mut self, us: i64) -> i64 {
            let mut error_us = self.error_us();
            for _ in 0..us / 60_000_000 {
                self.pass(60_000_000);
                error_us = error_us.max(self.error_us());
            }
            error_us
        }

        fn pass(&mut self, us: i64) {
            self.true_us += us;
            self.boot_us += us;
        }

        fn restart(&mut self) {
            let text = self.clock.text();
            self.clock = TrustedClock::new(format!("boot-{}", self.boots), Some(&text), Some(NOW_US));
        }

        fn boot(&mut self, off_us: i64) {
            self.boots += 1;
            self.true_us += off_us;
            self.boot_us = 30_000_000;
            self.restart();
        }
    }

    #[test]
    fn a_step_is_believed_once_it_has_lasted_for_a_day() {
        for by_us in [DAY_US, 10 * YEAR_US, -DAY_US, -10 * YEAR_US] {
            let mut host = Host::new();
            assert_eq!(host.run(HOUR_US), 0);
            host.wrong_by_us = by_us;
            assert_eq!(host.run(23 * HOUR_US), by_us.min(0));
            assert!(host.clock.jump().is_some_and(|jump| jump.is_step && jump.by_us == by_us));
            // A restart neither believes it nor begins anew.
            host.restart();
            assert_eq!(host.error_us(), by_us.min(0));
            host.run(2 * HOUR_US);
            assert_eq!((host.error_us(), host.clock.jump()), (by_us, None));
            // The way back is a step, too, and what was written meanwhile does not expire by it.
            host.wrong_by_us = 0;
            assert!(host.run(HOUR_US) <= 0);
        }
    }

    #[test]
    fn a_clock_that_is_set_right_in_time_was_never_believed() {
        for by_us in [DAY_US, 10 * YEAR_US, -DAY_US, -10 * YEAR_US] {
            let mut host = Host::new();
            host.run(HOUR_US);
            host.wrong_by_us = by_us;
            host.run(20 * HOUR_US);
            host.wrong_by_us = 0;
            assert_eq!((host.run(50 * HOUR_US), host.clock.jump()), (0, None));
        }
    }

    #[test]
    fn a_boot_with_a_wrong_clock_changes_nothing() {
        for by_us in [DAY_US, 10 * YEAR_US, -DAY_US, -10 * YEAR_US] {
            let mut host = Host::new();
            host.run(HOUR_US);
            host.wrong_by_us = by_us;
            host.boot(0);
            assert!(host.run(HOUR_US) <= 0);
            host.boot(HOUR_US);
            assert!(host.run(HOUR_US) <= 0);
            host.wrong_by_us = 0;
            host.run(60_000_000);
            // It is believed at once, though an hour off and two boots late.
            host.boot(HOUR_US);
            assert_eq!((host.run(HOUR_US), host.clock.jump()), (0, None));
        }
    }

    #[test]
    fn recordings_tell_the_time_where_nothing_was_kept() {
        for (ahead_us, expected_us) in [(HOUR_US, HOUR_US), (10 * YEAR_US, 0), (-10 * YEAR_US, -10 * YEAR_US)] {
            for kept in
                [None, Some(""), Some("boot b\nsince_boot_us x\nwall_clock_us 7\n"), Some("boot b\nwall_clock_us")]
            {
                let mut clock = TrustedClock::new("b".into(), kept, Some(NOW_US));
                assert_eq!(clock.now(NOW_US + ahead_us, 5), NOW_US + expected_us, "{kept:?}");
            }
        }
    }

    #[test]
    fn a_suspension_and_a_night_off_are_no_jumps() {
        let mut host = Host::new();
        host.run(HOUR_US);
        host.pass(30 * DAY_US);
        assert_eq!((host.error_us(), host.clock.jump()), (0, None));
        for _ in 0..10 {
            host.boot(16 * HOUR_US);
            assert_eq!((host.run(8 * HOUR_US), host.clock.jump()), (0, None));
        }
        // After a fortnight off, a day of running is enough, over however many nights.
        host.boot(14 * DAY_US);
        host.run(8 * HOUR_US);
        assert!(host.clock.jump().is_some_and(|jump| !jump.is_step));
        for _ in 0..3 {
            host.boot(16 * HOUR_US);
            host.run(8 * HOUR_US);
        }
        assert_eq!((host.error_us(), host.clock.jump()), (0, None));
    }

    #[test]
    fn a_step_after_a_time_off_that_is_not_believed_is_still_a_step() {
        for by_us in [-10 * YEAR_US, -DAY_US, DAY_US, 10 * YEAR_US] {
            let mut host = Host::new();
            host.run(HOUR_US);
            host.boot(14 * DAY_US);
            assert!(host.run(HOUR_US) <= 0 && host.clock.jump().is_some_and(|jump| !jump.is_step));
            host.wrong_by_us = by_us;
            assert!(host.run(20 * HOUR_US) <= 0);
            assert!(host.clock.jump().is_some_and(|jump| jump.is_step), "{by_us}");
            host.wrong_by_us = 0;
            assert!(host.run(23 * HOUR_US) <= 0);
            host.run(2 * HOUR_US);
            assert_eq!((host.error_us(), host.clock.jump()), (0, None));
        }
    }

    #[test]
    fn a_host_that_is_off_for_most_of_each_day_does_not_fall_ever_further_behind() {
        for (on_hours, off_hours) in [(5, 19), (4, 20), (1, 23)] {
            let mut host = Host::new();
            host.run(HOUR_US);
            // The most that comes together until the jump before has lasted, and once more until what is more has.
            let behind_us_max = 2 * (24 / on_hours + 1) * off_hours * HOUR_US;
            for day in 0..120 {
                host.boot(off_hours * HOUR_US);
                host.run(on_hours * HOUR_US);
                let error_us = host.error_us();
                assert!((-behind_us_max..=0).contains(&error_us), "{error_us} after {day} days");
            }
            // A clock that is wrong then, for less than a day of running, is not believed.
            for by_us in [DAY_US, 10 * YEAR_US, -DAY_US, -10 * YEAR_US] {
                host.wrong_by_us = by_us;
                assert!(host.run(HOUR_US) <= 0);
                host.boot(off_hours * HOUR_US);
                assert!(host.run(HOUR_US) <= 0);
                host.wrong_by_us = 0;
                assert!(host.run(HOUR_US) <= 0);
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_never_ahead_of_the_truth_by_jumps_that_last_less_than_a_day(
            events in prop::collection::vec((0..4_u8, -20 * YEAR_US..20 * YEAR_US, 1..10_i64), 1..30),
        ) {
            let mut host = Host::new();
            host.run(HOUR_US);
            for (event, by_us, hours) in events {
                match event {
                    0 => host.wrong_by_us = by_us,
                    1 => host.restart(),
                    2 => host.boot(hours * HOUR_US),
                    _ => host.wrong_by_us = 0,
                }
                // A host that boots may have been off for so long, of which a wrong clock can only make more.
                prop_assert!(host.run(HOUR_US / 2) <= OFF_US_MAX);
                host.wrong_by_us = 0;
                host.run(60_000_000);
            }
        }

        #[test]
        fn what_is_kept_is_read_back(boot_us: i64, believed_us: i64, by_us: i64, lasted_us: i64, is_step: bool, jumps: bool) {
            let jump = jumps.then_some(Jump { by_us, lasted_us, is_step });
            let known = Known { boot_id: "a-b".into(), boot_us, believed_us, jump };
            let clock = TrustedClock { boot_id: "a-b".into(), known: Some(known.clone()), kept: None, ahead_us: None };
            prop_assert_eq!(Known::parse(&clock.text()), Some(known));
        }
    }
}
