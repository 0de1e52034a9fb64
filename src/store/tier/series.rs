//! Which series a row belongs to.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};

use crate::record::{ABSENT, Table};

/// The most labels of a table with tiers.
pub(super) const LABELS_MAX: usize = 4;
/// No text, and no series.
const NONE: u32 = u32::MAX;

/// The most columns of one that tell things of equal labels apart.
pub(super) const IDENTITIES_MAX: usize = 2;

/// What tells a series from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The numbers of its labels in [`Series`].
    pub(super) labels: [u32; LABELS_MAX],
    /// What tells it from series of the same labels.
    pub(super) identities: [i64; IDENTITIES_MAX],
}

/// The series of a table, each with a number.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    texts: Vec<Arc<str>>,
    known: HashMap<Arc<str>, u32>,
    slots: HashMap<Key, u32>,
    /// By the number of the series.
    keys: Vec<Key>,
    /// Which series had the row after the last one of this. Rows of a tick mostly come in the same order.
    followers: Vec<u32>,
}

impl Series {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn key(&self, slot: usize) -> Key {
        self.keys.get(slot).copied().unwrap_or_default()
    }

    /// The text of this number.
    pub(super) fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| &**text)
    }

    /// The number of a text.
    pub(super) fn intern(&mut self, text: &str) -> u32 {
        if let Some(number) = self.known.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(NONE);
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.known.insert(text, number);
        number
    }

    /// The number of the series of this key.
    pub(super) fn slot(&mut self, key: Key) -> u32 {
        if let Some(slot) = self.slots.get(&key) {
            return *slot;
        }
        let slot = u32::try_from(self.keys.len()).unwrap_or(NONE);
        self.keys.push(key);
        self.followers.push(0);
        self.slots.insert(key, slot);
        slot
    }

    /// The series of each row.
    pub(super) fn slots(&mut self, table: &Table, batch: &RecordBatch) -> Vec<u32> {
        let labels: Vec<Label<'_>> = table.labels().filter_map(|(at, _)| Label::of(batch.column(at))).collect();
        let mut numbers: Vec<Vec<u32>> = labels.iter().map(|label| vec![NONE; label.texts.len()]).collect();
        let identities = table.identities().filter_map(|(at, _)| batch.column(at).as_primitive_opt::<Int64Type>());
        let identities: Vec<&Int64Array> = identities.collect();
        let mut slots = Vec::with_capacity(batch.num_rows());
        let mut before = 0;
        let turn = turn(&labels, &identities, batch.num_rows());
        for row in 0..turn {
            let mut key = Key::default();
            for (column, part) in identities.iter().zip(&mut key.identities) {
                *part = if column.is_valid(row) { column.value(row) } else { ABSENT };
            }
            for ((label, numbers), part) in labels.iter().zip(&mut numbers).zip(&mut key.labels) {
                let place = label.keys.get(row).and_then(|key| usize::try_from(*key).ok());
                *part = match place.and_then(|place| numbers.get_mut(place).map(|number| (place, number))) {
                    Some((place, number)) => {
                        if *number == NONE {
                            *number = self.intern(label.texts.value(place));
                        }
                        *number
                    }
                    None => self.intern(""),
                };
            }
            let guess = self.followers.get(before as usize).copied().unwrap_or(0);
            let slot = if self.keys.get(guess as usize) == Some(&key) { guess } else { self.slot(key) };
            if let Some(follower) = self.followers.get_mut(before as usize) {
                *follower = slot;
            }
            before = slot;
            slots.push(slot);
        }
        while slots.len() < batch.num_rows() {
            let from = slots.len() - turn;
            slots.extend_from_within(from..from + turn.min(batch.num_rows() - slots.len()));
        }
        slots
    }

    /// The columns of labels of these series, of which there are `count`.
    pub(super) fn label_arrays(&self, count: usize, keys: &[Key]) -> Vec<ArrayRef> {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(&self.texts));
        let column = |at: usize| {
            let keys = keys.iter().map(|key| i32::try_from(key.labels[at]).unwrap_or(0)).collect::<Vec<_>>();
            let array = DictionaryArray::<Int32Type>::try_new(Int32Array::from(keys), Arc::clone(&texts));
            // Every number is that of a text.
            array.map_or_else(|_| texts.slice(0, 0), |array| Arc::new(array) as ArrayRef)
        };
        (0..count.min(LABELS_MAX)).map(column).collect()
    }
}

/// The column of what tells series of these keys from those of the same labels, by its number.
pub(super) fn identity_array(number: usize, keys: &[Key]) -> ArrayRef {
    let values = keys.iter().map(|key| key.identities.get(number).copied().filter(|value| *value != ABSENT));
    Arc::new(values.collect::<Int64Array>())
}

/// After how many rows the series of the first ones come again, in the same order, throughout; all rows if they do not.
fn turn(labels: &[Label<'_>], identities: &[&Int64Array], rows: usize) -> usize {
    let comes_again = |turn: &usize, rows: usize| {
        let again = *turn..*turn + rows;
        labels.iter().all(|label| label.keys.get(again.clone()) == label.keys.get(..rows))
            && identities.iter().all(|column| column.values().get(again.clone()) == column.values().get(..rows))
    };
    let is_known = identities.iter().all(|column| column.null_count() == 0);
    let turn = (1..rows).find(|turn| comes_again(turn, 1)).filter(|turn| is_known && comes_again(turn, rows - turn));
    turn.unwrap_or(rows)
}

/// A batch's column of labels.
struct Label<'a> {
    keys: &'a [i32],
    texts: &'a StringArray,
}

impl Label<'_> {
    fn of(column: &ArrayRef) -> Option<Label<'_>> {
        let column = column.as_dictionary_opt::<Int32Type>()?;
        Some(Label { keys: column.keys().values(), texts: column.values().as_string_opt::<i32>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::FamilyId;
    use crate::record::{Kind, Role, Type};

    #[test]
    fn a_key_has_room_for_what_tells_series_of_any_table_with_tiers_apart() {
        for family in FamilyId::all().filter(|family| family.has_tiers) {
            assert!(family.table.labels().count() <= LABELS_MAX, "{}", family.name());
            assert!(family.table.identities().count() <= IDENTITIES_MAX, "{}", family.name());
            let kept = family.table.columns.iter().filter(|column| column.role != Role::Figure);
            for column in kept {
                assert_eq!((column.kind, column.ty), (Kind::Gauge, Type::Int64), "{}.{}", family.name(), column.name);
            }
        }
    }
}
