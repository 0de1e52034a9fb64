//! What each path answers.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::export::prometheus::Format;
use crate::serve::operator::{Operator, OperatorError};
use crate::words::shortened;

/// `/`: what there is.
pub(super) async fn index<O: Operator>(State(operator): State<Arc<O>>) -> Result<String, Refusal> {
    let status = operator.status().await?;
    let state = if status.degraded.is_empty() { "well" } else { "degraded: see `kymo status`" };
    Ok(format!(
        "kymo {} records {} and is {state}.\n\n/metrics    newest values, for Prometheus\n",
        env!("CARGO_PKG_VERSION"),
        status.host
    ))
}

/// `/metrics`: the newest value of every series.
pub(super) async fn metrics<O: Operator>(
    State(operator): State<Arc<O>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let accepted: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::accepted(&accepted.join(","));
    let text = operator.metrics(format).await?;
    Ok(([(CONTENT_TYPE, format.content_type())], text).into_response())
}

/// Every other path.
pub(super) async fn absent(uri: Uri) -> (StatusCode, String) {
    (StatusCode::NOT_FOUND, format!("kymo has nothing at {}; / lists what there is\n", shortened(uri.path())))
}

/// Why there is no answer.
pub(super) struct Refusal(OperatorError);

impl From<OperatorError> for Refusal {
    fn from(error: OperatorError) -> Refusal {
        Refusal(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.0 {
            OperatorError::NotFound(_) => StatusCode::NOT_FOUND,
            OperatorError::Collector(_) => StatusCode::BAD_REQUEST,
            OperatorError::Hanging(_) | OperatorError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            OperatorError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, format!("{}\n", self.0)).into_response()
    }
}
