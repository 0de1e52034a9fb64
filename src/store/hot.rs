//! Rows in memory: small batches at the new end, merged into larger ones as they age.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AnyDictionaryArray, Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};

use crate::batch;
use crate::record::{Table, Type};

/// This many neighbouring batches of about equal size are merged, so each row is copied a few times only.
const MERGE_WIDTH: usize = 16;
/// Fewer batches are merged once they have this many rows together, and a batch of so many rows is merged no more. A query
/// loses nothing by reading batches of this size. Copying them into larger ones would cost the drain thread a fifth of its
/// time, most of it for fresh pages.
const MERGED_ROWS: usize = 2_048;

/// Rows in memory with their place in the family's sequence.
#[derive(Debug)]
pub struct HotBatch {
    /// Sequence number of the first row; each row has one more than the row before.
    pub first_seq: u64,
    /// The host that recorded them.
    pub host: Arc<str>,
    /// The rows.
    pub batch: RecordBatch,
    /// Smallest and greatest `time`, µs.
    pub time_range: (i64, i64),
}

impl HotBatch {
    /// The rows of `batch`, which `host` recorded. The first of them has the sequence number `first_seq`.
    #[must_use]
    pub fn new(host: Arc<str>, first_seq: u64, batch: RecordBatch) -> HotBatch {
        let time_range = time_range(&batch);
        HotBatch { first_seq, host, batch, time_range }
    }

    /// The sequence number of the row after the last.
    #[must_use]
    pub fn end_seq(&self) -> u64 {
        self.first_seq + self.batch.num_rows() as u64
    }
}

/// Merges the newest batches of about the same size, except frozen ones, while they are [`MERGE_WIDTH`] or have
/// [`MERGED_ROWS`] rows.
pub(super) fn merge_tail(hot: &mut Vec<Arc<HotBatch>>, frozen_seq: u64) {
    // Sizes are "about the same" within a power of the width, so each merge moves rows up one level.
    let level = |hot: &HotBatch| hot.batch.num_rows().max(1).ilog(MERGE_WIDTH);
    while let Some(last) = hot.last() {
        let is_small = |one: &HotBatch| one.batch.num_rows() < MERGED_ROWS && level(one) <= level(last);
        let run = hot.iter().rev().take_while(|one| one.first_seq >= frozen_seq && is_small(one)).count();
        let tail = &hot[hot.len() - run..];
        let rows: usize = tail.iter().map(|one| one.batch.num_rows()).sum();
        if run < 2 || (run < MERGE_WIDTH && rows < MERGED_ROWS) {
            return;
        }
        let batches: Vec<RecordBatch> = tail.iter().map(|one| one.batch.clone()).collect();
        // They have one schema, so merging does not fail. If it did, the batches would stay apart.
        let Ok(batch) = batch::merge(&batches) else { return };
        let time_range = span(tail.iter().map(|one| one.time_range)).unwrap_or_default();
        let merged = HotBatch { first_seq: tail[0].first_seq, host: Arc::clone(&tail[0].host), batch, time_range };
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
        _ => Some(Arc::new(HotBatch::new(Arc::clone(&hot.host), seq, hot.batch.slice(skipped, rows - skipped)))),
    }
}

/// Whole KiB of the dictionaries of labels. Most batches share one.
pub(super) fn dictionary_bytes(table: &Table, hot: &[Arc<HotBatch>]) -> u64 {
    let mut known = HashSet::new();
    let labels = hot.iter().flat_map(|hot| table.labels().map(|(at, _)| hot.batch.column(at)));
    let texts = labels.filter_map(|column| column.as_dictionary_opt::<Int32Type>()).map(AnyDictionaryArray::values);
    let new = texts.filter(|texts| known.insert(Arc::as_ptr(texts).cast::<()>()));
    new.map(|texts| texts.get_array_memory_size() as u64 / 1_024 * 1_024).sum()
}

/// Bytes that a row takes in memory, without the texts of its labels.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::to_batch;
    use crate::record::Record;
    use crate::record::label::Labels;
    use crate::sampler::report::Gap;

    #[test]
    fn a_table_in_memory_is_few_batches_of_bounded_size() {
        let labels = Labels::default();
        for rows in [1, 12, 160, 300, 2_047, 2_048, 5_000] {
            let batch = to_batch(&[&vec![Gap::absent(7); rows]], &labels, &Gap::TABLE.schema());
            let mut hot = Vec::new();
            for number in 0..1_000 {
                hot.push(Arc::new(HotBatch::new("h".into(), (number * rows) as u64, batch.clone())));
                merge_tail(&mut hot, 0);
            }
            assert!(hot.iter().zip(&hot[1..]).all(|(one, next)| one.end_seq() == next.first_seq));
            assert_eq!(hot.last().map(|last| last.end_seq()), Some(1_000 * rows as u64));
            assert!(hot.iter().all(|one| one.batch.num_rows() < (2 * MERGED_ROWS).max(rows + 1)));
            let most = if rows < MERGED_ROWS { 1_000 * rows / MERGED_ROWS + 3 * MERGE_WIDTH } else { 1_000 };
            assert!(hot.len() <= most, "{rows} rows each: {} batches", hot.len());
        }
    }

    #[test]
    fn frozen_batches_are_not_merged() {
        let batch = to_batch(&[&[Gap::absent(7)]], &Labels::default(), &Gap::TABLE.schema());
        let mut hot = Vec::new();
        for number in 0..100 {
            hot.push(Arc::new(HotBatch::new("h".into(), number, batch.clone())));
            merge_tail(&mut hot, 50);
        }
        let rows: Vec<usize> = hot.iter().map(|one| one.batch.num_rows()).collect();
        assert_eq!((&rows[..50], &rows[50..]), ([1; 50].as_slice(), [16, 16, 16, 1, 1].as_slice()));
    }
}
