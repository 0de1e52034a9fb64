//! The course of a counter over time: points in any order, kept in little memory.
//!
//! Where the plan knows that rows come in the order of time and that no other thread has rows in between
//! ([`Sections`]), a run of points is kept as its first and last point, its increase and its count. Elsewhere a late point may
//! lie between any two others, so all points are kept, packed into a few bytes each. The increase of such a run holds if no
//! other run overlaps, which is checked at the end.

use std::sync::Arc;

use super::growth::{Counter, Growth, Point, order};
use super::run::{Disorder, Run, Sorted, split_tangle, untangle};
use super::sections::Sections;

/// Points in a packed run: so many that the size of its head does not matter.
const RUN_POINTS_MAX: usize = 4_096;
/// The first byte of a course as bytes. Another version is another layout.
const STATE_VERSION: u8 = 1;

/// Why bytes are no course.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the state of a counter has version {0}, and this program reads version {STATE_VERSION}")]
    Version(u8),
    #[error("the state of a counter is broken")]
    Broken,
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
        Sorted::of(&self.runs)
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

#[cfg(test)]
pub(super) mod tests;
