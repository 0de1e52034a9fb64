//! What the journal costs: recovery beside a plain read and checksum of its bytes, and a drain's append beside a plain
//! write of as many bytes.
//!
//! Prints `journal: recovery ÷ read and checksum` with its limit, and `journal: append ÷ write`. Both are medians of
//! rounds that take turns. The journal holds a minute of drains. Each has as many rows as a drain of the default
//! configuration on a host with four interfaces. Recovery is all of [`Store::open`], including the views of what it
//! recovered. The files are in the page cache for both sides. An append hands its buffer to a thread and waits, so it
//! has two thread switches that the plain write does not have.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot measure ends")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use criterion::{Criterion, criterion_group, criterion_main};
use kymo::batch::to_batch;
use kymo::family::FamilyId;
use kymo::record::Record;
use kymo::record::label::Labels;
use kymo::sampler::report::{Collector, Gap};
use kymo::store::{Append, Store, StoreSettings};

/// Drains of a minute, every 200 ms.
const DRAINS: i64 = 300;
/// Rows of a drain in each of two tables.
const ROWS: i64 = 500;
const RATIO_MAX: f64 = 3.0;
const ROUNDS: usize = 21;

/// The rows of a drain.
fn appends(labels: &[Labels; 2], drain: i64) -> Vec<Append> {
    let time = |row: i64| 1_790_000_000_000_000 + (drain * ROWS + row) * 1_000;
    let name = |row: i64| ["burst", "system", "kernel", "slow"][usize::try_from(row).unwrap_or(0) % 4];
    let collectors: Vec<Collector> = (0..ROWS)
        .map(|row| Collector {
            collector: labels[0].intern(name(row)),
            ticks: drain + row,
            ..Collector::absent(time(row))
        })
        .collect();
    let gaps: Vec<Gap> = (0..ROWS)
        .map(|row| Gap { collector: labels[1].intern(name(row)), lost: row, ..Gap::absent(time(row)) })
        .collect();
    let append = |family, batch: RecordBatch| Append { family, batch };
    vec![
        append(FamilyId::of::<Collector>(), to_batch(&[&collectors], &labels[0], &Collector::TABLE.schema())),
        append(FamilyId::of::<Gap>(), to_batch(&[&gaps], &labels[1], &Gap::TABLE.schema())),
    ]
}

/// The time it takes to append a minute of drains one by one.
fn fill(folder: &Path) -> Vec<Duration> {
    let (store, mut appender, _) = Store::open(StoreSettings::unlimited(folder, "bench")).expect("open the store");
    let (writes, _) = store.start_journal();
    let writer = thread::spawn(writes);
    let labels = [Labels::default(), Labels::default()];
    let took = (0..DRAINS).map(|drain| {
        let appends = appends(&labels, drain);
        timed(|| appender.append(appends))
    });
    let took = took.collect();
    store.stop_journal();
    writer.join().expect("the journal's thread");
    took
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder.join("journal")).expect("list the journal");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// Reads and checksums all segments. Returns their size in bytes.
fn read(folder: &Path) -> usize {
    let bytes = segments(folder).into_iter().map(|path| {
        let bytes = fs::read(path).expect("read a segment");
        black_box(crc32c::crc32c(&bytes));
        bytes.len()
    });
    bytes.sum()
}

fn recover(folder: &Path) -> u64 {
    let (store, _, opened) = Store::open(StoreSettings::unlimited(folder, "bench")).expect("open the store");
    black_box(store.view());
    opened.recovery.rows
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn beside_plain(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let appended = median(fill(folder.path()));
    let bytes = read(folder.path());
    assert_eq!(recover(folder.path()), u64::try_from(2 * ROWS * DRAINS).expect("a number of rows"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(timed(|| _ = black_box(recover(folder.path()))));
        theirs.push(timed(|| _ = black_box(read(folder.path()))));
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let kept = if ratio <= RATIO_MAX { "kept" } else { "exceeded" };
    println!(
        "journal: recovery ÷ read and checksum = {ratio:.2} ({ours:.1?}, {theirs:.1?}, {:.1} MB), limit {RATIO_MAX:.2} {kept}",
        bytes as f64 / 1e6
    );
    let part = vec![7; bytes / usize::try_from(DRAINS).expect("a number of drains")];
    let mut file = File::create(folder.path().join("plain")).expect("create a file");
    let written = median((0..DRAINS).map(|_| timed(|| file.write_all(&part).expect("write"))).collect());
    println!(
        "journal: append ÷ write = {:.1} ({appended:.1?}, {written:.1?}, {:.1} kB a drain; merging rows in memory included)",
        appended.as_secs_f64() / written.as_secs_f64(),
        part.len() as f64 / 1e3
    );
    let mut group = criterion.benchmark_group("journal");
    group.sample_size(10);
    group.bench_function("recovery", |bencher| bencher.iter(|| recover(folder.path())));
    group.bench_function("read-and-checksum", |bencher| bencher.iter(|| read(folder.path())));
    group.finish();
}

criterion_group!(benches, beside_plain);
criterion_main!(benches);
