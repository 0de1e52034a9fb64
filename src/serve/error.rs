//! Errors as gRPC statuses: a code that clients can act on, a text for people, and the field at fault for programs.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::operator::OperatorError;
use crate::collector::{CollectorError, CollectorField};
use crate::query::{ErrorKind, QueryError};

/// What the field `force` would do for an interval that is too short.
const FORCE_ALLOWS: &str = "allows a shorter interval";

/// `INVALID_ARGUMENT` for one field of the request, named by its path in the `.proto` file.
pub(super) fn invalid_field(field: &str, message: impl AsRef<str>) -> Status {
    let message = message.as_ref();
    let details = ErrorDetails::with_bad_request_violation(field, message);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {message}"), details)
}

/// The operator's error about `action`, which is the name of the message that has the collector's fields.
pub(super) fn within(action: &str, error: OperatorError) -> Status {
    let error = match error {
        OperatorError::Collector(error) => error,
        other => return other.into(),
    };
    let text = error.to_string();
    match error {
        CollectorError::Exists(_) => Status::already_exists(text),
        CollectorError::Taken { .. } | CollectorError::Full => Status::failed_precondition(text),
        CollectorError::TooShort { .. } => {
            let (interval, force) = (format!("{action}.interval"), format!("{action}.force"));
            let message = format!("{interval}: {text}; {force} allows it");
            let mut details = ErrorDetails::with_bad_request_violation(interval, text);
            details.add_bad_request_violation(force, FORCE_ALLOWS);
            Status::with_error_details(Code::InvalidArgument, message, details)
        }
        error => match error.field() {
            CollectorField::Name => invalid_field("name", text),
            CollectorField::Interval => invalid_field(&format!("{action}.interval"), text),
            CollectorField::Families => invalid_field(&format!("{action}.families"), text),
        },
    }
}

impl From<OperatorError> for Status {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::NotFound(message) => Status::not_found(message),
            OperatorError::Collector(error) => Status::invalid_argument(error.to_string()),
            OperatorError::Hanging(message) => Status::failed_precondition(message),
            OperatorError::Unavailable(message) => Status::unavailable(message),
            OperatorError::Internal(message) => Status::internal(message),
        }
    }
}

impl From<QueryError> for Status {
    fn from(error: QueryError) -> Self {
        let code = match error.kind() {
            ErrorKind::Invalid => Code::InvalidArgument,
            ErrorKind::Limit => Code::ResourceExhausted,
            ErrorKind::Time => Code::DeadlineExceeded,
            ErrorKind::Stopped => Code::Unavailable,
            ErrorKind::Internal => Code::Internal,
        };
        Status::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::family::FamilyId;

    #[test]
    fn every_error_keeps_its_text_and_gets_the_code_that_clients_act_on() {
        let text = || "cpu: no".to_owned();
        for (error, code) in [
            (OperatorError::NotFound(text()), Code::NotFound),
            (OperatorError::Hanging(text()), Code::FailedPrecondition),
            (OperatorError::Unavailable(text()), Code::Unavailable),
            (OperatorError::Internal(text()), Code::Internal),
        ] {
            let status = Status::from(error);
            assert_eq!((status.code(), status.message()), (code, "cpu: no"));
        }
        let cpu = FamilyId::find("cpu").unwrap();
        let interval = Duration::from_millis(1);
        for (error, code, fields) in [
            (CollectorError::Exists("a".to_owned()), Code::AlreadyExists, &[][..]),
            (CollectorError::Full, Code::FailedPrecondition, &[]),
            (CollectorError::Taken { family: cpu, owner: "a".to_owned() }, Code::FailedPrecondition, &[]),
            (CollectorError::Name("A".to_owned()), Code::InvalidArgument, &["name"]),
            (CollectorError::Range(interval), Code::InvalidArgument, &["retune.interval"]),
            (
                CollectorError::TooShort { interval, family: cpu },
                Code::InvalidArgument,
                &["retune.interval", "retune.force"],
            ),
            (CollectorError::Unknown("cpo".to_owned()), Code::InvalidArgument, &["retune.families"]),
        ] {
            let status = within("retune", error.clone().into());
            assert_eq!(status.code(), code, "{error}");
            assert!(status.message().contains(&error.to_string()), "{status}");
            let violations = status.get_details_bad_request().map(|request| request.field_violations);
            let named: Vec<_> = violations.into_iter().flatten().map(|violation| violation.field).collect();
            assert_eq!(named, fields, "{error}");
        }
        let rows = Status::from(QueryError::Rows(5));
        assert_eq!(rows.code(), Code::ResourceExhausted);
        assert!(rows.message().contains("rows_max"), "{rows}");
    }
}
