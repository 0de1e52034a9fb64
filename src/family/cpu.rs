//! `cpu`: what the CPUs spent their time on, from `/proc/stat`.

use std::collections::VecDeque;

use crate::reading::counter::held::{CPU_TIME_RESTART_MIN_US, Held, all_begin_anew, begins_anew};
use crate::reading::prelude::*;
use crate::reading::value::{US_PER_SECOND, clock_ticks_per_second};

/// The time that `utilization` is averaged over.
const WINDOW_NS: i64 = 100_000_000;
/// The window has this many steps, and each keeps at most one sample: the kernel's units are coarser than a step.
const STEPS: u8 = 20;
const STEP_NS: i64 = WINDOW_NS / STEPS as i64;
/// The most samples of a history: those of the window, the one before it and the newest.
const SAMPLES_MAX: usize = STEPS as usize + 2;
/// The times of a line, in the order of the kernel's `Documentation/filesystems/proc.rst`. Kernels before 2.6.33 have fewer.
const TIMES_MAX: usize = 10;
/// All times but those of guests, which are in others.
const TIMES_MIN: usize = 8;
/// The kernel counts each CPU's times in ns of 64 bits. One that has stepped below zero is printed as one above this.
const TIME_US_MAX: i64 = i64::MAX / 1_000;
/// The most CPUs that any kernel is built for; a CPU with a higher number has no `utilization`.
const CPUS_MAX: usize = 8_192;

record! {
    /// Time that each CPU, and all CPUs together, spent in each mode since boot. User and nice time include guest time.
    /// Where the kernel lets a time step back, it stays until it has grown past its highest value. Many kernels begin to
    /// count idle time anew when a CPU comes back; then it falls in the row of that CPU, and not in the row `total`, which
    /// is the kernel's own sum until CPUs go offline or come back, and includes those that are offline now.
    pub struct Cpu("cpu") {
        labels {
            /// The number of the logical CPU, or `total`.
            cpu => "cpu.logical_number",
        }
        values {
            /// Processes in user mode with a nice value of 0 or less, guests included.
            counter user_us: i64 [Micros] => "system.cpu.time" {"cpu.mode" = "user"},
            /// Processes in user mode with a nice value above 0, guests included.
            counter nice_us: i64 [Micros] => "system.cpu.time" {"cpu.mode" = "nice"},
            /// Time in the kernel on behalf of processes.
            counter system_us: i64 [Micros] => "system.cpu.time" {"cpu.mode" = "system"},
            /// Idle, with no task waiting for I/O.
            counter idle_us: i64 [Micros] => "system.cpu.time" {"cpu.mode" = "idle"},
            /// Idle, while a task that last ran on this CPU waits for I/O. The kernel's figure is rough.
            counter iowait_us: i64 [Micros] => "system.cpu.time" {"cpu.mode" = "iowait"},
            /// Hardware interrupts.
            counter irq_us: i64 [Micros] => "system.cpu.time" {"cpu.mode" = "interrupt"},
            /// Software interrupts.
            counter softirq_us: i64 [Micros] => "system.cpu.time" {"cpu.mode" = "softirq"},
            /// Time that the hypervisor gave to other guests.
            counter steal_us: i64 [Micros] => "system.cpu.time" {"cpu.mode" = "steal"},
            /// Guests under this kernel; included in `user_us`.
            counter guest_us: i64 [Micros] => "kymo.cpu.guest.time" {"cpu.mode" = "user"},
            /// Guests under this kernel with a nice value above 0; included in `nice_us`.
            counter guest_nice_us: i64 [Micros] => "kymo.cpu.guest.time" {"cpu.mode" = "nice"},
            /// Busy share of the last 100 ms, or of the time since the previous sample if that is longer: all modes
            /// except idle and iowait, divided by all modes. NULL until the CPU has been sampled for 100 ms, and for up
            /// to 100 ms after the kernel restarted its times.
            gauge utilization: f64 [Ratio] => "system.cpu.utilization" {},
        }
    }
}

/// Reads the first lines of `/proc/stat`, without heim. All of them change at every tick, and heim would read the file
/// twice and make an allocation for each line and a float of each number.
#[derive(Debug)]
pub struct CpuSampler {
    /// The kernel's unit of CPU time, `USER_HZ` of which are a second.
    unit_us: i64,
    /// Number of ticks that read `/proc/stat`.
    reads: u64,
    /// Index n is CPU n.
    histories: Vec<History>,
    total: Total,
    /// The lines of this tick; `None` for one that is not understood.
    lines: Vec<Option<Line>>,
}

/// The times of all CPUs together.
#[derive(Debug)]
struct Total {
    history: History,
    /// The highest sums of the kernel since it last stepped back for another reason than an idle CPU.
    kernel: [i64; TIMES_MAX],
    /// What is recorded.
    recorded: [i64; TIMES_MAX],
    /// The number of CPUs at the last tick.
    cpus: usize,
}

/// A line of `/proc/stat`.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// The index in `histories`; `None` for the sum of all CPUs, and for a CPU whose number is too high.
    slot: Option<usize>,
    us: [i64; TIMES_MAX],
}

impl Sample for CpuSampler {
    type Record = Cpu;
    const INTERVAL_MIN: Duration = Duration::from_millis(10);
    const RESOLUTION: &'static str =
        "the kernel counts CPU time in units of 10 ms (USER_HZ); utilization is an average over 100 ms";

    fn open(_: &Context) -> CpuSampler {
        CpuSampler {
            unit_us: US_PER_SECOND / clock_ticks_per_second(),
            reads: 0,
            histories: Vec::new(),
            total: Total::default(),
            lines: Vec::new(),
        }
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Cpu>) -> Result<(), SampleError> {
        with_proc("stat", |stat| {
            let cpus = || lines(stat).map_while(|line| line.strip_prefix(b"cpu"));
            if cpus().next().is_none_or(|total| !total.starts_with(b" ")) {
                return Err(failed("stat", "its first line is not the sum of all CPUs"));
            }
            self.reads += 1;
            self.lines.clear();
            for (row, line) in cpus().enumerate() {
                let line = self.read(row, line, &mut rows.outcome);
                if line.is_none() {
                    rows.outcome.fail("stat", "a CPU has too few times");
                }
                self.lines.push(line);
            }
            self.hold();
            for (row, line) in cpus().enumerate() {
                self.push(row, name(line), tick, rows);
            }
            Ok(())
        })?
    }
}

/// The name in a line that is given without the `cpu` that it starts with: a number, or nothing for all CPUs.
fn name(line: &[u8]) -> &[u8] {
    line.split(u8::is_ascii_whitespace).next().unwrap_or_default()
}

impl CpuSampler {
    /// The times of a line, given without the `cpu` that it starts with. A word that is no number is absent.
    fn read(&self, row: usize, line: &[u8], outcome: &mut Outcome) -> Option<Line> {
        let name = name(line);
        let mut us = [ABSENT; TIMES_MAX];
        let mut known = 0;
        for (us, units) in us.iter_mut().zip(words(line.get(name.len()..)?)) {
            *us = number(units).map_or(ABSENT, |units| units.saturating_mul(self.unit_us));
            // The sum of all CPUs may be higher.
            *us = outcome.possible(*us, *us < if row == 0 { i64::MAX } else { TIME_US_MAX });
            known += 1;
        }
        let slot = number(name).and_then(|id| usize::try_from(id).ok()).filter(|slot| row > 0 && *slot < CPUS_MAX);
        (known >= TIMES_MIN).then_some(Line { slot, us })
    }

    /// Makes the times of all lines grow.
    fn hold(&mut self) {
        let CpuSampler { reads, histories, total, lines, .. } = self;
        let Some((sum, cpus)) = lines.split_first_mut() else { return };
        let mut are_same = total.cpus == cpus.len();
        total.cpus = cpus.len();
        let mut grown = [0; TIMES_MAX];
        for Line { slot, us } in cpus.iter_mut().flatten() {
            let Some(slot) = *slot else { continue };
            if histories.len() <= slot {
                histories.resize_with(slot + 1, History::default);
            }
            let Some(history) = histories.get_mut(slot) else { continue };
            are_same &= history.seen + 1 == *reads;
            history.seen = *reads;
            history.held.hold(us, CPU_TIME_RESTART_MIN_US);
            for (sum, grown) in grown.iter_mut().zip(history.held.grown()) {
                *sum = i64::saturating_add(*sum, *grown);
            }
        }
        if let Some(sum) = sum {
            total.hold(&mut sum.us, &grown, are_same);
        }
    }

    /// Pushes the record of the line `row`.
    fn push(&mut self, row: usize, name: &[u8], tick: &Tick, rows: &mut Rows<Cpu>) {
        let Some(Some(Line { slot, us })) = self.lines.get(row) else { return };
        let [user_us, nice_us, system_us, idle_us, iowait_us, irq_us, softirq_us, steal_us, guest_us, guest_nice_us] =
            *us;
        let mut record = Cpu {
            time: tick.time,
            cpu: rows.labels.resolve(row, if row == 0 { b"total" } else { name }),
            user_us,
            nice_us,
            system_us,
            idle_us,
            iowait_us,
            irq_us,
            softirq_us,
            steal_us,
            guest_us,
            guest_nice_us,
            utilization: f64::NAN,
        };
        let history = match slot {
            Some(slot) => self.histories.get_mut(*slot),
            None => Some(&mut self.total.history).filter(|_| row == 0),
        };
        if let (Some(history), Some(now)) = (history, CpuTimes::new(&record, tick)) {
            record.utilization = history.share(self.reads, now).unwrap_or(f64::NAN);
        }
        rows.push(record);
    }
}

impl Default for Total {
    fn default() -> Total {
        Total { history: History::default(), kernel: [ABSENT; TIMES_MAX], recorded: [ABSENT; TIMES_MAX], cpus: 0 }
    }
}

impl Total {
    /// Replaces the kernel's sums by sums that only grow, except where all times have begun anew. `grown` is what the CPUs
    /// grew by. It is added in place of the kernel's growth if CPUs came or went since the last tick, or if a sum fell: the
    /// kernel takes the idle time of a CPU from elsewhere while it is offline, and some count it anew afterwards.
    fn hold(&mut self, us: &mut [i64; TIMES_MAX], grown: &[i64; TIMES_MAX], are_same_cpus: bool) {
        let all_begin_anew = are_same_cpus && all_begin_anew(us, &self.kernel, CPU_TIME_RESTART_MIN_US);
        for (at, now) in us.iter_mut().enumerate() {
            let (kernel, recorded) = (&mut self.kernel[at], &mut self.recorded[at]);
            if *now == ABSENT {
                continue;
            }
            if *kernel == ABSENT || all_begin_anew {
                (*kernel, *recorded) = (*now, *now);
            } else if !are_same_cpus || begins_anew(*now, *kernel, CPU_TIME_RESTART_MIN_US) {
                (*kernel, *recorded) = (*now, recorded.saturating_add(grown[at]));
            } else if *now > *kernel {
                (*kernel, *recorded) = (*now, recorded.saturating_add(*now - *kernel));
            }
            *now = *recorded;
        }
    }
}

/// The past of one CPU.
#[derive(Debug, Default)]
struct History {
    /// The latest samples, oldest first. At most one of them is older than the window.
    samples: VecDeque<CpuTimes>,
    /// The number of the last read that had this CPU.
    seen: u64,
    /// The number of the last read that had all its times.
    read: u64,
    held: Held<TIMES_MAX>,
}

#[derive(Clone, Copy, Debug)]
struct CpuTimes {
    at_ns: i64,
    busy_us: i64,
    idle_us: i64,
}

impl CpuTimes {
    /// `None` if a time is absent.
    fn new(cpu: &Cpu, tick: &Tick) -> Option<CpuTimes> {
        let busy = [cpu.user_us, cpu.nice_us, cpu.system_us, cpu.irq_us, cpu.softirq_us, cpu.steal_us];
        let idle = [cpu.idle_us, cpu.iowait_us];
        let sum = |times: &[i64]| times.iter().copied().fold(0, i64::saturating_add);
        let is_whole = !busy.contains(&ABSENT) && !idle.contains(&ABSENT);
        is_whole.then(|| CpuTimes { at_ns: tick.monotonic_ns, busy_us: sum(&busy), idle_us: sum(&idle) })
    }
}

impl History {
    /// The busy share from the newest sample that is at least a window old to `now`. Keeps `now` for later.
    fn share(&mut self, read: u64, now: CpuTimes) -> Option<f64> {
        if self.read + 1 != read {
            // The CPU was offline in between, and the kernel may have restarted its counts.
            self.samples.clear();
            self.samples.reserve(SAMPLES_MAX);
        }
        self.read = read;
        let old = |sample: &CpuTimes| now.at_ns - sample.at_ns >= WINDOW_NS;
        while self.samples.get(1).is_some_and(old) {
            self.samples.pop_front();
        }
        let base = self.samples.front().copied().filter(old);
        if self.samples.back().is_none_or(|newest| now.at_ns - newest.at_ns >= STEP_NS) {
            self.samples.push_back(now);
        }
        let base = base?;
        let (busy, idle) = (now.busy_us - base.busy_us, now.idle_us - base.idle_us);
        let both = busy.saturating_add(idle);
        (busy >= 0 && idle >= 0 && both > 0).then(|| busy as f64 / both as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_are_the_kernels_units_times_their_length() {
        let rows = "total,884370000,685620000,198950000,2320990000,37420000,0,1990000,9360000,0,0,\n\
             0,392550000,351260000,89490000,1223390000,7420000,0,690000,4670000,0,0,\n\
             1,491810000,334360000,109460000,1097600000,30000000,0,1290000,4680000,0,0,\n";
        Probe::assert_fixture::<CpuSampler>("vm", rows, None);
    }

    /// Numbers that a large host reaches in years, and CPUs 1 and 3…16 offline.
    #[test]
    fn ids_with_holes_stay_with_their_rows() {
        let rows = "total,4655529180000,38130580000,1111536340000,90650601370000,58211660000,0,43468760000,120000,7000000,300000,\n\
             0,1551843060000,12710190000,370512110000,30216867120000,19403880000,0,14489580000,40000,2330000,100000,\n\
             2,1551843060000,12710190000,370512110000,30216867120000,19403880000,0,14489580000,40000,2330000,100000,\n\
             17,1551843060000,12710200000,370512120000,30216867130000,19403900000,0,14489600000,40000,2340000,100000,\n";
        Probe::assert_fixture::<CpuSampler>("odd", rows, None);
    }

    /// A `/proc/stat` of these CPUs, each with its user and idle units; all together come first.
    fn stat(cpus: &[(&str, u64, u64)]) -> String {
        let lines = cpus.iter().map(|(name, user, idle)| format!("cpu{name} {user} 0 0 {idle} 0 0 0 0 0 0\n"));
        lines.collect::<String>() + "intr 0\n"
    }

    #[test]
    fn words_that_are_no_times_are_absent_and_so_are_times_below_zero() {
        let mut probe = Probe::empty::<CpuSampler>();
        let greatest = "99999999999999999999 99999999999999999999 0 99999999999999999999 0 0 0 0";
        for ms in [0, 100, 200] {
            probe.write(
                "stat",
                format!("cpu  1 -1 nan 4 5 6 7 8\ncpu9223372036854775807 {greatest}\ncpu1 {greatest}\n"),
            );
            let (rows, outcome) = probe.tick(ms);
            assert!(outcome.is_ok());
            // A time that a kernel of 64 bits cannot have counted is absent.
            assert_eq!(
                rows,
                "total,10000,,,40000,50000,60000,70000,80000,,,\n\
                 9223372036854775807,,,0,,0,0,0,0,,,\n\
                 1,,,0,,0,0,0,0,,,\n"
            );
            assert_eq!(probe.impossible, 6);
            // In between it counts from zero.
            let zeros = "0 ".repeat(8);
            probe.write("stat", format!("cpu  1 0 0 4 5 6 7 8\ncpu9223372036854775807 {zeros}\ncpu1 {zeros}\n"));
            assert!(probe.tick(ms + 50).1.is_ok());
        }
    }

    #[test]
    fn a_kernel_that_counts_no_guests_leaves_them_absent() {
        let mut probe = Probe::empty::<CpuSampler>();
        probe.write("stat", "cpu  1 2 3 4 5 6 7 8\ncpu0 1 2 3 4 5 6 7 8\n");
        let row = "10000,20000,30000,40000,50000,60000,70000,80000,,,";
        assert_eq!(probe.rows(0), format!("total,{row}\n0,{row}\n"));
    }

    #[test]
    fn utilization_is_of_the_trailing_100_ms() {
        let mut probe = Probe::empty::<CpuSampler>();
        for tick in 0..10_u64 {
            probe.write("stat", stat(&[(" ", tick, 0), ("0", tick, 0)]));
            assert_eq!(probe.last_column(i64::try_from(tick * 10).unwrap()), ["", ""]);
        }
        // Busy until 90 ms, idle from then on: nine, eight, … of ten units.
        for (tick, share) in (10..20_u64).zip(["0.9", "0.8", "0.7", "0.6", "0.5", "0.4", "0.3", "0.2", "0.1", "0.0"]) {
            probe.write("stat", stat(&[(" ", 9, tick - 9), ("0", 9, tick - 9)]));
            assert_eq!(probe.last_column(i64::try_from(tick * 10).unwrap()), [share, share]);
        }
        // After a pause it is of the pause.
        probe.write("stat", stat(&[(" ", 9, 110), ("0", 59, 60)]));
        assert_eq!(probe.last_column(1_190), ["0.0", "0.5"]);
    }

    #[test]
    fn iowait_is_idle_and_guests_count_once() {
        let mut probe = Probe::empty::<CpuSampler>();
        probe.write("stat", "cpu  0 0 0 0 0 0 0 0 0 0\n");
        probe.rows(0);
        probe.write("stat", "cpu  1 1 1 1 4 1 1 1 1 1\n");
        assert_eq!(probe.last_column(100), [(6.0 / 11.0).to_string()]);
    }

    #[test]
    fn a_cpu_that_was_offline_begins_anew() {
        let mut probe = Probe::empty::<CpuSampler>();
        probe.write("stat", stat(&[(" ", 0, 0), ("0", 0, 0), ("1", 0, 0)]));
        probe.rows(0);
        probe.write("stat", stat(&[(" ", 5, 5), ("0", 5, 5)]));
        assert_eq!(probe.last_column(100), ["0.5", "0.5"]);
        probe.write("stat", stat(&[(" ", 10, 10), ("0", 10, 10), ("1", 7, 3)]));
        // All together grew by what the CPU did since it was last seen.
        assert_eq!(probe.last_column(200), ["0.6", "0.5", ""]);
        probe.write("stat", stat(&[(" ", 15, 15), ("0", 15, 15), ("1", 8, 12)]));
        assert_eq!(probe.last_column(300), ["0.5", "0.5", "0.1"]);
    }

    #[test]
    fn a_restart_gives_no_share() {
        let mut probe = Probe::empty::<CpuSampler>();
        for (ms, user, idle, share) in
            [(0, 500, 500, ""), (100, 505, 505, "0.5"), (200, 1, 2, ""), (300, 6, 7, "0.5"), (400, 6, 17, "0.0")]
        {
            probe.write("stat", stat(&[(" ", user, idle)]));
            assert_eq!(probe.last_column(ms), [share], "at {ms} ms");
        }
    }

    /// As on hosts that switch their tick off while a CPU is idle.
    #[test]
    fn times_that_step_back_stay_until_they_have_grown() {
        let mut probe = Probe::empty::<CpuSampler>();
        let seen =
            [548_281, 548_282, 548_281, 548_282, 548_281, 548_284].into_iter().enumerate().map(|(second, iowait)| {
                let user = 39_255 + second;
                let idle = 122_339 + 97 * second;
                probe.write("stat", format!("cpu  {user} 35126 8949 {idle} {iowait} 0 69 0 0 0\n"));
                let row = probe.rows(i64::try_from(second).unwrap() * 1_000);
                let mut columns = row.trim_end().split(',');
                (columns.nth(5).unwrap().to_owned(), columns.next_back().unwrap().to_owned())
            });
        let (iowait, utilization): (Vec<_>, Vec<_>) = seen.unzip();
        let units: Vec<i64> = iowait.iter().map(|us| us.parse::<i64>().unwrap() / 10_000).collect();
        assert_eq!(units, [548_281, 548_282, 548_282, 548_282, 548_282, 548_284]);
        assert_eq!(utilization.iter().filter(|share| share.is_empty()).count(), 1, "{utilization:?}");
    }

    /// User and idle units of the row `name`.
    fn units(rows: &str, name: &str) -> [i64; 2] {
        let row = rows.lines().find(|row| row.split(',').next() == Some(name)).unwrap();
        let columns: Vec<&str> = row.split(',').collect();
        [columns[1], columns[4]].map(|us| us.parse::<i64>().unwrap() / 10_000)
    }

    /// As where the kernel counts the idle time of a CPU elsewhere while it is offline, and anew when it comes back.
    #[test]
    fn the_total_goes_on_while_cpus_go_and_come_back() {
        let mut probe = Probe::empty::<CpuSampler>();
        for (second, cpus, total) in [
            (0, &[(" ", 200, 20_000), ("0", 100, 10_000), ("1", 100, 10_000)][..], [200, 20_000]),
            (1, &[(" ", 203, 20_100), ("0", 101, 10_050), ("1", 102, 10_050)], [203, 20_100]),
            // Offline, and then back with other idle times.
            (2, &[(" ", 204, 35_000), ("0", 102, 10_100)], [204, 20_150]),
            (3, &[(" ", 205, 35_050), ("0", 103, 10_150)], [205, 20_200]),
            (4, &[(" ", 207, 10_220), ("0", 104, 10_200), ("1", 103, 20)], [207, 20_270]),
            (5, &[(" ", 209, 10_320), ("0", 105, 10_250), ("1", 104, 70)], [209, 20_370]),
            // Offline and back between two ticks.
            (6, &[(" ", 212, 5_310), ("0", 107, 5_000), ("1", 105, 310)], [212, 20_370 + 5_000 + 240]),
            // The host began anew.
            (7, &[(" ", 2, 30), ("0", 1, 20), ("1", 1, 10)], [2, 30]),
        ] {
            probe.write("stat", stat(cpus));
            let rows = probe.rows(second * 1_000);
            assert_eq!(units(&rows, "total"), total, "second {second}");
            if second > 0 && second < 7 {
                let share = rows.lines().next().unwrap().rsplit(',').next().unwrap();
                assert!(!share.is_empty(), "second {second}");
            }
        }
    }

    proptest! {
        /// Over any course of CPUs that go offline and come back, at ticks and between them, with the idle time that they had
        /// or a new one, and with another one in the kernel's sum meanwhile, the total grows by what the CPUs grew by.
        #[test]
        fn the_total_grows_by_what_cpus_grew_by(
            course in prop::collection::vec(prop::array::uniform3((0..100_i64, 0..100_i64, 0..12_u8, 0..90_000_i64)), 1..40),
        ) {
            let mut sampler = CpuSampler::open(&Context::default());
            let (mut user, mut idle, mut elsewhere, mut online) = ([500_i64; 3], [5_000_i64; 3], [0; 3], [true; 3]);
            let mut total = |user: &[i64; 3], idle: &[i64; 3], elsewhere: &[i64; 3], online: &[bool; 3]| {
                let line = |slot, user: i64, idle: i64| {
                    let mut us = [0; TIMES_MAX];
                    (us[0], us[3]) = (user * 10_000, idle * 10_000);
                    Some(Line { slot, us })
                };
                let idle_of = |cpu: usize| if online[cpu] { idle[cpu] } else { elsewhere[cpu] };
                sampler.reads += 1;
                sampler.lines = vec![line(None, user.iter().sum(), (0..3).map(idle_of).sum())];
                let cpus = (0..3).filter(|cpu| online[*cpu]);
                sampler.lines.extend(cpus.map(|cpu| line(Some(cpu), user[cpu], idle[cpu])));
                sampler.hold();
                let us = sampler.lines[0].unwrap().us;
                [us[0] / 10_000, us[3] / 10_000]
            };
            let mut expected = total(&user, &idle, &elsewhere, &online);
            for changes in course {
                for (cpu, (runs, idles, dice, other)) in changes.into_iter().enumerate() {
                    let was_online = std::mem::replace(&mut online[cpu], dice > 2);
                    elsewhere[cpu] = if was_online { other } else { elsewhere[cpu] };
                    if !online[cpu] {
                        continue;
                    }
                    // It was offline for a moment at least, and its idle time begins anew. A short one would be held.
                    let begins_anew = (!was_online || dice == 3) && dice % 2 == 1 && idle[cpu] > 1_000;
                    user[cpu] += runs;
                    idle[cpu] = if begins_anew { idles } else { idle[cpu] + idles };
                    expected = [expected[0] + runs, expected[1] + idles];
                }
                prop_assert_eq!(total(&user, &idle, &elsewhere, &online), expected);
            }
        }
    }

    #[test]
    fn one_time_begins_anew_alone_and_utilization_is_soon_there_again() {
        let mut probe = Probe::empty::<CpuSampler>();
        let shares = [(0, 500, 5_000, ""), (100, 505, 5_005, "0.5"), (200, 510, 5, ""), (300, 515, 10, "0.5")];
        for (ms, user, idle, share) in shares {
            probe.write("stat", stat(&[(" ", 0, 0), ("0", user, idle)]));
            let rows = probe.rows(ms);
            assert_eq!(units(&rows, "0"), [i64::try_from(user).unwrap(), i64::try_from(idle).unwrap()]);
            assert!(rows.ends_with(&format!(",{share}\n")), "at {ms} ms: {rows}");
        }
    }

    #[test]
    fn a_history_is_bounded_at_any_rate() {
        let mut history = History::default();
        for read in 1..100_000 {
            let at_ns = i64::try_from(read).unwrap() * 100_000;
            let share = history.share(read, CpuTimes { at_ns, busy_us: at_ns, idle_us: at_ns });
            assert_eq!(share.is_some(), read > 1_000, "at {at_ns} ns");
            assert!(history.samples.len() <= SAMPLES_MAX);
        }
        assert!(history.samples.len() > 15);
    }

    #[test]
    fn what_is_no_stat_is_an_error() {
        let mut probe = Probe::empty::<CpuSampler>();
        for text in ["", "intr 1\n", "cpu0 1 2 3 4 5 6 7 8 9 10\n", "cpu  1 2 3 4 5 6 7 8 9 10"] {
            probe.write("stat", text);
            let (rows, outcome) = probe.tick(0);
            assert_eq!((rows.as_str(), outcome.unwrap_err().what), ("", "stat"), "{text:?}");
        }
        probe.write("stat", "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 x 3\ncpu1 1 2 3 4 5 6 7 8 9 10\n");
        let (rows, outcome) = probe.tick(0);
        let names: Vec<&str> = rows.lines().filter_map(|row| row.split(',').next()).collect();
        assert_eq!((names, outcome.is_err()), (vec!["total", "1"], true));
    }
}
