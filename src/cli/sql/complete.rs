//! Completion at the prompt: words of SQL, tables, columns; and when a statement is complete.

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::command::command;
use super::split::split;
use crate::family::FamilyId;
use crate::query::named::{Named, Which};

/// Words that begin clauses or are often used.
const WORDS: &[&str] = &[
    "AND",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "EXPLAIN",
    "FILTER",
    "FROM",
    "GROUP",
    "HAVING",
    "IN",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "SELECT",
    "SUM",
    "THEN",
    "UNION",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];

/// What the prompt knows.
#[derive(Debug)]
pub(super) struct Prompt {
    /// The names of the views.
    views: Vec<String>,
}

impl Prompt {
    pub(super) fn new(views: Vec<String>) -> Prompt {
        Prompt { views }
    }

    /// The words that may stand where `text` ends, and the byte at which the begun one starts.
    fn candidates(&self, text: &str) -> (usize, Vec<String>) {
        let start = text
            .rfind(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
        let (before, begun) = text.split_at(start);
        if before.trim_end().starts_with('\\') {
            return (start, self.tables(begun));
        }
        let last_word = before.split_whitespace().next_back().unwrap_or_default().to_ascii_uppercase();
        let tables = self.tables(begun);
        if matches!(&*last_word, "FROM" | "JOIN") {
            return (start, tables);
        }
        if begun.is_empty() {
            return (start, Vec::new());
        }
        let mut found = matching(columns(text).into_iter(), begun);
        found.extend(tables);
        let is_lower = begun.chars().all(char::is_lowercase);
        found.extend(
            WORDS
                .iter()
                .filter(|word| starts_with(word, begun))
                .map(|word| if is_lower { word.to_ascii_lowercase() } else { (*word).to_owned() }),
        );
        found.sort_unstable();
        found.dedup();
        (start, found)
    }

    /// The tables and views whose names begin so.
    fn tables(&self, begun: &str) -> Vec<String> {
        let mut found = matching(tables(begun), begun);
        found.extend(matching(self.views.iter().map(String::as_str), begun));
        found
    }
}

/// Tables that are made of others are offered once the name of the other one is written.
fn tables(begun: &str) -> impl Iterator<Item = &'static str> {
    let is_offered = |named: &Named| named.rows == Which::All || begun.len() > named.family.name().len();
    Named::all().filter(is_offered).map(|named| named.table.name)
}

/// The columns of the tables that a text names, or of all tables if it names none.
fn columns(text: &str) -> Vec<&'static str> {
    let words = || text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let named: Vec<Named> = words().filter_map(Named::find).collect();
    let tables = if named.is_empty() { FamilyId::all().map(Named::of).collect() } else { named };
    tables.iter().flat_map(|table| table.table.sql_columns()).map(|column| column.name).collect()
}

fn matching<'a>(names: impl Iterator<Item = &'a str>, begun: &str) -> Vec<String> {
    names.filter(|name| starts_with(name, begun)).map(str::to_owned).collect()
}

fn starts_with(name: &str, begun: &str) -> bool {
    name.get(..begun.len()).is_some_and(|start| start.eq_ignore_ascii_case(begun))
}

impl Completer for Prompt {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(&line[..at]))
    }
}

impl Validator for Prompt {
    /// A statement goes on until its semicolon, a command is one line.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let is_whole = text.trim().is_empty() || command(text).is_some() || {
            let (_, rest) = split(text);
            split(&format!("{rest}\n;")).0.is_empty()
        };
        Ok(if is_whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Prompt {
    type Hint = String;
}

impl Highlighter for Prompt {}

impl Helper for Prompt {}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(text: &str) -> Vec<String> {
        let (start, mut found) = Prompt::new(vec!["net_rates".into()]).candidates(text);
        found.iter_mut().for_each(|word| word.insert_str(0, &text[..start]));
        found
    }

    #[test]
    fn names_are_completed_by_what_stands_before_them() {
        assert_eq!(completed("sel"), ["select"]);
        assert_eq!(completed("SELECT 1 FROM netw"), ["SELECT 1 FROM network"]);
        assert_eq!(
            completed("SELECT 1 FROM network_"),
            ["SELECT 1 FROM network_1s", "SELECT 1 FROM network_1m", "SELECT 1 FROM network_last"]
        );
        assert_eq!(completed("select 1 from cpu join mem"), ["select 1 from cpu join memory"]);
        assert_eq!(completed("\\d sof"), ["\\d softnet", "\\d softirq"]);
        assert_eq!(completed("select 1 from net_"), ["select 1 from net_rates"]);
        assert_eq!(completed("\\d net_r"), ["\\d net_rates"]);
        // Only the columns of the table that is named.
        assert_eq!(
            completed("select n.rx_b, t from network n where n.rx_by"),
            ["select n.rx_b, t from network n where n.rx_bytes"]
        );
        assert!(completed("SELECT utili").contains(&"SELECT utilization".to_owned()));
        assert_eq!(completed("SELECT 'ü").len(), 0);
        assert_eq!(completed("SELECT ").len(), 0);
        assert!(completed("SELECT 1 FROM ").len() >= 20);
    }
}
