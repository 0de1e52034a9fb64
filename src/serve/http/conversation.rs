//! The requests of one connection, one after the other.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::places::Place;
use crate::serve::listener::Peer;

/// The size of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a connection may last. Clients open a new one then, and those that do not read lose their place.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);
/// How long a request that runs may take once its connection is to end.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Answers the requests of a connection until it ends, stops, or has to give its place to another one. The head of a request may take
/// `head_time_max`, which is also the time that a connection may be idle.
pub(super) async fn converse(
    stream: TcpStream,
    place: Place,
    router: Router,
    head_time_max: Duration,
    mut stopping: watch::Receiver<()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_time_max).max_buf_size(HEAD_BYTES_MAX);
    // With the connection, for answers that are not read.
    let answers = TowerToHyperService::new(router.layer(Extension(Peer::of(&stream))));
    let place = Arc::new(place);
    let own = Arc::clone(&place);
    let answers = service_fn(move |request: Request<Incoming>| {
        let (busy, answer) = (own.busy(), answers.call(request));
        Box::pin(async move { answer.await.map(|response| busy.until_sent(response)) })
    });
    let mut served = http.serve_connection(TokioIo::new(stream), answers);
    let ended = tokio::select! {
        ended = poll_fn(|context| served.poll_without_shutdown(context)) => Some(ended),
        // What hyper still has of an answer is sent.
        () = place.given_up() => None,
        _ = stopping.changed() => None,
        () = sleep(CONNECTION_TIME_MAX) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut served).graceful_shutdown();
            let rest = poll_fn(|context| served.poll_without_shutdown(context));
            let Ok(ended) = timeout(GRACE, rest).await else { return };
            ended
        }
    };
    let parts = served.into_parts();
    let mut stream = parts.io.into_inner();
    let has_begun = !parts.read_buf.is_empty();
    // Whatever went wrong, the client has gone or is told.
    if has_begun && ended.is_err_and(|error| error.is_timeout()) {
        let _ = stream.write_all(late(head_time_max).as_bytes()).await;
    }
    let _ = stream.shutdown().await;
}

/// The answer to a request whose head did not come whole.
fn late(head_time_max: Duration) -> String {
    let text = format!(
        "{{\"error\":\"the head of the request did not come whole within {}: send it at once, and end it with an empty line\"}}\n",
        crate::words::duration(head_time_max)
    );
    format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\n\r\n{text}",
        text.len()
    )
}
