//! The running collectors: started, stopped and retuned while everything else goes on.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batch::RingSource;
use crate::config::{COLLECTORS_MAX, CollectorSettings};
use crate::family::{FamilyId, PerFamily};
use crate::latest::{LatestRows, SourceId};
use crate::reading::context::Context;
use crate::reading::snapshot::in_snapshot;
use crate::record::label::Labels;
use crate::ring::ring;
use crate::sampler::health::CollectorHealth;
use crate::sampler::report::{Collector, Gap};
use crate::sampler::thread::CollectorThread;
use crate::sampler::{Reasons, Setup, Totals, wall_us};
use crate::store::Store;

use super::drain::DrainSource;

/// Records that a family's ring holds: far more than come within a drain interval, so that a drain thread which is
/// kept from running for a while costs nothing.
const RING_RECORDS: usize = 16_384;
/// The same for a collector's own reports, one a second, and gaps.
const REPORT_RECORDS: usize = 1_024;

/// Why a collector could not be started, stopped or retuned.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectorsError {
    /// There is one of this name.
    #[error("collector {0} runs already; stop it first, or retune it")]
    Exists(String),
    /// There is none of this name.
    #[error("there is no collector {name}; running: {running}")]
    Missing {
        /// The name that was asked for.
        name: String,
        /// Those that run.
        running: String,
    },
    /// Another collector samples the family.
    #[error("{family} is sampled by the collector {owner}; a family belongs to one collector at most")]
    Taken {
        /// The family.
        family: &'static str,
        /// Who has it.
        owner: String,
    },
    /// Too many.
    #[error("{COLLECTORS_MAX} collectors run already, which is the most there can be")]
    Full,
    /// The system gave no thread.
    #[error("start a thread for collector {name}: {source}")]
    Thread {
        /// Its name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// A collector as it runs.
#[derive(Clone, Debug)]
pub(super) struct CollectorInfo {
    pub(super) settings: CollectorSettings,
    /// When it was started, µs since the epoch.
    pub(super) since: i64,
    /// Whose rows are its newest.
    pub(super) source: SourceId,
    /// What it had done when it was last retuned, or when it was stopped. Its reports go on from that.
    pub(super) totals: Totals,
    pub(super) health: CollectorHealth,
}

/// All collectors of the daemon.
pub(super) struct Collectors {
    entries: Mutex<BTreeMap<String, Entry>>,
    /// A family keeps its labels when its collector is restarted.
    labels: PerFamily<Arc<Labels>>,
    sources: SyncSender<Vec<DrainSource>>,
    latest: Arc<LatestRows>,
    store: Arc<Store>,
    context: Context,
    retired: Mutex<Totals>,
}

struct Entry {
    settings: CollectorSettings,
    thread: CollectorThread,
    since: i64,
    source: SourceId,
    /// What it had done when it was last retuned.
    totals: Totals,
    /// What was last told in the log.
    told: CollectorHealth,
}

impl Collectors {
    /// None yet. The drain thread receives the rings of each that is started through `sources`.
    pub(super) fn new(
        sources: SyncSender<Vec<DrainSource>>,
        labels: PerFamily<Arc<Labels>>,
        latest: Arc<LatestRows>,
        store: Arc<Store>,
        context: Context,
    ) -> Self {
        Collectors { entries: Mutex::default(), labels, sources, latest, store, context, retired: Mutex::default() }
    }

    pub(super) fn start(&self, settings: CollectorSettings) -> Result<(), CollectorsError> {
        let mut entries = self.lock();
        if entries.contains_key(&settings.name) {
            return Err(CollectorsError::Exists(settings.name));
        }
        if entries.len() >= COLLECTORS_MAX {
            return Err(CollectorsError::Full);
        }
        free(&entries, &settings)?;
        let entry = self.launch(settings, Totals::default())?;
        entries.insert(entry.settings.name.clone(), entry);
        Ok(())
    }

    pub(super) fn stop(&self, name: &str) -> Result<CollectorInfo, CollectorsError> {
        let mut entries = self.lock();
        let entry = entries.remove(name).ok_or_else(|| missing(&entries, name))?;
        let info = entry.info();
        let totals = self.halt(entry);
        self.retire(&totals);
        Ok(CollectorInfo { totals, ..info })
    }

    /// What a collector that runs no more has lost stays counted.
    fn retire(&self, totals: &Totals) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.missed += totals.missed;
        retired.dropped += totals.dropped;
    }

    pub(super) fn find(&self, name: &str) -> Result<CollectorInfo, CollectorsError> {
        let entries = self.lock();
        match entries.get(name) {
            Some(entry) => Ok(entry.info()),
            None => Err(missing(&entries, name)),
        }
    }

    /// Gives a running collector another interval or other families. Its counts go on.
    pub(super) fn retune(&self, settings: CollectorSettings) -> Result<(), CollectorsError> {
        let mut entries = self.lock();
        if !entries.contains_key(&settings.name) {
            return Err(missing(&entries, &settings.name));
        }
        free(&entries, &settings)?;
        let Some(old) = entries.remove(&settings.name) else { return Err(missing(&entries, &settings.name)) };
        let since = old.since;
        let totals = self.halt(old);
        let mut entry = self.launch(settings, totals).inspect_err(|_| self.retire(&totals))?;
        entry.since = since;
        entries.insert(entry.settings.name.clone(), entry);
        Ok(())
    }

    /// Stops all of them; their last records are in the rings then.
    pub(super) fn stop_all(&self) {
        let entries = std::mem::take(&mut *self.lock());
        // All are asked before any is waited for, so it takes one tick in all.
        for entry in entries.values() {
            entry.thread.request_stop();
        }
        for entry in entries.into_values() {
            self.halt(entry);
        }
    }

    pub(super) fn list(&self) -> Vec<CollectorInfo> {
        self.survey().0
    }

    /// The collectors that run, and what those that were stopped had missed and dropped, both as of one moment: what a
    /// collector lost is counted once, whether it runs or was stopped.
    pub(super) fn survey(&self) -> (Vec<CollectorInfo>, Totals) {
        let entries = self.lock();
        let retired = *self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        (entries.values().map(Entry::info).collect(), retired)
    }

    /// Writes to the log what has changed in how the collectors do.
    pub(super) fn tell_changes(&self) {
        for entry in self.lock().values_mut() {
            let now = entry.thread.health();
            tell_change(&entry.settings.name, &entry.told, &now);
            entry.told = now;
        }
    }

    /// How many label texts came after an interner was full.
    pub(super) fn overflowed_labels(&self) -> u64 {
        self.labels.values().map(|labels| labels.overflowed()).sum()
    }

    fn launch(&self, settings: CollectorSettings, totals: Totals) -> Result<Entry, CollectorsError> {
        let (reports, report_source) = ring::<Collector>(REPORT_RECORDS);
        let (gaps, gap_source) = ring::<Gap>(REPORT_RECORDS);
        let (report_family, gap_family) = (FamilyId::of::<Collector>(), FamilyId::of::<Gap>());
        let (report_labels, gap_labels) = (&self.labels[report_family], &self.labels[gap_family]);
        let id = self.latest.new_source();
        let drained = |family, ring| DrainSource { id, family, ring };
        let mut sources = vec![
            drained(report_family, Box::new(RingSource::new(report_source, Arc::clone(report_labels)))),
            drained(gap_family, Box::new(RingSource::new(gap_source, Arc::clone(gap_labels)))),
        ];
        let mut samplers = Vec::new();
        for &family in &settings.families {
            let Some(sampling) = family.sampling() else {
                unreachable!("checked settings list no family that kymo writes itself")
            };
            let (sampler, ring) = (sampling.open)(&self.context, &self.labels[family], RING_RECORDS);
            samplers.push(sampler);
            sources.push(drained(family, ring));
            self.store.set_interval(family, Some(settings.interval));
        }
        self.sources.send(sources).map_err(|_| CollectorsError::Stopping)?;
        let setup = Setup {
            name: settings.name.clone(),
            interval: settings.interval,
            scheduling: settings.scheduling,
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
        let thread = CollectorThread::start(setup)
            .map_err(|source| CollectorsError::Thread { name: settings.name.clone(), source })?;
        Ok(Entry { settings, thread, since: wall_us(), source: id, totals, told: CollectorHealth::default() })
    }

    fn halt(&self, entry: Entry) -> Totals {
        for &family in &entry.settings.families {
            self.store.set_interval(family, None);
        }
        entry.thread.stop()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // The map is whole at every step: entries are put in or taken out in one go.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn info(&self) -> CollectorInfo {
        let Entry { settings, thread, since, source, totals, told: _ } = self;
        let (settings, health) = (settings.clone(), thread.health());
        CollectorInfo { settings, since: *since, source: *source, totals: *totals, health }
    }
}

impl fmt::Debug for Collectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collectors").field("names", &self.lock().keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

fn tell_change(collector: &str, before: &CollectorHealth, now: &CollectorHealth) {
    for one in now.unavailable.iter().filter(|one| !before.unavailable.contains(one)) {
        tracing::info!(collector, family = one.family, "not recorded, for this host lacks it: {}", one.reason);
    }
    for one in before.unavailable.iter().filter(|one| now.unavailable.iter().all(|still| still.family != one.family)) {
        tracing::info!(collector, family = one.family, "recorded from now on: this host has got it");
    }
    match (&before.overload, &now.overload) {
        (None, Some(overload)) => tracing::warn!(collector, "{overload}"),
        (Some(_), None) => tracing::info!(collector, "no longer overloaded"),
        _ => (),
    }
    if let (None, Some(reason)) = (&before.refused_scheduling, &now.refused_scheduling) {
        tracing::warn!(collector, "{}", refused_scheduling(reason));
    }
    for one in now.failing.iter().filter(|one| !before.failing.contains(one)) {
        tracing::warn!(collector, family = one.family, error = one.error, "a family could not be read");
    }
    for one in before.failing.iter().filter(|one| now.failing.iter().all(|still| still.family != one.family)) {
        tracing::info!(collector, family = one.family, "the family can be read again");
    }
}

pub(super) fn refused_scheduling(reason: &str) -> String {
    format!(
        "scheduling = \"fifo\" was refused: {reason}; it needs CAP_SYS_NICE or RLIMIT_RTPRIO, and the collector goes on \
         without"
    )
}

/// Whether no other collector has one of these families.
fn free(entries: &BTreeMap<String, Entry>, settings: &CollectorSettings) -> Result<(), CollectorsError> {
    for (owner, entry) in entries.iter().filter(|(owner, _)| **owner != settings.name) {
        let taken = settings.families.iter().find(|family| entry.settings.families.contains(family));
        if let Some(family) = taken {
            return Err(CollectorsError::Taken { family: family.name(), owner: owner.clone() });
        }
    }
    Ok(())
}

fn missing(entries: &BTreeMap<String, Entry>, name: &str) -> CollectorsError {
    let running = entries.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let running = if running.is_empty() { "none".into() } else { running };
    CollectorsError::Missing { name: name.into(), running }
}

/// One interner a family.
pub(super) fn labels() -> PerFamily<Arc<Labels>> {
    PerFamily::default()
}
