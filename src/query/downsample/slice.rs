//! Some of the series of a window: where the buckets of all do not fit into memory, rows are read several times, each time for other
//! series.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::common::Result;
use datafusion::common::hash_utils::create_hashes;
use foldhash::fast::FixedState;

/// A slice is divided into so many.
const PARTS: u64 = 4;
/// There are at most so many slices. With the most buckets and columns, a series takes some 30 MB.
const SLICES_MAX: u64 = 4_096;

/// The series of which the hash, divided by `of`, leaves `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    of: u64,
    at: u64,
}

impl Slice {
    /// All series.
    pub(super) const ALL: Slice = Slice { of: 1, at: 0 };

    /// The slices that it is divided into. `None` if it cannot be.
    pub(super) fn parts(self) -> Option<impl Iterator<Item = Slice>> {
        let of = self.of * PARTS;
        (of <= SLICES_MAX).then(|| (0..PARTS).map(move |part| Slice { of, at: self.at + part * self.of }))
    }

    /// The rows of a batch that are of its series. These are told apart by the columns at the positions `keys`.
    pub(super) fn rows(self, batch: RecordBatch, keys: &[usize]) -> Result<RecordBatch> {
        if self == Slice::ALL {
            return Ok(batch);
        }
        let keys: Vec<&ArrayRef> = keys.iter().map(|key| batch.column(*key)).collect();
        let mut hashes = vec![0; batch.num_rows()];
        create_hashes(keys.into_iter().map(Arc::clone), &FixedState::default(), &mut hashes)?;
        let is_own: BooleanArray = hashes.iter().map(|hash| Some(hash % self.of == self.at)).collect();
        Ok(filter_record_batch(&batch, &is_own)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, DictionaryArray, Int64Array, StringArray};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Int32Type, Int64Type};

    use super::*;

    fn places(slice: Slice, label: &ArrayRef) -> Vec<i64> {
        let number: Int64Array = (0..500).map(|row| (row % 7 > 0).then_some(row % 5)).collect();
        let place = Int64Array::from_iter_values(0..500);
        let columns: [(&str, ArrayRef); 3] =
            [("label", Arc::clone(label)), ("number", Arc::new(number)), ("place", Arc::new(place))];
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
        slice.rows(batch, &[0, 1]).unwrap().column(2).as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn each_series_is_in_one_slice_whatever_type_its_labels_have() {
        let texts: StringArray = (0..500).map(|row| (row % 11 > 0).then(|| format!("s{}", row % 40))).collect();
        let texts: ArrayRef = Arc::new(texts);
        let keys = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let dictionary = cast(&texts, &keys).unwrap();
        assert!(dictionary.as_any().is::<DictionaryArray<Int32Type>>());
        let mut found = Vec::new();
        let slices: Vec<Slice> = Slice::ALL.parts().unwrap().flat_map(|slice| slice.parts().unwrap()).collect();
        for slice in &slices {
            let own = places(*slice, &texts);
            assert_eq!(own, places(*slice, &dictionary));
            assert!(own.len() < 250, "{} of 500 rows", own.len());
            found.extend(own);
        }
        found.sort_unstable();
        assert_eq!((slices.len(), found), (16, (0..500).collect()));
        assert!(Slice { of: SLICES_MAX, at: 0 }.parts().is_none());
    }
}
