//! What the journal's threads share.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::queue::{Chunk, Queue};
use super::segment::Segment;
use crate::store::disk::DiskFile;

/// A larger segment is followed by another, so that a broken one holds little.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// Whether there is a thread that writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Writer {
    #[default]
    Absent,
    Running,
    /// It ends once the queue is empty.
    Stopping,
}

/// What the journal's threads share.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) writer: Writer,
    pub(super) queue: Queue,
    /// The next chunk begins a segment.
    pub(super) rotate: bool,
    /// After an error: no segment is begun before this.
    pub(super) retry_at: Option<Instant>,
    /// The number of the next segment: greater than those of all others, and not less than one more than any sequence number
    /// that was given.
    pub(super) next_number: u64,
    /// The segment that is written.
    pub(super) open: Option<Segment>,
    /// From the oldest to the newest.
    pub(super) sealed: VecDeque<Segment>,
    /// The folder has a new name that is not synced.
    pub(super) folder_unsynced: bool,
    /// When the sync that is under way began.
    pub(super) syncing_since: Option<Instant>,
    /// Some rows are neither in files nor in a segment that can be synced.
    pub(super) flush_wanted: bool,
    /// Rows that were given up since start.
    pub(super) lost_rows: u64,
}

impl State {
    pub(super) fn new(sealed: Vec<Segment>, next_number: u64) -> State {
        State { rotate: true, next_number, sealed: sealed.into(), ..State::default() }
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.sealed.iter().chain(&self.open).map(|segment| segment.bytes).sum()
    }

    /// A chunk of so many rows goes to no segment. Later chunks need what it holds, so the next one begins a new segment.
    pub(super) fn give_up(&mut self, rows: u64) {
        self.lost_rows += rows;
        self.rotate = true;
        self.flush_wanted = true;
    }

    /// Nothing is written to the open segment any more.
    pub(super) fn seal(&mut self) {
        self.sealed.extend(self.open.take().map(Segment::seal));
    }

    /// Nothing is written to the open segment any more, as something is wrong with it.
    pub(super) fn break_open(&mut self) {
        self.seal();
        self.rotate = true;
        self.flush_wanted = true;
    }

    /// Notes that a chunk was written, to `begun` or else to the open segment.
    pub(super) fn note_written(&mut self, chunk: &Chunk, begun: Option<Segment>) {
        if begun.is_some() {
            self.seal();
            self.open = begun;
            self.folder_unsynced = true;
        }
        self.retry_at = None;
        if let Some(segment) = &mut self.open {
            segment.grow(chunk.bytes.len(), &chunk.end_seqs);
            self.rotate |= segment.bytes >= SEGMENT_BYTES_MAX;
        }
    }

    /// Whether no segment has rows for which a sync failed. Those are for a flush.
    pub(super) fn is_synced(&self) -> bool {
        self.sealed.iter().all(|segment| segment.file.is_some() || segment.is_synced())
    }

    /// Segments with bytes that are not synced, and how many bytes they have now.
    pub(super) fn unsynced(&self) -> Vec<(PathBuf, Arc<dyn DiskFile>, u64)> {
        let unsynced = self.sealed.iter().chain(&self.open).filter(|segment| !segment.is_synced());
        unsynced.filter_map(|one| Some((one.path.clone(), one.file.clone()?, one.bytes))).collect()
    }

    /// Notes whether a sync brought the first `bytes` of a segment to the device. Whether there still is that segment.
    pub(super) fn note_synced(&mut self, path: &Path, bytes: u64, is_synced: bool) -> bool {
        let is_open = self.open.as_ref().is_some_and(|open| open.path == path);
        if is_open && !is_synced {
            self.break_open();
        }
        let mut segments = self.sealed.iter_mut().chain(&mut self.open);
        let Some(segment) = segments.find(|segment| segment.path == path) else { return false };
        if is_synced {
            segment.synced_bytes = bytes;
        } else {
            self.flush_wanted = true;
        }
        // After a failure this descriptor is never synced again: its rows are for the next flush.
        if !is_synced || (!is_open && segment.is_synced()) {
            segment.file = None;
        }
        true
    }
}
