//! A stretch of recorded time, as people name it.

use std::ops::Range;

use clap::Args;

use super::connect::UsageError;
use super::top::clock::Clock;
use crate::words::parse_duration;

/// From when to when.
#[derive(Args, Clone, Debug)]
pub(super) struct Period {
    /// The last so much: `5m`, `1h 30m`
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["from", "to"])]
    last: Option<String>,
    /// From this time on ('10 minutes ago', '14:02', '2026-11-25 14:02:11') [default: the first]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this time [default: the newest]
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

impl Period {
    /// All time.
    pub(super) fn all() -> Period {
        Period { last: None, from: None, to: None }
    }

    /// Whether nothing is named, and so all time is meant.
    pub(super) fn is_all(&self) -> bool {
        self.last.is_none() && self.from.is_none() && self.to.is_none()
    }

    /// The times, in µs since the epoch: from, and the first one after. `first_us` and `newest_us` are those of the rows. They end with
    /// the newest row at the latest, so that all tables that are read one after the other end there.
    ///
    /// # Errors
    /// When a text is no time, or nothing is between them.
    pub(super) fn times(&self, first_us: i64, newest_us: i64) -> Result<Range<i64>, UsageError> {
        let clock = Clock::local();
        let end_us = newest_us.saturating_add(1);
        if let Some(last) = &self.last {
            let us = parse_duration(last).and_then(|last| i64::try_from(last.as_micros()).ok()).filter(|us| *us > 0);
            let us =
                us.ok_or_else(|| UsageError(format!("--last {last:?} is not a duration, such as 5m or 1h 30m")))?;
            return Ok(end_us.saturating_sub(us)..end_us);
        }
        let read = |name: &str, text: &Option<String>, default: i64| match text {
            None => Ok(default),
            Some(text) => clock.parse(text, newest_us).map_err(|wrong| UsageError(format!("{name}: {wrong}"))),
        };
        let times = read("--from", &self.from, first_us)?..read("--to", &self.to, end_us)?;
        if times.is_empty() {
            return Err(UsageError("nothing is between --from and --to: --to names a later time".to_owned()));
        }
        Ok(times.start..times.end.min(end_us).max(times.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;
    const NEWEST: i64 = 1_795_617_127_400_000;

    fn times(last: Option<&str>, from: Option<&str>, to: Option<&str>) -> Result<Range<i64>, String> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let period = Period { last: owned(last), from: owned(from), to: owned(to) };
        period.times(NEWEST - 60 * MINUTE, NEWEST).map_err(|error| error.to_string())
    }

    #[test]
    fn the_newest_row_is_in_it_and_times_count_back_from_there() {
        assert_eq!(times(None, None, None), Ok(NEWEST - 60 * MINUTE..NEWEST + 1));
        assert_eq!(times(Some("5m"), None, None), Ok(NEWEST + 1 - 5 * MINUTE..NEWEST + 1));
        assert_eq!(times(None, None, Some("2030-01-01")), Ok(NEWEST - 60 * MINUTE..NEWEST + 1));
        assert!(times(None, Some("2029-01-01"), Some("2030-01-01")).unwrap().is_empty());
        let between = times(None, Some("10 minutes ago"), Some("2026-11-25T14:32:07Z"));
        assert_eq!(between, Ok(NEWEST - 10 * MINUTE..1_795_617_127_000_000));
    }

    #[test]
    fn what_is_no_stretch_of_time_is_refused_with_what_would_be_one() {
        for (last, from, to, part) in [
            (Some("5 apples"), None, None, "--last \"5 apples\" is not a duration, such as 5m"),
            (Some("0s"), None, None, "--last"),
            (None, Some("soon"), None, "--from: \"soon\" is not a time, such as '10 minutes ago'"),
            (None, None, Some("2 hours ago"), "--to names a later time"),
        ] {
            let error = times(last, from, to).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
