//! Lists, structs and maps as texts of JSON, for formats whose cells are plain, such as CSV.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder, new_empty_array};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};

/// The schema of what [`plain`] gives.
#[must_use]
pub fn plain_schema(schema: &SchemaRef) -> SchemaRef {
    let plain = |field: &FieldRef| {
        if is_plain(field) { Arc::clone(field) } else { Arc::new(Field::new(field.name(), DataType::Utf8, true)) }
    };
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}

/// The rows, with texts of JSON in the place of lists, structs and maps.
///
/// # Errors
/// Something in them has no form in JSON.
pub fn plain(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    if schema.fields().iter().all(is_plain) {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().zip(batch.columns());
    let columns =
        columns.map(|(field, column)| if is_plain(field) { Ok(Arc::clone(column)) } else { texts(field, column) });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(plain_schema(&schema), columns.collect::<Result<_, _>>()?, &options)
}

/// The type with texts as the keys of its maps, as JSON has them.
#[must_use]
pub fn with_text_keys(ty: &DataType) -> DataType {
    let of = |field: &FieldRef| Arc::new(Field::clone(field).with_data_type(with_text_keys(field.data_type())));
    match ty {
        DataType::Map(entries, is_sorted) => {
            let DataType::Struct(fields) = entries.data_type() else { return ty.clone() };
            let text = |(at, field): (usize, &FieldRef)| match at {
                0 => Arc::new(Field::clone(field).with_data_type(DataType::Utf8)),
                _ => of(field),
            };
            let fields = DataType::Struct(fields.iter().enumerate().map(text).collect());
            DataType::Map(Arc::new(Field::clone(entries).with_data_type(fields)), *is_sorted)
        }
        DataType::List(field) => DataType::List(of(field)),
        DataType::LargeList(field) => DataType::LargeList(of(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(of(field), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(of).collect()),
        other => other.clone(),
    }
}

/// Why a column cannot be written as JSON, if it cannot. Keys of maps become texts first.
#[must_use]
pub fn no_json(field: &FieldRef) -> Option<String> {
    let ty = with_text_keys(field.data_type());
    let texts = can_cast_types(field.data_type(), &ty).then(|| Arc::new(Field::clone(field).with_data_type(ty)));
    let has_form = texts.is_some_and(|field| {
        let none = new_empty_array(field.data_type());
        make_encoder(&field, &none, &EncoderOptions::default()).is_ok()
    });
    (!has_form)
        .then(|| format!("the column {:?} has the type {}, which has no form in JSON", field.name(), field.data_type()))
}

fn is_plain(field: &FieldRef) -> bool {
    !field.data_type().is_nested()
}

fn texts(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let field = Arc::new(Field::clone(field).with_data_type(with_text_keys(field.data_type())));
    let column = cast(column, field.data_type())?;
    let mut encoder = make_encoder(&field, &column, &options)?;
    let (mut texts, mut text) = (StringBuilder::new(), Vec::new());
    for row in 0..column.len() {
        if encoder.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        texts.append_value(String::from_utf8_lossy(&text));
    }
    Ok(Arc::new(texts.finish()))
}

#[cfg(test)]
mod tests {
    use arrow::array::builder::{Int64Builder, MapBuilder};
    use arrow::array::{AsArray, Int64Array, ListArray, StructArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn what_is_nested_becomes_json() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7, 8, 9]));
        let field = Arc::new(Field::new("a \"b\"", DataType::Int64, true));
        let structs = StructArray::from(vec![(field, Arc::clone(&numbers))]);
        let columns: [(&str, ArrayRef); 3] = [("n", numbers), ("list", Arc::new(lists)), ("struct", Arc::new(structs))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let plain = plain(&batch).unwrap();
        assert_eq!(plain.schema(), plain_schema(&batch.schema()));
        let texts = |at: usize| plain.column(at).as_string::<i32>().iter().collect::<Vec<_>>();
        assert_eq!(texts(1), [Some("[1,null]"), None, Some("[]")]);
        assert_eq!(texts(2), [r#"{"a \"b\"":7}"#, r#"{"a \"b\"":8}"#, r#"{"a \"b\"":9}"#].map(Some));
        assert_eq!(plain.column(0), batch.column(0));
    }

    #[test]
    fn keys_of_maps_that_are_no_texts_become_texts() {
        let mut maps = MapBuilder::new(None, Int64Builder::new(), Int64Builder::new());
        maps.keys().append_value(7);
        maps.values().append_null();
        maps.append(true).unwrap();
        maps.append(false).unwrap();
        let maps: ArrayRef = Arc::new(maps.finish());
        let batch = RecordBatch::try_from_iter_with_nullable([("map", Arc::clone(&maps), true)]).unwrap();
        assert_eq!(no_json(&batch.schema().fields()[0]), None);
        let plain = plain(&batch).unwrap();
        assert_eq!(plain.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some(r#"{"7":null}"#), None]);
        let list = DataType::List(Arc::new(Field::new("item", maps.data_type().clone(), true)));
        let told = with_text_keys(&list).to_string();
        assert!(told.contains("Utf8") && told != list.to_string(), "{told}");
        let odd = Arc::new(Field::new("odd", DataType::Interval(arrow::datatypes::IntervalUnit::YearMonth), true));
        assert!(no_json(&odd).is_none_or(|why| why.contains("\"odd\"")));
    }
}
