//! Tables and batches for the tests of this module.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::notification::Notification;
use super::notify::tests::outbox;
use super::rule::{Compiler, Rule, RuleError, RuleSettings};
use super::{Board, Engine};
use crate::batch::to_batch;
use crate::family::FamilyId;
use crate::family::cpu::Cpu;
use crate::family::filesystem::Filesystem;
use crate::family::host::Host;
use crate::family::memory::Memory;
use crate::family::network::Network;
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
    pub(super) labels: Labels,
    next: Box<dyn FnMut() -> Option<Arc<Notification>>>,
}

impl Bench {
    pub(super) fn new(settings: &[RuleSettings]) -> Self {
        let (outbox, next) = outbox();
        let engine = Engine::new(compiled(settings), outbox);
        Bench { board: engine.board(), engine, labels: Labels::default(), next: Box::new(next) }
    }

    pub(super) fn batch<R: Record>(&self, rows: &[R]) -> RecordBatch {
        to_batch(&[rows], &self.labels, &R::TABLE.schema())
    }

    /// Evaluates `rows` as one batch. Returns the notifications.
    pub(super) fn take<R: Record>(&mut self, rows: &[R]) -> Vec<Arc<Notification>> {
        let batch = self.batch(rows);
        self.engine.evaluate(FamilyId::of::<R>(), &batch);
        std::iter::from_fn(&mut self.next).collect()
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
