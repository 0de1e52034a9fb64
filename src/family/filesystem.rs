//! `filesystem`: used and free space of mounted file systems, from `/proc/mounts` and statvfs(3).

mod mount;
mod usage;

use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::reading::filter::Filter;
use crate::reading::prelude::*;
use crate::reading::roots::Roots;
use mount::{Container, Mount, Tables, parse};
use usage::{Silence, Space, Usages};

/// The most mounts that have a row. Beyond it, the last mounts have none, remote ones before others.
pub const MOUNTS_MAX: usize = 1_000;

record! {
    /// Used and free space of each mounted file system. These have rows: file systems on devices (those that
    /// `/proc/filesystems` does not call `nodev`), ZFS, FUSE, network file systems (such as NFS), a container's root,
    /// and tmpfs (except under `/run/` and `/var/lib/`). Read-only images such as squashfs, which are always full, have
    /// none. If several file systems are mounted on one path, the last one has the row. A file system mounted on
    /// several paths, such as a bind mount, has one row: for the shortest path, a writable one if there is one. At most 1,000
    /// file systems have rows. `[filesystem]` in the configuration leaves file systems out.
    ///
    /// Values are NULL if statvfs(3) fails, reports nothing, takes more than 200 ms, or is not called because calls for other
    /// mounts hang. They are also NULL for automounts (autofs), because a call would keep them mounted, and for host mounts
    /// that a container lacks (see `host.rootfs` in the configuration).
    pub struct Filesystem("filesystem") {
        labels {
            /// The path of the mount.
            mountpoint => "system.filesystem.mountpoint",
            /// The mounted device or server path, as named in the mount command.
            device => "system.device",
            /// The file system's type, such as `ext4`.
            r#type => "system.filesystem.type",
        }
        values {
            /// Size of the file system.
            gauge total_bytes: i64 [Bytes] => "system.filesystem.limit" {},
            /// Used space.
            gauge used_bytes: i64 [Bytes] => "system.filesystem.usage" {"system.filesystem.state" = "used"},
            /// Space that users other than root can still use. If space is reserved for root, this is less than total
            /// minus used.
            gauge free_bytes: i64 [Bytes] => "system.filesystem.usage" {"system.filesystem.state" = "free"},
            /// Used ÷ (used + free), as df(1) shows it.
            gauge used_ratio: f64 [Ratio] => "system.filesystem.utilization" {"system.filesystem.state" = "used"},
            /// Inodes of the file system, one for each file and folder. NULL if it makes them as it needs them, such as Btrfs.
            gauge total_inodes: i64 [Count("{inode}")] => "kymo.filesystem.inodes.limit" {},
            /// Inodes that users other than root can still use. NULL as above.
            gauge free_inodes: i64 [Count("{inode}")] => "kymo.filesystem.inodes.free" {},
            /// Whether it is mounted read-only, as after an error of its device: 1 or 0. The alert condition
            /// `disk_usage_above` passes over read-only file systems.
            gauge read_only: i64 [Number] => "kymo.filesystem.read_only" {},
        }
    }
}

/// Reads the list of mounts, and the space of each on a thread that may hang.
///
/// heim's list of partitions leaves paths escaped as in `/proc/mounts`, loses lines that are not UTF-8, and does not
/// show which mount covers which, so this makes its own list. heim's `disk::usage` takes only UTF-8 paths and overflows
/// on what some servers report.
#[derive(Default)]
pub struct FilesystemSampler {
    roots: Roots,
    filter: Filter,
    /// The bytes of `/proc/mounts` and `/proc/filesystems` that `mounts` was made from; `None` before the first look.
    made_from: Option<(Vec<u8>, Vec<u8>)>,
    /// Local mounts first, then remote ones.
    mounts: Vec<Mount>,
    local: Asking,
    /// Separate, so that dead servers take no time or threads from local mounts.
    remote: Asking,
    /// There are too many mounts, and this was not yet reported.
    beyond: bool,
}

/// Asks for the space of mounts, one after the other.
#[derive(Default)]
struct Asking {
    usages: Usages,
    /// The mount to ask for first: the one that the last tick had no time for.
    first: usize,
}

impl Sample for FilesystemSampler {
    type Record = Filesystem;
    const INTERVAL_MIN: Duration = Duration::from_secs(1);
    const RESOLUTION: &'static str = "exact at every read; each mount costs a system call";

    fn open(context: &Context) -> FilesystemSampler {
        let (roots, filter) = (context.roots.clone(), context.filters.filesystem.clone());
        FilesystemSampler { roots, filter, ..FilesystemSampler::default() }
    }

    fn check(&mut self) -> Result<(), String> {
        self.made_from = None;
        // A file that cannot be read is an error of the tick.
        let _ = self.refresh();
        self.lacking().map_or(Ok(()), Err)
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Filesystem>) -> Result<(), SampleError> {
        self.refresh()?;
        if let Some(reason) = self.lacking() {
            return Err(failed("filesystem", reason));
        }
        let mut silent = Vec::new();
        let (local, remote) = self.mounts.split_at(self.mounts.partition_point(|mount| !mount.is_remote));
        let mut push = |row: usize, mount: &Mount, space: Option<Space>| {
            // A row has three labels, each at its own place in the cache.
            let mut label = |nth: usize, text: &[u8]| rows.labels.resolve(row * 3 + nth, text);
            let record = Filesystem {
                mountpoint: label(0, &mount.path),
                device: label(1, mount.device.as_bytes()),
                r#type: label(2, mount.kind.as_bytes()),
                read_only: mount.is_read_only.into(),
                ..Filesystem::absent(tick.time)
            };
            let filled = space.map_or(record, |space| fill(record, &space, &mut rows.outcome));
            rows.push(filled);
        };
        self.local.ask(local, &mut silent, |at, mount, space| push(at, mount, space));
        self.remote.ask(remote, &mut silent, |at, mount, space| push(local.len() + at, mount, space));
        if let [(path, silence), others @ ..] = &*silent {
            let others = match others.len() {
                0 => String::new(),
                others => format!("; {others} others do not answer either"),
            };
            rows.outcome.fail("filesystem", format_args!("statvfs {}: {silence}{others}", text(path)));
        }
        if std::mem::take(&mut self.beyond) {
            rows.outcome.fail("filesystem", format_args!("more than {MOUNTS_MAX} mounts; the last ones have no rows"));
        }
        Ok(())
    }
}

/// The record with the space of its mount. What is larger than the file system is absent.
fn fill(record: Filesystem, space: &Space, outcome: &mut Outcome) -> Filesystem {
    let is_possible = space.free <= space.total;
    Filesystem {
        total_bytes: count(space.total),
        used_bytes: count(space.used),
        free_bytes: outcome.possible(count(space.free), is_possible),
        used_ratio: if is_possible { space.used_ratio() } else { f64::NAN },
        total_inodes: space.inodes.map_or(ABSENT, |inodes| count(inodes.total)),
        free_inodes: space.inodes.map_or(ABSENT, |inodes| count(inodes.free)),
        ..record
    }
}

impl FilesystemSampler {
    /// Makes the list of mounts anew, if the files that it is made from have changed.
    fn refresh(&mut self) -> Result<(), SampleError> {
        with_proc("mounts", |mounts| with_proc("filesystems", |types| self.follow(mounts, types)))?
    }

    fn follow(&mut self, mounts: &[u8], types: &[u8]) {
        if self.made_from.as_ref().is_some_and(|from| (&*from.0, &*from.1) == (mounts, types)) {
            return;
        }
        let in_container = self.roots.are_of_host();
        let mountinfo = self.roots.procfs.join(if in_container { "1" } else { "self" }).join("mountinfo");
        // Without it, mounts are compared by name.
        let mountinfo = fs::read(mountinfo).unwrap_or_default();
        let own = |file| if in_container { fs::read(file).unwrap_or_default() } else { Vec::new() };
        let [own, own_mountinfo] = ["/proc/self/mounts", "/proc/self/mountinfo"].map(own);
        let container =
            Container { mounts: &own, mountinfo: &own_mountinfo, rootfs: self.roots.rootfs.as_os_str().as_bytes() };
        let container = in_container.then_some(container);
        self.mounts = parse(&Tables { mounts, mountinfo: &mountinfo, types, container }, &self.filter);
        self.beyond = self.mounts.len() > MOUNTS_MAX;
        self.mounts.truncate(MOUNTS_MAX);
        self.made_from = Some((mounts.to_vec(), types.to_vec()));
    }

    /// Why no row can have values, if so.
    fn lacking(&self) -> Option<String> {
        if self.made_from.is_none() || self.mounts.iter().any(|mount| mount.asked_at.is_some()) {
            return None;
        }
        let rootfs = self.roots.rootfs.display();
        Some(if self.mounts.is_empty() {
            "no file system that can fill up is mounted, or `[filesystem]` in the configuration leaves all of them out"
                .to_owned()
        } else if !self.roots.are_of_host() {
            return None;
        } else if self.roots.has_rootfs() {
            format!(
                "none of the host's file systems can be asked for its space: kymo's container does not have them below \
                 host.rootfs ({rootfs}). Mount the host's / there with all that is mounted in it (docker run -v \
                 /:{rootfs}:ro,rslave)"
            )
        } else {
            "none of the host's file systems can be asked for its space: kymo's container has none of them at the same path. \
             Mount the host's / into the container (docker run -v /:/host:ro,rslave) and set host.rootfs = \"/host\""
                .to_owned()
        })
    }
}

impl Asking {
    /// Calls `look` with each mount, its index and its space; notes the paths of those that do not answer as `silent`.
    fn ask<'a>(
        &mut self,
        mounts: &'a [Mount],
        silent: &mut Vec<(&'a [u8], Silence)>,
        mut look: impl FnMut(usize, &Mount, Option<Space>),
    ) {
        self.usages.begin();
        let first = self.first.min(mounts.len());
        let (before, from) = mounts.split_at(first);
        let mut late = None;
        for (at, mount) in (first..).zip(from).chain(before.iter().enumerate()) {
            let asked = mount.asked_at.as_ref().map_or(Ok(None), |path| self.usages.of(path));
            let space = asked.unwrap_or_else(|silence| {
                if matches!(silence, Silence::Late) {
                    late.get_or_insert(at);
                }
                silent.push((&mount.path, silence));
                None
            });
            look(at, mount, space);
        }
        self.first = late.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::usage::Patience;
    use super::*;

    /// The root of the machine this runs on stands in the recorded mounts.
    #[test]
    fn the_row_of_the_root_is_what_the_kernel_says() {
        let mut probe = Probe::fixture::<FilesystemSampler>("vm");
        let rows = probe.rows(0);
        let root = rows.lines().find(|row| row.starts_with("/,")).unwrap();
        let fields: Vec<&str> = root.split(',').collect();
        let stat = rustix::fs::statvfs("/").unwrap();
        assert_eq!(fields[9], "0");
        assert_eq!(fields[7..8], [stat.f_files.to_string()]);
        assert_eq!(fields[..4], ["/", "/dev/vda", "ext4", &(stat.f_blocks * stat.f_frsize).to_string()]);
        let [used, free]: [u64; 2] = [fields[4].parse().unwrap(), fields[5].parse().unwrap()];
        assert!(used > 0 && used + free <= stat.f_blocks * stat.f_frsize, "{rows}");
        let ratio: f64 = fields[6].parse().unwrap();
        assert!((ratio - used as f64 / (used + free) as f64).abs() < 1e-12, "{rows}");
    }

    #[test]
    fn mount_points_that_are_gone_have_rows_without_values() {
        let rows = "/nowhere/backup #1,/dev/sd\\a,ext4,,,,,,,0\n\
             /nowhere/v\u{fffd}l,pool/data,zfs,,,,,,,0\n\
             /nowhere/none,none,tmpfs,,,,,,,0\n\
             /nowhere/last,/dev/sdd,xfs,,,,,,,0\n\
             /nowhere/Ünï,LABEL=x y,fuseblk,,,,,,,0\n\
             /nowhere/nfs,host:/export,nfs4,,,,,,,0\n";
        Probe::assert_fixture::<FilesystemSampler>("odd", rows, None);
    }

    #[test]
    fn the_list_follows_the_mounts() {
        let mut probe = Probe::empty::<FilesystemSampler>();
        probe.write("filesystems", "\text4\n");
        assert_eq!(probe.rows_with(0, "mounts", "a /nowhere/a ext4 rw 0 0\n"), "/nowhere/a,a,ext4,,,,,,,0\n");
        probe.write("mounts", "b /nowhere/b ext4 rw 0 0\nx /nowhere/x xfs rw 0 0\n");
        assert_eq!(probe.rows(1), "/nowhere/b,b,ext4,,,,,,,0\n");
        assert_eq!(probe.rows_with(2, "filesystems", "\txfs\n"), "/nowhere/x,x,xfs,,,,,,,0\n");
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
        let tables = Tables { mounts: &mounts, mountinfo: b"", types: b"\text4\n", container: None };
        assert_eq!(parse(&tables, &Filter::default())[0].path, path.as_os_str().as_bytes());

        let mut probe = Probe::empty::<FilesystemSampler>();
        probe.write("filesystems", "\text4\n");
        probe.write("mounts", &mounts);
        let stat = rustix::fs::statvfs(&path).unwrap();
        let rows = probe.rows(0);
        let total = format!("\",x,ext4,{},", stat.f_blocks * stat.f_frsize);
        assert!(rows.contains("/a b\tc\nd\\e#v\u{fffd}") && rows.contains(&total), "{rows}");
    }

    #[test]
    fn more_free_space_than_there_is_is_absent_and_counted() {
        let space = Space { total: 100, used: 40, free: u64::MAX, inodes: None };
        let mut outcome = Outcome::default();
        let filled = fill(Filesystem::absent(0), &space, &mut outcome);
        assert_eq!((filled.total_bytes, filled.used_bytes, filled.free_bytes), (100, 40, ABSENT));
        assert!(filled.used_ratio.is_nan() && outcome.impossible() == 1);
    }

    /// As in a container that lacks the host's mounts.
    #[test]
    fn where_no_file_system_can_be_asked_the_check_says_so() {
        let mut probe = Probe::empty::<FilesystemSampler>();
        probe.write("filesystems", "\text4\n");
        probe.write("mounts", "proc /proc proc rw 0 0\n");
        assert!(probe.check().unwrap_err().starts_with("no file system that can fill up is mounted"));
        probe.write("1/mounts", "/dev/x /nowhere ext4 rw 0 0\n");
        probe.write("mounts", "/dev/x /nowhere ext4 rw 0 0\n");
        assert!(probe.check().unwrap_err().contains("set host.rootfs"));
        let (rows, outcome) = probe.tick(0);
        assert_eq!((rows.as_str(), outcome.unwrap_err().what), ("", "filesystem"));
        probe.write("mounts", fs::read("/proc/self/mounts").unwrap());
        probe.write("filesystems", fs::read("/proc/filesystems").unwrap());
        assert_eq!(probe.check(), Ok(()));
        assert!(probe.rows(1).lines().any(|row| !row.contains(",,,,")));
    }

    /// Mounts on paths that begin so are asked for as long as [`GATE`] is held.
    const HUNG: &[u8] = b"/nowhere/hung";
    static GATE: Mutex<()> = Mutex::new(());

    struct Hanging(FilesystemSampler);

    impl Sample for Hanging {
        type Record = Filesystem;
        const INTERVAL_MIN: Duration = FilesystemSampler::INTERVAL_MIN;
        const RESOLUTION: &'static str = "";

        fn open(_: &Context) -> Hanging {
            let ask = |path: &[u8]| {
                let _held = path.starts_with(HUNG).then(|| GATE.lock());
                Space::at(path)
            };
            // Long enough for those who answer, on however busy a machine.
            let patience = Patience { mount: Duration::from_secs(2), tick: Duration::from_secs(20) };
            let asking = |patience| Asking { usages: Usages::new(Arc::new(ask), patience, Arc::default()), first: 0 };
            Hanging(FilesystemSampler {
                local: asking(patience),
                // A dead server is not waited for so long.
                remote: asking(Patience { mount: Duration::from_millis(5), tick: Duration::from_millis(100) }),
                ..FilesystemSampler::default()
            })
        }

        fn sample(&mut self, tick: &Tick, rows: &mut Rows<Filesystem>) -> Result<(), SampleError> {
            self.0.sample(tick, rows)
        }
    }

    #[test]
    fn a_mount_that_hangs_costs_its_own_values_and_is_told() {
        let mut probe = Probe::empty::<Hanging>();
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
        let told = "read filesystem: statvfs /nowhere/hung: an earlier call has not returned yet";
        assert_eq!(outcome.unwrap_err().to_string(), told);
        assert!(begun.elapsed() < Duration::from_secs(2));

        drop(held);
        while probe.tick(2).1.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the mount is not asked for again");
        }

        let held = GATE.lock().unwrap();
        let servers: Vec<String> = (0..12).map(|at| format!("s:/{at} /nowhere/hung{at} nfs4 rw 0 0\n")).collect();
        probe.write("mounts", servers.concat() + "b / ext4 rw 0 0\n");
        for second in 3..8 {
            let (rows, outcome) = probe.tick(second);
            assert_eq!(values(&rows), [&[true][..], &[false; 12]].concat(), "dead servers cost others nothing: {rows}");
            let error = outcome.unwrap_err().to_string();
            assert!(error.ends_with("; 11 others do not answer either"), "{error}");
        }
        drop(held);
    }
}
