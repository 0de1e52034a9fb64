//! Tails: who follows which table, and what waits for them.
//!
//! One worker looks after all tails (`look.rs`), so that a hundred readers are no hundred processes, and tails of the same statement
//! are one. Nobody waits for a reader: rows that it has no room for are counted.

pub(super) mod feed;
pub(super) mod reader;

use std::collections::{BTreeMap, VecDeque};
use std::mem::{replace, take};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arrow_flight::FlightData;

use crate::family::FamilyId;
use crate::query::error::{ErrorKind, QueryError};
use crate::query::request::Moment;
use crate::query::tail::{TAILS_MAX, Tail};
use crate::query::worker::message::Statement;
use crate::store::HotBatch;
use feed::{Fed, Feed};
use reader::{Reader, Readers};

/// A reader that misses rows for so long gives its place to another, if all places are taken.
const STALLED: Duration = Duration::from_secs(5);

/// What follows tables.
#[derive(Default)]
pub(super) struct Tails {
    state: Mutex<State>,
    feed: Feed,
}

#[derive(Default)]
struct State {
    groups: BTreeMap<u64, Arc<Group>>,
    next: u64,
    /// A task looks after them.
    is_served: bool,
}

/// Tails of one statement.
pub(super) struct Group {
    pub(super) number: u64,
    pub(super) tail: Tail,
    pub(super) statement: Statement,
    readers: Readers,
    /// A message without rows, once a worker has told it.
    pub(super) empty: OnceLock<FlightData>,
}

impl Group {
    pub(super) fn readers(&self) -> Vec<Arc<Reader>> {
        lock(&self.readers).clone()
    }

    pub(super) fn miss(&self, first_seq: u64, rows: u64) {
        self.readers().iter().for_each(|reader| reader.miss(first_seq, rows));
    }
}

impl Tails {
    /// Takes in rows that queries see from now on. Never waits.
    pub(super) fn push(&self, rows: &[(FamilyId, Arc<HotBatch>)]) {
        self.feed.push(rows);
    }

    /// A new reader. The second value tells whether somebody must begin to look after tails.
    pub(super) fn join(
        &self,
        tail: Tail,
        statement: Statement,
        reader: Arc<Reader>,
    ) -> Result<(Arc<Group>, bool), QueryError> {
        let mut state = lock(&self.state);
        let all = || {
            state
                .groups
                .values()
                .flat_map(|group| group.readers().into_iter().map(|reader| (Arc::clone(group), reader)))
        };
        if all().count() >= TAILS_MAX {
            let longest = all().max_by_key(|(_, reader)| reader.stalled());
            let stalled = longest.filter(|(_, reader)| reader.stalled() >= STALLED);
            let (group, stalled) = stalled
                .ok_or_else(|| told(format!("{TAILS_MAX} tails are read already: try again after one has ended")))?;
            stalled.close(&told("its place was given to another reader, as it did not read".into()));
            self.remove(&mut state, &group, &stalled);
        }
        let known = state.groups.values().find(|group| group.statement == statement).map(Arc::clone);
        let group = known.unwrap_or_else(|| {
            state.next += 1;
            let number = state.next;
            let group = Group { number, tail, statement, readers: Readers::default(), empty: OnceLock::new() };
            let group = Arc::new(group);
            state.groups.insert(number, Arc::clone(&group));
            group
        });
        lock(&group.readers).push(reader);
        self.feed.join(group.tail.table.family);
        let is_served = replace(&mut state.is_served, true);
        Ok((group, !is_served))
    }

    pub(super) fn leave(&self, group: &Arc<Group>, reader: &Arc<Reader>) {
        self.remove(&mut lock(&self.state), group, reader);
    }

    /// Ends all tails of one statement. Their readers may take a while to go.
    pub(super) fn end(&self, group: &Group, error: &QueryError) {
        let mut state = lock(&self.state);
        state.groups.remove(&group.number);
        for reader in take(&mut *lock(&group.readers)) {
            self.feed.leave(group.tail.table.family);
            reader.end(error);
        }
    }

    fn remove(&self, state: &mut State, group: &Group, reader: &Arc<Reader>) {
        let mut readers = lock(&group.readers);
        let before = readers.len();
        readers.retain(|other| !Arc::ptr_eq(other, reader));
        if readers.len() < before {
            self.feed.leave(group.tail.table.family);
        }
        if readers.is_empty() {
            state.groups.remove(&group.number);
        }
    }

    /// The tails of a table.
    pub(super) fn of(&self, family: FamilyId) -> VecDeque<Arc<Group>> {
        let state = lock(&self.state);
        state.groups.values().filter(|group| group.tail.table.family == family).map(Arc::clone).collect()
    }

    /// Whether anybody reads the tail of this number.
    pub(super) fn has(&self, number: u64) -> bool {
        lock(&self.state).groups.contains_key(&number)
    }

    /// The next rows, or `None` once there is no tail.
    pub(super) async fn next(&self) -> Option<(FamilyId, Fed)> {
        loop {
            if let Some(fed) = self.feed.pop() {
                return Some(fed);
            }
            {
                let mut state = lock(&self.state);
                if state.groups.is_empty() {
                    state.is_served = false;
                    self.feed.clear();
                    return None;
                }
            }
            self.feed.changed.notified().await;
        }
    }
}

fn told(text: String) -> QueryError {
    QueryError::Told { kind: ErrorKind::Limit, text }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One more than the sequence number of the last row of a table.
pub(super) fn end_seq(moment: &Moment, family: FamilyId) -> u64 {
    let table = &moment.view.tables[family];
    let ends = table.files.iter().map(|file| file.end_seq).chain(table.hot.iter().map(|hot| hot.end_seq()));
    ends.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::tail::TailRequest;

    fn join(tails: &Tails, filter: &str) -> Result<(Arc<Group>, Arc<Reader>, bool), QueryError> {
        let request = TailRequest { table: "gap".into(), filter: filter.into(), ..TailRequest::default() };
        let tail = request.check()?;
        let statement = Statement { sql: tail.sql.clone(), ..Statement::default() };
        let reader = Arc::new(Reader::new(None));
        let (group, is_first) = tails.join(tail, statement, Arc::clone(&reader))?;
        Ok((group, reader, is_first))
    }

    #[tokio::test]
    async fn tails_of_one_statement_are_one_and_their_number_is_bounded() {
        let tails = Tails::default();
        let (group, reader, is_first) = join(&tails, "lost > 1").unwrap();
        assert!(is_first);
        for at in 1..TAILS_MAX {
            let (other, _, is_first) = join(&tails, if at % 2 == 0 { "lost > 1" } else { "lost > 2" }).unwrap();
            assert_eq!((is_first, other.number == group.number), (false, at % 2 == 0));
        }
        assert_eq!(tails.of(group.tail.table.family).len(), 2);
        let error = join(&tails, "lost > 3").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("128 tails are read already"), "{error}");
        tails.leave(&group, &reader);
        join(&tails, "lost > 3").unwrap();
        // Those of a statement that failed are gone at once, whether or not their clients are.
        tails.end(&group, &QueryError::Stopped);
        assert!(!tails.has(group.number));
        let (again, reader, _) = join(&tails, "lost > 1").unwrap();
        assert_ne!(again.number, group.number);
        tails.leave(&again, &reader);
        assert!(!tails.has(again.number));
    }

    #[tokio::test]
    async fn whoever_looks_after_tails_goes_with_the_last() {
        let tails = Tails::default();
        let (group, reader, _) = join(&tails, "").unwrap();
        assert!(matches!(tails.next().await, Some((_, Fed::Tail))));
        tails.leave(&group, &reader);
        assert!(tails.next().await.is_none());
        assert!(join(&tails, "").unwrap().2, "the next one is the first again");
    }
}
