//! In-line alerting: rules see every batch on the drain thread, before anything else does.
//!
//! A [`rule`] is a SQL condition over one table's columns. [`Engine::evaluate`] takes each batch of rows and moves
//! each rule's series (a series is the rows with equal labels) through their states: a series is *pending* while the
//! condition holds, *firing* once it held for the rule's `for`, and *resolved* once it failed for `resolve_after`.
//! Time is the rows' own. Firing and resolved are told exactly once each, through the bounded outbox of [`notify`].
//!
//! Where something that a condition needs is absent (null, NaN, a division by zero), the row changes nothing: absent
//! data neither fires nor resolves. A firing series that has no rows for five minutes while its table has is gone, and
//! resolved by that. The states are not kept over a restart: what still holds then is told again.

mod expression;
pub mod notify;
mod rate;
pub mod rule;
mod shorthand;
mod state;
pub mod status;
mod template;
mod watch;
pub mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use notify::{Notification, Outbox, State};
use rule::Rule;
use state::Change;
use status::{Board, FIRING_LISTED_MAX, Firing, Post};
use template::Facts;
use watch::{Event, Watch, value_at};

pub use rule::{Compiler, RuleError, RuleSettings};

/// Evaluates rules on batches. Lives on the drain thread; others see it through its [`Board`].
#[derive(Debug)]
pub struct Engine {
    /// At the family's index; `None` where no rule watches.
    tables: Vec<Option<Table>>,
    board: Arc<Board>,
    outbox: Outbox,
    free_memory: FreeMemory,
    events: Vec<Event>,
}

/// One table's rules.
#[derive(Debug)]
struct Table {
    watch: Watch,
    rules: Vec<Rule>,
    /// Each rule's place on the board.
    posts: Vec<Arc<Post>>,
}

/// The host's free memory, for messages.
#[derive(Debug)]
struct FreeMemory {
    /// Family index and column, if a message names it.
    place: Option<(usize, usize)>,
    bytes: Option<i64>,
}

impl Engine {
    /// An engine that evaluates `rules` and tells through `outbox`.
    #[must_use]
    pub fn new(rules: Vec<Rule>, outbox: Outbox) -> Self {
        let board = Arc::new(Board::new(&rules));
        let place = rules.iter().find_map(|rule| rule.message.free_memory());
        let mut families: BTreeMap<usize, (Vec<Rule>, Vec<Arc<Post>>)> = BTreeMap::new();
        for (index, rule) in rules.into_iter().enumerate() {
            let (rules, posts) = families.entry(rule.family).or_default();
            rules.push(rule);
            posts.push(board.post(index));
        }
        let count = families.last_key_value().map_or(0, |(family, _)| family + 1);
        let mut tables: Vec<Option<Table>> = (0..count).map(|_| None).collect();
        for (family, (rules, posts)) in families {
            let watch = Watch::new(rules[0].table, &rules);
            tables[family] = Some(Table { watch, rules, posts });
        }
        Engine { tables, board, outbox, free_memory: FreeMemory { place, bytes: None }, events: Vec::new() }
    }

    /// Where the rules stand, for other threads.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Takes the next rows of a family, which are in the order they were sampled. Never waits.
    pub fn evaluate(&mut self, family_index: usize, batch: &RecordBatch) {
        self.free_memory.read(family_index, batch);
        let Some(Some(Table { watch, rules, posts })) = self.tables.get_mut(family_index) else { return };
        let settled = |rule: usize, machine: &state::Machine| posts[rule].set_pending(machine.pending());
        let batch = match watch.evaluate(batch, &mut self.events, settled) {
            Ok(batch) => batch,
            Err(error) => unreachable!("the family's rows and rates have the table's columns: {error}"),
        };
        let (failures, excess) = (watch.take_failures(), watch.take_excess());
        if failures + excess > 0 {
            self.board.add(failures, excess);
        }
        if self.events.is_empty() {
            return;
        }
        // Rule by rule they came; they are told in the order of the rows.
        self.events.sort_by_key(|event| event.row);
        for event in &self.events {
            let rule = &rules[event.rule];
            let notification = Arc::new(notification(rule, watch, event, &batch, self.free_memory.bytes));
            for notifier in &rule.notify {
                self.outbox.send(notifier, &notification);
            }
        }
        let mut changed: Vec<usize> = self.events.drain(..).map(|event| event.rule).collect();
        changed.sort_unstable();
        changed.dedup();
        for rule in changed {
            posts[rule].set_firing(firing(&rules[rule], rule, watch, &batch));
        }
    }
}

impl FreeMemory {
    fn read(&mut self, family_index: usize, batch: &RecordBatch) {
        let Some((family, column)) = self.place else { return };
        if family == family_index {
            let bytes = batch.column(column).as_primitive::<Int64Type>();
            self.bytes = (0..bytes.len()).rev().find(|row| bytes.is_valid(*row)).map(|row| bytes.value(row));
        }
    }
}

fn notification(
    rule: &Rule,
    watch: &Watch,
    event: &Event,
    batch: &RecordBatch,
    free_memory_bytes: Option<i64>,
) -> Notification {
    let state = match event.change {
        Change::Fired => State::Firing,
        Change::Resolved => State::Resolved,
    };
    let labels = watch.label_texts(event.key, rule.table, batch);
    let expression = rule.condition.value.as_ref();
    // An expression that cannot be evaluated was told when the rule's own evaluation failed.
    let value =
        expression.zip(event.row).and_then(|(expression, row)| value_at(expression, batch, row).unwrap_or(None));
    let threshold = rule.condition.threshold;
    let row = event.row.map(|row| (batch, row));
    let facts =
        Facts { rule: &rule.name, state: state.as_str(), value, threshold, free_memory_bytes, labels: &labels, row };
    let message = rule.message.render(&facts);
    Notification {
        rule: rule.name.clone(),
        state,
        table: rule.table.name,
        time_us: event.time_us,
        value,
        threshold,
        labels: labels.into_iter().collect(),
        message,
    }
}

fn firing(rule: &Rule, index: usize, watch: &Watch, batch: &RecordBatch) -> Firing {
    let keys = watch.machine(index).firing();
    let mut listed: Vec<BTreeMap<_, _>> = keys
        .take(FIRING_LISTED_MAX)
        .map(|key| watch.label_texts(key, rule.table, batch).into_iter().collect())
        .collect();
    listed.sort_unstable();
    Firing { count: watch.machine(index).firing().count(), listed }
}
