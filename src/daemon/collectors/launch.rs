//! Starting a collector's thread: its samplers, and the rings between it and the drain thread.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crate::batch::{RingSource, Source};
use crate::collector::CollectorSettings;
use crate::family::{FamilyId, PerFamily};
use crate::latest::SourceId;
use crate::reading::context::Context;
use crate::reading::snapshot::in_snapshot;
use crate::record::label::Labels;
use crate::ring::ring;
use crate::sampler::report::{Collector, Gap};
use crate::sampler::thread::CollectorThread;
use crate::sampler::{Ended, Reasons, Setup};
use crate::scheduling::cpus::Cpus;
use crate::serve::OperatorError;
use crate::store::Store;

/// Records that a family's ring holds. A drain comes sooner where one fills up.
pub(in crate::daemon) const RING_RECORDS: usize = 16_384;
/// Records that the rings of a collector's own reports and gaps hold. There is about one a second.
const REPORT_RECORDS: usize = 1_024;

/// The drain thread's end of one ring.
pub(in crate::daemon) struct DrainSource {
    /// Whose rows the ring has.
    pub(in crate::daemon) id: SourceId,
    pub(in crate::daemon) family: FamilyId,
    pub(in crate::daemon) ring: Box<dyn Source>,
    /// The interval of its collector.
    pub(in crate::daemon) interval: Duration,
    /// The sampler was gone just before the ring was last drained: the ring has no more rows.
    pub(in crate::daemon) is_finished: bool,
}

/// What all collectors are made with.
pub(super) struct Launcher {
    /// A family keeps its labels when its collector is restarted.
    pub(super) labels: PerFamily<Arc<Labels>>,
    pub(super) store: Arc<Store>,
    pub(super) context: Context,
    pub(super) cpus: Arc<Cpus>,
}

impl Launcher {
    /// Starts a thread for checked settings, which goes on from what `before` left. The drain thread gets its rings first.
    pub(super) fn launch(
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
            self.store.set_source(family, &settings.name, settings.interval);
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
}

/// The error for a change once the daemon stops.
pub(super) fn stopping() -> OperatorError {
    OperatorError::Unavailable("the daemon is stopping".into())
}
