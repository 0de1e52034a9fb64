//! What can be queried at one moment.

use std::collections::HashSet;
use std::sync::Arc;

use super::hot::{HotBatch, dictionary_bytes, row_bytes};
use super::lake::DataFile;
use super::last::LastRows;
use crate::family::{FamilyId, PerFamily};

/// Everything that can be queried at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// One table a family.
    pub tables: PerFamily<Arc<TableView>>,
}

/// One table at one moment.
#[derive(Clone, Debug)]
pub struct TableView {
    /// Whose rows they are.
    pub family: FamilyId,
    /// Rows that no file has, in the order of their sequence numbers.
    pub hot: Vec<Arc<HotBatch>>,
    /// Rows on disk, in the order of their sequence numbers.
    pub files: Arc<Vec<Arc<DataFile>>>,
    /// The newest row of each series, if a store keeps it.
    pub last: Option<Arc<LastRows>>,
}

impl View {
    /// A view without rows.
    #[must_use]
    pub fn empty() -> View {
        let table = |family| TableView { family, hot: Vec::new(), files: Arc::default(), last: None };
        View { tables: PerFamily::from_fn(|family| Arc::new(table(family))) }
    }
}

/// Memory that the rows in memory of several views take, each counted once.
pub fn hot_bytes<'a>(views: impl IntoIterator<Item = &'a View> + Clone) -> u64 {
    let of = |family: FamilyId| {
        let mut known = HashSet::new();
        let all = views.clone().into_iter().flat_map(|view| &view.tables[family].hot);
        let hot: Vec<Arc<HotBatch>> = all.filter(|hot| known.insert(Arc::as_ptr(hot))).cloned().collect();
        let rows: u64 = hot.iter().map(|hot| hot.batch.num_rows() as u64).sum();
        rows * row_bytes(family.table) + dictionary_bytes(family.table, &hot)
    };
    FamilyId::all().map(of).sum()
}

impl TableView {
    /// The newest row of each series. Those of a folder that is only read are looked for at each call.
    #[must_use]
    pub fn last(&self) -> Arc<LastRows> {
        let found = || Arc::new(LastRows::of(self.family, &self.files, &self.hot));
        self.last.as_ref().map_or_else(found, Arc::clone)
    }

    /// Takes files out and puts others in. Returns those that it took out.
    pub(super) fn exchange_files(
        &mut self,
        out: &HashSet<*const DataFile>,
        new: impl IntoIterator<Item = Arc<DataFile>>,
    ) -> Vec<Arc<DataFile>> {
        let (taken, mut files): (Vec<_>, Vec<_>) =
            self.files.iter().cloned().partition(|file| out.contains(&Arc::as_ptr(file)));
        files.extend(new);
        files.sort_by_key(|file| file.first_seq);
        self.files = Arc::new(files);
        taken
    }
}
