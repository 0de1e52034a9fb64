//! Rows as messages of Arrow IPC.
//!
//! A message's body stays in the pieces that the columns are, as joining them would copy every result once.

use std::iter::from_fn;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::MessageHeader;
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow_flight::{FlightData, SchemaAsIpc};
use prost::bytes::Bytes;
use prost::encoding::{encoded_len_varint, key_len};

/// In a stream, a message begins with four bytes `ff` and the length of its header.
const PREFIX_BYTES: usize = 8;
/// The numbers of `FlightData.data_header` and `FlightData.data_body` in Flight's protocol.
const DATA_HEADER: u32 = 2;
const DATA_BODY: u32 = 1_000;

/// A message as Flight sends it.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) header: Bytes,
    /// The pieces of its body.
    pub(super) body: Vec<Buffer>,
}

impl Encoded {
    /// The message that is sent first.
    pub(super) fn schema(schema: &Schema) -> Encoded {
        let header = FlightData::from(SchemaAsIpc::new(schema, &IpcWriteOptions::default())).data_header;
        Encoded { header, body: Vec::new() }
    }

    /// Its size as the client counts it, with what the protocol adds.
    pub(super) fn len(&self) -> usize {
        let field = |number, bytes| match bytes {
            0 => 0,
            _ => key_len(number) + encoded_len_varint(bytes as u64) + bytes,
        };
        field(DATA_HEADER, self.header.len()) + field(DATA_BODY, self.body.iter().map(Buffer::len).sum())
    }
}

/// The schema that [`Encoded::schema`] has as its header.
pub(super) fn schema_of(header: &Bytes) -> Result<SchemaRef, ArrowError> {
    let message = arrow::ipc::root_as_message(header).map_err(|error| ArrowError::IpcError(error.to_string()))?;
    let schema = message.header_as_schema().ok_or_else(|| ArrowError::IpcError("not a schema".into()))?;
    Ok(Arc::new(arrow::ipc::convert::fb_to_schema(schema)))
}

/// How many rows the message with this header has.
#[must_use]
pub fn rows_of(header: &[u8]) -> u64 {
    let message = arrow::ipc::root_as_message(header).ok();
    let batch = message.and_then(|message| message.header_as_record_batch());
    batch.and_then(|batch| u64::try_from(batch.length()).ok()).unwrap_or(0)
}

/// Encodes the batches of one result.
pub(super) struct Encoder(StreamEncoder);

impl Encoder {
    pub(super) fn new(schema: &Schema) -> Result<Encoder, ArrowError> {
        Ok(Encoder(StreamEncoder::try_new(schema)?))
    }

    /// The messages of a batch: dictionaries, if it has any, and its rows.
    pub(super) fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<Encoded>, ArrowError> {
        // Columns without rows, nulls or texts have pieces without bytes.
        let mut stream = self.0.encode(batch)?.into_iter().filter(|piece| !piece.is_empty());
        let mut messages = Vec::new();
        while let Some(prefix) = stream.next() {
            let (message, kind) = message(&prefix, &mut stream)?;
            // The schema was sent before.
            if kind != MessageHeader::Schema {
                messages.push(message);
            }
        }
        Ok(messages)
    }
}

/// The message that begins with `prefix`.
fn message(prefix: &Buffer, stream: &mut impl Iterator<Item = Buffer>) -> Result<(Encoded, MessageHeader), ArrowError> {
    let length = prefix.last_chunk().filter(|_| prefix.len() == PREFIX_BYTES).map(|length| u32::from_le_bytes(*length));
    let length = length.and_then(|length| usize::try_from(length).ok());
    let header = joined(&pieces(length.ok_or_else(not_whole)?, stream)?);
    let message = arrow::ipc::root_as_message(&header).map_err(|error| ArrowError::IpcError(error.to_string()))?;
    let (kind, length) = (message.header_type(), message.bodyLength());
    let body = pieces(usize::try_from(length).map_err(|_| not_whole())?, stream)?;
    Ok((Encoded { header, body }, kind))
}

/// The next pieces, which have so many bytes together.
fn pieces(bytes: usize, stream: &mut impl Iterator<Item = Buffer>) -> Result<Vec<Buffer>, ArrowError> {
    let mut missing = bytes;
    let next = || {
        let piece = if missing > 0 { stream.next() } else { None }?;
        missing = missing.checked_sub(piece.len())?;
        Some(piece)
    };
    let pieces = from_fn(next).collect();
    if missing == 0 { Ok(pieces) } else { Err(not_whole()) }
}

fn joined(pieces: &[Buffer]) -> Bytes {
    pieces.iter().map(Buffer::as_slice).collect::<Vec<_>>().concat().into()
}

fn not_whole() -> ArrowError {
    ArrowError::IpcError("the encoder's pieces are no whole messages".into())
}

#[cfg(test)]
impl From<Encoded> for FlightData {
    fn from(message: Encoded) -> FlightData {
        FlightData { data_header: message.header, data_body: joined(&message.body), ..FlightData::default() }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, StringArray};
    use arrow::datatypes::Int32Type;
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::{TryStreamExt, stream};

    use super::*;

    fn batch(names: &[Option<&str>]) -> RecordBatch {
        let numbers: Int64Array = (0..).zip(names).map(|(at, name)| name.map(|_| at)).collect();
        let full = Int64Array::from_iter_values((0..).zip(names).map(|(at, _)| at));
        let labels: DictionaryArray<Int32Type> = names.iter().copied().collect();
        let columns: [(&str, ArrayRef); 4] = [
            ("number", Arc::new(numbers)),
            ("text", Arc::new(StringArray::from(names.to_vec()))),
            ("label", Arc::new(labels)),
            ("full", Arc::new(full)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    #[tokio::test]
    async fn a_client_reads_what_was_encoded() {
        let whole = batch(&[Some("a"), None, Some("a longer text"), Some(""), None, Some("a"), Some("b")]);
        let empty = RecordBatch::new_empty(whole.schema());
        let batches = [empty.clone(), whole.clone(), whole.slice(2, 3), empty, whole.slice(5, 2)];
        let mut encoder = Encoder::new(&whole.schema()).unwrap();
        let mut messages = vec![Encoded::schema(&whole.schema())];
        for batch in &batches {
            messages.extend(encoder.encode(batch).unwrap());
        }
        assert_eq!(*schema_of(&messages[0].header).unwrap(), *whole.schema());
        let lengths: Vec<usize> = messages.iter().map(Encoded::len).collect();
        let frames: Vec<FlightData> = messages.into_iter().map(FlightData::from).collect();
        assert_eq!(lengths, frames.iter().map(prost::Message::encoded_len).collect::<Vec<_>>());
        let frames: Vec<_> = frames.into_iter().map(Ok).collect();
        let decoded = FlightRecordBatchStream::new_from_flight_data(stream::iter(frames));
        assert_eq!(decoded.try_collect::<Vec<_>>().await.unwrap(), batches);
    }

    #[test]
    fn columns_are_not_copied() {
        let batch = batch(&[Some("x"); 1_000]);
        let column = batch.column(3).to_data().buffers()[0].clone();
        let messages = Encoder::new(&batch.schema()).unwrap().encode(&batch).unwrap();
        let rows = messages.last().unwrap();
        assert!(rows.body.iter().any(|piece| piece.as_ptr() == column.as_ptr() && piece.len() == 8_000));
        assert!(rows.len() > 16_000);
    }

    #[test]
    fn pieces_that_are_no_whole_messages_are_an_error() {
        let pieces =
            |lengths: &[usize]| lengths.iter().map(|length| Buffer::from(vec![0_u8; *length])).collect::<Vec<_>>();
        for (bytes, lengths, whole) in [(8, &[3, 5][..], true), (0, &[], true), (8, &[3], false), (8, &[3, 6], false)] {
            assert_eq!(super::pieces(bytes, &mut pieces(lengths).into_iter()).is_ok(), whole, "{lengths:?}");
        }
        let mut stream = pieces(&[8]).into_iter();
        let prefix = stream.next().unwrap();
        message(&prefix, &mut stream).unwrap_err();
    }
}
