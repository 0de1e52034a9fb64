//! Files and folders that somebody took away, and may bring back.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::data_folder::JOURNAL;
use super::disk::{create_folders, is_absent};
use super::lake::DataFile;
use super::shared::{Absent, Loss, Store};
use super::trouble::Part;
use super::view::{TableView, View};

/// If there are more, the oldest are forgotten.
const ABSENT_MAX: usize = 100_000;

impl Store {
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
        let changed = self.troubles.note(Part::Folder, made.err());
        if changed || !missing.is_empty() {
            self.look_for_files();
        }
        self.journal.take_flush_wanted()
    }

    /// Takes absent files out of the view, so that queries go on without them, and puts those back that are there again. If
    /// the data folder is there, absent files are a loss.
    pub fn look_for_files(&self) {
        // One thread at a time: two would find the same files.
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.lake.lock().hold().is_ok();
        // Files that retention and compaction give up are there as long as this view.
        let view = self.view();
        let mut gone = HashSet::new();
        for file in view.tables.values().flat_map(|table| table.files.iter()).filter(|file| is_absent(&file.path)) {
            gone.insert(Arc::as_ptr(file));
        }
        let (mut away, back): (Vec<Absent>, Vec<Absent>) = absent.drain(..).partition(|one| is_absent(&one.file.path));
        if !gone.is_empty() || !back.is_empty() {
            let (more, back) = (self.show_files(&gone, &back), back.len());
            tracing::warn!(gone = more.len(), back, "files of the lake went away or came back");
            away.extend(more);
        }
        away.drain(..away.len().saturating_sub(ABSENT_MAX));
        for one in away.iter_mut().filter(|one| held && !one.is_told) {
            one.is_told = true;
            let DataFile { rows, time_range, .. } = *one.file;
            self.lock().losses.push(Loss { family: one.family, reason: "files gone", rows, time_range });
        }
        *absent = away;
    }

    /// Takes files out of the view and puts others back. Returns those that it took out.
    fn show_files(&self, gone: &HashSet<*const DataFile>, back: &[Absent]) -> Vec<Absent> {
        let _state = self.lock();
        let mut view = View::clone(&self.view.load());
        let mut absent = Vec::new();
        for (family, table) in view.tables.iter_mut() {
            let (away, mut files): (Vec<_>, Vec<_>) =
                table.files.iter().cloned().partition(|file| gone.contains(&Arc::as_ptr(file)));
            files.extend(back.iter().filter(|one| one.family == family).map(|one| Arc::clone(&one.file)));
            files.sort_by_key(|file| file.first_seq);
            absent.extend(away.into_iter().map(|file| Absent { family, file, is_told: false }));
            *table = Arc::new(TableView { files: Arc::new(files), ..TableView::clone(table) });
        }
        self.view.store(Arc::new(view));
        absent
    }
}
