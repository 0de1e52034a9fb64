//! `kymo tables`: the tables and their columns. Needs no daemon: the program declares them.

use std::io::{self, Write};

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::connect::UsageError;
use super::show::Form;
use super::table;
use crate::family::{FAMILIES, Family, FamilyId};
use crate::query::named::{Named, Which};
use crate::record::{Column, Kind, Type};
use crate::sampler::INTERVAL_MIN;
use crate::store::last::has_last;
use crate::words::{duration, list, unknown};

/// `kymo tables`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo tables            all tables
  kymo tables disk       the columns of `disk`
  kymo tables disk_1s    those of its seconds
  kymo tables --format json | jq '.[].name'")]
pub struct Tables {
    /// Table whose columns to list
    name: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Form,
}

impl Tables {
    /// For people: all tables, or this one.
    pub(super) fn for_people(name: Option<String>) -> Tables {
        Tables { name, format: Form::Table }
    }
}

/// Lists all tables, or the columns of one.
///
/// # Errors
/// When there is no such table, or stdout cannot be written.
pub fn run(tables: &Tables) -> anyhow::Result<()> {
    let named: Vec<Named> = match &tables.name {
        None => FamilyId::all().map(Named::of).collect(),
        Some(name) => match Named::find(name) {
            Some(named) => vec![named],
            None => bail!(UsageError(unknown("table", name, FAMILIES.iter().map(Family::name)))),
        },
    };
    let mut out = io::stdout().lock();
    match (tables.format, &tables.name) {
        (Form::Json, _) => writeln!(out, "{:#}", named.iter().map(as_json).collect::<Value>())?,
        (Form::Table, None) => {
            table::write(&overview(&named), &mut out)?;
            writeln!(out, "\n{}", derived())?;
        }
        (Form::Table, Some(_)) => named.iter().try_for_each(|named| describe(named, &mut out))?,
    }
    Ok(out.flush()?)
}

/// Tables that are made of others.
fn derived() -> String {
    let without = FamilyId::all().filter(|family| !has_last(*family)).map(|family| family.name());
    format!(
        "Each sampled table has its minutes in <table>_1m, and its seconds in\n<table>_1s if it is sampled every 50 ms or more often: \
         kymo tables disk_1s\n<table>_last has the newest row of each series. All tables but {} have one.",
        list(without)
    )
}

fn overview(named: &[Named]) -> comfy_table::Table {
    let mut rows = table::with_headers(["table", "labels", "interval", "content"]);
    for Named { family, .. } in named {
        rows.add_row([
            family.name().to_owned(),
            list(family.table.labels().map(|(_, column)| column.name)),
            family.sampling().map_or("-".to_owned(), |one| format!("≥ {}", duration(one.interval_min))),
            first_sentence(family.table.doc),
        ]);
    }
    table::align_right(&mut rows, [2]);
    table::wrap(&mut rows, [1, 3]);
    rows
}

fn describe(Named { family, rows: which, table: of }: &Named, out: &mut impl Write) -> io::Result<()> {
    let mut head = table::without_headers();
    head.add_row([of.name, &one_line(of.doc)]);
    if *which == Which::All && family.has_tiers {
        head.add_row(["tiers", &list(Named::tiers(*family).map(|tier| tier.table.name))]);
    }
    match family.sampling() {
        _ if *which != Which::All => head.add_row(["made of", family.name()]),
        Some(sampling) => {
            head.add_row(["true resolution", sampling.resolution]);
            let (forced, interval) = (duration(INTERVAL_MIN), duration(sampling.interval_min));
            let forced = if interval == forced { String::new() } else { format!(" ({forced} with `force`)") };
            head.add_row(["minimum interval", &(interval + &forced)])
        }
        None => head.add_row(["source", "written by kymo about itself; no collector lists it"]),
    };
    table::wrap(&mut head, [1]);
    table::write(&head, out)?;
    writeln!(out)?;
    let mut rows = table::with_headers(["column", "type", "unit", "kind", "meaning"]);
    for column in of.sql_columns() {
        rows.add_row([column.name, type_name(column), column.unit.symbol(), kind_name(column), &one_line(column.doc)]);
    }
    table::wrap(&mut rows, [4]);
    table::write(&rows, out)
}

fn as_json(named: &Named) -> Value {
    let Named { family, rows, table } = named;
    let sampling = family.sampling().filter(|_| *rows == Which::All);
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
        "name": table.name,
        "doc": one_line(table.doc),
        "tiers": Named::tiers(*family).filter(|_| *rows == Which::All).map(|tier| as_json(&tier)).collect::<Vec<_>>(),
        "last": Named::last(*family).filter(|_| *rows == Which::All).as_ref().map(as_json),
        "resolution": sampling.map(|sampling| sampling.resolution),
        "interval_min_us": sampling.map(|sampling| sampling.interval_min.as_micros()),
        "columns": table.sql_columns().map(column).collect::<Vec<_>>(),
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
