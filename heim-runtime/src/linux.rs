//! Where this thread finds procfs and sysfs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::snapshot;

/// The root of procfs for this thread: `/proc`, unless it was set.
#[must_use]
pub fn procfs_root() -> Arc<Path> {
    snapshot::procfs_root()
}

/// The root of sysfs for this thread: `/sys`, unless it was set.
#[must_use]
pub fn sysfs_root() -> Arc<Path> {
    snapshot::sysfs_root()
}

/// Sets both roots for this thread: a host's `/proc` as a container sees it, or a recorded tree.
///
/// Other threads keep theirs. All kept descriptors and bytes are dropped, even if the roots stay the
/// same. An open tick stays open and reads its files again.
///
/// The roots do not apply to `statvfs`, `sysconf`, `utmp` and `getifaddrs`, which heim calls for the
/// sizes of file systems, the number of CPUs, users and addresses.
pub fn set_roots(procfs: impl Into<PathBuf>, sysfs: impl Into<PathBuf>) {
    snapshot::set_roots(procfs.into().into(), sysfs.into().into(), false);
}

/// Sets both roots for this thread as [`set_roots`] does, to those of the host around this process's
/// container.
///
/// The network and the mount table are then those of the host's first process. In procfs, `net` and
/// `mounts` are links to those of the reading process (`proc(5)`), which is in the container.
pub fn set_roots_of_host(procfs: impl Into<PathBuf>, sysfs: impl Into<PathBuf>) {
    snapshot::set_roots(procfs.into().into(), sysfs.into().into(), true);
}

/// Sets procfs' root for this thread as [`set_roots`] does. heim calls it
/// `heim::os::linux::set_procfs_root`.
pub fn set_procfs_root(path: impl Into<PathBuf>) {
    snapshot::set_roots(path.into().into(), sysfs_root(), false);
}

/// Sets sysfs' root for this thread as [`set_roots`] does. heim calls it
/// `heim::os::linux::set_sysfs_root`.
pub fn set_sysfs_root(path: impl Into<PathBuf>) {
    snapshot::set_roots(procfs_root(), path.into().into(), false);
}
