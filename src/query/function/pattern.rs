//! Patterns for times as text: PostgreSQL's (`YYYY-MM-DD HH24:MI:SS.MS`), and those of strftime (`%Y-%m-%d`).

use std::fmt::Write;

use arrow::array::timezone::Tz;
use chrono::format::{Item, Parsed, StrftimeItems};
use chrono::{DateTime, Datelike, NaiveDateTime, NaiveTime, Offset, Timelike};
use datafusion::common::{Result, exec_err, plan_err};

use super::span::{HOUR_US, MINUTE_US, SECOND_US, Span};

/// A pattern that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pattern {
    /// In the words of chrono, which differ from those of strftime in nothing that is left.
    Strftime(String),
    /// PostgreSQL's.
    Template(Vec<Piece>),
}

/// A part of a [`Pattern::Template`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    /// A field, and whether it is written without zeros and blanks in front.
    Field(Field, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Year,
    /// The last digits of the year, so many.
    YearEnd(u32),
    IsoYear,
    Quarter,
    Month,
    MonthName(Case),
    MonthShort(Case),
    Week,
    IsoWeek,
    DayOfYear,
    Day,
    /// Sunday is 1.
    DayOfWeek,
    /// Monday is 1.
    IsoDayOfWeek,
    DayName(Case),
    DayShort(Case),
    Hour24,
    Hour12,
    Minute,
    Second,
    SecondOfDay,
    /// So many digits behind the seconds' point.
    Fraction(u32),
    Half(Case),
    ZoneName,
    ZoneOffset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Upper,
    Title,
    Lower,
}

impl Case {
    fn of(self, text: &str) -> String {
        match self {
            Case::Upper => text.to_uppercase(),
            Case::Title => text.into(),
            Case::Lower => text.to_lowercase(),
        }
    }
}

/// PostgreSQL's words. A longer one stands before those that it begins with.
const WORDS: &[(&str, Field)] = &[
    ("YYYY", Field::Year),
    ("yyyy", Field::Year),
    ("IYYY", Field::IsoYear),
    ("iyyy", Field::IsoYear),
    ("YYY", Field::YearEnd(3)),
    ("YY", Field::YearEnd(2)),
    ("yy", Field::YearEnd(2)),
    ("Y", Field::YearEnd(1)),
    ("MONTH", Field::MonthName(Case::Upper)),
    ("Month", Field::MonthName(Case::Title)),
    ("month", Field::MonthName(Case::Lower)),
    ("MON", Field::MonthShort(Case::Upper)),
    ("Mon", Field::MonthShort(Case::Title)),
    ("mon", Field::MonthShort(Case::Lower)),
    ("MM", Field::Month),
    ("mm", Field::Month),
    ("MI", Field::Minute),
    ("mi", Field::Minute),
    ("MS", Field::Fraction(3)),
    ("ms", Field::Fraction(3)),
    ("DAY", Field::DayName(Case::Upper)),
    ("Day", Field::DayName(Case::Title)),
    ("day", Field::DayName(Case::Lower)),
    ("DY", Field::DayShort(Case::Upper)),
    ("Dy", Field::DayShort(Case::Title)),
    ("dy", Field::DayShort(Case::Lower)),
    ("DDD", Field::DayOfYear),
    ("ddd", Field::DayOfYear),
    ("DD", Field::Day),
    ("dd", Field::Day),
    ("D", Field::DayOfWeek),
    ("ID", Field::IsoDayOfWeek),
    ("IW", Field::IsoWeek),
    ("iw", Field::IsoWeek),
    ("WW", Field::Week),
    ("ww", Field::Week),
    ("HH24", Field::Hour24),
    ("hh24", Field::Hour24),
    ("HH12", Field::Hour12),
    ("hh12", Field::Hour12),
    ("HH", Field::Hour12),
    ("hh", Field::Hour12),
    ("SSSSS", Field::SecondOfDay),
    ("SSSS", Field::SecondOfDay),
    ("SS", Field::Second),
    ("ss", Field::Second),
    ("US", Field::Fraction(6)),
    ("us", Field::Fraction(6)),
    ("FF1", Field::Fraction(1)),
    ("FF2", Field::Fraction(2)),
    ("FF3", Field::Fraction(3)),
    ("FF4", Field::Fraction(4)),
    ("FF5", Field::Fraction(5)),
    ("FF6", Field::Fraction(6)),
    ("Q", Field::Quarter),
    ("AM", Field::Half(Case::Upper)),
    ("PM", Field::Half(Case::Upper)),
    ("am", Field::Half(Case::Lower)),
    ("pm", Field::Half(Case::Lower)),
    ("TZ", Field::ZoneName),
    ("OF", Field::ZoneOffset),
];

impl Pattern {
    /// # Errors
    /// When it is neither kind of pattern.
    pub(super) fn parse(text: &str) -> Result<Pattern> {
        if text.contains('%') {
            // Digits behind the point are microseconds for strftime, and nanoseconds for chrono.
            let text = text.replace("%f", "%6f").replace("%g", "%3f");
            if StrftimeItems::new(&text).any(|item| item == Item::Error) {
                return plan_err!("'{text}' is no pattern of strftime: write one such as '%Y-%m-%d %H:%M:%S.%f'");
            }
            return Ok(Pattern::Strftime(text));
        }
        let mut pieces: Vec<Piece> = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(quoted) = rest.strip_prefix('"') {
                let Some((inside, behind)) = quoted.split_once('"') else {
                    return plan_err!("the pattern '{text}' has a quote that does not end");
                };
                pieces.push(Piece::Text(inside.into()));
                rest = behind;
                continue;
            }
            let (short, word) = match rest.strip_prefix("FM").or_else(|| rest.strip_prefix("fm")) {
                Some(word) => (true, word),
                None => (false, rest),
            };
            if let Some((name, field)) = WORDS.iter().find(|(name, _)| word.starts_with(name)) {
                pieces.push(Piece::Field(*field, short));
                rest = &word[name.len()..];
                continue;
            }
            if first.is_alphabetic() {
                return plan_err!(
                    "the pattern '{text}' has a letter that stands for nothing, at '{rest}': write PostgreSQL's words, such \
                     as 'YYYY-MM-DD HH24:MI:SS.MS', with other letters in double quotes, or those of strftime, such as \
                     '%Y-%m-%d %H:%M:%S.%f'"
                );
            }
            pieces.push(Piece::Text(first.into()));
            rest = &rest[first.len_utf8()..];
        }
        if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) {
            return plan_err!(
                "the pattern '{text}' names no part of a time: write one such as 'YYYY-MM-DD HH24:MI:SS.MS' or '%H:%M:%S'"
            );
        }
        Ok(Pattern::Template(pieces))
    }

    /// A time as text, by the clock of the zone.
    pub(super) fn format(&self, us: i64, zone: Tz, to: &mut String) -> Result<()> {
        let Some(time) = DateTime::from_timestamp_micros(us) else {
            return exec_err!("{us} µs since 1970 is in no year that a calendar has");
        };
        let time = time.with_timezone(&zone);
        match self {
            Pattern::Strftime(pattern) => match write!(to, "{}", time.format(pattern)) {
                Ok(()) => Ok(()),
                Err(_) => exec_err!("the pattern '{pattern}' asks for what a time does not have"),
            },
            Pattern::Template(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => to.push_str(text),
                        Piece::Field(field, short) => field.write(&time, *short, to),
                    }
                }
                Ok(())
            }
        }
    }

    /// A length of time as text.
    pub(super) fn format_span(&self, span: Span, to: &mut String) -> Result<()> {
        let Pattern::Template(pieces) = self else {
            return exec_err!("a length of time has PostgreSQL's patterns only: write one such as 'HH24:MI:SS.MS'");
        };
        for piece in pieces {
            let (field, short) = match piece {
                Piece::Text(text) => {
                    to.push_str(text);
                    continue;
                }
                Piece::Field(field, short) => (field, *short),
            };
            let (number, width) = match field {
                Field::Year => (span.months / 12, 4),
                Field::Month => (span.months % 12, 2),
                Field::Day => (span.days, 2),
                Field::DayOfYear => (span.months * 30 + span.days, 3),
                Field::Hour24 => (span.us / HOUR_US, 2),
                Field::Hour12 => (span.us / HOUR_US % 12, 2),
                Field::Minute => (span.us % HOUR_US / MINUTE_US, 2),
                Field::Second => (span.us % MINUTE_US / SECOND_US, 2),
                Field::SecondOfDay => (span.us / SECOND_US, 1),
                Field::Fraction(digits) => (
                    span.us % SECOND_US / 10_i64.pow(6_u32.saturating_sub(*digits)),
                    usize::try_from(*digits).unwrap_or(6),
                ),
                other => return exec_err!("a length of time has no {other:?}; it has DD, HH24, MI, SS, MS and US"),
            };
            number_to(to, number, if short { 1 } else { width });
        }
        Ok(())
    }

    /// Reads a time that was written in this way. What the pattern leaves out is the beginning of the day.
    pub(super) fn parse_time(&self, text: &str) -> Option<(NaiveDateTime, Option<i32>)> {
        let pattern = self.strftime()?;
        let mut parsed = Parsed::new();
        chrono::format::parse(&mut parsed, text.trim(), StrftimeItems::new(&pattern)).ok()?;
        if let Some(seconds) = parsed.timestamp() {
            return Some((DateTime::from_timestamp(seconds, parsed.nanosecond().unwrap_or(0))?.naive_utc(), None));
        }
        if parsed.day().is_none() && parsed.ordinal().is_none() {
            parsed.set_day(1).ok()?;
        }
        if parsed.month().is_none() && parsed.ordinal().is_none() {
            parsed.set_month(1).ok()?;
        }
        let date = parsed.to_naive_date().ok()?;
        if parsed.hour_mod_12().is_none() {
            return Some((date.and_time(NaiveTime::MIN), parsed.offset()));
        }
        if parsed.hour_div_12().is_none() {
            parsed.set_ampm(false).ok()?;
        }
        if parsed.minute().is_none() {
            parsed.set_minute(0).ok()?;
        }
        Some((date.and_time(parsed.to_naive_time().ok()?), parsed.offset()))
    }

    /// The same pattern in the words of chrono, if it has them all.
    fn strftime(&self) -> Option<String> {
        let pieces = match self {
            Pattern::Strftime(pattern) => return Some(pattern.clone()),
            Pattern::Template(pieces) => pieces,
        };
        let mut pattern = String::new();
        for piece in pieces {
            let field = match piece {
                Piece::Text(text) => {
                    pattern.push_str(&text.replace('%', "%%"));
                    continue;
                }
                Piece::Field(field, _) => *field,
            };
            pattern.push_str(match field {
                Field::Year => "%Y",
                Field::YearEnd(2) => "%y",
                Field::IsoYear => "%G",
                Field::Month => "%m",
                Field::MonthName(_) => "%B",
                Field::MonthShort(_) => "%b",
                Field::IsoWeek => "%V",
                Field::DayOfYear => "%j",
                Field::Day => "%d",
                Field::DayName(_) => "%A",
                Field::DayShort(_) => "%a",
                Field::Hour24 => "%H",
                Field::Hour12 => "%I",
                Field::Minute => "%M",
                Field::Second => "%S",
                Field::Fraction(3) => "%3f",
                Field::Fraction(6) => "%6f",
                Field::Half(_) => "%p",
                Field::ZoneOffset => "%#z",
                _ => return None,
            });
        }
        Some(pattern)
    }
}

fn number_to(to: &mut String, number: i64, width: usize) {
    if number < 0 {
        to.push('-');
    }
    let digits = number.unsigned_abs().to_string();
    to.extend(std::iter::repeat_n('0', width.saturating_sub(digits.len())));
    to.push_str(&digits);
}

impl Field {
    fn write(self, time: &DateTime<Tz>, short: bool, to: &mut String) {
        let (number, width) = match self {
            Field::Year => (i64::from(time.year()), 4),
            Field::YearEnd(digits) => (i64::from(time.year()).rem_euclid(10_i64.pow(digits)), digits as usize),
            Field::IsoYear => (i64::from(time.iso_week().year()), 4),
            Field::Quarter => (i64::from(time.month0() / 3 + 1), 1),
            Field::Month => (i64::from(time.month()), 2),
            Field::Week => (i64::from(time.ordinal0() / 7 + 1), 2),
            Field::IsoWeek => (i64::from(time.iso_week().week()), 2),
            Field::DayOfYear => (i64::from(time.ordinal()), 3),
            Field::Day => (i64::from(time.day()), 2),
            Field::DayOfWeek => (i64::from(time.weekday().number_from_sunday()), 1),
            Field::IsoDayOfWeek => (i64::from(time.weekday().number_from_monday()), 1),
            Field::Hour24 => (i64::from(time.hour()), 2),
            Field::Hour12 => (i64::from(time.hour12().1), 2),
            Field::Minute => (i64::from(time.minute()), 2),
            Field::Second => (i64::from(time.second()), 2),
            Field::SecondOfDay => (i64::from(time.num_seconds_from_midnight()), 1),
            Field::Fraction(digits) => (
                i64::from(time.nanosecond() % 1_000_000_000) / 10_i64.pow(9_u32.saturating_sub(digits)),
                digits as usize,
            ),
            Field::MonthName(case) => return name(to, &case.of(&time.format("%B").to_string()), short),
            Field::DayName(case) => return name(to, &case.of(&time.format("%A").to_string()), short),
            Field::MonthShort(case) => return to.push_str(&case.of(&time.format("%b").to_string())),
            Field::DayShort(case) => return to.push_str(&case.of(&time.format("%a").to_string())),
            Field::Half(case) => return to.push_str(&case.of(if time.hour() < 12 { "AM" } else { "PM" })),
            Field::ZoneName => {
                let name = time.format("%Z").to_string();
                return to.push_str(if name == "+00:00" { "UTC" } else { &name });
            }
            Field::ZoneOffset => return offset_to(to, time.offset().fix().local_minus_utc()),
        };
        number_to(to, number, if short { 1 } else { width });
    }
}

/// Names of months and days take nine places, as in PostgreSQL.
fn name(to: &mut String, name: &str, short: bool) {
    to.push_str(name);
    let blanks = if short { 0 } else { 9_usize.saturating_sub(name.len()) };
    to.extend(std::iter::repeat_n(' ', blanks));
}

/// `+01`, or `+05:30`.
pub(super) fn offset_to(to: &mut String, seconds: i32) {
    let minutes = seconds.unsigned_abs() / 60;
    to.push(if seconds < 0 { '-' } else { '+' });
    number_to(to, i64::from(minutes / 60), 2);
    if !minutes.is_multiple_of(60) {
        to.push(':');
        number_to(to, i64::from(minutes % 60), 2);
    }
}

#[cfg(test)]
mod tests {
    use super::super::instant;
    use super::*;

    /// 2026-11-25 14:42:21.179922 UTC, a Wednesday.
    const US: i64 = 1_795_617_741_179_922;

    fn text(pattern: &str, zone: &str) -> String {
        let mut text = String::new();
        Pattern::parse(pattern).unwrap().format(US, instant::zone(zone).unwrap(), &mut text).unwrap();
        text
    }

    #[test]
    fn postgresql_s_patterns_give_what_postgresql_gives() {
        for (pattern, expected) in [
            ("YYYY-MM-DD HH24:MI:SS", "2026-11-25 14:42:21"),
            ("YYYY-MM-DD\"T\"HH24:MI:SS.MS", "2026-11-25T14:42:21.179"),
            ("HH12:MI:SS.US AM", "02:42:21.179922 PM"),
            ("Dy, DD Mon YYYY", "Wed, 25 Nov 2026"),
            ("Day|Month|FMMonth", "Wednesday|November |November"),
            ("FMDD.FMMM.YY", "25.11.26"),
            ("DDD IYYY-IW ID Q WW", "329 2026-48 3 4 47"),
            ("HH24:MI OF TZ", "14:42 +00 UTC"),
            ("yyyy-mm-dd hh24:mi:ss", "2026-11-25 14:42:21"),
        ] {
            assert_eq!(text(pattern, "UTC"), expected, "{pattern}");
        }
        assert_eq!(text("HH24:MI OF", "Asia/Kolkata"), "20:12 +05:30");
    }

    #[test]
    fn strftime_s_patterns_work_and_others_are_refused() {
        assert_eq!(text("%Y-%m-%dT%H:%M:%S%.3fZ", "UTC"), "2026-11-25T14:42:21.179Z");
        assert_eq!(text("%H:%M:%S.%f", "UTC"), "14:42:21.179922");
        assert_eq!(text("%H:%M %z", "Europe/Berlin"), "15:42 +0100");
        for pattern in ["", "Hello", "YYYY-MM-DDTHH24:MI:SS", "%Q", "\"YYYY", "--"] {
            let error = Pattern::parse(pattern).unwrap_err();
            assert!(error.to_string().contains("pattern"), "{pattern}: {error}");
        }
    }

    #[test]
    fn lengths_of_time_have_patterns_too() {
        let text = |pattern: &str, us| {
            let mut text = String::new();
            Pattern::parse(pattern).unwrap().format_span(Span::of_us(us), &mut text).map(|()| text)
        };
        assert_eq!(text("HH24:MI:SS", 175_999_796).unwrap(), "00:02:55");
        assert_eq!(text("DD HH24:MI:SS.US", 2 * super::super::span::DAY_US + 1).unwrap(), "02 00:00:00.000001");
        assert!(text("Month", 1).is_err());
        assert!(text("%H", 1).is_err());
    }

    #[test]
    fn times_are_read_by_patterns() {
        let read = |pattern: &str, text: &str| {
            Pattern::parse(pattern).unwrap().parse_time(text).map(|(time, _)| time.to_string())
        };
        assert_eq!(read("YYYY-MM-DD HH24:MI", "2026-11-25 14:43").unwrap(), "2026-11-25 14:43:00");
        assert_eq!(read("%Y-%m-%d", "2026-11-25").unwrap(), "2026-11-25 00:00:00");
        assert_eq!(read("%d/%b/%Y:%H:%M:%S", "25/Nov/2026:14:43:01").unwrap(), "2026-11-25 14:43:01");
        assert_eq!(read("DD Mon YYYY HH12:MI AM", "25 Nov 2026 02:43 PM").unwrap(), "2026-11-25 14:43:00");
        assert_eq!(read("%Y-%m-%d", "yesterday"), None);
    }
}
