//! HTTP as its clients see it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::http::{HttpServer, HttpSettings, HttpState};
use super::Fake;

/// A server on this port, and what ends it.
fn start(port: u16) -> (HttpState, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let address = Some(SocketAddr::from(([127, 0, 0, 1], port)));
    let settings = HttpSettings { address, connections_max: 4 };
    let (state, (stop, stops)) = (HttpState::default(), oneshot::channel::<()>());
    let server = HttpServer::new(settings, Arc::new(Fake::default()), state.clone());
    (state, stop, tokio::spawn(server.run(async { drop(stops.await) })))
}

async fn address(state: &HttpState) -> SocketAddr {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(address) = state.address() {
            return address;
        }
        assert!(Instant::now() < until, "{:?}", state.trouble());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The head and the body of the answer to a request.
async fn answer(address: SocketAddr, request: String) -> (String, String) {
    let ask = move || {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.to_lowercase(), body.to_owned())
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

async fn get(address: SocketAddr, path: &str, headers: &str) -> (String, String) {
    answer(address, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_in_the_format_that_is_asked_for() {
    let (state, stop, serving) = start(0);
    let address = address(&state).await;
    let (head, body) = get(address, "/metrics", "").await;
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    assert_eq!(body, "Text\n");
    let (head, body) = get(address, "/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n").await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert_eq!(body, "OpenMetrics\n");
    let (head, body) = get(address, "/", "").await;
    assert!(head.starts_with("http/1.1 200 ok") && body.contains("records ember and is degraded"), "{head} {body}");
    drop(stop);
    serving.await.unwrap();
    assert_eq!(state.address(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_else_is_asked_is_refused() {
    let (state, _stop, _serving) = start(0);
    let address = address(&state).await;
    let refused = async |request: &str, status: &str| {
        let (head, _) = answer(address, request.replace('|', "\r\n")).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{request}: {head}");
    };
    refused("GET /../etc/passwd HTTP/1.1|Host: localhost|Connection: close||", "404").await;
    refused("GET /metrics HTTP/1.1|Host: rebound.example|Connection: close||", "421").await;
    refused("GET /metrics HTTP/1.1|Host: localhost|Origin: http://evil.example|Connection: close||", "403").await;
    refused("GET /metrics HTTP/1.1|Connection: close||", "400").await;
    refused("POST /metrics HTTP/1.1|Host: localhost|Content-Length: 0|Connection: close||", "405").await;
    refused(&format!("GET /metrics HTTP/1.1|Host: localhost|X: {}||", "x".repeat(20_000)), "431").await;
    refused("nonsense||", "400").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_told_and_had_once_it_is_free() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let (state, stop, serving) = start(taken.port());
    let until = Instant::now() + Duration::from_secs(30);
    let trouble = loop {
        if let Some(trouble) = state.trouble() {
            break trouble;
        }
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(trouble.starts_with(&format!("no HTTP on {taken}: another program has the port")), "{trouble}");
    drop(other);
    assert_eq!(address(&state).await, taken);
    assert_eq!(state.trouble(), None);
    drop(stop);
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_do_not_delay_the_end() {
    let (state, stop, serving) = start(0);
    let address = address(&state).await;
    let slow: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut connection = TcpStream::connect(address).unwrap();
            connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: local").unwrap();
            connection
        })
        .collect();
    let closed = tokio::task::spawn_blocking(move || {
        let mut one_more = TcpStream::connect(address).unwrap();
        // The place of the fifth is refused, or its connection reset.
        matches!(one_more.read(&mut [0]), Ok(0) | Err(_))
    });
    assert!(closed.await.unwrap());
    let began = Instant::now();
    drop(stop);
    serving.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(slow);
}
