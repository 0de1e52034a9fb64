//! What a control group read and wrote, summed over devices.

use super::record::Cgroup;
use crate::reading::counter::parts::Parts;
use crate::reading::prelude::*;

/// The most devices of a group. A group that uses more has no sums.
pub(super) const DEVICES_MAX: usize = 256;

/// A block device: its major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Device {
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Device {
    /// The device of a word such as `8:16`.
    pub(super) fn parse(word: &[u8]) -> Option<Device> {
        let (major, minor) = cut(word, b':')?;
        let part = |part| u32::try_from(number(part)?).ok();
        Some(Device { major: part(major)?, minor: part(minor)? })
    }
}

/// A figure of a device.
#[derive(Clone, Copy, Debug)]
pub(super) enum Figure {
    ReadBytes,
    WriteBytes,
    ReadOps,
    WriteOps,
}

const FIGURES: usize = 4;

/// The I/O of one group.
#[derive(Debug)]
pub(super) struct Io {
    parts: Parts<Device, FIGURES>,
    /// The figures that the files of this read have.
    given: [bool; FIGURES],
}

impl Default for Io {
    fn default() -> Io {
        Io { parts: Parts::new(DEVICES_MAX), given: [false; FIGURES] }
    }
}

impl Io {
    /// Begins a read of the group's files.
    pub(super) fn begin(&mut self) {
        self.parts.begin();
        self.given = [false; FIGURES];
    }

    /// The files have these figures, of the devices that were used.
    pub(super) fn gives(&mut self, figures: impl IntoIterator<Item = Figure>) {
        figures.into_iter().for_each(|figure| self.given[figure as usize] = true);
    }

    /// A file of this read was not understood, so no sum is whole.
    pub(super) fn spoil(&mut self) {
        self.given = [false; FIGURES];
    }

    /// Adds a figure of a device.
    pub(super) fn add(&mut self, device: Device, figure: Figure, value: i64) {
        self.parts.add(device, figure as usize, value);
    }

    /// Ends the read, and puts the sums over the devices that `is_counted` holds for into the record. Returns whether the
    /// group uses more than [`DEVICES_MAX`], and so has no sums.
    pub(super) fn sum(&mut self, record: &mut Cgroup, is_counted: impl FnMut(Device) -> bool) -> bool {
        if !self.given.contains(&true) {
            return false;
        }
        let Some(mut sums) = self.parts.sums(is_counted) else { return true };
        for (sum, given) in sums.iter_mut().zip(self.given) {
            if !given {
                *sum = ABSENT;
            }
        }
        [record.read_bytes, record.write_bytes, record.read_ops, record.write_ops] = sums;
        false
    }
}
