//! The tables are a promise to everyone who has written a query, so every change to them must show here.
//!
//! After a wanted change: `KYMO_BLESS=1 cargo test --test it schema`, and a line in CHANGELOG.md.

use std::fmt::Write;
use std::{env, fs};

use kymo::family::FamilyId;
use kymo::family::tables::TableId;
use kymo::record::Kind;

fn tables() -> String {
    let mut text = String::new();
    // Those of one family stand for all tiers, which are derived from the other tables.
    let tiers = TableId::all().filter(|table| table.family().name() == "network" && table.tier().is_some());
    for id in FamilyId::all().map(TableId::raw).chain(tiers) {
        writeln!(text, "{}", id.name()).unwrap();
        for column in id.table().sql_columns() {
            let metric = column.otel.map(|otel| format!(" -> {} {:?}", otel.name, otel.attributes)).unwrap_or_default();
            let attribute = column.attribute.map(|attribute| format!(" -> {attribute}")).unwrap_or_default();
            let kind = match column.kind {
                Kind::Time => "time",
                Kind::Label => "label",
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let unit = column.unit.symbol();
            writeln!(text, "  {} {kind} {:?} {unit}{metric}{attribute}", column.name, column.ty).unwrap();
        }
    }
    text
}

#[test]
fn tables_are_as_promised() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tables.txt");
    if env::var_os("KYMO_BLESS").is_some() {
        fs::write(golden, tables()).unwrap();
    }
    assert_eq!(tables(), fs::read_to_string(golden).unwrap());
}

/// Whether a doc is made of whole sentences: it begins with a capital letter, has some words and ends with a full stop.
fn is_documentation(doc: &str) -> bool {
    let words = doc.split_whitespace().filter(|word| word.contains(char::is_alphabetic)).count();
    doc.starts_with(char::is_uppercase) && words >= 2 && doc.ends_with('.')
}

#[test]
fn every_column_is_documented_and_named_once() {
    for id in TableId::all() {
        let (name, table) = (id.name(), id.table());
        let names: Vec<&str> = table.sql_columns().map(|column| column.name).collect();
        assert_eq!(names[0], "time", "{name}");
        assert!(is_documentation(table.doc), "{name}: {:?}", table.doc);
        for (index, column) in table.sql_columns().enumerate() {
            assert!(is_documentation(column.doc), "{name}.{}: {:?}", column.name, column.doc);
            assert!(!names[..index].contains(&column.name), "{name}.{} is there twice", column.name);
        }
    }
}
