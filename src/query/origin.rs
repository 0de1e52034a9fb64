//! Which column of a table a column of a result is, and what clients are told about it.
//!
//! Only a column whose values are those of the table has an origin: renamed, filtered, sorted, grouped by or joined, but not
//! computed with.

use std::collections::HashMap;

use datafusion::common::TableReference;
use datafusion::logical_expr::{Distinct, Expr, JoinType, LogicalPlan};

use super::named::Named;
use super::place::SCHEMA;
use crate::record::{Column, Kind};

/// For each column of a plan's result: the column of a table that it is.
pub(super) fn origins(plan: &LogicalPlan) -> Vec<Option<&'static Column>> {
    (0..plan.schema().fields().len()).map(|at| origin(plan, at)).collect()
}

fn origin(plan: &LogicalPlan, at: usize) -> Option<&'static Column> {
    match plan {
        LogicalPlan::Projection(projection) => origin_of(projection.expr.get(at)?, &projection.input),
        LogicalPlan::Filter(filter) => origin(&filter.input, at),
        LogicalPlan::Sort(sort) => origin(&sort.input, at),
        LogicalPlan::Limit(limit) => origin(&limit.input, at),
        LogicalPlan::SubqueryAlias(alias) => origin(&alias.input, at),
        LogicalPlan::Distinct(Distinct::All(input)) => origin(input, at),
        LogicalPlan::Distinct(Distinct::On(distinct)) => origin_of(distinct.select_expr.get(at)?, &distinct.input),
        LogicalPlan::Aggregate(aggregate) => origin_of(aggregate.group_expr.get(at)?, &aggregate.input),
        LogicalPlan::Window(window) if at < window.input.schema().fields().len() => origin(&window.input, at),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            match join.join_type {
                JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => origin(&join.right, at),
                _ if at < left => origin(&join.left, at),
                JoinType::LeftMark => None,
                _ => origin(&join.right, at - left),
            }
        }
        LogicalPlan::TableScan(scan) => {
            let at = scan.projection.as_ref().map_or(Some(at), |columns| columns.get(at).copied())?;
            named(&scan.table_name)?.table.sql_columns().nth(at)
        }
        _ => None,
    }
}

fn origin_of(expr: &Expr, input: &LogicalPlan) -> Option<&'static Column> {
    match expr {
        Expr::Alias(alias) => origin_of(&alias.expr, input),
        Expr::Column(column) => origin(input, input.schema().maybe_index_of_column(column)?),
        _ => None,
    }
}

fn named(table: &TableReference) -> Option<Named> {
    table.schema().is_none_or(|schema| schema == SCHEMA).then(|| Named::find(table.table())).flatten()
}

/// What clients are told about a column, as metadata of its Arrow field.
#[must_use]
pub fn metadata(column: &Column) -> HashMap<String, String> {
    let kind = match column.kind {
        Kind::Time => "time",
        Kind::Label => "label",
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    // Docs of several lines are one text.
    let doc: Vec<&str> = column.doc.split_whitespace().collect();
    let mut told: HashMap<String, String> = [("kymo.kind", kind.to_owned()), ("kymo.doc", doc.join(" "))]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
    let unit = column.unit.symbol();
    if !unit.is_empty() {
        told.insert("kymo.unit".to_owned(), unit.to_owned());
    }
    told
}
