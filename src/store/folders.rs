//! Folders that files are published into, made and synced as they are needed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::disk::{Disk, DiskError, sync_name};

/// Folders that are remembered; beyond, all are synced once more.
const KNOWN_MAX: usize = 4_096;

/// Folders whose names this process knows to be on the device.
#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<HashSet<PathBuf>>);

impl Folders {
    /// Makes sure that `folder` is there, below `root`, and that its name and those above it are on the device. That it is
    /// there says nothing about the device: whoever made it may have been killed before syncing it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn ensure(&self, disk: &dyn Disk, root: &Path, folder: &Path) -> Result<(), DiskError> {
        let is_known = self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(folder);
        if is_known && folder.is_dir() {
            return Ok(());
        }
        let mut below: Vec<&Path> = folder.ancestors().take_while(|one| *one != root).collect();
        below.reverse();
        for folder in below {
            disk.create_folder(folder).map_err(DiskError::of("create folder", folder))?;
            sync_name(disk, folder)?;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(folder.into());
        Ok(())
    }
}
