//! The part of PostgreSQL's `pg_catalog` by which tools find tables and columns.

use arrow::array::RecordBatch;
use datafusion::common::Result;

use super::rows::{Described, Describing, TYPES, TypeName, batch, columns, integers, texts, told, truths, type_name};
use crate::query::place::{CATALOG, INFORMATION_SCHEMA, PG_CATALOG, SCHEMA};

/// The tables, and what gives their rows.
pub(in crate::query) const TABLES: &[Describing] = &[
    ("pg_attribute", pg_attribute),
    ("pg_class", pg_class),
    ("pg_database", pg_database),
    ("pg_description", pg_description),
    ("pg_namespace", pg_namespace),
    ("pg_tables", pg_tables),
    ("pg_type", pg_type),
    ("pg_views", pg_views),
];

/// PostgreSQL's numbers of its own schemas, and one that it gives to users' schemas.
const SCHEMAS: [(i64, &str); 3] = [(11, PG_CATALOG), (2_200, SCHEMA), (13_000, INFORMATION_SCHEMA)];
const PUBLIC_OID: i64 = SCHEMAS[1].0;
/// The number of the first table. PostgreSQL gives users' tables numbers from here on.
const TABLE_OID_MIN: i64 = 16_384;
const OWNER_OID: i64 = 10;

fn numbered(tables: &[Described]) -> impl Iterator<Item = (i64, &Described)> {
    (TABLE_OID_MIN..).zip(tables)
}

fn oid_of(tables: &[Described], name: &str) -> Option<i64> {
    numbered(tables).find(|(_, other)| other.name == name).map(|(oid, _)| oid)
}

fn pg_namespace(_: &[Described]) -> Result<RecordBatch> {
    batch(vec![
        ("oid", integers(SCHEMAS.map(|(oid, _)| Some(oid)))),
        ("nspname", texts(SCHEMAS.map(|(_, name)| Some(name)))),
        ("nspowner", integers(SCHEMAS.map(|_| Some(OWNER_OID)))),
    ])
}

fn pg_class(tables: &[Described]) -> Result<RecordBatch> {
    let numbered = || numbered(tables);
    let same = |number: i64| integers(numbered().map(|_| Some(number)));
    batch(vec![
        ("oid", integers(numbered().map(|(oid, _)| Some(oid)))),
        ("relname", texts(numbered().map(|(_, table)| Some(&table.name)))),
        ("relnamespace", same(PUBLIC_OID)),
        ("relowner", same(OWNER_OID)),
        ("relkind", texts(numbered().map(|(_, table)| Some(if table.is_view() { "v" } else { "r" })))),
        ("relnatts", integers(numbered().map(|(_, table)| i64::try_from(table.schema.fields().len()).ok()))),
        ("relhasindex", truths(numbered().map(|_| false))),
        ("relispartition", truths(numbered().map(|_| false))),
    ])
}

fn pg_attribute(tables: &[Described]) -> Result<RecordBatch> {
    let columns = || columns(tables);
    let of_type = |number: fn(&'static TypeName) -> i64| {
        integers(columns().map(move |(_, _, column)| Some(number(type_name(column.data_type())))))
    };
    batch(vec![
        ("attrelid", integers(columns().map(|(table, ..)| oid_of(tables, &table.name)))),
        ("attname", texts(columns().map(|(_, _, column)| Some(column.name())))),
        ("atttypid", of_type(|ty| ty.oid)),
        ("attlen", of_type(|ty| ty.bytes)),
        ("attnum", integers(columns().map(|(_, position, _)| Some(position)))),
        ("atttypmod", integers(columns().map(|_| Some(-1)))),
        ("attnotnull", truths(columns().map(|_| false))),
        ("atthasdef", truths(columns().map(|_| false))),
        ("attisdropped", truths(columns().map(|_| false))),
    ])
}

fn pg_type(_: &[Described]) -> Result<RecordBatch> {
    let types = || TYPES.iter();
    batch(vec![
        ("oid", integers(types().map(|ty| Some(ty.oid)))),
        ("typname", texts(types().map(|ty| Some(ty.short)))),
        ("typnamespace", integers(types().map(|_| Some(SCHEMAS[0].0)))),
        ("typlen", integers(types().map(|ty| Some(ty.bytes)))),
        ("typtype", texts(types().map(|_| Some("b")))),
    ])
}

fn pg_database(_: &[Described]) -> Result<RecordBatch> {
    batch(vec![
        ("oid", integers([Some(1)])),
        ("datname", texts([Some(CATALOG)])),
        ("datdba", integers([Some(OWNER_OID)])),
        ("datallowconn", truths([true])),
        ("datistemplate", truths([false])),
    ])
}

fn pg_tables(tables: &[Described]) -> Result<RecordBatch> {
    let tables = || tables.iter().filter(|table| !table.is_view());
    batch(vec![
        ("schemaname", texts(tables().map(|_| Some(SCHEMA)))),
        ("tablename", texts(tables().map(|table| Some(&table.name)))),
        ("tableowner", texts(tables().map(|_| Some(CATALOG)))),
    ])
}

fn pg_views(tables: &[Described]) -> Result<RecordBatch> {
    let views = || tables.iter().filter(|table| table.is_view());
    batch(vec![
        ("schemaname", texts(views().map(|_| Some(SCHEMA)))),
        ("viewname", texts(views().map(|view| Some(&view.name)))),
        ("viewowner", texts(views().map(|_| Some(CATALOG)))),
        ("definition", texts(views().map(|view| view.sql.as_ref()))),
    ])
}

fn pg_description(tables: &[Described]) -> Result<RecordBatch> {
    let of_tables = || numbered(tables).map(|(oid, table)| (Some(oid), 0, table.doc.as_str()));
    let of_columns = || {
        let doc = |column| told(column, "kymo.doc").unwrap_or_default();
        columns(tables).map(move |(table, position, column)| (oid_of(tables, &table.name), position, doc(column)))
    };
    // PostgreSQL has no row for what has no description.
    let all = || of_tables().chain(of_columns()).filter(|(.., doc)| !doc.is_empty());
    batch(vec![
        ("objoid", integers(all().map(|(oid, ..)| oid))),
        ("objsubid", integers(all().map(|(_, position, _)| Some(position)))),
        ("description", texts(all().map(|(.., doc)| Some(doc)))),
    ])
}
