//! Files and folders that somebody took away, and may bring back.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::data_folder::{FolderError, JOURNAL};
use super::disk::{is_absent, make_folders};
use super::lake::DataFile;
use super::shared::{Absent, Loss, Store};
use super::trouble::Part;
use crate::family::tables::TableId;

/// If there are more, the oldest are forgotten.
const ABSENT_MAX: usize = 100_000;

impl Store {
    /// Looks for trouble that no failed call reports: a sync that hangs, a folder or segment that somebody deleted. Call this
    /// about once a second.
    pub fn check(&self) {
        self.journal.check();
        let held = self.hold_folder();
        let folders = [self.lake.clone(), self.settings.path.join(JOURNAL)];
        let missing: Vec<&PathBuf> = folders.iter().filter(|folder| !folder.is_dir()).collect();
        // These two are made again.
        let made = held.and_then(|()| {
            missing.iter().try_for_each(|folder| Ok(make_folders(&*self.disk, &self.settings.path, folder)?))
        });
        let changed = self.troubles.note(Part::Folder, made.err());
        if changed || !missing.is_empty() {
            self.look_for_files();
        }
    }

    /// Makes sure that this process has the data folder. One that somebody deleted is made anew. For one that may come back
    /// the store waits.
    fn hold_folder(&self) -> Result<(), FolderError> {
        let held = self.folder_lock.hold();
        if !matches!(held, Err(FolderError::Gone(_))) || !self.folder_lock.revive(&*self.disk)? {
            return held;
        }
        let folder = self.settings.path.display();
        tracing::warn!("data folder {folder} was deleted with all that was recorded in it; made it anew");
        self.folder_lock.hold()
    }

    /// Takes absent files out of the view, so that queries go on without them, and puts those back that are there again. If
    /// the data folder is there, absent files are a loss.
    pub fn look_for_files(&self) {
        // One thread at a time: two would find the same files.
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.folder_lock.hold().is_ok();
        // Files that retention and compaction give up are there as long as this view.
        let view = self.view();
        let files = view.tables.values().flat_map(|table| table.all_files()).flat_map(|(_, files)| files.iter());
        let gone: HashSet<_> = files.filter(|file| is_absent(&file.path)).map(Arc::as_ptr).collect();
        let (mut away, back): (Vec<Absent>, Vec<Absent>) = absent.drain(..).partition(|one| is_absent(&one.file.path));
        if !gone.is_empty() || !back.is_empty() {
            let known = away.len();
            self.change(|view, _| {
                for table in TableId::all() {
                    let back = back.iter().filter(|one| one.table == table).map(|one| Arc::clone(&one.file));
                    let of_family = Arc::make_mut(&mut view.tables[table.family()]);
                    let taken = of_family.exchange_files(table.tier(), &gone, back).into_iter();
                    away.extend(taken.map(|file| Absent { table, file, is_told: false }));
                }
            });
            let (gone, back) = (away.len() - known, back.len());
            tracing::warn!(gone, back, "files of the lake went away or came back");
        }
        away.drain(..away.len().saturating_sub(ABSENT_MAX));
        for one in away.iter_mut().filter(|one| held && !one.is_told) {
            one.is_told = true;
            let DataFile { rows, time_range, .. } = *one.file;
            // A tier has no rows of its own.
            if one.table.tier().is_none() {
                self.lock().losses.push(Loss { family: one.table.family(), reason: "files gone", rows, time_range });
            }
        }
        *absent = away;
    }
}
