//! Lists, structs and maps as texts of JSON, for formats whose cells are plain, such as CSV.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder};
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

fn is_plain(field: &FieldRef) -> bool {
    !field.data_type().is_nested()
}

fn texts(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, column, &options)?;
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
}
