//! A bounded single-producer single-consumer ring of `Copy` records, with all unsafe code of this crate but four system calls.
//!
//! The producer writes records into free slots and makes a whole tick visible with one [`Producer::publish`]. The
//! consumer reads everything published as at most two slices and then frees the slots. Neither ever waits. If the ring
//! is full, the newest record is dropped and counted; older records stay.
//!
//! Positions count up and wrap with `usize`; a slot is `position & mask`. As in Lamport's queue ("Specifying concurrent
//! program modules", 1983) only the producer writes the published position, and only the consumer the freed one. The
//! producer keeps a copy of the freed position and reads the shared one only when the copy says that the ring is full.
//! The consumer keeps no copy of the published position: it reads it once a drain.

use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Arc;

#[cfg(feature = "loom")]
use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
#[cfg(not(feature = "loom"))]
use std::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use crossbeam::utils::CachePadded;

/// The most slots of a ring.
pub const CAPACITY_MAX: usize = 1 << 24;

/// A ring of at least `capacity` slots, rounded up to a power of two within 1…[`CAPACITY_MAX`].
///
/// ```
/// let (mut producer, mut consumer) = kymo::ring::ring::<u64>(4);
/// producer.push(1);
/// producer.push(2);
/// assert_eq!(consumer.drain(|old, new| old.len() + new.len()), 0); // not yet published
/// producer.publish();
/// assert_eq!(consumer.drain(|old, new| [old, new].concat()), [1, 2]);
/// ```
#[must_use]
pub fn ring<T: Copy + Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.clamp(1, CAPACITY_MAX).next_power_of_two();
    let shared = Arc::new(Shared {
        slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        published: CachePadded::new(AtomicUsize::new(0)),
        freed: CachePadded::new(AtomicUsize::new(0)),
        dropped: CachePadded::new(AtomicU64::new(0)),
        abandoned: AtomicBool::new(false),
    });
    let producer = Producer { shared: Arc::clone(&shared), mask: capacity - 1, written: 0, freed: 0, dropped: 0 };
    (producer, Consumer { shared, mask: capacity - 1, freed: 0 })
}

struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Written by the producer: all slots before this position hold initialised records.
    published: CachePadded<AtomicUsize>,
    /// Written by the consumer: all slots before this position may be overwritten.
    freed: CachePadded<AtomicUsize>,
    /// Records dropped because the ring was full. Written by the producer, read by both sides.
    dropped: CachePadded<AtomicU64>,
    /// Set when the producer is gone.
    abandoned: AtomicBool,
}

// SAFETY: slots are the only field that is not `Sync` by itself. A slot is accessed by the producer alone while its
// position is not published, and by the consumer alone from publishing until freeing; the release stores of
// `published` and `freed`, paired with the acquire loads on the other side, order these accesses. Records cross
// threads, hence `T: Send`. `ring` hands out one producer and one consumer, and neither can be cloned.
unsafe impl<T: Copy + Send> Sync for Shared<T> {}
// SAFETY: as above; ownership of the slots may move with the last half.
unsafe impl<T: Copy + Send> Send for Shared<T> {}

/// The writing half. Lives on the collector thread.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    mask: usize,
    /// Position of the next record. Within a tick it is ahead of `Shared::published`.
    written: usize,
    /// The last seen value of `Shared::freed`. Without it, every push would fetch the consumer's cache line.
    freed: usize,
    dropped: u64,
}

impl<T: Copy + Send> Producer<T> {
    /// Writes a record, which becomes visible with the next [`publish`](Self::publish). Returns `false` if the ring is
    /// full; the record is then dropped and counted.
    #[inline]
    pub fn push(&mut self, record: T) -> bool {
        if self.written.wrapping_sub(self.freed) > self.mask {
            // Acquire: pairs with the release store in `drain`, so the consumer's reads of a slot come before the
            // write that reuses it.
            self.freed = self.shared.freed.load(Ordering::Acquire);
            if self.written.wrapping_sub(self.freed) > self.mask {
                self.dropped += 1;
                return false;
            }
        }
        write(&self.shared.slots[self.written & self.mask], record);
        self.written = self.written.wrapping_add(1);
        true
    }

    /// Makes all records pushed so far visible to the consumer.
    #[inline]
    pub fn publish(&mut self) {
        // Release: the slots' contents are written before the position that makes them readable.
        self.shared.published.store(self.written, Ordering::Release);
        // Relaxed: a statistic; it orders nothing.
        self.shared.dropped.store(self.dropped, Ordering::Relaxed);
    }

    /// The number of records dropped because the ring was full, since it was made.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        // Release: a consumer that sees this also sees the last publish.
        self.shared.abandoned.store(true, Ordering::Release);
    }
}

/// The reading half. Lives on the drain thread.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    mask: usize,
    /// Position of the next record to read, which is also the value of `Shared::freed`.
    freed: usize,
}

impl<T: Copy + Send> Consumer<T> {
    /// Passes all published records, oldest first, as two slices (the second is empty unless the records wrap
    /// around the ring's end), then frees their slots.
    ///
    /// If `read` panics, the records stay in the ring and are passed again.
    pub fn drain<R>(&mut self, read: impl FnOnce(&[T], &[T]) -> R) -> R {
        // Acquire: pairs with the release store in `publish`, so slots before the position are initialised.
        let published = self.shared.published.load(Ordering::Acquire);
        let count = published.wrapping_sub(self.freed);
        let start = self.freed & self.mask;
        let before_end = count.min(self.mask + 1 - start);
        let result = view(&self.shared.slots, start, before_end, count - before_end, read);
        self.freed = published;
        // Release: our reads of the slots are done before the producer may write them again.
        self.shared.freed.store(published, Ordering::Release);
        result
    }

    /// The number of records dropped because the ring was full, as of the last publish.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        // Relaxed: a statistic; it orders nothing.
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Whether the producer is gone: a [`drain`](Self::drain) after this has returned `true` is the last one.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        // Acquire: pairs with the release store when the producer was dropped, so that its last publish is seen.
        self.shared.abandoned.load(Ordering::Acquire)
    }
}

#[cfg(not(feature = "loom"))]
#[inline]
fn write<T: Copy>(slot: &UnsafeCell<MaybeUninit<T>>, record: T) {
    // SAFETY: the caller holds the only producer, and found the slot's position at or past `published` and less
    // than a ring's length past `freed`: the consumer does not read it until it is published.
    unsafe { slot.get().write(MaybeUninit::new(record)) }
}

#[cfg(not(feature = "loom"))]
#[inline]
fn view<T, R>(
    slots: &[UnsafeCell<MaybeUninit<T>>],
    start: usize,
    before_end: usize,
    wrapped: usize,
    read: impl FnOnce(&[T], &[T]) -> R,
) -> R {
    let base = slots.as_ptr().cast::<T>();
    // SAFETY: `start + before_end` and `wrapped` are at most the number of slots, `UnsafeCell<MaybeUninit<T>>` has
    // the layout of `T`, and all these positions are published, hence initialised, and not yet freed, so the producer
    // does not write them while the slices live.
    let (old, new) =
        unsafe { (std::slice::from_raw_parts(base.add(start), before_end), std::slice::from_raw_parts(base, wrapped)) };
    read(old, new)
}

// loom checks each cell separately, so its model reads cell by cell instead of by slice. Positions and orderings are
// the same code.
#[cfg(feature = "loom")]
fn write<T: Copy>(slot: &UnsafeCell<MaybeUninit<T>>, record: T) {
    // SAFETY: as in the real `write`.
    slot.with_mut(|cell| unsafe { cell.write(MaybeUninit::new(record)) });
}

#[cfg(feature = "loom")]
fn view<T: Copy, R>(
    slots: &[UnsafeCell<MaybeUninit<T>>],
    start: usize,
    before_end: usize,
    wrapped: usize,
    read: impl FnOnce(&[T], &[T]) -> R,
) -> R {
    // SAFETY: as in the real `view`.
    let copy = |slot: &UnsafeCell<MaybeUninit<T>>| slot.with(|cell| unsafe { cell.read().assume_init() });
    let old: Vec<T> = slots[start..start + before_end].iter().map(copy).collect();
    let new: Vec<T> = slots[..wrapped].iter().map(copy).collect();
    read(&old, &new)
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("written", &self.written)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("freed", &self.freed).finish_non_exhaustive()
    }
}
