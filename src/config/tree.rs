//! The configuration as written: one tree over all sources, in which each key and value knows its place.
//!
//! Defaults, file, environment and flags are each read into a [`Node`] and merged. The checks see one tree, and an error
//! names the line, the variable or the flag that caused it.

use std::fmt;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file.
    File {
        /// The file, as the user named it.
        file: Arc<str>,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
    },
    /// In an environment variable of this name.
    Variable(String),
    /// In a flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, line, column } => write!(formatter, "{file}:{line}:{column}"),
            Place::Variable(name) => write!(formatter, "environment variable {name}"),
            Place::Flag(name) => write!(formatter, "flag {name}"),
        }
    }
}

/// An error: its place, its key, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub place: Place,
    /// The path of the key; empty when there is none, as in a syntax error.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.message)
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
    /// The text of a variable or a flag, which have no types.
    pub(super) raw: Option<String>,
}

/// A value as TOML knows it.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Time,
    List(Vec<Node>),
    /// Its keys, in the order they were written.
    Table(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Value {
    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "text",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Boolean(_) => "a boolean",
            Value::Time => "a date or time",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

impl Node {
    /// The paths of all keys below this node, tables included, with `separator` between keys.
    pub(super) fn paths(&self, separator: &str) -> Vec<String> {
        let Value::Table(entries) = &self.value else { return Vec::new() };
        let below = |Entry { key, node, .. }: &Entry| {
            let below = node.paths(separator).into_iter().map(move |path| format!("{key}{separator}{path}"));
            [key.clone()].into_iter().chain(below).collect::<Vec<_>>()
        };
        entries.iter().flat_map(below).collect()
    }
}

/// Reads a TOML document; `file` is what its places name.
pub(super) fn parse(file: &str, text: &str) -> Result<Node, Vec<Problem>> {
    let file: Arc<str> = file.into();
    let place = |offset: usize| {
        let (line, column) = position(text, offset);
        Place::File { file: Arc::clone(&file), line, column }
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problem = |error: &toml::de::Error| Problem {
            place: place(error.span().map_or(0, |span| span.start)),
            key: String::new(),
            message: format!("not valid TOML: {}", error.message()),
        };
        return Err(in_order(errors.iter().map(problem).collect()));
    }
    let mut problems = Vec::new();
    let value = Value::Table(entries(table.get_ref(), &place, &mut problems));
    if problems.is_empty() { Ok(Node { place: place(0), value, raw: None }) } else { Err(problems) }
}

/// Reads the value of a variable or a flag: as TOML if it is valid TOML, else as text.
pub(super) fn parse_literal(place: &Place, text: &str) -> Node {
    let mut problems = Vec::new();
    let value = DeValue::parse(text).map(|value| convert(&value, &|_| place.clone(), &mut problems).value).ok();
    let value = value.filter(|_| problems.is_empty()).unwrap_or_else(|| Value::Text(text.to_owned()));
    Node { place: place.clone(), value, raw: Some(text.to_owned()) }
}

/// Tables within each other along `path`, whose keys are separated by `separator`, with `node` at its end.
pub(super) fn nest(path: &str, separator: &str, node: Node) -> Node {
    path.rsplit(separator).fold(node, |inner, key| {
        let place = inner.place.clone();
        let entry = Entry { key: key.to_owned(), place: place.clone(), node: inner };
        Node { place, value: Value::Table(vec![entry]), raw: None }
    })
}

/// Merges `over` into `base`: tables key by key. Everything else is replaced, and so are the keys in `wholesale`, even
/// where both are tables.
pub(super) fn merge(base: &mut Node, over: Node, wholesale: &[&str]) {
    match (&mut base.value, over) {
        (Value::Table(entries), Node { value: Value::Table(new), .. }) => {
            for entry in new {
                match entries.iter_mut().find(|old| old.key == entry.key) {
                    Some(old) if wholesale.contains(&entry.key.as_str()) => *old = entry,
                    Some(old) => merge(&mut old.node, entry.node, &[]),
                    None => entries.push(entry),
                }
            }
        }
        (_, over) => *base = over,
    }
}

fn entries(table: &DeTable<'_>, place: &dyn Fn(usize) -> Place, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let mut spanned: Vec<_> = table.iter().collect();
    spanned.sort_by_key(|(key, _)| key.span().start);
    let entry = |(key, value): (&Spanned<DeString<'_>>, _)| {
        let (name, place_of_key) = (key.get_ref().to_string(), place(key.span().start));
        Entry { key: name, place: place_of_key, node: convert(value, place, problems) }
    };
    spanned.into_iter().map(entry).collect()
}

fn convert(value: &Spanned<DeValue<'_>>, place: &dyn Fn(usize) -> Place, problems: &mut Vec<Problem>) -> Node {
    let here = place(value.span().start);
    let mut wrong = |message| problems.push(Problem { place: here.clone(), key: String::new(), message });
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(digits) => {
            let integer = i64::from_str_radix(digits.as_str(), digits.radix());
            Value::Integer(integer.inspect_err(|_| wrong(format!("{digits} does not fit into 64 bits"))).unwrap_or(0))
        }
        DeValue::Float(digits) => {
            let float = digits.as_str().parse();
            Value::Float(float.inspect_err(|_| wrong(format!("{digits} is not a number"))).unwrap_or(0.0))
        }
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(_) => Value::Time,
        DeValue::Array(items) => Value::List(items.iter().map(|item| convert(item, place, problems)).collect()),
        DeValue::Table(table) => Value::Table(entries(table, place, problems)),
    };
    Node { place: here, value, raw: None }
}

/// Line and column of a byte, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// By source and, within a file, from top to bottom.
pub(super) fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|left, right| left.place.cmp(&right.place));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(node: &'a Node, path: &[&str]) -> &'a Node {
        path.iter().fold(node, |node, key| match &node.value {
            Value::Table(entries) => &entries.iter().find(|entry| entry.key == *key).unwrap().node,
            other => panic!("{} has no {key}", other.kind()),
        })
    }

    #[test]
    fn every_value_knows_its_line_and_column() {
        let tree = parse("k.toml", "# é\na = 1\n[b]\nc = \"x\" # y\nd = [1,\n  2.5]\n").unwrap();
        assert_eq!(at(&tree, &["a"]).place.to_string(), "k.toml:2:5");
        assert_eq!(at(&tree, &["b", "c"]).place.to_string(), "k.toml:4:5");
        let Value::List(items) = &at(&tree, &["b", "d"]).value else { panic!("not a list") };
        assert_eq!(items[1].place.to_string(), "k.toml:6:3");
        assert!(matches!(items[1].value, Value::Float(float) if (float - 2.5).abs() < 1e-9));
    }

    #[test]
    fn all_syntax_errors_have_a_place() {
        let problems = parse("k.toml", "a = \nb = 1\nc = [1\n").unwrap_err();
        assert!(problems[0].to_string().starts_with("k.toml:1:"), "{}", problems[0]);
        assert!(problems.iter().any(|problem| problem.to_string().starts_with("k.toml:3:")), "{problems:?}");
        let problems = parse("k.toml", "a = 99999999999999999999\n").unwrap_err();
        assert_eq!(problems[0].to_string(), "k.toml:1:5: 99999999999999999999 does not fit into 64 bits");
    }

    #[test]
    fn literals_are_toml_or_else_text() {
        let place = Place::Variable("V".to_owned());
        assert!(matches!(parse_literal(&place, "5").value, Value::Integer(5)));
        assert!(matches!(parse_literal(&place, "[\"a\"]").value, Value::List(items) if items.len() == 1));
        assert!(matches!(parse_literal(&place, "127.0.0.1:1").value, Value::Text(text) if text == "127.0.0.1:1"));
        assert!(matches!(parse_literal(&place, "99999999999999999999").value, Value::Text(_)));
    }

    #[test]
    fn merging_keeps_what_is_not_named_and_replaces_wholesale_keys() {
        let mut base = parse("base", "[s]\na = 1\nb = 2\n[w]\nx = 1\n").unwrap();
        let over = parse("over", "[s]\nb = 3\n[w]\ny = 2\n[new]\nz = 1\n").unwrap();
        merge(&mut base, over, &["w"]);
        assert!(matches!(at(&base, &["s", "a"]).value, Value::Integer(1)));
        assert_eq!(at(&base, &["s", "b"]).place.to_string(), "over:2:5");
        let Value::Table(entries) = &at(&base, &["w"]).value else { panic!("not a table") };
        assert_eq!(entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["y"]);
        merge(&mut base, nest("s.a", ".", parse_literal(&Place::Flag("--a"), "7")), &[]);
        assert_eq!(at(&base, &["s", "a"]).place, Place::Flag("--a"));
    }
}
