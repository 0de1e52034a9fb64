//! The metric families: [`FAMILIES`] is the one list; each has its record and its sampler in a file of its own.

pub mod cgroup;
pub mod cpu;
pub mod disk;
pub mod filesystem;
pub mod host;
mod kept;
pub mod kymo;
mod lines;
pub mod memory;
pub mod network;
#[cfg(test)]
mod probe;
pub mod process;
mod source;

use std::sync::Arc;
use std::time::Duration;

use crate::batch::{RingSource, Source};
use crate::record::label::{LabelCache, Labels};
use crate::record::{Record, Table};
use crate::ring::{Producer, ring};
use crate::sampler::report::{Collector, Gap};
use crate::sampler::{SampleError, Sampled, Sampler, Tick};

/// A metric family: a table, and where its rows come from.
#[derive(Debug)]
pub struct Family {
    /// Name, columns, units and docs.
    pub table: &'static Table,
    /// Where its rows come from.
    pub origin: Origin,
}

/// Where a family's rows come from.
#[derive(Debug)]
pub enum Origin {
    /// A collector samples it.
    Sampled(Sampling),
    /// kymo writes it about itself; no collector can list it.
    Internal,
}

/// How a family is sampled.
#[derive(Debug)]
pub struct Sampling {
    /// Makes its sampler and the drain thread's end of its ring.
    pub open: fn(labels: &Arc<Labels>, ring_capacity: usize) -> Opened,
    /// The shortest interval that still gives new information, unless forced.
    pub interval_min: Duration,
    /// How finely the kernel itself counts, for people.
    pub resolution: &'static str,
}

/// The two ends of an opened family: one for the collector thread, one for the drain thread.
pub type Opened = (Box<dyn Sampler>, Box<dyn Source>);

/// Every table that kymo has, in the order that people read them.
pub static FAMILIES: &[Family] = &[
    cpu::FAMILY,
    memory::FAMILY,
    disk::FAMILY,
    network::FAMILY,
    filesystem::FAMILY,
    host::FAMILY,
    process::FAMILY,
    cgroup::FAMILY,
    Family { table: Collector::TABLE, origin: Origin::Internal },
    Family { table: kymo::Kymo::TABLE, origin: Origin::Internal },
    Family { table: Gap::TABLE, origin: Origin::Internal },
];

impl Family {
    /// A family that `S` samples.
    #[must_use]
    pub const fn sampled<S: Sample>(interval_min: Duration, resolution: &'static str) -> Family {
        Family {
            table: S::Record::TABLE,
            origin: Origin::Sampled(Sampling { open: open::<S>, interval_min, resolution }),
        }
    }

    /// The family's name, which is its table's.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.table.name
    }

    /// How it is sampled; `None` for what kymo writes about itself.
    #[must_use]
    pub fn sampling(&self) -> Option<&Sampling> {
        match &self.origin {
            Origin::Sampled(sampling) => Some(sampling),
            Origin::Internal => None,
        }
    }
}

/// The family of this name and its position in [`FAMILIES`].
#[must_use]
pub fn find(name: &str) -> Option<(usize, &'static Family)> {
    FAMILIES.iter().enumerate().find(|(_, family)| family.name() == name)
}

/// Runs `tick` within one snapshot: each file below `/proc` and `/sys` is read at most once in it.
pub fn in_snapshot(tick: &mut dyn FnMut()) {
    let _snapshot = heim_runtime::snapshot::begin();
    tick();
}

/// What a family implements: reading its source at a tick.
pub trait Sample: Default + Send + 'static {
    /// The records it makes.
    type Record: Record;

    /// Whether this host has what the family reads. Asked on the collector's thread, within a snapshot, before the first
    /// tick, and now and then again for as long as it has not; a family that it has not is not sampled.
    ///
    /// # Errors
    /// Why it has not, for people: which file is missing and what usually makes it so.
    fn check(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Pushes the records of `tick` into `rows`.
    ///
    /// Absent data is no error: push what there is, with the rest absent.
    ///
    /// # Errors
    /// When the source cannot be read or understood.
    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Self::Record>) -> Result<(), SampleError>;
}

/// Where a sampler puts its records.
#[derive(Debug)]
pub struct Rows<R> {
    producer: Producer<R>,
    /// Resolves label texts by the row they stand at.
    pub labels: LabelCache,
    sampled: Sampled,
}

impl<R: Record> Rows<R> {
    /// Adds a record to the tick.
    pub fn push(&mut self, record: R) {
        if self.producer.push(record) {
            self.sampled.pushed += 1;
        } else {
            self.sampled.dropped += 1;
        }
    }
}

fn open<S: Sample>(labels: &Arc<Labels>, ring_capacity: usize) -> Opened {
    let (producer, consumer) = ring(ring_capacity);
    let rows = Rows { producer, labels: LabelCache::new(Arc::clone(labels)), sampled: Sampled::default() };
    (Box::new(Erased { sample: S::default(), rows }), Box::new(RingSource::new(consumer, Arc::clone(labels))))
}

/// A [`Sample`] with its ring, as the collector thread sees it.
struct Erased<S: Sample> {
    sample: S,
    rows: Rows<S::Record>,
}

impl<S: Sample> Sampler for Erased<S> {
    fn family(&self) -> &'static str {
        S::Record::TABLE.name
    }

    fn check(&mut self) -> Result<(), String> {
        self.sample.check()
    }

    fn sample(&mut self, tick: &Tick) -> (Sampled, Result<(), SampleError>) {
        self.rows.sampled = Sampled::default();
        let outcome = self.sample.sample(tick, &mut self.rows);
        self.rows.producer.publish();
        (self.rows.sampled, outcome)
    }
}
