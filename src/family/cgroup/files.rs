//! The files of control groups, and how each is parsed.

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
    /// Parses its bytes into the record; `None` if some of them are not understood.
    pub(super) parse: fn(&[u8], &mut Cgroup) -> Option<()>,
}

/// All files. If two give the same column, the later one wins.
pub(super) static FILES: &[File] = &[
    often(Hierarchy::Unified, "cpu.stat", cpu_stat),
    often(Hierarchy::Unified, "memory.current", |bytes, record| value(bytes, 1, &mut record.memory_bytes)),
    seldom(Hierarchy::Unified, "memory.max", memory_max),
    seldom(Hierarchy::Unified, "memory.stat", memory_stat),
    seldom(Hierarchy::Unified, "memory.swap.current", |bytes, record| value(bytes, 1, &mut record.swap_bytes)),
    often(Hierarchy::Unified, "memory.events", memory_events),
    often(Hierarchy::Unified, "io.stat", io_stat),
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
    often(Hierarchy::Cpu, "cpu.stat", cpu_stat),
    often(Hierarchy::CpuAccounting, "cpuacct.usage", |bytes, record| value(bytes, NS_PER_US, &mut record.usage_us)),
    often(Hierarchy::CpuAccounting, "cpuacct.stat", cpuacct_stat),
    often(Hierarchy::Memory, "memory.usage_in_bytes", |bytes, record| value(bytes, 1, &mut record.memory_bytes)),
    seldom(Hierarchy::Memory, "memory.limit_in_bytes", memory_max),
    seldom(Hierarchy::Memory, "memory.stat", memory_stat_v1),
    often(Hierarchy::Memory, "memory.failcnt", |bytes, record| value(bytes, 1, &mut record.memory_max_events)),
    often(Hierarchy::Memory, "memory.oom_control", memory_events),
    often(Hierarchy::BlockIo, "blkio.throttle.io_service_bytes_recursive", |bytes, record| {
        blkio(bytes, &mut record.read_bytes, &mut record.write_bytes)
    }),
    often(Hierarchy::BlockIo, "blkio.throttle.io_serviced_recursive", |bytes, record| {
        blkio(bytes, &mut record.read_ops, &mut record.write_ops)
    }),
    often(Hierarchy::Pids, "pids.current", |bytes, record| value(bytes, 1, &mut record.tasks)),
];

const NS_PER_US: i64 = 1_000;

/// Without a limit, version 1 writes the greatest number of bytes in whole pages. A page has at most 64 KiB.
const UNLIMITED_BYTES_MIN: i64 = i64::MAX - (64 << 10) + 1;

const fn often(hierarchy: Hierarchy, name: &'static str, parse: fn(&[u8], &mut Cgroup) -> Option<()>) -> File {
    File { hierarchy, name, seldom: false, parse }
}

const fn seldom(hierarchy: Hierarchy, name: &'static str, parse: fn(&[u8], &mut Cgroup) -> Option<()>) -> File {
    File { hierarchy, name, seldom: true, parse }
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

/// `io.stat`: one line of keys and values for each device. A group without I/O has no lines.
fn io_stat(bytes: &[u8], record: &mut Cgroup) -> Option<()> {
    let (mut read_bytes, mut write_bytes, mut read_ops, mut write_ops) = (0, 0, 0, 0);
    for line in lines(bytes) {
        for word in words(line) {
            let Some((key, value)) = cut(word, b'=') else { continue };
            let sum = match key {
                b"rbytes" => &mut read_bytes,
                b"wbytes" => &mut write_bytes,
                b"rios" => &mut read_ops,
                b"wios" => &mut write_ops,
                _ => continue,
            };
            *sum = i64::saturating_add(*sum, number(value)?);
        }
    }
    (record.read_bytes, record.write_bytes) = (read_bytes, write_bytes);
    (record.read_ops, record.write_ops) = (read_ops, write_ops);
    Some(())
}

/// `blkio.throttle.*`: lines of a device, an operation and an amount, and a line with the total.
fn blkio(bytes: &[u8], read_column: &mut i64, write_column: &mut i64) -> Option<()> {
    let (mut read, mut written) = (0, 0);
    for line in lines(bytes) {
        let mut words = words(line);
        let sum = match words.nth(1) {
            Some(b"Read") => &mut read,
            Some(b"Write") => &mut written,
            _ => continue,
        };
        *sum = i64::saturating_add(*sum, number(words.next()?)?);
    }
    (*read_column, *write_column) = (read, written);
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

    fn parsed(hierarchy: Hierarchy, name: &str, bytes: &str) -> (Option<()>, Cgroup) {
        let mut record = Cgroup::absent(0);
        let file = FILES.iter().find(|file| file.hierarchy == hierarchy && file.name == name).unwrap();
        ((file.parse)(bytes.as_bytes(), &mut record), record)
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
            "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7\n8:16 \n254:0 rbytes=10 wbytes=20 rios=30 wios=40\n",
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
                let mut record = Cgroup::absent(0);
                let outcome = (file.parse)(bytes, &mut record);
                let empty = Cgroup { read_bytes: 0, write_bytes: 0, read_ops: 0, write_ops: 0, ..Cgroup::absent(0) };
                let zeros = [record.read_bytes, record.write_bytes, record.read_ops, record.write_ops];
                assert!(zeros.iter().all(|zero| *zero == 0 || *zero == ABSENT), "{}", file.name);
                let rest = Cgroup { read_bytes: 0, write_bytes: 0, read_ops: 0, write_ops: 0, ..record };
                assert_eq!(rest, empty, "{} {}", file.name, bytes.escape_ascii());
                assert!(outcome.is_some() || zeros.contains(&ABSENT), "{}", file.name);
            }
        }
        assert_eq!(parsed(Hierarchy::Unified, "memory.current", "\n").0, None);
        assert_eq!(parsed(Hierarchy::Unified, "cpu.stat", "usage_usec 1\nuser_usec x\n").0, None);
        assert_eq!(parsed(Hierarchy::Unified, "cpu.stat", "usage_usec 1\nuser_usec x\n").1.usage_us, 1);
    }
}
