//! Rows of a table about tables.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use datafusion::common::Result;

use crate::family::tables::TableId;
use crate::record::{Column, Table, Type};

/// A table about tables: its name, and what gives its rows.
pub(in crate::query) type Describing = (&'static str, fn() -> Result<RecordBatch>);

/// All tables, in the order in which they are listed.
pub(super) fn tables() -> impl Iterator<Item = &'static Table> {
    TableId::all().map(TableId::table)
}

/// All columns, with the position of each, which begins at 1, in its table.
pub(super) fn columns() -> impl Iterator<Item = (&'static Table, i64, &'static Column)> {
    tables().flat_map(|table| (1..).zip(table.sql_columns()).map(move |(position, column)| (table, position, column)))
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

/// The types that columns have.
pub(super) const TYPES: [TypeName; 4] = [
    TypeName { short: "int8", long: "bigint", oid: 20, bytes: 8 },
    TypeName { short: "text", long: "text", oid: 25, bytes: -1 },
    TypeName { short: "float8", long: "double precision", oid: 701, bytes: 8 },
    TypeName { short: "timestamptz", long: "timestamp with time zone", oid: 1184, bytes: 8 },
];

/// The name of a column's type.
pub(super) fn type_name(column: &Column) -> &'static TypeName {
    match column.ty {
        Type::Int64 => &TYPES[0],
        Type::Text => &TYPES[1],
        Type::Float64 => &TYPES[2],
        Type::Timestamp => &TYPES[3],
    }
}

/// A text on one line. Docs are written over several lines in the source.
pub(super) fn one_line(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
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
