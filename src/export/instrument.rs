//! The metrics that kymo exports, derived from [`FAMILIES`]: one instrument for each name that columns declare.

use std::collections::HashSet;
use std::sync::LazyLock;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use opentelemetry::{KeyValue, Value};

use crate::family::{FAMILIES, Origin};
use crate::record::{Column, Kind, Table, Unit};
use crate::store::View;

/// A series whose newest row is older than this is no longer exported: its collector stopped, or the thing it
/// described is gone.
pub const AGE_MAX_US: i64 = 5 * 60 * 1_000_000;

/// The attribute whose values are integers in the semantic conventions. Rows whose label is none, such as the `total`
/// of all CPUs, are left out: beside the rows that they sum up they would count everything twice.
const INTEGER_ATTRIBUTE: &str = "cpu.logical_number";

/// Every instrument, in the order of [`FAMILIES`] and their columns.
pub static INSTRUMENTS: LazyLock<Vec<Instrument>> =
    LazyLock::new(|| instruments(FAMILIES.iter().map(|f| (f.table, &f.origin))));

/// What an instrument's values can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Only grows.
    Counter,
    /// Goes up and down, and makes sense summed over its series: amounts of bytes or things.
    UpDownCounter,
    /// Goes up and down, and makes no sense summed: shares, temperatures, loads, times.
    Gauge,
}

/// What a counter counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The kernel's counters: from its start.
    Boot,
    /// kymo's own: from the start of the process.
    Process,
}

/// One metric: a name, and the columns that give its data points.
#[derive(Debug)]
pub struct Instrument {
    /// The name that the columns declare, such as `system.cpu.time`.
    pub name: &'static str,
    /// What it is: the doc of its column, or of its table if it has several.
    pub doc: &'static str,
    /// In UCUM.
    pub unit: &'static str,
    /// What its values can do.
    pub shape: Shape,
    /// What it counts from, for counters.
    pub since: Since,
    parts: Vec<Part>,
}

/// One column of an instrument.
#[derive(Debug)]
struct Part {
    /// The table's position in [`FAMILIES`].
    family: usize,
    table: &'static Table,
    column: usize,
    /// From the column's unit to the instrument's.
    factor: f64,
    fixed: Vec<KeyValue>,
}

fn instruments<'a>(tables: impl Iterator<Item = (&'static Table, &'a Origin)>) -> Vec<Instrument> {
    let mut instruments: Vec<Instrument> = Vec::new();
    for (family, (table, origin)) in tables.enumerate() {
        for (position, column) in table.values() {
            let Some(otel) = column.otel else { continue };
            let (unit, factor) = column.unit.ucum();
            let fixed = otel.attributes.iter().map(|(key, value)| KeyValue::new(*key, *value)).collect();
            let part = Part { family, table, column: position, factor, fixed };
            if let Some(known) = instruments.iter_mut().find(|instrument| instrument.name == otel.name) {
                known.doc = known.parts.first().map_or(table.doc, |first| first.table.doc);
                known.parts.push(part);
            } else {
                let since = if matches!(origin, Origin::Internal) { Since::Process } else { Since::Boot };
                let shape = shape(column);
                let parts = vec![part];
                instruments.push(Instrument { name: otel.name, doc: column.doc, unit, shape, since, parts });
            }
        }
    }
    instruments
}

/// The semantic conventions call amounts that can be summed up-down-counters (`system.memory.usage`,
/// `system.filesystem.usage`, `system.process.count`) and all else gauges.
fn shape(column: &Column) -> Shape {
    match (column.kind, column.unit) {
        (Kind::Counter, _) => Shape::Counter,
        (_, Unit::Bytes | Unit::Count(_)) => Shape::UpDownCounter,
        _ => Shape::Gauge,
    }
}

impl Instrument {
    /// Gives `sink` the newest value of every series, with its attributes. `now` is µs since the epoch; rows older
    /// than [`AGE_MAX_US`] and absent values are left out.
    pub fn observe(&self, view: &View, now: i64, mut sink: impl FnMut(f64, &[KeyValue])) {
        for part in &self.parts {
            let Some(latest) = view.tables.get(part.family).and_then(|table| table.latest.as_ref()) else { continue };
            part.observe(&latest.batch, now, &mut sink);
        }
    }
}

impl Part {
    fn observe(&self, batch: &RecordBatch, now: i64, sink: &mut impl FnMut(f64, &[KeyValue])) {
        let values = batch.column(self.column);
        for row in newest_rows(self.table, batch) {
            let fresh = time(batch, row).is_some_and(|time| now.saturating_sub(time) <= AGE_MAX_US);
            let Some(value) = number(values, row).filter(|_| fresh) else { continue };
            let Some(attributes) = self.attributes(batch, row) else { continue };
            sink(value * self.factor, &attributes);
        }
    }

    /// The attributes of `row`; `None` for rows that sum up others.
    fn attributes(&self, batch: &RecordBatch, row: usize) -> Option<Vec<KeyValue>> {
        let mut attributes = self.fixed.clone();
        for (position, column) in self.table.labels() {
            let Some(attribute) = column.attribute else { continue };
            let text = text(batch.column(position), row).filter(|text| !text.is_empty());
            if attribute == INTEGER_ATTRIBUTE {
                attributes.push(KeyValue::new(attribute, text?.parse::<i64>().ok()?));
            } else if let Some(text) = text {
                attributes.push(KeyValue::new(attribute, Value::from(text.to_owned())));
            }
        }
        Some(attributes)
    }
}

/// The last row of every series in `batch`: rows with equal labels are one series.
fn newest_rows(table: &Table, batch: &RecordBatch) -> Vec<usize> {
    let keys: Vec<_> = table
        .labels()
        .filter_map(|(position, _)| batch.column(position).as_dictionary_opt::<Int32Type>())
        .map(|labels| labels.keys().values())
        .collect();
    let mut seen = HashSet::new();
    let series = |row: usize| keys.iter().filter_map(|keys| keys.get(row).copied()).collect::<Vec<i32>>();
    (0..batch.num_rows()).rev().filter(|row| seen.insert(series(*row))).collect()
}

fn time(batch: &RecordBatch, row: usize) -> Option<i64> {
    batch.column(0).as_primitive_opt::<TimestampMicrosecondType>().map(|times| times.value(row))
}

fn number(values: &ArrayRef, row: usize) -> Option<f64> {
    if values.is_null(row) {
        return None;
    }
    let integers = values.as_primitive_opt::<Int64Type>().map(|values| values.value(row) as f64);
    integers.or_else(|| values.as_primitive_opt::<Float64Type>().map(|values| values.value(row)))
}

fn text(labels: &ArrayRef, row: usize) -> Option<&str> {
    let labels = labels.as_dictionary_opt::<Int32Type>()?;
    let texts = labels.values().as_string_opt::<i32>()?;
    labels.key(row).map(|key| texts.value(key))
}
