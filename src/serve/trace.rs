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
    let caller = caller.map_or_else(|| "nobody".to_owned(), |caller| caller.to_string());
    let mut audited = Audited { line: format!("{caller}: {what}"), outcome: None };
    let reply = control(method, work).await;
    audited.outcome = Some(match &reply {
        Ok(_) => "done".to_owned(),
        Err(status) => format!("refused: {}", status.message()),
    });
    reply
}

/// Says in the log how a change ended, also when its client goes away before that and nobody waits for it any more.
struct Audited {
    line: String,
    outcome: Option<String>,
}

impl Drop for Audited {
    fn drop(&mut self) {
        let outcome = self.outcome.as_deref().unwrap_or("its client went away, and it may have been done");
        tracing::info!(target: "kymo::audit", "{}: {outcome}", self.line);
    }
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use futures::FutureExt;
    use tracing::subscriber::with_default;

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Logged(Arc<Mutex<Vec<u8>>>);

    impl Write for Logged {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_change_has_its_line_however_it_ends() {
        let logged = Logged::default();
        let writer = logged.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        with_default(subscriber, || {
            let done = change("Flush", None, "flush".to_owned(), async { Ok(()) }).now_or_never();
            assert!(done.is_some_and(|reply| reply.is_ok()));
            let refused = async { Err::<(), _>(Status::not_found("no such collector")) };
            assert!(change("Flush", None, "stop x".to_owned(), refused).now_or_never().is_some());
            let gone = change("Flush", None, "stop y".to_owned(), pending::<Result<(), Status>>());
            assert!(gone.now_or_never().is_none());
        });
        let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
        for line in [
            "nobody: flush: done",
            "nobody: stop x: refused: no such collector",
            "nobody: stop y: its client went away",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
