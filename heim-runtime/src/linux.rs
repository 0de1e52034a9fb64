//! Where this thread finds procfs and sysfs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::snapshot;

/// The root of procfs for this thread, `/proc` unless [`set_roots`] said otherwise.
#[must_use]
pub fn procfs_root() -> Arc<Path> {
    snapshot::procfs_root()
}

/// The root of sysfs for this thread, `/sys` unless [`set_roots`] said otherwise.
#[must_use]
pub fn sysfs_root() -> Arc<Path> {
    snapshot::sysfs_root()
}

/// Sets both roots for this thread: a host's `/proc` as a container sees it, or a recorded tree.
///
/// Other threads keep theirs. All descriptors and bytes kept so far are dropped, also when the
/// roots are what they were; a tick that is open stays open and reads its files anew.
///
/// `statvfs`, `sysconf`, `utmp` and `getifaddrs` have no root; heim asks them for the sizes of file
/// systems, the count of CPUs, users and addresses.
pub fn set_roots(procfs: impl Into<PathBuf>, sysfs: impl Into<PathBuf>) {
    snapshot::set_roots(procfs.into().into(), sysfs.into().into(), false);
}

/// Sets both roots for this thread as [`set_roots`] does, to those of a host around this process's
/// container.
///
/// Network and mount table are then those of the host's first process: `net` and `mounts` in procfs
/// are links to those of whoever reads them (`proc(5)`), who is in the container.
pub fn set_roots_of_host(procfs: impl Into<PathBuf>, sysfs: impl Into<PathBuf>) {
    snapshot::set_roots(procfs.into().into(), sysfs.into().into(), true);
}

/// Whether the roots were last set by [`set_roots_of_host`].
#[must_use]
pub fn are_roots_of_host() -> bool {
    snapshot::through_init()
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
