//! `disk`: what each block device and partition read and wrote, from `/proc/diskstats`.

mod origin;

use heim_runtime::snapshot::with_sys;

use self::origin::Origins;
use crate::reading::counter::wraps::{RANGE_32_BITS, Wraps};
use crate::reading::filter::RowFilter;
use crate::reading::line_rows::{LineRows, Parsed};
use crate::reading::prelude::*;
use crate::reading::text::{next_number, numbers};
use crate::reading::value::bytes;

const FILE: &str = "diskstats";
/// While devices are read from their own files, the whole file is read at this interval.
const WHOLE_INTERVAL_NS: i64 = 100_000_000;
/// After a device's own file could not be read, own files are not tried for this long.
const OWN_PAUSE_NS: i64 = 10_000_000_000;
/// With more devices in use than this, the whole file is read.
const OWN_FILES_MAX: usize = 32;
/// Words of a line before its numbers: major, minor and name.
const WORDS_BEFORE_NUMBERS: usize = 3;
/// The kernel's unit here, whatever the device's own sectors are.
const SECTOR_BYTES: i64 = 512;
const US_PER_MS: i64 = 1_000;
/// A greater number of operations in progress is one below zero.
const IN_FLIGHT_MAX: i64 = i32::MAX as i64;

record! {
    /// Reads and writes of each block device and partition since it appeared. A device has rows once
    /// it has done its first operation, so unused loop and RAM devices have none. If most devices are idle, the first
    /// row of a device can come up to 100 ms late. `[disk]` in the configuration leaves devices out; by default, those are loop
    /// and RAM devices. The kernel counts `busy_us`, `read_us` and `write_us` in 32 bits, in ms; kymo corrects for wraps that
    /// happen while the collector runs.
    pub struct Disk("disk") {
        labels {
            /// The kernel's name of the device or partition.
            device => "system.device",
            /// What it is: `disk`; `partition`; `stacked`, if its operations go to other devices and count there too (LVM, RAID,
            /// dm-crypt, loop devices, ZFS volumes); `path`, if it is one of the paths to an `NVMe` namespace that has a row of its
            /// own; or `memory` (RAM and zram devices). A sum over `kind = 'disk'` counts each byte once.
            kind => "kymo.disk.kind",
            /// The device that it is a part of or lies on: `sda` for `sda1`. If it lies on several, all of them with commas
            /// between. Empty if there is none or the kernel does not say. kymo looks again within a minute.
            parent => "kymo.disk.parent",
        }
        values {
            /// Reads completed.
            counter read_ops: i64 [Count("{operation}")] => "system.disk.operations" {"disk.io.direction" = "read"},
            /// Writes completed.
            counter write_ops: i64 [Count("{operation}")] => "system.disk.operations" {"disk.io.direction" = "write"},
            /// Bytes read.
            counter read_bytes: i64 [Bytes] => "system.disk.io" {"disk.io.direction" = "read"},
            /// Bytes written.
            counter write_bytes: i64 [Bytes] => "system.disk.io" {"disk.io.direction" = "write"},
            /// Reads merged into a neighbouring read before they were issued.
            counter read_merged: i64 [Count("{operation}")] => "system.disk.merged" {"disk.io.direction" = "read"},
            /// Writes merged into a neighbouring write before they were issued.
            counter write_merged: i64 [Count("{operation}")] => "system.disk.merged" {"disk.io.direction" = "write"},
            /// Time with at least one operation in progress.
            counter busy_us: i64 [Micros] => "system.disk.io_time" {},
            /// Sum of the durations of all reads.
            counter read_us: i64 [Micros] => "system.disk.operation_time" {"disk.io.direction" = "read"},
            /// Sum of the durations of all writes.
            counter write_us: i64 [Micros] => "system.disk.operation_time" {"disk.io.direction" = "write"},
            /// Operations in progress.
            gauge in_flight: i64 [Count("{operation}")] => "kymo.disk.in_flight" {},
        }
    }
}

/// Reads `/proc/diskstats` through heim, and parses from the same lines what heim does not give.
///
/// The kernel writes lines for idle devices too. If these are the majority, as loop and RAM devices mostly are, the
/// devices in use are read from their own files in sysfs, which have the same figures
/// (`Documentation/admin-guide/iostats.rst`). `/proc/diskstats` is then read only to find devices that become active.
#[derive(Debug)]
pub struct DiskSampler {
    whole: LineRows<Disk>,
    filter: RowFilter,
    /// The lines of the whole file at its last read, with those that the filter leaves out.
    lines_count: usize,
    /// The rows of the devices' own files, in the order of `own`.
    stats: LineRows<Disk>,
    /// The devices to read from their own files; none while the whole file is read.
    own: Vec<OwnFile>,
    /// When the whole file is read next, ns of `CLOCK_MONOTONIC`.
    whole_at_ns: i64,
    /// sysfs is not tried before this.
    own_from_ns: i64,
    times: Times,
    origins: Origins,
}

/// A device's file in sysfs.
#[derive(Debug)]
struct OwnFile {
    /// Below sysfs' root.
    path: String,
    /// Major, minor and name, as they stand at the start of a line of `/proc/diskstats`.
    words: Vec<u8>,
}

impl Sample for DiskSampler {
    type Record = Disk;
    const INTERVAL_MIN: Duration = Duration::from_millis(1);
    const RESOLUTION: &'static str = "operations and bytes are exact at every read; times are in units of 1 ms";

    fn open(context: &Context) -> DiskSampler {
        DiskSampler {
            whole: LineRows::of_proc(FILE, b""),
            filter: RowFilter::new(context.filters.disk.clone()),
            lines_count: 0,
            stats: LineRows::of_proc(FILE, b""),
            own: Vec::new(),
            whole_at_ns: i64::MIN,
            own_from_ns: i64::MIN,
            times: Times::default(),
            origins: Origins::new(&context.roots.sysfs),
        }
    }

    fn forget_labels(&mut self) {
        self.whole.forget();
        self.stats.forget();
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Disk>) -> Result<(), SampleError> {
        self.origins.begin(tick.monotonic_ns);
        let own = !self.own.is_empty() && tick.monotonic_ns < self.whole_at_ns;
        if own && self.compare_own() {
            push(&mut self.stats, 0, &mut self.origins, &mut self.times, tick, rows);
            return Ok(());
        }
        if own {
            self.own_from_ns = tick.monotonic_ns + OWN_PAUSE_NS;
        }
        let DiskSampler { whole, filter, lines_count, origins, times, .. } = self;
        let lines_before = *lines_count;
        with_proc(FILE, |diskstats| {
            *lines_count = 0;
            let taken = lines(diskstats).filter(|line| {
                let row = *lines_count;
                *lines_count += 1;
                // A line without a name is an error.
                words(line).nth(WORDS_BEFORE_NUMBERS - 1).is_none_or(|name| filter.takes(row, name))
            });
            whole.compare_all(taken);
        })?;
        if *lines_count != lines_before {
            origins.have_changed();
        }
        push(whole, WORDS_BEFORE_NUMBERS, origins, times, tick, rows);
        self.whole_at_ns = tick.monotonic_ns + WHOLE_INTERVAL_NS;
        self.choose(tick);
        Ok(())
    }
}

impl DiskSampler {
    /// Compares the devices' own files; `false` if one cannot be read, for example because its device is gone.
    fn compare_own(&mut self) -> bool {
        self.stats.begin();
        let stats = &mut self.stats;
        self.own
            .iter()
            .all(|OwnFile { path, words }| with_sys(path, |stat| stats.compare(words, stat.trim_ascii_end())).is_ok())
    }

    /// Decides, after a read of the whole file, which devices to read from their own files.
    fn choose(&mut self, tick: &Tick) {
        let (all, in_use) = (self.lines_count, self.whole.records().count());
        self.times.keep(in_use, |device| self.whole.records().any(|(_, record)| record.device == device));
        if tick.monotonic_ns < self.own_from_ns || in_use > OWN_FILES_MAX || 2 * in_use >= all {
            self.own.clear();
            return;
        }
        for (at, (line, _)) in self.whole.records().enumerate() {
            let before = &line[..name_end(line)];
            if self.own.get(at).is_none_or(|file| file.words.trim_ascii_end() != before) {
                self.own.truncate(at);
                self.own.push(OwnFile::new(before));
            }
        }
        self.own.truncate(in_use);
    }
}

impl OwnFile {
    fn new(before_numbers: &[u8]) -> OwnFile {
        // sysfs has an exclamation mark where a name has a slash.
        let name = words(before_numbers).last().map(text).unwrap_or_default().replace('/', "!");
        OwnFile { path: format!("class/block/{name}/stat"), words: [before_numbers, b" "].concat() }
    }
}

/// What wraps have taken from the busy, read and write times of each device.
#[derive(Debug, Default)]
struct Times(Vec<(Label, Wraps<3>)>);

impl Times {
    /// Adds it to the times of a record, whose device most often is that of the entry `row`.
    fn carry(&mut self, row: usize, record: &mut Disk) {
        let is_it = |(device, _): &(Label, _)| *device == record.device;
        let at = if self.0.get(row).is_some_and(is_it) { Some(row) } else { self.0.iter().position(is_it) };
        let mut at = at.unwrap_or_else(|| {
            self.0.push((record.device, Wraps::default()));
            self.0.len() - 1
        });
        // Where the next tick looks first.
        if row < self.0.len() {
            self.0.swap(at, row);
            at = row;
        }
        let mut times = [record.busy_us, record.read_us, record.write_us];
        if let Some((_, wraps)) = self.0.get_mut(at) {
            wraps.carry(&mut times, RANGE_32_BITS * US_PER_MS);
        }
        [record.busy_us, record.read_us, record.write_us] = times;
    }

    /// Forgets devices that are gone, when there are more entries than the `in_use` devices.
    fn keep(&mut self, in_use: usize, is_there: impl Fn(Label) -> bool) {
        if self.0.len() > in_use {
            self.0.retain(|(device, _)| is_there(*device));
        }
    }
}

/// Where the device's name ends in a line of `/proc/diskstats`.
fn name_end(line: &[u8]) -> usize {
    let blank = |at: usize| line.get(at).is_none_or(u8::is_ascii_whitespace);
    let mut ends = (1..=line.len()).filter(|end| !blank(end - 1) && blank(*end));
    ends.nth(WORDS_BEFORE_NUMBERS - 1).unwrap_or(line.len())
}

/// Parses changed lines and pushes all rows. The compared lines have `words_before` words before their numbers.
fn push(
    lines: &mut LineRows<Disk>,
    words_before: usize,
    origins: &mut Origins,
    times: &mut Times,
    tick: &Tick,
    rows: &mut Rows<Disk>,
) {
    lines.parse(heim::disk::io_counters(), &mut rows.outcome, |row, line, counters| {
        let (device, record) = match &counters {
            Ok(counters) => (
                counters.device_name().as_encoded_bytes(),
                Disk {
                    read_ops: count(counters.read_count()),
                    write_ops: count(counters.write_count()),
                    read_bytes: bytes(counters.read_bytes()),
                    write_bytes: bytes(counters.write_bytes()),
                    ..parse(words(line).skip(words_before))
                },
            ),
            // A device's own file does not contain its name.
            Err(error) => {
                let found = parse_whole(line).filter(|_| words_before == WORDS_BEFORE_NUMBERS);
                found.ok_or_else(|| error.to_string())?
            }
        };
        Ok(if record.read_ops == 0 && record.write_ops == 0 {
            Parsed::Idle
        } else {
            let (kind, parent) = origins.of(device, || with_proc(FILE, <[u8]>::to_vec).unwrap_or_default());
            // A row has three labels, each at its own place in the cache.
            let mut label = |nth: usize, text: &[u8]| rows.labels.resolve(row * 3 + nth, text);
            let (kind, parent) = (label(1, kind.as_bytes()), label(2, parent.as_bytes()));
            let mut record = Disk { device: label(0, device), kind, parent, ..record };
            times.carry(row, &mut record);
            Parsed::Record(record)
        })
    });
    for (_, record) in lines.records() {
        let in_flight = rows.outcome.possible(record.in_flight, record.in_flight <= IN_FLIGHT_MAX);
        rows.push(Disk { time: tick.time, in_flight, ..record });
    }
}

/// The device and all columns of a line of `/proc/diskstats`.
fn parse_whole(line: &[u8]) -> Option<(&[u8], Disk)> {
    let mut rest = words(line).skip(WORDS_BEFORE_NUMBERS - 1);
    let device = rest.next()?;
    let [read_ops, _, read_sectors, _, write_ops, _, write_sectors, ..] = numbers::<10>(rest)?;
    let record = Disk {
        read_ops,
        write_ops,
        read_bytes: scaled(read_sectors, SECTOR_BYTES),
        write_bytes: scaled(write_sectors, SECTOR_BYTES),
        ..parse(words(line).skip(WORDS_BEFORE_NUMBERS))
    };
    Some((device, record))
}

/// The columns that heim does not give, and the busy time, whose milliseconds heim takes for seconds. The order of the
/// numbers is that of the kernel's `Documentation/admin-guide/iostats.rst`.
fn parse<'a>(numbers: impl Iterator<Item = &'a [u8]>) -> Disk {
    let mut numbers = numbers;
    let mut after = |skipped: usize| next_number(&mut numbers.by_ref().skip(skipped));
    let read_merged = after(1);
    let read_ms = after(1);
    let write_merged = after(1);
    let write_ms = after(1);
    let in_flight = after(0);
    let busy_ms = after(0);
    Disk {
        read_merged,
        write_merged,
        busy_us: scaled(busy_ms, US_PER_MS),
        read_us: scaled(read_ms, US_PER_MS),
        write_us: scaled(write_ms, US_PER_MS),
        in_flight,
        ..Disk::absent(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::probe::Probe;

    /// Loop and RAM devices are in it and never did anything.
    #[test]
    fn rows_are_the_kernels_figures_of_devices_in_use() {
        let rows = "vda,disk,,123765,22321,5889778688,18245861376,12370,107737,49700000,160050000,254908000,0\n";
        Probe::assert_fixture::<DiskSampler>("vm", rows, None);
    }

    /// Kernels before 4.18 wrote no discards, and those before 5.5 no flushes.
    #[test]
    fn partitions_and_odd_names_have_rows_and_a_cut_line_costs_no_other() {
        let rows = "sda,disk,,2,6,1536,3584,1,5,10000,4000,8000,9\n\
             sda1,partition,sda,1,0,0,0,0,0,0,0,0,0\n\
             cciss/c0d0p1,disk,,0,1,0,512,0,0,2000,0,3000,0\n\
             mmcblk0,disk,,9223372036854775807,1,512,512,1,1,4294967295000,1000,1000,1\n";
        Probe::assert_fixture::<DiskSampler>("odd", rows, Some("read diskstats: invalid data"));
    }

    /// heim would multiply the sectors beyond 2^64.
    #[test]
    fn numbers_of_any_size_are_told_without_a_wrap() {
        let mut probe = Probe::empty::<DiskSampler>();
        let line = |name: &str, sectors: &str| format!("8 0 {name} 1 2 {sectors} 4 5 6 7 8 9 10 11\n");
        let [wraps, more] = ["36028797018963969", "99999999999999999999999"].map(|sectors| line("sda", sectors));
        for sectors in [wraps, more] {
            probe.write("diskstats", format!("{sectors}{}8 2 sdc 1 99999999999999999999\n", line("sdb", "3")));
            let (rows, outcome) = probe.tick(0);
            let max = i64::MAX;
            assert_eq!(
                rows,
                format!(
                    "sda,disk,,1,5,{max},3584,2,6,10000,4000,8000,9\nsdb,disk,,1,5,1536,3584,2,6,10000,4000,8000,9\n"
                )
            );
            assert_eq!(outcome.unwrap_err().what, "diskstats");
        }
    }

    #[test]
    fn a_device_has_its_row_from_its_first_operation_on() {
        let mut probe = Probe::empty::<DiskSampler>();
        probe.write("diskstats", "7 0 loop0 0 0 0 0 0 0 0 0 0 0 0\n8 0 sda 1 0 0 0 0 0 0 0 0 0 0\n");
        assert_eq!(probe.rows(1), "sda,disk,,1,0,0,0,0,0,0,0,0,0\n");
        probe.write("diskstats", "7 0 loop0 1 0 2 0 0 0 0 0 0 0 0\n8 0 sda 1 0 0 0 0 0 0 0 0 0 0\n");
        assert_eq!(probe.rows(2), "loop0,stacked,,1,0,1024,0,0,0,0,0,0,0\nsda,disk,,1,0,0,0,0,0,0,0,0,0\n");
    }

    /// The whole file is read only every 100 ms then, to see others begin.
    #[test]
    fn among_many_at_rest_a_device_is_read_from_its_own_file() {
        let mut probe = Probe::empty::<DiskSampler>();
        let rest = "7 0 loop0 0 0 0 0 0 0 0 0 0 0 0\n7 1 loop1 0 0 0 0 0 0 0 0 0 0 0\n";
        probe.write("diskstats", format!("{rest}  8       0 a/b 1 0 0 0 0 0 0 0 0 0 0\n"));
        probe.write("class/block/a!b/stat", " 2 3 4 5 6 7 8 9 1 11 12\n");
        assert_eq!(probe.rows(0), "a/b,disk,,1,0,0,0,0,0,0,0,0,0\n");
        assert_eq!(probe.rows(1), "a/b,disk,,2,6,2048,4096,3,7,11000,5000,9000,1\n");
        probe.write("class/block/a!b/stat", "123456789 3 4 5 6 7 8 9 0 11 12\n");
        assert_eq!(probe.rows(2), "a/b,disk,,123456789,6,2048,4096,3,7,11000,5000,9000,0\n");
        let changed = rest.replace("loop1 0", "loop1 5");
        probe.write("diskstats", format!("{changed}8 0 a/b 200000000 0 0 0 0 0 0 0 0 0 0\n"));
        assert_eq!(probe.rows(99), "a/b,disk,,123456789,6,2048,4096,3,7,11000,5000,9000,0\n");
        let whole = "loop1,stacked,,5,0,0,0,0,0,0,0,0,0\na/b,disk,,200000000,0,0,0,0,0,0,0,0,0\n";
        assert_eq!(probe.rows(100), whole);
        assert_eq!(probe.rows(101), whole, "two of three are in use");
    }

    #[test]
    fn times_go_on_where_the_kernels_wrap_and_counts_below_zero_are_absent() {
        let mut probe = Probe::empty::<DiskSampler>();
        for (ms, line, row, impossible) in [
            (
                0,
                "10 0 80 4294967290 5 0 40 7 0 4294967000 3",
                "10,5,40960,20480,0,0,4294967000000,4294967290000,7000,0",
                0,
            ),
            (1, "11 0 80 4 5 0 40 8 4294967295 10 3", "11,5,40960,20480,0,0,4294967306000,4294967300000,8000,", 1),
            (2, "12 0 80 5 5 0 40 9 1 11 3", "12,5,40960,20480,0,0,4294967307000,4294967301000,9000,1", 0),
            // Another disk of the same name.
            (3, "1 0 8 1 0 0 0 0 0 1 3", "1,0,4096,0,0,0,1000,1000,0,0", 0),
        ] {
            assert_eq!(probe.rows_with(ms, "diskstats", format!("8 0 sda {line}\n")), format!("sda,disk,,{row}\n"));
            assert_eq!(probe.impossible, impossible);
        }
    }

    #[test]
    fn without_sysfs_the_whole_file_is_read_at_every_tick() {
        let mut probe = Probe::empty::<DiskSampler>();
        let rest = "7 0 loop0 0 0 0 0 0 0 0 0 0 0 0\n7 1 loop1 0 0 0 0 0 0 0 0 0 0 0\n";
        for (ms, reads) in [(0, 1), (1, 2), (2, 3)] {
            probe.write("diskstats", format!("{rest}8 0 sda {reads} 0 0 0 0 0 0 0 0 0 0\n"));
            assert_eq!(probe.rows(ms), format!("sda,disk,,{reads},0,0,0,0,0,0,0,0,0\n"));
        }
    }
}
