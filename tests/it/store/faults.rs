//! Disks that refuse: recording goes on, health says what is wrong, and the store recovers by itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kymo::store::data_folder::FolderError;
use kymo::store::disk::LocalDisk;
use kymo::store::verify::verify;
use kymo::store::{Loss, Store, StoreSettings};

use super::disks::{Before, Guarded, Operation};
use super::rows::{Running, TABLES, WINDOW, numbers, settings, time};
use crate::running::PATIENCE;

/// `EIO`
const EIO: i32 = 5;

const HOUR_US: i64 = 3_600_000_000;

/// A disk that refuses every n-th operation.
#[derive(Debug, Default)]
struct Refusing {
    /// 0: it refuses none.
    nth: AtomicU64,
    operations: AtomicU64,
    refused: AtomicU64,
}

impl Before for Refusing {
    fn before(&self, _: Operation) -> io::Result<()> {
        let nth = self.nth.load(Ordering::Relaxed);
        if nth > 0 && self.operations.fetch_add(1, Ordering::Relaxed) % nth == nth - 1 {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }
}

/// What is wrong.
fn told(store: &Store) -> String {
    store.degraded().into_iter().map(|trouble| trouble.reason).collect::<Vec<_>>().join("; ")
}

/// Appends rows from `next` on until `holds`, and gives the losses that were told meanwhile. The journal is tried again
/// only some time after it has failed.
fn append_until(running: &Running, next: &mut [u64; 2], mut holds: impl FnMut(&[Loss]) -> bool) -> Vec<Loss> {
    let deadline = Instant::now() + PATIENCE;
    let mut losses = Vec::new();
    loop {
        losses.extend(running.append(*next, 5));
        *next = next.map(|next| next + 5);
        if holds(&losses) {
            return losses;
        }
        assert!(Instant::now() < deadline, "{losses:?}, {:?}", running.store.degraded());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn every_nth_operation_may_fail_and_no_row_is_lost_or_twice() {
    for nth in 1..=12 {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let disk = Arc::new(Refusing::default());
        let running = Running::open(Arc::new(Guarded(Arc::clone(&disk))), settings(&data));
        assert_eq!(running.opened.recovery.segments, 0);
        disk.nth.store(nth, Ordering::Relaxed);
        let mut next = [0; 2];
        for round in 0..60 {
            assert!(running.append(next, 5).is_empty());
            next = next.map(|next| next + 5);
            assert!(numbers(&running.store.view()).iter().all(|found| found.iter().copied().eq(0..next[0])));
            if round % 3 == 0 {
                running.store.sync_journal();
            }
            if round % 7 == 0 {
                let _ = running.store.flush();
            }
            if round % 10 == 0 {
                // No file is old. Deletions that failed are tried again.
                assert_eq!(running.store.retain(0), 0);
            }
            if round % 20 == 0 {
                let now = time(next[0].cast_signed()) + i64::try_from(WINDOW.as_micros()).unwrap();
                let _ = running.store.compact(now, Duration::ZERO, &AtomicBool::new(false));
            }
        }
        assert!(disk.refused.load(Ordering::Relaxed) > 0);
        if nth == 1 {
            assert!(!running.store.degraded().is_empty());
        }
        disk.nth.store(0, Ordering::Relaxed);
        running.store.flush().unwrap();
        running.store.retain(0);
        // What could not be merged before is tried again within an hour.
        let now = time(next[0].cast_signed()) + HOUR_US + i64::try_from(WINDOW.as_micros()).unwrap();
        running.store.compact(now, Duration::ZERO, &AtomicBool::new(false)).unwrap();
        let is_well = || running.store.sync_journal() && running.store.degraded().is_empty();
        assert_eq!(append_until(&running, &mut next, |_| is_well()), [], "every {nth}th");
        // What was appended before the journal was tried again is only in memory.
        running.store.flush().unwrap();
        running.append(next, 5);
        next = next.map(|next| next + 5);
        assert!(running.store.sync_journal());
        let store = Arc::clone(&running.store);
        running.close();
        drop(store);

        let running = Running::open(Arc::new(LocalDisk), settings(&data));
        assert!(
            numbers(&running.store.view()).iter().all(|found| found.iter().copied().eq(0..next[0])),
            "every {nth}th"
        );
        running.store.flush().unwrap();
        running.store.close();
        running.close();
        let report = verify(&data).unwrap();
        assert!(report.wrong.is_empty(), "every {nth}th: {report:?}");
        assert_eq!((report.rows, report.journal_rows), (2 * next[0], 0));
    }
}

#[test]
fn a_journal_that_is_full_deletes_its_oldest_segments_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let settings = StoreSettings { journal_bytes_max: 1, ..settings(&data) };
    let running = Running::open(Arc::new(LocalDisk), settings);
    running.append([0; 2], 100);
    running.store.flush().unwrap();
    // A file in the place of its folder keeps a table from being flushed, so the journal keeps its rows.
    std::fs::remove_dir_all(data.join("lake/gap")).unwrap();
    std::fs::write(data.join("lake/gap"), "in the way").unwrap();
    running.append([100; 2], 100);
    running.store.flush().unwrap_err();
    running.append([200; 2], 100);
    running.store.flush().unwrap_err();
    let told = told(&running.store);
    assert!(told.contains("the journal is full") && told.contains("lake/gap"), "{told}");
    running.close();
}

#[test]
fn a_folder_that_vanished_may_come_back_and_its_rows_are_shown_again() {
    let folder = tempfile::tempdir().unwrap();
    let (data, away) = (folder.path().join("data"), folder.path().join("away"));
    let running = Running::open(Arc::new(LocalDisk), settings(&data));
    running.append([0; 2], 100);
    running.store.flush().unwrap();
    running.append([100; 2], 100);
    std::fs::rename(&data, &away).unwrap();
    running.store.check();
    let told = told(&running.store);
    assert!(told.contains(&format!("data folder {} is gone: waiting", data.display())), "{told}");
    assert!(running.store.flush().is_err());
    assert!(running.append([200; 2], 100).is_empty());
    assert!(numbers(&running.store.view()).iter().all(|found| found.iter().copied().eq(100..300)));
    assert!(!data.exists());

    std::fs::rename(&away, &data).unwrap();
    running.store.check();
    running.store.flush().unwrap();
    let mut next = [300; 2];
    assert_eq!(append_until(&running, &mut next, |_| running.store.degraded().is_empty()), []);
    assert!(numbers(&running.store.view()).iter().all(|found| found.iter().copied().eq(0..next[0])));
    running.close();
}

#[test]
fn files_that_somebody_deleted_are_reported_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let running = Running::open(Arc::new(LocalDisk), settings(&data));
    running.append([0; 2], 100);
    running.store.flush().unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    // It is made anew.
    running.store.check();
    let mut next = [100; 2];
    let losses = append_until(&running, &mut next, |losses| !losses.is_empty());
    assert_eq!(losses.len(), 2, "{losses:?}");
    for loss in losses {
        let expected = Loss { reason: "files gone", rows: 100, time_range: (time(0), time(99)), ..loss };
        assert_eq!(loss, expected);
    }
    // Once.
    running.store.look_for_files();
    assert_eq!(append_until(&running, &mut next, |_| running.store.degraded().is_empty()), []);
    running.store.flush().unwrap();
    running.store.check();
    assert_eq!(running.store.degraded(), []);
    assert!(numbers(&running.store.view()).iter().all(|found| found.iter().copied().eq(100..next[0])));
    // Another kymo cannot take the folder that was made anew.
    assert!(matches!(Store::open(settings(&data)), Err(FolderError::Held { .. })));
    running.close();
}

#[test]
fn files_that_cannot_be_merged_are_tried_again_ever_more_rarely() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(Refusing::default());
    // It refuses nothing, and counts.
    disk.nth.store(u64::MAX, Ordering::Relaxed);
    let running = Running::open(Arc::new(Guarded(Arc::clone(&disk))), settings(folder.path()));
    for first in [0, 10] {
        running.append([first; 2], 10);
        running.store.flush().unwrap();
    }
    let damaged = running.store.view().tables[TABLES[0].0].files[1].path.clone();
    let bytes = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    let start = time(0) + 2 * HOUR_US;
    let compact = |second: i64| {
        let before = disk.operations.load(Ordering::Relaxed);
        let merged = running.store.compact(start + second * 1_000_000, Duration::ZERO, &AtomicBool::new(false));
        (merged.map(|merged| merged.files).ok(), disk.operations.load(Ordering::Relaxed) > before)
    };
    // The other table is merged.
    assert_eq!(compact(0), (None, true));
    assert!(told(&running.store).contains("tried once, pausing for 30s"), "{}", told(&running.store));
    assert_eq!(compact(29), (Some(0), false));
    assert_eq!(compact(30), (None, true));
    let told_now = told(&running.store);
    assert!(
        told_now.contains(damaged.to_str().unwrap()) && told_now.contains("tried 2 times, pausing for 1m"),
        "{told_now}"
    );
    std::fs::write(&damaged, &bytes).unwrap();
    assert_eq!(compact(89), (Some(0), false));
    assert!(!running.store.degraded().is_empty());
    assert_eq!(compact(90), (Some(1), true));
    assert_eq!(running.store.degraded(), []);
    assert!(numbers(&running.store.view()).iter().all(|found| found.iter().copied().eq(0..20)));
    running.close();
}

#[test]
fn while_the_folder_is_gone_memory_is_bounded_and_what_goes_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (data, away) = (folder.path().join("data"), folder.path().join("away"));
    let running = Running::open(Arc::new(LocalDisk), StoreSettings { hot_bytes_max: 32 << 10, ..settings(&data) });
    std::fs::rename(&data, &away).unwrap();
    running.store.check();
    let mut next = [0; 2];
    let mut losses = append_until(&running, &mut next, |losses| losses.len() > 20);
    assert!(losses.iter().all(|loss| loss.reason == "memory full"), "{losses:?}");
    let in_memory = |running: &Running| numbers(&running.store.view()).map(|found| found.len() as u64);
    let lost: u64 = losses.iter().map(|loss| loss.rows).sum();
    assert_eq!(in_memory(&running).iter().sum::<u64>() + lost, next.iter().sum::<u64>());
    assert_eq!(running.store.stats().lost_rows, lost);
    assert!(running.store.stats().hot_bytes <= 32 << 10);

    std::fs::rename(&away, &data).unwrap();
    running.store.check();
    running.store.flush().unwrap();
    losses = append_until(&running, &mut next, |_| running.store.degraded().is_empty());
    assert_eq!(losses, []);
    assert_eq!(in_memory(&running).iter().sum::<u64>() + lost, next.iter().sum::<u64>());
    running.close();
}
