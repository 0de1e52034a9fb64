//! One reader of a tail: the rows that wait for it, within a bound.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use arrow_flight::FlightData;
use tokio::sync::Notify;

use crate::query::error::{ErrorKind, QueryError};
use crate::query::room::Close;

/// Rows that wait for one reader. A single message may be larger.
pub(in crate::query::workers) const BUFFER_BYTES_MAX: usize = 512 << 10;

/// What waits for a reader. Adding to it never waits.
pub(in crate::query::workers) struct Reader {
    state: Mutex<State>,
    more: Notify,
    /// Closes the connection of its client.
    close: Option<Close>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Entry>,
    bytes: usize,
    /// Rows with smaller sequence numbers are among its first rows.
    from_seq: u64,
    /// Since when it misses rows.
    stalled_since: Option<Instant>,
    end: Option<(ErrorKind, String)>,
    has_ended: bool,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub(in crate::query::workers) enum Entry {
    /// A message with rows of a batch that begins with this sequence number.
    Rows(u64, FlightData),
    /// So many rows had no room, from about this sequence number on.
    Missed(u64, u64),
}

impl Entry {
    fn first_seq(&self) -> u64 {
        match self {
            Entry::Rows(first_seq, _) | Entry::Missed(first_seq, _) => *first_seq,
        }
    }
}

impl Reader {
    pub(in crate::query::workers) fn new(close: Option<Close>) -> Reader {
        Reader { state: Mutex::default(), more: Notify::new(), close }
    }

    /// Leaves out the batches before this sequence number.
    pub(in crate::query::workers) fn begin_at(&self, seq: u64) {
        let mut state = self.lock();
        state.from_seq = seq;
        state.waiting.retain(|entry| entry.first_seq() >= seq);
        state.bytes = state.waiting.iter().map(size).sum();
    }

    /// Adds rows, if there is room.
    pub(in crate::query::workers) fn push(&self, first_seq: u64, rows: u64, frame: FlightData) {
        let entry = Entry::Rows(first_seq, frame);
        let mut state = self.lock();
        if state.has_ended || first_seq < state.from_seq {
            return;
        }
        let bytes = size(&entry);
        if state.bytes > 0 && state.bytes + bytes > BUFFER_BYTES_MAX {
            state.miss(first_seq, rows);
        } else {
            state.bytes += bytes;
            state.waiting.push_back(entry);
        }
        drop(state);
        self.more.notify_one();
    }

    /// Notes that it gets no message of some rows.
    pub(in crate::query::workers) fn miss(&self, first_seq: u64, rows: u64) {
        let mut state = self.lock();
        if !state.has_ended && first_seq >= state.from_seq {
            state.miss(first_seq, rows);
        }
        drop(state);
        self.more.notify_one();
    }

    /// What comes next, an error at the end, and `None` after it.
    pub(in crate::query::workers) async fn next(&self) -> Option<Result<Entry, QueryError>> {
        loop {
            match self.take() {
                Poll::Ready(next) => return next,
                Poll::Pending => self.more.notified().await,
            }
        }
    }

    fn take(&self) -> Poll<Option<Result<Entry, QueryError>>> {
        let mut state = self.lock();
        if let Some(entry) = state.waiting.pop_front() {
            state.bytes -= size(&entry);
            state.stalled_since = None;
            return Poll::Ready(Some(Ok(entry)));
        }
        if state.has_ended {
            return Poll::Ready(state.end.take().map(|(kind, text)| Err(QueryError::Told { kind, text })));
        }
        Poll::Pending
    }

    /// Ends it, after what waits.
    pub(in crate::query::workers) fn end(&self, error: &QueryError) {
        let mut state = self.lock();
        if !state.has_ended {
            (state.has_ended, state.end) = (true, Some((error.kind(), error.to_string())));
        }
        drop(state);
        self.more.notify_one();
    }

    /// For how long it has missed rows without reading any.
    pub(in crate::query::workers) fn stalled(&self) -> Duration {
        self.lock().stalled_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Ends it at once, with its connection.
    pub(in crate::query::workers) fn close(&self, error: &QueryError) {
        let mut state = self.lock();
        (state.waiting, state.bytes) = (VecDeque::new(), 0);
        drop(state);
        self.end(error);
        if let Some(close) = &self.close {
            close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn miss(&mut self, first_seq: u64, rows: u64) {
        self.stalled_since.get_or_insert_with(Instant::now);
        match self.waiting.back_mut() {
            Some(Entry::Missed(_, missed)) => *missed += rows,
            _ => self.waiting.push_back(Entry::Missed(first_seq, rows)),
        }
    }
}

fn size(entry: &Entry) -> usize {
    match entry {
        Entry::Rows(_, frame) => frame.data_header.len() + frame.data_body.len(),
        Entry::Missed(..) => 0,
    }
}

/// Readers of one tail.
pub(in crate::query::workers) type Readers = Mutex<Vec<Arc<Reader>>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> FlightData {
        FlightData { data_body: vec![0; bytes].into(), ..FlightData::default() }
    }

    async fn next(reader: &Reader) -> Option<(u64, Option<u64>)> {
        match reader.next().await?.ok()? {
            Entry::Rows(first_seq, _) => Some((first_seq, None)),
            Entry::Missed(first_seq, rows) => Some((first_seq, Some(rows))),
        }
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed_where_it_missed_it() {
        let reader = Reader::new(None);
        for seq in 0..5 {
            reader.push(seq * 10, 10, frame(BUFFER_BYTES_MAX / 2));
        }
        assert!(reader.stalled() > Duration::ZERO);
        assert_eq!(next(&reader).await, Some((0, None)));
        assert_eq!(reader.stalled(), Duration::ZERO);
        reader.push(50, 10, frame(100));
        reader.miss(60, 7);
        assert_eq!(next(&reader).await, Some((10, None)));
        assert_eq!(next(&reader).await, Some((20, Some(30))));
        assert_eq!(next(&reader).await, Some((50, None)));
        assert_eq!(next(&reader).await, Some((60, Some(7))));
        // One message alone may be larger.
        reader.push(70, 1, frame(2 * BUFFER_BYTES_MAX));
        assert_eq!(next(&reader).await, Some((70, None)));
        reader.push(80, 1, frame(1));
        reader.end(&QueryError::Stopped);
        assert_eq!(next(&reader).await, Some((80, None)));
        assert!(reader.next().await.unwrap().unwrap_err().to_string().contains("shutting down"));
        assert!(reader.next().await.is_none());
    }

    #[tokio::test]
    async fn rows_that_are_among_the_first_ones_do_not_come_again() {
        let reader = Reader::new(None);
        for seq in 0..4 {
            reader.push(seq * 10, 10, frame(10));
        }
        reader.begin_at(20);
        reader.push(10, 10, frame(10));
        reader.push(40, 10, frame(10));
        for seq in [20, 30, 40] {
            assert_eq!(next(&reader).await, Some((seq, None)));
        }
        assert_eq!(reader.lock().bytes, 0);
    }
}
