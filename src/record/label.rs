//! Interned labels: a record carries a 4-byte id, the text is kept once.
//!
//! Names come and go: a host that starts a container each minute has half a million interfaces a year. So a text that no record
//! had for a day gives way. Its place goes to another text, but only when one needs it, the longest unseen first. A label has the
//! number of its place and of the place's turn, so a record that still has a label of an earlier turn never gets the new text.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::buffer::ScalarBuffer;

/// The most texts of one interner at a time; further ones become [`Label::OVERFLOW`].
pub const LABELS_MAX: usize = 65_536;
/// Fewer texts than this stay, however old they are.
const KEPT_MAX: usize = 4_096;
/// A text gives way when no record had it for this time.
const UNSEEN_S_MAX: u32 = 24 * 3600;
/// From so many texts on they give way earlier, down to [`EASED_MAX`].
const PRESSED_MIN: usize = LABELS_MAX / 4 * 3;
const EASED_MAX: usize = LABELS_MAX / 2;
/// But not before this time, nor before so many intervals of the slowest collector: what a collector reads is not gone.
const QUIET_S_MIN: u32 = 5;
const QUIET_INTERVALS: u32 = 3;
/// How often old texts are searched while there is room.
const SEARCH_INTERVAL_S: u32 = 60;
/// Where a label has the turn of its place.
const TURN_SHIFT: u32 = 16;

/// An interned text: a place in a [`Dictionary`], and which text of that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(u32);

impl Label {
    /// The empty text.
    pub const EMPTY: Label = Label(0);
    /// Stands for every text beyond [`LABELS_MAX`].
    pub const OVERFLOW: Label = Label(1);

    fn new(place: u32, turn: u16) -> Label {
        Label(u32::from(turn) << TURN_SHIFT | place)
    }

    /// The label as a number, from which [`Dictionary::keys`] makes the key.
    #[must_use]
    pub fn bits(self) -> i32 {
        self.0.cast_signed()
    }

    /// Its key in dictionaries, as long as it has not given way.
    #[must_use]
    pub fn key(self) -> i32 {
        i32::try_from(self.place()).unwrap_or(i32::MAX)
    }

    fn place(self) -> usize {
        (self.0 & ((1 << TURN_SHIFT) - 1)) as usize
    }

    fn turn(self) -> u16 {
        // The rest has 16 bits.
        u16::try_from(self.0 >> TURN_SHIFT).unwrap_or(u16::MAX)
    }
}

/// The texts of all labels at one moment.
#[derive(Clone, Debug)]
pub struct Dictionary {
    /// The texts, by key.
    pub values: ArrayRef,
    /// The turn of each place; empty if all are in their first.
    turns: Arc<[u16]>,
}

impl Dictionary {
    /// The keys of labels, given as [`Label::bits`]. A label whose place has another text now, or that is of another interner,
    /// gets the empty text.
    #[must_use]
    pub fn keys(&self, bits: ScalarBuffer<i32>) -> ScalarBuffer<i32> {
        let known = 0..i32::try_from(self.values.len()).unwrap_or(i32::MAX);
        if self.turns.is_empty() && bits.iter().all(|bits| known.contains(bits)) {
            return bits;
        }
        bits.iter().map(|bits| self.key(Label(bits.cast_unsigned()))).collect()
    }

    fn key(&self, label: Label) -> i32 {
        let turn = if self.turns.is_empty() { 0 } else { self.turns.get(label.place()).copied().unwrap_or_default() };
        let is_known = label.place() < self.values.len() && turn == label.turn();
        let place = if is_known { label.place() } else { Label::EMPTY.place() };
        i32::try_from(place).unwrap_or_default()
    }
}

/// The labels of one family, shared by its samplers and the drain thread.
///
/// The drain thread notes which labels records have, and has old ones give way: [`note_seen`](Self::note_seen),
/// [`unseen`](Self::unseen), [`give_way`](Self::give_way). Times are seconds of a clock that never steps.
#[derive(Debug)]
pub struct Labels {
    state: Mutex<State>,
    /// How often labels gave way. Whoever holds a label from before asks for it anew.
    turnovers: AtomicU64,
}

#[derive(Debug)]
struct State {
    labels: HashMap<Arc<str>, Label>,
    places: Vec<Place>,
    places_max: usize,
    /// Places that gave way, the first ones first. Some of them may have come back.
    free: VecDeque<u32>,
    /// How many places gave way.
    free_count: usize,
    /// Set if a place has had more than one text.
    has_turned: bool,
    /// Made again only after new texts came, so that batches share one allocation.
    dictionary: Option<Dictionary>,
    overflowed: u64,
    now_s: u32,
    searched_s: u32,
    quiet_s: u32,
}

#[derive(Debug)]
struct Place {
    text: Arc<str>,
    turn: u16,
    /// When a record had it last.
    seen_s: u32,
    /// Another text may have the place. Until then this one comes back to it.
    is_free: bool,
    /// It is in the queue of free places, once.
    is_queued: bool,
}

impl Default for Labels {
    fn default() -> Self {
        Labels::of_size(LABELS_MAX)
    }
}

impl Labels {
    /// Labels of at most so many texts.
    fn of_size(places_max: usize) -> Labels {
        let mut state = State {
            labels: HashMap::new(),
            places: Vec::new(),
            places_max,
            free: VecDeque::new(),
            free_count: 0,
            has_turned: false,
            dictionary: None,
            overflowed: 0,
            now_s: 0,
            searched_s: 0,
            quiet_s: QUIET_S_MIN,
        };
        state.add("".into());
        state.add("(too many labels)".into());
        Labels { state: Mutex::new(state), turnovers: AtomicU64::new(0) }
    }

    /// The label of `text`, new or known. Takes a lock, so samplers call it through a [`LabelCache`].
    pub fn intern(&self, text: &str) -> Label {
        let mut state = self.lock();
        if let Some(label) = state.labels.get(text).copied() {
            state.keep(label.place());
            return label;
        }
        if state.places.len() < state.places_max {
            return state.add(text.into());
        }
        if let Some(label) = state.replace(text) {
            return label;
        }
        state.overflowed += 1;
        Label::OVERFLOW
    }

    /// All texts as of now. It has every label that was interned before, unless that gave way to another.
    #[must_use]
    pub fn dictionary(&self) -> Dictionary {
        let mut state = self.lock();
        let State { places, has_turned, dictionary, .. } = &mut *state;
        let make = || Dictionary {
            values: Arc::new(StringArray::from_iter_values(places.iter().map(|place| &place.text))),
            turns: places.iter().filter(|_| *has_turned).map(|place| place.turn).collect(),
        };
        dictionary.get_or_insert_with(make).clone()
    }

    /// How often a text was replaced by [`Label::OVERFLOW`].
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.lock().overflowed
    }

    /// Notes that a collector with this interval reads the family.
    pub fn note_interval(&self, interval: Duration) {
        let quiet_s = interval.as_secs().saturating_add(1).saturating_mul(u64::from(QUIET_INTERVALS));
        let mut state = self.lock();
        state.quiet_s = state.quiet_s.max(u32::try_from(quiet_s).unwrap_or(u32::MAX));
    }

    /// Notes that records have these keys of the newest dictionary.
    pub fn note_seen(&self, keys: &[i32], now_s: u32) {
        let mut state = self.lock();
        state.now_s = now_s;
        for key in keys {
            if let Ok(place) = usize::try_from(*key) {
                state.keep(place);
            }
        }
    }

    /// The keys of texts that no record had for long. Searches now and then only.
    #[must_use]
    pub fn unseen(&self, now_s: u32) -> BTreeSet<i32> {
        let mut state = self.lock();
        state.now_s = now_s;
        let used = state.places.len() - state.free_count;
        let is_pressed = used >= PRESSED_MIN;
        let is_early = now_s.saturating_sub(state.searched_s) < SEARCH_INTERVAL_S;
        if state.places.len() < KEPT_MAX || (is_early && !is_pressed) {
            return BTreeSet::new();
        }
        state.searched_s = now_s;
        let least_s = if is_pressed { state.quiet_s.min(UNSEEN_S_MAX) } else { UNSEEN_S_MAX };
        // The first two are kymo's own.
        let places = state.places.iter().enumerate().skip(2).filter(|(_, place)| !place.is_free);
        let unseen = places.map(|(number, place)| (now_s.saturating_sub(place.seen_s), number));
        let mut unseen: Vec<(u32, usize)> = unseen.filter(|(unseen_s, _)| *unseen_s >= least_s).collect();
        unseen.sort_unstable_by(|one, other| other.cmp(one));
        let excess = used.saturating_sub(EASED_MAX);
        let gives =
            unseen.into_iter().enumerate().filter(|(at, (unseen_s, _))| *at < excess || *unseen_s >= UNSEEN_S_MAX);
        gives.filter_map(|(_, (_, number))| i32::try_from(number).ok()).collect()
    }

    /// Lets the places of these keys go to other texts. Until that happens, their texts stay. Nobody but records may hold them
    /// any longer.
    pub fn give_way(&self, keys: &BTreeSet<i32>) {
        if keys.is_empty() {
            return;
        }
        let mut state = self.lock();
        let State { places, free, free_count, .. } = &mut *state;
        for key in keys {
            let number = usize::try_from(*key).unwrap_or(usize::MAX);
            if let Some(place) = places.get_mut(number).filter(|place| !place.is_free) {
                place.is_free = true;
                *free_count += 1;
                if !std::mem::replace(&mut place.is_queued, true) {
                    free.extend(u32::try_from(*key));
                }
            }
        }
        // Release: whoever sees the new number asks under the lock, after this.
        self.turnovers.fetch_add(1, Ordering::Release);
    }

    fn turnovers(&self) -> u64 {
        // Acquire: pairs with the release in `give_way`.
        self.turnovers.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state consistent, so a poisoned lock is usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, text: Arc<str>) -> Label {
        #[expect(clippy::cast_possible_truncation, reason = "bounded by LABELS_MAX")]
        let label = Label::new(self.places.len() as u32, 0);
        self.places.push(Place {
            text: Arc::clone(&text),
            turn: 0,
            seen_s: self.now_s,
            is_free: false,
            is_queued: false,
        });
        self.labels.insert(text, label);
        self.dictionary = None;
        label
    }

    /// Gives the first free place to a text.
    fn replace(&mut self, text: &str) -> Option<Label> {
        while let Some(number) = self.free.pop_front() {
            let Some(place) = self.places.get_mut(number as usize) else { continue };
            place.is_queued = false;
            if !place.is_free {
                continue;
            }
            self.labels.remove(&place.text);
            (place.text, place.turn) = (text.into(), place.turn.wrapping_add(1));
            (place.seen_s, place.is_free) = (self.now_s, false);
            let label = Label::new(number, place.turn);
            self.labels.insert(Arc::clone(&place.text), label);
            self.free_count -= 1;
            self.has_turned = true;
            self.dictionary = None;
            return Some(label);
        }
        None
    }

    /// Notes that a place's text is in use.
    fn keep(&mut self, number: usize) {
        if let Some(place) = self.places.get_mut(number) {
            place.seen_s = self.now_s;
            if std::mem::take(&mut place.is_free) {
                self.free_count -= 1;
            }
        }
    }
}

/// Resolves the label of a row by its place. Most rows are where they were a tick ago; then this costs one comparison
/// and no lock or hash.
#[derive(Debug)]
pub struct LabelCache {
    labels: Arc<Labels>,
    /// The last text at each place, as the kernel wrote it: not all names are UTF-8. The label is absent after a turnover.
    rows: Vec<(Vec<u8>, Option<Label>)>,
    /// The turnover that the labels are of.
    turnover: u64,
}

impl LabelCache {
    /// A cache in front of `labels`.
    #[must_use]
    pub fn new(labels: Arc<Labels>) -> Self {
        LabelCache { turnover: labels.turnovers(), labels, rows: Vec::new() }
    }

    /// How often labels gave way so far. Whoever keeps labels beside the cache asks for them anew when this has changed.
    #[must_use]
    pub fn turnovers(&self) -> u64 {
        self.labels.turnovers()
    }

    /// The label of `text`, which stands at place `row` of the source. Bytes that are not UTF-8 become replacement
    /// characters. Allocates only if another text stood there before.
    pub fn resolve(&mut self, row: usize, text: impl AsRef<[u8]>) -> Label {
        let text = text.as_ref();
        let turnover = self.labels.turnovers();
        if std::mem::replace(&mut self.turnover, turnover) != turnover {
            self.rows.iter_mut().for_each(|(_, label)| *label = None);
        }
        if let Some((known, Some(label))) = self.rows.get(row)
            && known == text
        {
            return *label;
        }
        let label = self.labels.intern(&String::from_utf8_lossy(text));
        if row < LABELS_MAX {
            if self.rows.len() <= row {
                self.rows.resize(row + 1, (Vec::new(), None));
            }
            self.rows[row].0.clear();
            self.rows[row].0.extend_from_slice(text);
            self.rows[row].1 = Some(label);
        }
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use proptest::prelude::*;

    const DAY_S: u32 = UNSEEN_S_MAX;

    fn keys(labels: &[Label]) -> Vec<i32> {
        labels.iter().map(|label| i32::try_from(label.place()).unwrap()).collect()
    }

    /// What a record with this label is called.
    fn text(labels: &Labels, label: Label) -> String {
        let dictionary = labels.dictionary();
        let keys = dictionary.keys(vec![label.bits()].into());
        dictionary.values.as_string::<i32>().value(usize::try_from(keys[0]).unwrap()).to_owned()
    }

    /// Has all texts give way that may.
    fn turn_over(labels: &Labels, now_s: u32) -> usize {
        let unseen = labels.unseen(now_s);
        labels.give_way(&unseen);
        unseen.len()
    }

    fn fill(labels: &Labels, names: std::ops::Range<usize>) -> Vec<Label> {
        names.map(|name| labels.intern(&format!("veth{name}"))).collect()
    }

    #[test]
    fn equal_texts_share_a_label_and_older_dictionaries_are_prefixes() {
        let labels = Labels::default();
        let eth0 = labels.intern("eth0");
        let before = labels.dictionary().values;
        assert_eq!(labels.intern("eth0"), eth0);
        let lo = labels.intern("lo");
        let after = labels.dictionary().values;
        assert_ne!(eth0, lo);
        assert_eq!(after.slice(0, before.len()).as_string::<i32>(), before.as_string::<i32>());
        assert_eq!(text(&labels, lo), "lo");
        assert!(Arc::ptr_eq(&after, &labels.dictionary().values));
    }

    #[test]
    fn the_number_of_labels_is_bounded_and_the_excess_counted() {
        let labels = Labels::default();
        fill(&labels, 0..LABELS_MAX - 2);
        assert_eq!((labels.intern("one more"), labels.intern("veth7")), (Label::OVERFLOW, Label::new(9, 0)));
        assert_eq!((labels.dictionary().values.len(), labels.overflowed()), (LABELS_MAX, 1));
    }

    #[test]
    fn what_was_not_seen_for_a_day_gives_way_when_its_place_is_needed() {
        let labels = Labels::default();
        labels.note_seen(&[], 1_000);
        let all = fill(&labels, 0..KEPT_MAX);
        let used = &all[..100];
        assert_eq!(turn_over(&labels, 1_000 + DAY_S - 1), 0);
        labels.note_seen(&keys(used), 1_000 + DAY_S);
        assert_eq!(turn_over(&labels, 1_000 + DAY_S + SEARCH_INTERVAL_S), KEPT_MAX - 100);
        // Texts stay as long as there is room, and come back to their places.
        assert_eq!((text(&labels, all[200]), labels.intern("veth200")), ("veth200".into(), all[200]));
        fill(&labels, KEPT_MAX..LABELS_MAX - 2);
        assert_eq!((labels.overflowed(), text(&labels, all[300])), (0, "veth300".into()));
        // The first of them has no room any more: it takes the place of the one that gave way first.
        let new = labels.intern("new");
        assert_eq!((new.place(), text(&labels, new)), (all[100].place(), "new".into()));
        // A record that has waited since then is not called by the new name.
        assert_eq!(text(&labels, all[100]), "");
        assert_ne!(labels.intern("veth100"), all[100]);
        assert!(used.iter().zip(0..).all(|(label, name)| text(&labels, *label) == format!("veth{name}")));
        assert_eq!(text(&labels, all[200]), "veth200");
    }

    #[test]
    fn few_texts_stay_for_ever() {
        let labels = Labels::default();
        fill(&labels, 0..KEPT_MAX - 3);
        assert!(labels.unseen(100 * DAY_S).is_empty());
    }

    #[test]
    fn a_flood_of_names_takes_the_places_of_those_that_are_gone() {
        let labels = Labels::default();
        labels.note_interval(Duration::from_millis(200));
        let lasting = [labels.intern("eth0"), labels.intern("lo")];
        let mut last = Label::EMPTY;
        for second in 0..100 {
            let now_s = u32::try_from(second).unwrap();
            let names = fill(&labels, second * 5_000..(second + 1) * 5_000);
            labels.note_seen(&keys(&names), now_s);
            labels.note_seen(&keys(&lasting), now_s);
            turn_over(&labels, now_s);
            last = names[0];
        }
        assert_eq!((labels.overflowed(), labels.dictionary().values.len()), (0, LABELS_MAX));
        assert_eq!(lasting.map(|label| text(&labels, label)), ["eth0", "lo"]);
        assert_eq!(text(&labels, last), "veth495000");
        // A slow collector sees its names seldom, but they are not gone.
        labels.note_interval(Duration::from_secs(60));
        let seldom = fill(&labels, 0..20_000);
        labels.note_seen(&keys(&seldom), 110);
        assert!(labels.unseen(110 + 183 - 1).is_disjoint(&keys(&seldom).into_iter().collect()));
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

    #[test]
    fn the_cache_does_not_go_on_with_a_label_that_gave_way() {
        let labels = Arc::new(Labels::default());
        let mut cache = LabelCache::new(Arc::clone(&labels));
        let (old, other) = (cache.resolve(0, "old"), cache.resolve(1, "other"));
        fill(&labels, 0..LABELS_MAX - 4);
        labels.give_way(&keys(&[old]).into_iter().collect());
        assert_eq!(labels.intern("new").place(), old.place());
        assert_eq!(cache.resolve(0, "old"), Label::OVERFLOW);
        assert_eq!((cache.resolve(1, "other"), text(&labels, other)), (other, "other".into()));
    }

    proptest! {
        #[test]
        fn no_label_ever_gets_the_text_of_another(
            steps in prop::collection::vec((0..200_usize, 0..3_u8), 1..300),
        ) {
            let labels = Labels::of_size(30);
            let mut given: Vec<(String, Label)> = Vec::new();
            for (now_s, (name, event)) in (0..).zip(steps) {
                labels.note_seen(&[], now_s);
                match event {
                    0 => {
                        let name = format!("n{name}");
                        given.push((name.clone(), labels.intern(&name)));
                    }
                    1 => labels.give_way(&given.iter().rev().take(name).flat_map(|(_, label)| keys(&[*label])).filter(|key| *key > 1).collect()),
                    _ => labels.note_seen(&given.iter().rev().take(name % 5).flat_map(|(_, label)| keys(&[*label])).collect::<Vec<_>>(), now_s),
                }
                for (name, label) in given.iter().filter(|(_, label)| *label != Label::OVERFLOW) {
                    let called = text(&labels, *label);
                    prop_assert!(called == *name || called.is_empty(), "{} is called {}", name, called);
                }
            }
        }
    }
}
