//! The lock of a data folder: one process records into it at a time.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::disk::DiskError;
use super::lake::LakeError;
use super::partition;
use crate::sampler::wall_us;

const LOCK: &str = "LOCK";

/// A data folder that is this process', by flock(2) on a file in it: the kernel frees it however the process ends.
#[derive(Debug)]
pub(super) struct FolderLock {
    data: PathBuf,
    file: Mutex<File>,
}

impl FolderLock {
    /// Takes the folder.
    ///
    /// # Errors
    /// When another process holds it, or the lock file cannot be opened.
    pub(super) fn take(data: &Path) -> Result<FolderLock, LakeError> {
        Ok(FolderLock { data: data.into(), file: Mutex::new(lock(data)?) })
    }

    /// Makes sure that the folder is still this process', and takes it again where somebody made it anew, or mounted
    /// another in its place.
    ///
    /// # Errors
    /// When there is no such folder, or it cannot be taken.
    pub(super) fn hold(&self) -> Result<(), LakeError> {
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let there = fs::metadata(&self.data).and_then(|_| match fs::metadata(self.data.join(LOCK)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        });
        let there = there.map_err(DiskError::of("find data folder", &self.data))?;
        let ours = held.metadata().map_err(DiskError::of("stat the lock of", &self.data))?;
        if there.is_none_or(|there| (there.dev(), there.ino()) != (ours.dev(), ours.ino())) {
            *held = lock(&self.data)?;
        }
        Ok(())
    }
}

fn lock(data: &Path) -> Result<File, LakeError> {
    let path = data.join(LOCK);
    let options = File::options().read(true).write(true).create(true).truncate(false).clone();
    let mut lock = options.open(&path).map_err(DiskError::of("open the lock", &path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "unknown".into() } else { holder.trim().into() };
            return Err(LakeError::Held { path: data.into(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(DiskError::of("lock", &path)(error).into()),
    }
    let holder = format!("pid {}, since {}\n", std::process::id(), partition::timestamp(wall_us()));
    // On a full disk this cannot be written; the lock holds all the same.
    let _ = lock.set_len(0).and_then(|()| lock.write_all(holder.as_bytes()));
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_again_where_it_was_made_anew() {
        let above = tempfile::tempdir().unwrap();
        let data = above.path().join("data");
        fs::create_dir(&data).unwrap();
        let ours = FolderLock::take(&data).unwrap();
        ours.hold().unwrap();
        assert!(matches!(FolderLock::take(&data), Err(LakeError::Held { .. })));
        fs::remove_dir_all(&data).unwrap();
        let error = ours.hold().unwrap_err().to_string();
        assert!(error.starts_with("find data folder ") && error.contains("data"), "{error}");
        fs::create_dir(&data).unwrap();
        ours.hold().unwrap();
        assert!(matches!(FolderLock::take(&data), Err(LakeError::Held { .. })));
        // The lock file alone.
        fs::remove_file(data.join(LOCK)).unwrap();
        ours.hold().unwrap();
        assert!(matches!(FolderLock::take(&data), Err(LakeError::Held { .. })));
        // Somebody else was faster.
        fs::remove_file(data.join(LOCK)).unwrap();
        let theirs = FolderLock::take(&data).unwrap();
        assert!(matches!(ours.hold(), Err(LakeError::Held { .. })));
        drop(theirs);
        ours.hold().unwrap();
    }
}
