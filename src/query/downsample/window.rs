//! A window of time of one column, and the tables that have some of it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::Result;

use super::cover::Source;
use crate::query::named::{Named, Which};
use crate::query::rows::{RowSource, Wanted};
use crate::record::tier::Tier;
use crate::record::{Column, TIME_ZONE};

/// A table counts as one that has rows of a window if it has some so long before it.
const NEAR_US: i64 = 120_000_000;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) table: Named,
    pub(super) column: &'static Column,
    pub(super) from_us: i64,
    /// The first time after it.
    pub(super) to_us: i64,
    pub(super) buckets: i64,
}

impl Window {
    /// The columns of its rows.
    pub(super) fn schema(&self) -> SchemaRef {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into()));
        let labels = self.table.table.labels().map(|(_, column)| (column.name, DataType::Utf8));
        let values = ["min", "max", "mean", "first", "last"].map(|name| (name, DataType::Float64));
        let rest = [
            ("count", DataType::Int64),
            ("missed", DataType::Int64),
            ("tier", DataType::Utf8),
            (Column::HOST.name, DataType::Utf8),
        ];
        let all = labels.chain([(Column::TIME.name, time)]).chain(values).chain(rest);
        Arc::new(Schema::new(all.map(|(name, ty)| Field::new(name, ty, true)).collect::<Vec<_>>()))
    }

    /// The tables that have rows of it.
    pub(super) async fn sources(&self, rows: &dyn RowSource) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for table in Named::all().filter(|named| named.family == self.table.family) {
            let width_us = match table.rows {
                Which::All => 1,
                Which::Tier(id) => id.tier().map_or(1, Tier::width_us),
                Which::Last => continue,
            };
            let times = (self.from_us.saturating_sub(NEAR_US), self.to_us.saturating_sub(1));
            let found = rows.rows(Wanted { table, columns: Vec::new(), times }).await?;
            let ranges = || {
                let files = found.files.iter().map(|file| file.time_range);
                files.chain(found.hot.iter().map(|hot| hot.time_range))
            };
            let first = ranges().map(|(first, _)| first).min();
            let last = ranges().map(|(_, last)| last).max();
            sources.extend(first.zip(last).map(|(first, last)| {
                let times = (first, last.saturating_add(width_us));
                Source { table, width_us, times }
            }));
        }
        Ok(sources)
    }
}
