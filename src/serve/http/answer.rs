//! Results of statements as Arrow, JSON, CSV or Parquet. They are sent as they come, and at the pace of the client.

use std::io;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::StructMode;
use arrow::json::writer::{JsonArray, WriterBuilder};
use arrow_flight::FlightData;
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream::{self, BoxStream, Stream};
use futures::{StreamExt, TryStreamExt};
use prost::bytes::{BufMut, Bytes, BytesMut};
use serde_json::json;

use super::refusal::Refusal;
use super::{accept, parquet_file};
use crate::query::cells::{no_json, plain, plain_schema, with_text_keys};
use crate::query::request::Request;
use crate::query::statements::{Statements, query_error};
use crate::serve::listener::Peer;
use crate::words::{list, shortened};

/// Before the length of each message in a stream of Arrow IPC, and before the zero that ends it.
const CONTINUATION: u32 = u32::MAX;
/// Messages begin at multiples of this.
const ALIGNMENT: usize = 8;

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A stream of Arrow IPC.
    Arrow,
    /// `{"columns": [{"name", "type"}], "rows": [[…]]}`.
    Json,
    /// With a line of names.
    Csv,
    /// A file of Parquet.
    Parquet,
}

impl Format {
    /// The first is for those who take any.
    const ALL: [Format; 4] = [Format::Json, Format::Csv, Format::Arrow, Format::Parquet];

    /// By the parameter `format`, else by the header `Accept`.
    pub(super) fn chosen(parameter: Option<&str>, accept: &str) -> Result<Format, Refusal> {
        match parameter {
            Some("arrow") => Ok(Format::Arrow),
            Some("json") => Ok(Format::Json),
            Some("csv") => Ok(Format::Csv),
            Some("parquet") => Ok(Format::Parquet),
            Some(other) => {
                Err(Refusal::wrong(format!("`format` is arrow, json, csv or parquet, and not {:?}", shortened(other))))
            }
            None => {
                let chosen = accept::best(accept, &Format::ALL.map(Format::media_type));
                chosen.and_then(|at| Format::ALL.get(at).copied()).ok_or_else(|| {
                    let names = list(Format::ALL.map(Format::media_type));
                    let text = format!("the rows can be had as {names}: name one of them in Accept, or set `format`");
                    Refusal::with(StatusCode::NOT_ACCEPTABLE, text)
                })
            }
        }
    }

    fn media_type(self) -> &'static str {
        self.content_type().split(';').next().unwrap_or_default()
    }

    fn content_type(self) -> &'static str {
        match self {
            Format::Arrow => "application/vnd.apache.arrow.stream",
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// How times are written in JSON and CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    /// RFC 3339.
    Text,
    /// µs since the epoch.
    Micros,
}

impl Times {
    pub(super) fn chosen(parameter: Option<&str>) -> Result<Times, Refusal> {
        match parameter {
            None | Some("text") => Ok(Times::Text),
            Some("us") => Ok(Times::Micros),
            Some(other) => Err(Refusal::wrong(format!("`times` is text or us, and not {other:?}"))),
        }
    }
}

/// Runs the statement and answers its result. A client that goes away drops the answer, which ends the statement. The connection of
/// one that does not read is closed when others need the memory.
pub(super) async fn run(
    statements: &dyn Statements,
    request: &Request,
    peer: Peer,
    format: Format,
    times: Times,
) -> Result<Response, Refusal> {
    let mut frames = statements.execute(request).await?;
    frames.close_by(Arc::new(move || peer.close()));
    let parts: BoxStream<'static, io::Result<Bytes>> = if format == Format::Arrow {
        let messages = frames.map_ok(|frame| message(&frame)).map_err(io::Error::other);
        messages.chain(stream::iter([Ok(end())])).boxed()
    } else {
        let mut rows = frames.decode();
        // The schema comes with the first rows, or at the end.
        let first = rows.try_next().await.map_err(query_error)?;
        let schema = rows.schema().cloned().unwrap_or_else(|| Arc::new(Schema::empty()));
        let batches = stream::iter(first.map(Ok)).chain(rows).map_err(|error| io::Error::other(query_error(error)));
        match format {
            Format::Parquet => parquet_file::parts(&schema, batches)?.boxed(),
            Format::Csv => csv(told(&schema, times)?, batches).boxed(),
            Format::Arrow | Format::Json => json(told(&schema, times)?, batches).boxed(),
        }
    };
    Ok(([(CONTENT_TYPE, format.content_type())], Body::from_stream(parts)).into_response())
}

fn json(
    schema: SchemaRef,
    batches: impl Stream<Item = io::Result<RecordBatch>>,
) -> impl Stream<Item = io::Result<Bytes>> {
    let head = Bytes::from(json_head(&schema));
    let mut is_first = true;
    let rows = batches.map(move |batch| {
        let batch = with_types(&batch?, &schema).map_err(io::Error::other)?;
        let rows = json_rows(&batch, is_first);
        is_first = is_first && batch.num_rows() == 0;
        rows.map(Bytes::from).map_err(io::Error::other)
    });
    stream::iter([Ok(head)]).chain(rows).chain(stream::iter([Ok(Bytes::from_static(b"]}\n"))]))
}

/// Lists and structs are texts of JSON.
fn csv(
    schema: SchemaRef,
    batches: impl Stream<Item = io::Result<RecordBatch>>,
) -> impl Stream<Item = io::Result<Bytes>> {
    let head = csv_head(&plain_schema(&schema)).map(Bytes::from).map_err(io::Error::other);
    let rows = batches.map(move |batch| {
        let batch = with_types(&batch?, &schema).and_then(|batch| plain(&batch)).map_err(io::Error::other)?;
        csv_rows(&batch).map(Bytes::from).map_err(io::Error::other)
    });
    stream::iter([head]).chain(rows)
}

/// A message as a stream of Arrow IPC has it.
fn message(frame: &FlightData) -> Bytes {
    let (header, body) = (&frame.data_header, &frame.data_body);
    let padded = header.len().next_multiple_of(ALIGNMENT);
    let mut bytes = BytesMut::with_capacity(ALIGNMENT + padded + body.len());
    bytes.put_u32_le(CONTINUATION);
    // Headers are limited to the size of a worker's message, far below 2^32.
    bytes.put_u32_le(u32::try_from(padded).unwrap_or(u32::MAX));
    bytes.put_slice(header);
    bytes.put_bytes(0, padded - header.len());
    bytes.put_slice(body);
    bytes.put_bytes(0, body.len().next_multiple_of(ALIGNMENT) - body.len());
    bytes.freeze()
}

fn end() -> Bytes {
    let mut bytes = BytesMut::with_capacity(ALIGNMENT);
    bytes.put_u32_le(CONTINUATION);
    bytes.put_u32_le(0);
    bytes.freeze()
}

/// The schema as it is written: labels and keys of maps as texts, and times as asked for.
fn told(schema: &SchemaRef, times: Times) -> Result<SchemaRef, Refusal> {
    let field = |field: &Arc<Field>| {
        if let Some(why) = no_json(field) {
            return Err(Refusal::wrong(format!("{why}: ask for Arrow, or cast it in the statement")));
        }
        let ty = match field.data_type() {
            DataType::Dictionary(_, values) => (**values).clone(),
            DataType::Timestamp(..) if times == Times::Micros => DataType::Int64,
            other => with_text_keys(other),
        };
        Ok(Field::new(field.name(), ty, field.is_nullable()))
    };
    Ok(Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Result<Vec<_>, _>>()?)))
}

fn with_types(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let typed = schema.fields().iter().zip(batch.columns()).map(|(field, column)| cast(column, field.data_type()));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), typed.collect::<Result<_, _>>()?, &options)
}

fn json_head(schema: &Schema) -> String {
    let name = |ty: &DataType| match ty {
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::Utf8 => "text".to_owned(),
        other => other.to_string().to_lowercase(),
    };
    let columns = schema.fields().iter().map(|one| json!({ "name": one.name(), "type": name(one.data_type()) }));
    format!("{{\"columns\":{},\"rows\":[", columns.collect::<serde_json::Value>())
}

/// The rows as arrays, with commas between them.
fn json_rows(batch: &RecordBatch, is_first: bool) -> Result<Vec<u8>, ArrowError> {
    if batch.num_rows() == 0 {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    let builder = WriterBuilder::new().with_explicit_nulls(true).with_struct_mode(StructMode::ListOnly);
    let mut writer = builder.build::<_, JsonArray>(&mut bytes);
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    // Its brackets are those of the batch; those of the result stand around all batches.
    bytes.pop();
    match bytes.first_mut() {
        Some(bracket) if !is_first => *bracket = b',',
        Some(bracket) => *bracket = b' ',
        None => {}
    }
    Ok(bytes)
}

fn csv_head(schema: &SchemaRef) -> Result<String, ArrowError> {
    let mut bytes = Vec::new();
    arrow::csv::Writer::new(&mut bytes).write(&RecordBatch::new_empty(Arc::clone(schema)))?;
    String::from_utf8(bytes).map_err(|error| ArrowError::CsvError(error.to_string()))
}

fn csv_rows(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut bytes = Vec::new();
    arrow::csv::WriterBuilder::new().with_header(false).build(&mut bytes).write(batch)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, DictionaryArray, Float64Array, TimestampMicrosecondArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn the_format_is_the_parameter_or_the_first_accepted() {
        assert_eq!(Format::chosen(Some("csv"), "application/json").ok(), Some(Format::Csv));
        assert_eq!(Format::chosen(None, "text/html, text/csv;q=0.5").ok(), Some(Format::Csv));
        assert_eq!(Format::chosen(None, "application/vnd.apache.arrow.stream").ok(), Some(Format::Arrow));
        assert_eq!(Format::chosen(None, "*/*").ok(), Some(Format::Json));
        assert_eq!(Format::chosen(None, "").ok(), Some(Format::Json));
        assert_eq!(Format::chosen(None, "application/vnd.apache.parquet").ok(), Some(Format::Parquet));
        assert!(Format::chosen(Some("xml"), "").is_err() && Format::chosen(None, "text/html").is_err());
    }

    #[test]
    fn rows_are_arrays_and_keep_every_bit() {
        let labels: DictionaryArray<Int32Type> = [Some("</script>"), None].into_iter().collect();
        let columns: [(&str, ArrayRef); 3] = [
            ("time", Arc::new(TimestampMicrosecondArray::from(vec![1_700_000_000_000_001, 2]).with_timezone("UTC"))),
            ("label", Arc::new(labels)),
            ("value", Arc::new(Float64Array::from(vec![0.1 + 0.2, f64::NAN]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(a, b)| (a, b, true))).unwrap();
        let schema = told(&batch.schema(), Times::Micros).unwrap();
        let batch = with_types(&batch, &schema).unwrap();
        let mut text = json_head(&schema).into_bytes();
        text.extend(json_rows(&batch, true).unwrap());
        text.extend(json_rows(&batch.slice(0, 0), false).unwrap());
        text.extend(json_rows(&batch.slice(0, 1), false).unwrap());
        text.extend(b"]}");
        let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let first = json!([1_700_000_000_000_001_i64, "</script>", 0.1 + 0.2]);
        assert_eq!(read["rows"], json!([first, [2, null, null], first]));
        assert_eq!(read["columns"][1], json!({ "name": "label", "type": "text" }));
        assert_eq!(csv_head(&schema).unwrap(), "time,label,value\n");
    }
}
