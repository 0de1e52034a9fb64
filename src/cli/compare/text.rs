//! A comparison for people and for programs.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::error::ArrowError;

use super::judge::{Alone, Figure, Finding, Judgement};
use crate::cli::top::units;
use crate::cli::{show, table};
use crate::record::{Column, Kind, Unit};
use crate::words::list;

/// Standard errors within which two equal recordings differ in 19 of 20 cases.
const NOISE_ERRORS: f64 = 2.0;
/// Other columns of a thing that are named.
const WITH_MAX: usize = 4;
/// Things of one recording, and stocks that differed before, that are named.
const NAMED_MAX: usize = 8;

/// Writes at most `limit` changes for people.
pub(super) fn write(judgement: &Judgement, limit: usize, blocks: &str, out: &mut dyn Write) -> io::Result<()> {
    let Judgement { changes, alone, unrecorded, before, compared } = judgement;
    if !changes.is_empty() {
        let mut rows = table::with_headers(["what", "A", "B", "change", "noise", "with it"]);
        for group in changes.iter().take(limit) {
            rows.add_row(row(group));
        }
        table::align_right(&mut rows, 1..5);
        table::wrap(&mut rows, [5]);
        table::write(&rows, out)?;
        writeln!(out)?;
    }
    for (is_in_b, side) in [(false, "A"), (true, "B")] {
        let names: Vec<String> = alone.iter().filter(|alone| alone.is_in_b == is_in_b).map(alone_name).collect();
        if !names.is_empty() {
            writeln!(out, "only in {side}: {}", some(&names))?;
        }
        let tables = unrecorded.iter().filter(|(_, is_of_a)| *is_of_a != is_in_b).map(|(family, _)| family.name());
        let tables = list(tables);
        if !tables.is_empty() {
            writeln!(out, "not compared, as only {side} has rows of them: {tables}")?;
        }
    }
    let names: Vec<String> = before.iter().map(before_name).collect();
    if !names.is_empty() {
        writeln!(out, "different from the start on: {}", some(&names))?;
    }
    let compared = show::grouped(&compared.to_string());
    let told = match (changes.len(), !alone.is_empty()) {
        (0, false) => "nothing differs by more than noise".to_owned(),
        (0, true) => "nothing that both have differs by more than noise".to_owned(),
        (count, _) if count > limit => format!("{} differ; --limit 0 shows the other {}", count, count - limit),
        (1, _) => "1 thing differs".to_owned(),
        (count, _) => format!("{count} things differ"),
    };
    writeln!(out, "{compared} series in {blocks}: {told}")
}

/// The names, and how many are left out.
fn some(names: &[String]) -> String {
    let told = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => told,
        others => format!("{told} and {others} more"),
    }
}

fn row(group: &[Finding]) -> Vec<String> {
    let Some((first, others)) = group.split_first() else { return Vec::new() };
    let with: Vec<String> =
        others.iter().take(WITH_MAX).map(|other| format!("{} {}", column_name(other), change(other))).collect();
    let more = others.len().saturating_sub(WITH_MAX);
    let with = with.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() };
    let difference = first.difference;
    vec![
        name(first),
        value(first.column, difference.a),
        value(first.column, difference.b),
        change(first),
        noise(first),
        with,
    ]
}

/// The table, what of it, and the column.
fn name(finding: &Finding) -> String {
    let table = finding.family.name();
    let thing = if finding.thing.is_empty() { String::new() } else { format!(" {}", finding.thing) };
    format!("{table}{thing} {}", column_name(finding))
}

fn column_name(finding: &Finding) -> String {
    match finding.figure {
        Figure::Mean => finding.column.name.to_owned(),
        Figure::Peak | Figure::Growth => format!("{} {}", finding.column.name, finding.figure.name()),
    }
}

fn alone_name(alone: &Alone) -> String {
    let name = format!("{} {}", alone.family.name(), alone.thing);
    match alone.most {
        Some((column, mean)) => format!("{} ({} {})", name.trim_end(), column.name, value(column, mean)),
        None => name,
    }
}

fn before_name(finding: &Finding) -> String {
    let difference = finding.difference;
    format!("{} {} and {}", name(finding), value(finding.column, difference.a), value(finding.column, difference.b))
}

/// The change as a part of what it was, or, where that was nothing to speak of, as it is.
fn change(finding: &Finding) -> String {
    let difference = finding.difference;
    let apart = difference.b - difference.a;
    if is_relative(finding) {
        return format!("{}{}", sign(apart), percent(apart.abs() / difference.a.abs()));
    }
    format!("{}{}", sign(apart), value(finding.column, apart.abs()))
}

fn noise(finding: &Finding) -> String {
    let error = NOISE_ERRORS * finding.difference.error;
    let text =
        if is_relative(finding) { percent(error / finding.difference.a.abs()) } else { value(finding.column, error) };
    format!("± {text}")
}

/// Whether the first level is large enough to be a measure. By how much a stock grew is none.
fn is_relative(finding: &Finding) -> bool {
    const TIMES_MAX: f64 = 20.0;
    let difference = finding.difference;
    finding.figure != Figure::Growth && difference.b.abs() < TIMES_MAX * difference.a.abs()
}

fn sign(value: f64) -> &'static str {
    if value < 0.0 { "−" } else { "+" }
}

/// A share as per cent.
fn percent(ratio: f64) -> String {
    units::percent(ratio)
}

/// A level for people.
fn value(column: &Column, value: f64) -> String {
    let sign = if value < 0.0 { "−" } else { "" };
    let size = value.abs();
    let text = match (column.kind, column.unit) {
        (Kind::Counter, Unit::Bytes) => units::bytes_per_second(size),
        // Time in a second of time.
        (Kind::Counter, Unit::Micros) => percent(size / 1e6),
        (Kind::Counter, Unit::Microjoules) => format!("{} W", units::count(size / 1e6)),
        (Kind::Counter, _) => format!("{}/s", units::count(size)),
        (_, Unit::Bytes) => units::bytes(size),
        (_, Unit::Ratio) => percent(size),
        (_, Unit::Celsius) => format!("{} °C", units::count(size)),
        _ => units::count(size),
    };
    format!("{sign}{text}")
}

/// All that was found, a row each.
///
/// # Errors
/// Never but by a bug, as all columns have as many rows.
pub(super) fn batch(judgement: &Judgement) -> Result<RecordBatch, ArrowError> {
    let mut rows = Rows::default();
    for (at, group) in (1..).zip(&judgement.changes) {
        group.iter().for_each(|finding| rows.finding("changed", at, finding));
    }
    for alone in &judgement.alone {
        rows.alone(alone);
    }
    for finding in &judgement.before {
        rows.finding("before", 0, finding);
    }
    rows.batch()
}

/// Columns of a result.
#[derive(Default)]
struct Rows {
    texts: [Vec<Option<String>>; 6],
    ranks: Vec<Option<i64>>,
    numbers: [Vec<Option<f64>>; 5],
}

impl Rows {
    fn finding(&mut self, what: &str, rank: i64, finding: &Finding) {
        let (column, difference) = (finding.column, finding.difference);
        let texts = [what, finding.family.name(), &finding.thing, column.name, finding.figure.name(), &unit(column)];
        self.texts.iter_mut().zip(texts).for_each(|(all, text)| all.push(Some(text.to_owned())));
        self.ranks.push((rank > 0).then_some(rank));
        let noise = NOISE_ERRORS * difference.error;
        let numbers = [difference.a, difference.b, difference.b - difference.a, noise, difference.surprise];
        self.numbers.iter_mut().zip(numbers).for_each(|(all, number)| all.push(Some(number)));
    }

    fn alone(&mut self, alone: &Alone) {
        let what = if alone.is_in_b { "only in b" } else { "only in a" };
        let most = alone.most.map(|(column, mean)| (column.name.to_owned(), unit(column), mean));
        let (name, unit, mean) =
            most.map_or((None, None, None), |(name, unit, mean)| (Some(name), Some(unit), Some(mean)));
        let (a, b) = if alone.is_in_b { (None, mean) } else { (mean, None) };
        let figure = name.is_some().then(|| Figure::Mean.name().to_owned());
        let texts = [
            Some(what.to_owned()),
            Some(alone.family.name().to_owned()),
            Some(alone.thing.clone()),
            name,
            figure,
            unit,
        ];
        self.texts.iter_mut().zip(texts).for_each(|(all, text)| all.push(text));
        self.ranks.push(None);
        self.numbers.iter_mut().zip([a, b, None, None, None]).for_each(|(all, number)| all.push(number));
    }

    fn batch(self) -> Result<RecordBatch, ArrowError> {
        let text = |all: Vec<Option<String>>| Arc::new(StringArray::from(all)) as ArrayRef;
        let number = |all: Vec<Option<f64>>| Arc::new(Float64Array::from(all)) as ArrayRef;
        let [what, tables, things, columns, figures, units] = self.texts.map(text);
        let [a, b, change, noise, surprise] = self.numbers.map(number);
        let ranks: ArrayRef = Arc::new(Int64Array::from(self.ranks));
        RecordBatch::try_from_iter_with_nullable([
            ("what", what, true),
            ("rank", ranks, true),
            ("table", tables, true),
            ("series", things, true),
            ("column", columns, true),
            ("figure", figures, true),
            ("a", a, true),
            ("b", b, true),
            ("change", change, true),
            ("noise", noise, true),
            ("unit", units, true),
            ("surprise", surprise, true),
        ])
    }
}

/// The unit of a column's figures: those of a counter are rates.
fn unit(column: &Column) -> String {
    let symbol = column.unit.symbol();
    if column.kind == Kind::Counter { format!("{symbol}/s") } else { symbol.to_owned() }
}
