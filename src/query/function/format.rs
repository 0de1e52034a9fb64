//! Times as text: `to_char`, `strftime`, and the text that a cast gives.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringBuilder};
use arrow::compute::nullif;
use arrow::datatypes::{
    DataType, DurationMicrosecondType, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ColumnarValue;

use super::arithmetic::DURATION;
use super::instant;
use super::pattern::{Pattern, offset_to};
use super::scalar::{Call, Scalar};
use super::span::Span;
use crate::record::TIME_ZONE;

/// A time or a length of time by a pattern.
pub(super) const TO_CHAR: Scalar = Scalar {
    name: "to_char",
    aliases: &["date_format"],
    usage: "to_char(time, 'YYYY-MM-DD HH24:MI:SS.MS') or to_char(time, '%H:%M:%S'); for numbers, use format('{:.2f}', x) or round(x, 2)",
    doc: "A time as text, by a pattern of PostgreSQL or of strftime.",
    types: |types| match types {
        [time, pattern] if pattern.is_string() || pattern.is_null() => {
            Some((vec![in_us(time)?, DataType::Utf8], DataType::Utf8))
        }
        _ => None,
    },
    body: |call| by_pattern(call, 0, 1),
    grows_with: None,
};

/// DuckDB's function, whose arguments have either order.
pub(super) const STRFTIME: Scalar = Scalar {
    name: "strftime",
    aliases: &[],
    usage: "strftime(time, '%Y-%m-%d %H:%M:%S.%f')",
    doc: "A time as text, by a pattern with percent signs.",
    types: |types| match types {
        [pattern, time] if pattern.is_string() && !time.is_string() => {
            Some((vec![DataType::Utf8, in_us(time)?], DataType::Utf8))
        }
        [time, pattern] if pattern.is_string() => Some((vec![in_us(time)?, DataType::Utf8], DataType::Utf8)),
        _ => None,
    },
    body: |call| {
        if call.args.first().is_some_and(|arg| arg.data_type() == DataType::Utf8) {
            by_pattern(call, 1, 0)
        } else {
            by_pattern(call, 0, 1)
        }
    },
    grows_with: None,
};

/// The text of a time, as PostgreSQL and DuckDB write it: `2026-11-25 14:42:21.179922+00`.
pub(super) const TEXT: Scalar = Scalar {
    name: "to_text",
    aliases: &[],
    usage: "to_text(time)",
    doc: "",
    types: |types| match types {
        [time] => Some((vec![in_us(time)?], DataType::Utf8)),
        _ => None,
    },
    body: |call| {
        let array = call.array(0)?;
        let mut texts = StringBuilder::with_capacity(array.len(), 32 * array.len());
        let zone = match array.data_type() {
            DataType::Timestamp(_, Some(zone)) => Some(instant::zone(zone)?),
            _ => None,
        };
        each(&array, &mut texts, |_, value, text| {
            match value {
                Value::Span(span) => write!(text, "{span}")?,
                Value::Time(us) => time_text(us, zone, text)?,
                Value::Clock(us) => write!(text, "{}", Span { us, ..Span::default() })?,
            }
            Ok(())
        })?;
        call.give(Arc::new(texts.finish()))
    },
    grows_with: None,
};

/// Times in µs, or `None` if it is no time.
fn in_us(ty: &DataType) -> Option<DataType> {
    Some(match ty {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Date32 | DataType::Date64 | DataType::Null => DataType::Timestamp(TimeUnit::Microsecond, None),
        text if text.is_string() => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Duration(_) => DURATION,
        DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        _ => return None,
    })
}

/// The zone whose clock shows times of this type. UTC for those without one.
fn zone_of(ty: &DataType) -> Result<Tz> {
    match ty {
        DataType::Timestamp(_, Some(zone)) => instant::zone(zone),
        _ => instant::zone(TIME_ZONE),
    }
}

enum Value {
    Time(i64),
    Clock(i64),
    Span(Span),
}

/// Writes a text for each row that is not null.
fn each(
    array: &ArrayRef,
    texts: &mut StringBuilder,
    mut text_of: impl FnMut(usize, Value, &mut String) -> Result<()>,
) -> Result<()> {
    let value: Box<dyn Fn(usize) -> Value> = match array.data_type() {
        DataType::Timestamp(..) => {
            let times = array.as_primitive::<TimestampMicrosecondType>();
            Box::new(|row| Value::Time(times.value(row)))
        }
        DataType::Time64(_) => {
            let clocks = array.as_primitive::<Time64MicrosecondType>();
            Box::new(|row| Value::Clock(clocks.value(row)))
        }
        DataType::Duration(_) => {
            let spans = array.as_primitive::<DurationMicrosecondType>();
            Box::new(|row| Value::Span(Span::of_us(spans.value(row))))
        }
        DataType::Interval(_) => {
            let spans = array.as_primitive::<IntervalMonthDayNanoType>();
            Box::new(|row| Value::Span(Span::of_interval(spans.value(row))))
        }
        other => return exec_err!("the text of {other}"),
    };
    let mut text = String::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
        } else {
            text.clear();
            text_of(row, value(row), &mut text)?;
            texts.append_value(&text);
        }
    }
    Ok(())
}

fn by_pattern(call: &Call<'_>, time: usize, pattern: usize) -> Result<ColumnarValue> {
    let (array, patterns) = (call.array(time)?, call.array(pattern)?);
    let patterns = patterns.as_string::<i32>();
    let zone = zone_of(array.data_type())?;
    // Mostly all rows have the same one.
    let mut last: Option<(String, Pattern)> = None;
    let mut texts = StringBuilder::with_capacity(array.len(), 32 * array.len());
    let mut missing = Vec::new();
    each(&array, &mut texts, |row, value, text| {
        if patterns.is_null(row) {
            missing.push(row);
            return Ok(());
        }
        let written = patterns.value(row);
        if last.as_ref().is_none_or(|(last, _)| last != written) {
            last = Some((written.to_owned(), Pattern::parse(written)?));
        }
        let Some((_, pattern)) = &last else { return Ok(()) };
        match value {
            Value::Time(us) | Value::Clock(us) => pattern.format(us, zone, text),
            Value::Span(span) => pattern.format_span(span, text),
        }
    })?;
    let texts: ArrayRef = Arc::new(texts.finish());
    if missing.is_empty() {
        return call.give(texts);
    }
    let hidden = (0..texts.len()).map(|row| Some(missing.binary_search(&row).is_ok()));
    call.give(nullif(&texts, &hidden.collect::<BooleanArray>())?)
}

fn time_text(us: i64, zone: Option<Tz>, text: &mut String) -> Result<()> {
    let offset_us = zone.map_or(0, |zone| instant::offset_us(zone, us));
    let Some(local) = instant::calendar(us.saturating_add(offset_us)) else {
        return exec_err!("{us} µs since 1970 is in no year that a calendar has");
    };
    write!(text, "{}", local.format("%Y-%m-%d %H:%M:%S"))?;
    let rest = us.rem_euclid(1_000_000);
    if rest != 0 {
        let digits = format!("{rest:06}");
        write!(text, ".{}", digits.trim_end_matches('0'))?;
    }
    if zone.is_some() {
        offset_to(text, i32::try_from(offset_us / 1_000_000).unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{DurationMicrosecondArray, StringArray, TimestampMicrosecondArray};

    use super::super::scalar::called;
    use super::*;

    /// 2026-11-25 14:42:21.179922 UTC.
    const US: i64 = 1_795_617_741_179_922;

    fn texts(scalar: Scalar, array: ArrayRef, pattern: Option<&[Option<&str>]>) -> Vec<Option<String>> {
        let pattern = pattern.map(|texts| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef);
        let args: Vec<ColumnarValue> = [Some(array), pattern].into_iter().flatten().map(ColumnarValue::Array).collect();
        let texts = called(scalar, &args, &DataType::Utf8).unwrap().into_array(1).unwrap();
        texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
    }

    #[test]
    fn a_time_as_text_is_what_postgresql_and_duckdb_write() {
        let times = TimestampMicrosecondArray::from(vec![Some(US), Some(US - US % 1_000_000), None]);
        let told = |zone: &str| texts(TEXT, Arc::new(times.clone().with_timezone(zone)), None);
        assert_eq!(
            told("UTC"),
            [Some("2026-11-25 14:42:21.179922+00".into()), Some("2026-11-25 14:42:21+00".into()), None]
        );
        assert_eq!(told("Asia/Kolkata")[0].as_deref(), Some("2026-11-25 20:12:21.179922+05:30"));
        let spans = DurationMicrosecondArray::from(vec![175_999_796]);
        assert_eq!(texts(TEXT, Arc::new(spans), None), [Some("00:02:55.999796".into())]);
    }

    #[test]
    fn a_null_gives_null() {
        let times = || -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![Some(US), None, Some(US)])) };
        let patterns = [Some("HH24"), Some("HH24"), None];
        assert_eq!(texts(TO_CHAR, times(), Some(&patterns)), [Some("14".into()), None, None]);
        assert!(texts(TO_CHAR, times().slice(0, 0), Some(&[])).is_empty());
    }
}
