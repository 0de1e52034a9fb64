//! What Prometheus reads, and what paths answer at which there is nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::api::{Api, SQL_PATH};
use super::refusal::Refusal;
use crate::export::prometheus::Format;
use crate::serve::operator::Operator;
use crate::words::shortened;

/// `/metrics`: the newest value of every series.
pub(super) async fn metrics<O: Operator>(
    State(api): State<Arc<Api<O>>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let accepted: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::accepted(&accepted.join(","));
    let text = api.operator.metrics(format).await?;
    Ok(([(CONTENT_TYPE, format.content_type())], text).into_response())
}

/// A method that a path does not take. The header `Allow` has those that it takes.
pub(super) async fn other_method(method: Method, uri: Uri) -> Refusal {
    let taken = if uri.path() == SQL_PATH { "GET or POST" } else { "GET" };
    let text =
        format!("{} takes {taken}, not {}: over HTTP, kymo is only read", uri.path(), shortened(method.as_str()));
    Refusal::with(StatusCode::METHOD_NOT_ALLOWED, text)
}

/// Every other path.
pub(super) async fn absent(uri: Uri) -> Refusal {
    let text = format!("kymo has nothing at {}; /api/v1/openapi.json lists what there is", shortened(uri.path()));
    Refusal::with(StatusCode::NOT_FOUND, text)
}
