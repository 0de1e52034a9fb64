//! Sums of doubles without rounding, from which values can be taken away again.
//!
//! A double is a whole number of 2^-1074, so a sum of them is one too. Its 2,200 bits are kept in chunks of 32, as in R. Neal, "Fast
//! exact summation using small and large superaccumulators" (2015). Only the result is rounded, to the nearest double.

const CHUNKS: usize = 70;
const CHUNK_BITS: usize = 32;
const CHUNK_MASK: i64 = 0xffff_ffff;
/// After so many values, chunks may be as long as an `i64`.
const ADDED_MAX: u32 = 1 << 30;
/// The exponent of the lowest bit of a double.
const LOWEST: i32 = -1074;

#[derive(Clone, Debug)]
pub(super) struct Precise {
    chunks: [i64; CHUNKS],
    /// Chunks outside of these are zero.
    low: usize,
    high: usize,
    /// Values since chunks were last made short.
    added: u32,
    nans: i64,
    infinities: i64,
    negative_infinities: i64,
}

impl Default for Precise {
    fn default() -> Precise {
        let (low, high) = (CHUNKS, 0);
        Precise { chunks: [0; CHUNKS], low, high, added: 0, nans: 0, infinities: 0, negative_infinities: 0 }
    }
}

impl Precise {
    /// Adds a value.
    pub(super) fn add(&mut self, value: f64) {
        self.change(value, 1);
    }

    /// Takes a value away that was added before.
    pub(super) fn take(&mut self, value: f64) {
        self.change(value, -1);
    }

    /// Adds a product without rounding it. One beyond the greatest double is an infinity.
    pub(super) fn add_product(&mut self, a: f64, b: f64) {
        self.change_product(a, b, 1);
    }

    /// Takes a product away that was added before.
    pub(super) fn take_product(&mut self, a: f64, b: f64) {
        self.change_product(a, b, -1);
    }

    /// Numbers whose sum is this one, the greatest first, up to 159 bits.
    pub(super) fn parts(&mut self) -> [f64; 3] {
        let mut rest = self.clone();
        let mut part = || {
            let part = rest.value();
            rest.take(part);
            part
        };
        [part(), part(), part()]
    }

    /// The sum: NaN if a NaN or infinities of both signs are in it.
    pub(super) fn value(&mut self) -> f64 {
        match (self.nans, self.infinities, self.negative_infinities) {
            (0, 0, 0) => self.finite(),
            (0, _, 0) => f64::INFINITY,
            (0, 0, _) => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }

    fn change(&mut self, value: f64, sign: i64) {
        if value.is_nan() {
            self.nans += sign;
        } else if value.is_infinite() {
            let count = if value > 0.0 { &mut self.infinities } else { &mut self.negative_infinities };
            *count += sign;
        } else if value != 0.0 {
            self.change_finite(value, sign);
        }
    }

    fn change_product(&mut self, a: f64, b: f64, sign: i64) {
        let product = a * b;
        self.change(product, sign);
        if product.is_finite() {
            self.change(a.mul_add(b, -product), sign);
        }
    }

    fn change_finite(&mut self, value: f64, sign: i64) {
        const FRACTION: u64 = (1 << 52) - 1;
        let bits = value.to_bits();
        let exponent = usize::try_from((bits >> 52) & 0x7ff).unwrap_or_default();
        let number = if exponent == 0 { bits & FRACTION } else { bits & FRACTION | 1 << 52 };
        let place = exponent.saturating_sub(1);
        let chunk = place / CHUNK_BITS;
        let sign = if value < 0.0 { -sign } else { sign };
        let wide = u128::from(number) << (place % CHUNK_BITS);
        for (position, chunk) in self.chunks[chunk..chunk + 3].iter_mut().enumerate() {
            let part = i64::try_from((wide >> (position * CHUNK_BITS)) & 0xffff_ffff).unwrap_or_default();
            *chunk += sign * part;
        }
        self.low = self.low.min(chunk);
        self.high = self.high.max(chunk + 2);
        self.added += 1;
        if self.added == ADDED_MAX {
            self.carry();
        }
    }

    /// Makes all chunks but the highest one numbers from 0 to 2^32 - 1. The highest one has the sign of the sum.
    fn carry(&mut self) {
        self.added = 0;
        if self.low > self.high {
            return;
        }
        let mut position = self.low;
        while position < self.high || (self.chunks[position].abs() > CHUNK_MASK && position + 1 < CHUNKS) {
            let chunk = self.chunks[position];
            self.chunks[position] = chunk & CHUNK_MASK;
            self.chunks[position + 1] += chunk >> CHUNK_BITS;
            position += 1;
        }
        self.high = position;
        while self.high > self.low && self.chunks[self.high] == 0 {
            self.high -= 1;
        }
    }

    fn finite(&mut self) -> f64 {
        self.carry();
        if self.low > self.high || self.chunks[self.high] == 0 {
            return 0.0;
        }
        if self.chunks[self.high] > 0 {
            return self.rounded();
        }
        let mut opposite = self.clone();
        opposite.chunks[self.low..=self.high].iter_mut().for_each(|chunk| *chunk = -*chunk);
        opposite.carry();
        -opposite.rounded()
    }

    /// The nearest double of a sum above zero whose chunks are short.
    fn rounded(&self) -> f64 {
        let lowest = self.high.saturating_sub(3);
        let mut number = 0_u128;
        for chunk in self.chunks[lowest..=self.high].iter().rev() {
            number = (number << CHUNK_BITS) | u128::from(chunk.unsigned_abs());
        }
        // What is below only tells whether the number lies exactly between two doubles.
        if self.chunks[self.low.min(lowest)..lowest].iter().any(|chunk| *chunk != 0) {
            number |= 1;
        }
        let exponent = i32::try_from(lowest * CHUNK_BITS).unwrap_or_default() + LOWEST;
        number as f64 * power_of_two(exponent)
    }
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(match u64::try_from(exponent + 1022) {
        Ok(above) => (above + 1) << 52,
        Err(_) => 1 << (exponent - LOWEST),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = Precise::default();
        values.iter().for_each(|value| sum.add(*value));
        sum.value()
    }

    #[test]
    fn the_nearest_double_is_found() {
        for (values, expected) in [
            (vec![], 0.0),
            (vec![1e17, 1.5, -1e17], 1.5),
            (vec![0.1; 10], 1.0),
            (vec![1e308, 1e308, -1e308], 1e308),
            (vec![1e308, 1e308], f64::INFINITY),
            (vec![-1e308, -1e308], f64::NEG_INFINITY),
            (vec![f64::MAX, -f64::MAX, 5e-324], 5e-324),
            (vec![5e-324, -1e-323], -5e-324),
            (vec![-1.0, 1.0], 0.0),
            // Halfway between two doubles, and a little above.
            (vec![9_007_199_254_740_992.0, 1.0], 9_007_199_254_740_992.0),
            (vec![9_007_199_254_740_992.0, 1.0, 1e-300], 9_007_199_254_740_994.0),
            (vec![-9_007_199_254_740_992.0, -1.0, -1e-300], -9_007_199_254_740_994.0),
            (vec![f64::INFINITY, 1.0], f64::INFINITY),
            (vec![f64::NEG_INFINITY, 1.0], f64::NEG_INFINITY),
        ] {
            assert_eq!(sum(&values).to_bits(), f64::to_bits(expected), "{values:?}");
        }
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan() && sum(&[f64::NAN]).is_nan());
    }

    proptest! {
        /// Whole numbers of a power of two are summed exactly by `i128`.
        #[test]
        fn sums_are_those_of_whole_numbers(
            values in prop::collection::vec(-(1_i64 << 53)..=1 << 53, 1..60),
            power in -1074..900_i32,
            kept in 0..60_usize,
        ) {
            let unit = power_of_two(power);
            let kept = kept.min(values.len());
            let mut moving = Precise::default();
            values.iter().for_each(|value| moving.add(*value as f64 * unit));
            for value in [f64::INFINITY, f64::NAN, 1e17, -5e-324] {
                moving.add(value);
                moving.value();
                moving.take(value);
            }
            for value in &values[kept..] {
                moving.take(*value as f64 * unit);
                moving.value();
            }
            let exact: i128 = values[..kept].iter().copied().map(i128::from).sum();
            prop_assert_eq!(moving.value().to_bits(), (exact as f64 * unit).to_bits());
        }
    }

    #[test]
    fn products_are_exact() {
        let (a, b) = (1.0 + f64::EPSILON, 1.0 - f64::EPSILON);
        let rest = -f64::EPSILON * f64::EPSILON;
        let mut sum = Precise::default();
        sum.add_product(a, b);
        assert_eq!(sum.parts().map(f64::to_bits), [1.0, rest, 0.0].map(f64::to_bits));
        sum.take(1.0);
        assert_eq!(sum.value().to_bits(), rest.to_bits());
        sum.take_product(a, b);
        sum.add(1.0);
        assert_eq!(sum.value().to_bits(), 0);
    }

    #[test]
    fn chunks_stay_short() {
        let mut sum = Precise::default();
        for _ in 0..100 {
            sum.add(-1.0);
            sum.added = ADDED_MAX - 1;
            sum.add(-1.0);
        }
        assert_eq!((sum.value(), sum.high), (-200.0, 33));
    }
}
