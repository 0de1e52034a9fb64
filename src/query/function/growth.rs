//! How much a counter grew over a range of points.

use std::cmp::Ordering;

use arrow::array::ArrowNativeTypeOp;

/// A type of counters.
pub(super) trait Counter: ArrowNativeTypeOp {
    /// The value's 64 bits.
    fn bits(self) -> u64;
    /// The value of these bits.
    fn of_bits(bits: u64) -> Self;
    /// The value for arithmetic.
    fn float(self) -> f64;
}

impl Counter for i64 {
    fn bits(self) -> u64 {
        self.cast_unsigned()
    }

    fn of_bits(bits: u64) -> i64 {
        bits.cast_signed()
    }

    fn float(self) -> f64 {
        self as f64
    }
}

impl Counter for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }

    fn of_bits(bits: u64) -> f64 {
        f64::from_bits(bits)
    }

    fn float(self) -> f64 {
        self
    }
}

/// How much a counter grew from `before` to `after`.
pub(super) fn step<C: Counter>(before: C, after: C) -> C {
    if after >= before {
        // Only values that are no counters saturate: a real counter never spans half of the integers.
        after.sub_checked(before).unwrap_or(C::MAX_TOTAL_ORDER)
    } else if after > C::ZERO {
        after
    } else {
        C::ZERO
    }
}

/// The sum of two increases.
pub(super) fn add<C: Counter>(a: C, b: C) -> C {
    a.add_checked(b).unwrap_or(C::MAX_TOTAL_ORDER)
}

/// A time (µs) and the counter's value at it.
pub(super) type Point<C> = (i64, C);

pub(super) fn order<C: Counter>(a: Point<C>, b: Point<C>) -> Ordering {
    a.0.cmp(&b.0).then_with(|| a.1.compare(b.1))
}

/// A summary of a range of points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth<C> {
    /// The earliest point.
    pub(super) first: Point<C>,
    /// The latest point.
    pub(super) last: Point<C>,
    /// The sum of the steps between its points.
    pub(super) increase: C,
    /// Number of points.
    pub(super) count: u64,
    /// A time at which the points have two values: they are of several counters.
    pub(super) clash: Option<i64>,
}

impl<C: Counter> Growth<C> {
    /// The summary of one point.
    pub(super) fn begin(point: Point<C>) -> Growth<C> {
        Growth { first: point, last: point, increase: C::ZERO, count: 1, clash: None }
    }

    /// The summary of ordered points; `None` without points.
    pub(super) fn of(points: &[Point<C>]) -> Option<Growth<C>> {
        let (first, rest) = points.split_first()?;
        Some(rest.iter().fold(Growth::begin(*first), |growth, point| growth.then(Growth::begin(*point))))
    }

    /// The summary of both, where `later` begins after this.
    pub(super) fn then(self, later: Growth<C>) -> Growth<C> {
        let between = step(self.last.1, later.first.1);
        let increase = add(add(self.increase, between), later.increase);
        let clash = clash(self.last, later.first).or(self.clash).or(later.clash);
        Growth { first: self.first, last: later.last, increase, count: self.count + later.count, clash }
    }

    /// Whether `later` begins before this ends. Rows of one time only touch: if their values differ, they clash.
    pub(super) fn overlaps(&self, later: &Growth<C>) -> bool {
        later.first.0 < self.last.0
    }

    /// The order of their first times. Of two that begin together, the shorter one comes first, so that it does not overlap the
    /// other if it has that time only.
    pub(super) fn by_time(&self, other: &Growth<C>) -> Ordering {
        (self.first.0, self.last.0).cmp(&(other.first.0, other.last.0))
    }
}

/// The time of two neighbours that have the same one, and two values.
pub(super) fn clash<C: Counter>(before: Point<C>, after: Point<C>) -> Option<i64> {
    (before.0 == after.0 && before.1.compare(after.1).is_ne()).then_some(after.0)
}
