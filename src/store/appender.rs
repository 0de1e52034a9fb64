//! Adding rows: the drain thread's side of a store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use super::hot::{HotBatch, merge_tail};
use super::shared::{Dropped, Loss, State, Store};
use super::view::{TableView, View};
use crate::family::{FamilyId, PerFamily};

/// Rows that the journal cannot take are shown after this time.
const HIDDEN_MAX: Duration = Duration::from_secs(2);

/// New rows of one table.
#[derive(Debug)]
pub struct Append {
    /// The table.
    pub family: FamilyId,
    /// The rows.
    pub batch: RecordBatch,
}

/// Numbers new rows, has them journaled, and then shows them. A store has one appender, from [`Store::open`].
///
/// While the disk hangs, rows wait here for a later call of [`show`](Self::show). Dropping the appender shows those that
/// still wait, so that the next flush writes them. Drop it after the journal's threads have ended: then the journal has all
/// rows that it will ever get.
#[derive(Debug)]
pub struct Appender {
    store: Arc<Store>,
    /// Whose rows they are.
    host: Arc<str>,
    /// The sequence number of each table's next row.
    next_seqs: PerFamily<u64>,
    /// From the oldest to the newest.
    waiting: VecDeque<Waiting>,
}

/// The rows of one call, which are not shown yet.
#[derive(Debug)]
struct Waiting {
    /// When `show` was first called with them.
    since: Option<Instant>,
    /// The journal has them, or never will, once its count of done appends has reached this.
    number: u64,
    rows: Vec<(FamilyId, HotBatch)>,
}

impl Appender {
    pub(super) fn new(store: Arc<Store>, next_seqs: PerFamily<u64>) -> Appender {
        let host = store.settings().host.as_str().into();
        Appender { store, host, next_seqs, waiting: VecDeque::new() }
    }

    /// Journals new rows and shows them: [`submit`](Self::submit) and [`show`](Self::show).
    pub fn append(&mut self, appends: Vec<Append>) {
        self.submit(appends);
        self.show();
    }

    /// Hands new rows to the journal's thread, which writes them while the caller goes on. Returns them with their numbers.
    pub fn submit(&mut self, appends: Vec<Append>) -> &[(FamilyId, HotBatch)] {
        if !appends.is_empty() {
            // A table may have several batches.
            let number = |Append { family, batch }| {
                let next_seq = &mut self.next_seqs[family];
                let rows = HotBatch::new(Arc::clone(&self.host), *next_seq, batch);
                *next_seq = rows.end_seq();
                (family, rows)
            };
            let rows: Vec<_> = appends.into_iter().map(number).collect();
            let journaled: Vec<_> = rows.iter().map(|(family, rows)| (*family, rows.first_seq, &rows.batch)).collect();
            let number = self.store.journal.submit(&journaled);
            self.waiting.push_back(Waiting { since: None, number, rows });
            return self.waiting.back().map_or(&[], |waiting| &waiting.rows);
        }
        &[]
    }

    /// Shows the rows that the journal has, those of all tables in one step. Waits for the journal 200 ms at most. Rows that
    /// it does not have by then are shown by a later call, or after two seconds, so call this at every drain, even without
    /// new rows. Where memory is full, the oldest rows go: see [`take_losses`](Self::take_losses).
    pub fn show(&mut self) {
        let now = Instant::now();
        self.waiting.iter_mut().for_each(|waiting| _ = waiting.since.get_or_insert(now));
        let Some(newest) = self.waiting.back() else { return };
        let done = self.store.journal.wait(newest.number);
        let is_late = |waiting: &Waiting| waiting.since.is_some_and(|since| since.elapsed() > HIDDEN_MAX);
        self.show_ready(|waiting| waiting.number <= done || is_late(waiting));
    }

    /// The rows that were lost since the last call, for whatever reason.
    pub fn take_losses(&mut self) -> Vec<Loss> {
        std::mem::take(&mut self.store.lock().losses)
    }

    /// Whether rows wait for the journal.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn show_ready(&mut self, is_ready: impl Fn(&Waiting) -> bool) {
        let mut ready = Vec::new();
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| is_ready(waiting)) {
            ready.extend(waiting.rows);
        }
        if !ready.is_empty() {
            self.store.show(ready);
        }
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.show_ready(|_| true);
    }
}

impl Store {
    /// Shows new rows, and drops the oldest where memory is full.
    fn show(&self, rows: Vec<(FamilyId, HotBatch)>) {
        let rows: Vec<_> = rows.into_iter().map(|(family, rows)| (family, Arc::new(rows))).collect();
        self.change(|view, state| {
            for (family, rows) in &rows {
                let family = *family;
                let table = &mut state.tables[family];
                let TableView { hot, last, .. } = Arc::make_mut(&mut view.tables[family]);
                table.end_seq = rows.end_seq();
                Arc::make_mut(last.get_or_insert_default()).take(family, &rows.host, &rows.batch);
                hot.push(Arc::clone(rows));
                merge_tail(hot, table.frozen_seq);
                table.count(family, hot);
            }
            drop_excess(view, state, self.settings.hot_bytes_max);
        });
        // After that: whoever listens before it takes a view misses none.
        if let Some(listener) = self.listener.get() {
            (listener.0)(&rows);
        }
    }
}

/// Drops the oldest batches of the largest tables until memory holds at most `hot_bytes_max`.
fn drop_excess(view: &mut View, state: &mut State, hot_bytes_max: u64) {
    while state.hot_bytes() > hot_bytes_max {
        let bytes = |family: &FamilyId| state.tables[*family].hot_bytes(*family);
        let Some(family) = FamilyId::all().max_by_key(bytes) else { break };
        let hot = &mut Arc::make_mut(&mut view.tables[family]).hot;
        if hot.is_empty() {
            break;
        }
        let oldest = hot.remove(0);
        let rows = oldest.batch.num_rows() as u64;
        state.tables[family].count(family, hot);
        let loss = Loss { family, reason: "memory full", rows, time_range: oldest.time_range };
        if state.is_flushing && oldest.first_seq < state.tables[family].frozen_seq {
            state.dropped.push(Dropped { first_seq: oldest.first_seq, end_seq: oldest.end_seq(), loss });
        } else {
            state.lost_rows += rows;
            state.losses.push(loss);
        }
    }
}
