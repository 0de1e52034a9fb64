//! HTTP as its clients see it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::ipc::reader::StreamReader;
use tokio::sync::oneshot;

use super::super::http::{HttpServer, HttpSettings, HttpState};
use super::{Fake, engine};
use crate::query::QuerySettings;

/// A server on this port, and what ends it.
fn start(port: u16) -> (HttpState, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let address = Some(SocketAddr::from(([127, 0, 0, 1], port)));
    let settings = HttpSettings { address, connections_max: 4 };
    let (state, (stop, stops)) = (HttpState::default(), oneshot::channel::<()>());
    let statements = engine(QuerySettings::default());
    let server = HttpServer::new(settings, Arc::new(Fake::default()), statements, state.clone());
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
        let head = head.to_lowercase();
        let body = if head.contains("transfer-encoding: chunked") { joined(body) } else { body.to_owned() };
        (head, body)
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// The chunks of a body, without their lengths.
fn joined(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((length, rest)) = chunks.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body += &rest[..length];
        chunks = rest.get(length + 2..).unwrap_or_default();
    }
    body
}

async fn get_bytes(address: SocketAddr, path: &str) -> (String, Vec<u8>) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let ask = move || {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap_or(answer.len());
        let body = answer.split_off(head);
        (String::from_utf8_lossy(&answer).to_lowercase(), body)
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
    refused(
        "GET / HTTP/1.1|Host: localhost|Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: no-cors|Connection: close||",
        "403",
    )
    .await;
    refused("GET /web/0/main.js HTTP/1.1|Host: localhost|Connection: close||", "404").await;
    refused("DELETE /api/v1/sql HTTP/1.1|Host: localhost|Connection: close||", "405").await;
    refused("nonsense||", "400").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_answered_in_three_formats() {
    let (state, _stop, _serving) = start(0);
    let address = address(&state).await;
    let query = "/api/v1/sql?q=SELECT+time,+collector,+lost+FROM+gap+ORDER+BY+time+LIMIT+2";
    let ask = async |more: &str, headers: &str| get(address, &format!("{query}{more}"), headers).await;
    let (head, body) = ask("", "Accept: text/csv\r\n").await;
    assert!(head.contains("content-type: text/csv") && head.contains("cache-control: no-store"), "{head}");
    assert!(body.contains("time,collector,lost\n1970-01-01T00:00:00Z,even,0\n1970-01-01T00:00:01Z,odd,1\n"), "{body}");
    let (_, body) = ask("&format=json&times=us", "Accept: text/csv\r\n").await;
    assert!(body.contains(r#"{"columns":[{"name":"time","type":"int64"},"#), "{body}");
    assert!(body.contains(r#"[0,"even",0],[1000000,"odd",1]]}"#), "{body}");
    let post = "POST /api/v1/sql?format=json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\nConnection: close\r\n\r\nSELECT 1";
    let (_, body) = answer(address, post.to_owned()).await;
    assert!(body.contains(r#""rows":[ [1]]}"#), "{body}");
    let range = "/api/v1/range?table=gap&column=lost&from=0&to=20000000&buckets=2&collector=even&times=us";
    let (_, body) = get(address, range, "").await;
    // Ten of the twenty rows are of this collector: 0, 2, … 8 and 10, … 18.
    assert!(body.contains(r#"["even","late",0,8000000,0.0,8.0,4.0,5,"raw","alpha"]"#), "{body}");
    assert!(body.contains(r#"["even","late",10000000,18000000,10.0,18.0,14.0,5,"raw","alpha"]"#), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_arrow_is_read_by_its_own_reader() {
    let (state, _stop, _serving) = start(0);
    let address = address(&state).await;
    let ask = move || {
        let mut connection = TcpStream::connect(address).unwrap();
        let path = "/api/v1/sql?format=arrow&q=SELECT+*+FROM+gap";
        write!(connection, "GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        let rows = StreamReader::try_new(&answer[head..], None).unwrap().map(|batch| batch.unwrap().num_rows());
        rows.sum::<usize>()
    };
    assert_eq!(tokio::task::spawn_blocking(ask).await.unwrap(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_sentences_with_fitting_statuses() {
    let (state, _stop, _serving) = start(0);
    let address = address(&state).await;
    for (path, status, part) in [
        ("/api/v1/sql", 400, "there is no statement"),
        ("/api/v1/sql?q=SELECT+x+FROM+gap", 400, "not valid"),
        ("/api/v1/sql?q=DROP+TABLE+gap", 400, "error"),
        ("/api/v1/sql?q=SELECT+1&format=xml", 400, "arrow, json or csv"),
        ("/api/v1/sql?query=SELECT+1", 400, "there is no parameter"),
        ("/api/v1/range?table=gap&column=lost&from=5&to=5", 400, "before"),
        ("/api/v1/range?table=gap&table=cpu&column=lost&from=5&to=6", 400, "twice"),
        ("/api/v1/range?table=gap&column=lost&from=1&to=2&collector=%00%27;--", 200, "[]"),
        ("/api/v1/nothing", 404, "openapi.json"),
    ] {
        let (head, body) = get(address, path, "").await;
        assert!(head.starts_with(&format!("http/1.1 {status}")) && body.contains(part), "{path}: {head} {body}");
        assert!(status == 200 || body.contains(r#"{"error":"#), "{path}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_of_the_description_is_answered() {
    let (state, _stop, _serving) = start(0);
    let address = address(&state).await;
    let (head, body) = get(address, "/api/v1/openapi.json", "").await;
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let (again, _) = get(address, "/api/v1/openapi.json", &format!("If-None-Match: {tag}\r\n")).await;
    assert!(again.starts_with("http/1.1 304"), "{again}");
    let described: serde_json::Value = serde_json::from_str(&body).unwrap();
    let paths = described["paths"].as_object().unwrap();
    for path in paths.keys().filter(|path| !path.contains('{')) {
        let (head, body) = get_bytes(address, path).await;
        let needs_parameters = ["/api/v1/sql", "/api/v1/range"].contains(&path.as_str());
        let status = if needs_parameters { "400" } else { "200" };
        assert!(head.starts_with(&format!("http/1.1 {status}")) && !body.is_empty(), "{path}: {head}");
    }
    assert_eq!(paths.len(), 9);
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
