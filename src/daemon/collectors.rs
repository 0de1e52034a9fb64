//! The running collectors: started, stopped and retuned while everything else goes on.

mod delayed;
mod launch;
mod listed;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use crate::collector::{CollectorSettings, CollectorStatus, RetuneCollector, StartCollector};
use crate::family::{FamilyId, PerFamily};
use crate::latest::{LatestRows, SourceId};
use crate::reading::context::Context;
use crate::record::label::Labels;
use crate::sampler::health::CollectorHealth;
use crate::sampler::report::Collector;
use crate::sampler::thread::CollectorThread;
use crate::sampler::{Ended, Totals, wall_us};
use crate::scheduling::cpus::Cpus;
use crate::serve::OperatorError;
use crate::store::Store;
use crate::words::list;

pub(super) use launch::{DrainSource, RING_RECORDS};

use delayed::{Delayed, Then};
use launch::{Launcher, stopping};
use listed::{Doing, Entry, Listed, Returned};

/// How long a collector's thread is waited for that is to stop. Only a read that hangs takes longer.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// All collectors of the daemon.
pub(super) struct Collectors {
    /// Held for moments only, never while a thread is waited for: the drain thread and status need it.
    listed: Mutex<Listed>,
    /// Gives rings to the drain thread; none once the daemon stops. Held for a whole start, stop or retune, so that
    /// these come one after the other.
    changes: Mutex<Option<SyncSender<Vec<DrainSource>>>>,
    /// Set when the daemon stops, so that changes which wait for their turn are not made.
    is_stopping: AtomicBool,
    launcher: Launcher,
    /// Has the collectors' reports.
    latest: Arc<LatestRows>,
}

impl Collectors {
    /// No collectors yet. The drain thread receives the rings of each that is started through `sources`.
    pub(super) fn new(
        sources: SyncSender<Vec<DrainSource>>,
        labels: PerFamily<Arc<Labels>>,
        latest: Arc<LatestRows>,
        store: Arc<Store>,
        context: Context,
        cpus: Arc<Cpus>,
    ) -> Self {
        let (listed, changes, is_stopping) = (Mutex::default(), Mutex::new(Some(sources)), AtomicBool::new(false));
        let launcher = Launcher { labels, store, context, cpus };
        Collectors { listed, changes, is_stopping, launcher, latest }
    }

    /// Starts a collector of the configuration, whose collectors were checked together.
    pub(super) fn start_configured(&self, settings: CollectorSettings) -> Result<CollectorStatus, OperatorError> {
        self.insert(self.changes()?.as_ref(), settings, Ended::default(), wall_us())
    }

    /// Starts a collector if there can be such a one beside the others.
    pub(super) fn start(&self, start: StartCollector) -> Result<CollectorStatus, OperatorError> {
        let changes = self.changes()?;
        self.insert(changes.as_ref(), start.check(&self.settings())?, Ended::default(), wall_us())
    }

    /// Stops a collector. Returns its last status.
    pub(super) fn stop(&self, name: &str) -> Result<CollectorStatus, OperatorError> {
        let _changes = self.changes()?;
        let ended = self.halt(name, STOP_PATIENCE, Then::Leave)?;
        let entry = self.lock().remove(name, &ended.totals)?;
        tracing::info!(collector = name, "stopped");
        Ok(entry.status(&[]))
    }

    /// Gives a running collector another interval, families or scheduling. Its counts go on, and so do the counters of the
    /// families that it keeps. If a read hangs, this is an error, and the collector changes once that returns.
    pub(super) fn retune(&self, retune: RetuneCollector) -> Result<CollectorStatus, OperatorError> {
        let changes = self.changes()?;
        let (running, since_us) = {
            let listed = self.lock();
            let entry = listed.get(&retune.name)?;
            (entry.settings.clone(), entry.since_us)
        };
        let settings = retune.check(&running, &self.settings())?;
        match self.halt(&settings.name, STOP_PATIENCE, Then::GoOn) {
            Ok(ended) => self.go_on(changes.as_ref(), settings, ended, since_us),
            Err(error) => {
                self.lock().get_mut(&running.name)?.settings = settings;
                Err(error)
            }
        }
    }

    /// Stops all collectors for good. Their last records are in the rings then. Those in which a read hangs are left behind:
    /// they end with the process.
    pub(super) fn stop_all(&self) {
        // Relaxed: whoever waits for its turn reads it under the lock that is taken next.
        self.is_stopping.store(true, Ordering::Relaxed);
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        *changes = None;
        let names: Vec<String> = self.lock().entries.keys().cloned().collect();
        // All are asked before any is waited for, so this takes as long as the longest tick.
        self.lock().entries.values().filter_map(Entry::thread).for_each(CollectorThread::request_stop);
        let deadline = Instant::now() + STOP_PATIENCE;
        for name in names {
            if let Err(error) = self.halt(&name, deadline.saturating_duration_since(Instant::now()), Then::Leave) {
                tracing::error!("{error}; stopping goes on without it");
            }
        }
    }

    pub(super) fn find(&self, name: &str) -> Result<CollectorStatus, OperatorError> {
        let reports = self.reports();
        Ok(self.lock().get(name)?.status(&reports))
    }

    /// The collectors, and what stopped ones had missed and dropped, as of one moment: each loss is counted once.
    pub(super) fn survey(&self) -> (Vec<CollectorStatus>, Totals) {
        let reports = self.reports();
        let listed = self.lock();
        (listed.entries.values().map(|entry| entry.status(&reports)).collect(), listed.retired)
    }

    /// The collectors' last reports: about a second old. To be read before the list of collectors, so that a collector
    /// that stops in between is either not listed, or its report is still here.
    fn reports(&self) -> Vec<(SourceId, RecordBatch)> {
        self.latest.by_source(FamilyId::of::<Collector>())
    }

    /// Logs how the collectors' health has changed since the last call, and makes the changes that waited for a read that had
    /// hung.
    pub(super) fn log_changes(&self) {
        self.make_delayed();
        self.lock().log_changes();
    }

    /// Stops or goes on with the collectors that had hung when they were to do so, and whose threads have ended since.
    fn make_delayed(&self) {
        let changes = match self.changes.try_lock() {
            Ok(changes) => changes,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another change is being made. The next call tries again.
            Err(TryLockError::WouldBlock) => return,
        };
        let returned = self.lock().returned();
        for Returned { settings, since_us, then, ended } in returned {
            let name = settings.name.clone();
            match then {
                Then::Leave => {
                    // It was listed a moment ago.
                    let _ = self.lock().remove(&name, &ended.totals);
                    tracing::info!(collector = name, "stopped, as the read that had hung has returned");
                }
                Then::GoOn => {
                    if let Err(error) = self.go_on(changes.as_ref(), settings, ended, since_us) {
                        tracing::error!(collector = name, "stopped: {error}");
                    }
                }
            }
        }
    }

    /// How many label texts came after an interner was full.
    pub(super) fn overflowed_labels(&self) -> u64 {
        self.launcher.labels.values().map(|labels| labels.overflowed()).sum()
    }

    fn settings(&self) -> Vec<CollectorSettings> {
        self.lock().entries.values().map(|entry| entry.settings.clone()).collect()
    }

    /// Starts a listed collector again whose thread has ended.
    fn go_on(
        &self,
        changes: Option<&SyncSender<Vec<DrainSource>>>,
        settings: CollectorSettings,
        ended: Ended,
        since_us: i64,
    ) -> Result<CollectorStatus, OperatorError> {
        let (name, totals) = (settings.name.clone(), ended.totals);
        self.insert(changes, settings, ended, since_us).inspect_err(|_| {
            // It runs no more; what it lost stays counted.
            let _ = self.lock().remove(&name, &totals);
        })
    }

    /// Starts a thread for checked settings, which goes on from what `before` left, and lists it. Returns its first status.
    fn insert(
        &self,
        changes: Option<&SyncSender<Vec<DrainSource>>>,
        settings: CollectorSettings,
        before: Ended,
        since_us: i64,
    ) -> Result<CollectorStatus, OperatorError> {
        let sources = changes.ok_or_else(stopping)?;
        let source = self.latest.new_source();
        let totals = before.totals;
        let thread = self.launcher.launch(sources, source, &settings, before)?;
        let families = list(settings.families.iter().map(|family| family.table.name));
        tracing::info!(collector = settings.name, interval = ?settings.interval, "sampling {families}");
        let name = settings.name.clone();
        let (doing, logged) = (Doing::Sampling(thread), CollectorHealth::default());
        let entry = Entry { settings, since_us, doing, source, totals, logged };
        self.lock().entries.insert(name.clone(), entry);
        self.find(&name)
    }

    /// Stops a collector's thread and waits for it. The collector stays listed, with its health and counts as of now. If a
    /// read hangs in it for longer than `patience`, this is an error; once the thread has ended, the collector does `then`.
    fn halt(&self, name: &str, patience: Duration, then: Then) -> Result<Ended, OperatorError> {
        let reports = self.reports();
        let thread = self.lock().get_mut(name)?.begin_change(&reports);
        let stopped = thread.map(|thread| Delayed::stop(thread, patience, then, name));
        let mut listed = self.lock();
        let entry = listed.get_mut(name)?;
        match stopped.unwrap_or_else(|| Ok(Ended::default())) {
            Ok(ended) => {
                entry.totals = ended.totals;
                Ok(ended)
            }
            Err((delayed, error)) => {
                entry.doing = Doing::Hanging(delayed);
                Err(error)
            }
        }
    }

    /// Waits for the turn to change something. Fails once the daemon stops.
    fn changes(&self) -> Result<MutexGuard<'_, Option<SyncSender<Vec<DrainSource>>>>, OperatorError> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_stopping.load(Ordering::Relaxed) { Err(stopping()) } else { Ok(changes) }
    }

    fn lock(&self) -> MutexGuard<'_, Listed> {
        // Entries are inserted and removed in one step, so a panic elsewhere leaves nothing half done.
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::sync::mpsc::{Receiver, channel, sync_channel};
    use std::thread;
    use std::time::Instant;

    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

    use super::*;
    use crate::reading::roots::Roots;
    use crate::store::StoreSettings;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Opens a pipe to write as soon as another thread waits to read from it, which that thread then does no more.
    fn release(fifo: &Path) -> OwnedFd {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(writer) = open(fifo, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()) {
                return writer;
            }
            assert!(Instant::now() < deadline, "nothing reads {}", fifo.display());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The last interrupts that the ring of `host` gives among the rings that come next.
    fn interrupts(sources: &Receiver<Vec<DrainSource>>) -> impl FnMut() -> i64 + use<> {
        let host = FamilyId::find("host").unwrap();
        let sources = sources.recv_timeout(PATIENCE).unwrap();
        let mut source = sources.into_iter().find(|source| source.family == host).unwrap();
        move || {
            let deadline = Instant::now() + PATIENCE;
            loop {
                if let Some(rows) = source.ring.drain() {
                    let interrupts = rows.column_by_name("interrupts").unwrap().as_primitive::<Int64Type>();
                    // It is null while the file is being rewritten.
                    if let Some(last) = interrupts.iter().flatten().last() {
                        return last;
                    }
                }
                assert!(Instant::now() < deadline, "no rows come");
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn the_counters_of_a_retuned_collector_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("loadavg", "0.50 1.00 1.50 1/2 3\n");
        write("uptime", "1.00 0.00\n");
        write("stat", "intr 8000000000 1 2\n");
        let (sources, drained) = sync_channel(64);
        let (store, ..) = Store::open(StoreSettings::unlimited(&folder.path().join("data"), "here")).unwrap();
        let roots = Roots { procfs: folder.path().to_owned(), sysfs: folder.path().to_owned(), ..Roots::default() };
        let context = Context { roots, ..Context::default() };
        let cpus = Arc::new(Cpus::undivided());
        let collectors = Collectors::new(sources, PerFamily::default(), Arc::default(), store, context, cpus);
        let (name, families, interval) = ("a".to_owned(), vec!["host".to_owned()], Duration::from_millis(10));
        collectors.start(StartCollector { name, interval, families, ..Default::default() }).unwrap();
        let mut before = interrupts(&drained);
        assert_eq!(before(), 8_000_000_000);
        // One of its CPUs starts again at zero.
        write("stat", "intr 3705032710 1 2\n");
        while before() != 8_000_000_006 {}
        let interval = Some(Duration::from_millis(20));
        collectors.retune(RetuneCollector { name: "a".to_owned(), interval, ..Default::default() }).unwrap();
        assert_eq!(interrupts(&drained)(), 8_000_000_006);
        collectors.stop_all();
    }

    #[test]
    fn status_answers_while_a_collector_is_being_stopped() {
        let folder = tempfile::tempdir().unwrap();
        // A tick of `host` reads these one after the other, and hangs at each until it is released.
        let fifos = ["loadavg", "stat"].map(|name| folder.path().join(name));
        for fifo in &fifos {
            mknodat(CWD, fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }
        let (sources, _drained) = sync_channel(64);
        let (store, ..) = Store::open(StoreSettings::unlimited(&folder.path().join("data"), "here")).unwrap();
        let roots = Roots { procfs: folder.path().to_owned(), sysfs: folder.path().to_owned(), ..Roots::default() };
        let context = Context { roots, ..Context::default() };
        let collectors = Arc::new(Collectors::new(
            sources,
            PerFamily::default(),
            Arc::default(),
            store,
            context,
            Arc::new(Cpus::undivided()),
        ));
        for (name, family) in [("hanging", "host"), ("other", "memory")] {
            let (name, families) = (name.to_owned(), vec![family.to_owned()]);
            let interval = Duration::from_millis(10);
            let start = StartCollector { name, interval, families, force: true, ..Default::default() };
            collectors.start(start).unwrap();
        }
        let _first = release(&fifos[0]);

        let stopping = Arc::clone(&collectors);
        let stopper = thread::spawn(move || stopping.stop("hanging").map(|status| status.settings.name));
        let (answer, answered) = channel();
        let asked = Arc::clone(&collectors);
        thread::spawn(move || {
            while asked.lock().entries["hanging"].thread().is_some() {
                thread::sleep(Duration::from_millis(1));
            }
            asked.log_changes();
            let names: Vec<_> = asked.survey().0.into_iter().map(|status| status.settings.name).collect();
            answer.send(names).unwrap();
        });
        let names = answered.recv_timeout(PATIENCE).expect("status does not wait for the collector");
        assert_eq!(names, ["hanging", "other"]);
        assert!(!stopper.is_finished());

        let _second = release(&fifos[1]);
        assert_eq!(stopper.join().unwrap().unwrap(), "hanging");
        assert!(matches!(collectors.find("hanging"), Err(OperatorError::NotFound(_))));
        collectors.stop_all();
        let late = StartCollector { name: "late".into(), families: vec!["vm".into()], ..Default::default() };
        let late = StartCollector { interval: Duration::from_secs(1), ..late };
        assert!(matches!(collectors.start(late), Err(OperatorError::Unavailable(_))));
    }
}
