//! The tiers have what the rows have, to the bit: over flushes, kills, compaction, clocks that are set, counters that begin anew,
//! and after the rows themselves have expired.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use fastrand::Rng;
use kymo::batch::to_batch;
use kymo::family::FamilyId;
use kymo::family::cpu::Cpu;
use kymo::family::tables::TableId;
use kymo::record::label::Labels;
use kymo::record::tier::Tier;
use kymo::record::{ABSENT, Record};
use kymo::store::verify::verify;
use kymo::store::{Append, View};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::tier_files::open;

const COURSES: u64 = 100;
const SERIES: u64 = 3;
/// What is done in a course.
const TURNS: u64 = 60;
/// 2026-11-25.
const START_US: i64 = 1_795_564_800_000_000;

/// A row of one series.
#[derive(Clone, Copy, Debug)]
struct Given {
    series: u64,
    time: i64,
    counter: Option<i64>,
    gauge: Option<f64>,
}

/// What a bucket of a series has. Floats as their bits.
#[derive(Debug, Default, PartialEq)]
struct Bucket {
    ticks: i64,
    /// The time of the steps to its rows, µs.
    elapsed_us: i64,
    increase: Option<i64>,
    rates: Option<(u64, u64)>,
    /// The least and the greatest value of the gauge, and how many.
    gauge: Option<(u64, u64)>,
    count: i64,
    /// First and last value of the counter, those of the gauge, and its sum: for a bucket of one run only.
    once: Option<[Option<u64>; 5]>,
}

impl Bucket {
    /// Whether both have the same. Of a bucket in two rows, only what adds up is told.
    fn is(&self, other: &Bucket) -> bool {
        let adds_up = |of: &Bucket| (of.ticks, of.elapsed_us, of.increase, of.rates, of.gauge, of.count);
        let is_once = self.once.is_some() && other.once.is_some();
        adds_up(self) == adds_up(other) && (!is_once || self.once == other.once)
    }

    /// Both together, of two runs of the bucket.
    fn and(self, other: Bucket) -> Bucket {
        let both = |one: Option<(u64, u64)>, other: Option<(u64, u64)>| match (one, other) {
            (Some((low, high)), Some((least, most))) => {
                let [low, high, least, most] = [low, high, least, most].map(f64::from_bits);
                Some((low.min(least).to_bits(), high.max(most).to_bits()))
            }
            (one, other) => one.or(other),
        };
        Bucket {
            ticks: self.ticks + other.ticks,
            elapsed_us: self.elapsed_us + other.elapsed_us,
            increase: self.increase.map_or(other.increase, |one| Some(one + other.increase.unwrap_or(0))),
            rates: both(self.rates, other.rates),
            gauge: both(self.gauge, other.gauge),
            count: self.count + other.count,
            once: None,
        }
    }
}

type Buckets = BTreeMap<(String, i64), Bucket>;

fn add(buckets: &mut Buckets, key: (String, i64), bucket: Bucket) {
    let both = match buckets.remove(&key) {
        None => bucket,
        Some(before) => before.and(bucket),
    };
    buckets.insert(key, both);
}

/// The buckets of rows in the order in which they were recorded, worked out the slow way.
fn expected(rows: &[Given], tier: Tier) -> Buckets {
    let mut buckets = Buckets::new();
    for series in 0..SERIES {
        let own: Vec<Given> = rows.iter().copied().filter(|row| row.series == series).collect();
        let mut before: Option<(i64, i64)> = None;
        let mut seen: Option<i64> = None;
        for run in own.chunk_by(|one, next| tier.bucket(one.time) == tier.bucket(next.time)) {
            let (mut increase, mut rates) = (None, Vec::new());
            let mut elapsed_us = 0;
            for row in run {
                elapsed_us += seen.map_or(0, |seen| (row.time - seen).max(0));
                seen = Some(row.time);
            }
            for (time, value) in run.iter().filter_map(|row| Some((row.time, row.counter?))) {
                if let Some((time_before, value_before)) = before {
                    let step = if value >= value_before { value - value_before } else { value.max(0) };
                    increase = Some(increase.unwrap_or(0) + step);
                    if time > time_before {
                        rates.push(step as f64 / ((time - time_before) as f64 / 1e6));
                    }
                }
                before = Some((time, value));
            }
            let counters: Vec<i64> = run.iter().filter_map(|row| row.counter).collect();
            let gauges: Vec<f64> = run.iter().filter_map(|row| row.gauge).collect();
            let bounds = |values: &[f64]| {
                let (low, high) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
                Some((low.to_bits(), high.to_bits()))
            };
            // A minute's sum is that of its seconds.
            let sums = run.chunk_by(|one, next| Tier::Second.bucket(one.time) == Tier::Second.bucket(next.time));
            let sums = sums.filter_map(|second| second.iter().filter_map(|row| row.gauge).reduce(|sum, one| sum + one));
            let bucket = Bucket {
                ticks: i64::try_from(run.len()).unwrap(),
                elapsed_us,
                increase,
                rates: bounds(&rates),
                gauge: bounds(&gauges),
                count: i64::try_from(gauges.len()).unwrap(),
                once: Some([
                    counters.first().map(|value| value.cast_unsigned()),
                    counters.last().map(|value| value.cast_unsigned()),
                    gauges.first().map(|value| value.to_bits()),
                    gauges.last().map(|value| value.to_bits()),
                    sums.reduce(|sum, one| sum + one).map(f64::to_bits),
                ]),
            };
            add(&mut buckets, (format!("c{series}"), tier.bucket(run[0].time)), bucket);
        }
    }
    buckets
}

/// The columns that are compared. Reading one takes longer than all of its few values.
const READ: [&str; 15] = [
    "time",
    "cpu",
    "user_us_first",
    "user_us_last",
    "user_us_increase",
    "user_us_min_rate",
    "user_us_max_rate",
    "utilization_min",
    "utilization_max",
    "utilization_sum",
    "utilization_count",
    "utilization_first",
    "utilization_last",
    "ticks",
    "elapsed_us",
];

/// The buckets that a view has, in files and in memory.
fn found(view: &View, tier: Tier) -> Buckets {
    let table = &view.tables[FamilyId::of::<Cpu>()];
    let id = TableId::of_tier(table.family, tier).unwrap();
    let read: Vec<usize> = READ.iter().map(|name| id.table().column(name).unwrap().0).collect();
    let open = view.open_buckets(id, &read).unwrap();
    let mut batches: Vec<RecordBatch> = open.into_iter().map(|(_, batch, _)| batch).collect();
    for file in table.files_of(Some(tier)).iter() {
        let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file.path).unwrap()).unwrap();
        let read = ProjectionMask::columns(builder.parquet_schema(), READ);
        batches.extend(builder.with_projection(read).build().unwrap().map(Result::unwrap));
    }
    let mut buckets = Buckets::new();
    for batch in batches {
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let labels = cast(column("cpu"), &DataType::Utf8).unwrap();
        let times = column("time").as_primitive::<TimestampMicrosecondType>();
        for row in 0..batch.num_rows() {
            let integer = |name: &str| {
                let column = column(name).as_primitive::<Int64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            let bits = |name: &str| {
                let column = column(name).as_primitive::<Float64Type>();
                column.is_valid(row).then(|| column.value(row).to_bits())
            };
            let bucket = Bucket {
                ticks: integer("ticks").unwrap(),
                elapsed_us: integer("elapsed_us").unwrap(),
                increase: integer("user_us_increase"),
                rates: bits("user_us_min_rate").zip(bits("user_us_max_rate")),
                gauge: bits("utilization_min").zip(bits("utilization_max")),
                count: integer("utilization_count").unwrap(),
                once: Some([
                    integer("user_us_first").map(i64::cast_unsigned),
                    integer("user_us_last").map(i64::cast_unsigned),
                    bits("utilization_first"),
                    bits("utilization_last"),
                    bits("utilization_sum"),
                ]),
            };
            add(&mut buckets, (labels.as_string::<i32>().value(row).to_owned(), times.value(row)), bucket);
        }
    }
    buckets
}

/// Rows of a host whose clock is set now and then.
struct Course {
    draw: Rng,
    time: i64,
    values: HashMap<u64, i64>,
    rows: Vec<Given>,
    labels: Labels,
}

impl Course {
    /// The next rows, in the order in which they are recorded.
    fn batch(&mut self) -> Append {
        let mut records = Vec::new();
        for _ in 0..=self.draw.u64(0..30) {
            self.time += match self.draw.u64(0..200) {
                0 => self.draw.i64(1_000_000..4_000_000_000),
                1 => -self.draw.i64(1..200_000_000),
                2..10 => self.draw.i64(100_000..20_000_000),
                _ => self.draw.i64(1..90_000),
            };
            for series in 0..SERIES {
                // Some are away for a while.
                if self.draw.u64(0..10) == 0 {
                    continue;
                }
                let value = self.values.entry(series).or_insert(1_000);
                *value = match self.draw.u64(0..50) {
                    0 => self.draw.i64(0..1_000),
                    1..20 => *value,
                    _ => *value + self.draw.i64(0..100_000),
                };
                let counter = (self.draw.u64(0..20) > 0).then_some(*value);
                let gauge = (self.draw.u64(0..20) > 0).then(|| self.draw.i64(0..1_000_000) as f64 / 999_983.0);
                self.rows.push(Given { series, time: self.time, counter, gauge });
                records.push(Cpu {
                    cpu: self.labels.intern(&format!("c{series}")),
                    user_us: counter.unwrap_or(ABSENT),
                    utilization: gauge.unwrap_or(f64::NAN),
                    ..Cpu::absent(self.time)
                });
            }
        }
        Append { family: FamilyId::of::<Cpu>(), batch: to_batch(&[&records], &self.labels, &Cpu::TABLE.schema()) }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}: expected a number")))
}

#[test]
fn tiers_have_what_the_rows_have_to_the_bit() {
    let first = number("KYMO_TIERS_SEED", u64::from(std::process::id()) << 32);
    for seed in first..first + number("KYMO_TIERS", COURSES) {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let mut course = Course {
            draw: Rng::with_seed(seed),
            time: START_US,
            values: HashMap::new(),
            rows: Vec::new(),
            labels: Labels::default(),
        };
        let mut running = open(data);
        for turn in 0..TURNS {
            match course.draw.u64(0..11) {
                0..6 => {
                    let append = course.batch();
                    if append.batch.num_rows() > 0 {
                        running.append_all(vec![append]);
                    }
                }
                6 | 7 => _ = running.store.flush_by_interval().unwrap(),
                8 => _ = running.store.flush().unwrap(),
                9 => {
                    let latest = course.rows.iter().map(|row| row.time).max().unwrap_or(START_US);
                    running.store.retain(latest);
                    running.store.compact(latest + 7_200_000_000, Duration::ZERO, &AtomicBool::new(false)).unwrap();
                }
                // As a kill leaves it: the rows are in the journal.
                10 => {
                    running.close();
                    running = open(data);
                }
                _ => {}
            }
            // This reads every value of every file twice.
            if turn + 1 == TURNS || course.draw.u64(0..32) == 0 {
                let report = verify(data).unwrap();
                assert_eq!(report.wrong, [], "seed {seed}, turn {turn}");
            }
            // Comparing takes longer than all else. What is wrong once stays wrong.
            if turn + 1 < TURNS && course.draw.u64(0..8) > 0 {
                continue;
            }
            for tier in Tier::ALL {
                let (found, expected) = (found(&running.store.view(), tier), expected(&course.rows, tier));
                let differing =
                    expected.iter().find(|(key, bucket)| !found.get(*key).is_some_and(|told| told.is(bucket)));
                if let Some((key, bucket)) = differing {
                    panic!("seed {seed}, turn {turn}, {tier:?}: {key:?} is {:?}, not {bucket:?}", found.get(key));
                }
                assert_eq!(found.len(), expected.len(), "seed {seed}, turn {turn}: buckets without rows");
            }
        }
        running.close();
    }
}
