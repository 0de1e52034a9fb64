//! Files that are to be deleted: what the disk does not delete now is tried again.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskError, is_absent, step};

/// Files that wait for another try; of more, it is the next start that finds and deletes them.
const LEFT_MAX: usize = 100_000;

/// Deletes files, sooner or later.
#[derive(Debug)]
pub(super) struct Trash {
    disk: Arc<dyn Disk>,
    left: Mutex<BTreeSet<PathBuf>>,
}

impl Trash {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Trash {
        Trash { disk, left: Mutex::default() }
    }

    /// Deletes a file of the lake, and its day's folder if it was the last in it; later if it cannot be deleted now.
    pub(super) fn remove(&self, path: &Path) {
        if self.try_remove(path).is_err() {
            let mut left = self.lock();
            if left.len() < LEFT_MAX {
                left.insert(path.into());
            }
        }
    }

    /// Does not delete a file any more: another is about to have its name.
    pub(super) fn keep(&self, path: &Path) {
        self.lock().remove(path);
    }

    /// Tries again what could not be deleted.
    ///
    /// # Errors
    /// The first, when something still cannot.
    pub(super) fn retry(&self) -> Result<(), DiskError> {
        let left = self.lock().clone();
        let mut failure = None;
        for path in left {
            // Held over the deletion: whoever wants the name waits for it.
            let mut left = self.lock();
            if !left.contains(&path) {
                continue;
            }
            match self.try_remove(&path) {
                Ok(()) => _ = left.remove(&path),
                Err(error) => failure = failure.or(Some(DiskError::of("delete", &path)(error))),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn try_remove(&self, path: &Path) -> io::Result<()> {
        let removed = step("lake.delete").and_then(|()| self.disk.remove(path));
        // A read-only disk refuses before it looks whether there is such a file.
        removed.or_else(|error| if is_absent(path) { Ok(()) } else { Err(error) })?;
        // A day without files needs no folder; that of a day with others stays.
        path.parent().into_iter().for_each(|folder| _ = self.disk.remove_folder(folder));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::LocalDisk;

    #[test]
    fn what_cannot_be_deleted_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let trash = Trash::new(Arc::new(LocalDisk));
        let path = folder.path().join("day/file");
        std::fs::create_dir_all(&path).unwrap();
        // A folder is not deleted as a file is.
        trash.remove(&path);
        let error = trash.retry().unwrap_err().to_string();
        assert!(error.starts_with("delete ") && error.contains("day/file"), "{error}");
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        trash.retry().unwrap();
        assert!(!path.exists() && !folder.path().join("day").exists());
        trash.retry().unwrap();
    }

    #[test]
    fn a_file_that_has_the_name_now_stays() {
        let folder = tempfile::tempdir().unwrap();
        let trash = Trash::new(Arc::new(LocalDisk));
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        for path in [&one, &other] {
            std::fs::create_dir(path).unwrap();
            trash.remove(path);
            std::fs::remove_dir(path).unwrap();
            std::fs::write(path, "").unwrap();
        }
        trash.keep(&one);
        trash.retry().unwrap();
        assert!(one.exists() && !other.exists());
    }
}
