//! `x IN (SELECT …)` and `x > ALL (SELECT …)` as values.
//!
//! `IN` is neither true nor false if no row equals `x`, and `x` or a row is null. The planner knows this of a condition that is
//! `x NOT IN (SELECT …)` and nothing else. In other places it takes unknown for false, or has no plan at all. There, a comparison
//! becomes one with the numbers of rows, or with the least and the greatest of them.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, ScalarValue, Spans, plan_datafusion_err, plan_err};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{split_binary_owned, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Subquery,
    binary_expr, lit, when,
};

use super::function::normal::length;
use super::function::number;
use super::refusal::{GuardError, TABLES_MAX};

/// How many copies of an inner query a comparison may become.
const COPIES_MAX: usize = 4;

/// Gives comparisons with inner queries their meaning wherever they stand.
///
/// # Errors
/// When types do not fit, or the statement would read too many tables.
pub(super) fn everywhere(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut names = Names::default();
    let told = plan.transform_up_with_subqueries(|plan| {
        let exprs = plan.expressions();
        match plan {
            LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Sort(_)
                if exprs.iter().any(|expr| has(expr, needs_join)) =>
            {
                below(plan, &mut names)
            }
            plan if !exprs.iter().any(|expr| has(expr, is_comparison)) => Ok(Transformed::no(plan)),
            LogicalPlan::Filter(Filter { predicate, input, .. }) => {
                let mut at = Node { schema: Arc::clone(input.schema()), names: &mut names };
                let predicate = at.with_meaning(predicate, Place::Condition)?;
                Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
            }
            LogicalPlan::Projection(Projection { expr, input, .. }) => {
                let mut at = Node { schema: Arc::clone(input.schema()), names: &mut names };
                let preserver = NamePreserver::new_for_projection();
                let columns = expr.into_iter().map(|expr| {
                    let name = preserver.save(&expr);
                    Ok(name.restore(at.with_meaning(expr, Place::Value)?))
                });
                let columns = columns.collect::<Result<_>>()?;
                Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, input)?)))
            }
            other => Ok(Transformed::no(other)),
        }
    });
    Ok(told?.data)
}

/// Names for inner queries that nothing else has.
#[derive(Default)]
struct Names(usize);

impl Names {
    fn next(&mut self) -> String {
        self.0 += 1;
        format!("__compared_{}", self.0)
    }
}

fn is_comparison(expr: &Expr) -> bool {
    matches!(expr, Expr::InSubquery(_) | Expr::SetComparison(_))
}

/// Whether the planner joins with the inner query that an expression is, which it does below filters and projections only.
fn needs_join(expr: &Expr) -> bool {
    match expr {
        Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
        other => is_comparison(other),
    }
}

fn has(expr: &Expr, is: fn(&Expr) -> bool) -> bool {
    expr.exists(|expr| Ok(is(expr))).unwrap_or_default()
}

/// Computes what needs a join in a step below, where the planner takes it.
fn below(plan: LogicalPlan, names: &mut Names) -> Result<Transformed<LogicalPlan>> {
    let [input] = plan.inputs()[..] else { return Ok(Transformed::no(plan)) };
    if plan.expressions().iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return plan_err!(
            "an inner query beside ROLLUP, CUBE or GROUPING SETS: compute it in an inner query behind FROM"
        );
    }
    let mut columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let preserver = NamePreserver::new_for_projection();
    let is_sort = matches!(plan, LogicalPlan::Sort(_));
    let mut exprs = Vec::new();
    for expr in plan.expressions() {
        let name = preserver.save(&expr);
        let told = expr.transform_down(|expr| {
            if !needs_join(&expr) {
                return Ok(Transformed::no(expr));
            }
            let mut at = Node { schema: Arc::clone(input.schema()), names: &mut *names };
            let value = at.with_meaning(expr, Place::Value)?;
            let column = names.next();
            columns.push(value.alias(&column));
            Ok(Transformed::new(Expr::Column(Column::new_unqualified(column)), true, TreeNodeRecursion::Jump))
        })?;
        exprs.push(if is_sort { told.data } else { name.restore(told.data) });
    }
    let computed = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(input.clone()))?);
    let visible = plan.schema().columns();
    let told = plan.with_new_exprs(exprs, vec![computed])?;
    if told.schema().columns() == visible {
        return Ok(Transformed::yes(told));
    }
    let visible = visible.into_iter().map(Expr::Column).collect();
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(visible, Arc::new(told))?)))
}

/// Where a comparison stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is a condition of a filter.
    Condition,
    /// AND and OR join it to conditions of a filter, so unknown is as good as false.
    Part,
    /// It is a value in a filter, which can join with the inner query.
    Filtered,
    /// It is a value elsewhere.
    Value,
}

impl Place {
    fn inside(self) -> Place {
        if self == Place::Value { Place::Value } else { Place::Filtered }
    }
}

/// A step of a plan.
struct Node<'a> {
    /// Of the rows that the step is given.
    schema: DFSchemaRef,
    names: &'a mut Names,
}

impl Node<'_> {
    fn with_meaning(&mut self, expr: Expr, place: Place) -> Result<Expr> {
        match expr {
            // A chain is one step, as it may be long.
            Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => {
                let place = if op == Operator::Or && place == Place::Condition { Place::Part } else { place };
                let parts = split_binary_owned(expr, op).into_iter().map(|part| self.with_meaning(part, place));
                let parts = parts.collect::<Result<Vec<Expr>>>()?;
                let joined = parts.into_iter().reduce(|left, right| binary_expr(left, op, right));
                joined.ok_or_else(|| plan_datafusion_err!("a condition has no parts"))
            }
            Expr::Not(inner) => match *inner {
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    self.with_meaning(Expr::InSubquery(InSubquery::new(expr, subquery, !negated)), place)
                }
                other => Ok(Expr::Not(Box::new(self.with_meaning(other, place.inside())?))),
            },
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                let value = self.with_meaning(*expr, place.inside())?;
                self.membership(value, subquery, negated, place)
            }
            Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
                let value = self.with_meaning(*expr, place.inside())?;
                match (op, quantifier) {
                    (Operator::Eq, SetQuantifier::Any) => self.membership(value, subquery, false, place),
                    (Operator::NotEq, SetQuantifier::All) => self.membership(value, subquery, true, place),
                    _ => self.with_extremes(value, op, subquery, quantifier, place),
                }
            }
            other => {
                Ok(other.map_children(|child| Ok(Transformed::yes(self.with_meaning(child, place.inside())?)))?.data)
            }
        }
    }

    /// `value [NOT] IN (inner query)`.
    fn membership(&mut self, value: Expr, subquery: Subquery, negated: bool, place: Place) -> Result<Expr> {
        let (value, subquery) = comparable(value, subquery, &self.schema)?;
        let is_correlated = !subquery.outer_ref_columns.is_empty();
        match (place, negated) {
            (Place::Condition | Place::Part, false) => {
                Ok(Expr::InSubquery(InSubquery::new(value.into(), subquery, false)))
            }
            // Of an expression, the planner does not see that it may be null.
            (Place::Condition, true) if !is_correlated && matches!(value, Expr::Column(_)) => {
                Ok(Expr::InSubquery(InSubquery::new(value.into(), subquery, true)))
            }
            (Place::Condition, true) if is_correlated => {
                // Only the rows with equal keys of their own are asked.
                let inner = self.inner(&value, subquery)?;
                let is_certain = !inner.is_nullable && !value.nullable(&*self.schema)?;
                let excludes = if is_certain { inner.equals() } else { inner.equals().is_not_false() };
                Ok(Expr::Exists(Exists { subquery: asked(inner.rows.filter(excludes)?)?, negated: true }))
            }
            _ => {
                let inner = self.inner(&value, subquery)?;
                let any = |rows, joined| if place != Place::Value && joined { exists(rows) } else { is_any(rows) };
                let is_asked = is_correlated || value.any_column_refs();
                let equal = any(inner.rows.clone().filter(inner.equals())?, is_asked)?;
                let mut cases = when(equal, lit(!negated));
                if inner.is_nullable {
                    let nulls = inner.rows.clone().filter(Expr::Column(inner.column.clone()).is_null())?;
                    cases.when(any(nulls, is_correlated)?, lit(ScalarValue::Boolean(None)));
                }
                if value.nullable(&*self.schema)? {
                    let rows = any(inner.rows, is_correlated)?;
                    cases.when(value.is_null().and(rows), lit(ScalarValue::Boolean(None)));
                }
                cases.otherwise(lit(negated))
            }
        }
    }

    /// A comparison with the least and the greatest value decides what one with each value would. Nulls are among the values that
    /// could be anything, and without values ALL holds and ANY does not.
    fn with_extremes(
        &mut self,
        value: Expr,
        op: Operator,
        subquery: Subquery,
        quantifier: SetQuantifier,
        place: Place,
    ) -> Result<Expr> {
        let all = quantifier == SetQuantifier::All;
        if !is_joined_by_equality(&subquery.subquery)? {
            if place == Place::Value {
                let quantifier = if all { "ALL" } else { "ANY" };
                return plan_err!(
                    "an inner query behind {quantifier} that names columns of the outer one can compare with them by = only: \
                     write EXISTS (SELECT 1 FROM … WHERE …) behind WHERE instead"
                );
            }
            // The planner joins with it.
            return Ok(Expr::SetComparison(SetComparison::new(value.into(), subquery, op, quantifier)));
        }
        let inner = self.inner(&value, subquery)?;
        let column = || Expr::Column(inner.column.clone());
        let least = || scalar(inner.rows.clone(), min(column()));
        let greatest = || scalar(inner.rows.clone(), max(column()));
        let compared = |extreme: Expr| binary_expr(value.clone(), op, extreme);
        let decided = match (op, all) {
            (Operator::Gt | Operator::GtEq, true) | (Operator::Lt | Operator::LtEq, false) => compared(greatest()?),
            (Operator::Lt | Operator::LtEq, true) | (Operator::Gt | Operator::GtEq, false) => compared(least()?),
            (Operator::Eq, true) => compared(least()?).and(compared(greatest()?)),
            (Operator::NotEq, false) => compared(least()?).or(compared(greatest()?)),
            _ => return plan_err!("{op} with ANY or ALL is refused: use =, <>, <, <=, > or >="),
        };
        let early = if all { decided.clone().is_false() } else { decided.clone().is_true() };
        let nulls = scalar(inner.rows.clone().filter(column().is_null())?, count(lit(1_i64)))?;
        when(scalar(inner.rows.clone(), count(lit(1_i64)))?.eq(lit(0_i64)), lit(all))
            .when(early, lit(!all))
            .when(nulls.gt(lit(0_i64)), lit(ScalarValue::Boolean(None)))
            .otherwise(decided)
    }

    fn inner(&mut self, value: &Expr, subquery: Subquery) -> Result<Inner> {
        let read = tables(&subquery.subquery)?.saturating_mul(COPIES_MAX);
        if read > TABLES_MAX {
            return plan_err!("{}", GuardError::TooManyTables(read));
        }
        let rows = LogicalPlanBuilder::from(Arc::unwrap_or_clone(subquery.subquery));
        let (relation, field) = rows.schema().qualified_field(0);
        let (column, is_nullable) = (Column::from((relation, field)), field.is_nullable());
        // The same column may be outside, too.
        let name = self.names.next();
        let rows = rows.project([Expr::Column(column).alias(&name)])?;
        let column = Column::new_unqualified(name);
        Ok(Inner { value: outer_value(value.clone(), &self.schema)?, rows, column, is_nullable })
    }
}

/// An inner query with one column.
struct Inner {
    /// What it is compared with, as the inner query sees it.
    value: Expr,
    rows: LogicalPlanBuilder,
    column: Column,
    is_nullable: bool,
}

impl Inner {
    fn equals(&self) -> Expr {
        Expr::Column(self.column.clone()).eq(self.value.clone())
    }
}

/// An expression over the outer rows, as an inner query sees it.
fn outer_value(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let told = expr.transform_up(|expr| match expr {
        Expr::Column(column) => {
            let (_, field) = schema.qualified_field_from_column(&column)?;
            Ok(Transformed::yes(Expr::OuterReferenceColumn(Arc::clone(field), column)))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(told?.data)
}

fn asked(rows: LogicalPlanBuilder) -> Result<Subquery> {
    let plan = rows.build()?;
    let outer_ref_columns = plan.all_out_ref_exprs();
    Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Spans::new() })
}

fn exists(rows: LogicalPlanBuilder) -> Result<Expr> {
    Ok(Expr::Exists(Exists { subquery: asked(rows)?, negated: false }))
}

fn is_any(rows: LogicalPlanBuilder) -> Result<Expr> {
    Ok(scalar(rows, count(lit(1_i64)))?.gt(lit(0_i64)))
}

/// An aggregate over all rows. The planner mixes it up with a column of the same name outside, such as `count(*)`.
fn scalar(rows: LogicalPlanBuilder, aggregate: Expr) -> Result<Expr> {
    let computed = rows.aggregate(Vec::<Expr>::new(), [aggregate.alias("__compared")])?;
    let column = Column::from(computed.schema().qualified_field(0));
    Ok(Expr::ScalarSubquery(asked(computed.project([Expr::Column(column)])?)?))
}

/// The tables that a plan reads, counting each use.
fn tables(plan: &LogicalPlan) -> Result<usize> {
    let mut count = 0;
    plan.apply_with_subqueries(|plan| {
        count += usize::from(matches!(plan, LogicalPlan::TableScan(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(count.max(1))
}

fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Cast(cast) => matches!(*cast.expr, Expr::Column(_)),
        _ => false,
    }
}

/// Whether all conditions of an inner query that name columns of the outer one say what a column is equal to: groups by those columns
/// can be joined with.
fn is_joined_by_equality(plan: &LogicalPlan) -> Result<bool> {
    let mut holds = true;
    plan.apply(|plan| {
        let LogicalPlan::Filter(filter) = plan else { return Ok(TreeNodeRecursion::Continue) };
        holds &= split_conjunction(&filter.predicate).into_iter().all(|condition| {
            let is_equality = match condition {
                Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
                    is_column(left) && right.column_refs().is_empty()
                        || is_column(right) && left.column_refs().is_empty()
                }
                _ => false,
            };
            is_equality || !condition.contains_outer()
        });
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(holds)
}

/// A value and the rows that it is looked for in, in types that can be compared: intervals by their length. A text among numbers,
/// or the other way round, is refused: which of them is meant to be cast?
fn comparable(value: Expr, subquery: Subquery, schema: &DFSchema) -> Result<(Expr, Subquery)> {
    let ty = value.get_type(schema)?;
    let rows = LogicalPlanBuilder::from(Arc::unwrap_or_clone(subquery.subquery));
    let column = Column::from(rows.schema().qualified_field(0));
    let other = rows.schema().field(0).data_type().clone();
    let is_text = |ty: &DataType| match ty {
        DataType::Dictionary(_, value) => value.is_string(),
        other => other.is_string(),
    };
    if is_text(&ty) && other.is_numeric() || ty.is_numeric() && is_text(&other) {
        return plan_err!("a text is looked for among numbers here: cast one side, as in x::text or x::bigint");
    }
    let is_interval = |ty: &DataType| matches!(ty, DataType::Interval(_));
    if is_interval(&ty) || is_interval(&other) {
        let lengths = rows.project([length(Expr::Column(column))])?;
        return Ok((length(value), asked(lengths)?));
    }
    if ty.is_floating() && number::is_computed(&Expr::Column(column.clone()), rows.plan()) {
        let numbers = rows.project([number::normal(Expr::Column(column))])?;
        return Ok((number::normal(value), asked(numbers)?));
    }
    Ok((value, asked(rows)?))
}
