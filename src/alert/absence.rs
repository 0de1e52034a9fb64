//! Which series a rule of `absent = "fire"` expects to have rows.
//!
//! Where a condition states all labels of its table, or the table has none, the series are known: they are expected from the
//! start on. Where it states some labels, at least one row is expected for each combination of the stated texts. Where it
//! states none, any row is expected, and then rows of each series that has had one.

use super::machine::{Change, Machine, Sight};
use super::moment::Moment;
use super::rule::Rule;
use super::state::{LabelTexts, SeriesKey, Truth};
use crate::record::label::Labels;

/// How the absence of rows is watched.
#[derive(Debug)]
pub(super) struct Absence {
    /// The filter that chooses the rows of the rule's series, by their labels only.
    pub(super) scope: usize,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    /// Each series by itself.
    Series,
    /// Any series at all, until there is one; then each by itself.
    Any(SeriesKey),
    /// Any series of each combination of stated texts. The other labels are any in the mask.
    Combinations(SeriesKey),
}

impl Absence {
    /// Expects rows from `now` on of the series that the rule names. `machine` is the rule's.
    pub(super) fn new(rule: &Rule, scope: usize, interned: &Labels, machine: &mut Machine, now: Moment) -> Absence {
        let mut mask = SeriesKey::default();
        for texts in &rule.expected {
            let key = SeriesKey::of(texts.iter().map(Option::as_deref), interned);
            let labels: LabelTexts = texts.iter().map(|text| text.as_deref().map(Into::into)).collect();
            machine.expect(key, labels, now.monotonic_us);
            mask = texts.iter().fold(SeriesKey::default(), |mask, text| match text {
                Some(_) => mask.with(0),
                None => mask.with_any(),
            });
        }
        let stated = |texts: &[Option<String>]| texts.iter().filter(|text| text.is_some()).count();
        let expected = match rule.expected.first() {
            Some(texts) if stated(texts) == texts.len() => Expected::Series,
            Some(texts) if stated(texts) > 0 => Expected::Combinations(mask),
            Some(_) => Expected::Any(mask),
            None => Expected::Series,
        };
        Absence { scope, expected }
    }

    /// Whether a series in scope is expected to go on having rows.
    pub(super) fn tracks(&self, key: SeriesKey) -> bool {
        match self.expected {
            Expected::Series | Expected::Any(_) => true,
            Expected::Combinations(mask) => key.covered_by(mask) == key,
        }
    }

    /// Knows that series `key` goes on from before the start. Then not just any series is expected.
    pub(super) fn resume(&mut self, machine: &mut Machine, key: SeriesKey) {
        if let Expected::Any(any) = self.expected
            && key != any
            && machine.forget_idle(any)
        {
            self.expected = Expected::Series;
        }
    }

    /// Takes a row in scope. It is one of any series that stands for it, too.
    pub(super) fn see(&mut self, machine: &mut Machine, sight: &Sight) -> Option<Change> {
        let key = match self.expected {
            Expected::Series => return None,
            Expected::Any(key) => key,
            Expected::Combinations(mask) => sight.key.covered_by(mask),
        };
        // Only its presence counts. If the combination is not expected, it is not known either, and stays so.
        let sight = Sight { key, value: f64::NAN, holds: Truth::False, is_tracked: false, ..*sight };
        let change = machine.step(&sight, LabelTexts::default);
        if let Expected::Any(key) = self.expected
            && machine.forget_idle(key)
        {
            self.expected = Expected::Series;
        }
        change
    }
}
