//! Points in time: what people write, and time zones.

use arrow::array::timezone::Tz;
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone};
use datafusion::common::{Result, plan_datafusion_err};

use super::span::{DAY_US, HOUR_US, MINUTE_US, SECOND_US};

/// A time as written: by the clock of its zone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant {
    local_us: i64,
    zone: Option<Zone>,
}

#[derive(Clone, Copy, Debug)]
enum Zone {
    OffsetUs(i64),
    Named(Tz),
}

impl Instant {
    /// Reads `2026-11-25`, with or without a clock time behind a blank or a T, seconds, a fraction, AM or PM, and a zone.
    pub(super) fn parse(text: &str) -> Option<Instant> {
        let text = text.trim();
        let (date, rest) = split_date(text)?;
        let date_us =
            i64::from(date.num_days_from_ce() - NaiveDate::from_ymd_opt(1970, 1, 1)?.num_days_from_ce()) * DAY_US;
        let behind = rest.strip_prefix(['T', 't', ',']).unwrap_or(rest).trim_start();
        if behind.is_empty() {
            return Some(Instant { local_us: date_us, zone: None });
        }
        if behind.len() == rest.len() && !rest.starts_with(char::is_numeric) {
            // Such as `2026-11-25Z`.
            return Some(Instant { local_us: date_us, zone: Some(zone_of(behind)?) });
        }
        let (clock_us, zone) = parse_clock(behind)?;
        Some(Instant { local_us: date_us.checked_add(clock_us)?, zone })
    }

    /// µs since the epoch. A time without a zone is UTC.
    pub(super) fn utc_us(self) -> i64 {
        match self.zone {
            None => self.local_us,
            Some(Zone::OffsetUs(offset)) => self.local_us - offset,
            Some(Zone::Named(zone)) => utc_us(zone, self.local_us),
        }
    }

    /// µs since the epoch. A time without a zone is by the clock of `zone`.
    pub(super) fn utc_us_in(self, zone: Tz) -> i64 {
        if self.zone.is_none() { utc_us(zone, self.local_us) } else { self.utc_us() }
    }

    /// Whether it was written with a zone.
    pub(super) fn has_zone(self) -> bool {
        self.zone.is_some()
    }
}

/// µs since midnight of a clock time such as `14:43`, without a zone.
pub(super) fn clock_us(text: &str) -> Option<i64> {
    parse_clock(text.trim()).filter(|(_, zone)| zone.is_none()).map(|(us, _)| us)
}

fn split_date(text: &str) -> Option<(NaiveDate, &str)> {
    let mut numbers = [0_i64; 3];
    let mut rest = text;
    for (position, number) in numbers.iter_mut().enumerate() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if position == 0 && digits == 8 {
            let date = NaiveDate::parse_from_str(&rest[..8], "%Y%m%d").ok()?;
            return Some((date, &rest[8..]));
        }
        let bounds = if position == 0 { 4..=6 } else { 1..=2 };
        if !bounds.contains(&digits) {
            return None;
        }
        *number = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        if position < 2 {
            rest = rest.strip_prefix(['-', '/'])?;
        }
    }
    let [year, month, day] = numbers;
    let date = NaiveDate::from_ymd_opt(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?)?;
    Some((date, rest))
}

fn parse_clock(text: &str) -> Option<(i64, Option<Zone>)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(text.len());
    let (clock, rest) = text.split_at(end);
    let mut parts = clock.split(':');
    let small = |part: &str, most: i64| {
        let number = part.parse().ok().filter(|number| (0..=most).contains(number));
        number.filter(|_| part.len() <= 2)
    };
    let (mut hours, minutes) = (small(parts.next()?, 24)?, small(parts.next()?, 59)?);
    let (seconds, fraction) = match parts.next() {
        None => (0, 0),
        Some(seconds) => {
            let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
            (small(whole, 60)?, fraction_us(fraction)?)
        }
    };
    if parts.next().is_some() {
        return None;
    }
    let mut rest = rest.trim_start();
    for (word, later) in [("am", 0), ("pm", 12)] {
        let half = rest.get(..2).filter(|begin| begin.eq_ignore_ascii_case(word));
        if half.is_some() && !rest[2..].starts_with(char::is_alphabetic) {
            if !(1..=12).contains(&hours) {
                return None;
            }
            hours = hours % 12 + later;
            rest = rest[2..].trim_start();
        }
    }
    let us = hours * HOUR_US + minutes * MINUTE_US + seconds * SECOND_US + fraction;
    if us > DAY_US {
        return None;
    }
    let zone = if rest.is_empty() { None } else { Some(zone_of(rest)?) };
    Some((us, zone))
}

/// µs of the digits behind the point, rounded.
fn fraction_us(digits: &str) -> Option<i64> {
    if digits.is_empty() {
        return Some(0);
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seven: i64 = format!("{digits:0<7}").get(..7)?.parse().ok()?;
    Some((seven + 5) / 10)
}

fn zone_of(text: &str) -> Option<Zone> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("z") {
        return Some(Zone::OffsetUs(0));
    }
    if let Some(digits) = text.strip_prefix(['+', '-']) {
        let parts: Vec<&str> = match digits.split_once(':') {
            Some((hours, rest)) => std::iter::once(hours).chain(rest.split(':')).collect(),
            None if digits.len() == 4 => vec![digits.get(..2)?, digits.get(2..)?],
            None => vec![digits],
        };
        let mut us = 0;
        for (part, unit) in parts.iter().zip([HOUR_US, MINUTE_US, SECOND_US]) {
            let number: i64 = part.parse().ok().filter(|number| (0..60).contains(number) && part.len() <= 2)?;
            us += number * unit;
        }
        let known = parts.len() <= 3 && us < 16 * HOUR_US;
        return known.then_some(Zone::OffsetUs(if text.starts_with('-') { -us } else { us }));
    }
    zone(text).ok().map(Zone::Named)
}

/// The zone of this name or offset.
pub(super) fn zone(name: &str) -> Result<Tz> {
    name.parse().map_err(|_| {
        plan_datafusion_err!("there is no time zone '{name}': write one such as 'Europe/Berlin', 'UTC' or '+02:00'")
    })
}

/// How much later the clock of the zone is than UTC at this moment, in µs.
pub(super) fn offset_us(zone: Tz, utc_us: i64) -> i64 {
    let Some(utc) = DateTime::from_timestamp_micros(utc_us) else { return 0 };
    i64::from(zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc()) * SECOND_US
}

/// The moment at which the clock of the zone shows this time: the first one if there are two. A time that the clock skips is
/// taken by the offset before the skip.
pub(super) fn utc_us(zone: Tz, local_us: i64) -> i64 {
    let Some(local) = DateTime::from_timestamp_micros(local_us).map(|time| time.naive_utc()) else { return local_us };
    match zone.offset_from_local_datetime(&local).earliest() {
        Some(offset) => local_us - i64::from(offset.fix().local_minus_utc()) * SECOND_US,
        None => local_us - offset_us(zone, local_us - DAY_US),
    }
}

/// The calendar's view of µs since the epoch; `None` beyond the years that a calendar has.
pub(super) fn calendar(us: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(us).map(|time| time.naive_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Option<String> {
        Instant::parse(text).and_then(|instant| calendar(instant.utc_us())).map(|time| time.to_string())
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, expected) in [
            ("2026-11-25", "2026-11-25 00:00:00"),
            ("2026-11-25 14:43", "2026-11-25 14:43:00"),
            ("2026-11-25T14:43Z", "2026-11-25 14:43:00"),
            ("2026-1-5 2:03:04", "2026-01-05 02:03:04"),
            ("2026/11/25 14:43:21.179922", "2026-11-25 14:43:21.179922"),
            ("20261125", "2026-11-25 00:00:00"),
            ("20261125T144300", "refused"),
            ("2026-11-25 15:43+01", "2026-11-25 14:43:00"),
            ("2026-11-25 15:43:00 +0100", "2026-11-25 14:43:00"),
            ("2026-11-25 20:13:00+05:30", "2026-11-25 14:43:00"),
            ("2026-11-25 15:43:00 Europe/Berlin", "2026-11-25 14:43:00"),
            ("2026-11-25 14:43 UTC", "2026-11-25 14:43:00"),
            ("2026-11-25 2:43 PM", "2026-11-25 14:43:00"),
            ("2026-11-25 12:00 am", "2026-11-25 00:00:00"),
            ("2026-11-25 14:43:00.1234567", "2026-11-25 14:43:00.123457"),
            ("2026-13-01", "refused"),
            ("2026-02-30", "refused"),
            ("2026-11-25 25:00", "refused"),
            ("2026-11-25 14:43 Nowhere", "refused"),
            ("14:43", "refused"),
            ("yesterday", "refused"),
            ("2026-11-2514:43", "refused"),
            ("", "refused"),
        ] {
            assert_eq!(utc(text).as_deref().unwrap_or("refused"), expected, "{text}");
        }
        assert_eq!(clock_us("14:43"), Some(14 * HOUR_US + 43 * MINUTE_US));
        assert_eq!(clock_us("14:43Z"), None);
    }

    #[test]
    fn clocks_that_are_set_twice_a_year_are_followed() {
        let berlin = zone("Europe/Berlin").unwrap();
        let at = |text: &str| Instant::parse(text).unwrap().utc_us();
        assert_eq!(offset_us(berlin, at("2026-11-25")), HOUR_US);
        assert_eq!(offset_us(berlin, at("2026-07-01")), 2 * HOUR_US);
        // 02:30 comes twice on the last Sunday of October, and never on that of March.
        assert_eq!(utc_us(berlin, at("2026-10-25 02:30")), at("2026-10-25 00:30"));
        assert_eq!(utc_us(berlin, at("2026-03-29 02:30")), at("2026-03-29 01:30"));
        assert!(zone("Europe/Nowhere").is_err());
    }
}
