//! Work on files in the background: merging those of each period that is over, and deleting old ones.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::disk::{DiskError, step};
use super::lake::DataFile;
use super::shared::Store;
use super::trouble::Part;
use super::view::{TableView, View};
use super::writer::{Provenance, Target, WriteError, ZSTD_LEVEL};
use super::{compaction, partition, retention};
use crate::family::FamilyId;

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// How many files were merged.
    pub from: usize,
    /// How many files they were merged into.
    pub files: usize,
}

impl Store {
    /// Merges the files of each period that ended at least `settle` before `now` (µs since the epoch): until then, flushes may
    /// add files to it. Returns early, with an error, once `stop` is set.
    ///
    /// # Errors
    /// The first error, when files cannot be read or the file system refuses. Those files stay as they were; the others are
    /// merged.
    pub fn compact(&self, now: i64, settle: Duration, stop: &AtomicBool) -> Result<Compacted, WriteError> {
        let mut compacted = Compacted::default();
        let Some(window) = self.settings.compaction_interval else { return Ok(compacted) };
        self.lake.lock().hold()?;
        let view = self.view();
        let tables = view.tables.iter();
        let due: Vec<_> =
            tables.map(|(family, table)| (family, compaction::due(&table.files, now, window, settle))).collect();
        // Replaced files cannot be deleted while a view shows them.
        drop(view);
        let mut failure = None;
        for (family, runs) in due {
            for run in runs {
                match self.compact_run(family, &run, stop) {
                    Ok(()) => {
                        compacted.from += run.len();
                        compacted.files += 1;
                    }
                    Err(WriteError::Stopped) => return Err(WriteError::Stopped),
                    // The others can still be merged.
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
        }
        self.troubles.note(Part::Delete, self.trash.empty().err());
        self.troubles.note(Part::Compaction, failure.as_ref());
        failure.map_or(Ok(compacted), Err)
    }

    fn compact_run(&self, family: FamilyId, run: &[Arc<DataFile>], stop: &AtomicBool) -> Result<(), WriteError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let range = run
            .iter()
            .fold((i64::MAX, i64::MIN), |(low, high), file| (low.min(file.time_range.0), high.max(file.time_range.1)));
        let interval = self.lock().tables[family].interval;
        let target = Target {
            provenance: Provenance { table: family.table, host: &self.settings.host, interval },
            date: partition::date_of(range.0),
            sequence: (first.first_seq, last.end_seq),
            time_range: range,
            zstd_level: ZSTD_LEVEL,
        };
        let rows = compaction::Merge::new(family.table, run, stop);
        let merged = Arc::new(self.publisher.publish(target, &family.table.plain_schema(), rows)?);
        step("compaction.published").map_err(DiskError::of("publish", &merged.path))?;
        self.replace_files(family, run, merged);
        step("compaction.swapped").map_err(DiskError::of("publish", self.lake.root()))?;
        Ok(())
    }

    /// Shows `merged` in the place of `run`.
    fn replace_files(&self, family: FamilyId, run: &[Arc<DataFile>], merged: Arc<DataFile>) {
        let _state = self.lock();
        let mut view = View::clone(&self.view.load());
        let table = &view.tables[family];
        let of_run: HashSet<*const DataFile> = run.iter().map(Arc::as_ptr).collect();
        let is_of_run = |file: &&Arc<DataFile>| of_run.contains(&Arc::as_ptr(file));
        if table.files.iter().filter(is_of_run).count() != run.len() {
            // Retention took some of them away meanwhile.
            merged.give_up(&self.trash);
            return;
        }
        let mut files: Vec<_> = table.files.iter().filter(|file| !is_of_run(file)).cloned().collect();
        files.push(merged);
        files.sort_by_key(|file| file.first_seq);
        view.tables[family] = Arc::new(TableView { files: Arc::new(files), ..TableView::clone(table) });
        run.iter().for_each(|file| file.give_up(&self.trash));
        self.view.store(Arc::new(view));
    }

    /// Takes files out of the view by age and total size, and deletes all that no reader has any more. Returns how many it
    /// took out. Files that readers still have, or that cannot be deleted, are deleted by a later call.
    pub fn retain(&self, now: i64) -> usize {
        let expired = self.hide_expired(now);
        let count = expired.len();
        // If this is as far as it gets, the next start finds the files and deletes them.
        let _ = step("retention.swapped");
        drop(expired);
        self.troubles.note(Part::Delete, self.trash.empty().err());
        count
    }

    /// Takes expired files out of the view.
    fn hide_expired(&self, now: i64) -> Vec<Arc<DataFile>> {
        // Held until the view is stored, so that no other change comes in between.
        let _state = self.lock();
        let view = self.view();
        let files: Vec<_> = view.tables.values().flat_map(|table| table.files.iter().cloned()).collect();
        let (age_max, bytes_max) = (self.settings.retention_age_max, self.settings.retention_bytes_max);
        let expired = retention::expired(&files, now, age_max, bytes_max);
        if expired.is_empty() {
            return expired;
        }
        let gone: HashSet<*const DataFile> = expired.iter().map(Arc::as_ptr).collect();
        let mut next = View::clone(&view);
        for (_, table) in next.tables.iter_mut() {
            let kept = table.files.iter().filter(|file| !gone.contains(&Arc::as_ptr(file)));
            *table = Arc::new(TableView { files: Arc::new(kept.cloned().collect()), ..TableView::clone(table) });
        }
        expired.iter().for_each(|file| file.give_up(&self.trash));
        self.view.store(Arc::new(next));
        expired
    }
}
