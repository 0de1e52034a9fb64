//! Parts of results in memory that a worker and the recorder share.
//!
//! Each worker has a file in memory with some slabs. It writes the body of a large message into a free slab, and the recorder sends
//! it to the client from there; both have the slabs mapped. What goes through their socket is where it is. A slab is free again
//! once HTTP has sent it. Other messages go through the socket whole: small ones, those that no slab holds, and those that come
//! while no slab is free. If that is because the client of the same statement does not read, they wait, but for the first part of
//! a result ([`AHEAD_BYTES_MAX`]).
//!
//! The file ends with what the worker writes to stderr. It cannot grow, so that takes no memory without a bound.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow::buffer::Buffer;
use memmap2::{Mmap, MmapMut, MmapOptions};
use prost::bytes::Bytes;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create};
use tokio::sync::mpsc;

/// Slabs of one worker: one is written, one waits, and one is sent.
const SLABS: u32 = 3;
/// A part of a result has 2 MiB, and what the estimate of its size misses.
const SLAB_BYTES: u64 = (2 << 20) + (256 << 10);
const SLABS_BYTES: u64 = SLABS as u64 * SLAB_BYTES;
/// So much of a result waits for its client, or one message. A result that is not longer is taken whole, so a client that reads
/// slowly, or not at all, keeps neither a worker nor a place among the statements that run.
pub(super) const AHEAD_BYTES_MAX: usize = 1 << 20;
/// A shorter body goes through the socket: that is one call for it, instead of one for the slab and one for the message.
const BODY_BYTES_MIN: u64 = 64 << 10;
/// So much of what a worker writes to stderr is kept.
const SAID_BYTES: u64 = 64 << 10;
/// The whole file.
pub(super) const FILE_BYTES: u64 = SLABS_BYTES + SAID_BYTES;

/// A file with slabs. Whoever writes to it at its position, as to stderr, writes behind them.
pub(super) fn file() -> io::Result<File> {
    let mut file = File::from(memfd_create("kymo-results", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    ftruncate(&file, FILE_BYTES)?;
    // A page of a file that was made shorter may not be read.
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    file.seek(SeekFrom::Start(SLABS_BYTES))?;
    Ok(file)
}

/// The slabs as the worker has them.
#[derive(Debug)]
pub(super) struct Writer {
    mapping: MmapMut,
    /// Slabs that it may write to.
    free: Vec<u32>,
    /// Slabs of the present statement that its client has not got yet, and the bytes in each.
    held: Vec<(u32, u64)>,
}

impl Writer {
    pub(super) fn new(file: &File) -> io::Result<Writer> {
        Ok(Writer { mapping: map_for_writing(file)?, free: Vec::new(), held: Vec::new() })
    }

    /// A statement begins, when these slabs are free.
    pub(super) fn begin(&mut self, free: Vec<u32>) {
        self.free = free;
        self.held.clear();
    }

    /// The recorder needs a slab no longer.
    pub(super) fn take_back(&mut self, slab: u32) {
        self.held.retain(|(held, _)| *held != slab);
        self.free.push(slab);
    }

    /// Whether this body is to wait for a slab, because the client has yet to read what is in others. One slab alone is not waited
    /// for: the socket is quicker then.
    pub(super) fn is_waited_for(&self, body: &[Buffer]) -> bool {
        let held: u64 = self.held.iter().map(|(_, bytes)| bytes).sum();
        self.free.is_empty() && self.held.len() > 1 && held > AHEAD_BYTES_MAX as u64 && fits(body).is_some()
    }

    /// Writes the body of a message, and returns in which slab it is and its length; `None` if it goes through the socket.
    pub(super) fn write(&mut self, body: &[Buffer]) -> io::Result<Option<(u32, u64)>> {
        let Some(bytes) = fits(body) else { return Ok(None) };
        let Some(slab) = self.free.pop() else { return Ok(None) };
        self.held.push((slab, bytes));
        let start = usize::try_from(u64::from(slab) * SLAB_BYTES).map_err(io::Error::other)?;
        let mut left = self.mapping.get_mut(start..).unwrap_or_default();
        for piece in body {
            let Some((to, rest)) = left.split_at_mut_checked(piece.len()) else {
                return Err(io::Error::other(format!("there is no slab {slab}")));
            };
            to.copy_from_slice(piece);
            left = rest;
        }
        Ok(Some((slab, bytes)))
    }
}

/// The length of a body that goes through a slab.
fn fits(body: &[Buffer]) -> Option<u64> {
    let bytes = body.iter().map(|piece| piece.len() as u64).sum();
    (BODY_BYTES_MIN..=SLAB_BYTES).contains(&bytes).then_some(bytes)
}

/// The slabs of one worker as the recorder has them.
#[derive(Debug)]
pub(super) struct Slabs {
    file: Arc<File>,
    /// Of the present statement, once it has used a slab. It counts as memory of the recorder.
    mapping: Option<Arc<Mmap>>,
    /// Slabs that are to be sent, and the bytes in each.
    held: Vec<(u32, u64)>,
    sent: mpsc::UnboundedReceiver<u32>,
    sends: mpsc::UnboundedSender<u32>,
    /// It may have been written to since its memory was freed.
    is_used: bool,
}

impl Slabs {
    pub(super) fn new(file: Arc<File>) -> Slabs {
        // It has no more messages than there are slabs.
        let (sends, sent) = mpsc::unbounded_channel();
        Slabs { file, mapping: None, held: Vec::new(), sent, sends, is_used: false }
    }

    /// Those that the next statement may use.
    pub(super) fn offer(&mut self) -> Vec<u32> {
        self.take_sent();
        self.is_used = true;
        (0..SLABS).filter(|slab| !self.is_held(*slab)).collect()
    }

    fn take_sent(&mut self) {
        while let Ok(slab) = self.sent.try_recv() {
            self.held.retain(|(held, _)| *held != slab);
        }
    }

    fn is_held(&self, slab: u32) -> bool {
        self.held.iter().any(|(held, _)| *held == slab)
    }

    /// Waits until a slab is free again. A call that is given up loses nothing.
    pub(super) async fn freed(&mut self) -> u32 {
        match self.sent.recv().await {
            Some(slab) => {
                self.held.retain(|(held, _)| *held != slab);
                slab
            }
            // It is open as long as this is.
            None => std::future::pending().await,
        }
    }

    /// A body of so many bytes in a slab. Fails if the worker may not have written it.
    pub(super) fn body(&mut self, slab: u32, bytes: u64) -> io::Result<Lent> {
        if slab >= SLABS || bytes > SLAB_BYTES || self.is_held(slab) {
            return Err(io::Error::other(format!("{bytes} bytes in slab {slab}")));
        }
        let mapping = match &self.mapping {
            Some(mapping) => Arc::clone(mapping),
            None => Arc::clone(self.mapping.insert(Arc::new(map(&self.file)?))),
        };
        self.held.push((slab, bytes));
        let position = |bytes: u64| usize::try_from(bytes).map_err(io::Error::other);
        let start = position(u64::from(slab) * SLAB_BYTES)?;
        Ok(Lent { mapping, range: start..start + position(bytes)?, slab, sends: self.sends.clone() })
    }

    /// A statement has ended. Its client may still read.
    pub(super) fn rest(&mut self) {
        self.mapping = None;
    }

    /// Whether they keep memory that no statement uses.
    pub(super) fn has_memory(&self) -> bool {
        self.is_used
    }

    /// Frees the memory of the slabs, but for what clients have yet to read.
    pub(super) fn free_memory(&mut self) {
        self.take_sent();
        self.held.sort_unstable();
        let held = self.held.iter().map(|(slab, bytes)| (u64::from(*slab) * SLAB_BYTES, *bytes));
        let mut from = 0;
        for (start, bytes) in held.chain([(SLABS_BYTES, 0)]) {
            if from < start {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // A refusal leaves the memory to the next statement.
                let _ = fallocate(&*self.file, hole, from, start - from);
            }
            from = start + bytes;
        }
        self.is_used = !self.held.is_empty();
    }

    /// What the worker wrote to stderr.
    pub(super) fn said(&self) -> String {
        let mut said = Vec::new();
        // What cannot be read is missing in a log line.
        let end = (&*self.file).stream_position().unwrap_or_default();
        let bytes = end.saturating_sub(SLABS_BYTES).min(SAID_BYTES);
        said.resize(usize::try_from(bytes).unwrap_or_default(), 0);
        let _ = self.file.read_exact_at(&mut said, SLABS_BYTES);
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Slabs {
    /// The worker ends. What its clients have yet to read stays until then.
    fn drop(&mut self) {
        self.free_memory();
    }
}

/// Maps the slabs for reading.
fn map(file: &File) -> io::Result<Mmap> {
    let bytes = usize::try_from(SLABS_BYTES).map_err(io::Error::other)?;
    // SAFETY: the file is sealed, so all of it can be read: a page without memory, whoever freed that, reads as zeros. The worker may
    // write to it, and does not while the recorder has the slab. One that does so changes what its own client gets: the bytes are only
    // copied, by the kernel or into memory of the recorder (`Lent::copied`), and nothing is concluded from them.
    unsafe { MmapOptions::new().len(bytes).map(file) }
}

/// Maps the slabs for writing.
fn map_for_writing(file: &File) -> io::Result<MmapMut> {
    let bytes = usize::try_from(SLABS_BYTES).map_err(io::Error::other)?;
    // SAFETY: the file is sealed, so all of it can be written: a page whose memory the recorder has freed is a new one. Nobody else writes
    // to it. The recorder reads a slab that the worker has told it of, and the worker writes to that again only when it is told that it is
    // free.
    unsafe { MmapOptions::new().len(bytes).map_mut(file) }
}

/// The body of a message. Its slab is free once this is dropped.
#[derive(Debug)]
pub(super) struct Lent {
    mapping: Arc<Mmap>,
    range: std::ops::Range<usize>,
    slab: u32,
    sends: mpsc::UnboundedSender<u32>,
}

impl Lent {
    /// A copy, for those who decode it or keep it for long.
    pub(super) fn copied(&self) -> Bytes {
        Bytes::copy_from_slice(self.as_ref())
    }

    pub(super) fn len(&self) -> usize {
        self.range.len()
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.mapping.get(self.range.clone()).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // This fails if the worker is gone.
        let _ = self.sends.send(self.slab);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// The unit of `st_blocks` (stat(2)).
    const BLOCK_BYTES: u64 = 512;

    /// Both ends of one file. A statement has begun.
    fn ends() -> (Writer, Slabs) {
        let file = file().unwrap();
        let mut writer = Writer::new(&file).unwrap();
        let mut slabs = Slabs::new(Arc::new(file));
        writer.begin(slabs.offer());
        (writer, slabs)
    }

    fn body(byte: u8, bytes: u64) -> Vec<Buffer> {
        let whole = Buffer::from(vec![byte; usize::try_from(bytes).unwrap()]);
        let middle = whole.len() / 2;
        vec![whole.slice_with_length(0, 0), whole.slice_with_length(0, middle), whole.slice(middle)]
    }

    fn whole(body: &[Buffer]) -> Vec<u8> {
        body.iter().flat_map(Buffer::as_slice).copied().collect()
    }

    #[tokio::test]
    async fn a_body_is_read_where_it_was_written_and_its_slab_is_used_again() {
        let (mut writer, mut slabs) = ends();
        for round in 0..10 {
            let bytes = if round % 2 == 0 { SLAB_BYTES } else { BODY_BYTES_MIN };
            let (slab, length) = writer.write(&body(round, bytes)).unwrap().unwrap();
            let read = slabs.body(slab, length).unwrap();
            assert_eq!(read.as_ref(), whole(&body(round, bytes)));
            assert_eq!((read.copied(), read.len() as u64), (Bytes::from(whole(&body(round, bytes))), bytes));
            drop(read);
            assert_eq!(slabs.freed().await, slab);
            writer.take_back(slab);
        }
        assert_eq!(slabs.offer().len(), SLABS as usize);
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_holds_up_its_own_statement_only() {
        let (mut writer, mut slabs) = ends();
        let next = body(8, BODY_BYTES_MIN);
        let mut held = Vec::new();
        for _ in 0..SLABS {
            assert!(!writer.is_waited_for(&next));
            let (slab, bytes) = writer.write(&body(7, AHEAD_BYTES_MAX as u64)).unwrap().unwrap();
            held.push(slabs.body(slab, bytes).unwrap());
        }
        assert!(writer.is_waited_for(&next));
        assert!(!writer.is_waited_for(&body(8, BODY_BYTES_MIN - 1)), "it goes by the socket");
        timeout(Duration::from_millis(5), slabs.freed()).await.unwrap_err();
        // The statement has ended, and the next one goes by the socket.
        slabs.rest();
        writer.begin(slabs.offer());
        assert!(!writer.is_waited_for(&next));
        assert_eq!(writer.write(&body(8, BODY_BYTES_MIN)).unwrap(), None);
        assert!(held.iter().all(|body| body.as_ref().iter().all(|byte| *byte == 7)));
        // The slabs come back one after the other, during this statement and before the next.
        drop(held.pop());
        let freed = slabs.freed().await;
        writer.take_back(freed);
        assert_eq!(writer.write(&body(9, SLAB_BYTES)).unwrap().map(|(slab, _)| slab), Some(freed));
        assert!(!writer.is_waited_for(&next), "the slabs of other clients are not waited for");
        drop(held);
        // What was written for a client that has gone was never held.
        assert_eq!(slabs.offer().len(), SLABS as usize);
    }

    #[test]
    fn the_first_part_of_a_result_waits_for_nobody() {
        let (mut writer, _slabs) = ends();
        while writer.write(&body(7, AHEAD_BYTES_MAX as u64 / u64::from(SLABS))).unwrap().is_some() {}
        assert!(!writer.is_waited_for(&body(8, SLAB_BYTES)));
    }

    #[test]
    fn small_and_long_bodies_go_through_the_socket() {
        let (mut writer, _slabs) = ends();
        for bytes in [0, BODY_BYTES_MIN - 1, SLAB_BYTES + 1] {
            assert_eq!(writer.write(&body(1, bytes)).unwrap(), None);
        }
    }

    #[test]
    fn a_worker_that_names_a_wrong_place_is_not_believed() {
        let (_writer, mut slabs) = ends();
        for (slab, bytes) in [(SLABS, 1), (u32::MAX, 1), (0, SLAB_BYTES + 1), (0, u64::MAX)] {
            slabs.body(slab, bytes).unwrap_err();
        }
        let held = slabs.body(0, SLAB_BYTES).unwrap();
        // It is still to be sent.
        slabs.body(0, 1).unwrap_err();
        assert_eq!(slabs.offer(), (1..SLABS).collect::<Vec<_>>());
        drop(held);
        assert_eq!(slabs.offer().len(), SLABS as usize);
    }

    #[test]
    fn a_body_outlives_its_worker_and_nothing_else_does() {
        for slab in 0..SLABS {
            let (mut writer, mut slabs) = ends();
            let file = Arc::clone(&slabs.file);
            let bodies = (0..SLABS).map(|at| body(u8::try_from(at).unwrap(), SLAB_BYTES));
            let written: Vec<_> = bodies.map(|body| writer.write(&body).unwrap().unwrap()).collect();
            let at = written.iter().position(|(written, _)| *written == slab).unwrap();
            let read = slabs.body(slab, BODY_BYTES_MIN).unwrap();
            drop((writer, slabs));
            assert!(read.as_ref().iter().all(|byte| usize::from(*byte) == at));
            let left = file.metadata().unwrap().blocks() * BLOCK_BYTES;
            assert!(left < 2 * BODY_BYTES_MIN, "{left} bytes");
        }
    }

    #[test]
    fn memory_is_freed_once_no_client_reads() {
        let (mut writer, mut slabs) = ends();
        let blocks = |slabs: &Slabs| slabs.file.metadata().unwrap().blocks();
        let (slab, bytes) = writer.write(&body(5, SLAB_BYTES)).unwrap().unwrap();
        let read = slabs.body(slab, bytes).unwrap();
        slabs.rest();
        slabs.free_memory();
        assert!(slabs.has_memory() && blocks(&slabs) > 0);
        assert!(read.as_ref().iter().all(|byte| *byte == 5));
        drop(read);
        slabs.free_memory();
        assert!(!slabs.has_memory());
        assert_eq!(blocks(&slabs), 0);
    }

    #[test]
    fn the_file_keeps_its_size_and_what_is_said_ends_with_it() {
        use std::io::Write;

        let (mut writer, mut slabs) = ends();
        assert_eq!(slabs.said(), "");
        let (slab, bytes) = writer.write(&body(5, SLAB_BYTES)).unwrap().unwrap();
        let read = slabs.body(slab, bytes).unwrap();
        let mut stderr = slabs.file.try_clone().unwrap();
        stderr.write_all(b"memory allocation failed").unwrap();
        assert_eq!(slabs.said(), "memory allocation failed");
        let much = vec![b'x'; usize::try_from(SAID_BYTES).unwrap()];
        stderr.write_all(&much).unwrap_err();
        assert!(slabs.said().starts_with("memory allocation failedxxx"));
        assert_eq!(slabs.said().len() as u64, SAID_BYTES);
        slabs.file.set_len(0).unwrap_err();
        slabs.file.set_len(2 * FILE_BYTES).unwrap_err();
        assert!(read.as_ref().iter().all(|byte| *byte == 5));
    }
}
