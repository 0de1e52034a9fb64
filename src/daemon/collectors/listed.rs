//! The list of the collectors: what each of them is, does and has lost.

use std::collections::BTreeMap;
use std::mem;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use super::delayed::{Delayed, Then};
use crate::collector::{CollectorSettings, CollectorStatus, scheduling_was_refused};
use crate::latest::SourceId;
use crate::sampler::health::CollectorHealth;
use crate::sampler::thread::CollectorThread;
use crate::sampler::{Ended, Totals};
use crate::serve::OperatorError;
use crate::words::list;

/// The collectors by their names.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) entries: BTreeMap<String, Entry>,
    /// What stopped collectors had missed and dropped.
    pub(super) retired: Totals,
}

pub(super) struct Entry {
    pub(super) settings: CollectorSettings,
    /// When it was started, µs since the epoch.
    pub(super) since_us: i64,
    pub(super) doing: Doing,
    /// Whose rows are its newest.
    pub(super) source: SourceId,
    /// Its counts until it reports: zeros, or those before it was retuned.
    pub(super) totals: Totals,
    /// The health that was last logged.
    pub(super) logged: CollectorHealth,
}

/// What a collector does.
pub(super) enum Doing {
    Sampling(CollectorThread),
    /// It is being stopped or retuned: whoever does that waits for its thread.
    Changing,
    /// It was to stop, and a read hangs.
    Hanging(Delayed),
}

/// A collector that had hung when it was to stop, and has ended since.
pub(super) struct Returned {
    pub(super) settings: CollectorSettings,
    pub(super) since_us: i64,
    pub(super) then: Then,
    pub(super) ended: Ended,
}

impl Listed {
    pub(super) fn get(&self, name: &str) -> Result<&Entry, OperatorError> {
        self.entries.get(name).ok_or_else(|| self.missing(name))
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Result<&mut Entry, OperatorError> {
        let missing = self.missing(name);
        self.entries.get_mut(name).ok_or(missing)
    }

    /// Takes a collector off the list that had done `totals`.
    pub(super) fn remove(&mut self, name: &str, totals: &Totals) -> Result<Entry, OperatorError> {
        let entry = self.entries.remove(name).ok_or_else(|| self.missing(name))?;
        self.retired.missed += totals.missed;
        self.retired.dropped += totals.dropped;
        Ok(entry)
    }

    /// The collectors whose threads have ended that had hung when they were to stop.
    pub(super) fn returned(&mut self) -> Vec<Returned> {
        self.entries.values_mut().filter_map(Entry::returned).collect()
    }

    /// Logs how the collectors' health has changed since the last call.
    pub(super) fn log_changes(&mut self) {
        for entry in self.entries.values_mut() {
            let now = entry.health();
            log_change(&entry.settings.name, &entry.logged, &now);
            entry.logged = now;
        }
    }

    fn missing(&self, name: &str) -> OperatorError {
        let running =
            if self.entries.is_empty() { "none".into() } else { list(self.entries.keys().map(String::as_str)) };
        OperatorError::NotFound(format!("there is no collector {name}; running: {running}"))
    }
}

impl Entry {
    pub(super) fn thread(&self) -> Option<&CollectorThread> {
        match &self.doing {
            Doing::Sampling(thread) => Some(thread),
            Doing::Changing => None,
            Doing::Hanging(delayed) => Some(delayed.thread()),
        }
    }

    /// Takes the thread out, to stop it. The collector stays listed with its health and counts as of now.
    pub(super) fn begin_change(&mut self, reports: &[(SourceId, RecordBatch)]) -> Option<CollectorThread> {
        self.logged = self.health();
        self.totals = self.totals(reports);
        match mem::replace(&mut self.doing, Doing::Changing) {
            Doing::Sampling(thread) => Some(thread),
            Doing::Changing => None,
            Doing::Hanging(delayed) => Some(delayed.into_thread()),
        }
    }

    fn returned(&mut self) -> Option<Returned> {
        let delayed = match mem::replace(&mut self.doing, Doing::Changing) {
            Doing::Hanging(delayed) => delayed,
            other => {
                self.doing = other;
                return None;
            }
        };
        match delayed.ended() {
            Ok((then, ended)) => {
                self.totals = ended.totals;
                Some(Returned { settings: self.settings.clone(), since_us: self.since_us, then, ended })
            }
            Err(delayed) => {
                self.doing = Doing::Hanging(delayed);
                None
            }
        }
    }

    pub(super) fn health(&self) -> CollectorHealth {
        self.thread().map_or_else(|| self.logged.clone(), CollectorThread::health)
    }

    pub(super) fn status(&self, reports: &[(SourceId, RecordBatch)]) -> CollectorStatus {
        let (settings, totals, health) = (self.settings.clone(), self.totals(reports), self.health());
        CollectorStatus { settings, running_since_us: self.since_us, totals, health }
    }

    /// Its counts as last reported.
    fn totals(&self, reports: &[(SourceId, RecordBatch)]) -> Totals {
        let report = reports.iter().find(|(source, _)| *source == self.source);
        report.and_then(|(_, report)| last_totals(report)).unwrap_or(self.totals)
    }
}

/// The counts in the last row of a batch of the table `collector`.
fn last_totals(reports: &RecordBatch) -> Option<Totals> {
    let row = reports.num_rows().checked_sub(1)?;
    let value = |column: &str| -> Option<i64> {
        Some(reports.column_by_name(column)?.as_primitive_opt::<Int64Type>()?.value(row))
    };
    Some(Totals {
        scheduled: value("scheduled_ticks")?,
        ticks: value("ticks")?,
        missed: value("missed_ticks")?,
        pushed: value("pushed_records")?,
        dropped: value("dropped_records")?,
        failed: value("failed_reads")?,
        impossible: value("impossible_values")?,
        read_ns: value("read_us")?.saturating_mul(1_000),
    })
}

fn log_change(collector: &str, before: &CollectorHealth, now: &CollectorHealth) {
    for one in now.unavailable.iter().filter(|one| !before.unavailable.contains(one)) {
        tracing::info!(collector, family = one.family, "not recorded: unavailable on this host: {}", one.reason);
    }
    for one in before.unavailable.iter().filter(|one| now.unavailable.iter().all(|still| still.family != one.family)) {
        tracing::info!(collector, family = one.family, "recorded from now on: available on this host");
    }
    for one in now.partial.iter().filter(|one| before.partial.iter().all(|known| known.family != one.family)) {
        tracing::info!(collector, family = one.family, "recorded in part: {}", one.reason);
    }
    match (&before.overload, &now.overload) {
        (None, Some(overload)) => tracing::warn!(collector, "{overload}"),
        (Some(_), None) => tracing::info!(collector, "no longer overloaded"),
        _ => (),
    }
    match (&before.hang, &now.hang) {
        (None, Some(hang)) => tracing::warn!(collector, "{hang}"),
        (Some(_), None) => tracing::info!(collector, "the tick that had hung has ended"),
        _ => (),
    }
    if let (None, Some(reason)) = (&before.refused_scheduling, &now.refused_scheduling) {
        tracing::warn!(collector, "{}", scheduling_was_refused(reason));
    }
    for one in now.failing.iter().filter(|one| !before.failing.contains(one)) {
        tracing::warn!(collector, family = one.family, error = one.error, "reading failed");
    }
    for one in before.failing.iter().filter(|one| now.failing.iter().all(|still| still.family != one.family)) {
        tracing::info!(collector, family = one.family, "reading succeeds again");
    }
}
