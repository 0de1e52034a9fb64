//! Operators and forms that are functions or other operators here: `2 ^ 10`, `a && b`, `x = ANY (list)`.

use datafusion::sql::sqlparser::ast::{Array, BinaryOperator, DataType, Expr, Interval, UnaryOperator, Value};

use super::build;
use super::pattern::array_in_text;

/// Rewrites an operator that the planner does not know, or knows with another meaning.
pub(super) fn rewrite(expr: &mut Expr) {
    let rewritten = match &*expr {
        Expr::BinaryOp { left, op, right } => operation(left, op, right),
        Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: bits } => Some(Expr::Nested(Box::new(build::binary(
            (**bits).clone(),
            BinaryOperator::PGBitwiseXor,
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(build::number(1)) },
        )))),
        Expr::AnyOp { left, compare_op, right, .. } => any_of(left, compare_op, right),
        Expr::Interval(interval) => computed(interval),
        _ => None,
    };
    if let Some(rewritten) = rewritten {
        *expr = rewritten;
    }
}

fn operation(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    let call = |function: &str, left: &Expr, right: &Expr| build::call(function, vec![left.clone(), right.clone()]);
    Some(match op {
        // It is a float, whatever its operands are.
        BinaryOperator::PGExp => {
            let float = |operand: &Expr| build::cast(operand.clone(), DataType::DoublePrecision);
            build::call("power", vec![float(left), float(right)])
        }
        BinaryOperator::PGStartsWith => call("starts_with", left, right),
        BinaryOperator::PGOverlap => call("array_has_any", left, right),
        BinaryOperator::AtArrow => call("array_has_all", left, right),
        BinaryOperator::ArrowAt => call("array_has_all", right, left),
        _ => return None,
    })
}

/// `x = ANY (list)` is `NOT x <> ALL (list)`: the planner knows of nulls in the list behind ALL only.
fn any_of(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};

    if matches!(right, Expr::Subquery(_)) {
        return None;
    }
    let opposite = match op {
        Eq => NotEq,
        NotEq => Eq,
        Gt => LtEq,
        GtEq => Lt,
        Lt => GtEq,
        LtEq => Gt,
        _ => return None,
    };
    let list = match array_in_text(right) {
        Some(texts) => Expr::Array(Array { elem: texts, named: true }),
        None => right.clone(),
    };
    let all = Expr::AllOp { left: Box::new(left.clone()), compare_op: opposite, right: Box::new(list) };
    Some(Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(all))) })))
}

/// `INTERVAL (2 + 3) HOUR` is so many times an hour.
fn computed(interval: &Interval) -> Option<Expr> {
    let Interval { value, leading_field: Some(_), last_field: None, .. } = interval else { return None };
    let constant = match &**value {
        Expr::UnaryOp { expr, .. } => &**expr,
        other => other,
    };
    if matches!(constant, Expr::Value(_)) {
        return None;
    }
    let one = Box::new(Expr::Value(Value::SingleQuotedString("1".into()).into()));
    let unit = Expr::Interval(Interval { value: one, ..interval.clone() });
    Some(build::binary(Expr::Nested(value.clone()), BinaryOperator::Multiply, unit))
}
