//! Rounding where a cast to an integer would cut off.

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};

use super::scalar::Scalar;

/// The nearest whole number, and the even one of two, as PostgreSQL and DuckDB cast floats to integers.
pub(super) const EVEN: Scalar = Scalar {
    name: "round_even",
    aliases: &[],
    usage: "round_even(x)",
    doc: "The closest whole number, and the even one of two.",
    types: |types| match types {
        [number] if number.is_numeric() || number.is_null() => Some((vec![DataType::Float64], DataType::Float64)),
        _ => None,
    },
    body: |call| {
        let rounded: Float64Array = call.array(0)?.as_primitive::<Float64Type>().unary(f64::round_ties_even);
        call.give(Arc::new(rounded))
    },
    grows_with: Some(0),
};
