//! Times, durations and numbers between kymo's types and protobuf's.

use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use tonic::Status;

use super::error::invalid_field;
use super::proto::number::Value;
use super::proto::{self, Number};
use crate::sampler::Scheduling;

const MICROS: i64 = 1_000_000;

/// A moment in µs since the epoch.
pub(super) fn timestamp(time_us: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(time_us.rem_euclid(MICROS) * 1_000).unwrap_or_default();
    prost_types::Timestamp { seconds: time_us.div_euclid(MICROS), nanos }
}

/// µs since the epoch; nanoseconds are cut off.
pub(super) fn micros(field: &'static str, timestamp: prost_types::Timestamp) -> Result<i64, Status> {
    let nanos = u32::try_from(timestamp.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    nanos
        .and_then(|nanos| timestamp.seconds.checked_mul(MICROS)?.checked_add(i64::from(nanos / 1_000)))
        .ok_or_else(|| invalid_field(field, format!("{timestamp:?} is not a valid moment")))
}

/// A duration. One that is too long for protobuf becomes the longest.
pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

/// A duration that must not be negative.
pub(super) fn checked_duration(field: &'static str, value: prost_types::Duration) -> Result<Duration, Status> {
    Duration::try_from(value).map_err(|_| invalid_field(field, "a negative or malformed duration: must be above zero"))
}

/// A duration that must be above zero, at most `max`, and whole microseconds.
pub(super) fn positive_duration(
    field: &'static str,
    value: prost_types::Duration,
    max: Duration,
) -> Result<Duration, Status> {
    let duration = checked_duration(field, value)?;
    let problem = match duration {
        Duration::ZERO => "must be above zero",
        _ if !duration.subsec_nanos().is_multiple_of(1_000) => "must be whole microseconds",
        _ if duration > max => &format!("must be at most {max:?}"),
        _ => return Ok(duration),
    };
    Err(invalid_field(field, format!("{duration:?}: {problem}")))
}

/// How a thread is to be scheduled; `None` if unspecified.
pub(super) fn checked_scheduling(field: &'static str, value: i32) -> Result<Option<Scheduling>, Status> {
    match proto::Scheduling::try_from(value) {
        Ok(proto::Scheduling::Unspecified) => Ok(None),
        Ok(proto::Scheduling::Auto) => Ok(Some(Scheduling::Auto)),
        Ok(proto::Scheduling::Other) => Ok(Some(Scheduling::Other)),
        Ok(proto::Scheduling::Fifo) => Ok(Some(Scheduling::Fifo)),
        Err(_) => Err(invalid_field(field, format!("{value} is not a value of kymo.v1.Scheduling"))),
    }
}

/// The number at `row` of an `Int64` or `Float64` column; `None` for a null.
pub(super) fn number(column: &ArrayRef, row: usize) -> Option<Number> {
    if column.is_null(row) {
        return None;
    }
    let value = match column.data_type() {
        DataType::Int64 => Value::IntValue(column.as_primitive_opt::<Int64Type>()?.value(row)),
        DataType::Float64 => Value::DoubleValue(column.as_primitive_opt::<Float64Type>()?.value(row)),
        _ => return None,
    };
    Some(Number { value: Some(value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_survive_the_wire_before_and_after_the_epoch() {
        for time in [0, 1, 1_700_000_000_123_456, -1, -1_000_001] {
            assert_eq!(micros("from", timestamp(time)).unwrap(), time);
        }
        assert!(timestamp(-1).nanos > 0, "protobuf counts nanoseconds forward");
    }

    #[test]
    fn moments_out_of_range_are_refused() {
        let moment = |seconds, nanos| prost_types::Timestamp { seconds, nanos };
        for wrong in [moment(i64::MAX, 0), moment(0, -1), moment(0, 1_000_000_000)] {
            assert_eq!(micros("from", wrong).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }

    #[test]
    fn durations_must_be_positive_whole_microseconds_in_range() {
        let check = |seconds, nanos| {
            let value = prost_types::Duration { seconds, nanos };
            positive_duration("start.interval", value, Duration::from_secs(60))
                .map_err(|status| status.message().to_owned())
        };
        assert_eq!(check(0, 1_000_000), Ok(Duration::from_millis(1)));
        assert_eq!(check(60, 0), Ok(Duration::from_secs(60)));
        for (seconds, nanos, part) in
            [(0, 0, "above zero"), (-1, 0, "above zero"), (0, 999, "whole microseconds"), (60, 1_000, "at most 60s")]
        {
            let message = check(seconds, nanos).unwrap_err();
            assert!(message.starts_with("start.interval") && message.contains(part), "{message}");
        }
    }
}
