//! The store as its threads share it.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::clock::TrustedClock;
use super::disk::Disk;
use super::hot::{HotBatch, dictionary_bytes, row_bytes};
use super::journal::Journal;
use super::lake::DataFile;
use super::lock::FolderLock;
use super::postponed::Postponed;
use super::settings::StoreSettings;
use super::trash::Trash;
use super::trouble::{Trouble, Troubles};
use super::view::View;
use crate::family::tables::TableId;
use crate::family::{FamilyId, PerFamily};

/// Counters and sizes, for the `kymo` table and status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Rows in memory that no file has.
    pub hot_rows: u64,
    /// Memory that they take.
    pub hot_bytes: u64,
    /// Size of all files.
    pub lake_bytes: u64,
    /// Number of files.
    pub lake_files: u64,
    /// Flushes that succeeded, since start.
    pub flushes: u64,
    /// Flushes that failed, since start.
    pub failed_flushes: u64,
    /// Rows dropped from memory at `hot_bytes_max`, since start.
    pub lost_rows: u64,
    /// Size of the journal's segments.
    pub journal_bytes: u64,
    /// Rows that could not be written to the journal, since start. They stayed in memory until the next flush.
    pub unjournaled_rows: u64,
}

/// Rows that were recorded and that no query will see again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The table.
    pub family: FamilyId,
    /// The reason that the table `gap` gives: "memory full" if no flush succeeded for too long, "files gone" if somebody
    /// deleted files, "not recovered" if neither files nor the journal had them at the start.
    pub reason: &'static str,
    /// How many.
    pub rows: u64,
    /// Smallest and greatest `time` of them, µs.
    pub time_range: (i64, i64),
}

/// Told of rows, after views have them and on the thread that shows them. It must not wait.
pub(super) struct Listener(pub(super) Box<Listen>);

type Listen = dyn Fn(&[(FamilyId, Arc<HotBatch>)]) + Send + Sync;

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

/// The store of a running daemon. Shared by its threads.
#[derive(Debug)]
pub struct Store {
    pub(super) disk: Arc<dyn Disk>,
    /// The folder of the tables.
    pub(super) lake: PathBuf,
    pub(super) folder_lock: Arc<FolderLock>,
    /// Folders of published files whose names are on the device.
    pub(super) folders: Mutex<HashSet<PathBuf>>,
    pub(super) trash: Arc<Trash>,
    pub(super) journal: Journal,
    pub(super) troubles: Arc<Troubles>,
    pub(super) settings: StoreSettings,
    pub(super) clock: Mutex<TrustedClock>,
    pub(super) view: ArcSwap<View>,
    /// Guards the counters and each change of `view`. Held for moments only, never over I/O.
    pub(super) state: Mutex<State>,
    pub(super) absent: Mutex<Vec<Absent>>,
    /// Held for moments only.
    pub(super) postponed: Mutex<Postponed>,
    /// Told of rows that are shown.
    pub(super) listener: OnceLock<Listener>,
    /// Held by a flush: two at a time would write the same rows twice.
    pub(super) flushing: Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tables: PerFamily<TableState>,
    pub(super) sources: PerFamily<Source>,
    /// A flush is writing the rows before the tables' `frozen_seq`.
    pub(super) is_flushing: bool,
    /// Those of them that memory had no room for meanwhile.
    pub(super) dropped: Vec<Dropped>,
    /// Files of tiers that were published before TIERS could not be replaced.
    pub(super) unconfirmed: BTreeSet<PathBuf>,
    pub(super) flushes: u64,
    pub(super) failed_flushes: u64,
    pub(super) lost_rows: u64,
    /// Losses that nobody has taken yet.
    pub(super) losses: Vec<Loss>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TableState {
    /// One more than the last row that was shown.
    pub(super) end_seq: u64,
    /// The flush under way writes the rows before this, so they are not merged with later ones.
    pub(super) frozen_seq: u64,
    /// Rows before this were recovered. Their labels have other keys, so they are not merged with later ones.
    pub(super) recovered_seq: u64,
    pub(super) hot_rows: u64,
    /// What the dictionaries of their labels take.
    pub(super) dictionary_bytes: u64,
}

/// What samples a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    /// For the files' metadata; `None` for a table that no collector samples.
    pub(super) interval: Option<Duration>,
    /// The name of its collector.
    pub(super) collector: Arc<str>,
}

/// Rows that were dropped from memory while a flush was writing them. They are lost if the flush fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropped {
    pub(super) first_seq: u64,
    pub(super) end_seq: u64,
    pub(super) loss: Loss,
}

/// A file that the view does not show because it is absent. It may come back with its folder.
#[derive(Clone, Debug)]
pub(super) struct Absent {
    pub(super) table: TableId,
    pub(super) file: Arc<DataFile>,
    /// It was reported as a loss.
    pub(super) is_told: bool,
}

impl Store {
    /// All tables as of now. Files that it shows stay readable as long as it is held.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// What the store was opened with.
    #[must_use]
    pub fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// Calls `listener` with rows after they are shown, on the drain thread. It must not wait. Only the first one is called.
    pub fn listen(&self, listener: impl Fn(&[(FamilyId, Arc<HotBatch>)]) + Send + Sync + 'static) {
        self.listener.get_or_init(|| Listener(Box::new(listener)));
    }

    /// Notes which collector samples a table, and at which interval.
    pub fn set_source(&self, family: FamilyId, collector: &str, interval: Duration) {
        let source = Source { interval: Some(interval), collector: collector.into() };
        self.change(|view, state| {
            // Queries see the seconds of rows that were never flushed.
            let table = Arc::make_mut(&mut view.tables[family]);
            source.tell(Arc::make_mut(&mut table.buckets), &[]);
            state.sources[family] = source;
        });
    }

    /// Sizes and counters as of now.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let state = self.lock();
        let view = self.view.load();
        let files = || view.tables.values().flat_map(|table| table.all_files()).flat_map(|(_, files)| files.iter());
        let (journal_bytes, unjournaled_rows) = self.journal.stats();
        StoreStats {
            hot_rows: state.tables.values().map(|table| table.hot_rows).sum(),
            hot_bytes: state.hot_bytes(),
            lake_bytes: files().map(|file| file.bytes).sum(),
            lake_files: files().count() as u64,
            flushes: state.flushes,
            failed_flushes: state.failed_flushes,
            lost_rows: state.lost_rows,
            journal_bytes,
            unjournaled_rows,
        }
    }

    /// Journals everything from now on. The caller runs the two returned functions on threads of their own: the first writes
    /// what is appended, the second syncs it every sync interval. Both return after [`stop_journal`](Self::stop_journal).
    #[must_use = "without these threads nothing is journaled, and every append waits for its timeout"]
    pub fn start_journal(self: &Arc<Store>) -> (impl FnOnce() + Send + use<>, impl FnOnce() + Send + use<>) {
        self.journal.attach();
        let (writes, syncs) = (Arc::clone(self), Arc::clone(self));
        (move || writes.journal.write_until_stopped(), move || syncs.journal.sync_until_stopped())
    }

    /// Whether rows need a flush soon, as they are in no segment that can be synced. True once.
    pub fn take_flush_wanted(&self) -> bool {
        self.journal.take_flush_wanted()
    }

    /// Syncs the journal. Returns whether everything that was written to it is on the device.
    pub fn sync_journal(&self) -> bool {
        self.journal.sync()
    }

    /// Ends both threads of the journal, after everything that was appended is written and synced.
    pub fn stop_journal(&self) {
        self.journal.stop();
    }

    /// Deletes the segments of the journal whose rows are all in files. Nothing may be appended after this.
    pub fn close(&self) {
        self.journal.close();
        self.journal.delete_covered(&self.covered());
    }

    /// What the disk refuses, and since when. Empty if all is well.
    #[must_use]
    pub fn degraded(&self) -> Vec<Trouble> {
        self.troubles.list()
    }

    /// Changes the view in one step.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut View, &mut State) -> T) -> T {
        // Held until the view is stored, so that no other change comes in between.
        let mut state = self.lock();
        let mut view = View::clone(&self.view.load());
        let result = change(&mut view, &mut state);
        self.view.store(Arc::new(view));
        result
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A view is replaced as a whole, so a panic elsewhere leaves none half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Memory that all rows take.
    pub(super) fn hot_bytes(&self) -> u64 {
        self.tables.iter().map(|(family, table)| table.hot_bytes(family)).sum()
    }
}

impl TableState {
    /// Memory that the rows take.
    pub(super) fn hot_bytes(&self, family: FamilyId) -> u64 {
        self.hot_rows * row_bytes(family.table) + self.dictionary_bytes
    }

    /// Counts the rows in memory anew.
    pub(super) fn count(&mut self, family: FamilyId, hot: &[Arc<HotBatch>]) {
        self.hot_rows = hot.iter().map(|hot| hot.batch.num_rows() as u64).sum();
        self.dictionary_bytes = dictionary_bytes(family.table, hot);
    }
}
