//! Arithmetic that is exact or an error: sums and products of integers, and multiples of lengths of time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DurationMicrosecondArray, Int64Array, IntervalMonthDayNanoArray};
use arrow::datatypes::{
    DataType, DurationMicrosecondType, Float64Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use arrow::error::ArrowError;
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_datafusion_err};
use datafusion::logical_expr::ColumnarValue;

use super::scalar::{Call, Scalar};
use super::span::{Span, whole};

pub(super) const DURATION: DataType = DataType::Duration(TimeUnit::Microsecond);
const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// `a + b` of integers.
pub(super) const ADD: Scalar = Scalar {
    name: "add",
    aliases: &[],
    usage: "add(integer, integer)",
    types: integers,
    body: |call| each(call, "+", |a, b| (a.wrapping_add(b), (a ^ a.wrapping_add(b)) & (b ^ a.wrapping_add(b)))),
    grows_with: None,
};

/// `a - b` of integers.
pub(super) const SUBTRACT: Scalar = Scalar {
    name: "subtract",
    aliases: &[],
    usage: "subtract(integer, integer)",
    types: integers,
    body: |call| each(call, "-", |a, b| (a.wrapping_sub(b), (a ^ b) & (a ^ a.wrapping_sub(b)))),
    grows_with: None,
};

/// `a * b` of integers.
pub(super) const MULTIPLY: Scalar = Scalar {
    name: "multiply",
    aliases: &[],
    usage: "multiply(integer, integer)",
    types: integers,
    body: |call| {
        each(call, "*", |a, b| {
            let (product, overflows) = a.overflowing_mul(b);
            (product, -i64::from(overflows))
        })
    },
    grows_with: None,
};

/// The length of an interval or a difference of times, by which they are compared: a month is 30 days, and a day 24 hours.
pub(super) const LENGTH: Scalar = Scalar {
    name: "to_duration",
    aliases: &[],
    usage: "to_duration(INTERVAL '90 minutes')",
    types: |types| match types {
        [DataType::Interval(_)] => Some((vec![INTERVAL], DURATION)),
        [DataType::Duration(_)] => Some((vec![DURATION], DURATION)),
        [text] if text.is_string() => Some((vec![DataType::Utf8], DURATION)),
        _ => None,
    },
    body: |call| {
        let array = call.array(0)?;
        let lengths: DurationMicrosecondArray = match array.data_type() {
            DataType::Interval(_) => array
                .as_primitive::<IntervalMonthDayNanoType>()
                .try_unary(|interval| Span::of_interval(interval).length_us().ok_or_else(|| too_long(interval)))?,
            DataType::Utf8 => array
                .as_string::<i32>()
                .iter()
                .map(|text| text.map(|text| Span::parse(text).and_then(Span::length_us).ok_or_else(|| no_span(text))))
                .map(Option::transpose)
                .collect::<Result<_>>()?,
            _ => return call.give(array),
        };
        call.give(Arc::new(lengths))
    },
    grows_with: None,
};

/// A length of time times a number.
pub(super) const TIMES: Scalar = Scalar {
    name: "times",
    aliases: &[],
    usage: "times(INTERVAL '1 minute', 5)",
    types: scaled,
    body: |call| scale(call, Some),
    grows_with: None,
};

/// A length of time divided by a number.
pub(super) const DIVIDED: Scalar = Scalar {
    name: "divided",
    aliases: &[],
    usage: "divided(INTERVAL '1 hour', 2)",
    types: scaled,
    body: |call| scale(call, |number| (number != 0.0).then(|| 1.0 / number)),
    grows_with: None,
};

fn integers(types: &[DataType]) -> Option<(Vec<DataType>, DataType)> {
    let fits = |ty: &DataType| ty.is_integer() || ty.is_null();
    (types.len() == 2 && types.iter().all(fits)).then(|| (vec![DataType::Int64; 2], DataType::Int64))
}

/// Computes each row by `step`, which gives the wrapped result, and a number below zero if it is wrong.
fn each(call: &Call<'_>, symbol: &str, step: impl Fn(i64, i64) -> (i64, i64)) -> Result<ColumnarValue> {
    let constant = |position| call.constant(position).filter(|value| !value.is_null());
    let mut wrong = 0;
    let mut checked = |a: i64, b: i64| {
        let (result, sign) = step(a, b);
        wrong |= sign;
        result
    };
    let (left, right) = (call.array(0)?, call.array(1)?);
    let (left, right) = (left.as_primitive::<Int64Type>(), right.as_primitive::<Int64Type>());
    let nulls = arrow::buffer::NullBuffer::union(left.nulls(), right.nulls());
    let values = match (constant(0), constant(1)) {
        (None, Some(_)) if !right.is_empty() => {
            let b = right.value(0);
            left.values().iter().map(|a| checked(*a, b)).collect()
        }
        _ => left.values().iter().zip(right.values()).map(|(a, b)| checked(*a, *b)).collect(),
    };
    let result = Int64Array::new(values, nulls);
    if wrong < 0 {
        // What stands at a null is no result.
        let rows = left.iter().zip(right).filter_map(|(a, b)| a.zip(b));
        if let Some((a, b)) = rows.into_iter().find(|(a, b)| step(*a, *b).1 < 0) {
            return exec_err!(
                "{a} {symbol} {b} is beyond what a 64-bit integer holds: cast one of them to DOUBLE or DECIMAL(38, 0)"
            );
        }
    }
    call.give(Arc::new(result))
}

fn scaled(types: &[DataType]) -> Option<(Vec<DataType>, DataType)> {
    let [span, number] = types else { return None };
    let span = match span {
        DataType::Interval(_) => INTERVAL,
        DataType::Duration(_) => DURATION,
        _ => return None,
    };
    (number.is_numeric() || number.is_null()).then(|| (vec![span.clone(), DataType::Float64], span))
}

/// Multiplies by what `factor` makes of the number, which is `None` for a division by zero.
fn scale(call: &Call<'_>, factor: fn(f64) -> Option<f64>) -> Result<ColumnarValue> {
    let (spans, numbers) = (call.array(0)?, call.array(1)?);
    let numbers = numbers.as_primitive::<Float64Type>().iter();
    let factor = |number| factor(number).ok_or_else(|| exec_datafusion_err!("a length of time divided by zero"));
    let beyond = || exec_datafusion_err!("a product is longer than the 292,000 years that a length of time can have");
    let scaled: ArrayRef = if call.returns == &DURATION {
        let spans = spans.as_primitive::<DurationMicrosecondType>().iter();
        let products = spans.zip(numbers).map(|(us, number)| {
            let Some((us, number)) = us.zip(number) else { return Ok(None) };
            whole(us as f64 * factor(number)?).map(Some).ok_or_else(beyond)
        });
        Arc::new(products.collect::<Result<DurationMicrosecondArray>>()?)
    } else {
        let spans = spans.as_primitive::<IntervalMonthDayNanoType>().iter();
        let products = spans.zip(numbers).map(|(interval, number)| {
            let Some((interval, number)) = interval.zip(number) else { return Ok(None) };
            let product = Span::of_interval(interval).times(factor(number)?);
            product.and_then(Span::interval).map(Some).ok_or_else(beyond)
        });
        Arc::new(products.collect::<Result<IntervalMonthDayNanoArray>>()?)
    };
    call.give(scaled)
}

fn too_long(interval: arrow::datatypes::IntervalMonthDayNano) -> ArrowError {
    ArrowError::ComputeError(format!("the interval of {} months is longer than 292,000 years", interval.months))
}

pub(super) fn no_span(text: &str) -> datafusion::common::DataFusionError {
    plan_datafusion_err!("'{text}' is no interval: write one such as '90 minutes', '1h30m' or '2 days 03:00'")
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;

    use super::super::scalar::called;
    use super::*;

    fn of(scalar: Scalar, left: ArrayRef, right: ScalarValue) -> Result<ArrayRef> {
        let rows = left.len();
        let args = [ColumnarValue::Array(left), ColumnarValue::Scalar(right)];
        called(scalar, &args, &DataType::Int64)?.into_array(rows)
    }

    #[test]
    fn integers_are_exact_or_an_error() {
        let left: ArrayRef = Arc::new(Int64Array::from(vec![Some(3)]));
        for (scalar, expected) in [(ADD, 10), (SUBTRACT, -4), (MULTIPLY, 21)] {
            let result = of(scalar, Arc::clone(&left), ScalarValue::Int64(Some(7))).unwrap();
            assert_eq!(result.as_primitive::<Int64Type>().value(0), expected, "{}", scalar.name);
            assert!(of(scalar, Arc::clone(&left), ScalarValue::Int64(None)).unwrap().is_null(0));
        }
        for (scalar, left, right) in [
            (ADD, i64::MAX, 1),
            (ADD, i64::MIN, -1),
            (SUBTRACT, i64::MIN, 1),
            (SUBTRACT, 0, i64::MIN),
            (MULTIPLY, 1 << 40, 1 << 40),
            (MULTIPLY, i64::MIN, -1),
        ] {
            let error =
                of(scalar, Arc::new(Int64Array::from(vec![left])), ScalarValue::Int64(Some(right))).unwrap_err();
            assert!(error.to_string().contains("DECIMAL(38, 0)"), "{error}");
        }
    }

    #[test]
    fn what_stands_at_a_null_is_no_error() {
        let nulls = arrow::buffer::NullBuffer::from(vec![false, true]);
        let left: ArrayRef = Arc::new(Int64Array::new(vec![i64::MAX, 1].into(), Some(nulls)));
        let sums = of(ADD, left, ScalarValue::Int64(Some(1))).unwrap();
        assert_eq!(sums.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [None, Some(2)]);
        assert_eq!(
            of(MULTIPLY, Arc::new(Int64Array::from(vec![0_i64; 0])), ScalarValue::Int64(Some(1))).unwrap().len(),
            0
        );
    }
}
