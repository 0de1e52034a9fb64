//! What a statement means where DataFusion's own reading of it would give another answer than PostgreSQL and DuckDB:
//! casts, comparisons of times and lengths of time, arithmetic of integers, and functions that stand for an expression.
//!
//! It runs before types are coerced, on each expression of a plan, from its leaves to its root.

use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::functions::{datetime, math};
use datafusion::functions_nested::expr_fn::array_length;
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, BinaryExpr, Case, Cast, InList, ScalarFunction, TryCast,
};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, cast, lit};

use super::arithmetic::{self, LENGTH, TIMES};
use super::bucket::{self, DATE_BIN};
use super::format::TEXT;
use super::instant::{self, Instant};
use super::moment;
use super::normal::{self, is_interval, length};
use super::shorthand;
use super::span::{DAY_US, Span};
use crate::record::TIME_ZONE;

/// The rules, to be registered with a session.
#[derive(Debug)]
pub(super) struct Meaning;

impl FunctionRewrite for Meaning {
    fn name(&self) -> &'static str {
        "meaning"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        rewritten(expr, schema)
    }
}

fn rewritten(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let type_of = |expr: &Expr| expr.get_type(schema).ok();
    match expr {
        Expr::ScalarFunction(call) => match shorthand::expanded(&call.func, &call.args) {
            Some(expanded) => {
                let expanded = expanded?.transform_up(|expr| rewritten(expr, schema))?;
                Ok(Transformed::yes(expanded.data))
            }
            None if call.func.name() == DATE_BIN.name => with_origin(call, schema),
            None if call.func.name() == "character_length" => Ok(items(call, schema)),
            None if CLOCKS.contains(&call.func.name()) => Ok(with_clocks(call, schema)),
            None => Ok(by_length(call, schema).unwrap_or_else(|call| joined_texts(call, schema))),
        },
        Expr::Case(case) if case.expr.is_some() => Ok(case_of_lengths(case, schema)),
        Expr::Cast(Cast { expr, field }) => {
            let from = type_of(&expr);
            match cast_to(*expr, from.as_ref(), field.data_type(), false)? {
                Transformed { data, transformed: false, .. } => {
                    Ok(Transformed::no(Expr::Cast(Cast::new_from_field(Box::new(data), field))))
                }
                changed => Ok(changed),
            }
        }
        Expr::TryCast(TryCast { expr, field }) => {
            let from = type_of(&expr);
            match cast_to(*expr, from.as_ref(), field.data_type(), true)? {
                Transformed { data, transformed: false, .. } => {
                    Ok(Transformed::no(Expr::TryCast(TryCast::new_from_field(Box::new(data), field))))
                }
                changed => Ok(changed),
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => operation(*left, op, *right, schema),
        Expr::Between(Between { expr, negated, low, high }) => {
            let (Some(ty), Some(low_type), Some(high_type)) = (type_of(&expr), type_of(&low), type_of(&high)) else {
                return Ok(Transformed::no(Expr::Between(Between::new(expr, negated, low, high))));
            };
            let (whole, low) = comparable((*expr.clone(), &ty), (*low, &low_type), false)?;
            let (_, high) = comparable((*expr, &ty), (*high, &high_type), false)?;
            let between = Between::new(Box::new(whole), negated, Box::new(low), Box::new(high));
            Ok(Transformed::yes(Expr::Between(between)))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let Some(ty) = type_of(&expr) else {
                return Ok(Transformed::no(Expr::InList(InList::new(expr, list, negated))));
            };
            let mut whole = *expr;
            let mut comparables = Vec::with_capacity(list.len());
            for item in list {
                let Some(item_type) = type_of(&item) else {
                    comparables.push(item);
                    continue;
                };
                let (left, right) = comparable((whole.clone(), &ty), (item, &item_type), true)?;
                comparables.push(right);
                if type_of(&left) != type_of(&whole) {
                    whole = left;
                }
            }
            Ok(Transformed::yes(Expr::InList(InList::new(Box::new(whole), comparables, negated))))
        }
        Expr::Negative(inner) if !matches!(*inner, Expr::Literal(..)) => match type_of(&inner) {
            Some(integer) if integer.is_integer() => Ok(Transformed::yes(arithmetic::negated(*inner))),
            Some(DataType::Duration(_)) => Ok(Transformed::yes(TIMES.function().call(vec![*inner, lit(-1.0)]))),
            _ => Ok(Transformed::no(Expr::Negative(inner))),
        },
        Expr::AggregateFunction(call) => Ok(lengths_in(call, schema)),
        other => Ok(Transformed::no(other)),
    }
}

/// What an operator means between these sides.
fn operation(left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let plain = |left, right| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
    let sign = match op {
        Operator::Plus => Some('+'),
        Operator::Minus => Some('-'),
        Operator::Multiply => Some('*'),
        _ => None,
    };
    let order = matches!(op, Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq);
    let equality =
        matches!(op, Operator::Eq | Operator::NotEq | Operator::IsDistinctFrom | Operator::IsNotDistinctFrom);
    if sign.is_none() && !order && !equality {
        return Ok(Transformed::no(plain(left, right)));
    }
    // Types of long chains take long to find.
    let type_of = |expr: &Expr| {
        if arithmetic::is_calculation(expr) { Some(DataType::Int64) } else { expr.get_type(schema).ok() }
    };
    let (Some(left_type), Some(right_type)) = (type_of(&left), type_of(&right)) else {
        return Ok(Transformed::no(plain(left, right)));
    };
    match sign {
        Some(sign) if left_type.is_integer() && right_type.is_integer() => {
            Ok(Transformed::yes(arithmetic::calculation(sign, left, right)))
        }
        Some(_) => Ok(Transformed::no(plain(left, right))),
        None => {
            let (left, right) = comparable((left, &left_type), (right, &right_type), equality)?;
            Ok(Transformed::yes(plain(left, right)))
        }
    }
}

fn is_span(ty: &DataType) -> bool {
    matches!(ty, DataType::Interval(_) | DataType::Duration(_))
}

fn text_in(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// Two sides of a comparison in types that can be compared. `equality` if their order does not matter.
pub(super) fn comparable(left: (Expr, &DataType), right: (Expr, &DataType), equality: bool) -> Result<(Expr, Expr)> {
    let ((left, left_type), (right, right_type)) = (left, right);
    let durations = matches!((left_type, right_type), (DataType::Duration(_), DataType::Duration(_)));
    let spans = (is_span(left_type) || text_in(&left).is_some()) && (is_span(right_type) || text_in(&right).is_some());
    if spans && !durations && (is_span(left_type) || is_span(right_type)) {
        let length = |expr: Expr, ty: &DataType| match ty {
            DataType::Duration(TimeUnit::Microsecond) => expr,
            _ => LENGTH.function().call(vec![expr]),
        };
        return Ok((length(left, left_type), length(right, right_type)));
    }
    let left = time_literal(left, right_type)?;
    let right = time_literal(right, left_type)?;
    let time_and_number = |time: &DataType, number: &DataType| {
        matches!(time, DataType::Timestamp(..) | DataType::Date32) && number.is_numeric()
    };
    if time_and_number(left_type, right_type) || time_and_number(right_type, left_type) {
        return plan_err!(
            "a time cannot be compared with a number: write to_timestamp(1795617780) for seconds since 1970, or \
             extract(epoch FROM time)"
        );
    }
    if !equality {
        no_label_order(&left, left_type, right_type)?;
        no_label_order(&right, right_type, left_type)?;
    }
    Ok((left, right))
}

/// A text that is compared with a time, as a time.
fn time_literal(expr: Expr, other: &DataType) -> Result<Expr> {
    let Some(text) = text_in(&expr) else { return Ok(expr) };
    match other {
        DataType::Timestamp(_, zone) => Ok(lit(timestamp(text, zone.as_deref())?)),
        DataType::Date32 => {
            let Some(instant) = Instant::parse(text) else { return Err(moment::no_time(text)) };
            let us = instant.utc_us();
            Ok(match i32::try_from(us / DAY_US) {
                Ok(days) if us % DAY_US == 0 && !instant.has_zone() => lit(ScalarValue::Date32(Some(days))),
                _ => lit(ScalarValue::TimestampMicrosecond(Some(us), None)),
            })
        }
        _ => Ok(expr),
    }
}

fn timestamp(text: &str, zone: Option<&str>) -> Result<ScalarValue> {
    let Some(instant) = Instant::parse(text) else { return Err(moment::no_time(text)) };
    let us = match zone {
        Some(name) => instant.utc_us_in(instant::zone(name)?),
        None => instant.utc_us(),
    };
    Ok(ScalarValue::TimestampMicrosecond(Some(us), zone.map(Into::into)))
}

/// Refuses to order a text, such as a label, and a number.
fn no_label_order(expr: &Expr, own: &DataType, other: &DataType) -> Result<()> {
    let is_text = other.is_string() || matches!(other, DataType::Dictionary(_, value) if value.is_string());
    match expr {
        Expr::Literal(value, _) if own.is_numeric() && is_text && !value.is_null() => {
            plan_err!(
                "a text is neither less nor more than the number {value}: cast the text to a number, such as x::double"
            )
        }
        _ => Ok(()),
    }
}

/// What a cast means, if that is not what DataFusion does. `lenient` if what cannot be cast is null.
fn cast_to(expr: Expr, from: Option<&DataType>, to: &DataType, lenient: bool) -> Result<Transformed<Expr>> {
    if let Some(text) = text_in(&expr) {
        return literal_to(&expr, text, to, lenient);
    }
    let Some(from) = from else { return Ok(Transformed::no(expr)) };
    let again = |expr: Expr, to: &DataType| {
        Transformed::yes(if lenient {
            Expr::TryCast(TryCast::new(Box::new(expr), to.clone()))
        } else {
            cast(expr, to.clone())
        })
    };
    match (from, to) {
        (number, DataType::Timestamp(..)) if number.is_numeric() => {
            plan_err!("a number is no time: write to_timestamp(x) for seconds since 1970")
        }
        // Both others round. A literal is a decimal for them, and halves of decimals go away from zero.
        (number, integer) if number.is_floating() && integer.is_integer() => Ok(match expr {
            Expr::Literal(ScalarValue::Float64(Some(number)), metadata) => {
                again(Expr::Literal(ScalarValue::Float64(Some(number.round())), metadata), to)
            }
            other => again(super::round::EVEN.function().call(vec![other]), to),
        }),
        (number, integer) if number.is_decimal() && integer.is_integer() => {
            Ok(again(math::round().call(vec![expr]), to))
        }
        (DataType::Timestamp(..) | DataType::Duration(_) | DataType::Interval(_), text) if text.is_string() => {
            Ok(again(TEXT.function().call(vec![expr]), to))
        }
        // A cast keeps the moment, where the clock of the zone is meant. Units are changed after it.
        (from @ DataType::Timestamp(unit, _), DataType::Timestamp(of, None)) if changes_clock(from, to) => {
            let (shown, ty) = (shown(expr), DataType::Timestamp(*unit, None));
            if of == unit {
                return Ok(Transformed::yes(shown));
            }
            let other = cast_to(shown, Some(&ty), to, lenient)?;
            Ok(if other.transformed { other } else { again(other.data, to) })
        }
        (DataType::Timestamp(TimeUnit::Microsecond, _), DataType::Timestamp(unit @ TimeUnit::Millisecond, _))
        | (
            DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Millisecond, _),
            DataType::Timestamp(unit @ TimeUnit::Second, _),
        ) => {
            let (width, half) = rounding(*unit);
            // Bins are whole already. So is what was rewritten before.
            if is_bin_of(&expr, &width) {
                return Ok(Transformed::no(expr));
            }
            Ok(again(DATE_BIN.function().call(vec![lit(width), expr + lit(half)]), to))
        }
        (DataType::Timestamp(_, Some(from)), DataType::Timestamp(_, Some(to)))
            if &**from != TIME_ZONE && from != to && may_show_clock(&expr) =>
        {
            plan_err!(
                "AT TIME ZONE '{to}' of a time that shows the clock of {from}: leave the first AT TIME ZONE out for the same moment, or \
                 write x::timestamp AT TIME ZONE '{to}' to take what that clock shows for a time in {to}"
            )
        }
        // The planner compares what is in such a cast with a constant as if the cast changed nothing.
        (from, to) if changes_clock(from, to) => {
            let cast = again(expr, to).data;
            Ok(Transformed::yes(arithmetic::NULLABLE.function().call(vec![cast])))
        }
        (_, DataType::Timestamp(TimeUnit::Nanosecond, zone)) => {
            Ok(again(expr, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone())))
        }
        _ => Ok(Transformed::no(expr)),
    }
}

/// What the clock of a time's zone shows.
fn shown(time: Expr) -> Expr {
    datetime::to_local_time().call(vec![time])
}

/// Whether AT TIME ZONE may have made an expression, here or in a query below.
fn may_show_clock(expr: &Expr) -> bool {
    match expr {
        Expr::Cast(_) | Expr::Column(_) => true,
        Expr::ScalarFunction(call) if call.func.name() == arithmetic::NULLABLE.name => {
            call.args.iter().any(may_show_clock)
        }
        _ => false,
    }
}

/// Whether a cast puts a time of a zone other than UTC in the place of one without a zone, or the other way round.
fn changes_clock(from: &DataType, to: &DataType) -> bool {
    let is_other = |zone: &str| zone != TIME_ZONE;
    match (from, to) {
        (DataType::Timestamp(_, None) | DataType::Date32, DataType::Timestamp(_, Some(zone)))
        | (DataType::Timestamp(_, Some(zone)), DataType::Timestamp(_, None)) => is_other(zone),
        _ => false,
    }
}

/// A unit of times, and half of it, by which times are rounded.
fn rounding(unit: TimeUnit) -> (ScalarValue, ScalarValue) {
    let interval = |us: i64| ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, us * 1_000)));
    let us = unit_us(unit);
    (interval(us), interval(us / 2))
}

fn unit_us(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond | TimeUnit::Nanosecond => 1,
    }
}

/// Whether `expr` is a bin of this width.
fn is_bin_of(expr: &Expr, width: &ScalarValue) -> bool {
    let Expr::ScalarFunction(call) = expr else { return false };
    call.func.name() == DATE_BIN.name && matches!(call.args.first(), Some(Expr::Literal(value, _)) if value == width)
}

fn literal_to(expr: &Expr, text: &str, to: &DataType, lenient: bool) -> Result<Transformed<Expr>> {
    let value = match to {
        DataType::Timestamp(unit, zone) => timestamp(text, zone.as_deref()).map(|time| match time {
            ScalarValue::TimestampMicrosecond(Some(us), zone) => {
                let unit_us = unit_us(*unit);
                let whole = (us + unit_us / 2).div_euclid(unit_us) * unit_us;
                ScalarValue::TimestampMicrosecond(Some(whole), zone)
            }
            other => other,
        }),
        DataType::Interval(IntervalUnit::MonthDayNano) => match Span::parse(text).and_then(Span::interval) {
            Some(interval) => Ok(ScalarValue::IntervalMonthDayNano(Some(interval))),
            None => Err(arithmetic::no_span(text)),
        },
        DataType::Date32 => {
            match Instant::parse(text).map(|instant| i32::try_from(instant.utc_us().div_euclid(DAY_US))) {
                Some(Ok(days)) => Ok(ScalarValue::Date32(Some(days))),
                _ => Err(moment::no_time(text)),
            }
        }
        DataType::Time64(TimeUnit::Nanosecond) => match instant::clock_us(text) {
            Some(us) => Ok(ScalarValue::Time64Nanosecond(Some(us * 1_000))),
            None => return Ok(Transformed::no(expr.clone())),
        },
        DataType::Binary => match text.strip_prefix("\\x") {
            Some(digits) => match bytes_of(digits) {
                Some(bytes) => Ok(ScalarValue::Binary(Some(bytes))),
                None => plan_err!("'{text}' is no list of bytes: write two hexadecimal digits a byte behind \\x"),
            },
            None => return Ok(Transformed::no(expr.clone())),
        },
        _ => return Ok(Transformed::no(expr.clone())),
    };
    match value {
        Ok(value) => Ok(Transformed::yes(lit(value))),
        Err(_) if lenient => Ok(Transformed::yes(lit(ScalarValue::try_from(to)?))),
        Err(error) => Err(error),
    }
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
        .collect()
}

/// Says where buckets begin if that is not 1970-01-01 in UTC, so that nobody has to know it who sees the call.
fn with_origin(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let origin = match call.args.as_slice() {
        [width, time] => {
            let days = match width {
                Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(width)), _) if bucket::is_weeks(*width) => 4,
                _ => 0,
            };
            match time.get_type(schema)? {
                DataType::Timestamp(_, Some(zone)) if days > 0 || &*zone != TIME_ZONE => {
                    let us = instant::utc_us(instant::zone(&zone)?, days * DAY_US);
                    Some(ScalarValue::TimestampMicrosecond(Some(us), Some(zone)))
                }
                DataType::Timestamp(_, None) if days > 0 => {
                    Some(ScalarValue::TimestampMicrosecond(Some(days * DAY_US), None))
                }
                _ => None,
            }
        }
        _ => None,
    };
    let changed = origin.is_some();
    call.args.extend(origin.map(lit));
    let call = Expr::ScalarFunction(call);
    Ok(if changed { Transformed::yes(call) } else { Transformed::no(call) })
}

/// `length` of a list is the number of its items. The planner would take it for its text.
fn items(call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    match call.args.as_slice() {
        [list] if list.get_type(schema).is_ok_and(|ty| matches!(ty, DataType::List(_) | DataType::LargeList(_))) => {
            Transformed::yes(cast(array_length(list.clone()), DataType::Int64))
        }
        _ => Transformed::no(Expr::ScalarFunction(call)),
    }
}

/// Functions that count by the calendar, of what the clock of a time's zone shows.
const CLOCKS: &[&str] = &["age", "date_diff", "datesub", "last_day"];

fn with_clocks(mut call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    let mut changed = false;
    for arg in &mut call.args {
        let plain = DataType::Timestamp(TimeUnit::Microsecond, None);
        if arg.get_type(schema).is_ok_and(|ty| changes_clock(&ty, &plain)) {
            *arg = shown(std::mem::take(arg));
            changed = true;
        }
    }
    let call = Expr::ScalarFunction(call);
    if changed { Transformed::yes(call) } else { Transformed::no(call) }
}

/// Times in a text that is put together.
fn joined_texts(mut call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    let mut changed = false;
    if ["concat", "concat_ws"].contains(&call.func.name()) {
        for arg in &mut call.args {
            if arg.get_type(schema).is_ok_and(|ty| matches!(ty, DataType::Timestamp(..)) || is_span(&ty)) {
                *arg = TEXT.function().call(vec![std::mem::take(arg)]);
                changed = true;
            }
        }
    }
    let call = Expr::ScalarFunction(call);
    if changed { Transformed::yes(call) } else { Transformed::no(call) }
}

/// `nullif`, `greatest` and `least` of intervals, which take them for equal if they have the same length.
fn by_length(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>, ScalarFunction> {
    let name = call.func.name();
    if !["nullif", "greatest", "least"].contains(&name) || !call.args.iter().any(|arg| is_interval(arg, schema)) {
        return Err(call);
    }
    if name == "nullif" {
        let [value, other] = call.args.as_slice() else { return Err(call) };
        let equal = length(value.clone()).eq(length(other.clone()));
        let cases = vec![(Box::new(equal), Box::new(lit(ScalarValue::Null)))];
        return Ok(Transformed::yes(Expr::Case(Case::new(None, cases, Some(Box::new(value.clone()))))));
    }
    call.args = call
        .args
        .into_iter()
        .map(|arg| if is_interval(&arg, schema) { normal::normal_interval(arg) } else { arg })
        .collect();
    Ok(Transformed::yes(Expr::ScalarFunction(call)))
}

/// `CASE x WHEN y` of intervals compares their lengths.
fn case_of_lengths(mut case: Case, schema: &DFSchema) -> Transformed<Expr> {
    let Some(value) = case.expr.take_if(|value| is_interval(value, schema)) else {
        return Transformed::no(Expr::Case(case));
    };
    for (condition, _) in &mut case.when_then_expr {
        let other = std::mem::take(&mut **condition);
        **condition = length((*value).clone()).eq(length(other));
    }
    Transformed::yes(Expr::Case(case))
}

/// The least and the greatest interval are those of the least and the greatest length.
fn lengths_in(mut call: AggregateFunction, schema: &DFSchema) -> Transformed<Expr> {
    if ["min", "max"].contains(&call.func.name())
        && let Some(arg) = call.params.args.first_mut()
        && arg.get_type(schema).is_ok_and(|ty| matches!(ty, DataType::Interval(_)))
    {
        *arg = LENGTH.function().call(vec![std::mem::take(arg)]);
        return Transformed::yes(Expr::AggregateFunction(call));
    }
    Transformed::no(Expr::AggregateFunction(call))
}
