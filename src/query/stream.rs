//! A running query as its reader sees it.

use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::Stream;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::QueryError;

/// Batches that a query makes ahead of its reader.
pub(super) const BATCHES_AHEAD_MAX: usize = 4;

/// The rows of a query, batch by batch, while it runs. Dropping it ends the query.
#[derive(Debug)]
pub struct QueryStream {
    schema: SchemaRef,
    batches: mpsc::Receiver<RecordBatch>,
    /// The query's task; aborted when dropped.
    task: JoinSet<Result<(), QueryError>>,
    done: bool,
}

impl QueryStream {
    pub(super) fn new(
        schema: SchemaRef,
        batches: mpsc::Receiver<RecordBatch>,
        task: JoinSet<Result<(), QueryError>>,
    ) -> QueryStream {
        QueryStream { schema, batches, task, done: false }
    }

    /// The schema of every batch: the same that [`super::Engine::prepare`] gives for this statement.
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
        // The task is asked even while batches may still come: it tells when the time is up, and the part that
        // makes batches may then be busy for a while.
        let ended = match self.batches.poll_recv(cx) {
            Poll::Ready(Some(batch)) => return Poll::Ready(Some(Ok(batch))),
            Poll::Ready(None) | Poll::Pending => match self.task.poll_join_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(ended) => ended,
            },
        };
        match outcome(ended) {
            Err(error) => {
                self.done = true;
                Poll::Ready(Some(Err(error)))
            }
            // Nothing is sent any more, but batches may have come since they were asked for above.
            Ok(()) => match self.batches.poll_recv(cx) {
                Poll::Ready(Some(batch)) => Poll::Ready(Some(Ok(batch))),
                Poll::Ready(None) | Poll::Pending => {
                    self.done = true;
                    Poll::Ready(None)
                }
            },
        }
    }
}

/// How a task ended: `None` when that was told before.
pub(super) fn outcome(ended: Option<Result<Result<(), QueryError>, JoinError>>) -> Result<(), QueryError> {
    match ended {
        None => Ok(()),
        Some(Ok(result)) => result,
        Some(Err(error)) if error.is_cancelled() => Err(QueryError::Stopped),
        Some(Err(error)) => Err(QueryError::Panicked(error.to_string())),
    }
}
