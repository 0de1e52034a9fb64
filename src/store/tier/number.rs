//! The types of values: whole numbers and floats.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::{ArrowNativeType, ArrowPrimitiveType, Float64Type, Int64Type};

/// A type of values.
pub(super) trait Number: ArrowNativeType + PartialOrd {
    /// Its type in Arrow.
    type Arrow: ArrowPrimitiveType<Native = Self>;
    const ZERO: Self;

    /// The sum of both. Integers stay at the greatest one: no host has such sums, so it is only kept from being wrong.
    fn plus(self, other: Self) -> Self;
    /// The sum with so many times `other`, one after the other.
    fn plus_times(self, other: Self, times: u64) -> Self;
    fn minus(self, other: Self) -> Self;
    fn float(self) -> f64;
    fn word(self) -> u64;
    fn of_word(word: u64) -> Self;
    fn array(values: impl Iterator<Item = Option<Self>>) -> ArrayRef;

    /// How much a counter grew from `before` to this. Below it, the counter began anew at zero.
    fn step_from(self, before: Self) -> Self {
        if self >= before {
            self.minus(before)
        } else if self > Self::ZERO {
            self
        } else {
            Self::ZERO
        }
    }
}

impl Number for i64 {
    type Arrow = Int64Type;
    const ZERO: i64 = 0;

    fn plus(self, other: i64) -> i64 {
        self.saturating_add(other)
    }

    fn plus_times(self, other: i64, times: u64) -> i64 {
        let all = i128::from(other).saturating_mul(i128::from(times)).saturating_add(i128::from(self));
        i64::try_from(all).unwrap_or(if all > 0 { i64::MAX } else { i64::MIN })
    }

    fn minus(self, other: i64) -> i64 {
        self.saturating_sub(other)
    }

    fn float(self) -> f64 {
        self as f64
    }

    fn word(self) -> u64 {
        self.cast_unsigned()
    }

    fn of_word(word: u64) -> i64 {
        word.cast_signed()
    }

    fn array(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
        Arc::new(values.collect::<Int64Array>())
    }
}

impl Number for f64 {
    type Arrow = Float64Type;
    const ZERO: f64 = 0.0;

    fn plus(self, other: f64) -> f64 {
        self + other
    }

    fn plus_times(self, other: f64, times: u64) -> f64 {
        // What a sum is rounded to depends on each step; only zeros add nothing.
        let steps = if other == 0.0 { times.min(1) } else { times };
        (0..steps).fold(self, |sum, _| sum + other)
    }

    fn minus(self, other: f64) -> f64 {
        self - other
    }

    fn float(self) -> f64 {
        self
    }

    fn word(self) -> u64 {
        self.to_bits()
    }

    fn of_word(word: u64) -> f64 {
        f64::from_bits(word)
    }

    fn array(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
        Arc::new(values.collect::<Float64Array>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_equal_values_is_that_of_one_after_the_other() {
        for (sum, value, times) in
            [(7_i64, 3, 0), (7, 3, 1_000), (-9, -4, 77), (i64::MAX - 5, 3, 4), (3, i64::MIN / 2, 9)]
        {
            assert_eq!(sum.plus_times(value, times), (0..times).fold(sum, |sum, _| sum.plus(value)));
        }
        for (sum, value, times) in
            [(0.1, 0.1, 1_000), (-0.0, -0.0, 3), (-0.0, 0.0, 3), (1e300, 1e308, 9), (0.3, 0.1, 0)]
        {
            let expected = (0..times).fold(sum, |sum: f64, _| sum.plus(value));
            assert_eq!(sum.plus_times(value, times).to_bits(), expected.to_bits());
        }
    }
}
