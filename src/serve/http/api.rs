//! What each path below `/api/v1` answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT, VARY};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::time::timeout;

use super::answer::{Format, Times, run};
use super::range::Range;
use super::refusal::Refusal;
use super::{about, compress, tables, tag};
use crate::query::request::Request;
use crate::query::statements::Statements;
use crate::serve::listener::Peer;
use crate::serve::operator::Operator;
use crate::words::{duration, shortened};

/// A statement, with room for what its longest one needs in another encoding.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Where statements run. It alone takes POST.
pub(super) const SQL_PATH: &str = "/api/v1/sql";
/// The API, described.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// What the API asks.
#[derive(Debug)]
pub(super) struct Api<O> {
    pub(super) operator: Arc<O>,
    pub(super) statements: Arc<dyn Statements>,
    /// How long the body of a request may take to come.
    pub(super) body_time_max: Duration,
}

/// `/api/v1/openapi.json`: this API.
pub(super) async fn openapi(headers: HeaderMap) -> Response {
    cached(&headers, OPENAPI.to_owned())
}

/// `/api/v1/tables`: tables with their columns, in groups.
pub(super) async fn tables<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let status = api.operator.status().await?;
    Ok(cached(&headers, tables::told(&status.collectors).to_string()))
}

/// `/api/v1/status`: what the daemon is and does.
pub(super) async fn status<O: Operator>(State(api): State<Arc<Api<O>>>) -> Result<Response, Refusal> {
    Ok(json(&about::status(&api.operator.status().await?)))
}

/// `/api/v1/alerts`: the rules with their states.
pub(super) async fn alerts<O: Operator>(State(api): State<Arc<Api<O>>>) -> Result<Response, Refusal> {
    Ok(json(&about::alerts(api.operator.alerts().await?)))
}

/// `/api/v1/sql`: the rows of a statement, which is the body or `q`.
pub(super) async fn sql<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let pairs = pairs(&uri, &[])?;
    if let Some((name, _)) = pairs.iter().find(|(name, _)| !["q", "format", "times"].contains(&name.as_str())) {
        return Err(Refusal::wrong(format!("there is no parameter {name:?}: there are q, format and times")));
    }
    let too_long =
        |_| Refusal::with(StatusCode::PAYLOAD_TOO_LARGE, "the statement is longer than 1 MiB, or was cut off");
    let too_late = |_| {
        let within = duration(api.body_time_max);
        let text =
            format!("the body did not come whole within {within}: send as many bytes as Content-Length says, at once");
        Refusal::with(StatusCode::REQUEST_TIMEOUT, text)
    };
    let body = timeout(api.body_time_max, to_bytes(body, BODY_BYTES_MAX)).await.map_err(too_late)?.map_err(too_long)?;
    let body = String::from_utf8(body.to_vec()).map_err(|_| Refusal::wrong("the body is not UTF-8"))?;
    let sql = match (find(&pairs, "q"), body.trim().is_empty()) {
        (Some(_), false) => return Err(Refusal::wrong("there is a statement in `q` and another in the body")),
        (Some(sql), true) => sql.to_owned(),
        (None, false) => body,
        (None, true) => return Err(Refusal::wrong("there is no statement: POST it as the body, or GET it as `q`")),
    };
    answer(&*api.statements, Request::new(sql), peer, &pairs, &headers).await
}

/// `/api/v1/range`: columns of a table over a time, in buckets.
pub(super) async fn range<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let pairs = pairs(&uri, &["column"])?;
    let request = Range::read(&pairs).map_err(Refusal::wrong)?.request();
    answer(&*api.statements, request, peer, &pairs, &headers).await
}

async fn answer(
    statements: &dyn Statements,
    request: Request,
    peer: Peer,
    pairs: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let accepted: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::chosen(find(pairs, "format"), &accepted.join(","))?;
    let times = Times::chosen(find(pairs, "times"))?;
    let client = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let request = Request { client: client.to_owned(), ..request };
    run(statements, &request, peer, format, times).await
}

/// The parameters. Only those of these names may be repeated.
fn pairs(uri: &Uri, repeated: &[&str]) -> Result<Vec<(String, String)>, Refusal> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned() {
        if !repeated.contains(&&*name) && pairs.iter().any(|(other, _)| *other == name) {
            return Err(Refusal::wrong(format!("the parameter {:?} is there twice", shortened(&name))));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn json(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

/// JSON that seldom changes: a client that has it is told only that it is the same.
fn cached(headers: &HeaderMap, text: String) -> Response {
    let whole = || ([(CONTENT_TYPE, "application/json")], text.clone()).into_response();
    let mut response = tag::answer(headers, &tag::of(&text), tag::ASK_AGAIN, whole);
    if response.status() == StatusCode::NOT_MODIFIED {
        // As the answer itself has it.
        response.headers_mut().insert(VARY, compress::VARIES);
    }
    response
}
