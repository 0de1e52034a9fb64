//! The files of control groups, and how each is parsed.

use super::io::{Device, Figure, Io};
use super::record::Cgroup;
use crate::reading::prelude::*;
use crate::reading::value::{US_PER_SECOND, clock_ticks_per_second};

/// A hierarchy of control groups: that of version 2, or one of a controller of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy {
    Unified,
    Cpu,
    CpuAccounting,
    Memory,
    BlockIo,
    Pids,
}

/// A file that control groups may have.
#[derive(Debug)]
pub(super) struct File {
    pub(super) hierarchy: Hierarchy,
    pub(super) name: &'static str,
    /// It is read only once a second.
    pub(super) seldom: bool,
    pub(super) content: Content,
}

/// What a file has, and its parser, which returns `None` if some bytes are not understood.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    /// Figures of the group.
    Figures(fn(&[u8], &mut Cgroup) -> Option<()>),
    /// Figures of each device. Of the files of version 1, those of the first source that a group has are read.
    Devices(Source, fn(&[u8], &mut Io) -> Option<()>),
}

/// Where the kernel counts the I/O of a group, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// At every device, with the groups below.
    All,
    /// At every device, without the groups below: version 1 before Linux 4.16.
    OwnOnly,
    /// At devices that CFQ or BFQ schedules.
    Scheduler,
}

/// The best source of I/O among the files in `has`.
pub(super) fn source(has: Files) -> Option<Source> {
    sources(has).map(|(_, source)| source).min()
}

/// The files in `has` that have figures of devices, and their sources.
fn sources(has: Files) -> impl Iterator<Item = (usize, Source)> {
    let there = FILES.iter().enumerate().filter(move |(at, _)| has & 1 << at != 0);
    there.filter_map(|(at, file)| match file.content {
        Content::Devices(source, _) => Some((at, source)),
        Content::Figures(_) => None,
    })
}

/// A set of files, one bit for each index in [`FILES`].
pub(super) type Files = u64;

/// The files in `has` that are read: without those of a worse source of I/O than the best in it.
pub(super) fn wanted(has: Files) -> Files {
    let best = source(has);
    sources(has).filter(|(_, source)| Some(*source) != best).fold(has, |wanted, (at, _)| wanted & !(1 << at))
}

/// All files. If two give the same column, the later one wins.
pub(super) static FILES: &[File] = &[
    often(Hierarchy::Unified, "cpu.stat", cpu_stat),
    often(Hierarchy::Unified, "memory.current", |bytes, record| value(bytes, 1, &mut record.memory_bytes)),
    seldom(Hierarchy::Unified, "memory.max", memory_max),
    seldom(Hierarchy::Unified, "memory.stat", memory_stat),
    seldom(Hierarchy::Unified, "memory.swap.current", |bytes, record| value(bytes, 1, &mut record.swap_bytes)),
    often(Hierarchy::Unified, "memory.events", memory_events),
    devices(Hierarchy::Unified, "io.stat", Source::All, io_stat),
    often(Hierarchy::Unified, "cpu.pressure", |bytes, record| {
        pressure(bytes, &mut record.cpu_some_us, &mut record.cpu_full_us)
    }),
    often(Hierarchy::Unified, "memory.pressure", |bytes, record| {
        pressure(bytes, &mut record.memory_some_us, &mut record.memory_full_us)
    }),
    often(Hierarchy::Unified, "io.pressure", |bytes, record| {
        pressure(bytes, &mut record.io_some_us, &mut record.io_full_us)
    }),
    often(Hierarchy::Unified, "pids.current", |bytes, record| value(bytes, 1, &mut record.tasks)),
    seldom(Hierarchy::Unified, "pids.max", tasks_max),
    seldom(Hierarchy::Unified, "cpu.max", cpu_max),
    often(Hierarchy::Cpu, "cpu.stat", cpu_stat),
    // The period first: the quota is divided by it.
    seldom(Hierarchy::Cpu, "cpu.cfs_period_us", cfs_period),
    seldom(Hierarchy::Cpu, "cpu.cfs_quota_us", cfs_quota),
    often(Hierarchy::CpuAccounting, "cpuacct.usage", |bytes, record| value(bytes, NS_PER_US, &mut record.usage_us)),
    often(Hierarchy::CpuAccounting, "cpuacct.stat", cpuacct_stat),
    often(Hierarchy::Memory, "memory.usage_in_bytes", |bytes, record| value(bytes, 1, &mut record.memory_bytes)),
    seldom(Hierarchy::Memory, "memory.limit_in_bytes", memory_max),
    seldom(Hierarchy::Memory, "memory.stat", memory_stat_v1),
    often(Hierarchy::Memory, "memory.failcnt", |bytes, record| value(bytes, 1, &mut record.memory_max_events)),
    often(Hierarchy::Memory, "memory.oom_control", memory_events),
    devices(Hierarchy::BlockIo, "blkio.throttle.io_service_bytes_recursive", Source::All, blkio_bytes),
    devices(Hierarchy::BlockIo, "blkio.throttle.io_serviced_recursive", Source::All, blkio_ops),
    devices(Hierarchy::BlockIo, "blkio.throttle.io_service_bytes", Source::OwnOnly, blkio_bytes),
    devices(Hierarchy::BlockIo, "blkio.throttle.io_serviced", Source::OwnOnly, blkio_ops),
    devices(Hierarchy::BlockIo, "blkio.io_service_bytes_recursive", Source::Scheduler, blkio_bytes),
    devices(Hierarchy::BlockIo, "blkio.io_serviced_recursive", Source::Scheduler, blkio_ops),
    devices(Hierarchy::BlockIo, "blkio.bfq.io_service_bytes_recursive", Source::Scheduler, blkio_bytes),
    devices(Hierarchy::BlockIo, "blkio.bfq.io_serviced_recursive", Source::Scheduler, blkio_ops),
    often(Hierarchy::Pids, "pids.current", |bytes, record| value(bytes, 1, &mut record.tasks)),
    seldom(Hierarchy::Pids, "pids.max", tasks_max),
];

const NS_PER_US: i64 = 1_000;

/// Without a limit, version 1 writes the greatest number of bytes in whole pages. A page has at most 64 KiB.
const UNLIMITED_BYTES_MIN: i64 = i64::MAX - (64 << 10) + 1;

const fn often(hierarchy: Hierarchy, name: &'static str, parse: fn(&[u8], &mut Cgroup) -> Option<()>) -> File {
    File { hierarchy, name, seldom: false, content: Content::Figures(parse) }
}

const fn seldom(hierarchy: Hierarchy, name: &'static str, parse: fn(&[u8], &mut Cgroup) -> Option<()>) -> File {
    File { hierarchy, name, seldom: true, content: Content::Figures(parse) }
}

const fn devices(
    hierarchy: Hierarchy,
    name: &'static str,
    source: Source,
    parse: fn(&[u8], &mut Io) -> Option<()>,
) -> File {
    File { hierarchy, name, seldom: false, content: Content::Devices(source, parse) }
}

/// A file of one number. `divisor` of its units are one unit of the column.
fn value(bytes: &[u8], divisor: i64, column: &mut i64) -> Option<()> {
    *column = number(lines(bytes).next()?)? / divisor;
    Some(())
}

/// `memory.max`, or `memory.limit_in_bytes` of version 1.
fn memory_max(bytes: &[u8], record: &mut Cgroup) -> Option<()> {
    let limit = lines(bytes).next()?;
    if limit != b"max" {
        let limit = number(limit)?;
        record.memory_max_bytes = if limit < UNLIMITED_BYTES_MIN { limit } else { ABSENT };
    }
    Some(())
}

/// `pids.max` of both versions.
fn tasks_max(bytes: &[u8], record: &mut Cgroup) -> Option<()> {
    let limit = lines(bytes).next()?;
    if limit != b"max" {
        record.tasks_max = number(limit)?;
    }
    Some(())
}

/// `cpu.max`: the time on all CPUs together that the group may take in a period, or `max`, and the period.
fn cpu_max(bytes: &[u8], record: &mut Cgroup) -> Option<()> {
    let mut words = words(lines(bytes).next()?);
    let limit = words.next()?;
    if limit != b"max" {
        let (limit, period) = (number(limit)?, number(words.next()?).filter(|period| *period > 0)?);
        record.cpus_max = limit as f64 / period as f64;
    }
    Some(())
}

/// `cpu.cfs_period_us` of version 1. Until the quota is read, it stands in the column as a number below zero.
fn cfs_period(bytes: &[u8], record: &mut Cgroup) -> Option<()> {
    record.cpus_max = -(number(lines(bytes).next()?).filter(|period| *period > 0)? as f64);
    Some(())
}

/// `cpu.cfs_quota_us` of version 1, which is -1 without a limit.
fn cfs_quota(bytes: &[u8], record: &mut Cgroup) -> Option<()> {
    let period = -std::mem::replace(&mut record.cpus_max, f64::NAN);
    let quota = lines(bytes).next()?;
    if quota != b"-1" && period > 0.0 {
        record.cpus_max = number(quota)? as f64 / period;
    }
    Some(())
}

/// `cpu.stat` of both versions. In version 1 the throttled time is in ns.
fn cpu_stat(bytes: &[u8], record: &mut Cgroup) -> Option<()> {
    keyed(bytes, record, |key, record| {
        let divisor = if key == b"throttled_time" { NS_PER_US } else { 1 };
        let column = match key {
            b"usage_usec" => &mut record.usage_us,
            b"user_usec" => &mut record.user_us,
            b"system_usec" => &mut record.system_us,
            b"nr_periods" => &mut record.periods,
            b"nr_throttled" => &mut record.throttled_periods,
            b"throttled_usec" | b"throttled_time" => &mut record.throttled_us,
            _ => return None,
        };
        Some((column, divisor))
    })
}

/// `memory.events`; in version 1, the one line of `memory.oom_control` that is a count.
fn memory_events(bytes: &[u8], record: &mut Cgroup) -> Option<()> {
    keyed(bytes, record, |key, record| {
        let column = match key {
            b"high" => &mut record.memory_high_events,
            b"max" => &mut record.memory_max_events,
            b"oom" => &mut record.oom_events,
            b"oom_kill" => &mut record.oom_kill_events,
            _ => return None,
        };
        Some((column, 1))
    })
}

/// `memory.stat` of version 2.
fn memory_stat(bytes: &[u8], record: &mut Cgroup) -> Option<()> {
    keyed(bytes, record, |key, record| (key == b"inactive_file").then_some((&mut record.inactive_file_bytes, 1)))
}

/// `memory.stat` of version 1, in which only the keys of totals include the groups below.
fn memory_stat_v1(bytes: &[u8], record: &mut Cgroup) -> Option<()> {
    keyed(bytes, record, |key, record| {
        let column = match key {
            b"total_inactive_file" => &mut record.inactive_file_bytes,
            b"total_swap" => &mut record.swap_bytes,
            _ => return None,
        };
        Some((column, 1))
    })
}

/// `cpuacct.stat`, which has units of `USER_HZ`.
fn cpuacct_stat(bytes: &[u8], record: &mut Cgroup) -> Option<()> {
    let unit_us = US_PER_SECOND / clock_ticks_per_second();
    for line in lines(bytes) {
        let column = match fields(line).next() {
            Some(b"user") => &mut record.user_us,
            Some(b"system") => &mut record.system_us,
            _ => continue,
        };
        *column = words(line).nth(1).and_then(number)?.saturating_mul(unit_us);
    }
    Some(())
}

/// A column, and how many of the file's units are one unit of it.
type Target<'a> = (&'a mut i64, i64);

/// Lines of a key and a number; `column` gives the column of a key.
fn keyed(
    bytes: &[u8],
    record: &mut Cgroup,
    column: for<'a> fn(&[u8], &'a mut Cgroup) -> Option<Target<'a>>,
) -> Option<()> {
    let mut good = Some(());
    for line in lines(bytes) {
        let Some((key, rest)) = cut(line, b' ') else { continue };
        let Some((column, divisor)) = column(key, record) else { continue };
        match number(rest.trim_ascii()) {
            Some(value) => *column = value / divisor,
            None => good = None,
        }
    }
    good
}

/// The greatest `i64` stands for any number above it, which no device reaches.
fn possible(count: i64) -> Option<i64> {
    (count != i64::MAX).then_some(count)
}

/// `io.stat`: keys and values for each device. A group without I/O has no lines. Some kernels write no line end after a device
/// that the group did not use (`7:1 7:0 8:0 rbytes=…`), so values are of the device just before them.
fn io_stat(bytes: &[u8], io: &mut Io) -> Option<()> {
    io.gives([Figure::ReadBytes, Figure::WriteBytes, Figure::ReadOps, Figure::WriteOps]);
    for line in lines(bytes) {
        let mut device = None;
        for word in words(line) {
            let Some((key, value)) = cut(word, b'=') else {
                device = Device::parse(word);
                continue;
            };
            let figure = match key {
                b"rbytes" => Figure::ReadBytes,
                b"wbytes" => Figure::WriteBytes,
                b"rios" => Figure::ReadOps,
                b"wios" => Figure::WriteOps,
                _ => continue,
            };
            io.add(device?, figure, number(value).and_then(possible)?);
        }
    }
    Some(())
}

/// `blkio.*io_service_bytes*`.
fn blkio_bytes(bytes: &[u8], io: &mut Io) -> Option<()> {
    blkio(bytes, Figure::ReadBytes, Figure::WriteBytes, io)
}

/// `blkio.*io_serviced*`.
fn blkio_ops(bytes: &[u8], io: &mut Io) -> Option<()> {
    blkio(bytes, Figure::ReadOps, Figure::WriteOps, io)
}

/// Lines of a device, an operation and an amount, and a line with the total.
fn blkio(bytes: &[u8], read: Figure, write: Figure, io: &mut Io) -> Option<()> {
    io.gives([read, write]);
    for line in lines(bytes) {
        let mut words = words(line);
        let device = words.next().and_then(Device::parse);
        let figure = match words.next() {
            Some(b"Read") => read,
            Some(b"Write") => write,
            _ => continue,
        };
        io.add(device?, figure, number(words.next()?).and_then(possible)?);
    }
    Some(())
}

/// A pressure file: for each kind of stall, averages and the total time in µs.
fn pressure(bytes: &[u8], some: &mut i64, full: &mut i64) -> Option<()> {
    for line in lines(bytes) {
        let column = match line.get(..5) {
            Some(b"some ") => &mut *some,
            Some(b"full ") => &mut *full,
            _ => continue,
        };
        let total = words(line).filter_map(|word| cut(word, b'=')).find(|(key, _)| *key == b"total");
        *column = total.and_then(|(_, value)| number(value))?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `file` gives of a group whose other files give nothing.
    fn parsed_file(file: &File, bytes: &[u8]) -> (Option<()>, Cgroup) {
        let (mut record, mut io) = (Cgroup::absent(0), Io::default());
        io.begin();
        let outcome = match file.content {
            Content::Figures(parse) => parse(bytes, &mut record),
            Content::Devices(_, parse) => parse(bytes, &mut io),
        };
        if outcome.is_none() {
            io.spoil();
        }
        assert!(!io.sum(&mut record, |_| true));
        (outcome, record)
    }

    fn parsed(hierarchy: Hierarchy, name: &str, bytes: &str) -> (Option<()>, Cgroup) {
        let file = FILES.iter().find(|file| file.hierarchy == hierarchy && file.name == name).unwrap();
        parsed_file(file, bytes.as_bytes())
    }

    #[test]
    fn limits_of_tasks_and_cpus_may_be_none() {
        for (name, bytes, outcome, tasks, cpus) in [
            ("pids.max", "max\n", Some(()), ABSENT, f64::NAN),
            ("pids.max", "512\n", Some(()), 512, f64::NAN),
            ("pids.max", "many\n", None, ABSENT, f64::NAN),
            ("cpu.max", "max 100000\n", Some(()), ABSENT, f64::NAN),
            ("cpu.max", "150000 100000\n", Some(()), ABSENT, 1.5),
            ("cpu.max", "150000 0\n", None, ABSENT, f64::NAN),
            ("cpu.max", "150000\n", None, ABSENT, f64::NAN),
        ] {
            let (got, record) = parsed(Hierarchy::Unified, name, bytes);
            assert_eq!((got, record.tasks_max), (outcome, tasks), "{bytes}");
            assert_eq!(record.cpus_max.to_string(), cpus.to_string(), "{bytes}");
        }
    }

    #[test]
    fn the_quota_of_version_1_is_of_its_period() {
        for (period, quota, outcome, cpus) in [
            ("100000\n", "150000\n", Some(()), 1.5),
            ("50000\n", "25000\n", Some(()), 0.5),
            ("100000\n", "-1\n", Some(()), f64::NAN),
            ("0\n", "150000\n", Some(()), f64::NAN),
            ("100000\n", "many\n", None, f64::NAN),
        ] {
            let mut record = Cgroup::absent(0);
            let _ = cfs_period(period.as_bytes(), &mut record);
            assert_eq!(cfs_quota(quota.as_bytes(), &mut record), outcome, "{quota}");
            assert_eq!(record.cpus_max.to_string(), cpus.to_string(), "{period}{quota}");
        }
    }

    #[test]
    fn limits_may_be_none() {
        for (hierarchy, name, bytes, limit) in [
            (Hierarchy::Unified, "memory.max", "max\n", ABSENT),
            (Hierarchy::Unified, "memory.max", "4096\n", 4096),
            (Hierarchy::Memory, "memory.limit_in_bytes", "9223372036854771712\n", ABSENT),
            (Hierarchy::Memory, "memory.limit_in_bytes", "9223372036854710272\n", ABSENT),
            (Hierarchy::Memory, "memory.limit_in_bytes", "1073741824\n", 1 << 30),
        ] {
            let (outcome, record) = parsed(hierarchy, name, bytes);
            assert_eq!((outcome, record.memory_max_bytes), (Some(()), limit), "{bytes}");
        }
    }

    #[test]
    fn devices_are_summed() {
        let (outcome, record) = parsed(
            Hierarchy::Unified,
            "io.stat",
            "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7\n8:16 \n7:1 7:0 254:0 rbytes=10 wbytes=20 rios=30 wios=40\n",
        );
        assert_eq!(outcome, Some(()));
        assert_eq!((record.read_bytes, record.write_bytes, record.read_ops, record.write_ops), (11, 22, 33, 44));
        let (outcome, record) = parsed(
            Hierarchy::BlockIo,
            "blkio.throttle.io_serviced_recursive",
            "8:0 Read 1\n8:0 Write 2\n8:0 Sync 9\n8:0 Total 3\n8:16 Read 10\n8:16 Write 20\nTotal 33\n",
        );
        assert_eq!((outcome, record.read_ops, record.write_ops), (Some(()), 11, 22));
        let (_, record) = parsed(Hierarchy::Unified, "io.stat", "");
        assert_eq!((record.read_bytes, record.write_ops), (0, 0), "nothing was done yet");
    }

    #[test]
    fn of_the_sources_of_io_the_best_is_read() {
        let set = |names: &[&str]| -> Files {
            let at = |name: &&str| FILES.iter().position(|file| file.name == *name).unwrap();
            names.iter().map(|name| 1 << at(name)).sum()
        };
        let (all, own) = ("blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced");
        let (cfq, bfq) = ("blkio.io_serviced_recursive", "blkio.bfq.io_serviced_recursive");
        for (has, read) in [
            (&[all, own, cfq, bfq, "cpuacct.usage"][..], &[all, "cpuacct.usage"][..]),
            (&[own, "blkio.throttle.io_service_bytes", cfq], &[own, "blkio.throttle.io_service_bytes"]),
            (&[cfq, bfq], &[cfq, bfq]),
            (&[bfq], &[bfq]),
            (&["cpu.stat"], &["cpu.stat"]),
        ] {
            assert_eq!(wanted(set(has)), set(read), "{has:?}");
        }
    }

    #[test]
    fn what_is_garbage_is_told_and_has_no_value() {
        for file in FILES {
            for bytes in [
                &b"\xff"[..],
                b"x\n",
                b"-1\n",
                b"usage_usec x\noom_kill x\nuser x\n",
                b"some\nsome \nfull =\n",
                b"some avg10=0.00 avg60=0.00 avg300=0.00 total=x\n",
                b"8:0 rbytes=x\n8:0 Read x\n",
                b"8:0 rbytes\n8:0 Read\n8:0 =\n",
            ] {
                let (outcome, record) = parsed_file(file, bytes);
                let empty = Cgroup { read_bytes: 0, write_bytes: 0, read_ops: 0, write_ops: 0, ..Cgroup::absent(0) };
                let zeros = [record.read_bytes, record.write_bytes, record.read_ops, record.write_ops];
                assert!(zeros.iter().all(|zero| *zero == 0 || *zero == ABSENT), "{}", file.name);
                let rest = Cgroup { read_bytes: 0, write_bytes: 0, read_ops: 0, write_ops: 0, ..record };
                // An absent float is unequal to itself.
                assert_eq!(format!("{rest:?}"), format!("{empty:?}"), "{} {}", file.name, bytes.escape_ascii());
                assert!(outcome.is_some() || zeros.contains(&ABSENT), "{}", file.name);
            }
        }
        assert_eq!(parsed(Hierarchy::Unified, "memory.current", "\n").0, None);
        assert_eq!(parsed(Hierarchy::Unified, "cpu.stat", "usage_usec 1\nuser_usec x\n").0, None);
        assert_eq!(parsed(Hierarchy::Unified, "cpu.stat", "usage_usec 1\nuser_usec x\n").1.usage_us, 1);
    }
}
