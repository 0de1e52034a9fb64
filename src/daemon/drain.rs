//! The drain thread: it moves rows from the rings to the alert rules, the newest rows and the store, at every drain interval
//! and whenever a query waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;

use super::alert_keeper::AlertKeeper;
use super::collectors::{DrainSource, RING_RECORDS};
use crate::alert;
use crate::alert::changes::AlertChange;
use crate::alert::moment::Moment;
use crate::batch::to_batch;
use crate::family::alert::Alert;
use crate::family::kymo::Kymo;
use crate::family::statement::Statement;
use crate::family::{FamilyId, PerFamily};
use crate::latest::{LatestRows, SourceId};
use crate::query::history::Ended;
use crate::record::label::Labels;
use crate::record::{ABSENT, Record};
use crate::sampler::report::{Collector, Gap};
use crate::sampler::{monotonic_ns, wall_us};
use crate::store::recovery::Recovery;
use crate::store::{Append, Appender, Loss};

/// How long a reader waits for the rows in the rings. After that it gets what was drained before.
pub(super) const FRESH_PATIENCE: Duration = Duration::from_millis(100);
/// The shortest time between two drains, however many callers wait for one.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// The wait after new rings came, whose rates are not known yet.
const WAIT_FIRST: Duration = Duration::from_millis(20);
/// How often the daemon reports on itself.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The drain thread.
pub(super) struct Drain {
    sources: Vec<DrainSource>,
    arriving: Receiver<Vec<DrainSource>>,
    /// `None` after an evaluation panicked. Recording goes on.
    alerts: Option<alert::Engine>,
    /// Keeps the alerts that are on.
    alert_keeper: Arc<AlertKeeper>,
    latest: Arc<LatestRows>,
    /// The source of the rows that this thread makes itself.
    own: SourceId,
    appender: Appender,
    /// What the daemon tells of itself.
    told: Own,
    labels: PerFamily<Arc<Labels>>,
    next_report: Instant,
    progress: Arc<Progress>,
}

/// Where the rows of kymo's own tables come from.
pub(super) struct Own {
    /// Makes a row of the table `kymo`, with the daemon's figures and the given time.
    pub(super) report: Box<dyn FnMut(i64) -> Kymo + Send>,
    /// The statements that have ended since the last drain.
    pub(super) ended: Box<dyn FnMut() -> Vec<Ended> + Send>,
}

/// Lets other threads wait for a drain, and end the drain thread.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: Mutex<ProgressState>,
    /// Wakes the drain thread.
    wanted: Condvar,
    /// Wakes those who wait for a drain.
    done: Condvar,
}

#[derive(Debug, Default)]
struct ProgressState {
    begun: u64,
    /// When the last drain began that has emptied the rings.
    emptied_at: Option<Instant>,
    emptied: u64,
    done: u64,
    /// How many wait for a drain.
    waiting: usize,
    /// A reader waits for a drain.
    wanted: bool,
    stop: bool,
    /// There will be no more drain.
    ended: bool,
}

/// Tells those who wait for a drain that there will be no more, also when the drain thread panics.
struct Ending(Arc<Progress>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.done.notify_all();
    }
}

impl Progress {
    /// Starts a drain and waits until the store shows everything that is in the rings now. Returns `false` if that takes
    /// longer than `patience`, or if the drain thread has ended.
    pub(super) fn wait_for_drain(&self, patience: Duration) -> bool {
        self.wait_for(self.lock(), patience, |state| state.done)
    }

    /// The same for the newest rows, which need neither the journal nor the rules, and may be [`INTERVAL_MIN`] old: who asks more often
    /// does not wait for it.
    pub(super) fn wait_for_newest(&self, patience: Duration) -> bool {
        let state = self.lock();
        let is_new = state.emptied_at.is_some_and(|emptied_at| emptied_at.elapsed() < INTERVAL_MIN);
        is_new || self.wait_for(state, patience, |state| state.emptied)
    }

    fn wait_for(
        &self,
        mut state: MutexGuard<'_, ProgressState>,
        patience: Duration,
        count: impl Fn(&ProgressState) -> u64,
    ) -> bool {
        // The drain under way may be past some rings already, so this waits for the next one.
        let target = state.begun + 1;
        state.wanted = true;
        state.waiting += 1;
        self.wanted.notify_one();
        let waited = self.done.wait_timeout_while(state, patience, |state| count(state) < target && !state.ended);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting -= 1;
        count(&state) >= target
    }

    /// Ends the thread after one more drain.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.wanted.notify_one();
    }

    /// Notes that a drain begins. Returns whether it is the last.
    fn begin(&self) -> bool {
        let mut state = self.lock();
        state.begun += 1;
        state.wanted = false;
        state.stop
    }

    /// Notes that the drain which began at `begun` has emptied the rings.
    fn empty(&self, begun: Instant) {
        let mut state = self.lock();
        state.emptied += 1;
        state.emptied_at = Some(begun);
        if state.waiting > 0 {
            self.done.notify_all();
        }
    }

    fn end(&self) {
        let mut state = self.lock();
        state.done += 1;
        if state.waiting > 0 {
            self.done.notify_all();
        }
    }

    /// Sleeps until `due`. Somebody who waits for a drain ends the sleep earlier, but not before `earliest`; a stop ends it
    /// at once.
    fn sleep(&self, earliest: Instant, due: Instant) {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        let asleep = |state: &mut ProgressState| !state.stop && !state.wanted;
        let woken = self.wanted.wait_timeout_while(self.lock(), left(due), asleep);
        let state = woken.unwrap_or_else(PoisonError::into_inner).0;
        if !left(earliest).is_zero() {
            drop(self.wanted.wait_timeout_while(state, left(earliest), |state| !state.stop));
        }
    }

    fn lock(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drain {
    pub(super) fn new(
        arriving: Receiver<Vec<DrainSource>>,
        (alerts, alert_keeper): (alert::Engine, Arc<AlertKeeper>),
        latest: Arc<LatestRows>,
        appender: Appender,
        labels: PerFamily<Arc<Labels>>,
        told: Own,
        progress: Arc<Progress>,
    ) -> Drain {
        Drain {
            sources: Vec::new(),
            arriving,
            alerts: Some(alerts),
            alert_keeper,
            own: latest.new_source(),
            latest,
            appender,
            told,
            labels,
            next_report: Instant::now() + REPORT_INTERVAL,
            progress,
        }
    }

    /// Writes to the table `gap` what the start could not recover. Call this once, before the thread runs.
    pub(super) fn append_gaps(&mut self, recovery: &Recovery) {
        let now = wall_us();
        let reason = self.labels[FamilyId::of::<Gap>()].intern("killed");
        let killed = recovery.last_us.map(|from_us| Gap { reason, from_us, to_us: now, ..Gap::absent(now) });
        let missing = recovery.missing.iter().map(|loss| self.gap_row(now, loss));
        let rows: Vec<Gap> = killed.into_iter().chain(missing).collect();
        if !rows.is_empty() {
            let rows = self.own_rows(&rows);
            self.appender.append(vec![rows]);
        }
    }

    /// Drains every `interval`, and earlier when somebody waits for it or a ring fills up. When asked to stop, it drains once
    /// more and returns the appender, in which rows may still wait for the journal.
    pub(super) fn run(mut self, interval: Duration) -> Appender {
        let _ending = Ending(Arc::clone(&self.progress));
        let (mut wait, mut before) = (WAIT_FIRST, Instant::now());
        loop {
            let begun = Instant::now();
            let stop = self.progress.begin();
            let came = self.accept();
            let fullest = self.drain(begun);
            self.progress.end();
            self.keep_alerts(stop);
            if stop {
                return self.appender;
            }
            let since = begun - std::mem::replace(&mut before, begun);
            wait = if came { WAIT_FIRST } else { next_wait(wait, since, fullest) }.min(interval);
            self.progress.sleep(begun + INTERVAL_MIN, begun + wait);
        }
    }

    /// Returns how many rows the fullest ring had.
    fn drain(&mut self, begun: Instant) -> usize {
        let mut appends: Vec<Append> = Vec::new();
        let now_s = monotonic_s();
        for DrainSource { id, family, ring, is_finished, .. } in &mut self.sources {
            // Asked before draining: a sampler that is gone by now publishes nothing more.
            *is_finished = ring.is_finished();
            let Some(batch) = ring.drain() else { continue };
            for (position, _) in family.table.labels() {
                let keys = batch.column(position).as_dictionary::<Int32Type>().keys();
                self.labels[*family].note_seen(keys.values(), now_s);
            }
            self.latest.put(*id, *family, batch.clone());
            appends.push(Append { family: *family, batch });
        }
        self.progress.empty(begun);
        let fullest = appends.iter().map(|append| append.batch.num_rows()).max().unwrap_or(0);
        if Instant::now() >= self.next_report {
            self.next_report = (self.next_report + REPORT_INTERVAL).max(Instant::now());
            let record = (self.told.report)(wall_us());
            appends.push(self.own_rows(&[record]));
            self.release_names(now_s);
        }
        // The journal's thread writes the rows while the rules see them.
        let now = Moment::now();
        let rows = self.appender.submit(appends);
        watched(&mut self.alerts, |engine| {
            rows.iter().for_each(|(family, rows)| engine.evaluate(*family, &rows.batch, now));
            engine.tick(now);
        });
        self.append_changes();
        self.append_statements();
        self.show();
        for gone in self.sources.extract_if(.., |source| source.is_finished) {
            self.latest.remove(gone.id, gone.family);
        }
        fullest
    }

    /// Lets names that were not seen for long give way to others.
    fn release_names(&mut self, now_s: u32) {
        // Collectors hold the labels of kymo's own tables as long as they run. Of `alert` they have none.
        let may_give = |family: FamilyId| family.sampling().is_some() || family == FamilyId::of::<Alert>();
        for (family, labels) in self.labels.iter().filter(|(family, _)| may_give(*family)) {
            let mut keys = labels.unseen(now_s);
            if let Some(alerts) = &mut self.alerts {
                alerts.release(family, &mut keys);
            }
            labels.give_way(&keys);
        }
    }

    /// Adds what the alert rules did to the table `alert`.
    fn append_changes(&mut self) {
        let changes = self.alerts.as_mut().map(alert::Engine::take_changes).unwrap_or_default();
        if changes.is_empty() {
            return;
        }
        let labels = &self.labels[FamilyId::of::<Alert>()];
        let row = |change: &AlertChange| Alert {
            rule: labels.intern(&change.rule),
            labels: labels.intern(&change.labels),
            state: labels.intern(change.transition.as_str()),
            value: change.value,
            peak: change.peak,
            since_us: change.since_us,
            ..Alert::absent(change.time_us)
        };
        let rows: Vec<Alert> = changes.iter().map(row).collect();
        let rows = self.own_rows(&rows);
        self.appender.submit(vec![rows]);
    }

    /// Adds the statements that have ended to the table `statement`.
    fn append_statements(&mut self) {
        let ended = (self.told.ended)();
        if ended.is_empty() {
            return;
        }
        // No text comes back for sure, so these labels go with their rows.
        let labels = Labels::default();
        let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let row = |one: &Ended| Statement {
            client: labels.intern(&one.client),
            text: labels.intern(&one.text),
            outcome: labels.intern(one.outcome),
            error: labels.intern(&one.error),
            rows: count(one.cost.rows),
            bytes: count(one.cost.bytes),
            duration_us: one.duration_us,
            peak_bytes: one.cost.peak_bytes.map_or(ABSENT, count),
            ..Statement::absent(one.time_us)
        };
        let rows: Vec<Statement> = ended.iter().map(row).collect();
        let rows = self.own_rows_with(&rows, &labels);
        self.appender.submit(vec![rows]);
    }

    /// Hands over the alerts that are on if they changed.
    fn keep_alerts(&mut self, at_end: bool) {
        let taken = self.alerts.as_mut().and_then(|engine| engine.take_alerts(Moment::now(), at_end));
        if let Some(alerts) = taken {
            self.alert_keeper.put(alerts);
        }
    }

    fn show(&mut self) {
        self.appender.show();
        let losses = self.appender.take_losses();
        if !losses.is_empty() {
            let now = wall_us();
            let rows: Vec<Gap> = losses.iter().map(|loss| self.gap_row(now, loss)).collect();
            // Where memory is full, these rows push others out. The next drain takes those losses.
            let rows = self.own_rows(&rows);
            self.appender.append(vec![rows]);
        }
    }

    /// Takes the rings of collectors that were started. Whether there were any.
    fn accept(&mut self) -> bool {
        let before = self.sources.len();
        self.sources.extend(self.arriving.try_iter().flatten());
        if self.sources.len() == before {
            return false;
        }
        let mut intervals: PerFamily<Option<Duration>> = PerFamily::default();
        // One whose sampler is gone may only have its last rows to give.
        for DrainSource { family, interval, .. } in self.sources.iter().filter(|source| !source.ring.is_finished()) {
            intervals[*family] = intervals[*family].max(Some(*interval));
        }
        if let Some(engine) = &mut self.alerts {
            let known = intervals.iter().filter_map(|(family, interval)| Some((family, (*interval)?)));
            known.for_each(|(family, interval)| engine.set_interval(family, interval));
        }
        // A report counts rows that were published before it. Reports are drained first, so those rows are drained with
        // it or were before: a query that sees a report sees all rows that it counts.
        self.sources.sort_by_key(|source| source.family != FamilyId::of::<Collector>());
        true
    }

    fn own_rows<R: Record>(&self, rows: &[R]) -> Append {
        self.own_rows_with(rows, &self.labels[FamilyId::of::<R>()])
    }

    fn own_rows_with<R: Record>(&self, rows: &[R], labels: &Labels) -> Append {
        let family = FamilyId::of::<R>();
        let batch = to_batch(&[rows], labels, &R::TABLE.schema());
        self.latest.put(self.own, family, batch.clone());
        Append { family, batch }
    }

    fn gap_row(&self, now: i64, loss: &Loss) -> Gap {
        let labels = &self.labels[FamilyId::of::<Gap>()];
        Gap {
            collector: labels.intern(loss.family.name()),
            reason: labels.intern(loss.reason),
            from_us: loss.time_range.0,
            to_us: loss.time_range.1,
            lost: loss.rows.cast_signed(),
            ..Gap::absent(now)
        }
    }
}

/// The time until the fullest ring is half full, if it got `rows` rows in the time `since` the drain before. It is at most
/// twice the last `wait`; after a short time, which says little, at most the last `wait`.
fn next_wait(wait: Duration, since: Duration, rows: usize) -> Duration {
    let half_full = since.mul_f64(RING_RECORDS as f64 / 2.0 / rows.max(1) as f64);
    half_full.min(if 2 * since < wait { wait } else { 2 * wait }).max(INTERVAL_MIN)
}

/// Seconds of a clock that neither steps nor counts suspensions.
fn monotonic_s() -> u32 {
    u32::try_from(monotonic_ns() / 1_000_000_000).unwrap_or_default()
}

/// Has the rules do some work. They are gone after a panic.
fn watched(alerts: &mut Option<alert::Engine>, work: impl FnOnce(&mut alert::Engine)) {
    let Some(engine) = alerts else { return };
    if catch_unwind(AssertUnwindSafe(|| work(engine))).is_err() {
        tracing::error!("evaluating alert rules panicked: recording goes on, alerting is off until a restart");
        *alerts = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_drain_after_the_last() {
        let progress = Arc::new(Progress::default());
        let begun = Instant::now();
        let waiting = Arc::clone(&progress);
        let waiter = std::thread::spawn(move || waiting.wait_for_drain(Duration::from_secs(60)));
        while progress.lock().waiting == 0 {
            std::thread::yield_now();
        }
        drop(Ending(Arc::clone(&progress)));
        assert!(!waiter.join().unwrap());
        assert!(!progress.wait_for_drain(Duration::from_secs(60)));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn the_newest_rows_are_there_once_the_rings_are_empty() {
        let progress = Arc::new(Progress::default());
        let waiting = Arc::clone(&progress);
        let waiter = std::thread::spawn(move || waiting.wait_for_newest(Duration::from_secs(60)));
        while progress.lock().waiting == 0 {
            std::thread::yield_now();
        }
        progress.begin();
        progress.empty(Instant::now());
        // The drain has not ended.
        assert!(waiter.join().unwrap());
        progress.lock().emptied_at = Some(Instant::now() + Duration::from_secs(60));
        assert!(progress.wait_for_newest(Duration::ZERO), "they are new enough");
        progress.lock().emptied_at = Instant::now().checked_sub(INTERVAL_MIN);
        assert!(!progress.wait_for_newest(Duration::ZERO));
        assert!(!progress.wait_for_drain(Duration::ZERO));
    }

    #[test]
    fn no_ring_overflows_at_any_rate_that_a_millisecond_allows() {
        for rows_a_ms in [0, 1, 82, 100, 300, 800] {
            let mut wait = WAIT_FIRST;
            for drain in 0..100_u64 {
                let since = if drain % 7 == 3 { Duration::from_micros(10) } else { wait };
                let rows = usize::try_from(since.as_millis()).unwrap() * rows_a_ms;
                assert!(rows <= RING_RECORDS, "{rows_a_ms} rows a ms: {rows} in {since:?}");
                wait = next_wait(wait, since, rows).min(Duration::from_secs(1));
            }
            assert!(rows_a_ms > 1 || wait == Duration::from_secs(1), "{rows_a_ms} rows a ms: {wait:?}");
        }
    }
}
