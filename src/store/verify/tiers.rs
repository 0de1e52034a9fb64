//! Compares tiers with the rows that they are made of, where these are still there.
//!
//! Runs of files without a missing row are folded anew, as a flush does. The first bucket of a run is left out, and so are the open
//! ones at its end. Where rows are gone, before a run or after it, the first and the last bucket of each series are left out, as these
//! may have rows that are gone. Only what a tier has as a whole is compared ([`Stretch`]), and only the columns that its file has. What
//! depends on the order in which rows were recorded is compared only if the files have that order.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::vec::IntoIter;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::super::compaction::{OVERLAP_US_MAX, open};
use super::super::conform::conform;
use super::super::hot::times;
use super::super::lake::DataFile;
use super::super::stretch::{InMemory, Stretch, of_tier};
use super::super::tier::{Buckets, SECOND_ROWS_MIN};
use super::super::writer::is_in_order;
use crate::family::FamilyId;
use crate::family::tables::TableId;
use crate::record::tier::Tier;
use crate::record::{Kind, Table};

/// What is wrong with a tier, and where.
pub(super) type Wrong = (PathBuf, String);

/// The files and open buckets of one family.
#[derive(Debug)]
pub(super) struct Tiers<'a> {
    pub(super) family: FamilyId,
    /// Of the rows.
    pub(super) files: &'a [Arc<DataFile>],
    /// Of each tier.
    pub(super) rolled: &'a [Vec<Arc<DataFile>>; 2],
    pub(super) buckets: &'a Buckets,
}

/// A bucket of a series: its labels and what else tells it apart, and when it begins.
type Key = (Vec<String>, i64);

/// A row of a batch.
type Row = (Arc<RecordBatch>, usize);

/// A bucket as its rows have it, and as its tier has it.
#[derive(Debug)]
struct Pair {
    key: Key,
    expected: Vec<Row>,
    found: Vec<Row>,
    exact: Exact,
}

impl Tiers<'_> {
    /// What does not match. Files that cannot be read are left out: they are told elsewhere.
    pub(super) fn compare(&self) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        let follows =
            |one: &Arc<DataFile>, next: &Arc<DataFile>| one.end_seq == next.first_seq && one.host() == next.host();
        let is_first = self.files.first().is_some_and(|file| file.first_seq == 0);
        let is_whole = is_first && self.files.chunk_by(follows).count() == 1;
        for run in self.files.chunk_by(follows) {
            for (id, files) in TableId::tiers(self.family).zip(self.rolled) {
                let is_of_run = |file: &&Arc<DataFile>| run.first().is_some_and(|first| file.host() == first.host());
                let files: Vec<_> = files.iter().filter(is_of_run).filter(|file| !file.is_older).cloned().collect();
                let Some(first) = files.first() else { continue };
                if let Ok(Some(reason)) = self.compare_run(id, run, &files, is_whole) {
                    wrong.push((first.path.clone(), reason));
                }
            }
        }
        wrong
    }

    /// What does not match first in a run of files; `None` if all does. `files` are those of the tier and of the same host.
    fn compare_run(
        &self,
        id: TableId,
        run: &[Arc<DataFile>],
        files: &[Arc<DataFile>],
        is_whole: bool,
    ) -> Result<Option<String>, Unreadable> {
        let (Some(first), Some(tier)) = (run.first(), id.tier()) else { return Ok(None) };
        let host: Arc<str> = first.host().into();
        let table = self.family.table;
        let in_order = run.iter().all(|file| is_in_order(&file.path))
            && run.windows(2).all(|pair| pair[0].time_range.1 <= pair[1].time_range.0);
        let shadows = self.shadows(run, tier.width_us(), is_whole);
        let begins = run.iter().map(|file| file.time_range.0).min().unwrap_or_default();
        let from = tier.bucket(begins).saturating_add(tier.width_us());
        let open_rows = self.open_rows(id, &host)?;
        let stretches = self.stretches(tier, &host, &open_rows);
        let mut told = Told::new(id.table(), files.to_vec(), open_rows);
        let mut folded = Buckets::of_files(self.family);
        // By series: its last bucket, and in which stretch that is. A series that was away for long begins anew.
        let mut seen: HashMap<Vec<String>, (i64, Option<usize>)> = HashMap::new();
        // By series: the columns of which a value was seen. Rows that are gone may have the value before the first one.
        let mut valued: HashMap<Vec<String>, Vec<bool>> = HashMap::new();
        // By series: a bucket that waits for the next one, as rows of it may be gone.
        let mut waiting: HashMap<Vec<String>, Pair> = HashMap::new();
        for file in run {
            for batch in open(&file.path).map_err(|_| Unreadable)? {
                let batch = conform(&batch?, &table.plain_schema())?;
                folded.fold(&host, &with_dictionaries(&batch, table)?);
            }
            folded.end_stale(file.time_range.1);
            let expected = rows_of(id.table(), folded.ended_rows(tier)?.into_iter().map(|(_, batch, _)| batch))?;
            folded.forget_ended(tier);
            let last = expected.keys().map(|(_, start)| *start).max().unwrap_or(i64::MIN);
            told.read_until(last)?;
            let mut keys: Vec<&Key> = expected.keys().collect();
            keys.sort_by_key(|(labels, start)| (*start, labels.clone()));
            for key in keys {
                let stretch = stretches.iter().position(|(first, last)| (*first..=*last).contains(&key.1));
                let before = seen.insert(key.0.clone(), (key.1, stretch));
                let follows = before.is_some_and(|(before, within)| {
                    within == stretch && key.1.saturating_sub(before) <= tier.width_us()
                });
                let is_shadowed = shadows.iter().any(|(from, to)| (*from..=*to).contains(&key.1));
                let is_known = note_values(valued.entry(key.0.clone()).or_default(), &expected[key]) || is_whole;
                let is_left_out = key.1 < from || stretch.is_none() || is_shadowed || !is_whole && before.is_none();
                let pair = (!is_left_out).then(|| Pair {
                    key: key.clone(),
                    expected: expected[key].clone(),
                    found: told.rows.remove(key).unwrap_or_default(),
                    exact: if in_order && follows && is_known { Exact::All } else { Exact::Unordered },
                });
                let ready = match pair {
                    pair if is_whole => pair,
                    Some(pair) => waiting.insert(key.0.clone(), pair),
                    None => waiting.remove(&key.0),
                };
                if let Some(what) = ready.as_ref().and_then(|pair| differs(id, pair, is_whole)) {
                    return Ok(Some(what));
                }
            }
            // A series that is gone has its last bucket a little later.
            let kept_from = last.saturating_sub(2 * (tier.width_us() + OVERLAP_US_MAX));
            told.rows.retain(|(_, start), _| *start >= kept_from);
        }
        Ok(None)
    }

    /// Between which times files go back to buckets that had ended before, because the clock was set back: a file has only a part of
    /// them. Only of tables that kymo writes itself do files overlap a little without that. Where rows are gone, a file at an end of the
    /// run that is not in the order of time does not tell which of its buckets had them.
    fn shadows(&self, run: &[Arc<DataFile>], width_us: i64, is_whole: bool) -> Vec<(i64, i64)> {
        let overlap_us_max = if self.family.sampling().is_some() { 0 } else { OVERLAP_US_MAX };
        let around = |from: i64, to: i64| (from.saturating_sub(width_us), to.saturating_add(width_us));
        let mut end = i64::MIN;
        let mut shadows = Vec::new();
        for (from, to) in run.iter().map(|file| file.time_range) {
            if from < end.saturating_sub(overlap_us_max) {
                shadows.push(around(from, end));
            }
            end = end.max(to);
        }
        if !is_whole {
            let ends = run.first().into_iter().chain(run.last()).filter(|file| !is_in_order(&file.path));
            shadows.extend(ends.map(|file| around(file.time_range.0, file.time_range.1)));
        }
        shadows
    }

    /// The first and last bucket of each time in which the tier has all of a host, of which these buckets are not in files.
    fn stretches(&self, tier: Tier, host: &Arc<str>, open_rows: &HashMap<Key, Vec<Row>>) -> Vec<(i64, i64)> {
        let starts = || open_rows.keys().map(|(_, start)| *start);
        let goes_on = self.buckets.goes_on(tier);
        // What should be there and is not is to be found, too.
        let last = if goes_on { Some(i64::MAX) } else { starts().max() };
        let memory: Option<InMemory> = last.map(|last| (Arc::clone(host), (starts().min().unwrap_or(last), last)));
        let all = of_tier(self.buckets, tier, (&self.rolled[tier as usize], self.files), memory.as_slice());
        all.into_iter().filter(|Stretch { host: of, .. }| of == host).map(|Stretch { times, .. }| times).collect()
    }

    /// The rows of a tier that no file has yet.
    fn open_rows(&self, id: TableId, host: &Arc<str>) -> Result<HashMap<Key, Vec<Row>>, Unreadable> {
        let all: Vec<usize> = (0..id.table().columns.len()).collect();
        let parts = self.buckets.with(&[], &[], id, &all)?.into_iter();
        rows_of(id.table(), parts.filter(|(of, ..)| of == host).map(|(_, batch, _)| batch))
    }
}

/// A file that cannot be read, or has no such rows.
#[derive(Debug)]
struct Unreadable;

impl From<ArrowError> for Unreadable {
    fn from(_: ArrowError) -> Unreadable {
        Unreadable
    }
}

/// Which columns are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exact {
    All,
    /// Those that do not depend on the order of rows, nor on rows before.
    Unordered,
}

/// The rows of a tier's files, in the order of time.
struct Told {
    table: &'static Table,
    /// Those that were not begun.
    files: IntoIter<Arc<DataFile>>,
    /// Those that were, and up to which time each was read, µs.
    readers: Vec<(ParquetRecordBatchReader, i64)>,
    rows: HashMap<Key, Vec<Row>>,
}

impl Told {
    fn new(table: &'static Table, mut files: Vec<Arc<DataFile>>, rows: HashMap<Key, Vec<Row>>) -> Told {
        files.sort_by_key(|file| file.time_range.0);
        Told { table, files: files.into_iter(), readers: Vec::new(), rows }
    }

    /// Reads all rows up to `time`, µs. Files may overlap: the last bucket of a series that is gone ends late.
    fn read_until(&mut self, time: i64) -> Result<(), Unreadable> {
        while let Some(file) = self.files.as_slice().first().filter(|file| file.time_range.0 <= time) {
            self.readers.push((open(&file.path).map_err(|_| Unreadable)?, i64::MIN));
            self.files.next();
        }
        for (mut reader, mut until) in std::mem::take(&mut self.readers) {
            while until <= time {
                let Some(batch) = reader.next() else {
                    until = i64::MAX;
                    continue;
                };
                let batch = batch?;
                until = times(&batch).last().copied().unwrap_or(until);
                for (key, rows) in rows_of(self.table, [batch])? {
                    self.rows.entry(key).or_default().extend(rows);
                }
            }
            if until < i64::MAX {
                self.readers.push((reader, until));
            }
        }
        Ok(())
    }
}

/// The rows of batches by series and bucket.
fn rows_of(
    table: &Table,
    batches: impl IntoIterator<Item = RecordBatch>,
) -> Result<HashMap<Key, Vec<Row>>, Unreadable> {
    let mut rows: HashMap<Key, Vec<Row>> = HashMap::new();
    for batch in batches {
        let labels = table.labels().chain(table.identities()).map(|(_, label)| batch.column_by_name(label.name));
        let labels = labels.map(|label| Ok(cast(label.ok_or(Unreadable)?, &DataType::Utf8)?));
        let labels = labels.collect::<Result<Vec<_>, Unreadable>>()?;
        let batch = Arc::new(batch);
        for (row, time) in times(&batch).iter().enumerate() {
            let labels = labels.iter().map(|label| label.as_string::<i32>().value(row).to_owned()).collect();
            rows.entry((labels, *time)).or_default().push((Arc::clone(&batch), row));
        }
    }
    Ok(rows)
}

/// The rows as they are in memory.
fn with_dictionaries(batch: &RecordBatch, table: &Table) -> Result<RecordBatch, ArrowError> {
    let schema = table.schema();
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
    RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<_, _>>()?)
}

/// Notes of which columns these rows of a series have a value. Returns whether earlier ones had one of each of them.
fn note_values(valued: &mut Vec<bool>, rows: &[Row]) -> bool {
    let mut is_known = true;
    for (batch, row) in rows {
        valued.resize(batch.num_columns(), false);
        for (known, column) in valued.iter_mut().zip(batch.columns()) {
            is_known &= *known || column.is_null(*row);
            *known |= column.is_valid(*row);
        }
    }
    is_known
}

/// What of a bucket differs; `None` if nothing does.
fn differs(id: TableId, pair: &Pair, is_whole: bool) -> Option<String> {
    let Pair { key: (labels, start), expected, found, exact } = pair;
    let what = difference(id, expected, found, *exact, is_whole)?;
    Some(format!("{} at {start} µs, of {labels:?}: {what}", id.name()))
}

fn difference(id: TableId, expected: &[Row], found: &[Row], exact: Exact, is_whole: bool) -> Option<String> {
    let table = id.table();
    let ticks = |(batch, row): &Row| {
        let ticks = batch.column_by_name("ticks").and_then(|ticks| ticks.as_primitive_opt::<Int64Type>());
        ticks.map_or(0, |ticks| ticks.value(*row))
    };
    let sum = |rows: &[Row]| rows.iter().map(ticks).sum();
    let (want, have): (i64, i64) = (sum(expected), sum(found));
    // Ticks may come late, so a second may have some more than the interval says.
    let has_seconds = want >= 2 * i64::from(SECOND_ROWS_MIN);
    if found.is_empty() && id.tier() == Some(Tier::Second) && !has_seconds {
        return None;
    }
    // Rows that are gone may have come back to this bucket, after the clock was set back.
    if !is_whole && found.len() > expected.len() {
        let (one, others) = found.split_first()?;
        let is_same = |(batch, row): &Row| {
            let columns = batch.columns().iter().zip(one.0.columns());
            columns.skip(table.labels().count() + 1).all(|(column, of_one)| same(of_one, one.1, column, *row))
        };
        return others.iter().any(is_same).then(|| "it is there twice".to_owned());
    }
    if want != have {
        return Some(format!("it has {have} ticks, its rows are {want}"));
    }
    // A bucket of several rows is one of a clock that was set back.
    let ([(expected, at)], [(found, place)]) = (expected, found) else { return None };
    let is_compared = |name: &str| {
        let is_unordered = ["_min", "_max", "_count"].iter().any(|end| name.ends_with(end));
        exact == Exact::All && name != "missed" || is_unordered
    };
    let values = table.columns.iter().filter(|column| !matches!(column.kind, Kind::Time | Kind::Label));
    // An older kymo had fewer columns.
    let both = |name: &str| expected.column_by_name(name).zip(found.column_by_name(name));
    let differs = |name: &str| both(name).is_some_and(|(expected, found)| !same(expected, *at, found, *place));
    let mut differing = values.filter(|column| is_compared(column.name) && differs(column.name));
    differing.next().map(|column| format!("its {} is not that of its rows", column.name))
}

/// Whether two values are the same to the bit.
fn same(one: &ArrayRef, at: usize, other: &ArrayRef, place: usize) -> bool {
    if one.is_null(at) || other.is_null(place) {
        return one.is_null(at) && other.is_null(place);
    }
    match (one.as_primitive_opt::<Int64Type>(), other.as_primitive_opt::<Int64Type>()) {
        (Some(one), Some(other)) => one.value(at) == other.value(place),
        _ => match (one.as_primitive_opt::<Float64Type>(), other.as_primitive_opt::<Float64Type>()) {
            (Some(one), Some(other)) => one.value(at).to_bits() == other.value(place).to_bits(),
            _ => false,
        },
    }
}
