//! The texts of a dictionary, one for each row.
//!
//! Labels come as dictionaries with few short texts and go to clients as plain texts. Copying each by its own length, as Arrow
//! does, takes longer than copying all numbers of its row.

use arrow::array::{Array, AsArray, DictionaryArray, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;

/// Texts up to this length are copied in blocks of it, which takes one instruction. The next text overwrites what is too much.
const BLOCK_BYTES: usize = 16;

/// The texts of `labels`. `None` if it has nulls, or long texts, for which there is no quick way.
pub(super) fn spread(labels: &DictionaryArray<Int32Type>) -> Result<Option<StringArray>, ArrowError> {
    let Some(texts) = labels.values().as_string_opt::<i32>() else { return Ok(None) };
    // Of many texts, few rows have one each.
    if labels.keys().null_count() > 0 || texts.null_count() > 0 || texts.len() > labels.len() {
        return Ok(None);
    }
    let keys: &[i32] = labels.keys().values();
    let of = |key: &i32| usize::try_from(*key).ok().filter(|key| *key < texts.len()).map(|key| texts.value(key));
    match keys.first().and_then(of) {
        Some(first) if keys.iter().fold(true, |same, key| same & (*key == keys[0])) => repeated(first, keys.len()),
        Some(_) => in_blocks(keys, texts),
        None => Ok(None),
    }
}

/// The same text in all rows.
fn repeated(text: &str, rows: usize) -> Result<Option<StringArray>, ArrowError> {
    if text.len().checked_mul(rows).is_none_or(|bytes| i32::try_from(bytes).is_err()) {
        return Ok(None);
    }
    let offsets = OffsetBuffer::from_repeated_length(text.len(), rows);
    StringArray::try_new(offsets, Buffer::from_vec(text.as_bytes().repeat(rows)), None).map(Some)
}

fn in_blocks(keys: &[i32], texts: &StringArray) -> Result<Option<StringArray>, ArrowError> {
    let block = |text: &str| {
        let mut block = [0; BLOCK_BYTES];
        block.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some((block, text.len()))
    };
    let Some(blocks) = texts.iter().map(|text| block(text.unwrap_or_default())).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let longest = blocks.iter().map(|(_, length)| *length).max().unwrap_or_default();
    // The last one is written as a whole block, too.
    let Some(bytes) = keys.len().checked_mul(longest).and_then(|bytes| bytes.checked_add(BLOCK_BYTES)) else {
        return Ok(None);
    };
    if i32::try_from(bytes).is_err() {
        return Ok(None);
    }
    let (mut values, mut offsets) = (vec![0; bytes], Vec::with_capacity(keys.len() + 1));
    let mut end = 0;
    offsets.push(0);
    for key in keys {
        let key = usize::try_from(*key).unwrap_or(usize::MAX);
        let (Some((block, length)), Some(to)) = (blocks.get(key), values[end..].first_chunk_mut()) else {
            return Ok(None);
        };
        *to = *block;
        end += length;
        offsets.push(i32::try_from(end).unwrap_or(i32::MAX));
    }
    values.truncate(end);
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    StringArray::try_new(offsets, Buffer::from_vec(values), None).map(Some)
}

#[cfg(test)]
mod tests {
    use arrow::compute::cast;
    use arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn texts_are_those_that_arrow_makes() {
        let short = ["eth0", "", "lo", "nvme0n1p1", "größer", "sixteen letters.", "eth0", "lo", ""];
        let all: Vec<DictionaryArray<Int32Type>> = vec![
            short.into_iter().cycle().take(40).collect(),
            std::iter::repeat_n("a name of more than sixteen letters", 1_000).collect(),
            short.into_iter().cycle().take(10_000).collect(),
            std::iter::repeat_n("", 10).collect(),
            ["x"].into_iter().collect(),
        ];
        for labels in all {
            let expected = cast(&labels, &DataType::Utf8).unwrap();
            assert_eq!(spread(&labels).unwrap().as_ref(), Some(expected.as_string()));
            let part = labels.slice(labels.len() / 2, labels.len().div_ceil(2));
            let expected = cast(&part, &DataType::Utf8).unwrap();
            assert_eq!(spread(&part).unwrap().as_ref(), Some(expected.as_string()));
        }
    }

    #[test]
    fn nulls_long_texts_and_few_rows_are_left_to_arrow() {
        let nulls: DictionaryArray<Int32Type> = [Some("a"), None].into_iter().collect();
        let long: DictionaryArray<Int32Type> = ["a", "a name of more than sixteen letters"].into_iter().collect();
        let many: DictionaryArray<Int32Type> = ["a", "b", "c"].into_iter().collect();
        for labels in [nulls, long.clone(), long.slice(0, 0), many.slice(0, 2)] {
            assert_eq!(spread(&labels).unwrap(), None);
        }
    }
}
