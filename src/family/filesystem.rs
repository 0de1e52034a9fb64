//! `filesystem`: how full the mounted file systems are, from `/proc/mounts` and statvfs(3).

mod usage;

use std::collections::HashSet;
use std::time::Duration;

use super::source::{Outcome, count, lines, text, with_proc, words};
use super::{Family, Rows, Sample};
use crate::record;
use crate::record::Record;
use crate::sampler::{SampleError, Tick};
use usage::Usages;

/// The filesystem family.
pub const FAMILY: Family =
    Family::sampled::<FilesystemSampler>(Duration::from_secs(1), "exact at every read; each mount costs a system call");

record! {
    /// How full each mounted file system is, of those that lie on a device (`/proc/filesystems` does not call them
    /// `nodev`) and ZFS. Where several are mounted on one path, the last one is seen and has the row. A file system
    /// that is mounted on several paths has a row for each. Values are null where statvfs(3) is refused
    /// or gives no answer within 200 ms, and in a container for mounts of the host that it does not have itself.
    pub struct Filesystem("filesystem") {
        labels {
            /// The path that it is mounted on.
            mountpoint => "system.filesystem.mountpoint",
            /// What is mounted, as it was named when it was mounted.
            device => "system.device",
            /// The file system's type, such as `ext4`.
            r#type => "system.filesystem.type",
        }
        values {
            /// Its size.
            gauge total_bytes: i64 [Bytes] => "system.filesystem.limit" {},
            /// What is used.
            gauge used_bytes: i64 [Bytes] => "system.filesystem.usage" {"system.filesystem.state" = "used"},
            /// What users other than root can still use. Less than the total without the used where some is reserved.
            gauge free_bytes: i64 [Bytes] => "system.filesystem.usage" {"system.filesystem.state" = "free"},
            /// Used ÷ (used + free), as df(1) shows it.
            gauge used_ratio: f64 [Ratio] => "system.filesystem.utilization" {"system.filesystem.state" = "used"},
        }
    }
}

/// Reads the mounts, and the space of each through heim on a thread that may wait for it.
///
/// heim's own list of partitions gives paths as they are escaped in `/proc/mounts`, loses lines that are not UTF-8,
/// and does not show what is mounted over what, so the list is made here.
#[derive(Debug, Default)]
pub struct FilesystemSampler {
    /// `/proc/mounts` and `/proc/filesystems` as `mounts` was made from them.
    made_from: (Vec<u8>, Vec<u8>),
    mounts: Vec<Mount>,
    usages: Usages,
}

impl Sample for FilesystemSampler {
    type Record = Filesystem;

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Filesystem>) -> Result<(), SampleError> {
        with_proc("mounts", |mounts| {
            with_proc("filesystems", |types| {
                self.refresh(mounts, types);
                Ok(())
            })
        })?;
        let mut outcome = Outcome::default();
        self.usages.begin();
        for (row, mount) in self.mounts.iter().enumerate() {
            let asked = if mount.is_here { self.usages.of(&mount.path) } else { Ok(None) };
            let space = asked.unwrap_or_else(|silence| {
                outcome.fail("filesystem", format_args!("statvfs {}: {silence}", text(&mount.path)));
                None
            });
            // Three labels a row, each with a place of its own in the cache.
            let mut label = |nth: usize, text: &str| rows.labels.resolve(row * 3 + nth, text);
            let record = Filesystem {
                mountpoint: label(0, &text(&mount.path)),
                device: label(1, &mount.device),
                r#type: label(2, &mount.kind),
                ..Filesystem::absent(tick.time)
            };
            rows.push(match space {
                Some(space) => Filesystem {
                    total_bytes: count(space.total),
                    used_bytes: count(space.used),
                    free_bytes: count(space.free),
                    used_ratio: space.used_ratio(),
                    ..record
                },
                None => record,
            });
        }
        outcome.into_result()
    }
}

impl FilesystemSampler {
    fn refresh(&mut self, mounts: &[u8], types: &[u8]) {
        if self.made_from.0 != mounts || self.made_from.1 != types {
            self.mounts = parse(mounts, types);
            if heim_runtime::linux::are_roots_of_host() {
                // A path of the host's may be something else in the container that kymo is in.
                let here = parse(&std::fs::read("/proc/self/mounts").unwrap_or_default(), types);
                self.mounts.iter_mut().for_each(|mount| mount.is_here = here.contains(mount));
            }
            self.made_from = (mounts.to_vec(), types.to_vec());
        }
    }
}

/// A mounted file system.
#[derive(Debug, PartialEq)]
struct Mount {
    /// Any bytes but NUL.
    path: Vec<u8>,
    device: String,
    kind: String,
    /// Whether this process too finds it at that path.
    is_here: bool,
}

/// The file systems on devices, in the order they were mounted: of several on one path the last.
fn parse(mounts: &[u8], types: &[u8]) -> Vec<Mount> {
    let on_devices: Vec<&[u8]> =
        lines(types).filter(|line| !line.starts_with(b"nodev")).filter_map(|line| words(line).next()).collect();
    // fstab(5): device, path, type, and more, each between single blanks.
    let fields = |line| {
        let mut fields = <[u8]>::split(line, |byte| *byte == b' ');
        Some((fields.next()?, fields.next()?, fields.next()?))
    };
    let mut seen = HashSet::new();
    let mut found: Vec<Mount> = lines(mounts)
        .filter_map(fields)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .filter(|(_, path, _)| seen.insert(*path))
        .filter(|(_, _, kind)| *kind == b"zfs" || on_devices.contains(kind))
        .map(|(device, path, kind)| Mount {
            path: unescaped(path),
            device: text(&unescaped(device)).into_owned(),
            kind: text(kind).into_owned(),
            is_here: true,
        })
        .collect();
    found.reverse();
    found
}

/// `field` with its escapes undone: the kernel writes blanks, tabs, line ends, backslashes and `#` as `\` and three
/// octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let decoded;
        (decoded, rest) = match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
            }
            _ => (byte, after),
        };
        bytes.push(decoded);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::usage::{Patience, Space};
    use super::*;
    use crate::family::probe::Probe;

    fn mounted(mounts: &[u8], types: &str) -> Vec<(Vec<u8>, String, String)> {
        parse(mounts, types.as_bytes()).into_iter().map(|mount| (mount.path, mount.device, mount.kind)).collect()
    }

    /// The root of the machine this runs on stands in the recorded mounts.
    #[test]
    fn the_row_of_the_root_is_what_the_kernel_says() {
        let mut probe = Probe::fixture(&FAMILY, "vm");
        let rows = probe.rows(0);
        let fields: Vec<&str> = rows.trim_end().split(',').collect();
        let stat = rustix::fs::statvfs("/").unwrap();
        assert_eq!(fields[..4], ["/", "/dev/vda", "ext4", &(stat.f_blocks * stat.f_frsize).to_string()]);
        let [used, free]: [u64; 2] = [fields[4].parse().unwrap(), fields[5].parse().unwrap()];
        assert!(used > 0 && used + free <= stat.f_blocks * stat.f_frsize, "{rows}");
        let ratio: f64 = fields[6].parse().unwrap();
        assert!((ratio - used as f64 / (used + free) as f64).abs() < 1e-12, "{rows}");
    }

    #[test]
    fn mount_points_that_are_gone_have_rows_without_values() {
        let mut probe = Probe::fixture(&FAMILY, "odd");
        assert_eq!(
            probe.rows(0),
            "/nowhere/backup #1,/dev/sd\\a,ext4,,,,\n\
             /nowhere/v\u{fffd}l,pool/data,zfs,,,,\n\
             /nowhere/Ünï,LABEL=x y,fuseblk,,,,\n\
             /nowhere/last,/dev/sdd,xfs,,,,\n"
        );
    }

    #[test]
    fn of_several_mounts_on_a_path_the_last_is_seen() {
        let types = "nodev\ttmpfs\n\text4\n\txfs\n";
        let mounts = b"/dev/a /x ext4 rw 0 0\n/dev/b /y xfs rw 0 0\n/dev/c /x xfs rw 0 0\ntmpfs /y tmpfs rw 0 0\n";
        assert_eq!(mounted(mounts, types), [(b"/x".to_vec(), "/dev/c".into(), "xfs".into())]);
        assert_eq!(mounted(b"/dev/a /x\n\n/dev/a /z ext4\n", types).len(), 1);
    }

    #[test]
    fn the_list_follows_the_mounts() {
        let mut probe = Probe::empty(&FAMILY);
        probe.write("filesystems", "\text4\n");
        probe.write("mounts", "a /nowhere/a ext4 rw 0 0\n");
        assert_eq!(probe.rows(0), "/nowhere/a,a,ext4,,,,\n");
        probe.write("mounts", "b /nowhere/b ext4 rw 0 0\nx /nowhere/x xfs rw 0 0\n");
        assert_eq!(probe.rows(1), "/nowhere/b,b,ext4,,,,\n");
        probe.write("filesystems", "\txfs\n");
        assert_eq!(probe.rows(2), "/nowhere/x,x,xfs,,,,\n");
    }

    /// A blank, a tab, a line end, a backslash, a `#` and a byte that is not UTF-8, escaped as the kernel does.
    #[test]
    fn a_path_of_odd_bytes_has_its_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OsStr::from_bytes(b"a b\tc\nd\\e#v\xff"));
        std::fs::create_dir(&path).unwrap();
        let plain = folder.path().to_str().unwrap();
        let mut mounts = format!("x {plain}/a\\040b\\011c\\012d\\134e\\043v").into_bytes();
        mounts.extend_from_slice(b"\xff ext4 rw 0 0\n");
        assert_eq!(mounted(&mounts, "\text4\n")[0].0, path.as_os_str().as_bytes());

        let mut probe = Probe::empty(&FAMILY);
        probe.write("filesystems", "\text4\n");
        probe.write("mounts", &mounts);
        let stat = rustix::fs::statvfs(&path).unwrap();
        let rows = probe.rows(0);
        let total = format!("\",x,ext4,{},", stat.f_blocks * stat.f_frsize);
        assert!(rows.contains("/a b\tc\nd\\e#v\u{fffd}") && rows.contains(&total), "{rows}");
    }

    /// Mounts on this path are asked for as long as [`GATE`] is held.
    const HUNG: &[u8] = b"/nowhere/hung";
    static GATE: Mutex<()> = Mutex::new(());

    struct Hanging(FilesystemSampler);

    impl Default for Hanging {
        fn default() -> Hanging {
            let ask = |path: &[u8]| {
                let _held = (path == HUNG).then(|| GATE.lock());
                Space::at(path)
            };
            // Long enough for those who answer, on however busy a machine.
            let patience = Patience { mount: Duration::from_secs(2), tick: Duration::from_secs(20) };
            Hanging(FilesystemSampler {
                usages: Usages::new(Arc::new(ask), patience, Arc::default()),
                ..FilesystemSampler::default()
            })
        }
    }

    impl Sample for Hanging {
        type Record = Filesystem;

        fn sample(&mut self, tick: &Tick, rows: &mut Rows<Filesystem>) -> Result<(), SampleError> {
            self.0.sample(tick, rows)
        }
    }

    #[test]
    fn a_mount_that_hangs_costs_its_own_values_and_is_told() {
        const HANGING: Family = Family::sampled::<Hanging>(Duration::from_secs(1), "");
        let mut probe = Probe::empty(&HANGING);
        probe.write("filesystems", "\text4\n");
        probe.write("mounts", "a /nowhere/hung ext4 rw 0 0\nb / ext4 rw 0 0\n");
        let values = |rows: &str| -> Vec<bool> { rows.lines().map(|row| !row.contains(",,")).collect() };

        let held = GATE.lock().unwrap();
        let (rows, outcome) = probe.tick(0);
        assert_eq!(values(&rows), [false, true], "{rows}");
        let told = "read filesystem: statvfs /nowhere/hung: no answer within 2000 ms";
        assert_eq!(outcome.unwrap_err().to_string(), told);
        let begun = Instant::now();
        let (rows, outcome) = probe.tick(1);
        assert_eq!(values(&rows), [false, true], "{rows}");
        let told = "read filesystem: statvfs /nowhere/hung: asked earlier and no answer yet";
        assert_eq!(outcome.unwrap_err().to_string(), told);
        assert!(begun.elapsed() < Duration::from_secs(2));

        drop(held);
        while probe.tick(2).1.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the mount is not asked for again");
        }
    }

    #[test]
    fn escapes_are_undone_and_other_backslashes_kept() {
        for (field, plain) in [
            (&b"/mnt/a\\040b"[..], &b"/mnt/a b"[..]),
            (b"\\011\\012\\134\\043\\377", b"\t\n\\#\xff"),
            (b"\\", b"\\"),
            (b"a\\04", b"a\\04"),
            (b"\\400\\089\\134040", b"\\400\\089\\040"),
        ] {
            assert_eq!(unescaped(field), plain, "{}", field.escape_ascii());
        }
    }
}
