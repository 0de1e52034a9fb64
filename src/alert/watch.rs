//! The rules of one table, evaluated together.
//!
//! Rules share work. Equal expressions are evaluated once a batch. Rules that compare the same expression over the same
//! rows share a [`Probe`], which has its lowest and highest value. One comparison with these tells whether a rule can
//! hold for any row. A rule that cannot, and has no series pending or firing, costs nothing else.

use std::collections::BTreeSet;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::error::ArrowError;

use super::expression::{Comparison, Term};
use super::leaf::{LeafFinder, LeafNode, Leaves, Shared};
use super::rate::RateColumns;
use super::rule::Rule;
use super::state::{GONE_AFTER_US, Machine, SeriesKey, Transition, Truth};
use crate::record::Table;

/// How often gone series are searched, in the time of the rows.
const SWEEP_INTERVAL_US: i64 = GONE_AFTER_US / 10;

/// A transition to tell, as positions in the batch that caused it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    /// Position of the rule in its table.
    pub(super) rule: usize,
    pub(super) key: SeriesKey,
    pub(super) transition: Transition,
    pub(super) time_us: i64,
    /// The row that caused it; none when the series is gone.
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
    swept_us: i64,
    keys: Vec<SeriesKey>,
    /// Failed evaluations since the last [`take_failures`](Self::take_failures).
    failures: u64,
    /// Rows not watched since the last [`take_excess`](Self::take_excess).
    excess: u64,
}

/// One rule's state.
#[derive(Debug)]
struct Watched {
    machine: Machine,
    /// Comparisons beyond the one in the probe.
    more: Vec<(usize, Comparison, f64)>,
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
    /// Whether the rule has series pending or firing.
    busy: bool,
}

impl Watch {
    /// Watches `table` with `rules`.
    pub(super) fn new(table: &'static Table, rules: &[Rule]) -> Self {
        let mut watch = Watch {
            labels: table.labels().map(|(position, _)| position).collect(),
            rates: RateColumns::new(table, rules.iter().flat_map(|rule| &rule.condition.rates)),
            leaves: Leaves::default(),
            masks: Vec::new(),
            filters: Vec::new(),
            probes: Vec::new(),
            triggers: Vec::with_capacity(rules.len()),
            watched: Vec::with_capacity(rules.len()),
            swept_us: i64::MIN,
            keys: Vec::new(),
            failures: 0,
            excess: 0,
        };
        let mut leaves = LeafFinder::default();
        let mut masks = Shared::default();
        let mut filters = Shared::default();
        let mut probes = Shared::default();
        for rule in rules {
            let mut filter = Vec::new();
            let mut comparisons = Vec::new();
            for term in &rule.condition.terms {
                match term {
                    Term::Boolean { key, node } => {
                        let make = || Mask { node: leaves.node(node), truths: Vec::new() };
                        filter.push(masks.place(key, &mut watch.masks, make));
                    }
                    Term::Compare { left, comparison, right } => {
                        comparisons.push((leaves.left(left), *comparison, *right));
                    }
                }
            }
            filter.sort_unstable();
            filter.dedup();
            let make = || Filter { masks: filter.clone(), truths: Vec::new() };
            let filter = filters.place(filter.clone(), &mut watch.filters, make);
            let mut comparisons = comparisons.into_iter();
            // A rule without comparisons holds for every row that passes its filter: its probe's range is then 0…0.
            let first = comparisons.next();
            let (left, comparison, right) = first
                .map_or((None, Comparison::Equal, 0.0), |(left, comparison, right)| (Some(left), comparison, right));
            let make = || Probe { filter, left, low: f64::INFINITY, high: f64::NEG_INFINITY };
            let probe = probes.place((filter, left), &mut watch.probes, make);
            watch.triggers.push(Trigger { probe, comparison, right, busy: false });
            let machine = Machine::new(rule.hold_us, rule.resolve_after_us);
            watch.watched.push(Watched { machine, more: comparisons.collect() });
        }
        watch.leaves = leaves.leaves;
        watch
    }

    /// Takes the rows of `batch` and adds transitions to `events`. Calls `settled` for each rule whose pending series may
    /// have changed. Returns the batch that the rules' expressions refer to.
    pub(super) fn evaluate(
        &mut self,
        batch: &RecordBatch,
        events: &mut Vec<Event>,
        mut settled: impl FnMut(usize, &Machine),
    ) -> Result<RecordBatch, ArrowError> {
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>().values();
        self.read_keys(batch);
        let batch = match &mut self.rates {
            Some(rates) => rates.extend(batch, times, &self.keys)?,
            None => batch.clone(),
        };
        self.read_terms(&batch);
        for (rule, (trigger, watched)) in self.triggers.iter_mut().zip(&mut self.watched).enumerate() {
            let Probe { filter, left, low, high } = self.probes[trigger.probe];
            if !trigger.busy && !trigger.comparison.may_hold(low, high, trigger.right) {
                continue;
            }
            let passes = &self.filters[filter].truths;
            let machine = &mut watched.machine;
            for (row, (time_us, key)) in times.iter().zip(&self.keys).enumerate() {
                let mut truth = passes[row];
                if let Some(left) = left {
                    truth = truth.min(trigger.comparison.holds(self.leaves.values(left)[row], trigger.right));
                }
                for (left, comparison, right) in &watched.more {
                    truth = truth.min(comparison.holds(self.leaves.values(*left)[row], *right));
                }
                if let Some(transition) = machine.step(*key, *time_us, truth) {
                    events.push(Event { rule, key: *key, transition, time_us: *time_us, row: Some(row) });
                }
            }
            self.excess += machine.take_excess();
            trigger.busy = !machine.is_quiet();
            settled(rule, machine);
        }
        if let Some(now_us) = times.last() {
            self.sweep(*now_us, events, settled);
        }
        Ok(batch)
    }

    /// The rule's state machine.
    pub(super) fn machine(&self, rule: usize) -> &Machine {
        &self.watched[rule].machine
    }

    /// The texts of a series' labels, by name; `batch` is any batch of the table that is not older than the series.
    pub(super) fn label_texts(
        &self,
        key: SeriesKey,
        table: &'static Table,
        batch: &RecordBatch,
    ) -> Vec<(&'static str, String)> {
        let text = |(index, position): (usize, &usize)| {
            let text = super::template::text(batch.column(*position).as_ref(), key.label(index, self.labels.len()));
            (table.columns[*position].name, text)
        };
        self.labels.iter().enumerate().map(text).collect()
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

    /// How many rows were not watched or had no rate since the last call.
    pub(super) fn take_excess(&mut self) -> u64 {
        std::mem::take(&mut self.excess) + self.rates.as_mut().map_or(0, RateColumns::take_excess)
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

    fn sweep(&mut self, now_us: i64, events: &mut Vec<Event>, mut settled: impl FnMut(usize, &Machine)) {
        if now_us.saturating_sub(self.swept_us) < SWEEP_INTERVAL_US && now_us >= self.swept_us {
            return;
        }
        self.swept_us = now_us;
        for (rule, (trigger, watched)) in self.triggers.iter_mut().zip(&mut self.watched).enumerate() {
            if !trigger.busy {
                continue;
            }
            for key in watched.machine.forget_gone(now_us) {
                events.push(Event { rule, key, transition: Transition::Resolved, time_us: now_us, row: None });
            }
            trigger.busy = !watched.machine.is_quiet();
            settled(rule, &watched.machine);
        }
    }
}
