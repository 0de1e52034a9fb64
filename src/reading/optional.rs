//! Files that a kernel may lack, depending on how it was built and booted and on its modules.

use std::io;
use std::ops::Range;

use rustix::fd::OwnedFd;

use super::outcome::failed;
use super::reader::{Kept, Reader};
use crate::sampler::{SampleError, Tick};

/// The time until a missing file is tried again: each try costs a system call and an error.
const LOOK_AGAIN_NS: i64 = 10_000_000_000;

/// A file below procfs' root whose absence is no error.
#[derive(Debug)]
pub(crate) struct Optional {
    pub(crate) name: &'static str,
    /// When it is tried again, if it was missing.
    look_again_ns: i64,
}

impl Optional {
    /// The file `name` below procfs' root.
    pub(crate) const fn of_proc(name: &'static str) -> Optional {
        Optional { name, look_again_ns: i64::MIN }
    }

    /// Its name; `None` if it was missing and is not tried again at `tick`.
    pub(crate) fn wanted(&self, tick: &Tick) -> Option<&'static str> {
        (tick.monotonic_ns >= self.look_again_ns).then_some(self.name)
    }

    /// Adds the bytes of a file that one family reads to `reader`, outside the snapshot; `None` if the host lacks it.
    pub(crate) fn append(
        &mut self,
        tick: &Tick,
        procfs: &OwnedFd,
        reader: &mut Reader,
        kept: &mut Kept,
    ) -> Result<Option<Range<usize>>, SampleError> {
        let Some(name) = self.wanted(tick) else { return Ok(None) };
        let read = reader.append(procfs, |path| path.extend_from_slice(name.as_bytes()), kept);
        self.read(tick, read.map_err(io::Error::from))
    }

    /// Calls `parse` with the file's bytes at `tick`; `None` if the host lacks it.
    pub(crate) fn with<T>(&mut self, tick: &Tick, parse: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, SampleError> {
        let Some(name) = self.wanted(tick) else { return Ok(None) };
        self.read(tick, heim_runtime::snapshot::with_proc(name, parse))
    }

    fn read<T>(&mut self, tick: &Tick, read: io::Result<T>) -> Result<Option<T>, SampleError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if lacks(&error) => {
                self.look_again_ns = tick.monotonic_ns.saturating_add(LOOK_AGAIN_NS);
                Ok(None)
            }
            Err(error) => Err(failed(self.name, error)),
        }
    }
}

/// Checks that the file `name` below procfs' root can be read and is not empty. The error is for people: `lacking` if
/// there is no such file.
pub(crate) fn check_proc(name: &str, lacking: &str) -> Result<(), String> {
    match heim_runtime::snapshot::with_proc(name, <[u8]>::is_empty) {
        Ok(false) => Ok(()),
        Ok(true) => Err(format!("/proc/{name} is empty: a container's runtime may hide it")),
        Err(error) if lacks(&error) => Err(lacking.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether `error` means that the kernel has no such file, or has the feature behind it switched off.
fn lacks(error: &io::Error) -> bool {
    // EOPNOTSUPP: the feature is built in and switched off.
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::snapshot::in_snapshot;

    #[test]
    fn what_was_missing_is_asked_for_again_later() {
        let folder = tempfile::tempdir().unwrap();
        heim_runtime::linux::set_roots(folder.path(), folder.path());
        let mut file = Optional::of_proc("late");
        let mut len_at = |monotonic_ns| {
            let mut found = None;
            let tick = Tick { time: 0, monotonic_ns };
            in_snapshot(&mut || found = file.with(&tick, <[u8]>::len).unwrap());
            found
        };
        assert_eq!(len_at(5), None);
        std::fs::write(folder.path().join("late"), "seen").unwrap();
        assert_eq!(len_at(4 + LOOK_AGAIN_NS), None);
        assert_eq!(len_at(5 + LOOK_AGAIN_NS), Some(4));
    }

    #[test]
    fn what_is_switched_off_counts_as_missing_and_what_is_refused_does_not() {
        let (unsupported, refused) = (rustix::io::Errno::OPNOTSUPP, rustix::io::Errno::ACCESS);
        assert!(lacks(&unsupported.into()) && !lacks(&refused.into()));
        let folder = tempfile::tempdir().unwrap();
        heim_runtime::linux::set_roots(folder.path(), folder.path());
        assert_eq!(check_proc("x/y", "no x").unwrap_err(), "no x");
        std::fs::write(folder.path().join("x"), "").unwrap();
        assert_eq!(check_proc("x/y", "no x").unwrap_err(), "no x");
        assert!(check_proc("x", "no x").unwrap_err().starts_with("/proc/x is empty: "));
        assert!(check_proc(".", "no x").unwrap_err().contains("Is a directory"));
        std::fs::write(folder.path().join("x"), "1").unwrap();
        assert_eq!(check_proc("x", "no x"), Ok(()));
    }
}
