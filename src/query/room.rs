//! A bound for the parts of results that wait in the recorder for their clients to read.
//!
//! A part keeps its room until HTTP has sent it. A client that does not read keeps room, and its statement a place among those that
//! run, for as long as it is connected, unless others need them.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::error::QueryError;

/// All large parts together, or the largest one if that is more.
const LARGE_BYTES: usize = 24 << 20;
/// All small parts together. They have room of their own, so that clients that do not read a large result leave small ones alone.
const SMALL_BYTES: usize = 8 << 20;
/// A larger part is a large one.
const SMALL_PART_BYTES_MAX: usize = 64 << 10;
/// Room is counted in this unit.
const UNIT_BYTES: usize = 1 << 10;
/// A client that has not read a whole part for so long loses its connection if others need what it holds.
const STALLED: Duration = Duration::from_secs(5);
/// One client a second loses its connection, so that no more do than must.
const PATIENCE: Duration = Duration::from_secs(1);

/// Closes the connection of a client.
pub type Close = Arc<dyn Fn() + Send + Sync>;

/// What a client that does not read keeps from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Room for a large part of a result.
    Large,
    /// Room for a small one.
    Small,
    /// One of the statements that run at once.
    Statement,
}

/// The room for parts of all results.
pub(super) struct Room {
    large: Arc<Semaphore>,
    large_bytes: usize,
    small: Arc<Semaphore>,
    readers: Arc<Mutex<Readers>>,
}

/// The clients of results, by their numbers.
#[derive(Default)]
struct Readers {
    next: u64,
    all: BTreeMap<u64, Reading>,
}

/// How far a client is with its result.
struct Reading {
    /// It has had a part to read since then. `None` while it waits for the next one.
    since: Option<Instant>,
    /// Parts that have room: large ones, and small ones.
    large: usize,
    small: usize,
    /// The statement has not ended.
    runs: bool,
    /// Closes its connection, if that may be closed.
    close: Option<Close>,
}

/// The client of one result, for as long as a part of this has room.
pub(super) struct Reader {
    readers: Arc<Mutex<Readers>>,
    number: u64,
}

/// The room that one part takes, until this is dropped.
pub(super) struct Reservation {
    _permits: OwnedSemaphorePermit,
    reader: Arc<Reader>,
    is_large: bool,
}

impl Room {
    /// Room for parts of at most `part_bytes_max`.
    pub(super) fn new(part_bytes_max: usize) -> Room {
        let large_bytes = part_bytes_max.max(LARGE_BYTES);
        let semaphore = |bytes: usize| Arc::new(Semaphore::new(bytes.div_ceil(UNIT_BYTES)));
        Room { large: semaphore(large_bytes), large_bytes, small: semaphore(SMALL_BYTES), readers: Arc::default() }
    }

    /// The client of a statement that runs from now on.
    pub(super) fn reader(&self) -> Arc<Reader> {
        let mut readers = lock(&self.readers);
        readers.next += 1;
        let number = readers.next;
        readers.all.insert(number, Reading { since: None, large: 0, small: 0, runs: true, close: None });
        drop(readers);
        Arc::new(Reader { readers: Arc::clone(&self.readers), number })
    }

    /// Waits until there is room for a part of so many bytes. A call that is given up takes none.
    pub(super) async fn take(&self, bytes: usize, reader: &Arc<Reader>) -> Result<Reservation, QueryError> {
        let is_large = bytes > SMALL_PART_BYTES_MAX;
        let (of, need) = if is_large { (&self.large, Need::Large) } else { (&self.small, Need::Small) };
        let permits = Arc::clone(of).acquire_many_owned(units(bytes.min(self.large_bytes)));
        let permits = self.wait(need, permits).await.map_err(|_| QueryError::Stopped)?;
        reader.change(|reading| *reading.parts(is_large) += 1);
        Ok(Reservation { _permits: permits, reader: Arc::clone(reader), is_large })
    }

    /// Waits for what clients hold. Meanwhile those that do not read lose their connections, one after the other.
    pub(super) async fn wait<T>(&self, need: Need, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            match timeout(PATIENCE, &mut work).await {
                Ok(done) => return done,
                Err(_) => self.close_stalled(need),
            }
        }
    }

    /// Closes the connection of the client that has not read for longest, of those that have what others need.
    fn close_stalled(&self, need: Need) {
        let mut readers = lock(&self.readers);
        let has = |reading: &Reading| match need {
            Need::Large => reading.large > 0,
            Need::Small => reading.small > 0,
            Need::Statement => reading.runs,
        };
        let stalled = readers.all.values_mut().filter(|reading| reading.close.is_some() && has(reading));
        let stalled = stalled.filter_map(|reading| Some((reading.since?, reading))).min_by_key(|(since, _)| *since);
        let Some((since, reading)) = stalled.filter(|(since, _)| since.elapsed() >= STALLED) else { return };
        let close = reading.close.take();
        drop(readers);
        tracing::warn!(
            "closing the connection of a client that did not read a part of its result within {:?}: others need {}",
            since.elapsed(),
            if need == Need::Statement { "to run their statements" } else { "the room" }
        );
        if let Some(close) = close {
            close();
        }
    }

    /// What a query is told that found no room in time.
    pub(super) fn full(&self) -> QueryError {
        QueryError::Unread { bytes_max: self.large_bytes as u64 }
    }
}

/// What so many bytes count.
pub(super) fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

impl Reading {
    fn parts(&mut self, is_large: bool) -> &mut usize {
        if is_large { &mut self.large } else { &mut self.small }
    }
}

impl Reader {
    /// Its connection may be closed by `close`.
    pub(super) fn close_by(&self, close: Close) {
        self.change(|reading| reading.close = Some(close));
    }

    /// Whether it has a part to read from now on, or waits for the next one.
    pub(super) fn has_part(&self, has_part: bool) {
        self.change(|reading| reading.since = has_part.then(Instant::now));
    }

    /// The statement has ended.
    pub(super) fn ended(&self) {
        self.change(|reading| reading.runs = false);
    }

    fn change(&self, change: impl FnOnce(&mut Reading)) {
        // It is there until this is dropped.
        lock(&self.readers).all.get_mut(&self.number).map(change);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        lock(&self.readers).all.remove(&self.number);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.reader.change(|reading| *reading.parts(self.is_large) -= 1);
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("number", &self.number).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("reader", &self.reader).finish_non_exhaustive()
    }
}

fn lock(readers: &Mutex<Readers>) -> MutexGuard<'_, Readers> {
    readers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn take(room: &Room, bytes: usize) -> Option<Reservation> {
        timeout(Duration::from_millis(5), room.take(bytes, &room.reader())).await.ok()?.ok()
    }

    #[tokio::test]
    async fn large_parts_are_bounded_together_and_leave_room_for_small_ones() {
        let room = Room::new(16 << 20);
        let first = take(&room, 16 << 20).await.unwrap();
        assert!(take(&room, 16 << 20).await.is_none());
        let second = take(&room, 8 << 20).await.unwrap();
        assert!(take(&room, SMALL_PART_BYTES_MAX + 1).await.is_none());
        assert!(take(&room, SMALL_PART_BYTES_MAX).await.is_some());
        drop((first, second));
        assert!(take(&room, 16 << 20).await.is_some());
        assert!(lock(&room.readers).all.is_empty());
    }

    #[tokio::test]
    async fn the_largest_part_always_fits() {
        let room = Room::new(100 << 20);
        assert!(take(&room, 100 << 20).await.is_some());
    }

    /// Three clients that have a large part each, and which of them was closed last.
    async fn three(room: &Room) -> (Vec<Reservation>, Arc<AtomicUsize>) {
        let closed = Arc::new(AtomicUsize::new(0));
        let mut held = Vec::new();
        for client in 1..=3 {
            let reservation = take(room, 8 << 20).await.unwrap();
            let closed = Arc::clone(&closed);
            reservation.reader.close_by(Arc::new(move || closed.store(client, Ordering::Relaxed)));
            reservation.reader.has_part(true);
            held.push(reservation);
        }
        (held, closed)
    }

    fn pass(room: &Room, time: Duration) {
        lock(&room.readers)
            .all
            .values_mut()
            .filter_map(|reading| reading.since.as_mut())
            .for_each(|since| *since -= time);
    }

    #[tokio::test]
    async fn the_client_that_stalls_longest_loses_its_connection_if_others_need_the_room() {
        let room = Arc::new(Room::new(1));
        let (mut held, closed) = three(&room).await;
        room.close_stalled(Need::Large);
        assert_eq!(closed.load(Ordering::Relaxed), 0, "none has stalled for long");
        // The first has read meanwhile.
        held.remove(0);
        pass(&room, STALLED);
        room.close_stalled(Need::Small);
        assert_eq!(closed.load(Ordering::Relaxed), 0, "none of them has room for small parts");
        assert!(take(&room, 8 << 20).await.is_some());
        assert_eq!(closed.load(Ordering::Relaxed), 0, "there is room");
        let other = tokio::spawn({
            let room = Arc::clone(&room);
            async move { room.take(16 << 20, &room.reader()).await.map(drop) }
        });
        while closed.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(closed.load(Ordering::Relaxed), 2);
        // Its connection is closed, so its part is gone.
        held.remove(0);
        other.await.unwrap().unwrap();
        assert_eq!(closed.load(Ordering::Relaxed), 2, "no other one");
    }

    #[tokio::test]
    async fn those_that_need_a_statement_close_clients_whose_statements_run() {
        let room = Room::new(1);
        let (held, closed) = three(&room).await;
        pass(&room, STALLED);
        // One is at its end, and one waits for the next part.
        held[0].reader.ended();
        held[1].reader.has_part(false);
        room.close_stalled(Need::Statement);
        assert_eq!(closed.swap(0, Ordering::Relaxed), 3);
        room.close_stalled(Need::Statement);
        assert_eq!(closed.load(Ordering::Relaxed), 0, "it is closed once");
    }
}
