//! `memory`: use of memory and swap space, from `/proc/meminfo` and, where ZFS is loaded, its `arcstats`.

use crate::reading::optional::Optional;
use crate::reading::prelude::*;
use crate::reading::text::next_number;

/// A kB of `/proc/meminfo` is a KiB.
const KIB: i64 = 1_024;

record! {
    /// Use of memory and swap space.
    pub struct Memory("memory") {
        labels {}
        values {
            /// Memory that the kernel manages: the installed memory minus the parts that firmware and the kernel's code
            /// reserve.
            gauge total_bytes: i64 [Bytes] => "system.memory.limit" {},
            /// The total minus free, buffers, cached and what ZFS gives back. This is memory held by programs and the kernel. It
            /// includes reclaimable slabs but not shared memory. See `available_bytes` for what programs can still get.
            gauge used_bytes: i64 [Bytes] => "system.memory.usage" {"system.memory.state" = "used"},
            /// Memory that nothing uses.
            gauge free_bytes: i64 [Bytes] => "system.memory.usage" {"system.memory.state" = "free"},
            /// The kernel's estimate of what new programs can get without swapping, plus what ZFS gives back, which the kernel
            /// does not know of. NULL before Linux 3.14.
            gauge available_bytes: i64 [Bytes] => "system.memory.linux.available" {},
            /// Cached blocks of block devices.
            gauge buffers_bytes: i64 [Bytes] => "system.memory.usage" {"system.memory.state" = "buffers"},
            /// The page cache, shared memory included.
            gauge cached_bytes: i64 [Bytes] => "system.memory.usage" {"system.memory.state" = "cached"},
            /// Recently used memory, which is reclaimed last.
            gauge active_bytes: i64 [Bytes] => "kymo.memory.active" {},
            /// Memory not recently used, which is reclaimed first.
            gauge inactive_bytes: i64 [Bytes] => "kymo.memory.inactive" {},
            /// Shared memory and tmpfs.
            gauge shared_bytes: i64 [Bytes] => "system.memory.linux.shared" {},
            /// Total swap space.
            gauge swap_total_bytes: i64 [Bytes] => "kymo.paging.limit" {},
            /// Unused swap space.
            gauge swap_free_bytes: i64 [Bytes] => "system.paging.usage" {"system.paging.state" = "free"},
            /// ZFS' cache (ARC). It gives back all but its least size (`c_min`) when programs need memory. NULL without ZFS.
            gauge zfs_arc_bytes: i64 [Bytes] => "kymo.memory.zfs_arc" {},
        }
    }
}

/// What a `/proc/meminfo` without any figure does not give, for people: some containers' runtimes have such a one.
const ALL_LACKING: &str = "NULL, because /proc/meminfo has no figures: all columns of it";
/// The same of one without its most important figure.
const TOTAL_LACKING: &str = "NULL, because /proc/meminfo has no valid MemTotal: total_bytes and used_bytes";

/// Reads `/proc/meminfo`, without heim, which fails if one of its keys is missing, panics on a line of less than two bytes, and
/// would read the file again for swap.
#[derive(Debug)]
pub struct MemorySampler {
    /// What the last `/proc/meminfo` lacked, for people; empty if nothing.
    lacking: &'static str,
    arcstats: Optional,
}

impl Sample for MemorySampler {
    type Record = Memory;
    const INTERVAL_MIN: Duration = Duration::from_millis(10);
    const RESOLUTION: &'static str =
        "the kernel updates most of its figures only once a second; faster sampling repeats them";

    fn open(_: &Context) -> MemorySampler {
        MemorySampler { lacking: "", arcstats: Optional::of_proc("spl/kstat/zfs/arcstats") }
    }

    fn tell_lacking(&self, told: &mut String) {
        told.push_str(self.lacking);
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Memory>) -> Result<(), SampleError> {
        let mut record = with_proc("meminfo", |meminfo| parse(meminfo, tick.time, &mut rows.outcome))?;
        self.lacking = lacking(&record);
        let arc = rows.outcome.note(self.arcstats.with(tick, Arc::parse));
        if let Some(arc) = arc.flatten().flatten() {
            arc.put(&mut record, &mut rows.outcome);
        }
        rows.push(record);
        Ok(())
    }
}

/// ZFS' cache, in bytes.
#[derive(Debug, PartialEq, Eq)]
struct Arc {
    size: i64,
    /// It shrinks no further.
    least: i64,
}

impl Arc {
    /// Puts it into the record of the memory that it lies in. In a container `arcstats` may be the host's, beside a `meminfo` of the
    /// container alone: a cache that does not fit into the used memory is of another memory.
    fn put(self, record: &mut Memory, outcome: &mut Outcome) {
        let Arc { size, least } = self;
        let is_known = record.total_bytes != ABSENT && record.free_bytes != ABSENT;
        let is_here = !is_known || size <= record.total_bytes - record.free_bytes;
        record.zfs_arc_bytes = outcome.possible(size, is_here);
        if !is_here {
            return;
        }
        let reclaimable = size.saturating_sub(least).max(0);
        // It is not part of what the kernel calls cached or available.
        if record.available_bytes != ABSENT {
            let available = record.available_bytes.saturating_add(reclaimable);
            record.available_bytes = if is_known { available.min(record.total_bytes) } else { available };
        }
        if record.used_bytes != ABSENT {
            record.used_bytes = record.used_bytes.saturating_sub(reclaimable).max(0);
        }
    }

    /// From `arcstats`: lines of a name, a type and a value. `None` without a size.
    fn parse(arcstats: &[u8]) -> Option<Arc> {
        let value = |name: &[u8]| {
            let line = lines(arcstats).find(|line| words(line).next() == Some(name))?;
            words(line).nth(2).and_then(number)
        };
        Some(Arc { size: value(b"size")?, least: value(b"c_min").unwrap_or(0) })
    }
}

/// The record of a file. A column without a line is absent, and so is a part that is larger than the whole.
fn parse(meminfo: &[u8], time: i64, outcome: &mut Outcome) -> Memory {
    let mut record = Memory::absent(time);
    for (key, value) in lines(meminfo).filter_map(|line| cut(line, b':')) {
        let column = match key {
            b"MemTotal" => &mut record.total_bytes,
            b"MemFree" => &mut record.free_bytes,
            b"MemAvailable" => &mut record.available_bytes,
            b"Buffers" => &mut record.buffers_bytes,
            b"Cached" => &mut record.cached_bytes,
            b"Active" => &mut record.active_bytes,
            b"Inactive" => &mut record.inactive_bytes,
            b"Shmem" => &mut record.shared_bytes,
            b"SwapTotal" => &mut record.swap_total_bytes,
            b"SwapFree" => &mut record.swap_free_bytes,
            _ => continue,
        };
        *column = scaled(next_number(&mut words(value)), KIB);
    }
    record.total_bytes = outcome.possible_count(record.total_bytes);
    record.swap_total_bytes = outcome.possible_count(record.swap_total_bytes);
    let (total, swap_total) = (record.total_bytes, record.swap_total_bytes);
    for (part, whole) in [
        (&mut record.free_bytes, total),
        (&mut record.available_bytes, total),
        (&mut record.buffers_bytes, total),
        (&mut record.cached_bytes, total),
        (&mut record.active_bytes, total),
        (&mut record.inactive_bytes, total),
        (&mut record.shared_bytes, total),
        (&mut record.swap_free_bytes, swap_total),
    ] {
        let whole = if whole == ABSENT { i64::MAX - 1 } else { whole };
        *part = outcome.possible(*part, *part <= whole);
    }
    record.used_bytes = used(&record);
    record
}

/// What the record of a file lacks, for people; empty if nothing. What only old kernels lack is not told.
fn lacking(record: &Memory) -> &'static str {
    match (record.total_bytes, record.free_bytes) {
        (ABSENT, ABSENT) => ALL_LACKING,
        (ABSENT, _) => TOTAL_LACKING,
        _ => "",
    }
}

/// The kernel reads its figures one after the other, so their difference may briefly be below zero; that becomes 0.
fn used(memory: &Memory) -> i64 {
    let parts = [memory.free_bytes, memory.buffers_bytes, memory.cached_bytes];
    if memory.total_bytes == ABSENT || parts.contains(&ABSENT) {
        return ABSENT;
    }
    parts.into_iter().fold(memory.total_bytes, i64::saturating_sub).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kb_is_1024_bytes() {
        let rows =
            "25276063744,1098149888,15210328064,24218185728,35328000,8932257792,3554103296,5926334464,9166848,0,0,\n";
        Probe::assert_fixture::<MemorySampler>("vm", rows, None);
    }

    /// As of Linux 3.13: no `MemAvailable`; and no `kB` after `SwapFree`.
    #[test]
    fn what_an_old_kernel_does_not_say_is_absent() {
        Probe::assert_fixture::<MemorySampler>(
            "odd",
            "1048576,562176,204800,,102400,179200,307200,409600,3072,2097152,1048576,\n",
            None,
        );
    }

    #[test]
    fn each_missing_key_is_absent_alone() {
        let keys = [
            "MemTotal",
            "MemFree",
            "MemAvailable",
            "Buffers",
            "Cached",
            "Active",
            "Inactive",
            "Shmem",
            "SwapTotal",
            "SwapFree",
        ];
        for missing in 0..=keys.len() {
            let lines = (0..keys.len()).filter(|at| *at != missing).map(|at| format!("{}: {} kB\n", keys[at], 90 - at));
            let mut probe = Probe::empty::<MemorySampler>();
            probe.write("meminfo", lines.collect::<String>());
            let value = |at: usize| if at == missing { String::new() } else { ((90 - at) * 1024).to_string() };
            // Less than was free, buffers and cached.
            let used = if [0, 1, 3, 4].contains(&missing) { "" } else { "0" };
            let values: Vec<String> = (1..keys.len()).map(value).collect();
            assert_eq!(probe.rows(0), format!("{},{used},{},\n", value(0), values.join(",")), "without {missing}");
        }
    }

    #[test]
    fn short_lines_are_passed_over() {
        let whole = std::fs::read_to_string("tests/fixtures/vm/proc/meminfo").unwrap();
        let expected = Probe::fixture::<MemorySampler>("vm").rows(0);
        for short in ["\n", "X\n", "\nX\n\n", "\r\n", "X\r\n"] {
            for at in [0, whole.find("MemFree").unwrap(), whole.len()] {
                let mut probe = Probe::empty::<MemorySampler>();
                probe.write("meminfo", format!("{}{short}{}", &whole[..at], &whole[at..]));
                assert_eq!(probe.rows(0), expected, "{short:?} at {at}");
            }
        }
    }

    #[test]
    fn parts_that_are_larger_than_the_whole_are_absent_and_counted() {
        let mut probe = Probe::empty::<MemorySampler>();
        let parts = "MemFree: 1024 kB\nBuffers: 1024 kB\nCached: 2048 kB\nSwapTotal: 3 kB\nSwapFree: 4 kB\n";
        probe.write("meminfo", format!("MemTotal: 1024 kB\n{parts}"));
        assert_eq!(probe.rows(0), "1048576,,1048576,,1048576,,,,,3072,,\n");
        assert_eq!(probe.impossible, 2);
        probe.write("meminfo", format!("MemTotal: 18446744073709551615 kB\n{parts}"));
        assert_eq!(probe.rows(1), ",,1048576,,1048576,2097152,,,,3072,,\n");
        assert_eq!(probe.impossible, 2);
    }

    #[test]
    fn what_zfs_gives_back_is_available() {
        let mut probe = Probe::empty::<MemorySampler>();
        let meminfo = "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 20 kB\nBuffers: 0 kB\nCached: 0 kB\n";
        probe.write(
            "spl/kstat/zfs/arcstats",
            "9 1 0x01 123\nname type data\nc_min 4 102400\nsize 4 819200\nc_max 4 1\n",
        );
        let kib = |kib: i64| kib * KIB;
        let row = |used, available, arc: &str| {
            format!("{},{},{},{},0,0,,,,,,{arc}\n", kib(1000), kib(used), kib(10), kib(available))
        };
        assert_eq!(probe.rows_with(0, "meminfo", meminfo), row(290, 720, "819200"));
        assert_eq!(probe.rows_with(0, "spl/kstat/zfs/arcstats", "size 4 1024\n"), row(989, 21, "1024"));
        assert_eq!(probe.rows_with(0, "spl/kstat/zfs/arcstats", "size\n"), row(990, 20, ""));
        // The host's, which the memory of a container cannot hold.
        assert_eq!(probe.rows_with(0, "spl/kstat/zfs/arcstats", "size 4 1013761\n"), row(990, 20, ""));
    }

    #[test]
    fn nothing_at_all_is_a_row_of_absent_values() {
        let mut probe = Probe::empty::<MemorySampler>();
        for text in ["", "MemTotal\n", "MemTotal: x kB\nSwapTotal:\n"] {
            assert_eq!(probe.rows_with(0, "meminfo", text), ",,,,,,,,,,,\n", "{text:?}");
            assert_eq!(probe.lacking(), ALL_LACKING);
        }
        for (text, lacking) in [("MemFree: 1 kB\n", TOTAL_LACKING), ("MemTotal: 1 kB\n", "")] {
            probe.rows_with(1, "meminfo", text);
            assert_eq!(probe.lacking(), lacking);
        }
        let (rows, outcome) = Probe::empty::<MemorySampler>().tick(0);
        assert_eq!((rows.as_str(), outcome.unwrap_err().what), ("", "meminfo"));
    }
}
