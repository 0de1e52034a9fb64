//! Why there is no answer, as JSON.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::query::{ErrorKind, QueryError};
use crate::serve::operator::OperatorError;

/// A status, and a sentence for people.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    text: String,
}

impl Refusal {
    /// The request is wrong in the way that `text` says.
    pub(super) fn wrong(text: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::BAD_REQUEST, text: text.into() }
    }

    pub(super) fn with(status: StatusCode, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into() }
    }
}

impl From<OperatorError> for Refusal {
    fn from(error: OperatorError) -> Refusal {
        let status = match error {
            OperatorError::NotFound(_) => StatusCode::NOT_FOUND,
            OperatorError::Collector(_) => StatusCode::BAD_REQUEST,
            OperatorError::Hanging(_) | OperatorError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            OperatorError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal { status, text: error.to_string() }
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Refusal {
        let status = match error.kind() {
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            ErrorKind::Limit => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Time => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal { status, text: error.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, [(CONTENT_TYPE, "application/json")], format!("{}\n", json!({ "error": self.text })))
            .into_response()
    }
}
