//! The rules of one table, evaluated together.
//!
//! Rules share work. Equal expressions are evaluated once a batch. Rules that compare the same expression over the same
//! rows share a [`Probe`], which has its lowest and highest value. One comparison with these tells whether a rule can
//! hold for any row. A rule that cannot, and has no series pending or firing, costs nothing else.

use std::collections::BTreeSet;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::error::ArrowError;

use super::absence::Absence;
use super::expression::{Comparison, Term};
use super::leaf::{LeafFinder, LeafNode, Leaves, Shared};
use super::machine::{Alert, Change, Machine, Sight};
use super::moment::{Moment, Timeline};
use super::rate::RateColumns;
use super::rule::Rule;
use super::state::{LabelTexts, SeriesKey, Truth};
use crate::record::Table;
use crate::record::label::Labels;

/// A change to tell.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Position of the rule in its table.
    pub(super) rule: usize,
    pub(super) change: Change,
    pub(super) time_us: i64,
    /// The row of the batch that caused it; none when it was the absence of rows.
    pub(super) row: Option<usize>,
}

/// The rules of one table.
#[derive(Debug)]
pub(super) struct Watch {
    /// Positions of the label columns.
    labels: Vec<usize>,
    /// The rates that rules use, if any.
    rates: Option<RateColumns>,
    leaves: Leaves,
    masks: Vec<Mask>,
    filters: Vec<Filter>,
    probes: Vec<Probe>,
    /// Which rules must be evaluated. Apart from the rest, so that going through all of them is quick.
    triggers: Vec<Trigger>,
    /// The rules themselves, at the position of their trigger.
    watched: Vec<Watched>,
    keys: Vec<SeriesKey>,
    /// When the rows were sampled, on `CLOCK_MONOTONIC`.
    places: Vec<i64>,
    /// Failed evaluations since the last [`take_failures`](Self::take_failures).
    failures: u64,
}

/// One rule's state.
#[derive(Debug)]
struct Watched {
    machine: Machine,
    /// Comparisons beyond the one in the probe.
    more: Vec<(usize, Comparison, f64)>,
    /// The value that is told, among the left sides.
    value: Option<usize>,
    /// How the absence of rows is watched, if it is.
    absence: Option<Absence>,
    /// Whether no row makes it fire.
    is_of_presence: bool,
}

impl Watched {
    /// Whether the rule must see every row.
    fn is_busy(&self) -> bool {
        self.absence.is_some() || !self.machine.is_quiet()
    }
}

/// A boolean expression over the leaves, and what it says about each row.
#[derive(Debug)]
struct Mask {
    node: LeafNode,
    truths: Vec<Truth>,
}

/// A set of masks that must all be true.
#[derive(Debug)]
struct Filter {
    masks: Vec<usize>,
    truths: Vec<Truth>,
}

/// The range of a left side over the rows that pass a filter. Empty (low above high) when none does.
#[derive(Debug)]
struct Probe {
    filter: usize,
    left: Option<usize>,
    low: f64,
    high: f64,
}

#[derive(Clone, Copy, Debug)]
struct Trigger {
    probe: usize,
    comparison: Comparison,
    right: f64,
    /// Whether the rule has series pending or firing, or must know all series.
    busy: bool,
}

impl Watch {
    /// Watches `table`, whose labels are interned in `interned`, with `rules`. Rows are expected from `now` on.
    pub(super) fn new(table: &'static Table, rules: &[Rule], interned: &Labels, now: Moment) -> Self {
        let mut watch = Watch {
            labels: table.labels().map(|(position, _)| position).collect(),
            rates: RateColumns::new(table, rules.iter().flat_map(|rule| &rule.condition.rates)),
            leaves: Leaves::default(),
            masks: Vec::new(),
            filters: Vec::new(),
            probes: Vec::new(),
            triggers: Vec::with_capacity(rules.len()),
            watched: Vec::with_capacity(rules.len()),
            keys: Vec::new(),
            places: Vec::new(),
            failures: 0,
        };
        let mut leaves = LeafFinder::default();
        let mut masks = Shared::default();
        let mut filters = Shared::default();
        let mut probes = Shared::default();
        for rule in rules {
            let (mut filter, mut scope) = (Vec::new(), Vec::new());
            let mut comparisons = Vec::new();
            for term in &rule.condition.terms {
                match term {
                    Term::Boolean { key, node, names_labels_only } => {
                        let make = || Mask { node: leaves.node(node), truths: Vec::new() };
                        let mask = masks.place(key, &mut watch.masks, make);
                        filter.push(mask);
                        if *names_labels_only {
                            scope.push(mask);
                        }
                    }
                    Term::Compare { left, comparison, right } => {
                        comparisons.push((leaves.left(left), *comparison, *right));
                    }
                }
            }
            let mut place = |mut filter: Vec<usize>| {
                filter.sort_unstable();
                filter.dedup();
                let make = || Filter { masks: filter.clone(), truths: Vec::new() };
                filters.place(filter.clone(), &mut watch.filters, make)
            };
            let filter = place(filter);
            let mut machine = Machine::new(rule.limits(None), rule.condition.falls);
            let absence = rule.watches_absence().then(|| Absence::new(rule, place(scope), interned, &mut machine, now));
            let mut comparisons = comparisons.into_iter();
            // A rule without comparisons holds for every row that passes its filter: its probe's range is then 0…0.
            let first = comparisons.next();
            let (left, comparison, right) = first
                .map_or((None, Comparison::Equal, 0.0), |(left, comparison, right)| (Some(left), comparison, right));
            let make = || Probe { filter, left, low: f64::INFINITY, high: f64::NEG_INFINITY };
            let probe = probes.place((filter, left), &mut watch.probes, make);
            let value = rule.condition.value.as_ref().map(|value| leaves.left(value));
            let watched =
                Watched { machine, more: comparisons.collect(), value, absence, is_of_presence: rule.is_of_presence() };
            watch.triggers.push(Trigger { probe, comparison, right, busy: watched.is_busy() });
            watch.watched.push(watched);
        }
        watch.leaves = leaves.leaves;
        watch
    }

    /// Goes on with an alert from before the start. Returns whether the rule can.
    pub(super) fn resume(&mut self, rule: usize, key: SeriesKey, alert: Alert, now: Moment) -> bool {
        let watched = &mut self.watched[rule];
        // What stands for several series goes on only if the rule still expects it.
        if alert.labels.iter().any(Option::is_none) && !watched.machine.knows(key) {
            return false;
        }
        let is_tracked = watched.absence.as_ref().is_some_and(|absence| absence.tracks(key));
        let resumed = watched.machine.resume(key, alert, is_tracked, now.monotonic_us);
        if let Some(absence) = &mut watched.absence {
            absence.resume(&mut watched.machine, key);
        }
        self.triggers[rule].busy = watched.is_busy();
        resumed
    }

    /// Follows the interval at which the table is sampled.
    pub(super) fn set_interval(&mut self, rules: &[Rule], interval_us: i64) {
        for (rule, watched) in rules.iter().zip(&mut self.watched) {
            watched.machine.set_limits(rule.limits(Some(interval_us)));
        }
    }

    /// Takes the rows of `batch` and adds changes to `events`. Calls `settled` for each rule whose pending series may
    /// have changed. Returns the batch that the rules' expressions refer to.
    pub(super) fn evaluate(
        &mut self,
        batch: &RecordBatch,
        timeline: &Timeline,
        events: &mut Vec<Event>,
        mut settled: impl FnMut(usize, &mut Machine),
    ) -> Result<RecordBatch, ArrowError> {
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>().values();
        self.read_keys(batch);
        self.places.clear();
        self.places.extend(times.iter().map(|time_us| timeline.place(*time_us)));
        let batch = match &mut self.rates {
            Some(rates) => rates.extend(batch, &self.places, &self.keys)?,
            None => batch.clone(),
        };
        self.read_terms(&batch);
        for (rule, (trigger, watched)) in self.triggers.iter_mut().zip(&mut self.watched).enumerate() {
            let Probe { filter, left, low, high } = self.probes[trigger.probe];
            if !trigger.busy && !trigger.comparison.may_hold(low, high, trigger.right) {
                continue;
            }
            let passes = &self.filters[filter].truths;
            let Watched { machine, more, value, absence, is_of_presence } = &mut *watched;
            for (row, ((time_us, at_us), key)) in times.iter().zip(&self.places).zip(&self.keys).enumerate() {
                let mut holds = if *is_of_presence { Truth::False } else { passes[row] };
                if let Some(left) = left {
                    holds = holds.min(trigger.comparison.holds(self.leaves.values(left)[row], trigger.right));
                }
                for (left, comparison, right) in &*more {
                    holds = holds.min(comparison.holds(self.leaves.values(*left)[row], *right));
                }
                let value = value.map_or(f64::NAN, |left| self.leaves.values(left)[row]);
                let in_scope =
                    absence.as_ref().is_some_and(|absence| self.filters[absence.scope].truths[row] == Truth::True);
                let is_tracked = in_scope && absence.as_ref().is_some_and(|absence| absence.tracks(*key));
                let sight = Sight { key: *key, at_us: *at_us, time_us: *time_us, value, holds, is_tracked };
                let labels = || label_texts(&self.labels, &batch, *key);
                let mut tell = |change| events.push(Event { rule, change, time_us: *time_us, row: Some(row) });
                if let Some(change) = machine.step(&sight, labels) {
                    tell(change);
                }
                if in_scope
                    && let Some(absence) = absence.as_mut()
                    && let Some(change) = absence.see(machine, &sight)
                {
                    tell(change);
                }
            }
            trigger.busy = watched.is_busy();
            settled(rule, &mut watched.machine);
        }
        Ok(batch)
    }

    /// Finds the series that have no rows until `now`, and adds changes to `events`. kymo did not run in the last `paused_us`.
    /// Calls `settled` for each rule whose pending series, or peaks, may have changed.
    pub(super) fn sweep(
        &mut self,
        now: Moment,
        paused_us: i64,
        events: &mut Vec<Event>,
        mut settled: impl FnMut(usize, &mut Machine),
    ) {
        for (rule, (trigger, watched)) in self.triggers.iter_mut().zip(&mut self.watched).enumerate() {
            if !trigger.busy {
                continue;
            }
            let changes = watched.machine.sweep(now.monotonic_us, now.wall_us, paused_us).into_iter();
            events.extend(changes.map(|change| Event { rule, change, time_us: now.wall_us, row: None }));
            trigger.busy = watched.is_busy();
            settled(rule, &mut watched.machine);
        }
    }

    /// The rule's state machine.
    pub(super) fn machine(&self, rule: usize) -> &Machine {
        &self.watched[rule].machine
    }

    /// Takes those of the keys away that series of rules have, and forgets the rates of the others.
    pub(super) fn release(&mut self, keys: &mut BTreeSet<i32>) {
        let labels = self.labels.len();
        self.watched.iter().for_each(|watched| watched.machine.take_held(keys, labels));
        if let Some(rates) = &mut self.rates {
            rates.forget(keys, labels);
        }
    }

    /// How many evaluations failed since the last call.
    pub(super) fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    /// How many rows had no rate since the last call.
    pub(super) fn take_excess(&mut self) -> u64 {
        self.rates.as_mut().map_or(0, RateColumns::take_excess)
    }

    fn read_keys(&mut self, batch: &RecordBatch) {
        self.keys.clear();
        self.keys.resize(batch.num_rows(), SeriesKey::default());
        for position in &self.labels {
            let label = batch.column(*position).as_dictionary::<Int32Type>();
            for (key, label) in self.keys.iter_mut().zip(label.keys().values()) {
                *key = key.with(*label);
            }
        }
    }

    fn read_terms(&mut self, batch: &RecordBatch) {
        let rows = batch.num_rows();
        self.leaves.read(batch, &mut self.failures);
        for Mask { node, truths } in &mut self.masks {
            truths.clear();
            truths.extend((0..rows).map(|row| node.truth(&self.leaves, row)));
        }
        for Filter { masks, truths } in &mut self.filters {
            truths.clear();
            truths.resize(rows, Truth::True);
            for mask in masks {
                for (truth, mask) in truths.iter_mut().zip(&self.masks[*mask].truths) {
                    *truth = (*truth).min(*mask);
                }
            }
        }
        for Probe { filter, left, low, high } in &mut self.probes {
            (*low, *high) = (f64::INFINITY, f64::NEG_INFINITY);
            for (row, truth) in self.filters[*filter].truths.iter().enumerate() {
                if *truth == Truth::True {
                    let value = left.map_or(0.0, |left| self.leaves.values(left)[row]);
                    // min and max ignore NaN, which stands for absent.
                    (*low, *high) = (low.min(value), high.max(value));
                }
            }
        }
    }
}

/// The texts of a series' labels, which stand at these positions of `batch`. The series has a row in it.
fn label_texts(positions: &[usize], batch: &RecordBatch, key: SeriesKey) -> LabelTexts {
    let text = |(index, position): (usize, &usize)| {
        Some(super::template::text(batch.column(*position).as_ref(), key.label(index, positions.len())).into())
    };
    positions.iter().enumerate().map(text).collect()
}
