//! HTTP as its clients see it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::ipc::reader::StreamReader;
use flate2::read::GzDecoder;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use prost::bytes::Bytes;
use tokio::sync::oneshot;

use super::super::http::{HttpServer, HttpSettings, HttpState, REQUEST_TIME_MAX};
use super::super::security::{Security, SecuritySettings};
use super::{Fake, engine};
use crate::query::QuerySettings;

/// A server on this port, and what ends it.
fn start(port: u16) -> (HttpState, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    start_with(port, REQUEST_TIME_MAX)
}

fn start_with(port: u16, request_time_max: Duration) -> (HttpState, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let address = Some(SocketAddr::from(([127, 0, 0, 1], port)));
    let settings = HttpSettings { address, connections_max: 4, request_time_max };
    let (state, (stop, stops)) = (HttpState::default(), oneshot::channel::<()>());
    let statements = engine(QuerySettings::default());
    let security = Security::open(&SecuritySettings::default()).unwrap();
    let server = HttpServer::new(settings, &security, Arc::new(Fake::default()), statements, state.clone());
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
fn joined(chunks: &str) -> String {
    String::from_utf8(joined_bytes(chunks.as_bytes())).unwrap()
}

fn joined_bytes(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|pair| pair == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).unwrap(), 16).unwrap();
        body.extend(&chunks[end + 2..end + 2 + length]);
        chunks = chunks.get(end + 4 + length..).unwrap_or_default();
    }
    body
}

async fn get_bytes(address: SocketAddr, path: &str, headers: &str) -> (String, Vec<u8>) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    let ask = move || {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        let body = answer.split_off(head);
        let head = String::from_utf8_lossy(&answer).to_lowercase();
        let body = if head.contains("transfer-encoding: chunked") { joined_bytes(&body) } else { body };
        (head, body)
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

fn unpacked(gzip: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(gzip).read_to_end(&mut bytes).unwrap();
    bytes
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
    refused(&format!("GET /metrics HTTP/1.1|Host: localhost|X: {}||", "x".repeat(20_000)), "431").await;
    refused(
        "GET / HTTP/1.1|Host: localhost|Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: no-cors|Connection: close||",
        "403",
    )
    .await;
    refused("GET /web/0/main.js HTTP/1.1|Host: localhost|Connection: close||", "404").await;
    for (request, allow, part) in [
        ("POST /metrics", "get", "/metrics takes GET, not POST"),
        ("DELETE /api/v1/sql", "post", "/api/v1/sql takes GET or POST, not DELETE"),
        ("PUT /web/0/main.js", "get", "takes GET, not PUT"),
    ] {
        let request =
            format!("{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let (head, body) = answer(address, request).await;
        let allowed = head.lines().find_map(|line| line.strip_prefix("allow: ")).unwrap_or_default();
        assert!(head.starts_with("http/1.1 405") && allowed.contains(allow) && body.contains(part), "{head} {body}");
    }
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
        ("/api/v1/sql?q=SELECT+1&format=xml", 400, "arrow, json, csv or parquet"),
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
async fn a_format_that_there_is_not_is_answered_with_those_that_there_are() {
    let (state, _stop, _serving) = start(0);
    let address = address(&state).await;
    let (head, body) = get(address, "/api/v1/sql?q=SELECT+1", "Accept: text/html, image/*;q=0.9\r\n").await;
    assert!(head.starts_with("http/1.1 406"), "{head}");
    for name in
        ["application/json", "text/csv", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"]
    {
        assert!(body.contains(name), "{body}");
    }
    let several = "Accept: application/json;q=0.1\r\nAccept: text/csv;q=0.2\r\n";
    let (head, _) = get(address, "/api/v1/sql?q=SELECT+1", several).await;
    assert!(head.contains("content-type: text/csv"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cells_of_csv_have_lists_as_json_and_a_parquet_file_has_them_as_they_are() {
    let (state, _stop, _serving) = start(0);
    let address = address(&state).await;
    let query = "/api/v1/sql?q=SELECT+make_array(lost,+2)+AS+list,+collector+FROM+gap+ORDER+BY+time+LIMIT+2";
    let (_, body) = get(address, &format!("{query}&format=csv"), "").await;
    assert_eq!(body, "list,collector\n\"[0,2]\",even\n\"[1,2]\",odd\n");
    let (head, body) = get_bytes(address, &format!("{query}&format=parquet"), "Accept-Encoding: gzip\r\n").await;
    assert!(head.contains("content-type: application/vnd.apache.parquet") && !head.contains("gzip"), "{head}");
    for (format, told) in [("csv", "map,late\n\"{\"\"1\"\":0}\",even"), ("json", r#"[{"1":0},"even"]"#)] {
        let query = "/api/v1/sql?q=SELECT+map([1],[lost])+AS+map,+collector+AS+late+FROM+gap+ORDER+BY+time+LIMIT+1";
        let (_, body) = get(address, &format!("{query}&format={format}"), "").await;
        assert!(body.contains(told), "{body}");
    }
    let file = ParquetRecordBatchReader::try_new(Bytes::from(body), 100).unwrap();
    let rows: Vec<_> = file.map(|batch| batch.unwrap()).collect();
    assert_eq!(rows.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 2);
    assert!(rows[0].schema().field(0).data_type().is_list());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compressed_for_clients_that_take_gzip() {
    let (state, _stop, _serving) = start(0);
    let address = address(&state).await;
    let long = "/api/v1/sql?q=SELECT+repeat('ab',+1000)+AS+a,+lost+FROM+gap&format=csv";
    for path in ["/api/v1/openapi.json", long] {
        let (head, plain) = get_bytes(address, path, "").await;
        assert!(head.contains("vary: accept-encoding") && !head.contains("content-encoding"), "{head}");
        let (head, packed) = get_bytes(address, path, "Accept-Encoding: br, gzip;q=0.8\r\n").await;
        assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept-encoding"), "{head}");
        assert!(packed.len() * 3 < plain.len() && unpacked(&packed) == plain, "{} of {}", packed.len(), plain.len());
    }
    let (head, _) = get_bytes(address, "/api/v1/nothing", "Accept-Encoding: gzip\r\n").await;
    assert!(!head.contains("content-encoding"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_is_not_sent_again() {
    let (state, _stop, _serving) = start(0);
    let address = address(&state).await;
    let (_, index) = get_bytes(address, "/", "").await;
    let index = String::from_utf8(unpacked(&index)).unwrap();
    let script = index.split('"').find(|part| part.ends_with("/main.js")).unwrap();
    for (path, keep) in [
        ("/", "no-cache"),
        ("/api/v1/openapi.json", "no-cache"),
        ("/api/v1/tables", "no-cache"),
        (script, "public, max-age=31536000, immutable"),
    ] {
        let (head, _) = get_bytes(address, path, "").await;
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap_or_else(|| panic!("{path}: {head}"));
        let known = format!("If-None-Match: \"other\", {}\r\n", tag.replace("w/", "W/"));
        let (again, body) = get_bytes(address, path, &known).await;
        assert!(again.starts_with("http/1.1 304") && body.is_empty(), "{path}: {again}");
        assert_eq!(head.contains("vary: accept-encoding"), again.contains("vary: accept-encoding"), "{path}");
        assert!(path != "/api/v1/tables" || again.contains("vary: accept-encoding"), "{again}");
        for head in [&head, &again] {
            assert!(head.contains(&format!("cache-control: {keep}\r")) && head.contains(tag), "{path}: {head}");
        }
    }
    // What changes has neither a tag nor a place in a cache.
    let (head, _) = get_bytes(address, "/api/v1/status", "").await;
    assert!(head.contains("cache-control: no-store") && !head.contains("etag"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_do_not_come_whole_are_told_so() {
    let (state, _stop, _serving) = start_with(0, Duration::from_millis(200));
    let address = address(&state).await;
    for (request, part) in [
        ("GET /metrics HTTP/1.1\r\nHost: local", "end it with an empty line"),
        ("POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nSELECT", "Content-Length"),
    ] {
        let (head, body) = answer(address, request.to_owned()).await;
        assert!(head.starts_with("http/1.1 408") && body.contains(part), "{head} {body}");
    }
    // Nothing is told to a connection on which nothing was asked.
    assert_eq!(answer(address, String::new()).await.0, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_of_the_description_is_answered() {
    let (state, _stop, _serving) = start(0);
    let address = address(&state).await;
    let (head, body) = get(address, "/api/v1/openapi.json", "").await;
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().replace("w/", "W/");
    let (again, _) = get(address, "/api/v1/openapi.json", &format!("If-None-Match: {tag}\r\n")).await;
    assert!(again.starts_with("http/1.1 304"), "{again}");
    let described: serde_json::Value = serde_json::from_str(&body).unwrap();
    let paths = described["paths"].as_object().unwrap();
    for path in paths.keys().filter(|path| !path.contains('{')) {
        let (head, body) = get_bytes(address, path, "").await;
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
async fn idle_connections_give_way_and_busy_ones_do_not_delay_the_end() {
    let (state, stop, serving) = start(0);
    let address = address(&state).await;
    let connect = move |begun: &str| {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        connection.write_all(begun.as_bytes()).unwrap();
        connection
    };
    let asked = move |mut connection: TcpStream| {
        connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut begun = [0; 12];
        connection.read_exact(&mut begun).unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200");
        connection
    };
    let is_closed = |connection: &mut TcpStream| matches!(connection.read(&mut vec![0; 1 << 16]), Ok(0) | Err(_));
    let check = move || {
        // Four that ask nothing, and one that had its answer.
        let mut idle: Vec<TcpStream> = (0..4).map(|_| connect("")).collect();
        let fifth = asked(connect(""));
        assert!(is_closed(&mut idle[0]));
        // On these, a request runs for as long as its body does not come.
        let post = "POST /api/v1/sql HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
        let busy: Vec<TcpStream> = (0..4)
            .map(|_| {
                let mut connection = connect(post);
                let mut begun = [0; 12];
                connection.read_exact(&mut begun).unwrap();
                assert_eq!(&begun, b"HTTP/1.1 100");
                connection
            })
            .collect();
        let refused = is_closed(&mut connect(""));
        assert!(refused && idle.iter_mut().skip(1).all(is_closed));
        (busy, fifth)
    };
    let open = tokio::task::spawn_blocking(check).await.unwrap();
    let began = Instant::now();
    drop(stop);
    serving.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(open);
}
