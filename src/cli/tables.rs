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
use crate::family::{Family, FamilyId};
use crate::query::about::rows::Described;
use crate::query::sql_view::check::describe as describe_all;
use crate::record::{Column, Kind, Type};
use crate::sampler::INTERVAL_MIN;
use crate::words::{duration, list, one_line, unknown};

/// `kymo tables`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo tables            all tables
  kymo tables disk       the columns of `disk`
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
    let all = FamilyId::all().map(Listed::Table).chain(views.into_iter().map(Listed::View));
    let mut listed: Vec<Listed> = all.collect();
    if let Some(name) = &tables.name {
        let unknown = || UsageError(unknown("table", name, listed.iter().map(Listed::name)));
        let at = listed.iter().position(|one| one.name() == name).ok_or_else(unknown)?;
        listed = vec![listed.swap_remove(at)];
    }
    let mut out = io::stdout().lock();
    match (tables.format, &tables.name) {
        (Form::Json, _) => writeln!(out, "{:#}", listed.iter().map(Listed::as_json).collect::<Value>())?,
        (Form::Table, None) => table::write(&overview(&listed), &mut out)?,
        (Form::Table, Some(_)) => listed.iter().try_for_each(|one| match one {
            Listed::Table(family) => describe(family, &mut out),
            Listed::View(view) => describe_view(view, &mut out),
        })?,
    }
    Ok(out.flush()?)
}

/// What is listed.
enum Listed {
    Table(FamilyId),
    View(Described),
}

impl Listed {
    fn name(&self) -> &str {
        match self {
            Listed::Table(family) => family.name(),
            Listed::View(view) => &view.name,
        }
    }

    fn as_json(&self) -> Value {
        match self {
            Listed::Table(family) => as_json(family),
            Listed::View(view) => view_as_json(view),
        }
    }
}

fn overview(listed: &[Listed]) -> comfy_table::Table {
    let mut rows = table::with_headers(["table", "labels", "interval", "content"]);
    for one in listed {
        rows.add_row(match one {
            Listed::Table(family) => [
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

fn describe(family: &Family, out: &mut impl Write) -> io::Result<()> {
    let mut head = table::without_headers();
    head.add_row([family.name(), &one_line(family.table.doc)]);
    match family.sampling() {
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
    for column in family.table.sql_columns() {
        rows.add_row([column.name, type_name(column), column.unit.symbol(), kind_name(column), &one_line(column.doc)]);
    }
    table::wrap(&mut rows, [4]);
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
        "columns": family.table.sql_columns().map(column).collect::<Vec<_>>(),
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
