//! What the recorder and a query worker say to each other, as protobuf messages ([`channel`](super::channel)). Rows in memory go beside
//! them, in a memory file that the recorder writes and the worker reads, and so do large bodies ([`slab`](crate::query::slab)).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use prost::bytes::Bytes;
use prost::{Message, Oneof};

use crate::query::asked::Asked;
use crate::query::error::QueryError;
use crate::query::request::{Frame, Options, Request, Written};
use crate::query::sql_view::SqlView;
use crate::store::lake::DataFile;
use crate::store::stretch;

/// No order is longer.
pub(in crate::query) const ORDER_BYTES_MAX: usize = 256 << 20;
/// An error may quote a value of any length. It goes to the client in a header, which is bounded.
const TEXT_BYTES_MAX: usize = 2 << 10;

/// To a worker.
#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct Order {
    #[prost(oneof = "order::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub(in crate::query) kind: Option<order::Kind>,
}

pub(in crate::query) mod order {
    use super::{Limits, Oneof, Rows, Statement, TailOpen, TailRows};

    #[derive(Clone, PartialEq, Oneof)]
    pub(in crate::query) enum Kind {
        /// The first order.
        #[prost(message, tag = "1")]
        Limits(Limits),
        #[prost(message, tag = "2")]
        Statement(Statement),
        /// The answer to [`Wanted`](super::Wanted).
        #[prost(message, tag = "3")]
        Rows(Rows),
        /// End the statement.
        #[prost(bool, tag = "4")]
        Cancel(bool),
        /// Plan the statement of a tail.
        #[prost(message, tag = "5")]
        TailOpen(TailOpen),
        /// Tell which of these rows are in some tails.
        #[prost(message, tag = "6")]
        TailRows(TailRows),
        /// Forget a tail.
        #[prost(uint64, tag = "7")]
        TailClose(u64),
        /// The client has got what was in this slab.
        #[prost(uint32, tag = "8")]
        Free(u32),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct Limits {
    #[prost(uint64, tag = "1")]
    pub(in crate::query) memory_bytes_max: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::query) time_us_max: u64,
    #[prost(uint64, optional, tag = "3")]
    pub(in crate::query) rows_max: Option<u64>,
    #[prost(uint64, tag = "4")]
    pub(in crate::query) sql_bytes_max: u64,
    /// Results are split so that a message is about this large at most.
    #[prost(uint64, tag = "5")]
    pub(in crate::query) batch_bytes_max: u64,
    /// A larger message is an error.
    #[prost(uint64, tag = "6")]
    pub(in crate::query) message_bytes_max: u64,
    /// The only folder whose files may be read.
    #[prost(bytes = "bytes", tag = "7")]
    pub(in crate::query) folder: Bytes,
    /// The only folder where files may be made; empty for none.
    #[prost(bytes = "bytes", tag = "8")]
    pub(in crate::query) spill_folder: Bytes,
    /// All of these files together.
    #[prost(uint64, tag = "9")]
    pub(in crate::query) spill_bytes_max: u64,
    /// The host's CPUs, as far as kymo may use them.
    #[prost(uint32, tag = "10")]
    pub(in crate::query) cpus: u32,
    /// What statements may use like tables.
    #[prost(message, repeated, tag = "11")]
    pub(in crate::query) views: Vec<View>,
}

/// A view of the configuration.
#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct View {
    #[prost(string, tag = "1")]
    pub(in crate::query) name: String,
    #[prost(string, tag = "2")]
    pub(in crate::query) sql: String,
    #[prost(string, tag = "3")]
    pub(in crate::query) doc: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct Statement {
    #[prost(string, tag = "1")]
    pub(in crate::query) sql: String,
    /// Plan only, and answer with the schemas of the result and of the parameters.
    #[prost(bool, tag = "2")]
    pub(in crate::query) prepare: bool,
    /// The values of its parameters.
    #[prost(message, repeated, tag = "3")]
    pub(in crate::query) parameters: Vec<Frame>,
    #[prost(message, optional, tag = "4")]
    pub(in crate::query) options: Option<Options>,
    /// The value of `now()`, if not the worker's own.
    #[prost(sint64, optional, tag = "5")]
    pub(in crate::query) now_us: Option<i64>,
    /// What a client wrote of a tail, if it is made of that.
    #[prost(message, optional, tag = "6")]
    pub(in crate::query) tail: Option<Written>,
    /// The slabs that are free. Those that clients of earlier statements still read are not.
    #[prost(uint32, repeated, tag = "7")]
    pub(in crate::query) slabs: Vec<u32>,
    /// What it asks for, if it need not be planned.
    #[prost(message, optional, tag = "8")]
    pub(in crate::query) window: Option<Asked>,
}

impl Statement {
    pub(in crate::query) fn of(request: &Request, prepare: bool) -> Statement {
        Statement {
            sql: request.sql.clone(),
            prepare,
            parameters: request.parameters.clone(),
            options: Some(request.options.clone()),
            now_us: request.moment.as_ref().map(|moment| moment.now_us),
            tail: request.tail.clone(),
            slabs: Vec::new(),
            window: request.window.clone(),
        }
    }

    pub(in crate::query) fn options(&self) -> Options {
        self.options.clone().unwrap_or_default()
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct Rows {
    /// Of which [`Wanted`].
    #[prost(uint64, tag = "1")]
    pub(in crate::query) number: u64,
    #[prost(message, repeated, tag = "2")]
    pub(in crate::query) files: Vec<File>,
    /// Where in the memory file the rows in memory begin, an Arrow IPC stream.
    #[prost(uint64, tag = "3")]
    pub(in crate::query) start: u64,
    /// The batches in it, one after the other.
    #[prost(message, repeated, tag = "4")]
    pub(in crate::query) hot: Vec<Hot>,
    /// If they are asked for.
    #[prost(message, repeated, tag = "5")]
    pub(in crate::query) stretches: Vec<Stretch>,
}

/// Rows in memory.
#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct Hot {
    /// Where in the memory file they end. The first batch has the schema before it. A batch without columns is not in the file.
    #[prost(uint64, tag = "1")]
    pub(in crate::query) end: u64,
    #[prost(sint64, tag = "2")]
    pub(in crate::query) from_us: i64,
    #[prost(sint64, tag = "3")]
    pub(in crate::query) to_us: i64,
    #[prost(uint64, tag = "4")]
    pub(in crate::query) rows: u64,
    /// The host that recorded them.
    #[prost(string, tag = "5")]
    pub(in crate::query) host: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct File {
    #[prost(bytes = "bytes", tag = "1")]
    pub(in crate::query) path: Bytes,
    #[prost(uint64, tag = "2")]
    pub(in crate::query) first_seq: u64,
    #[prost(uint64, tag = "3")]
    pub(in crate::query) end_seq: u64,
    #[prost(uint64, tag = "4")]
    pub(in crate::query) rows: u64,
    #[prost(uint64, tag = "5")]
    pub(in crate::query) bytes: u64,
    #[prost(sint64, tag = "6")]
    pub(in crate::query) from_us: i64,
    #[prost(sint64, tag = "7")]
    pub(in crate::query) to_us: i64,
}

/// When a table has all rows of a host.
#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct Stretch {
    #[prost(string, tag = "1")]
    pub(in crate::query) host: String,
    #[prost(sint64, tag = "2")]
    pub(in crate::query) from_us: i64,
    #[prost(sint64, tag = "3")]
    pub(in crate::query) to_us: i64,
}

/// From a worker.
#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct Reply {
    #[prost(oneof = "reply::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub(in crate::query) kind: Option<reply::Kind>,
}

pub(in crate::query) mod reply {
    use super::{Bytes, Failure, InSlab, Oneof, TailFrame, Wanted};

    #[derive(Clone, PartialEq, Oneof)]
    pub(in crate::query) enum Kind {
        /// It takes statements, and limits itself in these ways.
        #[prost(string, tag = "1")]
        Ready(String),
        #[prost(message, tag = "2")]
        Wanted(Wanted),
        /// The schema of the result, as a Flight message.
        #[prost(bytes = "bytes", tag = "3")]
        Schema(Bytes),
        /// A part of the result, as the header of a Flight message. Its body is attached; both go on to the client as they are.
        #[prost(bytes = "bytes", tag = "4")]
        Frame(Bytes),
        /// The statement has ended, or what was asked of a tail is done.
        #[prost(message, tag = "5")]
        Ended(Failure),
        /// A message without rows, for the tail that is being opened. Its body is attached.
        #[prost(bytes = "bytes", tag = "6")]
        TailEmpty(Bytes),
        /// Rows of the tail that is being looked at. Their body is attached.
        #[prost(message, tag = "7")]
        TailFrame(TailFrame),
        /// A part of the result whose body is in a slab.
        #[prost(message, tag = "8")]
        InSlab(InSlab),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct Wanted {
    #[prost(uint64, tag = "1")]
    pub(in crate::query) number: u64,
    #[prost(string, tag = "2")]
    pub(in crate::query) table: String,
    #[prost(uint32, repeated, tag = "3")]
    pub(in crate::query) columns: Vec<u32>,
    #[prost(sint64, tag = "4")]
    pub(in crate::query) from_us: i64,
    #[prost(sint64, tag = "5")]
    pub(in crate::query) to_us: i64,
    #[prost(bool, tag = "6")]
    pub(in crate::query) with_stretches: bool,
}

/// A tail, which is answered with [`reply::Kind::TailEmpty`] and [`reply::Kind::Ended`].
#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct TailOpen {
    #[prost(uint64, tag = "1")]
    pub(in crate::query) number: u64,
    #[prost(message, optional, tag = "2")]
    pub(in crate::query) statement: Option<Statement>,
}

/// New rows. Each tail is answered with its rows and [`reply::Kind::Ended`], in this order.
#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct TailRows {
    #[prost(string, tag = "1")]
    pub(in crate::query) table: String,
    #[prost(message, optional, tag = "2")]
    pub(in crate::query) rows: Option<Rows>,
    #[prost(uint64, repeated, tag = "3")]
    pub(in crate::query) tails: Vec<u64>,
}

/// A part of a tail's rows.
#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct TailFrame {
    /// The header of a Flight message.
    #[prost(bytes = "bytes", tag = "1")]
    pub(in crate::query) header: Bytes,
    /// How many they are.
    #[prost(uint64, tag = "2")]
    pub(in crate::query) rows: u64,
}

/// A part of a result.
#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct InSlab {
    /// The header of a Flight message.
    #[prost(bytes = "bytes", tag = "1")]
    pub(in crate::query) header: Bytes,
    #[prost(uint32, tag = "2")]
    pub(in crate::query) slab: u32,
    /// The length of its body, with which the slab begins.
    #[prost(uint64, tag = "3")]
    pub(in crate::query) bytes: u64,
}

/// How a statement ended.
#[derive(Clone, PartialEq, Message)]
pub(in crate::query) struct Failure {
    /// An [`ErrorKind`](crate::query::ErrorKind), or 0 if it did not fail.
    #[prost(int32, tag = "1")]
    pub(in crate::query) kind: i32,
    #[prost(string, tag = "2")]
    pub(in crate::query) text: String,
    /// Some of it still computes, so the process cannot take another one.
    #[prost(bool, tag = "3")]
    pub(in crate::query) computes: bool,
    /// What the log is to say of a bug.
    #[prost(string, tag = "4")]
    pub(in crate::query) bug: String,
    /// The process may be in disorder.
    #[prost(bool, tag = "5")]
    pub(in crate::query) panicked: bool,
}

impl From<&QueryError> for Failure {
    fn from(error: &QueryError) -> Failure {
        Failure {
            kind: error.kind() as i32,
            text: bounded(error.to_string()),
            computes: false,
            bug: error.bug().map_or_else(String::new, |bug| bounded(bug.into())),
            panicked: matches!(error, QueryError::Panicked(_)),
        }
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}

impl From<&SqlView> for View {
    fn from(SqlView { name, sql, doc }: &SqlView) -> View {
        View { name: name.clone(), sql: sql.clone(), doc: doc.clone() }
    }
}

impl From<&View> for SqlView {
    fn from(View { name, sql, doc }: &View) -> SqlView {
        SqlView { name: name.clone(), sql: sql.clone(), doc: doc.clone() }
    }
}

impl From<&DataFile> for File {
    fn from(file: &DataFile) -> File {
        File {
            path: path_bytes(&file.path),
            first_seq: file.first_seq,
            end_seq: file.end_seq,
            rows: file.rows,
            bytes: file.bytes,
            from_us: file.time_range.0,
            to_us: file.time_range.1,
        }
    }
}

impl From<File> for DataFile {
    fn from(file: File) -> DataFile {
        let sequence = (file.first_seq, file.end_seq);
        let times = (file.from_us, file.to_us);
        DataFile::new(path_of(&file.path), sequence, file.rows, file.bytes, times)
    }
}

impl From<&stretch::Stretch> for Stretch {
    fn from(stretch::Stretch { host, times }: &stretch::Stretch) -> Stretch {
        Stretch { host: (**host).into(), from_us: times.0, to_us: times.1 }
    }
}

impl From<Stretch> for stretch::Stretch {
    fn from(Stretch { host, from_us, to_us }: Stretch) -> stretch::Stretch {
        stretch::Stretch { host: host.into(), times: (from_us, to_us) }
    }
}

pub(in crate::query) fn path_bytes(path: &Path) -> Bytes {
    Bytes::copy_from_slice(path.as_os_str().as_bytes())
}

pub(in crate::query) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
