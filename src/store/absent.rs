//! Files that somebody took away, and may bring back.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use super::disk::is_absent;
use super::lake::DataFile;
use super::{Loss, Store, TableView, View};
use crate::family::FamilyId;

/// More are not remembered, the oldest first.
const ABSENT_MAX: usize = 100_000;

/// A file that the view does not show because it is not where it was: it may come back with its folder.
#[derive(Clone, Debug)]
pub(super) struct Absent {
    /// The table.
    family: FamilyId,
    file: Arc<DataFile>,
    /// It was told as a loss.
    is_told: bool,
}

impl Store {
    /// Shows no files that are not there any more, so that queries go on without them. They are a loss while there is a
    /// data folder; all of them are shown again should they come back.
    pub fn look_for_files(&self) {
        // One thread at a time: two would find the same.
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.lake.lock().hold().is_ok();
        // What retention and compaction give up is there as long as this view.
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

    /// Takes files out of the view and puts others in. Returns those that were in it.
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
