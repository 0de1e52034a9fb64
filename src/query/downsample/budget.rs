//! Memory that the threads of one operator share.
//!
//! What was once reserved stays reserved. A sort above the operator would else fill what is free between two slices, and the next slice
//! would have less room than the one before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::{DataFusionError, Result, resources_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};

/// The memory of an operator.
#[derive(Debug)]
pub(super) struct Budget {
    reservation: MemoryReservation,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used_bytes: usize,
    /// Threads end when they ask for more.
    has_ended: bool,
}

/// What one thread has of it, until this is dropped.
#[derive(Debug)]
pub(super) struct Part {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(name: &str, context: &TaskContext) -> Arc<Budget> {
        let reservation = MemoryConsumer::new(name).register(context.memory_pool());
        Arc::new(Budget { reservation, state: Mutex::default() })
    }

    /// A part without memory.
    pub(super) fn part(self: &Arc<Self>) -> Part {
        Part { budget: Arc::clone(self), bytes: 0 }
    }

    /// Tells all threads that they are to end.
    pub(super) fn end(&self) {
        self.state().has_ended = true;
    }

    /// Begins again, with at least half of the memory that there was. All threads have ended.
    pub(super) fn begin_again(&self) {
        self.state().has_ended = false;
        self.reservation.resize(self.reservation.size() / 2);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, from_bytes: usize, to_bytes: usize) -> Result<()> {
        let mut state = self.state();
        if state.has_ended {
            return resources_err!("another thread needs too much memory");
        }
        let used_bytes = state.used_bytes - from_bytes + to_bytes;
        if used_bytes > self.reservation.size() {
            self.reservation.try_resize(used_bytes)?;
        }
        state.used_bytes = used_bytes;
        Ok(())
    }
}

impl Part {
    /// Has so many bytes from now on. If there are not so many, nothing changes.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<()> {
        self.budget.change(self.bytes, bytes)?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.budget.state().used_bytes -= self.bytes;
    }
}

/// Whether there was not enough memory.
pub(super) fn is_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};

    use super::*;

    #[test]
    fn parts_share_what_is_reserved_and_it_stays_reserved() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let reservation = MemoryConsumer::new("test").register(&pool);
        let budget = Arc::new(Budget { reservation, state: Mutex::default() });
        let (mut one, mut other) = (budget.part(), budget.part());
        one.resize(60).unwrap();
        other.resize(30).unwrap();
        assert!(is_of_memory(&other.resize(50).unwrap_err()));
        drop(one);
        assert_eq!(pool.reserved(), 90);
        other.resize(100).unwrap();
        budget.end();
        assert!(is_of_memory(&other.resize(1).unwrap_err()));
        drop(other);
        budget.begin_again();
        assert_eq!(pool.reserved(), 50);
        budget.part().resize(100).unwrap();
        drop(budget);
        assert_eq!(pool.reserved(), 0);
    }
}
