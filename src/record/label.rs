//! Interned labels: a record carries a 4-byte id, the text is kept once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayRef, StringArray};

/// The most texts of one interner; further ones become [`Label::OVERFLOW`].
pub const LABELS_MAX: usize = 65_536;

/// An interned text: the key into [`Labels::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(u32);

impl Label {
    /// The empty text.
    pub const EMPTY: Label = Label(0);
    /// Stands for every text beyond [`LABELS_MAX`].
    pub const OVERFLOW: Label = Label(1);

    /// The dictionary key.
    #[must_use]
    pub fn key(self) -> i32 {
        // Bounded by LABELS_MAX, far below i32::MAX.
        self.0.cast_signed()
    }
}

/// The labels of one family, shared by its samplers and the drain thread.
///
/// Ids are given in order and never reused, so the dictionary of an older batch is a prefix of that of a newer one.
#[derive(Debug)]
pub struct Labels {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ids: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    /// The dictionary, rebuilt only after new texts came, so that batches share one allocation.
    values: ArrayRef,
    overflowed: u64,
}

impl Default for Labels {
    fn default() -> Self {
        let texts: Vec<Arc<str>> = vec!["".into(), "(too many labels)".into()];
        let ids = texts.iter().cloned().zip(0..).collect();
        let values = Arc::new(StringArray::from_iter_values(&texts));
        Labels { state: Mutex::new(State { ids, texts, values, overflowed: 0 }) }
    }
}

impl Labels {
    /// The label of `text`, new or known. Takes a lock, so samplers call it through a [`LabelCache`].
    pub fn intern(&self, text: &str) -> Label {
        let mut state = self.lock();
        if let Some(id) = state.ids.get(text) {
            return Label(*id);
        }
        if state.texts.len() >= LABELS_MAX {
            state.overflowed += 1;
            return Label::OVERFLOW;
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded by LABELS_MAX")]
        let id = state.texts.len() as u32;
        let text: Arc<str> = text.into();
        state.texts.push(Arc::clone(&text));
        state.ids.insert(text, id);
        Label(id)
    }

    /// All texts so far; a label's key is the index of its text.
    #[must_use]
    pub fn values(&self) -> ArrayRef {
        let mut state = self.lock();
        if state.values.len() != state.texts.len() {
            state.values = Arc::new(StringArray::from_iter_values(&state.texts));
        }
        Arc::clone(&state.values)
    }

    /// How often a text was replaced by [`Label::OVERFLOW`].
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.lock().overflowed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state consistent, so a poisoned lock is usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves the label of a row by its place. Most rows are where they were a tick ago; then this costs one comparison
/// and no lock or hash.
#[derive(Debug)]
pub struct LabelCache {
    labels: Arc<Labels>,
    /// The last text at each place, as the kernel wrote it: not all names are UTF-8.
    rows: Vec<(Vec<u8>, Label)>,
}

impl LabelCache {
    /// A cache in front of `labels`.
    #[must_use]
    pub fn new(labels: Arc<Labels>) -> Self {
        LabelCache { labels, rows: Vec::new() }
    }

    /// The label of `text`, which stands at place `row` of the source. Bytes that are not UTF-8 become replacement
    /// characters. Allocates only if another text stood there before.
    pub fn resolve(&mut self, row: usize, text: impl AsRef<[u8]>) -> Label {
        let text = text.as_ref();
        if let Some((known, label)) = self.rows.get(row)
            && known == text
        {
            return *label;
        }
        let label = self.labels.intern(&String::from_utf8_lossy(text));
        if row < LABELS_MAX {
            if self.rows.len() <= row {
                self.rows.resize(row + 1, (Vec::new(), Label::EMPTY));
            }
            self.rows[row].0.clear();
            self.rows[row].0.extend_from_slice(text);
            self.rows[row].1 = label;
        }
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;

    #[test]
    fn equal_texts_share_a_label_and_older_dictionaries_are_prefixes() {
        let labels = Labels::default();
        let eth0 = labels.intern("eth0");
        let before = labels.values();
        assert_eq!(labels.intern("eth0"), eth0);
        let lo = labels.intern("lo");
        let after = labels.values();
        assert_ne!(eth0, lo);
        assert_eq!(after.slice(0, before.len()).as_string::<i32>(), before.as_string::<i32>());
        assert_eq!(after.as_string::<i32>().value(usize::try_from(lo.key()).unwrap()), "lo");
    }

    #[test]
    fn the_number_of_labels_is_bounded_and_the_excess_counted() {
        let labels = Labels::default();
        for i in 0..LABELS_MAX {
            labels.intern(&i.to_string());
        }
        assert_eq!(labels.intern("one more"), Label::OVERFLOW);
        assert_eq!((labels.values().len(), labels.overflowed()), (LABELS_MAX, 3));
    }

    #[test]
    fn the_cache_follows_rows_that_move() {
        let labels = Arc::new(Labels::default());
        let mut cache = LabelCache::new(Arc::clone(&labels));
        let (a, b) = (cache.resolve(0, "a"), cache.resolve(1, "b"));
        assert_eq!((cache.resolve(0, "b"), cache.resolve(1, "a")), (b, a));
        assert_eq!(cache.resolve(0, ""), Label::EMPTY);
        let odd = cache.resolve(0, b"a\xff");
        assert_eq!((cache.resolve(0, b"a\xff"), labels.intern("a\u{fffd}")), (odd, odd));
    }
}
