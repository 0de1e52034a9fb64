//! Draining: the records of a ring become an Arrow record batch. From here on, code does not know the record's type.

pub mod columns;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, RecordBatch, StringBuilder};
use arrow::compute::concat;
use arrow::datatypes::{Int32Type, SchemaRef};
use arrow::error::ArrowError;

use crate::record::Record;
use crate::record::label::Labels;
use crate::ring::Consumer;
use columns::columns;

/// A dictionary of up to so many texts is shared by fewer rows, too.
const SHARED_TEXTS_MAX: usize = 1_024;

/// The drain thread's end of one ring.
pub trait Source: Send {
    /// Everything published since the last call as one batch, or `None` if there was nothing.
    fn drain(&mut self) -> Option<RecordBatch>;

    /// Whether the sampler is gone. Once this returns `true`, one more [`drain`](Self::drain) gives its last records.
    fn is_finished(&self) -> bool;
}

/// A ring of records as a source of batches.
#[derive(Debug)]
pub struct RingSource<R> {
    consumer: Consumer<R>,
    labels: Arc<Labels>,
    schema: SchemaRef,
}

impl<R: Record> RingSource<R> {
    /// Reads from `consumer`. The labels of its records are interned in `labels`.
    #[must_use]
    pub fn new(consumer: Consumer<R>, labels: Arc<Labels>) -> Self {
        RingSource { consumer, labels, schema: R::TABLE.schema() }
    }
}

impl<R: Record> Source for RingSource<R> {
    fn drain(&mut self) -> Option<RecordBatch> {
        let (labels, schema) = (&self.labels, &self.schema);
        self.consumer.drain(|old, new| {
            if old.is_empty() && new.is_empty() { None } else { Some(to_batch(&[old, new], labels, schema)) }
        })
    }

    fn is_finished(&self) -> bool {
        self.consumer.is_abandoned()
    }
}

/// The records of `slices` as one batch in `R`'s schema.
#[must_use]
pub fn to_batch<R: Record>(slices: &[&[R]], labels: &Labels, schema: &SchemaRef) -> RecordBatch {
    // The records were published after their labels were interned, so the dictionary covers them.
    let columns = columns(slices, &labels.dictionary());
    match RecordBatch::try_new(Arc::clone(schema), columns) {
        Ok(batch) => batch,
        Err(error) => unreachable!("schema and columns come from one declaration: {error}"),
    }
}

/// One batch with the rows of `batches`, in their order.
///
/// The labels of a family share one dictionary, which mostly grows ([`Labels`]): the keys stay the same, and the longest
/// dictionary is the new one. Where another one has other texts, as in rows of another process or after names gave way, or where
/// the dictionary is much longer than the rows are many, the rows get new keys in a dictionary of their own texts.
///
/// # Errors
/// When there are no batches, or their schemas differ.
pub fn merge(batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let Some(first) = batches.first() else {
        return Err(ArrowError::InvalidArgumentError("merge of no batches".into()));
    };
    let columns = (0..first.num_columns())
        .map(|index| {
            let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(index).as_ref()).collect();
            merge_column(&parts)
        })
        .collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(first.schema(), columns)
}

fn merge_column(parts: &[&dyn Array]) -> Result<ArrayRef, ArrowError> {
    let dictionaries: Option<Vec<_>> = parts.iter().map(|part| part.as_dictionary_opt::<Int32Type>()).collect();
    let Some(dictionaries) = dictionaries else {
        return concat(parts);
    };
    let longest = dictionaries.iter().map(|part| part.values()).max_by_key(|values: &&ArrayRef| Array::len(*values));
    let Some(values) = longest else {
        return concat(parts);
    };
    let is_shared = dictionaries.iter().all(|part| Arc::ptr_eq(part.values(), values));
    let rows: usize = parts.iter().map(|part| part.len()).sum();
    let is_fit = || values.len() <= rows.max(SHARED_TEXTS_MAX);
    let is_shared = is_shared || (is_fit() && dictionaries.iter().all(|part| is_prefix(part.values(), values)));
    if !is_shared {
        return with_own_texts(&dictionaries);
    }
    let keys: Vec<&dyn Array> = dictionaries.iter().map(|part| part.keys() as &dyn Array).collect();
    let keys = concat(&keys)?;
    let merged = DictionaryArray::<Int32Type>::try_new(keys.as_primitive().clone(), Arc::clone(values))?;
    Ok(Arc::new(merged))
}

/// Rows of several dictionaries with one that has the rows' texts only.
fn with_own_texts(parts: &[&DictionaryArray<Int32Type>]) -> Result<ArrayRef, ArrowError> {
    let mut texts = StringBuilder::new();
    let mut known: HashMap<&str, i32> = HashMap::new();
    let mut keys: Vec<Option<i32>> = Vec::with_capacity(parts.iter().map(|part| part.keys().len()).sum());
    for part in parts {
        let values = part.values().as_string_opt::<i32>();
        let values = values.ok_or_else(|| ArrowError::CastError("labels that are no strings".into()))?;
        // By the key in the part, so that a text is looked up once.
        let mut places: HashMap<i32, i32> = HashMap::new();
        for key in part.keys() {
            keys.push(key.map(|key| {
                *places.entry(key).or_insert_with(|| {
                    let text = usize::try_from(key).map_or("", |key| values.value(key));
                    let next = i32::try_from(known.len()).unwrap_or(i32::MAX);
                    *known.entry(text).or_insert_with(|| {
                        texts.append_value(text);
                        next
                    })
                })
            }));
        }
    }
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys.into(), Arc::new(texts.finish()))?))
}

/// Whether `values` begins with all texts of `shorter`.
pub(crate) fn is_prefix(shorter: &ArrayRef, values: &ArrayRef) -> bool {
    if Arc::ptr_eq(shorter, values) {
        return true;
    }
    let (Some(shorter), Some(values)) = (shorter.as_string_opt::<i32>(), values.as_string_opt::<i32>()) else {
        return false;
    };
    shorter.len() <= values.len() && *shorter == values.slice(0, shorter.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::ring;
    use crate::sampler::report::Gap;

    #[test]
    fn drained_rows_are_the_pushed_records_in_order() {
        let labels = Arc::new(Labels::default());
        let (mut producer, consumer) = ring::<Gap>(4);
        let mut source = RingSource::new(consumer, Arc::clone(&labels));
        assert!(source.drain().is_none());
        let mut times: Vec<i64> = Vec::new();
        for round in 0..5_i64 {
            for i in 0..3 {
                let time = round * 10 + i;
                assert!(producer.push(Gap { collector: labels.intern("c"), lost: time, ..Gap::absent(time) }));
            }
            producer.publish();
            let batch = source.drain().expect("three records");
            assert_eq!(batch.num_rows(), 3);
            times.extend(
                batch.column_by_name("lost").unwrap().as_primitive::<arrow::datatypes::Int64Type>().values().iter(),
            );
        }
        assert_eq!(times, (0..5).flat_map(|round| (0..3).map(move |i| round * 10 + i)).collect::<Vec<i64>>());
        assert!(!source.is_finished());
        drop(producer);
        assert!(source.is_finished());
    }

    #[test]
    fn merging_keeps_labels_of_growing_and_of_other_dictionaries() {
        let schema = Gap::TABLE.schema();
        let (labels, others) = (Labels::default(), Labels::default());
        for between in [&labels, &others] {
            let row = |labels: &Labels, name: &str| {
                to_batch(&[&[Gap { collector: labels.intern(name), ..Gap::absent(0) }]], labels, &schema)
            };
            let merged = merge(&[row(&labels, "a"), row(between, "b"), row(&labels, "c")]).unwrap();
            let names = arrow::compute::cast(merged.column(1), &arrow::datatypes::DataType::Utf8).unwrap();
            assert_eq!(names.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), Some("b"), Some("c")]);
            assert_eq!(merged.schema(), schema);
        }
    }

    #[test]
    fn few_rows_do_not_keep_a_long_dictionary() {
        let (labels, schema) = (Labels::default(), Gap::TABLE.schema());
        let row = |name: usize| {
            let name = labels.intern(&name.to_string());
            to_batch(&[&[Gap { collector: name, reason: name, ..Gap::absent(0) }]], &labels, &schema)
        };
        let shared = row(0);
        let shared = merge(&[shared.clone(), shared]).unwrap();
        let batches: Vec<_> = (0..2_000).map(row).collect();
        let merged = merge(&batches[1_990..]).unwrap();
        let texts = |batch: &RecordBatch| batch.column(1).as_dictionary::<Int32Type>().values().len();
        assert_eq!((texts(&shared), texts(&batches[1_999]), texts(&merged)), (3, 2_002, 10));
        let names = arrow::compute::cast(merged.column(2), &arrow::datatypes::DataType::Utf8).unwrap();
        let expected: Vec<_> = (1_990..2_000).map(|name| Some(name.to_string())).collect();
        assert!(names.as_string::<i32>().iter().eq(expected.iter().map(Option::as_deref)));
    }
}
