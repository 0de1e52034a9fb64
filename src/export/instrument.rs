//! The metrics that kymo exports: one instrument for each name that the families' columns declare.

use std::sync::LazyLock;

use arrow::array::RecordBatch;
use opentelemetry::{KeyValue, Value};

use super::newest::{self, INTEGER_ATTRIBUTE};
use crate::family::FamilyId;
use crate::latest::LatestRows;
use crate::record::{Column, Kind, Table, Unit};

/// Every instrument, in the order of the families and their columns.
pub static INSTRUMENTS: LazyLock<Vec<Instrument>> =
    LazyLock::new(|| instruments(FamilyId::all().map(|family| (family, family.table))));

/// What an instrument's values can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Only grows.
    Counter,
    /// Goes up and down, and can be summed over its series: bytes or counts of things.
    UpDownCounter,
    /// Goes up and down, and cannot be summed: shares, temperatures, loads, times.
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
    /// The table's family.
    family: FamilyId,
    table: &'static Table,
    column: usize,
    /// How many of the column's unit are one of the instrument's. Division gives the nearest float, where the product
    /// with 1e-6 would make 40 µs 3.9999999999999996e-5 s.
    divisor: f64,
    fixed: Vec<KeyValue>,
}

fn instruments(tables: impl Iterator<Item = (FamilyId, &'static Table)>) -> Vec<Instrument> {
    let mut instruments: Vec<Instrument> = Vec::new();
    for (family, table) in tables {
        for (position, column) in table.values() {
            let Some(otel) = column.otel else { continue };
            let (unit, factor) = column.unit.ucum();
            let fixed = otel.attributes.iter().map(|(key, value)| KeyValue::new(*key, *value)).collect();
            let part = Part { family, table, column: position, divisor: factor.recip(), fixed };
            if let Some(known) = instruments.iter_mut().find(|instrument| instrument.name == otel.name) {
                known.doc = known.parts.first().map_or(table.doc, |first| first.table.doc);
                known.parts.push(part);
            } else {
                let since = if family.sampling.is_none() { Since::Process } else { Since::Boot };
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
    /// Gives `sink` the newest value of every series, with its attributes. `now` is µs since the epoch. Rows older than
    /// five minutes and absent values are left out.
    pub fn observe(&self, latest: &LatestRows, now: i64, mut sink: impl FnMut(f64, &[KeyValue])) {
        for part in &self.parts {
            let Some(batch) = latest.merged(part.family) else { continue };
            part.observe(&batch, now, &mut sink);
        }
    }
}

impl Part {
    fn observe(&self, batch: &RecordBatch, now: i64, sink: &mut impl FnMut(f64, &[KeyValue])) {
        let values = batch.column(self.column);
        for row in newest::rows(self.table, batch, now) {
            let Some(value) = newest::number(values, row) else { continue };
            let Some(attributes) = self.attributes(batch, row) else { continue };
            sink(value / self.divisor, &attributes);
        }
    }

    /// The attributes of `row`; `None` for rows that sum up others.
    fn attributes(&self, batch: &RecordBatch, row: usize) -> Option<Vec<KeyValue>> {
        let mut attributes = self.fixed.clone();
        for (position, column) in self.table.labels() {
            let Some(attribute) = column.attribute else { continue };
            let text = newest::text(batch.column(position), row).filter(|text| !text.is_empty());
            if attribute == INTEGER_ATTRIBUTE {
                attributes.push(KeyValue::new(attribute, text?.parse::<i64>().ok()?));
            } else if let Some(text) = text {
                attributes.push(KeyValue::new(attribute, Value::from(text.to_owned())));
            }
        }
        Some(attributes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::newest::AGE_MAX_US;
    use super::*;
    use crate::batch::to_batch;
    use crate::family::kymo::Kymo;
    use crate::record;
    use crate::record::Record;
    use crate::record::label::Labels;

    record! {
        /// Two halves of a thing.
        pub struct Half("half") {
            labels {
                /// Its CPU.
                cpu => "cpu.logical_number",
                /// Its name, if it has one.
                name => "half.name",
                /// Not exported.
                note,
            }
            values {
                /// Time on the left.
                counter left_us: i64 [Micros] => "half.time" {"side" = "left"},
                /// Time on the right.
                counter right_us: i64 [Micros] => "half.time" {"side" = "right"},
                /// A share.
                gauge share_ratio: f64 [Ratio] => "half.share" {},
                /// An amount.
                gauge size_bytes: i64 [Bytes] => "half.size" {},
                /// Not exported.
                gauge inner: i64 [Number],
            }
        }
    }

    fn half() -> Vec<Instrument> {
        instruments([(FamilyId::of::<Kymo>(), Half::TABLE)].into_iter())
    }

    /// What `rows` become at time 0, as text, for the instrument of this name.
    fn observed(name: &str, rows: &[Half], labels: &Labels) -> Vec<String> {
        let batch = to_batch(&[rows], labels, &Half::TABLE.schema());
        let mut observed = Vec::new();
        let instruments = half();
        let instrument = instruments.iter().find(|instrument| instrument.name == name).unwrap();
        for part in &instrument.parts {
            part.observe(&batch, 0, &mut |value, attributes| {
                let attributes: Vec<_> = attributes.iter().map(|a| format!("{}={}", a.key, a.value)).collect();
                observed.push(format!("{} {value}", attributes.join(" ")));
            });
        }
        observed.sort();
        observed
    }

    #[test]
    fn columns_of_one_name_are_one_instrument() {
        let described: Vec<_> =
            half().iter().map(|i| (i.name, i.doc, i.unit, i.shape, i.since, i.parts.len())).collect();
        assert_eq!(
            described,
            [
                ("half.time", "Two halves of a thing.", "s", Shape::Counter, Since::Process, 2),
                ("half.share", "A share.", "1", Shape::Gauge, Since::Process, 1),
                ("half.size", "An amount.", "By", Shape::UpDownCounter, Since::Process, 1),
            ]
        );
    }

    #[test]
    fn the_last_row_of_each_series_is_observed_in_the_units_of_the_conventions() {
        let labels = Labels::default();
        let (zero, one, a) = (labels.intern("0"), labels.intern("1"), labels.intern("a"));
        let rows = [
            Half { cpu: zero, name: a, left_us: 1, right_us: 1, ..Half::absent(0) },
            Half { cpu: zero, left_us: 40, ..Half::absent(0) },
            Half { cpu: zero, name: a, left_us: 1_500_000, right_us: 7, size_bytes: 5, ..Half::absent(0) },
            Half { cpu: one, name: a, right_us: 3, share_ratio: 0.25, ..Half::absent(0) },
        ];
        let expected = [
            "side=left cpu.logical_number=0 0.00004",
            "side=left cpu.logical_number=0 half.name=a 1.5",
            "side=right cpu.logical_number=0 half.name=a 0.000007",
            "side=right cpu.logical_number=1 half.name=a 0.000003",
        ];
        assert_eq!(observed("half.time", &rows, &labels), expected);
        assert_eq!(observed("half.share", &rows, &labels), ["cpu.logical_number=1 half.name=a 0.25"]);
        assert_eq!(observed("half.size", &rows, &labels), ["cpu.logical_number=0 half.name=a 5"]);
    }

    #[test]
    fn sums_over_all_cpus_and_old_rows_are_left_out() {
        let labels = Labels::default();
        let rows = [
            Half { cpu: labels.intern("total"), size_bytes: 9, ..Half::absent(0) },
            Half { cpu: labels.intern("2"), size_bytes: 4, ..Half::absent(-AGE_MAX_US) },
            Half { cpu: labels.intern("3"), size_bytes: 5, ..Half::absent(-AGE_MAX_US - 1) },
        ];
        assert_eq!(observed("half.size", &rows, &labels), ["cpu.logical_number=2 4"]);
    }

    /// Within an instrument every data point must differ from all others, and all must be of one unit and shape.
    #[test]
    fn the_declarations_of_all_families_fit_together() {
        let mut fixed: BTreeSet<(&str, &str, Vec<String>)> = BTreeSet::new();
        for instrument in INSTRUMENTS.iter() {
            let name = instrument.name;
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
            assert!(name.chars().all(allowed) && name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
            for part in &instrument.parts {
                let column = &part.table.columns[part.column];
                let place = format!("{name} in {}.{}", part.table.name, column.name);
                assert_eq!((column.unit.ucum().0, shape(column)), (instrument.unit, instrument.shape), "{place}");
                let internal = part.family.sampling.is_none();
                assert_eq!(internal, instrument.since == Since::Process, "{place}");
                let attributes = part.fixed.iter().map(|a| format!("{}={}", a.key, a.value)).collect();
                assert!(fixed.insert((name, part.table.name, attributes)), "{place} stands for another column too");
                let bare = part.table.labels().find(|(_, label)| label.attribute.is_none());
                assert_eq!(bare.map(|(_, label)| label.name), None, "{place}: rows that differ in this label clash");
            }
        }
        assert!(!INSTRUMENTS.is_empty());
    }

    /// Names, units and shapes of the semantic conventions 1.44 that kymo's families may use.
    #[rustfmt::skip]
    const CONVENTIONS: &[(&str, &str, Shape)] = &[
        ("hw.temperature", "Cel", Shape::Gauge),
        ("hw.temperature.limit", "Cel", Shape::Gauge),
        ("process.memory.usage", "By", Shape::UpDownCounter),
        ("process.memory.virtual", "By", Shape::UpDownCounter),
        ("process.thread.count", "{thread}", Shape::UpDownCounter),
        ("process.uptime", "s", Shape::Gauge),
        ("system.cpu.frequency", "Hz", Shape::Gauge),
        ("system.cpu.logical.count", "{cpu}", Shape::UpDownCounter),
        ("system.cpu.physical.count", "{cpu}", Shape::UpDownCounter),
        ("system.cpu.time", "s", Shape::Counter),
        ("system.cpu.utilization", "1", Shape::Gauge),
        ("system.disk.io", "By", Shape::Counter),
        ("system.disk.io_time", "s", Shape::Counter),
        ("system.disk.merged", "{operation}", Shape::Counter),
        ("system.disk.operation_time", "s", Shape::Counter),
        ("system.disk.operations", "{operation}", Shape::Counter),
        ("system.filesystem.limit", "By", Shape::UpDownCounter),
        ("system.filesystem.usage", "By", Shape::UpDownCounter),
        ("system.filesystem.utilization", "1", Shape::Gauge),
        ("system.memory.limit", "By", Shape::UpDownCounter),
        ("system.memory.linux.available", "By", Shape::UpDownCounter),
        ("system.memory.linux.shared", "By", Shape::UpDownCounter),
        ("system.memory.usage", "By", Shape::UpDownCounter),
        ("system.memory.linux.slab.usage", "By", Shape::UpDownCounter),
        ("system.memory.utilization", "1", Shape::Gauge),
        ("system.network.connection.count", "{connection}", Shape::UpDownCounter),
        ("system.network.errors", "{error}", Shape::Counter),
        ("system.network.io", "By", Shape::Counter),
        ("system.network.packet.count", "{packet}", Shape::Counter),
        ("system.network.packet.dropped", "{packet}", Shape::Counter),
        ("system.paging.faults", "{fault}", Shape::Counter),
        ("system.paging.operations", "{operation}", Shape::Counter),
        ("system.paging.usage", "By", Shape::UpDownCounter),
        ("system.paging.utilization", "1", Shape::Gauge),
        ("system.process.count", "{process}", Shape::UpDownCounter),
        ("system.process.created", "{process}", Shape::Counter),
        ("system.uptime", "s", Shape::Gauge),
    ];

    #[test]
    fn names_of_the_conventions_are_used_as_they_say_and_all_others_are_kymos_own() {
        for instrument in INSTRUMENTS.iter().filter(|instrument| !instrument.name.starts_with("kymo.")) {
            let expected = CONVENTIONS.iter().find(|(name, ..)| *name == instrument.name);
            assert_eq!(expected, Some(&(instrument.name, instrument.unit, instrument.shape)), "{}", instrument.name);
        }
    }
}
