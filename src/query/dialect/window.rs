//! Window functions: numbers of rows are signed, and `lag` and `lead` take any default.

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator,
};

use super::build;
use super::call::{arguments, name};

/// Functions that number rows. The planner's are unsigned, so that differences of them would not be.
const NUMBERS: &[&str] = &["dense_rank", "ntile", "rank", "row_number"];

/// Rewrites a call of a window function.
pub(super) fn rewrite(expr: &mut Expr) {
    let Expr::Function(function) = &*expr else { return };
    if function.over.is_none() {
        return;
    }
    let name = name(function);
    if NUMBERS.contains(&&*name) {
        *expr = build::cast(expr.clone(), DataType::BigInt(None));
    } else if (name == "lag" || name == "lead")
        && let Some(defaulted) = with_default(function)
    {
        *expr = defaulted;
    }
}

/// `lag(x, n, default)` for a default that is no constant: the default where the row n before does not exist.
fn with_default(function: &Function) -> Option<Expr> {
    let called_with = arguments(function)?;
    let [_, _, default] = called_with.as_slice() else { return None };
    if is_constant(default) {
        return None;
    }
    let default = (*default).clone();
    let mut value = function.clone();
    let FunctionArguments::List(list) = &mut value.args else { return None };
    list.args.truncate(2);
    let mut exists = value.clone();
    let FunctionArguments::List(list) = &mut exists.args else { return None };
    *list.args.first_mut()? = FunctionArg::Unnamed(FunctionArgExpr::Expr(build::number(1)));
    exists.null_treatment = None;
    let is_absent = Expr::IsNull(Box::new(Expr::Function(exists)));
    Some(build::case(vec![(is_absent, default)], Expr::Function(value)))
}

fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) | Expr::TypedString(_) | Expr::Interval(_) => true,
        Expr::Nested(inner)
        | Expr::Cast { expr: inner, .. }
        | Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr: inner } => is_constant(inner),
        _ => false,
    }
}
