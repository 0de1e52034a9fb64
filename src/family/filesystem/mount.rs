//! The mounted file systems that can fill up, from `/proc/mounts` and `/proc/filesystems`.

use std::collections::HashSet;

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
    /// Any bytes but NUL.
    pub(super) path: Vec<u8>,
    pub(super) device: String,
    pub(super) kind: String,
    /// Its space is reported by a server or a program, which may never answer.
    pub(super) is_remote: bool,
    /// Whether to ask for its space.
    pub(super) is_asked: bool,
}

impl Mount {
    /// Whether an equal mount in another mount namespace is the same file system. Many tmpfs and FUSE mounts are equal.
    pub(super) fn is_known_by_name(&self) -> bool {
        self.kind != "tmpfs" && self.kind != "fuse" && !self.kind.starts_with("fuse.")
    }
}

/// The file systems that can fill up: first local ones, then remote ones, each in the order of mounting. Of several on
/// one path, only the last.
///
/// Automounts (autofs) are not asked for their space: each call would count as use and keep them mounted.
pub(super) fn parse(mounts: &[u8], types: &[u8]) -> Vec<Mount> {
    let on_devices: Vec<&[u8]> =
        lines(types).filter(|line| !line.starts_with(b"nodev")).filter_map(|line| words(line).next()).collect();
    // fstab(5): device, path, type, options, and more, each between single blanks.
    let mount = |line| {
        let mut fields = fields(line);
        Some((fields.next()?, fields.next()?, fields.next()?, fields.next().unwrap_or_default()))
    };
    let all: Vec<_> = lines(mounts).filter_map(mount).collect();
    let triggers: Vec<&[u8]> =
        all.iter().filter(|(_, _, kind, _)| *kind == b"autofs").map(|(_, path, ..)| *path).collect();
    let is_automounted = |path: &[u8]| {
        triggers
            .iter()
            .any(|trigger| path.strip_prefix(*trigger).is_some_and(|below| below.is_empty() || below.starts_with(b"/")))
    };
    let mut seen = HashSet::new();
    let last_on_path = all.into_iter().rev().filter(|(_, path, ..)| seen.insert(*path));
    let mut found: Vec<Mount> = last_on_path
        .filter_map(|(device, path, kind, options)| {
            let is_remote = holds(path, kind, options, &on_devices)?;
            Some(Mount {
                path: unescaped(path),
                device: text(&unescaped(device)).into_owned(),
                kind: text(kind).into_owned(),
                is_remote,
                is_asked: !is_automounted(path),
            })
        })
        .collect();
    found.reverse();
    found.sort_by_key(|mount| mount.is_remote);
    found
}

/// Whether it is remote; `None` if it cannot fill up.
fn holds(path: &[u8], kind: &[u8], options: &[u8], on_devices: &[&[u8]]) -> Option<bool> {
    let is_one_of = |kinds, kind: &[u8]| words(kinds).any(|one| one == kind);
    let main = kind.split(|byte| *byte == b'.').next().unwrap_or_default();
    let is_read_only = options.split(|byte| *byte == b',').next() == Some(b"ro");
    if is_one_of(REMOTE_TYPES, main) {
        // Programs mount images read-only; these are always full.
        return (main != b"fuse" || !is_read_only).then_some(true);
    }
    let is_here = match kind {
        b"tmpfs" => !TMPFS_OF_PROGRAMS.iter().any(|folder| path.starts_with(folder)),
        // The root of kymo's container; other paths are the roots of other containers. A read-only one is the image that a host
        // was started from, which is always full.
        b"overlay" => path == b"/" && !is_read_only,
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

    fn mounted(mounts: &[u8], types: &str) -> Vec<(Vec<u8>, String, String)> {
        parse(mounts, types.as_bytes()).into_iter().map(|mount| (mount.path, mount.device, mount.kind)).collect()
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
        let types = "nodev\ttmpfs\nnodev\tproc\nnodev\tnfs4\n\text4\n\tsquashfs\nnodev\tfuse\n\tfuseblk\n";
        let mounts = b"proc /proc proc rw 0 0\n/dev/loop0 /snap squashfs ro 0 0\na:/b /nfs nfs4 ro,soft 0 0\n\
            tmpfs /run tmpfs rw 0 0\nh: /ssh fuse.sshfs rw 0 0\nx /f fuse rw 0 0\no / overlay rw 0 0\n\
            c /fusectl fusectl rw 0 0\n/dev/b /b ext4 rw 0 0\no /docker/merged overlay rw 0 0\n\
            snapfuse /snap/x fuse.snapfuse ro,nodev 0 0\ntmpfs /run/user/1 tmpfs rw 0 0\n/dev/c /c fuseblk ro 0 0\n";
        let kinds: Vec<String> = mounted(mounts, types).into_iter().map(|(_, _, kind)| kind).collect();
        assert_eq!(kinds, ["tmpfs", "overlay", "ext4", "nfs4", "fuse.sshfs", "fuse", "fuseblk"]);
    }

    /// As on hosts that are updated as images. Their `composefs` says that it is an overlay.
    #[test]
    fn the_image_that_a_host_was_started_from_cannot_fill_up() {
        let mounts = b"composefs / overlay ro,seclabel,relatime,lowerdir+=/run/ostree/.private/cfsroot-lower 0 0\n\
            /dev/vda4 /etc xfs rw,seclabel 0 0\n/dev/vda4 /var xfs rw,seclabel 0 0\n";
        let paths: Vec<_> = mounted(mounts, "\txfs\n").into_iter().map(|(path, ..)| path).collect();
        assert_eq!(paths, [b"/etc", b"/var"]);
    }

    #[test]
    fn what_autofs_mounted_is_not_asked() {
        let mounts = b"m /home autofs rw 0 0\ns:/a /home/a nfs4 rw 0 0\ns:/b /homes nfs4 rw 0 0\n\
            m /boot autofs rw 0 0\n/dev/a /boot ext4 rw 0 0\n/dev/b / ext4 rw 0 0\n";
        let mut asked: Vec<_> =
            parse(mounts, b"\text4\n").into_iter().map(|mount| (mount.path, mount.is_asked)).collect();
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
