//! What a block device is: a disk, a part of one, or a device whose operations go to others.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::reading::folder::names;
use crate::reading::text::{lines, number, text, words};

/// Devices in memory, by the beginning of their names, which a number follows.
const IN_MEMORY: [&str; 2] = ["ram", "zram"];
/// Devices that lie on others, whether sysfs names these or not: on files, on devices of other hosts too, or on a ZFS pool.
const ON_OTHERS: [&str; 5] = ["dm-", "drbd", "loop", "md", "zd"];

/// The origins of the devices that were asked for.
#[derive(Debug)]
pub(super) struct Origins {
    /// `class/block` below sysfs' root.
    folder: PathBuf,
    known: HashMap<Vec<u8>, Origin>,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// `disk`, `partition`, `stacked`, `path` or `memory`.
    pub(super) kind: &'static str,
    /// The devices below it, separated by commas; empty if there is none or it is not known.
    pub(super) parent: String,
}

impl Origins {
    pub(super) fn new(sysfs: &Path) -> Origins {
        Origins { folder: sysfs.join("class/block"), known: HashMap::new() }
    }

    /// Forgets all of them: a name may now be another device's, and a volume may lie on other disks.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// Kind and parent of `device`. `diskstats` gives `/proc/diskstats`, which is needed for a device that was not asked for before.
    pub(super) fn of(&mut self, device: &[u8], diskstats: impl FnOnce() -> Vec<u8>) -> (&'static str, &str) {
        if !self.known.contains_key(device) {
            let origin = find(&self.folder, &text(device), &diskstats());
            self.known.insert(device.to_vec(), origin);
        }
        self.known.get(device).map_or(("disk", ""), |origin| (origin.kind, origin.parent.as_str()))
    }
}

impl Origin {
    fn of_kind(kind: &'static str) -> Origin {
        Origin { kind, parent: String::new() }
    }
}

/// The origin of a device, by sysfs in `folder`, or else by its name.
fn find(folder: &Path, device: &str, diskstats: &[u8]) -> Origin {
    // sysfs has an exclamation mark where a name has a slash.
    let own = folder.join(device.replace('/', "!"));
    if own.join("partition").exists() {
        let disk = fs::read_link(&own)
            .ok()
            .and_then(|link| Some(link.parent()?.file_name()?.to_string_lossy().replace('!', "/")));
        let parent = disk.or_else(|| disk_of(device, diskstats)).unwrap_or_default();
        return Origin { kind: "partition", parent };
    }
    let mut below: Vec<String> = names(&own.join("slaves")).into_iter().map(|name| name.replace('!', "/")).collect();
    below.sort_unstable();
    let is_one_of = |beginnings: &[&str]| {
        let rest = beginnings.iter().find_map(|beginning| device.strip_prefix(beginning));
        rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit() || first == '_'))
    };
    if !below.is_empty() || is_one_of(&ON_OTHERS) {
        return Origin { kind: "stacked", parent: below.join(",") };
    }
    if is_one_of(&IN_MEMORY) {
        return Origin::of_kind("memory");
    }
    if let Some(namespace) = namespace_of_path(device)
        && operations(&namespace, diskstats) > 0
    {
        return Origin { kind: "path", parent: namespace };
    }
    if !own.exists()
        && let Some(parent) = disk_of(device, diskstats)
    {
        return Origin { kind: "partition", parent };
    }
    Origin::of_kind("disk")
}

/// The namespace that an `NVMe` path leads to: `nvme1n1` for `nvme1c0n1`. Before Linux 6.3 only the paths have figures, later
/// both have them.
fn namespace_of_path(device: &str) -> Option<String> {
    let (subsystem, rest) = device.strip_prefix("nvme")?.split_once('c')?;
    let (controller, namespace) = rest.split_once('n')?;
    let are_numbers = [subsystem, controller, namespace].iter().all(|part| number(part.as_bytes()).is_some());
    are_numbers.then(|| format!("nvme{subsystem}n{namespace}"))
}

/// Reads and writes of a device.
fn operations(device: &str, diskstats: &[u8]) -> i64 {
    let line = lines(diskstats).find(|line| name(line) == Some(device.as_bytes()));
    let counts = line.map(|line| words(line).skip(3)).into_iter().flat_map(|counts| counts.step_by(4).take(2));
    counts.filter_map(number).fold(0, i64::saturating_add)
}

/// The disk that `device`, if it is a partition, is a part of by its name: `sda` of `sda1`, `nvme0n1` of `nvme0n1p1`.
fn disk_of(device: &str, diskstats: &[u8]) -> Option<String> {
    let disk = device.trim_end_matches(|last: char| last.is_ascii_digit());
    if disk == device {
        return None;
    }
    let ends_in_digit = |name: &str| name.ends_with(|last: char| last.is_ascii_digit());
    let disk = match disk.strip_suffix('p') {
        Some(disk) if ends_in_digit(disk) => disk,
        _ => disk,
    };
    lines(diskstats).any(|line| name(line) == Some(disk.as_bytes())).then(|| disk.to_owned())
}

/// The name in a line of `/proc/diskstats`.
fn name(line: &[u8]) -> Option<&[u8]> {
    words(line).nth(2)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn origin(folder: &Path, device: &str, devices: &[(&str, u32)]) -> (&'static str, String) {
        let line = |(name, reads): &(&str, u32)| format!("8 0 {name} {reads} 0 0 0 0 0 0 0 0 0 0\n");
        let diskstats: String = devices.iter().map(line).collect();
        let Origin { kind, parent } = find(folder, device, diskstats.as_bytes());
        (kind, parent)
    }

    #[test]
    fn sysfs_says_what_lies_on_what() {
        let tree = tempfile::tempdir().unwrap();
        let block = tree.path().join("class/block");
        fs::create_dir_all(&block).unwrap();
        for file in
            ["sda/sda1/partition", "sda/c!d0/c!d0p1/partition", "dm-0/slaves/sdb", "dm-0/slaves/sda1", "sda5/size"]
        {
            let path = tree.path().join("devices").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "1").unwrap();
        }
        for (name, at) in
            [("sda", "sda"), ("sda1", "sda/sda1"), ("c!d0p1", "sda/c!d0/c!d0p1"), ("dm-0", "dm-0"), ("sda5", "sda5")]
        {
            symlink(Path::new("../../devices").join(at), block.join(name)).unwrap();
        }
        let origin = |device| origin(&block, device, &[("sda", 1)]);
        assert_eq!(origin("sda"), ("disk", String::new()));
        assert_eq!(origin("sda1"), ("partition", "sda".to_owned()));
        assert_eq!(origin("c/d0p1"), ("partition", "c/d0".to_owned()));
        assert_eq!(origin("dm-0"), ("stacked", "sda1,sdb".to_owned()));
        assert_eq!(origin("sda5"), ("disk", String::new()), "its name is no proof");
    }

    #[test]
    fn without_sysfs_names_say_it() {
        let devices = [("sda", 1), ("mmcblk0", 1), ("nvme0n1", 1), ("nvme1n1", 0), ("nvme2n1", 5)];
        for (device, kind, parent) in [
            ("sda", "disk", ""),
            ("sda1", "partition", "sda"),
            ("sdb1", "disk", ""),
            ("mmcblk0", "disk", ""),
            ("mmcblk0p2", "partition", "mmcblk0"),
            ("nvme0n1p12", "partition", "nvme0n1"),
            ("nvme1c0n1", "disk", ""),
            ("nvme2c13n1", "path", "nvme2n1"),
            ("nvmec0n1", "disk", ""),
            ("md0", "stacked", ""),
            ("md_d0", "stacked", ""),
            ("dm-17", "stacked", ""),
            ("loop3", "stacked", ""),
            ("mdx", "disk", ""),
            ("zram0", "memory", ""),
            ("sr0", "disk", ""),
            ("", "disk", ""),
        ] {
            assert_eq!(origin(Path::new("/nowhere"), device, &devices), (kind, parent.to_owned()), "{device}");
        }
    }
}
