//! `information_schema.routines`: the functions that statements can call, which `SHOW FUNCTIONS` lists.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::execution::{SendableRecordBatchStream, SessionStateDefaults, TaskContext};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Documentation, Expr, ExprSchemable, Signature, Volatility, lit};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

use super::rows::{batch, texts, truths};
use crate::query::function::manual::Entry;
use crate::query::function::{aggregate_entry, scalar_entry};
use crate::query::place::{CATALOG, DOWNSAMPLE, SCHEMA, TABLE_FUNCTIONS};
use crate::query::tool::type_name;
use crate::record::TIME_ZONE;

/// The name of the table.
pub(in crate::query) const NAME: &str = "routines";
/// So many arguments are tried to find out what a function gives.
const ARGUMENTS_MAX: usize = 3;
/// A function that gives more types than this gives any.
const TYPES_MAX: usize = 2;

/// The table.
pub(in crate::query) fn table() -> Result<StreamingTable> {
    let routines = Routines { schema: rows(&[])?.schema() };
    StreamingTable::try_new(Arc::clone(&routines.schema), vec![Arc::new(routines)])
}

/// The functions of the session that reads them.
#[derive(Debug)]
struct Routines {
    schema: SchemaRef,
}

impl PartitionStream for Routines {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = futures::stream::once(async move { rows(&all(&context)) });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

/// A function under one of its names.
#[derive(Debug)]
struct Routine {
    name: String,
    kind: &'static str,
    /// Its first name.
    first_name: String,
    is_constant: bool,
    returns: Option<String>,
    entry: Entry,
}

/// All functions, by name and kind.
fn all(context: &TaskContext) -> Vec<Routine> {
    let mut routines = Vec::new();
    for (name, function) in context.scalar_functions() {
        let entry = scalar_entry(function).or_else(|| documented(function.documentation()));
        let returns = returned(|arguments| function.call(arguments));
        routines.push(Routine::of(name, "scalar", function.name(), function.signature(), entry, returns));
    }
    for (name, function) in context.aggregate_functions() {
        let returns = returned(|arguments| function.call(arguments));
        routines.push(Routine::of(
            name,
            "aggregate",
            function.name(),
            function.signature(),
            aggregate_entry(function),
            returns,
        ));
    }
    for (name, function) in context.window_functions() {
        let returns = returned(|arguments| Expr::from(WindowFunction::new(Arc::clone(function), arguments)));
        let entry = documented(function.documentation());
        routines.push(Routine::of(name, "window", function.name(), function.signature(), entry, returns));
    }
    routines.extend(TABLE_FUNCTIONS.iter().map(|function| Routine {
        name: function.name.into(),
        kind: "table",
        first_name: function.name.into(),
        is_constant: function.name != DOWNSAMPLE,
        returns: None,
        entry: Entry::new(function.syntax, function.doc),
    }));
    // The others are for plans only.
    routines.retain(|routine| !routine.entry.doc.is_empty());
    routines.sort_by(|one, other| (&one.name, one.kind).cmp(&(&other.name, other.kind)));
    routines
}

impl Routine {
    fn of(
        name: &str,
        kind: &'static str,
        first_name: &str,
        signature: &Signature,
        entry: Option<Entry>,
        returns: Option<String>,
    ) -> Routine {
        // DataFusion says nothing of a few of its own, and kymo has some in place of others.
        let entry = entry.or_else(|| DOCUMENTED.get(&(kind, first_name.to_owned())).cloned());
        let entry = entry.unwrap_or_else(|| Entry::new(&format!("{name}(…)"), "A function of DataFusion."));
        let is_constant = signature.volatility == Volatility::Immutable;
        Routine { name: name.into(), kind, first_name: first_name.into(), is_constant, returns, entry }
    }
}

/// What DataFusion says of its own functions, by kind and name.
static DOCUMENTED: LazyLock<HashMap<(&str, String), Entry>> = LazyLock::new(|| {
    let scalars = SessionStateDefaults::default_scalar_functions();
    let scalars =
        scalars.iter().map(|function| ("scalar", function.name().to_owned(), documented(function.documentation())));
    let aggregates = SessionStateDefaults::default_aggregate_functions();
    let aggregates = aggregates
        .iter()
        .map(|function| ("aggregate", function.name().to_owned(), documented(function.documentation())));
    scalars.chain(aggregates).filter_map(|(kind, name, entry)| Some(((kind, name), entry?))).collect()
});

fn documented(documentation: Option<&Documentation>) -> Option<Entry> {
    documentation.map(|about| Entry::new(&about.syntax_example, &about.description))
}

/// What a function gives, by PostgreSQL's names, found out by calling it with arguments of the types that columns have.
fn returned(call: impl Fn(Vec<Expr>) -> Expr) -> Option<String> {
    let mut calls = vec![Vec::new()];
    for _ in 0..=ARGUMENTS_MAX {
        let types = calls.iter().filter_map(|arguments| call(Vec::clone(arguments)).get_type(&ARGUMENTS.0).ok());
        let types: BTreeSet<_> = types.filter(|ty| !ty.is_null()).map(|ty| type_name(&ty)).collect();
        if types.len() > TYPES_MAX {
            return Some("any".into());
        }
        if !types.is_empty() {
            return Some(Vec::from_iter(types).join(" or "));
        }
        calls = calls.iter().flat_map(|call| ARGUMENTS.1.iter().map(|next| with(call, next))).collect();
    }
    None
}

fn with(call: &[Expr], next: &Expr) -> Vec<Expr> {
    call.iter().chain([next]).cloned().collect()
}

/// Columns of some types, and a text, which may be the name of something.
static ARGUMENTS: LazyLock<(DFSchema, Vec<Expr>)> = LazyLock::new(|| {
    let types = [
        DataType::Int64,
        DataType::Float64,
        DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into())),
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Boolean,
        DataType::new_list(DataType::Int64, true),
    ];
    let fields = (0..).zip(types).map(|(at, ty): (usize, _)| Field::new(format!("c{at}"), ty, true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let columns = schema.fields().iter().map(|field| Expr::Column(Column::new_unqualified(field.name())));
    let arguments = columns.chain([lit("second")]).collect();
    (DFSchema::try_from(schema).unwrap_or_else(|_| DFSchema::empty()), arguments)
});

fn rows(routines: &[Routine]) -> Result<RecordBatch> {
    let same = |text: &'static str| -> ArrayRef { texts(routines.iter().map(|_| Some(text))) };
    let of = |text: fn(&Routine) -> Option<&str>| texts(routines.iter().map(text));
    batch(vec![
        ("specific_catalog", same(CATALOG)),
        ("specific_schema", same(SCHEMA)),
        ("specific_name", of(|routine| Some(&routine.first_name))),
        ("routine_catalog", same(CATALOG)),
        ("routine_schema", same(SCHEMA)),
        ("routine_name", of(|routine| Some(&routine.name))),
        ("routine_type", same("FUNCTION")),
        ("is_deterministic", truths(routines.iter().map(|routine| routine.is_constant))),
        ("data_type", of(|routine| routine.returns.as_deref())),
        ("function_type", of(|routine| Some(routine.kind))),
        ("description", of(|routine| Some(&routine.entry.doc))),
        ("syntax_example", of(|routine| Some(&routine.entry.syntax))),
    ])
}
