//! The socket between recorder and worker.
//!
//! A message is two lengths (four bytes each, little endian), a protobuf message of the first length, and bytes of the second
//! that are attached to it: the body of a part of the result.

use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, take};

use arrow::buffer::Buffer;
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The two lengths.
const HEAD_BYTES: usize = 8;

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

    /// Whether the other side has closed it, as its end does, and all that it sent was read.
    pub(in crate::query) fn is_closed(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(&self.stream).peek(&mut byte) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
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
    use crate::query::worker::message::Statement;

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
