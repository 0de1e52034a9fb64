//! Errors as gRPC statuses: a code that clients can act on, a text for people, and the field at fault for programs.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::operator::OperatorError;
use crate::query::QueryError;

/// `INVALID_ARGUMENT` for one field of the request, named by its path in the `.proto` file.
pub(super) fn invalid_field(field: &str, message: impl AsRef<str>) -> Status {
    let message = message.as_ref();
    let details = ErrorDetails::with_bad_request_violation(field, message);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {message}"), details)
}

/// The operator's error about an action, whose fields stand in a message of their own beside the name.
pub(super) fn within(action: &str, error: OperatorError) -> Status {
    match error {
        OperatorError::InvalidArgument { field, message } if field != "name" => {
            invalid_field(&format!("{action}.{field}"), message)
        }
        other => other.into(),
    }
}

impl From<OperatorError> for Status {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::NotFound(message) => Status::not_found(message),
            OperatorError::AlreadyExists(message) => Status::already_exists(message),
            OperatorError::InvalidArgument { field, message } => invalid_field(field, message),
            OperatorError::FailedPrecondition(message) => Status::failed_precondition(message),
            OperatorError::Unavailable(message) => Status::unavailable(message),
            OperatorError::Internal(message) => Status::internal(message),
        }
    }
}

impl From<QueryError> for Status {
    fn from(error: QueryError) -> Self {
        let code = match &error {
            // The statement cannot succeed as it is.
            QueryError::Guard(_) | QueryError::UnknownTable { .. } | QueryError::Invalid(_) | QueryError::Failed(_) => {
                Code::InvalidArgument
            }
            QueryError::Memory { .. } | QueryError::Rows { .. } | QueryError::Busy { .. } => Code::ResourceExhausted,
            QueryError::Time { .. } => Code::DeadlineExceeded,
            QueryError::Stopped => Code::Unavailable,
            QueryError::Panicked(_) | QueryError::Start(_) => Code::Internal,
        };
        Status::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_keeps_its_text_and_gets_the_code_that_clients_act_on() {
        let text = || "cpu: no".to_owned();
        for (error, code) in [
            (OperatorError::NotFound(text()), Code::NotFound),
            (OperatorError::AlreadyExists(text()), Code::AlreadyExists),
            (OperatorError::FailedPrecondition(text()), Code::FailedPrecondition),
            (OperatorError::Unavailable(text()), Code::Unavailable),
            (OperatorError::Internal(text()), Code::Internal),
            (OperatorError::InvalidArgument { field: "cpu", message: "no".to_owned() }, Code::InvalidArgument),
        ] {
            let status = Status::from(error);
            assert_eq!((status.code(), status.message()), (code, "cpu: no"));
        }
        let rows = Status::from(QueryError::Rows { rows_max: 5 });
        assert_eq!(rows.code(), Code::ResourceExhausted);
        assert!(rows.message().contains("rows_max"), "{rows}");
    }
}
