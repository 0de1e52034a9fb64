//! Doubles as the engine needs them.
//!
//! It compares doubles by their bits, so a NaN with a sign is another NaN, and less than all numbers. Processors give one for 0 / 0 and
//! for a difference of infinities. Sorts tell -0 from 0. So computed doubles take their normal form before they are compared. Doubles
//! that are recorded are numbers: they need none.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};

use super::roots::is_recorded;
use super::scalar::Scalar;

/// The double with one NaN, which has no sign, and one zero.
pub(super) const NORMAL_NUMBER: Scalar = Scalar {
    name: "normal_number",
    aliases: &[],
    usage: "normal_number(x)",
    doc: "",
    types: |types| match types {
        [float @ (DataType::Float64 | DataType::Float32)] => Some((vec![float.clone()], float.clone())),
        _ => None,
    },
    body: |call| {
        let array = call.array(0)?;
        let normal: ArrayRef = match array.data_type() {
            DataType::Float32 => {
                let numbers: Float32Array = array
                    .as_primitive::<Float32Type>()
                    .unary(|number| if number.is_nan() { f32::NAN } else { number + 0.0 });
                Arc::new(numbers)
            }
            _ => {
                let numbers: Float64Array = array
                    .as_primitive::<Float64Type>()
                    .unary(|number| if number.is_nan() { f64::NAN } else { number + 0.0 });
                Arc::new(numbers)
            }
        };
        call.give(normal)
    },
    grows_with: Some(0),
};

/// An expression in its normal form.
pub(in crate::query) fn normal(expr: Expr) -> Expr {
    NORMAL_NUMBER.function().call(vec![expr])
}

/// Whether an expression over the rows of `input` is a double that is not in its normal form as it is.
pub(in crate::query) fn is_computed(expr: &Expr, input: &LogicalPlan) -> bool {
    !is_normal(expr, &[input]) && is_float(expr, input.schema())
}

/// Gives the sides of comparisons their normal form.
///
/// # Errors
/// When the plan is broken.
pub(in crate::query) fn compared(plan: LogicalPlan) -> Result<LogicalPlan> {
    let told = plan.transform_up_with_subqueries(|plan| {
        if !plan.expressions().iter().any(|expr| expr.exists(|part| Ok(compares(part))).unwrap_or_default()) {
            return Ok(Transformed::no(plan));
        }
        let inputs: Vec<LogicalPlan> = plan.inputs().into_iter().cloned().collect();
        let inputs: Vec<&LogicalPlan> = inputs.iter().collect();
        let at = Rows { schema: merge_schema(&inputs), inputs };
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let told = expr.transform_up(|part| Ok(at.comparison(part)))?;
            Ok(if told.transformed { Transformed::yes(name.restore(told.data)) } else { told })
        })
    });
    Ok(told?.data)
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn compares(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(binary) => is_comparison(binary.op),
        Expr::Between(_) | Expr::InList(_) => true,
        Expr::Case(case) => case.expr.is_some(),
        Expr::ScalarFunction(call) => ["nullif", "greatest", "least"].contains(&call.func.name()),
        _ => false,
    }
}

/// The rows that a step of a plan is given.
struct Rows<'a> {
    inputs: Vec<&'a LogicalPlan>,
    schema: DFSchema,
}

impl Rows<'_> {
    fn comparison(&self, expr: Expr) -> Transformed<Expr> {
        if !compares(&expr) {
            return Transformed::no(expr);
        }
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let sides = self.all([*left, *right]);
                sides.update_data(|[left, right]| Expr::BinaryExpr(BinaryExpr::new(left.into(), op, right.into())))
            }
            Expr::Between(Between { expr, negated, low, high }) => {
                let sides = self.all([*expr, *low, *high]);
                sides.update_data(|[expr, low, high]| {
                    Expr::Between(Between::new(expr.into(), negated, low.into(), high.into()))
                })
            }
            Expr::InList(InList { expr, list, negated }) => {
                let [value] = self.all([*expr]).data;
                let list = list.into_iter().map(|item| self.one(item)).collect();
                Transformed::yes(Expr::InList(InList::new(value.into(), list, negated)))
            }
            Expr::Case(Case { expr: Some(value), when_then_expr, else_expr }) => {
                let value = Box::new(self.one(*value));
                let cases = when_then_expr.into_iter().map(|(when, then)| (Box::new(self.one(*when)), then)).collect();
                Transformed::yes(Expr::Case(Case { expr: Some(value), when_then_expr: cases, else_expr }))
            }
            Expr::ScalarFunction(ScalarFunction { func, args }) => {
                let args = args.into_iter().map(|arg| self.one(arg)).collect();
                Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args }))
            }
            other => Transformed::no(other),
        }
    }

    fn all<const N: usize>(&self, sides: [Expr; N]) -> Transformed<[Expr; N]> {
        let changes = sides.iter().any(|side| self.may_have_sign(side));
        let sides = sides.map(|side| self.one(side));
        if changes { Transformed::yes(sides) } else { Transformed::no(sides) }
    }

    fn one(&self, expr: Expr) -> Expr {
        if self.may_have_sign(&expr) { normal(expr) } else { expr }
    }

    /// Whether an expression may be a NaN with a sign. The comparison of zeros needs no normal form.
    fn may_have_sign(&self, expr: &Expr) -> bool {
        !is_number(expr, &self.inputs) && !expr.contains_outer() && is_float(expr, &self.schema)
    }
}

fn is_float(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|ty| matches!(ty, DataType::Float64 | DataType::Float32))
}

fn is_read(expr: &Expr, inputs: &[&LogicalPlan]) -> bool {
    inputs.iter().any(|input| is_recorded(input, expr))
}

/// Whether an expression is surely in its normal form: it is one recorded value or constant.
fn is_normal(expr: &Expr, inputs: &[&LogicalPlan]) -> bool {
    match expr {
        Expr::Alias(alias) => is_normal(&alias.expr, inputs),
        Expr::Literal(value, _) => !is_nan(value),
        Expr::ScalarFunction(call) => call.func.name() == NORMAL_NUMBER.name,
        Expr::Column(_) => is_read(expr, inputs),
        _ => false,
    }
}

/// Whether an expression is surely no NaN: sums, differences and products of recorded values are numbers, as these are far from the
/// limits of a double.
fn is_number(expr: &Expr, inputs: &[&LogicalPlan]) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus | Operator::Minus | Operator::Multiply, right }) => {
            is_number(left, inputs) && is_number(right, inputs)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide, right }) => {
            matches!(&**right, Expr::Literal(value, _) if is_some_number(value)) && is_number(left, inputs)
        }
        Expr::Cast(cast) => is_number(&cast.expr, inputs),
        Expr::Literal(value, _) => !value.data_type().is_string() && !is_nan(value),
        other => is_normal(other, inputs),
    }
}

fn is_nan(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float64(Some(number)) => number.is_nan(),
        ScalarValue::Float32(Some(number)) => number.is_nan(),
        _ => false,
    }
}

/// Whether a divisor gives a number for each number.
fn is_some_number(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float64(Some(number)) => number.is_normal(),
        ScalarValue::Int64(Some(number)) => *number != 0,
        _ => false,
    }
}
