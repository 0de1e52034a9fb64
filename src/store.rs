//! The store: batches in memory and in the journal, Parquet files on disk, and one atomic view over both.
//!
//! Three kinds of threads meet here. The drain thread appends rows, to the [`journal`] first ([`Appender`]). A flush writes
//! the rows in memory to a file and shows the file in their place. A query takes the current [`View`] and keeps it as long
//! as it runs. Every change makes a new view and publishes it with one pointer swap, so a reader sees each record exactly
//! once, in memory or on disk.
//!
//! At start, rows that the journal has and no file has go back into memory ([`recovery`]). While the disk refuses
//! something, recording goes on in memory, and [`Store::degraded`] says what is wrong.

mod absent;
pub mod appender;
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

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::family::{FamilyId, PerFamily};
use absent::Absent;
pub use appender::{Append, Appender};
use disk::{Disk, LocalDisk, create_folders};
use flush::Dropped;
pub use flush::Flushed;
use health::{Health, Part, Trouble};
pub use hot::HotBatch;
use hot::row_bytes;
use journal::{JOURNAL, Journal, JournalSettings};
use lake::{DataFile, Lake, LakeError, Scan};
use recovery::{Recovered, Recovery};
use trash::Trash;
pub use upkeep::Compacted;
pub use view::{TableView, View};
use writer::Publisher;

/// Where a store is, and its limits.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The data folder.
    pub path: PathBuf,
    /// The `host=` partition that this daemon writes.
    pub host: String,
    /// Beyond this, rows in memory are dropped, oldest first, and counted.
    pub hot_bytes_max: u64,
    /// While the journal is larger than this, its oldest segments are deleted.
    pub journal_bytes_max: u64,
    /// The journal is synced this often: a power loss costs at most the rows of this time.
    pub journal_sync_interval: Duration,
    /// Once a period of this length is over, its files are merged into one.
    pub compaction_interval: Option<Duration>,
    /// A file is deleted when all its rows are older than this.
    pub retention_age_max: Option<Duration>,
    /// While all files together are larger than this, the oldest is deleted.
    pub retention_bytes_max: Option<u64>,
}

impl StoreSettings {
    /// A store in `path` without limits. Its files are neither merged nor deleted.
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

/// Rows that a query saw and no query will see again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The table.
    pub family: FamilyId,
    /// The reason that the table `gap` gives: "memory full" if no flush succeeded for too long, "files gone" if somebody
    /// deleted files.
    pub reason: &'static str,
    /// How many.
    pub rows: u64,
    /// Smallest and greatest `time` of them, µs.
    pub time_range: (i64, i64),
}

/// What opening a store found, apart from the files that it shows.
#[derive(Debug, Default)]
pub struct Opened {
    /// What it found in the lake.
    pub scan: Scan,
    /// What it found in the journal.
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
    /// Guards the counters and each change of `view`. Held for moments only, never over I/O.
    state: Mutex<State>,
    absent: Mutex<Vec<Absent>>,
    /// Held by a flush: two at a time would write the same rows twice.
    flushing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    tables: PerFamily<TableState>,
    /// A flush is writing the rows before the tables' `frozen_seq`.
    is_flushing: bool,
    /// Those of them that memory had no room for meanwhile.
    dropped: Vec<Dropped>,
    flushes: u64,
    failed_flushes: u64,
    lost_rows: u64,
    /// Losses that nobody has taken yet.
    losses: Vec<Loss>,
}

#[derive(Clone, Copy, Debug)]
struct TableState {
    /// One more than the last row that was shown.
    end_seq: u64,
    /// The flush under way writes the rows before this, so they are not merged with later ones.
    frozen_seq: u64,
    /// Rows before this were recovered. Their labels have other keys, so they are not merged with later ones.
    recovered_seq: u64,
    hot_rows: u64,
    /// The interval of its collector, for the files' metadata.
    interval: Option<Duration>,
}

impl Store {
    /// Locks the data folder, and shows the files of this host and the rows that only the journal has. The appender is for
    /// the drain thread, the store for all threads.
    ///
    /// Nothing is journaled before [`start_journal`](Self::start_journal).
    ///
    /// # Errors
    /// When the folder cannot be used, or another process uses it.
    pub fn open(settings: StoreSettings) -> Result<(Arc<Store>, Appender, Opened), LakeError> {
        Store::open_on(Arc::new(LocalDisk), settings)
    }

    /// The same, with all changes made through `disk`. Reading uses `std::fs`.
    ///
    /// # Errors
    /// When the folder cannot be used, or another process uses it.
    pub fn open_on(disk: Arc<dyn Disk>, settings: StoreSettings) -> Result<(Arc<Store>, Appender, Opened), LakeError> {
        let lake = Lake::open(&*disk, &settings.path)?;
        let mut scan = lake.recover(&disk, &settings.host)?;
        // Only views hold files: a file that is given up can then be deleted once its last reader is gone.
        let files = std::mem::take(&mut scan.files);
        let ends = PerFamily::from_fn(|family| files_end(&files[family]));
        let folder = settings.path.join(JOURNAL);
        let (recovered, recovery) = recovery::recover(&*disk, &folder, &settings.host, ends)?;
        let Recovered { mut hot, next_seqs, left, next_number } = recovered;
        let next_seqs = next_seqs.map(|family, next_seq| next_seq.max(scan.end_seqs[family]));
        let tables = PerFamily::from_fn(|family| {
            let end_seq = next_seqs[family];
            let hot_rows = hot[family].iter().map(|hot| hot.batch.num_rows() as u64).sum();
            TableState { end_seq, frozen_seq: end_seq, recovered_seq: end_seq, hot_rows, interval: None }
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
        let state = State {
            tables,
            is_flushing: false,
            dropped: Vec::new(),
            flushes: 0,
            failed_flushes: 0,
            lost_rows: 0,
            losses: Vec::new(),
        };
        let trash = Arc::new(Trash::new(Arc::clone(&disk)));
        let store = Arc::new(Store {
            publisher: Publisher::new(Arc::clone(&disk), lake.root().to_owned(), Arc::clone(&trash)),
            disk,
            lake,
            trash,
            journal,
            health,
            settings,
            view: ArcSwap::from_pointee(view),
            state: Mutex::new(state),
            absent: Mutex::default(),
            flushing: Mutex::new(()),
        });
        let appender = Appender::new(Arc::clone(&store), next_seqs);
        Ok((store, appender, Opened { scan, recovery }))
    }

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

    /// Notes the interval at which a table is sampled, for the metadata of its files.
    pub fn set_interval(&self, family: FamilyId, interval: Option<Duration>) {
        self.lock().tables[family].interval = interval;
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

    /// Looks for trouble that no failed call reports: a sync that hangs, a folder or segment that somebody deleted. Returns
    /// whether rows need a flush soon. Call this about once a second.
    pub fn check(&self) -> bool {
        self.journal.check();
        let held = self.lake.lock().hold();
        let folders = [self.lake.root().to_owned(), self.settings.path.join(JOURNAL)];
        let missing: Vec<&PathBuf> = folders.iter().filter(|folder| !folder.is_dir()).collect();
        // These two are made again. If the data folder itself is gone, the store waits until it is back.
        let made = held.and_then(|()| {
            missing.iter().try_for_each(|folder| Ok(create_folders(&*self.disk, &self.settings.path, folder)?))
        });
        let changed = self.health.note(Part::Folder, made.err());
        if changed || !missing.is_empty() {
            self.look_for_files();
        }
        self.journal.take_flush_wanted()
    }

    /// What the disk refuses, and since when. Empty if all is well.
    #[must_use]
    pub fn degraded(&self) -> Vec<Trouble> {
        self.health.troubles()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A view is replaced as a whole, so a panic elsewhere leaves none half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hot_bytes(&self) -> u64 {
        self.tables.iter().map(|(family, table)| table.hot_rows * row_bytes(family.table)).sum()
    }
}

/// One more than the last sequence number of a table's files, and their greatest time.
fn files_end(files: &[Arc<DataFile>]) -> recovery::FilesEnd {
    let end_seq = files.iter().map(|file| file.end_seq).max()?;
    Some((end_seq, files.iter().map(|file| file.time_range.1).max()?))
}

/// The files of all tables and hosts in `data`, whether or not a daemon runs there. The scan lists what else was found.
///
/// # Errors
/// When the folder has no lake, or cannot be read.
pub fn open_read_only(data: &Path) -> Result<(View, Scan), LakeError> {
    let scan = lake::scan_read_only(data)?;
    let mut view = View::empty();
    for (family, table) in view.tables.iter_mut() {
        *table = Arc::new(TableView { files: Arc::new(scan.files[family].clone()), ..TableView::clone(table) });
    }
    Ok((view, scan))
}

#[cfg(test)]
mod tests;
