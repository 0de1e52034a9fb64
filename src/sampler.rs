//! Sampling: what a sampler is, and the collector thread that calls its samplers at every tick.
//!
//! Ticks lie on a grid of absolute `CLOCK_MONOTONIC` times (`clock_nanosleep(2)` with `TIMER_ABSTIME`), so a late tick
//! does not shift the ones after it. Ticks that were not taken in time are skipped, never caught up in a burst; they
//! are counted in `collector` and named in `gap`.

mod clock;
pub mod report;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::{Timespec, clock_gettime};

use crate::record::Record;
use crate::record::label::Label;
use crate::ring::Producer;
use clock::{Clocks, Jump};
use report::{Collector, Gap};

/// The shortest interval a collector can have.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// The longest interval a collector can have.
pub const INTERVAL_MAX: Duration = Duration::from_hours(24);
/// A stop request is noticed after this time at the latest, however long the interval is.
const STOP_CHECK_NS: i64 = 100_000_000;
/// Lateness is kept for as many ticks as a second can have.
const LATENESS_KEPT_MAX: usize = 1_001;
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
    trouble: Trouble,
    thread: JoinHandle<Totals>,
}

/// The newest error of each collector, for status and log; written only when a read fails.
type Trouble = Arc<Mutex<Option<String>>>;

impl Running {
    /// Starts the thread `kymo-<name>`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(setup: Setup) -> std::io::Result<Running> {
        let stop = Arc::new(AtomicBool::new(false));
        let trouble = Trouble::default();
        let (stopped, troubled) = (Arc::clone(&stop), Arc::clone(&trouble));
        let thread = thread::Builder::new()
            .name(format!("kymo-{}", setup.name))
            .spawn(move || Ticking::new(setup, troubled).run(&stopped))?;
        Ok(Running { stop, trouble, thread })
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

    /// Takes the newest read error since the last call.
    #[must_use]
    pub fn take_trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The state of a collector thread.
struct Ticking {
    setup: Setup,
    trouble: Trouble,
    interval_ns: i64,
    totals: Totals,
    clocks: Clocks,
    lateness_us: Vec<i64>,
    next_report_ns: i64,
}

impl Ticking {
    fn new(setup: Setup, trouble: Trouble) -> Ticking {
        let interval = setup.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        Ticking {
            interval_ns: i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX),
            totals: setup.totals,
            clocks: Clocks::new(),
            lateness_us: Vec::with_capacity(LATENESS_KEPT_MAX),
            next_report_ns: 0,
            setup,
            trouble,
        }
    }

    fn run(mut self, stop: &AtomicBool) -> Totals {
        // Without this the kernel may delay each wake-up by 50 µs to batch it with others (prctl(2),
        // PR_SET_TIMERSLACK). It is an optimisation, so a refusal is no error.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let mut due = monotonic_ns() + self.interval_ns;
        self.next_report_ns = due + SECOND_NS;
        let mut last = None;
        while sleep_until(due, stop) {
            let (tick, late_ns) = self.skip_missed(&mut due);
            if let Some(jump) = self.clocks.jump(&tick) {
                self.tell_jump(&tick, jump);
            }
            self.take(&tick, late_ns);
            last = Some(tick);
            due += self.interval_ns;
            if tick.monotonic_ns >= self.next_report_ns {
                self.report(&tick);
            }
        }
        if let Some(tick) = last {
            self.report(&tick);
        }
        self.totals
    }

    /// Moves `due` to the newest grid point that has passed, counting those before it as missed.
    fn skip_missed(&mut self, due: &mut i64) -> (Tick, i64) {
        let tick = Tick { time: wall_us(), monotonic_ns: monotonic_ns() };
        let missed = (tick.monotonic_ns - *due).max(0) / self.interval_ns;
        if missed > 0 {
            let from_us = tick.time - (tick.monotonic_ns - *due) / 1_000;
            *due += missed * self.interval_ns;
            self.totals.missed += missed;
            self.tell_gap(&tick, self.setup.reasons.late, from_us, missed);
        }
        self.totals.scheduled += missed + 1;
        (tick, tick.monotonic_ns - *due)
    }

    /// The monotonic clock calls for no tick while the host is suspended, so none is lost in either case.
    fn tell_jump(&mut self, tick: &Tick, Jump { suspended_us, stepped_us }: Jump) {
        if suspended_us != 0 {
            self.tell_gap(tick, self.setup.reasons.suspended, tick.time - suspended_us, 0);
        }
        if stepped_us != 0 {
            self.tell_gap(tick, self.setup.reasons.clock_step, tick.time - stepped_us, 0);
        }
    }

    fn tell_gap(&mut self, tick: &Tick, reason: Label, from_us: i64, lost: i64) {
        let collector = self.setup.gap_label;
        self.setup.gaps.push(Gap { time: tick.time, collector, reason, from_us, to_us: tick.time, lost });
        self.setup.gaps.publish();
    }

    fn take(&mut self, tick: &Tick, late_ns: i64) {
        self.totals.ticks += 1;
        if self.lateness_us.len() < LATENESS_KEPT_MAX {
            self.lateness_us.push(late_ns.max(0) / 1_000);
        }
        let (samplers, totals, trouble) = (&mut self.setup.samplers, &mut self.totals, &self.trouble);
        (self.setup.snapshot)(&mut || {
            for sampler in samplers.iter_mut() {
                // A panic in a parser must cost that family its tick, not the collector its thread.
                let sampled = catch_unwind(AssertUnwindSafe(|| sampler.sample(tick)));
                match sampled {
                    Ok((Sampled { pushed, dropped }, outcome)) => {
                        totals.pushed += pushed.cast_signed();
                        totals.dropped += dropped.cast_signed();
                        if let Err(error) = outcome {
                            fail(totals, trouble, || error.to_string());
                        }
                    }
                    Err(_) => fail(totals, trouble, || format!("read {}: its parser panicked", sampler.family())),
                }
            }
        });
        self.totals.read_ns += monotonic_ns() - tick.monotonic_ns;
    }

    fn report(&mut self, tick: &Tick) {
        let quantile = |lateness: &mut [i64], per_mille: usize| {
            if lateness.is_empty() {
                return crate::record::ABSENT;
            }
            let rank = (lateness.len() * per_mille).div_ceil(1_000).clamp(1, lateness.len()) - 1;
            *lateness.select_nth_unstable(rank).1
        };
        let lateness = &mut self.lateness_us;
        self.setup.reports.push(Collector {
            collector: self.setup.report_label,
            scheduled_ticks: self.totals.scheduled,
            ticks: self.totals.ticks,
            missed_ticks: self.totals.missed,
            pushed_records: self.totals.pushed,
            dropped_records: self.totals.dropped,
            failed_reads: self.totals.failed,
            read_us: self.totals.read_ns / 1_000,
            lateness_p50_us: quantile(lateness, 500),
            lateness_p99_us: quantile(lateness, 990),
            lateness_max_us: quantile(lateness, 1_000),
            ..Collector::absent(tick.time)
        });
        self.setup.reports.publish();
        lateness.clear();
        // Also a grid: reports stay one second apart on average however late a tick was.
        self.next_report_ns = (self.next_report_ns + SECOND_NS).max(tick.monotonic_ns);
    }
}

fn fail(totals: &mut Totals, trouble: &Trouble, message: impl FnOnce() -> String) {
    totals.failed += 1;
    // Only this path allocates; and it never waits: whoever reads the message may make us skip one.
    if let Ok(mut slot) = trouble.try_lock() {
        *slot = Some(message());
    }
}

/// Sleeps until `due`; `false` when asked to stop.
fn sleep_until(due: i64, stop: &AtomicBool) -> bool {
    loop {
        // Relaxed: see `request_stop`.
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let now = monotonic_ns();
        if now >= due {
            return true;
        }
        let until = due.min(now + STOP_CHECK_NS);
        // An interrupted sleep goes round the loop.
        let _ = clock_nanosleep_absolute(
            ClockId::Monotonic,
            &Timespec { tv_sec: until / SECOND_NS, tv_nsec: until % SECOND_NS },
        );
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
