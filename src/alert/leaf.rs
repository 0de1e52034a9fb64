//! What conditions are made of: sides of comparisons, labels and other SQL. Each is computed once a batch, however many
//! rules have it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;

use super::expression::{Comparison, Expression, Node};
use super::state::Truth;

/// The leaves of all conditions on one table.
#[derive(Debug, Default)]
pub(super) struct Leaves {
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
    /// The dictionary that was searched last.
    known: Option<ArrayRef>,
    keys: Vec<i32>,
}

/// A boolean expression that only DataFusion evaluates.
#[derive(Debug)]
struct Sql {
    expression: Evaluated,
    truths: Vec<Truth>,
}

/// A [`Node`] over the leaves' positions.
#[derive(Debug)]
pub(super) enum LeafNode {
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

impl Comparison {
    pub(super) fn holds(self, left: f64, right: f64) -> Truth {
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
    pub(super) fn may_hold(self, low: f64, high: f64, right: f64) -> bool {
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
    /// What it says about a row.
    pub(super) fn truth(&self, leaves: &Leaves, row: usize) -> Truth {
        match self {
            LeafNode::All(nodes) => nodes.iter().map(|node| node.truth(leaves, row)).min().unwrap_or(Truth::True),
            LeafNode::Any(nodes) => nodes.iter().map(|node| node.truth(leaves, row)).max().unwrap_or(Truth::False),
            LeafNode::Not(node) => !node.truth(leaves, row),
            LeafNode::Compare(left, comparison, right) => comparison.holds(leaves.values(*left)[row], *right),
            LeafNode::Label(label) => {
                let LabelIs { keys, key, .. } = &leaves.labels[*label];
                Truth::from(Some(keys[row]) == *key)
            }
            LeafNode::Sql(sql) => leaves.sqls[*sql].truths[row],
        }
    }
}

/// Finds equal things, so that each is kept once.
pub(super) struct Shared<K>(HashMap<K, usize>);

impl<K> Default for Shared<K> {
    fn default() -> Self {
        Shared(HashMap::new())
    }
}

impl<K: Hash + Eq> Shared<K> {
    /// The place of what `key` says in `kept`. It is made when the key is new.
    pub(super) fn place<T>(&mut self, key: K, kept: &mut Vec<T>, make: impl FnOnce() -> T) -> usize {
        *self.0.entry(key).or_insert_with(|| {
            kept.push(make());
            kept.len() - 1
        })
    }
}

/// Finds equal leaves while rules are added.
#[derive(Default)]
pub(super) struct LeafFinder<'a> {
    pub(super) leaves: Leaves,
    lefts: Shared<&'a Expr>,
    labels: Shared<(usize, &'a str)>,
    sqls: Shared<&'a Expr>,
}

impl<'a> LeafFinder<'a> {
    pub(super) fn left(&mut self, expression: &'a Expression) -> usize {
        let make = || Left { expression: Evaluated::new(expression), values: Vec::new() };
        self.lefts.place(&expression.key, &mut self.leaves.lefts, make)
    }

    pub(super) fn node(&mut self, node: &'a Node) -> LeafNode {
        match node {
            Node::All(nodes) => LeafNode::All(nodes.iter().map(|node| self.node(node)).collect()),
            Node::Any(nodes) => LeafNode::Any(nodes.iter().map(|node| self.node(node)).collect()),
            Node::Not(node) => LeafNode::Not(Box::new(self.node(node))),
            Node::Compare { left, comparison, right } => LeafNode::Compare(self.left(left), *comparison, *right),
            Node::Label { position, text } => {
                let make =
                    || LabelIs { position: *position, text: text.clone(), key: None, known: None, keys: Vec::new() };
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
    /// The values of a left side, one a row, NaN where absent.
    pub(super) fn values(&self, left: usize) -> &[f64] {
        &self.lefts[left].values
    }

    /// Computes all leaves for the rows of `batch`. Counts those that fail in `failures`.
    pub(super) fn read(&mut self, batch: &RecordBatch, failures: &mut u64) {
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
        if self.known.as_ref().is_some_and(|known| Arc::ptr_eq(known, labels.values())) {
            return;
        }
        // A text keeps its key, unless it was not seen for long and gave way to another.
        let texts = labels.values().as_string::<i32>();
        let is_text = |key: &usize| *key < texts.len() && texts.value(*key) == self.text;
        let same = self.key.and_then(|key| usize::try_from(key).ok()).filter(is_text);
        let found = same.or_else(|| (0..texts.len()).find(is_text));
        self.key = found.and_then(|key| i32::try_from(key).ok());
        self.known = Some(Arc::clone(labels.values()));
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
