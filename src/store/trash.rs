//! Files that are to be deleted. They wait here for a thread that may wait for the disk: a query that was the last reader of
//! a file must not hang because the disk does.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskError, is_absent, step};

/// Files that wait. The next start finds and deletes those beyond.
const WAITING_MAX: usize = 100_000;

/// Files that are to be deleted.
#[derive(Debug)]
pub(super) struct Trash {
    disk: Arc<dyn Disk>,
    /// Held for moments only.
    waiting: Mutex<BTreeSet<PathBuf>>,
    /// Held while a file is deleted: whoever wants its name waits.
    deleting: Mutex<()>,
}

impl Trash {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Trash {
        Trash { disk, waiting: Mutex::default(), deleting: Mutex::default() }
    }

    /// Has a file of the lake deleted by the next [`empty`](Self::empty). Does not wait for the disk.
    pub(super) fn add(&self, path: &Path) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() < WAITING_MAX {
            waiting.insert(path.into());
        }
    }

    /// Deletes a file of the lake now, or by the next [`empty`](Self::empty) if that fails.
    pub(super) fn remove(&self, path: &Path) {
        if self.try_remove(path).is_err() {
            self.add(path);
        }
    }

    /// Forgets a file, as another is about to have its name.
    pub(super) fn keep(&self, path: &Path) {
        let _deleting = lock(&self.deleting);
        lock(&self.waiting).remove(path);
    }

    /// Deletes the files that wait. Those that cannot be deleted wait for the next call; returns the first error.
    pub(super) fn empty(&self) -> Result<(), DiskError> {
        let paths = lock(&self.waiting).clone();
        let mut failure = None;
        for path in paths {
            let _deleting = lock(&self.deleting);
            if !lock(&self.waiting).contains(&path) {
                continue;
            }
            match self.try_remove(&path) {
                Ok(()) => _ = lock(&self.waiting).remove(&path),
                Err(error) => failure = failure.or(Some(DiskError::of("delete", &path)(error))),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn try_remove(&self, path: &Path) -> io::Result<()> {
        let removed = step("lake.delete").and_then(|()| self.disk.remove(path));
        // A read-only disk refuses before it looks whether there is such a file.
        removed.or_else(|error| if is_absent(path) { Ok(()) } else { Err(error) })?;
        // The day's folder goes with its last file. One with other files is not empty and stays.
        path.parent().into_iter().for_each(|folder| _ = self.disk.remove_folder(folder));
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        // A folder cannot be deleted as a file.
        trash.remove(&path);
        let error = trash.empty().unwrap_err().to_string();
        assert!(error.starts_with("delete ") && error.contains("day/file"), "{error}");
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        trash.empty().unwrap();
        assert!(!path.exists() && !folder.path().join("day").exists());
        trash.empty().unwrap();
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
        trash.empty().unwrap();
        assert!(one.exists() && !other.exists());
    }
}
