//! What can be queried at one moment.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::error::ArrowError;

use super::hot::{HotBatch, dictionary_bytes, row_bytes};
use super::lake::DataFile;
use super::last::LastRows;
use super::tier::buckets::{Buckets, Part};
use crate::family::tables::TableId;
use crate::family::{FamilyId, PerFamily};
use crate::record::tier::Tier;
use crate::sampler::report::Gap;

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
    /// The files of its tiers, in the order of [`Tier::ALL`](crate::record::tier::Tier::ALL).
    pub tiers: [Arc<Vec<Arc<DataFile>>>; 2],
    /// What its tiers have beyond their files, up to a row that `hot` may have.
    pub buckets: Arc<Buckets>,
}

impl View {
    /// A view without rows.
    #[must_use]
    pub fn empty() -> View {
        let table = |family| TableView {
            family,
            hot: Vec::new(),
            files: Arc::default(),
            last: None,
            tiers: Default::default(),
            buckets: Arc::new(Buckets::new(family, 0, [0; 2])),
        };
        View { tables: PerFamily::from_fn(|family| Arc::new(table(family))) }
    }

    /// The rows of a tier that no file has, up to now, with the columns `wanted` of its table. By host, each in the order of time.
    ///
    /// # Errors
    /// When the columns do not fit together, which would be a bug.
    pub fn open_buckets(&self, tier: TableId, wanted: &[usize]) -> Result<Vec<Part>, ArrowError> {
        let table = &self.tables[tier.family()];
        table.buckets.with(&table.hot, &self.tables[FamilyId::of::<Gap>()].hot, tier, wanted)
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

    /// The files of a tier, or of the rows themselves.
    #[must_use]
    pub fn files_of(&self, tier: Option<Tier>) -> &Arc<Vec<Arc<DataFile>>> {
        tier.map_or(&self.files, |tier| &self.tiers[tier as usize])
    }

    /// The files of the rows, and then those of each tier.
    pub fn all_files(&self) -> impl Iterator<Item = (TableId, &Arc<Vec<Arc<DataFile>>>)> {
        let tiers = TableId::tiers(self.family).zip(&self.tiers);
        [(TableId::raw(self.family), &self.files)].into_iter().chain(tiers)
    }

    /// Takes files out and puts others in. Returns those that it took out.
    pub(super) fn exchange_files(
        &mut self,
        tier: Option<Tier>,
        out: &HashSet<*const DataFile>,
        new: impl IntoIterator<Item = Arc<DataFile>>,
    ) -> Vec<Arc<DataFile>> {
        let all = tier.map_or(&mut self.files, |tier| &mut self.tiers[tier as usize]);
        let (taken, mut files): (Vec<_>, Vec<_>) =
            all.iter().cloned().partition(|file| out.contains(&Arc::as_ptr(file)));
        files.extend(new);
        files.sort_by_key(|file| file.first_seq);
        *all = Arc::new(files);
        taken
    }
}
