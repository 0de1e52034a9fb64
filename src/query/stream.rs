//! The result of a running query.

use std::pin::Pin;
use std::task::{Context, Poll};

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
    schema: SchemaRef,
    batches: mpsc::Receiver<RecordBatch>,
    /// The query's task. Dropping it aborts the task.
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
        // The task is polled even while batches may still come. It reports the time limit, at which the part that
        // computes batches may still be busy.
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
            // Nothing more will be sent, but batches may have arrived since the first poll above.
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

/// The result of a task; `None` stands for a task whose result was already taken.
pub(super) fn outcome(ended: Option<Result<Result<(), QueryError>, JoinError>>) -> Result<(), QueryError> {
    match ended {
        None => Ok(()),
        Some(Ok(result)) => result,
        Some(Err(error)) if error.is_cancelled() => Err(QueryError::Stopped),
        Some(Err(error)) => Err(QueryError::Panicked(error.to_string())),
    }
}
