//! Running statements, in this process or in workers, with results as Flight messages.

use std::fmt::{self, Debug};
use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use prost::bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

#[cfg(test)]
use super::Engine;
use super::Prepared;
use super::error::QueryError;
use super::ipc::{Encoded, Encoder};
use super::request::{Moment, Request};
use super::room::{Close, Reader, Reservation};
use super::slab;
use super::sql_view::SqlViews;
use super::stream::QueryStream;
use super::tail::TailRequest;

/// Messages of a result that wait for whoever passes them on.
pub(super) const FRAMES_AHEAD_MAX: usize = 1;

/// Runs statements.
#[async_trait]
pub trait Statements: Debug + Send + Sync + 'static {
    /// The schema of a statement's result, and its parameters.
    ///
    /// # Errors
    /// When the statement is refused or not valid, or planning reaches a limit.
    async fn prepare(&self, request: &Request) -> Result<Prepared, QueryError>;

    /// Runs a statement over the rows of its moment, or the newest ones.
    ///
    /// # Errors
    /// When the statement is refused or not valid, or reaches a limit before its first row.
    async fn execute(&self, request: &Request) -> Result<Frames, QueryError>;

    /// Follows a table: a schema, the first rows, and then new rows as they come, without an end. A message without rows tells in
    /// its metadata how many rows the reader missed. `close` closes the connection of a reader that does not read.
    ///
    /// # Errors
    /// When the request is not valid, or a limit is reached before the first row.
    async fn tail(
        &self,
        request: &TailRequest,
        close: Option<Close>,
    ) -> Result<BoxStream<'static, Result<FlightData, QueryError>>, QueryError>;

    /// The rows as they are now, for several statements.
    ///
    /// # Errors
    /// When kymo is shutting down.
    async fn moment(&self) -> Result<Moment, QueryError>;

    /// The time limit of every statement.
    fn time_max(&self) -> Duration;

    /// The views that statements may use like tables.
    fn sql_views(&self) -> &SqlViews;

    /// Number of statements that began to run, failed ones included.
    fn begun(&self) -> u64;
}

/// A message of a result; `None` is the end. Whoever runs the statement sends the end or an error: without either, the result is not
/// whole.
pub(super) type Part = Result<Option<Message>, QueryError>;

/// A message of a result that waits for the client.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) frame: FlightData,
    /// Its body, if that is not with it.
    pub(super) slab: Option<slab::Lent>,
    /// The room that it takes, if that is bounded.
    pub(super) reservation: Option<Reservation>,
    /// Its share of what may wait of this result, until the client takes it.
    pub(super) _ahead: Option<OwnedSemaphorePermit>,
}

impl Message {
    /// What the client gets, with its whole body.
    fn take(&mut self, copies: bool) -> FlightData {
        let mut frame = take(&mut self.frame);
        match self.slab.take() {
            Some(slab) if copies => frame.data_body = slab.copied(),
            Some(slab) => frame.data_body = Bytes::from_owner(slab),
            None => {}
        }
        frame
    }
}

/// The result of a running statement, as Flight messages. The first one is the schema. Dropping it ends the statement.
pub struct Frames {
    /// The first message.
    first: Option<FlightData>,
    parts: mpsc::Receiver<Part>,
    /// Of the last message that was given away, until the next one is asked for.
    reservation: Option<Arc<Reservation>>,
    /// The client, if parts take room.
    reader: Option<Arc<Reader>>,
    /// The client's connection may be closed.
    may_close: bool,
    /// Messages are decoded, so slabs are left to the worker at once.
    decodes: bool,
    ended: bool,
}

/// A message's body, which has its room until HTTP/2 has sent all of it.
struct Body {
    body: Bytes,
    _reservation: Arc<Reservation>,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Frames {
    /// Waits for the first message.
    pub(super) async fn of(mut parts: mpsc::Receiver<Part>, reader: Option<Arc<Reader>>) -> Result<Frames, QueryError> {
        let first = parts.recv().await.unwrap_or(Err(QueryError::Stopped))?;
        let ended = first.is_none();
        let (first, reservation) = first.map(|mut first| (first.take(true), first.reservation)).unzip();
        let reservation = reservation.flatten().map(Arc::new);
        Ok(Frames { first, parts, reservation, reader, may_close: false, decodes: false, ended })
    }

    /// Lets the connection of the client be closed by `close` if it does not read, and others need what it holds.
    pub fn close_by(&mut self, close: Close) {
        if let Some(reader) = &self.reader {
            reader.close_by(close);
            self.may_close = true;
        }
    }

    /// It is the client's turn, or ours.
    fn has_part(&self, has_part: bool) {
        if let Some(reader) = &self.reader {
            reader.has_part(has_part);
        }
    }
}

impl Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("reservation", &self.reservation).finish_non_exhaustive()
    }
}

impl Stream for Frames {
    type Item = Result<FlightData, QueryError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            self.has_part(true);
            return Poll::Ready(Some(Ok(first)));
        }
        self.reservation = None;
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(part) = self.parts.poll_recv(context) else {
            self.has_part(false);
            return Poll::Pending;
        };
        self.has_part(true);
        Poll::Ready(match part.unwrap_or(Err(QueryError::Stopped)) {
            Ok(Some(mut message)) => {
                let mut frame = message.take(self.decodes);
                self.reservation = message.reservation.map(Arc::new);
                // Those that decode a result in this process may keep all of it.
                if let (Some(reservation), true) = (&self.reservation, self.may_close) {
                    let body = take(&mut frame.data_body);
                    frame.data_body = Bytes::from_owner(Body { body, _reservation: Arc::clone(reservation) });
                }
                Some(Ok(frame))
            }
            end => {
                self.ended = true;
                end.err().map(Err)
            }
        })
    }
}

impl Frames {
    /// The rows, decoded. Its schema is known once the first row, or the end, was seen.
    #[must_use]
    pub fn decode(mut self) -> FlightRecordBatchStream {
        self.decodes = true;
        let frames = self.map_err(|error| FlightError::ExternalError(Box::new(error)));
        FlightRecordBatchStream::new_from_flight_data(frames)
    }
}

/// A batch in parts of about `bytes_max`, or of one row.
pub(super) fn parts(batch: &RecordBatch, bytes_max: usize) -> Vec<RecordBatch> {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_default();
    let bytes: usize = batch.columns().iter().map(bytes).sum();
    let rows = batch.num_rows();
    let rows_a_part = rows.div_ceil(bytes.div_ceil(bytes_max).max(1)).max(1);
    (0..rows).step_by(rows_a_part).map(|start| batch.slice(start, rows_a_part.min(rows - start))).collect()
}

/// The error of a query that Arrow passed on.
#[must_use]
pub fn query_error(error: FlightError) -> QueryError {
    match error {
        FlightError::ExternalError(error) => match error.downcast::<QueryError>() {
            Ok(error) => *error,
            Err(error) => QueryError::Failed(error.to_string()),
        },
        other => QueryError::Failed(other.to_string()),
    }
}

/// A result as messages of about `batch_bytes_max`, or of one row. The first one has the schema.
pub(super) fn frames(
    batches: QueryStream,
    batch_bytes_max: usize,
) -> Result<impl Stream<Item = Result<Encoded, QueryError>>, QueryError> {
    let failed = |error: ArrowError| QueryError::Failed(format!("encode the result: {error}"));
    let schema = batches.schema();
    let mut encoder = Encoder::new(&schema).map_err(failed)?;
    // Each part is encoded when its turn comes.
    let parts = batches.map_ok(move |batch| stream::iter(parts(&batch, batch_bytes_max)).map(Ok)).try_flatten();
    let messages = parts.map(move |part| part.and_then(|part| encoder.encode(&part).map_err(failed)));
    let messages = messages.map_ok(|messages| stream::iter(messages).map(Ok)).try_flatten();
    Ok(stream::iter([Ok(Encoded::schema(&schema))]).chain(messages))
}

/// An engine in this process. The daemon uses [`Workers`].
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct InProcess {
    /// It runs the statements.
    pub(crate) engine: Engine,
    /// Results are split so that a message is about this large at most.
    pub(crate) batch_bytes_max: usize,
}

#[cfg(test)]
#[async_trait]
impl Statements for InProcess {
    async fn prepare(&self, request: &Request) -> Result<Prepared, QueryError> {
        self.engine.prepare(request.clone()).await
    }

    async fn execute(&self, request: &Request) -> Result<Frames, QueryError> {
        let frames = frames(self.engine.execute(request.clone()).await?, self.batch_bytes_max)?;
        let (told, received) = mpsc::channel(FRAMES_AHEAD_MAX);
        tokio::spawn(async move {
            let mut frames = std::pin::pin!(frames);
            while let Some(frame) = futures::StreamExt::next(&mut frames).await {
                let message =
                    |frame: Encoded| Message { frame: frame.into(), slab: None, reservation: None, _ahead: None };
                if told.send(frame.map(|frame| Some(message(frame)))).await.is_err() {
                    return;
                }
            }
            let _ = told.send(Ok(None)).await;
        });
        Frames::of(received, None).await
    }

    async fn tail(
        &self,
        request: &TailRequest,
        _: Option<Close>,
    ) -> Result<BoxStream<'static, Result<FlightData, QueryError>>, QueryError> {
        self.prepare(&Request::new(request.sql()?)).await?;
        Err(QueryError::Start("an engine in this process has no tails".into()))
    }

    async fn moment(&self) -> Result<Moment, QueryError> {
        Ok(self.engine.moment())
    }

    fn time_max(&self) -> Duration {
        self.engine.settings().time_max
    }

    fn sql_views(&self) -> &SqlViews {
        self.engine.sql_views()
    }

    fn begun(&self) -> u64 {
        self.engine.begun()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[tokio::test]
    async fn a_result_without_its_end_is_an_error() {
        for (parts, expected) in [(vec![Ok(None)], None), (vec![], Some("shutting down"))] {
            let (told, received) = mpsc::channel(3);
            let first = Message { frame: FlightData::default(), slab: None, reservation: None, _ahead: None };
            told.send(Ok(Some(first))).await.unwrap();
            for part in parts {
                told.send(part).await.unwrap();
            }
            drop(told);
            let mut frames = Frames::of(received, None).await.unwrap();
            frames.next().await.unwrap().unwrap();
            let end = frames.next().await.map(|end| end.unwrap_err().to_string());
            assert_eq!(end.is_some(), expected.is_some());
            assert!(expected.is_none_or(|expected| end.unwrap().contains(expected)));
            assert!(frames.next().await.is_none());
        }
    }

    #[test]
    fn a_batch_is_split_by_the_bytes_of_its_rows() {
        let texts: StringArray = (0..1_000).map(|_| Some("x".repeat(100))).collect();
        let numbers = Int64Array::from_iter_values(0..1_000);
        let columns: [(&str, ArrayRef); 2] = [("text", Arc::new(texts)), ("number", Arc::new(numbers))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        for (rows, bytes_max) in [(1_000, 1 << 20), (1_000, 20_000), (10, 20_000), (3, 1)] {
            // A slice shares the buffers of all rows, which do not count.
            let batch = batch.slice(500, rows.min(500));
            let parts = parts(&batch, bytes_max);
            assert_eq!(parts.iter().map(RecordBatch::num_rows).sum::<usize>(), batch.num_rows());
            let longest = parts.iter().map(RecordBatch::num_rows).max().unwrap();
            assert!(longest == 1 || longest * 112 <= bytes_max, "{longest} rows of about 112 bytes in {bytes_max}");
            assert!(parts.len() <= (batch.num_rows() * 120).div_ceil(bytes_max).max(1).min(batch.num_rows()) + 1);
        }
        assert!(parts(&batch.slice(0, 0), 1).is_empty());
    }
}
