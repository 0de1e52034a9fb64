//! The tiers of one table, up to one of its rows: what of them no file has.
//!
//! A row of a tier is a run of a series' rows, in the order in which they were recorded, that fall into one bucket. So rows are
//! taken once, in that order, and each series has one second and one minute that have not ended. When its next row is in
//! another bucket, the bucket has ended. A clock that was set back begins another run of a bucket that ended before: then the
//! bucket has two rows, whose counts and increases add up. Things that follow each other under the same labels, such as processes,
//! are series of their own (`Role::Identity`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Int64Type, Schema};
use arrow::error::ArrowError;

use super::super::hot::{self, HotBatch, times};
use super::column::{Column, Place};
use super::course::{Courses, Step};
use super::number::Number;
use super::series::{Key, Series, identity_array};
use crate::batch::columns;
use crate::family::FamilyId;
use crate::family::tables::TableId;
use crate::record::tier::{Tier, width_of};
use crate::record::{Record, Role, Table};
use crate::sampler::report::Gap;

/// A bucket of a series without further rows ends so long after its end: several collectors may write one table.
pub(in crate::store) const OVERLAP_US_MAX: i64 = 10_000_000;
/// A series that has had no row for so long begins anew: its next row has no step from the last one.
const UNSEEN_US_MAX: i64 = 24 * 3_600_000_000;
/// Of series without an open bucket so many are remembered, the last seen.
const IDLE_SERIES_MAX: usize = 1_024;
/// Buckets that have ended wait until they are so many, or span so much time: by tier.
const FILE_ROWS_MIN: usize = 512;
const WAITING_US_MAX: [i64; 2] = [540_000_000, 1_620_000_000];
/// Missed ticks are remembered for so many seconds.
const MISSED_SECONDS_MAX: usize = 3_600;

/// The tiers of a table up to one of its rows, as far as no file has them.
#[derive(Clone, Debug)]
pub struct Buckets {
    pub(super) family: FamilyId,
    /// Rows before this are in.
    pub(super) end_seq: u64,
    /// Rows of `gap` before this are in `missed`.
    pub(super) gap_end_seq: u64,
    /// The sequence number of each tier's next row in a file.
    pub(in crate::store) next_seqs: [u64; 2],
    /// The collector that samples the table; empty until it is known.
    pub(super) collector: Arc<str>,
    /// Whether the table has rows often enough for seconds.
    pub(in crate::store) has_seconds: bool,
    /// Ticks that the collector missed, by the second of the tick after them, µs; `None` until its collector is known.
    pub(super) missed: Option<BTreeMap<i64, i64>>,
    /// The hosts of the rows; the last is that of the open buckets.
    pub(super) hosts: Vec<Arc<str>>,
    pub(super) series: Series,
    /// By series.
    pub(super) runs: Vec<Run>,
    pub(super) columns: Vec<Column>,
    /// By tier: buckets that have ended.
    pub(super) ended: [Vec<Head>; 2],
}

/// Rows of a tier: their host, the rows in the order of time, and the first and last `time`.
pub type Part = (Arc<str>, RecordBatch, (i64, i64));

/// The open buckets of a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// When its last row was; [`NEVER`] before its first one.
    pub(super) seen_us: i64,
    pub(super) second: i64,
    pub(super) in_second: Taken,
    pub(super) minute: i64,
    /// Of seconds that have ended.
    pub(super) in_minute: Taken,
}

const NEVER: i64 = i64::MIN;

/// What a bucket has of all columns of a series together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    /// Its rows.
    pub(super) ticks: i64,
    /// The time of the steps to them, µs.
    pub(super) elapsed_us: i64,
}

impl Taken {
    fn plus(self, other: Taken) -> Taken {
        Taken { ticks: self.ticks + other.ticks, elapsed_us: self.elapsed_us.saturating_add(other.elapsed_us) }
    }
}

/// A bucket that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) start: i64,
    pub(super) key: Key,
    pub(super) taken: Taken,
    pub(super) missed: Option<i64>,
    /// Its position in `hosts`.
    pub(super) host: usize,
}

impl Run {
    /// Of a series without rows.
    const EMPTY: Run = Run {
        seen_us: NEVER,
        second: 0,
        in_second: Taken { ticks: 0, elapsed_us: 0 },
        minute: 0,
        in_minute: Taken { ticks: 0, elapsed_us: 0 },
    };

    fn is_open(&self) -> bool {
        self.in_second.ticks > 0 || self.in_minute.ticks > 0
    }
}

impl Buckets {
    /// Of a table whose rows are taken from `end_seq` on.
    #[must_use]
    pub fn new(family: FamilyId, end_seq: u64, next_seqs: [u64; 2]) -> Buckets {
        Buckets {
            family,
            end_seq,
            gap_end_seq: 0,
            next_seqs,
            collector: "".into(),
            has_seconds: false,
            missed: None,
            hosts: Vec::new(),
            series: Series::default(),
            runs: Vec::new(),
            columns: family.table.values().filter_map(|(at, column)| Column::new(at, column)).collect(),
            ended: [Vec::new(), Vec::new()],
        }
    }

    /// Of rows that are read from files, to compare.
    pub(in crate::store) fn of_files(family: FamilyId) -> Buckets {
        Buckets { has_seconds: true, ..Buckets::new(family, 0, [0; 2]) }
    }

    /// The sequence number of the next row to take.
    #[must_use]
    pub fn end_seq(&self) -> u64 {
        self.end_seq
    }

    /// Says that a collector samples the table, and whether often enough for seconds.
    pub(super) fn set_source(&mut self, collector: &Arc<str>, has_seconds: bool) {
        self.collector = Arc::clone(collector);
        self.missed.get_or_insert_default();
        if !has_seconds {
            self.has_seconds = false;
        } else if !self.has_seconds && self.ended[Tier::Second as usize].is_empty() {
            // There were rows without seconds. Those that still wait for their file are from before these rows.
            self.next_seqs[Tier::Second as usize] += u64::from(self.end_seq > 0);
            self.has_seconds = true;
        }
    }

    /// Whether the rows of a tier go on.
    pub(in crate::store) fn goes_on(&self, tier: Tier) -> bool {
        tier != Tier::Second || self.has_seconds
    }

    /// Takes the ticks that a collector missed, of rows of `gap`.
    pub(super) fn take_gaps(&mut self, gaps: &[Arc<HotBatch>]) {
        let Some(missed) = &mut self.missed else { return };
        for gaps in gaps {
            let Some(gaps) = hot::from(gaps, self.gap_end_seq) else { continue };
            self.gap_end_seq = gaps.end_seq();
            each_missed(&gaps.batch, &self.collector, |to_us, lost| {
                *missed.entry(Tier::Second.bucket(to_us)).or_default() += lost;
            });
        }
        while missed.len() > MISSED_SECONDS_MAX {
            missed.pop_first();
        }
    }

    /// Takes rows that are not in yet. They follow those that are.
    pub(super) fn take(&mut self, rows: &[Arc<HotBatch>]) {
        for rows in rows {
            let Some(rows) = hot::from(rows, self.end_seq) else { continue };
            self.end_seq = rows.end_seq();
            self.fold(&rows.host, &rows.batch);
        }
    }

    /// Takes the rows of a batch.
    pub(in crate::store) fn fold(&mut self, host: &Arc<str>, batch: &RecordBatch) {
        if self.hosts.last() != Some(host) {
            self.end_where(|_, _| true);
            self.keep_series(&[]);
            self.hosts.push(Arc::clone(host));
        }
        let slots = self.series.slots(self.family.table, batch);
        let count = self.series.len();
        self.runs.resize(count, Run::EMPTY);
        self.columns.iter_mut().for_each(|column| column.resize(count));
        let courses = Courses::new(&slots, count, times(batch), |slot, times, spans| self.take_run(slot, times, spans));
        for column in &mut self.columns {
            column.fold(&courses, batch.column(column.at), self.has_seconds);
        }
    }

    /// Takes the first of these rows of a series, as far as they are in one second. Adds to `spans` how long after the row before each of
    /// them is, seconds, and returns what ends before them. The columns are yet to follow.
    fn take_run(&mut self, slot: u32, times: &[i64], spans: &mut Vec<f64>) -> Step {
        let mut step = Step { slot, ends_second: false, ends_minute: false };
        let (Some(run), Some(first)) = (self.runs.get(slot as usize).copied(), times.first().copied()) else {
            return step;
        };
        let is_within =
            |second: i64, time: i64| (second..second.saturating_add(Tier::Second.width_us())).contains(&time);
        let is_begun = run.in_second.ticks > 0;
        let goes_on = is_begun && is_within(run.second, first);
        if !goes_on {
            let ends_minute = run.is_open() && run.minute != Tier::Minute.bucket(first);
            step = Step { slot, ends_second: is_begun, ends_minute };
            self.end_run(step);
        }
        let Some(run) = self.runs.get_mut(slot as usize) else { return step };
        if !goes_on {
            (run.second, run.minute) = (Tier::Second.bucket(first), Tier::Minute.bucket(first));
        }
        // The first one is, if it is not the last microsecond that there is.
        let count = 1 + times.iter().skip(1).take_while(|time| is_within(run.second, **time)).count();
        let mut before = if run.seen_us == NEVER { first } else { run.seen_us };
        let mut taken = Taken { ticks: i64::try_from(count).unwrap_or(i64::MAX), elapsed_us: 0 };
        spans.extend(times.iter().take(count).map(|time| {
            // The wall clock may have been set back.
            let elapsed_us = time.saturating_sub(std::mem::replace(&mut before, *time)).max(0);
            taken.elapsed_us = taken.elapsed_us.saturating_add(elapsed_us);
            elapsed_us as f64 / 1e6
        }));
        run.seen_us = before;
        run.in_second = run.in_second.plus(taken);
        step
    }

    /// Ends buckets that no row comes to any more, as of `now` (µs), and forgets series that are gone.
    pub(in crate::store) fn end_stale(&mut self, now: i64) {
        self.end_where(|start, tier| {
            let end = start.saturating_add(tier.width_us());
            end.saturating_add(OVERLAP_US_MAX) <= now || start >= now.saturating_add(OVERLAP_US_MAX)
        });
        let mut idle: Vec<usize> = (0..self.runs.len()).filter(|slot| !self.runs[*slot].is_open()).collect();
        idle.sort_by_key(|slot| Reverse(self.runs[*slot].seen_us));
        let oldest = now.saturating_sub(UNSEEN_US_MAX);
        let is_known =
            |(place, slot): &(usize, &usize)| *place < IDLE_SERIES_MAX && self.runs[**slot].seen_us >= oldest;
        let known: Vec<usize> = idle.iter().enumerate().filter(is_known).map(|(_, slot)| *slot).collect();
        if known.len() < idle.len() {
            let open = (0..self.runs.len()).filter(|slot| self.runs[*slot].is_open());
            let mut kept: Vec<usize> = open.chain(known).collect();
            kept.sort_unstable();
            self.keep_series(&kept);
        }
    }

    /// The rows of a tier that have ended, by host, each in the order of time.
    pub(in crate::store) fn ended_rows(&self, tier: Tier) -> Result<Vec<Part>, ArrowError> {
        let Some(table) = TableId::of_tier(self.family, tier) else { return Ok(Vec::new()) };
        let all: Vec<usize> = (0..table.table().columns.len()).collect();
        self.rows(table, &all, false)
    }

    /// Forgets the rows of a tier that have ended: a file has them.
    pub(in crate::store) fn forget_ended(&mut self, tier: Tier) {
        self.next_seqs[tier as usize] += self.ended[tier as usize].len() as u64;
        self.ended[tier as usize].clear();
        self.columns.iter_mut().for_each(|column| column.forget_ended(tier));
        if self.ended.iter().all(Vec::is_empty) && self.hosts.len() > 1 {
            self.hosts.drain(..self.hosts.len() - 1);
        }
    }

    /// Whether the buckets of a tier that have ended are worth a file: it takes more for its columns than for some rows.
    pub(super) fn is_due(&self, tier: Tier) -> bool {
        let ended = &self.ended[tier as usize];
        let times = || ended.iter().map(|head| head.start);
        let span_us = times().max().zip(times().min()).map_or(0, |(last, first)| last.saturating_sub(first));
        ended.len() >= FILE_ROWS_MIN
            || span_us >= WAITING_US_MAX[tier as usize]
            || !self.goes_on(tier) && !ended.is_empty()
    }

    /// Gives up the buckets of a tier that have ended, if they are more than `ended_max`. Returns how many.
    pub(super) fn give_up_beyond(&mut self, tier: Tier, ended_max: usize) -> usize {
        let count = self.ended[tier as usize].len();
        if count <= ended_max {
            return 0;
        }
        self.forget_ended(tier);
        count
    }

    /// The rows of a tier that no file has, with the columns `wanted` of its table: those of the buckets that are kept here, and
    /// of rows that are not in yet, with the rows of `gap` beside them. By host, each in the order of time.
    ///
    /// # Errors
    /// When the columns do not fit together, which would be a bug.
    pub fn with(
        &self,
        rows: &[Arc<HotBatch>],
        gaps: &[Arc<HotBatch>],
        tier: TableId,
        wanted: &[usize],
    ) -> Result<Vec<Part>, ArrowError> {
        let sources = sources(self.family.table);
        let mut buckets = Buckets {
            columns: Vec::new(),
            series: self.series.clone(),
            collector: Arc::clone(&self.collector),
            hosts: self.hosts.clone(),
            missed: self.missed.clone(),
            runs: self.runs.clone(),
            ended: self.ended.clone(),
            ..*self
        };
        let is_wanted = |column: &&Column| wanted.iter().any(|at| sources.get(*at) == Some(&Some(column.at)));
        buckets.columns = self.columns.iter().filter(is_wanted).cloned().collect();
        buckets.take_gaps(gaps);
        buckets.take(rows);
        buckets.rows(tier, wanted, true)
    }

    fn rows(&self, tier: TableId, wanted: &[usize], with_open: bool) -> Result<Vec<Part>, ArrowError> {
        let (table, Some(width)) = (tier.table(), tier.tier()) else { return Ok(Vec::new()) };
        let ended = self.ended[width as usize].iter().enumerate().map(|(at, head)| (*head, Place::Ended(at)));
        let open = (0..self.runs.len()).filter(|_| with_open).filter_map(|slot| self.open_head(width, slot));
        let mut all: Vec<(Head, Place)> = ended.chain(open).collect();
        all.sort_by_key(|(head, _)| (head.host, head.start));
        let schema = table.schema();
        let fields: Vec<_> = wanted.iter().filter_map(|at| schema.fields().get(*at).cloned()).collect();
        let schema = Arc::new(Schema::new(fields));
        let mut parts = Vec::new();
        for part in all.chunk_by(|(one, _), (next, _)| one.host == next.host) {
            let arrays = self.arrays(width, part);
            let columns = wanted.iter().filter_map(|at| arrays.get(*at).cloned().flatten()).collect();
            let count = RecordBatchOptions::new().with_row_count(Some(part.len()));
            let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &count)?;
            let (Some((first, _)), Some((last, _))) = (part.first(), part.last()) else { continue };
            let host = self.hosts.get(first.host).cloned().unwrap_or_else(|| "".into());
            parts.push((host, batch, (first.start, last.start)));
        }
        Ok(parts)
    }

    /// The columns of these rows, by their position in the tier's table; `None` for those that are not here.
    fn arrays(&self, tier: Tier, rows: &[(Head, Place)]) -> Vec<Option<ArrayRef>> {
        let (keys, places): (Vec<Key>, Vec<Place>) = rows.iter().map(|(head, place)| (head.key, *place)).unzip();
        let starts: Vec<i64> = rows.iter().map(|(head, _)| head.start).collect();
        let mut arrays = vec![Some(columns::times(starts.into()))];
        let labels = self.family.table.labels().count();
        arrays.extend(self.series.label_arrays(labels, &keys).into_iter().map(Some));
        let mut identities = 0;
        for (at, column) in self.family.table.values() {
            if column.role == Role::Identity {
                arrays.push(Some(identity_array(identities, &keys)));
                identities += 1;
                continue;
            }
            match self.columns.iter().find(|column| column.at == at) {
                Some(column) => arrays.extend(column.arrays(tier, &places).into_iter().map(Some)),
                None => arrays.extend((0..width_of(column)).map(|_| None)),
            }
        }
        let numbers: [fn(&Head) -> Option<i64>; 3] =
            [|head| Some(head.taken.ticks), |head| head.missed, |head| Some(head.taken.elapsed_us)];
        arrays.extend(numbers.map(|number| Some(i64::array(rows.iter().map(|(head, _)| number(head))))));
        arrays
    }

    /// The open bucket of a series.
    fn open_head(&self, tier: Tier, slot: usize) -> Option<(Head, Place)> {
        let run = self.runs.get(slot)?;
        let (start, taken) = match tier {
            Tier::Second if !self.has_seconds => return None,
            Tier::Second => (run.second, run.in_second),
            Tier::Minute => (run.minute, run.in_minute.plus(run.in_second)),
        };
        (taken.ticks > 0).then(|| (self.head(tier, slot, start, taken), Place::Open(slot)))
    }

    fn head(&self, tier: Tier, slot: usize, start: i64, taken: Taken) -> Head {
        let of = |missed: &BTreeMap<i64, i64>| {
            missed.range(start..start.saturating_add(tier.width_us())).map(|(_, lost)| lost).sum()
        };
        let missed = self.missed.as_ref().map(of);
        Head { start, key: self.series.key(slot), taken, missed, host: self.hosts.len().saturating_sub(1) }
    }

    /// Ends buckets of a series, but not yet in the columns.
    fn end_run(&mut self, step: Step) {
        let slot = step.slot as usize;
        let Some(mut run) = self.runs.get(slot).copied() else { return };
        if step.ends_second {
            if self.has_seconds {
                let head = self.head(Tier::Second, slot, run.second, run.in_second);
                self.ended[Tier::Second as usize].push(head);
            }
            run.in_minute = run.in_minute.plus(run.in_second);
            run.in_second = Taken::default();
        }
        if step.ends_minute {
            let head = self.head(Tier::Minute, slot, run.minute, run.in_minute);
            self.ended[Tier::Minute as usize].push(head);
            run.in_minute = Taken::default();
        }
        self.runs[slot] = run;
    }

    /// Ends the open buckets of which `is_over` says so by their start.
    fn end_where(&mut self, is_over: impl Fn(i64, Tier) -> bool) {
        for (slot, run) in self.runs.clone().into_iter().enumerate() {
            let ends_minute = run.is_open() && is_over(run.minute, Tier::Minute);
            let ends_second = run.in_second.ticks > 0 && (ends_minute || is_over(run.second, Tier::Second));
            let Ok(slot) = u32::try_from(slot) else { continue };
            if ends_second || ends_minute {
                let step = Step { slot, ends_second, ends_minute };
                self.end_run(step);
                self.columns.iter_mut().for_each(|column| column.end(step, self.has_seconds));
            }
        }
    }

    /// Keeps these series only, and the texts of their labels and of the buckets that have ended.
    fn keep_series(&mut self, kept: &[usize]) {
        let before = std::mem::take(&mut self.series);
        let labels = self.family.table.labels().count();
        let renumber = |series: &mut Series, mut key: Key| {
            key.labels.iter_mut().take(labels).for_each(|part| *part = series.intern(before.text(*part)));
            key
        };
        for slot in kept {
            let key = renumber(&mut self.series, before.key(*slot));
            self.series.slot(key);
        }
        for head in self.ended.iter_mut().flatten() {
            head.key = renumber(&mut self.series, head.key);
        }
        self.runs = kept.iter().filter_map(|slot| self.runs.get(*slot).copied()).collect();
        self.columns.iter_mut().for_each(|column| column.keep_series(kept));
    }
}

/// For each column of a tier's table the column of its rows' table that it is made of, if it is made of one.
fn sources(table: &Table) -> Vec<Option<usize>> {
    let none = std::iter::repeat_n(None, 1 + table.labels().count());
    none.chain(table.values().flat_map(|(at, column)| std::iter::repeat_n(Some(at), width_of(column)))).collect()
}

/// Tells the missed ticks of a collector: when the tick after them was, and how many.
fn each_missed(gaps: &RecordBatch, collector: &str, mut tell: impl FnMut(i64, i64)) {
    let column = |name: &str| Gap::TABLE.column(name).map(|(at, _)| gaps.column(at));
    let text = |name: &str| arrow::compute::cast(column(name)?, &arrow::datatypes::DataType::Utf8).ok();
    let (Some(collectors), Some(reasons)) = (text("collector"), text("reason")) else { return };
    let (Some(to_us), Some(lost)) = (column("to_us"), column("lost")) else { return };
    let (to_us, lost) = (to_us.as_primitive::<Int64Type>(), lost.as_primitive::<Int64Type>());
    for (row, (own, reason)) in collectors.as_string::<i32>().iter().zip(reasons.as_string::<i32>()).enumerate() {
        if own == Some(collector) && reason == Some("late") {
            tell(to_us.value(row), lost.value(row));
        }
    }
}
