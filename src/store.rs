//! The store: batches in memory, Parquet files on disk, and one atomic view over both.
//!
//! Three kinds of threads meet here. The drain thread appends; the flush turns what is in memory into a file and
//! swaps one for the other; queries take the current [`View`] and keep it as long as they run. Every change makes
//! a new view and publishes it with one pointer swap, so a reader sees each record exactly once, whether it is
//! still in memory or long on disk.

pub mod hot;
pub mod lake;
pub mod partition;
pub mod retention;
pub mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use arrow::array::RecordBatch;

use crate::family::{FAMILIES, Family};
pub use hot::HotBatch;
use hot::{merge_tail, row_bytes};
use lake::{DataFile, Lake, LakeError, Scan};
use writer::{Origin, Segment, WriteError};

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
    /// Files are deleted, oldest first, when all their rows are older than this.
    pub retention_age_max: Option<Duration>,
    /// Files are deleted, oldest first, while all of them together are larger than this.
    pub retention_bytes_max: Option<u64>,
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

/// Rows that were dropped from memory because no flush succeeded for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The table's position in [`FAMILIES`].
    pub family: usize,
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

/// The store of a running daemon. Shared by its threads.
#[derive(Debug)]
pub struct Store {
    lake: Lake,
    settings: StoreSettings,
    view: ArcSwap<View>,
    /// Guards changes of `view` and the counters; held for moments only, never over I/O.
    state: Mutex<State>,
    /// One flush at a time: two would write the same rows twice.
    flushing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    tables: Vec<TableState>,
    flushes: u64,
    failed_flushes: u64,
    lost_rows: u64,
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
    /// Takes the data folder and shows the files of this host in it. The scan tells what else was found, and has no files.
    ///
    /// # Errors
    /// When the folder cannot be used, or another process uses it.
    pub fn open(settings: StoreSettings) -> Result<(Store, Scan), LakeError> {
        let lake = Lake::open(&settings.path)?;
        let mut scan = lake.recover(&settings.host)?;
        let mut view = View::empty();
        let mut tables = vec![TableState::default(); FAMILIES.len()];
        // The view alone holds them: a file that is given up goes when its last reader is gone.
        let found = std::mem::take(&mut scan.files);
        for ((table, state), files) in view.tables.iter_mut().zip(&mut tables).zip(found) {
            state.next_seq = files.iter().map(|file| file.end_seq).max().unwrap_or(0);
            state.frozen_seq = state.next_seq;
            *table = Arc::new(TableView { files: Arc::new(files), ..TableView::clone(table) });
        }
        let state = State { tables, flushes: 0, failed_flushes: 0, lost_rows: 0 };
        let store = Store {
            lake,
            settings,
            view: ArcSwap::from_pointee(view),
            state: Mutex::new(state),
            flushing: Mutex::new(()),
        };
        Ok((store, scan))
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

    /// Makes new rows visible, all tables in one step. Called by the drain thread alone. Returns the rows that had to
    /// go because memory is full.
    pub fn append(&self, appends: Vec<Append>) -> Vec<Loss> {
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
        let (frozen, intervals) = self.freeze();
        let mut flushed = Flushed::default();
        let mut failure = None;
        for (index, table) in frozen.tables.iter().enumerate() {
            let Some(first) = table.hot.first() else { continue };
            let batches = table.hot.iter().map(|hot| hot.batch.clone()).collect();
            let segment = Segment { first_seq: first.first_seq, batches };
            let origin = Origin { table: table.family.table, host: &self.settings.host, interval: intervals[index] };
            match writer::publish(self.lake.root(), origin, &segment) {
                Ok(files) => {
                    for file in &files {
                        flushed.rows += file.rows;
                        flushed.bytes += file.bytes;
                        flushed.files.push(file.path.clone());
                    }
                    self.replace_hot(index, writer::shared(files));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
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

    /// Deletes files by age and total size; they leave the view now and the disk when their last reader is gone.
    /// Returns how many.
    pub fn retain(&self, now: i64) -> usize {
        // Held until the view is stored: the drain thread must not publish another one in between.
        let _state = self.lock();
        let mut view = View::clone(&self.view.load());
        let files: Vec<_> = view.tables.iter().flat_map(|table| table.files.iter().cloned()).collect();
        let expired =
            retention::expired(&files, now, self.settings.retention_age_max, self.settings.retention_bytes_max);
        if !expired.is_empty() {
            for table in &mut view.tables {
                let kept = table.files.iter().filter(|file| !expired.iter().any(|gone| Arc::ptr_eq(gone, file)));
                *table = Arc::new(TableView { files: Arc::new(kept.cloned().collect()), ..TableView::clone(table) });
            }
            for file in &expired {
                file.give_up();
            }
            self.view.store(Arc::new(view));
        }
        expired.len()
    }

    /// Sizes and counters as of now.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let state = self.lock();
        let view = self.view.load();
        let files = || view.tables.iter().flat_map(|table| table.files.iter());
        StoreStats {
            hot_rows: state.tables.iter().map(|table| table.hot_rows).sum(),
            hot_bytes: hot_bytes(&state),
            lake_bytes: files().map(|file| file.bytes).sum(),
            lake_files: files().count() as u64,
            flushes: state.flushes,
            failed_flushes: state.failed_flushes,
            lost_rows: state.lost_rows,
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

    /// Shows `files` in the place of the frozen rows of a table.
    fn replace_hot(&self, index: usize, files: Vec<Arc<DataFile>>) {
        let mut state = self.lock();
        let mut view = View::clone(&self.view.load());
        let mut table = TableView::clone(&view.tables[index]);
        let frozen_seq = state.tables[index].frozen_seq;
        table.hot.retain(|hot| hot.first_seq >= frozen_seq);
        state.tables[index].hot_rows = table.hot.iter().map(|hot| hot.batch.num_rows() as u64).sum();
        table.files = Arc::new(table.files.iter().cloned().chain(files).collect());
        view.tables[index] = Arc::new(table);
        self.view.store(Arc::new(view));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and views are replaced whole, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        losses.push(Loss { family, rows, time_range: oldest.time_range });
        view.tables[family] = Arc::new(table);
    }
    losses
}

fn hot_bytes(state: &State) -> u64 {
    state.tables.iter().zip(FAMILIES).map(|(table, family)| table.hot_rows * row_bytes(family.table)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::to_batch;
    use crate::family::find;
    use crate::record::Record;
    use crate::record::label::Labels;
    use crate::sampler::report::Gap;

    fn settings(path: &Path) -> StoreSettings {
        StoreSettings {
            path: path.into(),
            host: "test".into(),
            hot_bytes_max: u64::MAX,
            retention_age_max: None,
            retention_bytes_max: None,
        }
    }

    fn gaps(times: std::ops::Range<i64>) -> Append {
        let labels = Labels::default();
        let rows: Vec<Gap> = times
            .map(|time| Gap { collector: labels.intern("c"), lost: time, ..Gap::absent(time * 1_000_000) })
            .collect();
        let batch = to_batch(&[&rows], &labels, &Gap::TABLE.schema());
        Append { family: find("gap").unwrap().0, latest: batch.clone(), batch }
    }

    /// The sequence numbers that a view shows of the table gap.
    fn sequence(view: &View) -> Vec<u64> {
        let table = &view.tables[find("gap").unwrap().0];
        let files = table.files.iter().flat_map(|file| file.first_seq..file.end_seq);
        files.chain(table.hot.iter().flat_map(|hot| hot.first_seq..hot.end_seq())).collect()
    }

    #[test]
    fn every_view_shows_each_record_once_and_restarts_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(settings(folder.path())).unwrap();
        for i in 0..100 {
            store.append(vec![gaps(i * 3..i * 3 + 3)]);
            if i % 17 == 0 {
                store.flush().unwrap();
            }
            assert_eq!(sequence(&store.view()), (0..(u64::try_from(i).unwrap() + 1) * 3).collect::<Vec<_>>());
        }
        let stats = store.stats();
        assert!(stats.hot_rows > 0 && stats.lake_files == 6, "{stats:?}");
        assert!(store.view().tables[find("gap").unwrap().0].hot.len() < 3 * hot::MERGE_WIDTH);
        store.flush().unwrap();
        drop(store);

        let (store, scan) = Store::open(settings(folder.path())).unwrap();
        assert!(scan.foreign.is_empty() && scan.removed.is_empty(), "{scan:?}");
        assert_eq!(sequence(&store.view()), (0..300).collect::<Vec<_>>());
        store.append(vec![gaps(300..301)]);
        assert_eq!(sequence(&store.view()).last(), Some(&300));
        assert_eq!(sequence(&open_read_only(folder.path()).unwrap().0), (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn a_folder_has_one_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(settings(folder.path())).unwrap();
        let error = Store::open(settings(folder.path())).unwrap_err().to_string();
        assert!(error.contains("in use by another kymo (pid "), "{error}");
        drop(first);
        Store::open(settings(folder.path())).unwrap();
    }

    #[test]
    fn full_memory_drops_the_oldest_rows_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let row = row_bytes(Gap::TABLE);
        let (store, _) = Store::open(StoreSettings { hot_bytes_max: 10 * row, ..settings(folder.path()) }).unwrap();
        assert!(store.append(vec![gaps(0..8)]).is_empty());
        let losses = store.append(vec![gaps(8..12)]);
        assert_eq!(losses.len(), 1);
        assert_eq!((losses[0].rows, losses[0].time_range), (8, (0, 7_000_000)));
        assert_eq!(sequence(&store.view()), [8, 9, 10, 11]);
        assert_eq!((store.stats().lost_rows, store.stats().hot_bytes), (8, 4 * row));
    }

    #[test]
    fn midnight_parts_a_flush_and_rows_are_sorted_within_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(settings(folder.path())).unwrap();
        store.append(vec![gaps(86_395..86_405)]);
        store.append(vec![gaps(86_400..86_403)]);
        let files = store.flush().unwrap().files;
        let days: Vec<_> = files.iter().map(|file| file.parent().unwrap().file_name().unwrap().to_owned()).collect();
        assert_eq!(days, ["date=1970-01-01", "date=1970-01-02"]);
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(
            std::fs::File::open(&files[1]).unwrap(),
        )
        .unwrap();
        assert_eq!(reader.schema().field(1).data_type(), &arrow::datatypes::DataType::Utf8);
        let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 8);
        assert!(batches.iter().flat_map(|batch| writer::times(batch).iter()).is_sorted());
    }

    #[test]
    fn foreign_files_are_named_and_left_alone_and_half_written_ones_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(settings(folder.path())).unwrap();
        store.append(vec![gaps(0..3)]);
        let file = store.flush().unwrap().files.remove(0);
        drop(store);
        let broken = file.with_file_name(partition::file_name(0, 9, 10));
        let temporary = file.with_file_name(partition::temporary_name(&partition::file_name(0, 9, 10)));
        let stranger = file.with_file_name("notes.parquet");
        for path in [&broken, &temporary, &stranger] {
            std::fs::write(path, "not parquet").unwrap();
        }
        let (store, scan) = Store::open(settings(folder.path())).unwrap();
        assert_eq!(sequence(&store.view()), [0, 1, 2]);
        assert_eq!(scan.foreign.len(), 2, "{scan:?}");
        assert!(broken.exists() && stranger.exists() && !temporary.exists());
    }

    #[test]
    fn an_expired_file_goes_when_its_last_reader_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let keep = Some(Duration::from_mins(1));
        let (store, _) = Store::open(StoreSettings { retention_age_max: keep, ..settings(folder.path()) }).unwrap();
        store.append(vec![gaps(0..3)]);
        let file = store.flush().unwrap().files.remove(0);
        let reader = store.view();
        assert_eq!(store.retain(62_000_000), 0);
        assert_eq!(store.retain(62_000_001), 1);
        assert!(sequence(&store.view()).is_empty() && file.exists());
        drop(reader);
        assert!(!file.exists());
    }

    #[test]
    fn an_expired_file_that_was_found_at_start_goes_too() {
        let folder = tempfile::tempdir().unwrap();
        let keep = Some(Duration::from_mins(1));
        let settings = StoreSettings { retention_age_max: keep, ..settings(folder.path()) };
        let (store, _) = Store::open(settings.clone()).unwrap();
        store.append(vec![gaps(0..3)]);
        let file = store.flush().unwrap().files.remove(0);
        drop(store);
        let (store, _scan) = Store::open(settings).unwrap();
        assert_eq!(store.retain(62_000_001), 1);
        assert!(!file.exists());
    }

    #[test]
    fn a_failed_flush_keeps_the_rows() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(settings(folder.path())).unwrap();
        store.append(vec![gaps(0..3)]);
        std::fs::write(folder.path().join("lake/gap"), "in the way").unwrap();
        let error = store.flush().unwrap_err().to_string();
        assert!(error.starts_with("create folder ") && error.contains("gap"), "{error}");
        assert_eq!((sequence(&store.view()).len(), store.stats().failed_flushes), (3, 1));
        std::fs::remove_file(folder.path().join("lake/gap")).unwrap();
        assert_eq!(store.flush().unwrap().rows, 3);
        assert_eq!(sequence(&store.view()), [0, 1, 2]);
    }
}
