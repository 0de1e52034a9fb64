//! Round numbers and times beside the axes.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::cli::top::clock::Clock;
use crate::cli::top::units;

/// Marks of the axis of values.
const MARKS: f64 = 4.5;
/// Lengths of steps of the axis of times, µs.
const TIME_STEPS_US: [i64; 32] = [
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
    10_800_000_000,
    21_600_000_000,
    86_400_000_000,
    604_800_000_000,
];

/// The same in months, for axes of years.
const MONTH_STEPS: [i64; 13] = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1_200, 2_400, 6_000];

/// What values are, and so how they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Measure {
    Bytes,
    BytesPerSecond,
    Ratio,
    Micros,
    /// Numbers, with a unit beside the axis; empty if it is not known.
    #[default]
    Number,
    Other(String),
}

impl Measure {
    /// By the unit of a column, as `kymo tables` has it.
    pub(super) fn of_unit(unit: &str) -> Measure {
        match unit {
            "bytes" => Measure::Bytes,
            "bytes/s" => Measure::BytesPerSecond,
            "ratio" => Measure::Ratio,
            "µs" | "us" => Measure::Micros,
            "" | "1" => Measure::Number,
            other => Measure::Other(other.to_owned()),
        }
    }

    /// By the name of a column, in which kymo has the unit last.
    pub(super) fn of_name(name: &str) -> Measure {
        let ends = |end: &str| name.ends_with(end);
        match () {
            () if ends("bytes_per_s") || ends("bytes_rate") || ends("bytes_per_second") => Measure::BytesPerSecond,
            () if ends("bytes") => Measure::Bytes,
            () if ends("_ratio") || ends("utilization") => Measure::Ratio,
            () if ends("_us") => Measure::Micros,
            () if ends("_celsius") => Measure::Other("°C".to_owned()),
            () => Measure::Number,
        }
    }

    /// What stands beside the axis, if its numbers have no unit.
    pub(super) fn unit(&self) -> &str {
        if let Measure::Other(unit) = self { unit } else { "" }
    }

    /// A value as short as it can be.
    pub(super) fn text(&self, value: f64) -> String {
        if value == 0.0 {
            return "0".to_owned();
        }
        let size = value.abs();
        let text = match self {
            Measure::Bytes => units::bytes(size),
            Measure::BytesPerSecond => units::bytes_per_second(size),
            Measure::Ratio => units::percent(size),
            Measure::Micros if size >= 1e6 => format!("{} s", units::count(size / 1e6)),
            Measure::Micros if size >= 1e3 => format!("{} ms", units::count(size / 1e3)),
            Measure::Micros => format!("{} µs", units::count(size)),
            Measure::Number | Measure::Other(_) if size < 0.01 => format!("{size:.1e}"),
            Measure::Number | Measure::Other(_) => units::count(size),
        };
        let (number, unit) =
            text.split_once(' ').map_or((text.as_str(), String::new()), |(number, unit)| (number, format!(" {unit}")));
        let number = if number.contains('.') && !number.contains('e') {
            number.trim_end_matches('0').trim_end_matches('.')
        } else {
            number
        };
        format!("{}{number}{unit}", if value < 0.0 { "−" } else { "" })
    }

    /// Round values from below the least to above the greatest, 0 included.
    pub(super) fn marks(&self, least: f64, greatest: f64) -> Vec<f64> {
        let (least, mut greatest) = (least.min(0.0), greatest.max(0.0));
        if greatest - least <= 0.0 {
            greatest = 1.0;
        }
        let raw = (greatest - least) / MARKS;
        let base = if *self == Measure::Bytes {
            1024f64.powf(raw.log2().div_euclid(10.0).max(0.0))
        } else {
            10f64.powf(raw.log10().floor())
        };
        let steps: &[f64] = match self {
            Measure::Bytes => &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1024.0],
            _ => &[1.0, 2.0, 2.5, 5.0, 10.0],
        };
        let step = base * steps.iter().find(|step| base * **step >= raw).unwrap_or(&1024.0);
        let (first, last) = ((least / step).floor(), (greatest / step).ceil());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some marks")]
        let count = (last - first).min(100.0) as u32;
        (0..=count).map(|at| (first + f64::from(at)) * step).collect()
    }
}

/// Round times within a window, at most `count`, with their texts.
pub(super) fn time_marks(from_us: i64, to_us: i64, count: i64) -> Vec<(i64, String)> {
    let clock = Clock::utc();
    let length_us = to_us.saturating_sub(from_us);
    let fits = |step: &i64| length_us / step < count.max(1);
    let Some(step) = TIME_STEPS_US.into_iter().find(fits) else { return month_marks(from_us, to_us, count.max(1)) };
    let first = clock.aligned(from_us, step);
    let marks = (0..=count + 1).map(|at| first + at * step).filter(|us| (from_us..=to_us).contains(us));
    marks.enumerate().map(|(at, us)| (us, clock.mark(us, step, at == 0))).collect()
}

/// First days of months, at most `count` and the year with each: days alone would be those of any year.
fn month_marks(from_us: i64, to_us: i64, count: i64) -> Vec<(i64, String)> {
    let day = |us: i64| Timestamp::from_microsecond(us).map(|time| time.to_zoned(TimeZone::UTC).date());
    let (Ok(from), Ok(to)) = (day(from_us), day(to_us)) else { return Vec::new() };
    let months = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month()) - 1;
    let (first, last) = (months(from), months(to));
    let longest = last - first + 1;
    let step = MONTH_STEPS.into_iter().find(|step| (last - first) / step < count).unwrap_or(longest);
    let begin = first.div_euclid(step) * step;
    let mark = |at: i64| {
        let (year, month) = (i16::try_from(at.div_euclid(12)).ok()?, i8::try_from(at.rem_euclid(12) + 1).ok()?);
        let us = Date::new(year, month, 1).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond();
        let text = if step % 12 == 0 { year.to_string() } else { clock_month(us) };
        (from_us..=to_us).contains(&us).then_some((us, text))
    };
    (0..=count + 1).filter_map(|at| mark(begin + at * step)).collect()
}

fn clock_month(us: i64) -> String {
    // Without the day of `25 Nov 2026`.
    Clock::utc().date(us).split_once(' ').map(|(_, month)| month.to_owned()).unwrap_or_default()
}

/// The window in words.
pub(super) fn window(from_us: i64, to_us: i64) -> String {
    let clock = Clock::utc();
    let (from, to) = (clock.date(from_us), clock.date(to_us));
    let decimals = if to_us.saturating_sub(from_us) < 10_000_000 { 3 } else { 0 };
    let (from_time, to_time) = (clock.time(from_us, decimals), clock.time(to_us, decimals));
    if from == to {
        format!("{from}, {from_time}–{to_time} UTC")
    } else {
        format!("{from}, {from_time} – {to}, {to_time} UTC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_have_zero() {
        let texts = |measure: Measure, least, greatest| {
            measure.marks(least, greatest).into_iter().map(|mark| measure.text(mark)).collect::<Vec<_>>()
        };
        assert_eq!(texts(Measure::BytesPerSecond, 3e5, 1.7e6), ["0", "500 kB/s", "1 MB/s", "1.5 MB/s", "2 MB/s"]);
        assert_eq!(
            texts(Measure::Bytes, 0.0, 3.5 * 1024.0 * 1024.0 * 1024.0),
            ["0", "1 GiB", "2 GiB", "3 GiB", "4 GiB"]
        );
        assert_eq!(texts(Measure::Ratio, 0.02, 0.8), ["0", "20 %", "40 %", "60 %", "80 %"]);
        assert_eq!(texts(Measure::Micros, 0.0, 1_800.0), ["0", "500 µs", "1 ms", "1.5 ms", "2 ms"]);
        assert_eq!(texts(Measure::Number, -3.0, 4.0), ["−4", "−2", "0", "2", "4"]);
        assert_eq!(texts(Measure::Number, 0.0, 0.0).first().map(String::as_str), Some("0"));
    }

    #[test]
    fn times_are_round() {
        // 2026-11-25 14:32:07.4 UTC
        let now_us = 1_795_617_127_400_000;
        let texts: Vec<_> = time_marks(now_us, now_us + 60_000_000, 8).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["14:32:10", ":20", ":30", ":40", ":50", "14:33",]);
        let day_us = 86_400_000_000;
        let texts = |days: i64| -> Vec<String> {
            time_marks(now_us, now_us + days * day_us, 6).into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(texts(150), ["Dec 2026", "Jan 2027", "Feb 2027", "Mar 2027", "Apr 2027"]);
        assert_eq!(texts(5 * 365), ["2027", "2028", "2029", "2030", "2031"]);
        assert_eq!(texts(900 * 365), ["2200", "2400", "2600", "2800"]);
        assert_eq!(time_marks(i64::MIN, i64::MAX, 6), []);
        assert_eq!(window(now_us, now_us + 60_000_000), "25 Nov 2026, 14:32:07–14:33:07 UTC");
    }

    #[test]
    fn units_come_from_names() {
        assert_eq!(Measure::of_name("rx_bytes"), Measure::Bytes);
        assert_eq!(Measure::of_unit("packet"), Measure::Other("packet".to_owned()));
    }
}
