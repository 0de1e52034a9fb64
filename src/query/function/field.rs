//! `date_part` and `extract`: a field of a time, or of a difference of times.
//!
//! Fields are whole numbers, as in DuckDB, except `epoch`, which is a float with its fraction. Those of a difference are what a
//! clock shows: 2 minutes and 55 seconds have the `second` 55. `epoch` is its whole length in seconds.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::compute::{DatePart, date_part};
use arrow::datatypes::{
    DataType, DurationMicrosecondType, Field, FieldRef, Int32Type, IntervalMonthDayNanoType, IntervalUnit,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::functions::datetime;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::instant;
use super::span::{DAY_US, HOUR_US, MINUTE_US, SECOND_US, Span};

/// `date_part(field, time)`.
pub(super) fn function() -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    ScalarUDF::new_from_impl(FieldOf { signature, aliases: vec!["datepart".into()] })
}

/// A field by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Millennium,
    Century,
    Decade,
    Year,
    IsoYear,
    Quarter,
    Month,
    Week,
    Day,
    DayOfYear,
    /// Sunday is 0.
    DayOfWeek,
    /// Monday is 1.
    IsoDayOfWeek,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    Epoch,
    /// Seconds by which the zone is ahead of UTC.
    Timezone,
}

impl Part {
    fn named(name: &str) -> Option<Part> {
        let name = name.trim_matches(|c| c == '\'' || c == '"').to_lowercase();
        Some(match name.as_str() {
            "millennium" | "millennia" | "millenniums" => Part::Millennium,
            "century" | "centuries" => Part::Century,
            "decade" | "decades" => Part::Decade,
            "year" | "years" | "y" | "yr" | "yrs" | "yyyy" => Part::Year,
            "isoyear" => Part::IsoYear,
            "quarter" | "quarters" | "qtr" => Part::Quarter,
            "month" | "months" | "mon" | "mons" => Part::Month,
            "week" | "weeks" | "w" | "weekofyear" => Part::Week,
            "day" | "days" | "d" | "dayofmonth" => Part::Day,
            "doy" | "dayofyear" => Part::DayOfYear,
            "dow" | "dayofweek" | "weekday" => Part::DayOfWeek,
            "isodow" => Part::IsoDayOfWeek,
            "hour" | "hours" | "h" | "hr" | "hrs" => Part::Hour,
            "minute" | "minutes" | "m" | "min" | "mins" => Part::Minute,
            "second" | "seconds" | "s" | "sec" | "secs" => Part::Second,
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" => Part::Millisecond,
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" => Part::Microsecond,
            "nanosecond" | "nanoseconds" | "ns" => Part::Nanosecond,
            "epoch" => Part::Epoch,
            "timezone" => Part::Timezone,
            _ => return None,
        })
    }

    /// What Arrow reads from a calendar.
    fn of_calendar(self) -> Option<DatePart> {
        Some(match self {
            Part::Year | Part::Millennium | Part::Century | Part::Decade => DatePart::Year,
            Part::IsoYear => DatePart::YearISO,
            Part::Quarter => DatePart::Quarter,
            Part::Month => DatePart::Month,
            Part::Week => DatePart::Week,
            Part::Day => DatePart::Day,
            Part::DayOfYear => DatePart::DayOfYear,
            Part::DayOfWeek => DatePart::DayOfWeekSunday0,
            Part::IsoDayOfWeek => DatePart::DayOfWeekMonday1,
            _ => return None,
        })
    }

    /// Of µs since midnight.
    fn of_clock(self, us: i64) -> Option<i64> {
        Some(match self {
            Part::Hour => us / HOUR_US,
            Part::Minute => us % HOUR_US / MINUTE_US,
            Part::Second => us % MINUTE_US / SECOND_US,
            Part::Millisecond => us % MINUTE_US / 1_000,
            Part::Microsecond => us % MINUTE_US,
            Part::Nanosecond => us % MINUTE_US * 1_000,
            _ => return None,
        })
    }

    fn of_year(self, year: i64) -> i64 {
        match self {
            Part::Millennium => (year + 999).div_euclid(1_000),
            Part::Century => (year + 99).div_euclid(100),
            Part::Decade => year.div_euclid(10),
            _ => year,
        }
    }

    fn of_span(self, span: Span) -> Option<i64> {
        Some(match self {
            Part::Millennium => span.months / 12_000,
            Part::Century => span.months / 1_200,
            Part::Decade => span.months / 120,
            Part::Year => span.months / 12,
            Part::Quarter => span.months % 12 / 3 + 1,
            Part::Month => span.months % 12,
            Part::Day => span.days,
            _ => return self.of_clock(span.us),
        })
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FieldOf {
    signature: Signature,
    aliases: Vec<String>,
}

impl ScalarUDFImpl for FieldOf {
    fn name(&self) -> &'static str {
        "date_part"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [name, time] = types else {
            return plan_err!("date_part takes a field and a time: date_part('hour', time)");
        };
        let time = match time {
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            // Text is read as a time.
            DataType::Date32 | DataType::Date64 | DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
                DataType::Timestamp(TimeUnit::Microsecond, None)
            }
            DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
            DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
            DataType::Duration(_) | DataType::Null => DataType::Duration(TimeUnit::Microsecond),
            other => {
                return plan_err!(
                    "{other} has no fields of a time; to_timestamp(…) makes a time of seconds since 1970"
                );
            }
        };
        if !(name.is_string() || name.is_null()) {
            return plan_err!("the field of date_part is a text, such as date_part('hour', time)");
        }
        Ok(vec![DataType::Utf8, time])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type of date_part depends on the field")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let name = args.scalar_arguments.first().copied().flatten().and_then(|value| value.try_as_str().flatten());
        let Some(name) = name else { return plan_err!("the field of date_part is a constant text, such as 'hour'") };
        let returns = if known(name)? == Part::Epoch { DataType::Float64 } else { DataType::Int64 };
        Ok(Arc::new(Field::new(self.name(), returns, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(name), time] = args.args.as_slice() else {
            return exec_err!("the field of date_part is a constant text, such as 'hour'");
        };
        let part = known(name.try_as_str().flatten().unwrap_or_default())?;
        match time {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(of(part, array)?)),
            ColumnarValue::Scalar(value) => {
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&of(part, &value.to_array()?)?, 0)?))
            }
        }
    }

    /// Lets `extract(year FROM time) = 2026` skip files, as DataFusion's own function does.
    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        let Expr::Literal(ScalarValue::Int64(Some(year)), metadata) = literal else { return Ok(PreimageResult::None) };
        let Ok(year) = i32::try_from(*year) else { return Ok(PreimageResult::None) };
        let literal = Expr::Literal(ScalarValue::Int32(Some(year)), metadata.clone());
        datetime::date_part().preimage(args, &literal, info)
    }
}

fn known(name: &str) -> Result<Part> {
    match Part::named(name) {
        Some(part) => Ok(part),
        None => plan_err!(
            "a time has no field '{name}': it has year, quarter, month, week, day, dow, isodow, doy, hour, minute, second, \
             millisecond, microsecond and epoch, among others"
        ),
    }
}

fn of(part: Part, array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Timestamp(_, zone) => {
            let us = array.as_primitive::<TimestampMicrosecondType>();
            if part == Part::Epoch {
                return Ok(Arc::new(us.unary::<_, arrow::datatypes::Float64Type>(|us| us as f64 / 1e6)));
            }
            if let Some(calendar) = part.of_calendar() {
                let number = date_part(array, calendar)?;
                let numbers = number.as_primitive::<Int32Type>();
                let numbers: Int64Array = numbers.unary(|number| part.of_year(number.into()));
                return Ok(Arc::new(numbers));
            }
            let zone = zone.as_deref().map(instant::zone).transpose()?;
            let offset = |us| zone.map_or(0, |zone| instant::offset_us(zone, us));
            let utc = zone.is_none() || array.data_type() == &utc_type();
            let local = |us: i64| if utc { us } else { us.saturating_add(offset(us)) };
            let numbers: Int64Array = match part {
                Part::Timezone => us.unary(|us| offset(us) / SECOND_US),
                _ => us.unary(|us| part.of_clock(local(us).rem_euclid(DAY_US)).unwrap_or_default()),
            };
            Ok(Arc::new(numbers))
        }
        DataType::Time64(_) => {
            let us = array.as_primitive::<Time64MicrosecondType>();
            if part == Part::Epoch {
                return Ok(Arc::new(us.unary::<_, arrow::datatypes::Float64Type>(|us| us as f64 / 1e6)));
            }
            if part.of_clock(0).is_none() {
                return exec_err!("a time of day has no {part:?}");
            }
            let numbers: Int64Array = us.unary(|us| part.of_clock(us).unwrap_or_default());
            Ok(Arc::new(numbers))
        }
        DataType::Duration(_) => {
            let us = array.as_primitive::<DurationMicrosecondType>();
            let spans = us.iter().map(|us| us.map(Span::of_us));
            if part == Part::Epoch {
                return Ok(Arc::new(us.unary::<_, arrow::datatypes::Float64Type>(|us| us as f64 / 1e6)));
            }
            of_spans(part, spans)
        }
        DataType::Interval(_) => {
            let spans = array.as_primitive::<IntervalMonthDayNanoType>();
            let spans = spans.iter().map(|interval| interval.map(Span::of_interval));
            if part == Part::Epoch {
                // As PostgreSQL: a year has 365.25 days, and the months beyond years have 30.
                let seconds = spans.map(|span| {
                    span.map(|Span { months, days, us }| {
                        let days = (months / 12) as f64 * 365.25 + (months % 12 * 30 + days) as f64;
                        days * 86_400.0 + us as f64 / 1e6
                    })
                });
                return Ok(Arc::new(seconds.collect::<Float64Array>()));
            }
            of_spans(part, spans)
        }
        other => exec_err!("date_part over {other}"),
    }
}

fn utc_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(crate::record::TIME_ZONE.into()))
}

fn of_spans(part: Part, spans: impl Iterator<Item = Option<Span>>) -> Result<ArrayRef> {
    if part.of_span(Span::default()).is_none() {
        return exec_err!("a length of time has no {part:?}");
    }
    Ok(Arc::new(spans.map(|span| span.and_then(|span| part.of_span(span))).collect::<Int64Array>()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{DurationMicrosecondArray, IntervalMonthDayNanoArray, TimestampMicrosecondArray};
    use arrow::compute::cast;
    use arrow::datatypes::IntervalMonthDayNano;

    use super::*;

    fn numbers(name: &str, array: ArrayRef) -> Vec<Option<f64>> {
        let fields = of(Part::named(name).unwrap(), &array).unwrap();
        let fields = cast(&fields, &DataType::Float64).unwrap();
        fields.as_primitive::<arrow::datatypes::Float64Type>().iter().collect()
    }

    /// 2026-11-25 14:42:21.179922 UTC, a Wednesday.
    const US: i64 = 1_795_617_741_179_922;

    #[test]
    fn a_time_has_the_fields_of_its_clock() {
        for (name, utc, kolkata) in [
            ("year", 2026.0, 2026.0),
            ("quarter", 4.0, 4.0),
            ("hour", 14.0, 20.0),
            ("minute", 42.0, 12.0),
            ("second", 21.0, 21.0),
            ("milliseconds", 21_179.0, 21_179.0),
            ("microseconds", 21_179_922.0, 21_179_922.0),
            ("dow", 3.0, 3.0),
            ("isodow", 3.0, 3.0),
            ("doy", 329.0, 329.0),
            ("week", 48.0, 48.0),
            ("century", 21.0, 21.0),
            ("timezone", 0.0, 19_800.0),
            ("epoch", 1_795_617_741.179_922, 1_795_617_741.179_922),
        ] {
            let times = TimestampMicrosecondArray::from(vec![Some(US), None]);
            let there = times.clone().with_timezone("Asia/Kolkata");
            assert_eq!(numbers(name, Arc::new(times.with_timezone("UTC"))), [Some(utc), None], "{name}");
            assert_eq!(numbers(name, Arc::new(there)), [Some(kolkata), None], "{name}");
        }
        assert!(Part::named("fortnight").is_none());
    }

    #[test]
    fn a_difference_has_fields_and_an_epoch_with_its_fraction() {
        let spans = || -> ArrayRef {
            Arc::new(DurationMicrosecondArray::from(vec![
                Some(175_999_796),
                Some(-179_718),
                Some(2 * DAY_US + HOUR_US),
                None,
            ]))
        };
        assert_eq!(numbers("epoch", spans()), [Some(175.999_796), Some(-0.179_718), Some(176_400.0), None]);
        assert_eq!(numbers("minute", spans()), [Some(2.0), Some(0.0), Some(0.0), None]);
        assert_eq!(numbers("second", spans()), [Some(55.0), Some(0.0), Some(0.0), None]);
        assert_eq!(numbers("microseconds", spans()), [Some(55_999_796.0), Some(-179_718.0), Some(0.0), None]);
        assert_eq!(numbers("day", spans()), [Some(0.0), Some(0.0), Some(2.0), None]);
        assert!(of(Part::DayOfWeek, &spans()).is_err());
        let year = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(14, 3, 0)]);
        assert_eq!(numbers("epoch", Arc::new(year.clone())), [Some((365.25 + 63.0) * 86_400.0)]);
        assert_eq!(numbers("month", Arc::new(year)), [Some(2.0)]);
    }
}
