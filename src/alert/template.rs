//! Message templates: text with `{placeholders}`, checked when the rule is compiled.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use bytesize::ByteSize;
use jiff::Timestamp;
use leon::Item;

use super::expression::columns;
use crate::family::FamilyId;
use crate::record::{Kind, Table, Type};

/// Shown for an absent value.
const ABSENT: &str = "n/a";

/// What a template may name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// The rule's table: each of its columns can be named.
    pub(super) table: &'static Table,
    /// Family and column of the host's free memory, where there is such a table.
    pub(super) free_memory: Option<(FamilyId, usize)>,
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
    table: &'static Table,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Rule,
    State,
    Value,
    Threshold,
    /// Family and column.
    FreeMemory(FamilyId, usize),
    Column(usize),
}

/// What a message is rendered from.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) rule: &'a str,
    pub(super) state: &'a str,
    pub(super) value: Option<f64>,
    pub(super) threshold: Option<f64>,
    pub(super) free_memory_bytes: Option<i64>,
    /// The series' labels, in the order of the table's label columns.
    pub(super) labels: &'a [(&'static str, String)],
    /// The row that caused it; none if the series is gone.
    pub(super) row: Option<(&'a RecordBatch, usize)>,
}

impl Template {
    /// Parses `text`. An error is the problem in words.
    pub(super) fn parse(text: &str, names: &Names) -> Result<Template, String> {
        let template = leon::Template::parse(text)
            .map_err(|error| format!("{error}; placeholders are written {{value}}, a literal brace \\{{"))?;
        let pieces = template.items.iter().map(|item| match item {
            Item::Text(text) => Ok(Piece::Text((*text).to_owned())),
            Item::Key(key) => piece(key, names),
        });
        Ok(Template { pieces: pieces.collect::<Result<_, _>>()?, table: names.table })
    }

    /// Family and column of the host's free memory, if the template names it.
    pub(super) fn free_memory(&self) -> Option<(FamilyId, usize)> {
        self.pieces.iter().find_map(|piece| match piece {
            Piece::FreeMemory(family, column) => Some((*family, *column)),
            _ => None,
        })
    }

    /// The message.
    pub(super) fn render(&self, facts: &Facts<'_>) -> String {
        let mut message = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => message.push_str(text),
                Piece::Rule => message.push_str(facts.rule),
                Piece::State => message.push_str(facts.state),
                Piece::Value => message.push_str(&number(facts.value)),
                Piece::Threshold => message.push_str(&number(facts.threshold)),
                Piece::FreeMemory(..) => {
                    message.push_str(&bytes(facts.free_memory_bytes));
                }
                Piece::Column(column) => message.push_str(&self.column(*column, facts)),
            }
        }
        message
    }

    fn column(&self, column: usize, facts: &Facts<'_>) -> String {
        let name = self.table.columns[column].name;
        if let Some((_, text)) = facts.labels.iter().find(|(label, _)| *label == name) {
            return text.clone();
        }
        let Some((batch, row)) = facts.row else { return ABSENT.into() };
        let array = batch.column(column);
        if array.is_null(row) {
            return ABSENT.into();
        }
        match self.table.columns[column].ty {
            Type::Timestamp => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                Timestamp::from_microsecond(micros).map_or_else(|_| ABSENT.into(), |time| time.to_string())
            }
            Type::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
            Type::Float64 => number(Some(array.as_primitive::<Float64Type>().value(row))),
            Type::Text => text(array.as_ref(), array.as_dictionary::<Int32Type>().keys().value(row)),
        }
    }
}

/// The text of a dictionary key in `array`.
pub(super) fn text(array: &dyn Array, key: i32) -> String {
    let texts = array.as_dictionary::<Int32Type>().values().as_string::<i32>();
    match usize::try_from(key) {
        Ok(key) if key < texts.len() => texts.value(key).to_owned(),
        _ => ABSENT.into(),
    }
}

fn piece(key: &str, names: &Names) -> Result<Piece, String> {
    let piece = match key {
        "rule" => Some(Piece::Rule),
        "state" => Some(Piece::State),
        "value" => Some(Piece::Value),
        "threshold" => Some(Piece::Threshold),
        "free_memory" => names.free_memory.map(|(family, column)| Piece::FreeMemory(family, column)),
        column => names.table.column(column).map(|(position, _)| Piece::Column(position)),
    };
    piece.ok_or_else(|| {
        let own = if names.free_memory.is_some() {
            "rule, state, value, threshold, free_memory"
        } else {
            "rule, state, value, threshold"
        };
        let known = columns(names.table, &[Kind::Time, Kind::Label, Kind::Counter, Kind::Gauge]);
        format!("{{{key}}} is not known; known are {own}, and of {}: {known}", names.table.name)
    })
}

/// Bytes in a binary unit, such as "3.2 GiB".
fn bytes(bytes: Option<i64>) -> String {
    let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
    bytes.map_or_else(|| ABSENT.into(), |bytes| ByteSize(bytes).to_string())
}

/// A number with up to two decimals.
fn number(value: Option<f64>) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else { return ABSENT.into() };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;
    use crate::sampler::report::Gap;

    fn parse(text: &str, free_memory: Option<(FamilyId, usize)>) -> Result<Template, String> {
        Template::parse(text, &Names { table: Gap::TABLE, free_memory })
    }

    fn facts<'a>(labels: &'a [(&'static str, String)]) -> Facts<'a> {
        Facts {
            rule: "hot",
            state: "firing",
            value: Some(97.256),
            threshold: Some(90.0),
            free_memory_bytes: Some(3_435_973_837),
            labels,
            row: None,
        }
    }

    #[test]
    fn placeholders_are_filled_and_braces_can_be_escaped() {
        let template = parse(
            "{rule} {state}: {value} > {threshold}, {free_memory} free on {collector}, {lost} \\{\\}",
            Some((FamilyId::of::<Gap>(), 4)),
        );
        let template = template.unwrap();
        assert_eq!(template.free_memory(), Some((FamilyId::of::<Gap>(), 4)));
        let labels = [("collector", "burst".to_owned())];
        assert_eq!(template.render(&facts(&labels)), "hot firing: 97.26 > 90, 3.2 GiB free on burst, n/a {}");
    }

    #[test]
    fn unknown_placeholders_are_refused_with_what_is_known() {
        let problem = parse("{valu}", None).unwrap_err();
        assert!(
            problem.starts_with("{valu} is not known; known are rule, state, value, threshold, and of gap: time"),
            "{problem}"
        );
        assert!(parse("{free_memory}", None).unwrap_err().contains("{free_memory} is not known"));
        assert!(parse("half {open", None).unwrap_err().contains("\\{"));
        assert!(parse("{}", None).is_err());
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [90.0, 0.126, -0.001, 1e7, 12.5].map(|value| number(Some(value)));
        assert_eq!(numbers, ["90", "0.13", "0", "10000000", "12.5"]);
        assert_eq!((number(None), number(Some(f64::NAN))), (ABSENT.to_owned(), ABSENT.to_owned()));
        let bytes = [0, 1023, 1024, 1 << 20, 1_649_267_441_664, i64::MAX].map(|count| bytes(Some(count)));
        assert_eq!(bytes, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.5 TiB", "8.0 EiB"]);
    }
}
