//! The requests of one connection, one after the other.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::places::Place;
use crate::serve::listener::Peer;
use crate::serve::tls::{Tls, Within};

/// The size of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a request that runs may take once the server stops.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// How long what may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The head of a request, which is also the time that a connection may be idle.
    head_max: Duration,
    /// How long a connection takes requests. Clients open a new one then. A request that runs has as long once more, so each has at
    /// least this time; clients that do not read lose their place.
    requests_max: Duration,
    /// A request that runs, once the server stops or the connection has lost its place.
    grace: Duration,
}

impl Times {
    pub(super) fn new(head_max: Duration) -> Times {
        Times { head_max, requests_max: Duration::from_secs(300), grace: GRACE }
    }
}

/// Answers the requests of a connection until it ends, stops, or has to give its place to another one.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    place: Place,
    router: Router,
    times: Times,
    mut stopping: watch::Receiver<()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(times.head_max).max_buf_size(HEAD_BYTES_MAX);
    // With the connection, for answers that are not read.
    let answers = TowerToHyperService::new(router.layer(Extension(peer)));
    let place = Arc::new(place);
    let own = Arc::clone(&place);
    let answers = service_fn(move |request: Request<Incoming>| {
        let (busy, answer) = (own.busy(), answers.call(request));
        Box::pin(async move { answer.await.map(|response| busy.until_sent(response)) })
    });
    let mut served = http.serve_connection(TokioIo::new(stream), answers);
    let mut stops = pin!(async {
        tokio::select! {
            () = place.given_up() => {}
            _ = stopping.changed() => {}
        }
    });
    let mut ended = tokio::select! {
        ended = poll_fn(|context| served.poll_without_shutdown(context)) => Some(ended),
        () = &mut stops => None,
        () = sleep(times.requests_max) => {
            Pin::new(&mut served).graceful_shutdown();
            tokio::select! {
                ended = poll_fn(|context| served.poll_without_shutdown(context)) => Some(ended),
                () = &mut stops => None,
                () = sleep(times.requests_max) => return,
            }
        }
    };
    if ended.is_none() {
        // What hyper still has of an answer is sent.
        Pin::new(&mut served).graceful_shutdown();
        let rest = poll_fn(|context| served.poll_without_shutdown(context));
        ended = timeout(times.grace, rest).await.ok();
    }
    let Some(ended) = ended else { return };
    let parts = served.into_parts();
    let mut stream = parts.io.into_inner();
    let has_begun = !parts.read_buf.is_empty();
    // Whatever went wrong, the client has gone or is told.
    if has_begun && ended.is_err_and(|error| error.is_timeout()) {
        let _ = stream.write_all(late(times.head_max).as_bytes()).await;
    }
    let _ = stream.shutdown().await;
}

/// The same within TLS. A connection may lose its place while hands are shaken.
pub(super) async fn converse_within(
    tls: Arc<Tls>,
    stream: TcpStream,
    peer: Peer,
    place: Place,
    router: Router,
    times: Times,
    mut stopping: watch::Receiver<()>,
) {
    let shaken = tokio::select! {
        shaken = tls.shake(stream, Within::Http) => shaken,
        () = place.given_up() => return,
        _ = stopping.changed() => return,
    };
    match shaken {
        Ok(stream) => converse(stream, peer, place, router, times, stopping).await,
        Err(error) => tracing::debug!(peer = %peer.origin(), "no TLS: {error}"),
    }
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::super::places::Places;
    use super::*;
    use crate::serve::listener::Origin;

    #[tokio::test]
    async fn the_last_request_of_a_connection_has_as_long_as_any_other() {
        const SLOW: Duration = Duration::from_millis(220);
        let ms = Duration::from_millis;
        let times = Times { head_max: ms(5_000), requests_max: ms(150), grace: ms(1) };
        let slow = async || {
            sleep(SLOW).await;
            "whole"
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::task::spawn_blocking(move || {
            let mut connection = std::net::TcpStream::connect(address).unwrap();
            connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut answer = String::new();
            connection.read_to_string(&mut answer).unwrap();
            answer
        });
        let (stream, from) = listener.accept().await.unwrap();
        let peer = Peer::of(&stream, Origin::Tcp(from));
        let (_stop, stopping) = watch::channel(());
        let place = Places::new(1).take().unwrap();
        converse(stream, peer, place, Router::new().route("/", get(slow)), times, stopping).await;
        let answer = client.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("whole"), "{answer}");
    }
}
