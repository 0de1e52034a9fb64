//! Types and literals that the planner would drop or not understand, written so that it does: `INTERVAL '1h30m'`, the length in
//! `VARCHAR(3)`, and `SELECT generate_series(…)`, which gives rows.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    CharacterLength, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, Interval, ObjectName, Select, SelectItem, Value, VisitMut, VisitorMut,
};

use super::span::Span;

/// Writes them in a parsed statement.
pub(in crate::query) fn rewrite(statement: &mut Statement) {
    match statement {
        Statement::Statement(inner) => {
            let _ = inner.visit(&mut Writer);
        }
        Statement::Explain(explain) => rewrite(&mut explain.statement),
        _ => {}
    }
}

struct Writer;

impl VisitorMut for Writer {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
                && is_series(expr)
            {
                *expr = call("unnest", vec![expr.clone()]);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Interval(interval) => plain_interval(interval),
            Expr::Cast { kind, expr: inner, data_type, format: None, array: false } => {
                if let Some(length) = length_of(data_type) {
                    let whole = Expr::Cast {
                        kind: kind.clone(),
                        expr: inner.clone(),
                        data_type: DataType::Varchar(None),
                        format: None,
                        array: false,
                    };
                    *expr = call("left", vec![whole, Expr::Value(Value::Number(length.to_string(), false).into())]);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_series(expr: &Expr) -> bool {
    match expr {
        Expr::Function(function) => {
            function.over.is_none() && function.name.to_string().eq_ignore_ascii_case("generate_series")
        }
        _ => false,
    }
}

/// A text with all units that people use, in the units that the planner knows.
fn plain_interval(interval: &mut Interval) {
    if interval.leading_field.is_some() {
        return;
    }
    // The bound of a frame may be a number.
    if let Expr::Value(value) = &mut *interval.value
        && let Value::SingleQuotedString(text) = &mut value.value
        && text.contains(|c: char| c.is_alphabetic() || c == ':')
        && let Some(Span { months, days, us }) = Span::parse(text)
    {
        let parts = [(months, "months"), (days, "days"), (us, "microseconds")];
        let parts =
            parts.into_iter().filter(|(number, unit)| *number != 0 || (months | days) == 0 && *unit == "microseconds");
        *text = parts.map(|(number, unit)| format!("{number} {unit}")).collect::<Vec<_>>().join(" ");
    }
}

/// The most letters of a text type. SQL cuts off what is behind them.
fn length_of(data_type: &DataType) -> Option<u64> {
    match data_type {
        DataType::Varchar(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::CharacterVarying(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::CharVarying(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::Nvarchar(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::Char(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::Character(Some(CharacterLength::IntegerLength { length, .. })) => Some(*length),
        DataType::Char(None) | DataType::Character(None) => Some(1),
        _ => None,
    }
}

fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn written(sql: &str) -> String {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        rewrite(&mut statement);
        statement.to_string()
    }

    #[test]
    fn what_the_planner_would_not_understand_is_written_so_that_it_does() {
        for (sql, expected) in [
            ("SELECT INTERVAL '1h30m'", "SELECT INTERVAL '5400000000 microseconds'"),
            ("SELECT INTERVAL 'PT5M'", "SELECT INTERVAL '300000000 microseconds'"),
            ("SELECT INTERVAL '5' MINUTE", "SELECT INTERVAL '5' MINUTE"),
            ("SELECT INTERVAL 'soon'", "SELECT INTERVAL 'soon'"),
            ("SELECT INTERVAL '1 month -2 days'", "SELECT INTERVAL '1 months -2 days'"),
            ("SELECT INTERVAL '-5'", "SELECT INTERVAL '-5'"),
            ("SELECT CAST(x AS VARCHAR(3))", "SELECT left(CAST(x AS VARCHAR), 3)"),
            ("SELECT 'x'::CHAR", "SELECT left('x'::VARCHAR, 1)"),
            ("SELECT x::VARCHAR", "SELECT x::VARCHAR"),
            ("SELECT generate_series(1, 2) AS n", "SELECT unnest(generate_series(1, 2)) AS n"),
            ("SELECT unnest(generate_series(1, 2))", "SELECT unnest(generate_series(1, 2))"),
            ("SELECT * FROM generate_series(1, 2)", "SELECT * FROM generate_series(1, 2)"),
        ] {
            assert_eq!(written(sql), expected);
        }
    }
}
