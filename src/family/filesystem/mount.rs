//! The mounted file systems that can fill up, from `/proc/mounts` and `/proc/filesystems`.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use crate::reading::filter::Filter;
use crate::reading::text::{fields, lines, text, words};

/// Types that `/proc/filesystems` calls `nodev`, though they store files in memory or on devices that they find.
const NODEV_TYPES: &[u8] = b"jffs2 tmpfs ubifs zfs";
/// Types whose space is reported by a server or a program. A FUSE type may have a subtype after a dot.
const REMOTE_TYPES: &[u8] =
    b"9p afs beegfs ceph cifs fuse fuseblk glusterfs gpfs lustre nfs nfs4 orangefs smb3 smbfs vboxsf virtiofs";
/// Types of read-only images, which are always full.
const IMAGE_TYPES: &[u8] = b"cramfs erofs iso9660 romfs squashfs";
/// Where programs mount small tmpfs for each service, session or container.
const TMPFS_OF_PROGRAMS: [&[u8]; 4] = [b"/proc/", b"/run/", b"/sys/", b"/var/lib/"];

/// A mounted file system.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where the host has it. Any bytes but NUL.
    pub(super) path: Vec<u8>,
    pub(super) device: String,
    pub(super) kind: String,
    pub(super) is_read_only: bool,
    /// Its space is reported by a server or a program, which may never answer.
    pub(super) is_remote: bool,
    /// Where to ask for its space; `None` if it is not asked.
    pub(super) asked_at: Option<Vec<u8>>,
}

/// What mounts are found in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables<'a> {
    /// `/proc/mounts` of the host.
    pub(super) mounts: &'a [u8],
    /// `/proc/PID/mountinfo` of the same process; empty where there is none.
    pub(super) mountinfo: &'a [u8],
    /// `/proc/filesystems`.
    pub(super) types: &'a [u8],
    /// Where kymo, in a container, has the host's mounts.
    pub(super) container: Option<Container<'a>>,
}

/// A container that kymo runs in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container<'a> {
    /// `/proc/mounts` of kymo itself.
    pub(super) mounts: &'a [u8],
    /// `/proc/self/mountinfo`; empty where there is none.
    pub(super) mountinfo: &'a [u8],
    /// What stands before the host's mount points.
    pub(super) rootfs: &'a [u8],
}

/// A line of the list of mounts (`fstab(5)`), with its escapes.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    device: &'a [u8],
    path: &'a [u8],
    kind: &'a [u8],
    options: &'a [u8],
}

impl Line<'_> {
    fn is_read_only(&self) -> bool {
        self.options.split(|byte| *byte == b',').next() == Some(b"ro")
    }

    /// Whether an equal mount at another path or in another mount namespace is the same file system. Many tmpfs and FUSE
    /// mounts are equal.
    fn is_known_by_name(&self) -> bool {
        self.device != b"none"
            && !matches!(self.kind, b"tmpfs" | b"fuse" | b"overlay")
            && !self.kind.starts_with(b"fuse.")
    }
}

fn table(mounts: &[u8]) -> impl Iterator<Item = Line<'_>> {
    lines(mounts).filter_map(|line| {
        // Each between single blanks.
        let mut fields = fields(line);
        let (device, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Line { device, path, kind, options: fields.next().unwrap_or_default() })
    })
}

/// What two mounts of one file system have in common.
#[derive(PartialEq, Eq, Hash)]
enum Identity<'a> {
    /// Its device number, as `8:1`.
    Number(&'a [u8]),
    Name(&'a [u8], &'a [u8]),
    Path(&'a [u8]),
}

impl<'a> Identity<'a> {
    /// That of a line, with the device numbers of mount points.
    fn of(line: &Line<'a>, numbers: &HashMap<&'a [u8], &'a [u8]>) -> Identity<'a> {
        match numbers.get(line.path) {
            Some(number) => Identity::Number(number),
            None if line.is_known_by_name() => Identity::Name(line.device, line.kind),
            None => Identity::Path(line.path),
        }
    }
}

/// The file systems that can fill up and that `filter` takes: first local ones, then remote ones, each in the order of
/// mounting. Of several on one path, only the last. A file system that is mounted on several paths is there once: on a path
/// where it can be asked and written to, if there is one; of these, on the shortest; of equally short ones, on the last in
/// the alphabet, as hosts that are updated as images have one file system on `/etc` and `/var`.
///
/// Automounts (autofs) are not asked for their space: each call would count as use and keep them mounted.
pub(super) fn parse(tables: &Tables<'_>, filter: &Filter) -> Vec<Mount> {
    let on_devices: Vec<&[u8]> =
        lines(tables.types).filter(|line| !line.starts_with(b"nodev")).filter_map(|line| words(line).next()).collect();
    let all: Vec<Line<'_>> = table(tables.mounts).collect();
    let triggers: Vec<&[u8]> = all.iter().filter(|line| line.kind == b"autofs").map(|line| line.path).collect();
    let is_automounted = |path: &[u8]| {
        triggers
            .iter()
            .any(|trigger| path.strip_prefix(*trigger).is_some_and(|below| below.is_empty() || below.starts_with(b"/")))
    };
    let numbers: HashMap<&[u8], &[u8]> = lines(tables.mountinfo).filter_map(numbered).collect();
    let here: HashMap<Vec<u8>, Line<'_>> = tables
        .container
        .map(|container| table(container.mounts).map(|line| (unescaped(line.path), line)).collect())
        .unwrap_or_default();
    let own_numbers: HashMap<&[u8], &[u8]> =
        tables.container.map(|container| lines(container.mountinfo).filter_map(numbered).collect()).unwrap_or_default();
    let asked_at = |line: &Line<'_>, path: &[u8]| {
        let path = match tables.container {
            None => path.to_vec(),
            // The same path may be another file system in kymo's container.
            Some(container) => {
                let path = below(container.rootfs, path);
                let own = here.get(&path)?;
                let is_same = (own.device, own.kind) == (line.device, line.kind);
                let is_of_number =
                    numbers.get(line.path).is_some_and(|number| own_numbers.get(own.path) == Some(number));
                let is_certain = line.is_known_by_name() || container.rootfs != b"/" || is_of_number;
                (is_same && is_certain).then_some(path)?
            }
        };
        (!is_automounted(line.path)).then_some(path)
    };
    let mut seen = HashSet::new();
    let last_on_path = all.iter().rev().filter(|line| seen.insert(line.path));
    // Each with its identity.
    let mut found: Vec<(Identity<'_>, Mount)> = last_on_path
        .filter_map(|line| {
            let is_remote = holds(line, &on_devices)?;
            let (path, kind) = (unescaped(line.path), text(line.kind).into_owned());
            filter.takes_thing(&[&text(&path), &kind]).then(|| {
                let device = text(&unescaped(line.device)).into_owned();
                let (is_read_only, asked_at) = (line.is_read_only(), asked_at(line, &path));
                (Identity::of(line, &numbers), Mount { path, device, kind, is_read_only, is_remote, asked_at })
            })
        })
        .collect();
    let rank =
        |mount: &Mount| (mount.asked_at.is_none(), mount.is_read_only, mount.path.len(), Reverse(mount.path.clone()));
    let mut best = HashMap::new();
    for (at, (identity, mount)) in found.iter().enumerate() {
        let chosen = best.entry(identity).or_insert(at);
        if rank(mount) < rank(&found[*chosen].1) {
            *chosen = at;
        }
    }
    let best: HashSet<usize> = best.into_values().collect();
    let mut at = 0..;
    found.retain(|_| at.next().is_some_and(|at| best.contains(&at)));
    let mut found: Vec<Mount> = found.into_iter().map(|(_, mount)| mount).rev().collect();
    found.sort_by_key(|mount| mount.is_remote);
    found
}

/// The path and the device number of a line of `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`).
fn numbered(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = fields(line).skip(2);
    let number = fields.next()?;
    Some((fields.nth(1)?, number))
}

/// `path`, which is absolute, below `rootfs`.
fn below(rootfs: &[u8], path: &[u8]) -> Vec<u8> {
    let rootfs = rootfs.strip_suffix(b"/").unwrap_or(rootfs);
    match (rootfs, path) {
        (b"", path) => path.to_vec(),
        (rootfs, b"/") => rootfs.to_vec(),
        (rootfs, path) => [rootfs, path].concat(),
    }
}

/// Whether it is remote; `None` if it cannot fill up.
fn holds(line: &Line<'_>, on_devices: &[&[u8]]) -> Option<bool> {
    let is_one_of = |kinds, kind: &[u8]| words(kinds).any(|one| one == kind);
    let main = line.kind.split(|byte| *byte == b'.').next().unwrap_or_default();
    if is_one_of(REMOTE_TYPES, main) {
        // Programs mount images read-only; these are always full.
        return (main != b"fuse" || !line.is_read_only()).then_some(true);
    }
    let is_here = match line.kind {
        b"tmpfs" => !TMPFS_OF_PROGRAMS.iter().any(|folder| line.path.starts_with(folder)),
        // The root of kymo's container; other paths are the roots of other containers. A read-only one is the image that a host
        // was started from, which is always full.
        b"overlay" => line.path == b"/" && !line.is_read_only(),
        // Discs of films and data, which were written once.
        b"udf" if line.is_read_only() => false,
        kind => !is_one_of(IMAGE_TYPES, kind) && (on_devices.contains(&kind) || is_one_of(NODEV_TYPES, kind)),
    };
    is_here.then_some(false)
}

/// `field` unescaped. The kernel writes blanks, tabs, line ends, backslashes and `#` as `\` and three octal digits.
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
    use super::*;

    fn tables<'a>(mounts: &'a [u8], types: &'a str) -> Tables<'a> {
        Tables { mounts, mountinfo: b"", types: types.as_bytes(), container: None }
    }

    fn mounted(mounts: &[u8], types: &str) -> Vec<(Vec<u8>, String, String)> {
        let mounts = parse(&tables(mounts, types), &Filter::default());
        mounts.into_iter().map(|mount| (mount.path, mount.device, mount.kind)).collect()
    }

    fn paths(tables: &Tables<'_>, filter: &Filter) -> Vec<String> {
        parse(tables, filter).iter().map(|mount| text(&mount.path).into_owned()).collect()
    }

    #[test]
    fn of_several_mounts_on_a_path_the_last_is_seen() {
        let types = "nodev\ttmpfs\n\text4\n\txfs\n";
        let mounts = b"/dev/a /x ext4 rw 0 0\n/dev/b /y xfs rw 0 0\n/dev/c /x xfs rw 0 0\nproc /y proc rw 0 0\n";
        assert_eq!(mounted(mounts, types), [(b"/x".to_vec(), "/dev/c".into(), "xfs".into())]);
        assert_eq!(mounted(b"/dev/a /x\n\n/dev/a /z ext4\n", types).len(), 1);
    }

    #[test]
    fn what_can_fill_up_is_asked_wherever_it_lies() {
        let types = "nodev\ttmpfs\nnodev\tproc\nnodev\tnfs4\n\text4\n\tsquashfs\nnodev\tfuse\n\tfuseblk\n\tudf\n";
        let mounts = b"proc /proc proc rw 0 0\n/dev/loop0 /snap squashfs ro 0 0\na:/b /nfs nfs4 ro,soft 0 0\n\
            tmpfs /run tmpfs rw 0 0\nh: /ssh fuse.sshfs rw 0 0\nx /f fuse rw 0 0\no / overlay rw 0 0\n\
            c /fusectl fusectl rw 0 0\n/dev/b /b ext4 rw 0 0\no /docker/merged overlay rw 0 0\n/dev/sr0 /m udf ro 0 0\n\
            snapfuse /snap/x fuse.snapfuse ro,nodev 0 0\ntmpfs /run/user/1 tmpfs rw 0 0\n/dev/c /c fuseblk ro 0 0\n";
        let kinds: Vec<String> = mounted(mounts, types).into_iter().map(|(_, _, kind)| kind).collect();
        assert_eq!(kinds, ["tmpfs", "overlay", "ext4", "nfs4", "fuse.sshfs", "fuse", "fuseblk"]);
    }

    /// As on hosts that are updated as images. Their `composefs` says that it is an overlay.
    #[test]
    fn the_image_that_a_host_was_started_from_cannot_fill_up() {
        let mounts = b"composefs / overlay ro,seclabel,relatime,lowerdir+=/run/ostree/.private/cfsroot-lower 0 0\n\
            /dev/vda4 /sysroot xfs ro,seclabel 0 0\n/dev/vda4 /etc xfs rw,seclabel 0 0\n/dev/vda4 /var xfs rw,seclabel 0 0\n";
        assert_eq!(paths(&tables(mounts, "\txfs\n"), &Filter::default()), ["/var"]);
    }

    #[test]
    fn a_file_system_is_there_once_however_often_it_is_mounted() {
        let types = "\text4\n\tbtrfs\n";
        // Bind mounts, as a container's engine makes them, and subvolumes.
        let mounts = b"/dev/a /etc/resolv.conf ext4 rw 0 0\n/dev/a /etc/hosts ext4 rw 0 0\n/dev/a /ro ext4 ro 0 0\n\
            /dev/b /home btrfs rw,subvol=/home 0 0\n/dev/b / btrfs rw,subvol=/root 0 0\n/dev/c /usr ext4 ro 0 0\n\
            tmpfs /tmp tmpfs rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n";
        let by_name = tables(mounts, types);
        assert_eq!(paths(&by_name, &Filter::default()), ["/etc/hosts", "/", "/usr", "/tmp", "/dev/shm"]);
        let read_only: Vec<bool> = parse(&by_name, &Filter::default()).iter().map(|mount| mount.is_read_only).collect();
        assert_eq!(read_only, [false, false, true, false, false]);
        // The numbers tell what the names do not: one tmpfs bound to two paths, and two devices of one name.
        let mountinfo = b"1 1 8:1 / /etc/resolv.conf rw - ext4 /dev/a rw\n2 1 8:1 / /etc/hosts rw - ext4 /dev/a rw\n\
            3 1 8:2 / /ro ro - ext4 /dev/a rw\n4 1 0:30 / /tmp rw - tmpfs tmpfs rw\n5 1 0:30 / /dev/shm rw - tmpfs tmpfs rw\n";
        let by_number = Tables { mountinfo, ..by_name };
        assert_eq!(paths(&by_number, &Filter::default()), ["/etc/hosts", "/ro", "/", "/usr", "/tmp"]);
    }

    #[test]
    fn what_the_configuration_leaves_out_is_left_out_before_the_best_path_is_chosen() {
        let mounts = b"/dev/a / ext4 rw 0 0\n/dev/a /srv ext4 rw 0 0\nt /tmp tmpfs rw 0 0\n/dev/b /boot vfat rw 0 0\n";
        let filter = Filter::new(&["/*"], &["/", "tmpfs"]).unwrap();
        assert_eq!(paths(&tables(mounts, "\text4\n\tvfat\n"), &filter), ["/srv", "/boot"]);
    }

    #[test]
    fn in_a_container_only_the_same_file_system_is_asked() {
        let mounts =
            b"/dev/a / ext4 rw 0 0\n/dev/b /data ext4 rw 0 0\n/dev/c /c\\040d ext4 rw 0 0\nt /tmp tmpfs rw 0 0\n";
        let asked = |own: &[u8], rootfs: &[u8]| -> Vec<Option<String>> {
            let container = Some(Container { mounts: own, mountinfo: b"", rootfs });
            let mounts = parse(&Tables { container, ..tables(mounts, "\text4\n") }, &Filter::default());
            mounts.into_iter().map(|mount| mount.asked_at.map(|path| text(&path).into_owned())).collect()
        };
        let own = b"overlay / overlay rw 0 0\n/dev/b /data ext4 rw 0 0\nt /tmp tmpfs rw 0 0\n";
        assert_eq!(asked(own, b"/"), [None, Some("/data".to_owned()), None, None]);
        let own = b"overlay / overlay rw 0 0\n/dev/a /host ext4 ro 0 0\n/dev/x /host/data ext4 rw 0 0\n\
            /dev/c /host/c\\040d ext4 rw 0 0\nt /host/tmp tmpfs rw 0 0\n";
        let found = ["/host", "", "/host/c d", "/host/tmp"].map(|path| (!path.is_empty()).then(|| path.to_owned()));
        assert_eq!(asked(own, b"/host"), found);
        assert_eq!(asked(own, b"/host/"), found);
        // Of two paths of one file system, the one that can be asked.
        let twice = b"/dev/b /b ext4 rw 0 0\n/dev/b /data ext4 rw 0 0\n";
        let container = Some(Container { mounts: b"/dev/b /data ext4 rw 0 0\n", mountinfo: b"", rootfs: b"/" });
        assert_eq!(paths(&Tables { container, ..tables(twice, "\text4\n") }, &Filter::default()), ["/data"]);
    }

    #[test]
    fn a_tmpfs_is_asked_where_its_number_is_the_same_in_both_namespaces() {
        let mounts = b"t /dev/shm tmpfs rw 0 0\nt /tmp tmpfs rw 0 0\n";
        let mountinfo = b"22 1 0:5 / /dev/shm rw - tmpfs t rw\n23 1 0:6 / /tmp rw - tmpfs t rw\n";
        let own = b"91 1 0:5 / /dev/shm ro - tmpfs t rw\n92 1 0:9 / /tmp rw - tmpfs t rw\n";
        let container = Some(Container { mounts, mountinfo: own, rootfs: b"/" });
        let found = parse(&Tables { mountinfo, container, ..tables(mounts, "") }, &Filter::default());
        let asked: Vec<_> = found.iter().filter_map(|mount| mount.asked_at.as_deref()).collect();
        assert_eq!(asked, [b"/dev/shm"], "systemd gave this process a /tmp of its own");
    }

    #[test]
    fn what_autofs_mounted_is_not_asked() {
        let mounts = b"m /home autofs rw 0 0\ns:/a /home/a nfs4 rw 0 0\ns:/b /homes nfs4 rw 0 0\n\
            m /boot autofs rw 0 0\n/dev/a /boot ext4 rw 0 0\n/dev/b / ext4 rw 0 0\n";
        let mounts = parse(&tables(mounts, "\text4\n"), &Filter::default());
        let mut asked: Vec<_> = mounts.into_iter().map(|mount| (mount.path, mount.asked_at.is_some())).collect();
        asked.sort();
        let expected = [(&b"/"[..], true), (b"/boot", false), (b"/home/a", false), (b"/homes", true)];
        assert_eq!(asked, expected.map(|(path, is_asked)| (path.to_vec(), is_asked)));
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
