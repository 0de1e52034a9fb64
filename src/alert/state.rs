//! The state machine of a rule: inactive → pending → firing → resolved, for each series separately.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;
use serde::Serialize;

/// How many labels a table may have for rules to watch it.
pub const LABELS_PER_SERIES_MAX: usize = 4;

/// How many series of one rule can be pending or firing at once. Rows of further ones are counted and not watched.
pub(super) const SERIES_MAX: usize = 10_000;

/// A pending series without a row for longer than this starts its hold anew: its condition was not seen to hold.
const SILENCE_US_MAX: i64 = 60_000_000;

/// A firing series without a row for this long, while its table gets rows, is gone and resolves.
pub(super) const GONE_AFTER_US: i64 = 300_000_000;

/// What a condition says about a row. They are ordered so that SQL's AND is the minimum and OR the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Truth {
    False,
    /// A value it needs is absent: the row neither fires nor resolves.
    Unknown,
    True,
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Truth::True } else { Truth::False }
    }
}

impl std::ops::Not for Truth {
    type Output = Truth;

    fn not(self) -> Truth {
        match self {
            Truth::False => Truth::True,
            Truth::Unknown => Truth::Unknown,
            Truth::True => Truth::False,
        }
    }
}

/// A series of one table: its labels' dictionary keys, packed in the order of the label columns.
///
/// A key of one family stands for the same text as long as a series is known here: the drain thread asks before a text gives way
/// to another ([`Engine::release`](super::Engine::release)). So keys tell series apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct SeriesKey(u128);

impl SeriesKey {
    /// This series with one more label. Up to [`LABELS_PER_SERIES_MAX`] fit.
    pub(super) fn with(self, key: i32) -> Self {
        SeriesKey(self.0 << 32 | u128::from(key.cast_unsigned()))
    }

    /// The dictionary key of the label at `index` of `count`.
    pub(super) fn label(self, index: usize, count: usize) -> i32 {
        let shifted = self.0 >> (32 * (count - 1 - index));
        // Only the lowest 32 bits are this label's.
        u32::try_from(shifted & u128::from(u32::MAX)).unwrap_or(u32::MAX).cast_signed()
    }
}

/// A map by series. Keys are small numbers that kymo chooses, so the hasher need not resist attacks.
pub(super) type SeriesMap<T> = HashMap<SeriesKey, T, FixedState>;

/// A change of a series that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transition {
    /// The condition held for the rule's `for`.
    Firing,
    /// The condition failed for the rule's `resolve_after`, or the series is gone.
    Resolved,
}

impl Transition {
    /// `firing` or `resolved`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Transition::Firing => "firing",
            Transition::Resolved => "resolved",
        }
    }
}

/// One rule's pending and firing series.
#[derive(Debug)]
pub(super) struct Machine {
    hold_us: i64,
    resolve_after_us: i64,
    series: SeriesMap<Series>,
    firing: usize,
    excess: u64,
}

#[derive(Clone, Copy, Debug)]
struct Series {
    /// When it last had a row.
    seen_us: i64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The condition holds since then.
    Pending { since_us: i64 },
    /// Told as firing. Since when the condition fails, if it does.
    Firing { failing_since_us: Option<i64> },
}

impl Machine {
    /// A machine that fires once the condition held for `hold_us` and resolves once it failed for `resolve_after_us`.
    pub(super) fn new(hold_us: i64, resolve_after_us: i64) -> Self {
        Machine { hold_us, resolve_after_us, series: SeriesMap::default(), firing: 0, excess: 0 }
    }

    /// Whether every series is inactive. Then only a true row can change anything.
    pub(super) fn is_quiet(&self) -> bool {
        self.series.is_empty()
    }

    /// Takes those of the keys away that a pending or firing series has, of so many labels.
    pub(super) fn take_held(&self, keys: &mut BTreeSet<i32>, labels: usize) {
        for series in self.series.keys() {
            (0..labels).for_each(|index| _ = keys.remove(&series.label(index, labels)));
        }
    }

    /// How many series are pending.
    pub(super) fn pending(&self) -> usize {
        self.series.len() - self.firing
    }

    /// How many rows were not watched because of [`SERIES_MAX`], since the last call.
    pub(super) fn take_excess(&mut self) -> u64 {
        std::mem::take(&mut self.excess)
    }

    /// The firing series, in no order.
    pub(super) fn firing(&self) -> impl Iterator<Item = SeriesKey> {
        self.series.iter().filter(|(_, series)| matches!(series.phase, Phase::Firing { .. })).map(|(key, _)| *key)
    }

    /// Takes a row of series `key` at `time_us`, for which the condition is `holds`.
    pub(super) fn step(&mut self, key: SeriesKey, time_us: i64, holds: Truth) -> Option<Transition> {
        let full = self.series.len() >= SERIES_MAX;
        let mut entry = match self.series.entry(key) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => {
                if holds != Truth::True {
                    return None;
                }
                if full {
                    self.excess += 1;
                    return None;
                }
                let phase = if self.hold_us == 0 {
                    self.firing += 1;
                    Phase::Firing { failing_since_us: None }
                } else {
                    Phase::Pending { since_us: time_us }
                };
                entry.insert(Series { seen_us: time_us, phase });
                return (self.hold_us == 0).then_some(Transition::Firing);
            }
        };
        let series = entry.get_mut();
        let silence_us = time_us.saturating_sub(series.seen_us);
        series.seen_us = time_us;
        match (&mut series.phase, holds) {
            (_, Truth::Unknown) => None,
            (Phase::Pending { since_us }, Truth::True) => {
                // After a step back of the clock, or a silence, the hold starts anew.
                if time_us < *since_us || silence_us > SILENCE_US_MAX {
                    *since_us = time_us;
                }
                if time_us - *since_us < self.hold_us {
                    return None;
                }
                series.phase = Phase::Firing { failing_since_us: None };
                self.firing += 1;
                Some(Transition::Firing)
            }
            (Phase::Pending { .. }, Truth::False) => {
                entry.remove();
                None
            }
            (Phase::Firing { failing_since_us }, Truth::True) => {
                *failing_since_us = None;
                None
            }
            (Phase::Firing { failing_since_us }, Truth::False) => {
                let since_us = failing_since_us.filter(|since_us| *since_us <= time_us).unwrap_or(time_us);
                *failing_since_us = Some(since_us);
                if time_us - since_us < self.resolve_after_us {
                    return None;
                }
                entry.remove();
                self.firing -= 1;
                Some(Transition::Resolved)
            }
        }
    }

    /// Forgets the series without a row for [`GONE_AFTER_US`] before `now_us`. Returns those that were firing.
    pub(super) fn forget_gone(&mut self, now_us: i64) -> Vec<SeriesKey> {
        let mut resolved = Vec::new();
        self.series.retain(|key, series| {
            let gone = now_us.saturating_sub(series.seen_us) >= GONE_AFTER_US;
            if gone && matches!(series.phase, Phase::Firing { .. }) {
                resolved.push(*key);
            }
            !gone
        });
        self.firing -= resolved.len();
        resolved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn key(label: i32) -> SeriesKey {
        SeriesKey::default().with(label)
    }

    /// Steps series 0 through (second, truth) and gives the (second, change) told.
    fn run(machine: &mut Machine, rows: &[(i64, Truth)]) -> Vec<(i64, Transition)> {
        let step = |(second, truth): &(i64, Truth)| Some((*second, machine.step(key(0), second * SECOND, *truth)?));
        rows.iter().filter_map(step).collect()
    }

    #[test]
    fn fires_after_holding_and_resolves_after_failing() {
        use Truth::{False, True};
        let mut machine = Machine::new(3 * SECOND, 2 * SECOND);
        let rows = [
            (0, True),
            (2, True),
            (3, True),
            (9, True),
            (10, False),
            (11, True),
            (12, False),
            (13, False),
            (14, False),
            (15, False),
        ];
        assert_eq!(run(&mut machine, &rows), [(3, Transition::Firing), (14, Transition::Resolved)]);
        assert!(machine.is_quiet());
        // A break starts the hold anew.
        assert_eq!(run(&mut machine, &[(20, True), (22, False), (23, True), (25, True)]), []);
        assert_eq!((machine.pending(), machine.firing().count()), (1, 0));
        assert_eq!(run(&mut machine, &[(26, True)]), [(26, Transition::Firing)]);
    }

    #[test]
    fn without_a_hold_it_fires_and_resolves_at_once() {
        use Truth::{False, True};
        let mut machine = Machine::new(0, 0);
        let told = run(&mut machine, &[(0, False), (1, True), (2, True), (3, False), (4, False), (5, True)]);
        assert_eq!(told, [(1, Transition::Firing), (3, Transition::Resolved), (5, Transition::Firing)]);
    }

    #[test]
    fn absent_values_neither_fire_nor_resolve() {
        use Truth::{False, True, Unknown};
        let mut machine = Machine::new(2 * SECOND, SECOND);
        let rows = [
            (0, Unknown),
            (1, True),
            (2, Unknown),
            (3, Unknown),
            (4, True),
            (5, Unknown),
            (9, False),
            (10, Unknown),
            (11, False),
        ];
        assert_eq!(run(&mut machine, &rows), [(4, Transition::Firing), (11, Transition::Resolved)]);
    }

    #[test]
    fn a_silent_series_starts_its_hold_anew_and_a_clock_set_back_does_too() {
        use Truth::True;
        let mut machine = Machine::new(2 * SECOND, 0);
        assert_eq!(run(&mut machine, &[(0, True), (61, True), (62, True)]), []);
        assert_eq!(run(&mut machine, &[(10, True), (11, True)]), []);
        assert_eq!(run(&mut machine, &[(12, True)]), [(12, Transition::Firing)]);
    }

    #[test]
    fn series_are_apart_and_the_gone_are_forgotten() {
        let mut machine = Machine::new(0, 0);
        assert_eq!(machine.step(key(1), 0, Truth::True), Some(Transition::Firing));
        assert_eq!(machine.step(key(2), GONE_AFTER_US, Truth::True), Some(Transition::Firing));
        assert_eq!(machine.step(key(1), 1, Truth::True), None);
        assert_eq!(machine.forget_gone(GONE_AFTER_US), []);
        assert_eq!(machine.forget_gone(GONE_AFTER_US + 1), [key(1)]);
        assert_eq!(machine.firing().collect::<Vec<_>>(), [key(2)]);
    }

    #[test]
    fn the_number_of_series_is_bounded_and_the_excess_counted() {
        let mut machine = Machine::new(1, 0);
        let last = i32::try_from(SERIES_MAX).unwrap() + 4;
        for label in 0..=last {
            assert_eq!(machine.step(key(label), 0, Truth::True), None);
        }
        assert_eq!((machine.pending(), machine.take_excess()), (SERIES_MAX, 5));
        assert_eq!(machine.step(key(0), 1, Truth::True), Some(Transition::Firing));
        assert_eq!(machine.step(key(last), 1, Truth::True), None);
    }

    #[test]
    fn keys_keep_their_labels() {
        let packed = SeriesKey::default().with(7).with(0).with(i32::MAX);
        assert_eq!([0, 1, 2].map(|index| packed.label(index, 3)), [7, 0, i32::MAX]);
    }
}
