//! The collector thread's loop: a grid of deadlines, and the work at each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::Timespec;

use super::clock::{Clocks, Jump};
use super::health::{CollectorHealth, SharedHealth, Unavailable};
use super::report::{Collector, Gap};
use super::underway::Underway;
use super::{
    Ended, INTERVAL_MAX, INTERVAL_MIN, SECOND_NS, Sampled, Sampler, Scheduling, Setup, Tick, Totals, monotonic_ns,
    wall_us,
};
use crate::record::label::Label;
use crate::record::{ABSENT, Record};
use crate::scheduling::{be_ordinary, run_first, take_short_turns};

/// A stop request is noticed within this time, even if the interval is longer.
const STOP_CHECK_NS: i64 = 100_000_000;
/// The most ticks of a second, for each of which lateness is kept.
const LATENESS_KEPT_MAX: usize = 1_001;
/// The interval at which a family that the host lacks is checked again.
const RECHECK_NS: i64 = 10 * SECOND_NS;

/// A collector with a longer interval has time to wait for a CPU.
const FAST_NS: i64 = 10_000_000;

/// The state of a collector thread.
pub(super) struct Ticking {
    setup: Setup,
    members: Vec<Member>,
    health: SharedHealth,
    underway: Underway,
    interval_ns: i64,
    totals: Totals,
    clocks: Clocks,
    lateness_us: Vec<i64>,
    next_report_ns: i64,
    /// The time since the last report.
    second: Second,
    /// Why the scheduling policy was refused, until this is in the health.
    refused_scheduling: Option<String>,
    /// It runs before all ordinary threads as long as its reading takes little time.
    yields: bool,
    /// It runs where queries do not.
    apart: bool,
}

/// One family of the collector.
struct Member {
    sampler: Box<dyn Sampler>,
    /// The host lacks it.
    lacking: bool,
    /// When to check whether the host has it; `None` if no check is due.
    recheck_ns: Option<i64>,
    /// The health says that it could not be read.
    failing: bool,
    /// What the health says that it could not give; empty if it gives all.
    told: String,
    /// The same as of the last second. Both keep their memory.
    telling: String,
    /// Its reading time since the last report, ns.
    read_ns: i64,
}

#[derive(Default)]
struct Second {
    ticks: i64,
    read_ns: i64,
    /// What the health says.
    overloaded: bool,
}

impl Ticking {
    pub(super) fn new(mut setup: Setup, health: SharedHealth, underway: Underway) -> Ticking {
        let interval = setup.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let samplers = std::mem::take(&mut setup.samplers);
        Ticking {
            interval_ns: i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX),
            totals: setup.totals,
            members: samplers.into_iter().map(Member::new).collect(),
            clocks: Clocks::new(),
            lateness_us: Vec::with_capacity(LATENESS_KEPT_MAX),
            next_report_ns: 0,
            second: Second::default(),
            refused_scheduling: None,
            yields: false,
            apart: false,
            setup,
            health,
            underway,
        }
    }

    pub(super) fn run(mut self, stop: &AtomicBool) -> Ended {
        // Without this the kernel may delay each wake-up by 50 µs to batch it with others (prctl(2),
        // PR_SET_TIMERSLACK). A refusal is no error: this only improves punctuality.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        std::mem::replace(&mut self.setup.prepare, Box::new(|| ()))();
        self.setup.cpus.begin_to_collect();
        let cpus = std::sync::Arc::clone(&self.setup.cpus);
        let _fast = (self.interval_ns <= FAST_NS).then(|| cpus.run_fast());
        self.take_scheduling();
        let mut now = monotonic_ns();
        let mut due = now + self.interval_ns;
        self.next_report_ns = due + SECOND_NS;
        let mut last = None;
        while let Some(woken) = sleep_until(due, now, stop) {
            let (tick, late_ns) = self.skip_missed(woken, &mut due);
            if let Some(jump) = self.clocks.jump(&tick) {
                self.tell_jump(&tick, jump);
            }
            now = self.take(&tick, late_ns);
            last = Some(tick);
            due += self.interval_ns;
            self.take_place();
            if tick.monotonic_ns >= self.next_report_ns {
                self.report(&tick);
            }
        }
        if let Some(tick) = last.filter(|_| self.second.ticks > 0) {
            self.report(&tick);
        }
        let samplers = self.members.into_iter().map(|member| member.sampler).collect();
        Ended { totals: self.totals, samplers }
    }

    fn take_scheduling(&mut self) {
        match self.setup.scheduling {
            Scheduling::Auto if self.interval_ns <= FAST_NS && run_first().is_ok() => self.yields = true,
            Scheduling::Auto | Scheduling::Other => {
                // A refusal is no error: this, too, only improves punctuality.
                let _ = take_short_turns();
            }
            Scheduling::Fifo => {
                if let Err(error) = run_first() {
                    self.refused_scheduling = Some(error.to_string());
                    self.tell_scheduling();
                }
            }
        }
    }

    /// Whoever runs before all others must not take much: a host with thousands of interfaces has other work to do.
    fn yield_if_slow(&mut self) {
        let Second { ticks, read_ns, .. } = self.second;
        if self.yields && read_ns > ticks.saturating_mul(self.interval_ns) / 4 {
            self.yields = be_ordinary().is_err();
        }
    }

    fn take_place(&mut self) {
        let apart = self.setup.cpus.is_apart();
        if apart != self.apart && self.interval_ns <= FAST_NS {
            self.apart = apart;
            // A refusal is no error: this only improves punctuality.
            let _ = self.setup.cpus.place_collector(apart);
        }
    }

    fn tell_scheduling(&mut self) {
        // If the health is being read right now, the next report tries again.
        self.health.try_change(|health| health.refused_scheduling = self.refused_scheduling.take());
    }

    /// Moves `due` to the latest grid point that has passed and counts those before it as missed. Returns the tick and
    /// its lateness: the time from the deadline that the thread slept for until it woke.
    fn skip_missed(&mut self, monotonic_ns: i64, due: &mut i64) -> (Tick, i64) {
        let tick = Tick { time: wall_us(), monotonic_ns };
        let late_ns = tick.monotonic_ns - *due;
        let missed = late_ns.max(0) / self.interval_ns;
        if missed > 0 {
            let from_us = tick.time - late_ns / 1_000;
            *due += missed * self.interval_ns;
            self.totals.missed += missed;
            self.tell_gap(&tick, self.setup.reasons.late, from_us, missed);
        }
        self.totals.scheduled += missed + 1;
        (tick, late_ns)
    }

    /// Reports a jump. No tick is lost: none is due while the host is suspended, as the monotonic clock stops.
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

    /// Returns when it ended.
    fn take(&mut self, tick: &Tick, late_ns: i64) -> i64 {
        self.totals.ticks += 1;
        self.second.ticks += 1;
        if self.lateness_us.len() < LATENESS_KEPT_MAX {
            self.lateness_us.push(late_ns.max(0) / 1_000);
        }
        let (members, totals, health) = (&mut self.members, &mut self.totals, &self.health);
        let mut ended_ns = tick.monotonic_ns;
        self.underway.begin(tick.monotonic_ns);
        (self.setup.snapshot)(&mut || {
            for (at, member) in members.iter_mut().enumerate() {
                self.underway.reach(at);
                // A panic in a parser costs that family its tick, but not the collector its thread.
                if catch_unwind(AssertUnwindSafe(|| member.take(tick, totals, health))).is_err() {
                    let error = format!("read {}: its parser panicked", member.sampler.family());
                    member.note(Some(error), tick, totals, health);
                }
                let began_ns = std::mem::replace(&mut ended_ns, monotonic_ns());
                member.read_ns += ended_ns - began_ns;
            }
        });
        self.underway.end();
        self.totals.read_ns += ended_ns - tick.monotonic_ns;
        self.second.read_ns += ended_ns - tick.monotonic_ns;
        ended_ns
    }

    fn report(&mut self, tick: &Tick) {
        let quantile = |lateness: &mut [i64], per_mille: usize| {
            if lateness.is_empty() {
                return ABSENT;
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
            impossible_values: self.totals.impossible,
            read_us: self.totals.read_ns / 1_000,
            lateness_p50_us: quantile(lateness, 500),
            lateness_p99_us: quantile(lateness, 990),
            lateness_max_us: quantile(lateness, 1_000),
            ..Collector::absent(tick.time)
        });
        self.setup.reports.publish();
        lateness.clear();
        self.yield_if_slow();
        self.tell_overload();
        self.members.iter_mut().for_each(|member| member.tell_lacking(&self.health));
        if self.refused_scheduling.is_some() {
            self.tell_scheduling();
        }
        // A grid as well: reports stay one second apart on average, even if a tick was late.
        self.next_report_ns = (self.next_report_ns + SECOND_NS).max(tick.monotonic_ns);
    }

    /// Notes in the health when reading begins or ceases to take more than half of the time between reports.
    fn tell_overload(&mut self) {
        let Second { ticks, read_ns, mut overloaded } = self.second;
        let over = read_ns > ticks.saturating_mul(self.interval_ns) / 2;
        let share = |member: &Member| (member.sampler.family(), member.read_ns as f64 / read_ns.max(1) as f64);
        let change = |health: &mut CollectorHealth| {
            if !over {
                health.overload = None;
                return;
            }
            // Only the first second of an overload allocates.
            let overload = health.overload.get_or_insert_default();
            overload.read_us = read_ns / ticks.max(1) / 1_000;
            overload.interval_us = self.interval_ns / 1_000;
            overload.shares.clear();
            overload.shares.extend(self.members.iter().map(share));
        };
        // If the health is being read right now, the next report tries again.
        if (over || overloaded) && self.health.try_change(change) {
            overloaded = over;
        }
        self.members.iter_mut().for_each(|member| member.read_ns = 0);
        self.second = Second { overloaded, ..Second::default() };
    }
}

impl Member {
    fn new(sampler: Box<dyn Sampler>) -> Member {
        let (told, telling) = (String::new(), String::new());
        Member { sampler, lacking: false, recheck_ns: Some(i64::MIN), failing: false, told, telling, read_ns: 0 }
    }

    fn take(&mut self, tick: &Tick, totals: &mut Totals, health: &SharedHealth) {
        if !self.is_here(tick, health) {
            return;
        }
        let (Sampled { pushed, dropped, impossible }, outcome) = self.sampler.sample(tick);
        totals.impossible += impossible.cast_signed();
        totals.pushed += pushed.cast_signed();
        totals.dropped += dropped.cast_signed();
        self.note(outcome.err().map(|error| error.to_string()), tick, totals, health);
    }

    /// Whether the host has the family, by the last check: at the first tick, and every 10 s while the host lacks it or
    /// it cannot be read. A module may be loaded, or a file system mounted or removed.
    fn is_here(&mut self, tick: &Tick, health: &SharedHealth) -> bool {
        let Some(recheck_ns) = self.recheck_ns else { return true };
        if tick.monotonic_ns < recheck_ns {
            return !self.lacking;
        }
        let family = self.sampler.family();
        let lacks = self.sampler.check().err();
        self.lacking = lacks.is_some();
        let told = health.try_change(|health| {
            health.unavailable.retain(|one| one.family != family);
            if let Some(reason) = lacks {
                health.note(family, None);
                health.unavailable.push(Unavailable { family, reason });
            }
        });
        let asks_on = self.lacking || self.failing;
        // If the health could not be changed, the next tick tries again.
        self.recheck_ns = if told { asks_on.then_some(tick.monotonic_ns + RECHECK_NS) } else { Some(i64::MIN) };
        if told && self.lacking {
            self.failing = false;
        }
        !self.lacking
    }

    /// Notes in the health what the last tick could not give of the family.
    fn tell_lacking(&mut self, health: &SharedHealth) {
        self.telling.clear();
        if !self.lacking {
            self.sampler.tell_lacking(&mut self.telling);
        }
        let family = self.sampler.family();
        // If the health is being read right now, the next report tries again.
        if self.telling != self.told && health.try_change(|health| health.note_partial(family, &self.telling)) {
            self.told.clone_from(&self.telling);
        }
    }

    /// Notes the outcome of a tick in the health, if it failed or differs from the last one. Never waits: if the health
    /// is being read right now, the next tick tries again.
    fn note(&mut self, error: Option<String>, tick: &Tick, totals: &mut Totals, health: &SharedHealth) {
        let failed = error.is_some();
        totals.failed += i64::from(failed);
        let family = self.sampler.family();
        if (failed || self.failing) && health.try_change(|health| health.note(family, error)) {
            self.failing = failed;
            if failed {
                self.recheck_ns.get_or_insert(tick.monotonic_ns + RECHECK_NS);
            } else {
                self.recheck_ns = None;
            }
        }
    }
}

/// Sleeps from about `now` until `due`, and returns the time then; `None` when asked to stop.
fn sleep_until(due: i64, mut now: i64, stop: &AtomicBool) -> Option<i64> {
    loop {
        // Relaxed: see `request_stop`.
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        if now >= due {
            return Some(now);
        }
        let until = due.min(now + STOP_CHECK_NS);
        // After an interrupted sleep the loop checks again.
        let _ = clock_nanosleep_absolute(
            ClockId::Monotonic,
            &Timespec { tv_sec: until / SECOND_NS, tv_nsec: until % SECOND_NS },
        );
        now = monotonic_ns();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicI32;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::super::health::Partial;
    use super::*;
    use crate::record::label::Labels;
    use crate::ring::{Consumer, ring};
    use crate::sampler::thread::CollectorThread;
    use crate::sampler::{Reasons, SampleError};
    use crate::scheduling::cpus::Cpus;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A family that takes a given time, and that the host may lack.
    struct Fake {
        family: &'static str,
        takes: Duration,
        lacking: Option<&'static str>,
        lacking_part: Option<&'static str>,
        fails_until_ns: i64,
        /// Has how its thread was scheduled at the last tick.
        policy: Arc<AtomicI32>,
    }

    impl Sampler for Fake {
        fn family(&self) -> &'static str {
            self.family
        }

        fn tell_lacking(&self, told: &mut String) {
            told.push_str(self.lacking_part.unwrap_or_default());
        }

        fn check(&mut self) -> Result<(), String> {
            self.lacking.map_or(Ok(()), |reason| Err(reason.to_owned()))
        }

        fn sample(&mut self, tick: &Tick) -> (Sampled, Result<(), SampleError>) {
            assert!(self.lacking.is_none(), "a family that the host lacks is not sampled");
            if tick.monotonic_ns < self.fails_until_ns {
                let error = SampleError { what: self.family, cause: "not yet".to_owned() };
                return (Sampled::default(), Err(error));
            }
            self.policy.store(thread_policy(), Ordering::Relaxed);
            let began = Instant::now();
            while began.elapsed() < self.takes {}
            (Sampled { pushed: 1, ..Sampled::default() }, Ok(()))
        }
    }

    impl Fake {
        fn new(family: &'static str) -> Fake {
            Fake {
                family,
                takes: Duration::ZERO,
                lacking: None,
                lacking_part: None,
                fails_until_ns: 0,
                policy: Arc::default(),
            }
        }
    }

    fn fake(family: &'static str, takes_us: u64, lacking: Option<&'static str>) -> Box<dyn Sampler> {
        Box::new(Fake { takes: Duration::from_micros(takes_us), lacking, ..Fake::new(family) })
    }

    fn start(
        samplers: Vec<Box<dyn Sampler>>,
        scheduling: Scheduling,
    ) -> (CollectorThread, Consumer<Collector>, Consumer<Gap>) {
        let (reports, report_end) = ring(1_024);
        let (gaps, gap_end) = ring(1_024);
        let labels = Arc::new(Labels::default());
        let label = |text| labels.intern(text);
        let setup = Setup {
            name: "test".to_owned(),
            interval: Duration::from_millis(10),
            scheduling,
            cpus: Arc::new(Cpus::undivided()),
            prepare: Box::new(|| ()),
            samplers,
            snapshot: |tick| tick(),
            reports,
            gaps,
            report_label: label("test"),
            gap_label: label("test"),
            reasons: Reasons { late: label("late"), suspended: label("suspended"), clock_step: label("clock step") },
            totals: Totals::default(),
        };
        (CollectorThread::start(setup).unwrap(), report_end, gap_end)
    }

    fn wait_for(running: &CollectorThread, what: &str, met: impl Fn(&CollectorHealth) -> bool) -> CollectorHealth {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = running.health();
            if met(&health) {
                return health;
            }
            assert!(Instant::now() < deadline, "waited for {what}; it is {health:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn an_overloaded_collector_keeps_its_grid_and_says_whose_fault_it_is() {
        let (running, mut reports, mut gaps) =
            start(vec![fake("quick", 0, None), fake("slow", 25_000, None)], Scheduling::Other);
        let health = wait_for(&running, "the overload", |health| health.overload.is_some());
        let overload = health.overload.unwrap();
        assert_eq!(overload.interval_us, 10_000);
        assert!(overload.read_us >= 25_000, "{overload:?}");
        assert_eq!(overload.shares.iter().map(|(family, _)| *family).collect::<Vec<_>>(), ["quick", "slow"]);
        assert!(overload.shares[0].1 < 0.5 && overload.shares[1].1 > 0.5, "{overload:?}");
        let totals = running.stop(PATIENCE).unwrap().totals;
        assert!(totals.missed >= totals.ticks, "a tick of 25 ms covers two more: {totals:?}");
        assert_eq!(totals.scheduled, totals.ticks + totals.missed);
        // The reports and the gaps tell the same.
        let mut last: Option<Collector> = None;
        reports.drain(|first, second| last = second.last().or(first.last()).copied());
        assert_eq!(last.map(|last| (last.ticks, last.missed_ticks)), Some((totals.ticks, totals.missed)));
        assert!(last.is_some_and(|last| last.lateness_max_us >= 10_000), "late by the ticks it missed: {last:?}");
        let lost = gaps.drain(|first, second| first.iter().chain(second).map(|gap| gap.lost).sum::<i64>());
        assert_eq!(lost, totals.missed);
    }

    #[test]
    fn a_family_that_the_host_lacks_is_named_and_costs_no_other_its_ticks() {
        let samplers = vec![fake("gone", 0, Some("no /proc/gone")), fake("here", 0, None)];
        let (running, _reports, _gaps) = start(samplers, Scheduling::Other);
        let health = wait_for(&running, "the family", |health| !health.unavailable.is_empty());
        assert_eq!(health.unavailable, [Unavailable { family: "gone", reason: "no /proc/gone".to_owned() }]);
        assert_eq!((health.last_error, health.overload), (None, None));
        let totals = running.stop(PATIENCE).unwrap().totals;
        assert_eq!((totals.pushed, totals.failed), (totals.ticks, 0));
    }

    #[test]
    fn what_failed_is_told_until_it_no_longer_fails() {
        let fails_until_ns = monotonic_ns() + SECOND_NS / 5;
        let failing = Fake { fails_until_ns, ..Fake::new("shaky") };
        let (running, _reports, _gaps) = start(vec![Box::new(failing), fake("here", 0, None)], Scheduling::Other);
        let health = wait_for(&running, "the error", |health| !health.failing.is_empty());
        assert_eq!((health.failing[0].family, health.failing[0].error.as_str()), ("shaky", "read shaky: not yet"));
        let health = wait_for(&running, "the recovery", |health| health.failing.is_empty());
        assert_eq!(health.last_error.as_deref(), Some("read shaky: not yet"));
        assert!(running.stop(PATIENCE).unwrap().totals.failed > 0);
    }

    #[test]
    fn a_part_that_the_host_does_not_give_is_told_once() {
        let mut member = Member::new(Box::new(Fake { lacking_part: Some("no zones"), ..Fake::new("half") }));
        let health = SharedHealth::default();
        for _ in 0..2 {
            member.tell_lacking(&health);
            assert_eq!(health.get().partial, [Partial { family: "half", reason: "no zones".to_owned() }]);
        }
        member.sampler = fake("half", 0, None);
        member.tell_lacking(&health);
        assert_eq!(health.get().partial, []);
    }

    #[test]
    fn what_the_host_loses_is_unavailable_until_it_is_back() {
        let failing = Fake { fails_until_ns: i64::MAX, ..Fake::new("shaky") };
        let mut member = Member::new(Box::new(failing));
        let (health, mut totals) = (SharedHealth::default(), Totals::default());
        let mut take = |member: &mut Member, second: i64| {
            member.take(&Tick { time: 0, monotonic_ns: second * SECOND_NS }, &mut totals, &health);
            let CollectorHealth { failing, unavailable, .. } = health.get();
            (failing.len(), unavailable.len(), totals.failed, totals.pushed)
        };
        assert_eq!(take(&mut member, 1), (1, 0, 1, 0));
        assert_eq!(take(&mut member, 12), (1, 0, 2, 0), "it is there and fails");
        member.sampler = fake("shaky", 0, Some("it went"));
        assert_eq!(take(&mut member, 22), (0, 1, 2, 0));
        assert_eq!(take(&mut member, 31), (0, 1, 2, 0), "it is not asked yet, and not sampled");
        member.sampler = fake("shaky", 0, None);
        assert_eq!(take(&mut member, 32), (0, 0, 2, 1));
        assert_eq!(take(&mut member, 33), (0, 0, 2, 2));
        assert_eq!(member.recheck_ns, None);
    }

    /// The test may run with the privilege or without.
    #[test]
    fn real_time_scheduling_is_had_or_its_refusal_told() {
        let (sampler, policy) = watched(0);
        let (running, _reports, _gaps) = start(vec![sampler], Scheduling::Fifo);
        wait_for(&running, "the policy or its refusal", |health| {
            policy.load(Ordering::Relaxed) == libc::SCHED_FIFO || health.refused_scheduling.is_some()
        });
        running.stop(PATIENCE).unwrap();
    }

    /// Where the test may not run before others, both are ordinary from the beginning.
    #[test]
    fn a_collector_runs_before_others_while_it_takes_little_time() {
        let (quick, first) = watched(0);
        let (slow, policy) = watched(4_000);
        let (running, mut reports, _gaps) = start(vec![quick], Scheduling::Auto);
        let (slow_one, _reports, _gaps) = start(vec![slow], Scheduling::Auto);
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        while seen < 2 {
            seen += reports.drain(|first, second| first.len() + second.len());
            assert!(Instant::now() < deadline, "waited for two reports");
            thread::sleep(Duration::from_millis(10));
        }
        wait_for(&slow_one, "an ordinary policy", |_| policy.load(Ordering::Relaxed) == libc::SCHED_OTHER);
        let may_run_first = thread::spawn(|| run_first().is_ok()).join().unwrap();
        let expected = if may_run_first { libc::SCHED_FIFO } else { libc::SCHED_OTHER };
        assert_eq!(first.load(Ordering::Relaxed), expected);
        running.stop(PATIENCE).unwrap();
        slow_one.stop(PATIENCE).unwrap();
    }

    /// A sampler that takes so many µs, and how its thread is scheduled.
    fn watched(takes_us: u64) -> (Box<dyn Sampler>, Arc<AtomicI32>) {
        let policy = Arc::new(AtomicI32::new(-1));
        let takes = Duration::from_micros(takes_us);
        (Box::new(Fake { takes, policy: Arc::clone(&policy), ..Fake::new("watched") }), policy)
    }

    /// The policy of the calling thread: the 41st field of its stat, which is the 39th after its name (`proc_pid_stat(5)`).
    fn thread_policy() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38).unwrap().parse().unwrap()
    }
}
