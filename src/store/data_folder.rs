//! What is in a data folder, and why one cannot be used.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::disk::{Disk, DiskError};
use super::partition::BEYOND;

/// The folder of the Parquet files within a data folder.
pub const LAKE: &str = "lake";
/// The folder of the journal's segments within a data folder.
pub const JOURNAL: &str = "journal";

/// The file that keeps the time that is believed.
pub(super) const CLOCK: &str = "CLOCK";

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There is no folder of this path any more.
    #[error(
        "data folder {} is gone: waiting until it is back, or another is made there; rows stay in memory until then, and the \
         oldest are lost once they take storage.hot_bytes_max", .0.display()
    )]
    Gone(PathBuf),
    /// Something else has its path, or that of a folder above it.
    #[error(
        "data folder {} is gone: {} is no folder; move it away; rows stay in memory until then, and the oldest are lost once \
         they take storage.hot_bytes_max", .0.display(), .1.display()
    )]
    NoFolder(PathBuf, PathBuf),
    /// Another daemon records into it, which wrote this text into the lock file.
    #[error("data folder {} is in use by a kymo daemon ({}); stop it, or use another folder (--data or storage.path)", .0.display(), .1)]
    Held(PathBuf, String),
    /// Somebody put another folder in the place of the one that is recorded into.
    #[error("data folder {} holds recordings of another kymo daemon now; restart this daemon to continue in it", .0.display())]
    Replaced(PathBuf),
    /// Something else than a file has the name of one of its files.
    #[error("{} is {}, but kymo needs a file of that name: move it away", .0.display(), .1)]
    NoFile(PathBuf, &'static str),
    /// This file in it has sequence numbers that leave too few for new rows.
    #[error("{} {BEYOND}", .0.display())]
    Numbers(PathBuf),
    /// There is no lake in it.
    #[error("{} holds no recordings: there is no folder {} in it", .0.display(), LAKE)]
    NoLake(PathBuf),
}

/// The paths in a folder, in the order of names. None if it is absent or no folder.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let listed = fs::read_dir(folder).and_then(|listing| listing.map(|entry| Ok(entry?.path())).collect());
    match listed {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        listed => {
            let mut paths: Vec<PathBuf> = listed.map_err(DiskError::of("read folder", folder))?;
            paths.sort();
            Ok(paths)
        }
    }
}

/// An error if something else than a file has this path. Whoever opens a FIFO waits for its other end, for ever if need be.
pub(super) fn expect_file(path: &Path) -> Result<(), FolderError> {
    let Ok(there) = fs::metadata(path) else { return Ok(()) };
    let kind = there.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(FolderError::NoFile(path.into(), what))
}

/// Opens a regular file to read it. All else is an error: to open a FIFO would wait for a writer.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let at_once = i32::from_ne_bytes(OFlags::NONBLOCK.bits().to_ne_bytes());
    let file = File::options().read(true).custom_flags(at_once).open(path)?;
    let is_regular = file.metadata()?.is_file();
    if is_regular { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")) }
}

/// The bytes of a regular file.
pub(super) fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The name at the end of a path; empty if it has none that is UTF-8.
pub(super) fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Writes a small file: as a whole, or not at all.
pub(super) fn replace(disk: &dyn Disk, path: &Path, text: &str) -> Result<(), DiskError> {
    let temporary = path.with_added_extension("tmp");
    let written = disk.create(&temporary).and_then(|file| {
        file.append(text.as_bytes())?;
        file.sync()?;
        disk.rename(&temporary, path)
    });
    written.map_err(DiskError::of("write", path))
}

/// Whether a file is below the folder of the lake or of the journal.
pub(super) fn has_recordings(data: &Path) -> Result<bool, FolderError> {
    let mut folders = vec![data.join(LAKE), data.join(JOURNAL)];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            if !path.is_dir() {
                return Ok(true);
            }
            folders.push(path);
        }
    }
    Ok(false)
}
