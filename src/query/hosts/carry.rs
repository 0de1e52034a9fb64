//! The host of a plan's rows, also where the plan has left out the column `host`.
//!
//! A column is followed down to the tables that it is computed from. On the way back up, each step of the plan passes the
//! tables' column `host` on, under a name of its own where it does not do so anyway. A step that makes one row of several
//! merges their hosts too. No step gives other rows than before.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, Result, ScalarValue, plan_err};
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, Join, LogicalPlan, Operator, Projection, SubqueryAlias, Union, Window,
    binary_expr, lit, when,
};

use crate::record;

/// A plan, and the column with the host of its rows. There is none if the rows are of no table.
pub(super) struct Carried {
    pub(super) plan: Arc<LogicalPlan>,
    pub(super) host: Option<Column>,
}

/// Makes plans carry the hosts of their rows.
#[derive(Default)]
pub(super) struct Carrier {
    /// Columns that were named so far: each has another name, as a join may have any two of them.
    named: usize,
}

impl Carrier {
    /// The same plan with the host of the rows from which `columns` of it are computed. It has all columns of the old one.
    ///
    /// # Errors
    /// When the host cannot be carried through a step of the plan.
    pub(super) fn carry(&mut self, plan: &Arc<LogicalPlan>, columns: &[Column]) -> Result<Carried> {
        let unchanged = |host| Ok(Carried { plan: Arc::clone(plan), host });
        let schema = plan.schema();
        if columns.is_empty() || !reads_hosts(plan)? {
            return unchanged(None);
        }
        match &**plan {
            LogicalPlan::TableScan(_) => unchanged(host_beside(columns, schema)),
            LogicalPlan::Filter(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::Subquery(_) => self.pass(plan, columns),
            LogicalPlan::Window(window) => self.pass(plan, &read_by(window, columns)),
            LogicalPlan::Projection(projection) => {
                let inner = self.carry(&projection.input, &sources(columns, schema, &projection.expr))?;
                let Some(host) = inner.host else { return unchanged(None) };
                let mut exprs = projection.expr.clone();
                let at = self.place(&mut exprs, Expr::Column(host));
                Ok(carried_at(LogicalPlan::Projection(Projection::try_new(exprs, inner.plan)?), at))
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let below = columns_at(alias.input.schema(), &positions(columns, schema));
                let inner = self.carry(&alias.input, &below)?;
                let Some(at) = inner.host.and_then(|host| inner.plan.schema().maybe_index_of_column(&host)) else {
                    return unchanged(None);
                };
                let plan = SubqueryAlias::try_new(inner.plan, alias.alias.clone())?;
                Ok(carried_at(LogicalPlan::SubqueryAlias(plan), at))
            }
            LogicalPlan::Join(join) => self.join(plan, join, columns),
            LogicalPlan::Union(union) => self.union(union, columns),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(plan, aggregate, columns),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let inner = self.carry(input, columns)?;
                let Some(host) = inner.host else { return unchanged(None) };
                let visible = input.schema().columns();
                if visible.contains(&host) {
                    return unchanged(Some(host));
                }
                // DISTINCT is a grouping by all columns.
                let groups = visible.iter().cloned().map(Expr::Column).collect();
                self.merge(inner.plan, groups, Vec::new(), visible, &Expr::Column(host))
            }
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let inner = self.carry(&on.input, &sources(columns, schema, &on.select_expr))?;
                let Some(host) = inner.host else { return unchanged(None) };
                let mut exprs = on.select_expr.clone();
                let at = self.place(&mut exprs, Expr::Column(host));
                let on = DistinctOn::try_new(on.on_expr.clone(), exprs, on.sort_expr.clone(), inner.plan)?;
                Ok(carried_at(LogicalPlan::Distinct(Distinct::On(on)), at))
            }
            _ => match host_beside(columns, schema) {
                Some(host) => unchanged(Some(host)),
                None => plan_err!(
                    "increase and rate cannot see of which host the rows of column {} are; add the column host to each query \
                     between them and the table",
                    columns.first().map_or("", |column| column.name())
                ),
            },
        }
    }

    /// Carries through both sides. A row that is made of rows of both has both hosts.
    fn join(&mut self, plan: &LogicalPlan, join: &Join, columns: &[Column]) -> Result<Carried> {
        let is_left = |column: &&Column| join.left.schema().has_column(column);
        let (left, right): (Vec<&Column>, Vec<&Column>) = columns.iter().partition(is_left);
        let left = self.carry(&join.left, &left.into_iter().cloned().collect::<Vec<_>>())?;
        let right = self.carry(&join.right, &right.into_iter().cloned().collect::<Vec<_>>())?;
        let inputs = vec![Arc::unwrap_or_clone(left.plan), Arc::unwrap_or_clone(right.plan)];
        let joined = Arc::new(plan.with_new_exprs(plan.expressions(), inputs)?);
        match (left.host, right.host) {
            (Some(left), Some(right)) => {
                let visible = joined.schema().columns();
                self.append(joined, visible, both(Expr::Column(left), Expr::Column(right)))
            }
            (one, other) => Ok(Carried { plan: joined, host: one.or(other) }),
        }
    }

    /// Carries through all inputs. The host is their last column.
    fn union(&mut self, union: &Union, columns: &[Column]) -> Result<Carried> {
        let at = positions(columns, &union.schema);
        let mut inputs = Vec::with_capacity(union.inputs.len());
        for input in &union.inputs {
            let inner = self.carry(input, &columns_at(input.schema(), &at))?;
            let host = inner.host.map_or_else(|| lit(ScalarValue::Utf8(None)), Expr::Column);
            inputs.push(self.append(inner.plan, input.schema().columns(), host)?.plan);
        }
        let plan = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
        let last = plan.schema().fields().len() - 1;
        Ok(carried_at(plan, last))
    }

    /// Carries through groups, which have the hosts of all their rows.
    fn aggregate(&mut self, plan: &Arc<LogicalPlan>, aggregate: &Aggregate, columns: &[Column]) -> Result<Carried> {
        let schema = &aggregate.schema;
        let groups = grouping_set_to_exprlist(&aggregate.group_expr)?;
        // With grouping sets, an identifier of the set stands between both.
        let computed = schema.fields().len() - aggregate.aggr_expr.len();
        let of = |at: usize| match at.checked_sub(computed) {
            Some(at) => aggregate.aggr_expr.get(at),
            None => groups.get(at).copied(),
        };
        let below: Vec<Column> = positions(columns, schema).into_iter().filter_map(of).flat_map(refs).collect();
        let inner = self.carry(&aggregate.input, &below)?;
        let Some(host) = inner.host else { return Ok(Carried { plan: Arc::clone(plan), host: None }) };
        let (groups, visible) = (aggregate.group_expr.clone(), schema.columns());
        let host = Expr::Column(host);
        match groups.iter().position(|group| *group == host) {
            Some(at) => {
                let plan = Aggregate::try_new(inner.plan, groups, aggregate.aggr_expr.clone())?;
                Ok(carried_at(LogicalPlan::Aggregate(plan), at))
            }
            None => self.merge(inner.plan, groups, aggregate.aggr_expr.clone(), visible, &host),
        }
    }

    /// Carries through a step that has one input and all its columns.
    fn pass(&mut self, plan: &LogicalPlan, columns: &[Column]) -> Result<Carried> {
        let mut host = None;
        let mut inputs = Vec::new();
        for input in plan.inputs() {
            let inner = self.carry(&Arc::new(input.clone()), columns)?;
            host = inner.host;
            inputs.push(Arc::unwrap_or_clone(inner.plan));
        }
        Ok(Carried { plan: Arc::new(plan.with_new_exprs(plan.expressions(), inputs)?), host })
    }

    /// Groups rows, and gives each group the hosts of its rows: the first and the last, if they are several.
    fn merge(
        &mut self,
        input: Arc<LogicalPlan>,
        groups: Vec<Expr>,
        mut computed: Vec<Expr>,
        visible: Vec<Column>,
        host: &Expr,
    ) -> Result<Carried> {
        let [first, last] = [min(host.clone()), max(host.clone())].map(|one| {
            let name = self.name();
            computed.push(one.alias(&name));
            Expr::Column(Column::new_unqualified(name))
        });
        let grouped = LogicalPlan::Aggregate(Aggregate::try_new(input, groups, computed)?);
        let is_one = first.clone().eq(last.clone());
        let host = when(is_one, first.clone()).otherwise(both(first, last))?;
        self.append(Arc::new(grouped), visible, host)
    }

    /// A plan's `visible` columns, followed by `host`.
    fn append(&mut self, plan: Arc<LogicalPlan>, visible: Vec<Column>, host: Expr) -> Result<Carried> {
        let at = visible.len();
        let exprs = visible.into_iter().map(Expr::Column).chain([host.alias(self.name())]).collect();
        Ok(carried_at(LogicalPlan::Projection(Projection::try_new(exprs, plan)?), at))
    }

    /// The position of `host` among these expressions. It is added to them if it is not there.
    fn place(&mut self, exprs: &mut Vec<Expr>, host: Expr) -> usize {
        exprs.iter().position(|expr| expr.clone().unalias() == host).unwrap_or_else(|| {
            exprs.push(host.alias(self.name()));
            exprs.len() - 1
        })
    }

    fn name(&mut self) -> String {
        self.named += 1;
        format!("host of rows {}", self.named)
    }
}

/// The plan with the host in the column at this position.
fn carried_at(plan: LogicalPlan, at: usize) -> Carried {
    let host = Column::from(plan.schema().qualified_field(at));
    Carried { plan: Arc::new(plan), host: Some(host) }
}

/// Whether some rows of a plan are of a host's table.
fn reads_hosts(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|plan| {
        let is_table = matches!(plan, LogicalPlan::TableScan(_));
        Ok(is_table && plan.schema().has_column_with_unqualified_name(record::Column::HOST.name))
    })
}

/// The columns of a window's input that `columns` of the window are computed from.
fn read_by(window: &Window, columns: &[Column]) -> Vec<Column> {
    let known = window.input.schema().fields().len();
    let computed = |at: usize| window.window_expr.get(at.checked_sub(known)?);
    let of = |column: &Column| match window.schema.maybe_index_of_column(column).and_then(computed) {
        Some(computed) => refs(computed),
        None => vec![column.clone()],
    };
    columns.iter().flat_map(of).collect()
}

/// The column `host` of the table that one of these columns is of.
fn host_beside(columns: &[Column], schema: &DFSchema) -> Option<Column> {
    let host = |column: &Column| Column::new(column.relation.clone(), record::Column::HOST.name);
    columns.iter().map(host).find(|host| schema.has_column(host))
}

/// The columns that `columns` of this schema are computed from, of which `exprs` gives the fields in order.
fn sources(columns: &[Column], schema: &DFSchema, exprs: &[Expr]) -> Vec<Column> {
    positions(columns, schema).into_iter().filter_map(|at| exprs.get(at)).flat_map(refs).collect()
}

fn positions(columns: &[Column], schema: &DFSchema) -> Vec<usize> {
    columns.iter().filter_map(|column| schema.maybe_index_of_column(column)).collect()
}

fn columns_at(schema: &DFSchema, positions: &[usize]) -> Vec<Column> {
    positions.iter().map(|&at| Column::from(schema.qualified_field(at))).collect()
}

/// The columns in an expression, in an order that is the same at each call.
pub(super) fn refs(expr: &Expr) -> Vec<Column> {
    let mut columns: Vec<Column> = expr.column_refs().into_iter().cloned().collect();
    columns.sort();
    columns
}

/// Two hosts as one text.
fn both(one: Expr, other: Expr) -> Expr {
    [lit(" and "), other].into_iter().fold(one, |text, more| binary_expr(text, Operator::StringConcat, more))
}
