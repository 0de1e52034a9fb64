//! A month on disk: how long a start takes, what compaction and retention leave, and how many files a query opens.
//!
//! All families record for 30 days at a reduced rate, with two files an hour for each table. Prints `month: start …`
//! with its limit, before and after compaction, and the number of files. The files were just written, so they are in
//! the page cache. Nothing is synced while they are made.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot measure ends")]

use std::hint::black_box;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::Int32Type;
use criterion::{Criterion, criterion_group, criterion_main};
use futures::TryStreamExt;
use kymo::family::FamilyId;
use kymo::query::{Engine, QuerySettings};
use kymo::record::{TIME_ZONE, Table, Type};
use kymo::store::disk::{Disk, DiskFile, LocalDisk};
use kymo::store::{Append, Appender, Store, StoreSettings};

const DAYS: i64 = 30;
const DAY_US: i64 = 86_400_000_000;
/// A whole day: 2026-10-01.
const START_US: i64 = 1_790_812_800_000_000;
const FLUSHES_A_DAY: i64 = 48;
const HOUR: Duration = Duration::from_secs(3600);
/// A row a minute.
const ROWS: i64 = 1_440 / FLUSHES_A_DAY;
const FILES_MIN: u64 = 20_000;
const START_MAX: Duration = Duration::from_secs(3);
/// The retention that is applied at the end.
const KEPT_DAYS: u32 = 7;

/// A disk that never syncs, so that making the month does not take long.
#[derive(Debug)]
struct Unsynced;

#[derive(Debug)]
struct UnsyncedFile(Arc<dyn DiskFile>);

impl DiskFile for UnsyncedFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Unsynced {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(UnsyncedFile(LocalDisk.create(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove(path)
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        LocalDisk.cut(path, len)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_folder(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove_folder(path)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Rows of any table, a minute apart.
fn rows(table: &Table, from_us: i64) -> RecordBatch {
    let times = || (0..ROWS).map(|row| from_us + row * 60_000_000);
    let columns = table.columns.iter().map(|column| -> ArrayRef {
        match column.ty {
            Type::Timestamp => Arc::new(TimestampMicrosecondArray::from_iter_values(times()).with_timezone(TIME_ZONE)),
            Type::Text => Arc::new((0..ROWS).map(|_| Some("one")).collect::<DictionaryArray<Int32Type>>()),
            Type::Int64 => Arc::new(Int64Array::from_iter_values(times().map(|time| time / 1_000))),
            Type::Float64 => Arc::new(Float64Array::from_iter_values(times().map(|time| (time % 997) as f64))),
        }
    });
    RecordBatch::try_new(table.schema(), columns.collect()).expect("rows as the table has them")
}

fn open(settings: &StoreSettings) -> (Arc<Store>, Appender, Duration) {
    let begun = Instant::now();
    let (store, appender, _) = Store::open_on(Arc::new(Unsynced), settings.clone()).expect("open the store");
    (store, appender, begun.elapsed())
}

fn record(settings: &StoreSettings) {
    let (store, mut appender, _) = open(settings);
    for flush in 0..DAYS * FLUSHES_A_DAY {
        let from_us = START_US + flush * (DAY_US / FLUSHES_A_DAY);
        let append = |family: FamilyId| Append { family, batch: rows(family.table, from_us) };
        appender.append(FamilyId::all().map(append).collect());
        store.flush().expect("flush");
    }
}

fn told_start(settings: &StoreSettings, when: &str) -> Arc<Store> {
    let mut took: Vec<Duration> = (0..5).map(|_| open(settings).2).collect();
    took.sort_unstable();
    let (store, _, _) = open(settings);
    let files = store.stats().lake_files;
    let kept = if took[2] <= START_MAX { "kept" } else { "exceeded" };
    println!("month: start {when} with {files} files = {:.2?}, limit {START_MAX:.2?} {kept}", took[2]);
    store
}

/// The number of files that the plan of a query over the last five minutes names. It opens no others.
fn opened(store: Arc<Store>) -> usize {
    let newest_us = START_US + DAYS * DAY_US;
    let engine = Engine::new(Arc::new(move || store.view()), QuerySettings::default()).expect("an engine");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let from_us = newest_us - 300_000_000;
    let sql =
        format!("EXPLAIN ANALYZE SELECT avg(used_bytes) FROM memory WHERE time >= to_timestamp_micros({from_us})");
    let batches: Result<Vec<RecordBatch>, _> =
        runtime.block_on(async { engine.execute(sql.as_str()).await.expect("a plan").try_collect().await });
    let plan = arrow::util::pretty::pretty_format_batches(&batches.expect("rows")).expect("text").to_string();
    assert!(plan.contains("output_rows=1"), "{plan}");
    plan.matches(".parquet").count()
}

fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings =
        StoreSettings { compaction_interval: Some(HOUR), ..StoreSettings::unlimited(folder.path(), "bench") };
    record(&settings);
    let store = told_start(&settings, "before compaction");
    let before = store.stats().lake_files;
    assert!(before >= FILES_MIN, "{before}");
    let end_us = START_US + DAYS * DAY_US;
    let begun = Instant::now();
    let compacted = store.compact(end_us + DAY_US, Duration::ZERO, &AtomicBool::new(false)).expect("compact");
    println!("month: {} files became {} in {:.1?}", compacted.from, compacted.files, begun.elapsed());
    drop(store);
    let store = told_start(&settings, "after compaction");
    let left = store.stats().lake_files;
    // Some files of tiers are the only ones of their day.
    assert_eq!(left, before - compacted.from as u64 + compacted.files as u64);
    println!("month: a query for the last five minutes opens {} of {left} files", opened(store));
    let settings = StoreSettings { retention_age_max: Some(HOUR * 24 * KEPT_DAYS), ..settings };
    let (store, _, _) = open(&settings);
    let begun = Instant::now();
    let gone = store.retain(end_us);
    // Tiers are kept for longer.
    let view = store.view();
    let left: usize = FamilyId::all().map(|family| view.tables[family].files.len()).sum();
    println!("month: retention of {KEPT_DAYS} days deleted {gone} files in {:.1?}, {left} are left", begun.elapsed());
    assert_eq!(left as u64, FamilyId::all().len() as u64 * 24 * u64::from(KEPT_DAYS));
    drop((view, store));
    criterion.bench_function("month: start with a week", |bencher| bencher.iter(|| black_box(open(&settings))));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = bench
}
criterion_main!(benches);
