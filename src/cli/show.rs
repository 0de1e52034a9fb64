//! Answers for people and for programs: numbers, sizes, durations and times.

use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;
use indicatif::HumanCount;
use jiff::{SignedDuration, Timestamp};

use crate::config::ConfigError;
use crate::words;

/// A query's numbers with fewer digits have no separators.
const GROUPED_DIGITS_MIN: usize = 5;
/// Digits of a float that people get to see.
const SIGNIFICANT_DIGITS: i32 = 5;
/// From this number on, and below one over it, a float is written with an exponent.
const EXPONENT_MIN: f64 = 1e15;

/// For whom an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    #[default]
    Table,
    /// For programs: one JSON document
    Json,
}

/// A duration for people, as the configuration writes it: `1ms`, `1h 30m`; `-` for a message that is no duration.
pub(super) fn duration_of(message: &prost_types::Duration) -> String {
    Duration::try_from(*message).map_or_else(|_| "-".to_owned(), words::duration)
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
    ByteSize(bytes).display().iec().to_string()
}

/// Why a command failed, on stderr.
pub(super) fn tell(error: &anyhow::Error) {
    match error.downcast_ref() {
        Some(ConfigError::Wrong(problems)) => problems.iter().for_each(|problem| eprintln!("kymo: {problem}")),
        _ => eprintln!("kymo: {}", in_one_line(error)),
    }
}

/// The error and its causes, without those whose text an outer one already has.
pub(super) fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        _ if told.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

/// A number of things for people: `1 row`, `25,000 rows`.
pub(super) fn counted(count: u64, thing: &str) -> String {
    format!("{} {thing}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

/// An integer of a query for people: grouped if it is long, as a year or a port is not.
pub(super) fn integer(text: &str) -> String {
    if text.trim_start_matches('-').len() < GROUPED_DIGITS_MIN { text.to_owned() } else { grouped(text) }
}

/// A decimal integer with a separator at every third digit.
pub(super) fn grouped(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    digits.parse().map_or_else(|_| text.to_owned(), |number| format!("{sign}{}", HumanCount(number)))
}

/// A float for people: rounded to five significant digits, but never before the decimal point.
pub(super) fn float(value: f64) -> String {
    let size = value.abs();
    if !size.is_finite() || size == 0.0 {
        return value.to_string();
    }
    if !(1.0 / EXPONENT_MIN..EXPONENT_MIN).contains(&size) {
        return format!("{value:.4e}");
    }
    #[expect(clippy::cast_possible_truncation, reason = "the bounds of a float's exponent are far below those of i32")]
    let decimals = (SIGNIFICANT_DIGITS - 1 - size.log10().floor() as i32).max(0).unsigned_abs() as usize;
    let rounded = format!("{value:.decimals$}");
    let (whole, fraction) = rounded.split_once('.').unwrap_or((&rounded, ""));
    match fraction.trim_end_matches('0') {
        "" => integer(whole),
        fraction => format!("{}.{fraction}", integer(whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_durations_and_times_are_shown_in_fitting_units() {
        assert_eq!([0, 1023, 1024, 1536 << 20].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]);
        let of = |seconds, nanos| prost_types::Duration { seconds, nanos };
        assert_eq!([of(0, 0), of(0, 1_500_000), of(60, 0)].map(|one| duration_of(&one)), ["0s", "1ms 500µs", "1m"]);
        assert_eq!(micros(&of(2, 1_500_000)), 2_001_500);
        assert_eq!(long_duration(&of(3_723, 5)), "1h 2m 3s");
        assert_eq!(time(&prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }), "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn numbers_are_rounded_and_grouped_for_people() {
        assert_eq!(["2026", "-12345", "25276063744"].map(integer), ["2026", "-12,345", "25,276,063,744"]);
        assert_eq!([1, 2_500].map(|count| counted(count, "row")), ["1 row", "2,500 rows"]);
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.070_000_067_900_065_85, "0.07"),
            (0.123_456_7, "0.12346"),
            (-99.995, "-99.995"),
            (1_234.56, "1234.6"),
            (3_339_903_518_699.99, "3,339,903,518,700"),
            (0.000_012_345_67, "0.000012346"),
            (1.5e-20, "1.5000e-20"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(float(value), text);
        }
    }
}
