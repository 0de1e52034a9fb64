//! `information_schema`, as the SQL standard has it.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Field;
use datafusion::common::Result;

use super::rows::{Described, Describing, batch, columns, integers, texts, told, type_name};
use crate::query::place::{CATALOG, INFORMATION_SCHEMA, PG_CATALOG, SCHEMA};

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

fn described_tables(tables: &[Described]) -> Result<RecordBatch> {
    let same = |text: &'static str| texts(tables.iter().map(|_| Some(text)));
    let ty = |table: &Described| Some(if table.is_view() { "VIEW" } else { "BASE TABLE" });
    batch(vec![
        ("table_catalog", same(CATALOG)),
        ("table_schema", same(SCHEMA)),
        ("table_name", texts(tables.iter().map(|table| Some(&table.name)))),
        ("table_type", texts(tables.iter().map(ty))),
        ("table_comment", texts(tables.iter().map(|table| Some(&table.doc)))),
    ])
}

fn described_columns(tables: &[Described]) -> Result<RecordBatch> {
    let columns = || columns(tables);
    let same = |text: Option<&'static str>| texts(columns().map(|_| text));
    // By the type's name in PostgreSQL's tables.
    let of_type = |numbers: &'static [(&str, i64)]| {
        let number = |name: &str| numbers.iter().find(|(other, _)| *other == name).map(|(_, number)| *number);
        integers(columns().map(|(_, _, column)| number(type_name(column.data_type()).short)))
    };
    let none = || integers(columns().map(|_| None));
    let nullable = |column: &Field| Some(if column.is_nullable() { "YES" } else { "NO" });
    let about = |key: &'static str| texts(columns().map(|(_, _, column)| Some(told(column, key).unwrap_or_default())));
    batch(vec![
        ("table_catalog", same(Some(CATALOG))),
        ("table_schema", same(Some(SCHEMA))),
        ("table_name", texts(columns().map(|(table, ..)| Some(&table.name)))),
        ("column_name", texts(columns().map(|(_, _, column)| Some(column.name())))),
        ("ordinal_position", integers(columns().map(|(_, position, _)| Some(position)))),
        ("column_default", same(None)),
        ("is_nullable", texts(columns().map(|(_, _, column)| nullable(column)))),
        ("data_type", texts(columns().map(|(_, _, column)| Some(type_name(column.data_type()).long)))),
        ("character_maximum_length", none()),
        ("character_octet_length", none()),
        ("numeric_precision", of_type(&[("int8", 64), ("int4", 32), ("int2", 16), ("float8", 53), ("float4", 24)])),
        ("numeric_precision_radix", of_type(&[("int8", 2), ("int4", 2), ("int2", 2), ("float8", 2), ("float4", 2)])),
        ("numeric_scale", of_type(&[("int8", 0), ("int4", 0), ("int2", 0)])),
        ("datetime_precision", of_type(&[("timestamptz", 6), ("timestamp", 6)])),
        ("interval_type", same(None)),
        ("udt_name", texts(columns().map(|(_, _, column)| Some(type_name(column.data_type()).short)))),
        ("column_comment", about("kymo.doc")),
        ("unit", about("kymo.unit")),
        ("kind", about("kymo.kind")),
    ])
}

fn schemata(_: &[Described]) -> Result<RecordBatch> {
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

fn views(tables: &[Described]) -> Result<RecordBatch> {
    let views = || tables.iter().filter(|table| table.is_view());
    let same = |text: &'static str| texts(views().map(|_| Some(text)));
    batch(vec![
        ("table_catalog", same(CATALOG)),
        ("table_schema", same(SCHEMA)),
        ("table_name", texts(views().map(|view| Some(&view.name)))),
        ("view_definition", texts(views().map(|view| view.sql.as_ref()))),
        ("check_option", same("NONE")),
        ("is_updatable", same("NO")),
    ])
}

fn table_constraints(_: &[Described]) -> Result<RecordBatch> {
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

fn key_column_usage(_: &[Described]) -> Result<RecordBatch> {
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

fn referential_constraints(_: &[Described]) -> Result<RecordBatch> {
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
