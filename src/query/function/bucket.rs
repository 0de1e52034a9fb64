//! `date_bin` and `time_bucket`: the beginning of the bucket that a time falls into.
//!
//! Buckets are counted on the clock of the time's zone, so a day begins at its midnight. Weeks begin on Monday.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit, TimestampMicrosecondType};
use chrono::Datelike;
use datafusion::common::{Result, ScalarValue, exec_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::ColumnarValue;

use super::instant::{self, Instant};
use super::scalar::{Call, Scalar};
use super::span::{DAY_US, Span};
use crate::record::TIME_ZONE;

/// PostgreSQL's function. Without an origin, buckets are counted from 1970-01-01, and weeks from the Monday after it.
pub(super) const DATE_BIN: Scalar = Scalar {
    name: "date_bin",
    aliases: &[],
    usage: "date_bin(INTERVAL '10 seconds', time), with the beginning of any bucket as a third argument if you like",
    doc: "When the bucket begins in which a time lies. Buckets have this width.",
    types: |types| types_of(types, false),
    body: |call| bin(call, &EPOCH),
    grows_with: Some(1),
};

/// DuckDB's and Timescale's function. Without an origin, buckets are counted from Monday 2000-01-03, and months from 2000-01-01.
pub(super) const TIME_BUCKET: Scalar = Scalar {
    name: "time_bucket",
    aliases: &[],
    usage: "time_bucket(INTERVAL '10 seconds', time), with an offset, an origin or a time zone as a third argument if you like",
    doc: "When the bucket begins in which a time lies. Weeks begin on Monday.",
    types: |types| types_of(types, true),
    body: |call| bin(call, &MILLENNIUM),
    grows_with: Some(1),
};

/// Where buckets are counted from if the statement does not say, in µs since 1970.
struct Origins {
    days: i64,
    weeks: i64,
    months: i64,
}

const EPOCH: Origins = Origins { days: 0, weeks: 4 * DAY_US, months: 0 };
const MILLENNIUM: Origins = Origins { days: 10_959 * DAY_US, weeks: 10_959 * DAY_US, months: 10_957 * DAY_US };

fn types_of(types: &[DataType], more: bool) -> Option<(Vec<DataType>, DataType)> {
    let ([width, time] | [width, time, _]) = types else { return None };
    let width = match width {
        DataType::Interval(_) | DataType::Duration(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        text if text.is_string() => DataType::Utf8,
        _ => return None,
    };
    let time = match time {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Date32 | DataType::Date64 => DataType::Timestamp(TimeUnit::Microsecond, None),
        text if text.is_string() || text.is_null() => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => return None,
    };
    let third = match types.get(2) {
        None => None,
        Some(DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) => Some(time.clone()),
        Some(text) if text.is_string() => Some(DataType::Utf8),
        Some(DataType::Interval(_) | DataType::Duration(_)) if more => {
            Some(DataType::Interval(IntervalUnit::MonthDayNano))
        }
        Some(_) => return None,
    };
    let returns = time.clone();
    Some(([width, time].into_iter().chain(third).collect(), returns))
}

/// The width of buckets.
#[derive(Clone, Copy)]
enum Width {
    Us(i64),
    Months(i64),
}

fn bin(call: &Call<'_>, origins: &Origins) -> Result<ColumnarValue> {
    let DataType::Timestamp(_, zone) = call.returns else { return exec_err!("buckets of {}", call.returns) };
    let own = zone.as_deref().filter(|zone| *zone != TIME_ZONE).map(instant::zone).transpose()?;
    let width = width(call)?;
    let mut zone = own;
    let mut origin_us = match width {
        Width::Months(_) => origins.months,
        Width::Us(us) if us % (7 * DAY_US) == 0 => origins.weeks,
        Width::Us(_) => origins.days,
    };
    let third = call.args.get(2).map(|_| call.constant(2));
    match third {
        None => {}
        Some(Some(ScalarValue::TimestampMicrosecond(Some(us), _))) => origin_us = on_clock(zone, *us),
        Some(Some(ScalarValue::IntervalMonthDayNano(Some(interval)))) => {
            let us = Span::of_interval(*interval).length_us().unwrap_or_default();
            origin_us = origin_us.saturating_add(us);
        }
        Some(Some(ScalarValue::Utf8(Some(text)))) => match (Instant::parse(text), Span::parse(text)) {
            (Some(origin), _) => {
                let us = zone.map_or_else(|| origin.utc_us(), |zone| origin.utc_us_in(zone));
                origin_us = on_clock(zone, us);
            }
            (None, Some(offset)) => {
                origin_us = origin_us.saturating_add(offset.length_us().unwrap_or_default());
            }
            (None, None) => zone = Some(instant::zone(text)?),
        },
        Some(_) => return plan_err!("the origin of buckets is a constant, such as TIMESTAMP '2026-01-01'"),
    }
    let array = call.array(1)?;
    let times = array.as_primitive::<TimestampMicrosecondType>();
    let binned: PrimitiveArray<TimestampMicrosecondType> = match (zone, width) {
        (None, Width::Us(width)) => {
            // A row mostly falls into the bucket of the row before, and a division takes long.
            let mut begin = floor(0, Width::Us(width), origin_us);
            let begins = times.values().iter().map(|us| {
                if us.wrapping_sub(begin).cast_unsigned() >= width.cast_unsigned() {
                    begin = floor(*us, Width::Us(width), origin_us);
                }
                begin
            });
            PrimitiveArray::new(begins.collect(), times.nulls().cloned())
        }
        (None, width) => times.unary(|us| floor(us, width, origin_us)),
        (Some(zone), width) => times.unary(|us| {
            let offset = instant::offset_us(zone, us);
            let local = floor(us.saturating_add(offset), width, origin_us);
            let begin = local.saturating_sub(offset);
            // The clock may have been set since then.
            if instant::offset_us(zone, begin) == offset { begin } else { instant::utc_us(zone, local) }
        }),
    };
    let binned: ArrayRef = Arc::new(binned.with_data_type(call.returns.clone()));
    call.give(binned)
}

fn on_clock(zone: Option<Tz>, us: i64) -> i64 {
    zone.map_or(us, |zone| us.saturating_add(instant::offset_us(zone, us)))
}

fn width(call: &Call<'_>) -> Result<Width> {
    let span = match call.constant(0) {
        Some(ScalarValue::IntervalMonthDayNano(Some(interval))) => Span::of_interval(*interval),
        Some(ScalarValue::Utf8(Some(text))) => Span::parse(text).ok_or_else(|| {
            plan_datafusion_err!("'{text}' is no width of buckets: write one such as INTERVAL '10 seconds'")
        })?,
        _ => return plan_err!("the width of buckets is a constant, such as INTERVAL '10 seconds'"),
    };
    match span {
        Span { months: 0, .. } => match span.length_us() {
            Some(us) if us > 0 => Ok(Width::Us(us)),
            _ => plan_err!("the width of buckets is at least a microsecond"),
        },
        Span { months, days: 0, us: 0 } if months > 0 => Ok(Width::Months(months)),
        _ => plan_err!("the width of buckets is in months or in days and hours, not in both"),
    }
}

/// Whether buckets of this width begin on Mondays.
pub(super) fn is_weeks(width: IntervalMonthDayNano) -> bool {
    let length = Span::of_interval(width).length_us();
    width.months == 0 && length.is_some_and(|us| us > 0 && us % (7 * DAY_US) == 0)
}

/// The beginning of the bucket.
fn floor(us: i64, width: Width, origin_us: i64) -> i64 {
    match width {
        Width::Us(width) => us.wrapping_sub(us.wrapping_sub(origin_us).rem_euclid(width)),
        Width::Months(width) => floor_months(us, width, origin_us).unwrap_or(us),
    }
}

fn floor_months(us: i64, width: i64, origin_us: i64) -> Option<i64> {
    let (time, origin) = (instant::calendar(us)?, instant::calendar(origin_us)?);
    let month = |time: chrono::NaiveDateTime| i64::from(time.year()) * 12 + i64::from(time.month0());
    let bucket = |number: i64| {
        let months = chrono::Months::new(u32::try_from(number.unsigned_abs().checked_mul(width.unsigned_abs())?).ok()?);
        if number < 0 { origin.checked_sub_months(months) } else { origin.checked_add_months(months) }
    };
    let mut number = (month(time) - month(origin)).div_euclid(width);
    let mut begin = bucket(number)?;
    // An origin in the middle of a month.
    if begin > time {
        number -= 1;
        begin = bucket(number)?;
    }
    Some(begin.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        Instant::parse(text).unwrap().utc_us()
    }

    fn binned(scalar: Scalar, width: &str, time: &str, third: Option<ScalarValue>, zone: &str) -> Result<String> {
        let returns = DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
        let time = ScalarValue::TimestampMicrosecond(Some(at(time)), Some(zone.into()));
        let args = [Some(ScalarValue::from(width)), Some(time), third];
        let args: Vec<ColumnarValue> = args.into_iter().flatten().map(ColumnarValue::Scalar).collect();
        match super::super::scalar::called(scalar, &args, &returns)? {
            ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(us), _)) => {
                Ok(instant::calendar(us).unwrap().to_string())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn buckets_begin_where_duckdb_and_postgresql_begin_them() {
        let time = "2026-11-25 14:42:21.179922";
        for (scalar, width, third, expected) in [
            (DATE_BIN, "1 second", None, "2026-11-25 14:42:21"),
            (DATE_BIN, "5s", None, "2026-11-25 14:42:20"),
            (DATE_BIN, "250 ms", None, "2026-11-25 14:42:21"),
            (DATE_BIN, "1 day", None, "2026-11-25 00:00:00"),
            // Monday.
            (DATE_BIN, "1 week", None, "2026-11-23 00:00:00"),
            (DATE_BIN, "1 month", None, "2026-11-01 00:00:00"),
            (DATE_BIN, "1 year", None, "2026-01-01 00:00:00"),
            (DATE_BIN, "10 seconds", Some("2026-01-01 00:00:03"), "2026-11-25 14:42:13"),
            (DATE_BIN, "1 month", Some("2000-01-26"), "2026-10-26 00:00:00"),
            (TIME_BUCKET, "1 week", None, "2026-11-23 00:00:00"),
            (TIME_BUCKET, "5 months", None, "2026-09-01 00:00:00"),
            (TIME_BUCKET, "10 seconds", Some("3 seconds"), "2026-11-25 14:42:13"),
            (TIME_BUCKET, "1 day", Some("Europe/Berlin"), "2026-11-24 23:00:00"),
        ] {
            let third = third.map(ScalarValue::from);
            assert_eq!(binned(scalar, width, time, third, "UTC").unwrap(), expected, "{} {width}", scalar.name);
        }
        for width in ["0 s", "-1 day", "1 month 1 day", "soon"] {
            binned(DATE_BIN, width, time, None, "UTC").unwrap_err();
        }
    }

    #[test]
    fn buckets_follow_the_clock_of_the_zone() {
        let berlin = |width: &str, time: &str| binned(DATE_BIN, width, time, None, "Europe/Berlin").unwrap();
        assert_eq!(berlin("1 day", "2026-11-25 14:42"), "2026-11-24 23:00:00");
        // The day on which the clock is set back has 25 hours.
        assert_eq!(berlin("1 day", "2026-10-25 22:30"), "2026-10-24 22:00:00");
        assert_eq!(berlin("1 month", "2026-10-25 22:30"), "2026-09-30 22:00:00");
        // 02:00 to 03:00 comes twice.
        assert_eq!(berlin("1 hour", "2026-10-25 00:30"), "2026-10-25 00:00:00");
        assert_eq!(berlin("1 hour", "2026-10-25 01:30"), "2026-10-25 01:00:00");
    }
}
