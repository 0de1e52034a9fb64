//! How many processes are in which state: counted by the family that reads all processes anyway, recorded by another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The states of `proc_pid_stat(5)` that last: running, sleeping, waiting uninterruptibly, stopped, zombie and idle.
pub(crate) const STATES: usize = 6;

/// The last count. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Census(Arc<Shared>);

/// It is no setting: contexts that differ in nothing else are the same.
impl PartialEq for Census {
    fn eq(&self, _: &Census) -> bool {
        true
    }
}

impl Eq for Census {}

#[derive(Debug, Default)]
struct Shared {
    counts: [AtomicI64; STATES],
    /// How many counts there were.
    taken: AtomicU64,
}

/// Processes by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(pub(crate) [i64; STATES]);

impl Counts {
    /// Adds a process of this state, as the kernel writes it.
    pub(crate) fn add(&mut self, state: u8) {
        let at = match state {
            b'R' => 0,
            b'S' => 1,
            b'D' => 2,
            // Stopped by a signal, and by a debugger.
            b'T' | b't' => 3,
            b'Z' => 4,
            b'I' => 5,
            // It is ending, or in a state that old kernels had for moments.
            _ => return,
        };
        if let Some(count) = self.0.get_mut(at) {
            *count += 1;
        }
    }
}

impl Census {
    /// Replaces the last count.
    pub(crate) fn put(&self, counts: Counts) {
        for (shared, count) in self.0.counts.iter().zip(counts.0) {
            // Relaxed: the release below orders it.
            shared.store(count, Ordering::Relaxed);
        }
        // Release: who sees the new number also sees the counts.
        self.0.taken.fetch_add(1, Ordering::Release);
    }

    /// How many counts there were, and the last one. If another thread is counting, some figures may be of its count already.
    pub(crate) fn last(&self) -> (u64, Counts) {
        // Acquire: pairs with the release in `put`.
        let taken = self.0.taken.load(Ordering::Acquire);
        let mut counts = Counts::default();
        for (count, shared) in counts.0.iter_mut().zip(&self.0.counts) {
            *count = shared.load(Ordering::Relaxed);
        }
        (taken, counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_count_and_others_have_none() {
        let mut counts = Counts::default();
        b"RSSDTtZIXxKWP?".iter().for_each(|state| counts.add(*state));
        let census = Census::default();
        assert_eq!(census.last(), (0, Counts::default()));
        census.clone().put(counts);
        assert_eq!(census.last(), (1, Counts([1, 2, 1, 2, 1, 1])));
    }
}
