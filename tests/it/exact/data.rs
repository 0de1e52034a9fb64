//! Random rows, as plain values and in a store.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fastrand::Rng;
use kymo::batch::to_batch;
use kymo::family::FamilyId;
use kymo::family::disk::Disk;
use kymo::family::network::Network;
use kymo::record::Record;
use kymo::record::label::Labels;
use kymo::store::{Append, Store, StoreSettings};
use tempfile::TempDir;

/// A whole hour. Compaction merges the files of a minute.
const START_US: i64 = 1_790_000_000 / 3600 * 3600 * 1_000_000;
const WINDOW: Duration = Duration::from_secs(60);
pub const HOST: &str = "exact";
const INTERFACES: [&str; 4] = ["eth0", "lo", "wlan0", "ü b'"];
const DEVICES: [[&str; 3]; 4] =
    [["sda", "disk", ""], ["sda1", "partition", "sda"], ["sdb", "disk", ""], ["dm-0", "stacked", "sda,sdb"]];

#[derive(Clone, Debug)]
pub struct Row {
    pub time: i64,
    pub labels: Vec<String>,
    pub values: Vec<Option<i64>>,
}

/// A table, as far as statements use it. No two rows have the same time and labels.
pub struct Table {
    pub name: &'static str,
    pub labels: &'static [&'static str],
    /// The last one is a gauge, the others are counters.
    pub values: &'static [&'static str],
    pub rows: Vec<Row>,
}

/// A recording.
pub struct Data {
    pub tables: [Table; 2],
    pub store: Arc<Store>,
    _folder: TempDir,
}

impl Data {
    /// Records some thousand rows, of which some are in memory, some in files, and some in merged files.
    pub fn record(random: &mut Rng) -> Data {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            StoreSettings { compaction_interval: Some(WINDOW), ..StoreSettings::unlimited(folder.path(), HOST) };
        let (store, mut appender, _) = Store::open(settings).unwrap();
        let mut networks = Table {
            name: "network",
            labels: &["interface"],
            values: &["rx_bytes", "tx_bytes", "rx_errors"],
            rows: Vec::new(),
        };
        let mut disks = Table {
            name: "disk",
            labels: &["device", "kind", "parent"],
            values: &["read_ops", "write_bytes", "in_flight"],
            rows: Vec::new(),
        };
        let labels = (Labels::default(), Labels::default());
        let mut courses = [[0_i64; 3]; 8];
        let interval_us = [1_000, 10_000, 1_000_000][random.usize(..3)];
        let ticks = [5, 40, 400][random.usize(..3)];
        let mut stretches: Vec<i64> = (0..random.i64(1..12)).collect();
        // Mostly in the order of time, and not after the clock was set back.
        if random.u8(..4) == 0 {
            random.shuffle(&mut stretches);
        }
        for stretch in stretches {
            let times = (0..ticks).map(|tick| START_US + (stretch * ticks + tick) * interval_us);
            let (mut network, mut disk) = (Vec::new(), Vec::new());
            for time in times {
                for (at, interface) in INTERFACES.iter().enumerate() {
                    if random.u8(..10) > 0 {
                        network.push(row(random, time, &[interface], &mut courses[at]));
                    }
                }
                for (at, device) in DEVICES.iter().enumerate() {
                    if random.u8(..10) > 2 {
                        disk.push(row(random, time, device, &mut courses[4 + at]));
                    }
                }
            }
            let number = |value: Option<i64>| value.unwrap_or(kymo::record::ABSENT);
            let of_network = |row: &Row| Network {
                interface: labels.0.intern(&row.labels[0]),
                rx_bytes: number(row.values[0]),
                tx_bytes: number(row.values[1]),
                rx_errors: number(row.values[2]),
                ..Network::absent(row.time)
            };
            let of_disk = |row: &Row| Disk {
                device: labels.1.intern(&row.labels[0]),
                kind: labels.1.intern(&row.labels[1]),
                parent: labels.1.intern(&row.labels[2]),
                read_ops: number(row.values[0]),
                write_bytes: number(row.values[1]),
                in_flight: number(row.values[2]),
                ..Disk::absent(row.time)
            };
            let records: (Vec<Network>, Vec<Disk>) =
                (network.iter().map(of_network).collect(), disk.iter().map(of_disk).collect());
            let batches = [
                (FamilyId::of::<Network>(), to_batch(&[&records.0], &labels.0, &Network::TABLE.schema())),
                (FamilyId::of::<Disk>(), to_batch(&[&records.1], &labels.1, &Disk::TABLE.schema())),
            ];
            let full = batches.into_iter().filter(|(_, batch)| batch.num_rows() > 0);
            appender.append(full.map(|(family, batch)| Append { family, batch }).collect());
            networks.rows.append(&mut network);
            disks.rows.append(&mut disk);
            match random.u8(..4) {
                0 => drop(store.flush().unwrap()),
                1 => drop(store.compact(i64::MAX / 2, Duration::ZERO, &AtomicBool::new(false)).unwrap()),
                _ => {}
            }
        }
        Data { tables: [networks, disks], store, _folder: folder }
    }
}

/// A row after that of `course`, which its values follow. Some are absent, and some counters begin anew.
fn row(random: &mut Rng, time: i64, labels: &[&str], course: &mut [i64; 3]) -> Row {
    for value in &mut course[..2] {
        *value = if random.u8(..60) == 0 { random.i64(0..9) } else { *value + random.i64(0..3) * random.i64(0..1_000) };
    }
    course[2] = random.i64(0..7);
    let values = course.iter().map(|value| (random.u8(..12) > 0).then_some(*value)).collect();
    Row { time, labels: labels.iter().map(|label| (*label).into()).collect(), values }
}
