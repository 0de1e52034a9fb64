//! A table in a report: its rows as they were recorded, or what they come to in buckets.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use serde_json::{Map, Value, json};

use super::block::{Block, Values};
use super::fold::Fold;
use super::series::{Series, is_whole, keys};
use crate::family::FamilyId;
use crate::record::{Column, Kind, Role};
use crate::store::cut::Cut;

/// Columns that are folded in one pass over the rows.
const FOLDED_AT_ONCE: usize = 4;

/// A table that is packed.
#[derive(Debug)]
pub(super) struct Packed {
    /// What `web/report.js` knows of it.
    pub(super) head: Value,
    /// The blocks of its columns, by name.
    pub(super) blocks: Vec<(String, Block)>,
    /// The collector whose ticks its rows have.
    pub(super) collector: Option<String>,
    /// How often it was sampled, µs.
    pub(super) interval_us: Option<i64>,
}

/// The times of ticks of each collector.
pub(super) type Ticks = HashMap<i64, Vec<String>>;

/// Where rows of a table are.
#[derive(Debug, Default)]
struct Places {
    series: Series,
    /// Of each row, as it is read: its series and time.
    rows: Vec<(u32, i64)>,
    /// How many rows have the time of a tick of a collector.
    ticks: HashMap<String, usize>,
}

/// The counters and gauges that a report has of a table.
fn figures(family: FamilyId) -> impl Iterator<Item = (usize, &'static Column)> {
    family.table.values().filter(|(_, column)| column.role != Role::Identity)
}

/// The rows of a table. `None` if it has none.
pub(super) fn ticks(cut: &Cut, family: FamilyId, ticks: &Ticks) -> anyhow::Result<Option<Packed>> {
    let places = places(cut, family, ticks)?;
    if places.rows.is_empty() {
        return Ok(None);
    }
    let (order, rows) = places.order();
    let times = order.iter().map(|row| Some(places.rows[*row as usize].1)).collect();
    let mut blocks = vec![("time".to_owned(), Values::Wholes(times).pack(&rows))];
    for (at, column) in figures(family) {
        let values = column_of(cut, family, at, column)?;
        let values = match values {
            Values::Wholes(values) => Values::Wholes(order.iter().map(|row| values[*row as usize]).collect()),
            Values::Floats(values) => Values::Floats(order.iter().map(|row| values[*row as usize]).collect()),
        };
        blocks.push((column.name.to_owned(), values.pack(&rows)));
    }
    let interval_us = cut.interval(family).and_then(|interval| i64::try_from(interval.as_micros()).ok());
    let interval_us = interval_us.or_else(|| usual_step(&places, &order)).filter(|_| is_sampled(family));
    let head = head(family, 0, &places.series, &rows, &blocks);
    Ok(Some(Packed { head, blocks, collector: most(places.ticks), interval_us }))
}

/// The rows of a table in buckets of this width.
pub(super) fn buckets(cut: &Cut, family: FamilyId, width_us: i64, ticks: &Ticks) -> anyhow::Result<Option<Packed>> {
    let mut collector = HashMap::new();
    let all: Vec<(usize, &'static Column)> = figures(family).collect();
    let (mut blocks, mut known) = (Vec::new(), None);
    for columns in all.chunks(FOLDED_AT_ONCE) {
        let mut fold = Fold::new(width_us, columns.iter().map(|(_, column)| column.kind).collect());
        let mut series = Series::default();
        let positions: Vec<usize> = [0]
            .into_iter()
            .chain(columns.iter().map(|(at, _)| *at))
            .chain(keys(family.table).map(|(at, _)| at))
            .collect();
        let mut failed = Ok(());
        cut.rows(family, &positions, &mut |host, batch| {
            let times = batch.column(0).as_primitive::<TimestampMicrosecondType>().values();
            let own = &batch.columns()[1..=columns.len()];
            if failed.is_ok() {
                failed = series.number(host, batch, 1 + columns.len(), |row, number| {
                    fold.take(number, times[row], |column| number_of(&own[column], row));
                    note(&mut collector, ticks, times[row]);
                });
            }
            Ok(())
        })?;
        failed?;
        let order = series.order();
        let rows: Vec<usize> = order.iter().map(|number| fold.rows(*number)).collect();
        if rows.iter().all(|rows| *rows == 0) {
            return Ok(None);
        }
        if known.is_none() {
            blocks.push(("time".to_owned(), Values::Wholes(fold.times(&order)).pack(&rows)));
            blocks.push(("ticks".to_owned(), Values::Wholes(fold.ticks(&order)).pack(&rows)));
        }
        for (at, (_, column)) in columns.iter().enumerate() {
            for (what, values) in ["min", "max", "mean"].into_iter().zip(fold.values(&order, at)) {
                blocks.push((format!("{}_{what}", column.name), Values::Floats(values).pack(&rows)));
            }
        }
        known = Some((series, rows));
    }
    let Some((series, rows)) = known else { return Ok(None) };
    let head = head(family, width_us, &series, &rows, &blocks);
    let collector = most(collector);
    Ok(Some(Packed { head, blocks, collector, interval_us: Some(width_us) }))
}

/// When collectors took ticks.
pub(super) fn ticks_of(cut: &Cut, collectors: FamilyId) -> anyhow::Result<Ticks> {
    let mut ticks = Ticks::new();
    let Some((label, _)) = collectors.table.column("collector") else { return Ok(ticks) };
    cut.rows(collectors, &[0, label], &mut |_, batch| {
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>().values();
        if let Some(names) = batch.column(1).as_string_opt::<i32>() {
            for (time, name) in times.iter().zip(names).filter_map(|(time, name)| Some((time, name?))) {
                ticks.entry(*time).or_default().push(name.to_owned());
            }
        }
        Ok(())
    })?;
    Ok(ticks)
}

fn note(counts: &mut HashMap<String, usize>, ticks: &Ticks, time: i64) {
    for name in ticks.get(&time).into_iter().flatten() {
        match counts.get_mut(name) {
            Some(count) => *count += 1,
            None => _ = counts.insert(name.clone(), 1),
        }
    }
}

fn most(counts: HashMap<String, usize>) -> Option<String> {
    counts.into_iter().max_by(|(one, few), (other, many)| few.cmp(many).then(other.cmp(one))).map(|(name, _)| name)
}

/// Whether rows of a table come by themselves again and again.
fn is_sampled(family: FamilyId) -> bool {
    family.sampling().is_some() || ["kymo", "collector"].contains(&family.name())
}

fn places(cut: &Cut, family: FamilyId, ticks: &Ticks) -> anyhow::Result<Places> {
    let mut places = Places::default();
    let positions: Vec<usize> = [0].into_iter().chain(keys(family.table).map(|(at, _)| at)).collect();
    let mut failed = Ok(());
    cut.rows(family, &positions, &mut |host, batch| {
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>().values();
        let Places { series, rows, ticks: counts } = &mut places;
        if failed.is_ok() {
            failed = series.number(host, batch, 1, |row, number| {
                rows.push((u32::try_from(number).unwrap_or(u32::MAX), times[row]));
                note(counts, ticks, times[row]);
            });
        }
        Ok(())
    })?;
    failed?;
    anyhow::ensure!(places.rows.len() < u32::MAX as usize, "`{}` has too many rows for a report", family.name());
    Ok(places)
}

impl Places {
    /// The rows in the order of series and time, and how many each series has.
    fn order(&self) -> (Vec<u32>, Vec<usize>) {
        let order = self.series.order();
        let mut rank = vec![0_u32; order.len()];
        for (at, number) in (0..).zip(&order) {
            rank[*number] = at;
        }
        let mut rows = vec![0; order.len()];
        for (series, _) in &self.rows {
            rows[rank[*series as usize] as usize] += 1;
        }
        let mut sorted: Vec<u32> = (0..).take(self.rows.len()).collect();
        // Stable: of rows of one time, the one that was recorded first is first.
        sorted.sort_by_key(|row| {
            let (series, time) = self.rows[*row as usize];
            (rank[series as usize], time)
        });
        (sorted, rows)
    }
}

/// How far rows of the first series are apart, mostly.
fn usual_step(places: &Places, order: &[u32]) -> Option<i64> {
    let times = order.iter().map(|row| places.rows[*row as usize]);
    let times: Vec<(u32, i64)> = times.take(1_000).collect();
    let mut steps: Vec<i64> =
        times.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1 - pair[0].1).collect();
    steps.sort_unstable();
    steps.get(steps.len() / 2).copied().filter(|step| *step > 0)
}

/// The values of a column, as they are read.
fn column_of(cut: &Cut, family: FamilyId, at: usize, column: &Column) -> anyhow::Result<Values> {
    let (mut wholes, mut floats) = (Vec::new(), Vec::new());
    cut.rows(family, &[at], &mut |_, batch: &RecordBatch| {
        let values = batch.column(0);
        if let Some(values) = values.as_primitive_opt::<Int64Type>() {
            wholes.extend(values.iter());
        } else if let Some(values) = values.as_primitive_opt::<Float64Type>() {
            floats.extend(values.iter());
        }
        Ok(())
    })?;
    Ok(if is_whole(column) { Values::Wholes(wholes) } else { Values::Floats(floats) })
}

/// A value as a float.
fn number_of(array: &dyn Array, row: usize) -> Option<f64> {
    if array.is_null(row) {
        return None;
    }
    let whole = array.as_primitive_opt::<Int64Type>().map(|values| values.value(row) as f64);
    whole.or_else(|| array.as_primitive_opt::<Float64Type>().map(|values| values.value(row)))
}

fn head(family: FamilyId, width_us: i64, series: &Series, rows: &[usize], blocks: &[(String, Block)]) -> Value {
    let is_float = |name: &str| blocks.iter().any(|(block, of)| block == name && of.is_float);
    let columns = figures(family).map(|(_, column)| {
        let told = json!({ "isCounter": column.kind == Kind::Counter, "isFloat": is_float(column.name) });
        (column.name.to_owned(), told)
    });
    json!({
        "width": width_us,
        "keys": Series::names(family.table),
        "series": series.order().into_iter().map(|number| series.texts(number)).collect::<Vec<_>>(),
        "rows": rows,
        "columns": columns.collect::<Map<_, _>>(),
    })
}
