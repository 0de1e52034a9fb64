//! The lock of a data folder: one process records into it at a time.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;

use super::data_folder::{FolderError, JOURNAL, LAKE, expect_file, has_recordings, open_regular};
use super::disk::{Disk, DiskError, is_absent, make_folders};
use super::partition;
use crate::sampler::wall_us;

const LOCK: &str = "LOCK";

/// Whoever only looks whether a folder is in use holds its lock for some microseconds, so another try follows after this.
const LOOK_MAX: Duration = Duration::from_millis(20);

/// Folders that a process holds at once. It holds more than one when a disk is mounted over the first.
const HELD_MAX: usize = 8;

/// A data folder that this process holds, by flock(2) on a file in it. The kernel frees it however the process ends.
#[derive(Debug)]
pub(super) struct FolderLock {
    data: PathBuf,
    /// The folder above, by device and inode. It is not kept open: nothing can be unmounted while a folder of it is open.
    above: Option<(u64, u64)>,
    /// From the first to the newest. Each may come back.
    held: Mutex<Vec<Held>>,
}

#[derive(Debug)]
struct Held {
    /// Kept open, so that no other folder gets its inode number.
    folder: File,
    file: File,
}

impl Drop for Held {
    /// Closing the file would do, but for a process that was just forked: it has the file open, too, until it runs its program.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl FolderLock {
    /// Makes the data folder and the two in it where they are missing, and takes it.
    pub(super) fn open(disk: &dyn Disk, data: &Path) -> Result<FolderLock, FolderError> {
        // Missing folders above the data folder are made, too.
        let above = data.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new(""));
        make_folders(disk, above, &data.join(LAKE))?;
        make_folders(disk, data, &data.join(JOURNAL))?;
        FolderLock::take(data)
    }

    fn take(data: &Path) -> Result<FolderLock, FolderError> {
        let held = Held { folder: open(data)?, file: lock(data)? };
        Ok(FolderLock { data: data.into(), above: above(data), held: Mutex::new(vec![held]) })
    }

    /// Makes the data folder anew if somebody deleted it; whether it did. A folder that was moved away may come back, and one
    /// that is missing because its disk was unmounted does, so these are not made anew.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(super) fn revive(&self, disk: &dyn Disk) -> Result<bool, DiskError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_deleted = |one: &Held| one.folder.metadata().is_ok_and(|folder| folder.nlink() == 0);
        if !held.iter().all(is_deleted) || self.above.is_none() || above(&self.data) != self.above {
            return Ok(false);
        }
        make_folders(disk, self.data.parent().unwrap_or(Path::new("")), &self.data)?;
        Ok(true)
    }

    /// Makes sure that this process holds the folder, and takes it if somebody made it anew. A folder with recordings of
    /// another process is not taken: numbers would be given twice.
    pub(super) fn hold(&self) -> Result<(), FolderError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = open(&self.data)?;
        let is = |ours: &File, there: &Metadata| ours.metadata().is_ok_and(|ours| identity(&ours) == identity(there));
        let path = self.data.join(LOCK);
        if let Ok(there) = fs::metadata(&path)
            && held.iter().any(|one| is(&one.file, &there))
        {
            return Ok(());
        }
        let there = folder.metadata().map_err(DiskError::of("stat data folder", &self.data))?;
        if !held.iter().any(|one| is(&one.folder, &there)) && has_recordings(&self.data)? {
            return Err(FolderError::Replaced(self.data.clone()));
        }
        let file = lock(&self.data)?;
        if held.len() == HELD_MAX {
            held.remove(0);
        }
        held.push(Held { folder, file });
        Ok(())
    }
}

/// Whether a process records into the folder. Where that cannot be told, one may.
#[must_use]
pub fn is_recorded(data: &Path) -> bool {
    match open_regular(&data.join(LOCK)).map(|lock| lock.try_lock_shared()) {
        Ok(Ok(())) => false,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
        Ok(Err(_)) => true,
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// What identifies the folder above the data folder.
fn above(data: &Path) -> Option<(u64, u64)> {
    let above = data.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    above.metadata().ok().map(|above| identity(&above))
}

fn open(data: &Path) -> Result<File, FolderError> {
    let is_folder = i32::from_ne_bytes(OFlags::DIRECTORY.bits().to_ne_bytes());
    File::options().read(true).custom_flags(is_folder).open(data).map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory => {
            let there = data.ancestors().find(|path| !is_absent(path)).unwrap_or(data);
            FolderError::NoFolder(data.into(), there.into())
        }
        io::ErrorKind::NotFound => FolderError::Gone(data.into()),
        _ => DiskError::of("open data folder", data)(error).into(),
    })
}

fn lock(data: &Path) -> Result<File, FolderError> {
    let path = data.join(LOCK);
    expect_file(&path)?;
    let options = File::options().read(true).write(true).create(true).truncate(false).clone();
    let mut lock = options.open(&path).map_err(DiskError::of("open the lock", &path))?;
    let mut taken = lock.try_lock();
    if matches!(taken, Err(TryLockError::WouldBlock)) {
        thread::sleep(LOOK_MAX);
        taken = lock.try_lock();
    }
    match taken {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "unknown".into() } else { holder.trim().into() };
            return Err(FolderError::Held(data.into(), holder));
        }
        Err(TryLockError::Error(error)) => return Err(DiskError::of("lock", &path)(error).into()),
    }
    let holder = format!("pid {}, since {}\n", std::process::id(), partition::timestamp(wall_us()));
    // A full disk refuses this. The lock holds without it.
    let _ = lock.set_len(0).and_then(|()| lock.write_all(holder.as_bytes()));
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::LocalDisk;

    #[test]
    fn a_folder_is_taken_again_where_it_was_made_anew() {
        let above = tempfile::tempdir().unwrap();
        let data = above.path().join("data");
        fs::create_dir(&data).unwrap();
        let ours = FolderLock::take(&data).unwrap();
        ours.hold().unwrap();
        assert!(matches!(FolderLock::take(&data), Err(FolderError::Held { .. })) && is_recorded(&data));
        fs::remove_dir_all(&data).unwrap();
        assert!(!is_recorded(&data));
        let error = ours.hold().unwrap_err().to_string();
        assert!(error.starts_with("data folder ") && error.contains("data is gone: waiting until"), "{error}");
        // A file in its place, as a failed copy leaves it.
        fs::write(&data, "").unwrap();
        let error = ours.hold().unwrap_err().to_string();
        assert!(error.contains(&format!("is gone: {} is no folder; move it away", data.display())), "{error}");
        assert!(is_absent(&data.join("lake/a.parquet")));
        fs::remove_file(&data).unwrap();
        fs::create_dir(&data).unwrap();
        ours.hold().unwrap();
        assert!(matches!(FolderLock::take(&data), Err(FolderError::Held { .. })));
        // The lock file alone.
        fs::remove_file(data.join(LOCK)).unwrap();
        ours.hold().unwrap();
        assert!(matches!(FolderLock::take(&data), Err(FolderError::Held { .. })));
        // Somebody else was faster.
        fs::remove_file(data.join(LOCK)).unwrap();
        let theirs = FolderLock::take(&data).unwrap();
        assert!(matches!(ours.hold(), Err(FolderError::Held { .. })));
        drop(theirs);
        ours.hold().unwrap();
    }

    #[test]
    fn a_folder_that_was_deleted_is_made_anew_and_one_that_may_come_back_is_not() {
        let above = tempfile::tempdir().unwrap();
        let (disk, data, away) = (above.path().join("disk"), above.path().join("disk/data"), above.path().join("away"));
        fs::create_dir_all(&data).unwrap();
        let ours = FolderLock::take(&data).unwrap();
        // Moved away, with the folder above or alone.
        for moved in [&disk, &data] {
            fs::rename(moved, &away).unwrap();
            assert!(!ours.revive(&LocalDisk).unwrap());
            if *moved == disk {
                // What a disk that is unmounted leaves there.
                fs::create_dir(&disk).unwrap();
                assert!(!ours.revive(&LocalDisk).unwrap());
                fs::remove_dir(&disk).unwrap();
            }
            fs::rename(&away, moved).unwrap();
            ours.hold().unwrap();
        }
        fs::remove_dir_all(&data).unwrap();
        assert!(ours.revive(&LocalDisk).unwrap());
        ours.hold().unwrap();
        // The folder above is another one.
        fs::remove_dir_all(&data).unwrap();
        fs::rename(&disk, &away).unwrap();
        fs::create_dir(&disk).unwrap();
        assert!(!ours.revive(&LocalDisk).unwrap());
        assert!(!data.exists());
    }

    #[test]
    fn a_folder_with_recordings_of_others_is_not_taken_and_the_own_one_is_again() {
        let above = tempfile::tempdir().unwrap();
        let (data, away) = (above.path().join("data"), above.path().join("away"));
        fs::create_dir(&data).unwrap();
        let ours = FolderLock::take(&data).unwrap();
        fs::rename(&data, &away).unwrap();
        fs::create_dir_all(data.join("journal")).unwrap();
        fs::write(data.join("journal/1.journal"), "").unwrap();
        let error = ours.hold().unwrap_err().to_string();
        assert!(error.contains("holds recordings of another kymo daemon now"), "{error}");
        assert!(!data.join(LOCK).exists());
        // In an empty one it goes on, and back in its own.
        fs::remove_file(data.join("journal/1.journal")).unwrap();
        ours.hold().unwrap();
        fs::remove_dir_all(&data).unwrap();
        fs::rename(&away, &data).unwrap();
        ours.hold().unwrap();
        assert!(matches!(FolderLock::take(&data), Err(FolderError::Held { .. })));
    }
}
