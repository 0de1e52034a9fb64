//! Tests of the store as a whole.

use super::*;
use crate::batch::to_batch;
use crate::family::FamilyId;
use crate::record::Record;
use crate::record::label::Labels;
use crate::sampler::report::Gap;
use arrow::array::RecordBatch;
use hot::row_bytes;
use partition::SEQUENCE_MAX;
use rustix::fs::{CWD, FileType, Mode};
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tempfile::TempDir;

fn settings(path: &Path) -> StoreSettings {
    StoreSettings::unlimited(path, "test")
}

/// A new store, with these settings apart from its folder.
fn opened(of: StoreSettings) -> (TempDir, Arc<Store>, Appender) {
    let folder = tempfile::tempdir().unwrap();
    let (store, appender, _) = Store::open(StoreSettings { path: folder.path().into(), ..of }).unwrap();
    (folder, store, appender)
}

fn gaps(times: std::ops::Range<i64>) -> Append {
    let labels = Labels::default();
    let rows: Vec<Gap> =
        times.map(|time| Gap { collector: labels.intern("c"), lost: time, ..Gap::absent(time * 1_000_000) }).collect();
    let batch = to_batch(&[&rows], &labels, &Gap::TABLE.schema());
    Append { family: FamilyId::of::<Gap>(), batch }
}

/// The sequence numbers that a view shows of the table gap.
fn sequence(view: &View) -> Vec<u64> {
    let table = &view.tables[FamilyId::of::<Gap>()];
    let files = table.files.iter().flat_map(|file| file.first_seq..file.end_seq);
    files.chain(table.hot.iter().flat_map(|hot| hot.first_seq..hot.end_seq())).collect()
}

#[test]
fn every_view_shows_each_record_once_and_restarts_go_on() {
    let (folder, store, mut appender) = opened(settings("".as_ref()));
    for i in 0..100 {
        appender.append(vec![gaps(i * 3..i * 3 + 3)]);
        if i % 17 == 0 {
            store.flush().unwrap();
        }
        assert_eq!(sequence(&store.view()), (0..(u64::try_from(i).unwrap() + 1) * 3).collect::<Vec<_>>());
    }
    let stats = store.stats();
    assert!(stats.hot_rows > 0 && stats.lake_files == 6, "{stats:?}");
    store.flush().unwrap();
    drop((store, appender));

    let (store, mut appender, scan) = Store::open(settings(folder.path())).unwrap();
    assert!(scan.scan.foreign.is_empty() && scan.scan.temporaries.is_empty(), "{scan:?}");
    assert_eq!(sequence(&store.view()), (0..300).collect::<Vec<_>>());
    appender.append(vec![gaps(300..301)]);
    assert_eq!(sequence(&store.view()).last(), Some(&300));
    assert_eq!(sequence(&open_read_only(folder.path()).unwrap().0), (0..300).collect::<Vec<_>>());
}

#[test]
fn rows_wait_for_the_journal_until_the_appender_goes() {
    let (_folder, store, mut appender) = opened(settings("".as_ref()));
    // Its threads do not run, so nothing is written.
    let _threads = store.start_journal();
    appender.append(vec![gaps(0..3)]);
    assert!(appender.is_waiting() && sequence(&store.view()).is_empty());
    assert_eq!(store.flush().unwrap().rows, 0);
    drop(appender);
    assert_eq!(sequence(&store.view()), [0, 1, 2]);
    assert_eq!(store.flush().unwrap().rows, 3);
}

#[test]
fn full_memory_drops_the_oldest_rows_and_says_so() {
    let row = row_bytes(Gap::TABLE);
    let (_folder, store, mut appender) = opened(StoreSettings { hot_bytes_max: 10 * row, ..settings("".as_ref()) });
    appender.append(vec![gaps(0..8)]);
    assert_eq!(appender.take_losses(), []);
    appender.append(vec![gaps(8..12)]);
    let losses = appender.take_losses();
    assert_eq!(losses.len(), 1);
    assert_eq!((losses[0].rows, losses[0].time_range), (8, (0, 7_000_000)));
    assert_eq!(sequence(&store.view()), [8, 9, 10, 11]);
    assert_eq!((store.stats().lost_rows, store.stats().hot_bytes), (8, 4 * row));
}

#[test]
fn midnight_parts_a_flush_and_rows_are_sorted_within_a_day() {
    let (_folder, store, mut appender) = opened(settings("".as_ref()));
    appender.append(vec![gaps(86_395..86_405)]);
    appender.append(vec![gaps(86_400..86_403)]);
    let files = store.flush().unwrap().files;
    let days: Vec<_> = files.iter().map(|file| file.parent().unwrap().file_name().unwrap().to_owned()).collect();
    assert_eq!(days, ["date=1970-01-01", "date=1970-01-02"]);
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&files[1]).unwrap())
            .unwrap();
    assert_eq!(reader.schema().field(1).data_type(), &arrow::datatypes::DataType::Utf8);
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 8);
    assert!(batches.iter().flat_map(|batch| hot::times(batch).iter()).is_sorted());
}

#[test]
fn foreign_files_are_named_and_left_alone_and_half_written_ones_removed() {
    let (folder, store, mut appender) = opened(settings("".as_ref()));
    appender.append(vec![gaps(0..3)]);
    let file = store.flush().unwrap().files.remove(0);
    drop((store, appender));
    let broken = file.with_file_name(partition::file_name(0, 9, 10));
    let temporary = file.with_file_name(partition::temporary_name(&partition::file_name(0, 9, 10)));
    let stranger = file.with_file_name("notes.parquet");
    for path in [&broken, &temporary, &stranger] {
        std::fs::write(path, "not parquet").unwrap();
    }
    let (store, _, scan) = Store::open(settings(folder.path())).unwrap();
    assert_eq!(sequence(&store.view()), [0, 1, 2]);
    assert_eq!(scan.scan.foreign.len(), 2, "{scan:?}");
    assert!(broken.exists() && stranger.exists() && !temporary.exists());
}

#[test]
fn what_stands_in_the_place_of_files_and_hosts_is_foreign() {
    let (folder, store, mut appender) = opened(settings("".as_ref()));
    appender.append(vec![gaps(0..3)]);
    let file = store.flush().unwrap().files.remove(0);
    drop((store, appender));
    // Nobody writes to these.
    let fifo = file.with_file_name(partition::file_name(0, 9, 10));
    let segment = folder.path().join(JOURNAL).join(format!("{:020}.journal", 99));
    for path in [&fifo, &segment] {
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }
    let beta = folder.path().join(LAKE).join("gap/beta");
    std::fs::create_dir_all(beta.join("date=1970-01-01")).unwrap();
    std::fs::copy(&file, beta.join("date=1970-01-01").join(file.file_name().unwrap())).unwrap();

    let report = verify::verify(folder.path()).unwrap();
    let wrong: Vec<_> = report.wrong.iter().map(|(path, _)| path).collect();
    assert_eq!((wrong, report.rows), (vec![&segment, &fifo], 3), "{report:?}");
    assert!(report.wrong.iter().all(|(_, reason)| reason.contains("it is no regular file")), "{report:?}");
    assert!(report.notes.contains(&(beta.clone(), "not a host= folder".into())), "{report:?}");
    let (store, _, opened) = Store::open(settings(folder.path())).unwrap();
    assert_eq!(sequence(&store.view()), [0, 1, 2]);
    let foreign: Vec<_> = opened.scan.foreign.iter().map(|(path, _)| path).collect();
    assert_eq!(foreign, [&beta, &fifo]);
    assert!(opened.recovery.kept.iter().any(|(path, _)| *path == segment), "{opened:?}");
}

#[test]
fn numbers_that_leave_too_few_for_new_rows_are_refused_by_name() {
    let (folder, store, mut appender) = opened(settings("".as_ref()));
    appender.append(vec![gaps(0..1)]);
    let file = store.flush().unwrap().files.remove(0);
    drop((store, appender));
    let named = |seq| file.with_file_name(partition::file_name(0, seq, seq + 1));
    let refused = |path: &Path| {
        let error = Store::open(settings(folder.path())).unwrap_err().to_string();
        assert_eq!(error, format!("{} {}", path.display(), partition::BEYOND));
        let wrong = verify::verify(folder.path()).unwrap().wrong;
        assert!(wrong.contains(&(path.into(), partition::BEYOND.into())), "{wrong:?}");
    };
    // The last that is taken. New rows have greater numbers, and their files can be read.
    std::fs::rename(&file, named(SEQUENCE_MAX - 1)).unwrap();
    let (store, mut appender, _) = Store::open(settings(folder.path())).unwrap();
    appender.append(vec![gaps(1..3)]);
    let newer = store.flush().unwrap().files.remove(0);
    drop((store, appender));
    let rows = SEQUENCE_MAX - 1..SEQUENCE_MAX + 2;
    assert_eq!(sequence(&open_read_only(folder.path()).unwrap().0), rows.collect::<Vec<_>>());
    refused(&newer);
    std::fs::remove_file(newer).unwrap();
    std::fs::rename(named(SEQUENCE_MAX - 1), named(SEQUENCE_MAX)).unwrap();
    refused(&named(SEQUENCE_MAX));
    // Nor is a file whose footer cannot be read passed over.
    std::fs::write(named(SEQUENCE_MAX), "not parquet").unwrap();
    refused(&named(SEQUENCE_MAX));
    std::fs::remove_file(named(SEQUENCE_MAX)).unwrap();
    let segment = folder.path().join(JOURNAL).join(format!("{SEQUENCE_MAX:020}.journal"));
    for path in [journal::aside(&segment), segment] {
        std::fs::write(&path, "").unwrap();
        refused(&path);
        std::fs::remove_file(path).unwrap();
    }
    // Nothing else kept the folder from being used, but the segment of the run above.
    let left = folder.path().join(JOURNAL).read_dir().unwrap().map(|path| path.unwrap().path()).collect::<Vec<_>>();
    left.iter().for_each(|path| refused(path));
    left.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    Store::open(settings(folder.path())).unwrap();
}

#[test]
fn a_file_on_which_the_parquet_reader_panics_is_told_and_stays() {
    let merging = StoreSettings { compaction_interval: Some(Duration::from_hours(1)), ..settings("".as_ref()) };
    let (folder, store, mut appender) = opened(merging);
    let mut flush = |times| {
        appender.append(vec![gaps(times)]);
        store.flush().unwrap().files.remove(0)
    };
    let (file, other) = (flush(0..3), flush(3..6));
    // In a page header: the encoding "plain", and those of the levels. One bit makes it "dictionary", which is not there.
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(6).position(|header| header == [0x15, 0x00, 0x15, 0x06, 0x15, 0x06]).unwrap();
    bytes[at + 1] ^= 0x10;
    std::fs::write(&file, bytes).unwrap();

    let hours = 10 * 3_600_000_000;
    let error = store.compact(hours, Duration::ZERO, &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()) && error.contains(lake::PANICKED), "{error}");
    let told = store.degraded();
    assert!(told.len() == 1 && told[0].reason.contains(lake::PANICKED), "{told:?}");
    // It is not tried again at once, and nothing half written is left.
    assert_eq!(store.compact(hours, Duration::ZERO, &AtomicBool::new(false)).unwrap(), Compacted::default());
    let mut names: Vec<_> = file.parent().unwrap().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names, [file.clone(), other]);
    assert_eq!(verify::verify(folder.path()).unwrap().wrong, [(file, lake::PANICKED.to_owned())]);
}

#[test]
fn an_expired_file_goes_when_its_last_reader_is_gone() {
    let keep = Some(Duration::from_mins(1));
    let (_folder, store, mut appender) = opened(StoreSettings { retention_age_max: keep, ..settings("".as_ref()) });
    appender.append(vec![gaps(0..3)]);
    let file = store.flush().unwrap().files.remove(0);
    let reader = store.view();
    assert_eq!(store.retain(62_000_000), 0);
    assert_eq!(store.retain(62_000_001), 1);
    assert!(sequence(&store.view()).is_empty() && file.exists());
    drop(reader);
    // The thread of a reader does not delete.
    assert!(file.exists());
    assert_eq!(store.retain(62_000_001), 0);
    assert!(!file.exists());
}

#[test]
fn an_expired_file_that_was_found_at_start_goes_too() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Some(Duration::from_mins(1));
    let settings = StoreSettings { retention_age_max: keep, ..settings(folder.path()) };
    let (store, mut appender, _) = Store::open(settings.clone()).unwrap();
    appender.append(vec![gaps(0..3)]);
    let file = store.flush().unwrap().files.remove(0);
    drop((store, appender));
    let (store, _, _) = Store::open(settings).unwrap();
    assert_eq!(store.retain(62_000_001), 1);
    assert!(!file.exists());
}

#[test]
fn a_clock_that_jumps_deletes_nothing() {
    const DAY_US: i64 = 24 * 3_600_000_000;
    for by_us in [DAY_US, 3_650 * DAY_US, -DAY_US, -3_650 * DAY_US] {
        let start = 20_000 * DAY_US;
        let keep = Some(Duration::from_hours(1));
        let (folder, store, mut appender) = opened(StoreSettings { retention_age_max: keep, ..settings("".as_ref()) });
        let minute = |minute: i64| (start + minute * 60_000_000) / 1_000_000;
        appender.append(vec![gaps(minute(0)..minute(1))]);
        store.flush().unwrap();
        let retain = |store: &Store, minute: i64, by_us: i64| {
            let us = minute * 60_000_000;
            store.retain(store.trusted_time(start + us + by_us, 7 + us))
        };
        assert_eq!(retain(&store, 1, 0), 0);
        assert_eq!(retain(&store, 2, by_us), 0);
        let told = store.degraded();
        assert!(told.len() == 1 && told[0].reason.contains("the wall clock was set"), "{told:?}");
        // What is written meanwhile has the wrong times.
        let wrong = minute(2) + by_us / 1_000_000;
        appender.append(vec![gaps(wrong..wrong + 60)]);
        store.flush().unwrap();
        assert_eq!(retain(&store, 3, by_us), 0);
        drop((store, appender));

        // A restart changes nothing about it.
        let (store, ..) = Store::open(StoreSettings { retention_age_max: keep, ..settings(folder.path()) }).unwrap();
        assert_eq!((retain(&store, 4, by_us), store.degraded().len()), (0, 1));
        assert_eq!((retain(&store, 5, 0), store.degraded().len()), (0, 0));
        assert_eq!(sequence(&store.view()).len(), 120);
        // Both files are as old as they are, whatever their times say; the last one until its times have come.
        assert_eq!(retain(&store, 70, 0), if by_us > 0 { 1 } else { 2 });
    }
}

#[test]
fn a_renamed_host_goes_on_with_all_that_it_has_recorded() {
    let keep = Some(Duration::from_mins(1));
    let folder = tempfile::tempdir().unwrap();
    let settings = |host: &str| StoreSettings { retention_age_max: keep, host: host.into(), ..settings(folder.path()) };
    let hosts = |view: &View| -> Vec<(String, u64)> {
        let table = &view.tables[FamilyId::of::<Gap>()];
        let files = table.files.iter().map(|file| (file.host(), file.end_seq));
        files.chain(table.hot.iter().map(|hot| (hot.host.to_string(), hot.end_seq()))).collect()
    };
    let named = |names: &[(&str, u64)]| names.iter().map(|(name, end)| ((*name).to_owned(), *end)).collect::<Vec<_>>();
    // Each run leaves 3 rows in a file, and 2 in the journal only. The first name comes back.
    for (run, host) in ["old", "new", "old"].into_iter().enumerate() {
        let (store, mut appender, opened) = Store::open(settings(host)).unwrap();
        let rows = if run == 0 { 0 } else { 2 };
        assert_eq!((opened.recovery.rows, opened.recovery.missing), (rows, vec![]), "run {run}");
        let (writes, syncs) = store.start_journal();
        let threads = [std::thread::spawn(writes), std::thread::spawn(syncs)];
        let at = i64::try_from(run).unwrap() * 5;
        appender.append(vec![gaps(at..at + 3)]);
        store.flush().unwrap();
        appender.append(vec![gaps(at + 3..at + 5)]);
        while appender.is_waiting() {
            appender.show();
        }
        store.stop_journal();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    let (store, ..) = Store::open(settings("new")).unwrap();
    // The rows that a start finds in the journal are flushed together with new ones, apart by host.
    let files = [("old", 3), ("old", 5), ("new", 8), ("new", 10), ("old", 13)];
    assert_eq!(hosts(&store.view()), named(&[&files[..], &[("old", 15)]].concat()));
    store.flush().unwrap();
    assert_eq!(hosts(&store.view()), named(&[&files[..], &[("old", 15)]].concat()));
    let report = verify::verify(folder.path()).unwrap();
    assert!(report.wrong.is_empty() && report.rows == 15 && report.journal_rows == 0, "{report:?}");
    // Files of all names expire.
    assert_eq!(store.retain(68_000_001), 3);
    assert_eq!(store.retain(3_600_000_000), 3);
    drop(store);
    let left = open_read_only(folder.path()).unwrap().0;
    assert!(hosts(&left).is_empty());
}

#[test]
fn the_first_name_of_a_host_stays() {
    let folder = tempfile::tempdir().unwrap();
    let name = |host: &str| {
        let (store, ..) = Store::open(StoreSettings::unlimited(folder.path(), host)).unwrap();
        let named = identity::name_of(folder.path(), "");
        assert_eq!(named, store.settings().host);
        named
    };
    let own = name("");
    assert_eq!(own, rustix::system::uname().nodename().to_string_lossy());
    assert_eq!(name("another"), "another");
    // As after a boot at which the host has another name: the one that was used last.
    assert_eq!(name(""), "another");
    std::fs::remove_file(folder.path().join(identity::FILE)).unwrap();
    assert_eq!(name(""), own);
}

#[test]
fn a_failed_flush_keeps_the_rows() {
    let (folder, store, mut appender) = opened(settings("".as_ref()));
    appender.append(vec![gaps(0..3)]);
    std::fs::write(folder.path().join("lake/gap"), "in the way").unwrap();
    let error = store.flush().unwrap_err().to_string();
    assert!(error.starts_with("create folder ") && error.contains("gap"), "{error}");
    assert_eq!((sequence(&store.view()).len(), store.stats().failed_flushes), (3, 1));
    std::fs::remove_file(folder.path().join("lake/gap")).unwrap();
    assert_eq!(store.flush().unwrap().rows, 3);
    assert_eq!(sequence(&store.view()), [0, 1, 2]);
}

#[test]
fn what_is_dropped_while_it_is_written_is_lost_only_if_it_is_not_saved() {
    for saved in [false, true] {
        let limited = StoreSettings { hot_bytes_max: 10 * row_bytes(Gap::TABLE), ..settings("".as_ref()) };
        let (_folder, store, mut appender) = opened(limited);
        appender.append(vec![gaps(0..6)]);
        let (frozen, _) = store.freeze();
        appender.append(vec![gaps(6..12)]);
        assert_eq!(appender.take_losses(), []);
        let family = FamilyId::of::<Gap>();
        if saved {
            store.flush_table(&frozen[family], None, &mut Flushed::default()).unwrap();
        }
        store.settle();
        appender.append(vec![gaps(12..13)]);
        let losses = appender.take_losses();
        let expected = Loss { family, reason: "memory full", rows: 6, time_range: (0, 5_000_000) };
        assert_eq!(losses, if saved { vec![] } else { vec![expected] });
        assert_eq!(store.stats().lost_rows, if saved { 0 } else { 6 });
    }
}

#[test]
fn what_is_no_file_is_named_and_not_waited_for() {
    type Make = fn(&Path);
    let fifo: Make = |path| rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let socket: Make = |path| rustix::fs::mknodat(CWD, path, FileType::Socket, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let device: Make = |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    let folder: Make = |path| fs::create_dir(path).unwrap();
    for name in ["LOCK", "HOST", "CLOCK"] {
        for (what, make) in [("a FIFO", fifo), ("a socket", socket), ("a device", device), ("a folder", folder)] {
            let data = tempfile::tempdir().unwrap();
            let path = data.path().join(name);
            make(&path);
            let error = Store::open(settings(data.path())).unwrap_err().to_string();
            let expected = format!("{} is {what}, but kymo needs a file of that name: move it away", path.display());
            assert_eq!(error, expected);
            // Nothing else is wrong with the folder.
            if what == "a folder" { fs::remove_dir(&path) } else { fs::remove_file(&path) }.unwrap();
            Store::open(settings(data.path())).unwrap();
        }
    }
}
