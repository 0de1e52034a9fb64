//! Reading the tree: each section is asked for its keys, and whatever is wrong is noted with its place.
//!
//! Nothing here stops at the first error: a value that is absent or wrong reads as `None`, and the report at the end
//! has them all.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};

use super::tree::{Entry, Node, Place, Problem, Value, by_place};

/// A similarity from which on another key is worth suggesting (Jaro-Winkler, 0…1).
const SUGGESTION_SIMILARITY_MIN: f64 = 0.8;

/// Collects what is wrong.
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
        let mut problems = self.problems.into_inner();
        problems.sort_by(by_place);
        problems
    }
}

/// A table being read.
pub(super) struct Section<'a> {
    entries: &'a [Entry],
    /// Where the table itself stands: what is missing in it is reported there.
    pub(super) place: &'a Place,
    /// Its key's path; empty for the root.
    pub(super) path: String,
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
    pub(super) fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The value of `key`, which may be absent.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.node(key)?;
        read(node).map_err(|message| self.report.add(&node.place, self.key(key), message)).ok()
    }

    /// The value of `key`, which must not be absent.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<T> {
        if self.node(key).is_none() {
            self.report.add(self.place, self.key(key), "is missing");
            return None;
        }
        self.optional(key, read)
    }

    /// The table at `key`; a missing one reads as absent.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let path = self.key(key);
        Section::new(self.node(key)?, path, self.report)
    }

    /// The table at `key`, which must not be absent.
    pub(super) fn required_section(&mut self, key: &'static str) -> Option<Section<'a>> {
        if self.node(key).is_none() {
            self.report.add(self.place, self.key(key), "is missing");
        }
        self.section(key)
    }

    /// The tables of which each has a name of the user's choice, in the order they were written.
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

    /// Notes that the value of `key` is wrong, at its place or, when it is absent, at the section's.
    pub(super) fn wrong(&self, key: &str, message: impl Into<String>) {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        self.report.add(entry.map_or(self.place, |entry| &entry.node.place), self.key(key), message);
    }

    /// Notes that the section itself is wrong; `place` is that of its key.
    pub(super) fn wrong_itself(&self, place: &Place, message: impl Into<String>) {
        self.report.add(place, &self.path, message);
    }

    /// Notes that an item of the list at `key` is wrong.
    pub(super) fn wrong_item(&self, key: &str, index: usize, message: impl Into<String>) {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let place = match entry.map(|entry| (&entry.node.place, &entry.node.value)) {
            Some((place, Value::List(items))) => items.get(index).map_or(place, |item| &item.place),
            Some((place, _)) => place,
            None => self.place,
        };
        self.report.add(place, format!("{}[{index}]", self.key(key)), message);
    }

    /// The path of `key`.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self) {
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())) {
            let known = self.asked.iter().copied();
            self.report.add(&entry.place, self.key(&entry.key), unknown("key", &entry.key, known));
        }
    }
}

/// Says that there is no `name` among the `known` ones, and which one may be meant.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let name_lower = name.to_lowercase();
    let similarity = |other: &&str| match strsim::damerau_levenshtein(&name_lower, other) {
        // One slip of a finger, which says little about the likeness of short names.
        0 | 1 => 1.0,
        _ => strsim::jaro_winkler(&name_lower, other),
    };
    let closest = known.clone().max_by(|left, right| similarity(left).total_cmp(&similarity(right)));
    match closest.filter(|other| similarity(other) >= SUGGESTION_SIMILARITY_MIN) {
        Some(other) => format!("unknown {what} `{name}`; did you mean `{other}`?"),
        None => {
            let known: Vec<_> = known.map(|known| format!("`{known}`")).collect();
            format!("unknown {what} `{name}`; there is {}", known.join(", "))
        }
    }
}

fn expected<T>(what: &str, node: &Node) -> Result<T, String> {
    let found = match &node.value {
        Value::Text(text) => format!("\"{text}\""),
        Value::Integer(integer) => format!("the integer {integer}"),
        Value::Float(float) => format!("the float {float}"),
        Value::Boolean(boolean) => format!("the boolean {boolean}"),
        other => other.kind().to_owned(),
    };
    Err(format!("expected {what}, found {found}"))
}

/// Text; from variables and flags whatever they say.
pub(super) fn text(node: &Node) -> Result<String, String> {
    match (&node.value, &node.raw) {
        (Value::Text(text), _) => Ok(text.clone()),
        (_, Some(raw)) => Ok(raw.clone()),
        _ => expected("text", node),
    }
}

/// Text of at least one character.
pub(super) fn some_text(node: &Node) -> Result<String, String> {
    text(node).and_then(|text| if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(text) })
}

/// `true` or `false`.
pub(super) fn boolean(node: &Node) -> Result<bool, String> {
    match node.value {
        Value::Boolean(boolean) => Ok(boolean),
        _ => expected("true or false", node),
    }
}

/// Any number.
pub(super) fn number(node: &Node) -> Result<f64, String> {
    match node.value {
        Value::Float(float) if float.is_finite() => Ok(float),
        Value::Integer(integer) => Ok(integer as f64),
        _ => expected("a number", node),
    }
}

/// A share of the whole.
pub(super) fn ratio(node: &Node) -> Result<f64, String> {
    let ratio = number(node)?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { expected("a ratio between 0 and 1", node) }
}

/// An integer within bounds.
pub(super) fn integer(bounds: RangeInclusive<u64>) -> impl FnOnce(&Node) -> Result<u64, String> {
    move |node| match node.value {
        Value::Integer(integer) if u64::try_from(integer).is_ok_and(|integer| bounds.contains(&integer)) => {
            Ok(integer.unsigned_abs())
        }
        _ => expected(&format!("an integer from {} to {}", bounds.start(), bounds.end()), node),
    }
}

/// A duration within bounds, as text such as "1ms" or "1h 30m".
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> impl FnOnce(&Node) -> Result<Duration, String> {
    move |node| {
        let Value::Text(text) = &node.value else { return expected("a duration as text, such as \"10s\"", node) };
        let Some(duration) = parse_duration(text) else {
            return expected("a duration, such as \"1ms\", \"10s\", \"1h 30m\" or \"7d\"", node);
        };
        if bounds.contains(&duration) {
            return Ok(duration);
        }
        expected(&format!("a duration from {} to {}", show(*bounds.start()), show(*bounds.end())), node)
    }
}

/// A size within bounds: an integer of bytes, or text such as "64MiB".
pub(super) fn bytes(bounds: RangeInclusive<u64>) -> impl FnOnce(&Node) -> Result<u64, String> {
    move |node| {
        let bytes = match &node.value {
            Value::Integer(integer) => u64::try_from(*integer).ok(),
            Value::Text(text) => parse_bytes(text),
            _ => None,
        };
        match bytes {
            None => expected("a size, such as 65536 or \"64MiB\"", node),
            Some(bytes) if bounds.contains(&bytes) => Ok(bytes),
            Some(_) => expected(&format!("a size from {} to {} bytes", bounds.start(), bounds.end()), node),
        }
    }
}

/// An IP address and a port.
pub(super) fn address(node: &Node) -> Result<SocketAddr, String> {
    let wanted = "an IP address and a port, such as \"127.0.0.1:50051\"";
    match &node.value {
        Value::Text(text) => text.parse().or_else(|_| expected(wanted, node)),
        _ => expected(wanted, node),
    }
}

/// Texts.
pub(super) fn texts(node: &Node) -> Result<Vec<String>, String> {
    match &node.value {
        Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Text(_))) => {
            items.iter().map(text).collect()
        }
        _ => expected("a list of texts, such as [\"cpu\", \"memory\"]", node),
    }
}

/// Parses a duration as the configuration writes it, such as `1ms` or `1h 30m`; a day has 24 hours. `None` for anything
/// else, negative durations included.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok()
}

/// A duration for people.
pub(super) fn show(duration: Duration) -> String {
    SignedDuration::try_from(duration).map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}

/// Parses a size: digits, then a decimal or binary unit of bytes.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::super::tree::parse;
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        let ms = Duration::from_millis;
        for (text, duration) in
            [("1ms", ms(1)), ("1h 30m", ms(5_400_000)), ("7d", ms(7 * 86_400_000)), ("1.5s", ms(1500))]
        {
            assert_eq!(parse_duration(text), Some(duration), "{text}");
        }
        for text in ["", "5", "-1s", "1 month", "fast"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for (text, bytes) in [("0", 0), ("64MiB", 64 << 20), ("2 kB", 2000), ("1tib", 1 << 40)] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "9999999999TiB", "5 stones"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
        assert_eq!(show(ms(1)), "1ms");
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
