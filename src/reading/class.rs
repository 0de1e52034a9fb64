//! A class of devices in sysfs, such as `/sys/class/hwmon`, whose devices come and go.

use std::hash::{BuildHasher, Hash, Hasher};
use std::mem::MaybeUninit;
use std::path::PathBuf;

use foldhash::fast::FixedState;
use rustix::fs::RawDirEntry;

use super::folder::{list, open_folder, open_folder_at};
use crate::sampler::Tick;

/// The kernel fills this much of the stack at once with names.
const LISTING_BYTES: usize = 4 << 10;
/// The time until the next look at a class, if nothing hints at a change.
const LOOK_AGAIN_NS: i64 = 10_000_000_000;
/// The time until the next look at its devices' attributes. Each device costs as much as the class. Drivers make all
/// attributes of a device when they make the device; few add one later.
const LOOK_DEEPER_NS: i64 = 60_000_000_000;

/// A class of devices.
#[derive(Debug)]
pub(crate) struct Class {
    /// Where its devices are.
    pub(crate) folder: PathBuf,
    /// How names of its devices begin.
    prefix: &'static str,
    look_at_ns: i64,
    look_deeper_at_ns: i64,
    /// The hashes of the folder, without and with its devices' folders, at the last look; none before the first.
    signatures: Option<(u64, u64)>,
}

/// What [`Class::look`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The last look was too short a time ago.
    Early,
    /// The devices and their attributes are those of the last look.
    Same,
    /// Devices or attributes came or went, or this is the first look.
    Changed,
}

impl Class {
    /// The class in `folder`, whose devices' names begin with `prefix`.
    pub(crate) fn new(folder: PathBuf, prefix: &'static str) -> Class {
        Class { folder, prefix, look_at_ns: i64::MIN, look_deeper_at_ns: i64::MIN, signatures: None }
    }

    /// Looks for devices that came or went every 10 s, for attributes of the others every minute, and for both after
    /// [`look_again`](Self::look_again). Allocates nothing.
    pub(crate) fn look(&mut self, tick: &Tick) -> Look {
        if tick.monotonic_ns < self.look_at_ns {
            return Look::Early;
        }
        self.look_at_ns = tick.monotonic_ns.saturating_add(LOOK_AGAIN_NS);
        let of_class = self.sign(false);
        if tick.monotonic_ns < self.look_deeper_at_ns && self.signatures.is_some_and(|(known, _)| known == of_class) {
            return Look::Same;
        }
        self.look_deeper_at_ns = tick.monotonic_ns.saturating_add(LOOK_DEEPER_NS);
        let signatures = Some((of_class, self.sign(true)));
        if signatures == self.signatures {
            return Look::Same;
        }
        self.signatures = signatures;
        Look::Changed
    }

    /// Makes the next tick look, however soon it is.
    pub(crate) fn look_again(&mut self) {
        (self.look_at_ns, self.look_deeper_at_ns) = (i64::MIN, i64::MIN);
    }

    /// A hash of the names and inodes of all devices, with or without their attributes. The kernel gives each attribute
    /// that it makes a new inode, even if the name was there before.
    fn sign(&self, deeper: bool) -> u64 {
        let mut hasher = FixedState::default().build_hasher();
        // A folder that cannot be listed counts as empty.
        let _ = open_folder(&self.folder).and_then(|class| {
            let mut sign = |entry: &RawDirEntry<'_>| {
                (entry.file_name(), entry.ino()).hash(&mut hasher);
                true
            };
            list(&class, &mut [MaybeUninit::uninit(); LISTING_BYTES], |device| {
                sign(device);
                if deeper && device.file_name().to_bytes().starts_with(self.prefix.as_bytes()) {
                    let _ = open_folder_at(&class, device.file_name())
                        .and_then(|device| list(device, &mut [MaybeUninit::uninit(); LISTING_BYTES], &mut sign));
                }
                true
            })
        });
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_look_sees_devices_and_attributes_come_and_go() {
        let tree = tempfile::tempdir().unwrap();
        let mut class = Class::new(tree.path().join("class/x"), "x");
        let mut looks = 0;
        let mut look = |class: &mut Class| {
            looks += LOOK_DEEPER_NS;
            let look = class.look(&Tick { time: 0, monotonic_ns: looks });
            assert_eq!(class.look(&Tick { time: 0, monotonic_ns: looks + LOOK_AGAIN_NS - 1 }), Look::Early);
            look
        };
        assert_eq!((look(&mut class), look(&mut class)), (Look::Changed, Look::Same));
        let device = tree.path().join("class/x/x0");
        fs::create_dir_all(&device).unwrap();
        assert_eq!((look(&mut class), look(&mut class)), (Look::Changed, Look::Same));
        fs::write(device.join("name"), "1").unwrap();
        assert_eq!((look(&mut class), look(&mut class)), (Look::Changed, Look::Same));
        fs::write(device.join("name"), "2").unwrap();
        assert_eq!(look(&mut class), Look::Same);
        // Another inode under the same name.
        fs::write(device.join("new"), "2").unwrap();
        fs::rename(device.join("new"), device.join("name")).unwrap();
        assert_eq!((look(&mut class), look(&mut class)), (Look::Changed, Look::Same));
        fs::remove_dir_all(&device).unwrap();
        assert_eq!((look(&mut class), look(&mut class)), (Look::Changed, Look::Same));
        class.look_again();
        assert_eq!(class.look(&Tick { time: 0, monotonic_ns: 0 }), Look::Same);
        assert_eq!(class.look(&Tick { time: 0, monotonic_ns: LOOK_AGAIN_NS }), Look::Same);
        fs::create_dir_all(&device).unwrap();
        assert_eq!(class.look(&Tick { time: 0, monotonic_ns: 2 * LOOK_AGAIN_NS }), Look::Changed, "devices soon");
        fs::write(device.join("late"), "1").unwrap();
        assert_eq!(class.look(&Tick { time: 0, monotonic_ns: 3 * LOOK_AGAIN_NS }), Look::Same, "attributes later");
        class.look_again();
        assert_eq!(class.look(&Tick { time: 0, monotonic_ns: 3 * LOOK_AGAIN_NS }), Look::Changed, "or when asked for");
    }
}
