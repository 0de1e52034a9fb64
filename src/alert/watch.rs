//! The rules of one table, evaluated together.
//!
//! Rules share work. Equal expressions are evaluated once a batch. Rules that compare the same expression over the same
//! rows share a [`Probe`], which has its lowest and highest value. One comparison with these tells whether a rule can
//! hold for any row. A rule that cannot, and has no series pending or firing, costs nothing else.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;

use super::expression::{Comparison, Expression, Node, Term, counters, extended};
use super::rate::Rates;
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

/// What conditions are made of, each computed once a batch.
#[derive(Debug, Default)]
struct Leaves {
    lefts: Vec<Left>,
    labels: Vec<LabelIs>,
    sqls: Vec<Sql>,
}

/// The left side of comparisons and its value at each row, NaN where absent.
#[derive(Debug)]
struct Left {
    expression: Evaluated,
    values: Vec<f64>,
}

/// A label that must be a certain text, as the label's dictionary keys.
#[derive(Debug)]
struct LabelIs {
    position: usize,
    text: String,
    /// The text's key, once the dictionary has it.
    key: Option<i32>,
    /// How many entries of the dictionary were searched before.
    known: usize,
    keys: Vec<i32>,
}

/// A boolean expression that only DataFusion evaluates.
#[derive(Debug)]
struct Sql {
    expression: Evaluated,
    truths: Vec<Truth>,
}

/// A boolean expression over the leaves, and what it says about each row.
#[derive(Debug)]
struct Mask {
    node: LeafNode,
    truths: Vec<Truth>,
}

/// A [`Node`] over the leaves' positions.
#[derive(Debug)]
enum LeafNode {
    All(Vec<LeafNode>),
    Any(Vec<LeafNode>),
    Not(Box<LeafNode>),
    Compare(usize, Comparison, f64),
    Label(usize),
    Sql(usize),
}

#[derive(Debug)]
struct Evaluated {
    physical: Arc<dyn PhysicalExpr>,
    /// Whether it failed before: a failure is logged once and counted always.
    failed: bool,
}

/// A set of masks that must all be true. The first filter is the empty set.
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

#[derive(Debug)]
struct RateColumns {
    schema: SchemaRef,
    rates: Rates,
    /// For each counter of the table: which of the rates is its own, if a rule uses it.
    places: Vec<Option<usize>>,
    /// Nulls for unused rates, as long as the longest batch so far.
    absent: ArrayRef,
}

impl Comparison {
    fn holds(self, left: f64, right: f64) -> Truth {
        if left.is_nan() {
            return Truth::Unknown;
        }
        #[expect(clippy::float_cmp, reason = "SQL's = and <> on floats are exact")]
        Truth::from(match self {
            Comparison::Above => left > right,
            Comparison::AtLeast => left >= right,
            Comparison::Below => left < right,
            Comparison::AtMost => left <= right,
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
        })
    }

    /// Whether some value of the range may compare true.
    fn may_hold(self, low: f64, high: f64, right: f64) -> bool {
        low <= high
            && match self {
                Comparison::Above => high > right,
                Comparison::AtLeast => high >= right,
                Comparison::Below => low < right,
                Comparison::AtMost => low <= right,
                Comparison::Equal => low <= right && right <= high,
                Comparison::NotEqual => true,
            }
    }
}

impl LeafNode {
    fn truth(&self, leaves: &Leaves, row: usize) -> Truth {
        match self {
            LeafNode::All(nodes) => nodes.iter().map(|node| node.truth(leaves, row)).min().unwrap_or(Truth::True),
            LeafNode::Any(nodes) => nodes.iter().map(|node| node.truth(leaves, row)).max().unwrap_or(Truth::False),
            LeafNode::Not(node) => !node.truth(leaves, row),
            LeafNode::Compare(left, comparison, right) => comparison.holds(leaves.lefts[*left].values[row], *right),
            LeafNode::Label(label) => {
                let LabelIs { keys, key, .. } = &leaves.labels[*label];
                Truth::from(Some(keys[row]) == *key)
            }
            LeafNode::Sql(sql) => leaves.sqls[*sql].truths[row],
        }
    }
}

/// Finds equal things, so that each is kept once.
struct Shared<K>(HashMap<K, usize>);

impl<K> Default for Shared<K> {
    fn default() -> Self {
        Shared(HashMap::new())
    }
}

impl<K: Hash + Eq> Shared<K> {
    fn place<T>(&mut self, key: K, kept: &mut Vec<T>, make: impl FnOnce() -> T) -> usize {
        *self.0.entry(key).or_insert_with(|| {
            kept.push(make());
            kept.len() - 1
        })
    }
}

/// Finds equal leaves while rules are added.
#[derive(Default)]
struct LeafFinder<'a> {
    leaves: Leaves,
    lefts: Shared<&'a Expr>,
    labels: Shared<(usize, &'a str)>,
    sqls: Shared<&'a Expr>,
}

impl<'a> LeafFinder<'a> {
    fn left(&mut self, expression: &'a Expression) -> usize {
        let make = || Left { expression: Evaluated::new(expression), values: Vec::new() };
        self.lefts.place(&expression.key, &mut self.leaves.lefts, make)
    }

    fn node(&mut self, node: &'a Node) -> LeafNode {
        match node {
            Node::All(nodes) => LeafNode::All(nodes.iter().map(|node| self.node(node)).collect()),
            Node::Any(nodes) => LeafNode::Any(nodes.iter().map(|node| self.node(node)).collect()),
            Node::Not(node) => LeafNode::Not(Box::new(self.node(node))),
            Node::Compare { left, comparison, right } => LeafNode::Compare(self.left(left), *comparison, *right),
            Node::Label { position, text } => {
                let make =
                    || LabelIs { position: *position, text: text.clone(), key: None, known: 0, keys: Vec::new() };
                LeafNode::Label(self.labels.place((*position, text), &mut self.leaves.labels, make))
            }
            Node::Sql(expression) => {
                let make = || Sql { expression: Evaluated::new(expression), truths: Vec::new() };
                LeafNode::Sql(self.sqls.place(&expression.key, &mut self.leaves.sqls, make))
            }
        }
    }
}

impl Leaves {
    fn read(&mut self, batch: &RecordBatch, failures: &mut u64) {
        let rows = batch.num_rows();
        for Left { expression, values } in &mut self.lefts {
            values.clear();
            match expression.evaluate(batch, failures) {
                Some(array) => extend_floats(values, &array),
                None => values.resize(rows, f64::NAN),
            }
        }
        for label in &mut self.labels {
            label.read(batch);
        }
        for Sql { expression, truths } in &mut self.sqls {
            truths.clear();
            match expression.evaluate(batch, failures) {
                Some(array) => {
                    truths.extend(array.as_boolean().iter().map(|truth| truth.map_or(Truth::Unknown, Truth::from)));
                }
                None => truths.resize(rows, Truth::Unknown),
            }
        }
    }
}

impl LabelIs {
    fn read(&mut self, batch: &RecordBatch) {
        let labels = batch.column(self.position).as_dictionary::<Int32Type>();
        self.keys.clear();
        self.keys.extend_from_slice(labels.keys().values());
        // A text's key never changes: a newer dictionary only has more texts at its end.
        let texts = labels.values().as_string::<i32>();
        if self.key.is_none() && texts.len() > self.known {
            let found = (self.known..texts.len()).find(|key| texts.value(*key) == self.text);
            self.key = found.and_then(|key| i32::try_from(key).ok());
            self.known = texts.len();
        }
    }
}

impl Evaluated {
    fn new(expression: &Expression) -> Self {
        Evaluated { physical: Arc::clone(&expression.physical), failed: false }
    }

    /// Its column over `batch`. `None` if it cannot be evaluated, which is counted in `failures`.
    fn evaluate(&mut self, batch: &RecordBatch, failures: &mut u64) -> Option<ArrayRef> {
        let evaluated = self.physical.evaluate(batch).and_then(|value| value.into_array(batch.num_rows()));
        match evaluated {
            Ok(array) => Some(array),
            Err(error) => {
                *failures += 1;
                if !std::mem::replace(&mut self.failed, true) {
                    let error = error.strip_backtrace();
                    tracing::warn!(expression = %self.physical, error, "an alert expression cannot be evaluated; to its rules the rows are absent");
                }
                None
            }
        }
    }
}

impl Watch {
    /// Watches `table` with `rules`.
    pub(super) fn new(table: &'static Table, rules: &[Rule]) -> Self {
        let mut watch = Watch {
            labels: table.labels().map(|(position, _)| position).collect(),
            rates: RateColumns::new(table, rules),
            leaves: Leaves::default(),
            masks: Vec::new(),
            filters: vec![Filter { masks: Vec::new(), truths: Vec::new() }],
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
        let mut filters = Shared(HashMap::from([(Vec::new(), 0)]));
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
                    truth = truth.min(trigger.comparison.holds(self.leaves.lefts[left].values[row], trigger.right));
                }
                for (left, comparison, right) in &watched.more {
                    truth = truth.min(comparison.holds(self.leaves.lefts[*left].values[row], *right));
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

    /// How many evaluations failed since the last call.
    pub(super) fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    /// How many rows were not watched or had no rate since the last call.
    pub(super) fn take_excess(&mut self) -> u64 {
        std::mem::take(&mut self.excess) + self.rates.as_mut().map_or(0, |rates| rates.rates.take_excess())
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
                    let value = left.map_or(0.0, |left| self.leaves.lefts[left].values[row]);
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

impl RateColumns {
    fn new(table: &'static Table, rules: &[Rule]) -> Option<Self> {
        let positions: Vec<usize> = counters(table).map(|(position, _)| position).collect();
        let mut used: Vec<usize> = rules.iter().flat_map(|rule| rule.condition.rates.iter().copied()).collect();
        used.sort_unstable();
        used.dedup();
        if used.is_empty() {
            return None;
        }
        Some(RateColumns {
            schema: Arc::new(extended(table)),
            places: (0..positions.len()).map(|counter| used.iter().position(|used| *used == counter)).collect(),
            rates: Rates::new(used.iter().map(|counter| positions[*counter]).collect()),
            absent: Arc::new(Float64Array::new_null(0)),
        })
    }

    /// `batch` with the counters' rates behind its columns.
    fn extend(&mut self, batch: &RecordBatch, times: &[i64], keys: &[SeriesKey]) -> Result<RecordBatch, ArrowError> {
        let rows = batch.num_rows();
        if self.absent.len() < rows {
            self.absent = Arc::new(Float64Array::new_null(rows.next_power_of_two()));
        }
        let rates = self.rates.advance(batch, times, keys);
        let absent = self.absent.slice(0, rows);
        let rates = self.places.iter().map(|place| place.map_or(&absent, |place| &rates[place]));
        let columns = batch.columns().iter().chain(rates).cloned().collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

/// The value of `expression` at one row of `batch`, if it is present.
pub(super) fn value_at(
    expression: &Expression,
    batch: &RecordBatch,
    row: usize,
) -> Result<Option<f64>, DataFusionError> {
    let array = expression.physical.evaluate(&batch.slice(row, 1))?.into_array(1)?;
    let mut values = Vec::with_capacity(1);
    extend_floats(&mut values, &array);
    Ok(values.first().copied().filter(|value| !value.is_nan()))
}

/// Adds a numeric column's values, NaN for what is absent.
fn extend_floats(values: &mut Vec<f64>, array: &ArrayRef) {
    if let Some(floats) = array.as_primitive_opt::<Float64Type>() {
        match floats.nulls() {
            None => values.extend_from_slice(floats.values()),
            Some(_) => values.extend(floats.iter().map(|value| value.unwrap_or(f64::NAN))),
        }
    } else if let Some(integers) = array.as_primitive_opt::<Int64Type>() {
        values.extend(integers.iter().map(|value| value.map_or(f64::NAN, |value| value as f64)));
    } else {
        // The compiler accepts no other types.
        values.resize(values.len() + array.len(), f64::NAN);
    }
}
