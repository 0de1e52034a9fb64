//! `kymo tables`: the tables and views, and their columns. Needs no daemon: the program declares the tables, and the configuration
//! the views.

use std::borrow::Cow;
use std::io::{self, Write};

use arrow::datatypes::{DataType, Field, FieldRef};
use clap::Args;
use serde_json::{Value, json};

use super::connect::UsageError;
use super::show::Form;
use super::table;
use super::views::Views;
use crate::family::FamilyId;
use crate::query::about::rows::Described;
use crate::query::named::{Named, Which};
use crate::query::sql_view::check::describe as describe_all;
use crate::record::{Column, Kind, Type};
use crate::sampler::INTERVAL_MIN;
use crate::store::last::has_last;
use crate::words::{duration, list, one_line, unknown};

/// `kymo tables`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo tables            all tables
  kymo tables disk       the columns of `disk`
  kymo tables disk_1s    those of its seconds
  kymo tables -c kymo.toml               with the views of a configuration
  kymo tables --format json | jq '.[].name'")]
pub struct Tables {
    /// Table or view whose columns to list
    name: Option<String>,
    #[command(flatten)]
    views: Views,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Form,
}

impl Tables {
    /// For people: all tables and these views, or one of them.
    pub(super) fn for_people(name: Option<String>, views: Views) -> Tables {
        Tables { name, views, format: Form::Table }
    }
}

/// Lists all tables, or the columns of one.
///
/// # Errors
/// When there is no such table, the configuration is wrong, or stdout cannot be written.
pub fn run(tables: &Tables) -> anyhow::Result<()> {
    let views = tables.views.load()?;
    let views = if views.is_empty() { Vec::new() } else { describe_all(&views)? };
    let all = FamilyId::all().map(|family| Listed::Table(Named::of(family))).chain(views.into_iter().map(Listed::View));
    let mut listed: Vec<Listed> = all.collect();
    if let Some(named) = tables.name.as_deref().and_then(Named::find) {
        listed = vec![Listed::Table(named)];
    } else if let Some(name) = &tables.name {
        let unknown = || UsageError(unknown("table", name, listed.iter().map(Listed::name)));
        let at = listed.iter().position(|one| one.name() == name).ok_or_else(unknown)?;
        listed = vec![listed.swap_remove(at)];
    }
    let mut out = io::stdout().lock();
    match (tables.format, &tables.name) {
        (Form::Json, _) => writeln!(out, "{:#}", listed.iter().map(Listed::as_json).collect::<Value>())?,
        (Form::Table, None) => {
            table::write(&overview(&listed), &mut out)?;
            writeln!(out, "\n{}", derived())?;
        }
        (Form::Table, Some(_)) => listed.iter().try_for_each(|one| match one {
            Listed::Table(named) => describe(named, &mut out),
            Listed::View(view) => describe_view(view, &mut out),
        })?,
    }
    Ok(out.flush()?)
}

/// Tables that are made of others.
fn derived() -> String {
    let without = FamilyId::all().filter(|family| !has_last(*family)).map(|family| family.name());
    format!(
        "Each sampled table has its minutes in <table>_1m, and its seconds in <table>_1s\nif it is sampled every 50 ms or more often: \
         kymo tables disk_1s\n<table>_last has the newest row of each series; only {}\nhave none.\n\
         In FROM, downsample('disk', 'write_bytes', <from>, <to>, <buckets>) has a window\nof a column in so many buckets.",
        list(without)
    )
}

/// What is listed.
enum Listed {
    Table(Named),
    View(Described),
}

impl Listed {
    fn name(&self) -> &str {
        match self {
            Listed::Table(named) => named.table.name,
            Listed::View(view) => &view.name,
        }
    }

    fn as_json(&self) -> Value {
        match self {
            Listed::Table(named) => as_json(named),
            Listed::View(view) => view_as_json(view),
        }
    }
}

fn overview(listed: &[Listed]) -> comfy_table::Table {
    let mut rows = table::with_headers(["table", "labels", "interval", "content"]);
    for one in listed {
        rows.add_row(match one {
            Listed::Table(Named { family, .. }) => [
                family.name().to_owned(),
                list(family.table.labels().map(|(_, column)| column.name)),
                family.sampling().map_or("-".to_owned(), |one| format!("≥ {}", duration(one.interval_min))),
                first_sentence(family.table.doc),
            ],
            Listed::View(view) => {
                let fields = view.schema.fields().iter();
                let labels = fields.filter(|field| about(field, "kymo.kind") == "label");
                [
                    view.name.clone(),
                    list(labels.map(|field| field.name().as_str())),
                    "view".to_owned(),
                    first_sentence(&view.doc),
                ]
            }
        });
    }
    table::align_right(&mut rows, [2]);
    table::wrap(&mut rows, [1, 3]);
    rows
}

fn describe_view(view: &Described, out: &mut impl Write) -> io::Result<()> {
    let mut head = table::without_headers();
    head.add_row([view.name.as_str(), &view.doc]);
    head.add_row(["view of", &one_line(view.sql.as_deref().unwrap_or_default())]);
    table::wrap(&mut head, [1]);
    table::write(&head, out)?;
    writeln!(out)?;
    let mut rows = table::with_headers(["column", "type", "unit", "kind", "meaning"]);
    for field in view.schema.fields() {
        let [unit, kind, doc] = ["kymo.unit", "kymo.kind", "kymo.doc"].map(|key| about(field, key));
        rows.add_row([field.name(), &*arrow_name(field.data_type()), unit, kind, doc]);
    }
    table::wrap(&mut rows, [4]);
    table::write(&rows, out)
}

fn view_as_json(view: &Described) -> Value {
    let column = |field: &FieldRef| {
        json!({
            "name": field.name(),
            "type": arrow_name(field.data_type()),
            "unit": about(field, "kymo.unit"),
            "kind": about(field, "kymo.kind"),
            "doc": about(field, "kymo.doc"),
        })
    };
    json!({
        "name": view.name,
        "doc": view.doc,
        "sql": view.sql,
        "columns": view.schema.fields().iter().map(column).collect::<Vec<_>>(),
    })
}

/// What is told of a column of a view that is one of a table.
fn about<'a>(field: &'a Field, key: &str) -> &'a str {
    field.metadata().get(key).map_or("", String::as_str)
}

/// The type's name, as columns of tables have it.
fn arrow_name(ty: &DataType) -> Cow<'static, str> {
    match ty {
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::Utf8 => "text".into(),
        other => other.to_string().to_lowercase().into(),
    }
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
