//! What the planner's errors mean for the person who wrote the statement, and what to write instead.

mod function;
mod syntax;
mod text;

use arrow::error::ArrowError;
use datafusion::common::{Column, DataFusionError, SchemaError};

use crate::words::{list, shortened, unknown};

pub(super) use syntax::{of_syntax, of_word};
use text::{between, first_line};

/// What the error says of the statement.
pub(super) fn of_error(error: &DataFusionError) -> String {
    match root(error) {
        DataFusionError::SchemaError(error, _) => of_schema(error),
        DataFusionError::Plan(message) | DataFusionError::Internal(message) => of_plan(message),
        DataFusionError::NotImplemented(message) => of_missing(message),
        DataFusionError::Execution(message) => of_execution(message),
        DataFusionError::ArrowError(error, _) => of_arrow(error),
        other => {
            let text = other.strip_backtrace();
            of_function(&text).unwrap_or(text)
        }
    }
}

/// What the error says, if it is of the planner's own plan, and not of the statement.
pub(super) fn of_bug(error: &DataFusionError) -> Option<String> {
    let details = match root(error) {
        DataFusionError::Internal(message) if known_problem(message).is_none() => message,
        // Of the check that comes after all others.
        DataFusionError::Plan(message) if REFUSED_PLANS.iter().any(|part| message.contains(part)) => message,
        _ => return None,
    };
    Some(details.lines().take_while(|line| !line.starts_with(BUG_OF_PLANNER)).collect::<Vec<_>>().join(" "))
}

/// What the planner says of a plan that it made and refuses.
const REFUSED_PLANS: &[&str] = &["does not satisfy order requirements", "does not satisfy distribution requirements"];

/// With this, the planner begins to ask for reports of its bugs. This one is kymo's to report.
const BUG_OF_PLANNER: &str = "This issue was likely caused by a bug";

/// The column that the planner misses.
pub(super) fn missing_column(error: &DataFusionError) -> Option<&str> {
    match root(error) {
        DataFusionError::SchemaError(error, _) => match &**error {
            SchemaError::FieldNotFound { field, .. } if field.relation.is_none() => Some(&field.name),
            _ => None,
        },
        _ => None,
    }
}

/// The innermost error, of several the first.
fn root(error: &DataFusionError) -> &DataFusionError {
    match error.find_root() {
        DataFusionError::Collection(errors) => errors.first().map_or(error, root),
        root => root,
    }
}

fn of_schema(error: &SchemaError) -> String {
    match error {
        // The planner's own column.
        SchemaError::FieldNotFound { field, .. } if field.name.starts_with("__always_true") => {
            "an inner query cannot name columns of the outer one here: join with it instead".into()
        }
        SchemaError::FieldNotFound { field, valid_fields } => {
            if valid_fields.is_empty() {
                let name = shortened(&field.name);
                return format!(
                    "there is no column `{name}` here, as no table is read: a text stands in single quotes, '{name}'"
                );
            }
            if let Some(table) = &field.relation {
                return of_qualified(table.table(), &field.name, valid_fields);
            }
            let known = || valid_fields.iter().map(Column::name);
            let unknown = unknown("column", &field.name, known());
            let end = if unknown.ends_with('?') { "" } else { "." };
            format!("{unknown}{end} A text stands in single quotes: '{}'", shortened(&field.name))
        }
        SchemaError::AmbiguousReference { field } => {
            let name = shortened(&field.name);
            format!(
                "several tables have the column `{name}`: write the table in front of it, as in t.{name}, or \
                 join by it with USING ({name})"
            )
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name }
            if name.ends_with(')') =>
        {
            format!(
                "`{}` stands here twice, once with a cast in it: cast its result, as in max(x)::int, or cast the column in an inner \
                 query",
                shortened(name)
            )
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            format!("two columns have the name `{}`: give one of them another with AS", shortened(name))
        }
    }
}

/// What is wrong with `table.name`, where these columns can be named.
fn of_qualified(table: &str, name: &str, valid: &[Column]) -> String {
    let tables = || valid.iter().filter_map(|column| Some(column.relation.as_ref()?.table()));
    if tables().any(|known| known == table) {
        let of_table = valid.iter().filter(|column| column.relation.as_ref().is_some_and(|of| of.table() == table));
        return unknown("column", &format!("{table}.{name}"), of_table.map(Column::name));
    }
    let mut known: Vec<&str> = tables().collect();
    known.dedup();
    format!(
        "no table of this query is named `{}`; there is {}. One with an alias has only that name",
        shortened(table),
        list(known)
    )
}

/// The limit is that of the library for regular expressions.
const LARGE_PATTERN: &str =
    "the regular expression takes more than 10 MiB, which is the limit, once it is compiled: make its counts smaller";

/// Parts of the planner's messages, and what to do.
const PLAN: &[(&str, &str)] = &[
    (
        "Aggregate function calls cannot be nested",
        "an aggregate of an aggregate needs an inner query: SELECT sum(r) FROM (SELECT rate(rx_bytes, time) AS r FROM network \
         GROUP BY interface)",
    ),
    ("Projections require unique", "two columns have the same name: give one of them another with AS"),
    (
        "SELECT DISTINCT ON expressions must match",
        "ORDER BY has to begin with the columns of DISTINCT ON: DISTINCT ON (a) … ORDER BY a, time DESC",
    ),
    (
        "WITHIN GROUP is only supported",
        "this function takes its order among its arguments: write last_value(load1 ORDER BY time)",
    ),
    (
        "OVER and WITHIN GROUP clause cannot be used together",
        "percentile_cont is no window function: compute it in an inner query that joins each row with those around it, or \
         group by date_bin(interval '10 seconds', time)",
    ),
    (
        "Correlated scalar subquery must be aggregated",
        "the inner query may give more than one row: take max(…) or avg(…) of it, or end it with ORDER BY … LIMIT 1",
    ),
    (
        "Correlated scalar subquery can only be used",
        "an inner query that names columns of the outer one can stand behind SELECT and WHERE only: join with it instead",
    ),
    (
        "Unary operator '-' only supports",
        "a sign stands in front of a number: -2::text is -(2::text), so write (-2)::text",
    ),
    (
        "is not a variable which can be viewed with 'SHOW'",
        "there is no such setting: SHOW ALL lists the settings, SHOW TABLES the tables, and SHOW COLUMNS FROM cpu the columns of \
         one",
    ),
    ("Cannot coerce arithmetic expression", "these types cannot be computed with: cast one side, as in x::bigint"),
    (
        "Fail to find the coerced type",
        "these types do not go together: cast one side, as in x::text or TIMESTAMPTZ '2026-11-25'",
    ),
    (
        "single expression required",
        "the VALUES of an inner query cannot name columns of the outer one: write x IN (a, b)",
    ),
    (
        "Cannot run range queries on datatype",
        "a window cannot be ordered by bytes or structs: order by one of the parts, or by encode(x, 'hex')",
    ),
    ("exceeds size limit", LARGE_PATTERN),
    ("CompiledTooBig", LARGE_PATTERN),
    ("failed to convert size to usize", "a size cannot be negative"),
    ("Unexpected empty work table", "the recursive part may name itself only in its FROM, and not in an inner query"),
    ("HAVING clause references", "HAVING needs GROUP BY or an aggregate; use WHERE for single rows"),
];

fn of_plan(message: &str) -> String {
    known_problem(message).unwrap_or_else(|| first_line(message).into_owned())
}

/// What is wrong with a statement of which the planner says this, if it is one of the problems known here.
fn known_problem(message: &str) -> Option<String> {
    if let Some((_, hint)) = PLAN.iter().find(|(part, _)| message.contains(part)) {
        return Some((*hint).into());
    }
    if let Some(name) = between(message, "Invalid function '", "'") {
        return Some(function::unknown_function(name));
    }
    if message.contains("must appear in the GROUP BY clause")
        && let Some(column) = between(message, "column \"", "\"")
    {
        let column = column.rsplit('.').next().unwrap_or(column);
        return Some(format!(
            "`{column}` is neither in GROUP BY nor in an aggregate: group by it, too, or write max({column}) or \
                        any_value({column})"
        ));
    }
    if let Some(table) = message.strip_prefix("Invalid qualifier ") {
        return Some(format!(
            "no table of this query is named `{}`: use the name or alias behind FROM",
            shortened(table)
        ));
    }
    if let Some(types) = message.split("Cannot infer common argument type for ").nth(1) {
        return Some(format!(
            "these types do not go together: {}; cast one side, as in x::text or x::bigint",
            first_line(types)
        ));
    }
    if message.contains("failed to match any signature") || message.contains("No function matches the given name") {
        return Some(function::wrong_arguments(message));
    }
    None
}

/// Parts of messages about what the planner lacks.
const MISSING: &[(&str, &str)] = &[
    (
        "logical expression WindowFunction",
        "a window function stands behind SELECT, ORDER BY and QUALIFY only: compute it in an inner query, and group by its result",
    ),
    (
        "Physical plan does not support logical expression",
        "an inner query can compare with columns of the outer one by = only: join with the table, and group by the outer row",
    ),
    (
        "sliding accumulator",
        "this aggregate cannot slide over rows: let its frame begin with UNBOUNDED PRECEDING, or group by date_bin(interval \
         '1 second', time)",
    ),
    (
        "are supported in tuples",
        "two stretches of time overlap where each begins before the other ends: a.begins < b.ends AND b.begins < a.ends",
    ),
    (
        " SQL type JSON",
        "there is no type JSON: columns are numbers, texts and times, and array_agg and struct nest them",
    ),
    ("Pivot", "PIVOT is not offered: write avg(x) FILTER (WHERE cpu = '0') AS cpu_0 for each column"),
    ("GROUP BY clause", "group by the columns or expressions themselves"),
    ("only support Literal types", "the default has to be a constant: use coalesce(lag(x) OVER (…), y)"),
    ("LIKE with escape_char", "escape with a backslash, which needs no ESCAPE"),
];

fn of_missing(message: &str) -> String {
    if let Some((_, hint)) = MISSING.iter().find(|(part, _)| message.contains(part)) {
        return (*hint).into();
    }
    format!("kymo does not offer this: {}", first_line(message))
}

/// Parts of errors of functions, and what to do.
const EXECUTION: &[(&str, &str)] = &[
    ("CompiledTooBig", LARGE_PATTERN),
    ("exceeds size limit", LARGE_PATTERN),
    (
        "Cannot access field at argument",
        "a column has no parts, and a point is taken for one here: in front of a column stands its table, which has only its alias \
         if it has one, as in c.user_us FROM cpu c",
    ),
    (
        "more than one row",
        "an inner query in the place of a value gave more than one row: take max(…) or avg(…) of it, or end it with LIMIT 1",
    ),
    (
        "look-around",
        "regular expressions have no look-ahead and no look-behind: write two conditions, such as command ~ '^k' AND command !~ \
         '^kworker'",
    ),
    (
        "Cannot cast timezone to different timezone",
        "a clock of this zone skips one of these times, as it is put forward, or shows it twice, as it is put back: add INTERVAL \
         '1 hour' to it, or leave it out",
    ),
    (
        "backreferences are not supported",
        "regular expressions have no back references such as \\1: compare the parts by =, with \
         regexp_extract(text, pattern, 1)",
    ),
];

fn of_execution(message: &str) -> String {
    of_function(message).unwrap_or_else(|| first_line(message).into_owned())
}

/// What to do about an error of a function.
fn of_function(message: &str) -> Option<String> {
    known_execution(message).or_else(|| of_pattern(message))
}

/// What is wrong with a regular expression: the message shows it on a line of its own, marks the place, and says what is wrong.
fn of_pattern(message: &str) -> Option<String> {
    let mut lines = message.split("regex parse error:").nth(1)?.lines().map(str::trim).filter(|line| !line.is_empty());
    let pattern = lines.next()?;
    let problem = lines.find_map(|line| line.strip_prefix("error: "))?;
    Some(format!(
        "'{}' is no regular expression: {problem}; a backslash in front of a sign stands for the sign itself",
        shortened(pattern)
    ))
}

fn known_execution(message: &str) -> Option<String> {
    EXECUTION.iter().find(|(part, _)| message.contains(part)).map(|(_, hint)| (*hint).to_owned())
}

fn of_arrow(error: &ArrowError) -> String {
    match error {
        ArrowError::DivideByZero => "division by zero: write a / nullif(b, 0), which gives null then".into(),
        ArrowError::CastError(message) => of_function(message).unwrap_or_else(|| {
            format!("{}: write a value of that type, or compare as texts with x::text", first_line(message))
        }),
        ArrowError::ParseError(message)
        | ArrowError::ComputeError(message)
        | ArrowError::InvalidArgumentError(message)
        | ArrowError::ArithmeticOverflow(message)
        | ArrowError::NotYetImplemented(message) => of_execution(message),
        other => {
            let text = other.to_string();
            of_function(&text).unwrap_or(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_write() {
        for (error, expected) in [
            (DataFusionError::Plan("Invalid function 'mode'.\nDid you mean 'cot'?".into()), "no function `mode`"),
            (DataFusionError::Plan("Aggregate function calls cannot be nested: x".into()), "inner query"),
            (
                DataFusionError::NotImplemented("Unsupported ast node Pivot { table: Derived { lateral: false".into()),
                "FILTER (WHERE",
            ),
            (DataFusionError::NotImplemented("Unsupported SQL thing Thing { a: 1 }".into()), "this: Unsupported SQL"),
            (DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None), "nullif(b, 0)"),
            (
                DataFusionError::Plan(
                    "While expanding wildcard, column \"host.load1\" must appear in the GROUP BY clause".into(),
                ),
                "`load1` is neither in GROUP BY",
            ),
        ] {
            let error = DataFusionError::Context("type_coercion".into(), Box::new(error));
            let hint = of_error(&error);
            assert!(hint.contains(expected), "{hint}");
            assert!(!hint.contains(" { ") && !hint.contains("type_coercion"), "{hint}");
            assert_eq!(of_bug(&error), None);
        }
    }

    #[test]
    fn a_wrong_pattern_is_named() {
        let text = "External error: regex parse error:\n    a(b\n     ^\nerror: unclosed group";
        let hint =
            "'a(b' is no regular expression: unclosed group; a backslash in front of a sign stands for the sign itself";
        assert_eq!(of_error(&DataFusionError::Execution(text.into())), hint);
        let external = ArrowError::ExternalError("regex parse error:\n    a(b\n     ^\nerror: unclosed group".into());
        assert_eq!(of_error(&DataFusionError::ArrowError(Box::new(external), None)), hint);
    }

    #[test]
    fn what_the_planner_says_of_itself_is_a_bug() {
        for message in [
            "SortPreservingMergeExec",
            "Assertion failed: x.\nThis issue was likely caused by a bug in DataFusion's code",
        ] {
            let error = DataFusionError::Internal(message.into());
            assert_eq!(of_bug(&error).as_deref(), message.lines().next());
        }
        let refused = DataFusionError::Plan("Plan: [\"SortExec\"] does not satisfy order requirements: [a@0]".into());
        assert!(of_bug(&refused).is_some());
    }
}
