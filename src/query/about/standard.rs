//! `information_schema`, as the SQL standard has it.

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::Result;

use super::rows::{Describing, batch, columns, integers, one_line, tables, texts, type_name};
use crate::query::place::{CATALOG, INFORMATION_SCHEMA, PG_CATALOG, SCHEMA};
use crate::record::{Kind, Type};

/// The tables, and what gives their rows.
pub(in crate::query) const TABLES: &[Describing] = &[
    ("columns", described_columns),
    ("key_column_usage", key_column_usage),
    ("referential_constraints", referential_constraints),
    ("schemata", schemata),
    ("table_constraints", table_constraints),
    ("tables", described_tables),
    ("views", views),
];

fn described_tables() -> Result<RecordBatch> {
    let same = |text: &'static str| texts(tables().map(|_| Some(text)));
    batch(vec![
        ("table_catalog", same(CATALOG)),
        ("table_schema", same(SCHEMA)),
        ("table_name", texts(tables().map(|table| Some(table.name)))),
        ("table_type", same("BASE TABLE")),
        ("table_comment", texts(tables().map(|table| Some(one_line(table.doc))))),
    ])
}

fn described_columns() -> Result<RecordBatch> {
    let same = |text: Option<&'static str>| texts(columns().map(|_| text));
    let of_type = |ty: Type, number: i64| integers(columns().map(|(_, _, column)| (column.ty == ty).then_some(number)));
    let numeric = |integer: i64, float: Option<i64>| {
        integers(columns().map(|(_, _, column)| match column.ty {
            Type::Int64 => Some(integer),
            Type::Float64 => float,
            Type::Text | Type::Timestamp => None,
        }))
    };
    let none = || integers(columns().map(|_| None));
    let nullable = tables().flat_map(|table| {
        let nullable: Vec<bool> = table.sql_schema().fields().iter().map(|field| field.is_nullable()).collect();
        nullable
    });
    batch(vec![
        ("table_catalog", same(Some(CATALOG))),
        ("table_schema", same(Some(SCHEMA))),
        ("table_name", texts(columns().map(|(table, ..)| Some(table.name)))),
        ("column_name", texts(columns().map(|(_, _, column)| Some(column.name)))),
        ("ordinal_position", integers(columns().map(|(_, position, _)| Some(position)))),
        ("column_default", same(None)),
        ("is_nullable", texts(nullable.map(|nullable| Some(if nullable { "YES" } else { "NO" })))),
        ("data_type", texts(columns().map(|(_, _, column)| Some(type_name(column).long)))),
        ("character_maximum_length", none()),
        ("character_octet_length", none()),
        ("numeric_precision", numeric(64, Some(53))),
        ("numeric_precision_radix", numeric(2, Some(2))),
        ("numeric_scale", numeric(0, None)),
        ("datetime_precision", of_type(Type::Timestamp, 6)),
        ("interval_type", same(None)),
        ("udt_name", texts(columns().map(|(_, _, column)| Some(type_name(column).short)))),
        ("column_comment", texts(columns().map(|(_, _, column)| Some(one_line(column.doc))))),
        ("unit", texts(columns().map(|(_, _, column)| Some(column.unit.symbol())))),
        ("kind", texts(columns().map(|(_, _, column)| Some(kind(column.kind))))),
    ])
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Time => "time",
        Kind::Label => "label",
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    }
}

fn schemata() -> Result<RecordBatch> {
    let names = [INFORMATION_SCHEMA, PG_CATALOG, SCHEMA];
    let same = |text: Option<&'static str>| texts(names.map(|_| text));
    batch(vec![
        ("catalog_name", same(Some(CATALOG))),
        ("schema_name", texts(names.map(Some))),
        ("schema_owner", same(Some(CATALOG))),
        ("default_character_set_catalog", same(None)),
        ("default_character_set_schema", same(None)),
        ("default_character_set_name", same(None)),
        ("sql_path", same(None)),
    ])
}

/// A table of which there are no rows.
fn empty(names: &'static [&'static str]) -> Result<RecordBatch> {
    let column =
        |name: &&'static str| -> (&'static str, ArrayRef) { (*name, texts(std::iter::empty::<Option<&str>>())) };
    batch(names.iter().map(column).collect())
}

fn views() -> Result<RecordBatch> {
    empty(&["table_catalog", "table_schema", "table_name", "view_definition", "check_option", "is_updatable"])
}

fn table_constraints() -> Result<RecordBatch> {
    empty(&[
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "table_catalog",
        "table_schema",
        "table_name",
        "constraint_type",
        "is_deferrable",
        "initially_deferred",
    ])
}

fn key_column_usage() -> Result<RecordBatch> {
    empty(&[
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
        "ordinal_position",
        "position_in_unique_constraint",
    ])
}

fn referential_constraints() -> Result<RecordBatch> {
    empty(&[
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "unique_constraint_catalog",
        "unique_constraint_schema",
        "unique_constraint_name",
        "match_option",
        "update_rule",
        "delete_rule",
    ])
}
