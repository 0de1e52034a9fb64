//! Work on files in the background: merging those of each period that is over, and deleting old ones.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::data_folder::{self, CLOCK};
use super::disk::{DiskError, step};
use super::lake::DataFile;
use super::postponed::Postponed;
use super::shared::Store;
use super::trouble::Part;
use super::writer::{Target, WriteError, ZSTD_LEVEL};
use super::{compaction, hot, retention};
use crate::family::FamilyId;
use crate::words::duration;

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
    /// add files to it. Returns early, with an error, once `stop` is set. Files that could not be merged are tried again after
    /// a pause that grows; [`degraded`](Self::degraded) tells them until then.
    ///
    /// # Errors
    /// The first error, when files cannot be read or the file system refuses. Those files stay as they were; the others are
    /// merged.
    pub fn compact(&self, now: i64, settle: Duration, stop: &AtomicBool) -> Result<Compacted, WriteError> {
        let mut compacted = Compacted::default();
        let Some(window) = self.settings.compaction_interval else { return Ok(compacted) };
        self.folder_lock.hold()?;
        let view = self.view();
        let tables = view.tables.iter();
        let due = tables.flat_map(|(family, table)| {
            let runs = compaction::due(&table.files, now, window, settle);
            runs.into_iter().filter_map(move |run| Some(((family, run.first()?.first_seq), run)))
        });
        let due: Vec<_> = due.collect();
        // Replaced files cannot be deleted while a view shows them.
        drop(view);
        // Retention may have taken away what could not be merged.
        self.postponed().keep(&due.iter().map(|(group, _)| *group).collect());
        let mut failure = None;
        for (group, run) in due {
            if !self.postponed().is_due(group, now) {
                continue;
            }
            match self.compact_run(group.0, &run, stop) {
                Ok(()) => {
                    compacted.from += run.len();
                    compacted.files += 1;
                    self.postponed().forget(group);
                }
                Err(WriteError::Stopped) => return Err(WriteError::Stopped),
                // The others can still be merged.
                Err(error) => {
                    self.postponed().fail(group, now, &error);
                    failure = failure.or(Some(error));
                }
            }
        }
        self.troubles.note(Part::Delete, self.trash.empty().err());
        let trouble = self.postponed().trouble();
        self.troubles.note(Part::Compaction, trouble);
        failure.map_or(Ok(compacted), Err)
    }

    fn postponed(&self) -> MutexGuard<'_, Postponed> {
        // Every change leaves it whole, so a panic elsewhere does not spoil it.
        self.postponed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compact_run(&self, family: FamilyId, run: &[Arc<DataFile>], stop: &AtomicBool) -> Result<(), WriteError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let interval = self.lock().tables[family].interval;
        let target = Target {
            table: family.table,
            host: &first.host(),
            interval,
            sequence: (first.first_seq, last.end_seq),
            time_range: hot::span(run.iter().map(|file| file.time_range)).unwrap_or_default(),
            zstd_level: ZSTD_LEVEL,
        };
        let schema = family.table.plain_schema();
        let merged =
            self.publish(target, &schema, |write| compaction::merge(family.table, &schema, run, stop, write))?;
        let merged = Arc::new(merged);
        step("compaction.published").map_err(DiskError::of("publish", &merged.path))?;
        self.replace_files(family, run, merged);
        step("compaction.swapped").map_err(DiskError::of("publish", &self.lake))?;
        Ok(())
    }

    /// Shows `merged` in the place of `run`.
    fn replace_files(&self, family: FamilyId, run: &[Arc<DataFile>], merged: Arc<DataFile>) {
        let of_run = run.iter().map(Arc::as_ptr).collect();
        self.change(|view, _| {
            let table = Arc::make_mut(&mut view.tables[family]);
            let before = Arc::clone(&table.files);
            if table.exchange_files(&of_run, [Arc::clone(&merged)]).len() == run.len() {
                run.iter().for_each(|file| file.give_up(&self.trash));
            } else {
                // Retention took some of them away meanwhile.
                table.files = before;
                merged.give_up(&self.trash);
            }
        });
    }

    /// The time by which files may expire, where the wall clock and `CLOCK_BOOTTIME` show these times (µs): the wall clock,
    /// unless it has jumped less than a day ago. Call this at least once a minute.
    pub fn trusted_time(&self, wall_us: i64, boot_us: i64) -> i64 {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock.now(wall_us, boot_us);
        let step = clock.jump().filter(|jump| jump.is_step).map(|jump| {
            let (by, side) = (duration_us(jump.by_us), if jump.by_us < 0 { "back" } else { "forward" });
            let left = duration_us(jump.left_us());
            format!(
                "the wall clock was set {side} by {by}; no file expires by that before it has lasted for {left} more"
            )
        });
        self.troubles.note(Part::Clock, step);
        // Nothing depends on a copy that is some minutes old.
        if clock.is_news() && data_folder::replace(&*self.disk, &self.settings.path.join(CLOCK), &clock.text()).is_ok()
        {
            clock.note_kept();
        }
        now
    }

    /// Takes files out of the view by age and total size, and deletes all that no reader has any more. Returns how many it
    /// took out. Files that readers still have, or that cannot be deleted, are deleted by a later call. `now` is a
    /// [trusted time](Self::trusted_time).
    pub fn retain(&self, now: i64) -> usize {
        let (age_max, bytes_max) = (self.settings.retention_age_max, self.settings.retention_bytes_max);
        let expired = self.change(|view, _| {
            let files = view.tables.values().map(|table| table.files.as_slice());
            let expired = retention::expired(files, now, age_max, bytes_max);
            if !expired.is_empty() {
                let gone = expired.iter().map(Arc::as_ptr).collect();
                view.tables.iter_mut().for_each(|(_, table)| _ = Arc::make_mut(table).exchange_files(&gone, []));
            }
            expired.iter().for_each(|file| file.give_up(&self.trash));
            expired
        });
        let count = expired.len();
        // If this is as far as it gets, the next start finds the files and deletes them.
        let _ = step("retention.swapped");
        drop(expired);
        self.troubles.note(Part::Delete, self.trash.empty().err());
        count
    }
}

/// A time without its sign, for people.
fn duration_us(us: i64) -> String {
    duration(Duration::from_secs(us.unsigned_abs() / 1_000_000))
}
