//! `host`: load, tasks and events of the whole host, from `/proc/loadavg`, `/proc/stat` and `/proc/uptime`, and two tables of
//! the kernel that can fill up, from `/proc/sys`.

use heim::units::time::second;
use heim_runtime::snapshot::read_ahead_proc;

use crate::reading::counter::wraps::{RANGE_32_BITS, Wraps};
use crate::reading::optional::Optional;
use crate::reading::prelude::*;
use crate::reading::text::{hundredths, next_number};

/// The number of tracked connections, and the most that there can be.
const CONNTRACK: [&str; 2] = ["sys/net/netfilter/nf_conntrack_count", "sys/net/netfilter/nf_conntrack_max"];
/// `/proc/uptime` has two decimals.
const UPTIME_UNITS_PER_SECOND: f64 = 100.0;
const UPTIME_UNIT_US: i64 = 10_000;

record! {
    /// Load, tasks and events of the whole host, and how full two tables of the kernel are.
    pub struct Host("host") {
        labels {}
        values {
            /// Tasks that run or wait for a CPU or a disk, averaged over about a minute.
            gauge load1: f64 [Number] => "kymo.host.load_average" {"kymo.window" = "1m"},
            /// The same, averaged over about five minutes.
            gauge load5: f64 [Number] => "kymo.host.load_average" {"kymo.window" = "5m"},
            /// The same, averaged over about fifteen minutes.
            gauge load15: f64 [Number] => "kymo.host.load_average" {"kymo.window" = "15m"},
            /// Tasks that run or wait for a CPU, including kymo's own.
            gauge running: i64 [Count("{task}")] => "kymo.host.tasks" {"kymo.task.state" = "running"},
            /// Tasks that wait for I/O.
            gauge blocked: i64 [Count("{task}")] => "kymo.host.tasks" {"kymo.task.state" = "blocked"},
            /// Context switches, over all CPUs.
            counter context_switches: i64 [Count("{switch}")] => "kymo.host.context_switches" {},
            /// Interrupts served, over all CPUs. Many kernels count them in 32 bits for each CPU; kymo corrects for wraps that
            /// happen while the collector runs.
            counter interrupts: i64 [Count("{interrupt}")] => "kymo.host.interrupts" {},
            /// Processes and threads created.
            counter forks: i64 [Count("{process}")] => "system.process.created" {},
            /// Time since boot, including time suspended.
            gauge uptime_us: i64 [Micros] => "system.uptime" {},
            /// Open files of all processes.
            gauge open_files: i64 [Count("{file}")] => "kymo.host.open_files" {},
            /// The most files that may be open (`fs.file-max`). NULL if there is no limit.
            gauge max_open_files: i64 [Count("{file}")] => "kymo.host.open_files.limit" {},
            /// Connections that the firewall tracks, in kymo's own network namespace. NULL if the kernel does not track any.
            gauge conntrack_entries: i64 [Count("{connection}")] => "kymo.host.conntrack.entries" {},
            /// The most connections that it can track; new ones are dropped beyond it. NULL as above.
            gauge max_conntrack_entries: i64 [Count("{connection}")] => "kymo.host.conntrack.limit" {},
        }
    }
}

/// What a `/proc/loadavg` without figures does not give, for people: some containers' runtimes have an empty one.
const LOAD_LACKING: &str = "NULL, because /proc/loadavg has no figures: load1, load5 and load15";

/// Reads the uptime through heim and the rest from `/proc/loadavg` and `/proc/stat`.
#[derive(Debug)]
pub struct HostSampler {
    /// The last `/proc/loadavg` could be read and had no figures.
    lacks_load: bool,
    interrupts: Wraps<1>,
    file_nr: Optional,
    /// The number of tracked connections and its limit.
    conntrack: [Optional; 2],
}

impl Sample for HostSampler {
    type Record = Host;
    const INTERVAL_MIN: Duration = Duration::from_millis(10);
    const RESOLUTION: &'static str =
        "tasks and events are exact at every read; load averages change every 5 s, uptime is in units of 10 ms";

    fn open(_: &Context) -> HostSampler {
        HostSampler {
            lacks_load: false,
            interrupts: Wraps::default(),
            file_nr: Optional::of_proc("sys/fs/file-nr"),
            conntrack: CONNTRACK.map(Optional::of_proc),
        }
    }

    fn tell_lacking(&self, told: &mut String) {
        if self.lacks_load {
            told.push_str(LOAD_LACKING);
        }
    }

    fn sample(&mut self, tick: &Tick, rows: &mut Rows<Host>) -> Result<(), SampleError> {
        let mut record = Host::absent(tick.time);
        read_ahead_proc(["loadavg", "stat", "uptime"]);
        let read = rows.outcome.note(with_proc("loadavg", |loadavg| parse_loadavg(loadavg, &mut record)));
        self.lacks_load =
            read.is_some() && [record.load1, record.load5, record.load15].iter().all(|load| load.is_nan());
        rows.outcome.note(with_proc("stat", |stat| parse_stat(stat, &mut record)));
        self.interrupts.carry(std::array::from_mut(&mut record.interrupts), RANGE_32_BITS);
        match poll(heim::host::uptime())? {
            Ok(uptime) if (0.0..f64::INFINITY).contains(&uptime.get::<second>()) => {
                record.uptime_us = micros(uptime.get::<second>());
            }
            Ok(_) => rows.outcome.fail("uptime", "not a time"),
            Err(error) => rows.outcome.fail("uptime", error),
        }
        let read = self.file_nr.with(tick, |file_nr| parse_file_nr(file_nr, &mut record));
        rows.outcome.note(read);
        let columns = [&mut record.conntrack_entries, &mut record.max_conntrack_entries];
        for (file, column) in self.conntrack.iter_mut().zip(columns) {
            let read = file.with(tick, |bytes| *column = next_number(&mut words(bytes)));
            rows.outcome.note(read);
        }
        rows.push(record);
        Ok(())
    }
}

fn parse_loadavg(loadavg: &[u8], record: &mut Host) {
    let mut words = words(loadavg);
    let mut next = || words.next().and_then(hundredths).map_or(f64::NAN, |load| load / 100.0);
    (record.load1, record.load5, record.load15) = (next(), next(), next());
}

fn parse_stat(stat: &[u8], record: &mut Host) {
    for line in lines(stat) {
        let Some((key, numbers)) = cut(line, b' ') else { continue };
        let column = match key {
            b"intr" => &mut record.interrupts,
            b"ctxt" => &mut record.context_switches,
            b"processes" => &mut record.forks,
            b"procs_running" => &mut record.running,
            b"procs_blocked" => &mut record.blocked,
            _ => continue,
        };
        // The first number of `intr` is the sum; the counts of single interrupts follow.
        *column = next_number(&mut words(numbers));
    }
}

/// `/proc/sys/fs/file-nr`: open files, a zero, and the limit (`proc_sys_fs(5)`).
fn parse_file_nr(file_nr: &[u8], record: &mut Host) {
    let mut numbers = words(file_nr);
    record.open_files = next_number(&mut numbers);
    let limit = next_number(&mut numbers.skip(1));
    record.max_open_files = if limit < i64::MAX { limit } else { ABSENT };
}

fn micros(seconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
    let units = (seconds * UPTIME_UNITS_PER_SECOND).round() as i64;
    units.saturating_mul(UPTIME_UNIT_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_is_the_kernels_figures() {
        Probe::assert_fixture::<HostSampler>("vm", "4.45,4.05,2.25,4,0,896986,802835,28347,2073200000,,,,\n", None);
    }

    #[test]
    fn interrupts_go_on_where_a_cpus_number_starts_again() {
        let mut probe = Probe::empty::<HostSampler>();
        probe.write("loadavg", "0.50 1.00 1.50 1/2 3\n");
        probe.write("uptime", "1.00 0.00\n");
        let raw = [8_000_000_000_i64, 3_705_032_710, 3_705_032_711, 2_000_000_000];
        let seen = ["8000000000", "8000000006", "8000000007", "2000000000"];
        for (ms, (raw, seen)) in (0..).zip(raw.into_iter().zip(seen)) {
            probe.write("stat", format!("intr {raw} 1 2\n"));
            assert_eq!(probe.rows(ms).split(',').nth(6), Some(seen));
        }
    }

    #[test]
    fn interrupts_go_on_after_a_retune() {
        let mut probe = Probe::empty::<HostSampler>();
        probe.write("loadavg", "0.50 1.00 1.50 1/2 3\n");
        probe.write("uptime", "1.00 0.00\n");
        probe.write("stat", "intr 8000000000 1 2\n");
        probe.rows(0);
        probe.write("stat", "intr 3705032710 1 2\n");
        probe.rows(1);
        probe.retune::<HostSampler>();
        assert_eq!(probe.rows(2).split(',').nth(6), Some("8000000006"));
        probe.retune::<crate::family::memory::MemorySampler>();
        probe.write("meminfo", "");
        assert_eq!(probe.rows(3), ",,,,,,,,,,,\n", "a sampler of another family takes nothing over");
    }

    /// A count that no `i64` holds, and no `/proc/loadavg`.
    #[test]
    fn what_is_not_there_is_absent_and_told() {
        let (rows, outcome) = Probe::fixture::<HostSampler>("odd").tick(0);
        assert_eq!(rows, ",,,3,2,9223372036854775807,1,77,3155760000070000,,,,\n");
        assert_eq!(outcome.unwrap_err().what, "loadavg");
    }

    #[test]
    fn a_file_without_loads_is_told_and_is_no_error() {
        let mut probe = Probe::empty::<HostSampler>();
        probe.write("stat", "ctxt 7\n");
        probe.write("uptime", "1.00 0.00\n");
        assert!(probe.tick(0).1.is_err());
        assert_eq!(probe.lacking(), "", "a file that cannot be read is an error");
        probe.rows_with(1, "loadavg", "");
        assert_eq!(probe.lacking(), LOAD_LACKING);
        probe.rows_with(2, "loadavg", "0.50 1.00 1.50 1/2 3\n");
        assert_eq!(probe.lacking(), "");
    }

    #[test]
    fn what_cannot_be_read_costs_nothing_else() {
        let mut probe = Probe::empty::<HostSampler>();
        probe.write("loadavg", "0.50 x 1.50 1/2 3\n");
        probe.write("stat", "ctxt 7\nprocesses\n");
        probe.write("uptime", "soon\n");
        let (rows, outcome) = probe.tick(0);
        assert_eq!((rows.as_str(), outcome.unwrap_err().what), ("0.5,,1.5,,,7,,,,,,,\n", "uptime"));
        probe.write("loadavg", "inf 1.5 -0.00 1/2 3\n");
        for uptime in ["inf 0\n", "-1.0 0\n", "nan 0\n"] {
            probe.write("uptime", uptime);
            let (rows, outcome) = probe.tick(0);
            assert_eq!((rows.as_str(), outcome.unwrap_err().what), (",,,,,7,,,,,,,\n", "uptime"));
        }
    }

    #[test]
    fn tables_that_can_fill_up_have_their_limits() {
        let mut probe = Probe::empty::<HostSampler>();
        for (name, text) in
            [("loadavg", ""), ("stat", ""), ("uptime", "1.00 1.00\n"), ("sys/fs/file-nr", "1072\t0\t2466170\n")]
        {
            probe.write(name, text);
        }
        probe.write("sys/net/netfilter/nf_conntrack_count", "12\n");
        let rows = probe.rows_with(0, "sys/net/netfilter/nf_conntrack_max", "262144\n");
        assert_eq!(rows, ",,,,,,,,1000000,1072,2466170,12,262144\n");
        assert_eq!(probe.lacking(), LOAD_LACKING);
        let rows = probe.rows_with(1, "sys/fs/file-nr", "7\t0\t9223372036854775807\n");
        assert_eq!(rows, ",,,,,,,,1000000,7,,12,262144\n", "there is no limit");
    }

    #[test]
    fn uptime_is_exact_for_centuries() {
        for units in (0..100_000_i64).chain(1 << 40..(1 << 40) + 100_000) {
            let text = format!("{}.{:02}", units / 100, units % 100);
            assert_eq!(micros(text.parse().unwrap()), units * 10_000);
        }
    }
}
