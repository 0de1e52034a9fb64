//! `memory`: use of memory and swap space, from `/proc/meminfo`.

use heim::memory::Memory as Heim;
use heim::memory::os::linux::MemoryExt;

use crate::reading::prelude::*;
use crate::reading::text::{has_long_number, next_number};
use crate::reading::value;

/// A kB of `/proc/meminfo` is a KiB.
const KIB: i64 = 1_024;
/// The bytes that heim takes a kB for.
const HEIM_KB: i64 = 1_000;

record! {
    /// Use of memory and swap space.
    pub struct Memory("memory") {
        labels {}
        values {
            /// Memory that the kernel manages: the installed memory without what firmware and the kernel's code
            /// reserve.
            gauge total_bytes: i64 [Bytes] => "system.memory.limit" {},
            /// The total minus free, buffers and cached: memory held by programs and the kernel, without shared
            /// memory, with reclaimable slabs. See `available_bytes` for what programs can still get.
            gauge used_bytes: i64 [Bytes] => "system.memory.usage" {"system.memory.state" = "used"},
            /// Memory that nothing uses.
            gauge free_bytes: i64 [Bytes] => "system.memory.usage" {"system.memory.state" = "free"},
            /// The kernel's estimate of what new programs can get without swapping. NULL before Linux 3.14.
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
        }
    }
}

/// Reads `/proc/meminfo` through heim, and parses it itself if heim cannot.
#[derive(Debug, Default)]
pub struct MemorySampler {
    /// Where the line `SwapTotal` began at the last tick. Lines have fixed widths, so it is mostly still there.
    swap_at: usize,
}

impl Sample for MemorySampler {
    type Record = Memory;
    const INTERVAL_MIN: Duration = Duration::from_millis(10);
    const RESOLUTION: &'static str =
        "the kernel updates most of its figures only once a second; faster sampling repeats them";

    fn open(_: &Context) -> MemorySampler {
        MemorySampler::default()
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Memory>) -> Result<(), SampleError> {
        with_proc("meminfo", |meminfo| {
            // heim panics on a line of less than two bytes, overflows on long numbers, fails if one of its eight keys
            // is missing, and takes a number that was cut for a whole one.
            let is_heims = meminfo.ends_with(b"\n") && !has_short_line(meminfo) && !has_long_number(meminfo);
            let heim = if is_heims { poll(heim::memory::memory())?.ok() } else { None };
            let mut record = match heim {
                Some(memory) => from_heim(&memory, tick.time),
                None => parse(meminfo, tick.time),
            };
            // For swap heim would open the file again and read another moment.
            (record.swap_total_bytes, record.swap_free_bytes) = self.swap(meminfo);
            record.used_bytes = used(&record);
            rows.push(record);
            Ok(())
        })?
    }
}

impl MemorySampler {
    fn swap(&mut self, meminfo: &[u8]) -> (i64, i64) {
        const TOTAL: &[u8] = b"SwapTotal:";
        let begins_at = |at: usize| meminfo.get(at..).is_some_and(|rest| rest.starts_with(TOTAL));
        if !begins_at(self.swap_at) {
            let before = lines(meminfo).take_while(|line| !line.starts_with(TOTAL));
            self.swap_at = before.map(|line| line.len() + 1).sum();
        }
        let mut values = lines(meminfo.get(self.swap_at..).unwrap_or_default()).map(|line| cut(line, b':'));
        let total = values.next().flatten().map_or(ABSENT, |(_, value)| bytes(value));
        let free = values.flatten().find(|(key, _)| key == b"SwapFree").map_or(ABSENT, |(_, value)| bytes(value));
        (total, free)
    }
}

/// Whether [`str::lines`] would find a line of less than two bytes, or a carriage return, which it removes.
///
/// It runs at every tick. It never ends early, so that the compiler can use vector instructions.
fn has_short_line(text: &[u8]) -> bool {
    let (Some(second), Some(third)) = (text.get(1..), text.get(2..)) else { return !text.is_empty() };
    let ends = |byte: u8| (byte == b'\n') | (byte == b'\r');
    let at_edge = ends(text[0]) | ends(second[0]) | (text[text.len() - 2] == b'\n');
    let short = |a: u8, b: u8, c: u8| ((a == b'\n') & (ends(b) | (c == b'\n'))) | (c == b'\r');
    let bytes = text.iter().zip(second).zip(third);
    at_edge | bytes.fold(false, |found, ((a, b), c)| found | short(*a, *b, *c))
}

fn from_heim(memory: &Heim, time: i64) -> Memory {
    // heim takes a kB for 1000 bytes.
    let bytes = |information| scaled(value::bytes(information) / HEIM_KB, KIB);
    Memory {
        total_bytes: bytes(memory.total()),
        free_bytes: bytes(memory.free()),
        available_bytes: bytes(memory.available()),
        buffers_bytes: bytes(memory.buffers()),
        cached_bytes: bytes(memory.cached()),
        active_bytes: bytes(memory.active()),
        inactive_bytes: bytes(memory.inactive()),
        shared_bytes: bytes(memory.shared()),
        ..Memory::absent(time)
    }
}

/// The columns that heim would give; a column without a line is absent.
fn parse(meminfo: &[u8], time: i64) -> Memory {
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
            _ => continue,
        };
        *column = bytes(value);
    }
    record
}

fn bytes(value: &[u8]) -> i64 {
    scaled(next_number(&mut words(value)), KIB)
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
            "25276063744,1098149888,15210328064,24218185728,35328000,8932257792,3554103296,5926334464,9166848,0,0\n";
        Probe::assert_fixture::<MemorySampler>("vm", rows, None);
    }

    /// As of Linux 3.13: no `MemAvailable`, so heim refuses; and no `kB` after `SwapFree`.
    #[test]
    fn what_an_old_kernel_does_not_say_is_absent() {
        Probe::assert_fixture::<MemorySampler>(
            "odd",
            "1048576,562176,204800,,102400,179200,307200,409600,3072,2097152,1048576\n",
            None,
        );
    }

    #[test]
    fn each_missing_key_is_absent_alone() {
        let keys = ["MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "Active", "Inactive", "Shmem"];
        for missing in 0..=keys.len() {
            let lines = (0..keys.len()).filter(|at| *at != missing).map(|at| format!("{}: {} kB\n", keys[at], 90 - at));
            let mut probe = Probe::empty::<MemorySampler>();
            probe.write("meminfo", lines.collect::<String>());
            let value = |at: usize| if at == missing { String::new() } else { ((90 - at) * 1024).to_string() };
            // Less than was free, buffers and cached.
            let used = if [0, 1, 3, 4].contains(&missing) { "" } else { "0" };
            let values: Vec<String> = (1..keys.len()).map(value).collect();
            assert_eq!(probe.rows(0), format!("{},{used},{},,\n", value(0), values.join(",")), "without {missing}");
        }
    }

    /// heim would panic on each of them.
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
    fn short_lines_are_those_of_the_standard_library() {
        // All texts of up to six of these bytes.
        for code in 0..4_usize.pow(6) {
            for len in 0..=6 {
                let text: String = (0..len).map(|at| ['a', 'b', '\n', 'c'][code / 4_usize.pow(at) % 4]).collect();
                let short = text.lines().any(|line| line.len() < 2);
                assert_eq!(has_short_line(text.as_bytes()), short, "{text:?}");
            }
        }
        assert!(has_short_line(b"ab\r\ncd\n") && has_short_line(b"a\r\n"));
    }

    #[test]
    fn numbers_of_any_size_are_told_without_a_wrap() {
        let (max, mib) = (i64::MAX, 1 << 20);
        for before in ["", "x", "xx", "xxx"] {
            let mut probe = Probe::empty::<MemorySampler>();
            let text = format!(
                "{before}MemTotal: 18446744073709551615 kB\nMemTotal: 18446744073709552 kB\nMemFree: 1024 kB\nMemAvailable: 1024 kB\n\
                 Buffers: 1024 kB\nCached: 1024 kB\nActive: 1024 kB\nInactive: 1024 kB\nShmem: 1024 kB\n"
            );
            probe.write("meminfo", text);
            let used = max - 3 * mib;
            assert_eq!(probe.rows(0), format!("{max},{used},{mib},{mib},{mib},{mib},{mib},{mib},{mib},,\n"));
        }
    }

    #[test]
    fn swap_is_found_where_it_moves_to() {
        let mut probe = Probe::empty::<MemorySampler>();
        for (before, total, after, expected) in [
            ("", "SwapTotal: 8 kB\n", "SwapFree: 4 kB\n", "8192,4096"),
            ("", "SwapTotal: 9 kB\n", "Zswap: 1 kB\nSwapFree: 3 kB\n", "9216,3072"),
            ("MemTotal: 1 kB\n", "SwapTotal: 9 kB\n", "SwapFree: 5 kB\n", "9216,5120"),
            ("MemTotal: 1 kB\n", "", "SwapFree: 5 kB\n", ","),
            ("", "SwapTotal: 7 kB\n", "", "7168,"),
        ] {
            probe.write("meminfo", format!("{before}{total}{after}"));
            let rows = probe.rows(0);
            assert!(rows.ends_with(&format!(",{expected}\n")), "{rows} is not of {expected}");
        }
    }

    #[test]
    fn nothing_at_all_is_a_row_of_absent_values() {
        let mut probe = Probe::empty::<MemorySampler>();
        for text in ["", "MemTotal\n", "MemTotal: x kB\nSwapTotal:\n"] {
            assert_eq!(probe.rows_with(0, "meminfo", text), ",,,,,,,,,,\n", "{text:?}");
        }
        let (rows, outcome) = Probe::empty::<MemorySampler>().tick(0);
        assert_eq!((rows.as_str(), outcome.unwrap_err().what), ("", "meminfo"));
    }
}
