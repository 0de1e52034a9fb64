//! `filesystem`: how full the mounted file systems are, from `/proc/mounts` and statvfs(3).

mod usage;

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::time::Duration;

use super::source::{count, lines, text, with_proc, words};
use super::{Family, Rows, Sample};
use crate::record;
use crate::record::Record;
use crate::sampler::{SampleError, Tick};
use usage::Usage;

/// The filesystem family.
pub const FAMILY: Family =
    Family::sampled::<FilesystemSampler>(Duration::from_secs(1), "exact at every read; each mount costs a system call");

record! {
    /// How full each mounted file system is, of those that lie on a device (`/proc/filesystems` does not call them
    /// `nodev`) and ZFS. Where several are mounted on one path, the last one is seen and has the row. A file system
    /// that is mounted on several paths has a row for each. Values are null where statvfs(3) is refused, and where it
    /// does not answer, which the collector then reports.
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

/// Reads the mounts, and the space of each.
///
/// Not through heim: its list of partitions gives paths as they are escaped in `/proc/mounts`, loses lines that are not
/// UTF-8, and does not show what is mounted over what; and its call of statvfs(3) takes no path that is not UTF-8, and
/// the collector's thread for as long as the call hangs.
pub struct FilesystemSampler {
    /// `/proc/mounts` and `/proc/filesystems` as `mounts` was made from them.
    made_from: (Vec<u8>, Vec<u8>),
    mounts: Vec<Mount>,
    usage: Usage,
}

impl Default for FilesystemSampler {
    fn default() -> FilesystemSampler {
        FilesystemSampler { made_from: Default::default(), mounts: Vec::new(), usage: Usage::new(usage::statvfs) }
    }
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
        let outcome = self.usage.ask(self.mounts.iter().map(|mount| &mount.path));
        for (row, (mount, space)) in self.mounts.iter().zip(self.usage.spaces()).enumerate() {
            // Three labels a row, each with a place of its own in the cache.
            let mut label = |nth: usize, text: &str| rows.labels.resolve(row * 3 + nth, text);
            let record = Filesystem {
                mountpoint: label(0, &text(mount.path.to_bytes())),
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
        outcome
    }
}

impl FilesystemSampler {
    fn refresh(&mut self, mounts: &[u8], types: &[u8]) {
        if self.made_from.0 != mounts || self.made_from.1 != types {
            self.mounts = parse(mounts, types);
            self.made_from = (mounts.to_vec(), types.to_vec());
        }
    }
}

/// A mounted file system.
#[derive(Debug, PartialEq)]
struct Mount {
    /// Any bytes but NUL.
    path: Arc<CStr>,
    device: String,
    kind: String,
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
        .filter_map(|(device, path, kind)| {
            Some(Mount {
                path: CString::new(unescaped(path)).ok()?.into(),
                device: text(&unescaped(device)).into_owned(),
                kind: text(kind).into_owned(),
            })
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

    use super::*;
    use crate::family::probe::Probe;

    fn mounted(mounts: &[u8], types: &str) -> Vec<(Vec<u8>, String, String)> {
        parse(mounts, types.as_bytes())
            .into_iter()
            .map(|mount| (mount.path.to_bytes().to_vec(), mount.device, mount.kind))
            .collect()
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

    /// Blanks, tabs, line ends, backslashes, `#` and bytes that are not UTF-8: as labels, and as paths to ask for.
    #[test]
    fn mount_points_of_any_bytes_have_their_values() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let mut probe = Probe::empty(&FAMILY);
        probe.write("filesystems", "\text4\n");
        let total = rustix::fs::statvfs(root).map(|stat| stat.f_blocks * stat.f_frsize).unwrap();
        for (name, written, label) in [
            (&b"a b"[..], &b"a\\040b"[..], "a b"),
            (b"a\tb", b"a\\011b", "a\tb"),
            (b"a\nb", b"a\\012b", "\"a\nb\""),
            (b"a\\b", b"a\\134b", "a\\b"),
            (b"#a", b"\\043a", "#a"),
            (b"a\\040b", b"a\\134040b", "a\\040b"),
            (b"v\xffl", b"v\xffl", "v\u{fffd}l"),
            ("\u{fc}\u{2003}n".as_bytes(), "\u{fc}\u{2003}n".as_bytes(), "\u{fc}\u{2003}n"),
        ] {
            std::fs::create_dir(folder.path().join(OsStr::from_bytes(name))).unwrap();
            let mut mounts = format!("/dev/x {root}/").into_bytes();
            mounts.extend_from_slice(written);
            mounts.extend_from_slice(b" ext4 rw 0 0\n");
            probe.write("mounts", mounts);
            let row = probe.rows(1);
            let (labels, values) = row.split_once(",/dev/x,ext4,").unwrap();
            // A label with a line end is quoted in CSV, with the folder in it.
            let label = match label.strip_prefix('"') {
                Some(rest) => format!("\"{root}/{rest}"),
                None => format!("{root}/{label}"),
            };
            assert_eq!(labels, label);
            assert!(values.starts_with(&format!("{total},")) && !values.contains(",,"), "{row}");
        }
    }

    #[test]
    fn a_path_with_a_nul_is_no_mount() {
        assert_eq!(mounted(b"/dev/a /x\\000y ext4 rw 0 0\n/dev/b /x\0 ext4 rw 0 0\n", "\text4\n"), []);
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
