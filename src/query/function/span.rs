//! Lengths of time: months, days and microseconds, as PostgreSQL counts and writes them.
//!
//! A month is 30 days and a day 24 hours where lengths are compared, multiplied or turned into microseconds.

use std::fmt::{self, Display, Write};

use arrow::datatypes::IntervalMonthDayNano;

pub(super) const DAY_US: i64 = 86_400_000_000;
pub(super) const HOUR_US: i64 = 3_600_000_000;
pub(super) const MINUTE_US: i64 = 60_000_000;
pub(super) const SECOND_US: i64 = 1_000_000;
const MONTH_DAYS: i64 = 30;

/// A length of time. Its parts may have different signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) months: i64,
    pub(super) days: i64,
    pub(super) us: i64,
}

impl Span {
    /// A difference of two times: whole days and the rest.
    pub(super) fn of_us(us: i64) -> Span {
        Span { months: 0, days: us / DAY_US, us: us % DAY_US }
    }

    pub(super) fn of_interval(interval: IntervalMonthDayNano) -> Span {
        let IntervalMonthDayNano { months, days, nanoseconds } = interval;
        Span { months: months.into(), days: days.into(), us: nanoseconds / 1_000 }
    }

    /// `None` if a part is too large for an interval.
    pub(super) fn interval(self) -> Option<IntervalMonthDayNano> {
        let (months, days) = (self.months.try_into().ok()?, self.days.try_into().ok()?);
        Some(IntervalMonthDayNano::new(months, days, self.us.checked_mul(1_000)?))
    }

    /// Its length in µs; `None` if that is more than 292,000 years.
    pub(super) fn length_us(self) -> Option<i64> {
        let days = self.months.checked_mul(MONTH_DAYS)?.checked_add(self.days)?;
        days.checked_mul(DAY_US)?.checked_add(self.us)
    }

    /// So many times this length. Fractions of months become days, and those of days hours.
    pub(super) fn times(self, factor: f64) -> Option<Span> {
        let mut sum = Parts::default();
        sum.add_months(self.months as f64 * factor);
        sum.add_days(self.days as f64 * factor);
        sum.us += self.us as f64 * factor;
        sum.span()
    }

    /// Reads what people write: `1 day 2 hours`, `1h30m`, `-5 min`, `1.5 days ago`, `2 days 03:04:05`, `1-2` (a year and two
    /// months), and ISO 8601's `P1DT2H`.
    pub(super) fn parse(text: &str) -> Option<Span> {
        let text = text.trim().to_lowercase();
        if let Some(iso) = text.strip_prefix('p').or_else(|| text.strip_prefix("-p")) {
            let span = parse_iso(iso)?;
            return if text.starts_with('-') { span.times(-1.0) } else { Some(span) };
        }
        let text = text.strip_prefix('@').unwrap_or(&text);
        let (text, sign) = match text.trim_end().strip_suffix("ago") {
            Some(before) if before.ends_with(char::is_whitespace) => (before, -1.0),
            _ => (text, 1.0),
        };
        let mut sum = Parts::default();
        let mut rest = text.trim();
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let number = rest.find(|c: char| !(c.is_ascii_digit() || "+-.:".contains(c))).unwrap_or(rest.len());
            let (written, behind) = rest.split_at(number);
            if written.contains(':') {
                sum.us += parse_clock(written)?;
                rest = behind.trim_start();
                continue;
            }
            let behind = behind.trim_start();
            let letters = behind.find(|c: char| !c.is_alphabetic()).unwrap_or(behind.len());
            let (unit, behind) = behind.split_at(letters);
            match (unit, split_year_month(written)) {
                ("", Some((years, months))) => sum.months += years * 12.0 + months,
                // The days in front of a clock time, and seconds at the end.
                ("", None) if behind.find(':').is_some() => sum.add_days(number_of(written)?),
                ("", None) if behind.is_empty() => sum.us += number_of(written)? * SECOND_US as f64,
                _ => sum.add(number_of(written)?, unit)?,
            }
            rest = behind.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        }
        sum.span()?.times(sign)
    }
}

/// Sums of parts that may be fractions.
#[derive(Default)]
struct Parts {
    months: f64,
    days: f64,
    us: f64,
}

impl Parts {
    fn add(&mut self, number: f64, unit: &str) -> Option<()> {
        match unit {
            "ns" | "nanosecond" | "nanoseconds" => self.us += number / 1e3,
            "us" | "µs" | "usec" | "usecs" | "microsecond" | "microseconds" => self.us += number,
            "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => self.us += number * 1e3,
            "s" | "sec" | "secs" | "second" | "seconds" => self.us += number * 1e6,
            "m" | "min" | "mins" | "minute" | "minutes" => self.us += number * MINUTE_US as f64,
            "h" | "hr" | "hrs" | "hour" | "hours" => self.us += number * HOUR_US as f64,
            "d" | "day" | "days" => self.add_days(number),
            "w" | "week" | "weeks" => self.add_days(number * 7.0),
            "mon" | "mons" | "month" | "months" => self.add_months(number),
            "quarter" | "quarters" => self.add_months(number * 3.0),
            "y" | "yr" | "yrs" | "year" | "years" => self.months += (number * 12.0).round(),
            "decade" | "decades" | "dec" | "decs" => self.months += (number * 120.0).round(),
            "century" | "centuries" | "c" => self.months += (number * 1_200.0).round(),
            "millennium" | "millennia" | "mil" | "mils" => self.months += (number * 12_000.0).round(),
            _ => return None,
        }
        Some(())
    }

    fn add_months(&mut self, months: f64) {
        self.months += months.trunc();
        self.add_days(tidy(months.fract() * MONTH_DAYS as f64));
    }

    fn add_days(&mut self, days: f64) {
        self.days += days.trunc();
        self.us += days.fract() * DAY_US as f64;
    }

    fn span(&self) -> Option<Span> {
        Some(Span { months: whole(self.months)?, days: whole(self.days)?, us: whole(self.us)? })
    }
}

/// Without the last digits, so that a tenth of a month is 3 days and not a little less.
fn tidy(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

/// The nearest integer, if there is one.
#[expect(clippy::cast_possible_truncation, reason = "checked in the same line")]
pub(super) fn whole(number: f64) -> Option<i64> {
    let rounded = number.round_ties_even();
    // 2^63 is none, and -2^63 is one.
    (i64::MIN as f64..-(i64::MIN as f64)).contains(&rounded).then_some(rounded as i64)
}

fn number_of(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Years and months of `1-2`.
fn split_year_month(text: &str) -> Option<(f64, f64)> {
    let (sign, digits) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let (years, months) = digits.split_once('-')?;
    let of = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| number_of(part)).flatten();
    Some((sign * of(years)?, sign * of(months)?))
}

/// µs of `3:04:05.678`, or of `3:04`.
fn parse_clock(text: &str) -> Option<f64> {
    let (sign, text) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let mut parts = text.strip_prefix('+').unwrap_or(text).split(':');
    let (hours, minutes) = (number_of(parts.next()?)?, number_of(parts.next()?)?);
    let seconds = parts.next().map_or(Some(0.0), number_of)?;
    if parts.next().is_some() {
        return None;
    }
    Some(sign * (hours * HOUR_US as f64 + minutes * MINUTE_US as f64 + seconds * 1e6))
}

/// What stands behind the P of ISO 8601.
fn parse_iso(text: &str) -> Option<Span> {
    let (date, time) = text.split_once('t').unwrap_or((text, ""));
    if date.is_empty() && time.is_empty() {
        return None;
    }
    let mut sum = Parts::default();
    for (part, is_time) in [(date, false), (time, true)] {
        let mut rest = part;
        while !rest.is_empty() {
            let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
            let number = number_of(&rest[..end].replace(',', "."))?;
            let unit = match (&rest[end..=end], is_time) {
                ("y", false) => "year",
                ("m", false) => "month",
                ("w", false) => "week",
                ("d", false) => "day",
                ("h", true) => "hour",
                ("m", true) => "minute",
                ("s", true) => "second",
                _ => return None,
            };
            sum.add(number, unit)?;
            rest = &rest[end + 1..];
        }
    }
    sum.span()
}

/// As PostgreSQL writes it: `1 year 2 mons 3 days 04:05:06.789`.
impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut below_zero = false;
        for (number, one, more) in
            [(self.months / 12, "year", "years"), (self.months % 12, "mon", "mons"), (self.days, "day", "days")]
        {
            if number != 0 {
                let gap = if text.is_empty() { "" } else { " " };
                let plus = if below_zero && number > 0 { "+" } else { "" };
                write!(text, "{gap}{plus}{number} {}", if number == 1 { one } else { more })?;
                below_zero = number < 0;
            }
        }
        if self.us != 0 || text.is_empty() {
            let gap = if text.is_empty() { "" } else { " " };
            let sign = match self.us {
                us if us < 0 => "-",
                _ if below_zero => "+",
                _ => "",
            };
            let us = self.us.unsigned_abs();
            let (seconds, rest) = (us / 1_000_000, us % 1_000_000);
            write!(text, "{gap}{sign}{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)?;
            if rest != 0 {
                let digits = format!("{rest:06}");
                write!(text, ".{}", digits.trim_end_matches('0'))?;
            }
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(written: &str) -> String {
        Span::parse(written).map_or_else(|| "refused".into(), |span| span.to_string())
    }

    #[test]
    fn what_people_write_is_read_as_postgresql_reads_it() {
        for (written, expected) in [
            ("1 day 2 hours 3 minutes", "1 day 02:03:00"),
            ("1h30m", "01:30:00"),
            ("5s", "00:00:05"),
            ("500ms", "00:00:00.5"),
            ("PT5M", "00:05:00"),
            ("P1Y2M3DT4H5M6.5S", "1 year 2 mons 3 days 04:05:06.5"),
            ("P2W", "14 days"),
            ("1 day ago", "-1 days"),
            ("1.5 days", "1 day 12:00:00"),
            ("1.5 months", "1 mon 15 days"),
            ("1.5 years", "1 year 6 mons"),
            ("2 days 03:04:05.678", "2 days 03:04:05.678"),
            ("3 4:05:06", "3 days 04:05:06"),
            ("1-2", "1 year 2 mons"),
            ("-1-2", "-1 years -2 mons"),
            ("-5 min", "-00:05:00"),
            ("1 month -2 days", "1 mon -2 days"),
            ("-1 day 2 hours", "-1 days +02:00:00"),
            ("90", "00:01:30"),
            ("36 hours", "36:00:00"),
            ("1 week", "7 days"),
            ("0 s", "00:00:00"),
        ] {
            assert_eq!(text(written), expected, "{written}");
        }
        for written in ["", "five minutes", "1 fortnight", "P", "1:2:3:4", "5 5", "ago"] {
            assert_eq!(text(written), "refused", "{written}");
        }
    }

    #[test]
    fn lengths_are_compared_and_multiplied_with_months_of_30_days() {
        let length = |written: &str| Span::parse(written).and_then(Span::length_us);
        assert_eq!(length("24 hours"), length("1 day"));
        assert!(length("36 hours") > length("1 day"));
        assert_eq!(length("1 month"), length("30 days"));
        let times =
            |written: &str, factor| Span::parse(written).and_then(|span| span.times(factor)).unwrap().to_string();
        assert_eq!(times("1 minute", 5.0), "00:05:00");
        assert_eq!(times("1 hour", 0.5), "00:30:00");
        assert_eq!(times("1 month", 0.1), "3 days");
        assert_eq!(times("1 day", 1.5), "1 day 12:00:00");
        assert_eq!(Span { months: i64::MAX, ..Span::default() }.length_us(), None);
        assert_eq!(Span { us: i64::MAX, ..Span::default() }.times(2.0), None);
    }

    #[test]
    fn differences_have_days_and_the_rest() {
        assert_eq!(Span::of_us(175_999_796).to_string(), "00:02:55.999796");
        assert_eq!(Span::of_us(2 * DAY_US + HOUR_US).to_string(), "2 days 01:00:00");
        assert_eq!(Span::of_us(-179_718).to_string(), "-00:00:00.179718");
    }
}
