//! Where the columns of a plan come from.

use std::collections::BTreeSet;

use datafusion::common::{Column, JoinType};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};

use crate::query::named::Named;
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

/// Adds the columns that are equal to one of these in all rows of `plan`, by its joins and conditions. `nulls` if they may also be
/// absent, as the other side of an outer join is.
pub(super) fn add_equal(plan: &LogicalPlan, roots: &mut BTreeSet<Root>, nulls: bool) {
    let mut equal = Vec::new();
    gather_equal(plan, nulls, &mut equal);
    let mut before = 0;
    while before < roots.len() {
        before = roots.len();
        for (left, right) in &equal {
            if roots.contains(left) {
                roots.insert(right.clone());
            }
            if roots.contains(right) {
                roots.insert(left.clone());
            }
        }
    }
}

/// The pairs of columns that joins and conditions below a plan make equal.
fn gather_equal(plan: &LogicalPlan, nulls: bool, equal: &mut Vec<(Root, Root)>) {
    let mut add = |at: &[&LogicalPlan], left: &Expr, right: &Expr| {
        equal.extend(at.iter().find_map(|plan| root(plan, left)).zip(at.iter().find_map(|plan| root(plan, right))));
    };
    match plan {
        LogicalPlan::Join(join) if nulls || join.join_type == JoinType::Inner => {
            let sides = [&*join.left, &*join.right];
            join.on.iter().for_each(|(left, right)| add(&sides, left, right));
            join.filter.iter().flat_map(equalities).for_each(|(left, right)| add(&sides, left, right));
        }
        LogicalPlan::Filter(filter) => {
            equalities(&filter.predicate).into_iter().for_each(|(left, right)| add(&[&filter.input], left, right));
        }
        // Their rows are not those above them.
        LogicalPlan::Join(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Union(_) => return,
        _ => {}
    }
    plan.inputs().into_iter().for_each(|input| gather_equal(input, nulls, equal));
}

/// The equal sides of a condition's parts.
fn equalities(condition: &Expr) -> Vec<(&Expr, &Expr)> {
    split_conjunction(condition).into_iter().filter_map(sides).collect()
}

fn sides(condition: &Expr) -> Option<(&Expr, &Expr)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq | Operator::IsNotDistinctFrom, right }) => {
            Some((left, right))
        }
        _ => None,
    }
}

/// The column that an expression over the rows of `plan` is, if it is one as it was read.
fn root(plan: &LogicalPlan, expr: &Expr) -> Option<Root> {
    read(plan, expr).map(|(plan, column)| (std::ptr::from_ref(plan), column.name))
}

/// Where the column is read that an expression is, if it is one as it was read.
fn read<'a>(plan: &'a LogicalPlan, expr: &'a Expr) -> Option<(&'a LogicalPlan, Column)> {
    match expr {
        Expr::Alias(alias) => read(plan, &alias.expr),
        Expr::Column(column) if plan.schema().has_column(column) => match source(plan, column) {
            Source::Computed(expr, input) => read(input, expr),
            Source::Root(plan, column) => Some((plan, column)),
        },
        _ => None,
    }
}

/// Whether an expression over the rows of `plan` is a column as it was read from a table.
pub(super) fn is_recorded(plan: &LogicalPlan, expr: &Expr) -> bool {
    read(plan, expr).is_some_and(|(plan, _)| matches!(plan, LogicalPlan::TableScan(_)))
}

/// The columns of tables that an expression over the rows of `plan` is made of, with their tables.
pub(super) fn recorded(plan: &LogicalPlan, expr: &Expr) -> Vec<(&'static Table, &'static record::Column)> {
    let mut found = Vec::new();
    gather(plan, expr, &mut |plan, column| {
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(named) = Named::find(scan.table_name.table())
            && let Some(known) = named.table.sql_columns().find(|known| known.name == column.name)
        {
            found.push((named.table, known));
        }
    });
    found
}

/// Whether a time is read from other rows than a value: it is a column of a table that the value is not read from, and no join or
/// condition makes it equal to a column of one of those. A time that is computed may belong to any rows.
pub(super) fn is_of_other_rows(plan: &LogicalPlan, value: &Expr, time: &Expr) -> bool {
    let mut tables = BTreeSet::new();
    gather(plan, value, &mut |plan, _| {
        if matches!(plan, LogicalPlan::TableScan(_)) {
            tables.insert(std::ptr::from_ref(plan));
        }
    });
    let Some((place @ LogicalPlan::TableScan(_), column)) = read(plan, time) else { return false };
    let mut times = BTreeSet::from([(std::ptr::from_ref(place), column.name)]);
    add_equal(plan, &mut times, true);
    !tables.is_empty() && !times.iter().any(|(place, _)| tables.contains(place))
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
