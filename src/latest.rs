//! The newest rows of each family, for the gRPC call `GetMetrics`, the exports and the counts in `kymo status`.
//!
//! The drain thread writes here, everyone else reads. Rows are kept apart by their source, one run of one collector, so
//! that a collector that ends takes its own rows away and nobody else's. The lock is held for moments only, never over
//! I/O or a merge, so neither side waits long for the other.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

use crate::batch;
use crate::family::{FamilyId, PerFamily};

/// One run of a collector, from its start or retune to its end. The drain thread has one for the rows it writes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceId(u64);

/// For each family the newest drained batch of each source. Shared by all threads.
#[derive(Debug, Default)]
pub struct LatestRows(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sources: u64,
    rows: PerFamily<BTreeMap<SourceId, RecordBatch>>,
}

impl LatestRows {
    /// An id that no other source has or had.
    pub fn new_source(&self) -> SourceId {
        let mut state = self.lock();
        state.sources += 1;
        SourceId(state.sources)
    }

    /// Replaces the rows that a source has of a family.
    pub fn put(&self, source: SourceId, family: FamilyId, batch: RecordBatch) {
        self.lock().rows[family].insert(source, batch);
    }

    /// Removes the rows that a source has of a family.
    pub fn remove(&self, source: SourceId, family: FamilyId) {
        self.lock().rows[family].remove(&source);
    }

    /// The rows of a family by source, from the oldest source to the newest.
    #[must_use]
    pub fn by_source(&self, family: FamilyId) -> Vec<(SourceId, RecordBatch)> {
        self.lock().rows[family].iter().map(|(source, batch)| (*source, batch.clone())).collect()
    }

    /// The rows of a family in one batch, from the oldest source to the newest; `None` when there are none.
    #[must_use]
    pub fn merged(&self, family: FamilyId) -> Option<RecordBatch> {
        let mut batches: Vec<RecordBatch> = self.by_source(family).into_iter().map(|(_, batch)| batch).collect();
        // Batches of one family have one schema, so they can be merged.
        if batches.len() > 1 { batch::merge(&batches).ok() } else { batches.pop() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a single step, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::to_batch;
    use crate::record::Record;
    use crate::record::label::Labels;
    use crate::sampler::report::Gap;
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    fn gap(lost: i64) -> RecordBatch {
        to_batch(&[&[Gap { lost, ..Gap::absent(0) }]], &Labels::default(), &Gap::TABLE.schema())
    }

    fn lost(latest: &LatestRows) -> Vec<i64> {
        let merged = latest.merged(FamilyId::of::<Gap>());
        let values = |batch: RecordBatch| batch.column_by_name("lost").unwrap().as_primitive::<Int64Type>().clone();
        merged.map_or_else(Vec::new, |batch| values(batch).values().to_vec())
    }

    #[test]
    fn a_source_that_ends_takes_its_own_rows_away_only() {
        let latest = LatestRows::default();
        let family = FamilyId::of::<Gap>();
        let (first, second) = (latest.new_source(), latest.new_source());
        assert!(lost(&latest).is_empty());
        latest.put(second, family, gap(20));
        latest.put(first, family, gap(10));
        latest.put(second, family, gap(21));
        assert_eq!(lost(&latest), [10, 21]);
        latest.remove(first, FamilyId::of::<crate::sampler::report::Collector>());
        assert_eq!(lost(&latest), [10, 21]);
        latest.remove(first, family);
        assert_eq!(lost(&latest), [21]);
        assert_eq!(latest.by_source(family).iter().map(|(source, _)| *source).collect::<Vec<_>>(), [second]);
        latest.remove(second, family);
        assert!(lost(&latest).is_empty());
    }
}
