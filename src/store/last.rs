//! The newest row of each series of a table, for the tables `<table>_last`.
//!
//! A view has them, so that a statement sees the newest rows of the moment of all other rows. Most batches have the same series
//! as the batch before, so showing one costs a comparison of their keys.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{FieldRef, Int32Type};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;

use super::conform::conform;
use super::data_folder::open_regular;
use super::hot::{HotBatch, times};
use super::lake::{BATCH_ROWS, DataFile, unless_panic};
use crate::batch;
use crate::family::FamilyId;
use crate::family::kymo::Kymo;
use crate::record::Table;
use crate::sampler::report::Collector;

/// So many series of a host are kept that the newest batch has no row of. Of more, the ones that were seen last stay.
const GONE_SERIES_MAX: usize = 1_024;
/// So many rows of each host are looked at when a store is opened, at the ends of its newest files.
const READ_ROWS_MAX: usize = 16_384;
/// Files of each host that are opened for that. The newest one may have but the rows of a short run.
const READ_FILES_MAX: usize = 8;
/// Row groups of a file that are opened for that.
const READ_GROUPS_MAX: usize = 2;
/// Hosts of a data folder whose newest rows are read, those with the newest rows first.
const HOSTS_MAX: usize = 16;

/// Whether rows of a table with equal labels are a series, of which the newest row says how things are. What tables of events
/// have is over.
#[must_use]
pub fn has_last(family: FamilyId) -> bool {
    let of_kymo = [FamilyId::of::<Collector>(), FamilyId::of::<Kymo>()];
    family.sampling().is_some() || of_kymo.contains(&family)
}

/// The newest rows of one table.
#[derive(Clone, Debug, Default)]
pub struct LastRows(Vec<OfHost>);

/// Those that one host recorded.
#[derive(Clone, Debug)]
struct OfHost {
    host: Arc<str>,
    /// The newest rows of the series of the newest batch.
    current: Option<RecordBatch>,
    /// Those of series that this batch has no row of, the ones that were seen last at the end.
    gone: Option<RecordBatch>,
}

impl LastRows {
    /// The newest rows in files, as far as they can be read, and in memory.
    #[must_use]
    pub fn of(family: FamilyId, files: &[Arc<DataFile>], hot: &[Arc<HotBatch>]) -> LastRows {
        let mut last = LastRows::default();
        if !has_last(family) {
            return last;
        }
        let mut by_host: HashMap<String, Vec<&DataFile>> = HashMap::new();
        for file in files {
            by_host.entry(file.host()).or_default().push(file);
        }
        let newest_seq = |files: &[&DataFile]| files.iter().map(|file| file.end_seq).max();
        let mut hosts: Vec<_> = by_host.into_iter().collect();
        hosts.sort_by_key(|(_, files)| Reverse(newest_seq(files)));
        for (host, mut files) in hosts.into_iter().take(HOSTS_MAX) {
            files.sort_by_key(|file| Reverse(file.end_seq));
            let host = host.into();
            for batch in ends_of(family.table, &files).iter().rev() {
                last.take(family, &host, batch);
            }
        }
        for rows in hot {
            last.take(family, &rows.host, &rows.batch);
        }
        last
    }

    /// The newest rows, by host.
    pub fn batches(&self) -> impl Iterator<Item = (&Arc<str>, &RecordBatch)> {
        self.0.iter().flat_map(|of| of.gone.iter().chain(&of.current).map(|batch| (&of.host, batch)))
    }

    /// Takes the newest rows of a batch that follows all earlier ones.
    pub(super) fn take(&mut self, family: FamilyId, host: &Arc<str>, batch: &RecordBatch) {
        if !has_last(family) || batch.num_rows() == 0 {
            return;
        }
        let at = self.0.iter().position(|of| of.host == *host).unwrap_or_else(|| {
            self.0.push(OfHost { host: Arc::clone(host), current: None, gone: None });
            self.0.len() - 1
        });
        // Batches of one table have one schema. If one had another, its rows would be missing here only.
        let _ = self.0[at].take(family.table, batch);
    }
}

impl OfHost {
    fn take(&mut self, table: &Table, batch: &RecordBatch) -> Result<(), ArrowError> {
        let newest = newest(table, batch)?;
        let Some(before) = self.current.replace(newest.clone()) else { return Ok(()) };
        if has_same_series(table, &before, &newest)? {
            return Ok(());
        }
        let present = Series::of(table, &newest)?;
        let present: HashSet<Vec<&str>> = (0..newest.num_rows()).map(|row| present.at(row)).collect();
        let mut gone = Vec::with_capacity(2);
        let earlier = self.gone.take();
        for batch in earlier.iter().chain([&before]) {
            let series = Series::of(table, batch)?;
            let is_gone: BooleanArray =
                (0..batch.num_rows()).map(|row| Some(!present.contains(&series.at(row)))).collect();
            let rows = filter_record_batch(batch, &is_gone)?;
            gone.extend((rows.num_rows() > 0).then_some(rows));
        }
        if !gone.is_empty() {
            let all = batch::merge(&gone)?;
            let kept = all.num_rows().min(GONE_SERIES_MAX);
            self.gone = Some(all.slice(all.num_rows() - kept, kept));
        }
        Ok(())
    }
}

/// The newest row of each series in a batch, which is in the order in which it was recorded and shares a dictionary for each label.
fn newest(table: &Table, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let (times, rows) = (times(batch), batch.num_rows());
    let start = times.iter().rposition(|time| times.last() != Some(time)).map_or(0, |at| at + 1);
    let tick = rows - start;
    let keys: Vec<&[i32]> = table.labels().map(|(at, _)| keys(batch, at)).collect::<Result<_, _>>()?;
    let is_regular = rows % tick == 0
        && keys.iter().all(|keys| keys.chunks_exact(tick).all(|earlier| earlier == &keys[start..]))
        && times.chunks_exact(tick).all(|tick| tick.iter().all(|time| tick.first() == Some(time)));
    if is_regular {
        return Ok(batch.slice(start, tick));
    }
    let mut known: HashSet<Vec<i32>> = HashSet::new();
    let mut found: Vec<u32> = Vec::with_capacity(2 * tick);
    for row in (0..rows).rev() {
        if known.insert(keys.iter().map(|keys| keys[row]).collect()) {
            found.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
    }
    found.reverse();
    take_record_batch(batch, &UInt32Array::from(found))
}

fn keys(batch: &RecordBatch, column: usize) -> Result<&[i32], ArrowError> {
    let labels = batch.column(column).as_dictionary_opt::<Int32Type>().ok_or_else(not_labels)?;
    Ok(labels.keys().values())
}

fn not_labels() -> ArrowError {
    ArrowError::CastError("labels that are no dictionaries of strings".into())
}

fn has_same_series(table: &Table, one: &RecordBatch, other: &RecordBatch) -> Result<bool, ArrowError> {
    if one.num_rows() != other.num_rows() {
        return Ok(false);
    }
    let mut is_shared = true;
    for (at, _) in table.labels() {
        let dictionary =
            |batch: &RecordBatch| batch.column(at).as_dictionary_opt::<Int32Type>().map(|of| Arc::clone(of.values()));
        is_shared &= dictionary(one).zip(dictionary(other)).is_some_and(|(one, other)| Arc::ptr_eq(&one, &other));
        if is_shared && keys(one, at)? != keys(other, at)? {
            return Ok(false);
        }
    }
    if is_shared {
        return Ok(true);
    }
    let (one_series, other_series) = (Series::of(table, one)?, Series::of(table, other)?);
    Ok((0..one.num_rows()).all(|row| one_series.at(row) == other_series.at(row)))
}

/// The labels of a batch's rows.
struct Series<'a>(Vec<(&'a [i32], &'a StringArray)>);

impl<'a> Series<'a> {
    fn of(table: &Table, batch: &'a RecordBatch) -> Result<Series<'a>, ArrowError> {
        let label = |at: usize| {
            let labels = batch.column(at).as_dictionary_opt::<Int32Type>().ok_or_else(not_labels)?;
            let texts = labels.values().as_string_opt::<i32>().ok_or_else(not_labels)?;
            Ok((&labels.keys().values()[..], texts))
        };
        Ok(Series(table.labels().map(|(at, _)| label(at)).collect::<Result<_, ArrowError>>()?))
    }

    fn at(&self, row: usize) -> Vec<&'a str> {
        let text = |(keys, texts): &(&'a [i32], &'a StringArray)| {
            usize::try_from(keys[row]).ok().filter(|key| *key < texts.len()).map_or("", |key| texts.value(key))
        };
        self.0.iter().map(text).collect()
    }
}

/// The rows at the ends of a host's newest files, of the newest first. `files` are in that order.
fn ends_of(table: &Table, files: &[&DataFile]) -> Vec<RecordBatch> {
    let (mut left, mut ends) = (READ_ROWS_MAX, Vec::new());
    for file in files.iter().take(READ_FILES_MAX) {
        if left == 0 {
            break;
        }
        // A file that cannot be read is told of elsewhere. Its series come back with their next rows.
        if let Some(Ok(batch)) = unless_panic(|| end_of(table, file, left)) {
            left -= batch.num_rows().min(left);
            ends.push(batch);
        }
    }
    ends
}

/// At most so many rows at the end of a file, with the schema of rows in memory.
fn end_of(table: &Table, file: &DataFile, rows_max: usize) -> Result<RecordBatch, ParquetError> {
    let opened = open_regular(&file.path).map_err(|error| ParquetError::External(error.into()))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(opened)?;
    let groups = builder.metadata().row_groups();
    let first = groups.len().saturating_sub(READ_GROUPS_MAX);
    let rows: i64 = groups[first..].iter().map(RowGroupMetaData::num_rows).sum();
    let rows = usize::try_from(rows).unwrap_or_default();
    let kept = rows.min(rows_max);
    let groups = (first..groups.len()).collect();
    let end = RowSelection::from(vec![RowSelector::skip(rows - kept), RowSelector::select(kept)]);
    let reader = builder.with_row_groups(groups).with_row_selection(end).with_batch_size(BATCH_ROWS).build()?;
    let (plain, schema) = (table.plain_schema(), table.schema());
    let batches = reader.map(|batch| conform(&batch?, &plain)).collect::<Result<Vec<_>, ArrowError>>()?;
    let batch = concat_batches(&plain, &batches)?;
    let cast = |(column, field): (&ArrayRef, &FieldRef)| cast(column, field.data_type());
    let columns = batch.columns().iter().zip(schema.fields()).map(cast).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::batch::to_batch;
    use crate::record::Record;
    use crate::record::label::Labels;

    /// Rows of (time, name, ticks).
    fn rows(labels: &Labels, rows: &[(i64, &str, i64)]) -> RecordBatch {
        let row = |(time, name, ticks): &(i64, &str, i64)| Collector {
            collector: labels.intern(name),
            ticks: *ticks,
            ..Collector::absent(*time)
        };
        let rows: Vec<Collector> = rows.iter().map(row).collect();
        to_batch(&[&rows], labels, &Collector::TABLE.schema())
    }

    fn told(last: &LastRows) -> Vec<(String, i64)> {
        let mut told = Vec::new();
        for (host, batch) in last.batches() {
            let series = Series::of(Collector::TABLE, batch).unwrap();
            let ticks = batch.column_by_name("ticks").unwrap().as_primitive::<Int64Type>();
            let row = |row: usize| (format!("{host} {}", series.at(row).join(" ")), ticks.value(row));
            told.extend((0..batch.num_rows()).map(row));
        }
        told.sort();
        told
    }

    fn take(last: &mut LastRows, host: &str, batch: &RecordBatch) {
        last.take(FamilyId::of::<Collector>(), &host.into(), batch);
    }

    #[test]
    fn each_series_has_its_newest_row() {
        let labels = Labels::default();
        let mut last = LastRows::default();
        take(&mut last, "h", &rows(&labels, &[(1, "a", 1), (1, "b", 2), (2, "a", 3), (2, "b", 4)]));
        assert_eq!(told(&last), [("h a".into(), 3), ("h b".into(), 4)]);
        // `b` goes and `c` comes, in the middle of a batch.
        take(&mut last, "h", &rows(&labels, &[(3, "a", 5), (3, "b", 6), (4, "c", 7), (4, "a", 8)]));
        assert_eq!(told(&last), [("h a".into(), 8), ("h b".into(), 6), ("h c".into(), 7)]);
        take(&mut last, "h", &rows(&labels, &[(5, "a", 9)]));
        assert_eq!(told(&last), [("h a".into(), 9), ("h b".into(), 6), ("h c".into(), 7)]);
        // It comes back, with labels of another run of kymo, and a clock that was set back.
        take(&mut last, "h", &rows(&Labels::default(), &[(2, "b", 1), (2, "a", 2)]));
        assert_eq!(told(&last), [("h a".into(), 2), ("h b".into(), 1), ("h c".into(), 7)]);
        take(&mut last, "other", &rows(&labels, &[(9, "a", 10)]));
        assert_eq!(told(&last).len(), 4);
    }

    #[test]
    fn of_series_that_are_gone_the_newest_stay() {
        let labels = Labels::default();
        let mut last = LastRows::default();
        let names: Vec<String> = (0..3_000).map(|number| format!("{number:04}")).collect();
        for (time, name) in (0..).zip(&names) {
            take(&mut last, "h", &rows(&labels, &[(time, name, time)]));
        }
        let told = told(&last);
        assert_eq!(told.len(), GONE_SERIES_MAX + 1);
        assert_eq!(told.first().map(|(_, ticks)| *ticks), i64::try_from(2_999 - GONE_SERIES_MAX).ok());
    }

    #[test]
    fn tables_of_events_have_none() {
        let of = |name: &str| has_last(FamilyId::find(name).unwrap());
        assert!(of("network") && of("memory") && of("kymo") && of("collector"));
        assert!(!of("gap") && !of("alert") && !of("statement"));
    }
}
