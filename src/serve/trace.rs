//! Spans around control calls and queries. A failure is recorded in the fields that OpenTelemetry reads.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use arrow_flight::FlightData;
use futures::Stream;
use futures::stream::BoxStream;
use tonic::{Response, Status};
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use super::auth::caller::Caller;
use crate::query::ipc::rows_of;

/// What a call is answered with.
pub(super) type Reply<T> = Result<Response<T>, Status>;

/// A span has at most this much of its statement.
const SQL_BYTES_MAX: usize = 1024;

/// Answers a call that changes something, in a span of its own. A line of the log says who wanted what, and how it ended.
pub(super) async fn change<T>(
    method: &'static str,
    caller: Option<Caller>,
    what: String,
    work: impl Future<Output = Result<T, Status>>,
) -> Reply<T> {
    let reply = control(method, work).await;
    let caller = caller.map_or_else(|| "nobody".to_owned(), |caller| caller.to_string());
    match &reply {
        Ok(_) => tracing::info!(target: "kymo::audit", "{caller}: {what}: done"),
        Err(status) => tracing::info!(target: "kymo::audit", "{caller}: {what}: refused: {}", status.message()),
    }
    reply
}

/// Answers one control call, in a span of its own.
pub(super) async fn control<T>(method: &'static str, work: impl Future<Output = Result<T, Status>>) -> Reply<T> {
    let span = info_span!(
        "control",
        otel.kind = "server",
        otel.status_code = Empty,
        otel.status_description = Empty,
        rpc.method = method
    );
    within(&span, work).await.map(Response::new)
}

/// The span of planning or executing one statement.
pub(super) fn query(method: &'static str, sql: &str) -> Span {
    info_span!(
        "query",
        otel.kind = "server",
        otel.status_code = Empty,
        otel.status_description = Empty,
        rpc.method = method,
        db.query.text = &sql[..sql.floor_char_boundary(SQL_BYTES_MAX)],
        rows = Empty
    )
}

/// Does `work` in `span` and marks the span when it fails.
pub(super) async fn within<T>(span: &Span, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let outcome = work.instrument(span.clone()).await;
    if let Err(status) = &outcome {
        fail(span, status);
    }
    outcome
}

fn fail(span: &Span, status: &Status) {
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", status.message());
}

/// The messages of a result. Each is waited for within the query's span. The span ends with them and has their number of rows.
pub(super) struct TracedFrames {
    pub(super) frames: BoxStream<'static, Result<FlightData, Status>>,
    pub(super) span: Span,
    pub(super) rows: u64,
}

impl Stream for TracedFrames {
    type Item = Result<FlightData, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let entered = this.span.enter();
        let item = ready!(this.frames.as_mut().poll_next(context));
        drop(entered);
        match &item {
            Some(Ok(frame)) => this.rows += rows_of(&frame.data_header),
            Some(Err(status)) => fail(&this.span, status),
            None => {}
        }
        Poll::Ready(item)
    }
}

impl Drop for TracedFrames {
    fn drop(&mut self) {
        // A client that went away early got only these rows.
        self.span.record("rows", self.rows);
    }
}
