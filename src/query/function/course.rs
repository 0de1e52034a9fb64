//! The course of a counter over time: points in any order, kept in few bytes.
//!
//! A late point may lie between any two others, so all points are kept. Points mostly come in the order of time. A run
//! of such points is packed into a few bytes per point, and its increase is computed at once. The increase holds if no
//! other run overlaps, which is checked at the end.

use std::cmp::Ordering;

use arrow::array::ArrowNativeTypeOp;

/// Points in a run: so many that the size of its head does not matter.
const RUN_POINTS_MAX: usize = 4_096;

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
    fn begin(point: Point<C>) -> Growth<C> {
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

    /// Whether `later` begins before this ends.
    pub(super) fn overlaps(&self, later: &Growth<C>) -> bool {
        order(later.first, self.last).is_lt()
    }
}

/// The time of two neighbours that have the same one, and two values.
pub(super) fn clash<C: Counter>(before: Point<C>, after: Point<C>) -> Option<i64> {
    (before.0 == after.0 && before.1.compare(after.1).is_ne()).then_some(after.0)
}

/// Points in order, packed.
#[derive(Debug)]
struct Run<C> {
    growth: Growth<C>,
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
            let difference = pair[1].1.bits().wrapping_sub(pair[0].1.bits()).cast_signed();
            push_number(&mut packed, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
        }
        Some(Run { growth, packed: packed.into() })
    }

    fn unpack(&self, points: &mut Vec<Point<C>>) {
        let (mut time, value) = self.growth.first;
        let mut bits = value.bits();
        points.push((time, value));
        let mut packed = &*self.packed;
        while let (Some(later), Some(zigzag)) = (take_number(&mut packed), take_number(&mut packed)) {
            time = time.wrapping_add(later.cast_signed());
            bits = bits.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg());
            points.push((time, C::of_bits(bits)));
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        let Growth { first, last, increase, count, clash } = self.growth;
        let times = [first.0, last.0, clash.unwrap_or_default()].map(i64::cast_unsigned);
        let values = [first.1, last.1, increase].map(C::bits);
        let rest = [count, u64::from(clash.is_some()), self.packed.len() as u64];
        for word in [times, values, rest].as_flattened() {
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
        let clash = word()?.cast_signed();
        let values = (C::of_bits(word()?), C::of_bits(word()?));
        let increase = C::of_bits(word()?);
        let count = word()?;
        let clash = (word()? != 0).then_some(clash);
        let length = usize::try_from(word()?).ok()?;
        let (packed, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        let growth = Growth { first: (times.0, values.0), last: (times.1, values.1), increase, count, clash };
        Some(Run { growth, packed: packed.into() })
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
#[derive(Debug, Default)]
pub(super) struct Course<C> {
    runs: Vec<Run<C>>,
    packed_bytes: usize,
    /// The newest points, at most [`RUN_POINTS_MAX`].
    loose: Vec<Point<C>>,
    /// The summary of all points, as long as they come in order.
    ordered: Option<Growth<C>>,
    disordered: bool,
}

impl<C: Counter> Course<C> {
    /// Adds a point, which may be of any time. NaN is left out.
    pub(super) fn push(&mut self, time: i64, value: C) {
        // NaN alone does not compare with itself.
        if value.partial_cmp(&value).is_some() {
            if self.loose.len() == RUN_POINTS_MAX {
                self.pack();
            }
            self.loose.push((time, value));
            self.follow(Growth::begin((time, value)));
        }
    }

    /// Takes what comes behind all others into the summary.
    fn follow(&mut self, later: Growth<C>) {
        match self.ordered {
            _ if self.disordered => {}
            None => self.ordered = Some(later),
            Some(growth) if growth.overlaps(&later) => self.disordered = true,
            Some(growth) => self.ordered = Some(growth.then(later)),
        }
    }

    /// What all points together say; `None` without points.
    pub(super) fn growth(&mut self) -> Option<Growth<C>> {
        if !self.disordered {
            return self.ordered;
        }
        self.pack();
        self.runs.sort_by(|a, b| order(a.growth.first, b.growth.first));
        let mut whole: Option<Growth<C>> = None;
        let mut runs = self.runs.iter().peekable();
        while let Some(run) = runs.next() {
            let mut last = run.growth.last;
            let mut tangled: Vec<Point<C>> = Vec::new();
            while let Some(next) = runs.next_if(|next| order(next.growth.first, last).is_lt()) {
                if tangled.is_empty() {
                    run.unpack(&mut tangled);
                }
                next.unpack(&mut tangled);
                if order(next.growth.last, last).is_gt() {
                    last = next.growth.last;
                }
            }
            tangled.sort_by(|a, b| order(*a, *b));
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
            let run = Run::read(&mut bytes)?;
            self.follow(run.growth);
            self.push_run(run);
        }
        Some(())
    }

    /// What all points together say, as bytes that [`Course::read`] takes for the two ends without what is between.
    pub(super) fn write_ends(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        Run { growth: self.growth()?, packed: Box::default() }.write(&mut bytes);
        Some(bytes)
    }

    /// All points, in any order; `None` if those between the ends are missing.
    pub(super) fn points(&mut self) -> Option<Vec<Point<C>>> {
        self.pack();
        let mut points = Vec::new();
        for run in &self.runs {
            let before = points.len();
            run.unpack(&mut points);
            if (points.len() - before) as u64 != run.growth.count {
                return None;
            }
        }
        Some(points)
    }

    /// Memory it takes.
    pub(super) fn size(&self) -> usize {
        self.packed_bytes + self.runs.capacity() * size_of::<Run<C>>() + self.loose.capacity() * size_of::<Point<C>>()
    }

    fn pack(&mut self) {
        // Fast where they are in order already, as a whole or in stretches.
        self.loose.sort_by(|a, b| order(*a, *b));
        if let Some(run) = Run::pack(&self.loose) {
            self.push_run(run);
        }
        self.loose.clear();
    }

    fn push_run(&mut self, run: Run<C>) {
        self.packed_bytes += run.packed.len();
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

    fn told<C: Counter>(course: &mut Course<C>) -> Option<(i64, i64, C)> {
        course.growth().map(|growth| (growth.first.0, growth.last.0, growth.increase))
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
            let mut parts: [Course<i64>; 4] = Default::default();
            let mut floats: [Course<f64>; 4] = Default::default();
            for ((time, value), (part, pack)) in points.iter().zip(&cuts) {
                parts[*part].push(*time, *value);
                floats[*part].push(*time, *value as f64);
                if *pack {
                    parts[*part].pack();
                    floats[*part].pack();
                }
            }
            let (mut whole, mut floating) = (Course::<i64>::default(), Course::<f64>::default());
            for (part, float) in parts.iter_mut().zip(&mut floats) {
                prop_assert!(whole.read(&part.write()).is_some());
                prop_assert!(floating.read(&float.write()).is_some());
            }
            prop_assert_eq!(told(&mut whole), naive(&points));
            let expected = naive(&points).map(|(from, to, increase)| (from, to, increase as f64));
            prop_assert_eq!(told(&mut floating), expected);
        }

        #[test]
        fn packing_loses_nothing(points in prop::collection::vec((any::<i64>(), any::<f64>()), 1..50)) {
            let mut points = points;
            points.sort_by(|a, b| order(*a, *b));
            let mut bytes = Vec::new();
            Run::<f64>::pack(&points).unwrap().write(&mut bytes);
            let mut unpacked = Vec::new();
            Run::<f64>::read(&mut bytes.as_slice()).unwrap().unpack(&mut unpacked);
            let bits = |points: &[(i64, f64)]| points.iter().map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>();
            prop_assert_eq!(bits(&unpacked), bits(&points));
        }

        #[test]
        fn other_bytes_are_refused_or_read_but_never_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut course = Course::<i64>::default();
            let _ = course.read(&bytes);
            let _ = course.growth();
        }
    }

    #[test]
    fn a_regular_counter_takes_few_bytes_a_point() {
        let mut course = Course::<i64>::default();
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
        let mut course = Course::<f64>::default();
        for (time, value) in [(1, 5.0), (2, f64::NAN), (3, 7.5)] {
            course.push(time, value);
        }
        let growth = course.growth().unwrap();
        assert_eq!((growth.increase, growth.last.0), (2.5, 3));
    }
}
