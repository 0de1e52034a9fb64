//! `process`: the top processes by CPU or memory, plus pinned ones, from `/proc/PID/stat`, `io`, `fd` and `cgroup`
//! (`Documentation/filesystems/proc.rst` and `proc_pid_stat(5)`).

mod forbidden;
mod slots;
mod stat;
mod table;

use std::cmp::Reverse;

use self::forbidden::Forbidden;
use self::slots::Slots;
use self::table::{Entry, PROCESSES_USUAL, ProcessTable};
use crate::reading::census::Census;
use crate::reading::context::{PINS_MAX, Pin, ProcessChoice, TOP_MAX};
use crate::reading::prelude::*;
use crate::reading::value::{US_PER_SECOND, clock_ticks_per_second, page_bytes};

/// The most pinned processes that have a row, as a name may be that of many. Those with the lowest pids have one.
pub const PINNED_ROWS_MAX: usize = 100;

/// Slots beyond the rows of a tick, so that there is a slot that no process of the same command had just before.
const SLOTS_SPARE: usize = 84;
/// The interval at which user and control group of a recorded process are read.
const PLACE_INTERVAL_NS: i64 = 10_000_000_000;
/// The kernel cuts the names of user processes to this length.
const NAME_BYTES_MAX: usize = 15;

record! {
    /// One row for each process that is among the top by CPU or by memory, or is pinned. The top by CPU are those that
    /// used the most CPU time since the previous tick; the top by memory are those with the most resident memory. A
    /// process that starts and ends between two ticks has no row.
    ///
    /// `pid` and `start_us` identify a process. For rates of counters, group by them: `SELECT command, pid, start_us,
    /// rate(read_bytes, time) FROM process GROUP BY command, pid, start_us`. The labels identify a process only as
    /// long as it is recorded at every tick.
    pub struct Process("process") {
        labels {
            /// The process name, at most 15 bytes. By default it is the name of the executable file. For a kernel worker it
            /// is the name without the work that ps(1) shows behind it.
            command => "kymo.process.command",
            /// A small number that tells processes with the same command apart. A process keeps its number as long as it
            /// is recorded at every tick; later, another process may get it.
            slot => "kymo.process.slot",
            /// Its control group, as in the table `cgroup`. Empty if kymo cannot read it. kymo looks every 10 s whether it
            /// changed.
            cgroup => "kymo.process.cgroup",
        }
        values {
            /// The process id. The kernel reuses it some time after the process ends.
            identity pid: i64 [Number],
            /// Start time of the process, since boot, in steps of 10 ms. It never changes.
            identity start_us: i64 [Micros],
            /// CPU time in user mode, over all threads, in steps of 10 ms.
            counter cpu_user_us: i64 [Micros],
            /// CPU time in the kernel, over all threads, in steps of 10 ms.
            counter cpu_system_us: i64 [Micros],
            /// CPU time since the previous tick ÷ the time since then; 1 is one CPU fully used. NULL if the process did
            /// not exist at the previous tick.
            gauge cpu_ratio: f64 [Ratio] => "kymo.process.cpu.utilization" {},
            /// Resident memory, including memory shared with other processes. The kernel's figure may be some pages
            /// behind.
            gauge rss_bytes: i64 [Bytes] => "kymo.process.memory.usage" {},
            /// Number of threads.
            gauge threads: i64 [Count("{thread}")] => "kymo.process.thread.count" {},
            /// Open files. NULL if kymo is not allowed to see them. Before Linux 6.2, also NULL if there are more than 4096.
            gauge open_files: i64 [Count("{file}")] => "kymo.process.open_file.count" {},
            /// Page faults without I/O.
            counter minor_faults: i64 [Count("{fault}")],
            /// Page faults with I/O.
            counter major_faults: i64 [Count("{fault}")],
            /// Bytes read from storage for the process, not from the page cache. NULL if kymo is not allowed to
            /// see them: it must run as the process's user or have `CAP_SYS_PTRACE`.
            counter read_bytes: i64 [Bytes],
            /// Bytes written to storage for the process, including those still in the page cache. NULL if
            /// `read_bytes` is NULL.
            counter write_bytes: i64 [Bytes],
            /// The process id of its parent, or of the process that adopted it when the parent ended.
            detail parent_pid: i64 [Number],
            /// The id of the user that it runs as (the effective one). kymo looks every 10 s whether it changed.
            detail user_id: i64 [Number],
        }
    }
}

/// Reads all processes, and the costlier figures of the chosen ones.
#[derive(Debug)]
pub struct ProcessSampler {
    choice: ProcessChoice,
    census: Census,
    table: ProcessTable,
    /// What was forbidden at the tick before.
    forbidden_before: Forbidden,
    slots: Slots,
    /// Indexes in `table` of the processes that have a row.
    order: Vec<usize>,
    /// Ranks of the processes, with their indexes in `table`.
    ranks: Vec<(Rank, usize)>,
}

impl Sample for ProcessSampler {
    type Record = Process;
    const INTERVAL_MIN: Duration = Duration::from_millis(100);
    const RESOLUTION: &'static str = "faults, bytes, threads and files are exact at every read; CPU times are in units of \
                                      10 ms, so a share over 100 ms is in steps of 10 %";

    fn open(context: &Context) -> ProcessSampler {
        let mut choice = context.processes.clone();
        choice.top_by_cpu = choice.top_by_cpu.min(TOP_MAX);
        choice.top_by_memory = choice.top_by_memory.min(TOP_MAX);
        choice.pinned.truncate(PINS_MAX);
        let slots_max = choice.top_by_cpu + choice.top_by_memory + PINNED_ROWS_MAX + SLOTS_SPARE;
        ProcessSampler {
            choice,
            census: context.census.clone(),
            table: ProcessTable::new(context.roots.procfs.clone()),
            forbidden_before: Forbidden::default(),
            slots: Slots::of(slots_max),
            order: Vec::new(),
            ranks: Vec::with_capacity(PROCESSES_USUAL),
        }
    }

    fn check(&mut self) -> Result<(), String> {
        self.table.list().map_err(|error| error.cause)?;
        if self.table.pids.is_empty() {
            let procfs = self.table.procfs.display();
            return Err(format!("{procfs} lists no process: procfs is not mounted there, or hides them"));
        }
        Ok(())
    }

    fn tell_lacking(&self, told: &mut String) {
        let rows = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        self.table.forbidden.and_before(self.forbidden_before).tell(rows, told);
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Process>) -> Result<(), SampleError> {
        self.forbidden_before = std::mem::take(&mut self.table.forbidden);
        self.table.refresh(tick.monotonic_ns, &mut rows.outcome)?;
        // If none could be read, it is not known how many there are.
        if !self.table.processes.is_empty() {
            self.census.put(self.table.counts());
        }
        self.choose();
        self.hold_slots(tick);
        for at in 0..self.order.len() {
            self.push(at, tick, rows);
        }
        Ok(())
    }
}

impl ProcessSampler {
    /// Marks the processes that have a row and puts their indexes into `order`, by pid. Among equals, processes that
    /// had a row come first, so that rows stay while nothing happens.
    fn choose(&mut self) {
        for pin in &self.choice.pinned {
            if let Pin::Below(root) = pin {
                self.table.mark_below(*root);
            }
        }
        let ProcessSampler { choice, table, order, ranks, .. } = self;
        let processes = &mut table.processes;
        mark_top(processes, ranks, choice.top_by_cpu, |process| {
            (process.cpu_since(), process.was_chosen, process.stat.cpu())
        });
        mark_top(processes, ranks, choice.top_by_memory, |process| (process.stat.rss_pages, process.was_chosen, 0));
        if !choice.pinned.is_empty() {
            let pinned = processes.iter_mut().filter(|process| choice.pinned.iter().any(|pin| is_of(pin, process)));
            pinned.take(PINNED_ROWS_MAX).for_each(|process| process.chosen = true);
        }
        order.clear();
        order.extend(processes.iter().enumerate().filter(|(_, process)| process.chosen).map(|(at, _)| at));
    }

    /// Lets processes keep their slots. This comes before others get one, as they get slots that nobody holds.
    fn hold_slots(&mut self, tick: &Tick) {
        for at in &self.order {
            let Some(process) = self.table.processes.get_mut(*at) else { continue };
            let holder = process.identity();
            process.slot = process.slot.filter(|slot| self.slots.hold(*slot, holder, tick.monotonic_ns));
        }
    }

    /// Pushes the row of the process at index `order[at]`.
    fn push(&mut self, at: usize, tick: &Tick, rows: &mut Rows<Process>) {
        let Some(process) = self.order.get(at).and_then(|at| self.table.processes.get_mut(*at)) else { return };
        let (identity, unit_us) = (process.identity(), US_PER_SECOND / clock_ticks_per_second());
        let given = process.slot.or_else(|| self.slots.give(identity, process.command(), tick.monotonic_ns));
        // Without a free slot there is no row: it would join another process's series.
        let Some(slot) = given else { return };
        let Some(slot_entry) = self.slots.list.get_mut(slot) else { return };
        let mut label = |nth: usize, text: &[u8]| rows.labels.resolve(3 * slot + nth, text);
        let record = Process {
            command: label(0, process.command()),
            slot: label(1, slot_entry.text.as_bytes()),
            parent_pid: process.stat.parent,
            pid: i64::from(identity.pid),
            start_us: scaled(identity.start, unit_us),
            cpu_user_us: scaled(process.stat.user, unit_us),
            cpu_system_us: scaled(process.stat.system, unit_us),
            cpu_ratio: process.cpu_ratio(clock_ticks_per_second() as f64),
            rss_bytes: scaled(process.stat.rss_pages, page_bytes()),
            threads: process.stat.threads,
            minor_faults: process.stat.minor_faults,
            major_faults: process.stat.major_faults,
            ..Process::absent(tick.time)
        };
        process.slot = Some(slot);
        let place = &mut slot_entry.place;
        if tick.monotonic_ns >= place.read_ns.saturating_add(PLACE_INTERVAL_NS) {
            place.read_ns = tick.monotonic_ns;
            place.user = self.table.user(identity.pid);
            self.table.cgroup(identity.pid, &mut place.cgroup);
        }
        let cgroup = rows.labels.resolve(3 * slot + 2, &place.cgroup);
        let (read, written) = self.table.io(identity.pid, &mut slot_entry.io);
        rows.push(Process {
            cgroup,
            user_id: slot_entry.place.user.unwrap_or(ABSENT),
            open_files: self.table.open_files(identity.pid).unwrap_or(ABSENT),
            read_bytes: read.unwrap_or(ABSENT),
            write_bytes: written.unwrap_or(ABSENT),
            ..record
        });
    }
}

/// Whether `pin` means this process.
fn is_of(pin: &Pin, process: &Entry) -> bool {
    match pin {
        Pin::Pid(pid) => *pid == process.identity().pid,
        Pin::Below(_) => process.is_below,
        Pin::Name(name) => {
            let kept = name.as_bytes().get(..NAME_BYTES_MAX).unwrap_or(name.as_bytes());
            process.command() == kept || process.command() == name.as_bytes()
        }
    }
}

/// A figure, whether the process had a row, and a figure that decides among equals. The greatest comes first.
type Rank = Reverse<(i64, bool, i64)>;

/// Marks the `top` processes by rank; among equals, those with the lowest pids.
fn mark_top(
    processes: &mut [Entry],
    ranks: &mut Vec<(Rank, usize)>,
    top: usize,
    rank: impl Fn(&Entry) -> (i64, bool, i64),
) {
    ranks.clear();
    ranks.extend(processes.iter().enumerate().map(|(at, process)| (Reverse(rank(process)), at)));
    if top < ranks.len() {
        ranks.select_nth_unstable(top);
    }
    for (_, at) in ranks.iter().take(top) {
        if let Some(process) = processes.get_mut(*at) {
            process.chosen = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

    use super::*;

    /// A process' `stat`: CPU time in clock ticks, memory in pages.
    fn write(probe: &Probe, pid: i32, command: &[u8], start: i64, cpu: i64, pages: i64) {
        write_of(probe, pid, 1, command, start, cpu, pages);
    }

    /// The same, of a parent's.
    fn write_of(probe: &Probe, pid: i32, parent: i32, command: &[u8], start: i64, cpu: i64, pages: i64) {
        let head = format!("{pid} (");
        let tail = format!(") S {parent} 1 1 0 -1 0 21 0 22 0 {cpu} 3 0 0 20 0 9 0 {start} 5000000 {pages} 0 0\n");
        probe.write(&format!("{pid}/stat"), [head.as_bytes(), command, tail.as_bytes()].concat());
    }

    /// Command, slot, pid and share of a CPU of each row.
    fn short(rows: &str) -> Vec<String> {
        let columns = |row: &str| {
            let fields: Vec<&str> = row.split(',').collect();
            format!("{} {} {} {}", fields[0], fields[1], fields[3], fields[7])
        };
        rows.lines().map(columns).collect()
    }

    #[test]
    fn a_row_is_the_kernels_figures() {
        let mut probe = Probe::empty::<ProcessSampler>();
        write(&probe, 7, b"x", 500, 40, 3);
        probe.write("7/io", "rchar: 1\nread_bytes: 4096\nwrite_bytes: 8192\n");
        probe.write("7/fd/0", "");
        probe.write("7/cgroup", "0::/a.slice\n");
        assert_eq!(
            probe.rows_with(0, "7/fd/1", ""),
            "x,1,/a.slice,7,5000000,400000,30000,,12288,9,2,21,22,4096,8192,1,\n"
        );
        write(&probe, 7, b"x", 500, 45, 4);
        probe.write("7/cgroup", "0::/b.slice\n");
        let row = "x,1,/a.slice,7,5000000,450000,30000,0.5,16384,9,2,21,22,4096,8192,1,\n";
        assert_eq!(probe.rows(100), row);
        let later = probe.rows(10_000);
        assert!(later.starts_with("x,1,/b.slice,7,"), "{later}");
    }

    #[test]
    fn what_kymo_may_not_see_is_absent() {
        let mut probe = Probe::empty::<ProcessSampler>();
        write(&probe, 7, b"x", 500, 40, 3);
        assert_eq!(
            probe.rows_with(0, "7/io", "write_bytes: many\n"),
            "x,1,,7,5000000,400000,30000,,12288,9,,21,22,,,1,\n"
        );
    }

    #[test]
    fn those_with_most_have_rows_and_so_have_the_pinned() {
        let pinned = vec![Pin::Name("a-name-that-is-too-long".into()), Pin::Pid(77)];
        let choice = ProcessChoice { top_by_cpu: 2, top_by_memory: 1, pinned };
        let mut probe = Probe::choosing::<ProcessSampler>(choice);
        for (pid, command, cpu, pages) in [
            (1, &b"init"[..], 900, 10),
            (2, b"idle", 0, 0),
            (30, b"large", 1, 5_000),
            (4, b"busy", 1_000, 20),
            (50, b"a-name-that-is-", 0, 1),
            (60, b"other", 0, 2),
            (77, b"by pid", 0, 3),
        ] {
            write(&probe, pid, command, 1, cpu, pages);
        }
        let pinned = ["a-name-that-is- 4 50 ", "by pid 5 77 "];
        assert_eq!(short(&probe.rows(0)), [&["init 1 1 ", "busy 2 4 ", "large 3 30 "][..], &pinned].concat());
        // Now it is use since the tick before that counts, and then who had a row.
        write(&probe, 60, b"other", 1, 20, 2);
        let rows = short(&probe.rows(1_000));
        assert_eq!(rows[..3], ["busy 2 4 0.0", "large 3 30 0.0", "a-name-that-is- 4 50 0.0"]);
        assert_eq!(rows[3..], ["other 1 60 0.2", "by pid 5 77 0.0"]);
    }

    #[test]
    fn what_a_process_has_started_has_rows_and_keeps_them_when_its_parent_ends() {
        let choice = ProcessChoice { top_by_cpu: 0, top_by_memory: 0, pinned: vec![Pin::Below(50)] };
        let mut probe = Probe::choosing::<ProcessSampler>(choice);
        // The ids began anew between 60 and 3, so a child has a lower one than its parent.
        for (pid, parent, command) in
            [(1, 0, &b"init"[..]), (3, 60, b"grandchild"), (50, 1, b"root"), (60, 50, b"child"), (70, 1, b"other")]
        {
            write_of(&probe, pid, parent, command, 1, 0, 0);
        }
        assert_eq!(short(&probe.rows(0)), ["grandchild 1 3 ", "child 2 60 "]);
        probe.remove("60");
        write_of(&probe, 3, 1, b"grandchild", 1, 10, 0);
        write_of(&probe, 70, 3, b"other", 2, 0, 0);
        assert_eq!(short(&probe.rows(1_000)), ["grandchild 1 3 0.1", "other 2 70 "]);
        write_of(&probe, 3, 1, b"another", 3, 0, 0);
        write_of(&probe, 70, 1, b"other", 4, 0, 0);
        assert_eq!(short(&probe.rows(2_000)), [""; 0], "the ids are of other processes now");
    }

    #[test]
    fn a_pid_may_be_of_another_process_and_a_process_may_rename_itself() {
        let mut probe = Probe::empty::<ProcessSampler>();
        write(&probe, 7, b"x", 500, 40, 3);
        assert_eq!(short(&probe.rows(0)), ["x 1 7 "]);
        write(&probe, 7, b"y", 500, 41, 3);
        assert_eq!(short(&probe.rows(100)), ["y 1 7 0.1"]);
        write(&probe, 7, b"y", 900, 50, 3);
        assert_eq!(short(&probe.rows(200)), ["y 1 7 "], "another one, whose time is its own");
        write(&probe, 7, b"y", 900, 40, 3);
        assert_eq!(short(&probe.rows(300)), ["y 1 7 "], "time does not run back");
    }

    #[test]
    fn processes_come_and_go() {
        let mut probe = Probe::empty::<ProcessSampler>();
        write(&probe, 7, b"x", 500, 40, 3);
        write(&probe, 9, b"x", 500, 40, 3);
        assert_eq!(short(&probe.rows(0)), ["x 1 7 ", "x 2 9 "]);
        probe.remove("7");
        assert_eq!(short(&probe.rows(100)), ["x 2 9 0.0"]);
        write(&probe, 7, b"x", 600, 1, 3);
        assert_eq!(short(&probe.rows(200)), ["x 3 7 ", "x 2 9 0.0"], "not in the series of the one before it");
        probe.remove("7/stat");
        probe.remove("9");
        let _ = probe.tick(300);
        probe.remove("7");
        assert_eq!(probe.rows(400), "");
    }

    #[test]
    fn odd_commands_have_rows_and_a_cut_file_costs_no_other() {
        let mut probe = Probe::empty::<ProcessSampler>();
        write(&probe, 1, b"a) R (\xff", 500, 40, 3);
        write(&probe, 2, b"kworker/1:2-events", 500, 40, 3);
        probe.write("3/stat", "3 (cut) S 1 1");
        probe.write("4/stat", "");
        probe.write("5/cmdline", "there is no stat in it");
        probe.write("self/stat", "no number");
        probe.write("99999999999/stat", "no pid");
        let (rows, outcome) = probe.tick(0);
        assert_eq!(short(&rows), ["a) R (\u{fffd} 1 1 ", "kworker/1:2 2 2 "]);
        assert_eq!(outcome.unwrap_err().to_string(), "read PID/stat: 3: 3 (cut) S 1 1");
    }

    #[test]
    fn the_check_names_the_folder() {
        let mut probe = Probe::empty::<ProcessSampler>();
        assert!(probe.check().unwrap_err().contains("lists no process"));
        write(&probe, 1, b"init", 1, 1, 1);
        assert_eq!(probe.check(), Ok(()));
    }

    /// Root may read all files, unless its thread has given that up.
    #[test]
    fn what_kymo_may_not_read_is_told_as_long_as_it_is_so() {
        let run = || {
            let now = capabilities(None).unwrap();
            let given_up = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
            set_capabilities(None, CapabilitySets { effective: now.effective - given_up, ..now }).unwrap();

            let mut probe = Probe::empty::<ProcessSampler>();
            for pid in [7, 8] {
                write(&probe, pid, b"x", 500, 40, 3);
                probe.write(&format!("{pid}/io"), "read_bytes: 4096\nwrite_bytes: 8192\n");
            }
            fs::set_permissions(probe.path("8/io"), Permissions::from_mode(0o000)).unwrap();
            let mut told = Vec::new();
            for second in 0..4 {
                let rows = probe.rows(second * 1_000);
                assert_eq!(rows.lines().count(), 2);
                told.push(probe.lacking());
                assert_eq!(rows.matches(",4096,8192,").count(), 1, "{rows}");
            }
            let expected = "read_bytes and write_bytes are absent for 1 of 2 processes: kymo may not read them; ";
            assert!(told[0].is_empty() && told[1..].iter().all(|text| text.starts_with(expected)), "{told:?}");
            fs::set_permissions(probe.path("8/io"), Permissions::from_mode(0o400)).unwrap();
            assert_eq!((probe.rows(4_000).matches(",4096,8192,").count(), probe.lacking()), (2, String::new()));
        };
        thread::spawn(run).join().unwrap();
    }

    /// On the `/proc` of the machine this runs on.
    #[test]
    fn the_process_that_asks_is_seen() {
        let pinned = vec![Pin::Pid(std::process::id().cast_signed())];
        let processes = ProcessChoice { pinned, ..ProcessChoice::default() };
        let mut probe = Probe::of::<ProcessSampler>(&Context { processes, ..Context::default() });
        assert_eq!(probe.check(), Ok(()));
        for ms in [0, 100] {
            let rows = probe.rows(ms);
            let own = format!(",{},", std::process::id());
            let row = rows.lines().find(|row| row.contains(&own)).unwrap();
            let fields: Vec<&str> = row.rsplit(',').collect();
            let [user, parent, written, read, _, minor_faults, open_files, threads, rss, ratio, ..] = fields[..] else {
                panic!("{row}");
            };
            let number = |field: &str| field.parse::<i64>().unwrap();
            assert!(number(minor_faults) > 0 && number(open_files) > 2 && number(threads) > 0, "{row}");
            assert!(number(rss) > 1 << 20 && number(read) >= 0 && number(written) >= 0, "{row}");
            assert_eq!(ratio.is_empty(), ms == 0, "{row}");
            assert_eq!(number(user), i64::from(rustix::process::geteuid().as_raw()), "{row}");
            assert_eq!(
                number(parent),
                rustix::process::getppid().map_or(0, |parent| i64::from(parent.as_raw_pid())),
                "{row}"
            );
        }
    }
}
