//! Runs of a counter's points: all points, packed into a few bytes each, or their ends only.

use super::growth::{Counter, Growth, Point, order};

/// Runs overlap of which only the ends are known: some rows were not in the order in which the plan expected them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disorder;

/// Points in order.
#[derive(Debug)]
pub(super) struct Run<C> {
    pub(super) growth: Growth<C>,
    /// The points after the first, as differences of time and value to the point before. Empty if only the ends are kept.
    pub(super) packed: Box<[u8]>,
}

impl<C: Counter> Run<C> {
    /// Keeps the ends only.
    pub(super) fn of_ends(growth: Growth<C>) -> Run<C> {
        Run { growth, packed: Box::default() }
    }

    /// Whether all its points are known.
    pub(super) fn has_points(&self) -> bool {
        self.growth.count <= 2 || !self.packed.is_empty()
    }

    /// Packs ordered points; `None` without points.
    pub(super) fn pack(points: &[Point<C>]) -> Option<Run<C>> {
        let growth = Growth::of(points)?;
        let mut packed = Vec::with_capacity(4 * points.len());
        for pair in points.windows(2) {
            push_number(&mut packed, pair[1].0.wrapping_sub(pair[0].0).cast_unsigned());
            let difference = pair[1].1.bits().wrapping_sub(pair[0].1.bits()).cast_signed();
            push_number(&mut packed, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
        }
        Some(Run { growth, packed: packed.into() })
    }

    pub(super) fn unpack(&self, points: &mut Vec<Point<C>>) {
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

    pub(super) fn write(&self, to: &mut Vec<u8>) {
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
    pub(super) fn read(bytes: &mut &[u8]) -> Option<Run<C>> {
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

/// Runs that overlap each other, and the later ones.
pub(super) type Parted<'a, C> = (&'a [Run<C>], &'a [Run<C>]);

/// Of sorted runs: the first ones, up to where no run overlaps the ones before, and the rest. `None` without runs.
pub(super) fn split_tangle<C: Counter>(runs: &[Run<C>]) -> Option<Parted<'_, C>> {
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
pub(super) fn untangle<C: Counter>(runs: &[Run<C>]) -> Result<Vec<Point<C>>, Disorder> {
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
    /// Of runs in the order of their first times.
    pub(super) fn of(runs: &'a [Run<C>]) -> Sorted<'a, C> {
        Sorted { runs }
    }

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
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
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
    }
}
