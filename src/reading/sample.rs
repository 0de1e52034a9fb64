//! How a family is sampled: the trait that each family implements, and the ring that its records go to.

use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use crate::batch::{RingSource, Source};
use crate::record::Record;
use crate::record::label::{LabelCache, Labels};
use crate::ring::{Producer, ring};
use crate::sampler::{SampleError, Sampled, Sampler, Tick};

/// What a family implements: reading its source at a tick.
pub trait Sample: Sized + Send + 'static {
    /// The records it makes.
    type Record: Record;

    /// The shortest interval, unless forced. A shorter one gives no new values or costs the host too much.
    const INTERVAL_MIN: Duration;
    /// How finely the kernel itself counts, for people.
    const RESOLUTION: &'static str;

    /// A sampler for the host and the settings of `context`. Reads nothing yet.
    fn open(context: &Context) -> Self;

    /// Whether this host has what the family reads. The collector's thread asks within a snapshot: before the first
    /// tick, and every 10 s while the answer is no. A family that the host lacks is not sampled.
    ///
    /// # Errors
    /// What is missing and the usual reason, for people.
    fn check(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Pushes the records of `tick` into `rows`.
    ///
    /// Absent data is no error: leave those values absent and push the rest.
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
    /// Rows that go into `producer`, with labels interned in `labels`.
    pub(crate) fn new(producer: Producer<R>, labels: Arc<Labels>) -> Rows<R> {
        Rows { producer, labels: LabelCache::new(labels), sampled: Sampled::default() }
    }

    /// Adds a record to the tick.
    pub fn push(&mut self, record: R) {
        if self.producer.push(record) {
            self.sampled.pushed += 1;
        } else {
            self.sampled.dropped += 1;
        }
    }
}

/// The two ends of an opened family: one for the collector thread, one for the drain thread.
pub type Opened = (Box<dyn Sampler>, Box<dyn Source>);

/// Opens the sampler `S` with a ring of `ring_capacity` records, whose labels are interned in `labels`.
#[must_use]
pub fn open<S: Sample>(context: &Context, labels: &Arc<Labels>, ring_capacity: usize) -> Opened {
    let (producer, consumer) = ring(ring_capacity);
    let sampler = RingSampler { sample: S::open(context), rows: Rows::new(producer, Arc::clone(labels)) };
    (Box::new(sampler), Box::new(RingSource::new(consumer, Arc::clone(labels))))
}

/// A [`Sample`] with its ring, as the collector thread sees it.
struct RingSampler<S: Sample> {
    sample: S,
    rows: Rows<S::Record>,
}

impl<S: Sample> Sampler for RingSampler<S> {
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
