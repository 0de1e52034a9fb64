//! The course of a counter over time: points in any order, kept in little memory.
//!
//! Where the plan knows that rows come in the order of time and that no other thread has rows in between
//! ([`Sections`]), a run of points is kept as its first and last point, its increase and its count. Elsewhere a late point may
//! lie between any two others, so all points are kept, packed into a few bytes each. The increase of such a run holds if no
//! other run overlaps, which is checked at the end.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::ArrowNativeTypeOp;

use super::sections::Sections;

/// Points in a packed run: so many that the size of its head does not matter.
const RUN_POINTS_MAX: usize = 4_096;
/// The first byte of a course as bytes. Another version is another layout.
const STATE_VERSION: u8 = 1;

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

/// Runs overlap of which only the ends are known: some rows were not in the order in which the plan expected them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disorder;

/// Why bytes are no course.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the state of a counter has version {0}, and this program reads version {STATE_VERSION}")]
    Version(u8),
    #[error("the state of a counter is broken")]
    Broken,
}

/// The time of two neighbours that have the same one, and two values.
pub(super) fn clash<C: Counter>(before: Point<C>, after: Point<C>) -> Option<i64> {
    (before.0 == after.0 && before.1.compare(after.1).is_ne()).then_some(after.0)
}

/// Points in order.
#[derive(Debug)]
struct Run<C> {
    growth: Growth<C>,
    /// The points after the first, as differences of time and value to the point before. Empty if only the ends are kept.
    packed: Box<[u8]>,
}

impl<C: Counter> Run<C> {
    /// Keeps the ends only.
    fn of_ends(growth: Growth<C>) -> Run<C> {
        Run { growth, packed: Box::default() }
    }

    /// Whether all its points are known.
    fn has_points(&self) -> bool {
        self.growth.count <= 2 || !self.packed.is_empty()
    }

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
        if packed.is_empty() && self.growth.count == 2 {
            points.push(self.growth.last);
        }
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

/// Points in order that follow each other within one section.
#[derive(Debug)]
struct Stretch<C> {
    growth: Growth<C>,
    /// The last time of the section.
    end_us: i64,
}

/// The points of one counter seen so far.
#[derive(Debug, Default)]
pub(super) struct Course<C> {
    /// Where rows come in order; `None` if that is known of none.
    sections: Option<Arc<Sections>>,
    /// The run that the next point mostly continues, where rows come in order.
    stretch: Option<Stretch<C>>,
    runs: Vec<Run<C>>,
    packed_bytes: usize,
    /// The newest points of those that are all kept, at most [`RUN_POINTS_MAX`].
    loose: Vec<Point<C>>,
    /// The summary of all points, unless it `is_unsummed`.
    sum: Option<Growth<C>>,
    /// Not all points came in order, or the summary is left to the end.
    is_unsummed: bool,
}

impl<C: Counter> Course<C> {
    /// Takes points that come in order in these sections, and keeps only the ends of their runs.
    pub(super) fn in_sections(sections: Arc<Sections>) -> Course<C>
    where
        C: Default,
    {
        Course { sections: Some(sections), is_unsummed: true, ..Course::default() }
    }

    /// Adds a point, which may be of any time. NaN is left out.
    pub(super) fn push(&mut self, time: i64, value: C) {
        // NaN alone does not compare with itself.
        if value.partial_cmp(&value).is_none() {
            return;
        }
        match &mut self.stretch {
            Some(Stretch { growth, end_us }) if time >= growth.last.0 && time <= *end_us => {
                *growth = growth.then(Growth::begin((time, value)));
            }
            _ => self.begin(time, value),
        }
    }

    /// Adds a point that does not continue the current stretch.
    fn begin(&mut self, time: i64, value: C) {
        let point = Growth::begin((time, value));
        let section = self.sections.as_ref().map(|sections| sections.of(time));
        if let Some(section) = section.filter(|section| section.is_ordered) {
            let stretch = self.stretch.replace(Stretch { growth: point, end_us: section.end_us });
            self.runs.extend(stretch.map(|ended| Run::of_ends(ended.growth)));
            return;
        }
        if self.loose.len() == RUN_POINTS_MAX {
            self.pack();
        }
        self.loose.push((time, value));
        self.follow(point);
    }

    /// Takes what comes behind all others into the summary.
    fn follow(&mut self, later: Growth<C>) {
        match self.sum {
            _ if self.is_unsummed => {}
            None => self.sum = Some(later),
            Some(growth) if growth.overlaps(&later) => self.is_unsummed = true,
            Some(growth) => self.sum = Some(growth.then(later)),
        }
    }

    /// What all points together say; `None` without points.
    pub(super) fn growth(&mut self) -> Result<Option<Growth<C>>, Disorder> {
        if !self.is_unsummed {
            return Ok(self.sum);
        }
        self.sort();
        let mut whole: Option<Growth<C>> = None;
        let mut rest = &*self.runs;
        while let Some((tangle, later)) = split_tangle(rest) {
            let part = match tangle {
                [run] => Some(run.growth),
                runs => Growth::of(&untangle(runs)?),
            };
            whole = whole.zip(part).map(|(whole, part)| whole.then(part)).or(whole).or(part);
            rest = later;
        }
        Ok(whole)
    }

    /// All points in the order of time.
    pub(super) fn sorted(&mut self) -> Sorted<'_, C> {
        self.sort();
        Sorted { runs: &self.runs }
    }

    /// All points as bytes, leaving none here.
    pub(super) fn write(&mut self) -> Vec<u8> {
        self.close();
        let mut bytes = Vec::with_capacity(1 + self.packed_bytes + self.runs.len() * size_of::<Run<C>>());
        bytes.push(STATE_VERSION);
        for run in &self.runs {
            run.write(&mut bytes);
        }
        self.runs.clear();
        self.packed_bytes = 0;
        self.sum = None;
        self.is_unsummed = self.sections.is_some();
        bytes
    }

    /// Adds the points that [`Course::write`] gave.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        let (version, mut bytes) = bytes.split_first().ok_or(Unreadable::Broken)?;
        if *version != STATE_VERSION {
            return Err(Unreadable::Version(*version));
        }
        while !bytes.is_empty() {
            let run = Run::read(&mut bytes).ok_or(Unreadable::Broken)?;
            self.follow(run.growth);
            self.push_run(run);
        }
        Ok(())
    }

    /// What all points together say, as bytes that [`Course::read`] takes for the two ends without what is between.
    pub(super) fn write_ends(&mut self) -> Result<Option<Vec<u8>>, Disorder> {
        let Some(growth) = self.growth()? else { return Ok(None) };
        let mut bytes = vec![STATE_VERSION];
        Run::of_ends(growth).write(&mut bytes);
        Ok(Some(bytes))
    }

    /// Memory it takes.
    pub(super) fn size(&self) -> usize {
        self.packed_bytes + self.runs.capacity() * size_of::<Run<C>>() + self.loose.capacity() * size_of::<Point<C>>()
    }

    /// Turns all that it has into runs, in the order of time.
    fn sort(&mut self) {
        self.close();
        self.runs.sort_by(|one, other| one.growth.by_time(&other.growth));
    }

    /// Turns all that it has into runs.
    fn close(&mut self) {
        if let Some(ended) = self.stretch.take() {
            self.runs.push(Run::of_ends(ended.growth));
        }
        self.pack();
    }

    fn pack(&mut self) {
        let mut loose = std::mem::take(&mut self.loose);
        // Fast where they are in order already, as a whole or in stretches.
        loose.sort_by(|a, b| order(*a, *b));
        let sections = self.sections.clone();
        // Between two sections whose points are all kept, there may be one of which only the ends are.
        let section = |point: &Point<C>| sections.as_ref().map(|sections| sections.of(point.0));
        for points in loose.chunk_by(|a, b| sections.is_none() || section(a) == section(b)) {
            if let Some(run) = Run::pack(points) {
                self.push_run(run);
            }
        }
        loose.clear();
        self.loose = loose;
    }

    fn push_run(&mut self, run: Run<C>) {
        self.packed_bytes += run.packed.len();
        self.runs.push(run);
    }
}

/// Runs that overlap each other, and the later ones.
type Parted<'a, C> = (&'a [Run<C>], &'a [Run<C>]);

/// Of sorted runs: the first ones, up to where no run overlaps the ones before, and the rest. `None` without runs.
fn split_tangle<C: Counter>(runs: &[Run<C>]) -> Option<Parted<'_, C>> {
    let mut end_us = runs.first()?.growth.last.0;
    let overlapping = runs.iter().skip(1).take_while(|run| {
        let overlaps = run.growth.first.0 < end_us;
        end_us = end_us.max(run.growth.last.0);
        overlaps
    });
    let count = 1 + overlapping.count();
    Some(runs.split_at(count))
}

/// The points of runs that overlap, in order.
fn untangle<C: Counter>(runs: &[Run<C>]) -> Result<Vec<Point<C>>, Disorder> {
    if !runs.iter().all(Run::has_points) {
        return Err(Disorder);
    }
    let mut points = Vec::new();
    runs.iter().for_each(|run| run.unpack(&mut points));
    points.sort_by(|a, b| order(*a, *b));
    Ok(points)
}

/// A course in the order of time.
#[derive(Debug)]
pub(super) struct Sorted<'a, C> {
    runs: &'a [Run<C>],
}

impl<'a, C: Counter> Sorted<'a, C> {
    /// Its points, of which a few are unpacked at a time.
    pub(super) fn points(&self) -> Points<'a, C> {
        Points { runs: self.runs, points: Vec::new().into_iter() }
    }
}

/// The points of a course in the order of time.
#[derive(Debug)]
pub(super) struct Points<'a, C> {
    /// Not unpacked yet.
    runs: &'a [Run<C>],
    points: std::vec::IntoIter<Point<C>>,
}

impl<C: Counter> Iterator for Points<'_, C> {
    /// An error if only the ends of some run are known.
    type Item = Result<Point<C>, Disorder>;

    fn next(&mut self) -> Option<Result<Point<C>, Disorder>> {
        loop {
            if let Some(point) = self.points.next() {
                return Some(Ok(point));
            }
            let (tangle, rest) = split_tangle(self.runs)?;
            self.runs = rest;
            match untangle(tangle) {
                Ok(points) => self.points = points.into_iter(),
                Err(disorder) => return Some(Err(disorder)),
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::sections::Piece;
    use super::*;

    const HOUR_US: i64 = 3_600_000_000;

    /// The increase as the documentation defines it.
    fn naive(points: &[(i64, i64)]) -> Option<(i64, i64, i64)> {
        let mut points = points.to_vec();
        points.sort_unstable();
        let steps =
            points.windows(2).map(|pair| if pair[1].1 < pair[0].1 { pair[1].1.max(0) } else { pair[1].1 - pair[0].1 });
        Some((points.first()?.0, points.last()?.0, steps.sum()))
    }

    fn told<C: Counter>(course: &mut Course<C>) -> Option<(i64, i64, C)> {
        course.growth().unwrap().map(|growth| (growth.first.0, growth.last.0, growth.increase))
    }

    fn clashes(points: &[(i64, i64)]) -> bool {
        let mut points = points.to_vec();
        points.sort_unstable();
        points.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1)
    }

    /// So many random courses as `KYMO_COURSES` says, or 200.
    pub(in super::super) fn config() -> ProptestConfig {
        let cases = std::env::var("KYMO_COURSES").ok().and_then(|cases| cases.parse().ok());
        ProptestConfig::with_cases(cases.unwrap_or(200))
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
        #![proptest_config(config())]

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
                prop_assert!(whole.read(&part.write()).is_ok());
                prop_assert!(floating.read(&float.write()).is_ok());
            }
            prop_assert_eq!(whole.growth().unwrap().is_some_and(|growth| growth.clash.is_some()), clashes(&points));
            if !clashes(&points) {
                prop_assert_eq!(told(&mut whole), naive(&points));
                let expected = naive(&points).map(|(from, to, increase)| (from, to, increase as f64));
                prop_assert_eq!(told(&mut floating), expected);
            }
            let mut sorted = points;
            sorted.sort_unstable();
            let mut told = whole.sorted().points().collect::<Result<Vec<_>, _>>().unwrap();
            prop_assert!(told.is_sorted_by_key(|point| point.0));
            told.sort_unstable();
            prop_assert_eq!(told, sorted);
        }

        /// Files in order, which may overlap and lie in any order, shared by threads whose states come in any order.
        #[test]
        fn the_ends_of_runs_suffice_where_files_do_not_overlap(
            points in points(),
            sizes in prop::collection::vec(1..25_usize, 60),
            overlapping in prop::collection::vec(prop::bool::weighted(0.2), 60),
            places in prop::collection::vec(0..60_usize, 60),
            (threads, swapped) in (1..5_usize, prop::bool::ANY),
        ) {
            let mut sorted = points.clone();
            sorted.sort_unstable();
            // A file has the points of some time, and perhaps some of the file before.
            let mut files: Vec<Vec<(i64, i64)>> = Vec::new();
            let mut rest = &*sorted;
            for (size, overlaps) in sizes.iter().zip(&overlapping) {
                let (mut file, later) = rest.split_at(*size.min(&rest.len()));
                rest = later;
                if let Some(before) = files.last_mut().filter(|before| *overlaps && before.len() > 2) {
                    let taken = before.split_off(before.len() / 2);
                    let (kept, given) = taken.into_iter().enumerate().partition::<Vec<_>, _>(|(at, _)| at % 2 == 0);
                    before.extend(kept.into_iter().map(|(_, point)| point));
                    let mut mixed: Vec<_> = given.into_iter().map(|(_, point)| point).chain(file.iter().copied()).collect();
                    mixed.sort_unstable();
                    files.push(mixed);
                    file = &[];
                }
                if !file.is_empty() {
                    files.push(file.to_vec());
                }
            }
            if swapped {
                for (at, to) in places.iter().enumerate().take(files.len()) {
                    let to = to % files.len();
                    files.swap(at, to);
                }
            }
            let pieces: Vec<Piece> = files.iter().enumerate().map(|(place, file)| {
                Piece { host: None, place, times: (file[0].0, file[file.len() - 1].0) }
            }).collect();
            let sections = Arc::new(Sections::of_pieces(&pieces));
            // Each thread reads some files one after the other, and the first and last of them perhaps in part.
            let rows: Vec<(i64, i64)> = files.concat();
            let mut states: Vec<Vec<u8>> = rows.chunks(rows.len().div_ceil(threads).max(1)).map(|rows| {
                let mut course = Course::in_sections(Arc::clone(&sections));
                rows.iter().for_each(|(time, value)| course.push(*time, *value));
                course.write()
            }).collect();
            states.reverse();
            let mut whole = Course::<i64>::default();
            states.iter().for_each(|state| whole.read(state).unwrap());
            let growth = whole.growth();
            prop_assert!(growth.is_ok());
            prop_assert_eq!(growth.unwrap().is_some_and(|growth| growth.clash.is_some()), clashes(&points));
            if !clashes(&points) {
                prop_assert_eq!(told(&mut whole), naive(&points));
            }
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
            let _ = course.sorted().points().take(1_000).count();
        }
    }

    #[test]
    fn a_day_in_order_has_a_small_state() {
        let piece = |(place, start)| Piece { host: None, place, times: (start, start + HOUR_US) };
        let pieces: Vec<Piece> = (0..24_i64).map(|hour| hour * HOUR_US).enumerate().map(piece).collect();
        let mut course = Course::in_sections(Arc::new(Sections::of_pieces(&pieces)));
        let ticks = 864_000;
        for tick in 0..ticks {
            course.push(tick * 24 * HOUR_US / ticks, 7 * tick);
        }
        let state = course.write();
        assert!(state.len() <= 1_024, "{} bytes", state.len());
        let mut read = Course::<i64>::default();
        read.read(&state).unwrap();
        let growth = read.growth().unwrap().unwrap();
        assert_eq!((growth.increase, growth.count), (7 * (ticks - 1), ticks.cast_unsigned()));
    }

    #[test]
    fn rows_in_an_order_that_they_should_not_have_are_told() {
        let mut course = Course::in_sections(Arc::new(Sections::of_pieces(&[])));
        for (time, value) in [(1, 1), (2, 2), (9, 3), (3, 4), (4, 5), (5, 6)] {
            course.push(time, value);
        }
        assert_eq!(course.growth().err(), Some(Disorder));
    }

    #[test]
    fn a_state_of_another_version_is_refused() {
        assert_eq!(Course::<i64>::default().read(&[9, 0]), Err(Unreadable::Version(9)));
        assert_eq!(Course::<i64>::default().read(&[]), Err(Unreadable::Broken));
    }

    #[test]
    fn a_regular_counter_takes_few_bytes_a_point() {
        let mut course = Course::<i64>::default();
        let many = 1_000_000_i64;
        for tick in 0..many {
            course.push(1_704_067_200_000_000 + 1_000 * tick + tick % 50, 1_500 * tick);
        }
        let growth = course.growth().unwrap().unwrap();
        assert_eq!(growth.increase, 1_500 * (many - 1));
        assert!(course.size() < 5 * 1_000_000, "{} bytes", course.size());
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut course = Course::<f64>::default();
        for (time, value) in [(1, 5.0), (2, f64::NAN), (3, 7.5)] {
            course.push(time, value);
        }
        let growth = course.growth().unwrap().unwrap();
        assert_eq!((growth.increase, growth.last.0), (2.5, 3));
    }
}
