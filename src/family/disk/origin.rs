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

/// An origin is looked up again after this time: a volume may lie on other disks by then.
const VALID_NS: i64 = 60_000_000_000;
/// Origins that are looked up again in each ms between two ticks: some 10 µs of work.
const AGAIN_PER_MS: i64 = 1;
/// The most that are looked up again in one tick.
const AGAIN_MAX: i64 = 64;

/// The origins of the devices that were asked for.
///
/// A device that is new is looked up at once. Those that are known are looked up again a few at a time: on a host with a thousand
/// disks, all of them would take longer than a tick may.
#[derive(Debug)]
pub(super) struct Origins {
    /// `class/block` below sysfs' root.
    folder: PathBuf,
    known: HashMap<Vec<u8>, Known>,
    /// The operations of all devices, by their names, as of the last time that they were needed.
    devices: Option<Devices>,
    /// The tick that runs, ns of `CLOCK_MONOTONIC`.
    now_ns: i64,
    /// How many more may be looked up again in this tick.
    again: i64,
    /// What was found before this is out of date, ns of `CLOCK_MONOTONIC`.
    valid_from_ns: i64,
}

/// Reads and writes of each device.
type Devices = HashMap<Vec<u8>, i64>;

#[derive(Debug)]
struct Known {
    origin: Origin,
    /// When it was looked up, ns of `CLOCK_MONOTONIC`.
    at_ns: i64,
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
        let folder = sysfs.join("class/block");
        Origins { folder, known: HashMap::new(), devices: None, now_ns: 0, again: 0, valid_from_ns: i64::MIN }
    }

    /// A tick begins at this time.
    pub(super) fn begin(&mut self, now_ns: i64) {
        let passed_ms = now_ns.saturating_sub(self.now_ns) / 1_000_000;
        self.again = passed_ms.saturating_mul(AGAIN_PER_MS).clamp(AGAIN_PER_MS, AGAIN_MAX);
        self.now_ns = now_ns;
        self.valid_from_ns = self.valid_from_ns.max(now_ns.saturating_sub(VALID_NS));
    }

    /// Devices came or went: a name may now be another device's, and a volume may lie on other disks.
    pub(super) fn have_changed(&mut self) {
        self.valid_from_ns = self.now_ns;
        self.devices = None;
    }

    /// Kind and parent of `device`. `diskstats` gives `/proc/diskstats`, which is needed at times to look a device up.
    pub(super) fn of(&mut self, device: &[u8], diskstats: impl FnOnce() -> Vec<u8>) -> (&'static str, &str) {
        let (now_ns, valid_from_ns) = (self.now_ns, self.valid_from_ns);
        let is_due = match self.known.get(device) {
            Some(known) if known.at_ns >= valid_from_ns => false,
            Some(_) => {
                self.again -= 1;
                self.again >= 0
            }
            None => true,
        };
        if is_due {
            let known = &mut self.known;
            let devices = self.devices.get_or_insert_with(|| {
                let devices = operations(&diskstats());
                // The others are gone.
                known.retain(|device, _| devices.contains_key(device));
                devices
            });
            let origin = find(&self.folder, &text(device), devices);
            known.insert(device.to_vec(), Known { origin, at_ns: now_ns });
        }
        self.known.get(device).map_or(("disk", ""), |known| (known.origin.kind, known.origin.parent.as_str()))
    }
}

impl Origin {
    fn of_kind(kind: &'static str) -> Origin {
        Origin { kind, parent: String::new() }
    }
}

/// The origin of a device, by sysfs in `folder`, or else by its name.
fn find(folder: &Path, device: &str, devices: &Devices) -> Origin {
    // sysfs has an exclamation mark where a name has a slash.
    let own = folder.join(device.replace('/', "!"));
    if own.join("partition").exists() {
        let disk = fs::read_link(&own)
            .ok()
            .and_then(|link| Some(link.parent()?.file_name()?.to_string_lossy().replace('!', "/")));
        let parent = disk.or_else(|| disk_of(device, devices)).unwrap_or_default();
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
        && devices.get(namespace.as_bytes()).is_some_and(|operations| *operations > 0)
    {
        return Origin { kind: "path", parent: namespace };
    }
    if !own.exists()
        && let Some(parent) = disk_of(device, devices)
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

/// Reads and writes of each device in `/proc/diskstats`.
fn operations(diskstats: &[u8]) -> Devices {
    let of = |line| {
        let mut words = words(line).skip(2);
        let device = words.next()?;
        let counts = words.step_by(4).take(2).filter_map(number);
        Some((device.to_vec(), counts.fold(0, i64::saturating_add)))
    };
    lines(diskstats).filter_map(of).collect()
}

/// The disk that `device`, if it is a partition, is a part of by its name: `sda` of `sda1`, `nvme0n1` of `nvme0n1p1`.
fn disk_of(device: &str, devices: &Devices) -> Option<String> {
    let disk = device.trim_end_matches(|last: char| last.is_ascii_digit());
    if disk == device {
        return None;
    }
    let ends_in_digit = |name: &str| name.ends_with(|last: char| last.is_ascii_digit());
    let disk = match disk.strip_suffix('p') {
        Some(disk) if ends_in_digit(disk) => disk,
        _ => disk,
    };
    devices.contains_key(disk.as_bytes()).then(|| disk.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn origin(folder: &Path, device: &str, devices: &[(&str, u32)]) -> (&'static str, String) {
        let line = |(name, reads): &(&str, u32)| format!("8 0 {name} {reads} 0 0 0 0 0 0 0 0 0 0\n");
        let diskstats: String = devices.iter().map(line).collect();
        let Origin { kind, parent } = find(folder, device, &operations(diskstats.as_bytes()));
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
    fn known_devices_are_looked_up_again_a_few_a_tick() {
        let tree = tempfile::tempdir().unwrap();
        let mut origins = Origins::new(tree.path());
        let line = |nth| format!("8 0 sd{nth}x 1 0 0 0 1 0 0 0 0 0 0\n");
        let lines = (0..1_500).map(line).collect::<Vec<_>>().concat();
        let mut tick = |ms: i64, lines: &str, has_changed| {
            origins.begin(ms * 1_000_000);
            if has_changed {
                origins.have_changed();
            }
            for line in lines.lines() {
                origins.of(line.split(' ').nth(2).unwrap().as_bytes(), || lines.into());
            }
            let known = origins.known.values();
            (origins.known.len(), known.filter(|known| known.at_ns == origins.now_ns).count())
        };
        assert_eq!(tick(0, &lines, true), (1_500, 1_500));
        assert_eq!(tick(1, &lines, false), (1_500, 0));
        assert_eq!(tick(60_000, &lines, false), (1_500, 0));
        let mut again = 0;
        for ms in 60_001..61_501 {
            let (_, looked_up) = tick(ms, &lines, false);
            assert!(looked_up <= 1, "{looked_up} in one tick");
            again += looked_up;
        }
        assert_eq!(again, 1_500);
        // A slow collector looks more of them up, and still a bounded number.
        assert_eq!(tick(130_000, &lines, false), (1_500, 64));
        // Those that are gone are forgotten.
        let few: String = lines.split_inclusive('\n').take(10).collect();
        assert_eq!(tick(140_000, &few, true), (10, 10));
    }

    #[test]
    fn a_device_that_lies_on_another_disk_is_noticed() {
        let tree = tempfile::tempdir().unwrap();
        let slaves = tree.path().join("class/block/dm-0/slaves");
        fs::create_dir_all(slaves.join("sda")).unwrap();
        let mut origins = Origins::new(tree.path());
        let mut parent = |ms: i64| {
            origins.begin(ms * 1_000_000);
            origins.of(b"dm-0", Vec::new).1.to_owned()
        };
        assert_eq!(parent(0), "sda");
        fs::rename(slaves.join("sda"), slaves.join("sdb")).unwrap();
        assert_eq!((parent(59_999).as_str(), parent(60_001).as_str()), ("sda", "sdb"));
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
