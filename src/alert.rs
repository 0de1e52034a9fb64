//! Alerting in line: the drain thread shows every batch to the rules before anything else.
//!
//! A [`rule`] is a SQL condition over one table's columns. A series is the rows with equal labels. [`Engine::evaluate`]
//! takes each batch of rows and moves each rule's series through their states: a series is *pending* while the condition
//! holds, *firing* once it held for the rule's `for`, and *resolved* once it failed for `resolve_after`. [`Engine::tick`]
//! finds the series that have had no rows for `absent_after`, whether or not other rows come: by the rule's `absent` they
//! are *gone*, kept, or fire as *no data*. Each change is told once, through the bounded outbox of [`notify`], and is a row
//! of the table `alert`.
//!
//! Durations are measured on `CLOCK_MONOTONIC` ([`moment`]), so a wall clock that is set neither fires nor resolves. A row in
//! which a value that the condition needs is absent (null, NaN, a division by zero) changes nothing.
//!
//! Alerts that are on outlive the daemon ([`saved`]): after the next start they go on, and are not told again.

mod absence;
pub mod changes;
mod expression;
#[cfg(test)]
#[expect(unreachable_pub, reason = "a record's fields are as public as records are elsewhere")]
mod fixture;
mod leaf;
mod loss;
pub mod machine;
pub mod moment;
pub mod notification;
pub mod notify;
mod rate;
pub mod rule;
pub mod saved;
mod shorthand;
mod state;
mod stated;
pub mod status;
mod table;
mod template;
mod watch;
pub mod webhook;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::family::{FamilyId, PerFamily};
use crate::record::label::Labels;
use changes::{AlertChange, Changes};
use machine::Alert;
use moment::{Moment, Timeline};
use notification::Notification;
use notify::Outbox;
use rule::Rule;
use saved::SavedAlert;
use state::SeriesKey;
use status::{Board, Post};
use table::{Table, firing, row, shown, spaced};
use watch::{Event, Watch};

pub use rule::{Compiler, RuleError, RuleSettings};
pub use state::Transition;

/// How often series without rows are searched.
const SWEEP_INTERVAL_US: i64 = 500_000;
/// How often alerts are handed out to be saved, if one changed.
const SAVE_INTERVAL_US: i64 = 1_000_000;
/// The same if only a peak moved.
const PEAK_SAVE_INTERVAL_US: i64 = 60_000_000;

/// Evaluates rules on batches. Lives on the drain thread. Other threads see its [`Board`].
#[derive(Debug)]
pub struct Engine {
    /// `None` where no rule watches.
    tables: PerFamily<Option<Table>>,
    /// The texts of the tables' labels.
    labels: PerFamily<Arc<Labels>>,
    board: Arc<Board>,
    outbox: Outbox,
    free_memory: FreeMemory,
    events: Vec<Event>,
    timeline: Timeline,
    changes: Changes,
    /// When series without rows were last searched, on `CLOCK_MONOTONIC`.
    swept_us: i64,
    saving: Saving,
}

/// What of the alerts was not saved yet. Times on `CLOCK_MONOTONIC`.
#[derive(Debug, Default)]
struct Saving {
    changed: bool,
    peaks_moved: bool,
    /// When they were last handed out.
    saved_us: Option<i64>,
}

/// The host's free memory, for messages.
#[derive(Debug)]
struct FreeMemory {
    /// Table and column, if a message names it.
    place: Option<(FamilyId, usize)>,
    bytes: Option<i64>,
}

impl Engine {
    /// An engine that evaluates `rules` from `now` on and puts notifications into `outbox`. `labels` has the texts of all
    /// tables' labels.
    #[must_use]
    pub fn new(rules: Vec<Rule>, outbox: Outbox, labels: PerFamily<Arc<Labels>>, now: Moment) -> Self {
        let board = Arc::new(Board::new(&rules));
        let place = rules.iter().find_map(|rule| rule.message.free_memory());
        let mut families: PerFamily<(Vec<Rule>, Vec<Arc<Post>>)> = PerFamily::default();
        for (index, rule) in rules.into_iter().enumerate() {
            let (rules, posts) = &mut families[rule.family];
            rules.push(rule);
            posts.push(board.post(index));
        }
        let tables = families.map(|family, (rules, posts)| {
            let watch = Watch::new(rules.first()?.table, &rules, &labels[family], now);
            Some(Table { watch, rules, posts })
        });
        Engine {
            tables,
            labels,
            board,
            outbox,
            free_memory: FreeMemory { place, bytes: None },
            events: Vec::new(),
            timeline: Timeline::new(now),
            changes: Changes::default(),
            swept_us: now.monotonic_us,
            saving: Saving::default(),
        }
    }

    /// Goes on with the alerts that were on when the daemon ended, as if their series had rows `now`. Those whose rule is
    /// not configured any more are told as gone. Call this once, before the first rows.
    pub fn resume(&mut self, alerts: Vec<SavedAlert>, now: Moment) {
        for saved in alerts {
            if !self.go_on(&saved, now) {
                self.end(saved, now);
            }
        }
        for table in self.tables.iter_mut().filter_map(|(_, table)| table.as_mut()) {
            for rule in 0..table.rules.len() {
                table.show(rule);
            }
        }
    }

    fn go_on(&mut self, saved: &SavedAlert, now: Moment) -> bool {
        let Some(family) = FamilyId::find(&saved.table) else { return false };
        let Some(Table { watch, rules, .. }) = &mut self.tables[family] else { return false };
        let Some(rule) = rules.iter().position(|rule| rule.name == saved.rule) else { return false };
        let names = || rules[rule].table.labels().map(|(_, label)| label.name);
        if saved.labels.keys().any(|saved| names().all(|name| name != saved)) {
            return false;
        }
        let labels = names().map(|name| saved.labels.get(name).map(|text| text.as_str().into())).collect();
        let is_no_data = saved.state == Transition::NoData;
        let peak = saved.peak.unwrap_or(f64::NAN);
        let alert = Alert { labels, is_no_data, since_us: saved.since_us, peak };
        let key = SeriesKey::of(alert.labels.iter().map(Option::as_deref), &self.labels[family]);
        watch.resume(rule, key, alert, now)
    }

    /// Tells that an alert from before the start ends, because nothing watches its series any more.
    fn end(&mut self, saved: SavedAlert, now: Moment) {
        let SavedAlert { rule, table, since_us, peak, labels, notify, .. } = saved;
        let series = shown(labels.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        let notification = Arc::new(Notification {
            message: format!("{rule} is gone: it is not configured any more for {}", spaced(&table, &series)),
            rule: rule.clone(),
            state: Transition::Gone,
            table,
            time_us: now.wall_us,
            since_us,
            value: None,
            peak,
            threshold: None,
            labels,
        });
        for notifier in notify.iter().filter(|notifier| self.outbox.has(notifier)) {
            self.outbox.send(notifier, &notification);
        }
        let change = AlertChange {
            time_us: now.wall_us,
            rule,
            labels: series,
            transition: Transition::Gone,
            value: f64::NAN,
            peak: peak.unwrap_or(f64::NAN),
            since_us,
        };
        if !self.changes.push(now.monotonic_us, || change) {
            self.board.add_lost_changes(1);
        }
        self.saving.changed = true;
    }

    /// The rules' states, for other threads.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Takes those of the keys away that series which rules know have as labels. Forgets what rates know of the others, which may
    /// come to stand for other texts.
    pub fn release(&mut self, family: FamilyId, keys: &mut BTreeSet<i32>) {
        if let Some(Table { watch, .. }) = &mut self.tables[family] {
            watch.release(keys);
        }
    }

    /// A family is sampled at this interval from now on. How long rows may be apart follows from that.
    pub fn set_interval(&mut self, family: FamilyId, interval: Duration) {
        if let Some(Table { watch, rules, .. }) = &mut self.tables[family] {
            watch.set_interval(rules, i64::try_from(interval.as_micros()).unwrap_or(i64::MAX));
        }
    }

    /// Takes the next rows of a family, in the order they were sampled. `now` is when the rings were emptied. Never waits.
    pub fn evaluate(&mut self, family: FamilyId, batch: &RecordBatch, now: Moment) {
        self.timeline.set_now(now);
        self.free_memory.read(family, batch);
        let Some(Table { watch, posts, .. }) = &mut self.tables[family] else { return };
        let settled = |rule: usize, machine: &mut machine::Machine| {
            posts[rule].set_pending(machine.pending());
            posts[rule].add_excess(machine.take_excess(), now.monotonic_us);
        };
        let batch = match watch.evaluate(batch, &self.timeline, &mut self.events, settled) {
            Ok(batch) => batch,
            Err(error) => unreachable!("the family's rows and rates have the table's columns: {error}"),
        };
        let (failures, excess) = (watch.take_failures(), watch.take_excess());
        self.board.add(failures, excess, now.monotonic_us);
        // Events come rule by rule. Notifications follow the order of the rows.
        self.events.sort_by_key(|event| event.row);
        self.tell(family, Some(&batch), now);
    }

    /// All rows until `now` were taken. Finds the series that have none.
    pub fn tick(&mut self, now: Moment) {
        self.timeline.set_now(now);
        let paused_us = self.timeline.finish();
        // After a pause this is always due.
        if now.monotonic_us - self.swept_us < SWEEP_INTERVAL_US {
            return;
        }
        self.swept_us = now.monotonic_us;
        for family in FamilyId::all() {
            let Some(Table { watch, rules, posts }) = &mut self.tables[family] else { continue };
            let peaks_moved = &mut self.saving.peaks_moved;
            watch.sweep(now, paused_us, &mut self.events, |rule, machine| {
                posts[rule].set_pending(machine.pending());
                if machine.take_peaks_moved() {
                    posts[rule].set_firing(firing(machine, rules[rule].table));
                    *peaks_moved = true;
                }
            });
            self.tell(family, None, now);
        }
    }

    /// The alerts that are on, if they are to be saved: about a second after a change at the latest, and `at_end`.
    pub fn take_alerts(&mut self, now: Moment, at_end: bool) -> Option<Vec<SavedAlert>> {
        let age_us = self.saving.saved_us.map_or(i64::MAX, |saved_us| now.monotonic_us - saved_us);
        let is_due = (self.saving.changed && age_us >= SAVE_INTERVAL_US)
            || (self.saving.peaks_moved && age_us >= PEAK_SAVE_INTERVAL_US)
            || (at_end && (self.saving.changed || self.saving.peaks_moved));
        if !is_due {
            return None;
        }
        self.saving = Saving { saved_us: Some(now.monotonic_us), ..Saving::default() };
        let tables = self.tables.values().flatten();
        Some(tables.flat_map(|table| table.rules.iter().enumerate().flat_map(|(rule, _)| table.saved(rule))).collect())
    }

    /// The changes since the last call, for the table `alert`.
    pub fn take_changes(&mut self) -> Vec<AlertChange> {
        self.changes.take()
    }

    /// Tells the events, which are of this family. `batch` has their rows.
    fn tell(&mut self, family: FamilyId, batch: Option<&RecordBatch>, now: Moment) {
        let Some(table) = &mut self.tables[family] else { return };
        if self.events.is_empty() {
            return;
        }
        self.saving.changed = true;
        for event in &self.events {
            let rule = &table.rules[event.rule];
            table.posts[event.rule].count(event.change.transition);
            let notification = Arc::new(table.notification(event, batch, self.free_memory.bytes));
            for notifier in &rule.notify {
                self.outbox.send(notifier, &notification);
            }
            let kept = self.changes.push(now.monotonic_us, || row(&notification));
            if !kept {
                self.board.add_lost_changes(1);
            }
        }
        let mut changed: Vec<usize> = self.events.drain(..).map(|event| event.rule).collect();
        changed.sort_unstable();
        changed.dedup();
        for rule in changed {
            table.show(rule);
        }
    }
}

impl FreeMemory {
    fn read(&mut self, family: FamilyId, batch: &RecordBatch) {
        let Some((named, column)) = self.place else { return };
        if named == family {
            let bytes = batch.column(column).as_primitive::<Int64Type>();
            self.bytes = (0..bytes.len()).rev().find(|row| bytes.is_valid(*row)).map(|row| bytes.value(row));
        }
    }
}

#[cfg(test)]
mod tests;
