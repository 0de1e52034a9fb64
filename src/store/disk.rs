//! All changes to the file system go through the trait [`Disk`]. Tests implement it with disks that fail, hang, tear and
//! forget.
//!
//! Reading goes through `std::fs`, as it does in readers from outside.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that is being written. Several threads may hold it.
pub trait DiskFile: Debug + Send + Sync {
    /// Adds all of `bytes` at the end (`write(2)`).
    ///
    /// # Errors
    /// When the disk refuses. Some of the bytes may be in the file then.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Waits until all bytes added before are on the device (`fsync(2)`).
    ///
    /// # Errors
    /// When the device refuses. The kernel then forgets which pages were not written, so a later success means nothing: the
    /// bytes must be written again, to another file.
    fn sync(&self) -> io::Result<()>;
}

/// The changes that the store makes to a file system. All functions fail when the disk refuses.
#[expect(clippy::missing_errors_doc, reason = "said above")]
pub trait Disk: Debug + Send + Sync {
    /// Makes an empty file. Empties one that is there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name (`rename(2)`). Replaces a file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Cuts a file to `len` bytes and syncs it.
    fn cut(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Makes a folder. No error if it is there already.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder if it is empty.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Waits until the names in a folder are on the device (`fsync(2)`).
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The disk refused an operation.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {source}", path.display())]
pub struct DiskError {
    /// The operation.
    pub operation: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

impl DiskError {
    /// Turns a system's error into that of `operation` on `path`.
    pub(super) fn of(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
        move |source| DiskError { operation, path: path.into(), source }
    }
}

/// A point at which tests kill the process or have an operation fail. Does nothing else.
pub(super) fn step(name: &'static str) -> io::Result<()> {
    fail::fail_point!(name, |_| Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())));
    let _ = name;
    Ok(())
}

/// Makes `folder` and those above it up to `root`, which is there, and syncs their names. One that is there may not be on the
/// device: another process may have made it and been killed before the sync.
pub(super) fn make_folders(disk: &dyn Disk, root: &Path, folder: &Path) -> Result<(), DiskError> {
    let below: Vec<&Path> = folder.ancestors().take_while(|one| *one != root).collect();
    for folder in below.into_iter().rev() {
        disk.create_folder(folder).map_err(DiskError::of("create folder", folder))?;
        // The folder above has the name. An empty path is the working folder.
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        disk.sync_folder(parent).map_err(DiskError::of("sync folder", parent))?;
    }
    Ok(())
}

/// Whether no file has this path. False if that cannot be found out.
pub(super) fn is_absent(path: &Path) -> bool {
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    path.symlink_metadata().is_err_and(|error| absent.contains(&error.kind()))
}

/// The disk of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File::create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = File::options().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        }
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl DiskFile for File {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self;
        file.write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}
