//! Sampling: what a sampler is, and the collector thread that calls its samplers at every tick.
//!
//! Ticks lie on a grid of absolute `CLOCK_MONOTONIC` times (`clock_nanosleep(2)` with `TIMER_ABSTIME`), so a late tick
//! does not shift the ones after it. Ticks that were not taken in time are skipped, never caught up in a burst; they
//! are counted in `collector` and named in `gap`.

mod clock;
pub mod health;
pub mod report;
mod ticking;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::time::clock_gettime;

use crate::record::label::Label;
use crate::ring::Producer;
use health::{Health, SharedHealth};
use report::{Collector, Gap};
use ticking::Ticking;

/// The shortest interval a collector can have.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// The longest interval a collector can have.
pub const INTERVAL_MAX: Duration = Duration::from_hours(24);
const SECOND_NS: i64 = 1_000_000_000;

/// One moment of sampling.
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    /// Wall clock when the snapshot began, µs since the epoch.
    pub time: i64,
    /// `CLOCK_MONOTONIC` at the same moment, ns: for differences, as the wall clock may step.
    pub monotonic_ns: i64,
}

/// What a sampler did at a tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sampled {
    /// Records that went into the ring.
    pub pushed: u64,
    /// Records that found the ring full.
    pub dropped: u64,
}

/// Why a family could not be read at a tick.
#[derive(Debug, thiserror::Error)]
#[error("read {what}: {cause}")]
pub struct SampleError {
    /// The family or file.
    pub what: &'static str,
    /// What was wrong with it.
    pub cause: String,
}

/// Reads one family at a tick and pushes its records. Lives on the collector thread.
pub trait Sampler: Send {
    /// The family's name.
    fn family(&self) -> &'static str;

    /// Whether the host has what the family reads.
    ///
    /// # Errors
    /// Why it has not, for people.
    fn check(&mut self) -> Result<(), String>;

    /// Pushes and publishes the records of `tick`: how many, and an error when the source could not be read or
    /// understood; the tick's records may then be missing in part.
    fn sample(&mut self, tick: &Tick) -> (Sampled, Result<(), SampleError>);
}

/// What a collector thread is given.
pub struct Setup {
    /// Its name.
    pub name: String,
    /// The distance of its ticks, [`INTERVAL_MIN`]…[`INTERVAL_MAX`].
    pub interval: Duration,
    /// How its thread is scheduled.
    pub scheduling: Scheduling,
    /// Runs on the thread before anything else.
    pub prepare: Box<dyn FnOnce() + Send>,
    /// One for each of its families.
    pub samplers: Vec<Box<dyn Sampler>>,
    /// Runs its argument within one snapshot of `/proc`.
    pub snapshot: fn(&mut dyn FnMut()),
    /// Where its own counts go.
    pub reports: Producer<Collector>,
    /// Where its missed stretches go.
    pub gaps: Producer<Gap>,
    /// Its name as a label of `collector`.
    pub report_label: Label,
    /// Its name as a label of `gap`.
    pub gap_label: Label,
    /// What `gap.reason` can be.
    pub reasons: Reasons,
    /// Counts to go on from, when it is retuned.
    pub totals: Totals,
}

/// How a collector's thread is scheduled (`sched(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// As any other thread.
    #[default]
    Other,
    /// Before all ordinary threads: `SCHED_FIFO` at its lowest priority. Needs `CAP_SYS_NICE` or `RLIMIT_RTPRIO`;
    /// without, the thread goes on as any other and [`Health`] says so.
    Fifo,
}

/// The values of `gap.reason` that a collector writes.
#[derive(Clone, Copy, Debug)]
pub struct Reasons {
    /// Ticks were missed because the thread ran late.
    pub late: Label,
    /// The host was suspended.
    pub suspended: Label,
    /// The wall clock was set.
    pub clock_step: Label,
}

/// A collector's counts since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Taken and missed.
    pub scheduled: i64,
    /// Taken.
    pub ticks: i64,
    /// Skipped.
    pub missed: i64,
    /// Records pushed.
    pub pushed: i64,
    /// Records dropped at a full ring.
    pub dropped: i64,
    /// Families that could not be read at a tick.
    pub failed: i64,
    /// Time spent in samplers, ns.
    pub read_ns: i64,
}

/// A running collector thread.
pub struct Running {
    stop: Arc<AtomicBool>,
    health: SharedHealth,
    thread: JoinHandle<Totals>,
}

impl Running {
    /// Starts the thread `kymo-<name>`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(setup: Setup) -> std::io::Result<Running> {
        let stop = Arc::new(AtomicBool::new(false));
        let health = SharedHealth::default();
        let (stopped, shared) = (Arc::clone(&stop), health.clone());
        let thread = thread::Builder::new()
            .name(format!("kymo-{}", setup.name))
            .spawn(move || Ticking::new(setup, shared).run(&stopped))?;
        Ok(Running { stop, health, thread })
    }

    /// Asks the thread to stop after its current tick; returns at once.
    pub fn request_stop(&self) {
        // Relaxed: the flag carries nothing but itself; joining the thread orders what it wrote.
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops the thread and waits for it (100 ms and a tick at the most). Its last counts are in the ring then.
    #[must_use]
    pub fn stop(self) -> Totals {
        self.request_stop();
        self.thread.join().unwrap_or_default()
    }

    /// How it does.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.get()
    }
}

/// `CLOCK_MONOTONIC`, ns.
#[must_use]
pub fn monotonic_ns() -> i64 {
    let now = clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * SECOND_NS + now.tv_nsec
}

/// The wall clock, µs since the epoch.
#[must_use]
pub fn wall_us() -> i64 {
    let now = clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}
