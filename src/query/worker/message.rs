//! What the recorder and a query worker say to each other.
//!
//! A message is two lengths (four bytes each, little endian), a protobuf message of the first length, and bytes of the second
//! that are attached to it: the body of a part of the result. Rows in memory go beside them, in a memory
//! file that the recorder writes and the worker reads, and so do large bodies ([`slab`](crate::query::slab)).

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::take;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use arrow::buffer::Buffer;
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{Message, Oneof};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::query::error::QueryError;
use crate::query::request::{Frame, Options, Request, Written};
use crate::query::sql_view::SqlView;
use crate::store::lake::DataFile;
use crate::store::stretch;

/// No order is longer.
pub(in crate::query) const ORDER_BYTES_MAX: usize = 256 << 20;
const HEAD_BYTES: usize = 8;
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

/// One end of the socket between recorder and worker.
#[derive(Debug)]
pub(in crate::query) struct Channel {
    stream: UnixStream,
    /// Longer messages of the other side are an error.
    bytes_max: usize,
    /// What has come of the next message, without its attachment.
    read: BytesMut,
    /// What has come of its attachment.
    attached: BytesMut,
    write: BytesMut,
}

impl Channel {
    pub(in crate::query) fn new(stream: std::os::unix::net::UnixStream, bytes_max: usize) -> io::Result<Channel> {
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        Ok(Channel { stream, bytes_max, read: BytesMut::new(), attached: BytesMut::new(), write: BytesMut::new() })
    }

    pub(in crate::query) async fn send(&mut self, message: &impl Message) -> io::Result<()> {
        self.send_with(message, &[]).await
    }

    /// Sends a message with bytes that are not part of it, in pieces.
    pub(in crate::query) async fn send_with(&mut self, message: &impl Message, attached: &[Buffer]) -> io::Result<()> {
        let (length, attached_bytes) = (message.encoded_len(), attached.iter().map(Buffer::len).sum());
        self.write.clear();
        self.write.reserve(HEAD_BYTES + length);
        for length in [length, attached_bytes] {
            self.write.put_u32_le(u32::try_from(length).map_err(|_| too_long(length))?);
        }
        message.encode(&mut self.write).map_err(io::Error::other)?;
        // Together, so that the other side wakes once.
        let pieces = attached.iter().map(|piece| IoSlice::new(piece));
        let mut pieces: Vec<IoSlice<'_>> = [IoSlice::new(&self.write)].into_iter().chain(pieces).collect();
        let mut left = &mut pieces[..];
        while !left.is_empty() {
            match self.stream.write_vectored(left).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => IoSlice::advance_slices(&mut left, sent),
            }
        }
        Ok(())
    }

    /// The length of the next message with what is attached to it; 0 once the other side has gone. None of it has been read
    /// yet. A call that is given up loses nothing.
    pub(in crate::query) async fn next_bytes(&mut self) -> io::Result<usize> {
        Ok(self.head().await?.map_or(0, |(length, attached)| length + attached))
    }

    /// The lengths of the next message and of what is attached to it.
    async fn head(&mut self) -> io::Result<Option<(usize, usize)>> {
        let head = loop {
            if let Some(head) = self.read.first_chunk::<HEAD_BYTES>() {
                break *head;
            }
            let missing = HEAD_BYTES - self.read.len();
            if !more(&mut self.stream, &mut self.read, missing).await? {
                return Ok(None);
            }
        };
        let half = |shift: u32| usize::try_from(u64::from_le_bytes(head) << shift >> 32).unwrap_or(usize::MAX);
        let (length, attached) = (half(32), half(0));
        let bytes = length.saturating_add(attached);
        if bytes > self.bytes_max { Err(too_long(bytes)) } else { Ok(Some((length, attached))) }
    }

    /// The next message, with what is attached to it; `None` once the other side has gone. A call that is given up loses
    /// nothing.
    pub(in crate::query) async fn receive<M: Message + Default>(&mut self) -> io::Result<Option<(M, Bytes)>> {
        let Some((length, attached)) = self.head().await? else { return Ok(None) };
        let end = HEAD_BYTES + length;
        while self.read.len() < end {
            let missing = end - self.read.len();
            if !more(&mut self.stream, &mut self.read, missing).await? {
                return Ok(None);
            }
        }
        while self.attached.len() < attached {
            let missing = attached - self.attached.len();
            if !more(&mut self.stream, &mut self.attached, missing).await? {
                return Ok(None);
            }
        }
        // Taken as a whole: what is split off a buffer keeps all of its memory.
        let (mut message, attached) = (take(&mut self.read), take(&mut self.attached));
        message.advance(HEAD_BYTES);
        let message = M::decode(message.freeze()).map_err(io::Error::other)?;
        Ok(Some((message, attached.freeze())))
    }
}

/// Reads some of the bytes that are missing; false once the other side has gone.
async fn more(stream: &mut UnixStream, buffer: &mut BytesMut, missing: usize) -> io::Result<bool> {
    buffer.reserve(missing);
    Ok(stream.take(missing as u64).read_buf(buffer).await? > 0)
}

fn too_long(bytes: usize) -> io::Error {
    io::Error::other(format!("a message of {bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pair(bytes_max: usize) -> (Channel, Channel) {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        (Channel::new(one, bytes_max).unwrap(), Channel::new(other, bytes_max).unwrap())
    }

    fn statement(sql: &str) -> Statement {
        Statement { sql: sql.into(), ..Statement::default() }
    }

    /// Longer than the socket's buffer, so that it comes in parts.
    #[tokio::test]
    async fn a_message_comes_whole_with_what_is_attached() {
        let (mut sender, mut receiver) = pair(64 << 20);
        let long = "x".repeat(1 << 20);
        let attached: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let expected = (statement(&long), Bytes::copy_from_slice(&attached));
        let sending = tokio::spawn(async move {
            sender.send(&statement("")).await.unwrap();
            let pieces = attached.chunks(999).map(Buffer::from).collect::<Vec<_>>();
            sender.send_with(&statement(&long), &pieces).await.unwrap();
            sender.send_with(&statement("c"), &[Buffer::from(b"d")]).await.unwrap();
        });
        assert_eq!(receiver.next_bytes().await.unwrap(), 0);
        assert_eq!(receiver.receive().await.unwrap(), Some((statement(""), Bytes::new())));
        assert!(receiver.next_bytes().await.unwrap() > 4_000_000);
        // Calls that are given up in the middle lose nothing.
        let received = loop {
            if let Ok(received) = tokio::time::timeout(Duration::from_micros(50), receiver.receive()).await {
                break received;
            }
        };
        assert!(received.unwrap() == Some(expected));
        assert_eq!(receiver.receive().await.unwrap(), Some((statement("c"), Bytes::from_static(b"d"))));
        sending.await.unwrap();
        assert_eq!(receiver.receive::<Statement>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn it_is_known_whether_the_other_side_read_all_before_it_went() {
        for (reads, told) in [(true, None), (false, Some(io::ErrorKind::ConnectionReset))] {
            let (mut one, mut other) = pair(1_000);
            one.send(&statement("SELECT 1")).await.unwrap();
            if reads {
                other.receive::<Statement>().await.unwrap().unwrap();
            }
            drop(other);
            assert_eq!(one.next_bytes().await.err().map(|error| error.kind()), told);
        }
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_is_refused_before_it_is_read() {
        let (mut sender, mut receiver) = pair(1_000);
        let statement = statement("SELECT 1");
        sender.send_with(&statement, &[Buffer::from([0; 1_000])]).await.unwrap();
        receiver.next_bytes().await.unwrap_err();
        let error = receiver.receive::<Statement>().await.unwrap_err();
        assert_eq!(error.to_string(), format!("a message of {} bytes", 1_000 + statement.encoded_len()));
    }
}
