//! What is said of a series: whether its condition holds, which series it is, and what becomes of it.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};

use crate::record::label::Labels;

/// How many labels a table may have for rules to watch it.
pub const LABELS_PER_SERIES_MAX: usize = 4;

/// The label of a series that stands for all series with its other labels. No dictionary has this key.
const ANY: i32 = -1;

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
/// A key of one family stands for the same text as long as a series that rules know holds it, so keys tell series apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct SeriesKey(u128);

impl SeriesKey {
    /// The key of a series by the texts of its labels, which are interned in `labels`. `None` stands for any text.
    pub(super) fn of<'a>(texts: impl Iterator<Item = Option<&'a str>>, labels: &Labels) -> Self {
        texts.fold(SeriesKey::default(), |key, text| match text {
            Some(text) => key.with(labels.intern(text).key()),
            None => key.with_any(),
        })
    }

    /// This series with one more label. Up to [`LABELS_PER_SERIES_MAX`] fit.
    pub(super) fn with(self, key: i32) -> Self {
        SeriesKey(self.0 << 32 | u128::from(key.cast_unsigned()))
    }

    /// This series with a label that stands for any text.
    pub(super) fn with_any(self) -> Self {
        self.with(ANY)
    }

    /// The series that stands for this one: with any text for the labels that are [`ANY`] in `mask`, which are 0 elsewhere.
    pub(super) fn covered_by(self, mask: SeriesKey) -> Self {
        SeriesKey(self.0 | mask.0)
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

/// The texts of a series' labels, in the order of the table's. `None` for a label that may have any text.
pub(super) type LabelTexts = Arc<[Option<Box<str>>]>;

/// A change of a series that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transition {
    /// The condition held for the rule's `for`.
    #[serde(rename = "firing")]
    Firing,
    /// The condition failed for the rule's `resolve_after`, or a series without rows has rows again.
    #[serde(rename = "resolved")]
    Resolved,
    /// A firing series has had no rows for the rule's `absent_after`, and the rule does not go on with it.
    #[serde(rename = "gone")]
    Gone,
    /// A series has had no rows for the rule's `absent_after`, which fires by the rule's choice.
    #[serde(rename = "no data")]
    NoData,
}

impl Transition {
    /// `firing`, `resolved`, `gone` or `no data`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Transition::Firing => "firing",
            Transition::Resolved => "resolved",
            Transition::Gone => "gone",
            Transition::NoData => "no data",
        }
    }

    /// Whether the alert is on after it.
    #[must_use]
    pub fn is_on(self) -> bool {
        matches!(self, Transition::Firing | Transition::NoData)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_labels() {
        let packed = SeriesKey::default().with(7).with(0).with(i32::MAX);
        assert_eq!([0, 1, 2].map(|index| packed.label(index, 3)), [7, 0, i32::MAX]);
    }

    #[test]
    fn a_mask_covers_the_labels_that_may_be_any() {
        let mask = SeriesKey::default().with(0).with_any().with(0);
        let covered = SeriesKey::default().with(7).with_any().with(9);
        assert_eq!(SeriesKey::default().with(7).with(8).with(9).covered_by(mask), covered);
        assert_ne!(SeriesKey::default().with(7).with(8).with(1).covered_by(mask), covered);
    }
}
