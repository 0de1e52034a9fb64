//! The metric families: [`FAMILIES`] is the one list; each has its record and its sampler in a file of its own.

mod attribute;
pub mod cgroup;
pub mod cpu;
pub mod disk;
pub mod filesystem;
pub mod host;
pub mod interrupt;
mod kept;
pub mod kymo;
mod lines;
pub mod memory;
pub mod network;
mod optional;
pub mod power;
pub mod pressure;
#[cfg(test)]
mod probe;
pub mod process;
pub mod sensor;
pub mod softirq;
pub mod softnet;
mod source;
mod sums;
pub mod tcp;
pub mod vm;

use std::fmt;
use std::io;
use std::ops::{Deref, Index, IndexMut};
use std::path::{Path, PathBuf};
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
    /// The shortest interval, unless forced: what is shorter gives nothing new, or costs the host too much.
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
    pressure::FAMILY,
    vm::FAMILY,
    tcp::FAMILY,
    softnet::FAMILY,
    interrupt::FAMILY,
    softirq::FAMILY,
    process::FAMILY,
    cgroup::FAMILY,
    sensor::FAMILY,
    power::FAMILY,
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

/// One of [`FAMILIES`]. It dereferences to its [`Family`], and no id is out of range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FamilyId(u8);

impl FamilyId {
    /// How many families there are.
    pub const COUNT: usize = FAMILIES.len();

    /// The family whose rows are `R`. A record that [`FAMILIES`] lacks does not compile.
    #[must_use]
    pub const fn of<R: Record>() -> FamilyId {
        const { FamilyId::named(R::TABLE.name) }
    }

    const fn named(name: &str) -> FamilyId {
        let mut index = 0;
        while index < FAMILIES.len() {
            if is_same(FAMILIES[index].table.name, name) {
                #[expect(clippy::cast_possible_truncation, reason = "there are fewer than 256 families")]
                return FamilyId(index as u8);
            }
            index += 1;
        }
        #[expect(clippy::panic, reason = "evaluated by the compiler only")]
        {
            panic!("FAMILIES has no family of this record")
        }
    }

    /// The family of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<FamilyId> {
        FamilyId::all().find(|id| id.name() == name)
    }

    /// Its position in [`FAMILIES`], which the journal writes.
    #[must_use]
    pub fn number(self) -> u16 {
        u16::from(self.0)
    }

    /// Every family, in the order of [`FAMILIES`].
    pub fn all() -> impl DoubleEndedIterator<Item = FamilyId> + ExactSizeIterator {
        (0..FAMILY_COUNT).map(FamilyId)
    }
}

const FAMILY_COUNT: u8 = {
    assert!(FAMILIES.len() <= u8::MAX as usize, "a family's id is one byte");
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    {
        FAMILIES.len() as u8
    }
};

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

impl Deref for FamilyId {
    type Target = Family;

    fn deref(&self) -> &'static Family {
        &FAMILIES[usize::from(self.0)]
    }
}

impl fmt::Debug for FamilyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// One value for each family. Indexing by a [`FamilyId`] cannot fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerFamily<T>(Box<[T]>);

impl<T> PerFamily<T> {
    /// What `value` gives for each family.
    pub fn from_fn(value: impl FnMut(FamilyId) -> T) -> PerFamily<T> {
        PerFamily(FamilyId::all().map(value).collect())
    }

    /// Every family with its value, in the order of [`FAMILIES`].
    #[must_use]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (FamilyId, &T)> + ExactSizeIterator {
        FamilyId::all().zip(&self.0)
    }

    /// The same, to change the values.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (FamilyId, &mut T)> + ExactSizeIterator {
        FamilyId::all().zip(&mut self.0)
    }

    /// The values, in the order of [`FAMILIES`].
    pub fn values(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// What `change` makes of each value.
    pub fn map<U>(self, mut change: impl FnMut(FamilyId, T) -> U) -> PerFamily<U> {
        PerFamily(FamilyId::all().zip(self.0).map(|(id, value)| change(id, value)).collect())
    }
}

impl<T: Default> Default for PerFamily<T> {
    fn default() -> PerFamily<T> {
        PerFamily::from_fn(|_| T::default())
    }
}

impl<T> Index<FamilyId> for PerFamily<T> {
    type Output = T;

    fn index(&self, id: FamilyId) -> &T {
        &self.0[usize::from(id.0)]
    }
}

impl<T> IndexMut<FamilyId> for PerFamily<T> {
    fn index_mut(&mut self, id: FamilyId) -> &mut T {
        &mut self.0[usize::from(id.0)]
    }
}

/// Where the kernel's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// procfs: `/proc`, or where a container sees its host's.
    pub procfs: PathBuf,
    /// sysfs: `/sys`, or where a container sees its host's.
    pub sysfs: PathBuf,
}

impl Roots {
    /// Whether the kernel's files are there.
    ///
    /// # Errors
    /// When one of them has not what every kernel has in it, with the file that was looked for.
    pub fn check(&self) -> Result<(), RootError> {
        for (key, root, file) in [("host.procfs", &self.procfs, "stat"), ("host.sysfs", &self.sysfs, "class")] {
            let path = root.join(file);
            std::fs::metadata(&path).map_err(|source| RootError { key, path, source })?;
        }
        Ok(())
    }

    /// Has the calling thread read the kernel's files there. Of a procfs that is not this process's own, network and
    /// mount table are those of its first process, if it has one.
    pub fn apply(&self) {
        if self.procfs != Path::new("/proc") && self.procfs.join("1").exists() {
            heim_runtime::linux::set_roots_of_host(&self.procfs, &self.sysfs);
        } else {
            heim_runtime::linux::set_roots(&self.procfs, &self.sysfs);
        }
    }
}

/// Why the kernel's files cannot be read where the configuration says.
#[derive(Debug, thiserror::Error)]
#[error("{key}: look for {}: {source}", path.display())]
pub struct RootError {
    /// The key of the configuration.
    pub key: &'static str,
    /// What is not there.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
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
