//! Operators whose meaning is not the planner's: division of integers by zero gives null, and a text is compared with a number as
//! a text.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

/// Gives operators their meaning, before types are coerced.
#[derive(Debug)]
pub(super) struct Meaning;

impl FunctionRewrite for Meaning {
    fn name(&self) -> &'static str {
        "meaning_of_operators"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Divide | Operator::Modulo), right })
                if is_integer(&left, schema) && is_integer(&right, schema) && may_be_zero(&right) =>
            {
                let right = nullif(*right, Expr::Literal(ScalarValue::Int64(Some(0)), None));
                Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(left, op, Box::new(right)))))
            }
            Expr::BinaryExpr(BinaryExpr { mut left, op: op @ (Operator::Eq | Operator::NotEq), mut right }) => {
                let rewritten = as_text(&left, &mut right, schema) || as_text(&right, &mut left, schema);
                let expr = Expr::BinaryExpr(BinaryExpr::new(left, op, right));
                Ok(if rewritten { Transformed::yes(expr) } else { Transformed::no(expr) })
            }
            Expr::InList(InList { expr, mut list, negated }) => {
                let rewritten = list.iter_mut().filter_map(|one| as_text(&expr, one, schema).then_some(())).count() > 0;
                let expr = Expr::InList(InList { expr, list, negated });
                Ok(if rewritten { Transformed::yes(expr) } else { Transformed::no(expr) })
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn is_integer(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|ty| ty.is_integer())
}

fn may_be_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => !matches!(value, ScalarValue::Int64(Some(number)) if *number != 0),
        _ => true,
    }
}

/// Makes a number that a text is compared with a text: `cpu = 0` is meant as `cpu = '0'`.
fn as_text(text: &Expr, number: &mut Expr, schema: &DFSchema) -> bool {
    let Expr::Literal(ScalarValue::Int64(Some(value)), _) = number else { return false };
    let is_text = |ty: DataType| match ty {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => matches!(*values, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
        _ => false,
    };
    if !text.get_type(schema).is_ok_and(is_text) {
        return false;
    }
    *number = Expr::Literal(ScalarValue::from(value.to_string()), None);
    true
}
