//! Files of tiers that are damaged, lost, or of another layout: what `verify` says of them, and that `downsample` then takes rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use futures::TryStreamExt;
use kymo::batch::to_batch;
use kymo::family::FamilyId;
use kymo::family::cpu::Cpu;
use kymo::query::{Engine, QuerySettings};
use kymo::record::Record;
use kymo::record::label::Labels;
use kymo::record::tier::Tier;
use kymo::store::disk::LocalDisk;
use kymo::store::verify::verify;
use kymo::store::{Append, StoreSettings};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::rows::{Running, settings};

/// 2026-11-25.
const START_US: i64 = 1_795_564_800_000_000;

/// A store whose rows expire after ten minutes, of a table with seconds.
pub fn open(data: &Path) -> Running {
    let settings = StoreSettings { retention_age_max: Some(Duration::from_secs(600)), ..settings(data) };
    let running = Running::open(Arc::new(LocalDisk), settings);
    running.store.set_source(FamilyId::of::<Cpu>(), "burst", Duration::from_millis(1));
    running
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
        let report = verify(&data).unwrap();
        assert_eq!(report.wrong, [], "{how}, {waits}");
        let begins = |(_, note): &&(std::path::PathBuf, String)| {
            note.contains("cpu_1s begins anew before it, without the buckets")
        };
        // If buckets waited, no file was before these.
        assert_eq!(
            report.notes.iter().filter(begins).count(),
            usize::from(!waits),
            "{how}, {waits}: {:?}",
            report.notes
        );
    }
}

/// The clock was set back, so that the buckets that TIERS had are of a time of which files have others.
#[test]
fn a_lost_file_of_late_buckets_leaves_no_hole() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let running = open(&data);
    running.append_all(steady(0..7_010));
    running.store.flush().unwrap();
    running.append_all(steady(7_010..9_000));
    running.store.flush_by_interval().unwrap();
    running.append_all(steady(3_000..4_100));
    running.store.flush_by_interval().unwrap();
    running.close();
    std::fs::remove_file(data.join("TIERS")).unwrap();
    let running = open(&data);
    running.append_all(steady(9_000..30_000));
    for flushed in [false, true] {
        let rows = |(from, to): (i64, i64)| -> i64 {
            let [from, to] = [from, to].map(|second| START_US + second * 1_000_000);
            let window = format!("to_timestamp_micros({from}), to_timestamp_micros({to}), 30");
            downsampled(&running, "utilization", &window).iter().map(|(.., count)| count).sum()
        };
        assert_eq!(rows((0, 300)), 31_100, "{flushed}");
        assert_eq!(rows((31, 61)), 3_000 + 1_000 + 1, "{flushed}");
        running.store.flush().unwrap();
    }
    running.close();
    assert_eq!(verify(&data).unwrap().wrong, []);
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
