//! The journal: what was drained is on disk before a query sees it, long before it is a Parquet file.
//!
//! The drain thread hands over one buffer a drain and waits until it is written, but not for long: a disk that hangs must
//! not keep alert rules from what was sampled. The store shows rows once they are written, or after some seconds all the
//! same. A thread of its own writes, another one syncs every `journal_sync_interval`. So a process that is killed loses what
//! was not drained, and a host that loses power what was not synced.
//!
//! Rows go to one segment after the other. A flush begins a new one, and when all rows of an older one are in Parquet
//! files, it is deleted. After an error a segment is not written any more, and never synced again; the next drain begins
//! another, and a flush is asked for, since rows of the broken one are in memory only.

mod encode;
pub mod frame;
pub mod replay;
mod segment;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use super::disk::{Disk, DiskError, DiskFile, step};
use super::health::{Health, Part};
use super::lock::FolderLock;
use crate::family::{FamilyId, PerFamily};
use encode::Encoder;
pub(super) use segment::{ASIDE, Left, aside, segment_number};
pub use segment::{JOURNAL, SUFFIX};
use segment::{Segment, segment_name};

/// How long the drain thread waits for a write. Beyond it does not wait any more until the disk has caught up.
const PATIENCE: Duration = Duration::from_millis(200);
/// What may wait to be written. Rows beyond are not in the journal, but still in memory and in the next file.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// A larger segment is followed by another, so that what a broken one holds is bounded.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// After an error it is tried again no sooner.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// A sync that takes longer is told.
const SYNC_PATIENCE: Duration = Duration::from_millis(900);
/// Buffers that are kept for later drains.
const SPARE_BUFFERS_MAX: usize = 4;
/// A buffer that had to be larger is not kept.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// What a journal is given.
#[derive(Clone, Debug)]
pub(super) struct JournalSettings {
    pub(super) host: String,
    pub(super) bytes_max: u64,
    pub(super) sync_interval: Duration,
}

/// The journal of a running daemon. Shared by its threads.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    lock: Arc<FolderLock>,
    settings: JournalSettings,
    health: Arc<Health>,
    encoder: Mutex<Encoder>,
    state: Mutex<State>,
    /// One sync at a time: two would each take the other's work for done.
    syncing: Mutex<()>,
    /// For the writing thread: there is something to write.
    submitted: Condvar,
    /// For the drain thread: it is written.
    written: Condvar,
    /// For the syncing thread: all is written.
    stopping: Condvar,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing of its own")]
struct State {
    waiting: VecDeque<Chunk>,
    waiting_bytes: usize,
    spare: Vec<Vec<u8>>,
    /// Chunks handed over, and those that were written or given up.
    submitted: u64,
    done: u64,
    /// The disk did not keep up; cleared once it has.
    behind: bool,
    /// The next chunk begins a segment.
    rotate: bool,
    /// And not before this.
    retry_at: Option<Instant>,
    next_number: u64,
    /// From the oldest to the newest.
    segments: VecDeque<Segment>,
    /// The folder has a new name that is not synced.
    folder_unsynced: bool,
    /// A sync is under way since.
    syncing_since: Option<Instant>,
    /// Rows that went to no segment, or to one that could not be synced, are not in files yet.
    flush_wanted: bool,
    /// Rows that were given up since start.
    lost_rows: u64,
    /// A thread writes what is handed over.
    attached: bool,
    stop: bool,
}

/// What is written in one step.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// It begins the segment of this number.
    begins: Option<u64>,
    /// Families, and one more than the sequence number of their last row in it.
    end_seqs: Vec<(FamilyId, u64)>,
    rows: u64,
}

impl Journal {
    /// A journal in `folder`, which is there, whose next segment has the number `next_number`.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        lock: Arc<FolderLock>,
        settings: JournalSettings,
        health: Arc<Health>,
        left: Vec<Left>,
        next_number: u64,
    ) -> Journal {
        let segments = left.into_iter().map(|Left { path, bytes, end_seqs, set_aside }| Segment {
            path,
            bytes,
            synced_bytes: bytes,
            file: None,
            closed: true,
            set_aside,
            end_seqs,
        });
        let state = State {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            spare: Vec::new(),
            submitted: 0,
            done: 0,
            behind: false,
            rotate: true,
            retry_at: None,
            next_number,
            segments: segments.collect(),
            folder_unsynced: false,
            syncing_since: None,
            flush_wanted: false,
            lost_rows: 0,
            attached: false,
            stop: false,
        };
        Journal {
            disk,
            folder,
            lock,
            encoder: Mutex::new(Encoder::new(settings.host.clone())),
            settings,
            health,
            state: Mutex::new(state),
            syncing: Mutex::default(),
            submitted: Condvar::new(),
            written: Condvar::new(),
            stopping: Condvar::new(),
        }
    }

    /// Hands over rows of some families, each with the sequence number of its first, and waits until they are written,
    /// but no longer than a short while. They are in the journal, or will never be, once [`done`](Self::done) is not less
    /// than what this returns. Called by the drain thread alone. Does nothing before [`attach`](Self::attach).
    pub(super) fn append(&self, batches: &[(FamilyId, u64, &RecordBatch)]) -> u64 {
        let mut state = self.lock();
        if !state.attached {
            return state.done;
        }
        let rotate = std::mem::take(&mut state.rotate);
        if rotate && state.retry_at.is_some_and(|retry_at| Instant::now() < retry_at) {
            state.give_up(batches.iter().map(|(.., batch)| batch.num_rows() as u64).sum());
            return state.submitted;
        }
        let begins = rotate.then_some(state.next_number);
        state.next_number += u64::from(rotate);
        let bytes = state.spare.pop().unwrap_or_default();
        drop(state);
        let chunk = self.encode(Chunk { bytes, begins, end_seqs: Vec::new(), rows: 0 }, batches);
        let mut state = self.lock();
        if state.waiting_bytes + chunk.bytes.len() > WAITING_BYTES_MAX {
            self.health.bad(Part::Journal, "the disk does not keep up with the journal's writes");
            state.give_up(chunk.rows);
            state.recycle(chunk.bytes);
            return state.submitted;
        }
        state.waiting_bytes += chunk.bytes.len();
        state.waiting.push_back(chunk);
        state.submitted += 1;
        let target = state.submitted;
        self.submitted.notify_one();
        if state.behind {
            return target;
        }
        let waited = self.written.wait_timeout_while(state, PATIENCE, |state| state.done < target);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            state.behind = true;
            self.health.bad(Part::Journal, "the disk does not take the journal's writes in time");
        }
        target
    }

    /// How many appends are written or given up.
    pub(super) fn done(&self) -> u64 {
        self.lock().done
    }

    /// From now on a thread runs [`write_until_stopped`](Self::write_until_stopped).
    pub(super) fn attach(&self) {
        self.lock().attached = true;
    }

    /// Fills a chunk with the rows, and before them with what they need.
    fn encode(&self, mut chunk: Chunk, batches: &[(FamilyId, u64, &RecordBatch)]) -> Chunk {
        let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = chunk.begins {
            encoder.begin(&mut chunk.bytes, number);
        }
        for &(family, first_seq, batch) in batches {
            let rows = batch.num_rows() as u64;
            chunk.rows += rows;
            chunk.end_seqs.push((family, first_seq + rows));
            encoder.rows(&mut chunk.bytes, family, first_seq, batch);
        }
        chunk
    }

    /// Has the next drain begin a new segment.
    pub(super) fn rotate(&self) {
        self.lock().rotate = true;
    }

    /// Whether rows that no segment holds for sure wait for a flush. Says so once.
    pub(super) fn take_flush_wanted(&self) -> bool {
        std::mem::take(&mut self.lock().flush_wanted)
    }

    /// Bytes of all segments, and rows that went to none since start.
    pub(super) fn stats(&self) -> (u64, u64) {
        let state = self.lock();
        (state.segments.iter().map(|segment| segment.bytes).sum(), state.lost_rows)
    }

    /// Looks after what goes wrong without a call that fails: a sync that takes too long, a segment that somebody
    /// deleted.
    pub(super) fn check(&self) {
        let state = self.lock();
        if state.syncing_since.is_some_and(|since| since.elapsed() > SYNC_PATIENCE) {
            self.health.bad(Part::Sync, "a sync of the journal has taken longer than a second");
        }
        let current = state.segments.back().filter(|segment| !segment.closed).map(|segment| segment.path.clone());
        // A folder that does not answer must not keep the drain thread from its lock.
        drop(state);
        let Some(current) = current.filter(|path| path.symlink_metadata().is_err()) else { return };
        let mut state = self.lock();
        if state.segments.back().is_some_and(|segment| !segment.closed && segment.path == current) {
            self.health.bad(Part::Journal, "the segment that is written was deleted");
            state.break_current();
        }
    }

    /// Writes what is handed over, until stopped.
    pub(super) fn write_until_stopped(&self) {
        let mut state = self.lock();
        loop {
            let Some(chunk) = state.waiting.pop_front() else {
                if state.stop {
                    state.attached = false;
                    self.stopping.notify_all();
                    return;
                }
                let idle = |state: &mut State| state.waiting.is_empty() && !state.stop;
                state = self.submitted.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.waiting_bytes -= chunk.bytes.len();
            let file = state.segments.back().and_then(|segment| segment.file.clone().filter(|_| !segment.closed));
            drop(state);
            let written = self.write(&chunk, file);
            if matches!(written, Ok(Some(_))) {
                // What cannot be deleted now is tried again, and told, by the next flush.
                let _ = self.shrink();
            }
            state = self.lock();
            match written {
                Ok(created) => {
                    if let Some(segment) = created {
                        state.segments.iter_mut().for_each(|segment| segment.closed = true);
                        state.segments.push_back(segment);
                        state.folder_unsynced = true;
                    }
                    let full = state.note_written(&chunk);
                    state.rotate |= full;
                    state.retry_at = None;
                    if state.waiting.is_empty() {
                        state.behind = false;
                        self.health.good(Part::Journal);
                    }
                }
                Err(reason) => {
                    if let Some(reason) = reason {
                        self.health.bad(Part::Journal, reason);
                        state.retry_at = Some(Instant::now() + RETRY_INTERVAL);
                        state.break_current();
                    }
                    state.give_up(chunk.rows);
                }
            }
            state.done += 1;
            state.recycle(chunk.bytes);
            self.written.notify_all();
        }
    }

    /// Writes a chunk to `file`, or to the segment that it begins, which is returned. An error without a reason is one
    /// that was told before: the segment is broken.
    fn write(&self, chunk: &Chunk, file: Option<Arc<dyn DiskFile>>) -> Result<Option<Segment>, Option<DiskError>> {
        let Some(number) = chunk.begins else {
            let file = file.ok_or(None)?;
            let written = step("journal.write").and_then(|()| file.append(&chunk.bytes));
            return written
                .map(|()| None)
                .map_err(|error| Some(DiskError::of("write the journal in", &self.folder)(error)));
        };
        let path = self.folder.join(segment_name(number));
        // Where the folder is another one now, it may be another process'.
        let held = self.lock.hold().map_err(io::Error::other);
        let created = held.and_then(|()| step("journal.create")).and_then(|()| self.disk.create(&path));
        let file = created.map_err(|error| Some(DiskError::of("create", &path)(error)))?;
        if let Err(error) = step("journal.begin").and_then(|()| file.append(&chunk.bytes)) {
            // What is left of it is cut at the next start if it can't be removed now.
            let _ = self.disk.remove(&path);
            return Err(Some(DiskError::of("write", &path)(error)));
        }
        Ok(Some(Segment {
            path,
            bytes: 0,
            synced_bytes: 0,
            file: Some(file),
            closed: false,
            set_aside: false,
            end_seqs: PerFamily::default(),
        }))
    }

    /// Syncs every interval until the writing thread has ended, and then once more.
    pub(super) fn sync_until_stopped(&self) {
        loop {
            let state = self.lock();
            let waited = self.stopping.wait_timeout_while(state, self.settings.sync_interval, |state| state.attached);
            let ended = !waited.unwrap_or_else(PoisonError::into_inner).0.attached;
            self.sync();
            if ended {
                return;
            }
        }
    }

    /// Syncs what was written until now; whether all of it is on the device.
    pub(super) fn sync(&self) -> bool {
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        let mut unsynced: Vec<(PathBuf, Arc<dyn DiskFile>, u64)> = Vec::new();
        for segment in &mut state.segments {
            if segment.bytes > segment.synced_bytes {
                unsynced.extend(segment.file.clone().map(|file| (segment.path.clone(), file, segment.bytes)));
            } else if segment.closed {
                segment.file = None;
            }
        }
        // Cleared before: what is created meanwhile needs another sync.
        let folder = std::mem::take(&mut state.folder_unsynced);
        if unsynced.is_empty() && !folder {
            return state.is_synced();
        }
        state.syncing_since = Some(Instant::now());
        drop(state);
        let mut failed = None;
        if folder {
            let synced = step("journal.sync_folder").and_then(|()| self.disk.sync_folder(&self.folder));
            match synced {
                Ok(()) => {}
                Err(error) => {
                    self.lock().folder_unsynced = true;
                    failed = Some(DiskError::of("sync folder", &self.folder)(error));
                }
            }
        }
        for (path, file, bytes) in unsynced {
            let synced = step("journal.sync").and_then(|()| file.sync());
            let mut state = self.lock();
            let Some(segment) = state.segments.iter_mut().find(|segment| segment.path == path) else { continue };
            match synced {
                Ok(()) => segment.synced_bytes = bytes,
                Err(error) => {
                    // This descriptor is never synced again: its rows are for the next flush.
                    failed = Some(DiskError::of("sync", &path)(error));
                    segment.file = None;
                    let is_current = !segment.closed;
                    segment.closed = true;
                    state.rotate |= is_current;
                    state.flush_wanted = true;
                }
            }
        }
        let mut state = self.lock();
        state.syncing_since = None;
        let all = failed.is_none() && state.is_synced();
        drop(state);
        self.health.note(Part::Sync, failed);
        all
    }

    /// Nothing is appended any more: all segments can be deleted once their rows are in files.
    pub(super) fn close(&self) {
        self.lock().segments.iter_mut().for_each(|segment| segment.closed = true);
    }

    /// Has both threads end once everything that was handed over is written and synced.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.submitted.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether no segment has rows that a sync failed for: those are for a flush.
    fn is_synced(&self) -> bool {
        self.segments.iter().all(|segment| segment.file.is_some() || segment.bytes == segment.synced_bytes)
    }

    /// A chunk of so many rows goes to no segment. Later ones build on it, so the next one begins a new segment.
    fn give_up(&mut self, rows: u64) {
        self.lost_rows += rows;
        self.rotate = true;
        self.flush_wanted = true;
    }

    /// Nothing is written to the newest segment any more.
    fn break_current(&mut self) {
        if let Some(segment) = self.segments.back_mut() {
            segment.closed = true;
        }
        self.rotate = true;
        self.flush_wanted = true;
    }

    /// Counts a chunk that was written to the newest segment; whether that has enough.
    fn note_written(&mut self, chunk: &Chunk) -> bool {
        let Some(segment) = self.segments.back_mut() else { return true };
        segment.bytes += chunk.bytes.len() as u64;
        for (family, end_seq) in &chunk.end_seqs {
            let known = &mut segment.end_seqs[*family];
            *known = (*end_seq).max(*known);
        }
        segment.bytes >= SEGMENT_BYTES_MAX
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
