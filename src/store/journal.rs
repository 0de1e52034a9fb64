//! The journal: drained rows are on disk before a query sees them, long before they are in a Parquet file.
//!
//! The drain thread hands over one buffer a drain and waits until it is written, but only for a short while: a disk that
//! hangs must not keep alert rules from new rows. The store shows rows once they are written, or after a few seconds. The
//! journal has two threads: one writes, the other syncs every `journal_sync_interval`. So a killed process loses only what
//! was not drained, and a power loss only what was not synced.
//!
//! One segment is written at a time. A flush has the next drain begin another one, and a segment is deleted once all its
//! rows are in Parquet files. After an error a segment is neither written nor synced again: the next drain begins another,
//! and a flush is wanted, as rows of the broken segment may be in memory only.

mod encode;
pub mod frame;
mod queue;
pub mod replay;
mod segment;
mod state;

use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use super::data_folder::JOURNAL;
use super::disk::{Disk, DiskError, DiskFile, step};
use super::lock::FolderLock;
use super::settings::StoreSettings;
use super::trouble::{Part, Troubles};
use crate::family::{FamilyId, PerFamily};
use encode::Encoder;
use queue::Chunk;
use segment::segment_name;
pub(super) use segment::{Segment, aside, end_seq_max, missing_rows, parse_path};
use state::{State, Writer};

/// How long the drain thread waits for a write. After one that took longer it waits no more until the disk has caught up.
const PATIENCE: Duration = Duration::from_millis(200);
/// From an error to the next try.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Troubles reports a sync that takes longer.
const SYNC_PATIENCE: Duration = Duration::from_millis(900);

/// The journal of a running daemon. Shared by its threads.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    lock: Arc<FolderLock>,
    settings: StoreSettings,
    troubles: Arc<Troubles>,
    encoder: Mutex<Encoder>,
    state: Mutex<State>,
    /// One sync at a time: of two, each would take the other's work as done.
    syncing: Mutex<()>,
    /// Wakes the writing thread: there is something to write.
    submitted: Condvar,
    /// Wakes the drain thread: a chunk is written.
    written: Condvar,
    /// Wakes the syncing thread: the writing thread has ended.
    stopping: Condvar,
}

impl Journal {
    /// A journal whose folder is there. `left` are its segments so far. The next segment has the number `next_number`, which
    /// must be greater than theirs and than all sequence numbers so far.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        lock: Arc<FolderLock>,
        settings: &StoreSettings,
        troubles: Arc<Troubles>,
        left: Vec<Segment>,
        next_number: u64,
    ) -> Journal {
        Journal {
            disk,
            folder: settings.path.join(JOURNAL),
            lock,
            encoder: Mutex::new(Encoder::new(settings.host.clone())),
            settings: settings.clone(),
            troubles,
            state: Mutex::new(State::new(left, next_number)),
            syncing: Mutex::default(),
            submitted: Condvar::new(),
            written: Condvar::new(),
            stopping: Condvar::new(),
        }
    }

    /// Hands over rows of some families, each batch with the sequence number of its first row. Once [`wait`](Self::wait)
    /// returns the number that this returns, or a greater one, they are in the journal or were given up. Called by the
    /// drain thread alone. Before [`attach`](Self::attach) rows are not journaled.
    pub(super) fn submit(&self, batches: &[(FamilyId, u64, &RecordBatch)]) -> u64 {
        let end_seqs: Vec<(FamilyId, u64)> =
            batches.iter().map(|(family, first_seq, batch)| (*family, first_seq + batch.num_rows() as u64)).collect();
        let rows = batches.iter().map(|(.., batch)| batch.num_rows() as u64).sum();
        let mut state = self.lock();
        let number = state.next_number;
        // Also for rows that go to no segment: see `end_seq_max`.
        state.next_number = end_seqs.iter().map(|(_, end_seq)| *end_seq).fold(number + 1, u64::max);
        if state.writer == Writer::Absent {
            return state.queue.done;
        }
        let rotate = std::mem::take(&mut state.rotate);
        if rotate && state.retry_at.is_some_and(|retry_at| Instant::now() < retry_at) {
            state.give_up(rows);
            return state.queue.submitted;
        }
        let bytes = state.queue.buffer();
        drop(state);
        let mut chunk = Chunk { bytes, begins: rotate.then_some(number), end_seqs, rows };
        let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        if rotate {
            encoder.begin(&mut chunk.bytes, number);
        }
        for &(family, first_seq, batch) in batches {
            encoder.rows(&mut chunk.bytes, family, first_seq, batch);
        }
        drop(encoder);
        let mut state = self.lock();
        if let Err(chunk) = state.queue.push(chunk) {
            self.tell("the disk does not keep up with the journal's writes");
            state.give_up(rows);
            state.queue.recycle(chunk.bytes);
            return state.queue.submitted;
        }
        let number = state.queue.submitted;
        drop(state);
        self.submitted.notify_one();
        number
    }

    /// Waits a short while for what [`submit`](Self::submit) gave this number. Returns the number of the newest rows that
    /// are written or given up, with all rows before them.
    pub(super) fn wait(&self, number: u64) -> u64 {
        let mut state = self.lock();
        if state.queue.done < number && !state.queue.behind {
            state.queue.awaited = true;
            let waited = self.written.wait_timeout_while(state, PATIENCE, |state| state.queue.done < number);
            let timeout;
            (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state.queue.awaited = false;
            if timeout.timed_out() {
                state.queue.behind = true;
                self.tell("the disk does not take the journal's writes in time");
            }
        }
        state.queue.done
    }

    /// From now on a thread runs [`write_until_stopped`](Self::write_until_stopped).
    pub(super) fn attach(&self) {
        self.lock().writer = Writer::Running;
    }

    /// Has the next drain begin a new segment.
    pub(super) fn rotate(&self) {
        self.lock().rotate = true;
    }

    /// Whether some rows are in no segment that can be synced, and need a flush soon. True once.
    pub(super) fn take_flush_wanted(&self) -> bool {
        std::mem::take(&mut self.lock().flush_wanted)
    }

    /// Bytes of all segments, and rows that went to none since start.
    pub(super) fn stats(&self) -> (u64, u64) {
        let state = self.lock();
        (state.bytes(), state.lost_rows)
    }

    /// Finds what goes wrong without an error: a sync that takes too long, a segment that somebody deleted.
    pub(super) fn check(&self) {
        let state = self.lock();
        if state.syncing_since.is_some_and(|since| since.elapsed() > SYNC_PATIENCE) {
            self.troubles.bad(Part::Sync, "a sync of the journal has taken longer than a second");
        }
        let path = state.open.as_ref().map(|open| open.path.clone());
        // If the folder does not answer, the drain thread must still get the lock.
        drop(state);
        let Some(path) = path.filter(|path| path.symlink_metadata().is_err()) else { return };
        let mut state = self.lock();
        if state.open.as_ref().is_some_and(|open| open.path == path) {
            self.tell("the segment that is written was deleted");
            state.break_open();
        }
    }

    /// Writes what is handed over, until stopped.
    pub(super) fn write_until_stopped(&self) {
        let mut state = self.lock();
        loop {
            let Some(chunk) = state.queue.pop() else {
                if state.writer == Writer::Stopping {
                    state.writer = Writer::Absent;
                    self.stopping.notify_all();
                    return;
                }
                let idle = |state: &mut State| state.queue.is_empty() && state.writer == Writer::Running;
                state = self.submitted.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let file = state.open.as_ref().and_then(|open| open.file.clone());
            drop(state);
            let written = self.write(&chunk, file);
            if matches!(written, Ok(Some(_))) {
                // The next flush tries and reports what fails here.
                let _ = self.shrink();
            }
            state = self.lock();
            match written {
                Ok(begun) => {
                    state.note_written(&chunk, begun);
                    if state.queue.is_empty() {
                        state.queue.behind = false;
                        self.troubles.good(Part::Journal);
                    }
                }
                Err(reason) => {
                    if let Some(reason) = reason {
                        self.tell(reason);
                        state.retry_at = Some(Instant::now() + RETRY_INTERVAL);
                        state.break_open();
                    }
                    state.give_up(chunk.rows);
                }
            }
            state.queue.finish(chunk);
            if state.queue.awaited {
                self.written.notify_all();
            }
        }
    }

    /// Writes a chunk to `file`, or to the segment that it begins, which is returned. The error has no reason if an earlier
    /// one told it: the segment that the chunk belongs to is broken.
    fn write(&self, chunk: &Chunk, file: Option<Arc<dyn DiskFile>>) -> Result<Option<Segment>, Option<DiskError>> {
        let Some(number) = chunk.begins else {
            let file = file.ok_or(None)?;
            let written = step("journal.write").and_then(|()| file.append(&chunk.bytes));
            written.map_err(DiskError::of("write the journal in", &self.folder))?;
            return Ok(None);
        };
        let path = self.folder.join(segment_name(number));
        // Another process may own the folder that has this path now.
        let held = self.lock.hold().map_err(io::Error::other);
        let created = held.and_then(|()| step("journal.create")).and_then(|()| self.disk.create(&path));
        let file = created.map_err(DiskError::of("create", &path))?;
        if let Err(error) = step("journal.begin").and_then(|()| file.append(&chunk.bytes)) {
            // If this fails, too, the next start cuts what is left.
            let _ = self.disk.remove(&path);
            return Err(Some(DiskError::of("write", &path)(error)));
        }
        Ok(Some(Segment::new(path, file)))
    }

    /// Syncs every interval until the writing thread has ended, and then once more.
    pub(super) fn sync_until_stopped(&self) {
        loop {
            let is_written = |state: &mut State| state.writer != Writer::Absent;
            let waited = self.stopping.wait_timeout_while(self.lock(), self.settings.journal_sync_interval, is_written);
            let ended = waited.unwrap_or_else(PoisonError::into_inner).0.writer == Writer::Absent;
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
        let unsynced = state.unsynced();
        // Cleared before the sync: a file that is created meanwhile needs another one.
        let folder = std::mem::take(&mut state.folder_unsynced);
        if unsynced.is_empty() && !folder {
            return state.is_synced();
        }
        state.syncing_since = Some(Instant::now());
        drop(state);
        let mut failed = None;
        if folder && let Err(error) = step("journal.sync_folder").and_then(|()| self.disk.sync_folder(&self.folder)) {
            self.lock().folder_unsynced = true;
            failed = Some(DiskError::of("sync folder", &self.folder)(error));
        }
        for (path, file, bytes) in unsynced {
            let synced = step("journal.sync").and_then(|()| file.sync());
            let is_there = self.lock().note_synced(&path, bytes, synced.is_ok());
            if let (true, Err(error)) = (is_there, synced) {
                failed = Some(DiskError::of("sync", &path)(error));
            }
        }
        let mut state = self.lock();
        state.syncing_since = None;
        let all = failed.is_none() && state.is_synced();
        drop(state);
        self.troubles.note(Part::Sync, failed);
        all
    }

    /// Deletes segments all of whose rows are before `covered`, and the oldest beyond the bytes that all may have.
    pub(super) fn delete_covered(&self, covered: &PerFamily<u64>) {
        let deleted = self.checkpoint(covered).and_then(|()| self.shrink());
        self.troubles.note(Part::JournalDelete, deleted.err());
    }

    /// Deletes segments all of whose rows are before `covered`: those are in files, or dropped and counted. If one cannot be
    /// deleted, the next call tries again.
    fn checkpoint(&self, covered: &PerFamily<u64>) -> Result<(), DiskError> {
        loop {
            let mut state = self.lock();
            let at = state.sealed.iter().position(|sealed| sealed.is_covered(covered));
            let Some(sealed) = at.and_then(|at| state.sealed.remove(at)) else { return Ok(()) };
            drop(state);
            self.delete(sealed)?;
        }
    }

    /// Deletes the oldest segments until all of them have at most the bytes that they may have. If their rows are not in
    /// files, they are in memory only.
    fn shrink(&self) -> Result<(), DiskError> {
        loop {
            let mut state = self.lock();
            let is_full = state.bytes() > self.settings.journal_bytes_max;
            let Some(oldest) = state.sealed.pop_front_if(|_| is_full) else { return Ok(()) };
            drop(state);
            // The next flush that succeeds ends this trouble.
            self.troubles
                .bad(Part::JournalSize, "the journal is full, as no flush succeeds: its oldest segments were deleted");
            self.delete(oldest)?;
        }
    }

    /// Deletes a segment, or gives it the name of those that are kept. If that fails, it is the oldest again.
    fn delete(&self, sealed: Segment) -> Result<(), DiskError> {
        let path = &sealed.path;
        let delete = || if sealed.is_damaged { self.disk.rename(path, &aside(path)) } else { self.disk.remove(path) };
        match step("journal.delete").and_then(|()| delete()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let error = DiskError::of("delete the segment", path)(error);
                self.lock().sealed.push_front(sealed);
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Nothing is appended any more: all segments can be deleted once their rows are in files.
    pub(super) fn close(&self) {
        self.lock().seal();
    }

    /// Has both threads end once everything that was handed over is written and synced.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        if state.writer == Writer::Running {
            state.writer = Writer::Stopping;
        }
        self.submitted.notify_all();
    }

    /// Notes that the journal does not get rows. The store shows them after a while without it.
    fn tell(&self, reason: impl Display) {
        let reason =
            format_args!("{reason}; while this lasts, a kill loses rows that queries have seen and no file has");
        self.troubles.bad(Part::Journal, reason);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
