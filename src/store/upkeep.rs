//! Work on files in the background: merging those of each period that is over, and deleting old ones.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::compaction::{OVERLAP_US_MAX, Periods};
use super::data_folder::{self, CLOCK};
use super::disk::{DiskError, step};
use super::lake::DataFile;
use super::postponed::Postponed;
use super::retention::Kind;
use super::settings::StoreSettings;
use super::shared::Store;
use super::trouble::Part;
use super::writer::{Target, WriteError, ZSTD_LEVEL, is_in_order};
use super::{compaction, hot, retention};
use crate::family::tables::TableId;
use crate::record::tier::Tier;
use crate::words::duration;

/// The files of a tier are merged into one for each period of this length.
const TIER_WINDOW: Duration = Duration::from_hours(24);
/// Buckets that have ended may wait so much longer for their file than rows do.
const TIER_SETTLE: Duration = Duration::from_mins(10);
/// The last bucket of a series that is gone ends later than those of others.
const TIER_OVERLAP_US_MAX: i64 = 3_600_000_000;

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
        let tables = view.tables.values().flat_map(|table| table.all_files());
        let due = tables.flat_map(|(table, files)| {
            let mut periods = Periods { window, settle, overlap_us_max: OVERLAP_US_MAX };
            if table.tier().is_some() {
                periods = Periods { settle: settle + TIER_SETTLE, overlap_us_max: TIER_OVERLAP_US_MAX, ..periods };
            }
            let mut runs = compaction::due(files, now, periods);
            // A tier has few rows an hour, and years of them: its hours are merged into days.
            if runs.is_empty() && table.tier().is_some() {
                runs = compaction::due(files, now, Periods { window: TIER_WINDOW.max(window), ..periods });
            }
            runs.into_iter().filter_map(move |run| Some(((table, run.first()?.first_seq), run)))
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

    fn compact_run(&self, id: TableId, run: &[Arc<DataFile>], stop: &AtomicBool) -> Result<(), WriteError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let interval = self.lock().sources[id.family()].interval.filter(|_| id.tier().is_none());
        let target = Target {
            table: id,
            host: &first.host(),
            interval,
            sequence: (first.first_seq, last.end_seq),
            time_range: hot::span(run.iter().map(|file| file.time_range)).unwrap_or_default(),
            in_order: run.windows(2).all(|pair| pair[0].time_range.1 <= pair[1].time_range.0)
                && run.iter().all(|file| is_in_order(&file.path)),
            zstd_level: Some(ZSTD_LEVEL),
            standing: &[],
        };
        let schema = id.table().plain_schema();
        let merged = self.publish(target, &schema, |write| compaction::merge(id.table(), &schema, run, stop, write))?;
        let merged = Arc::new(merged);
        step("compaction.published").map_err(DiskError::of("publish", &merged.path))?;
        self.replace_files(id, run, merged);
        step("compaction.swapped").map_err(DiskError::of("publish", &self.lake))?;
        Ok(())
    }

    /// Shows `merged` in the place of `run`.
    fn replace_files(&self, id: TableId, run: &[Arc<DataFile>], merged: Arc<DataFile>) {
        let of_run = run.iter().map(Arc::as_ptr).collect();
        self.change(|view, _| {
            let before = Arc::clone(&view.tables[id.family()]);
            let table = Arc::make_mut(&mut view.tables[id.family()]);
            if table.exchange_files(id.tier(), &of_run, [Arc::clone(&merged)]).len() == run.len() {
                run.iter().for_each(|file| file.give_up(&self.trash));
            } else {
                // Retention took some of them away meanwhile.
                view.tables[id.family()] = before;
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
        let StoreSettings { retention_age_max, retention_tier_ages_max: [second, minute], .. } = self.settings;
        let expired = self.change(|view, _| {
            let of = |tier, age_max| {
                let files = view.tables.values().map(move |table| table.files_of(tier).as_slice());
                Kind { files: files.collect(), age_max }
            };
            // What is deleted first stands first.
            let kinds = [of(None, retention_age_max), of(Some(Tier::Second), second), of(Some(Tier::Minute), minute)];
            let expired = retention::expired(&kinds, now, self.settings.retention_bytes_max);
            if !expired.is_empty() {
                let gone = expired.iter().map(Arc::as_ptr).collect();
                for table in TableId::all() {
                    Arc::make_mut(&mut view.tables[table.family()]).exchange_files(table.tier(), &gone, []);
                }
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
