//! Files that a kernel may lack, by how it was built, booted or what modules it has loaded.

use std::io;
use std::ops::Range;

use rustix::fd::OwnedFd;

use super::kept::{Kept, Reader};
use super::source::failed;
use crate::sampler::{SampleError, Tick};

/// The time until a file that was missing is asked for again: opening it in vain costs a system call and an error.
const LOOK_AGAIN_NS: i64 = 10_000_000_000;

/// A file below procfs' root whose absence is no error.
#[derive(Debug)]
pub(super) struct Optional {
    name: &'static str,
    /// When it is asked for again, where it was missing.
    look_again_ns: i64,
}

impl Optional {
    /// The file `name` below procfs' root.
    pub(super) const fn of_proc(name: &'static str) -> Optional {
        Optional { name, look_again_ns: i64::MIN }
    }

    /// Its name, unless it was missing and is not asked for at `tick`.
    pub(super) fn wanted(&self, tick: &Tick) -> Option<&'static str> {
        (tick.monotonic_ns >= self.look_again_ns).then_some(self.name)
    }

    /// Adds the bytes that the file has now to those of `reader`, apart from the snapshot: for a file with one reader.
    /// `None` where the host lacks it.
    pub(super) fn append(
        &mut self,
        tick: &Tick,
        procfs: &OwnedFd,
        reader: &mut Reader,
        kept: &mut Kept,
    ) -> Option<Result<Range<usize>, SampleError>> {
        let name = self.wanted(tick)?;
        let error = match reader.append(procfs, |path| path.extend_from_slice(name.as_bytes()), kept) {
            Ok(part) => return Some(Ok(part)),
            Err(error) => io::Error::from(error),
        };
        if lacks(&error) {
            self.look_again_ns = tick.monotonic_ns.saturating_add(LOOK_AGAIN_NS);
            return None;
        }
        Some(Err(failed(name, error)))
    }

    /// Calls `parse` with the bytes that the file has at `tick`; `None` where the host lacks it.
    pub(super) fn with<T>(
        &mut self,
        tick: &Tick,
        parse: impl FnOnce(&[u8]) -> Result<T, SampleError>,
    ) -> Result<Option<T>, SampleError> {
        let Some(name) = self.wanted(tick) else { return Ok(None) };
        match heim_runtime::snapshot::with_proc(name, parse) {
            Ok(parsed) => parsed.map(Some),
            Err(error) if lacks(&error) => {
                self.look_again_ns = tick.monotonic_ns.saturating_add(LOOK_AGAIN_NS);
                Ok(None)
            }
            Err(error) => Err(failed(self.name, error)),
        }
    }
}

/// Whether the file `name` below procfs' root can be read and has any bytes.
///
/// # Errors
/// Why it cannot, for people; `lacking` is said where there is no such file.
pub(super) fn check_proc(name: &str, lacking: &str) -> Result<(), String> {
    match heim_runtime::snapshot::with_proc(name, <[u8]>::is_empty) {
        Ok(false) => Ok(()),
        Ok(true) => Err(format!("/proc/{name} is empty: a container's runtime may hide it")),
        Err(error) if lacks(&error) => Err(lacking.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether `error` means that the kernel has no such file, or has it without what it would tell.
fn lacks(error: &io::Error) -> bool {
    // EOPNOTSUPP is what is read where a part of the kernel is built in and switched off.
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::in_snapshot;

    #[test]
    fn what_was_missing_is_asked_for_again_later() {
        let folder = tempfile::tempdir().unwrap();
        heim_runtime::linux::set_roots(folder.path(), folder.path());
        let mut file = Optional::of_proc("late");
        let mut len_at = |monotonic_ns| {
            let mut found = None;
            let tick = Tick { time: 0, monotonic_ns };
            in_snapshot(&mut || found = file.with(&tick, |bytes| Ok(bytes.len())).unwrap());
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
