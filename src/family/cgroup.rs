//! `cgroup`: what each control group uses, from the files of cgroup version 2, of version 1, or of both.
//!
//! The kernel's `Documentation/admin-guide/cgroup-v2.rst`, `Documentation/admin-guide/cgroup-v1/*.rst` and
//! `Documentation/accounting/psi.rst` define the figures.

mod files;
mod io;
mod record;
mod stack;
mod tree;

use std::ops::Range;

use rustix::io::Errno;

use self::files::{Content, FILES, File};
use self::io::{DEVICES_MAX, Io};
pub use self::record::Cgroup;
use self::stack::Stack;
use self::tree::{Group, Tree};
use crate::reading::counter::held::{CPU_TIME_RESTART_MIN_US, Held};
use crate::reading::prelude::*;
use crate::reading::reader::{Kept, Reader, is_gone};

/// The most groups that have a row. Beyond it, the deepest groups have none.
pub const CGROUPS_MAX: usize = 1_000;

/// The interval at which groups are looked for, and figures that seldom change are read.
const LOOK_INTERVAL_NS: i64 = 1_000_000_000;
/// The same after a file has vanished.
const LOOK_AGAIN_NS: i64 = 250_000_000;
/// The interval at which all folders are listed, even if no group came or went: a controller that is switched on or off
/// adds or removes files.
const WALK_INTERVAL_NS: i64 = 10_000_000_000;

/// Reads the files of all groups, and looks for groups and files.
#[derive(Debug)]
pub struct CgroupSampler {
    tree: Tree,
    groups: Vec<Group>,
    reader: Reader,
    stack: Stack,
    /// The CPU times of the root, which are sums of times that the kernel lets step back.
    root_times: Held<3>,
    /// The files read of a group, and where their bytes are in the reader.
    parts: Vec<(&'static File, Result<Range<usize>, Errno>)>,
    /// When groups were last looked for, ns of `CLOCK_MONOTONIC`.
    looked_ns: i64,
    /// When their folders were last listed.
    walked_ns: i64,
    /// A file has vanished since then.
    changed: bool,
}

impl Sample for CgroupSampler {
    type Record = Cgroup;
    const INTERVAL_MIN: Duration = Duration::from_millis(100);
    const RESOLUTION: &'static str = "times are in µs and exact at every read, except that user and system times of version \
                                      1 are in steps of 10 ms; new groups are found within a second";

    fn open(context: &Context) -> CgroupSampler {
        CgroupSampler {
            tree: Tree::new(&context.roots.sysfs, context.filters.cgroup.clone(), CGROUPS_MAX),
            groups: Vec::new(),
            reader: Reader::default(),
            stack: Stack::new(&context.roots.sysfs),
            root_times: Held::default(),
            parts: Vec::new(),
            looked_ns: i64::MIN,
            walked_ns: i64::MIN,
            changed: false,
        }
    }

    fn check(&mut self) -> Result<(), String> {
        if self.tree.open() {
            return Ok(());
        }
        Err(format!(
            "{0} has neither cgroup.controllers (version 2) nor a hierarchy of version 1 such as {0}/memory: no control \
             groups are mounted there, as in some containers, or the kernel lacks them (CONFIG_CGROUPS)",
            self.tree.folder.display()
        ))
    }

    fn tell_lacking(&self, told: &mut String) {
        for lacking in [self.tree.lacking(), self.tree.beyond()].into_iter().flatten() {
            told.push_str(if told.is_empty() { "" } else { "; " });
            told.push_str(lacking);
        }
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Cgroup>) -> Result<(), SampleError> {
        let since = |then| tick.monotonic_ns.saturating_sub(then);
        if since(self.looked_ns) >= if self.changed { LOOK_AGAIN_NS } else { LOOK_INTERVAL_NS } {
            if self.changed || since(self.walked_ns) >= WALK_INTERVAL_NS || !self.tree.has_same_folders() {
                self.walk(rows);
                (self.walked_ns, self.changed) = (tick.monotonic_ns, false);
            }
            self.read_seldom(tick, rows);
            self.looked_ns = tick.monotonic_ns;
        }
        let CgroupSampler { tree, groups, reader, stack, root_times, parts, changed, .. } = self;
        for group in groups.iter_mut() {
            let mut record = Cgroup { time: tick.time, ..group.seldom };
            let mut some_read = group.files.is_empty();
            reader.clear();
            parts.clear();
            for (file, kept) in &mut group.files {
                let Some(root) = tree.root(file.hierarchy) else { continue };
                parts.push((*file, reader.append(root, |path| group.path.write(path, file.name), kept)));
            }
            if reader.has_replaced() {
                // It is another group of the same name.
                group.io = Io::default();
            }
            group.io.begin();
            for (file, part) in parts.drain(..) {
                let read = part.map(|part| reader.part(&part));
                some_read |= read.is_ok();
                // The group was removed, and perhaps created again.
                *changed |= read.is_err_and(is_gone);
                parse(file, &group.path.text, read, &mut record, &mut group.io, &mut rows.outcome);
            }
            if group.path.is_root() {
                let mut times = [record.usage_us, record.user_us, record.system_us];
                root_times.hold(&mut times, CPU_TIME_RESTART_MIN_US);
                [record.usage_us, record.user_us, record.system_us] = times;
            }
            if group.io.sum(&mut record, |device| !stack.stands_on_others(device)) {
                let cause = format_args!("{}: more than {DEVICES_MAX} devices; they are not summed", group.path.text);
                rows.outcome.fail("fs/cgroup", cause);
            }
            for column in [
                &mut record.memory_bytes,
                &mut record.memory_high_events,
                &mut record.memory_max_events,
                &mut record.oom_events,
                &mut record.oom_kill_events,
                &mut record.tasks,
            ] {
                *column = rows.outcome.possible_count(*column);
            }
            if some_read {
                record.working_set_bytes = working_set(&record);
                rows.push(record);
            }
        }
        Ok(())
    }
}

impl CgroupSampler {
    fn walk(&mut self, rows: &mut Rows<Cgroup>) {
        let CgroupSampler { tree, groups, stack, .. } = self;
        if !tree.open() {
            rows.outcome.fail("fs/cgroup", "no control groups are mounted");
        }
        tree.walk(&mut rows.outcome);
        tree.adopt(groups);
        stack.forget();
    }

    /// Reads the figures that seldom change, and asks for the groups' labels, which may have given way.
    fn read_seldom(&mut self, tick: &Tick, rows: &mut Rows<Cgroup>) {
        let CgroupSampler { tree, groups, reader, .. } = self;
        for (row, group) in groups.iter_mut().enumerate() {
            let cgroup = rows.labels.resolve(row, &group.path.text);
            group.seldom = Cgroup { cgroup, ..Cgroup::absent(tick.time) };
            let has = group.has;
            for (_, file) in FILES.iter().enumerate().filter(|(at, file)| file.seldom && has & 1 << at != 0) {
                let Some(root) = tree.root(file.hierarchy) else { continue };
                let read = reader.read(root, |path| group.path.write(path, file.name), &mut Kept::default());
                parse(file, &group.path.text, read, &mut group.seldom, &mut group.io, &mut rows.outcome);
            }
            if group.seldom.cpus_max < 0.0 {
                // The period of version 1, without its quota.
                group.seldom.cpus_max = f64::NAN;
            }
        }
    }
}

/// The memory that is used and not soon given back. The two figures are of different moments, so the first may be smaller.
fn working_set(record: &Cgroup) -> i64 {
    let (used, inactive) = (record.memory_bytes, record.inactive_file_bytes);
    if used == ABSENT || inactive == ABSENT { ABSENT } else { used.saturating_sub(inactive).max(0) }
}

/// Parses what was read of a group's file. It is no error if the group is gone, the kernel is told not to measure the
/// pressure, or kymo may not read the file.
fn parse(
    file: &File,
    group: &str,
    read: Result<&[u8], Errno>,
    record: &mut Cgroup,
    io: &mut Io,
    outcome: &mut Outcome,
) {
    let parsed = read.map(|bytes| match file.content {
        Content::Figures(parse) => parse(bytes, record),
        Content::Devices(_, parse) => parse(bytes, io).or_else(|| {
            io.spoil();
            None
        }),
    });
    match parsed {
        Ok(Some(())) | Err(Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => {}
        Ok(None) => outcome.fail(file.name, format_args!("not understood in {group}")),
        Err(error) if is_gone(error) => {}
        Err(error) => outcome.fail(file.name, format_args!("{group}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::reading::filter::{Filter, Filters};
    use crate::reading::roots::Roots;
    use crate::ring::ring;

    /// Files of a version 2 group that has all controllers.
    fn write_v2(probe: &Probe, group: &str, usage: i64) {
        for (name, text) in [
            (
                "cpu.stat",
                format!(
                    "usage_usec {usage}\nuser_usec 2\nsystem_usec 3\nnice_usec 0\nnr_periods 4\nnr_throttled 5\n\
                     throttled_usec 6\nnr_bursts 0\nburst_usec 0\n"
                ),
            ),
            ("memory.current", "7\n".into()),
            ("memory.max", "8\n".into()),
            ("memory.stat", "anon 1\ninactive_anon 9\ninactive_file 2\nactive_file 3\n".into()),
            ("memory.swap.current", "24\n".into()),
            ("memory.events", "low 1\nhigh 9\nmax 10\noom 11\noom_kill 12\noom_group_kill 2\n".into()),
            ("io.stat", "8:0 rbytes=13 wbytes=14 rios=15 wios=16 dbytes=0 dios=0\n".into()),
            ("cpu.pressure", pressure(17, 18)),
            ("memory.pressure", pressure(19, 20)),
            ("io.pressure", pressure(21, 22)),
            ("pids.current", "23\n".into()),
            ("cgroup.procs", "must not be read\n".into()),
        ] {
            probe.write(&format!("fs/cgroup/{group}/{name}"), text);
        }
    }

    fn pressure(some: i64, full: i64) -> String {
        let line = |kind: &str, total: i64| format!("{kind} avg10=0.00 avg60=1.50 avg300=0.00 total={total}\n");
        line("some", some) + &line("full", full)
    }

    /// A sampler that keeps no descriptors, with the groups below `sysfs`.
    fn without_descriptors(sysfs: &Path) -> CgroupSampler {
        let roots = Roots { sysfs: sysfs.into(), ..Roots::default() };
        let context = Context { roots, ..Context::default() };
        CgroupSampler { reader: Reader::keeping(0), ..CgroupSampler::open(&context) }
    }

    fn write_below(sysfs: &Path, name: &str, text: &str) {
        let path = sysfs.join("fs/cgroup").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Path and CPU time of each row.
    fn short(rows: &str) -> Vec<String> {
        let mut short: Vec<String> =
            rows.lines().map(|row| row.split(',').take(2).collect::<Vec<_>>().join(" ")).collect();
        short.sort();
        short
    }

    #[test]
    fn rows_of_version_2_are_the_kernels_figures() {
        let mut probe = Probe::empty::<CgroupSampler>();
        probe.write("fs/cgroup/cgroup.controllers", "cpu io memory pids\n");
        // As the root of a host has it: there is no limit, and memory is not counted.
        probe.write("fs/cgroup/cpu.stat", "usage_usec 100\nuser_usec 60\nsystem_usec 40\n");
        write_v2(&probe, "system.slice/ssh.service", 1);
        probe.write("fs/cgroup/cpu/cpu.stat", "usage_usec 5\n");
        assert_eq!(probe.check(), Ok(()));
        let rows = probe.rows(0);
        let mut rows: Vec<&str> = rows.lines().collect();
        assert_eq!(rows[0], "/,100,60,40,,,,,,,,,,,,,,,,,,,,,,,,,");
        rows.sort_unstable();
        assert_eq!(
            rows[1..],
            [
                "/cpu,5,,,,,,,,,,,,,,,,,,,,,,,,,,,",
                "/system.slice,,,,,,,,,,,,,,,,,,,,,,,,,,,,",
                "/system.slice/ssh.service,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,5,2,24,,"
            ]
        );
    }

    #[test]
    fn rows_of_version_1_join_its_hierarchies() {
        let mut probe = Probe::empty::<CgroupSampler>();
        for (name, text) in [
            ("unified/cgroup.controllers", ""),
            ("unified/cpu.stat", "usage_usec 99\nuser_usec 99\nsystem_usec 99\n"),
            ("unified/io.pressure", &pressure(21, 22)),
            ("cpu,cpuacct/cgroup.procs", ""),
            ("cpu,cpuacct/x/cpu.stat", "nr_periods 4\nnr_throttled 5\nthrottled_time 6999\n"),
            ("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n"),
            ("cpu,cpuacct/x/cpu.cfs_quota_us", "150000\n"),
            ("cpu,cpuacct/x/cpuacct.usage", "1999\n"),
            ("cpu,cpuacct/x/cpuacct.stat", "user 2\nsystem 3\n"),
            ("cpu,cpuacct/cpuacct.usage", "100000\n"),
            ("memory/cgroup.procs", ""),
            ("memory/y/memory.usage_in_bytes", "1\n"),
            ("memory/x/memory.usage_in_bytes", "7\n"),
            ("memory/x/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/x/memory.failcnt", "10\n"),
            ("memory/x/memory.stat", "swap 1\ninactive_file 1\ntotal_swap 25\ntotal_inactive_file 3\n"),
            ("memory/x/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 12\n"),
            ("blkio/cgroup.procs", ""),
            (
                "blkio/x/blkio.throttle.io_service_bytes_recursive",
                "8:0 Read 13\n8:0 Write 14\n8:0 Sync 27\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 27\nTotal 27\n",
            ),
            ("blkio/x/blkio.throttle.io_serviced_recursive", "8:0 Read 15\n8:0 Write 16\n8:0 Total 31\nTotal 31\n"),
            ("pids/cgroup.procs", ""),
            ("pids/x/pids.current", "23\n"),
            ("cpuset/z/cpu.stat", "usage_usec 5\n"),
        ] {
            probe.write(&format!("fs/cgroup/{name}"), text);
        }
        assert_eq!(probe.check(), Ok(()));
        let rows = probe.rows(0);
        let mut rows: Vec<&str> = rows.lines().collect();
        rows.sort_unstable();
        assert_eq!(
            rows,
            [
                "/,100,,,,,,,,,,,,,,,,,,,,21,22,,,,,,",
                "/x,1,20000,30000,4,5,6,7,,,10,,12,13,14,15,16,,,,,,,23,4,3,25,,1.5",
                "/y,,,,,,,1,,,,,,,,,,,,,,,,,,,,,"
            ]
        );
    }

    #[test]
    fn times_of_the_root_do_not_step_back() {
        let mut probe = Probe::empty::<CgroupSampler>();
        probe.write("fs/cgroup/cgroup.controllers", "");
        for (second, usage, seen) in [(0, 9_000_000, 9_000_000), (1, 8_990_000, 9_000_000), (2, 9_010_000, 9_010_000)] {
            probe.write("fs/cgroup/cpu.stat", format!("usage_usec {usage}\n"));
            probe.write("fs/cgroup/a/cpu.stat", format!("usage_usec {usage}\n"));
            assert_eq!(short(&probe.rows(second * 1_000)), [format!("/ {seen}"), format!("/a {usage}")]);
        }
    }

    #[test]
    fn a_group_of_a_known_name_begins_to_count_anew() {
        let mut probe = Probe::empty::<CgroupSampler>();
        probe.write("fs/cgroup/cgroup.controllers", "");
        let mut read_bytes = |ms, io_stat: &str| {
            probe.write("fs/cgroup/a/io.stat", io_stat);
            let rows = probe.rows(ms);
            let row = rows.lines().find(|row| row.starts_with("/a,")).unwrap();
            row.split(',').nth(13).unwrap().to_owned()
        };
        assert_eq!(read_bytes(0, "8:0 rbytes=500 wbytes=0 rios=9 wios=0\n7:0 rbytes=1\n"), "501");
        assert_eq!(read_bytes(100, "8:0 rbytes=501 wbytes=0 rios=9 wios=0\n"), "502");
        assert_eq!(read_bytes(200, "8:0 rbytes=20 wbytes=0 rios=1 wios=0\n"), "20");
        assert_eq!(read_bytes(300, ""), "20");
    }

    #[test]
    fn values_are_of_the_device_just_before_them() {
        let mut probe = Probe::empty::<CgroupSampler>();
        probe.write("fs/cgroup/cgroup.controllers", "");
        for (ms, unused) in [(0, "7:1 7:0 "), (100, "7:0 "), (200, ""), (300, "7:2 ")] {
            probe.write("fs/cgroup/a/io.stat", format!("{unused}8:0 rbytes=500 wbytes=6 rios=9 wios=1\n"));
            assert!(probe.rows(ms).contains("/a,,,,,,,,,,,,,500,6,9,1,"), "{unused}");
        }
    }

    #[test]
    fn a_group_with_too_many_devices_has_no_sums() {
        let mut probe = Probe::empty::<CgroupSampler>();
        probe.write("fs/cgroup/cgroup.controllers", "");
        let devices = |count| (0..count).map(|minor| format!("7:{minor} rbytes=1 wbytes=1 rios=1 wios=1\n"));
        probe.write("fs/cgroup/a/io.stat", devices(DEVICES_MAX).collect::<String>());
        assert!(probe.rows(0).contains("/a,,,,,,,,,,,,,256,256,256,256,"));
        probe.write("fs/cgroup/a/io.stat", devices(DEVICES_MAX + 1).collect::<String>());
        let (rows, outcome) = probe.tick(100);
        assert!(rows.contains("/a,,,,,,,,,,,,,,,,,"), "{rows}");
        assert!(outcome.unwrap_err().to_string().contains("/a: more than 256 devices"));
    }

    #[test]
    fn io_that_is_counted_in_part_is_told() {
        let blkio = |name: &str| {
            let mut probe = Probe::empty::<CgroupSampler>();
            probe.write("fs/cgroup/blkio/cgroup.procs", "");
            probe.write("fs/cgroup/blkio/cpu.stat", "");
            probe.write(&format!("fs/cgroup/blkio/a/{name}"), "8:0 Read 5\n8:0 Write 6\n");
            let rows = probe.rows(0);
            assert_eq!(rows.contains("/a,,,,,,,,,,,,,5,6,,,"), !name.is_empty() && name != "cpu.stat", "{rows}");
            probe.lacking()
        };
        assert_eq!(blkio("blkio.throttle.io_service_bytes_recursive"), "");
        assert!(blkio("blkio.throttle.io_service_bytes").contains("do not include the groups below"));
        assert!(blkio("blkio.bfq.io_service_bytes_recursive").contains("devices that CFQ or BFQ schedules"));
        assert!(blkio("cpu.stat").starts_with("read_bytes, write_bytes, read_ops and write_ops are NULL"));
    }

    #[test]
    fn numbers_below_zero_are_absent_and_counted() {
        let mut probe = Probe::empty::<CgroupSampler>();
        probe.write("fs/cgroup/cgroup.controllers", "");
        probe.write("fs/cgroup/a/memory.current", "18446744073709551615\n");
        probe.write("fs/cgroup/a/pids.current", "18446744073709551614\n");
        let rows = probe.rows(0);
        let row = rows.lines().find_map(|row| row.strip_prefix("/a,")).unwrap();
        assert!(row.chars().all(|c| c == ','), "{row}");
        assert_eq!(probe.impossible, 2);
    }

    #[test]
    fn groups_that_are_left_out_have_no_row_and_their_children_may_have_one() {
        let cgroup = Filter::new(&[] as &[&str], &["/a", "*.scope"]).unwrap();
        let mut probe = Probe::filtering::<CgroupSampler>(Filters { cgroup, ..Filters::default() });
        probe.write("fs/cgroup/cgroup.controllers", "");
        write_v2(&probe, "a/b", 2);
        write_v2(&probe, "a", 1);
        write_v2(&probe, "c/session-1.scope", 3);
        assert_eq!(short(&probe.rows(0)), ["/ ", "/a/b 2", "/c "]);
    }

    #[test]
    fn without_control_groups_the_check_says_why() {
        let mut probe = Probe::empty::<CgroupSampler>();
        assert!(probe.check().unwrap_err().contains("fs/cgroup has neither cgroup.controllers"));
        probe.write("fs/cgroup/memory/tasks", "a folder that nothing is mounted on");
        assert!(probe.check().is_err());
        let (rows, outcome) = probe.tick(0);
        assert_eq!((rows.as_str(), outcome.unwrap_err().what), ("", "fs/cgroup"));
        assert_eq!(probe.rows(999), "");
        probe.write("fs/cgroup/memory/cgroup.procs", "");
        assert_eq!(probe.check(), Ok(()));
        assert_eq!(probe.rows(1_000), "/,,,,,,,,,,,,,,,,,,,,,,,,,,,,\n");
    }

    #[test]
    fn groups_and_their_controllers_come_and_go() {
        let mut probe = Probe::empty::<CgroupSampler>();
        probe.write("fs/cgroup/cgroup.controllers", "");
        write_v2(&probe, "a", 1);
        write_v2(&probe, "a/b", 2);
        probe.write("fs/cgroup/c/cgroup.procs", "");
        assert_eq!(short(&probe.rows(0)), ["/ ", "/a 1", "/a/b 2", "/c "]);
        probe.remove("fs/cgroup/a/b");
        write_v2(&probe, "c", 3);
        write_v2(&probe, "d", 4);
        assert_eq!(short(&probe.rows(1_000)), ["/ ", "/a 1", "/c 3", "/d 4"]);
        write_v2(&probe, "a/b", 5);
        write_v2(&probe, "a", 6);
        assert_eq!(short(&probe.rows(1_900)), ["/ ", "/a 6", "/c 3", "/d 4"], "not yet");
        assert_eq!(short(&probe.rows(2_000)), ["/ ", "/a 6", "/a/b 5", "/c 3", "/d 4"]);
        probe.remove("fs/cgroup/a");
        probe.remove("fs/cgroup/cgroup.controllers");
        assert!(probe.tick(3_000).1.is_err());
    }

    /// Without a kept descriptor, the next read notices it.
    #[test]
    fn a_group_that_vanishes_is_no_error_and_is_looked_for_soon() {
        let folder = tempfile::tempdir().unwrap();
        let mut sampler = without_descriptors(folder.path());
        let write = |name, text| write_below(folder.path(), name, text);
        write("cgroup.controllers", "");
        write("a/cpu.stat", "usage_usec 1\n");
        write("b/cpu.stat", "usage_usec 2\n");
        let mut rows = Rows::new(ring(64).0, Arc::default());
        let mut paths = |sampler: &mut CgroupSampler, ms: i64| {
            rows.take(sampler, &Tick { time: ms, monotonic_ns: ms * 1_000_000 }).1.unwrap();
            sampler.groups.iter().map(|group| group.path.text.clone()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(paths(&mut sampler, 0).len(), 3);
        std::fs::remove_dir_all(folder.path().join("fs/cgroup/a")).unwrap();
        assert_eq!(paths(&mut sampler, 100).len(), 3);
        assert!(sampler.changed);
        write("c/cpu.stat", "usage_usec 3\n");
        assert!(paths(&mut sampler, 250).into_iter().eq(["/", "/b", "/c"]));
        assert!(!sampler.changed);
    }

    /// tmpfs counts folders in links as the cgroup file systems do.
    #[test]
    fn groups_are_walked_when_the_links_of_a_folder_differ() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let root = folder.path().join("fs/cgroup");
        let write = |name| write_below(folder.path(), name, "1\n");
        ["cgroup.controllers", "a/pids.current", "b/pids.current"].into_iter().for_each(&write);
        let mut sampler = without_descriptors(folder.path());
        // The type of tmpfs.
        sampler.tree.magics = &[0x0102_1994];
        let mut rows = Rows::new(ring(256).0, Arc::default());
        let mut walked = |ms: i64| {
            rows.take(&mut sampler, &Tick { time: ms, monotonic_ns: ms * 1_000_000 }).1.unwrap();
            let paths: Vec<String> = sampler.groups.iter().map(|group| group.path.text.clone()).collect();
            (sampler.walked_ns / 1_000_000, paths.join(" "), sampler.groups.iter().map(|group| group.files.len()).sum())
        };
        let sorted = |(at, paths, files): (i64, String, usize)| {
            let mut paths: Vec<&str> = paths.split(' ').collect();
            paths.sort_unstable();
            (at, paths.join(" "), files)
        };
        assert_eq!(sorted(walked(0)), (0, "/ /a /b".to_owned(), 2));
        assert_eq!(sorted(walked(1_000)).0, 0, "nothing came or went");
        write("a/x/pids.current");
        assert_eq!(sorted(walked(2_000)), (2_000, "/ /a /a/x /b".to_owned(), 3));
        // As many folders as before: the group that went is missed when it is read.
        std::fs::remove_dir_all(root.join("b")).unwrap();
        write("c/pids.current");
        assert_eq!(sorted(walked(2_500)).0, 2_000);
        assert_eq!(sorted(walked(2_750)), (2_750, "/ /a /a/x /c".to_owned(), 3));
        // A controller is switched on.
        write("a/memory.current");
        assert_eq!(sorted(walked(12_000)), (2_750, "/ /a /a/x /c".to_owned(), 3));
        assert_eq!(sorted(walked(13_000)), (13_000, "/ /a /a/x /c".to_owned(), 4));
        std::fs::remove_dir_all(root.join("a/x")).unwrap();
        assert_eq!(sorted(walked(14_000)).0, 14_000);
    }

    #[test]
    fn garbage_is_told_and_costs_no_other_file() {
        let mut probe = Probe::empty::<CgroupSampler>();
        probe.write("fs/cgroup/cgroup.controllers", "");
        write_v2(&probe, "a", 1);
        probe.write("fs/cgroup/a/memory.current", b"\xff");
        probe.write("fs/cgroup/a/memory.max", "much\n");
        probe.write("fs/cgroup/a/io.pressure", "some total=\n");
        let (rows, outcome) = probe.tick(0);
        assert!(rows.contains("/a,1,2,3,4,5,6,,,9,10,11,12,13,14,15,16,17,18,19,20,,,23"), "{rows}");
        assert_eq!(outcome.unwrap_err().to_string(), "read memory.max: not understood in /a");
        let (_, outcome) = probe.tick(100);
        assert_eq!(outcome.unwrap_err().what, "memory.current");
    }

    #[test]
    fn of_too_many_groups_the_deepest_have_no_row() {
        let mut probe = Probe::empty::<CgroupSampler>();
        probe.write("fs/cgroup/cgroup.controllers", "");
        for group in 0..CGROUPS_MAX - 2 {
            probe.write(&format!("fs/cgroup/{group}/cpu.stat"), "usage_usec 1\n");
            probe.write(&format!("fs/cgroup/{group}/deeper/cpu.stat"), "usage_usec 2\n");
        }
        for ms in [0, 1_000] {
            let rows = short(&probe.rows(ms));
            assert_eq!(rows.len(), CGROUPS_MAX);
            assert_eq!(rows.iter().filter(|row| row.ends_with(" 1")).count(), CGROUPS_MAX - 2);
            assert!(probe.lacking().starts_with("there are more than 1,000 groups"), "{}", probe.lacking());
        }
        for group in 0..CGROUPS_MAX - 2 {
            probe.remove(&format!("fs/cgroup/{group}/deeper"));
        }
        assert_eq!((short(&probe.rows(11_000)).len(), probe.lacking()), (CGROUPS_MAX - 1, String::new()));
    }

    #[test]
    fn groups_that_are_left_out_do_not_count() {
        let write = |probe: &Probe| {
            probe.write("fs/cgroup/cgroup.controllers", "");
            for group in 0..CGROUPS_MAX {
                probe.write(&format!("fs/cgroup/pod/{group}/cpu.stat"), "usage_usec 1\n");
            }
            probe.write("fs/cgroup/pod/7/kept/deep/cpu.stat", "usage_usec 2\n");
            probe.write("fs/cgroup/last/cpu.stat", "usage_usec 3\n");
        };
        for (exclude, kept, lacks) in [
            // All that is below is not looked at.
            (&["/pod*"][..], &["/ ", "/last 3"][..], false),
            (&["/pod/*"], &["/ ", "/last 3", "/pod "], false),
            // These groups alone, and not those below them.
            (
                &["/pod", "/pod/?", "/pod/??", "/pod/???"],
                &["/ ", "/last 3", "/pod/7/kept ", "/pod/7/kept/deep 2"],
                false,
            ),
            (&["/last"], &[], true),
        ] {
            let filters = Filters { cgroup: Filter::new(&[] as &[&str], exclude).unwrap(), ..Filters::default() };
            let mut probe = Probe::filtering::<CgroupSampler>(filters);
            write(&probe);
            let rows = short(&probe.rows(0));
            assert!(lacks || rows == kept, "{exclude:?}: {rows:?}");
            assert_eq!(!probe.lacking().is_empty(), lacks, "{exclude:?}: {}", probe.lacking());
        }
    }
}
