//! What differs between the series of two recordings, the most surprising and largest first.

use std::collections::BTreeSet;

use super::estimate::{BLOCKS_MIN, Difference, Level, bound};
use super::recording::{Series, Things};
use super::worth::{Weight, apart_min, columns, is_stock, weight};
use crate::family::FamilyId;
use crate::record::{Column, Unit};

/// Two equal recordings have a difference named once in so many times as one over this.
const CHANCE: f64 = 0.01;
/// Estimates of each series: two of its mean, and one of its peaks.
const ESTIMATES: usize = 3;
/// The part of a level that a change of peaks has at least.
const PEAK_PART_MIN: f64 = 0.25;
/// A change of peaks is so many times as large as one of means that is told.
const PEAK_APART: f64 = 10.0;
/// The part by which peaks of equal recordings differ.
const PEAK_FLOOR: f64 = 0.05;
/// Peaks count less than means, as they follow from them.
const PEAK_RANK: f64 = 0.8;
/// Peaks are compared if both recordings have as many rows, but for this part.
const ROWS_PART: f64 = 0.2;
/// A stock differed before if so much of the difference was there at the beginning.
const BEFORE_PART: f64 = 0.5;
/// More surprise than so many times what is needed makes no change more important.
const SURPRISE_MAX: f64 = 3.0;
/// What is in one recording only is told if it did so many times what is told of a change.
const ALONE_APART: f64 = 5.0;
/// And if it was there for this part of the time.
const ALONE_PART: f64 = 0.3;

/// What of a series differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    /// Its mean.
    Mean,
    /// Its greatest values: the mean of those of the blocks.
    Peak,
    /// By how much a stock lies above its value at the beginning.
    Growth,
}

impl Figure {
    pub(super) fn name(self) -> &'static str {
        match self {
            Figure::Mean => "mean",
            Figure::Peak => "peak",
            Figure::Growth => "growth",
        }
    }
}

/// A difference that is more than noise.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) family: FamilyId,
    pub(super) thing: String,
    pub(super) column: &'static Column,
    pub(super) figure: Figure,
    pub(super) difference: Difference,
    /// The part of the level that it is.
    part: f64,
    score: f64,
}

/// Something that is in one recording only.
#[derive(Clone, Debug)]
pub(super) struct Alone {
    pub(super) family: FamilyId,
    pub(super) thing: String,
    /// Whether it is in the second one.
    pub(super) is_in_b: bool,
    /// What it did most of, with its mean; `None` if it did little.
    pub(super) most: Option<(&'static Column, f64)>,
}

/// What differs.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// By what they are of, with the most important change of each first.
    pub(super) changes: Vec<Vec<Finding>>,
    pub(super) alone: Vec<Alone>,
    /// Tables that one recording has no rows of; whether it is the first that has some.
    pub(super) unrecorded: Vec<(FamilyId, bool)>,
    /// Stocks that differed when the recordings began.
    pub(super) before: Vec<Finding>,
    /// Series that both recordings have.
    pub(super) compared: usize,
}

impl Judgement {
    /// Whether anything differs but for what was so before. A process that is in one recording only is a difference if processes were
    /// asked about: else what it did to the host counts, as any host starts some now and then.
    pub(super) fn differs(&self, is_about_processes: bool) -> bool {
        let is_process = |alone: &Alone| alone.family.table.identities().next().is_some();
        !self.changes.is_empty() || self.alone.iter().any(|alone| is_about_processes || !is_process(alone))
    }
}

/// Compares all that both have.
pub(super) fn judge(a: &Things, b: &Things) -> Judgement {
    let both = || a.iter().filter_map(|(key, of_a)| Some((key, of_a, b.get(key)?)));
    let is_compared =
        |one: &Series, other: &Series| known(&one.means) >= BLOCKS_MIN && known(&other.means) >= BLOCKS_MIN;
    let compared =
        both().flat_map(|(_, of_a, of_b)| of_a.iter().zip(of_b)).filter(|(one, other)| is_compared(one, other)).count();
    let needed = bound(compared * ESTIMATES, CHANCE);
    let mut judgement = Judgement { compared, ..Judgement::default() };
    for ((family, thing), of_a, of_b) in both() {
        let mut group = Vec::new();
        for ((column, one), other) in
            columns(*family).into_iter().zip(of_a).zip(of_b).filter(|((_, one), other)| is_compared(one, other))
        {
            let pair = Pair { family: *family, thing, column, weight: weight(*family), needed, a: one, b: other };
            let (changes, before) = pair.findings();
            group.extend(changes);
            judgement.before.extend(before);
        }
        if !group.is_empty() {
            sort(&mut group);
            judgement.changes.push(group);
        }
    }
    judgement.changes.sort_by(|one, other| score(other).total_cmp(&score(one)));
    sort(&mut judgement.before);
    judgement.tell_alone(a, b, false);
    judgement.tell_alone(b, a, true);
    judgement
}

impl Judgement {
    /// What `have` has and `lack` lacks.
    fn tell_alone(&mut self, have: &Things, lack: &Things, is_in_b: bool) {
        let tables = |things: &Things| things.keys().map(|(family, _)| *family).collect::<BTreeSet<_>>();
        let recorded = tables(lack);
        self.unrecorded.extend(tables(have).difference(&recorded).map(|family| (*family, !is_in_b)));
        let mut alone: Vec<(f64, Alone)> = Vec::new();
        for ((family, thing), series) in
            have.iter().filter(|(key, _)| recorded.contains(&key.0) && !lack.contains_key(key))
        {
            let means =
                columns(*family).into_iter().zip(series).filter_map(|(column, series)| Some((column, active(series)?)));
            let most = means.filter(|(column, _)| matches!(column.unit, Unit::Bytes | Unit::Micros));
            let most = most
                .map(|(column, mean)| (mean / apart_min(column), column, mean))
                .max_by(|one, other| one.0.total_cmp(&other.0));
            let most = most.filter(|(times, ..)| *times >= ALONE_APART);
            if most.is_some() || matches!(family.name(), "network" | "disk" | "filesystem") {
                let times = most.map_or(0.0, |(times, ..)| times);
                let most = most.map(|(_, column, mean)| (column, mean));
                alone.push((times, Alone { family: *family, thing: thing.clone(), is_in_b, most }));
            }
        }
        alone.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        self.alone.extend(alone.into_iter().map(|(_, alone)| alone));
    }
}

/// The mean of a series that was there for a good part of the time.
fn active(series: &Series) -> Option<f64> {
    let values: Vec<f64> = series.means.iter().copied().filter(|value| value.is_finite()).collect();
    let there = values.iter().filter(|value| **value > 0.0).count();
    let is_there = there as f64 >= ALONE_PART * series.means.len() as f64;
    is_there.then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn known(blocks: &[f64]) -> usize {
    blocks.iter().filter(|value| value.is_finite()).count()
}

fn score(group: &[Finding]) -> f64 {
    group.first().map_or(0.0, |finding| finding.score)
}

fn sort(findings: &mut [Finding]) {
    findings.sort_by(|one, other| other.score.total_cmp(&one.score));
}

/// One column of what both recordings have.
struct Pair<'a> {
    family: FamilyId,
    thing: &'a str,
    column: &'static Column,
    weight: Weight,
    /// The surprise that a difference has at least.
    needed: f64,
    a: &'a Series,
    b: &'a Series,
}

impl Pair<'_> {
    /// What changed, and what was different before.
    fn findings(&self) -> (Vec<Finding>, Option<Finding>) {
        let Some((levels, difference)) = self.means() else { return (Vec::new(), None) };
        let scale = larger(difference);
        let mean = self.finding(Figure::Mean, difference, scale);
        if is_stock(self.column) {
            let starts = self.a.start.zip(self.b.start).filter(|(a, b)| {
                let (before, apart) = (b - a, difference.b - difference.a);
                before * apart > 0.0 && before.abs() >= BEFORE_PART * apart.abs()
            });
            let Some((a, b)) = starts else { return (mean.into_iter().collect(), None) };
            let growth = Difference::between(levels.0.above(a), levels.1.above(b), self.weight.floor * scale);
            return (self.finding(Figure::Growth, growth, scale).into_iter().collect(), mean);
        }
        let peak = self.peaks().and_then(|peaks| {
            let finding = self.finding(Figure::Peak, peaks, larger(peaks))?;
            // Peaks that grow as means do are no news.
            let is_news = mean.as_ref().is_none_or(|mean| finding.part > 2.0 * mean.part);
            is_news.then_some(finding)
        });
        (mean.into_iter().chain(peak).collect(), None)
    }

    /// The estimate by which the means are farther apart.
    fn means(&self) -> Option<((Level, Level), Difference)> {
        let estimates = [Level::of_middle, Level::of_all].into_iter().filter_map(|level| {
            let (a, b) = (level(&self.a.means)?, level(&self.b.means)?);
            let floor = self.weight.floor * a.value.abs().max(b.value.abs());
            Some(((a, b), Difference::between(a, b, floor)))
        });
        estimates.max_by(|(_, one), (_, other)| one.surprise.total_cmp(&other.surprise))
    }

    fn peaks(&self) -> Option<Difference> {
        let density = |series: &Series| series.rows / known(&series.means).max(1) as f64;
        let (one, other) = (density(self.a), density(self.b));
        if (one - other).abs() > ROWS_PART * one.max(other) {
            return None;
        }
        let (a, b) = (Level::of_middle(&self.a.peaks)?, Level::of_middle(&self.b.peaks)?);
        Some(Difference::between(a, b, PEAK_FLOOR * a.value.abs().max(b.value.abs())))
    }

    /// The difference, if it is more than noise and worth a word. `scale` is the level that it is a part of.
    fn finding(&self, figure: Figure, difference: Difference, scale: f64) -> Option<Finding> {
        let (apart_min, part_min, rank) = match figure {
            Figure::Peak => (PEAK_APART * apart_min(self.column), PEAK_PART_MIN.max(self.weight.part_min), PEAK_RANK),
            Figure::Mean | Figure::Growth => (apart_min(self.column), self.weight.part_min, 1.0),
        };
        let apart = (difference.b - difference.a).abs();
        let part = apart / scale.max(f64::MIN_POSITIVE);
        if difference.surprise < self.needed || apart < apart_min || part < part_min {
            return None;
        }
        let surprise = (difference.surprise / self.needed).min(SURPRISE_MAX);
        let score = self.weight.rank * rank * part.min(1.0) * (apart / apart_min).ln_1p() * surprise;
        let Pair { family, thing, column, .. } = *self;
        Some(Finding { family, thing: thing.to_owned(), column, figure, difference, part, score })
    }
}

fn larger(difference: Difference) -> f64 {
    difference.a.abs().max(difference.b.abs())
}
