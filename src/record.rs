//! Records: one declaration gives the struct, its Arrow columns, docs, units and OpenTelemetry names.
//!
//! A record is fixed-size and `Copy`: a time, 8-byte values, and labels as interned ids. [`record!`](crate::record!)
//! declares it. Everything downstream (rings, batches, SQL tables, Parquet, alerts, OTLP, `kymo tables`) reads the
//! [`Table`] that the declaration produces.

pub mod gather;
pub mod label;
pub mod tier;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use gather::Gather;

/// The integer that stands for "no value": it becomes a null in Arrow. Floats use NaN.
pub const ABSENT: i64 = i64::MIN;

/// The time zone of every `time` column.
pub const TIME_ZONE: &str = "UTC";

/// What a column's numbers mean over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The wall clock when the tick began to read.
    Time,
    /// A dimension: rows with equal labels are one series.
    Label,
    /// Cumulative since boot, or since the counted thing appeared. It only grows, except for resets.
    Counter,
    /// A value at one moment.
    Gauge,
}

/// What a column says about the thing that a row is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// How it is at this time: all but the next two.
    Figure,
    /// Which one it is. Rows that differ in it are of different things, though their labels are equal.
    Identity,
    /// What belongs to it and seldom changes. Sums and averages of it say nothing.
    Detail,
}

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `Timestamp(Microsecond, "UTC")`.
    Timestamp,
    /// `Dictionary(Int32, Utf8)` in memory, a plain string in Parquet.
    Text,
    /// 64-bit signed integer.
    Int64,
    /// 64-bit float.
    Float64,
}

/// The unit of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// No unit: times and labels.
    None,
    /// Bytes.
    Bytes,
    /// Microseconds.
    Micros,
    /// A share; 1 is the whole.
    Ratio,
    /// Degrees Celsius.
    Celsius,
    /// Microjoules.
    Microjoules,
    /// A pure number, such as a load average.
    Number,
    /// A count of the thing named, in UCUM's annotation form (`{packet}`).
    Count(&'static str),
    /// So much a second, with its symbol (`bytes/s`).
    PerSecond(&'static str),
}

impl Unit {
    /// The unit of kymo's own values, for people.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Unit::None => "",
            Unit::Bytes => "bytes",
            Unit::Micros => "µs",
            Unit::Ratio => "ratio",
            Unit::Celsius => "°C",
            Unit::Microjoules => "µJ",
            Unit::Number => "1",
            Unit::Count(thing) => thing.trim_matches(|c| c == '{' || c == '}'),
            Unit::PerSecond(symbol) => symbol,
        }
    }

    /// The UCUM unit of OpenTelemetry's semantic conventions and the factor from kymo's unit to it.
    #[must_use]
    pub fn ucum(self) -> (&'static str, f64) {
        match self {
            Unit::None | Unit::Ratio | Unit::Number => ("1", 1.0),
            Unit::Bytes => ("By", 1.0),
            Unit::Micros => ("s", 1e-6),
            Unit::Celsius => ("Cel", 1.0),
            Unit::Microjoules => ("J", 1e-6),
            Unit::Count(thing) | Unit::PerSecond(thing) => (thing, 1.0),
        }
    }

    /// So much of this a second. Its symbol stays for the rest of the process.
    #[must_use]
    pub fn per_second(self) -> Unit {
        Unit::PerSecond(format!("{}/s", self.symbol()).leak())
    }
}

/// A column's place in OpenTelemetry's semantic conventions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Otel {
    /// The metric's name, such as `system.cpu.time`.
    pub name: &'static str,
    /// Attributes that this column fixes, such as `cpu.mode = user`.
    pub attributes: &'static [(&'static str, &'static str)],
}

/// One column of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    /// The name in SQL and Parquet, with the unit last.
    pub name: &'static str,
    /// What it means, in whole sentences.
    pub doc: &'static str,
    /// What its numbers mean over time.
    pub kind: Kind,
    /// What it says about the thing that the row is of.
    pub role: Role,
    /// How it is stored.
    pub ty: Type,
    /// The unit of its values.
    pub unit: Unit,
    /// The metric that it is exported as, if any.
    pub otel: Option<Otel>,
    /// For labels: the OpenTelemetry attribute that carries it.
    pub attribute: Option<&'static str>,
}

impl Column {
    /// The `time` column that every table starts with.
    pub const TIME: Column = Column {
        name: "time",
        doc: "Wall clock time when the tick began; in `gap` and `kymo`, when kymo wrote the row; in `alert`, when the alert \
              changed; in `statement`, when it ended. All rows of one tick of a collector have the same time.",
        kind: Kind::Time,
        role: Role::Figure,
        ty: Type::Timestamp,
        unit: Unit::None,
        otel: None,
        attribute: None,
    };

    /// The `host` column that every SQL table ends with. It is the lake's `host=` partition, and in no record and no file.
    pub const HOST: Column = Column {
        name: "host",
        doc: "Name of the host that recorded the row: the `host=` folder of its file.",
        kind: Kind::Label,
        role: Role::Figure,
        ty: Type::Text,
        unit: Unit::None,
        otel: None,
        attribute: None,
    };

    /// The Arrow type in memory.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        match self.ty {
            Type::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into())),
            Type::Text => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Type::Int64 => DataType::Int64,
            Type::Float64 => DataType::Float64,
        }
    }

    /// Whether values may be absent. Times and labels never are.
    #[must_use]
    pub fn nullable(&self) -> bool {
        matches!(self.kind, Kind::Counter | Kind::Gauge)
    }
}

/// A table: the shape that all records of a family share.
#[derive(Debug, PartialEq)]
pub struct Table {
    /// The name in SQL and of the folder in the lake.
    pub name: &'static str,
    /// What a row is.
    pub doc: &'static str,
    /// `time`, then labels, then values.
    pub columns: &'static [Column],
}

impl Table {
    /// The Arrow schema of batches in memory.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> =
            self.columns.iter().map(|column| Field::new(column.name, column.data_type(), column.nullable())).collect();
        Arc::new(Schema::new(fields))
    }

    /// The schema of batches that are read from Parquet, where labels are plain strings.
    #[must_use]
    pub fn plain_schema(&self) -> SchemaRef {
        plain(self.columns)
    }

    /// The columns of the table in SQL: those of its files, and [`Column::HOST`] at the end.
    pub fn sql_columns(&self) -> impl Iterator<Item = &'static Column> {
        self.columns.iter().chain([&Column::HOST])
    }

    /// The schema of the table in SQL.
    #[must_use]
    pub fn sql_schema(&self) -> SchemaRef {
        plain(self.sql_columns())
    }

    /// The column of this name, with its position.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<(usize, &'static Column)> {
        self.columns.iter().enumerate().find(|(_, column)| column.name == name)
    }

    /// The label columns, with their positions.
    pub fn labels(&self) -> impl Iterator<Item = (usize, &'static Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| column.kind == Kind::Label)
    }

    /// The columns that tell things of equal labels apart, with their positions.
    pub fn identities(&self) -> impl Iterator<Item = (usize, &'static Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| column.role == Role::Identity)
    }

    /// The counters and gauges, with their positions.
    pub fn values(&self) -> impl Iterator<Item = (usize, &'static Column)> {
        self.columns.iter().enumerate().filter(|(_, column)| column.nullable())
    }
}

/// A schema in which labels are plain strings.
fn plain<'a>(columns: impl IntoIterator<Item = &'a Column>) -> SchemaRef {
    let plain = |column: &Column| if column.ty == Type::Text { DataType::Utf8 } else { column.data_type() };
    let field = |column: &Column| Field::new(column.name, plain(column), column.nullable());
    Arc::new(Schema::new(columns.into_iter().map(field).collect::<Vec<_>>()))
}

/// A fixed-size record, declared by [`record!`](crate::record!).
pub trait Record: Copy + Send + Sync + 'static {
    /// The table its rows go to.
    const TABLE: &'static Table;

    /// A record at `time` (µs since the epoch) with every value absent and every label [`Label::EMPTY`](label::Label::EMPTY).
    fn absent(time: i64) -> Self;

    /// Hands the values of all records to `out`, column by column, in the order of [`Table::columns`].
    fn gather(slices: &[&[Self]], out: &mut Gather);
}

/// A type of a value column.
pub trait Value: Copy {
    /// How it is stored.
    const TYPE: Type;
    /// The value that stands for "no value".
    const ABSENT: Self;
    /// Hands a column of such values to `out`.
    fn gather<R: Record>(slices: &[&[R]], field: impl Fn(&R) -> Self, out: &mut Gather);
}

impl Value for i64 {
    const TYPE: Type = Type::Int64;
    const ABSENT: Self = ABSENT;
    fn gather<R: Record>(slices: &[&[R]], field: impl Fn(&R) -> Self, out: &mut Gather) {
        out.integers(slices, field);
    }
}

impl Value for f64 {
    const TYPE: Type = Type::Float64;
    const ABSENT: Self = f64::NAN;
    fn gather<R: Record>(slices: &[&[R]], field: impl Fn(&R) -> Self, out: &mut Gather) {
        out.floats(slices, field);
    }
}

/// Declares a record: its struct, and with it the table's columns, docs, units and OpenTelemetry names.
///
/// ```
/// kymo::record! {
///     /// Doors of a house, one row a door and tick.
///     pub struct Door("door") {
///         labels {
///             /// The door's name.
///             door => "house.door",
///         }
///         values {
///             /// Times it was opened.
///             counter openings: i64 [Count("{opening}")] => "house.door.openings" {},
///             /// How far it stands open, 0…1.
///             gauge open_ratio: f64 [Ratio],
///         }
///     }
/// }
/// use kymo::record::Record;
/// assert_eq!(Door::TABLE.columns.len(), 4);
/// assert_eq!(Door::TABLE.columns[3].doc, "How far it stands open, 0…1.");
/// ```
///
/// A value is `counter` or `gauge` and `i64` or `f64`. A gauge that tells things of equal labels apart is declared with `identity` in
/// the place of `gauge`, and one that belongs to the thing with `detail` ([`Role`]); both are `i64`. Its [`Unit`] stands in brackets, optionally followed by its
/// OpenTelemetry metric with the attributes that this column fixes. A label may name the OpenTelemetry attribute that
/// carries it. A column whose name is a keyword is written raw: `r#type`.
#[macro_export]
macro_rules! record {
    (
        $(#[doc = $doc:literal])+
        pub struct $Record:ident($table:literal) {
            labels { $( $(#[doc = $label_doc:literal])+ $label:ident $(=> $attribute:literal)?, )* }
            values { $( $(#[doc = $value_doc:literal])+ $kind:ident $value:ident: $ty:ident [$unit:expr]
                $(=> $metric:literal { $($key:literal = $fixed:literal),* })?, )+ }
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[repr(C)]
        pub struct $Record {
            /// Wall clock time when the tick began, µs since the epoch, UTC.
            pub time: i64,
            $( $(#[doc = $value_doc])+ pub $value: $ty, )+
            $( $(#[doc = $label_doc])+ pub $label: $crate::record::label::Label, )*
        }

        impl $crate::record::Record for $Record {
            const TABLE: &'static $crate::record::Table = &$crate::record::Table {
                name: $table,
                doc: $crate::record!(@text $($doc)+),
                columns: &[
                    $crate::record::Column::TIME,
                    $( $crate::record::Column {
                        name: $crate::record::unraw(stringify!($label)),
                        doc: $crate::record!(@text $($label_doc)+),
                        kind: $crate::record::Kind::Label,
                        role: $crate::record::Role::Figure,
                        ty: $crate::record::Type::Text,
                        unit: $crate::record::Unit::None,
                        otel: None,
                        attribute: $crate::record!(@option $($attribute)?),
                    }, )*
                    $( $crate::record::Column {
                        name: $crate::record::unraw(stringify!($value)),
                        doc: $crate::record!(@text $($value_doc)+),
                        kind: $crate::record!(@kind $kind),
                        role: $crate::record!(@role $kind),
                        ty: <$ty as $crate::record::Value>::TYPE,
                        unit: {
                            #[allow(unused_imports, reason = "units are written without their path in declarations")]
                            use $crate::record::Unit::*;
                            $unit
                        },
                        otel: $crate::record!(@otel $($metric { $($key = $fixed),* })?),
                        attribute: None,
                    }, )+
                ],
            };

            fn absent(time: i64) -> Self {
                Self {
                    time,
                    $( $value: <$ty as $crate::record::Value>::ABSENT, )+
                    $( $label: $crate::record::label::Label::EMPTY, )*
                }
            }

            fn gather(slices: &[&[Self]], out: &mut $crate::record::gather::Gather) {
                out.integers(slices, |record| record.time);
                $( out.labels(slices, |record| record.$label); )*
                $( <$ty as $crate::record::Value>::gather(slices, |record| record.$value, out); )+
            }
        }
    };
    (@text $($line:literal)+) => { $crate::record::trim(concat!($($line, "\n"),+)) };
    (@kind counter) => { $crate::record::Kind::Counter };
    (@kind $gauge:ident) => { $crate::record::Kind::Gauge };
    (@role counter) => { $crate::record::Role::Figure };
    (@role gauge) => { $crate::record::Role::Figure };
    (@role identity) => { $crate::record::Role::Identity };
    (@role detail) => { $crate::record::Role::Detail };
    (@option) => { None };
    (@option $value:literal) => { Some($value) };
    (@otel) => { None };
    (@otel $metric:literal { $($key:literal = $fixed:literal),* }) => {
        Some($crate::record::Otel { name: $metric, attributes: &[$(($key, $fixed)),*] })
    };
}

/// A field's name without the `r#` of keywords. Used by [`record!`](crate::record!).
#[must_use]
pub const fn unraw(name: &'static str) -> &'static str {
    if let [b'r', b'#', ..] = name.as_bytes() { name.split_at(2).1 } else { name }
}

/// A doc comment's text without blanks at its ends. Used by [`record!`](crate::record!).
#[must_use]
pub const fn trim(text: &'static str) -> &'static str {
    text.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    record! {
        /// A test table,
        /// over two lines.
        pub struct Probe("probe") {
            labels {
                /// Which one.
                name => "probe.name",
            }
            values {
                /// A counter.
                counter seen_us: i64 [Micros] => "probe.time" {"state" = "seen"},
                /// A gauge.
                gauge share_ratio: f64 [Ratio],
            }
        }
    }

    #[test]
    fn the_declaration_becomes_a_table() {
        let table = Probe::TABLE;
        assert_eq!((unraw("r#type"), unraw("r"), unraw("seen_us")), ("type", "r", "seen_us"));
        assert_eq!((table.name, table.doc), ("probe", "A test table,\n over two lines."));
        let names: Vec<_> = table.columns.iter().map(|column| column.name).collect();
        assert_eq!(names, ["time", "name", "seen_us", "share_ratio"]);
        assert_eq!(table.columns[1].attribute, Some("probe.name"));
        assert_eq!(table.columns[2].otel.map(|otel| otel.attributes), Some([("state", "seen")].as_slice()));
        assert_eq!(table.columns[2].unit.ucum(), ("s", 1e-6));
        assert!(!table.schema().field(1).is_nullable() && table.schema().field(2).is_nullable());
    }
}
