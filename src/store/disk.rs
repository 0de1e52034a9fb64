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

/// The changes that the store makes to a file system.
pub trait Disk: Debug + Send + Sync {
    /// Makes an empty file. Empties one that is there.
    ///
    /// # Errors
    /// When the disk refuses, as all functions here.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name (`rename(2)`). Replaces a file that has it.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Cuts a file to `len` bytes and syncs it.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    fn cut(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Makes a folder. No error if it is there already.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder if it is empty.
    #[expect(clippy::missing_errors_doc, reason = "said above")]
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Waits until the names in a folder are on the device (`fsync(2)`).
    #[expect(clippy::missing_errors_doc, reason = "said above")]
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

/// A point at which tests kill the process or have an operation fail.
///
/// # Errors
/// Only in tests.
pub(super) fn step(name: &'static str) -> io::Result<()> {
    fail::fail_point!(name, |_| Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())));
    let _ = name;
    Ok(())
}

/// Makes `folder` and the missing folders above it up to `root`. Syncs every folder that got a new name.
///
/// # Errors
/// When the disk refuses.
pub(super) fn create_folders(disk: &dyn Disk, root: &Path, folder: &Path) -> Result<(), DiskError> {
    let mut missing: Vec<&Path> =
        folder.ancestors().take_while(|ancestor| *ancestor != root && !ancestor.is_dir()).collect();
    // An empty path is the working folder.
    if !root.as_os_str().is_empty() && !root.is_dir() {
        missing.push(root);
    }
    for folder in missing.into_iter().rev() {
        disk.create_folder(folder).map_err(DiskError::of("create folder", folder))?;
        sync_name(disk, folder)?;
    }
    Ok(())
}

/// Whether no file has this path. False if that cannot be found out.
pub(super) fn is_absent(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Syncs the folder above this one, which holds its name.
///
/// # Errors
/// When the disk refuses.
pub(super) fn sync_name(disk: &dyn Disk, folder: &Path) -> Result<(), DiskError> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk.sync_folder(parent).map_err(DiskError::of("sync folder", parent))
}

/// The disk of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(LocalFile(File::create(path)?)))
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

#[derive(Debug)]
struct LocalFile(File);

impl DiskFile for LocalFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}
