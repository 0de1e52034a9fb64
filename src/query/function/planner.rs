//! Operators that DataFusion refuses or takes for others: intervals times numbers, `2 ^ 10`, times in texts.
//!
//! Their types have to be right while a statement is planned, so this runs earlier than [`rewrite`](super::rewrite).

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::datatype::DataTypeExt;
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::functions::math;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr, TypePlanner};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, cast, lit};
use datafusion::sql::sqlparser::ast::{BinaryOperator, DataType as SqlType, TimezoneInfo};

use super::arithmetic::{self, DIVIDED, LENGTH, TIMES};
use super::format::TEXT;
use super::instant::Instant;
use super::rewrite::comparable;
use super::span::Span;
use super::{field, several};
use crate::record::TIME_ZONE;

/// The rules, to be registered with a session before DataFusion's own.
#[derive(Debug)]
pub(super) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if matches!(raw.op, BinaryOperator::And | BinaryOperator::Or) {
            return Ok(PlannerResult::Original(raw));
        }
        let (Ok(left), Ok(right)) = (raw.left.get_type(schema), raw.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(raw));
        };
        planned(raw, &left, &right)
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(field::function().call(args)))
    }

    fn plan_aggregate(&self, raw: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        several::planned(raw)
    }
}

/// The types that SQL names: times are whole microseconds, as in the tables.
#[derive(Debug)]
pub(super) struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let SqlType::Timestamp(None, zone) = sql_type else { return Ok(None) };
        let has_zone = matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone);
        let us = DataType::Timestamp(TimeUnit::Microsecond, has_zone.then(|| TIME_ZONE.into()));
        Ok(Some(us.into_nullable_field_ref()))
    }
}

fn is_span(ty: &DataType) -> bool {
    matches!(ty, DataType::Interval(_) | DataType::Duration(_))
}

fn is_time(ty: &DataType) -> bool {
    matches!(ty, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

fn operation(op: Operator, left: Expr, right: Expr) -> PlannerResult<RawBinaryExpr> {
    PlannerResult::Planned(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
}

/// The operator of a comparison, and whether it is one of equality.
fn comparison(op: &BinaryOperator) -> Option<(Operator, bool)> {
    Some(match op {
        BinaryOperator::Eq => (Operator::Eq, true),
        BinaryOperator::NotEq => (Operator::NotEq, true),
        BinaryOperator::Lt => (Operator::Lt, false),
        BinaryOperator::LtEq => (Operator::LtEq, false),
        BinaryOperator::Gt => (Operator::Gt, false),
        BinaryOperator::GtEq => (Operator::GtEq, false),
        _ => return None,
    })
}

fn planned(raw: RawBinaryExpr, left: &DataType, right: &DataType) -> Result<PlannerResult<RawBinaryExpr>> {
    use BinaryOperator::{
        BitwiseXor, Divide, DuckIntegerDivide, Minus, Multiply, MyIntegerDivide, PGExp, Plus, StringConcat,
    };
    let number = |ty: &DataType| ty.is_numeric() || ty.is_null();
    if let Some((op, equality)) = comparison(&raw.op)
        && (is_time(left) || is_span(left) || is_time(right) || is_span(right))
    {
        // The planner refuses some of them before anything else sees them.
        let (left, right) = comparable((raw.left, left), (raw.right, right), equality)?;
        return Ok(operation(op, left, right));
    }
    match (&raw.op, left, right) {
        (BitwiseXor | PGExp, a, b) if number(a) && number(b) => Ok(PlannerResult::Planned(
            math::power().call(vec![cast(raw.left, DataType::Float64), cast(raw.right, DataType::Float64)]),
        )),
        (MyIntegerDivide | DuckIntegerDivide, a, b) if a.is_integer() && b.is_integer() => {
            Ok(operation(Operator::Divide, raw.left, raw.right))
        }
        (MyIntegerDivide | DuckIntegerDivide, a, b) if number(a) && number(b) => {
            let quotient = Expr::BinaryExpr(BinaryExpr::new(Box::new(raw.left), Operator::Divide, Box::new(raw.right)));
            Ok(PlannerResult::Planned(math::trunc().call(vec![quotient])))
        }
        // The engine cuts off after four more digits.
        (Divide, a, b) if number(a) && number(b) && (a.is_decimal() || b.is_decimal()) => {
            Ok(operation(Operator::Divide, cast(raw.left, DataType::Float64), cast(raw.right, DataType::Float64)))
        }
        (StringConcat, a, b) if is_time(a) || is_span(a) || is_time(b) || is_span(b) => {
            let text =
                |expr, ty: &DataType| if is_time(ty) || is_span(ty) { TEXT.function().call(vec![expr]) } else { expr };
            Ok(operation(Operator::StringConcat, text(raw.left, left), text(raw.right, right)))
        }
        (Multiply, span, factor) if is_span(span) && number(factor) => {
            Ok(PlannerResult::Planned(TIMES.function().call(vec![raw.left, raw.right])))
        }
        (Multiply, factor, span) if is_span(span) && number(factor) => {
            Ok(PlannerResult::Planned(TIMES.function().call(vec![raw.right, raw.left])))
        }
        (Divide, span, divisor) if is_span(span) && number(divisor) => {
            Ok(PlannerResult::Planned(DIVIDED.function().call(vec![raw.left, raw.right])))
        }
        (Divide, _, span) if is_span(span) => plan_err!(
            "a length of time cannot be divided by: write extract(epoch FROM …) for its seconds, such as x / extract(epoch \
             FROM max(time) - min(time))"
        ),
        (Plus | Minus, DataType::Duration(_), DataType::Interval(_)) => {
            let op = if raw.op == Plus { Operator::Plus } else { Operator::Minus };
            Ok(operation(op, raw.left, LENGTH.function().call(vec![raw.right])))
        }
        (Plus | Minus, DataType::Interval(_), DataType::Duration(_)) => {
            let op = if raw.op == Plus { Operator::Plus } else { Operator::Minus };
            Ok(operation(op, LENGTH.function().call(vec![raw.left]), raw.right))
        }
        // A day has hours, which a date would lose.
        (Plus | Minus, DataType::Date32 | DataType::Date64, DataType::Interval(_) | DataType::Duration(_)) => {
            let op = if raw.op == Plus { Operator::Plus } else { Operator::Minus };
            Ok(operation(op, cast(raw.left, DataType::Timestamp(TimeUnit::Microsecond, None)), raw.right))
        }
        (Plus, DataType::Interval(_) | DataType::Duration(_), DataType::Date32 | DataType::Date64) => {
            Ok(operation(Operator::Plus, cast(raw.right, DataType::Timestamp(TimeUnit::Microsecond, None)), raw.left))
        }
        // What the clock of that zone shows, as in a comparison.
        (Minus, DataType::Timestamp(_, Some(zone)), DataType::Timestamp(_, None)) if &**zone != TIME_ZONE => {
            Ok(operation(Operator::Minus, cast(raw.left, DataType::Timestamp(TimeUnit::Microsecond, None)), raw.right))
        }
        (Minus, DataType::Timestamp(_, None), DataType::Timestamp(_, Some(zone))) if &**zone != TIME_ZONE => {
            Ok(operation(Operator::Minus, raw.left, cast(raw.right, DataType::Timestamp(TimeUnit::Microsecond, None))))
        }
        (Plus | Minus, DataType::Timestamp(..), text) if text.is_string() => time_and_text(raw),
        (Plus | Minus, DataType::Timestamp(..), factor) if factor.is_numeric() => plan_err!(
            "a time plus or minus a number has no unit: write time + INTERVAL '5 seconds', or time + x * INTERVAL '1 second'"
        ),
        _ => Ok(PlannerResult::Original(raw)),
    }
}

/// `time - '2026-11-25 14:43'`. A text that is an interval is refused, as by the others: it might be taken for a time.
fn time_and_text(raw: RawBinaryExpr) -> Result<PlannerResult<RawBinaryExpr>> {
    let Expr::Literal(value, _) = &raw.right else { return Ok(PlannerResult::Original(raw)) };
    let Some(text) = value.try_as_str().flatten() else { return Ok(PlannerResult::Original(raw)) };
    if Span::parse(text).is_some() {
        return plan_err!("'{text}' is a text: write INTERVAL '{text}'");
    }
    match Instant::parse(text) {
        Some(instant) if raw.op == BinaryOperator::Minus => {
            let us = ScalarValue::TimestampMicrosecond(Some(instant.utc_us()), Some(TIME_ZONE.into()));
            Ok(operation(Operator::Minus, raw.left, lit(us)))
        }
        _ => Err(arithmetic::no_span(text)),
    }
}
