//! Where the kernel's files are.

use std::io;
use std::path::{Path, PathBuf};

/// Where the kernel's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// procfs: `/proc`, or where a container sees its host's.
    pub procfs: PathBuf,
    /// sysfs: `/sys`, or where a container sees its host's.
    pub sysfs: PathBuf,
    /// What stands before the host's mount points: `/`, or where a container sees its host's root.
    pub rootfs: PathBuf,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots { procfs: "/proc".into(), sysfs: "/sys".into(), rootfs: "/".into() }
    }
}

impl Roots {
    /// Checks that the kernel's files are there.
    ///
    /// # Errors
    /// When a root is missing or lacks a file that every kernel has; the error names the file.
    pub fn check(&self) -> Result<(), RootError> {
        let roots = [
            ("host.procfs", &self.procfs, "stat"),
            ("host.sysfs", &self.sysfs, "class"),
            ("host.rootfs", &self.rootfs, "."),
        ];
        for (key, root, file) in roots {
            let path = root.join(file);
            std::fs::metadata(&path).map_err(|source| RootError { key, path, source })?;
        }
        Ok(())
    }

    /// Makes the calling thread's snapshots, and heim, read below these roots. On a host's procfs, the network and the
    /// mount table are those of the host's first process.
    pub fn apply(&self) {
        if self.are_of_host() {
            heim_runtime::linux::set_roots_of_host(&self.procfs, &self.sysfs);
        } else {
            heim_runtime::linux::set_roots(&self.procfs, &self.sysfs);
        }
    }

    /// Whether procfs is that of a host around this process's container, and shows the host's first process.
    pub(crate) fn are_of_host(&self) -> bool {
        self.name_host() && self.procfs.join("1").exists()
    }

    /// Whether they name a host around this process's container.
    pub(crate) fn name_host(&self) -> bool {
        self.procfs != Path::new("/proc") || self.has_rootfs()
    }

    /// Whether mount points are looked for below another folder than `/`.
    pub(crate) fn has_rootfs(&self) -> bool {
        self.rootfs != Path::new("/")
    }
}

/// Why the kernel's files cannot be read where the configuration says.
#[derive(Debug, thiserror::Error)]
#[error("{key}: look for {}: {source}", path.display())]
pub struct RootError {
    /// The key of the configuration.
    pub key: &'static str,
    /// The file that is missing.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}
