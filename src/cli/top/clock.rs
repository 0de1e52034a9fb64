//! Times as people write and read them.

use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, Zoned};

use super::window::{DAY_US, HOUR_US, MINUTE_US, SECOND_US};

/// What `@` and `--at` take.
pub(in crate::cli) const HOW: &str = "such as '10 minutes ago', '14:02', '14:02:11.417' or '2026-11-25 14:02:11'";

/// The clock of whoever looks.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Clock {
    zone: TimeZone,
}

impl Clock {
    /// The zone of this process (`TZ`, else the system's).
    pub(in crate::cli) fn local() -> Clock {
        Clock { zone: TimeZone::system() }
    }

    /// UTC.
    pub(in crate::cli) fn utc() -> Clock {
        Clock { zone: TimeZone::UTC }
    }

    /// Whether it shows UTC, also where that is the local time.
    pub(super) fn is_utc(&self) -> bool {
        self.zone == TimeZone::UTC
    }

    /// A time that somebody wrote. What has no date is of the newest such time before `now_us`.
    ///
    /// # Errors
    /// When the text is no time; says what is.
    pub(in crate::cli) fn parse(&self, text: &str, now_us: i64) -> Result<i64, String> {
        let text = text.trim();
        let wrong = || format!("{text:?} is not a time, {HOW}");
        let now = self.zoned(now_us).ok_or_else(wrong)?;
        if let Some(time) = ago(text, now_us) {
            return Ok(time);
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(time.as_microsecond());
        }
        let of =
            |civil: civil::DateTime| civil.to_zoned(self.zone.clone()).map(|time| time.timestamp().as_microsecond());
        if text.contains('-')
            && let Ok(time) = text.parse::<civil::DateTime>()
        {
            return of(time).map_err(|_| wrong());
        }
        let time = text.parse::<civil::Time>().map_err(|_| wrong())?;
        let today = of(now.date().to_datetime(time)).map_err(|_| wrong())?;
        if today <= now_us {
            return Ok(today);
        }
        let yesterday = now.date().yesterday().map_err(|_| wrong())?;
        of(yesterday.to_datetime(time)).map_err(|_| wrong())
    }

    /// A whole time, `Wed 25 Nov 2026 14:02:11.417 UTC`, or without the date.
    pub(super) fn full(&self, us: i64, decimals: usize, has_date: bool) -> String {
        let Some(time) = self.zoned(us) else { return "-".to_owned() };
        let date = if has_date { time.strftime("%a %d %b %Y ").to_string() } else { String::new() };
        format!("{date}{} {}", self.time(us, decimals), time.strftime("%Z"))
    }

    /// A time of day with so many decimals of a second.
    pub(in crate::cli) fn time(&self, us: i64, decimals: usize) -> String {
        let Some(time) = self.zoned(us) else { return "-".to_owned() };
        let fraction = format!("{:06}", us.rem_euclid(SECOND_US));
        let whole = time.strftime("%H:%M:%S").to_string();
        if decimals == 0 { whole } else { format!("{whole}.{}", &fraction[..decimals.min(6)]) }
    }

    /// The day of a time, `25 Nov 2026`.
    pub(in crate::cli) fn date(&self, us: i64) -> String {
        self.zoned(us).map_or_else(|| "-".to_owned(), |time| time.strftime("%-d %b %Y").to_string())
    }

    /// A day and the minute, `25 Nov 2026 14:02`.
    pub(super) fn minute(&self, us: i64) -> String {
        format!("{} {}", self.date(us), self.time(us, 0).get(..5).unwrap_or_default())
    }

    /// A time for lists: with its day, unless that is the day of `now_us`.
    pub(super) fn near(&self, us: i64, now_us: i64) -> String {
        match (self.zoned(us), self.zoned(now_us)) {
            (Some(time), Some(now)) if time.date() != now.date() => time.strftime("%a %d %b %H:%M").to_string(),
            _ => self.time(us, 0),
        }
    }

    /// The text of a mark on an axis whose marks are `step_us` apart: whole at the first, then what changes.
    pub(in crate::cli) fn mark(&self, us: i64, step_us: i64, is_first: bool) -> String {
        let Some(time) = self.zoned(us) else { return String::new() };
        let is_minute = us.rem_euclid(MINUTE_US) == 0;
        match step_us {
            DAY_US.. => time.strftime("%d %b").to_string(),
            MINUTE_US..DAY_US if is_first && step_us >= HOUR_US => time.strftime("%d %b %H:%M").to_string(),
            MINUTE_US..DAY_US => time.strftime("%H:%M").to_string(),
            SECOND_US..MINUTE_US if is_first => self.time(us, 0),
            SECOND_US..MINUTE_US if is_minute => time.strftime("%H:%M").to_string(),
            SECOND_US..MINUTE_US => time.strftime(":%S").to_string(),
            _ => {
                let decimals = decimals(step_us);
                let whole = self.time(us, decimals);
                if is_first { whole } else { whole.get(6..).unwrap_or_default().to_owned() }
            }
        }
    }

    /// Where a step of the axis begins: days begin at midnight of the zone.
    pub(in crate::cli) fn aligned(&self, us: i64, step_us: i64) -> i64 {
        let offset = self.zoned(us).map_or(0, |time| i64::from(time.offset().seconds()) * SECOND_US);
        (us + offset).div_euclid(step_us) * step_us - offset
    }

    fn zoned(&self, us: i64) -> Option<Zoned> {
        Some(Timestamp::from_microsecond(us).ok()?.to_zoned(self.zone.clone()))
    }
}

/// So many decimals of a second tell times of this step apart.
pub(super) fn decimals(step_us: i64) -> usize {
    match step_us {
        SECOND_US.. => 0,
        100_000..SECOND_US => 1,
        10_000..100_000 => 2,
        1_000..10_000 => 3,
        _ => 4,
    }
}

/// `10 minutes ago`, `90s ago` or `-90s`.
fn ago(text: &str, now_us: i64) -> Option<i64> {
    let span: Span = text.parse().ok()?;
    let duration: SignedDuration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    if !duration.is_negative() {
        return None;
    }
    now_us.checked_add(i64::try_from(duration.as_micros()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Wed 25 Nov 2026 14:32:07.4 UTC
    const NOW_US: i64 = 1_795_617_127_400_000;

    #[test]
    fn times_are_read_as_people_write_them() {
        let read = |text: &str| Clock::utc().parse(text, NOW_US).map(|us| Clock::utc().full(us, 3, true));
        for (text, time) in [
            ("10 minutes ago", "Wed 25 Nov 2026 14:22:07.400 UTC"),
            ("90s ago", "Wed 25 Nov 2026 14:30:37.400 UTC"),
            ("1 day ago", "Tue 24 Nov 2026 14:32:07.400 UTC"),
            ("14:02", "Wed 25 Nov 2026 14:02:00.000 UTC"),
            ("14:02:11.417", "Wed 25 Nov 2026 14:02:11.417 UTC"),
            ("23:00", "Tue 24 Nov 2026 23:00:00.000 UTC"),
            ("2026-11-20 01:02:03", "Fri 20 Nov 2026 01:02:03.000 UTC"),
            ("2026-11-20T01:02:03+01:00", "Fri 20 Nov 2026 00:02:03.000 UTC"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(time), "{text}");
        }
        for text in ["", "soon", "10 minutes", "25:00", "2026-13-01"] {
            assert!(read(text).unwrap_err().contains("'10 minutes ago'"), "{text}");
        }
    }

    #[test]
    fn marks_say_what_changes() {
        let mark = |us, step, first| Clock::utc().mark(us, step, first);
        assert_eq!(mark(NOW_US, 20 * SECOND_US, true), "14:32:07");
        assert_eq!(mark(NOW_US - 7_400_000, 20 * SECOND_US, false), "14:32");
        assert_eq!(mark(NOW_US, 20 * SECOND_US, false), ":07");
        assert_eq!(mark(NOW_US, 500_000, false), "07.4");
        assert_eq!(mark(NOW_US, 5 * MINUTE_US, false), "14:32");
        assert_eq!(mark(NOW_US, DAY_US, true), "25 Nov");
    }
}
