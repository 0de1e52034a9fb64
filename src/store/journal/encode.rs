//! Record batches as the journal's frames.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, ToByteSlice};

use super::frame::{self, Header, Kind, MAGIC, ROWS_MAX};
use crate::batch::is_prefix;
use crate::family::{FamilyId, PerFamily};
use crate::record::{ABSENT, Table, Type};

/// Bytes of texts after which a frame of labels ends.
const LABELS_BYTES: usize = 1 << 20;

/// Writes batches, and remembers what the segment has already.
#[derive(Debug)]
pub(super) struct Encoder {
    host: String,
    /// The label texts of a table that the segment has, once it has the table.
    known: PerFamily<Option<Known>>,
}

/// The label texts of a table that a segment has; `None` for a table without labels.
type Known = Option<ArrayRef>;

impl Encoder {
    pub(super) fn new(host: String) -> Encoder {
        Encoder { host, known: PerFamily::default() }
    }

    /// Begins the segment of this number in `out`.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>, number: u64) {
        self.known = PerFamily::default();
        out.extend_from_slice(&MAGIC);
        let header = Header { kind: Kind::Segment, table: 0, count: 0, sequence: number };
        frame::append(out, header, |body| body.extend_from_slice(self.host.as_bytes()));
    }

    /// Adds the rows of a batch. The first has the sequence number `first_seq`. Before them stands what they need and the
    /// segment lacks: the table's description, and texts of labels.
    pub(super) fn rows(&mut self, out: &mut Vec<u8>, family: FamilyId, first_seq: u64, batch: &RecordBatch) {
        let (number, table) = (family.number(), family.table);
        let known = &mut self.known[family];
        // All labels of a family share one dictionary, which mostly grows.
        let texts = table.labels().next().map(|(at, _)| batch.column(at).as_dictionary::<Int32Type>().values());
        let have = match (&*known, texts) {
            (Some(Some(had)), Some(texts)) if is_prefix(had, texts) => Some(had.len()),
            // The dictionary of an earlier batch, of another ring.
            (Some(Some(had)), Some(texts)) if is_prefix(texts, had) => Some(texts.len()),
            (Some(None), None) => Some(0),
            // A table that is described again begins with no texts.
            _ => None,
        };
        if have.is_none() {
            describe(out, number, table);
        }
        if let Some(texts) = texts {
            labels(out, number, have.unwrap_or(0), texts);
        }
        if have.is_none() || texts.is_some_and(|texts| texts.len() > have.unwrap_or(0)) {
            *known = Some(texts.map(Arc::clone));
        }
        let mut start = 0;
        while start < batch.num_rows() {
            let rows = ROWS_MAX.min(batch.num_rows() - start);
            let count = u32::try_from(rows).unwrap_or(u32::MAX);
            let header = Header { kind: Kind::Rows, table: number, count, sequence: first_seq + start as u64 };
            let part =
                if rows == batch.num_rows() { Cow::Borrowed(batch) } else { Cow::Owned(batch.slice(start, rows)) };
            frame::append(out, header, |body| columns(body, table, &part));
            start += rows;
        }
    }
}

fn describe(out: &mut Vec<u8>, number: u16, table: &Table) {
    let count = u32::try_from(table.columns.len()).unwrap_or(u32::MAX);
    frame::append(out, Header { kind: Kind::Table, table: number, count, sequence: 0 }, |body| {
        body.extend_from_slice(table.name.as_bytes());
        for column in table.columns {
            body.extend_from_slice(format!("\n{} {}", column.name, type_name(column.ty)).as_bytes());
        }
    });
}

/// The name of a column's type in a segment.
pub(super) fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Timestamp => "timestamp_us",
        Type::Text => "text",
        Type::Int64 => "int64",
        Type::Float64 => "float64",
    }
}

/// Adds the texts from the key `have` on.
fn labels(out: &mut Vec<u8>, number: u16, have: usize, texts: &ArrayRef) {
    let texts = texts.as_string::<i32>();
    let mut at = have;
    while at < texts.len() {
        let (mut bytes, mut end) = (0, at);
        while end < texts.len() && bytes < LABELS_BYTES {
            bytes += texts.value(end).len();
            end += 1;
        }
        let count = u32::try_from(end - at).unwrap_or(u32::MAX);
        let header = Header { kind: Kind::Labels, table: number, count, sequence: at as u64 };
        frame::append(out, header, |body| {
            for text in (at..end).map(|key| texts.value(key)) {
                body.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                body.extend_from_slice(text.as_bytes());
            }
        });
        at = end;
    }
}

fn columns(body: &mut Vec<u8>, table: &Table, batch: &RecordBatch) {
    const { assert!(cfg!(target_endian = "little"), "arrays are copied as they are in memory") };
    for (column, array) in table.columns.iter().zip(batch.columns()) {
        match column.ty {
            Type::Timestamp => {
                let times = array.as_primitive::<TimestampMicrosecondType>();
                body.extend_from_slice(times.values().inner().as_slice());
            }
            Type::Text => {
                let keys = array.as_dictionary::<Int32Type>().keys();
                body.extend_from_slice(keys.values().inner().as_slice());
            }
            Type::Int64 => present::<Int64Type>(body, array, ABSENT),
            Type::Float64 => present::<Float64Type>(body, array, f64::NAN),
        }
    }
}

/// Adds the values, and `absent` for those that are null.
fn present<T: ArrowPrimitiveType<Native: ToByteSlice>>(body: &mut Vec<u8>, array: &ArrayRef, absent: T::Native) {
    let array = array.as_primitive::<T>();
    if array.null_count() == 0 {
        body.extend_from_slice(array.values().inner().as_slice());
        return;
    }
    for value in array {
        body.extend_from_slice(value.unwrap_or(absent).to_byte_slice());
    }
}
