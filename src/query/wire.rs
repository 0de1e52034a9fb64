//! The form in which results are sent: plain Arrow types that every client can read.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;

use super::origin::metadata;
use super::texts;
use crate::record::Column;

/// The schema in which rows of `schema` are sent.
///
/// Dictionaries become their values, unsigned numbers signed ones, and string and binary views become plain strings and binaries,
/// also inside lists and structs. Times are in nanoseconds if a client wants them so. Every field is nullable: clients reject a
/// batch whose schema differs from the announced one, and nullability differs from plan to plan. The metadata of a field is that of
/// the column of a table that it is, if any.
#[must_use]
pub fn wire_schema(schema: &Schema, origins: &[Option<&Column>], nanoseconds: bool) -> SchemaRef {
    let names = unique_names(schema);
    let fields = schema.fields().iter().zip(names).enumerate().map(|(at, (field, name))| {
        let ty = plain(field.data_type());
        let ty = if nanoseconds { in_nanoseconds(&ty) } else { ty };
        let about = origins.get(at).copied().flatten().map(metadata).unwrap_or_default();
        Field::new(name, ty, true).with_metadata(about)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns' names. Of several with one name, the later ones are numbered, because clients find columns by their names.
pub(super) fn unique_names(schema: &Schema) -> Vec<String> {
    let mut taken: HashSet<String> = HashSet::new();
    let mut names = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let plain = field.name().clone();
        let numbered = (1..).map(|number| format!("{plain}_{number}"));
        let unique = std::iter::once(plain.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(plain);
        taken.insert(unique.clone());
        names.push(unique);
    }
    names
}

/// The same rows with `schema`, which is the [`wire_schema`] of the batch's plan.
///
/// # Errors
/// When a time is beyond what nanoseconds can hold (the years 1678 to 2262).
pub(super) fn to_wire(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    // A value that does not fit must not become a null.
    let strict = CastOptions { safe: false, format_options: FormatOptions::default() };
    let to_plain = |(column, field): (&ArrayRef, &FieldRef)| {
        if field.data_type() == column.data_type() {
            return Ok(Arc::clone(column));
        }
        if let (DataType::Utf8, Some(labels)) = (field.data_type(), column.as_dictionary_opt())
            && let Some(texts) = texts::spread(labels)?
        {
            return Ok(Arc::new(texts) as ArrayRef);
        }
        cast_with_options(column, field.data_type(), &strict)
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(to_plain).collect::<Result<Vec<_>, _>>()?;
    // A batch without columns has its number of rows nowhere else.
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// The type that clients get for `ty`.
pub(super) fn plain(ty: &DataType) -> DataType {
    match ty {
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        // Most clients' languages have no unsigned numbers.
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) | DataType::ListView(item) => DataType::List(plain_item(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(plain_item(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain_item(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_item).collect()),
        other => other.clone(),
    }
}

/// The same type with all times in nanoseconds.
fn in_nanoseconds(ty: &DataType) -> DataType {
    let item = |field: &FieldRef| Arc::new(Field::new(field.name(), in_nanoseconds(field.data_type()), true));
    match ty {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()),
        DataType::List(of) => DataType::List(item(of)),
        DataType::LargeList(of) => DataType::LargeList(item(of)),
        DataType::FixedSizeList(of, size) => DataType::FixedSizeList(item(of), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(item).collect()),
        other => other.clone(),
    }
}

fn plain_item(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), plain(field.data_type()), true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, DictionaryArray, Int64Array, ListArray, StringViewArray, TimestampMicrosecondArray};
    use arrow::datatypes::{Int32Type, TimestampNanosecondType};

    #[test]
    fn every_encoding_becomes_its_plain_type() {
        let names: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        let lists = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([Some([Some(1)]), None, None]);
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("name", Arc::new(names) as ArrayRef, false),
            ("view", Arc::new(StringViewArray::from(vec!["x", "y", "z"])) as ArrayRef, false),
            ("count", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef, false),
            ("list", Arc::new(lists) as ArrayRef, true),
        ])
        .unwrap();
        let schema = wire_schema(&batch.schema(), &[], false);
        let wire = to_wire(&batch, &schema).unwrap();
        let types: Vec<_> = wire.columns().iter().map(|column| column.data_type().clone()).collect();
        assert_eq!(types[..3], [DataType::Utf8, DataType::Utf8, DataType::Int64]);
        assert_eq!(wire.schema(), schema);
        assert!(schema.fields().iter().all(|field| field.is_nullable() && field.metadata().is_empty()));
        assert_eq!(wire.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), Some("b"), Some("a")]);
    }

    #[test]
    fn encodings_inside_lists_and_structs_become_plain_too() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let item = Arc::new(Field::new("item", dictionary, false));
        let nested = DataType::Struct(vec![Field::new("list", DataType::List(item), false)].into());
        let DataType::Struct(fields) = plain(&nested) else { panic!("a struct stays a struct") };
        let DataType::List(item) = fields[0].data_type() else { panic!("a list stays a list") };
        assert_eq!(item.data_type(), &DataType::Utf8);
    }

    #[test]
    fn names_are_told_apart_and_numbers_are_signed() {
        let field = |name, ty| Field::new(name, ty, true);
        let schema = Schema::new(vec![
            field("a", DataType::UInt64),
            field("a", DataType::Utf8),
            field("a_1", DataType::Utf8),
            field("a", DataType::Utf8),
        ]);
        let wire = wire_schema(&schema, &[], false);
        let names: Vec<_> = wire.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["a", "a_1", "a_1_1", "a_2"]);
        assert_eq!(wire.field(0).data_type(), &DataType::Int64);
    }

    #[test]
    fn rows_without_columns_keep_their_number() {
        let options = RecordBatchOptions::new().with_row_count(Some(7));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        assert_eq!(to_wire(&batch, &wire_schema(&batch.schema(), &[], false)).unwrap().num_rows(), 7);
    }

    #[test]
    fn times_in_nanoseconds_are_exact_or_an_error() {
        let times = |us| {
            RecordBatch::try_from_iter([("t", Arc::new(TimestampMicrosecondArray::from(us)) as ArrayRef)]).unwrap()
        };
        let batch = times(vec![Some(1_764_167_580_123_456), None]);
        let schema = wire_schema(&batch.schema(), &[], true);
        let wire = to_wire(&batch, &schema).unwrap();
        let column = wire.column(0).as_primitive::<TimestampNanosecondType>();
        assert_eq!(column.iter().collect::<Vec<_>>(), [Some(1_764_167_580_123_456_000), None]);
        to_wire(&times(vec![Some(i64::MAX)]), &schema).unwrap_err();
    }
}
