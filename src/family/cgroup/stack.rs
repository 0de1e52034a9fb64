//! Which block devices stand on others, such as logical volumes: what is done to them is done to the others too.

use std::ffi::CStr;
use std::io::Write;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;

use super::io::Device;
use crate::reading::folder::{c_path, list, open_folder, open_folder_at};

/// Below sysfs' root: a folder for each block device, whose folder `slaves` has the devices that it stands on
/// (`Documentation/ABI/testing/sysfs-block`).
const FOLDER: &str = "dev/block";
/// The most devices that are remembered. Any other is looked up each time.
const KNOWN_MAX: usize = 4_096;
/// Room for a few names: one is enough to know.
const LISTING_BYTES: usize = 1 << 10;

/// The devices that were looked up.
#[derive(Debug)]
pub(super) struct Stack {
    folder: PathBuf,
    /// `folder`, if the host has it.
    root: Option<OwnedFd>,
    /// By device, whether it stands on others.
    known: Vec<(Device, bool)>,
    path: Vec<u8>,
}

impl Stack {
    /// The devices of the host whose sysfs is at `sysfs`. Nothing is looked up yet.
    pub(super) fn new(sysfs: &Path) -> Stack {
        Stack { folder: sysfs.join(FOLDER), root: None, known: Vec::new(), path: Vec::new() }
    }

    /// Forgets all devices: the kernel gives their numbers to others.
    pub(super) fn forget(&mut self) {
        self.root = open_folder(&self.folder).ok();
        self.known.clear();
    }

    /// Whether `device` stands on others. One that sysfs does not have stands on none.
    pub(super) fn stands_on_others(&mut self, device: Device) -> bool {
        let at = match self.known.binary_search_by_key(&device, |(known, _)| *known) {
            Ok(at) => return self.known.get(at).is_some_and(|(_, stands)| *stands),
            Err(at) => at,
        };
        let stands = self.look_up(device);
        if self.known.len() < KNOWN_MAX {
            self.known.insert(at, (device, stands));
        }
        stands
    }

    fn look_up(&mut self, Device { major, minor }: Device) -> bool {
        let Stack { root: Some(root), path, .. } = self else { return false };
        // Writing to a `Vec` cannot fail.
        let path = c_path(path, |path| _ = write!(path, "{major}:{minor}/slaves"));
        let mut found = false;
        let listed = path.and_then(|path: &CStr| open_folder_at(root, path)).and_then(|slaves| {
            list(slaves, &mut [MaybeUninit::uninit(); LISTING_BYTES], |_| {
                found = true;
                false
            })
        });
        listed.is_ok() && found
    }
}
