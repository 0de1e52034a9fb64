//! Buckets as the rows that a window has for its user.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result, exec_datafusion_err};

use super::cells::{Cell, Division, Value};
use super::cover::Part;
use super::share::Whole;
use super::window::{TIERS, Window};
use crate::record::{Kind, TIME_ZONE};

/// µs of a second.
const MICROS: f64 = 1e6;

/// What tells series apart, and the host.
pub(super) fn keys(window: &Window, whole: &Whole) -> Result<Vec<ArrayRef>> {
    whole.series.keys(&vec![DataType::Utf8; window.keys().count() + 1])
}

/// A row for each of these series and buckets of the window, which are places of cells. `keys` and `schema` are those of the window.
pub(super) fn rows(
    window: &Window,
    parts: &[Part],
    whole: &Whole,
    keys: &[ArrayRef],
    places: &[usize],
    schema: &SchemaRef,
) -> Result<RecordBatch> {
    let sorted: Vec<(&Cell, &[Option<Value>])> = places.iter().map(|at| whole.cells.get(*at)).collect();
    let series: UInt64Array = sorted.iter().map(|(cell, _)| cell.series as u64).collect();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for key in keys {
        columns.push(take(key, &series, None)?);
    }
    let host = columns.pop().ok_or_else(|| exec_datafusion_err!("a window without a host"))?;
    let stretches = stretches(parts);
    let division = whole.cells.division();
    let times = |of: &dyn Fn(&Cell) -> i64| {
        let times = sorted.iter().map(|(cell, _)| of(cell));
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone(TIME_ZONE)) as ArrayRef
    };
    columns.push(times(&|cell| begin(cell, division, &stretches)));
    columns.push(times(&|cell| cell.row.end_us));
    let is_one = window.columns.len() == 1;
    for (at, column) in window.columns.iter().enumerate() {
        // A bucket begins with the first microsecond of which rows are in it. The row before the window is one row, whatever is looked
        // at to find it.
        let of = |told: &dyn Fn(&Value) -> f64| {
            let value = |(cell, values): &(&Cell, &[Option<Value>])| {
                let value = values[at].as_ref()?;
                Some(if cell.bucket < 0 { value.tail } else { told(value) })
            };
            Arc::new(sorted.iter().map(value).collect::<Float64Array>()) as ArrayRef
        };
        let unit = if column.kind == Kind::Counter { MICROS } else { 1.0 };
        columns.push(of(&|value| value.low));
        columns.push(of(&|value| value.high));
        columns.push(of(&|value| value.amount / (value.weight / unit)));
        if is_one {
            columns.push(of(&|value| value.head));
            columns.push(of(&|value| value.tail));
        }
        // As of rows: to count no values is no value that is unknown.
        let count = |(cell, values): &(&Cell, &[Option<Value>])| {
            let count = values[at].as_ref().map_or(0, |value| value.count);
            if cell.bucket < 0 { count.min(1) } else { count }
        };
        columns.push(Arc::new(Int64Array::from_iter_values(sorted.iter().map(count))));
    }
    let missed = sorted.iter().map(|(cell, _)| cell.row.missed.filter(|_| cell.bucket >= 0));
    columns.push(Arc::new(missed.collect::<Int64Array>()));
    let tiers = sorted.iter().map(|(cell, _)| TIERS.get(cell.row.tier).copied());
    columns.push(Arc::new(tiers.collect::<StringArray>()));
    columns.push(host);
    let columns = columns.into_iter().zip(schema.fields()).map(|(column, field)| {
        Ok(if column.data_type() == field.data_type() { column } else { cast(&column, field.data_type())? })
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_>>()?)?)
}

/// Where a bucket begins: in a part from a tier, with the first row of the tier from its edge on. It is the same for all series. Where it
/// has one row, this is its time.
fn begin(cell: &Cell, division: Division, stretches: &[(i64, i64)]) -> i64 {
    if cell.bucket < 0 {
        return cell.row.last_us;
    }
    if cell.row.tier == 0 && cell.row.ticks == 1 {
        return cell.row.first_us;
    }
    let edge_us = division.edge_us(cell.bucket);
    let stretch = stretches.iter().find(|(_, to_us)| edge_us < *to_us).or(stretches.last());
    let width_us = stretch.map_or(1, |(width_us, _)| *width_us);
    edge_us + (width_us - edge_us % width_us) % width_us
}

/// The lengths of the buckets that parts are made of, each up to which time.
fn stretches(parts: &[Part]) -> Vec<(i64, i64)> {
    let mut stretches: Vec<(i64, i64)> = Vec::new();
    for part in parts {
        match stretches.last_mut() {
            Some((width_us, to_us)) if *width_us == part.source.width_us => *to_us = part.to_us,
            _ => stretches.push((part.source.width_us, part.to_us)),
        }
    }
    stretches
}
