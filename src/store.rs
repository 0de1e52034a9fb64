//! The store: batches in memory and in the journal, Parquet files on disk, and one atomic view over both.
//!
//! Three kinds of threads meet here. The drain thread appends, to the [`journal`] first; the flush turns what is in
//! memory into a file and swaps one for the other; queries take the current [`View`] and keep it as long as they run.
//! Every change makes a new view and publishes it with one pointer swap, so a reader sees each record exactly once,
//! whether it is still in memory or long on disk.
//!
//! A start puts back into memory what the journal has that no file has ([`recovery`]). While the disk refuses something,
//! recording goes on in memory, and [`Store::degraded`] says what is wrong.

mod absent;
pub mod compaction;
pub mod disk;
mod flush;
mod folders;
pub mod health;
pub mod hot;
pub mod journal;
pub mod lake;
mod lock;
pub mod partition;
pub mod recovery;
pub mod retention;
mod trash;
mod upkeep;
pub mod verify;
mod view;
pub mod writer;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use arrow::array::RecordBatch;

use crate::family::{FamilyId, PerFamily};
use absent::Absent;
use disk::{Disk, LocalDisk, create_folders};
use flush::Dropped;
pub use flush::Flushed;
use health::{Health, Part, Trouble};
pub use hot::HotBatch;
use hot::{merge_tail, row_bytes};
use journal::{JOURNAL, Journal, JournalSettings};
use lake::{DataFile, Lake, LakeError, Scan};
use recovery::{Recovered, Recovery};
use trash::Trash;
pub use upkeep::Compacted;
pub use view::{TableView, View};
use writer::Publisher;

/// Rows that the journal does not get written are shown all the same after this.
const HIDDEN_MAX: Duration = Duration::from_secs(2);

/// What a store is given.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The data folder.
    pub path: PathBuf,
    /// The `host=` partition that this daemon writes.
    pub host: String,
    /// Rows in memory beyond this are dropped, oldest first, and counted.
    pub hot_bytes_max: u64,
    /// The oldest segments of the journal are deleted while all of them have more bytes.
    pub journal_bytes_max: u64,
    /// What was drained this long ago is on the device.
    pub journal_sync_interval: Duration,
    /// The files of each such stretch of time become one, once it is over.
    pub compaction_interval: Option<Duration>,
    /// Files are deleted, oldest first, when all their rows are older than this.
    pub retention_age_max: Option<Duration>,
    /// Files are deleted, oldest first, while all of them together are larger than this.
    pub retention_bytes_max: Option<u64>,
}

impl StoreSettings {
    /// A store in `path` without limits, whose files stay as they are.
    #[must_use]
    pub fn unlimited(path: &Path, host: &str) -> StoreSettings {
        StoreSettings {
            path: path.into(),
            host: host.into(),
            hot_bytes_max: u64::MAX,
            journal_bytes_max: u64::MAX,
            journal_sync_interval: Duration::from_secs(1),
            compaction_interval: None,
            retention_age_max: None,
            retention_bytes_max: None,
        }
    }
}

/// Counters and sizes, for the `kymo` table and status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Rows in memory only.
    pub hot_rows: u64,
    /// Memory that they take.
    pub hot_bytes: u64,
    /// Size of all files.
    pub lake_bytes: u64,
    /// Number of files.
    pub lake_files: u64,
    /// Flushes that published what they had, since start.
    pub flushes: u64,
    /// Flushes that failed, since start.
    pub failed_flushes: u64,
    /// Rows dropped from memory at `hot_bytes_max`, since start.
    pub lost_rows: u64,
    /// Size of the journal's segments.
    pub journal_bytes: u64,
    /// Rows that could not be written to the journal, since start. They were in memory, and went with the next flush.
    pub unjournaled_rows: u64,
}

/// New rows of one table.
#[derive(Debug)]
pub struct Append {
    /// The table.
    pub family: FamilyId,
    /// The rows.
    pub batch: RecordBatch,
}

/// Rows that a query saw and no query will see again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The table.
    pub family: FamilyId,
    /// Why, as it stands in the table `gap`: "memory full" when no flush succeeded for too long, "files gone" when
    /// somebody deleted them.
    pub reason: &'static str,
    /// How many.
    pub rows: u64,
    /// Smallest and greatest `time` of them, µs.
    pub time_range: (i64, i64),
}

/// What opening a store found, but for the files that it shows.
#[derive(Debug, Default)]
pub struct Opened {
    /// In the lake.
    pub scan: Scan,
    /// In the journal.
    pub recovery: Recovery,
}

/// The store of a running daemon. Shared by its threads.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    lake: Lake,
    publisher: Publisher,
    trash: Arc<Trash>,
    journal: Journal,
    health: Arc<Health>,
    settings: StoreSettings,
    view: ArcSwap<View>,
    /// Guards changes of `view` and the counters; held for moments only, never over I/O.
    state: Mutex<State>,
    /// For the drain thread, and whoever flushes after it has ended.
    pending: Mutex<Pending>,
    absent: Mutex<Vec<Absent>>,
    /// One flush at a time: two would write the same rows twice.
    flushing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    tables: PerFamily<TableState>,
    /// A flush writes the rows before the tables' `frozen_seq`.
    is_flushing: bool,
    /// What of them had to go meanwhile.
    dropped: Vec<Dropped>,
    flushes: u64,
    failed_flushes: u64,
    lost_rows: u64,
}

/// Rows that the journal is still to write.
#[derive(Debug)]
struct Pending {
    /// The sequence number of each table's next row.
    next_seqs: PerFamily<u64>,
    /// From the oldest to the newest: what [`Journal::done`] must have reached, since when they wait, and the rows.
    appends: VecDeque<(u64, Instant, Vec<Append>)>,
    /// What had to go when rows were shown by a flush.
    losses: Vec<Loss>,
}

#[derive(Clone, Copy, Debug, Default)]
struct TableState {
    next_seq: u64,
    /// Rows before this belong to the flush under way: they are not merged with later ones.
    frozen_seq: u64,
    /// Rows before this were recovered. They are not merged with later ones, whose labels have other keys.
    recovered_seq: u64,
    hot_rows: u64,
    /// The interval of the collector that samples it, for the files' metadata.
    interval: Option<Duration>,
}

impl Store {
    /// Takes the data folder, and shows the files of this host in it and what else the journal has.
    ///
    /// Nothing is journaled until [`start_journal`](Self::start_journal).
    ///
    /// # Errors
    /// When the folder cannot be used, or another process uses it.
    pub fn open(settings: StoreSettings) -> Result<(Store, Opened), LakeError> {
        Store::open_on(Arc::new(LocalDisk), settings)
    }

    /// The same on another disk than this host's. It is read by `std::fs` all the same.
    ///
    /// # Errors
    /// When the folder cannot be used, or another process uses it.
    pub fn open_on(disk: Arc<dyn Disk>, settings: StoreSettings) -> Result<(Store, Opened), LakeError> {
        let lake = Lake::open(&*disk, &settings.path)?;
        let mut scan = lake.recover(&disk, &settings.host)?;
        // The view alone holds them: a file that is given up goes when its last reader is gone.
        let files = std::mem::take(&mut scan.files);
        let ends = PerFamily::from_fn(|family| files_end(&files[family]));
        let folder = settings.path.join(JOURNAL);
        let (recovered, recovery) = recovery::recover(&*disk, &folder, &settings.host, ends)?;
        let Recovered { mut hot, next_seqs, left, next_number } = recovered;
        let tables = PerFamily::from_fn(|family| {
            let next_seq = next_seqs[family].max(scan.end_seqs[family]);
            let hot_rows = hot[family].iter().map(|hot| hot.batch.num_rows() as u64).sum();
            TableState { next_seq, frozen_seq: next_seq, recovered_seq: next_seq, hot_rows, interval: None }
        });
        let table = |family, files| {
            let hot = std::mem::take(&mut hot[family]);
            Arc::new(TableView { family, hot, files: Arc::new(files) })
        };
        let view = View { tables: files.map(table) };
        let health = Arc::new(Health::default());
        let journal = JournalSettings {
            host: settings.host.clone(),
            bytes_max: settings.journal_bytes_max,
            sync_interval: settings.journal_sync_interval,
        };
        let journal = Journal::new(
            Arc::clone(&disk),
            folder,
            Arc::clone(lake.lock()),
            journal,
            Arc::clone(&health),
            left,
            next_number,
        );
        let state =
            State { tables, is_flushing: false, dropped: Vec::new(), flushes: 0, failed_flushes: 0, lost_rows: 0 };
        let trash = Arc::new(Trash::new(Arc::clone(&disk)));
        let store = Store {
            publisher: Publisher::new(Arc::clone(&disk), lake.root().to_owned(), Arc::clone(&trash)),
            disk,
            lake,
            trash,
            journal,
            health,
            settings,
            view: ArcSwap::from_pointee(view),
            pending: Mutex::new(Pending {
                next_seqs: PerFamily::from_fn(|family| state.tables[family].next_seq),
                appends: VecDeque::new(),
                losses: Vec::new(),
            }),
            state: Mutex::new(state),
            absent: Mutex::default(),
            flushing: Mutex::new(()),
        };
        Ok((store, Opened { scan, recovery }))
    }

    /// All tables as of now. What it shows stays readable as long as it is held.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// What the store was opened with.
    #[must_use]
    pub fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// Notes the interval at which a table is sampled, for the metadata of its files.
    pub fn set_interval(&self, family: FamilyId, interval: Option<Duration>) {
        self.lock().tables[family].interval = interval;
    }

    /// Journals new rows and then makes them visible, all tables in one step. Called by the drain thread alone, also when
    /// there is nothing new: while the disk hangs, rows wait for a later call, but not for long. Returns the rows that had
    /// to go because memory is full.
    pub fn append(&self, appends: Vec<Append>) -> Vec<Loss> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if !appends.is_empty() {
            let Pending { next_seqs, .. } = &mut *pending;
            // A family may have several batches.
            let mut sequenced = Vec::with_capacity(appends.len());
            for Append { family, batch } in &appends {
                let next_seq = &mut next_seqs[*family];
                sequenced.push((*family, *next_seq, batch));
                *next_seq += batch.num_rows() as u64;
            }
            let number = self.journal.append(&sequenced);
            pending.appends.push_back((number, Instant::now(), appends));
        }
        let losses = self.show_written(&mut pending);
        std::mem::take(&mut pending.losses).into_iter().chain(losses).collect()
    }

    /// Makes rows visible that the journal has, or that have waited for too long.
    fn show_written(&self, pending: &mut Pending) -> Vec<Loss> {
        let done = self.journal.done();
        let is_ready = |waiting: &mut (u64, Instant, _)| waiting.0 <= done || waiting.1.elapsed() > HIDDEN_MAX;
        let mut ready = Vec::new();
        while let Some((.., appends)) = pending.appends.pop_front_if(is_ready) {
            ready.extend(appends);
        }
        if ready.is_empty() { Vec::new() } else { self.show(ready) }
    }

    fn show(&self, appends: Vec<Append>) -> Vec<Loss> {
        let mut state = self.lock();
        let mut view = View::clone(&self.view.load());
        for Append { family, batch } in appends {
            let table_state = &mut state.tables[family];
            let mut table = TableView::clone(&view.tables[family]);
            let appended = HotBatch::new(table_state.next_seq, batch);
            table_state.next_seq = appended.end_seq();
            table_state.hot_rows += appended.batch.num_rows() as u64;
            table.hot.push(Arc::new(appended));
            merge_tail(&mut table.hot, table_state.frozen_seq);
            view.tables[family] = Arc::new(table);
        }
        let losses = drop_excess(&mut view, &mut state, self.settings.hot_bytes_max);
        self.view.store(Arc::new(view));
        losses
    }

    /// Has losses returned by the next append.
    pub fn tell_later(&self, losses: Vec<Loss>) {
        if !losses.is_empty() {
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).losses.extend(losses);
        }
    }

    /// Sizes and counters as of now.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let state = self.lock();
        let view = self.view.load();
        let files = || view.tables.values().flat_map(|table| table.files.iter());
        let (journal_bytes, unjournaled_rows) = self.journal.stats();
        StoreStats {
            hot_rows: state.tables.values().map(|table| table.hot_rows).sum(),
            hot_bytes: hot_bytes(&state),
            lake_bytes: files().map(|file| file.bytes).sum(),
            lake_files: files().count() as u64,
            flushes: state.flushes,
            failed_flushes: state.failed_flushes,
            lost_rows: state.lost_rows,
            journal_bytes,
            unjournaled_rows,
        }
    }

    /// Has everything journaled from now on. What is returned is for two threads, which run until
    /// [`stop_journal`](Self::stop_journal): one writes what is appended, one syncs it every sync interval.
    #[must_use = "without the threads nothing is journaled, and every append waits in vain"]
    pub fn start_journal(self: &Arc<Store>) -> (impl FnOnce() + Send + use<>, impl FnOnce() + Send + use<>) {
        self.journal.attach();
        let (writes, syncs) = (Arc::clone(self), Arc::clone(self));
        (move || writes.journal.write_until_stopped(), move || syncs.journal.sync_until_stopped())
    }

    /// Syncs the journal now; whether all that was journaled is on the device.
    pub fn sync_journal(&self) -> bool {
        self.journal.sync()
    }

    /// Has both threads of the journal end once everything that was appended is written and synced.
    pub fn stop_journal(&self) {
        self.journal.stop();
    }

    /// Deletes the journal as far as files have its rows. For a store that nothing is appended to any more.
    pub fn close(&self) {
        self.journal.close();
        self.journal.delete_covered(&self.covered());
    }

    /// Looks after what goes wrong without a call that fails; whether a flush should come soon. To be called about once
    /// a second.
    pub fn check(&self) -> bool {
        self.journal.check();
        let held = self.lake.lock().hold();
        let folders = [self.lake.root().to_owned(), self.settings.path.join(JOURNAL)];
        let missing: Vec<&PathBuf> = folders.iter().filter(|folder| !folder.is_dir()).collect();
        // Whoever deleted one of these left the folder that they are in; that one's return is waited for.
        let made = held.and_then(|()| {
            missing.iter().try_for_each(|folder| Ok(create_folders(&*self.disk, &self.settings.path, folder)?))
        });
        let changed = self.health.note(Part::Folder, made.err());
        if changed || !missing.is_empty() {
            self.look_for_files();
        }
        self.journal.take_flush_wanted()
    }

    /// What keeps the store from what it should do on disk, and since when; nothing if all is well.
    #[must_use]
    pub fn degraded(&self) -> Vec<Trouble> {
        self.health.troubles()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and views are replaced whole, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One more than the last sequence number of a table's files, and their greatest time.
fn files_end(files: &[Arc<DataFile>]) -> recovery::FilesEnd {
    let end_seq = files.iter().map(|file| file.end_seq).max()?;
    Some((end_seq, files.iter().map(|file| file.time_range.1).max()?))
}

/// All tables as they stand on disk in `data`, of every host, without a daemon or beside one. The scan tells what else
/// was found.
///
/// # Errors
/// When there is no lake in the folder or it cannot be read.
pub fn open_read_only(data: &Path) -> Result<(View, Scan), LakeError> {
    let scan = lake::scan_read_only(data)?;
    let mut view = View::empty();
    for (family, table) in view.tables.iter_mut() {
        *table = Arc::new(TableView { files: Arc::new(scan.files[family].clone()), ..TableView::clone(table) });
    }
    Ok((view, scan))
}

/// Drops the oldest batches of the largest tables until memory holds at most `hot_bytes_max`.
fn drop_excess(view: &mut View, state: &mut State, hot_bytes_max: u64) -> Vec<Loss> {
    let mut losses = Vec::new();
    while hot_bytes(state) > hot_bytes_max {
        let bytes = |family: &FamilyId| state.tables[*family].hot_rows * row_bytes(family.table);
        let Some(family) = FamilyId::all().max_by_key(bytes) else { break };
        let mut table = TableView::clone(&view.tables[family]);
        if table.hot.is_empty() {
            break;
        }
        let oldest = table.hot.remove(0);
        let rows = oldest.batch.num_rows() as u64;
        state.tables[family].hot_rows -= rows;
        let loss = Loss { family, reason: "memory full", rows, time_range: oldest.time_range };
        if state.is_flushing && oldest.first_seq < state.tables[family].frozen_seq {
            state.dropped.push(Dropped { first_seq: oldest.first_seq, end_seq: oldest.end_seq(), loss });
        } else {
            state.lost_rows += rows;
            losses.push(loss);
        }
        view.tables[family] = Arc::new(table);
    }
    losses
}

fn hot_bytes(state: &State) -> u64 {
    state.tables.iter().map(|(family, table)| table.hot_rows * row_bytes(family.table)).sum()
}

#[cfg(test)]
mod tests;
