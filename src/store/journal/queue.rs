//! What the drain thread handed over and the journal's thread is still to write.

use std::collections::VecDeque;

use crate::family::FamilyId;

/// Bytes that may wait. Rows beyond are not journaled, but stay in memory and go to the next file.
pub(super) const WAITING_BYTES_MAX: usize = 16 << 20;
/// Buffers that are kept for later chunks.
const SPARE_BUFFERS_MAX: usize = 4;
/// A larger buffer is not kept.
const SPARE_BYTES_MAX: usize = 4 << 20;

/// What is written in one step.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    /// The number of the segment that it begins, if it begins one.
    pub(super) begins: Option<u64>,
    /// For each batch: its table, and one more than the sequence number of its last row.
    pub(super) end_seqs: Vec<(FamilyId, u64)>,
    pub(super) rows: u64,
}

/// Chunks in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
    /// How many chunks were pushed.
    pub(super) submitted: u64,
    /// How many chunks are finished.
    pub(super) done: u64,
    /// The drain thread waits.
    pub(super) awaited: bool,
    /// The drain thread waited in vain. Cleared once nothing waits to be written.
    pub(super) behind: bool,
}

impl Queue {
    /// An empty buffer for a chunk.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a chunk, unless too much waits already: then it is returned.
    pub(super) fn push(&mut self, chunk: Chunk) -> Result<(), Chunk> {
        if self.bytes + chunk.bytes.len() > WAITING_BYTES_MAX {
            return Err(chunk);
        }
        self.bytes += chunk.bytes.len();
        self.chunks.push_back(chunk);
        self.submitted += 1;
        Ok(())
    }

    /// The oldest chunk, for writing. [`finish`](Self::finish) follows.
    pub(super) fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.bytes -= chunk.bytes.len();
        Some(chunk)
    }

    /// A chunk that was popped is written or given up.
    pub(super) fn finish(&mut self, chunk: Chunk) {
        self.done += 1;
        self.recycle(chunk.bytes);
    }

    /// Keeps a buffer for a later chunk.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}
