//! The queries that run, so that they can be cancelled by their tickets.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_flight::FlightData;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;
use tonic::Status;

use super::ticket::Id;

/// Cancelled queries that are remembered, so that a later `DoGet` does not run them.
const CANCELLED_MAX: usize = 1_024;

/// The queries that run. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Running(Arc<Mutex<Queries>>);

#[derive(Debug, Default)]
struct Queries {
    running: HashMap<Id, (watch::Sender<bool>, usize)>,
    /// The oldest first.
    cancelled: VecDeque<Id>,
}

impl Running {
    /// Notes that a query begins.
    ///
    /// # Errors
    /// When it was cancelled before.
    pub(super) fn begin(&self, id: Id) -> Result<Query, Status> {
        let mut queries = self.lock();
        if queries.cancelled.contains(&id) {
            return Err(cancelled());
        }
        let (sender, count) = queries.running.entry(id).or_insert_with(|| (watch::Sender::new(false), 0));
        *count += 1;
        Ok(Query { id, told: sender.subscribe(), all: self.clone() })
    }

    /// Ends a query, however often it runs, and keeps it from running again.
    pub(super) fn cancel(&self, id: Id) {
        let mut queries = self.lock();
        if let Some((sender, _)) = queries.running.get(&id) {
            sender.send_replace(true);
        }
        if !queries.cancelled.contains(&id) {
            queries.cancelled.push_back(id);
        }
        if queries.cancelled.len() > CANCELLED_MAX {
            queries.cancelled.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A query that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Query {
    id: Id,
    told: watch::Receiver<bool>,
    all: Running,
}

impl Query {
    /// Does a part of the query's work, unless it is cancelled.
    pub(super) async fn until_cancelled<T>(
        &mut self,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let cancel = async {
            // It does not fail: the sender lives as long as the query.
            let _ = self.told.wait_for(|cancelled| *cancelled).await;
        };
        tokio::select! {
            biased;
            () = cancel => Err(cancelled()),
            done = work => done,
        }
    }

    /// The query's result. It ends with an error when the query is cancelled.
    pub(super) fn within(
        self,
        frames: BoxStream<'static, Result<FlightData, Status>>,
    ) -> BoxStream<'static, Result<FlightData, Status>> {
        stream::unfold(Some((self, frames)), |running| async move {
            let (mut query, mut frames) = running?;
            let next = query.until_cancelled(async { frames.next().await.transpose() }).await.transpose()?;
            // What has failed is dropped at once, and its worker is free.
            let rest = next.is_ok().then_some((query, frames));
            Some((next, rest))
        })
        .boxed()
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        let mut queries = self.all.lock();
        if let Some((_, count)) = queries.running.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                queries.running.remove(&self.id);
            }
        }
    }
}

fn cancelled() -> Status {
    Status::cancelled("the query was cancelled by a client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cancelled_query_ends_and_does_not_run_again() {
        let all = Running::default();
        let (one, other) = ([1; 16], [2; 16]);
        let endless = || stream::once(async { Ok(FlightData::default()) }).chain(stream::pending()).boxed();
        let mut result = all.begin(one).unwrap().within(endless());
        let mut second = all.begin(one).unwrap().within(endless());
        let mut others = all.begin(other).unwrap().within(endless());
        for frames in [&mut result, &mut second, &mut others] {
            frames.next().await.unwrap().unwrap();
        }
        all.cancel(one);
        for frames in [&mut result, &mut second] {
            assert_eq!(frames.next().await.unwrap().unwrap_err().code(), tonic::Code::Cancelled);
            assert!(frames.next().await.is_none());
        }
        assert!(futures::poll!(others.next()).is_pending());
        assert_eq!(all.begin(one).unwrap_err().code(), tonic::Code::Cancelled);
        drop((result, second, others));
        assert!(all.lock().running.is_empty());
    }

    #[test]
    fn so_many_cancelled_ones_are_remembered() {
        let all = Running::default();
        for number in 0..=CANCELLED_MAX {
            let mut id = Id::default();
            id[..8].copy_from_slice(&(number as u64).to_le_bytes());
            all.cancel(id);
        }
        assert_eq!(all.lock().cancelled.len(), CANCELLED_MAX);
        all.begin(Id::default()).unwrap();
    }
}
