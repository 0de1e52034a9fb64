//! Rows in memory: small batches at the new end, merged into larger ones as they age.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

use crate::batch;
use crate::record::{Table, Type};

/// This many neighbouring batches of about equal size are merged. So a table in memory is a handful of batches, and each
/// row is copied a few times only.
pub(super) const MERGE_WIDTH: usize = 16;
/// A merge never makes a batch of more rows. A query loses nothing by reading batches of this size, and copying them into
/// larger ones would cost the drain thread a fifth of its time, most of it for fresh pages.
const MERGED_ROWS_MAX: usize = 4_096;

/// Rows in memory with their place in the family's sequence.
#[derive(Debug)]
pub struct HotBatch {
    /// Sequence number of the first row; each row has one more than the row before.
    pub first_seq: u64,
    /// The rows.
    pub batch: RecordBatch,
    /// Smallest and greatest `time`, µs.
    pub time_range: (i64, i64),
}

impl HotBatch {
    /// The rows of `batch`, the first of which has the sequence number `first_seq`.
    #[must_use]
    pub fn new(first_seq: u64, batch: RecordBatch) -> HotBatch {
        let time_range = time_range(&batch);
        HotBatch { first_seq, batch, time_range }
    }

    /// The sequence number of the row after the last.
    #[must_use]
    pub fn end_seq(&self) -> u64 {
        self.first_seq + self.batch.num_rows() as u64
    }
}

/// Merges the newest batches while the last [`MERGE_WIDTH`] have about the same size and none of them is frozen.
pub(super) fn merge_tail(hot: &mut Vec<Arc<HotBatch>>, frozen_seq: u64) {
    // Sizes are "about the same" within a power of the width, so each merge moves rows up one level.
    let level = |hot: &HotBatch| hot.batch.num_rows().max(1).ilog(MERGE_WIDTH);
    while let Some(last) = hot.last() {
        let run = hot.iter().rev().take_while(|one| one.first_seq >= frozen_seq && level(one) <= level(last)).count();
        let tail = &hot[hot.len() - run..];
        let rows: usize = tail.iter().map(|one| one.batch.num_rows()).sum();
        if run < MERGE_WIDTH || rows > MERGED_ROWS_MAX {
            return;
        }
        let batches: Vec<RecordBatch> = tail.iter().map(|one| one.batch.clone()).collect();
        // They have one schema, so merging does not fail. If it did, the batches would stay apart.
        let Ok(batch) = batch::merge(&batches) else { return };
        let time_range = span(tail.iter().map(|one| one.time_range)).unwrap_or_default();
        let merged = HotBatch { first_seq: tail[0].first_seq, batch, time_range };
        hot.truncate(hot.len() - run);
        hot.push(Arc::new(merged));
    }
}

/// The rows of a batch from the sequence number `seq` on, or `None` if it has none.
pub(super) fn from(hot: &Arc<HotBatch>, seq: u64) -> Option<Arc<HotBatch>> {
    let skipped = usize::try_from(seq.saturating_sub(hot.first_seq)).unwrap_or(usize::MAX);
    let rows = hot.batch.num_rows();
    match skipped {
        0 => Some(Arc::clone(hot)),
        _ if skipped >= rows => None,
        _ => Some(Arc::new(HotBatch::new(seq, hot.batch.slice(skipped, rows - skipped)))),
    }
}

/// Bytes that a row takes in memory. The dictionaries of labels are shared and do not count.
pub(super) fn row_bytes(table: &Table) -> u64 {
    table.columns.iter().map(|column| if column.ty == Type::Text { 4 } else { 8 }).sum()
}

/// The `time` column's values, µs.
pub(super) fn times(batch: &RecordBatch) -> &[i64] {
    batch.column(0).as_primitive::<TimestampMicrosecondType>().values()
}

/// Smallest and greatest `time` of a batch, µs; (0, 0) without rows.
pub(super) fn time_range(batch: &RecordBatch) -> (i64, i64) {
    let times = || times(batch).iter().copied();
    (times().min().unwrap_or(0), times().max().unwrap_or(0))
}

/// The range of times that has all of `ranges`.
pub(super) fn span(ranges: impl IntoIterator<Item = (i64, i64)>) -> Option<(i64, i64)> {
    ranges.into_iter().reduce(|(low, high), (first, last)| (low.min(first), high.max(last)))
}
