//! Times made of numbers and texts, and numbers and names made of times.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Int64Array, IntervalMonthDayNanoArray, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, DurationMicrosecondType, Float64Type, Int64Type, IntervalUnit, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime};
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::ColumnarValue;

use super::arithmetic::DURATION;
use super::instant::{self, Instant};
use super::pattern::Pattern;
use super::scalar::{Call, Scalar};
use super::span::{DAY_US, HOUR_US, MINUTE_US, SECOND_US, Span, whole};
use crate::record::TIME_ZONE;

const NAIVE: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// A time in UTC.
pub(super) fn utc_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into()))
}

/// Seconds since 1970, with a fraction that is rounded to µs, or a text, with a pattern if you like, as a time.
pub(super) const TO_TIMESTAMP: Scalar = Scalar {
    name: "to_timestamp",
    aliases: &["from_unixtime"],
    usage: "to_timestamp(1795617780.5), to_timestamp('2026-11-25 14:43') or to_timestamp('25.11.2026', 'DD.MM.YYYY')",
    doc: "The time that is so many seconds after 1970, or that a text contains.",
    types: |types| {
        let first = match types.first()? {
            integer if integer.is_integer() => DataType::Int64,
            number if number.is_numeric() => DataType::Float64,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null if types.len() == 1 => {
                utc_type()
            }
            text if text.is_string() => DataType::Utf8,
            _ => return None,
        };
        let patterns = types.iter().skip(1);
        let fits = types.len() == 1 || first == DataType::Utf8 && patterns.clone().all(DataType::is_string);
        fits.then(|| (std::iter::once(first).chain(patterns.map(|_| DataType::Utf8)).collect(), utc_type()))
    },
    body: |call| {
        let array = call.array(0)?;
        let times: TimestampMicrosecondArray = match array.data_type() {
            DataType::Int64 => array
                .as_primitive::<Int64Type>()
                .try_unary(|seconds| seconds.checked_mul(SECOND_US).ok_or_else(|| beyond(&seconds.to_string())))?,
            DataType::Float64 => array
                .as_primitive::<Float64Type>()
                .try_unary(|seconds| whole(seconds * 1e6).ok_or_else(|| beyond(&seconds.to_string())))?,
            DataType::Utf8 => return texts(call, true),
            _ => return call.give(array),
        };
        call.give(Arc::new(times.with_timezone(TIME_ZONE)))
    },
    grows_with: None,
};

/// DuckDB's function: a text by a pattern, as a time without a zone.
pub(super) const STRPTIME: Scalar = Scalar {
    name: "strptime",
    aliases: &[],
    usage: "strptime('25.11.2026 14:43', '%d.%m.%Y %H:%M')",
    doc: "The time without zone that a text contains, by a pattern with percent signs.",
    types: |types| match types {
        [text, pattern] if text.is_string() && pattern.is_string() => Some((vec![DataType::Utf8; 2], NAIVE)),
        _ => None,
    },
    body: |call| texts(call, false),
    grows_with: None,
};

/// The numbers since 1970 that a time is, or the time that ms since 1970 are.
pub(super) const EPOCH_MS: Scalar = Scalar {
    name: "epoch_ms",
    aliases: &[],
    usage: "epoch_ms(time)",
    doc: "Milliseconds since 1970, or the time that is so many of them after 1970.",
    types: |types| match types {
        [integer] if integer.is_integer() => Some((vec![DataType::Int64], utc_type())),
        _ => since_1970(types),
    },
    body: |call| {
        let array = call.array(0)?;
        if array.data_type() != &DataType::Int64 {
            // Rounded, as in DuckDB.
            return us_of(call, |us| us / 1_000 + us % 1_000 / 500);
        }
        let times: TimestampMicrosecondArray = array
            .as_primitive::<Int64Type>()
            .try_unary(|ms| ms.checked_mul(1_000).ok_or_else(|| beyond(&format!("{ms} ms"))))?;
        call.give(Arc::new(times.with_timezone(TIME_ZONE)))
    },
    grows_with: Some(0),
};

/// µs since 1970, or of a length of time.
pub(super) const EPOCH_US: Scalar = Scalar {
    name: "epoch_us",
    aliases: &[],
    usage: "epoch_us(time)",
    doc: "Microseconds since 1970, or of a length of time.",
    types: since_1970,
    body: |call| us_of(call, |us| us),
    grows_with: Some(0),
};

/// ns since 1970, or of a length of time.
pub(super) const EPOCH_NS: Scalar = Scalar {
    name: "epoch_ns",
    aliases: &[],
    usage: "epoch_ns(time)",
    doc: "Nanoseconds since 1970, or of a length of time.",
    types: since_1970,
    body: |call| us_of(call, |us| us.saturating_mul(1_000)),
    grows_with: Some(0),
};

/// A time without a zone of year, month, day, hour, minute and seconds.
pub(super) const MAKE_TIMESTAMP: Scalar = Scalar {
    name: "make_timestamp",
    aliases: &[],
    usage: "make_timestamp(2026, 11, 25, 14, 43, 0.5)",
    doc: "The time without zone of a year, month, day, hour, minute and seconds.",
    types: |types| {
        let numbers = types.len() == 6 && types.iter().all(DataType::is_numeric);
        let mut taken = vec![DataType::Int64; 5];
        taken.push(DataType::Float64);
        numbers.then_some((taken, NAIVE))
    },
    body: |call| {
        let parts = (0..5).map(|position| call.array(position)).collect::<Result<Vec<_>>>()?;
        let parts: Vec<_> = parts.iter().map(AsArray::as_primitive::<Int64Type>).collect();
        let seconds = call.array(5)?;
        let seconds = seconds.as_primitive::<Float64Type>();
        let times = (0..seconds.len()).map(|row| {
            if seconds.is_null(row) || parts.iter().any(|part| part.is_null(row)) {
                return Ok(None);
            }
            let values: Vec<i64> = parts.iter().map(|part| part.value(row)).collect();
            moment(&values, seconds.value(row)).map(Some).ok_or_else(|| {
                exec_datafusion_err!("there is no time of {values:?} and {} seconds", seconds.value(row))
            })
        });
        call.give(Arc::new(times.collect::<Result<TimestampMicrosecondArray>>()?))
    },
    grows_with: None,
};

/// DuckDB's `date_diff`: how many beginnings of such units lie between two times.
pub(super) const DATE_DIFF: Scalar = Scalar {
    name: "date_diff",
    aliases: &["datediff"],
    usage: "date_diff('second', earlier, later)",
    doc: "How often a unit of time begins between two times.",
    types: unit_and_times,
    body: |call| between(call, |unit, a, b| Some(unit.number(b)? - unit.number(a)?)),
    grows_with: None,
};

/// DuckDB's `date_sub`: how many whole units lie between two times.
pub(super) const DATE_SUB: Scalar = Scalar {
    name: "datesub",
    aliases: &["timestampdiff"],
    usage: "datesub('second', earlier, later)",
    doc: "How many whole units of time lie between two times.",
    types: unit_and_times,
    body: |call| between(call, Unit::whole_between),
    grows_with: None,
};

/// Years, months, days and the rest between two times.
pub(super) const AGE: Scalar = Scalar {
    name: "age",
    aliases: &[],
    usage: "age(later, earlier); for now() - time, write that",
    doc: "The years, months, days and the rest between two times.",
    types: |types| match types {
        [a, b] if a.is_temporal() && b.is_temporal() => {
            Some((vec![utc_type(); 2], DataType::Interval(IntervalUnit::MonthDayNano)))
        }
        _ => None,
    },
    body: |call| {
        let (later, earlier) = (call.array(0)?, call.array(1)?);
        let (later, earlier) =
            (later.as_primitive::<TimestampMicrosecondType>(), earlier.as_primitive::<TimestampMicrosecondType>());
        let ages = later.iter().zip(earlier).map(|(a, b)| {
            let Some((a, b)) = a.zip(b) else { return Ok(None) };
            let age = if a < b { age(b, a).and_then(|age| age.times(-1.0)) } else { age(a, b) };
            let interval = age.and_then(Span::interval);
            interval.map(Some).ok_or_else(|| exec_datafusion_err!("an age is longer than an interval can be"))
        });
        call.give(Arc::new(ages.collect::<Result<IntervalMonthDayNanoArray>>()?))
    },
    grows_with: None,
};

/// `Wednesday`.
pub(super) const DAY_NAME: Scalar = Scalar {
    name: "dayname",
    aliases: &[],
    usage: "dayname(time)",
    doc: "The name of a time's day of the week.",
    types: local_time_to_text,
    body: |call| named(call, "%A"),
    grows_with: None,
};

/// `November`.
pub(super) const MONTH_NAME: Scalar = Scalar {
    name: "monthname",
    aliases: &[],
    usage: "monthname(time)",
    doc: "The name of a time's month.",
    types: local_time_to_text,
    body: |call| named(call, "%B"),
    grows_with: None,
};

/// The last day of a time's month.
pub(super) const LAST_DAY: Scalar = Scalar {
    name: "last_day",
    aliases: &[],
    usage: "last_day(time)",
    doc: "The last day of a time's month.",
    types: |types| match types {
        [time] if time.is_temporal() || time.is_string() => Some((vec![DataType::Date32], DataType::Date32)),
        _ => None,
    },
    body: |call| {
        let array = call.array(0)?;
        let last = |days: i32| {
            let date = Date32Type::to_naive_date_opt(days)?.checked_add_months(chrono::Months::new(1))?;
            Some(Date32Type::from_naive_date(date.with_day(1)?.pred_opt()?))
        };
        let dates = array.as_primitive::<Date32Type>().iter().map(|days| days.and_then(last));
        call.give(Arc::new(dates.collect::<Date32Array>()))
    },
    grows_with: None,
};

/// Whether it is a number, and neither infinite nor NaN. Every time is finite.
pub(super) const IS_FINITE: Scalar = Scalar {
    name: "isfinite",
    aliases: &[],
    usage: "isfinite(x)",
    doc: "Whether a number is neither infinite nor NaN. Times are finite.",
    types: |types| match types {
        [number] if number.is_numeric() => Some((vec![DataType::Float64], DataType::Boolean)),
        [time] if time.is_temporal() => Some((vec![time.clone()], DataType::Boolean)),
        _ => None,
    },
    body: |call| {
        let array = call.array(0)?;
        let finite: BooleanArray = match array.data_type() {
            DataType::Float64 => {
                array.as_primitive::<Float64Type>().iter().map(|number| number.map(f64::is_finite)).collect()
            }
            _ => (0..array.len()).map(|row| array.is_valid(row).then_some(true)).collect(),
        };
        call.give(Arc::new(finite))
    },
    grows_with: None,
};

/// The number of seconds in a text that is a time is beyond what a time can be.
fn beyond(number: &str) -> arrow::error::ArrowError {
    arrow::error::ArrowError::ComputeError(format!("{number} since 1970 is later or earlier than a time can be"))
}

fn texts(call: &Call<'_>, utc: bool) -> Result<ColumnarValue> {
    let array = call.array(0)?;
    let patterns = (1..call.args.len())
        .map(|position| match call.text(position) {
            Some(pattern) => Pattern::parse(pattern),
            None => plan_err!("the pattern of a time is a constant text"),
        })
        .collect::<Result<Vec<_>>>()?;
    let time = |text: &str| {
        if patterns.is_empty() {
            return Instant::parse(text).map(Instant::utc_us).ok_or_else(|| no_time(text));
        }
        let read = patterns.iter().find_map(|pattern| pattern.parse_time(text));
        match read {
            Some((time, offset)) => {
                Ok(time.and_utc().timestamp_micros() - i64::from(offset.unwrap_or_default()) * SECOND_US)
            }
            None => exec_err!("'{text}' is no time by the pattern of this call"),
        }
    };
    let times = array.as_string::<i32>().iter().map(|text| text.map(time).transpose());
    let times = times.collect::<Result<TimestampMicrosecondArray>>()?;
    call.give(Arc::new(if utc { times.with_timezone(TIME_ZONE) } else { times }))
}

/// The error for a text that is no time.
pub(super) fn no_time(text: &str) -> datafusion::common::DataFusionError {
    plan_datafusion_err!(
        "'{text}' is no time: write one such as '2026-11-25 14:43:00', '2026-11-25T14:43Z' or '2026-11-25 15:43 Europe/Berlin'"
    )
}

fn since_1970(types: &[DataType]) -> Option<(Vec<DataType>, DataType)> {
    let time = match types {
        [DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null] => utc_type(),
        [DataType::Duration(_)] => DURATION,
        _ => return None,
    };
    Some((vec![time], DataType::Int64))
}

fn us_of(call: &Call<'_>, number: fn(i64) -> i64) -> Result<ColumnarValue> {
    let array = call.array(0)?;
    let numbers: Int64Array = match array.data_type() {
        DataType::Duration(_) => array.as_primitive::<DurationMicrosecondType>().unary(number),
        _ => array.as_primitive::<TimestampMicrosecondType>().unary(number),
    };
    call.give(Arc::new(numbers))
}

fn moment(parts: &[i64], seconds: f64) -> Option<i64> {
    let [year, month, day, hour, minute] = parts else { return None };
    let date = NaiveDate::from_ymd_opt((*year).try_into().ok()?, (*month).try_into().ok()?, (*day).try_into().ok()?)?;
    let clock = (0..24).contains(hour) && (0..60).contains(minute) && (0.0..60.0).contains(&seconds);
    let us = hour * HOUR_US + minute * MINUTE_US + whole(seconds * 1e6)?;
    clock.then_some(date.and_time(NaiveTime::MIN).and_utc().timestamp_micros() + us)
}

/// A unit in which times are told apart.
#[derive(Clone, Copy)]
enum Unit {
    Us(i64),
    /// Weeks begin on Monday.
    Weeks,
    Months(i64),
}

impl Unit {
    fn named(name: &str) -> Result<Unit> {
        let span = Span::parse(&format!("1 {}", name.trim()));
        match span.filter(|_| name.trim().chars().all(char::is_alphabetic)) {
            Some(Span { days: 7, .. }) => Ok(Unit::Weeks),
            Some(Span { months, .. }) if months > 0 => Ok(Unit::Months(months)),
            Some(span) => Ok(Unit::Us(span.length_us().unwrap_or(1).max(1))),
            None => plan_err!("'{name}' is no unit of time: write 'second', 'minute', 'hour', 'day' or another one"),
        }
    }

    /// The number of the unit that a time is in.
    fn number(self, us: i64) -> Option<i64> {
        Some(match self {
            Unit::Us(unit) => us.div_euclid(unit),
            Unit::Weeks => (us.div_euclid(DAY_US) + 3).div_euclid(7),
            Unit::Months(unit) => months(instant::calendar(us)?).div_euclid(unit),
        })
    }

    fn whole_between(self, a: i64, b: i64) -> Option<i64> {
        Some(match self {
            Unit::Us(unit) => b.checked_sub(a)? / unit,
            Unit::Weeks => b.checked_sub(a)? / (7 * DAY_US),
            Unit::Months(unit) if b < a => -(whole_months(a, b)? / unit),
            Unit::Months(unit) => whole_months(b, a)? / unit,
        })
    }
}

fn months(time: NaiveDateTime) -> i64 {
    i64::from(time.year()) * 12 + i64::from(time.month0())
}

/// The whole months from `earlier` to `later`. The last day of a shorter month ends one, as in DuckDB.
fn whole_months(later: i64, earlier: i64) -> Option<i64> {
    let (to, from) = (instant::calendar(later)?, instant::calendar(earlier)?);
    let count = months(to) - months(from);
    let moved = from.checked_add_months(chrono::Months::new(u32::try_from(count).ok()?));
    Some(if moved.is_none_or(|moved| moved > to) { (count - 1).max(0) } else { count })
}

/// From `earlier` to `later`, field by field, as in PostgreSQL: where the day is an earlier one, the days of the month of `earlier`
/// count.
fn age(later: i64, earlier: i64) -> Option<Span> {
    let (to, from) = (instant::calendar(later)?, instant::calendar(earlier)?);
    let mut count = months(to) - months(from);
    let mut days = i64::from(to.day()) - i64::from(from.day());
    let mut us = (to.time() - from.time()).num_microseconds()?;
    if us < 0 {
        us += DAY_US;
        days -= 1;
    }
    if days < 0 {
        days += i64::from(from.date().num_days_in_month());
        count -= 1;
    }
    Some(Span { months: count, days, us })
}

fn unit_and_times(types: &[DataType]) -> Option<(Vec<DataType>, DataType)> {
    match types {
        [unit, a, b] if unit.is_string() && [a, b].iter().all(|time| time.is_temporal() || time.is_string()) => {
            Some((vec![DataType::Utf8, utc_type(), utc_type()], DataType::Int64))
        }
        _ => None,
    }
}

fn between(call: &Call<'_>, count: fn(Unit, i64, i64) -> Option<i64>) -> Result<ColumnarValue> {
    let Some(unit) = call.text(0) else { return plan_err!("the unit is a constant text, such as 'second'") };
    let unit = Unit::named(unit)?;
    let (a, b) = (call.array(1)?, call.array(2)?);
    let (a, b) = (a.as_primitive::<TimestampMicrosecondType>(), b.as_primitive::<TimestampMicrosecondType>());
    let numbers = a.iter().zip(b).map(|(a, b)| a.zip(b).and_then(|(a, b)| count(unit, a, b)));
    call.give(Arc::new(numbers.collect::<Int64Array>()))
}

fn local_time_to_text(types: &[DataType]) -> Option<(Vec<DataType>, DataType)> {
    match types {
        [DataType::Timestamp(_, zone)] => {
            Some((vec![DataType::Timestamp(TimeUnit::Microsecond, zone.clone())], DataType::Utf8))
        }
        [time] if time.is_temporal() || time.is_string() => Some((vec![NAIVE], DataType::Utf8)),
        _ => None,
    }
}

fn named(call: &Call<'_>, pattern: &str) -> Result<ColumnarValue> {
    let array: ArrayRef = call.array(0)?;
    let zone = match array.data_type() {
        DataType::Timestamp(_, Some(zone)) => Some(instant::zone(zone)?),
        _ => None,
    };
    let name = |us: i64| {
        let local = us.saturating_add(zone.map_or(0, |zone| instant::offset_us(zone, us)));
        instant::calendar(local).map(|time| time.format(pattern).to_string())
    };
    let names = array.as_primitive::<TimestampMicrosecondType>().iter().map(|us| us.and_then(name));
    call.give(Arc::new(names.collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;

    use super::super::scalar::called;
    use super::*;

    fn at(text: &str) -> ScalarValue {
        ScalarValue::TimestampMicrosecond(Some(Instant::parse(text).unwrap().utc_us()), Some(TIME_ZONE.into()))
    }

    fn of(scalar: Scalar, args: &[ScalarValue], returns: &DataType) -> Result<ScalarValue> {
        let args: Vec<ColumnarValue> = args.iter().cloned().map(ColumnarValue::Scalar).collect();
        match called(scalar, &args, returns)? {
            ColumnarValue::Scalar(value) => Ok(value),
            ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
        }
    }

    #[test]
    fn times_are_made_of_numbers_and_texts() {
        for (args, expected) in [
            (vec![ScalarValue::from(1_795_617_780_i64)], Some("2026-11-25 14:43")),
            // The float below is 1795617740.2086909…, and its µs are 208691.
            (vec![ScalarValue::from(1_795_617_740.208_691)], Some("2026-11-25 14:42:20.208691")),
            (vec![ScalarValue::from("2026-11-25 14:43")], Some("2026-11-25 14:43")),
            (vec!["2026-11-25 14:43".into(), "YYYY-MM-DD HH24:MI".into()], Some("2026-11-25 14:43")),
            (vec!["25.11.2026".into(), "%Y".into(), "%d.%m.%Y".into()], Some("2026-11-25")),
            (vec!["soon".into()], None),
            (vec![ScalarValue::from(1e300)], None),
        ] {
            let made = of(TO_TIMESTAMP, &args, &utc_type()).ok();
            assert_eq!(made, expected.map(at), "{args:?}");
        }
        let made = of(TO_TIMESTAMP, &[ScalarValue::Float64(None)], &utc_type()).unwrap();
        assert!(made.is_null());
        let mut parts: Vec<ScalarValue> = [2026_i64, 11, 25, 14, 43].map(ScalarValue::from).to_vec();
        parts.push(0.5.into());
        let ScalarValue::TimestampMicrosecond(us, None) = of(MAKE_TIMESTAMP, &parts, &NAIVE).unwrap() else { panic!() };
        assert_eq!(us, Some(Instant::parse("2026-11-25 14:43:00.5").unwrap().utc_us()));
    }

    #[test]
    fn differences_are_counted_as_duckdb_counts_them() {
        let (a, b) = ("2026-11-25 14:42:59.9", "2026-12-01 14:43:00");
        for (unit, boundaries, whole) in [
            ("second", 518_401, 518_400),
            ("minutes", 8_641, 8_640),
            ("day", 6, 6),
            ("week", 1, 0),
            ("month", 1, 0),
            ("year", 0, 0),
            ("millisecond", 518_400_100, 518_400_100),
        ] {
            let args = [ScalarValue::from(unit), at(a), at(b)];
            assert_eq!(
                of(DATE_DIFF, &args, &DataType::Int64).unwrap(),
                ScalarValue::from(i64::from(boundaries)),
                "{unit}"
            );
            assert_eq!(of(DATE_SUB, &args, &DataType::Int64).unwrap(), ScalarValue::from(i64::from(whole)), "{unit}");
        }
        assert!(of(DATE_DIFF, &["fortnight".into(), at(a), at(b)], &DataType::Int64).is_err());
        let ScalarValue::IntervalMonthDayNano(Some(years)) =
            of(AGE, &[at("2026-11-25 12:00"), at("2024-01-31")], &DataType::Null).unwrap()
        else {
            panic!()
        };
        assert_eq!(Span::of_interval(years).to_string(), "2 years 9 mons 25 days 12:00:00");
        // As PostgreSQL counts them.
        for (later, earlier, expected) in [
            ("2026-04-10", "2026-02-15", "1 mon 23 days"),
            ("2026-02-15", "2026-04-10", "-1 mons -23 days"),
            ("2026-03-15", "2026-01-31", "1 mon 15 days"),
            ("2026-02-28", "2026-01-31", "28 days"),
            ("2026-03-01", "2026-01-31 12:00", "1 mon 12:00:00"),
            ("2026-03-01", "2026-02-28 23:00", "01:00:00"),
        ] {
            let ScalarValue::IntervalMonthDayNano(Some(age)) =
                of(AGE, &[at(later), at(earlier)], &DataType::Null).unwrap()
            else {
                panic!()
            };
            assert_eq!(Span::of_interval(age).to_string(), expected, "{later} {earlier}");
        }
    }

    #[test]
    fn times_have_numbers_and_names() {
        let time = [at("2026-11-25 14:42:21.179922")];
        let text = |scalar| of(scalar, &time, &DataType::Utf8).unwrap();
        assert_eq!(text(DAY_NAME), "Wednesday".into());
        assert_eq!(text(MONTH_NAME), "November".into());
        let number = |scalar| of(scalar, &time, &DataType::Int64).unwrap();
        assert_eq!(number(EPOCH_MS), 1_795_617_741_180_i64.into());
        assert_eq!(number(EPOCH_US), 1_795_617_741_179_922_i64.into());
        assert_eq!(number(IS_FINITE), ScalarValue::Boolean(Some(true)));
        let date = ScalarValue::Date32(Some(Date32Type::from_naive_date(NaiveDate::from_ymd_opt(2024, 2, 5).unwrap())));
        let last = Date32Type::from_naive_date(NaiveDate::from_ymd_opt(2024, 2, 29).unwrap());
        assert_eq!(of(LAST_DAY, &[date], &DataType::Date32).unwrap(), ScalarValue::Date32(Some(last)));
    }
}
