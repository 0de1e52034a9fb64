//! The tiers have what the rows have, to the bit: over flushes, kills, compaction, clocks that are set, counters that begin anew,
//! and after the rows themselves have expired.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use fastrand::Rng;
use futures::TryStreamExt;
use kymo::batch::to_batch;
use kymo::family::FamilyId;
use kymo::family::cpu::Cpu;
use kymo::family::tables::TableId;
use kymo::query::{Engine, QuerySettings};
use kymo::record::label::Labels;
use kymo::record::tier::Tier;
use kymo::record::{ABSENT, Record};
use kymo::store::disk::LocalDisk;
use kymo::store::verify::verify;
use kymo::store::{Append, StoreSettings, View};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::rows::{Running, settings};

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

fn open(data: &Path) -> Running {
    let settings = StoreSettings { retention_age_max: Some(Duration::from_secs(600)), ..settings(data) };
    let running = Running::open(Arc::new(LocalDisk), settings);
    running.store.set_source(FamilyId::of::<Cpu>(), "burst", Duration::from_millis(1));
    running
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

/// The ways in which a tier may not match its rows.
#[test]
fn verify_finds_a_tier_that_does_not_match_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let running = open(&data);
    let labels = Labels::default();
    let rows: Vec<Cpu> = (0..20_000)
        .map(|tick| Cpu { cpu: labels.intern("c0"), user_us: tick * 7, ..Cpu::absent(START_US + tick * 10_000) })
        .collect();
    let batch = to_batch(&[&rows], &labels, &Cpu::TABLE.schema());
    running.append_all(vec![Append { family: FamilyId::of::<Cpu>(), batch }]);
    running.store.flush().unwrap();
    let view = running.store.view();
    running.close();
    assert_eq!(verify(&data).unwrap().wrong, []);
    for tier in Tier::ALL {
        let file = &view.tables[FamilyId::of::<Cpu>()].files_of(Some(tier))[0];
        let whole = std::fs::read(&file.path).unwrap();
        // The same file, but for one value of one row.
        let opened = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file.path).unwrap()).unwrap();
        let properties = opened.metadata().file_metadata().key_value_metadata().cloned();
        let batch = opened.build().unwrap().next().unwrap().unwrap();
        let changed = change(&batch, "user_us_increase");
        let properties = parquet::file::properties::WriterProperties::builder().set_key_value_metadata(properties);
        let to = std::fs::File::create(&file.path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(to, changed.schema(), Some(properties.build())).unwrap();
        writer.write(&changed).unwrap();
        writer.close().unwrap();
        let wrong = verify(&data).unwrap().wrong;
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(
            wrong[0].0 == file.path && wrong[0].1.contains("user_us_increase is not that of its rows"),
            "{wrong:?}"
        );
        std::fs::write(&file.path, whole).unwrap();
    }
    assert_eq!(verify(&data).unwrap().wrong, []);
}

/// An older kymo made tiers without `elapsed_us`, and those of processes without what tells them apart. They stay as they are, are not
/// called wrong, and `downsample` takes rows in their place.
#[test]
fn tiers_of_an_older_layout_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let family = FamilyId::of::<Cpu>();
    let running = open(&data);
    running.append_all(steady(0..10_000));
    running.store.flush().unwrap();
    let before = running.store.view();
    let older: Vec<_> =
        Tier::ALL.into_iter().flat_map(|tier| before.tables[family].files_of(Some(tier)).to_vec()).collect();
    running.close();
    for file in &older {
        without(&file.path, "elapsed_us");
    }
    // The file of the open buckets was of that layout, too.
    std::fs::write(data.join("TIERS"), "kymo tiers 1\n").unwrap();
    let running = open(&data);
    assert_eq!(running.opened.scan.older, BTreeMap::from([("cpu_1m", 1), ("cpu_1s", 1)]));
    running.append_all(steady(10_000..30_000));
    running.store.flush().unwrap();
    running.store.compact(START_US + 86_400_000_000 * 3, Duration::ZERO, &AtomicBool::new(false)).unwrap();
    assert!(older.iter().all(|file| file.path.exists()), "merged with rows that have all columns");
    for window in [(0, 300), (17, 290)] {
        assert_is_whole(&running, window, 4, "1m");
    }
    running.close();
    let report = verify(&data).unwrap();
    assert_eq!(report.wrong, []);
    let told = report.notes.iter().filter(|(_, what)| what.contains("of an older layout")).map(|(path, _)| path);
    assert_eq!(told.collect::<Vec<_>>(), older.iter().map(|file| &file.path).collect::<Vec<_>>());
}

/// Rows every 10 ms, whose counter grows by [`RATE`].
fn steady(ticks: std::ops::Range<i64>) -> Vec<Append> {
    let labels = Labels::default();
    let row = |tick: i64| Cpu {
        cpu: labels.intern("c0"),
        user_us: tick * 7,
        utilization: 0.5,
        ..Cpu::absent(START_US + tick * 10_000)
    };
    let rows: Vec<Cpu> = ticks.map(row).collect();
    vec![Append { family: FamilyId::of::<Cpu>(), batch: to_batch(&[&rows], &labels, &Cpu::TABLE.schema()) }]
}

/// A second.
const RATE: f64 = 700.0;

/// Asserts that `downsample` misses no row of a window, in seconds, and that each bucket has the rate. It takes some of them from
/// `tier`.
#[track_caller]
fn assert_is_whole(running: &Running, window: (i64, i64), buckets: i64, tier: &str) {
    let [from, to] = [window.0, window.1].map(|second| START_US + second * 1_000_000);
    let window_of = format!("to_timestamp_micros({from}), to_timestamp_micros({to}), {buckets}");
    let told = downsampled(running, "user_us", &window_of);
    assert!(told.iter().any(|(of, ..)| of == tier), "{told:?}");
    assert!(told.iter().all(|(_, mean, _)| (mean - RATE).abs() < 1e-6), "{told:?}");
    let rows: i64 = downsampled(running, "utilization", &window_of).iter().map(|(.., count)| count).sum();
    // The row before the window is told, too.
    let expected = (window.1 - window.0) * 100;
    assert!((expected..=expected + 1).contains(&rows), "{rows} of {expected} rows, {told:?}");
}

/// The tier, the mean and the count of each bucket of a column.
fn downsampled(running: &Running, column: &str, window: &str) -> Vec<(String, f64, i64)> {
    let views = Arc::clone(&running.store);
    let engine = Engine::new(Arc::new(move || views.view()), QuerySettings::default()).unwrap();
    let sql = format!("SELECT tier, mean, count FROM downsample('cpu', '{column}', {window}) ORDER BY time");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let found: Vec<RecordBatch> = runtime.block_on(async { engine.execute(&*sql).await?.try_collect().await }).unwrap();
    let rows = found.iter().flat_map(|batch| {
        let (tiers, means) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Float64Type>());
        let counts = batch.column(2).as_primitive::<Int64Type>();
        (0..batch.num_rows()).map(|row| (tiers.value(row).to_owned(), means.value(row), counts.value(row)))
    });
    rows.collect()
}

/// Without TIERS, or with one of another time, the buckets that it had are in no file: rows tell that time.
#[test]
fn a_lost_file_of_open_buckets_leaves_no_hole() {
    for (how, waits) in [("deleted", true), ("damaged", false), ("older", true), ("older", false)] {
        let folder = tempfile::tempdir().unwrap();
        let (data, file) = (folder.path().join("data"), folder.path().join("data/TIERS"));
        let running = open(&data);
        running.append_all(steady(0..7_010));
        if waits { running.store.flush_by_interval() } else { running.store.flush() }.unwrap();
        let older = std::fs::read(&file).unwrap();
        running.append_all(steady(7_010..12_020));
        running.store.flush_by_interval().unwrap();
        // Only the journal has these.
        running.append_all(steady(12_020..12_130));
        running.close();
        match how {
            "deleted" => std::fs::remove_file(&file).unwrap(),
            "damaged" => std::fs::write(&file, "damaged").unwrap(),
            _ => std::fs::write(&file, older).unwrap(),
        }
        let running = open(&data);
        running.append_all(steady(12_130..30_000));
        assert_is_whole(&running, (17, 290), 273, "1s");
        running.store.flush().unwrap();
        assert_is_whole(&running, (0, 300), 4, "1m");
        running.close();
        assert_eq!(verify(&data).unwrap().wrong, [], "{how}, {waits}");
    }
}

/// A folder may have recordings of several hosts. Their files are of no flush of this one.
#[test]
fn a_start_leaves_tiers_of_other_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let [own, other] = ["own", "other"].map(|name| folder.path().join(name));
    let running = open(&own);
    running.append_all(steady(0..100));
    running.store.flush().unwrap();
    running.close();
    let running = open(&other);
    for ticks in [0..10_010, 10_010..20_050, 20_050..30_000] {
        running.append_all(steady(ticks));
        running.store.flush().unwrap();
    }
    running.close();
    let mut copied = Vec::new();
    for table in ["cpu_1s", "cpu_1m"] {
        for day in std::fs::read_dir(other.join("lake").join(table).join("host=test")).unwrap().map(Result::unwrap) {
            let there = own.join("lake").join(table).join("host=other").join(day.file_name());
            std::fs::create_dir_all(&there).unwrap();
            for file in std::fs::read_dir(day.path()).unwrap().map(Result::unwrap) {
                let path = there.join(file.file_name());
                std::fs::copy(file.path(), &path).unwrap();
                copied.push(path);
            }
        }
    }
    assert!(copied.len() >= 4, "{copied:?}");
    open(&own).close();
    assert_eq!(copied.iter().filter(|path| !path.exists()).collect::<Vec<_>>(), Vec::<&std::path::PathBuf>::new());
}

/// A folder that a newer, an older and again a newer kymo recorded in.
#[test]
fn tiers_of_an_older_layout_may_stand_between_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let family = FamilyId::of::<Cpu>();
    let mut files: Vec<std::path::PathBuf> = Vec::new();
    for (turn, ticks) in [0..10_010, 10_010..20_050, 20_050..30_000].into_iter().enumerate() {
        let running = open(&data);
        running.append_all(steady(ticks));
        running.store.flush().unwrap();
        let view = running.store.view();
        let all = Tier::ALL.into_iter().flat_map(|tier| view.tables[family].files_of(Some(tier)).to_vec());
        let new: Vec<_> = all.map(|file| file.path.clone()).filter(|path| !files.contains(path)).collect();
        running.close();
        if turn == 1 {
            new.iter().for_each(|path| without(path, "elapsed_us"));
        }
        // None of them knows the other's.
        if turn < 2 {
            std::fs::write(data.join("TIERS"), "kymo tiers 1\n").unwrap();
        }
        files.extend(new);
    }
    assert_eq!(verify(&data).unwrap().wrong, []);
    let running = open(&data);
    assert_is_whole(&running, (0, 300), 4, "1m");
    assert_is_whole(&running, (17, 290), 273, "1s");
    running.close();
}

/// A collector that is retuned to less than the rows that seconds are made of, and back.
#[test]
fn a_time_without_seconds_is_told_from_rows() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let running = open(&data);
    let retune = |interval_ms: u64| {
        running.store.set_source(FamilyId::of::<Cpu>(), "burst", Duration::from_millis(interval_ms));
    };
    for (ticks, interval_ms) in [(0..7_010, 1_000), (7_010..12_020, 1), (12_020..13_000, 1_000), (13_000..13_050, 1)] {
        running.append_all(steady(ticks));
        running.store.flush_by_interval().unwrap();
        retune(interval_ms);
    }
    running.append_all(steady(13_050..30_000));
    assert_is_whole(&running, (0, 300), 300, "1s");
    running.store.flush().unwrap();
    assert_is_whole(&running, (17, 290), 273, "1s");
    running.close();
    assert_eq!(verify(&data).unwrap().wrong, []);
}

/// Files of rows and tiers from before a column are not wrong.
#[test]
fn verify_compares_the_columns_that_a_tier_has() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let running = open(&data);
    running.append_all(steady(0..30_000));
    running.store.flush().unwrap();
    let view = running.store.view();
    running.close();
    for (_, files) in view.tables[FamilyId::of::<Cpu>()].all_files() {
        for end in ["", "_min", "_max", "_sum", "_count", "_first", "_last"] {
            files.iter().for_each(|file| without(&file.path, &format!("utilization{end}")));
        }
    }
    assert_eq!(verify(&data).unwrap().wrong, []);
}

/// Writes a file anew without a column.
fn without(path: &Path, name: &str) {
    let opened = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    let metadata = opened.metadata().file_metadata().key_value_metadata().cloned();
    let batches: Vec<RecordBatch> = opened.build().unwrap().map(Result::unwrap).collect();
    let kept: Vec<usize> =
        (0..batches[0].num_columns()).filter(|at| batches[0].schema().field(*at).name() != name).collect();
    let properties = parquet::file::properties::WriterProperties::builder().set_key_value_metadata(metadata).build();
    let schema = Arc::new(batches[0].schema().project(&kept).unwrap());
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(std::fs::File::create(path).unwrap(), schema, Some(properties)).unwrap();
    batches.iter().for_each(|batch| writer.write(&batch.project(&kept).unwrap()).unwrap());
    writer.close().unwrap();
}

/// The batch with another value in the second row of a column.
fn change(batch: &RecordBatch, name: &str) -> RecordBatch {
    let (at, _) = batch.schema().column_with_name(name).map(|(at, field)| (at, field.clone())).unwrap();
    let values = batch.column(at).as_primitive::<Int64Type>();
    let values =
        values.iter().enumerate().map(|(row, value)| if row == 1 { value.map(|value| value + 1) } else { value });
    let mut columns = batch.columns().to_vec();
    columns[at] = Arc::new(values.collect::<arrow::array::Int64Array>());
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}
