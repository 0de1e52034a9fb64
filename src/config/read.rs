//! Reading the tree: each section is asked for its keys, and every problem is noted with its place.
//!
//! Reading does not stop at the first error. A value that is absent or wrong reads as `None`, and the report at the end
//! has all errors.

use std::cell::RefCell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::{ByteSize, Unit};

use crate::serve::without_scheme;

use super::tree::{Entry, Node, Place, Problem, Value, in_order};
use crate::words::{self, parse_duration, unknown};

/// Collects problems.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: RefCell<Vec<Problem>>,
}

impl Report {
    /// Notes a problem.
    pub(super) fn add(&self, place: &Place, key: impl Into<String>, message: impl Into<String>) {
        let problem = Problem { place: place.clone(), key: key.into(), message: message.into() };
        self.problems.borrow_mut().push(problem);
    }

    /// All problems, from the top of the file to its end.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        in_order(self.problems.into_inner())
    }
}

/// A value, or what would be right.
pub(super) type Read<T> = Result<T, String>;

/// A table being read.
pub(super) struct Section<'a> {
    entries: &'a [Entry],
    /// Where the table itself stands: missing keys are reported there.
    place: &'a Place,
    /// Its key's path; empty for the root.
    path: String,
    asked: Vec<&'static str>,
    report: &'a Report,
}

impl<'a> Section<'a> {
    /// The table `node`, whose key's path is `path`; an error when it is something else.
    pub(super) fn new(node: &'a Node, path: String, report: &'a Report) -> Option<Section<'a>> {
        if let Value::Table(entries) = &node.value {
            return Some(Section { entries, place: &node.place, path, asked: Vec::new(), report });
        }
        report.add(&node.place, path, format!("expected a table, found {}", node.value.kind()));
        None
    }

    /// The node of `key`, if it was written.
    fn written(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The same for a key that may be written.
    fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.written(key)
    }

    /// The value of `key`, which may be absent.
    pub(super) fn optional<T>(&mut self, key: &'static str, read: impl FnOnce(&Node) -> Read<T>) -> Option<T> {
        let node = self.node(key)?;
        read(node).map_err(|message| self.report.add(&node.place, self.key(key), message)).ok()
    }

    /// The value of `key`, which must not be absent.
    pub(super) fn required<T>(&mut self, key: &'static str, read: impl FnOnce(&Node) -> Read<T>) -> Option<T> {
        if self.node(key).is_none() {
            self.report.add(self.place, self.key(key), "is missing");
            return None;
        }
        self.optional(key, read)
    }

    /// The value of `key`, which must not be absent. If it is absent or wrong, the default stands in for it: the report
    /// then has the reason, and the settings are not used.
    pub(super) fn value<T: Default>(&mut self, key: &'static str, read: impl FnOnce(&Node) -> Read<T>) -> T {
        self.required(key, read).unwrap_or_default()
    }

    /// The table at `key`; a missing one reads as absent.
    fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let path = self.key(key);
        Section::new(self.node(key)?, path, self.report)
    }

    /// What `read` makes of the table at `key`, which must not be absent and must have no keys but those that were read.
    pub(super) fn required_section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'a>) -> T,
    ) -> Option<T> {
        if self.node(key).is_none() {
            self.report.add(self.place, self.key(key), "is missing");
        }
        let mut section = self.section(key)?;
        let settings = read(&mut section);
        section.finish();
        Some(settings)
    }

    /// The tables below `key`, which users name, in the order they were written.
    pub(super) fn named_sections(&mut self, key: &'static str) -> Vec<(&'a Entry, Section<'a>)> {
        let Some(all) = self.section(key) else { return Vec::new() };
        let named = |entry: &'a Entry| Some((entry, Section::new(&entry.node, all.key(&entry.key), self.report)?));
        all.entries.iter().filter_map(named).collect()
    }

    /// The tables of a list of tables.
    pub(super) fn listed_sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let path = self.key(key);
        let Some(node) = self.node(key) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.report.add(&node.place, path, format!("expected a list of tables, found {}", node.value.kind()));
            return Vec::new();
        };
        let item = |(index, node)| Section::new(node, format!("{path}[{index}]"), self.report);
        items.iter().enumerate().filter_map(item).collect()
    }

    /// Notes that the section itself is wrong; `place` is that of its key.
    pub(super) fn wrong_itself(&self, place: &Place, message: impl Into<String>) {
        self.report.add(place, &self.path, message);
    }

    /// Notes that the value of `key`, or this item of it, is wrong: at its place or, when it is absent, at the section's.
    pub(super) fn wrong(&self, key: &str, item: Option<usize>, message: impl Into<String>) {
        let node = self.written(key);
        let items = node.and_then(|node| if let Value::List(items) = &node.value { Some(items) } else { None });
        let node = items.zip(item).and_then(|(items, index)| items.get(index)).or(node);
        let item = item.map(|index| format!("[{index}]")).unwrap_or_default();
        self.report.add(node.map_or(self.place, |node| &node.place), self.key(key) + &item, message);
    }

    /// The path of `key`.
    fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes every key that was not asked for.
    pub(super) fn finish(self) {
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())) {
            let known = self.asked.iter().copied();
            self.report.add(&entry.place, self.key(&entry.key), unknown("key", &entry.key, known));
        }
    }
}

fn expected<T>(what: &str, node: &Node) -> Read<T> {
    let found = match &node.value {
        Value::Text(text) => format!("\"{text}\""),
        Value::Integer(integer) => format!("the integer {integer}"),
        Value::Float(float) => format!("the float {float}"),
        Value::Boolean(boolean) => format!("the boolean {boolean}"),
        other => other.kind().to_owned(),
    };
    Err(format!("expected {what}, found {found}"))
}

/// Text. From variables and flags any value, as it was written.
pub(super) fn text(node: &Node) -> Read<String> {
    match (&node.value, &node.raw) {
        (Value::Text(text), _) => Ok(text.clone()),
        (_, Some(raw)) => Ok(raw.clone()),
        _ => expected("text", node),
    }
}

/// Text of at least one character.
pub(super) fn some_text(node: &Node) -> Read<String> {
    text(node).and_then(|text| if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(text) })
}

/// `true` or `false`.
pub(super) fn boolean(node: &Node) -> Read<bool> {
    match node.value {
        Value::Boolean(boolean) => Ok(boolean),
        _ => expected("true or false", node),
    }
}

/// Any number.
pub(super) fn number(node: &Node) -> Read<f64> {
    match node.value {
        Value::Float(float) if float.is_finite() => Ok(float),
        Value::Integer(integer) => Ok(integer as f64),
        _ => expected("a number", node),
    }
}

/// A share of the whole.
pub(super) fn ratio(node: &Node) -> Read<f64> {
    let ratio = number(node)?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { expected("a ratio between 0 and 1", node) }
}

/// An integer within bounds.
pub(super) fn integer<T: TryFrom<i64> + PartialOrd + Display>(
    bounds: RangeInclusive<T>,
) -> impl FnOnce(&Node) -> Read<T> {
    move |node| {
        let integer = if let Value::Integer(integer) = node.value { T::try_from(integer).ok() } else { None };
        let wanted = || expected(&format!("an integer from {} to {}", bounds.start(), bounds.end()), node);
        integer.filter(|integer| bounds.contains(integer)).map_or_else(wanted, Ok)
    }
}

/// A duration within bounds, as text such as "1ms" or "1h 30m".
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> impl FnOnce(&Node) -> Read<Duration> {
    move |node| {
        let Value::Text(text) = &node.value else { return expected("a duration as text, such as \"10s\"", node) };
        let Some(duration) = parse_duration(text) else {
            return expected("a duration, such as \"1ms\", \"10s\", \"1h 30m\" or \"7d\"", node);
        };
        let (low, high) = (words::duration(*bounds.start()), words::duration(*bounds.end()));
        let is_right = bounds.contains(&duration);
        if is_right { Ok(duration) } else { expected(&format!("a duration from {low} to {high}"), node) }
    }
}

/// A size within bounds: an integer of bytes, or text such as "64MiB".
pub(super) fn bytes<T: TryFrom<u64>>(bounds: RangeInclusive<u64>) -> impl FnOnce(&Node) -> Read<T> {
    move |node| {
        let bytes = match &node.value {
            Value::Integer(integer) => u64::try_from(*integer).ok(),
            Value::Text(text) => parse_bytes(text),
            _ => None,
        };
        let (low, high) = (ByteSize(*bounds.start()), ByteSize(*bounds.end()));
        match bytes {
            None => expected("a size, such as 65536 or \"64MiB\"", node),
            Some(bytes) if bounds.contains(&bytes) => {
                T::try_from(bytes).or_else(|_| expected("a size that fits into memory", node))
            }
            Some(_) if high == ByteSize(u64::MAX) => expected(&format!("a size of at least {low}"), node),
            Some(_) => expected(&format!("a size from {low} to {high}"), node),
        }
    }
}

/// An IP address and a port.
pub(super) fn address(node: &Node) -> Read<SocketAddr> {
    let address = if let Value::Text(text) = &node.value { without_scheme(text).parse().ok() } else { None };
    address.map_or_else(|| expected("an IP address and a port, such as \"127.0.0.1:50051\"", node), Ok)
}

/// Texts.
pub(super) fn texts(node: &Node) -> Read<Vec<String>> {
    match &node.value {
        Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Text(_))) => {
            items.iter().map(text).collect()
        }
        _ => expected("a list of texts, such as [\"cpu\", \"memory\"]", node),
    }
}

/// Parses a size: digits, then a decimal or binary unit of bytes. `None` for anything else, such as sizes beyond 64 bits.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit.trim() {
        "" => 1,
        // `64M` is refused: it might mean either unit.
        unit => unit.ends_with(['b', 'B']).then(|| unit.parse::<Unit>().ok())?? * 1,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::super::tree::parse;
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("0", 0), ("64MiB", 64 << 20), ("2 kB", 2000), ("1tib", 1 << 40), ("7b", 7)] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "9999999999TiB", "5 stones", "64M", "64Mi"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn a_section_reports_everything_that_is_wrong_in_it() {
        let tree = parse("k", "[s]\nlong = \"1\"\nretry_max = 9\nflag = 1\nfoo = 1\nretyr = 1\n").unwrap();
        let report = Report::default();
        let mut root = Section::new(&tree, String::new(), &report).unwrap();
        let mut section = root.section("s").unwrap();
        assert_eq!(section.optional("long", duration(Duration::ZERO..=Duration::MAX)), None);
        assert_eq!(section.optional("retry_max", integer(0..=5)), None);
        assert_eq!(section.optional("flag", boolean), None);
        assert_eq!(section.required("retry", integer(0..=5)), None);
        section.finish();
        root.finish();
        let problems: Vec<_> = report.into_problems().iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "k:1:1: s.retry: is missing",
                "k:2:8: s.long: expected a duration, such as \"1ms\", \"10s\", \"1h 30m\" or \"7d\", found \"1\"",
                "k:3:13: s.retry_max: expected an integer from 0 to 5, found the integer 9",
                "k:4:8: s.flag: expected true or false, found the integer 1",
                "k:5:1: s.foo: unknown key `foo`; there is `long`, `retry_max`, `flag`, `retry`",
                "k:6:1: s.retyr: unknown key `retyr`; did you mean `retry`?",
            ]
        );
    }

    #[test]
    fn text_from_a_variable_is_taken_as_it_stands() {
        let place = Place::Variable("V".to_owned());
        let node = super::super::tree::parse_literal(&place, "12");
        assert_eq!(text(&node), Ok("12".to_owned()));
        assert_eq!(number(&node), Ok(12.0));
    }
}
