//! `vm`: paging, reclaim and the contents of memory, from `/proc/vmstat`.
//!
//! The kernel writes one line for each figure, always in the same order (`mm/vmstat.c`), so each figure is first looked
//! for on the line of the last tick.

use std::time::Duration;

use crate::reading::optional::check_proc;
use crate::reading::snapshot::with_proc;
use crate::reading::text::{lines, number, text};
use crate::reading::{Context, Outcome, Rows, Sample};
use crate::record;
use crate::record::{ABSENT, Record};
use crate::sampler::{SampleError, Tick};

const FILE: &str = "vmstat";
const KIB: i64 = 1_024;

record! {
    /// Paging, reclaim and the contents of memory, for the whole host. Events are NULL if the kernel lacks the counter:
    /// it is too old, or built without `CONFIG_VM_EVENT_COUNTERS`, `CONFIG_COMPACTION` or `CONFIG_SWAP`.
    pub struct Vm("vm") {
        labels {}
        values {
            /// Page faults, with and without I/O.
            counter page_faults: i64 [Count("{fault}")] => "kymo.vm.page_faults" {},
            /// Page faults that needed I/O.
            counter major_page_faults: i64 [Count("{fault}")] => "system.paging.faults" {"system.paging.fault.type" = "major"},
            /// Bytes read from block devices, through the page cache or not.
            counter paged_in_bytes: i64 [Bytes] => "kymo.vm.paged" {"kymo.direction" = "in"},
            /// Bytes written to block devices, through the page cache or not.
            counter paged_out_bytes: i64 [Bytes] => "kymo.vm.paged" {"kymo.direction" = "out"},
            /// Bytes read from swap space.
            counter swapped_in_bytes: i64 [Bytes] => "kymo.vm.swapped" {"kymo.direction" = "in"},
            /// Bytes written to swap space.
            counter swapped_out_bytes: i64 [Bytes] => "kymo.vm.swapped" {"kymo.direction" = "out"},
            /// Memory that kswapd, the kernel's background reclaim, scanned.
            counter kswapd_scanned_bytes: i64 [Bytes] => "kymo.vm.scanned" {"kymo.reclaim" = "kswapd"},
            /// Memory that kswapd reclaimed.
            counter kswapd_reclaimed_bytes: i64 [Bytes] => "kymo.vm.reclaimed" {"kymo.reclaim" = "kswapd"},
            /// Memory that tasks scanned themselves while they waited for an allocation (direct reclaim).
            counter direct_scanned_bytes: i64 [Bytes] => "kymo.vm.scanned" {"kymo.reclaim" = "direct"},
            /// Memory that direct reclaim reclaimed.
            counter direct_reclaimed_bytes: i64 [Bytes] => "kymo.vm.reclaimed" {"kymo.reclaim" = "direct"},
            /// Memory that was reclaimed and soon needed again. A high rate means too little memory.
            counter refaulted_bytes: i64 [Bytes] => "kymo.vm.refaulted" {},
            /// Times that a task had to reclaim memory before its allocation, over all zones.
            counter allocation_stalls: i64 [Count("{stall}")] => "kymo.vm.allocation_stalls" {},
            /// Times that a task had to compact memory before a large allocation.
            counter compaction_stalls: i64 [Count("{stall}")] => "kymo.vm.compaction_stalls" {},
            /// Processes killed because the host or their control group was out of memory.
            counter oom_kills: i64 [Count("{process}")] => "kymo.vm.oom_kills" {},
            /// Changed memory that is not yet written to disk.
            gauge dirty_bytes: i64 [Bytes] => "kymo.vm.usage" {"kymo.vm.state" = "dirty"},
            /// Memory that is being written to disk.
            gauge writeback_bytes: i64 [Bytes] => "kymo.vm.usage" {"kymo.vm.state" = "writeback"},
            /// Memory of processes that is not backed by a file.
            gauge anonymous_bytes: i64 [Bytes] => "kymo.vm.usage" {"kymo.vm.state" = "anonymous"},
            /// Files mapped by processes, including shared memory.
            gauge mapped_bytes: i64 [Bytes] => "kymo.vm.usage" {"kymo.vm.state" = "mapped"},
            /// Page tables of processes.
            gauge page_tables_bytes: i64 [Bytes] => "kymo.vm.usage" {"kymo.vm.state" = "page_tables"},
            /// The kernel's own objects that it can free, such as cached file names.
            gauge slab_reclaimable_bytes: i64 [Bytes] => "system.memory.linux.slab.usage" {"system.memory.linux.slab.state" = "reclaimable"},
            /// The kernel's own objects that it cannot free.
            gauge slab_unreclaimable_bytes: i64 [Bytes] => "system.memory.linux.slab.usage" {"system.memory.linux.slab.state" = "unreclaimable"},
        }
    }
}

/// The unit that the kernel counts in.
#[derive(Clone, Copy, Debug)]
enum CountedIn {
    One,
    Kib,
    Page,
}

/// A wanted line: its name, its unit and the column that it is added to.
type Key = (&'static [u8], CountedIn, fn(&mut Vm) -> &mut i64);

/// In the kernel's order; any order works.
const KEYS: &[Key] = &[
    (b"nr_slab_reclaimable", CountedIn::Page, |vm| &mut vm.slab_reclaimable_bytes),
    (b"nr_slab_unreclaimable", CountedIn::Page, |vm| &mut vm.slab_unreclaimable_bytes),
    // Two since Linux 5.9, one before.
    (b"workingset_refault_anon", CountedIn::Page, |vm| &mut vm.refaulted_bytes),
    (b"workingset_refault_file", CountedIn::Page, |vm| &mut vm.refaulted_bytes),
    (b"workingset_refault", CountedIn::Page, |vm| &mut vm.refaulted_bytes),
    (b"nr_anon_pages", CountedIn::Page, |vm| &mut vm.anonymous_bytes),
    (b"nr_mapped", CountedIn::Page, |vm| &mut vm.mapped_bytes),
    (b"nr_dirty", CountedIn::Page, |vm| &mut vm.dirty_bytes),
    (b"nr_writeback", CountedIn::Page, |vm| &mut vm.writeback_bytes),
    (b"nr_page_table_pages", CountedIn::Page, |vm| &mut vm.page_tables_bytes),
    (b"pgpgin", CountedIn::Kib, |vm| &mut vm.paged_in_bytes),
    (b"pgpgout", CountedIn::Kib, |vm| &mut vm.paged_out_bytes),
    (b"pswpin", CountedIn::Page, |vm| &mut vm.swapped_in_bytes),
    (b"pswpout", CountedIn::Page, |vm| &mut vm.swapped_out_bytes),
    // One for each zone that the kernel was built with.
    (b"allocstall_dma", CountedIn::One, |vm| &mut vm.allocation_stalls),
    (b"allocstall_dma32", CountedIn::One, |vm| &mut vm.allocation_stalls),
    (b"allocstall_normal", CountedIn::One, |vm| &mut vm.allocation_stalls),
    (b"allocstall_high", CountedIn::One, |vm| &mut vm.allocation_stalls),
    (b"allocstall_movable", CountedIn::One, |vm| &mut vm.allocation_stalls),
    (b"allocstall_device", CountedIn::One, |vm| &mut vm.allocation_stalls),
    (b"pgfault", CountedIn::One, |vm| &mut vm.page_faults),
    (b"pgmajfault", CountedIn::One, |vm| &mut vm.major_page_faults),
    (b"pgsteal_kswapd", CountedIn::Page, |vm| &mut vm.kswapd_reclaimed_bytes),
    (b"pgsteal_direct", CountedIn::Page, |vm| &mut vm.direct_reclaimed_bytes),
    (b"pgscan_kswapd", CountedIn::Page, |vm| &mut vm.kswapd_scanned_bytes),
    (b"pgscan_direct", CountedIn::Page, |vm| &mut vm.direct_scanned_bytes),
    (b"oom_kill", CountedIn::One, |vm| &mut vm.oom_kills),
    (b"compact_stall", CountedIn::One, |vm| &mut vm.compaction_stalls),
];

/// Reads `/proc/vmstat`.
#[derive(Debug)]
pub struct VmSampler {
    page_bytes: i64,
    /// The number of each wanted line and the index of its key in [`KEYS`], in the file's order.
    places: Vec<(usize, usize)>,
    /// The number of lines when `places` was made.
    line_count: usize,
}

impl Sample for VmSampler {
    type Record = Vm;
    const INTERVAL_MIN: Duration = Duration::from_millis(10);
    const RESOLUTION: &'static str = "events are exact at every read; the contents of memory are updated once a second";

    fn open(_: &Context) -> VmSampler {
        let page_bytes = i64::try_from(rustix::param::page_size()).unwrap_or(ABSENT);
        VmSampler { page_bytes, places: Vec::with_capacity(KEYS.len()), line_count: 0 }
    }

    fn check(&mut self) -> Result<(), String> {
        check_proc(FILE, "there is no /proc/vmstat: procfs is not mounted, or a container's runtime hides it")
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Vm>) -> Result<(), SampleError> {
        with_proc(FILE, |vmstat| {
            let mut record = Vm::absent(tick.time);
            let mut outcome = Outcome::default();
            if !self.parse(vmstat, &mut record, &mut outcome) {
                self.find(vmstat);
                (record, outcome) = (Vm::absent(tick.time), Outcome::default());
                self.parse(vmstat, &mut record, &mut outcome);
            }
            rows.push(record);
            outcome.into_result()
        })
    }
}

impl VmSampler {
    /// Finds the wanted lines by their names.
    fn find(&mut self, vmstat: &[u8]) {
        self.places.clear();
        self.line_count = 0;
        for line in lines(vmstat) {
            if let Some(key) = KEYS.iter().position(|(name, ..)| value(line, name).is_some()) {
                // A key is stored at most once, so `places` never outgrows its capacity.
                if self.places.iter().all(|(_, known)| *known != key) {
                    self.places.push((self.line_count, key));
                }
            }
            self.line_count += 1;
        }
    }

    /// Parses the wanted lines at their known places; `false` if a line has moved.
    fn parse(&self, vmstat: &[u8], record: &mut Vm, outcome: &mut Outcome) -> bool {
        let mut lines = lines(vmstat);
        let mut next = 0;
        for (at, key) in &self.places {
            let Some((name, unit, column)) = KEYS.get(*key) else { continue };
            let Some(line) = lines.nth(at - next) else { return false };
            next = at + 1;
            let Some(value) = value(line, name) else { return false };
            let Some(number) = number(value) else {
                outcome.fail(FILE, format!("no number: {}", text(line)));
                continue;
            };
            let factor = match unit {
                CountedIn::One => 1,
                CountedIn::Kib => KIB,
                CountedIn::Page => self.page_bytes,
            };
            let column = column(record);
            *column = (*column).max(0).saturating_add(number.saturating_mul(factor));
        }
        next + lines.count() == self.line_count
    }
}

/// The text after `name` and a blank; `None` for a line of another name.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(name)?.strip_prefix(b" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::probe::Probe;

    fn page_bytes() -> i64 {
        i64::try_from(rustix::param::page_size()).unwrap()
    }

    /// Of a row, those columns that are wanted.
    fn columns(row: &str, names: &[&str]) -> Vec<String> {
        let values: Vec<&str> = row.trim_end().split(',').collect();
        let at = |name: &&str| Vm::TABLE.column(name).expect("a column").0 - 1;
        names.iter().map(|name| values[at(name)].to_owned()).collect()
    }

    #[test]
    fn the_row_is_the_kernels_figures_in_bytes() {
        let mut probe = Probe::fixture::<VmSampler>("vm");
        assert_eq!(probe.check(), Ok(()));
        let pages = [1_121_810, 4_403, 128_900, 69_210, 1_376, 100_305, 12_751];
        let [refaulted, dirty, anonymous, mapped, tables, slab, kept] = pages.map(|pages| pages * page_bytes());
        let row = format!(
            "37553086,3201,5889778688,18245861376,0,0,0,0,0,0,{refaulted},0,0,0,\
             {dirty},0,{anonymous},{mapped},{tables},{slab},{kept}\n"
        );
        assert_eq!((&probe.rows(0), &probe.rows(1)), (&row, &row));
    }

    /// Names that begin as others do, figures that no `i64` holds or that are no numbers, a name twice, and a cut line.
    #[test]
    fn odd_lines_cost_no_other() {
        let mut probe = Probe::fixture::<VmSampler>("odd");
        for ms in 0..3 {
            let (rows, outcome) = probe.tick(ms);
            let page = page_bytes();
            let (refaulted, writeback) = (3 * page, 7 * page);
            assert_eq!(
                rows,
                format!("9223372036854775807,,1024,,{page},,,,{page},,{refaulted},18,,,,{writeback},,,,,\n")
            );
            assert_eq!(outcome.unwrap_err().to_string(), "read vmstat: no number: pgmajfault -1");
        }
    }

    #[test]
    fn lines_that_moved_are_found_again() {
        let wanted = ["page_faults", "oom_kills", "paged_in_bytes"];
        let mut probe = Probe::empty::<VmSampler>();
        for (vmstat, values) in [
            ("pgpgin 1\nx 5\npgfault 2\noom_kill 3\n", ["2", "3", "1024"]),
            ("oom_kill 4\npgpgin 2\nx 5\npgfault 3\n", ["3", "4", "2048"]),
            ("pgfault 5\npgpgin 0\n", ["5", "", "0"]),
            ("pgfault 6\npgpgin 0\noom_kill 1", ["6", "", "0"]),
            ("pgfault_x 6\npgpgins 7\noom_kill 1\n", ["", "1", ""]),
            ("", ["", "", ""]),
            ("oom_kill 1\n", ["", "1", ""]),
        ] {
            probe.write("vmstat", vmstat);
            for ms in 0..2 {
                assert_eq!(columns(&probe.rows(ms), &wanted), values, "{vmstat}");
            }
        }
    }

    #[test]
    fn without_the_file_there_is_an_error_that_names_it() {
        let mut probe = Probe::empty::<VmSampler>();
        let (rows, outcome) = probe.tick(1);
        assert_eq!(rows, "");
        assert!(outcome.unwrap_err().to_string().starts_with("read vmstat: "));
        assert!(probe.check().unwrap_err().contains("/proc/vmstat"));
        probe.write("vmstat", "");
        assert!(probe.check().unwrap_err().contains("empty"));
    }

    /// The names are those of the kernel that this runs on, which has most of them.
    #[test]
    fn the_running_kernel_has_the_keys() {
        let vmstat = std::fs::read("/proc/vmstat").unwrap();
        let mut sampler = VmSampler::open(&Context::default());
        sampler.find(&vmstat);
        assert!(sampler.places.len() > KEYS.len() / 2, "{:?}", sampler.places);
    }
}
