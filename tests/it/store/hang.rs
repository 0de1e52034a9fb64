//! Disks that hang: no operation returns until it is let go. Recording and queries go on meanwhile, health says what is
//! wrong, and nothing is lost.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kymo::store::disk::LocalDisk;
use kymo::store::verify::verify;
use kymo::store::{Store, StoreSettings};

use super::disks::{Before, Guarded, Operation};
use super::rows::{Running, numbers, settings, time};
use Operation::{Create, CreateFolder, Cut, Remove, RemoveFolder, Rename, Sync, SyncFolder, Write};

/// What hangs together.
const HUNG: [&[Operation]; 5] = [
    &[Write],
    &[Create],
    &[Sync, SyncFolder],
    &[Remove, RemoveFolder],
    &[Create, Write, Sync, Rename, Remove, Cut, CreateFolder, RemoveFolder, SyncFolder],
];
/// The store waits 200 ms for a write. The rest is for a machine that is busy.
const APPEND_MAX: Duration = Duration::from_millis(200 + 2_000);
/// Rows that the journal does not get written are shown after so long.
const HIDDEN: Duration = Duration::from_secs(2);
/// Time between two appends.
const DRAIN_INTERVAL: Duration = Duration::from_millis(40);
/// Rows of one append.
const ROWS: u64 = 5;
/// Nothing here takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// Holds operations up.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    hung: &'static [Operation],
    /// Operations that do not return.
    waiting: usize,
}

impl Gate {
    fn hang(&self, operations: &'static [Operation]) {
        self.state.lock().unwrap().hung = operations;
        self.changed.notify_all();
    }

    fn wait_until_something_hangs(&self) {
        let (state, timeout) =
            self.changed.wait_timeout_while(self.state.lock().unwrap(), DEADLINE, |state| state.waiting == 0).unwrap();
        drop(state);
        assert!(!timeout.timed_out());
    }
}

impl Before for Gate {
    fn before(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.hung.contains(&operation)).unwrap();
        state.waiting -= 1;
        Ok(())
    }
}

/// Lets everything go when the test ends, also when it fails: its threads would wait for ever.
struct Release<'a>(&'a Gate, &'a AtomicBool);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.hang(&[]);
        self.1.store(true, Ordering::SeqCst);
    }
}

/// How many rows of each table are shown: those from 0 on, each once.
fn shown(store: &Store) -> u64 {
    let found = numbers(&store.view());
    let until = found[0].len() as u64;
    assert!(found.iter().all(|found| found.iter().copied().eq(0..until)), "{found:?}");
    until
}

/// Drains as a daemon does for as long as `is_over` says no, with the rows from `next` on.
fn drain(running: &Running, next: &mut u64, mut is_over: impl FnMut(u64) -> bool) {
    let begun = Instant::now();
    while !is_over(*next) {
        assert!(begun.elapsed() < DEADLINE, "{:?}", running.store.degraded());
        let appending = Instant::now();
        assert!(running.hand_over([*next; 2], ROWS).is_empty());
        assert!(appending.elapsed() < APPEND_MAX, "an append took {:?}", appending.elapsed());
        *next += ROWS;
        thread::sleep(DRAIN_INTERVAL);
    }
}

fn hang(operations: &'static [Operation]) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let gate = Arc::new(Gate::default());
    let sync_often = StoreSettings { journal_sync_interval: Duration::from_millis(10), ..settings(&data) };
    let running = Running::open(Arc::new(Guarded(Arc::clone(&gate))), sync_often);
    let store = &*running.store;
    // Files that compaction merges, a sealed segment that the next flush deletes, and rows in memory.
    for first in [0, 50] {
        running.append([first; 2], 50);
        store.flush().unwrap();
    }
    running.append([100; 2], 10);
    assert!(store.sync_journal());
    let mut next = 110;
    let later = time(10_000);

    gate.hang(operations);
    let (released, reads, view) = (AtomicBool::new(false), AtomicU64::new(0), store.view());
    thread::scope(|scope| {
        let release = Release(&gate, &released);
        // From now on the journal goes to another segment.
        let flush = scope.spawn(|| store.flush());
        gate.wait_until_something_hangs();
        let compaction = scope.spawn(|| store.compact(later, Duration::ZERO, &AtomicBool::new(false)));
        let begun = Instant::now();
        // Queries one after the other, and one that ends while the disk hangs.
        let (released, reads) = (&released, &reads);
        scope.spawn(move || {
            let mut view = Some(view);
            while !released.load(Ordering::SeqCst) {
                shown(store);
                store.check();
                let _ = store.stats();
                reads.fetch_add(1, Ordering::SeqCst);
                if begun.elapsed() > HIDDEN / 2 {
                    view = None;
                }
                thread::sleep(Duration::from_millis(1));
            }
            drop(view);
        });
        drain(&running, &mut next, |_| shown(store) > 110);
        let hidden = begun.elapsed();
        let journal_hangs = operations.contains(&Write) || operations.contains(&Create);
        let expected = if journal_hangs { HIDDEN..HIDDEN + 2 * APPEND_MAX } else { Duration::ZERO..HIDDEN };
        assert!(expected.contains(&hidden), "{operations:?}: rows were shown after {hidden:?}");

        let expected = match operations {
            _ if journal_hangs => "in time; while this lasts, a kill loses rows that queries have seen and no file has",
            [Sync, ..] => "a sync of the journal has taken longer than a second",
            _ => "",
        };
        let told = || store.degraded().iter().any(|trouble| trouble.reason.contains(expected));
        drain(&running, &mut next, |_| (expected.is_empty() || told()) && begun.elapsed() > HIDDEN * 3 / 2);
        let before = reads.load(Ordering::SeqCst);
        drain(&running, &mut next, |_| reads.load(Ordering::SeqCst) > before + 1);
        assert!(!flush.is_finished(), "{operations:?}: nothing hung");

        gate.hang(&[]);
        flush.join().unwrap().unwrap();
        assert!(compaction.join().unwrap().unwrap().from >= 4);
        drain(&running, &mut next, |next| shown(store) == next && store.degraded().is_empty());
        drop(release);
    });
    assert!(store.sync_journal());
    running.close();

    let running = Running::open(Arc::new(LocalDisk), settings(&data));
    assert_eq!(shown(&running.store), next);
    running.store.flush().unwrap();
    running.store.close();
    running.close();
    let report = verify(&data).unwrap();
    assert!(report.wrong.is_empty() && report.rows == 2 * next, "{report:?}");
}

#[test]
fn a_disk_that_hangs_holds_up_nothing_and_loses_nothing() {
    thread::scope(|scope| HUNG.iter().for_each(|operations| drop(scope.spawn(|| hang(operations)))));
}
