//! The result of a running query.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::Stream;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::error::QueryError;

/// Batches that a query computes ahead of its reader.
pub(super) const BATCHES_AHEAD_MAX: usize = 4;

/// The rows of a running query, batch by batch. Dropping the stream ends the query.
#[derive(Debug)]
pub struct QueryStream {
    pub(super) schema: SchemaRef,
    pub(super) batches: mpsc::Receiver<RecordBatch>,
    /// The query's task. Dropping it aborts the task.
    pub(super) task: JoinSet<Result<(), QueryError>>,
    pub(super) done: bool,
}

impl QueryStream {
    /// The schema of every batch, equal to that of [`super::Engine::prepare`].
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Poll::Ready(Some(batch)) = self.batches.poll_recv(cx) {
            return Poll::Ready(Some(Ok(batch)));
        }
        // The task is polled even while batches may still come. It reports the time limit, at which the part that
        // computes batches may still be busy.
        let outcome = outcome(ready!(self.task.poll_join_next(cx)));
        // Nothing more will be sent, but batches may have arrived since the first poll above.
        if outcome.is_ok()
            && let Poll::Ready(Some(batch)) = self.batches.poll_recv(cx)
        {
            return Poll::Ready(Some(Ok(batch)));
        }
        self.done = true;
        Poll::Ready(outcome.err().map(Err))
    }
}

/// The result of a task; `None` stands for a task whose result was already taken.
pub(super) fn outcome(ended: Option<Result<Result<(), QueryError>, JoinError>>) -> Result<(), QueryError> {
    match ended {
        None => Ok(()),
        Some(Ok(result)) => result,
        Some(Err(error)) if error.is_cancelled() => Err(QueryError::Stopped),
        Some(Err(error)) => Err(QueryError::Panicked(error.to_string())),
    }
}
