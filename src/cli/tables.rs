//! `kymo tables`: what is recorded, and what it means. Needs no daemon: it is all declared in the program.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use super::{Form, table};
use crate::family::{FAMILIES, Family, FamilyId};
use crate::record::{Column, Kind, Type};

/// `kymo tables`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo tables            all tables
  kymo tables disk       the columns of `disk`
  kymo tables --format json | jq '.[].name'")]
pub struct Tables {
    /// One table, to see its columns
    pub name: Option<String>,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    pub format: Form,
}

/// Lists all tables, or the columns of one.
///
/// # Errors
/// When there is no such table, or stdout cannot be written.
pub fn run(tables: &Tables) -> anyhow::Result<()> {
    let families: Vec<FamilyId> = match &tables.name {
        None => FamilyId::all().collect(),
        Some(name) => match FamilyId::find(name) {
            Some(family) => vec![family],
            None => {
                let names: Vec<_> = FAMILIES.iter().map(Family::name).collect();
                anyhow::bail!("there is no table {name}; the tables are {}", names.join(", "))
            }
        },
    };
    let mut out = io::stdout().lock();
    match (tables.format, &tables.name) {
        (Form::Json, _) => {
            let all: Vec<Value> = families.iter().map(|family| as_json(family)).collect();
            writeln!(out, "{:#}", Value::Array(all))?;
        }
        (Form::Table, None) => table::write(&overview(&families), &mut out)?,
        (Form::Table, Some(_)) => {
            for family in families {
                describe(&family, &mut out)?;
            }
        }
    }
    Ok(out.flush()?)
}

fn overview(families: &[FamilyId]) -> comfy_table::Table {
    let mut rows = table::with_headers(["table", "labels", "values", "shortest interval", "what a row is"]);
    for family in families {
        let labels: Vec<_> = family.table.labels().map(|(_, column)| column.name).collect();
        rows.add_row([
            family.name().to_owned(),
            labels.join(", "),
            family.table.values().count().to_string(),
            family
                .sampling()
                .map_or_else(|| "kymo's own".to_owned(), |sampling| format!("{:?}", sampling.interval_min)),
            first_sentence(family.table.doc),
        ]);
    }
    table::align_right(&mut rows, [2, 3]);
    table::wrap(&mut rows);
    rows
}

fn describe(family: &Family, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}: {}", family.name(), one_line(family.table.doc))?;
    match family.sampling() {
        Some(sampling) => writeln!(
            out,
            "True resolution: {}; shortest interval without force = true: {:?}.\n",
            sampling.resolution, sampling.interval_min
        )?,
        None => writeln!(out, "kymo writes it about itself; no collector lists it.\n")?,
    }
    let mut rows = table::with_headers(["column", "type", "unit", "kind", "meaning"]);
    for column in family.table.columns {
        rows.add_row([
            column.name.to_owned(),
            type_name(column).to_owned(),
            column.unit.symbol().to_owned(),
            kind_name(column).to_owned(),
            one_line(column.doc),
        ]);
    }
    table::wrap(&mut rows);
    table::write(&rows, out)
}

fn as_json(family: &Family) -> Value {
    let column = |column: &Column| {
        json!({
            "name": column.name,
            "type": type_name(column),
            "unit": column.unit.symbol(),
            "kind": kind_name(column),
            "doc": one_line(column.doc),
            "otel": column.otel.map(|otel| otel.name),
        })
    };
    json!({
        "name": family.name(),
        "doc": one_line(family.table.doc),
        "resolution": family.sampling().map(|sampling| sampling.resolution),
        "interval_min_us": family.sampling().map(|sampling| sampling.interval_min.as_micros()),
        "columns": family.table.columns.iter().map(column).collect::<Vec<_>>(),
    })
}

fn type_name(column: &Column) -> &'static str {
    match column.ty {
        Type::Timestamp => "timestamp",
        Type::Text => "text",
        Type::Int64 => "int64",
        Type::Float64 => "float64",
    }
}

fn kind_name(column: &Column) -> &'static str {
    match column.kind {
        Kind::Time => "time",
        Kind::Label => "label",
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    }
}

fn first_sentence(doc: &str) -> String {
    let doc = one_line(doc);
    doc.split_once(". ").map_or(doc.clone(), |(first, _)| format!("{first}."))
}

/// Docs are written over several lines in the source.
fn one_line(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
