//! Arithmetic that is exact or an error: sums and products of integers, and multiples of lengths of time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DurationMicrosecondArray, Int64Array, IntervalMonthDayNanoArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, DurationMicrosecondType, Float64Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, Expr, lit};

use super::scalar::{Call, Scalar};
use super::span::{Span, whole};

pub(super) const DURATION: DataType = DataType::Duration(TimeUnit::Microsecond);
const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// Sums, differences and products of integers, from left to right: `calculate('+*', a, b, c)` is `(a + b) * c`.
///
/// A chain of operators is one call, because the planner's work grows with the cube of how deep calls nest.
pub(super) const CALCULATE: Scalar = Scalar {
    name: "calculate",
    aliases: &[],
    usage: "calculate('+*', a, b, c)",
    doc: "",
    types: |types| {
        let (operators, numbers) = types.split_first()?;
        let integers = numbers.len() > 1 && numbers.iter().all(|ty| ty.is_integer() || ty.is_null());
        let taken = std::iter::once(DataType::Utf8).chain(numbers.iter().map(|_| DataType::Int64));
        (operators.is_string() && integers).then(|| (taken.collect(), DataType::Int64))
    },
    body: calculate,
    grows_with: None,
};

/// `left operator right`, of which the left side may be such a call.
pub(super) fn calculation(operator: char, left: Expr, right: Expr) -> Expr {
    if let Expr::ScalarFunction(mut call) = left {
        let before = match call.args.first() {
            Some(Expr::Literal(ScalarValue::Utf8(Some(operators)), _)) if call.func.name() == CALCULATE.name => {
                Some(format!("{operators}{operator}"))
            }
            _ => None,
        };
        let Some(operators) = before else {
            return CALCULATE.function().call(vec![lit(operator.to_string()), Expr::ScalarFunction(call), right]);
        };
        call.args[0] = lit(operators);
        call.args.push(right);
        return Expr::ScalarFunction(call);
    }
    CALCULATE.function().call(vec![lit(operator.to_string()), left, right])
}

/// An integer with the other sign, by such a call.
pub(super) fn negated(number: Expr) -> Expr {
    if let Expr::ScalarFunction(call) = &number
        && let [operators, zero, inner] = call.args.as_slice()
        && is_calculation(&number)
        && (operators, zero) == (&lit("-"), &lit(0_i64))
    {
        return inner.clone();
    }
    calculation('-', lit(0_i64), number)
}

/// Whether an expression is such a call, which is an integer.
pub(super) fn is_calculation(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == CALCULATE.name)
}

/// The length of an interval or a difference of times, by which they are compared: a month is 30 days, and a day 24 hours.
pub(super) const LENGTH: Scalar = Scalar {
    name: "to_duration",
    aliases: &[],
    usage: "to_duration(INTERVAL '90 minutes')",
    doc: "",
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

/// The interval of the same length in whole days and the rest: intervals of one length are one value then, and fields are in order.
pub(super) const NORMAL: Scalar = Scalar {
    name: "normal_interval",
    aliases: &[],
    usage: "normal_interval(INTERVAL '36 hours')",
    doc: "",
    types: |types| match types {
        [DataType::Interval(_)] => Some((vec![INTERVAL], INTERVAL)),
        _ => None,
    },
    body: |call| {
        let normal: IntervalMonthDayNanoArray =
            call.array(0)?.as_primitive::<IntervalMonthDayNanoType>().try_unary(|interval| {
                let length = Span::of_interval(interval).length_us().map(Span::of_us);
                length.and_then(Span::interval).ok_or_else(|| too_long(interval))
            })?;
        call.give(Arc::new(normal))
    },
    grows_with: None,
};

/// A value as it is, which the planner does not take for one that is never null.
pub(super) const NULLABLE: Scalar = Scalar {
    name: "nullable",
    aliases: &[],
    usage: "nullable(x)",
    doc: "",
    types: |types| match types {
        [value] => Some((vec![value.clone()], value.clone())),
        _ => None,
    },
    body: |call| call.give(call.array(0)?),
    grows_with: None,
};

/// A length of time times a number.
pub(super) const TIMES: Scalar = Scalar {
    name: "times",
    aliases: &[],
    usage: "times(INTERVAL '1 minute', 5)",
    doc: "",
    types: scaled,
    body: |call| scale(call, Some),
    grows_with: None,
};

/// A length of time divided by a number.
pub(super) const DIVIDED: Scalar = Scalar {
    name: "divided",
    aliases: &[],
    usage: "divided(INTERVAL '1 hour', 2)",
    doc: "",
    types: scaled,
    body: |call| scale(call, |number| (number != 0.0).then(|| 1.0 / number)),
    grows_with: None,
};

fn calculate(call: &Call<'_>) -> Result<ColumnarValue> {
    let operators = call.text(0).unwrap_or_default();
    if operators.chars().count() + 2 != call.args.len() {
        return plan_err!("an operator stands between two numbers: {}", CALCULATE.usage);
    }
    let mut result = call.array(1)?.as_primitive::<Int64Type>().clone();
    for (operator, position) in operators.chars().zip(2..) {
        let right = match call.constant(position) {
            Some(ScalarValue::Int64(Some(number))) => Right::One(*number),
            _ => Right::Each(call.array(position)?.as_primitive::<Int64Type>().clone()),
        };
        result = match operator {
            '+' => each(&result, &right, '+', |a, b| {
                let sum = a.wrapping_add(b);
                (sum, (a ^ sum) & (b ^ sum))
            })?,
            '-' => each(&result, &right, '-', |a, b| {
                let difference = a.wrapping_sub(b);
                (difference, (a ^ b) & (a ^ difference))
            })?,
            '*' => each(&result, &right, '*', |a, b| {
                let (product, overflows) = a.overflowing_mul(b);
                (product, -i64::from(overflows))
            })?,
            other => return plan_err!("{other} is no operator here: {}", CALCULATE.usage),
        };
    }
    call.give(Arc::new(result))
}

/// The right side of an operator.
enum Right {
    One(i64),
    Each(Int64Array),
}

/// Computes each row by `step`, which gives the wrapped result, and a number below zero if it is wrong.
fn each(left: &Int64Array, right: &Right, operator: char, step: impl Fn(i64, i64) -> (i64, i64)) -> Result<Int64Array> {
    let mut wrong = 0;
    let mut checked = |a: i64, b: i64| {
        let (result, sign) = step(a, b);
        wrong |= sign;
        result
    };
    let (values, nulls) = match right {
        Right::One(b) => (left.values().iter().map(|a| checked(*a, *b)).collect(), left.nulls().cloned()),
        Right::Each(right) => {
            let pairs = left.values().iter().zip(right.values());
            (pairs.map(|(a, b)| checked(*a, *b)).collect(), NullBuffer::union(left.nulls(), right.nulls()))
        }
    };
    let result = Int64Array::new(values, nulls);
    if wrong < 0 {
        // What stands at a null is no result.
        let sides = |row: usize| match right {
            Right::One(b) => (left.value(row), *b),
            Right::Each(right) => (left.value(row), right.value(row)),
        };
        let mut valid = (0..result.len()).filter(|row| result.is_valid(*row)).map(sides);
        if let Some((a, b)) = valid.find(|(a, b)| step(*a, *b).1 < 0) {
            return exec_err!(
                "{a} {operator} {b} is beyond what a 64-bit integer holds: cast one of them to DOUBLE or DECIMAL(38, 0)"
            );
        }
    }
    Ok(result)
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

    fn of(operators: &str, left: ArrayRef, right: &[ScalarValue]) -> Result<ArrayRef> {
        let rows = left.len();
        let mut args = vec![ColumnarValue::Scalar(ScalarValue::from(operators)), ColumnarValue::Array(left)];
        args.extend(right.iter().cloned().map(ColumnarValue::Scalar));
        called(CALCULATE, &args, &DataType::Int64)?.into_array(rows)
    }

    #[test]
    fn integers_are_exact_or_an_error() {
        let left: ArrayRef = Arc::new(Int64Array::from(vec![Some(3)]));
        let (seven, null) = (ScalarValue::from(7_i64), ScalarValue::Int64(None));
        for (operators, expected) in [("+", 10), ("-", -4), ("*", 21), ("+*", 70), ("*-", 14), ("", 3)] {
            let right = vec![seven.clone(); operators.len()];
            let result = of(operators, Arc::clone(&left), &right).unwrap();
            assert_eq!(result.as_primitive::<Int64Type>().value(0), expected, "{operators}");
        }
        assert!(of("+-", Arc::clone(&left), &[seven.clone(), null]).unwrap().is_null(0));
        assert!(of("+", Arc::clone(&left), &[]).is_err());
        assert!(of("/", left, &[seven]).is_err());
        for (operator, left, right) in [
            ("+", i64::MAX, 1),
            ("+", i64::MIN, -1),
            ("-", i64::MIN, 1),
            ("-", 0, i64::MIN),
            ("*", 1 << 40, 1 << 40),
            ("*", i64::MIN, -1),
        ] {
            let error = of(operator, Arc::new(Int64Array::from(vec![left])), &[right.into()]).unwrap_err();
            assert!(error.to_string().contains("DECIMAL(38, 0)"), "{error}");
        }
    }

    #[test]
    fn what_stands_at_a_null_is_no_error() {
        let nulls = NullBuffer::from(vec![false, true]);
        let left: ArrayRef = Arc::new(Int64Array::new(vec![i64::MAX, 1].into(), Some(nulls)));
        let sums = of("+", left, &[1_i64.into()]).unwrap();
        assert_eq!(sums.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [None, Some(2)]);
        assert_eq!(of("*", Arc::new(Int64Array::from(vec![0_i64; 0])), &[1_i64.into()]).unwrap().len(), 0);
    }

    #[test]
    fn a_chain_is_one_call() {
        let sum = calculation('*', calculation('+', lit(1_i64), lit(2_i64)), calculation('-', lit(3_i64), lit(4_i64)));
        let Expr::ScalarFunction(call) = &sum else { panic!("{sum}") };
        assert_eq!((call.args.len(), &call.args[0]), (4, &lit("+*")));
        assert!(is_calculation(&call.args[3]) && !is_calculation(&call.args[1]));
        assert_eq!(negated(negated(lit(5_i64))), lit(5_i64));
    }
}
