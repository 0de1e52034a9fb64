//! Tiers: tables with one row for each series and second, or minute, made of a table's rows.
//!
//! [`Tier::table`] derives a tier's table from that of the rows, so a new family has its tiers without a further word. A
//! gauge `g` becomes `g_min`, `g_max`, `g_sum`, `g_count`, `g_first` and `g_last`; a counter `c` becomes `c_first`,
//! `c_last`, `c_increase`, `c_min_rate` and `c_max_rate`. What says which thing a row is of, or what belongs to it, keeps its name:
//! a row of a tier is of one thing. Each row ends with `ticks`, `missed` and `elapsed_us`.

use super::{Column, Kind, Role, Table, Type, Unit};

/// How long the buckets of a tier are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// One second.
    Second,
    /// One minute.
    Minute,
}

/// What a tier keeps of each gauge, with the words of its doc.
const OF_GAUGE: [(&str, &str); 6] = [
    ("min", "Smallest value of"),
    ("max", "Greatest value of"),
    ("sum", "Sum of the values of"),
    ("count", "Number of values of"),
    ("first", "First value of"),
    ("last", "Last value of"),
];
/// What a tier keeps of each counter.
const OF_COUNTER: [(&str, &str); 5] = [
    ("first", "First value of"),
    ("last", "Last value of"),
    ("increase", "Growth, from the series' last row before the bucket on, of"),
    ("min_rate", "Smallest growth per second, between neighbouring rows, of"),
    ("max_rate", "Greatest growth per second, between neighbouring rows, of"),
];

/// The column of a tier that says over which time its counters grew.
pub const ELAPSED: &str = "elapsed_us";

/// What each row of a tier ends with.
const OF_ROW: [&str; 3] = ["ticks", "missed", ELAPSED];

/// The columns of a tier without which its rows cannot be told apart, or not be weighed against others: an older kymo may have made rows
/// without them. What else a row lacks is null, as it is of rows from before the column.
pub fn essential(tier: &Table) -> impl Iterator<Item = &'static str> {
    let keys = tier.labels().chain(tier.identities()).map(|(_, column)| column.name);
    keys.chain(OF_ROW)
}

/// How many columns a tier has of a counter or gauge.
#[must_use]
pub fn width_of(column: &Column) -> usize {
    match (column.role, column.kind) {
        (Role::Identity | Role::Detail, _) => 1,
        (Role::Figure, Kind::Counter) => OF_COUNTER.len(),
        (Role::Figure, _) => OF_GAUGE.len(),
    }
}

impl Tier {
    /// From the finest to the widest.
    pub const ALL: [Tier; 2] = [Tier::Second, Tier::Minute];

    /// The length of a bucket, µs. Buckets begin at whole multiples of it.
    #[must_use]
    pub const fn width_us(self) -> i64 {
        match self {
            Tier::Second => 1_000_000,
            Tier::Minute => 60_000_000,
        }
    }

    /// What the name of its tables ends with.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Tier::Second => "_1s",
            Tier::Minute => "_1m",
        }
    }

    /// The beginning of the bucket of a time, µs.
    #[must_use]
    pub const fn bucket(self, time: i64) -> i64 {
        time.saturating_sub(time.rem_euclid(self.width_us()))
    }

    /// The tier's table of the rows of `rows`. It and its texts stay for the rest of the process, so call this once for each
    /// table.
    #[must_use]
    pub fn table(self, rows: &Table) -> &'static Table {
        let bucket = match self {
            Tier::Second => "second",
            Tier::Minute => "minute",
        };
        let time = Column {
            doc: leak(format!("When the {bucket} begins: a whole multiple of a {bucket} since the epoch, UTC.")),
            ..Column::TIME
        };
        let labels = rows.labels().map(|(_, label)| *label);
        let values = rows.values().flat_map(|(_, column)| derived(column));
        let counts = [
            (OF_ROW[0], format!("Rows of the series in the {bucket}, one a tick."), Unit::Count("{tick}")),
            (
                OF_ROW[1],
                format!(
                    "Ticks that the collector missed in the {bucket}, as the table `gap` has them. Null where that is not known."
                ),
                Unit::Count("{tick}"),
            ),
            (
                OF_ROW[2],
                format!(
                    "Time over which counters grew: from the series' last row before the {bucket} to its last row in it, or from \
                     its first row of all. So an increase divided by it is a rate, also where the {bucket} has only begun, or rows \
                     are missing. A step back of the clock counts as no time."
                ),
                Unit::Micros,
            ),
        ];
        let counts = counts.map(|(name, doc, unit)| gauge(name, leak(doc), Type::Int64, unit));
        let columns: Vec<Column> = [time].into_iter().chain(labels).chain(values).chain(counts).collect();
        let doc = format!(
            "One row a {bucket} for each series of `{}`. After the wall clock was set back, a {bucket} may have several, whose \
             counts and increases add up.",
            rows.name
        );
        Box::leak(Box::new(Table {
            name: leak(format!("{}{}", rows.name, self.suffix())),
            doc: leak(doc),
            columns: columns.leak(),
        }))
    }
}

/// The columns that a tier has of a counter or gauge.
fn derived(column: &Column) -> impl Iterator<Item = Column> {
    let (of, kept): (&[(&str, &str)], _) = match (column.role, column.kind) {
        // Tiers are not exported.
        (Role::Identity | Role::Detail, _) => (&[], Some(Column { otel: None, ..*column })),
        (Role::Figure, Kind::Counter) => (&OF_COUNTER, None),
        (Role::Figure, _) => (&OF_GAUGE, None),
    };
    let column = *column;
    let derived = of.iter().map(move |(what, words)| {
        let doc = leak(format!("{words} `{}` in the bucket. {}", column.name, column.doc));
        let name = leak(format!("{}_{what}", column.name));
        match *what {
            "count" => gauge(name, doc, Type::Int64, Unit::Count("{value}")),
            "min_rate" | "max_rate" => gauge(name, doc, Type::Float64, column.unit.per_second()),
            "first" | "last" if column.kind == Kind::Counter => {
                Column { kind: Kind::Counter, ..value(name, doc, &column) }
            }
            _ => value(name, doc, &column),
        }
    });
    derived.chain(kept)
}

fn value(name: &'static str, doc: &'static str, of: &Column) -> Column {
    gauge(name, doc, of.ty, of.unit)
}

fn gauge(name: &'static str, doc: &'static str, ty: Type, unit: Unit) -> Column {
    Column { name, doc, kind: Kind::Gauge, role: Role::Figure, ty, unit, otel: None, attribute: None }
}

fn leak(text: String) -> &'static str {
    text.leak()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_aligned_before_the_epoch_too() {
        assert_eq!([-1, 0, 999_999, 1_000_000].map(|time| Tier::Second.bucket(time)), [-1_000_000, 0, 0, 1_000_000]);
        assert_eq!(Tier::Minute.bucket(119_999_999), 60_000_000);
    }

    #[test]
    fn a_table_has_its_tiers_by_its_declaration() {
        crate::record! {
            /// Doors of a house.
            pub struct Door("door") {
                labels {
                    /// The door's name.
                    name,
                }
                values {
                    /// The number of the door, if it was replaced.
                    identity number: i64 [Number],
                    /// Whose it is.
                    detail owner_id: i64 [Number],
                    /// Bytes that went through.
                    counter through_bytes: i64 [Bytes],
                    /// How far it stands open.
                    gauge open_ratio: f64 [Ratio],
                }
            }
        }
        let table = Tier::Minute.table(<Door as crate::record::Record>::TABLE);
        let told: Vec<String> = table
            .columns
            .iter()
            .map(|column| format!("{} {:?} {:?} {}", column.name, column.kind, column.ty, column.unit.symbol()))
            .collect();
        assert_eq!(
            (table.name, told.join("\n").replace(" \n", "\n").trim_end()),
            (
                "door_1m",
                "time Time Timestamp
name Label Text
number Gauge Int64 1
owner_id Gauge Int64 1
through_bytes_first Counter Int64 bytes
through_bytes_last Counter Int64 bytes
through_bytes_increase Gauge Int64 bytes
through_bytes_min_rate Gauge Float64 bytes/s
through_bytes_max_rate Gauge Float64 bytes/s
open_ratio_min Gauge Float64 ratio
open_ratio_max Gauge Float64 ratio
open_ratio_sum Gauge Float64 ratio
open_ratio_count Gauge Int64 value
open_ratio_first Gauge Float64 ratio
open_ratio_last Gauge Float64 ratio
ticks Gauge Int64 tick
missed Gauge Int64 tick
elapsed_us Gauge Int64 µs"
            )
        );
        assert!(table.columns[4].doc.ends_with("Bytes that went through."));
        assert_eq!(table.identities().map(|(_, column)| column.name).collect::<Vec<_>>(), ["number"]);
        assert_eq!(essential(table).collect::<Vec<_>>(), ["name", "number", "ticks", "missed", "elapsed_us"]);
        for (_, column) in <Door as crate::record::Record>::TABLE.values() {
            assert_eq!(derived(column).count(), width_of(column), "{}", column.name);
        }
    }
}
