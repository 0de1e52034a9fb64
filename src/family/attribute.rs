//! Attributes of sysfs: files that hold one value of one device, and the devices of a class as they come and go.
//!
//! They are not read through the snapshot, which opens a path again when its device is gone: what is there by then may
//! be another device, since the kernel gives a number such as that of `hwmon3` away again. A descriptor that is kept
//! here stays with its device. The snapshot also keeps 128 files a thread, fewer than a large host has sensors, and
//! asks a driver that does not answer twice.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, RawDirEntry};
use rustix::io::{Errno, pread, retry_on_intr};

use super::kept::{list, open_folder, open_folder_at};
use super::source::{number, text};
use crate::sampler::Tick;

/// What is read of an attribute. Longer names are cut.
const BYTES_MAX: usize = 256;
/// What is read of an attribute that is a number: that has up to 20 bytes, and may have blanks after it.
const NUMBER_BYTES_MAX: usize = 32;
/// What a listing takes from the kernel at once.
const LISTING_BYTES: usize = 4 << 10;
/// The time until a class is looked at again when nothing hints at a change.
const LOOK_AGAIN_NS: i64 = 10_000_000_000;
/// The time until its devices are looked at again, too, each of which costs as much as the class. Drivers make all
/// attributes of a device when they make the device; few add one later.
const LOOK_DEEPER_NS: i64 = 60_000_000_000;

/// An attribute that is kept open, and its value when it was last read, if that is a number or as short.
///
/// Those that have a row are all read before the first of them is looked at. That brings them close to one moment, and
/// keeps the processor on the kernel's path, which by itself is worth a third of the time.
#[derive(Debug)]
pub(super) struct Attribute {
    file: OwnedFd,
    bytes: [u8; NUMBER_BYTES_MAX],
    read: Result<usize, Errno>,
}

impl Attribute {
    pub(super) fn open(path: &Path) -> io::Result<Attribute> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        Ok(Attribute { file, bytes: [0; NUMBER_BYTES_MAX], read: Ok(0) })
    }

    /// Reads it, for [`last`](Self::last).
    pub(super) fn read(&mut self) {
        self.read = retry_on_intr(|| pread(self.file.as_fd(), &mut self.bytes, 0));
    }

    /// Calls `look` with what it held when it was last read, without blanks at the end.
    ///
    /// # Errors
    /// What the driver said; [`is_gone`](super::kept::is_gone) knows whether there is one.
    pub(super) fn last<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Result<T, Errno> {
        let len = self.read?;
        Ok(look(self.bytes.get(..len).unwrap_or_default().trim_ascii_end()))
    }

    /// Calls `look` with what it holds now, without blanks at the end.
    ///
    /// # Errors
    /// What the driver said; [`is_gone`](super::kept::is_gone) knows whether there is one.
    pub(super) fn with<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Result<T, Errno> {
        let mut bytes = [0_u8; BYTES_MAX];
        let len = retry_on_intr(|| pread(self.file.as_fd(), &mut bytes, 0))?;
        Ok(look(bytes.get(..len).unwrap_or_default().trim_ascii_end()))
    }
}

/// The number that `bytes` are, which may be negative.
pub(super) fn integer(bytes: &[u8]) -> Option<i64> {
    /// Of no more bytes than this, no number is beyond an `i64`; and that is none here.
    const BYTES_SAFE: usize = 18;

    if bytes.len() > BYTES_SAFE {
        return str::from_utf8(bytes).ok()?.parse().ok();
    }
    match bytes.strip_prefix(b"-") {
        Some(digits) => number(digits).map(|value| -value),
        None => number(bytes),
    }
}

/// What the attribute at `path` says; `None` where it says nothing.
pub(super) fn text_at(path: &Path) -> Option<String> {
    let said = Attribute::open(path).ok()?.with(|bytes| text(bytes).into_owned()).ok()?;
    (!said.is_empty()).then_some(said)
}

/// The names of what is in `folder`, those that are UTF-8; none where it cannot be listed.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// A folder of sysfs' `class`, and whether devices came or went.
#[derive(Debug)]
pub(super) struct Class {
    /// Below sysfs' root.
    name: &'static str,
    /// How names of its devices begin.
    prefix: &'static str,
    root: Arc<Path>,
    folder: PathBuf,
    look_at_ns: i64,
    look_deeper_at_ns: i64,
    /// Of the folder as it was last seen, and of it with its devices' folders; none before it was.
    signatures: Option<(u64, u64)>,
}

/// What [`Class::look`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It is too early for another look.
    Early,
    /// All devices are those of the last look, and have the attributes they had then.
    Same,
    /// Devices or attributes came or went, or this is the first look.
    Changed,
}

impl Class {
    pub(super) fn new(name: &'static str, prefix: &'static str) -> Class {
        Class {
            name,
            prefix,
            root: Path::new("").into(),
            folder: PathBuf::new(),
            look_at_ns: i64::MIN,
            look_deeper_at_ns: i64::MIN,
            signatures: None,
        }
    }

    /// Where its devices are.
    pub(super) fn folder(&mut self) -> &Path {
        let root = heim_runtime::linux::sysfs_root();
        if root != self.root {
            self.folder = root.join(self.name);
            self.root = root;
            (self.look_at_ns, self.signatures) = (i64::MIN, None);
        }
        &self.folder
    }

    /// Looks for changes, once in ten seconds and when [`look_again`](Self::look_again) asked for it; for attributes of
    /// devices that stay, once a minute and when asked for. Allocates nothing.
    pub(super) fn look(&mut self, tick: &Tick) -> Look {
        self.folder();
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

    /// Has the next tick look, whenever that is.
    pub(super) fn look_again(&mut self) {
        (self.look_at_ns, self.look_deeper_at_ns) = (i64::MIN, i64::MIN);
    }

    /// A hash of the names and inodes of all devices, with or without their attributes. The kernel has a new inode for each
    /// attribute that it makes, also for one of a name that was there before.
    fn sign(&self, deeper: bool) -> u64 {
        let mut hasher = DefaultHasher::new();
        // What cannot be listed has no devices, and is signed as such.
        let _ = open_folder(&self.folder).and_then(|class| {
            let mut sign = |entry: &RawDirEntry<'_>| {
                (entry.file_name(), entry.ino()).hash(&mut hasher);
                true
            };
            list(&class, &mut room(), |device| {
                sign(device);
                if deeper && device.file_name().to_bytes().starts_with(self.prefix.as_bytes()) {
                    let _ = open_folder_at(&class, device.file_name())
                        .and_then(|device| list(device, &mut room(), &mut sign));
                }
                true
            })
        });
        hasher.finish()
    }
}

/// Room for a listing, on the stack.
fn room() -> [MaybeUninit<u8>; LISTING_BYTES] {
    [MaybeUninit::uninit(); LISTING_BYTES]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_stays_with_what_it_was_opened_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("temp1_input");
        fs::write(&path, " -5 \n\n").unwrap();
        let mut attribute = Attribute::open(&path).unwrap();
        assert_eq!(attribute.with(<[u8]>::to_vec), Ok(b" -5".to_vec()));
        fs::write(&path, "7\n").unwrap();
        assert_eq!((attribute.last(integer), attribute.with(integer)), (Ok(None), Ok(Some(7))));
        attribute.read();
        assert_eq!(attribute.last(integer), Ok(Some(7)));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "8\n").unwrap();
        assert_eq!(attribute.with(integer), Ok(Some(7)));
        assert_eq!(text_at(&path).as_deref(), Some("8"));
        fs::write(&path, "x".repeat(BYTES_MAX + 1)).unwrap();
        assert_eq!(text_at(&path).unwrap().len(), BYTES_MAX);
        assert_eq!((text_at(folder.path()), text_at(&folder.path().join("no"))), (None, None));
    }

    #[test]
    fn numbers_are_whole_and_may_be_negative() {
        for (text, value) in [("0", 0), ("-40000", -40_000), ("9223372036854775807", i64::MAX)] {
            assert_eq!(integer(text.as_bytes()), Some(value));
        }
        for bad in ["", "-", "--1", "1.5", "1 2", "0x1", "9223372036854775808", "\u{fffd}"] {
            assert_eq!(integer(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(integer(b"\xff"), None);
    }

    #[test]
    fn a_look_sees_devices_and_attributes_come_and_go() {
        let tree = tempfile::tempdir().unwrap();
        heim_runtime::linux::set_roots(tree.path(), tree.path());
        let mut class = Class::new("class/x", "x");
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
        let other = tempfile::tempdir().unwrap();
        heim_runtime::linux::set_roots(other.path(), other.path());
        assert_eq!((look(&mut class), class.folder()), (Look::Changed, &*other.path().join("class/x")));
    }
}
