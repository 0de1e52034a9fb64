//! The folders of workers.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The folder in a daemon's data folder where queries spill. Its files have no names, so it looks empty.
const SPILL: &str = "spill";
/// Names of temporary files begin with this (crate tempfile).
const TEMPORARY: &str = ".tmp";

/// Where workers read and write.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The data folder, which workers may read.
    pub data: PathBuf,
    /// Where they may spill, if they may.
    pub spill: Option<PathBuf>,
}

impl Folders {
    /// Those of a daemon that records into `data`.
    #[must_use]
    pub fn of_daemon(data: PathBuf) -> Folders {
        let spill = data.join(SPILL);
        let spill = match make_spill_folder(&spill).and_then(|()| clear_spill_folder(&spill)) {
            Ok(()) => Some(spill),
            Err(error) => {
                tracing::warn!(%error, folder = %spill.display(), "queries cannot spill to disk");
                None
            }
        };
        Folders { data, spill }
    }
}

pub(super) fn make_spill_folder(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// On a file system that cannot make a file without a name, a spilled file has one for a moment, and a kill may leave it.
fn clear_spill_folder(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name().as_bytes().starts_with(TEMPORARY.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Which folder a path led to: the device and the inode.
pub(super) type FolderId = (u64, u64);

/// Which folder the path leads to now. It is another one after a disk was mounted there.
pub(super) fn folder_id(path: &Path) -> Option<FolderId> {
    fs::metadata(path).ok().map(|folder| (folder.dev(), folder.ino()))
}
