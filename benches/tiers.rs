//! What tiers cost a flush: CPU of the flush's thread with tiers, divided by that of the rows alone.
//!
//! Half an hour of rows of all tables with tiers, at the intervals of the default configuration, is appended in drains and flushed every
//! minute. Prints `tiers: CPU with tiers ÷ of rows alone` with its limit, over all flushes: some of them have files of tiers, and others
//! only keep the open buckets. One series in three is in use, and half of its columns change, at one tick in three: a busier host has
//! rows that cost more, and a quieter one rows that cost less.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot measure ends")]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::Int32Type;
use criterion::{Criterion, criterion_group, criterion_main};
use fastrand::Rng;
use kymo::family::FamilyId;
use kymo::record::{Role, TIME_ZONE, Table, Type};
use kymo::store::{Append, Appender, Flushed, Store, StoreSettings};

const MINUTES: i64 = 30;
const MINUTE_US: i64 = 60_000_000;
const DRAIN_US: i64 = 400_000;
/// 2026-11-25.
const START_US: i64 = 1_795_564_800_000_000;
const RATIO_MAX: f64 = 1.25;

/// Series and interval in ms of each table, as on a host with four interfaces, two CPUs and 80 processes.
const TABLES: [(&str, usize, i64); 16] = [
    ("network", 4, 1),
    ("disk", 1, 1),
    ("cpu", 3, 10),
    ("memory", 1, 100),
    ("pressure", 5, 100),
    ("vm", 1, 100),
    ("tcp", 1, 100),
    ("ip", 1, 100),
    ("softnet", 2, 100),
    ("softirq", 2, 100),
    ("host", 1, 1_000),
    ("interrupt", 40, 1_000),
    ("process", 80, 1_000),
    ("process_state", 1, 1_000),
    ("cgroup", 50, 1_000),
    ("filesystem", 4, 1_000),
];

/// The rows of a table.
struct Rows {
    family: FamilyId,
    series: usize,
    interval_us: i64,
    draw: Rng,
    /// By column and series.
    values: Vec<Vec<i64>>,
}

impl Rows {
    fn all() -> Vec<Rows> {
        let rows = |(name, series, interval_ms): (&str, usize, i64)| {
            let family = FamilyId::find(name).expect("a table");
            let values = vec![vec![1_000; series]; family.table.columns.len()];
            Rows { family, series, interval_us: interval_ms * 1_000, draw: Rng::with_seed(7), values }
        };
        TABLES.into_iter().map(rows).collect()
    }

    /// Those of a drain that begins at `from_us`.
    fn batch(&mut self, from_us: i64) -> Option<Append> {
        let first = from_us + (-from_us).rem_euclid(self.interval_us);
        let interval = usize::try_from(self.interval_us).expect("an interval");
        let times: Vec<i64> = (first..from_us + DRAIN_US).step_by(interval).collect();
        if times.is_empty() {
            return None;
        }
        let table: &Table = self.family.table;
        let rows = || times.iter().flat_map(|time| std::iter::repeat_n(*time, self.series));
        let names: Vec<String> = (0..self.series).map(|series| format!("series{series}")).collect();
        let mut columns: Vec<ArrayRef> = Vec::new();
        for (at, column) in table.columns.iter().enumerate() {
            let figures: Vec<i64> = match column.role {
                _ if matches!(column.ty, Type::Timestamp | Type::Text) => Vec::new(),
                Role::Figure => times
                    .iter()
                    .flat_map(|_| 0..self.series)
                    .map(|series| {
                        let value = &mut self.values[at][series];
                        if series % 3 == 0 && at % 2 == 0 && self.draw.u8(0..3) == 0 {
                            *value += self.draw.i64(0..10_000);
                        }
                        *value
                    })
                    .collect(),
                _ => times.iter().flat_map(|_| 0..self.series).map(|series| series.cast_signed() as i64).collect(),
            };
            columns.push(match column.ty {
                Type::Timestamp => {
                    Arc::new(TimestampMicrosecondArray::from_iter_values(rows()).with_timezone(TIME_ZONE))
                }
                Type::Text => Arc::new(
                    times
                        .iter()
                        .flat_map(|_| names.iter().map(|name| Some(&**name)))
                        .collect::<DictionaryArray<Int32Type>>(),
                ),
                Type::Int64 => Arc::new(Int64Array::from(figures)),
                Type::Float64 => Arc::new(
                    figures.into_iter().map(|value| Some((value % 997) as f64 / 100.0)).collect::<Float64Array>(),
                ),
            });
        }
        let batch = RecordBatch::try_new(table.schema(), columns).expect("rows as the table has them");
        Some(Append { family: self.family, batch })
    }
}

/// A store, and the rows that it gets.
struct Host {
    store: Arc<Store>,
    appender: Appender,
    rows: Vec<Rows>,
    now_us: i64,
}

impl Host {
    fn append_minute(&mut self) {
        let end_us = self.now_us + MINUTE_US;
        while self.now_us < end_us {
            let drained = self.rows.iter_mut().filter_map(|rows| rows.batch(self.now_us)).collect();
            self.appender.append(drained);
            self.now_us += DRAIN_US;
        }
    }

    fn flush(&self) -> Flushed {
        self.store.flush_by_interval().expect("flush")
    }
}

fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (store, appender, _) = Store::open(StoreSettings::unlimited(folder.path(), "bench")).expect("open the store");
    let (writes, _) = store.start_journal();
    let writer = thread::spawn(writes);
    let mut host = Host { store, appender, rows: Rows::all(), now_us: START_US };
    for Rows { family, interval_us, .. } in &host.rows {
        let interval = Duration::from_micros(interval_us.cast_unsigned());
        host.store.set_source(*family, &format!("every {interval:?}"), interval);
    }
    let mut cpu = [Duration::ZERO; 2];
    for _ in 0..MINUTES {
        host.append_minute();
        let flushed = host.flush();
        cpu[0] += flushed.tiers_cpu;
        cpu[1] += flushed.rows_cpu;
    }
    let [tiers, rows] = cpu;
    let ratio = (tiers + rows).as_secs_f64() / rows.as_secs_f64();
    let kept = if ratio <= RATIO_MAX { "kept" } else { "exceeded" };
    println!(
        "tiers: CPU with tiers ÷ of rows alone = {ratio:.2} ({tiers:.0?}, {rows:.0?} in {MINUTES} flushes), limit {RATIO_MAX:.2} {kept}"
    );
    criterion.bench_function("tiers: flush a minute", |bencher| {
        bencher.iter_custom(|times| {
            let flushes = (0..times).map(|_| {
                host.append_minute();
                host.flush().tiers_cpu
            });
            flushes.sum()
        });
    });
    host.store.stop_journal();
    writer.join().expect("the journal's thread");
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(1));
    targets = bench
}
criterion_main!(benches);
