//! `disk`: what each block device and partition read and wrote, from `/proc/diskstats`.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;

use super::source::{Outcome, bytes, count, failed, lines, next_number, poll, scaled, text, with_proc, words};
use super::{Family, Rows, Sample};
use crate::record;
use crate::record::Record;
use crate::sampler::{SampleError, Tick};

/// The disk family.
pub const FAMILY: Family = Family::sampled::<DiskSampler>(
    Duration::from_millis(1),
    "operations and bytes are exact at every read; times are in units of 1 ms",
);

/// Words of a line before its numbers: major, minor and name.
const WORDS_BEFORE_NUMBERS: usize = 3;
const US_PER_MS: i64 = 1_000;

record! {
    /// What each block device and each partition read and wrote since it appeared. Devices that never did either have
    /// no row, so a host's unused loop and RAM devices are not there; a device has its row from its first operation
    /// on. The kernel wraps the times at 2^32 ms.
    pub struct Disk("disk") {
        labels {
            /// The kernel's name of the device or partition.
            device => "system.device",
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
            /// Reads that were merged into a neighbouring one before they were issued.
            counter read_merged: i64 [Count("{operation}")] => "system.disk.merged" {"disk.io.direction" = "read"},
            /// Writes that were merged into a neighbouring one before they were issued.
            counter write_merged: i64 [Count("{operation}")] => "system.disk.merged" {"disk.io.direction" = "write"},
            /// Time with at least one operation under way.
            counter busy_us: i64 [Micros] => "system.disk.io_time" {},
            /// Sum of the times that the reads took, each counted by itself.
            counter read_us: i64 [Micros] => "system.disk.operation_time" {"disk.io.direction" = "read"},
            /// Sum of the times that the writes took, each counted by itself.
            counter write_us: i64 [Micros] => "system.disk.operation_time" {"disk.io.direction" = "write"},
            /// Operations under way.
            gauge in_flight: i64 [Count("{operation}")] => "kymo.disk.in_flight" {},
        }
    }
}

/// Reads `/proc/diskstats` through heim, and what heim does not give from the same lines.
#[derive(Debug, Default)]
pub struct DiskSampler;

impl Sample for DiskSampler {
    type Record = Disk;

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Disk>) -> Result<(), SampleError> {
        with_proc("diskstats", |diskstats| poll(read(diskstats, tick, rows))?)
    }
}

async fn read(diskstats: &[u8], tick: &Tick, rows: &mut Rows<Disk>) -> Result<(), SampleError> {
    let mut outcome = Outcome::default();
    let mut counters = pin!(heim::disk::io_counters().await.map_err(|error| failed("diskstats", error))?);
    for (row, line) in lines(diskstats).enumerate() {
        let counters = match counters.next().await {
            Some(Ok(counters)) => counters,
            Some(Err(error)) => {
                outcome.fail("diskstats", error);
                continue;
            }
            None => break,
        };
        if counters.read_count() == 0 && counters.write_count() == 0 {
            continue;
        }
        let device = rows.labels.resolve(row, &text(counters.device_name().as_encoded_bytes()));
        rows.push(Disk {
            device,
            read_ops: count(counters.read_count()),
            write_ops: count(counters.write_count()),
            read_bytes: bytes(counters.read_bytes()),
            write_bytes: bytes(counters.write_bytes()),
            ..parse(line, tick.time)
        });
    }
    outcome.into_result()
}

/// The columns that heim does not give. It parses the busy time too, but takes the milliseconds for seconds.
///
/// The numbers' order is that of the kernel's Documentation/admin-guide/iostats.rst.
fn parse(line: &[u8], time: i64) -> Disk {
    let mut words = words(line).skip(WORDS_BEFORE_NUMBERS);
    let mut after = |skipped: usize| next_number(&mut words.by_ref().skip(skipped));
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
        ..Disk::absent(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::probe::Probe;

    /// Loop and RAM devices are in it and never did anything.
    #[test]
    fn rows_are_the_kernels_figures_of_devices_in_use() {
        let mut probe = Probe::fixture(&FAMILY, "vm");
        assert_eq!(
            probe.rows(0),
            "vda,123765,22321,5889778688,18245861376,12370,107737,49700000,160050000,254908000,0\n"
        );
    }

    /// Kernels before 4.18 wrote no discards, and those before 5.5 no flushes.
    #[test]
    fn partitions_and_odd_names_have_rows_and_a_cut_line_costs_no_other() {
        let mut probe = Probe::fixture(&FAMILY, "odd");
        let (rows, outcome) = probe.tick(0);
        assert_eq!(
            rows,
            "sda,2,6,1536,3584,1,5,10000,4000,8000,9\n\
             sda1,1,0,0,0,0,0,0,0,0,0\n\
             cciss/c0d0p1,0,1,0,512,0,0,2000,0,3000,0\n\
             mmcblk0,9223372036854775807,1,512,512,1,1,4294967295000,1000,1000,1\n"
        );
        assert_eq!(outcome.unwrap_err().what, "diskstats");
    }

    #[test]
    fn a_device_has_its_row_from_its_first_operation_on() {
        let mut probe = Probe::empty(&FAMILY);
        probe.write("diskstats", "7 0 loop0 0 0 0 0 0 0 0 0 0 0 0\n8 0 sda 1 0 0 0 0 0 0 0 0 0 0\n");
        assert_eq!(probe.rows(1), "sda,1,0,0,0,0,0,0,0,0,0\n");
        probe.write("diskstats", "7 0 loop0 1 0 2 0 0 0 0 0 0 0 0\n8 0 sda 1 0 0 0 0 0 0 0 0 0 0\n");
        assert_eq!(probe.rows(2), "loop0,1,0,1024,0,0,0,0,0,0,0\nsda,1,0,0,0,0,0,0,0,0,0\n");
    }
}
