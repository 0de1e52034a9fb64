//! How a family is sampled: the trait that each family implements, and the ring that its records go to.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::optional::check_proc;
use super::outcome::Outcome;
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
    /// The file below procfs' root that the family cannot do without, and what it means, for people, if there is none.
    const NEEDED: Option<(&'static str, &'static str)> = None;

    /// A sampler for the host and the settings of `context`. Reads nothing yet.
    fn open(context: &Context) -> Self;

    /// Whether this host has what the family reads; if not, it is not sampled. The collector's thread asks within a
    /// snapshot: before the first tick, and every 10 s while the answer is no.
    ///
    /// # Errors
    /// What is missing and the usual reason, for people.
    fn check(&mut self) -> Result<(), String> {
        Self::NEEDED.map_or(Ok(()), |(file, lacking)| check_proc(file, lacking))
    }

    /// Writes for people what the last tick could not give of the family, because the host lacks it or kymo may not read it; writes
    /// nothing if it gave all. Asked once a second and shown by `kymo status`. Allocates nothing but the text.
    fn tell_lacking(&self, _told: &mut String) {}

    /// Labels gave way: those that the sampler keeps from earlier ticks must be asked for anew, or their rows lose them.
    fn forget_labels(&mut self) {}

    /// Pushes the records of `tick` into `rows`.
    ///
    /// Absent data is no error: leave those values absent and push the rest. `rows.outcome` takes what costs some rows.
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
    /// How often labels had given way when the sampler last heard of it.
    turnovers: u64,
    /// The first error of the tick.
    pub(crate) outcome: Outcome,
    sampled: Sampled,
}

impl<R: Record> Rows<R> {
    /// Rows that go into `producer`, with labels interned in `labels`.
    pub(crate) fn new(producer: Producer<R>, labels: Arc<Labels>) -> Rows<R> {
        let labels = LabelCache::new(labels);
        let turnovers = labels.turnovers();
        Rows { producer, labels, turnovers, outcome: Outcome::default(), sampled: Sampled::default() }
    }

    /// Takes and publishes the records of `tick`.
    pub(crate) fn take<S: Sample<Record = R>>(
        &mut self,
        sample: &mut S,
        tick: &Tick,
    ) -> (Sampled, Result<(), SampleError>) {
        (self.sampled, self.outcome) = (Sampled::default(), Outcome::default());
        let turnovers = self.labels.turnovers();
        if std::mem::replace(&mut self.turnovers, turnovers) != turnovers {
            sample.forget_labels();
        }
        let end = sample.sample(tick, self);
        self.outcome.note(end);
        self.producer.publish();
        self.sampled.impossible = self.outcome.impossible();
        (self.sampled, std::mem::take(&mut self.outcome).into_result())
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

    fn tell_lacking(&self, told: &mut String) {
        self.sample.tell_lacking(told);
    }

    fn sample(&mut self, tick: &Tick) -> (Sampled, Result<(), SampleError>) {
        self.rows.take(&mut self.sample, tick)
    }

    fn take_over(&mut self, before: Box<dyn Sampler>) {
        let before: Box<dyn Any> = before;
        if let Ok(before) = before.downcast::<RingSampler<S>>() {
            self.sample = before.sample;
            // Some may have given way meanwhile.
            self.sample.forget_labels();
        }
    }
}
