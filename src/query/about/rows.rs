//! Rows of a table about tables.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;

use crate::family::FAMILIES;
use crate::query::origin::metadata;
use crate::query::sql_view::SqlView;
use crate::record::Table;
use crate::words::one_line;

/// A table about tables: its name, and what gives its rows, which describe these tables.
pub(in crate::query) type Describing = (&'static str, fn(&[Described]) -> Result<RecordBatch>);

/// A table or a view, as it is described.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// What it has, for people; may be empty.
    pub doc: String,
    /// The query that a view stands for.
    pub sql: Option<String>,
    /// Its columns. Their metadata are those of results.
    pub schema: SchemaRef,
}

impl Described {
    /// A table.
    pub(in crate::query) fn table(table: &Table) -> Described {
        let plain = table.sql_schema();
        let told = plain.fields().iter().zip(table.sql_columns());
        let told = told.map(|(field, column)| Field::clone(field).with_metadata(metadata(column)));
        let schema = Arc::new(Schema::new(told.collect::<Vec<_>>()));
        Described { name: table.name.into(), doc: one_line(table.doc), sql: None, schema }
    }

    /// A view with these columns.
    #[must_use]
    pub fn view(view: &SqlView, schema: SchemaRef) -> Described {
        let SqlView { name, sql, doc } = view;
        Described { name: name.clone(), doc: one_line(doc), sql: Some(sql.clone()), schema }
    }

    /// Whether it is a view.
    #[must_use]
    pub fn is_view(&self) -> bool {
        self.sql.is_some()
    }
}

/// All tables, in the order in which they are listed.
pub fn tables() -> impl Iterator<Item = Described> {
    FAMILIES.iter().map(|family| Described::table(family.table))
}

/// All columns, with the position of each, which begins at 1, in its table.
pub(super) fn columns(tables: &[Described]) -> impl Iterator<Item = (&Described, i64, &Field)> + Clone {
    tables.iter().flat_map(|table| (1..).zip(table.schema.fields()).map(move |(at, field)| (table, at, field.as_ref())))
}

/// What clients are told about a column.
pub(super) fn told<'a>(column: &'a Field, key: &str) -> Option<&'a str> {
    column.metadata().get(key).map(String::as_str)
}

/// What a type is called.
pub(super) struct TypeName {
    /// In PostgreSQL's tables.
    pub(super) short: &'static str,
    /// In the SQL standard.
    pub(super) long: &'static str,
    /// PostgreSQL's number of it.
    pub(super) oid: i64,
    /// The bytes of a value; −1 if they vary.
    pub(super) bytes: i64,
}

const fn named(short: &'static str, long: &'static str, oid: i64, bytes: i64) -> TypeName {
    TypeName { short, long, oid, bytes }
}

/// The types that columns have. Those of tables are the first four; views have others, too.
pub(super) const TYPES: [TypeName; 16] = [
    named("int8", "bigint", 20, 8),
    named("text", "text", 25, -1),
    named("float8", "double precision", 701, 8),
    named("timestamptz", "timestamp with time zone", 1184, 8),
    named("bool", "boolean", 16, 1),
    named("bytea", "bytea", 17, -1),
    named("int2", "smallint", 21, 2),
    named("int4", "integer", 23, 4),
    named("float4", "real", 700, 4),
    named("date", "date", 1082, 4),
    named("time", "time without time zone", 1083, 8),
    named("timestamp", "timestamp without time zone", 1114, 8),
    named("interval", "interval", 1186, 16),
    named("numeric", "numeric", 1700, -1),
    named("anyarray", "ARRAY", 2277, -1),
    named("record", "record", 2249, -1),
];

/// The name of a column's type.
pub(super) fn type_name(ty: &DataType) -> &'static TypeName {
    let at = match ty {
        DataType::Int64 => 0,
        DataType::Float64 => 2,
        DataType::Timestamp(_, Some(_)) => 3,
        DataType::Boolean => 4,
        DataType::Binary | DataType::LargeBinary => 5,
        DataType::Int8 | DataType::Int16 => 6,
        DataType::Int32 => 7,
        DataType::Float16 | DataType::Float32 => 8,
        DataType::Date32 | DataType::Date64 => 9,
        DataType::Time32(_) | DataType::Time64(_) => 10,
        DataType::Timestamp(_, None) => 11,
        DataType::Duration(_) | DataType::Interval(_) => 12,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => 13,
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => 14,
        DataType::Struct(_) => 15,
        _ => 1,
    };
    &TYPES[at]
}

/// A column of texts.
pub(super) fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

/// A column of integers.
pub(super) fn integers(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Int64Array>())
}

/// A column of truths.
pub(super) fn truths(values: impl IntoIterator<Item = bool>) -> ArrayRef {
    Arc::new(values.into_iter().map(Some).collect::<BooleanArray>())
}

/// The columns with their names.
pub(super) fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?)
}
