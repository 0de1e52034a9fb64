//! A bound for the parts of results that wait in the recorder for their clients to read.
//!
//! A part keeps its room until HTTP/2 has sent it. A client that does not read keeps room for as long as it is connected, unless
//! others need it.

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
/// A client that has not read a whole part for so long loses its connection if others need its room.
const STALLED: Duration = Duration::from_secs(5);
/// One client a second loses its connection, so that no more do than must.
const PATIENCE: Duration = Duration::from_secs(1);

/// Closes the connection of a client.
pub type Close = Arc<dyn Fn() + Send + Sync>;

/// The room for parts of all results.
pub(super) struct Room {
    large: Arc<Semaphore>,
    large_bytes: usize,
    small: Arc<Semaphore>,
    holders: Arc<Mutex<Holders>>,
}

/// The parts that clients are to read, the one that waits longest first.
#[derive(Default)]
struct Holders {
    next: u64,
    waiting: BTreeMap<u64, Holder>,
}

struct Holder {
    since: Instant,
    is_large: bool,
    /// Closes the connection of its client.
    close: Close,
}

/// The room that one part takes, until this is dropped.
pub(super) struct Reservation {
    _permits: OwnedSemaphorePermit,
    holders: Arc<Mutex<Holders>>,
    is_large: bool,
    /// Its number among the holders, once the client is to read it.
    number: Option<u64>,
}

impl Room {
    /// Room for parts of at most `part_bytes_max`.
    pub(super) fn new(part_bytes_max: usize) -> Room {
        let large_bytes = part_bytes_max.max(LARGE_BYTES);
        let semaphore = |bytes: usize| Arc::new(Semaphore::new(bytes.div_ceil(UNIT_BYTES)));
        Room { large: semaphore(large_bytes), large_bytes, small: semaphore(SMALL_BYTES), holders: Arc::default() }
    }

    /// Waits until there is room for a part of so many bytes. A call that is given up takes none.
    pub(super) async fn take(&self, bytes: usize) -> Result<Reservation, QueryError> {
        let is_large = bytes > SMALL_PART_BYTES_MAX;
        let of = if is_large { &self.large } else { &self.small };
        let units = u32::try_from(bytes.min(self.large_bytes).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let mut acquiring = pin!(Arc::clone(of).acquire_many_owned(units));
        let permits = loop {
            match timeout(PATIENCE, &mut acquiring).await {
                Ok(permits) => break permits.map_err(|_| QueryError::Stopped)?,
                Err(_) => self.close_stalled(is_large),
            }
        };
        Ok(Reservation { _permits: permits, holders: Arc::clone(&self.holders), is_large, number: None })
    }

    /// Closes the connection of the client that has not read a large part, or a small one, for longest.
    fn close_stalled(&self, is_large: bool) {
        let mut holders = lock(&self.holders);
        let first = holders.waiting.iter().find(|(_, holder)| holder.is_large == is_large);
        let stalled = first.filter(|(_, holder)| holder.since.elapsed() >= STALLED).map(|(number, _)| *number);
        let Some(Holder { since, close, .. }) = stalled.and_then(|number| holders.waiting.remove(&number)) else {
            return;
        };
        drop(holders);
        tracing::warn!(
            "closing the connection of a client that did not read a part of its result within {:?}: others need the room",
            since.elapsed()
        );
        close();
    }

    /// What a query is told that found no room in time.
    pub(super) fn full(&self) -> QueryError {
        QueryError::Unread { bytes_max: self.large_bytes as u64 }
    }
}

impl Reservation {
    /// The client is to read the part from now on. `close` closes its connection.
    pub(super) fn given(&mut self, close: Close) {
        let mut holders = lock(&self.holders);
        holders.next += 1;
        let number = holders.next;
        holders.waiting.insert(number, Holder { since: Instant::now(), is_large: self.is_large, close });
        drop(holders);
        self.number = Some(number);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            lock(&self.holders).waiting.remove(&number);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("number", &self.number).finish_non_exhaustive()
    }
}

fn lock(holders: &Mutex<Holders>) -> MutexGuard<'_, Holders> {
    holders.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn has_room(room: &Room, bytes: usize) -> bool {
        timeout(Duration::from_millis(5), room.take(bytes)).await.is_ok()
    }

    #[tokio::test]
    async fn large_parts_are_bounded_together_and_leave_room_for_small_ones() {
        let room = Room::new(16 << 20);
        let first = room.take(16 << 20).await.unwrap();
        assert!(!has_room(&room, 16 << 20).await);
        let second = room.take(8 << 20).await.unwrap();
        assert!(!has_room(&room, SMALL_PART_BYTES_MAX + 1).await);
        assert!(has_room(&room, SMALL_PART_BYTES_MAX).await);
        drop((first, second));
        assert!(has_room(&room, 16 << 20).await);
    }

    #[tokio::test]
    async fn the_largest_part_always_fits() {
        let room = Room::new(100 << 20);
        assert!(has_room(&room, 100 << 20).await);
    }

    #[tokio::test]
    async fn the_client_that_stalls_longest_loses_its_connection_if_others_need_the_room() {
        let room = Arc::new(Room::new(1));
        let closed = Arc::new(AtomicUsize::new(0));
        let mut held = Vec::new();
        for client in 1..=3 {
            let mut reservation = room.take(8 << 20).await.unwrap();
            let closed = Arc::clone(&closed);
            reservation.given(Arc::new(move || closed.store(client, Ordering::Relaxed)));
            held.push(reservation);
        }
        room.close_stalled(true);
        assert_eq!(closed.load(Ordering::Relaxed), 0, "none has stalled for long");
        // The first has read meanwhile.
        held.remove(0);
        for holder in lock(&room.holders).waiting.values_mut() {
            holder.since -= STALLED;
        }
        room.close_stalled(false);
        assert_eq!(closed.load(Ordering::Relaxed), 0, "none of them has room for small parts");
        assert!(has_room(&room, 8 << 20).await);
        assert_eq!(closed.load(Ordering::Relaxed), 0, "there is room");
        let other = tokio::spawn({
            let room = Arc::clone(&room);
            async move { room.take(16 << 20).await.map(drop) }
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
}
