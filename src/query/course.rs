//! The course of a counter over time: points in any order, kept in few bytes.
//!
//! A late point may lie between any two others, so all points are kept. Points mostly come in the order of time. A run
//! of such points is packed into a few bytes per point, and its increase is computed at once. The increase holds if no
//! other run overlaps, which is checked at the end.

use std::cmp::Ordering;
use std::fmt::Debug;

use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int64Type};
use datafusion::common::ScalarValue;

/// Points in a run: so many that the size of its head does not matter.
const RUN_POINTS_MAX: usize = 4_096;

/// A type of counters.
pub(super) trait Counter: ArrowPrimitiveType + Debug {
    /// Whether this is a value, and not NaN.
    fn is_value(value: Self::Native) -> bool;
    /// The order of values of the same time.
    fn order(a: Self::Native, b: Self::Native) -> Ordering;
    /// How much a counter grew from `before` to `after`.
    fn step(before: Self::Native, after: Self::Native) -> Self::Native;
    /// The sum of two increases.
    fn add(a: Self::Native, b: Self::Native) -> Self::Native;
    /// The value's 64 bits.
    fn to_bits(value: Self::Native) -> u64;
    /// The value of these bits.
    fn from_bits(bits: u64) -> Self::Native;
    /// The value for arithmetic.
    fn float(value: Self::Native) -> f64;
    /// The value for SQL.
    fn scalar(value: Option<Self::Native>) -> ScalarValue;
}

impl Counter for Int64Type {
    fn is_value(_: i64) -> bool {
        true
    }

    fn order(a: i64, b: i64) -> Ordering {
        a.cmp(&b)
    }

    fn step(before: i64, after: i64) -> i64 {
        // Only values that are no counters saturate: a real counter never spans half of the integers.
        if after >= before { after.saturating_sub(before) } else { after.max(0) }
    }

    fn add(a: i64, b: i64) -> i64 {
        a.saturating_add(b)
    }

    fn to_bits(value: i64) -> u64 {
        value.cast_unsigned()
    }

    fn from_bits(bits: u64) -> i64 {
        bits.cast_signed()
    }

    fn float(value: i64) -> f64 {
        value as f64
    }

    fn scalar(value: Option<i64>) -> ScalarValue {
        ScalarValue::Int64(value)
    }
}

impl Counter for Float64Type {
    fn is_value(value: f64) -> bool {
        !value.is_nan()
    }

    fn order(a: f64, b: f64) -> Ordering {
        a.total_cmp(&b)
    }

    fn step(before: f64, after: f64) -> f64 {
        if after >= before { after - before } else { after.max(0.0) }
    }

    fn add(a: f64, b: f64) -> f64 {
        a + b
    }

    fn to_bits(value: f64) -> u64 {
        value.to_bits()
    }

    fn from_bits(bits: u64) -> f64 {
        f64::from_bits(bits)
    }

    fn float(value: f64) -> f64 {
        value
    }

    fn scalar(value: Option<f64>) -> ScalarValue {
        ScalarValue::Float64(value)
    }
}

/// A time (µs) and the counter's value at it.
type Point<C> = (i64, <C as ArrowPrimitiveType>::Native);

fn order<C: Counter>(a: Point<C>, b: Point<C>) -> Ordering {
    a.0.cmp(&b.0).then_with(|| C::order(a.1, b.1))
}

/// A summary of a range of points.
#[derive(Debug)]
pub(super) struct Growth<C: Counter> {
    /// The earliest point.
    pub(super) first: Point<C>,
    /// The latest point.
    pub(super) last: Point<C>,
    /// The sum of the steps between its points.
    pub(super) increase: C::Native,
}

impl<C: Counter> Copy for Growth<C> {}

impl<C: Counter> Clone for Growth<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Counter> Growth<C> {
    /// The summary of ordered points; `None` without points.
    fn of(points: &[Point<C>]) -> Option<Growth<C>> {
        let (first, last) = (*points.first()?, *points.last()?);
        let steps = points.windows(2).map(|pair| C::step(pair[0].1, pair[1].1));
        Some(Growth { first, last, increase: steps.fold(C::Native::default(), C::add) })
    }

    /// The summary of both, where `later` begins after this.
    fn then(self, later: Growth<C>) -> Growth<C> {
        let between = C::step(self.last.1, later.first.1);
        let increase = C::add(C::add(self.increase, between), later.increase);
        Growth { first: self.first, last: later.last, increase }
    }
}

/// Points in order, packed.
#[derive(Debug)]
struct Run<C: Counter> {
    growth: Growth<C>,
    points: u32,
    /// The points after the first, as differences of time and value to the point before.
    packed: Box<[u8]>,
}

impl<C: Counter> Run<C> {
    /// Packs ordered points; `None` without points.
    fn pack(points: &[Point<C>]) -> Option<Run<C>> {
        let growth = Growth::of(points)?;
        let mut packed = Vec::with_capacity(4 * points.len());
        for pair in points.windows(2) {
            push_number(&mut packed, pair[1].0.wrapping_sub(pair[0].0).cast_unsigned());
            let difference = C::to_bits(pair[1].1).wrapping_sub(C::to_bits(pair[0].1)).cast_signed();
            push_number(&mut packed, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
        }
        Some(Run { growth, points: u32::try_from(points.len()).ok()?, packed: packed.into() })
    }

    fn unpack(&self, points: &mut Vec<Point<C>>) {
        let (mut time, value) = self.growth.first;
        let mut bits = C::to_bits(value);
        points.push((time, value));
        let mut packed = &*self.packed;
        while let (Some(later), Some(zigzag)) = (take_number(&mut packed), take_number(&mut packed)) {
            time = time.wrapping_add(later.cast_signed());
            bits = bits.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg());
            points.push((time, C::from_bits(bits)));
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        let Growth { first, last, increase } = self.growth;
        let times = [first.0, last.0].map(i64::cast_unsigned);
        let values = [first.1, last.1, increase].map(C::to_bits);
        for word in [times[0], times[1], values[0], values[1], values[2], self.points.into(), self.packed.len() as u64]
        {
            to.extend_from_slice(&word.to_le_bytes());
        }
        to.extend_from_slice(&self.packed);
    }

    /// Reads a run that [`Run::write`] wrote, and removes it from the front of `bytes`.
    fn read(bytes: &mut &[u8]) -> Option<Run<C>> {
        let mut word = || {
            let (word, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Some(u64::from_le_bytes(*word))
        };
        let times = (word()?.cast_signed(), word()?.cast_signed());
        let values = (C::from_bits(word()?), C::from_bits(word()?));
        let increase = C::from_bits(word()?);
        let points = u32::try_from(word()?).ok()?;
        let length = usize::try_from(word()?).ok()?;
        let (packed, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        let growth = Growth { first: (times.0, values.0), last: (times.1, values.1), increase };
        Some(Run { growth, points, packed: packed.into() })
    }
}

/// Seven bits a byte, lowest first; the high bit says that more follow.
fn push_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The points of one counter seen so far.
#[derive(Debug)]
pub(super) struct Course<C: Counter> {
    runs: Vec<Run<C>>,
    /// Points in `runs`.
    packed_points: u64,
    packed_bytes: usize,
    /// The newest points, at most [`RUN_POINTS_MAX`].
    loose: Vec<Point<C>>,
}

impl<C: Counter> Default for Course<C> {
    fn default() -> Self {
        Course { runs: Vec::new(), packed_points: 0, packed_bytes: 0, loose: Vec::new() }
    }
}

impl<C: Counter> Course<C> {
    /// Adds a point, which may be of any time. What is no value is left out.
    pub(super) fn push(&mut self, time: i64, value: C::Native) {
        if C::is_value(value) {
            if self.loose.len() == RUN_POINTS_MAX {
                self.pack();
            }
            self.loose.push((time, value));
        }
    }

    /// What all points together say; `None` without points.
    pub(super) fn growth(&mut self) -> Option<Growth<C>> {
        self.pack();
        self.runs.sort_by(|a, b| order::<C>(a.growth.first, b.growth.first));
        let mut whole: Option<Growth<C>> = None;
        let mut runs = self.runs.iter().peekable();
        while let Some(run) = runs.next() {
            let mut last = run.growth.last;
            let mut tangled: Vec<Point<C>> = Vec::new();
            while let Some(next) = runs.next_if(|next| order::<C>(next.growth.first, last).is_lt()) {
                if tangled.is_empty() {
                    run.unpack(&mut tangled);
                }
                next.unpack(&mut tangled);
                if order::<C>(next.growth.last, last).is_gt() {
                    last = next.growth.last;
                }
            }
            tangled.sort_by(|a, b| order::<C>(*a, *b));
            let part = Growth::of(&tangled).unwrap_or(run.growth);
            whole = Some(whole.map_or(part, |whole| whole.then(part)));
        }
        whole
    }

    /// All points as bytes, leaving none here.
    pub(super) fn write(&mut self) -> Vec<u8> {
        self.pack();
        let mut bytes = Vec::with_capacity(self.packed_bytes + self.runs.len() * size_of::<Run<C>>());
        for run in &self.runs {
            run.write(&mut bytes);
        }
        *self = Course::default();
        bytes
    }

    /// Adds the points that [`Course::write`] gave; `None` when the bytes are not from there.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            self.push_run(Run::read(&mut bytes)?);
        }
        Some(())
    }

    /// Number of points.
    pub(super) fn len(&self) -> u64 {
        self.packed_points + self.loose.len() as u64
    }

    /// Memory it takes.
    pub(super) fn size(&self) -> usize {
        self.packed_bytes + self.runs.capacity() * size_of::<Run<C>>() + self.loose.capacity() * size_of::<Point<C>>()
    }

    fn pack(&mut self) {
        // Fast where they are in order already, as a whole or in stretches.
        self.loose.sort_by(|a, b| order::<C>(*a, *b));
        if let Some(run) = Run::pack(&self.loose) {
            self.push_run(run);
        }
        self.loose.clear();
    }

    fn push_run(&mut self, run: Run<C>) {
        self.packed_bytes += run.packed.len();
        self.packed_points += u64::from(run.points);
        self.runs.push(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The increase as the documentation defines it.
    fn naive(points: &[(i64, i64)]) -> Option<(i64, i64, i64)> {
        let mut points = points.to_vec();
        points.sort_unstable();
        let steps =
            points.windows(2).map(|pair| if pair[1].1 < pair[0].1 { pair[1].1.max(0) } else { pair[1].1 - pair[0].1 });
        Some((points.first()?.0, points.last()?.0, steps.sum()))
    }

    fn told<C: Counter<Native: Into<f64>>>(course: &mut Course<C>) -> Option<(i64, i64, f64)> {
        course.growth().map(|growth| (growth.first.0, growth.last.0, growth.increase.into()))
    }

    /// Points that mostly go up, with resets, in any order.
    fn points() -> impl Strategy<Value = Vec<(i64, i64)>> {
        let point = (0..200_i64, prop_oneof![5 => 0..1_000_i64, 1 => -5..5_i64]);
        let wild = prop::collection::vec(point, 0..60);
        let tame = prop::collection::vec((1..4_i64, 0..9_i64, prop::bool::weighted(0.05)), 0..60).prop_map(|steps| {
            let (mut time, mut value) = (0, 0);
            let mut points = Vec::new();
            for (later, more, reset) in steps {
                time += later;
                value = if reset { more } else { value + more };
                points.push((time, value));
            }
            points
        });
        prop_oneof![wild, tame.clone(), tame.prop_shuffle()]
    }

    proptest! {
        #[test]
        fn the_increase_depends_on_neither_order_nor_parts(
            points in points(),
            cuts in prop::collection::vec((0..4_usize, prop::bool::ANY), 60),
        ) {
            // Four threads that each get some of the points, and pack at any time.
            let mut parts: [Course<Int64Type>; 4] = Default::default();
            let mut floats: [Course<Float64Type>; 4] = Default::default();
            for ((time, value), (part, pack)) in points.iter().zip(&cuts) {
                parts[*part].push(*time, *value);
                floats[*part].push(*time, *value as f64);
                if *pack {
                    parts[*part].pack();
                    floats[*part].pack();
                }
            }
            let (mut whole, mut floating) = (Course::<Int64Type>::default(), Course::<Float64Type>::default());
            for (part, float) in parts.iter_mut().zip(&mut floats) {
                prop_assert!(whole.read(&part.write()).is_some());
                prop_assert!(floating.read(&float.write()).is_some());
            }
            let found = whole.growth().map(|growth| (growth.first.0, growth.last.0, growth.increase));
            prop_assert_eq!(found, naive(&points));
            let expected = naive(&points).map(|(from, to, increase)| (from, to, increase as f64));
            prop_assert_eq!(told(&mut floating), expected);
        }

        #[test]
        fn packing_loses_nothing(points in prop::collection::vec((any::<i64>(), any::<f64>()), 1..50)) {
            let mut points = points;
            points.sort_by(|a, b| order::<Float64Type>(*a, *b));
            let mut bytes = Vec::new();
            Run::<Float64Type>::pack(&points).unwrap().write(&mut bytes);
            let mut unpacked = Vec::new();
            Run::<Float64Type>::read(&mut bytes.as_slice()).unwrap().unpack(&mut unpacked);
            let bits = |points: &[(i64, f64)]| points.iter().map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>();
            prop_assert_eq!(bits(&unpacked), bits(&points));
        }

        #[test]
        fn other_bytes_are_refused_or_read_but_never_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut course = Course::<Int64Type>::default();
            let _ = course.read(&bytes);
            let _ = course.growth();
        }
    }

    #[test]
    fn a_regular_counter_takes_few_bytes_a_point() {
        let mut course = Course::<Int64Type>::default();
        let many = 1_000_000_i64;
        for tick in 0..many {
            course.push(1_704_067_200_000_000 + 1_000 * tick + tick % 50, 1_500 * tick);
        }
        let growth = course.growth().unwrap();
        assert_eq!(growth.increase, 1_500 * (many - 1));
        assert!(course.size() < 5 * 1_000_000, "{} bytes", course.size());
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut course = Course::<Float64Type>::default();
        for (time, value) in [(1, 5.0), (2, f64::NAN), (3, 7.5)] {
            course.push(time, value);
        }
        let growth = course.growth().unwrap();
        assert_eq!((growth.increase, growth.last.0), (2.5, 3));
    }
}
