//! SHOW: what tools ask of a database, as queries of its tables of tables.

use datafusion::sql::sqlparser::ast::{
    ObjectName, ShowStatementFilter, ShowStatementFilterPosition, ShowStatementOptions, Statement,
};

use super::super::place::{CATALOG, SCHEMA};
use super::names::folded;

/// The query that answers a SHOW; `None` for one that the planner answers.
pub(super) fn query(statement: &Statement) -> Option<String> {
    match statement {
        Statement::ShowTables { show_options, .. } => {
            let schema = parent(show_options).unwrap_or_else(|| SCHEMA.into());
            let condition = format!("table_schema = {}{}", quoted(&schema), filter(show_options, "table_name"));
            Some(format!(
                "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables \
                 WHERE {condition} ORDER BY table_name"
            ))
        }
        Statement::ShowDatabases { show_options, .. } => {
            let condition = filter(show_options, "database_name");
            let names = format!("(SELECT {} AS database_name) AS databases", quoted(CATALOG));
            Some(format!("SELECT database_name FROM {names} WHERE true{condition}"))
        }
        Statement::ShowSchemas { show_options, .. } => {
            let condition = filter(show_options, "schema_name");
            Some(format!(
                "SELECT schema_name FROM information_schema.schemata WHERE true{condition} ORDER BY schema_name"
            ))
        }
        Statement::ShowFunctions { filter } => {
            let condition = filter.as_ref().map_or_else(String::new, |filter| matching(filter, "function_name"));
            Some(format!(
                "SELECT * FROM (SELECT routine_name AS function_name, function_type, syntax_example AS syntax, \
                 data_type AS return_type, description FROM information_schema.routines) AS functions \
                 WHERE true{condition} ORDER BY function_name, function_type"
            ))
        }
        Statement::ShowVariable { variable } => {
            let words: Vec<String> = variable.iter().map(|word| word.value.to_lowercase()).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let value = match words.as_slice() {
                ["search_path"] => SCHEMA,
                ["timezone"] | ["time", "zone"] => "UTC",
                ["transaction_isolation"] | ["transaction", "isolation", "level"] => "repeatable read",
                ["server_version"] => env!("CARGO_PKG_VERSION"),
                ["server_encoding" | "client_encoding"] => "UTF8",
                ["standard_conforming_strings" | "integer_datetimes"] => "on",
                ["datestyle"] => "ISO, YMD",
                ["intervalstyle"] => "postgres",
                _ => return None,
            };
            Some(format!("SELECT {} AS \"{}\"", quoted(value), words.join("_")))
        }
        _ => None,
    }
}

/// The schema behind FROM or IN.
fn parent(options: &ShowStatementOptions) -> Option<String> {
    let ObjectName(parts) = options.show_in.as_ref()?.parent_name.as_ref()?;
    parts.last()?.as_ident().map(folded)
}

/// The condition of LIKE or WHERE, which follows another one.
fn filter(options: &ShowStatementOptions, column: &str) -> String {
    let position = options.filter_position.as_ref();
    let filter = position.map(|position| match position {
        ShowStatementFilterPosition::Infix(filter) | ShowStatementFilterPosition::Suffix(filter) => filter,
    });
    filter.map_or_else(String::new, |filter| matching(filter, column))
}

fn matching(filter: &ShowStatementFilter, column: &str) -> String {
    match filter {
        ShowStatementFilter::Like(pattern) | ShowStatementFilter::NoKeyword(pattern) => {
            format!(" AND {column} LIKE {}", quoted(pattern))
        }
        ShowStatementFilter::ILike(pattern) => format!(" AND {column} ILIKE {}", quoted(pattern)),
        ShowStatementFilter::Where(condition) => format!(" AND ({condition})"),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
