//! The store: batches in memory and in the journal, Parquet files on disk, and one atomic view over both.
//!
//! Three kinds of threads meet here. The drain thread appends, to the [`journal`] first; the flush turns what is in
//! memory into a file and swaps one for the other; queries take the current [`View`] and keep it as long as they run.
//! Every change makes a new view and publishes it with one pointer swap, so a reader sees each record exactly once,
//! whether it is still in memory or long on disk.
//!
//! A start puts back into memory what the journal has that no file has ([`recovery`]). While the disk refuses something,
//! recording goes on in memory, and [`Store::degraded`] says what is wrong.

pub mod compaction;
pub mod disk;
pub mod health;
pub mod hot;
pub mod journal;
pub mod lake;
mod lock;
pub mod partition;
pub mod recovery;
pub mod retention;
pub mod verify;
pub mod writer;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use arrow::array::RecordBatch;

use crate::family::{FAMILIES, Family};
use disk::{Disk, DiskError, LocalDisk, step};
use health::{Degraded, Health, Part};
pub use hot::HotBatch;
use hot::{merge_tail, row_bytes};
use journal::{JOURNAL, Journal, JournalSettings};
use lake::{DataFile, Lake, LakeError, Scan};
use recovery::{Recovered, Recovery};
use writer::{Origin, Segment, WriteError};

/// Files that somebody took away and may bring back; of more, the oldest are forgotten.
const ABSENT_MAX: usize = 100_000;
/// Rows that the journal does not get written are shown all the same after this.
const HIDDEN_MAX: Duration = Duration::from_secs(2);

/// Everything that can be queried at one moment, one entry a family, in the order of [`FAMILIES`].
#[derive(Clone, Debug)]
pub struct View {
    /// By position in [`FAMILIES`].
    pub tables: Vec<Arc<TableView>>,
}

/// One table at one moment.
#[derive(Clone, Debug)]
pub struct TableView {
    /// What table it is.
    pub family: &'static Family,
    /// Rows that are in no file, in the order they came.
    pub hot: Vec<Arc<HotBatch>>,
    /// Rows on disk, in the order of their sequence numbers.
    pub files: Arc<Vec<Arc<DataFile>>>,
    /// The newest drained rows: they stay here when a flush takes them out of `hot`.
    pub latest: Option<Arc<HotBatch>>,
}

impl View {
    /// A view without any row.
    #[must_use]
    pub fn empty() -> View {
        let table = |family| TableView { family, hot: Vec::new(), files: Arc::default(), latest: None };
        View { tables: FAMILIES.iter().map(|family| Arc::new(table(family))).collect() }
    }
}

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
    /// The table's position in [`FAMILIES`].
    pub family: usize,
    /// The rows.
    pub batch: RecordBatch,
    /// The newest rows of every series of the table, for [`TableView::latest`].
    pub latest: RecordBatch,
}

/// Rows that a query saw and no query will see again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The table's position in [`FAMILIES`].
    pub family: usize,
    /// Why, as it stands in the table `gap`: "memory full" when no flush succeeded for too long, "files gone" when
    /// somebody deleted them.
    pub reason: &'static str,
    /// How many.
    pub rows: u64,
    /// Smallest and greatest `time` of them, µs.
    pub time_range: (i64, i64),
}

/// What a flush did.
#[derive(Clone, Debug, Default)]
pub struct Flushed {
    /// Rows that went to disk.
    pub rows: u64,
    /// Files that were published.
    pub files: Vec<PathBuf>,
    /// Size of these files.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// What opening a store found, but for the files that it shows.
#[derive(Debug, Default)]
pub struct Opened {
    /// In the lake.
    pub scan: Scan,
    /// In the journal.
    pub recovery: Recovery,
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files that became one with others.
    pub from: usize,
    /// The files that they became.
    pub files: usize,
}

/// The store of a running daemon. Shared by its threads.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    lake: Lake,
    journal: Journal,
    health: Arc<Health>,
    settings: StoreSettings,
    view: ArcSwap<View>,
    /// Guards changes of `view` and the counters; held for moments only, never over I/O.
    state: Mutex<State>,
    /// For the drain thread, and whoever flushes after it has ended.
    pending: Mutex<Pending>,
    /// One flush at a time: two would write the same rows twice.
    flushing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    tables: Vec<TableState>,
    absent: Vec<Absent>,
    flushes: u64,
    failed_flushes: u64,
    lost_rows: u64,
}

/// A file that the view does not show because it is not where it was: it may come back with its folder.
#[derive(Clone, Debug)]
struct Absent {
    /// The table's position in [`FAMILIES`].
    family: usize,
    file: Arc<DataFile>,
    /// It was told as a loss.
    is_told: bool,
}

/// Rows that the journal is still to write.
#[derive(Debug)]
struct Pending {
    /// By position in the families: the sequence number of the next row.
    next_seqs: Vec<u64>,
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
        let ends: Vec<_> = files.iter().map(|files| files_end(files)).collect();
        let folder = settings.path.join(JOURNAL);
        let (recovered, recovery) = recovery::recover(&*disk, &folder, &settings.host, &ends)?;
        let Recovered { hot, next_seqs, left, next_number } = recovered;
        let mut view = View::empty();
        let mut tables = vec![TableState::default(); FAMILIES.len()];
        let found = files.into_iter().zip(hot).zip(next_seqs);
        for ((table, state), ((files, hot), next_seq)) in view.tables.iter_mut().zip(&mut tables).zip(found) {
            state.next_seq = next_seq;
            // They are not merged with rows to come, whose labels have other keys.
            state.frozen_seq = next_seq;
            state.hot_rows = hot.iter().map(|hot| hot.batch.num_rows() as u64).sum();
            *table = Arc::new(TableView { hot, files: Arc::new(files), ..TableView::clone(table) });
        }
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
        let state = State { tables, absent: Vec::new(), flushes: 0, failed_flushes: 0, lost_rows: 0 };
        let store = Store {
            disk,
            lake,
            journal,
            health,
            settings,
            view: ArcSwap::from_pointee(view),
            pending: Mutex::new(Pending {
                next_seqs: state.tables.iter().map(|table| table.next_seq).collect(),
                appends: VecDeque::new(),
                losses: Vec::new(),
            }),
            state: Mutex::new(state),
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
    pub fn set_interval(&self, family: usize, interval: Option<Duration>) {
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
            let sequenced = appends.iter().filter_map(|Append { family, batch, .. }| {
                let next_seq = next_seqs.get_mut(*family)?;
                let first_seq = *next_seq;
                *next_seq += batch.num_rows() as u64;
                Some((*family, first_seq, batch))
            });
            let number = self.journal.append(sequenced);
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
        for Append { family, batch, latest } in appends {
            let Some(table_state) = state.tables.get_mut(family) else { continue };
            let mut table = TableView::clone(&view.tables[family]);
            let appended = HotBatch::new(table_state.next_seq, batch);
            table_state.next_seq = appended.end_seq();
            table_state.hot_rows += appended.batch.num_rows() as u64;
            table.latest = Some(Arc::new(HotBatch::new(appended.first_seq, latest)));
            table.hot.push(Arc::new(appended));
            merge_tail(&mut table.hot, table_state.frozen_seq);
            view.tables[family] = Arc::new(table);
        }
        let losses = drop_excess(&mut view, &mut state, self.settings.hot_bytes_max);
        self.view.store(Arc::new(view));
        losses
    }

    /// Shows no newest rows of a table until more come: its collector was stopped, they are current no longer.
    pub fn forget_latest(&self, family: usize) {
        let _state = self.lock();
        let mut view = View::clone(&self.view.load());
        if let Some(table) = view.tables.get_mut(family) {
            *table = Arc::new(TableView { latest: None, ..TableView::clone(table) });
            self.view.store(Arc::new(view));
        }
    }

    /// Writes what is in memory to Parquet and shows the files instead. Tables that cannot be written stay in memory
    /// and the first of their errors is returned; the others are published all the same.
    ///
    /// # Errors
    /// When the file system refuses. The rows stay in memory and go with the next flush.
    pub fn flush(&self) -> Result<Flushed, WriteError> {
        let _one = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        if let Err(error) = self.lake.lock().hold() {
            self.health.bad(Part::Folder, &error);
            self.lock().failed_flushes += 1;
            return Err(error.into());
        }
        // Those that the drain thread left when it ended; while it runs, it may be waiting for the disk itself.
        if let Ok(mut pending) = self.pending.try_lock() {
            let losses = self.show_written(&mut pending);
            pending.losses.extend(losses);
        }
        self.journal.rotate();
        let (frozen, intervals) = self.freeze();
        let mut flushed = Flushed::default();
        let mut failure = None;
        for (index, table) in frozen.tables.iter().enumerate() {
            let Some(first) = table.hot.first() else { continue };
            let batches = table.hot.iter().map(|hot| hot.batch.clone()).collect();
            let segment = Segment { first_seq: first.first_seq, batches };
            let origin = Origin { table: table.family.table, host: &self.settings.host, interval: intervals[index] };
            if let Err(error) = self.flush_table(index, origin, &segment, &mut flushed) {
                failure = failure.or(Some(error));
            }
        }
        let covered = self.covered();
        let deleted = self.journal.checkpoint(&covered).and_then(|()| self.journal.shrink());
        self.health.note(Part::Delete, deleted.as_ref().err());
        self.health.note(Part::Flush, failure.as_ref());
        let mut state = self.lock();
        flushed.took = begun.elapsed();
        match failure {
            None => {
                state.flushes += 1;
                Ok(flushed)
            }
            Some(error) => {
                state.failed_flushes += 1;
                Err(error)
            }
        }
    }

    /// Publishes rows of a table day by day, and shows each file in the place of its rows.
    fn flush_table(
        &self,
        index: usize,
        origin: Origin<'_>,
        segment: &Segment,
        flushed: &mut Flushed,
    ) -> Result<(), WriteError> {
        for (date, day) in writer::split_by_date(segment) {
            let file = writer::publish(&*self.disk, self.lake.root(), origin, date, &day)?;
            flushed.rows += file.rows;
            flushed.bytes += file.bytes;
            flushed.files.push(file.path.clone());
            self.replace_hot(index, Arc::new(file));
            step("flush.swapped").map_err(DiskError::of("publish", self.lake.root()))?;
        }
        Ok(())
    }

    /// By position in the families: rows before this are in files, or were dropped and counted.
    fn covered(&self) -> Vec<u64> {
        let state = self.lock();
        let view = self.view.load();
        let tables = state.tables.iter().zip(&view.tables);
        tables.map(|(state, table)| table.hot.first().map_or(state.next_seq, |hot| hot.first_seq)).collect()
    }

    /// Makes one file of those of each stretch of time that is over, until `stop` is set. `settle` is how long after its
    /// end such a stretch may still get a file. Returns how many files became one, and how many these are.
    ///
    /// # Errors
    /// When a file cannot be read, or the file system refuses. All files stay as they were then, but for those of tables
    /// that were done before.
    pub fn compact(&self, now: i64, settle: Duration, stop: &AtomicBool) -> Result<Compacted, WriteError> {
        let mut compacted = Compacted::default();
        let Some(window) = self.settings.compaction_interval else { return Ok(compacted) };
        self.lake.lock().hold()?;
        let view = self.view();
        let tables = view.tables.iter().map(|table| (table.family, compaction::due(&table.files, now, window, settle)));
        let due: Vec<_> = tables.enumerate().collect();
        // Files that are replaced would stay as long as this view.
        drop(view);
        for (index, (family, runs)) in due {
            for run in runs {
                let outcome = self.compact_run(index, family, &run, stop);
                self.health
                    .note(Part::Compaction, outcome.as_ref().err().filter(|e| !matches!(e, WriteError::Stopped)));
                outcome?;
                compacted.from += run.len();
                compacted.files += 1;
            }
        }
        Ok(compacted)
    }

    fn compact_run(
        &self,
        index: usize,
        family: &Family,
        run: &[Arc<DataFile>],
        stop: &AtomicBool,
    ) -> Result<(), WriteError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let range = run
            .iter()
            .fold((i64::MAX, i64::MIN), |(low, high), file| (low.min(file.time_range.0), high.max(file.time_range.1)));
        let interval = self.lock().tables[index].interval;
        let target = writer::Target {
            disk: &*self.disk,
            lake: self.lake.root(),
            origin: Origin { table: family.table, host: &self.settings.host, interval },
            date: partition::date_of(range.0),
            sequence: (first.first_seq, last.end_seq),
            time_range: range,
        };
        let rows = compaction::Merge::new(family.table, run, stop);
        let merged = Arc::new(target.publish(&family.table.plain_schema(), rows)?);
        step("compaction.published").map_err(DiskError::of("publish", &merged.path))?;
        self.replace_files(index, run, merged);
        step("compaction.swapped").map_err(DiskError::of("publish", self.lake.root()))?;
        Ok(())
    }

    /// Shows one file in the place of others.
    fn replace_files(&self, index: usize, run: &[Arc<DataFile>], merged: Arc<DataFile>) {
        let _state = self.lock();
        let mut view = View::clone(&self.view.load());
        let table = &view.tables[index];
        let of_run: HashSet<*const DataFile> = run.iter().map(Arc::as_ptr).collect();
        let is_of_run = |file: &&Arc<DataFile>| of_run.contains(&Arc::as_ptr(file));
        if table.files.iter().filter(is_of_run).count() != run.len() {
            // Retention was faster.
            merged.give_up(&self.disk);
            return;
        }
        let mut files: Vec<_> = table.files.iter().filter(|file| !is_of_run(file)).cloned().collect();
        files.push(merged);
        files.sort_by_key(|file| file.first_seq);
        view.tables[index] = Arc::new(TableView { files: Arc::new(files), ..TableView::clone(table) });
        run.iter().for_each(|file| file.give_up(&self.disk));
        self.view.store(Arc::new(view));
    }

    /// Deletes files by age and total size; they leave the view now and the disk when their last reader is gone.
    /// Returns how many.
    pub fn retain(&self, now: i64) -> usize {
        // Deleting is for after the lock: what is held here is dropped when it is free again.
        let expired = self.hide_expired(now);
        // A file that is not deleted now is found, and as old, at the next start.
        let _ = step("retention.swapped");
        expired.len()
    }

    /// Takes files that retention gives up out of the view.
    fn hide_expired(&self, now: i64) -> Vec<Arc<DataFile>> {
        // Held until the view is stored: the drain thread must not publish another one in between.
        let _state = self.lock();
        let view = self.view();
        let files: Vec<_> = view.tables.iter().flat_map(|table| table.files.iter().cloned()).collect();
        let (age_max, bytes_max) = (self.settings.retention_age_max, self.settings.retention_bytes_max);
        let expired = retention::expired(&files, now, age_max, bytes_max);
        if expired.is_empty() {
            return expired;
        }
        let gone: HashSet<*const DataFile> = expired.iter().map(Arc::as_ptr).collect();
        let mut next = View::clone(&view);
        for table in &mut next.tables {
            let kept = table.files.iter().filter(|file| !gone.contains(&Arc::as_ptr(file)));
            *table = Arc::new(TableView { files: Arc::new(kept.cloned().collect()), ..TableView::clone(table) });
        }
        expired.iter().for_each(|file| file.give_up(&self.disk));
        self.view.store(Arc::new(next));
        expired
    }

    /// Sizes and counters as of now.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let state = self.lock();
        let view = self.view.load();
        let files = || view.tables.iter().flat_map(|table| table.files.iter());
        let (journal_bytes, unjournaled_rows) = self.journal.stats();
        StoreStats {
            hot_rows: state.tables.iter().map(|table| table.hot_rows).sum(),
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

    /// The rows that a flush starting now will write.
    fn freeze(&self) -> (Arc<View>, Vec<Option<Duration>>) {
        let mut state = self.lock();
        for table in &mut state.tables {
            table.frozen_seq = table.next_seq;
        }
        (self.view.load_full(), state.tables.iter().map(|table| table.interval).collect())
    }

    /// Shows a file in the place of its rows in memory.
    fn replace_hot(&self, index: usize, file: Arc<DataFile>) {
        let mut state = self.lock();
        let mut view = View::clone(&self.view.load());
        let mut table = TableView::clone(&view.tables[index]);
        table.hot = table.hot.iter().filter_map(|hot| hot::from(hot, file.end_seq)).collect();
        state.tables[index].hot_rows = table.hot.iter().map(|hot| hot.batch.num_rows() as u64).sum();
        table.files = Arc::new(table.files.iter().cloned().chain([file]).collect());
        view.tables[index] = Arc::new(table);
        self.view.store(Arc::new(view));
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
        let deleted = self.journal.checkpoint(&self.covered());
        self.health.note(Part::Delete, deleted.as_ref().err());
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
            missing.iter().try_for_each(|folder| {
                self.disk.create_folder(folder).map_err(|error| DiskError::of("create folder", folder)(error).into())
            })
        });
        let changed = self.health.note(Part::Folder, made.err());
        if changed || !missing.is_empty() {
            self.look_for_files();
        }
        self.journal.take_flush_wanted()
    }

    /// Shows no files that are not there any more, so that queries go on without them. They are a loss while there is a
    /// data folder; all of them are shown again should they come back.
    pub fn look_for_files(&self) {
        let held = self.lake.lock().hold().is_ok();
        // What retention and compaction give up is there as long as this view.
        let view = self.view();
        let is_gone =
            |file: &DataFile| file.path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        let shown = view
            .tables
            .iter()
            .enumerate()
            .flat_map(|(family, table)| table.files.iter().map(move |file| (family, file)));
        let gone = shown.filter(|(_, file)| is_gone(file));
        let gone: Vec<Absent> =
            gone.map(|(family, file)| Absent { family, file: Arc::clone(file), is_told: false }).collect();
        let absent = std::mem::take(&mut self.lock().absent);
        let (mut absent, back): (Vec<Absent>, Vec<Absent>) = absent.into_iter().partition(|one| is_gone(&one.file));
        if !gone.is_empty() || !back.is_empty() {
            self.show_files(&gone, &back);
            tracing::warn!(gone = gone.len(), back = back.len(), "files of the lake went away or came back");
        }
        absent.extend(gone);
        absent.drain(..absent.len().saturating_sub(ABSENT_MAX));
        let mut losses = Vec::new();
        for one in absent.iter_mut().filter(|one| held && !one.is_told) {
            one.is_told = true;
            let DataFile { rows, time_range, .. } = *one.file;
            losses.push(Loss { family: one.family, reason: "files gone", rows, time_range });
        }
        self.lock().absent.extend(absent);
        if !losses.is_empty() {
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).losses.extend(losses);
        }
    }

    /// Takes files out of the view and puts others in.
    fn show_files(&self, gone: &[Absent], back: &[Absent]) {
        let _state = self.lock();
        let mut view = View::clone(&self.view.load());
        let hidden: HashSet<*const DataFile> = gone.iter().map(|one| Arc::as_ptr(&one.file)).collect();
        for (family, table) in view.tables.iter_mut().enumerate() {
            let kept = table.files.iter().filter(|file| !hidden.contains(&Arc::as_ptr(file)));
            let returned = back.iter().filter(|one| one.family == family).map(|one| &one.file);
            let mut files: Vec<_> = kept.chain(returned).cloned().collect();
            files.sort_by_key(|file| file.first_seq);
            *table = Arc::new(TableView { files: Arc::new(files), ..TableView::clone(table) });
        }
        self.view.store(Arc::new(view));
    }

    /// What keeps the store from what it should do on disk, and since when; nothing if all is well.
    #[must_use]
    pub fn degraded(&self) -> Option<Degraded> {
        self.health.degraded()
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
    for (table, files) in view.tables.iter_mut().zip(&scan.files) {
        *table = Arc::new(TableView { files: Arc::new(files.clone()), ..TableView::clone(table) });
    }
    Ok((view, scan))
}

/// Drops the oldest batches of the largest tables until memory holds at most `hot_bytes_max`.
fn drop_excess(view: &mut View, state: &mut State, hot_bytes_max: u64) -> Vec<Loss> {
    let mut losses = Vec::new();
    while hot_bytes(state) > hot_bytes_max {
        let bytes = |(index, table): (usize, &TableState)| table.hot_rows * row_bytes(FAMILIES[index].table);
        let Some((family, _)) = state.tables.iter().enumerate().max_by_key(|(index, table)| bytes((*index, table)))
        else {
            break;
        };
        let mut table = TableView::clone(&view.tables[family]);
        if table.hot.is_empty() {
            break;
        }
        let oldest = table.hot.remove(0);
        let rows = oldest.batch.num_rows() as u64;
        state.tables[family].hot_rows -= rows;
        state.lost_rows += rows;
        losses.push(Loss { family, reason: "memory full", rows, time_range: oldest.time_range });
        view.tables[family] = Arc::new(table);
    }
    losses
}

fn hot_bytes(state: &State) -> u64 {
    state.tables.iter().zip(FAMILIES).map(|(table, family)| table.hot_rows * row_bytes(family.table)).sum()
}

#[cfg(test)]
mod tests;
