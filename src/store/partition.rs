//! Names in the lake: `lake/<table>/host=<name>/date=YYYY-MM-DD/<start>_<first seq>-<last seq>.parquet`.
//!
//! `host` and `date` are Hive partitions, which DuckDB, Spark, polars and DataFusion read as columns.

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// What Hive writes for an empty value.
const DEFAULT_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// The folder of one table, host and day.
pub(super) fn folder(lake: &Path, table: &str, host: &str, date: Date) -> PathBuf {
    lake.join(table).join(host_name(host)).join(format!("date={date}"))
}

/// The name of a host's folder.
pub(super) fn host_name(host: &str) -> String {
    format!("host={}", escape(host))
}

/// A host's folder may have a name of this many bytes (`NAME_MAX`).
const FOLDER_NAME_BYTES_MAX: usize = 255;

/// Whether a folder can have the host's name. It has a byte for each letter, digit, `_`, `-` and `.`, and three for each other
/// byte.
pub(crate) fn is_short(host: &str) -> bool {
    host_name(host).len() <= FOLDER_NAME_BYTES_MAX
}

/// The host whose rows are in the file at `path`: what the name of its `host=` folder says. Empty for a path outside of a lake.
pub(super) fn host_of(path: &Path) -> String {
    let folder = path.parent().and_then(Path::parent).and_then(Path::file_name).and_then(OsStr::to_str);
    folder.and_then(|folder| folder.strip_prefix("host=")).map(unescape).unwrap_or_default()
}

/// Whether this is a folder of a host.
pub(super) fn is_host_folder(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| name.starts_with("host=")) && path.is_dir()
}

/// The UTC day of a time in µs since the epoch. Times outside of jiff's years −9999…9999 fall on the nearest day.
pub(super) fn date_of(time: i64) -> Date {
    timestamp(time).to_zoned(TimeZone::UTC).date()
}

/// A time in µs since the epoch as a timestamp, clamped to the range of timestamps.
pub(crate) fn timestamp(time: i64) -> Timestamp {
    Timestamp::from_microsecond(time).unwrap_or(if time < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// The name of a file with the rows `first_seq..end_seq`, the earliest of which has the time `start` (µs).
pub(super) fn file_name(start: i64, first_seq: u64, end_seq: u64) -> String {
    let start = timestamp(start).strftime("%Y%m%dT%H%M%S.%6fZ");
    format!("{start}_{first_seq}-{}.parquet", end_seq.saturating_sub(1))
}

/// The name under which a file is written before it is published: no `*.parquet` glob matches it.
pub(super) fn temporary_name(file_name: &str) -> String {
    format!(".{file_name}.tmp")
}

/// Whether `name` was made by [`temporary_name`].
pub(super) fn is_temporary(name: &str) -> bool {
    name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp")).is_some_and(|name| sequence_range(name).is_some())
}

/// The greatest sequence number, and the greatest number of a segment, that a start accepts on disk. New rows get greater
/// ones, so a name that somebody made up must not leave them too few. At 10⁹ rows a second kymo needs a century to reach it.
pub(super) const SEQUENCE_MAX: u64 = 1 << 62;

/// The greatest number in a name that kymo reads. A run begins below [`SEQUENCE_MAX`] and never reaches this.
pub(super) const NAMED_MAX: u64 = 1 << 63;

/// What is wrong with a file that [`is_beyond`].
pub(super) const BEYOND: &str =
    "has sequence numbers above 2^62, which leaves too few for new rows; move it out of the data folder and keep it";

/// Whether a start refuses a file for which all numbers below `end` are taken.
pub(super) fn is_beyond(end: u64) -> bool {
    end > SEQUENCE_MAX
}

/// The sequence numbers (first, one past the last) in a file's name; `None` for a name that kymo did not give.
pub(super) fn sequence_range(file_name: &str) -> Option<(u64, u64)> {
    let (start, range) = file_name.strip_suffix(".parquet")?.split_once('_')?;
    let (first, last) = range.split_once('-')?;
    let well_formed = start.len() >= "20260101T000000.000000Z".len() && start.ends_with('Z');
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (well_formed && first <= last && last < NAMED_MAX).then_some((first, last + 1))
}

/// A partition value as Hive writes it: letters, digits, `_`, `-` and `.` stay, all else becomes `%XX`.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => escaped.push(char::from(byte)),
            b'.' if !escaped.is_empty() => escaped.push('.'),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    if escaped.is_empty() { DEFAULT_PARTITION.into() } else { escaped }
}

/// The value that was escaped. What [`escape`] did not write stays as it is.
fn unescape(escaped: &str) -> String {
    if escaped == DEFAULT_PARTITION {
        return String::new();
    }
    let mut value = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let [first, after @ ..] = rest {
        let byte = match rest {
            [b'%', high, low, ..] => char::from(*high).to_digit(16).zip(char::from(*low).to_digit(16)),
            _ => None,
        };
        let byte = byte.and_then(|(high, low)| u8::try_from(16 * high + low).ok());
        value.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &rest[3..] } else { after };
    }
    String::from_utf8_lossy(&value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let name = file_name(1_790_000_000_123_456, 7, 12);
        assert_eq!(name, "20260921T141320.123456Z_7-11.parquet");
        assert_eq!(sequence_range(&name), Some((7, 12)));
        assert!(is_temporary(&temporary_name(&name)));
    }

    #[test]
    fn foreign_names_are_not_taken_for_ours() {
        let too_great = file_name(0, 0, u64::MAX);
        let names = [
            "a.parquet",
            "x_1-2.parquet",
            "20260921T141320.123456Z_9-3.parquet",
            "part_1-2.csv",
            ".x.tmp",
            "",
            &too_great,
        ];
        for name in names {
            assert_eq!(sequence_range(name), None, "{name}");
            assert!(!is_temporary(name), "{name}");
        }
    }

    #[test]
    fn hosts_cannot_leave_their_folder() {
        let folder = folder(Path::new("lake"), "cpu", "../a b/ü", date_of(0));
        assert_eq!(folder, Path::new("lake/cpu/host=%2E.%2Fa%20b%2F%C3%BC/date=1970-01-01"));
        assert_eq!(date_of(i64::MIN).to_string(), "-009999-01-02");
    }

    #[test]
    fn a_host_is_short_if_a_folder_can_have_its_name() {
        let above = tempfile::tempdir().unwrap();
        for (host, fits) in [("a", 250), ("ü", 41), (" ", 83)].map(|(one, fits)| (one, one.repeat(fits))) {
            let make = |host: &str| std::fs::create_dir(above.path().join(host_name(host)));
            assert!(is_short(&fits) && make(&fits).is_ok(), "{fits}");
            let long = fits + host;
            assert!(!is_short(&long) && make(&long).is_err(), "{long}");
        }
    }

    #[test]
    fn hosts_are_read_back_from_the_paths_of_their_files() {
        for host in ["alpha", "../a b/ü", "100%", "%41", "", "a.b", "x=y#?"] {
            let path = folder(Path::new("lake"), "cpu", host, date_of(0)).join("a.parquet");
            assert_eq!(host_of(&path), host, "{}", path.display());
        }
        // By other programs, or not in a lake at all.
        for (path, host) in [("cpu/host=50%/date=1/a", "50%"), ("cpu/host=a%2/date=1/a", "a%2"), ("a.parquet", "")] {
            assert_eq!(host_of(Path::new(path)), host);
        }
    }
}
