//! The cells of charts, and the values beside them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use arrow::array::RecordBatch;

use super::asked::Asked;
use super::cells::{Cell, Kind, fill, put};
use super::held::Held;
use super::metric::Metric;
use super::statement::FACTS_MAX;
use super::window::Window;
use crate::cli::rows::{Rows, float, text, whole};

/// Another interface or device is shown only if it carries so many times as much as the one before.
const BUSIER: f64 = 2.0;
/// What stays on the host counts for so much: another interface is shown if it carries at least a tenth of it.
const LOOPBACK: f64 = 0.1;

/// Cells of all series that charts show.
#[derive(Clone, Debug, Default)]
pub(super) struct Charts {
    /// By table and label: the cells of its two values, as far as they were read.
    of: BTreeMap<(String, String), [Vec<Option<Cell>>; 2]>,
    /// The widest tier that the cells are made of, or `raw`.
    pub(super) tier: String,
    /// Gauges of which some cells hold the value of a row before them.
    held: BTreeSet<(String, String)>,
}

/// Values of one stretch of time.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    of: BTreeMap<(String, String), Fact>,
    /// The end of the stretch.
    pub(super) to_us: i64,
}

/// Means, and the greatest of the first two values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fact {
    mean: [Option<f64>; FACTS_MAX],
    max: [Option<f64>; 2],
}

impl Charts {
    /// Reads the answer for a window that is `pad` cells longer than what is shown, at both ends.
    pub(super) fn read(batches: &[RecordBatch], padded: &Window, pad: usize, held: &Held) -> anyhow::Result<Charts> {
        let mut charts = Charts::default();
        for batch in batches {
            charts.add(&Rows::of(batch), padded)?;
        }
        let shown = pad..padded.cells - pad;
        for metric in held.metrics() {
            let label = metric.labels.first().map_or("", |(_, value)| value.as_str());
            let key = (metric.table.to_owned(), label.to_owned());
            let both =
                charts.of.entry(key.clone()).or_insert_with(|| [vec![None; padded.cells], vec![None; padded.cells]]);
            if held.fill(metric, &mut both[0], padded).get(shown.clone()).is_some_and(|filled| filled.contains(&true)) {
                charts.held.insert(key);
            }
        }
        for ((part, _), both) in &mut charts.of {
            let kind = if part == "cpu" || part == "memory" { Kind::Gauge } else { Kind::Rate };
            for cells in both {
                fill(cells, kind);
                *cells = cells.get(shown.clone()).unwrap_or_default().to_vec();
            }
        }
        Ok(charts)
    }

    fn add(&mut self, rows: &Rows<'_>, padded: &Window) -> anyhow::Result<()> {
        let (parts, labels) = (rows.texts("part")?, rows.texts("label")?);
        let (times, tiers) = (rows.wholes("time")?, rows.texts("tier")?);
        let mut values = Vec::new();
        for name in ["a", "b"] {
            let [min, max, mean] = ["min", "max", "mean"].map(|what| rows.floats(&format!("{name}_{what}")));
            values.push([min?, max?, mean?]);
        }
        for row in 0..rows.count() {
            let key = (text(&parts, row).to_owned(), text(&labels, row).to_owned());
            let both = self.of.entry(key).or_insert_with(|| [vec![None; padded.cells], vec![None; padded.cells]]);
            let tier = text(&tiers, row);
            if wider(tier) > wider(&self.tier) {
                tier.clone_into(&mut self.tier);
            }
            let Some(at) = whole(&times, row).and_then(|time| padded.cell_at(time)) else { continue };
            for (cells, [min, max, mean]) in both.iter_mut().zip(&values) {
                if let (Some(min), Some(max), Some(mean)) = (float(min, row), float(max, row), float(mean, row)) {
                    put(cells, at, Cell { min, max, mean });
                }
            }
        }
        Ok(())
    }

    /// Without cells.
    #[cfg(test)]
    pub(super) fn of_tier(tier: &str) -> Charts {
        Charts { tier: tier.to_owned(), ..Charts::default() }
    }

    /// Sets the cells of a series.
    #[cfg(test)]
    pub(super) fn set(&mut self, part: &str, label: &str, both: [Vec<Option<Cell>>; 2]) {
        self.of.insert((part.to_owned(), label.to_owned()), both);
    }

    /// The cells of a series, of its first or second value. Empty if there is no such series.
    pub(super) fn cells(&self, part: &str, label: &str, which: usize) -> &[Option<Cell>] {
        self.of.get(&(part.to_owned(), label.to_owned())).and_then(|both| both.get(which)).map_or(&[], Vec::as_slice)
    }

    /// Whether some cells of a gauge hold the value of a row before them.
    pub(super) fn is_held(&self, part: &str, label: &str) -> bool {
        self.held.contains(&(part.to_owned(), label.to_owned()))
    }

    /// The labels of a table's series.
    pub(super) fn labels<'a>(&'a self, part: &'a str) -> impl Iterator<Item = &'a str> {
        self.of.keys().filter(move |(of, _)| of == part).map(|(_, label)| label.as_str())
    }

    /// How much a series carries, to compare it with others.
    pub(super) fn carried(&self, part: &str, label: &str) -> f64 {
        let of = |which| self.cells(part, label, which).iter().flatten().map(|cell| cell.mean).sum::<f64>();
        (of(0) + of(1)) * if (part, label) == ("network", "lo") { LOOPBACK } else { 1.0 }
    }

    /// The series of a table that carries most, or the one before if it does not carry much less.
    pub(super) fn busiest(&self, part: &str, before: Option<&str>) -> Option<String> {
        let carried = |label: &str| self.carried(part, label);
        let most = self.labels(part).max_by(|one, other| carried(one).total_cmp(&carried(other)))?;
        let before = before.filter(|before| self.labels(part).any(|label| label == *before));
        let kept = before.filter(|before| carried(most) < BUSIER * carried(before) || carried(most) == 0.0);
        Some(kept.unwrap_or(most).to_owned())
    }
}

/// Cells of metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct More {
    of: HashMap<Metric, Vec<Option<Cell>>>,
    /// Gauges of which some cells hold the value of a row before them.
    held: HashSet<Metric>,
}

impl More {
    /// Adds the answer for a window that is `pad` cells longer than what is shown, at both ends. Wanted metrics without rows have
    /// empty cells then.
    pub(super) fn add(
        &mut self,
        asked: &Asked,
        batches: &[RecordBatch],
        (padded, pad): (&Window, usize),
        held: &Held,
    ) -> anyhow::Result<()> {
        let mut found: HashMap<Metric, Vec<Option<Cell>>> = HashMap::new();
        for batch in batches {
            let rows = Rows::of(batch);
            let labels = asked.labels.iter().map(|name| rows.texts(name)).collect::<anyhow::Result<Vec<_>>>()?;
            let times = rows.wholes("cell")?;
            for (at, &column) in asked.columns.iter().enumerate() {
                let [min, max, mean] = ["min", "max", "mean"].map(|what| rows.floats(&format!("{what}{at}")));
                let (min, max, mean) = (min?, max?, mean?);
                for row in 0..rows.count() {
                    let (Some(min), Some(max), Some(mean)) = (float(&min, row), float(&max, row), float(&mean, row))
                    else {
                        continue;
                    };
                    let Some(cell) = whole(&times, row).and_then(|time| padded.cell_at(time)) else { continue };
                    let values = labels.iter().map(|values| text(values, row).to_owned());
                    let labels = asked.labels.iter().copied().zip(values).collect();
                    let metric = Metric { table: asked.table, column, labels };
                    let cells = found.entry(metric).or_insert_with(|| vec![None; padded.cells]);
                    put(cells, cell, Cell { min, max, mean });
                }
            }
        }
        let shown = pad..padded.cells - pad;
        for metric in held.metrics() {
            let cells = found.entry(metric.clone()).or_insert_with(|| vec![None; padded.cells]);
            if held.fill(metric, cells, padded).get(shown.clone()).is_some_and(|filled| filled.contains(&true)) {
                self.held.insert(metric.clone());
            }
        }
        for (metric, mut cells) in found {
            fill(&mut cells, if metric.is_rate() { Kind::Rate } else { Kind::Gauge });
            self.of.insert(metric, cells.get(shown.clone()).unwrap_or_default().to_vec());
        }
        Ok(())
    }

    /// Remembers that a metric was asked for, if it has no rows.
    pub(super) fn know(&mut self, metric: &Metric) {
        self.of.entry(metric.clone()).or_default();
    }

    /// Of how many it knows.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether it was asked for.
    pub(super) fn has(&self, metric: &Metric) -> bool {
        self.of.contains_key(metric)
    }

    /// Whether some cells of a gauge hold the value of a row before them.
    pub(super) fn is_held(&self, metric: &Metric) -> bool {
        self.held.contains(metric)
    }

    /// The cells of a metric. Empty if there are none.
    pub(super) fn cells(&self, metric: &Metric) -> &[Option<Cell>] {
        self.of.get(metric).map_or(&[], Vec::as_slice)
    }

    /// Sets the cells of a metric.
    #[cfg(test)]
    pub(super) fn set(&mut self, metric: Metric, cells: Vec<Option<Cell>>) {
        self.of.insert(metric, cells);
    }
}

fn wider(tier: &str) -> usize {
    ["raw", "1s", "1m"].iter().position(|known| *known == tier).map_or(0, |at| at + 1)
}

impl Facts {
    /// Reads the answer for a stretch of time.
    pub(super) fn read(batches: &[RecordBatch], to_us: i64) -> anyhow::Result<Facts> {
        let mut facts = Facts { to_us, ..Facts::default() };
        for batch in batches {
            let rows = Rows::of(batch);
            let (parts, labels) = (rows.texts("part")?, rows.texts("label")?);
            let columns = |name: &str, count: usize| {
                (0..count).map(|at| rows.floats(&format!("{name}{at}"))).collect::<anyhow::Result<Vec<_>>>()
            };
            let (mean, max) = (columns("mean", FACTS_MAX)?, columns("max", 2)?);
            for row in 0..rows.count() {
                let key = (text(&parts, row).to_owned(), text(&labels, row).to_owned());
                let fact = facts.of.entry(key).or_default();
                // The row before the window, if there is one, comes first.
                for (place, column) in fact.mean.iter_mut().zip(&mean) {
                    *place = float(column, row);
                }
                for (place, column) in fact.max.iter_mut().zip(&max) {
                    *place = float(column, row);
                }
            }
        }
        Ok(facts)
    }

    /// Without values.
    #[cfg(test)]
    pub(super) fn until(to_us: i64) -> Facts {
        Facts { to_us, ..Facts::default() }
    }

    /// Sets the values of a series.
    #[cfg(test)]
    pub(super) fn set(&mut self, part: &str, label: &str, mean: &[f64], max: [f64; 2]) {
        let mut fact = Fact { max: max.map(Some), ..Fact::default() };
        fact.mean.iter_mut().zip(mean).for_each(|(place, value)| *place = Some(*value));
        self.of.insert((part.to_owned(), label.to_owned()), fact);
    }

    /// Whether nothing is known of processors: nothing was recorded, or its rows have expired.
    pub(super) fn is_empty(&self) -> bool {
        !self.of.iter().any(|((part, _), fact)| part == "cpu" && fact.mean[0].is_some())
    }

    /// The mean of a series' value, by its position in `statement::FACTS`.
    pub(super) fn mean(&self, part: &str, label: &str, at: usize) -> Option<f64> {
        self.of.get(&(part.to_owned(), label.to_owned()))?.mean.get(at).copied().flatten()
    }

    /// The greatest of it; known for the first two.
    pub(super) fn max(&self, part: &str, label: &str, at: usize) -> Option<f64> {
        self.of.get(&(part.to_owned(), label.to_owned()))?.max.get(at).copied().flatten()
    }

    /// Processors in the order of their numbers, with how busy they were.
    pub(super) fn cores(&self) -> Vec<(u32, f64)> {
        let cores = self.of.iter().filter(|((part, _), _)| part == "cpu");
        let mut cores: Vec<_> =
            cores.filter_map(|((_, label), fact)| Some((label.parse().ok()?, fact.mean[0]?))).collect();
        cores.sort_unstable_by_key(|(number, _)| *number);
        cores
    }

    /// The processors that were busy, of all.
    pub(super) fn busy_cpus(&self) -> Option<f64> {
        let count = self.cores().len();
        self.mean("cpu", "total", 0).filter(|_| count > 0).map(|share| share * count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charts(carried: &[(&str, f64)]) -> Charts {
        let of = carried.iter().map(|(label, mean)| {
            let cells = vec![Some(Cell::of(*mean))];
            (("network".to_owned(), (*label).to_owned()), [cells.clone(), cells])
        });
        Charts { of: of.collect(), ..Charts::default() }
    }

    #[test]
    fn the_busiest_changes_only_when_another_carries_twice_as_much() {
        let busiest = |carried: &[(&str, f64)], before| charts(carried).busiest("network", before);
        assert_eq!(busiest(&[("eth0", 1.0), ("eth1", 1.5), ("lo", 9.0)], None).as_deref(), Some("eth1"));
        assert_eq!(busiest(&[("eth0", 1.0), ("eth1", 1.5)], Some("eth0")).as_deref(), Some("eth0"));
        assert_eq!(busiest(&[("eth0", 1.0), ("eth1", 2.5)], Some("eth0")).as_deref(), Some("eth1"));
        assert_eq!(busiest(&[("eth1", 2.5)], Some("eth0")).as_deref(), Some("eth1"));
        // The loopback is shown if nothing else carries a tenth of it, and stays until another carries a fifth.
        assert_eq!(busiest(&[("eth0", 1.1), ("lo", 10.0)], None).as_deref(), Some("eth0"));
        assert_eq!(busiest(&[("eth0", 0.001), ("lo", 10.0)], None).as_deref(), Some("lo"));
        assert_eq!(busiest(&[("eth0", 1.9), ("lo", 10.0)], Some("lo")).as_deref(), Some("lo"));
        assert_eq!(busiest(&[("eth0", 2.1), ("lo", 10.0)], Some("lo")).as_deref(), Some("eth0"));
        assert_eq!(busiest(&[("eth0", 0.6), ("lo", 10.0)], Some("eth0")).as_deref(), Some("eth0"));
        assert_eq!(busiest(&[("eth0", 0.4), ("lo", 10.0)], Some("eth0")).as_deref(), Some("lo"));
        assert_eq!(busiest(&[("eth0", 0.0), ("eth1", 0.0)], Some("eth0")).as_deref(), Some("eth0"));
        assert_eq!(busiest(&[], None), None);
    }
}
