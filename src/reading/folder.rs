//! Folders, opened and listed without allocating at every tick.

use std::ffi::CStr;
use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, RawDir, RawDirEntry, SeekFrom, openat, seek};
use rustix::io::{Errno, retry_on_intr};
use rustix::path::Arg;

/// The kernel fills this much at once with the names of a folder, which may have thousands.
const LISTING_BYTES: usize = 32 << 10;

/// The buffer of [`list`], used for one folder after the other.
pub(crate) type Listing = Box<[MaybeUninit<u8>]>;

pub(crate) fn listing() -> Listing {
    Box::new_uninit_slice(LISTING_BYTES)
}

/// The path that `write` writes, with its NUL. Allocates only when `path` must grow.
pub(crate) fn c_path(path: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Result<&CStr, Errno> {
    path.clear();
    write(path);
    path.push(0);
    CStr::from_bytes_with_nul(path).map_err(|_| Errno::INVAL)
}

/// Opens a folder below the working folder.
pub(crate) fn open_folder(path: impl Arg + Copy) -> Result<OwnedFd, Errno> {
    open_folder_at(CWD, path)
}

/// Opens a folder below `folder`.
pub(crate) fn open_folder_at(folder: impl AsFd, path: impl Arg + Copy) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| openat(folder.as_fd(), path, flags, Mode::empty()))
}

/// Opens a file below `folder` for reading.
pub(crate) fn open_file_at(folder: impl AsFd, path: impl Arg + Copy) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry_on_intr(|| openat(folder.as_fd(), path, flags, Mode::empty()))
}

/// Shows `look` the entries of `folder` until it returns `false`. Allocates nothing.
pub(crate) fn list(
    folder: impl AsFd,
    buffer: &mut [MaybeUninit<u8>],
    mut look: impl FnMut(&RawDirEntry<'_>) -> bool,
) -> Result<(), Errno> {
    seek(folder.as_fd(), SeekFrom::Start(0))?;
    let mut entries = RawDir::new(folder.as_fd(), buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." && !look(&entry) {
            break;
        }
    }
    Ok(())
}

/// The names in `folder` that are UTF-8; none if it cannot be listed.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

    use super::*;

    #[test]
    fn a_folder_is_listed_as_often_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let root = open_folder(folder.path()).unwrap();
        let mut buffer = listing();
        for _ in 0..2 {
            let mut names = Vec::new();
            list(&root, &mut buffer, |entry| {
                names.push((entry.file_name().to_bytes().to_vec(), entry.file_type() == FileType::RegularFile));
                true
            })
            .unwrap();
            names.sort();
            assert_eq!(names, [(b"a".to_vec(), true), (b"b".to_vec(), true), (b"c".to_vec(), true)]);
        }
        let mut seen = 0;
        list(&root, &mut buffer, |_| {
            seen += 1;
            false
        })
        .unwrap();
        assert_eq!(seen, 1);
    }
}
