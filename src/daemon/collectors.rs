//! The running collectors: started, stopped and retuned while everything else goes on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::batch::{RingSource, Source};
use crate::collector::{CollectorSettings, CollectorStatus, RetuneCollector, StartCollector, scheduling_was_refused};
use crate::family::{FamilyId, PerFamily};
use crate::latest::{LatestRows, SourceId};
use crate::reading::context::Context;
use crate::reading::snapshot::in_snapshot;
use crate::record::label::Labels;
use crate::ring::ring;
use crate::sampler::health::CollectorHealth;
use crate::sampler::report::{Collector, Gap};
use crate::sampler::thread::CollectorThread;
use crate::sampler::{Ended, Reasons, Setup, Totals, wall_us};
use crate::scheduling::cpus::Cpus;
use crate::serve::OperatorError;
use crate::store::Store;
use crate::words::list;

/// Records that a family's ring holds. A drain comes sooner where one fills up.
pub(super) const RING_RECORDS: usize = 16_384;
/// Records that the rings of a collector's own reports and gaps hold. There is about one a second.
const REPORT_RECORDS: usize = 1_024;

/// How long a collector's thread is waited for that is to stop. Only a read that hangs takes longer.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The drain thread's end of one ring.
pub(super) struct DrainSource {
    /// Whose rows the ring has.
    pub(super) id: SourceId,
    pub(super) family: FamilyId,
    pub(super) ring: Box<dyn Source>,
    /// The interval of its collector.
    pub(super) interval: Duration,
    /// The sampler was gone just before the ring was last drained: the ring has no more rows.
    pub(super) is_finished: bool,
}

/// All collectors of the daemon.
pub(super) struct Collectors {
    /// Held for moments only, never while a thread is waited for: the drain thread and status need it.
    state: Mutex<State>,
    /// Gives rings to the drain thread; none once the daemon stops. Held for a whole start, stop or retune, so that
    /// these come one after the other.
    changes: Mutex<Option<SyncSender<Vec<DrainSource>>>>,
    /// Set when the daemon stops, so that changes which wait for their turn are not made.
    is_stopping: AtomicBool,
    /// A family keeps its labels when its collector is restarted.
    labels: PerFamily<Arc<Labels>>,
    /// Has the collectors' reports.
    latest: Arc<LatestRows>,
    store: Arc<Store>,
    context: Context,
    cpus: Arc<Cpus>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    /// What stopped collectors had missed and dropped.
    retired: Totals,
}

struct Entry {
    settings: CollectorSettings,
    /// When it was started, µs since the epoch.
    since_us: i64,
    /// None while it is being stopped or retuned.
    thread: Option<CollectorThread>,
    /// Whose rows are its newest.
    source: SourceId,
    /// Its counts until it reports: zeros, or those before it was retuned.
    totals: Totals,
    /// The health that was last logged.
    logged: CollectorHealth,
    /// What it does once its thread has ended, if it was to stop while a read hung.
    then: Option<Then>,
}

/// What a collector does whose thread has ended.
#[derive(Clone, Copy)]
enum Then {
    /// It goes off the list.
    Leave,
    /// It goes on with its settings, which have changed.
    GoOn,
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
        let (state, changes, is_stopping) = (Mutex::default(), Mutex::new(Some(sources)), AtomicBool::new(false));
        Collectors { state, changes, is_stopping, labels, latest, store, context, cpus }
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
        let all = self.settings();
        let running = all.iter().find(|settings| settings.name == retune.name);
        let Some(running) = running else { return Err(self.lock().missing(&retune.name)) };
        let settings = retune.check(running, &all)?;
        let since_us = self.find(&settings.name)?.running_since_us;
        match self.halt(&settings.name, STOP_PATIENCE, Then::GoOn) {
            Ok(ended) => self.go_on(changes.as_ref(), settings, ended, since_us),
            Err(error) => {
                if let Some(entry) = self.lock().entries.get_mut(&settings.name) {
                    entry.settings = settings;
                }
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
        self.lock().entries.values().filter_map(|entry| entry.thread.as_ref()).for_each(CollectorThread::request_stop);
        let deadline = Instant::now() + STOP_PATIENCE;
        for name in names {
            if let Err(error) = self.halt(&name, deadline.saturating_duration_since(Instant::now()), Then::Leave) {
                tracing::error!("{error}; stopping goes on without it");
            }
        }
    }

    pub(super) fn find(&self, name: &str) -> Result<CollectorStatus, OperatorError> {
        let reports = self.reports();
        let state = self.lock();
        state.entries.get(name).map(|entry| entry.status(&reports)).ok_or_else(|| state.missing(name))
    }

    /// The collectors, and what stopped ones had missed and dropped, as of one moment: each loss is counted once.
    pub(super) fn survey(&self) -> (Vec<CollectorStatus>, Totals) {
        let reports = self.reports();
        let state = self.lock();
        (state.entries.values().map(|entry| entry.status(&reports)).collect(), state.retired)
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
        let mut state = self.lock();
        for entry in state.entries.values_mut() {
            let now = entry.health();
            log_change(&entry.settings.name, &entry.logged, &now);
            entry.logged = now;
        }
    }

    /// Stops or goes on with the collectors that had hung when they were to do so, and whose threads have ended since.
    fn make_delayed(&self) {
        let changes = match self.changes.try_lock() {
            Ok(changes) => changes,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another change is being made. The next call tries again.
            Err(TryLockError::WouldBlock) => return,
        };
        let delayed = self.lock().delayed();
        for (settings, since_us, then, ended) in delayed {
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
        self.labels.values().map(|labels| labels.overflowed()).sum()
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
        let thread = self.launch(sources, source, &settings, before)?;
        let families = list(settings.families.iter().map(|family| family.table.name));
        tracing::info!(collector = settings.name, interval = ?settings.interval, "sampling {families}");
        let name = settings.name.clone();
        let (thread, logged) = (Some(thread), CollectorHealth::default());
        let entry = Entry { settings, since_us, thread, source, totals, logged, then: None };
        self.lock().entries.insert(name.clone(), entry);
        self.find(&name)
    }

    /// Stops a collector's thread and waits for it. The collector stays listed, with its health and counts as of now. If a
    /// read hangs in it for longer than `patience`, this is an error; once the thread has ended, the collector does `then`.
    fn halt(&self, name: &str, patience: Duration, then: Then) -> Result<Ended, OperatorError> {
        let reports = self.reports();
        let thread = {
            let mut state = self.lock();
            let missing = state.missing(name);
            let entry = state.entries.get_mut(name).ok_or(missing)?;
            entry.logged = entry.health();
            entry.totals = entry.totals(&reports);
            entry.thread.take()
        };
        let stopped = thread.map_or_else(|| Ok(Ended::default()), |thread| thread.stop(patience));
        let mut state = self.lock();
        let missing = state.missing(name);
        let entry = state.entries.get_mut(name).ok_or(missing)?;
        match stopped {
            Ok(ended) => {
                entry.totals = ended.totals;
                Ok(ended)
            }
            Err(thread) => {
                let hang = thread.health().hang.map_or_else(|| "a read hangs".to_owned(), |hang| hang.to_string());
                (entry.then, entry.thread) = (Some(then), Some(thread));
                let does = match then {
                    Then::Leave => "stops",
                    Then::GoOn => "goes on with its new settings",
                };
                let text = format!("collector {name} could not be stopped: {hang}; it {does} once that returns");
                Err(OperatorError::Hanging(text))
            }
        }
    }

    fn launch(
        &self,
        arriving: &SyncSender<Vec<DrainSource>>,
        id: SourceId,
        settings: &CollectorSettings,
        before: Ended,
    ) -> Result<CollectorThread, OperatorError> {
        let (reports, report_source) = ring::<Collector>(REPORT_RECORDS);
        let (gaps, gap_source) = ring::<Gap>(REPORT_RECORDS);
        let (report_family, gap_family) = (FamilyId::of::<Collector>(), FamilyId::of::<Gap>());
        let (report_labels, gap_labels) = (&self.labels[report_family], &self.labels[gap_family]);
        let interval = settings.interval;
        let drained = |family, ring| DrainSource { id, family, ring, interval, is_finished: false };
        let mut sources = vec![
            drained(report_family, Box::new(RingSource::new(report_source, Arc::clone(report_labels)))),
            drained(gap_family, Box::new(RingSource::new(gap_source, Arc::clone(gap_labels)))),
        ];
        let Ended { totals, samplers: mut before } = before;
        let mut samplers = Vec::new();
        for &family in &settings.families {
            let Some(sampling) = family.sampling() else {
                unreachable!("checked settings list no family that kymo writes itself")
            };
            let (mut sampler, ring) = (sampling.open)(&self.context, &self.labels[family], RING_RECORDS);
            if let Some(nth) = before.iter().position(|before| before.family() == family.name()) {
                sampler.take_over(before.swap_remove(nth));
            }
            samplers.push(sampler);
            sources.push(drained(family, ring));
            self.store.set_interval(family, settings.interval);
            self.labels[family].note_interval(settings.interval);
        }
        arriving.send(sources).map_err(|_| stopping())?;
        let setup = Setup {
            name: settings.name.clone(),
            interval: settings.interval,
            scheduling: settings.scheduling,
            cpus: Arc::clone(&self.cpus),
            prepare: {
                let roots = self.context.roots.clone();
                Box::new(move || roots.apply())
            },
            samplers,
            snapshot: in_snapshot,
            reports,
            gaps,
            report_label: report_labels.intern(&settings.name),
            gap_label: gap_labels.intern(&settings.name),
            reasons: Reasons {
                late: gap_labels.intern("late"),
                suspended: gap_labels.intern("suspended"),
                clock_step: gap_labels.intern("clock step"),
            },
            totals,
        };
        CollectorThread::start(setup).map_err(|error| {
            OperatorError::Internal(format!("start a thread for collector {}: {error}", settings.name))
        })
    }

    /// Waits for the turn to change something. Fails once the daemon stops.
    fn changes(&self) -> Result<MutexGuard<'_, Option<SyncSender<Vec<DrainSource>>>>, OperatorError> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_stopping.load(Ordering::Relaxed) { Err(stopping()) } else { Ok(changes) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Entries are inserted and removed in one step, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The collectors that had hung when they were to stop, and have ended since: their settings, when they were started, what
    /// they do then, and what their threads left.
    fn delayed(&mut self) -> Vec<(CollectorSettings, i64, Then, Ended)> {
        let has_ended = |entry: &&mut Entry| entry.thread.as_ref().is_some_and(CollectorThread::has_ended);
        let ended = self.entries.values_mut().filter(has_ended).filter_map(|entry| {
            let then = entry.then?;
            let ended = entry.thread.take()?.stop(STOP_PATIENCE).unwrap_or_default();
            entry.totals = ended.totals;
            Some((entry.settings.clone(), entry.since_us, then, ended))
        });
        ended.collect()
    }

    /// Takes a collector off the list that had done `totals`.
    fn remove(&mut self, name: &str, totals: &Totals) -> Result<Entry, OperatorError> {
        let entry = self.entries.remove(name).ok_or_else(|| self.missing(name))?;
        self.retired.missed += totals.missed;
        self.retired.dropped += totals.dropped;
        Ok(entry)
    }

    fn missing(&self, name: &str) -> OperatorError {
        let running =
            if self.entries.is_empty() { "none".into() } else { list(self.entries.keys().map(String::as_str)) };
        OperatorError::NotFound(format!("there is no collector {name}; running: {running}"))
    }
}

fn stopping() -> OperatorError {
    OperatorError::Unavailable("the daemon is stopping".into())
}

impl Entry {
    fn health(&self) -> CollectorHealth {
        self.thread.as_ref().map_or_else(|| self.logged.clone(), CollectorThread::health)
    }

    fn status(&self, reports: &[(SourceId, RecordBatch)]) -> CollectorStatus {
        let (settings, totals, health) = (self.settings.clone(), self.totals(reports), self.health());
        CollectorStatus { settings, running_since_us: self.since_us, totals, health }
    }

    /// Its counts as last reported.
    fn totals(&self, reports: &[(SourceId, RecordBatch)]) -> Totals {
        let report = reports.iter().find(|(source, _)| *source == self.source);
        report.and_then(|(_, report)| last_totals(report)).unwrap_or(self.totals)
    }
}

/// The counts in the last row of a batch of the table `collector`.
fn last_totals(reports: &RecordBatch) -> Option<Totals> {
    let row = reports.num_rows().checked_sub(1)?;
    let value = |column: &str| -> Option<i64> {
        Some(reports.column_by_name(column)?.as_primitive_opt::<Int64Type>()?.value(row))
    };
    Some(Totals {
        scheduled: value("scheduled_ticks")?,
        ticks: value("ticks")?,
        missed: value("missed_ticks")?,
        pushed: value("pushed_records")?,
        dropped: value("dropped_records")?,
        failed: value("failed_reads")?,
        impossible: value("impossible_values")?,
        read_ns: value("read_us")?.saturating_mul(1_000),
    })
}

fn log_change(collector: &str, before: &CollectorHealth, now: &CollectorHealth) {
    for one in now.unavailable.iter().filter(|one| !before.unavailable.contains(one)) {
        tracing::info!(collector, family = one.family, "not recorded: unavailable on this host: {}", one.reason);
    }
    for one in before.unavailable.iter().filter(|one| now.unavailable.iter().all(|still| still.family != one.family)) {
        tracing::info!(collector, family = one.family, "recorded from now on: available on this host");
    }
    for one in now.partial.iter().filter(|one| before.partial.iter().all(|known| known.family != one.family)) {
        tracing::info!(collector, family = one.family, "recorded in part: {}", one.reason);
    }
    match (&before.overload, &now.overload) {
        (None, Some(overload)) => tracing::warn!(collector, "{overload}"),
        (Some(_), None) => tracing::info!(collector, "no longer overloaded"),
        _ => (),
    }
    match (&before.hang, &now.hang) {
        (None, Some(hang)) => tracing::warn!(collector, "{hang}"),
        (Some(_), None) => tracing::info!(collector, "the tick that had hung has ended"),
        _ => (),
    }
    if let (None, Some(reason)) = (&before.refused_scheduling, &now.refused_scheduling) {
        tracing::warn!(collector, "{}", scheduling_was_refused(reason));
    }
    for one in now.failing.iter().filter(|one| !before.failing.contains(one)) {
        tracing::warn!(collector, family = one.family, error = one.error, "reading failed");
    }
    for one in before.failing.iter().filter(|one| now.failing.iter().all(|still| still.family != one.family)) {
        tracing::info!(collector, family = one.family, "reading succeeds again");
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
            while asked.lock().entries["hanging"].thread.is_some() {
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
