//! Functions of whole numbers: `width_bucket` and `bit_count`.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err};

use super::scalar::Scalar;

/// The number of the bucket of equal width that a value lies in: 0 is below all, and one more than their number above all.
pub(super) const WIDTH_BUCKET: Scalar = Scalar {
    name: "width_bucket",
    aliases: &[],
    usage: "width_bucket(x, 0, 1, 10)",
    doc: "The number of the bucket in which a value lies, of so many between two bounds.",
    types: |types| {
        let numbers = types.len() == 4 && types.iter().all(|ty| ty.is_numeric() || ty.is_null());
        let (float, count) = (DataType::Float64, DataType::Int64);
        numbers.then(|| (vec![float.clone(), float.clone(), float, count], DataType::Int64))
    },
    body: |call| {
        let arrays = (0..4).map(|position| call.array(position)).collect::<Result<Vec<_>>>()?;
        let [values, lows, highs, counts] = arrays.as_slice() else {
            return exec_err!("width_bucket takes four numbers");
        };
        let [values, lows, highs] = [values, lows, highs].map(AsArray::as_primitive::<Float64Type>);
        let counts = counts.as_primitive::<Int64Type>();
        let bucket = |row: usize| {
            if values.is_null(row) || lows.is_null(row) || highs.is_null(row) || counts.is_null(row) {
                return Ok(None);
            }
            let (value, low, high, count) = (values.value(row), lows.value(row), highs.value(row), counts.value(row));
            if count < 1 || low.total_cmp(&high).is_eq() || !low.is_finite() || !high.is_finite() || value.is_nan() {
                return exec_err!(
                    "width_bucket takes two different bounds and at least one bucket: width_bucket(x, 0, 1, 10)"
                );
            }
            // Downwards if the first bound is the greater one.
            let share = (value - low) / (high - low);
            Ok(Some(match share {
                share if share < 0.0 => 0,
                share if share >= 1.0 => count.saturating_add(1),
                share => super::span::whole((share * count as f64).floor()).unwrap_or_default().min(count - 1) + 1,
            }))
        };
        call.give(Arc::new((0..values.len()).map(bucket).collect::<Result<Int64Array>>()?))
    },
    grows_with: None,
};

/// The number of bits that are set.
pub(super) const BIT_COUNT: Scalar = Scalar {
    name: "bit_count",
    aliases: &[],
    usage: "bit_count(n)",
    doc: "How many bits of an integer are set.",
    types: |types| match types {
        [number] if number.is_integer() || number.is_null() => Some((vec![DataType::Int64], DataType::Int64)),
        _ => None,
    },
    body: |call| {
        let counts: Int64Array = call.array(0)?.as_primitive::<Int64Type>().unary(|number| number.count_ones().into());
        call.give(Arc::new(counts))
    },
    grows_with: None,
};

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::ColumnarValue;

    use super::super::scalar::called;
    use super::*;

    #[test]
    fn buckets_are_numbered_as_in_postgresql() {
        let bucket = |value: f64, low: f64, high: f64, count: i64| {
            let args = [ScalarValue::from(value), low.into(), high.into(), count.into()];
            match called(WIDTH_BUCKET, &args.map(ColumnarValue::Scalar), &DataType::Int64) {
                Ok(ColumnarValue::Scalar(ScalarValue::Int64(bucket))) => bucket,
                _ => None,
            }
        };
        for (value, expected) in [(-0.1, 0), (0.0, 1), (0.35, 4), (0.999, 10), (1.0, 11), (5.0, 11)] {
            assert_eq!(bucket(value, 0.0, 1.0, 10), Some(expected), "{value}");
        }
        assert_eq!(bucket(8.0, 10.0, 0.0, 5), Some(2));
        assert_eq!(bucket(1.0, 1.0, 1.0, 5), None);
        assert_eq!(bucket(1.0, 0.0, 2.0, 0), None);
    }
}
