//! Where this thread finds procfs and sysfs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::snapshot;

/// The root of procfs for this thread, `/proc` unless [`set_roots`] said otherwise.
pub fn procfs_root() -> Arc<Path> {
    snapshot::procfs_root()
}

/// The root of sysfs for this thread, `/sys` unless [`set_roots`] said otherwise.
pub fn sysfs_root() -> Arc<Path> {
    snapshot::sysfs_root()
}

/// Sets the roots for this thread: a host's `/proc` as a container sees it, or a recorded tree.
///
/// Other threads keep theirs. All descriptors and bytes kept so far are dropped, also when the roots are what
/// they were; a tick that is open stays open and reads its files anew.
///
/// `std::fs`, and those parts of heim which use it, do not know a thread's roots beyond what heim joins to
/// them; neither do `statvfs`, `sysconf`, `utmp` and `getifaddrs`, which heim asks for file system sizes, CPU
/// counts, users and addresses.
pub fn set_roots(procfs: impl Into<PathBuf>, sysfs: impl Into<PathBuf>) {
    snapshot::set_roots(procfs.into().into(), sysfs.into().into());
}
