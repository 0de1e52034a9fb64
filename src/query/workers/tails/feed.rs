//! New rows on their way from the drain thread to the tails of their tables.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::family::{FamilyId, PerFamily};
use crate::store::HotBatch;

/// Rows that wait to be looked at. They take little memory beside that of the store, which has most of them, too.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// The rows that wait. The drain thread adds to them and never waits itself.
#[derive(Default)]
pub(in crate::query::workers) struct Feed {
    /// How many tails each table has.
    tails: PerFamily<AtomicUsize>,
    queue: Mutex<Queue>,
    /// Wakes whoever takes them.
    pub(in crate::query::workers) changed: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(FamilyId, Fed)>,
    bytes: usize,
}

/// What a table got.
pub(in crate::query::workers) enum Fed {
    /// New rows.
    Rows(Arc<HotBatch>),
    /// So many rows had no room, from this sequence number on.
    Lost(u64, u64),
    /// A tail, and no rows.
    Tail,
}

impl Feed {
    /// Notes that a table has a tail more.
    pub(in crate::query::workers) fn join(&self, family: FamilyId) {
        // With the lock of the queue: rows that are shown later see it.
        let mut queue = self.lock();
        self.tails[family].fetch_add(1, Ordering::Relaxed);
        queue.waiting.push_back((family, Fed::Tail));
        drop(queue);
        self.changed.notify_one();
    }

    /// Notes that a table has a tail less.
    pub(in crate::query::workers) fn leave(&self, family: FamilyId) {
        self.tails[family].fetch_sub(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Takes in rows that queries see from now on.
    pub(in crate::query::workers) fn push(&self, rows: &[(FamilyId, Arc<HotBatch>)]) {
        if self.tails.values().all(|count| count.load(Ordering::Relaxed) == 0) {
            return;
        }
        let mut queue = self.lock();
        for (family, rows) in rows.iter().filter(|(family, _)| self.tails[*family].load(Ordering::Relaxed) > 0) {
            queue.push(*family, rows);
        }
        drop(queue);
        self.changed.notify_one();
    }

    pub(in crate::query::workers) fn pop(&self) -> Option<(FamilyId, Fed)> {
        let mut queue = self.lock();
        let (family, fed) = queue.waiting.pop_front()?;
        if let Fed::Rows(rows) = &fed {
            queue.bytes -= bytes(rows);
        }
        Some((family, fed))
    }

    pub(in crate::query::workers) fn clear(&self) {
        *self.lock() = Queue::default();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, family: FamilyId, rows: &Arc<HotBatch>) {
        let more = bytes(rows);
        if self.bytes + more <= WAITING_BYTES_MAX {
            self.bytes += more;
            self.waiting.push_back((family, Fed::Rows(Arc::clone(rows))));
            return;
        }
        let count = rows.batch.num_rows() as u64;
        match self.waiting.back_mut() {
            Some((of, Fed::Lost(_, lost))) if *of == family => *lost += count,
            _ => self.waiting.push_back((family, Fed::Lost(rows.first_seq, count))),
        }
    }
}

/// What rows take, about.
fn bytes(rows: &HotBatch) -> usize {
    rows.batch.num_rows() * rows.batch.num_columns() * size_of::<i64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::to_batch;
    use crate::record::Record;
    use crate::record::label::Labels;
    use crate::sampler::report::Gap;

    #[test]
    fn rows_wait_within_a_bound_and_the_others_are_counted() {
        let (feed, family) = (Feed::default(), FamilyId::of::<Gap>());
        let batch = to_batch(&[&vec![Gap::absent(7); 10_000]], &Labels::default(), &Gap::TABLE.schema());
        let rows = |first_seq| [(family, Arc::new(HotBatch::new("h".into(), first_seq, batch.clone())))];
        feed.push(&rows(0));
        assert!(feed.pop().is_none(), "nobody follows the table");
        feed.join(family);
        assert!(matches!(feed.pop(), Some((_, Fed::Tail))));
        let count = WAITING_BYTES_MAX / bytes(&rows(0)[0].1);
        for at in 0..count as u64 + 3 {
            feed.push(&rows(at * 10_000));
        }
        for at in 0..count as u64 {
            assert!(matches!(feed.pop(), Some((_, Fed::Rows(rows))) if rows.first_seq == at * 10_000));
        }
        let from = count as u64 * 10_000;
        assert!(matches!(feed.pop(), Some((_, Fed::Lost(first, 30_000))) if first == from));
        assert!(feed.pop().is_none());
        feed.leave(family);
        feed.push(&rows(0));
        assert!(feed.pop().is_none());
    }
}
