//! Tiers: what each second, and each minute, had of every series. They outlive the rows by months.
//!
//! A flush folds the rows that it is about to write into the [`Buckets`] of their table, and publishes those that have ended as
//! files of tables like any other. Then it replaces the file TIERS, which has all others, and the number of the first row
//! that is not in. Then views show both, in one step. Only then are the rows themselves published. So a bucket is written once,
//! whole, wherever a flush is interrupted:
//! - before TIERS is there: the next start deletes the tiers' files, and takes the rows from the journal anew;
//! - after it: the rows are in the tiers, and the next flush takes only those that come later.
//!
//! A query sees the buckets that files have, those of TIERS, and what rows in memory add to them.

pub(super) mod buckets;
mod cell;
mod column;
mod course;
mod number;
mod saved;
mod series;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use buckets::Buckets;

use super::data_folder::{FolderError, expect_file, read_regular};
use super::disk::{Disk, DiskError, is_absent, step};
use super::flush::Flushed;
use super::hot::{HotBatch, times};
use super::lake::{self, DataFile, Scan};
use super::partition::is_beyond;
use super::shared::{Source, Store};
use super::view::TableView;
use super::writer::{WriteError, split_by_date};
use crate::family::tables::TableId;
use crate::family::{FamilyId, PerFamily};
use crate::record::tier::Tier;
use crate::sampler::report::Gap;
pub(super) use saved::FILE;

/// Buckets of a tier that wait for a disk which refuses them. Beyond these they are given up.
const ENDED_MAX: usize = 65_536;

/// A table has seconds if each series has so many rows a second. At ten, they take as much as the rows: a second has five or six
/// values for each column.
pub(super) const SECOND_ROWS_MIN: u32 = 20;
/// If a flush comes between, a folder is listed again, so often in all.
const SCANS_MAX: u32 = 5;

/// What a start goes on with.
pub(super) type Saved = PerFamily<Option<Buckets>>;

/// What the file TIERS has; `None` if there is none, or it is damaged.
pub(super) fn load(data: &Path) -> Option<Saved> {
    read_regular(&data.join(FILE)).ok().and_then(|bytes| saved::read(&bytes))
}

/// Takes the files of an interrupted flush out of a scan. Returns them, and the buckets that each table goes on with. Each table's
/// rows in files and in the journal have numbers below `end_seqs`. A flush writes rows of `hosts`, or of those of the kept buckets; files
/// of others are somebody else's. `None` stands for all hosts, unless buckets were kept.
///
/// A table without buckets begins anew with its next row: files of an interrupted flush may have those of the journal. A number is
/// left out, so that readers know of the hole (`stretch.rs`). So it is where TIERS is older than the rows in files, as from a backup.
pub(super) fn recover(
    saved: Option<Saved>,
    scan: &mut Scan,
    end_seqs: &PerFamily<u64>,
    hosts: Option<&BTreeSet<Arc<str>>>,
) -> (PerFamily<Arc<Buckets>>, Vec<Arc<DataFile>>) {
    let mut saved = saved.unwrap_or_default();
    let mut interrupted = Vec::new();
    let buckets = PerFamily::from_fn(|family| {
        let is_of = |known: &Buckets, file: &DataFile| {
            let host = file.host();
            let is_among = |hosts: &BTreeSet<Arc<str>>| hosts.contains(host.as_str());
            known.hosts.iter().any(|known| **known == *host) || hosts.map_or(known.hosts.is_empty(), is_among)
        };
        let is_usable = |known: &Buckets| {
            let own = scan.files[family].iter().filter(|file| is_of(known, file)).map(|file| file.end_seq);
            !is_beyond(known.end_seq()) && known.end_seq() >= own.max().unwrap_or(0)
        };
        let known = saved[family].take().filter(is_usable);
        let skipped = u64::from(known.is_none() && end_seqs[family] > 0);
        for tier in Tier::ALL {
            let files = &mut scan.tiers[family][tier as usize];
            let is_known = |file: &Arc<DataFile>| {
                let known = known.as_ref();
                known.is_none_or(|known| file.first_seq < known.next_seqs[tier as usize] || !is_of(known, file))
            };
            let (kept, beyond): (Vec<_>, Vec<_>) = files.drain(..).partition(is_known);
            *files = kept;
            interrupted.extend(beyond);
        }
        let mut buckets = known.unwrap_or_else(|| Buckets::new(family, end_seqs[family], [0; 2]));
        for tier in Tier::ALL {
            let ends = scan.tiers[family][tier as usize].iter().map(|file| file.end_seq);
            let next = &mut buckets.next_seqs[tier as usize];
            *next = ends.chain([scan.tier_end_seqs[family][tier as usize], *next]).max().unwrap_or_default() + skipped;
        }
        Arc::new(buckets)
    });
    (buckets, interrupted)
}

/// Deletes the tiers' files of an interrupted flush, and makes sure that they stay deleted. Returns those for which the disk
/// refused that.
pub(super) fn delete(disk: &dyn Disk, interrupted: &[Arc<DataFile>]) -> BTreeSet<PathBuf> {
    let is_left = |path: &Path| {
        let deleted = disk.remove(path).and_then(|()| disk.sync_folder(path.parent().unwrap_or(Path::new("."))));
        deleted.is_err()
    };
    interrupted.iter().map(|file| &file.path).filter(|path| is_left(path)).cloned().collect()
}

/// What a folder has, in which a daemon may be recording.
pub(super) fn scan_read_only(data: &Path) -> Result<(Scan, PerFamily<Arc<Buckets>>), FolderError> {
    let mut tries = 1;
    loop {
        let before = read_regular(&data.join(FILE)).ok();
        let mut scan = lake::scan_read_only(data)?;
        // A flush meanwhile may have published files that were not listed.
        if tries == SCANS_MAX || before == read_regular(&data.join(FILE)).ok() {
            let saved = before.and_then(|bytes| saved::read(&bytes));
            let end_seqs = scan.end_seqs.clone();
            let (buckets, interrupted) = recover(saved, &mut scan, &end_seqs, None);
            scan.temporaries.extend(interrupted.iter().map(|file| file.path.clone()));
            return Ok((scan, buckets));
        }
        tries += 1;
    }
}

impl Store {
    /// Makes sure that the data folder has a file TIERS: a start without one cannot tell which files of tiers are of an interrupted
    /// flush.
    pub(super) fn begin_tiers(&self) -> Result<(), FolderError> {
        let path = self.settings.path.join(FILE);
        expect_file(&path)?;
        if load(&self.settings.path).is_some() {
            return Ok(());
        }
        if !is_absent(&path) {
            let aside = self.set_aside(FILE)?;
            tracing::warn!(aside = %aside.display(), "the file of the tiers' open buckets is damaged or of another version; these begin anew");
        }
        let view = self.view();
        // The next flush tries again.
        if let Err(error) = self.save_tiers(view.tables.values().map(|table| &*table.buckets)) {
            tracing::warn!(%error, "the tiers' open buckets are not kept yet");
        }
        Ok(())
    }

    fn save_tiers<'a>(&self, tables: impl Iterator<Item = &'a Buckets>) -> Result<(), WriteError> {
        let tables = tables.filter(|buckets| buckets.family.has_tiers);
        let bytes = saved::write(tables).map_err(DiskError::of("pack", &self.settings.path.join(FILE)))?;
        self.replace(FILE, &bytes)
    }

    /// Takes the frozen rows into the tiers, publishes the buckets that have ended, and keeps the others for the next start. A tier
    /// that cannot be written does not keep others, or the rows, from being written: its buckets wait for the next flush. If they
    /// may `wait`, they do until they are worth a file.
    ///
    /// # Errors
    /// When nothing is kept: then the rows must not be published, as the next start could not tell that they are in no tier.
    /// The inner error is the first one of a tier.
    pub(super) fn flush_tiers(
        &self,
        frozen: &PerFamily<Arc<TableView>>,
        sources: &PerFamily<Source>,
        wait: bool,
        flushed: &mut Flushed,
    ) -> Result<Result<(), WriteError>, WriteError> {
        let gaps = &frozen[FamilyId::of::<Gap>()].hot;
        let newest = frozen.values().filter_map(|table| last_time(&table.hot)).max();
        let (mut all, mut files, mut failure) = (Vec::new(), Vec::new(), None);
        for (family, table) in frozen.iter().filter(|(family, _)| family.has_tiers) {
            let mut buckets = Buckets::clone(&table.buckets);
            sources[family].tell(&mut buckets, gaps);
            buckets.take(&table.hot);
            if let Some(now) = last_time(&table.hot).or(newest) {
                buckets.end_stale(now);
            }
            for id in TableId::tiers(family) {
                let Some(tier) = id.tier().filter(|tier| !wait || buckets.is_due(*tier)) else { continue };
                match self.publish_ended(&buckets, id, tier) {
                    Ok(published) => {
                        buckets.forget_ended(tier);
                        files.extend(published.into_iter().map(|file| (family, tier, Arc::new(file))));
                    }
                    Err(error) => {
                        failure = failure.or(Some(error));
                        let given_up = buckets.give_up_beyond(tier, ENDED_MAX);
                        if given_up > 0 {
                            tracing::error!(
                                table = id.name(),
                                buckets = given_up,
                                "the disk refused a tier for too long"
                            );
                        }
                    }
                }
            }
            all.push(buckets);
        }
        let kept = step("tiers.published")
            .map_err(|error| WriteError::from(DiskError::of("publish", &self.lake)(error)))
            .and_then(|()| self.save_tiers(all.iter()));
        let paths: BTreeSet<PathBuf> = files.iter().map(|(.., file)| file.path.clone()).collect();
        if let Err(error) = kept {
            // TIERS may be the new one all the same, if only its name could not be synced. A start looks which one it is.
            self.lock().unconfirmed.extend(paths);
            return Err(error);
        }
        let _ = step("tiers.kept");
        // Files of such a try, which may have had fewer rows and so other names. Two files must not have the same rows.
        let unconfirmed = std::mem::take(&mut self.lock().unconfirmed);
        unconfirmed.difference(&paths).for_each(|path| self.trash.remove(path));
        flushed.files.extend(files.iter().map(|(.., file)| file.path.clone()));
        flushed.bytes += files.iter().map(|(.., file)| file.bytes).sum::<u64>();
        self.change(|view, _| {
            for buckets in all {
                let family = buckets.family;
                Arc::make_mut(&mut view.tables[family]).buckets = Arc::new(buckets);
            }
            for (family, tier, file) in files {
                let files = &mut Arc::make_mut(&mut view.tables[family]).tiers[tier as usize];
                *files = Arc::new(files.iter().cloned().chain([file]).collect());
            }
        });
        let _ = step("tiers.swapped");
        Ok(failure.map_or(Ok(()), Err))
    }

    /// Publishes the buckets of a tier that have ended, a file for each host and day. All or none.
    fn publish_ended(&self, buckets: &Buckets, table: TableId, tier: Tier) -> Result<Vec<DataFile>, WriteError> {
        let failed = |error: arrow::error::ArrowError| WriteError::Sort(table.name(), error.into());
        let mut seq = buckets.next_seqs[tier as usize];
        let mut files: Vec<DataFile> = Vec::new();
        for (host, batch, _) in buckets.ended_rows(tier).map_err(failed)? {
            let rows = Arc::new(HotBatch::new(host, seq, batch));
            seq = rows.end_seq();
            for day in split_by_date(&[rows]) {
                match self.publish_rows(table, None, day) {
                    Ok(file) => files.push(file),
                    Err(error) => {
                        files.iter().for_each(|file| self.trash.remove(&file.path));
                        return Err(error);
                    }
                }
            }
        }
        Ok(files)
    }
}

/// The time of the last of these rows.
fn last_time(hot: &[Arc<HotBatch>]) -> Option<i64> {
    hot.last().and_then(|hot| times(&hot.batch).last().copied())
}

impl Source {
    /// Tells buckets what samples their rows, and which ticks it missed.
    pub(super) fn tell(&self, buckets: &mut Buckets, gaps: &[Arc<HotBatch>]) {
        if let Some(interval) = self.interval {
            buckets.set_source(&self.collector, interval * SECOND_ROWS_MIN <= Duration::from_secs(1));
            buckets.take_gaps(gaps);
        }
    }
}

#[cfg(test)]
mod tests;
