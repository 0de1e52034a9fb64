//! Where the kernel's files are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::text::{fields, lines};

/// The pid namespace that every kernel starts with (`include/linux/proc_ns.h`, `PROC_PID_INIT_INO`).
pub(super) const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";
/// In `/proc/sys/net/core`: what every network namespace has, and what only the first one has.
const NETWORK_SETTINGS: [&str; 2] = ["somaxconn", "dev_weight"];

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
            fs::metadata(&path).map_err(|source| RootError { key, path, source })?;
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

    /// Whether the network and the mount table are those of the host's first process: procfs is that of a host around this
    /// process's container, or systemd has given this process mounts of its own, many of them read-only.
    pub(crate) fn are_of_host(&self) -> bool {
        if self.name_host() { self.procfs.join("1").exists() } else { has_own_mounts(&self.procfs) }
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

/// Whether this process has a mount namespace of its own with the root and the network of the host's first process. Who gave
/// it a network of its own as well (`ip-netns(8)`) wants to see that, and its mounts.
fn has_own_mounts(procfs: &Path) -> bool {
    let (Some(own), Some(first)) = (RootMount::of(procfs, "self"), RootMount::of(procfs, "1")) else { return false };
    own.is_of_root(&first)
        && own.id != first.id
        && pid_namespace(procfs, "self").is_some_and(|own| own == FIRST_PID_NAMESPACE)
        && !has_own_network(procfs)
}

/// Whether it is certain that this process is not in the network namespace that the kernel starts with.
pub(super) fn has_own_network(procfs: &Path) -> bool {
    let [has_any, is_first] = NETWORK_SETTINGS.map(|name| procfs.join("sys/net/core").join(name).exists());
    has_any && !is_first
}

/// The pid namespace of a process; `None` if kymo may not see it (`namespaces(7)`).
pub(super) fn pid_namespace(procfs: &Path, process: &str) -> Option<String> {
    fs::read_link(procfs.join(process).join("ns/pid")).ok()?.into_os_string().into_string().ok()
}

/// What is mounted at `/`, as a process sees it.
pub(super) struct RootMount {
    /// Another one in each mount namespace.
    id: Vec<u8>,
    /// The file system's number, and the folder of it that is mounted.
    place: (Vec<u8>, Vec<u8>),
}

impl RootMount {
    /// `None` if kymo may not see it (`proc_pid_mountinfo(5)`).
    pub(super) fn of(procfs: &Path, process: &str) -> Option<RootMount> {
        let mounts = fs::read(procfs.join(process).join("mountinfo")).ok()?;
        let root = |line| {
            let mut fields = fields(line);
            let (id, number, folder, path) = (fields.next()?, fields.nth(1)?, fields.next()?, fields.next()?);
            (path == b"/").then(|| RootMount { id: id.to_vec(), place: (number.to_vec(), folder.to_vec()) })
        };
        lines(&mounts).filter_map(root).last()
    }

    /// Whether both are the same folder.
    pub(super) fn is_of_root(&self, other: &RootMount) -> bool {
        self.place == other.place
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn mounts_of_its_own_are_found_where_the_first_process_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let procfs = folder.path();
        let mount = |process: &str, line: &str| {
            fs::create_dir_all(procfs.join(process).join("ns")).unwrap();
            fs::write(procfs.join(process).join("mountinfo"), line).unwrap();
        };
        mount("self", "31 1 254:0 / / ro,relatime - ext4 /dev/vda rw\n");
        symlink(FIRST_PID_NAMESPACE, procfs.join("self/ns/pid")).unwrap();
        assert!(!has_own_mounts(procfs), "the first process is not seen");
        mount("1", "31 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n");
        assert!(!has_own_mounts(procfs), "they are the same");
        mount("1", "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n");
        assert!(has_own_mounts(procfs));
        fs::create_dir_all(procfs.join("sys/net/core")).unwrap();
        fs::write(procfs.join("sys/net/core/somaxconn"), "4096\n").unwrap();
        assert!(!has_own_mounts(procfs), "it has a network of its own");
        fs::write(procfs.join("sys/net/core/dev_weight"), "64\n").unwrap();
        assert!(has_own_mounts(procfs));
        mount("1", "22 1 254:0 /container / rw,relatime - ext4 /dev/vda rw\n");
        assert!(!has_own_mounts(procfs), "it has another root");
    }
}
