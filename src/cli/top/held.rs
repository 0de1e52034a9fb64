//! Gauges of narrow windows: of tables that are sampled more seldom than a window is long, no row may lie in it or near it, and the row
//! before is the value that holds.

use std::collections::HashMap;

use arrow::array::RecordBatch;

use super::asked::Asked;
use super::catalog::Catalog;
use super::cells::Cell;
use super::metric::Metric;
use super::statement::{Host, between, metric_of};
use super::window::{SECOND_US, Window};
use crate::cli::rows::{Rows, float, text, whole};

/// Rows are looked for so far before the window: of tables that are sampled once a second there are two.
const BEFORE_US: i64 = 2 * SECOND_US + SECOND_US / 2;
/// A value holds for so many times the usual distance between rows.
const HELD_INTERVALS: i64 = 2;

/// Gauges before a window: times and values of rows, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    of: HashMap<Metric, Vec<(i64, f64)>>,
}

/// The statement for the gauges of the charts that every screen has: `part`, `label`, `time` and `value`. `None` if the
/// daemon has none of them.
pub(super) fn charts(padded: &Window, host: &Host, has_cores: bool, catalog: &Catalog) -> Option<String> {
    let total = if has_cores { "" } else { " AND cpu = 'total'" };
    let parts = [("cpu", "cpu", "utilization", total), ("memory", "''", "used_bytes", "")];
    let known = parts.into_iter().filter(|(table, _, column, _)| catalog.has(table, column));
    let part = |(table, label, column, and): (&str, &str, &str, &str)| {
        format!(
            "SELECT '{table}' AS part, {label} AS label, time, CAST({column} AS DOUBLE) AS value FROM {table} WHERE {} AND {}{and}",
            before(padded),
            host.condition(),
        )
    };
    let text = known.map(part).collect::<Vec<_>>().join(" UNION ALL ");
    (!text.is_empty()).then_some(text)
}

/// The statement for the gauges among metrics that are asked for: their labels, `time`, and `value0` and so on. `None` if there are none.
pub(super) fn metrics(asked: &Asked, padded: &Window, host: &Host) -> Option<String> {
    let columns = gauges(asked);
    if columns.is_empty() {
        return None;
    }
    let labels = asked.labels.iter().flat_map(|label| [*label, ", "]).collect::<String>();
    let values = columns.iter().enumerate().map(|(at, column)| format!(", CAST({column} AS DOUBLE) AS value{at}"));
    Some(format!(
        "SELECT {labels}time{} FROM {} WHERE {} AND {} AND ({})",
        values.collect::<String>(),
        asked.table,
        before(padded),
        host.condition(),
        asked.condition,
    ))
}

fn before(padded: &Window) -> String {
    between(padded.from_us - BEFORE_US, padded.from_us)
}

fn gauges(asked: &Asked) -> Vec<&'static str> {
    let is_gauge = |column: &&&'static str| !Metric::new(asked.table, column, &[]).is_rate();
    asked.columns.iter().filter(is_gauge).copied().collect()
}

impl Held {
    /// Reads the answer to [`charts`].
    pub(super) fn read_charts(&mut self, batches: &[RecordBatch]) -> anyhow::Result<()> {
        for batch in batches {
            let rows = Rows::of(batch);
            let (parts, labels) = (rows.texts("part")?, rows.texts("label")?);
            let (times, values) = (rows.wholes("time")?, rows.floats("value")?);
            for row in 0..rows.count() {
                if let Some(metric) = metric_of(text(&parts, row), text(&labels, row), 0) {
                    self.add(metric, whole(&times, row), float(&values, row));
                }
            }
        }
        self.sort();
        Ok(())
    }

    /// Reads the answer to [`metrics`].
    pub(super) fn read_metrics(&mut self, asked: &Asked, batches: &[RecordBatch]) -> anyhow::Result<()> {
        for batch in batches {
            let rows = Rows::of(batch);
            let labels = asked.labels.iter().map(|name| rows.texts(name)).collect::<anyhow::Result<Vec<_>>>()?;
            let times = rows.wholes("time")?;
            for (at, column) in gauges(asked).into_iter().enumerate() {
                let values = rows.floats(&format!("value{at}"))?;
                for row in 0..rows.count() {
                    let texts = labels.iter().map(|values| text(values, row).to_owned());
                    let labels = asked.labels.iter().copied().zip(texts).collect();
                    let metric = Metric { table: asked.table, column, labels };
                    self.add(metric, whole(&times, row), float(&values, row));
                }
            }
        }
        self.sort();
        Ok(())
    }

    fn add(&mut self, metric: Metric, time: Option<i64>, value: Option<f64>) {
        if let Some(row) = time.zip(value) {
            self.of.entry(metric).or_default().push(row);
        }
    }

    fn sort(&mut self) {
        self.of.values_mut().for_each(|rows| rows.sort_unstable_by_key(|(time, _)| *time));
    }

    /// The metrics that have rows before the window.
    pub(super) fn metrics(&self) -> impl Iterator<Item = &Metric> {
        self.of.keys()
    }

    /// Fills cells without a row from the row before them. Gives which cells that are.
    pub(super) fn fill(&self, metric: &Metric, cells: &mut [Option<Cell>], padded: &Window) -> Vec<bool> {
        let mut filled = vec![false; cells.len()];
        let Some(rows) = self.of.get(metric) else { return filled };
        let mut steps: Vec<i64> = rows.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        steps.sort_unstable();
        let Some(usual_us) = steps.get(steps.len() / 2).copied() else { return filled };
        let mut last = rows.last().copied();
        for (at, cell) in cells.iter_mut().enumerate() {
            let time_us = padded.time_of(at);
            match (cell.map(|known| known.mean), last) {
                (Some(mean), _) => last = Some((time_us, mean)),
                (None, Some((since_us, value))) if time_us - since_us <= HELD_INTERVALS * usual_us => {
                    *cell = Some(Cell::of(value));
                    filled[at] = true;
                }
                (None, _) => {}
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_held_for_two_intervals_and_no_longer() {
        let metric = Metric::whole("memory", "used_bytes");
        let window = Window { from_us: 1_000_000, width_us: 500, cells: 40 };
        let held = |newest_us: i64, interval_us: i64| {
            let rows = (0..5).rev().map(|back| (newest_us - back * interval_us, 7.0)).collect();
            let mut cells = vec![None; window.cells];
            cells[30] = Some(Cell::of(9.0));
            let held = Held { of: [(metric.clone(), rows)].into() };
            let filled = held.fill(&metric, &mut cells, &window);
            let told = |(cell, is_held): (&Option<Cell>, bool)| match (cell, is_held) {
                (None, _) => ' ',
                (Some(_), false) => '=',
                (Some(cell), true) => {
                    if cell.mean > 8.0 {
                        '9'
                    } else {
                        '7'
                    }
                }
            };
            cells.iter().zip(filled).map(told).collect::<String>()
        };
        // The row before is 90 ms old, and they come every 100 ms.
        assert_eq!(held(910_000, 100_000), format!("{}={}", "7".repeat(30), "9".repeat(9)));
        // They come every 4 ms: held for 8 ms after the row 5 ms before.
        assert_eq!(held(995_000, 4_000), format!("{}{}={}", "7".repeat(7), " ".repeat(23), "9".repeat(9)));
        assert_eq!(held(700_000, 100_000), format!("{}={}", " ".repeat(30), "9".repeat(9)));
    }

    #[test]
    fn only_gauges_are_asked_for() {
        let window = Window { from_us: 1_000_000, width_us: 500, cells: 40 };
        let host = Host::new("h");
        let asked = |metrics: &[Metric]| super::super::asked::metrics(metrics, &window, &host, &Catalog::default());
        let rate = asked(&[Metric::new("network", "rx_bytes", &[("interface", "eth0")])]);
        assert_eq!(metrics(&rate[0], &window, &host), None);
        let gauge = asked(&[Metric::new("disk", "in_flight", &[("device", "vda")])]);
        let sql = metrics(&gauge[0], &window, &host).unwrap();
        assert!(sql.starts_with("SELECT device, time, CAST(in_flight AS DOUBLE) AS value0 FROM disk WHERE"), "{sql}");
        assert!(sql.contains("(device = 'vda')"), "{sql}");
        let sql = charts(&window, &host, false, &Catalog::default()).unwrap();
        assert!(sql.contains("cpu = 'total' UNION ALL SELECT 'memory'"));
    }
}
