//! One table's rules, and what is said of their alerts.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;

use super::changes::AlertChange;
use super::leaf::value_at;
use super::machine::{Alert, Change, Machine};
use super::notification::Notification;
use super::rule::Rule;
use super::saved::SavedAlert;
use super::state::Transition;
use super::status::{FIRING_LISTED_MAX, Firing, FiringSeries, Post};
use super::template::Facts;
use super::watch::{Event, Watch};
use crate::record;
use crate::words;

/// One table's rules.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) watch: Watch,
    pub(super) rules: Vec<Rule>,
    /// Each rule's place on the board.
    pub(super) posts: Vec<Arc<Post>>,
}

impl Table {
    /// What the rule's notifiers are told of an event. `batch` has its row.
    pub(super) fn notification(
        &self,
        event: &Event,
        batch: Option<&RecordBatch>,
        free_memory_bytes: Option<i64>,
    ) -> Notification {
        let (rule, Change { transition, alert }) = (&self.rules[event.rule], &event.change);
        let labels = labels(rule.table, alert);
        let row = batch.zip(event.row);
        let expression = rule.condition.value.as_ref();
        // A failure was logged already, when the rule itself was evaluated.
        let value =
            expression.zip(row).and_then(|(expression, (batch, row))| value_at(expression, batch, row).unwrap_or(None));
        let threshold = rule.condition.threshold;
        let message = match transition {
            Transition::Firing | Transition::Resolved => {
                let (rule_name, state, labels) = (&rule.name, transition.as_str(), &labels);
                let facts = Facts { rule: rule_name, state, value, threshold, free_memory_bytes, labels, row };
                rule.message.render(&facts)
            }
            Transition::Gone | Transition::NoData => {
                let series = spaced(rule.table.name, &shown(labels.iter().map(|(name, text)| (*name, text.as_str()))));
                let absent_after_us = self.watch.machine(event.rule).absent_after_us();
                let absent_after = words::duration(Duration::from_micros(absent_after_us.max(0).cast_unsigned()));
                let what = if *transition == Transition::Gone { "is gone" } else { "has no data" };
                format!("{}: {series} {what}: no rows for {absent_after}", rule.name)
            }
        };
        Notification {
            rule: rule.name.clone(),
            state: *transition,
            table: rule.table.name.into(),
            time_us: event.time_us,
            since_us: alert.since_us,
            value,
            peak: Some(alert.peak).filter(|peak| !peak.is_nan()),
            threshold,
            labels: labels.into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
            message,
        }
    }

    /// Puts the rule's firing series on the board.
    pub(super) fn show(&self, rule: usize) {
        self.posts[rule].set_firing(firing(self.watch.machine(rule), self.rules[rule].table));
    }

    /// The rule's alerts that are on.
    pub(super) fn saved(&self, rule: usize) -> impl Iterator<Item = SavedAlert> {
        let settings = &self.rules[rule];
        self.watch.machine(rule).alerts().map(|alert| SavedAlert {
            rule: settings.name.clone(),
            table: settings.table.name.into(),
            state: if alert.is_no_data { Transition::NoData } else { Transition::Firing },
            since_us: alert.since_us,
            peak: Some(alert.peak).filter(|peak| peak.is_finite()),
            labels: labels(settings.table, alert).into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
            notify: settings.notify.clone(),
        })
    }
}

/// The labels of an alert's series by name, without those that may have any text.
fn labels(table: &'static record::Table, alert: &Alert) -> Vec<(&'static str, String)> {
    let named = table.labels().zip(alert.labels.iter());
    named.filter_map(|((_, label), text)| Some((label.name, text.as_deref()?.to_owned()))).collect()
}

/// Labels as `name=value`, with a blank between two of them.
pub(super) fn shown<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    labels.map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>().join(" ")
}

/// A table and the labels of a series, if it has any.
pub(super) fn spaced(table: &str, series: &str) -> String {
    if series.is_empty() { table.to_owned() } else { format!("{table} {series}") }
}

/// What the table `alert` gets of what is told.
pub(super) fn row(notification: &Notification) -> AlertChange {
    AlertChange {
        time_us: notification.time_us,
        rule: notification.rule.clone(),
        labels: shown(notification.labels.iter().map(|(name, text)| (name.as_str(), text.as_str()))),
        transition: notification.state,
        value: notification.value.unwrap_or(f64::NAN),
        peak: notification.peak.unwrap_or(f64::NAN),
        since_us: notification.since_us,
    }
}

/// A rule's alerts for the board.
pub(super) fn firing(machine: &Machine, table: &'static record::Table) -> Firing {
    let series = |alert: &Alert| FiringSeries {
        labels: labels(table, alert).into_iter().collect(),
        has_no_data: alert.is_no_data,
        since_us: alert.since_us,
        peak: Some(alert.peak).filter(|peak| !peak.is_nan()),
    };
    let mut listed: Vec<FiringSeries> = machine.alerts().take(FIRING_LISTED_MAX).map(series).collect();
    listed.sort_unstable_by(|one, other| one.labels.cmp(&other.labels));
    Firing { count: machine.on(), listed }
}
