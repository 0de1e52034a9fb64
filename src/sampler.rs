//! Sampling: what a sampler is, and the collector thread that calls its samplers at every tick.
//!
//! Ticks lie on a grid of absolute `CLOCK_MONOTONIC` times (`clock_nanosleep(2)` with `TIMER_ABSTIME`), so a late tick
//! does not shift later ones. Missed ticks are skipped and never caught up in a burst. The table `collector` counts
//! them, and the table `gap` has a row for each stretch of them.

mod clock;
pub mod health;
pub mod report;
pub mod thread;
mod ticking;
mod underway;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::record::label::Label;
use crate::ring::Producer;
use crate::scheduling::cpus::Cpus;
use report::{Collector, Gap};

/// The shortest interval of a collector.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// The longest interval of a collector.
pub const INTERVAL_MAX: Duration = Duration::from_hours(24);
const SECOND_NS: i64 = 1_000_000_000;

/// One moment of sampling.
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    /// Wall clock when the snapshot began, µs since the epoch.
    pub time: i64,
    /// `CLOCK_MONOTONIC` at the same moment, ns. Use it for differences: the wall clock may step.
    pub monotonic_ns: i64,
}

/// What a sampler did at a tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sampled {
    /// Records that went into the ring.
    pub pushed: u64,
    /// Records dropped because the ring was full.
    pub dropped: u64,
    /// Values that were left out because they cannot be true.
    pub impossible: u64,
}

/// Why a family could not be read at a tick.
#[derive(Debug, thiserror::Error)]
#[error("read {what}: {cause}")]
pub struct SampleError {
    /// The family or file.
    pub what: &'static str,
    /// Why it could not be read.
    pub cause: String,
}

/// Reads one family at each tick and pushes its records. Lives on the collector thread.
pub trait Sampler: Any + Send {
    /// The family's name.
    fn family(&self) -> &'static str;

    /// Whether the host has what the family reads.
    ///
    /// # Errors
    /// What is missing and the usual reason, for people.
    fn check(&mut self) -> Result<(), String>;

    /// Writes for people what the last tick could not give of the family, because the host lacks it or kymo may not read it; writes
    /// nothing if it gave all. Allocates nothing but the text.
    fn tell_lacking(&self, told: &mut String);

    /// Pushes and publishes the records of `tick`. Returns their number, and an error if the source could not be read
    /// or understood; some of the tick's records may then be missing.
    fn sample(&mut self, tick: &Tick) -> (Sampled, Result<(), SampleError>);

    /// Goes on from what `before` knew, a sampler of the same family whose thread has ended, so that the counters that it held
    /// do not fall. By default there is nothing to go on from.
    fn take_over(&mut self, _before: Box<dyn Sampler>) {}
}

/// What a collector thread needs to run.
pub struct Setup {
    /// Its name.
    pub name: String,
    /// The time between its ticks, [`INTERVAL_MIN`]…[`INTERVAL_MAX`].
    pub interval: Duration,
    /// How its thread is scheduled.
    pub scheduling: Scheduling,
    /// Where its thread runs while queries compute for long.
    pub cpus: Arc<Cpus>,
    /// Runs on the thread before anything else.
    pub prepare: Box<dyn FnOnce() + Send>,
    /// One sampler for each of its families.
    pub samplers: Vec<Box<dyn Sampler>>,
    /// Runs its argument within one snapshot of `/proc`.
    pub snapshot: fn(&mut dyn FnMut()),
    /// Takes its own counts.
    pub reports: Producer<Collector>,
    /// Takes a row for each stretch of missed ticks.
    pub gaps: Producer<Gap>,
    /// Its name as a label of `collector`.
    pub report_label: Label,
    /// Its name as a label of `gap`.
    pub gap_label: Label,
    /// The values of `gap.reason`.
    pub reasons: Reasons,
    /// The counts to continue from after a retune; zeros for a new collector.
    pub totals: Totals,
}

/// How a collector's thread is scheduled (`sched(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// Before all ordinary threads, like [`Fifo`](Scheduling::Fifo), if its interval is 10 ms or less, the system allows it, and
    /// reading takes less than a quarter of the time. Else like any other.
    #[default]
    Auto,
    /// Like any other thread.
    Other,
    /// Before all ordinary threads: `SCHED_FIFO` at its lowest priority. Needs `CAP_SYS_NICE` or `RLIMIT_RTPRIO`.
    /// Without them the thread runs like any other, and [`CollectorHealth`](health::CollectorHealth) says so.
    Fifo,
}

/// The labels of `gap.reason` that a collector writes.
#[derive(Clone, Copy, Debug)]
pub struct Reasons {
    /// Ticks were missed: the thread ran late.
    pub late: Label,
    /// The host was suspended.
    pub suspended: Label,
    /// The wall clock was set.
    pub clock_step: Label,
}

/// What a collector's thread leaves behind.
#[derive(Default)]
pub struct Ended {
    /// What it had done.
    pub totals: Totals,
    /// Its samplers, from which those of a retuned collector go on. None after a panic.
    pub samplers: Vec<Box<dyn Sampler>>,
}

/// A collector's counts since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Ticks taken or missed.
    pub scheduled: i64,
    /// Ticks taken.
    pub ticks: i64,
    /// Ticks skipped.
    pub missed: i64,
    /// Records pushed.
    pub pushed: i64,
    /// Records dropped because a ring was full.
    pub dropped: i64,
    /// Times that a family could not be read at a tick.
    pub failed: i64,
    /// Values that were left out because they cannot be true.
    pub impossible: i64,
    /// Time spent in samplers, ns.
    pub read_ns: i64,
}

/// `CLOCK_MONOTONIC`, ns.
#[must_use]
pub fn monotonic_ns() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * SECOND_NS + now.tv_nsec
}

/// The wall clock, µs since the epoch.
#[must_use]
pub fn wall_us() -> i64 {
    clock_us(ClockId::Realtime)
}

/// `CLOCK_BOOTTIME`, µs: the time since the host was booted, suspensions included.
#[must_use]
pub fn boot_us() -> i64 {
    clock_us(ClockId::Boottime)
}

fn clock_us(id: ClockId) -> i64 {
    let now = clock_gettime(id);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}
