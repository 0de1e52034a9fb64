//! Numbers with more digits than a double has.

use datafusion::sql::sqlparser::ast::{DataType, Expr, UnaryOperator, Value, ValueWithSpan};

/// Digits that every double keeps.
const DIGITS_OF_DOUBLES: usize = 15;

/// Has a long number that is cast to a decimal read as text: the planner would make a double of it first, without its last digits.
pub(super) fn rewrite(expr: &mut Expr) {
    if let Expr::Cast { expr: inner, data_type, .. } = expr
        && let DataType::Decimal(_) | DataType::Numeric(_) | DataType::Dec(_) = data_type
        && let Some(text) = long_number(inner)
    {
        **inner = Expr::value(Value::SingleQuotedString(text));
    }
}

/// A number of many digits, with its sign.
fn long_number(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) => long_number(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => long_number(expr).map(|number| format!("-{number}")),
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => {
            let digits = number.bytes().filter(u8::is_ascii_digit).count();
            (digits > DIGITS_OF_DOUBLES).then(|| number.clone())
        }
        _ => None,
    }
}
