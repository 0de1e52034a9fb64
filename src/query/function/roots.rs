//! Where the columns of a plan come from.

use std::collections::BTreeSet;

use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::family::tables::TableId;
use crate::record::{self, Table};

/// A column where it is read or computed. Two uses of one table are different places.
type Root = (*const LogicalPlan, String);

/// What a column is, one step nearer to its table.
enum Source<'a> {
    /// An expression over the rows of a plan.
    Computed(&'a Expr, &'a LogicalPlan),
    /// A column that comes from no other.
    Root(&'a LogicalPlan, Column),
}

/// Follows a column of the rows of `plan`.
fn source<'a>(plan: &'a LogicalPlan, column: &Column) -> Source<'a> {
    let mut plan = plan;
    let mut column = column.clone();
    loop {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => {
                let Some(position) = alias.schema.maybe_index_of_column(&column) else {
                    return Source::Root(plan, column);
                };
                plan = &alias.input;
                column = Column::from(plan.schema().qualified_field(position));
            }
            LogicalPlan::Projection(projection) => {
                let position = projection.schema.maybe_index_of_column(&column);
                return match position.and_then(|position| projection.expr.get(position)) {
                    Some(expr) => Source::Computed(expr, &projection.input),
                    None => Source::Root(plan, column),
                };
            }
            LogicalPlan::TableScan(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Union(_) => {
                return Source::Root(plan, column);
            }
            _ => match plan.inputs().into_iter().find(|input| input.schema().has_column(&column)) {
                Some(input) => plan = input,
                None => return Source::Root(plan, column),
            },
        }
    }
}

/// All columns that an expression over the rows of `plan` is made of.
pub(super) fn roots(plan: &LogicalPlan, expr: &Expr) -> BTreeSet<Root> {
    let mut found = BTreeSet::new();
    gather(plan, expr, &mut |plan, column| {
        found.insert((std::ptr::from_ref(plan), column.name));
    });
    found
}

/// The columns of tables that an expression over the rows of `plan` is made of, with their tables.
pub(super) fn recorded(plan: &LogicalPlan, expr: &Expr) -> Vec<(&'static Table, &'static record::Column)> {
    let mut found = Vec::new();
    gather(plan, expr, &mut |plan, column| {
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(table) = TableId::find(scan.table_name.table()).map(TableId::table)
            && let Some(known) = table.sql_columns().find(|known| known.name == column.name)
        {
            found.push((table, known));
        }
    });
    found
}

fn gather(plan: &LogicalPlan, expr: &Expr, take: &mut impl FnMut(&LogicalPlan, Column)) {
    for column in expr.column_refs() {
        match source(plan, column) {
            Source::Computed(expr, input) => gather(input, expr, take),
            Source::Root(plan, column) => take(plan, column),
        }
    }
}

/// Whether the expression never falls while `time` grows, so that each of its values stands for one stretch of time.
pub(super) fn grows_with(plan: &LogicalPlan, expr: &Expr, time: &BTreeSet<Root>) -> bool {
    match expr {
        Expr::Column(column) => match source(plan, column) {
            Source::Computed(expr, input) => grows_with(input, expr, time),
            Source::Root(plan, column) => time.contains(&(std::ptr::from_ref(plan), column.name)),
        },
        Expr::Alias(alias) => grows_with(plan, &alias.expr, time),
        Expr::ScalarFunction(call) => {
            let names = ["date_bin", "time_bucket", "date_trunc"];
            let growing = call.args.iter().filter(|arg| !matches!(arg, Expr::Literal(..) | Expr::Cast(_)));
            let mut growing = growing.filter(|arg| !arg.column_refs().is_empty());
            names.contains(&call.func.name())
                && growing.next().is_some_and(|arg| grows_with(plan, arg, time))
                && growing.next().is_none()
        }
        _ => false,
    }
}
