//! Numbers, durations and times of the gRPC API for people and programs.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

const BYTE_UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// A duration for people.
pub(super) fn duration(duration: &prost_types::Duration) -> String {
    Duration::try_from(*duration).map_or_else(|_| "-".to_owned(), |duration| format!("{duration:?}"))
}

/// A long duration for people, to the second.
pub(super) fn long_duration(duration: &prost_types::Duration) -> String {
    format!("{:#}", SignedDuration::from_secs(duration.seconds))
}

/// A duration in µs.
pub(super) fn micros(duration: &prost_types::Duration) -> i64 {
    duration.seconds.saturating_mul(1_000_000).saturating_add(i64::from(duration.nanos) / 1_000)
}

/// A time in RFC 3339, UTC.
pub(super) fn time(time: &prost_types::Timestamp) -> String {
    Timestamp::new(time.seconds, time.nanos).map_or_else(|_| "-".to_owned(), |time| time.to_string())
}

/// A size for people.
pub(super) fn bytes(bytes: u64) -> String {
    let unit = (bytes.max(1).ilog2() / 10).min(4);
    if unit == 0 {
        return format!("{bytes} B");
    }
    format!("{:.1} {}", bytes as f64 / (1u64 << (10 * unit)) as f64, BYTE_UNITS[unit as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_fitting_units() {
        assert_eq!([0, 1023, 1024, 1536 << 20].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]);
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        let of = |seconds, nanos| prost_types::Duration { seconds, nanos };
        assert_eq!(duration(&of(0, 1_500_000)), "1.5ms");
        assert_eq!(micros(&of(2, 1_500_000)), 2_001_500);
        assert_eq!(long_duration(&of(3_723, 5)), "1h 2m 3s");
        assert_eq!(time(&prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }), "1970-01-01T00:00:01.5Z");
    }
}
