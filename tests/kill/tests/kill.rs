//! A store is killed at each of its steps, and what it had shown is there afterwards, once.
//!
//! This program starts itself as the child that is killed: by SIGKILL, at a fail point, the n-th time that it is reached.
//! - `KYMO_KILLS`: how often at each step, each time at a later one; a small number where it is not set.
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

use kymo::store::StoreSettings;
use kymo::store::disk::LocalDisk;
use kymo::store::verify::verify;
use rustix::process::{Signal, getpid, kill_process};

use rows::{Running, WINDOW, numbers, settings, time};

/// All steps at which the store can be killed.
const STEPS: [&str; 17] = [
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
/// Appends of a child that nobody kills: then the test has failed.
const APPENDS_MAX: u64 = 400;
/// So much is kept: some files are deleted, and others that are compacted are not.
const KEPT: Duration = Duration::from_secs(20_000);

fn store_settings(data: &Path) -> StoreSettings {
    StoreSettings { journal_sync_interval: Duration::from_millis(2), retention_age_max: Some(KEPT), ..settings(data) }
}

/// Appends, flushes, compacts and deletes until killed at `step`. Tells before what it goes on from, and after each
/// append what is shown.
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
            // Nothing more is done, on whichever thread this is.
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

/// Kills a child at the `nth` time that it reaches `step`, and looks at what it left.
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
        // At most what was being appended is there beyond what was shown; nothing of that is missing.
        assert!(end == shown[table] || end == shown[table] + ROWS, "{what}: {end}, shown were {}", shown[table]);
        // Only what retention may delete is gone.
        let kept = time(end.cast_signed()) - i64::try_from(KEPT.as_micros()).unwrap();
        assert!(first == 0 || time(first.cast_signed() - 1) < kept, "{what}: rows before {first} are gone");
    }
    running.close();
}

/// Retention deletes all that is older than it may be, also what children left that were killed before it did.
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
    running.close();
    let report = verify(data).unwrap();
    assert!(report.rows < end, "{report:?}");
}

fn main() {
    if let Ok(step) = env::var("KYMO_KILL_AT") {
        let nth = env::var("KYMO_KILL_NTH").unwrap().parse().unwrap();
        child(Path::new(&env::var_os("KYMO_KILL_DATA").unwrap()), &step, nth);
        return;
    }
    let kills = env::var("KYMO_KILLS").map_or(KILLS, |kills| kills.parse().expect("KYMO_KILLS: expected a number"));
    let folder = tempfile::tempdir().unwrap();
    for step in STEPS {
        for nth in 1..=kills {
            kill(&folder.path().join("data"), step, nth);
        }
    }
    bounded(&folder.path().join("data"));
    let killed = STEPS.len() as u64 * kills;
    println!("test result: ok. killed {killed} times at {} steps, nothing shown was lost or there twice", STEPS.len());
}
