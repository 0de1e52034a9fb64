//! `vm`: paging, reclaim and the contents of memory, from `/proc/vmstat`.
//!
//! The kernel writes one line for each figure, always in the same order (`mm/vmstat.c`), so each figure is first looked
//! for on the line of the last tick.
//!
//! Events do not step back while CPUs go offline: the kernel sums them under the lock that such a change takes, and moves what
//! a CPU has counted to another one before it releases that (`all_vm_events`, `vm_events_fold_cpu`). Refaults are counted as
//! pages are, per node: each CPU adds its part now and then. From Linux 4.8 to 4.20 it added some that were to come too, and
//! took them back later.

use crate::reading::counter::held::Held;
use crate::reading::lacking::lacking;
use crate::reading::prelude::*;
use crate::reading::value::page_bytes;

const FILE: &str = "vmstat";
/// Each CPU may take back 62 pages of refaults, in each node. The count of a running host does not begin anew.
const REFAULTS_RESTART_MIN_BYTES: i64 = 1 << 30;

record! {
    /// Paging, reclaim and the contents of memory, for the whole host. A counter of events is NULL if the kernel lacks
    /// it, because the kernel is too old or was built without `CONFIG_VM_EVENT_COUNTERS`, `CONFIG_COMPACTION` or `CONFIG_SWAP`.
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
            /// Memory that direct reclaim reclaimed. NULL before Linux 3.4.
            counter direct_reclaimed_bytes: i64 [Bytes] => "kymo.vm.reclaimed" {"kymo.reclaim" = "direct"},
            /// Memory that was reclaimed and soon needed again. A high rate means too little memory.
            counter refaulted_bytes: i64 [Bytes] => "kymo.vm.refaulted" {},
            /// How many times a task had to reclaim memory before its allocation, over all zones.
            counter allocation_stalls: i64 [Count("{stall}")] => "kymo.vm.allocation_stalls" {},
            /// How many times a task had to compact memory before a large allocation.
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

/// A wanted line: its name, the unit that the kernel counts in, and the column that it is added to.
type Key = (&'static [u8], fn() -> i64, fn(&mut Vm) -> &mut i64);

const ONE: fn() -> i64 = || 1;
const KIB: fn() -> i64 = || 1_024;
const PAGE: fn() -> i64 = page_bytes;

/// In the kernel's order; any order works.
const KEYS: &[Key] = &[
    (b"nr_slab_reclaimable", PAGE, |vm| &mut vm.slab_reclaimable_bytes),
    (b"nr_slab_unreclaimable", PAGE, |vm| &mut vm.slab_unreclaimable_bytes),
    // Two since Linux 5.9, one before.
    (b"workingset_refault_anon", PAGE, |vm| &mut vm.refaulted_bytes),
    (b"workingset_refault_file", PAGE, |vm| &mut vm.refaulted_bytes),
    (b"workingset_refault", PAGE, |vm| &mut vm.refaulted_bytes),
    (b"nr_anon_pages", PAGE, |vm| &mut vm.anonymous_bytes),
    (b"nr_mapped", PAGE, |vm| &mut vm.mapped_bytes),
    (b"nr_dirty", PAGE, |vm| &mut vm.dirty_bytes),
    (b"nr_writeback", PAGE, |vm| &mut vm.writeback_bytes),
    (b"nr_page_table_pages", PAGE, |vm| &mut vm.page_tables_bytes),
    (b"pgpgin", KIB, |vm| &mut vm.paged_in_bytes),
    (b"pgpgout", KIB, |vm| &mut vm.paged_out_bytes),
    (b"pswpin", PAGE, |vm| &mut vm.swapped_in_bytes),
    (b"pswpout", PAGE, |vm| &mut vm.swapped_out_bytes),
    // One for each zone that the kernel was built with since Linux 4.8, one before.
    (b"allocstall", ONE, |vm| &mut vm.allocation_stalls),
    (b"allocstall_dma", ONE, |vm| &mut vm.allocation_stalls),
    (b"allocstall_dma32", ONE, |vm| &mut vm.allocation_stalls),
    (b"allocstall_normal", ONE, |vm| &mut vm.allocation_stalls),
    (b"allocstall_high", ONE, |vm| &mut vm.allocation_stalls),
    (b"allocstall_movable", ONE, |vm| &mut vm.allocation_stalls),
    (b"allocstall_device", ONE, |vm| &mut vm.allocation_stalls),
    (b"pgfault", ONE, |vm| &mut vm.page_faults),
    (b"pgmajfault", ONE, |vm| &mut vm.major_page_faults),
    (b"pgsteal_kswapd", PAGE, |vm| &mut vm.kswapd_reclaimed_bytes),
    (b"pgsteal_direct", PAGE, |vm| &mut vm.direct_reclaimed_bytes),
    (b"pgscan_kswapd", PAGE, |vm| &mut vm.kswapd_scanned_bytes),
    (b"pgscan_direct", PAGE, |vm| &mut vm.direct_scanned_bytes),
    // One for each zone before Linux 4.8. Before 3.4 only kswapd's part of what was reclaimed is counted apart.
    (b"pgsteal_kswapd_dma", PAGE, |vm| &mut vm.kswapd_reclaimed_bytes),
    (b"pgsteal_kswapd_dma32", PAGE, |vm| &mut vm.kswapd_reclaimed_bytes),
    (b"pgsteal_kswapd_normal", PAGE, |vm| &mut vm.kswapd_reclaimed_bytes),
    (b"pgsteal_kswapd_high", PAGE, |vm| &mut vm.kswapd_reclaimed_bytes),
    (b"pgsteal_kswapd_movable", PAGE, |vm| &mut vm.kswapd_reclaimed_bytes),
    (b"pgsteal_direct_dma", PAGE, |vm| &mut vm.direct_reclaimed_bytes),
    (b"pgsteal_direct_dma32", PAGE, |vm| &mut vm.direct_reclaimed_bytes),
    (b"pgsteal_direct_normal", PAGE, |vm| &mut vm.direct_reclaimed_bytes),
    (b"pgsteal_direct_high", PAGE, |vm| &mut vm.direct_reclaimed_bytes),
    (b"pgsteal_direct_movable", PAGE, |vm| &mut vm.direct_reclaimed_bytes),
    (b"pgscan_kswapd_dma", PAGE, |vm| &mut vm.kswapd_scanned_bytes),
    (b"pgscan_kswapd_dma32", PAGE, |vm| &mut vm.kswapd_scanned_bytes),
    (b"pgscan_kswapd_normal", PAGE, |vm| &mut vm.kswapd_scanned_bytes),
    (b"pgscan_kswapd_high", PAGE, |vm| &mut vm.kswapd_scanned_bytes),
    (b"pgscan_kswapd_movable", PAGE, |vm| &mut vm.kswapd_scanned_bytes),
    (b"pgscan_direct_dma", PAGE, |vm| &mut vm.direct_scanned_bytes),
    (b"pgscan_direct_dma32", PAGE, |vm| &mut vm.direct_scanned_bytes),
    (b"pgscan_direct_normal", PAGE, |vm| &mut vm.direct_scanned_bytes),
    (b"pgscan_direct_high", PAGE, |vm| &mut vm.direct_scanned_bytes),
    (b"pgscan_direct_movable", PAGE, |vm| &mut vm.direct_scanned_bytes),
    (b"kswapd_steal", PAGE, |vm| &mut vm.kswapd_reclaimed_bytes),
    (b"oom_kill", ONE, |vm| &mut vm.oom_kills),
    (b"compact_stall", ONE, |vm| &mut vm.compaction_stalls),
];

/// Reads `/proc/vmstat`.
#[derive(Debug, Default)]
pub struct VmSampler {
    /// The number of each wanted line, its key and its unit, in the file's order.
    places: Vec<(usize, Key, i64)>,
    /// The number of lines when `places` was made.
    line_count: usize,
    /// The columns that the file lacks, for people.
    lacking: Option<String>,
    refaulted: Held<1>,
}

impl Sample for VmSampler {
    type Record = Vm;
    const INTERVAL_MIN: Duration = Duration::from_millis(10);
    const RESOLUTION: &'static str = "counters are exact at every read; gauges are updated once a second";
    const NEEDED: Option<(&'static str, &'static str)> =
        Some((FILE, "there is no /proc/vmstat: procfs is not mounted, or a container's runtime hides it"));

    fn open(_: &Context) -> VmSampler {
        VmSampler::default()
    }

    fn tell_lacking(&self, told: &mut String) {
        told.push_str(self.lacking.as_deref().unwrap_or_default());
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Vm>) -> Result<(), SampleError> {
        with_proc(FILE, |vmstat| {
            let parsed = self.parse(vmstat, tick.time).or_else(|| {
                self.find(vmstat);
                let parsed = self.parse(vmstat, tick.time);
                self.lacking = parsed.as_ref().and_then(|(record, _)| lacking(record));
                parsed
            });
            if let Some((mut record, outcome)) = parsed {
                let mut refaulted = [record.refaulted_bytes];
                self.refaulted.hold(&mut refaulted, REFAULTS_RESTART_MIN_BYTES);
                [record.refaulted_bytes] = refaulted;
                rows.push(record);
                rows.outcome = outcome;
            }
        })
    }
}

impl VmSampler {
    /// Finds the wanted lines by their names.
    fn find(&mut self, vmstat: &[u8]) {
        let line_of = |name| lines(vmstat).position(|line| value(line, name).is_some());
        self.places.clear();
        self.places.extend(KEYS.iter().filter_map(|key| Some((line_of(key.0)?, *key, key.1()))));
        self.places.sort_unstable_by_key(|(at, ..)| *at);
        self.line_count = lines(vmstat).count();
    }

    /// Parses the wanted lines at their known places; `None` if a line has moved.
    fn parse(&self, vmstat: &[u8], time: i64) -> Option<(Vm, Outcome)> {
        let (mut record, mut outcome) = (Vm::absent(time), Outcome::default());
        let mut lines = lines(vmstat);
        let mut next = 0;
        for (at, (name, _, column), unit) in &self.places {
            let line = lines.nth(at - next)?;
            next = at + 1;
            let Some(number) = number(value(line, name)?) else {
                outcome.fail(FILE, format!("no number: {}", text(line)));
                continue;
            };
            if outcome.possible_count(number) == ABSENT {
                continue;
            }
            let column = column(&mut record);
            *column = (*column).max(0).saturating_add(number.saturating_mul(*unit));
        }
        (next + lines.count() == self.line_count).then_some((record, outcome))
    }
}

/// The text after `name` and a blank; `None` for a line of another name.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(name)?.strip_prefix(b" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a row, those columns that are wanted.
    fn columns(row: &str, names: &[&str]) -> Vec<String> {
        let values: Vec<&str> = row.trim_end().split(',').collect();
        let at = |name: &&str| Vm::TABLE.column(name).expect("a column").0 - 1;
        names.iter().map(|name| values[at(name)].to_owned()).collect()
    }

    #[test]
    fn the_row_is_the_kernels_figures_in_bytes() {
        let pages = [1_121_810, 4_403, 128_900, 69_210, 1_376, 100_305, 12_751];
        let [refaulted, dirty, anonymous, mapped, tables, slab, kept] = pages.map(|pages| pages * page_bytes());
        let row = format!(
            "37553086,3201,5889778688,18245861376,0,0,0,0,0,0,{refaulted},0,0,0,\
             {dirty},0,{anonymous},{mapped},{tables},{slab},{kept}\n"
        );
        Probe::assert_fixture::<VmSampler>("vm", &row, None);
    }

    /// Names that begin as others do, figures that no `i64` holds or that are no numbers, a name twice, and a cut line.
    #[test]
    fn odd_lines_cost_no_other() {
        let page = page_bytes();
        let (refaulted, writeback) = (3 * page, 7 * page);
        let row = format!(",,1024,,{page},,,,{page},,{refaulted},18,,,,{writeback},,,,,\n");
        Probe::assert_fixture::<VmSampler>("odd", &row, Some("read vmstat: no number: pgmajfault -1"));
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
    fn refaults_that_are_taken_back_are_held() {
        let mut probe = Probe::empty::<VmSampler>();
        for (pages, held) in [(500, 500), (562, 562), (531, 562), (563, 563)] {
            probe.write("vmstat", format!("workingset_refault {pages}\npgfault 1\n"));
            let refaulted = columns(&probe.rows(pages), &["refaulted_bytes"]);
            assert_eq!(refaulted, [(held * page_bytes()).to_string()]);
        }
    }

    #[test]
    fn what_the_kernel_does_not_count_is_told() {
        let mut probe = Probe::fixture::<VmSampler>("vm");
        probe.rows(0);
        assert_eq!(probe.lacking(), "");
        let mut probe = Probe::fixture::<VmSampler>("vmstat-of-2.6.32/0");
        probe.rows(0);
        let told = "NULL, because this kernel does not count them: direct_reclaimed_bytes, refaulted_bytes, \
                    compaction_stalls, oom_kills";
        assert_eq!(probe.lacking(), told);
    }

    /// The names are those of the kernel that this runs on, which has most of them.
    #[test]
    fn the_running_kernel_has_the_keys() {
        let vmstat = std::fs::read("/proc/vmstat").unwrap();
        let mut sampler = VmSampler::open(&Context::default());
        sampler.find(&vmstat);
        // Old kernels have the 22 names by zone.
        assert!(sampler.places.len() > (KEYS.len() - 22) / 2, "{:?}", sampler.places);
    }
}
