//! Queries over one table of 1,000,000 rows in files and 50,000 in memory, as the store keeps them.
//!
//! Shows what a client waits for: planning, a count that needs only metadata, a window of the last seconds, an
//! aggregate over everything, and the rate of each series.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use criterion::{Criterion, criterion_group, criterion_main};
use futures::TryStreamExt;
use kymo::batch::columns::columns;
use kymo::family::FamilyId;
use kymo::query::{Engine, QuerySettings};
use kymo::record::Record;
use kymo::record::label::Labels;
use kymo::sampler::report::Collector;
use kymo::store::{Append, Store, StoreSettings};

/// The program's, which decides much of a short query's time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const FILES: i64 = 10;
const ROWS_A_FILE: i64 = 100_000;
const HOT_ROWS: i64 = 50_000;
/// Rows drained at once.
const ROWS_A_BATCH: i64 = 10_000;
const SERIES: [&str; 4] = ["eth0", "eth1", "lo", "wlan0"];
/// One row a millisecond, so that the table begins here: 2024-01-01.
const START_US: i64 = 1_704_067_200_000_000;

const QUERIES: [(&str, &str); 7] = [
    ("nothing", "SELECT 1"),
    ("count", "SELECT count(*) FROM collector"),
    ("window", "SELECT max(ticks) FROM collector WHERE time > '2024-01-01T00:17:25Z'"),
    ("newest", "SELECT * FROM collector ORDER BY time DESC LIMIT 10"),
    ("sum", "SELECT sum(ticks), avg(read_us) FROM collector"),
    ("group", "SELECT collector, avg(ticks) FROM collector GROUP BY collector"),
    ("rate", "SELECT collector, rate(ticks, time) FROM collector GROUP BY collector"),
];

fn batch(labels: &Labels, first: i64) -> Result<RecordBatch, Box<dyn Error>> {
    let rows: Vec<Collector> = (first..first + ROWS_A_BATCH)
        .zip(SERIES.iter().cycle())
        .map(|(row, series)| Collector {
            collector: labels.intern(series),
            ticks: row * 1_500,
            read_us: row % 997,
            ..Collector::absent(START_US + 1_000 * row)
        })
        .collect();
    Ok(RecordBatch::try_new(Collector::TABLE.schema(), columns(&[&rows], &labels.dictionary()))?)
}

fn filled(path: &std::path::Path) -> Result<Arc<Store>, Box<dyn Error>> {
    let (store, mut appender, _) = Store::open(StoreSettings::unlimited(path, "bench"))?;
    let labels = Labels::default();
    let family = FamilyId::of::<Collector>();
    let rows = FILES * ROWS_A_FILE + HOT_ROWS;
    for first in (0..rows).step_by(usize::try_from(ROWS_A_BATCH)?) {
        if first > 0 && first % ROWS_A_FILE == 0 && first <= FILES * ROWS_A_FILE {
            store.flush()?;
        }
        let batch = batch(&labels, first)?;
        appender.append(vec![Append { family, batch }]);
    }
    Ok(store)
}

fn run(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = filled(folder.path())?;
    let engine = Engine::new(Arc::new(move || store.view()), QuerySettings::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let rows = |sql: &'static str| {
        let batches: Result<Vec<RecordBatch>, _> =
            runtime.block_on(async { engine.execute(sql).await?.try_collect().await });
        batches.map(|batches| batches.iter().map(RecordBatch::num_rows).sum::<usize>())
    };
    for (name, sql) in QUERIES {
        // A failed query would look fast.
        let expected = rows(sql)?;
        criterion.bench_function(&format!("query: {name}"), |bencher| {
            bencher.iter(|| assert_eq!(rows(sql).ok(), Some(expected)));
        });
    }
    Ok(())
}

fn bench(criterion: &mut Criterion) {
    if let Err(error) = run(criterion) {
        eprintln!("the bench of queries could not run: {error}");
        std::process::exit(1);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = bench
}
criterion_main!(benches);
