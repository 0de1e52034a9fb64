//! The metric families. [`FAMILIES`] is the one list; each family has its record and its sampler in a file of its own.

pub mod alert;
pub mod cgroup;
pub mod cpu;
pub mod disk;
pub mod filesystem;
pub mod host;
pub mod interrupt;
pub mod ip;
pub mod kymo;
pub mod memory;
pub mod network;
pub mod power;
pub mod pressure;
pub mod process;
pub mod process_state;
pub mod sensor;
pub mod softirq;
pub mod softnet;
pub mod statement;
pub mod tables;
pub mod tcp;
pub mod vm;

use std::fmt;
use std::ops::{Deref, Index, IndexMut};
use std::sync::Arc;
use std::time::Duration;

use crate::reading::context::Context;
use crate::reading::sample::{Opened, Sample, open};
use crate::record::label::Labels;
use crate::record::{Record, Table};
use crate::sampler::report::{Collector, Gap};

/// A metric family: a table, and how it is sampled.
#[derive(Debug)]
pub struct Family {
    /// Name, columns, units and docs.
    pub table: &'static Table,
    /// How it is sampled; `None` for a table that kymo writes about itself, which no collector can list.
    pub sampling: Option<Sampling>,
    /// Whether it has tiers: one row a second or minute for each series.
    pub has_tiers: bool,
}

/// How a family is sampled.
#[derive(Debug)]
pub struct Sampling {
    /// Opens a sampler, with a ring of this many records and its labels interned in these.
    pub open: fn(&Context, &Arc<Labels>, ring_capacity: usize) -> Opened,
    /// The shortest interval, unless forced. A shorter one gives no new values or costs the host too much.
    pub interval_min: Duration,
    /// How finely the kernel itself counts, for people.
    pub resolution: &'static str,
}

/// All of kymo's tables, in the order that people read them.
pub static FAMILIES: &[Family] = &[
    Family::sampled::<cpu::CpuSampler>(),
    Family::sampled::<memory::MemorySampler>(),
    Family::sampled::<disk::DiskSampler>(),
    Family::sampled::<network::NetworkSampler>(),
    Family::sampled::<filesystem::FilesystemSampler>(),
    Family::sampled::<host::HostSampler>(),
    Family::sampled::<pressure::PressureSampler>(),
    Family::sampled::<vm::VmSampler>(),
    Family::sampled::<tcp::TcpSampler>(),
    Family::sampled::<ip::IpSampler>(),
    Family::sampled::<softnet::SoftnetSampler>(),
    Family::sampled::<interrupt::InterruptSampler>(),
    Family::sampled::<softirq::SoftirqSampler>(),
    Family::sampled::<process::ProcessSampler>(),
    Family::sampled::<process_state::ProcessStateSampler>(),
    Family::sampled::<cgroup::CgroupSampler>(),
    Family::sampled::<sensor::SensorSampler>(),
    Family::sampled::<power::PowerSampler>(),
    Family::internal::<Collector>(),
    Family::internal::<kymo::Kymo>(),
    Family::event::<Gap>(),
    Family::event::<alert::Alert>(),
    Family::event::<statement::Statement>(),
];

impl Family {
    /// A family that `S` samples.
    #[must_use]
    pub const fn sampled<S: Sample>() -> Family {
        let sampling = Sampling { open: open::<S>, interval_min: S::INTERVAL_MIN, resolution: S::RESOLUTION };
        Family { table: S::Record::TABLE, sampling: Some(sampling), has_tiers: true }
    }

    /// A family that kymo writes about itself once a second.
    #[must_use]
    pub const fn internal<R: Record>() -> Family {
        Family { table: R::TABLE, sampling: None, has_tiers: true }
    }

    /// A table that gets a row when something happens.
    #[must_use]
    pub const fn event<R: Record>() -> Family {
        Family { table: R::TABLE, sampling: None, has_tiers: false }
    }

    /// The family's name, which is its table's.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.table.name
    }

    /// How it is sampled; `None` for a table that kymo writes about itself.
    #[must_use]
    pub fn sampling(&self) -> Option<&Sampling> {
        self.sampling.as_ref()
    }
}

/// One of [`FAMILIES`]. It dereferences to its [`Family`], and no id is out of range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FamilyId(u8);

impl FamilyId {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::probe::Probe;

    #[test]
    fn without_its_file_a_family_has_an_error_that_names_it() {
        let needs = |mut probe: Probe, file: &str| {
            let (rows, outcome) = probe.tick(1);
            assert_eq!(rows, "");
            assert!(outcome.unwrap_err().to_string().starts_with(&format!("read {file}: ")));
            // Interfaces may be none.
            if file != "net/dev" {
                assert!(probe.check().unwrap_err().contains(&format!("/proc/{file}")));
                probe.write(file, "");
                assert!(probe.check().unwrap_err().contains("empty"));
            }
        };
        needs(Probe::empty::<network::NetworkSampler>(), "net/dev");
        needs(Probe::empty::<vm::VmSampler>(), "vmstat");
        needs(Probe::empty::<softnet::SoftnetSampler>(), "net/softnet_stat");
        needs(Probe::empty::<interrupt::InterruptSampler>(), "interrupts");
        needs(Probe::empty::<softirq::SoftirqSampler>(), "softirqs");
    }

    /// A label whose place has another text reads as the empty text.
    #[test]
    fn rows_that_stay_the_same_have_their_labels_after_these_gave_way() {
        let fixture = |mut probe: Probe| {
            // Some fixtures also have what is an error.
            let mut rows = |ms| probe.tick(ms).0;
            let before = [rows(0), rows(1_000)];
            assert!(!before[0].is_empty() && before[0] == before[1], "{before:?}");
            probe.turn_labels_over();
            assert_eq!(probe.tick(2_000).0, before[0]);
        };
        fixture(Probe::fixture::<network::NetworkSampler>("vm"));
        fixture(Probe::fixture::<disk::DiskSampler>("vm"));
        fixture(Probe::fixture::<cpu::CpuSampler>("vm"));
        fixture(Probe::fixture::<pressure::PressureSampler>("vm"));
        fixture(Probe::fixture::<ip::IpSampler>("vm"));
        fixture(Probe::fixture::<softnet::SoftnetSampler>("vm"));
        fixture(Probe::fixture::<softirq::SoftirqSampler>("vm"));
        fixture(Probe::fixture::<interrupt::InterruptSampler>("vm"));
        fixture(Probe::fixture::<cgroup::CgroupSampler>("cgroup-v2/0"));
        fixture(Probe::fixture::<sensor::SensorSampler>("hwmon-and-rapl/0"));
        fixture(Probe::fixture::<power::PowerSampler>("hwmon-and-rapl/0"));
    }

    /// Its row comes later than its label, which no record had until then.
    #[test]
    fn an_interrupt_has_its_label_when_it_is_served_at_last() {
        let mut probe = Probe::empty::<interrupt::InterruptSampler>();
        probe.write("interrupts", "CPU0\n 7: 0 PIC nvme\n");
        assert_eq!(probe.rows(0), "");
        probe.turn_labels_over();
        probe.write("interrupts", "CPU0\n 7: 1 PIC nvme\n");
        assert_eq!(probe.rows(1), "7,PIC nvme,1\n");
    }
}
