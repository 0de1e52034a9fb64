//! The state machine of a rule: inactive → pending → firing → resolved, for each series separately.
//!
//! Two kinds of time come in. Durations are measured on `CLOCK_MONOTONIC`, so a wall clock that is set changes none. What is
//! told and shown has the time of the wall clock.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;

use super::state::{LabelTexts, SeriesKey, SeriesMap, Transition, Truth};

/// How many series of one rule can be known at once. Rows of further ones are counted and not watched.
pub(super) const SERIES_MAX: usize = 10_000;

/// How long after it was told as having no data a series is forgotten that the rule does not name: its name may never come
/// back.
pub(super) const FORGOTTEN_AFTER_US: i64 = 86_400_000_000;

/// What becomes of a series that has no more rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Absent {
    /// A firing series ends, and is told as gone.
    #[default]
    Resolve,
    /// A firing series stays firing until it has rows again.
    Keep,
    /// A series without rows fires, and is told as having no data.
    Fire,
}

impl Absent {
    /// All of them.
    pub const ALL: [Absent; 3] = [Absent::Resolve, Absent::Keep, Absent::Fire];

    /// `resolve`, `keep` or `fire`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Absent::Resolve => "resolve",
            Absent::Keep => "keep",
            Absent::Fire => "fire",
        }
    }
}

/// The times of a rule, µs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// It fires once the condition held for this long.
    pub(super) hold_us: i64,
    /// It resolves once the condition failed for this long.
    pub(super) resolve_after_us: i64,
    /// Without a row for longer than this, a condition was not seen to hold or to fail, and its time starts anew.
    pub(super) silence_us_max: i64,
    /// A series without a row for this long is absent.
    pub(super) absent_after_us: i64,
    pub(super) absent: Absent,
    /// A series that the rule does not name ends when it has had no data for this long.
    pub(super) forgotten_after_us: i64,
}

/// A row of a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    pub(super) key: SeriesKey,
    /// When it was sampled, on `CLOCK_MONOTONIC`.
    pub(super) at_us: i64,
    /// The row's time.
    pub(super) time_us: i64,
    /// The value compared; NaN if there is none.
    pub(super) value: f64,
    pub(super) holds: Truth,
    /// Whether the series is to be known from its first row on, so that its absence can be told.
    pub(super) is_tracked: bool,
}

/// A change that is told, with what is known of the alert.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) transition: Transition,
    pub(super) alert: Alert,
}

/// An alert that is on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alert {
    pub(super) labels: LabelTexts,
    /// Whether it is on because the series has no rows.
    pub(super) is_no_data: bool,
    /// Since when, on the wall clock.
    pub(super) since_us: i64,
    /// The worst value since then for which the condition held; NaN if there was none.
    pub(super) peak: f64,
}

/// One rule's series that are not inactive, and those whose absence it can tell.
#[derive(Debug)]
pub(super) struct Machine {
    limits: Limits,
    /// Whether lower values are worse.
    falls: bool,
    series: SeriesMap<Series>,
    counts: Counts,
    excess: u64,
    /// Whether a peak rose since it was last asked.
    peaks_moved: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    pending: usize,
    on: usize,
}

#[derive(Clone, Debug)]
struct Series {
    /// When it last had a row, on `CLOCK_MONOTONIC`. Until it has one: when it was expected first.
    seen_us: i64,
    /// How much of the time since then kymo did not run, µs. Its absence is measured without that.
    paused_us: i64,
    phase: Phase,
    /// Whether it stays known while it is inactive.
    is_tracked: bool,
    /// Whether the rule names it.
    is_named: bool,
    alert: Alert,
}

/// All times on `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Inactive. Only known because its absence is watched.
    Idle,
    /// The condition holds since then.
    Pending { since_us: i64 },
    /// Told as firing. Since when the condition fails, if it does.
    Firing { failing_since_us: Option<i64> },
    /// Told as having no data. Since when it has rows again, and since when the condition holds for them.
    NoData { back_since_us: Option<i64>, holding_since_us: Option<i64> },
}

impl Counts {
    fn remove(&mut self, phase: Phase) {
        match phase {
            Phase::Idle => {}
            Phase::Pending { .. } => self.pending -= 1,
            Phase::Firing { .. } | Phase::NoData { .. } => self.on -= 1,
        }
    }

    fn add(&mut self, phase: Phase) {
        match phase {
            Phase::Idle => {}
            Phase::Pending { .. } => self.pending += 1,
            Phase::Firing { .. } | Phase::NoData { .. } => self.on += 1,
        }
    }
}

impl Machine {
    /// A machine without series. `falls` says whether lower values are worse.
    pub(super) fn new(limits: Limits, falls: bool) -> Self {
        Machine {
            limits,
            falls,
            series: SeriesMap::default(),
            counts: Counts::default(),
            excess: 0,
            peaks_moved: false,
        }
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether no series is known. Then only a true row, or the first of a tracked series, can change anything.
    pub(super) fn is_quiet(&self) -> bool {
        self.series.is_empty()
    }

    /// Takes those of the keys away that a known series has, of so many labels.
    pub(super) fn take_held(&self, keys: &mut BTreeSet<i32>, labels: usize) {
        for series in self.series.keys() {
            (0..labels).for_each(|index| _ = keys.remove(&series.label(index, labels)));
        }
    }

    /// How many series are pending.
    pub(super) fn pending(&self) -> usize {
        self.counts.pending
    }

    /// How many series are firing or have no data.
    pub(super) fn on(&self) -> usize {
        self.counts.on
    }

    /// A series without a row for this long is absent.
    pub(super) fn absent_after_us(&self) -> i64 {
        self.limits.absent_after_us
    }

    /// How many rows were not watched because of [`SERIES_MAX`], since the last call.
    pub(super) fn take_excess(&mut self) -> u64 {
        std::mem::take(&mut self.excess)
    }

    /// Whether the peak of an alert moved since the last call.
    pub(super) fn take_peaks_moved(&mut self) -> bool {
        std::mem::take(&mut self.peaks_moved)
    }

    /// The alerts that are on, in no order.
    pub(super) fn alerts(&self) -> impl Iterator<Item = &Alert> {
        let is_on = |series: &&Series| matches!(series.phase, Phase::Firing { .. } | Phase::NoData { .. });
        self.series.values().filter(is_on).map(|series| &series.alert)
    }

    /// Expects rows of a series from `now_us` on.
    pub(super) fn expect(&mut self, key: SeriesKey, labels: LabelTexts, now_us: i64) {
        if self.series.len() < SERIES_MAX {
            let alert = Alert { labels, is_no_data: false, since_us: 0, peak: f64::NAN };
            self.series.insert(
                key,
                Series { seen_us: now_us, paused_us: 0, phase: Phase::Idle, is_tracked: true, is_named: true, alert },
            );
        }
    }

    /// Whether a series is known.
    pub(super) fn knows(&self, key: SeriesKey) -> bool {
        self.series.contains_key(&key)
    }

    /// Goes on with an alert from before the start, as if it had a row now. Returns whether there is room for it.
    pub(super) fn resume(&mut self, key: SeriesKey, alert: Alert, is_tracked: bool, now_us: i64) -> bool {
        if self.series.len() >= SERIES_MAX && !self.series.contains_key(&key) {
            return false;
        }
        let phase = if alert.is_no_data {
            Phase::NoData { back_since_us: None, holding_since_us: None }
        } else {
            Phase::Firing { failing_since_us: None }
        };
        self.counts.add(phase);
        let before = self.series.remove(&key);
        let is_named = before.as_ref().is_some_and(|before| before.is_named);
        self.series.insert(key, Series { seen_us: now_us, paused_us: 0, phase, is_tracked, is_named, alert });
        if let Some(before) = before {
            self.counts.remove(before.phase);
        }
        true
    }

    /// Takes a row. `labels` gives the texts of its series' labels; it is called when the series becomes known or fires.
    pub(super) fn step(&mut self, sight: &Sight, labels: impl FnOnce() -> LabelTexts) -> Option<Change> {
        let full = self.series.len() >= SERIES_MAX;
        let mut entry = match self.series.entry(sight.key) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => {
                if sight.holds != Truth::True && !sight.is_tracked {
                    return None;
                }
                if full {
                    self.excess += 1;
                    return None;
                }
                let fires = sight.holds == Truth::True && self.limits.hold_us == 0;
                let phase = match sight.holds {
                    Truth::True if fires => Phase::Firing { failing_since_us: None },
                    Truth::True => Phase::Pending { since_us: sight.at_us },
                    Truth::False | Truth::Unknown => Phase::Idle,
                };
                let labels = if fires || sight.is_tracked { labels() } else { LabelTexts::default() };
                let alert = Alert { labels, is_no_data: false, since_us: sight.time_us, peak: sight.value };
                self.counts.add(phase);
                let is_tracked = sight.is_tracked;
                let series = entry.insert(Series {
                    seen_us: sight.at_us,
                    paused_us: 0,
                    phase,
                    is_tracked,
                    is_named: false,
                    alert,
                });
                return fires.then(|| Change { transition: Transition::Firing, alert: series.alert.clone() });
            }
        };
        let series = entry.get_mut();
        let before = series.phase;
        let told = series.step(sight, &self.limits);
        let after = series.phase;
        if let Phase::Firing { .. } = after
            && sight.holds == Truth::True
        {
            if let Phase::Firing { .. } = before {
                self.peaks_moved |= series.alert.raise_peak(sight.value, self.falls);
            } else {
                if series.alert.labels.is_empty() {
                    series.alert.labels = labels();
                }
                (series.alert.is_no_data, series.alert.since_us, series.alert.peak) =
                    (false, sight.time_us, sight.value);
            }
        }
        self.counts.remove(before);
        self.counts.add(after);
        let change = told.map(|transition| Change { transition, alert: series.alert.clone() });
        if after == Phase::Idle && !series.is_tracked {
            entry.remove();
        }
        change
    }

    /// Forgets a series that is inactive. Returns whether it is not known any more.
    pub(super) fn forget_idle(&mut self, key: SeriesKey) -> bool {
        match self.series.entry(key) {
            Entry::Occupied(entry) if entry.get().phase == Phase::Idle => {
                entry.remove();
                true
            }
            Entry::Occupied(_) => false,
            Entry::Vacant(_) => true,
        }
    }

    /// Finds the series without rows. `now_us` is on `CLOCK_MONOTONIC`, `time_us` on the wall clock. kymo did not run in the
    /// last `paused_us`, apart from a moment at the end.
    pub(super) fn sweep(&mut self, now_us: i64, time_us: i64, paused_us: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        let (limits, counts) = (&self.limits, &mut self.counts);
        let mut known = self.series.len();
        self.series.retain(|_, series| {
            let before = series.phase;
            // Those that were seen later had rows since.
            if series.seen_us <= now_us - paused_us {
                series.paused_us += paused_us;
            }
            let told = series.miss(now_us, time_us, limits, known == 1);
            counts.remove(before);
            counts.add(series.phase);
            if let Some(transition) = told {
                changes.push(Change { transition, alert: series.alert.clone() });
            }
            let stays = series.phase != Phase::Idle || series.is_tracked;
            known -= usize::from(!stays);
            stays
        });
        changes
    }
}

impl Series {
    /// Takes a row. Returns what is to be told.
    fn step(&mut self, sight: &Sight, limits: &Limits) -> Option<Transition> {
        // Rows of one series come in order, but two of them may be placed the other way round after a step of the clock.
        let at_us = sight.at_us.max(self.seen_us);
        if at_us - self.seen_us > limits.silence_us_max {
            self.phase = match self.phase {
                Phase::Idle | Phase::Pending { .. } => Phase::Idle,
                Phase::Firing { .. } => Phase::Firing { failing_since_us: None },
                Phase::NoData { .. } => Phase::NoData { back_since_us: None, holding_since_us: None },
            };
        }
        (self.seen_us, self.paused_us) = (at_us, 0);
        let has_held = |since_us: i64| at_us - since_us >= limits.hold_us;
        let has_failed = |since_us: i64| at_us - since_us >= limits.resolve_after_us;
        let firing = Phase::Firing { failing_since_us: None };
        let (phase, told) = match (self.phase, sight.holds) {
            (Phase::Idle, Truth::True) if has_held(at_us) => (firing, Some(Transition::Firing)),
            (Phase::Idle, Truth::True) => (Phase::Pending { since_us: at_us }, None),
            (Phase::Pending { since_us }, Truth::True) if has_held(since_us) => (firing, Some(Transition::Firing)),
            (Phase::Pending { .. }, Truth::False) => (Phase::Idle, None),
            (Phase::Firing { .. }, Truth::True) => (firing, None),
            (Phase::Firing { failing_since_us }, Truth::False) => {
                let since_us = failing_since_us.unwrap_or(at_us);
                if has_failed(since_us) {
                    (Phase::Idle, Some(Transition::Resolved))
                } else {
                    (Phase::Firing { failing_since_us: Some(since_us) }, None)
                }
            }
            (Phase::NoData { back_since_us, holding_since_us }, holds) => {
                let back_since_us = back_since_us.unwrap_or(at_us);
                let holding_since_us = match holds {
                    Truth::True => Some(holding_since_us.unwrap_or(at_us)),
                    Truth::Unknown => holding_since_us,
                    Truth::False => None,
                };
                match holding_since_us {
                    Some(since_us) if holds == Truth::True && has_held(since_us) => (firing, Some(Transition::Firing)),
                    None if has_failed(back_since_us) => (Phase::Idle, Some(Transition::Resolved)),
                    _ => (Phase::NoData { back_since_us: Some(back_since_us), holding_since_us }, None),
                }
            }
            (phase, _) => (phase, None),
        };
        self.phase = phase;
        told
    }

    /// Sees that there is no row until now. Returns what is to be told. The only series that is known is not forgotten, as rows
    /// of any are expected.
    fn miss(&mut self, now_us: i64, time_us: i64, limits: &Limits, is_only: bool) -> Option<Transition> {
        let silence_us = now_us - self.seen_us;
        if let Phase::Pending { .. } = self.phase
            && silence_us > limits.silence_us_max
        {
            self.phase = Phase::Idle;
        }
        let absent_us = silence_us - self.paused_us - limits.absent_after_us;
        if absent_us < 0 {
            return None;
        }
        let fires = limits.absent == Absent::Fire && self.is_tracked;
        let is_forgotten = absent_us >= limits.forgotten_after_us && !self.is_named && !is_only;
        match self.phase {
            Phase::Idle | Phase::Pending { .. } | Phase::Firing { .. } if fires => {
                if !matches!(self.phase, Phase::Firing { .. }) {
                    self.alert.peak = f64::NAN;
                }
                self.phase = Phase::NoData { back_since_us: None, holding_since_us: None };
                (self.alert.is_no_data, self.alert.since_us) = (true, time_us);
                Some(Transition::NoData)
            }
            Phase::NoData { .. } if is_forgotten && limits.absent == Absent::Fire => {
                (self.phase, self.is_tracked) = (Phase::Idle, false);
                Some(Transition::Gone)
            }
            Phase::Firing { .. } | Phase::NoData { .. } if !fires && limits.absent != Absent::Keep => {
                self.phase = Phase::Idle;
                Some(Transition::Gone)
            }
            _ => None,
        }
    }
}

impl Alert {
    /// Takes a value into account. Returns whether it is the worst so far.
    fn raise_peak(&mut self, value: f64, falls: bool) -> bool {
        // A comparison with NaN, which stands for no value, is false.
        let is_worse = if falls { value < self.peak } else { value > self.peak };
        let moves = is_worse || (self.peak.is_nan() && !value.is_nan());
        if moves {
            self.peak = value;
        }
        moves
    }
}

#[cfg(test)]
mod tests;
