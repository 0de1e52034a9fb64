//! A store is killed at each of its steps: every row that it had shown is there afterwards, once.
//!
//! This program starts itself as a child. At a fail point, the n-th time it is reached, the child kills itself by SIGKILL.
//! - `KYMO_KILLS`: kills at each step, the n-th when the step is reached the n-th time; 3 unless set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../it/store/rows.rs"]
mod rows;

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kymo::record::tier::Tier;
use kymo::store::StoreSettings;
use kymo::store::disk::LocalDisk;
use kymo::store::verify::verify;
use rustix::process::{Signal, getpid, kill_process};

use rows::{Running, WINDOW, in_tiers, numbers, of_rows, settings, time};

/// All steps of the store.
const STEPS: [&str; 20] = [
    "journal.create",
    "journal.begin",
    "journal.write",
    "journal.sync",
    "journal.sync_folder",
    "journal.delete",
    "publish.create",
    "publish.write",
    "publish.sync",
    "publish.rename",
    "publish.sync_folder",
    "publish.done",
    "tiers.published",
    "tiers.kept",
    "tiers.swapped",
    "flush.swapped",
    "compaction.published",
    "compaction.swapped",
    "retention.swapped",
    "lake.delete",
];
const KILLS: u64 = 3;
const SIGKILL: i32 = 9;
/// Rows of an append.
const ROWS: u64 = 20;
/// A child that got so far without reaching its step ends, and the test fails.
const APPENDS_MAX: u64 = 400;
/// Retention: it deletes some files, and keeps others that are compacted.
const KEPT: Duration = Duration::from_secs(20_000);

fn store_settings(data: &Path) -> StoreSettings {
    StoreSettings { journal_sync_interval: Duration::from_millis(2), retention_age_max: Some(KEPT), ..settings(data) }
}

/// Appends, flushes, compacts and deletes until killed at `step`. Prints what is shown, at first and after each append.
fn child(data: &Path, step: &str, nth: u64) {
    let running = Running::open(Arc::new(LocalDisk), store_settings(data));
    let mut next = ends(&numbers(&running.store.view()));
    let mut out = std::io::stdout().lock();
    let mut tell = |shown: [u64; 2]| writeln!(out, "{} {}", shown[0], shown[1]).and_then(|()| out.flush()).unwrap();
    tell(next);
    let reached = AtomicU64::new(0);
    fail::cfg_callback(step, move || {
        if reached.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            kill_process(getpid(), Signal::KILL).unwrap();
            // This thread does nothing more.
            loop {
                std::thread::park();
            }
        }
    })
    .unwrap();
    for round in 0..APPENDS_MAX {
        running.append(next, ROWS);
        next = next.map(|next| next + ROWS);
        tell(next);
        let now = time(next[0].cast_signed());
        if round % 3 == 2 {
            running.store.flush().unwrap();
        }
        if round % 5 == 4 {
            running.store.retain(now);
            running.store.compact(now, Duration::ZERO, &AtomicBool::new(false)).unwrap();
        }
        if round % 7 == 6 {
            running.store.sync_journal();
        }
    }
}

/// One more than the last number of each table.
fn ends(numbers: &[Vec<u64>; 2]) -> [u64; 2] {
    [0, 1].map(|table: usize| numbers[table].last().map_or(0, |last| last + 1))
}

/// Kills a child the `nth` time that it reaches `step`, and checks what it left.
fn kill(data: &Path, step: &str, nth: u64) {
    let what = format!("{step}, {nth}");
    let mut child = Command::new(env::current_exe().unwrap())
        .env("KYMO_KILL_AT", step)
        .env("KYMO_KILL_NTH", nth.to_string())
        .env("KYMO_KILL_DATA", data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = [0; 2];
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let mut told = line.split(' ').map(|number| number.parse::<u64>().unwrap());
        shown = [told.next().unwrap(), told.next().unwrap()];
    }
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(SIGKILL), "{what}: the step was not reached: {status}");

    let report = verify(data).unwrap();
    assert!(report.wrong.is_empty(), "{what}: {:?}", report.wrong);
    let running = Running::open(Arc::new(LocalDisk), store_settings(data));
    assert!(running.opened.recovery.kept.is_empty() && running.opened.scan.foreign.is_empty(), "{what}");
    for (table, found) in numbers(&running.store.view()).iter().enumerate() {
        let (first, end) = (found.first().copied().unwrap_or(0), found.last().map_or(0, |last| last + 1));
        let hole = found.windows(2).find(|pair| pair[0] + 1 != pair[1]);
        assert_eq!(hole, None, "{what}: table {table} has {first} to {end}, but not between these, or one twice");
        // The append under way may be there, too, as a whole.
        assert!(end == shown[table] || end == shown[table] + ROWS, "{what}: {end}, shown were {}", shown[table]);
        // Retention may have deleted the rest.
        let kept = time(end.cast_signed()) - i64::try_from(KEPT.as_micros()).unwrap();
        assert!(first == 0 || time(first.cast_signed() - 1) < kept, "{what}: rows before {first} are gone");
    }
    // Retention deletes no tier here, so its buckets have all rows, those that are gone too.
    let expected = of_rows(ends(&numbers(&running.store.view()))[1]);
    assert_eq!(in_tiers(&running.store.view()), [expected; 2], "{what}: the tiers do not have each row once");
    running.close();
}

/// Retention deletes all files past their age, also those that killed children left.
fn bounded(data: &Path) {
    let running = Running::open(Arc::new(LocalDisk), store_settings(data));
    let end = ends(&numbers(&running.store.view()))[0];
    running.store.retain(time(end.cast_signed()));
    let oldest = time(end.cast_signed()) - i64::try_from((KEPT + WINDOW * 2).as_micros()).unwrap();
    for found in numbers(&running.store.view()) {
        assert!(
            found.first().is_some_and(|first| time(first.cast_signed()) > oldest),
            "rows are left from {:?}",
            found.first()
        );
    }
    let view = running.store.view();
    let tiers = || [None].into_iter().chain(Tier::ALL.map(Some));
    let shown: usize = view.tables.values().flat_map(|table| tiers().map(|tier| table.files_of(tier).len())).sum();
    running.close();
    let report = verify(data).unwrap();
    assert_eq!(report.files, shown as u64, "{report:?}");
}

fn main() {
    if let Ok(step) = env::var("KYMO_KILL_AT") {
        let nth = env::var("KYMO_KILL_NTH").unwrap().parse().unwrap();
        child(Path::new(&env::var_os("KYMO_KILL_DATA").unwrap()), &step, nth);
        return;
    }
    let kills = env::var("KYMO_KILLS").map_or(KILLS, |kills| kills.parse().expect("KYMO_KILLS: expected a number"));
    for step in STEPS {
        // A folder for each: checks read all of it, and no tier is deleted.
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        for nth in 1..=kills {
            kill(&data, step, nth);
        }
        bounded(&data);
    }
    let killed = STEPS.len() as u64 * kills;
    println!("test result: ok. killed {killed} times at {} steps, nothing shown was lost or there twice", STEPS.len());
}
