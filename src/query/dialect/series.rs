//! `generate_series` and `range` in FROM. The planner takes numbers and dates there, as literals only. As functions of one row
//! they also take times, and what is computed: `(SELECT min(time) FROM host)`.

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, FunctionArg, FunctionArgExpr, SetExpr, TableAlias, TableFactor, TypedString, UnaryOperator, Value,
};

use super::build;

const FUNCTIONS: [&str; 2] = ["generate_series", "range"];
/// The column of their rows.
const COLUMN: &str = "value";

/// Writes one with other arguments as `(SELECT unnest(generate_series(…)) AS value)`.
pub(super) fn rewrite(factor: &mut TableFactor) {
    let TableFactor::Table { name, alias, args: Some(arguments), sample: None, with_ordinality: false, .. } = factor
    else {
        return;
    };
    let Some(function) = FUNCTIONS.into_iter().find(|function| name.to_string() == *function) else { return };
    if arguments.args.iter().all(is_plain) {
        return;
    }
    let series = Expr::Function(build::function_of(function, std::mem::take(&mut arguments.args)));
    let rows = build::item(build::call("unnest", vec![series]), build::name(COLUMN));
    let rows = build::query(SetExpr::Select(Box::new(build::select(vec![rows], Vec::new()))));
    let unnamed = || TableAlias { explicit: true, name: build::name(function), columns: Vec::new(), at: None };
    *factor = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(rows),
        alias: Some(alias.take().unwrap_or_else(unnamed)),
        sample: None,
    };
}

/// Whether the planner takes it, or the guard refuses it.
fn is_plain(argument: &FunctionArg) -> bool {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => is_literal(expr),
        _ => true,
    }
}

fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(value.value, Value::Number(..)),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } | Expr::Nested(expr) => is_number(expr),
        Expr::BinaryOp { left, right, .. } => is_number(left) && is_number(right),
        _ => false,
    }
}

fn is_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) | Expr::Interval(_) => true,
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } | Expr::Nested(expr) => is_literal(expr),
        // The planner works these out, and gives the rows one by one.
        Expr::BinaryOp { left, right, .. } => is_number(left) && is_number(right),
        Expr::TypedString(TypedString { data_type, .. }) => *data_type == DataType::Date,
        Expr::Cast { expr, data_type, .. } => *data_type == DataType::Date && is_literal(expr),
        _ => false,
    }
}
