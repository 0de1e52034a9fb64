//! Tables and batches for the tests of this module.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

use super::moment::Moment;
use super::notification::Notification;
use super::notify::tests::outbox;
use super::rule::{Compiler, Rule, RuleError, RuleSettings};
use super::saved::{Saved, SavedAlert, decode, encode};
use super::{Board, Engine};
use crate::batch::to_batch;
use crate::family::cpu::Cpu;
use crate::family::filesystem::Filesystem;
use crate::family::host::Host;
use crate::family::memory::Memory;
use crate::family::network::Network;
use crate::family::{FamilyId, PerFamily};
use crate::record;
use crate::record::label::Labels;
use crate::record::{Record, Table};
use crate::sampler::report::Gap;

record! {
    /// More labels than a series can have.
    pub struct Wide("wide") {
        labels {
            /// One.
            a,
            /// Two.
            b,
            /// Three.
            c,
            /// Four.
            d,
            /// Five.
            e,
        }
        values {
            /// A value.
            gauge x: i64 [Number],
        }
    }
}

/// The tables, each in the place of the family of its name. The wide one has none, and takes that of the gaps.
pub(super) static TABLES: [(FamilyId, &Table); 6] = [
    (FamilyId::of::<Cpu>(), Cpu::TABLE),
    (FamilyId::of::<Memory>(), Memory::TABLE),
    (FamilyId::of::<Network>(), Network::TABLE),
    (FamilyId::of::<Filesystem>(), Filesystem::TABLE),
    (FamilyId::of::<Host>(), Host::TABLE),
    (FamilyId::of::<Gap>(), Wide::TABLE),
];

pub(super) const SECOND: i64 = 1_000_000;

pub(super) fn compiler() -> Compiler {
    Compiler::over(TABLES)
}

/// A rule that fires and resolves at once.
pub(super) fn when(table: &str, when: &str) -> RuleSettings {
    RuleSettings {
        name: format!("{table}: {when}"),
        table: Some(table.into()),
        when: Some(when.into()),
        resolve_after: Some(std::time::Duration::ZERO),
        ..RuleSettings::default()
    }
}

/// A short form that fires and resolves at once.
pub(super) fn short(condition: &str, threshold: f64) -> RuleSettings {
    RuleSettings {
        name: condition.into(),
        condition: Some(condition.into()),
        threshold: Some(threshold),
        resolve_after: Some(std::time::Duration::ZERO),
        ..RuleSettings::default()
    }
}

pub(super) fn compiled(settings: &[RuleSettings]) -> Vec<Rule> {
    compiler().compile_all(settings).unwrap()
}

pub(super) fn error(settings: &RuleSettings) -> RuleError {
    compiler().compile(settings).unwrap_err()
}

/// An engine whose notifications come back, with the labels of all tables.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) board: Arc<Board>,
    pub(super) labels: Arc<Labels>,
    /// The moment of the last call.
    pub(super) now: Moment,
    /// What the start before this one was given.
    saved: Vec<SavedAlert>,
    next: Box<dyn FnMut() -> Option<Arc<Notification>>>,
}

impl Bench {
    pub(super) fn new(settings: &[RuleSettings]) -> Self {
        Bench::start(settings, Vec::new(), Moment::default())
    }

    /// Starts at `now` with the alerts of the daemon before.
    fn start(settings: &[RuleSettings], alerts: Vec<SavedAlert>, now: Moment) -> Self {
        let (outbox, next) = outbox();
        let labels = Arc::new(Labels::default());
        let shared = PerFamily::from_fn(|_| Arc::clone(&labels));
        let mut engine = Engine::new(compiled(settings), outbox, shared, now);
        engine.resume(alerts, now);
        Bench { board: engine.board(), engine, labels, now, saved: Vec::new(), next: Box::new(next) }
    }

    pub(super) fn batch<R: Record>(&self, rows: &[R]) -> RecordBatch {
        to_batch(&[rows], &self.labels, &R::TABLE.schema())
    }

    /// Evaluates `rows` as one batch, at the time of the last of them if that is later than now. Returns the notifications.
    pub(super) fn take<R: Record>(&mut self, rows: &[R]) -> Vec<Arc<Notification>> {
        let batch = self.batch(rows);
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>().values();
        self.pass_until(times.iter().copied().max().unwrap_or_default());
        self.engine.evaluate(FamilyId::of::<R>(), &batch, self.now);
        self.tick()
    }

    /// Lets time pass until the wall clock is `time_us`. Both clocks go on together.
    pub(super) fn pass_until(&mut self, time_us: i64) {
        let passed_us = (time_us - self.now.wall_us).max(0);
        self.now.wall_us += passed_us;
        self.now.monotonic_us += passed_us;
    }

    /// Ends a drain without further rows. Returns the notifications.
    pub(super) fn tick(&mut self) -> Vec<Arc<Notification>> {
        self.engine.tick(self.now);
        std::iter::from_fn(&mut self.next).collect()
    }

    /// Starts anew with the alerts that are on, at the same moment.
    pub(super) fn restart(&mut self, settings: &[RuleSettings]) {
        let saved = self.engine.take_alerts(self.now, true).unwrap_or_else(|| std::mem::take(&mut self.saved));
        let (bytes, _) = encode(Saved { alerts: saved.clone(), waiting: Vec::new() });
        *self = Bench { saved, ..Bench::start(settings, decode(&bytes).unwrap().alerts, self.now) };
    }

    /// Evaluates `rows` as one batch. Returns "state message" of each notification.
    pub(super) fn told<R: Record>(&mut self, rows: &[R]) -> Vec<String> {
        let told = self.take(rows);
        told.iter().map(|notification| format!("{} {}", notification.state.as_str(), notification.message)).collect()
    }

    pub(super) fn cpu(&self, time: i64, cpu: &str, utilization: f64) -> Cpu {
        Cpu { cpu: self.labels.intern(cpu), utilization, ..Cpu::absent(time) }
    }

    pub(super) fn network(&self, time: i64, interface: &str, rx_bytes: i64) -> Network {
        Network { interface: self.labels.intern(interface), rx_bytes, ..Network::absent(time) }
    }
}
