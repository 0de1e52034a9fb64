//! Flushing: rows in memory are written to Parquet files, and the files are shown in their place.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::disk::{DiskError, step};
use super::hot;
use super::lake::DataFile;
use super::shared::{Dropped, Loss, Source, Store};
use super::trouble::Part;
use super::view::TableView;
use super::writer::{WriteError, split_by_date};
use crate::family::{FamilyId, PerFamily};

/// What a flush did.
#[derive(Clone, Debug, Default)]
pub struct Flushed {
    /// Rows that were written.
    pub rows: u64,
    /// Files that were published.
    pub files: Vec<PathBuf>,
    /// Size of these files.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// CPU time that the tiers took of it.
    pub tiers_cpu: Duration,
    /// CPU time that the rows took.
    pub rows_cpu: Duration,
}

/// CPU time of this thread (`clock_gettime(2)`, `CLOCK_THREAD_CPUTIME_ID`).
fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

impl Store {
    /// Writes the rows in memory to Parquet files and shows these in their place. A table that cannot be written does not
    /// keep the others from being written. The tiers get all buckets that have ended.
    ///
    /// # Errors
    /// The first error, when the file system refuses. Rows that were not written stay in memory for the next flush.
    pub fn flush(&self) -> Result<Flushed, WriteError> {
        self.flush_with(false)
    }

    /// The same, but buckets of tiers wait until they are worth a file.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn flush_by_interval(&self) -> Result<Flushed, WriteError> {
        self.flush_with(true)
    }

    fn flush_with(&self, tiers_wait: bool) -> Result<Flushed, WriteError> {
        let _one = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun, cpu_begun) = (Instant::now(), thread_cpu());
        if let Err(error) = self.folder_lock.hold() {
            self.troubles.bad(Part::Folder, &error);
            self.lock().failed_flushes += 1;
            return Err(error.into());
        }
        self.journal.rotate();
        let (frozen, sources) = self.freeze();
        let mut flushed = Flushed::default();
        let mut failure = match self.flush_tiers(&frozen, &sources, tiers_wait, &mut flushed) {
            Ok(tiers) => tiers.err(),
            Err(error) => {
                self.settle();
                self.troubles.bad(Part::Flush, &error);
                self.lock().failed_flushes += 1;
                return Err(error);
            }
        };
        let cpu_between = thread_cpu();
        flushed.tiers_cpu = cpu_between.saturating_sub(cpu_begun);
        // Memory of a table is free once its files are there, for what the next table's files need.
        frozen.map(|family, table| {
            if let Err(error) = self.flush_table(&table, sources[family].interval, &mut flushed) {
                failure = failure.take().or(Some(error));
            }
        });
        flushed.rows_cpu = thread_cpu().saturating_sub(cpu_between);
        self.settle();
        self.journal.delete_covered(&self.covered());
        self.troubles.note(Part::Flush, failure.as_ref());
        if failure.is_none() {
            self.troubles.good(Part::JournalSize);
        }
        flushed.took = begun.elapsed();
        let mut state = self.lock();
        let counter = if failure.is_none() { &mut state.flushes } else { &mut state.failed_flushes };
        *counter += 1;
        failure.map_or(Ok(flushed), Err)
    }

    /// Publishes the rows of a table, a file for each day, and shows each file in the place of its rows.
    pub(super) fn flush_table(
        &self,
        table: &TableView,
        interval: Option<Duration>,
        flushed: &mut Flushed,
    ) -> Result<(), WriteError> {
        // Numbers of recovered rows may have gaps, and they may be of an earlier name of the host. A file has neither, so each
        // run gets its own.
        for run in table.hot.chunk_by(|one, next| one.end_seq() == next.first_seq && one.host == next.host) {
            for day in split_by_date(run) {
                let file = self.publish_rows(table.family.into(), interval, day)?;
                flushed.rows += file.rows;
                flushed.bytes += file.bytes;
                flushed.files.push(file.path.clone());
                self.replace_hot(table.family, Arc::new(file));
                step("flush.swapped").map_err(DiskError::of("publish", &self.lake))?;
            }
        }
        Ok(())
    }

    /// For each table the first row that is in memory: rows before it are in files, or were dropped and counted.
    pub(super) fn covered(&self) -> PerFamily<u64> {
        let state = self.lock();
        let view = self.view.load();
        let oldest = |family| view.tables[family].hot.first().map(|hot| hot.first_seq);
        PerFamily::from_fn(|family| oldest(family).unwrap_or(state.tables[family].end_seq))
    }

    /// Begins a flush. Returns the rows that it will write, and what samples each table.
    pub(super) fn freeze(&self) -> (PerFamily<Arc<TableView>>, PerFamily<Source>) {
        let mut state = self.lock();
        state.is_flushing = true;
        for (_, table) in state.tables.iter_mut() {
            table.frozen_seq = table.end_seq;
        }
        (self.view.load().tables.clone(), state.sources.clone())
    }

    /// Shows a file in the place of its rows.
    fn replace_hot(&self, family: FamilyId, file: Arc<DataFile>) {
        self.change(|view, state| {
            let table = Arc::make_mut(&mut view.tables[family]);
            table.hot = table.hot.iter().filter_map(|hot| hot::from(hot, file.end_seq)).collect();
            state.tables[family].count(family, &table.hot);
            table.files = Arc::new(table.files.iter().cloned().chain([file]).collect());
        });
    }

    /// Ends a flush. Rows that were dropped during it and that no file has are lost.
    pub(super) fn settle(&self) {
        let mut state = self.lock();
        state.is_flushing = false;
        for (_, table) in state.tables.iter_mut() {
            // Rows that could not be written may be merged with later ones again.
            table.frozen_seq = table.recovered_seq;
        }
        let view = self.view.load();
        for Dropped { first_seq, end_seq, loss } in std::mem::take(&mut state.dropped) {
            let files = view.tables[loss.family].files.iter();
            let saved = files.map(|file| end_seq.min(file.end_seq).saturating_sub(first_seq.max(file.first_seq)));
            let rows = loss.rows.saturating_sub(saved.sum());
            if rows > 0 {
                state.lost_rows += rows;
                state.losses.push(Loss { rows, ..loss });
            }
        }
    }
}
