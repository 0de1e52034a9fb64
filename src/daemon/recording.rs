//! The recorder alone, for `kymo record`: it records into a folder and serves nobody.
//!
//! No alert rule is evaluated and nobody is told anything: a command that runs for minutes has whoever started it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;

use crate::alert::saved::Saved;
use crate::collector::CollectorSettings;
use crate::config::Settings;
use crate::export::{self, Telemetry};
use crate::latest::LatestRows;
use crate::sampler::wall_us;
use crate::scheduling::cpus::Cpus;
use crate::store::identity::name_of;

use super::drain::{FRESH_PATIENCE, Progress};
use super::parts::Parts;
use super::threads::Threads;
use super::{log_left_out, open, opened};

/// [`Recording::settle`] does not wait for collectors that tick less often.
const SETTLE_INTERVAL_MAX: Duration = Duration::from_millis(500);
/// The longest time that it takes. A table without rows, such as `sensor` on most virtual machines, is not waited for longer.
const SETTLE_MAX: Duration = Duration::from_millis(700);
/// How often it looks.
const SETTLE_STEP: Duration = Duration::from_millis(5);

/// A recorder that runs.
pub struct Recording {
    threads: Threads,
    /// Keeps the log.
    _telemetry: Telemetry,
    progress: Arc<Progress>,
    latest: Arc<LatestRows>,
    collectors: Vec<CollectorSettings>,
}

impl Recording {
    /// Takes the data folder and starts the collectors of `settings`. Rules, notifiers, exports and the addresses to serve on are ignored.
    ///
    /// # Errors
    /// When the data folder or a thread cannot be had.
    pub fn start(mut settings: Settings) -> anyhow::Result<Recording> {
        settings.rules.clear();
        settings.notifiers.clear();
        settings.tracing.endpoint = None;
        let host = name_of(&settings.store.path, &settings.store.host);
        let telemetry = export::init_logging(&settings.log, &settings.tracing, &host)?;
        log_left_out(&settings);
        let (store, appender, opened) = open(&settings)?;
        let found = opened::tell(&opened);
        let collectors = settings.collectors.clone();
        let (cpus, exports) = (Arc::new(Cpus::of_process()), telemetry.losses());
        let parts = Parts::build(settings, store, appender, cpus, Saved::default(), found, exports)?;
        let (progress, latest) = (Arc::clone(&parts.daemon.progress), Arc::clone(&parts.daemon.latest));
        let recorder = Arc::clone(&parts.daemon.collectors);
        let intervals = [parts.drain_interval, parts.flush_interval];
        let threads = Threads::start(parts.daemon, parts.drain, parts.requests, &opened.recovery, intervals)?;
        for collector in parts.collectors {
            recorder.start_configured(collector)?;
        }
        Ok(Recording { threads, _telemetry: telemetry, progress, latest, collectors })
    }

    /// Waits until each collector has ticked from now on, so that counters are known at this moment. It takes 0.7 s at most, and leaves
    /// out collectors that tick less than twice a second.
    pub fn settle(&self) {
        let (since_us, deadline) = (wall_us(), Instant::now() + SETTLE_MAX);
        let often = |collector: &&CollectorSettings| collector.interval <= SETTLE_INTERVAL_MAX;
        while Instant::now() < deadline {
            self.progress.wait_for_newest(FRESH_PATIENCE);
            if self.collectors.iter().filter(often).all(|collector| self.has_ticked(collector, since_us)) {
                return;
            }
            thread::sleep(SETTLE_STEP);
        }
    }

    /// Whether a table of the collector has a row of `since_us` or later.
    fn has_ticked(&self, collector: &CollectorSettings, since_us: i64) -> bool {
        collector.families.iter().any(|family| {
            self.latest.by_source(*family).iter().any(|(_, rows)| {
                let times =
                    rows.columns().first().and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
                times.and_then(|times| times.values().last()).is_some_and(|time| *time >= since_us)
            })
        })
    }

    /// Stops sampling and writes all rows to files.
    ///
    /// # Errors
    /// When a thread had panicked or the rows could not be written.
    pub fn stop(self) -> anyhow::Result<()> {
        self.threads.stop()
    }
}
