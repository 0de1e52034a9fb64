//! The folders of published files: made and synced when they are first needed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::disk::{Disk, DiskError, sync_name};

/// Folders that are remembered. At more, all are forgotten and synced once more.
const KNOWN_MAX: usize = 4_096;

/// Folders whose names are on the device.
#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<HashSet<PathBuf>>);

impl Folders {
    /// Makes sure that `folder`, below `root`, is there, and that its name and those above it are on the device. A folder that
    /// is there may not be on the device: another process may have made it and been killed before the sync.
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
