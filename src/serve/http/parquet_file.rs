//! A result as a Parquet file. A group of rows is sent once it is full, so only one is in memory.

use std::io;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, IntervalUnit, SchemaRef};
use axum::body::Bytes;
use futures::StreamExt;
use futures::stream::{self, Stream};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::refusal::Refusal;

/// What a group of rows may take in memory before it is sent.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// The file, as parts that follow each other.
///
/// # Errors
/// Parquet has no type for one of the columns.
pub(super) fn parts<B>(
    schema: &SchemaRef,
    batches: B,
) -> Result<impl Stream<Item = io::Result<Bytes>> + use<B>, Refusal>
where
    B: Stream<Item = io::Result<RecordBatch>> + Unpin,
{
    let lacking = schema.fields().iter().find(|field| lacks(field.data_type()));
    if let Some(field) = lacking {
        let text = format!(
            "Parquet has no type {} for `{}`: cast it, or ask for another `format`",
            field.data_type(),
            field.name()
        );
        return Err(Refusal::wrong(text));
    }
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let writer = ArrowWriter::try_new(Vec::new(), SchemaRef::clone(schema), Some(properties)).map_err(|error| {
        Refusal::wrong(format!("Parquet cannot have such a column: {error}; cast it, or ask for another `format`"))
    })?;
    Ok(stream::try_unfold(Some((batches, writer)), |state| async move {
        let Some((mut batches, mut writer)) = state else { return Ok(None) };
        Ok(match batches.next().await.transpose()? {
            Some(batch) => {
                let part = written(&mut writer, &batch).map_err(io::Error::other)?;
                Some((part, Some((batches, writer))))
            }
            None => Some((Bytes::from(writer.into_inner().map_err(io::Error::other)?), None)),
        })
    }))
}

/// Whether a type is, or has in it, one that the writer cannot write. It says so in the middle of a file, or by a panic.
fn lacks(ty: &DataType) -> bool {
    match ty {
        DataType::Union(..) | DataType::Interval(IntervalUnit::MonthDayNano) => true,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => lacks(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| lacks(field.data_type())),
        _ => false,
    }
}

/// Takes the rows, and gives what of the file is finished.
fn written(writer: &mut ArrowWriter<Vec<u8>>, batch: &RecordBatch) -> Result<Bytes, ParquetError> {
    writer.write(batch)?;
    if writer.memory_size() >= GROUP_BYTES_MAX {
        writer.flush()?;
    }
    Ok(Bytes::from(std::mem::take(writer.inner_mut())))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::compute::concat_batches;
    use arrow::datatypes::{Field, Int64Type, Schema, UnionFields, UnionMode};
    use futures::TryStreamExt;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    #[tokio::test]
    async fn the_parts_are_a_file_of_several_groups() {
        let mut random = fastrand::Rng::with_seed(5);
        let values: Vec<i64> = (0..3_000_000).map(|_| random.i64(..)).collect();
        let batches: Vec<RecordBatch> = values
            .chunks(200_000)
            .map(|part| {
                RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from(part.to_vec())) as ArrayRef)]).unwrap()
            })
            .collect();
        let schema = batches[0].schema();
        let parts = parts(&schema, stream::iter(batches.into_iter().map(Ok))).unwrap();
        let parts: Vec<Bytes> = parts.try_collect().await.unwrap();
        // It was sent while it was written.
        assert!(parts.iter().filter(|part| part.len() > 1 << 20).count() > 1);
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(parts.concat())).unwrap();
        assert!(reader.metadata().num_row_groups() > 1);
        let read: Vec<RecordBatch> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
        let read = concat_batches(&schema, &read).unwrap();
        assert!(read.column(0).as_primitive::<Int64Type>().values()[..] == values[..]);
    }

    #[test]
    fn a_type_that_parquet_lacks_is_refused() {
        let fields = UnionFields::try_new([0], [Field::new("a", DataType::Int64, true)]).unwrap();
        let union = DataType::Union(fields, UnionMode::Dense);
        let months = DataType::Interval(IntervalUnit::MonthDayNano);
        for ty in [union, DataType::List(Arc::new(Field::new("item", months, true)))] {
            let schema = Arc::new(Schema::new(vec![Field::new("u", ty, true)]));
            assert!(parts(&schema, stream::iter([])).is_err());
        }
    }
}
