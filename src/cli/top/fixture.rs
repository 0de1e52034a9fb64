//! A picture of a host that does not exist: the same at each run.

use std::sync::Arc;

use super::cells::Cell;
use super::cgroups::{Group, Groups};
use super::events::{Event, Events, Firing, Loss, What};
use super::hardware::Hardware;
use super::history::History;
use super::metric::Metric;
use super::needs::Needs;
use super::picture::Picture;
use super::processes::{Process, Ticks};
use super::series::{Charts, Facts, More};
use super::view::View;
use super::window::{MINUTE_US, SECOND_US, Window};
use crate::record::{Kind, Unit};

/// Wed 25 Nov 2026 14:32:07.4 UTC
pub(super) const NOW_US: i64 = 1_795_617_127_400_000;
const CORES: usize = 16;

/// Between 0 and 1, without a pattern that is seen.
fn noise(seed: usize, at: usize) -> f64 {
    let mut state =
        (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (at as u64 + 7).wrapping_mul(0xd1b5_4a32_d192_ed03);
    state ^= state >> 29;
    state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state ^= state >> 32;
    (state % 10_000) as f64 / 10_000.0
}

fn cells(count: usize, seed: usize, mean: impl Fn(usize) -> f64, burst: f64) -> Vec<Option<Cell>> {
    let cell = |at: usize| {
        // Nothing was recorded in one cell.
        if at == count / 4 && seed != 2 {
            return None;
        }
        let mean = mean(at) * (0.9 + 0.2 * noise(seed, at));
        let max = if noise(seed + 50, at) > 0.9 { mean * burst } else { mean * 1.1 };
        Some(Cell { min: mean * 0.7, mean, max })
    };
    (0..count).map(cell).collect()
}

/// What a screen of so many cells shows, of now or of a moment half a minute ago.
pub(super) fn picture(count: usize, is_paused: bool) -> Picture {
    let window = Window::ending_at(NOW_US, MINUTE_US, count);
    let at_us = is_paused.then(|| window.time_of(count / 2));
    let busy = |at: usize| if at > count * 3 / 4 { 0.82 } else { 0.45 };
    let mut charts = Charts::of_tier("1s");
    let mut add = |part: &str, label: &str, both| charts.set(part, label, both);
    add("cpu", "total", [cells(count, 1, busy, 1.8).into_iter().map(capped).collect(), Vec::new()]);
    for core in 0..CORES {
        let share = cells(count, 100 + core, |at| busy(at) * (0.5 + 0.06 * core as f64), 1.5);
        add("cpu", &core.to_string(), [share.into_iter().map(capped).collect(), Vec::new()]);
    }
    add("memory", "", [cells(count, 2, |_| 21.4 * GIB, 1.0), Vec::new()]);
    let busier = |low: f64, high: f64| move |at: usize| if at > count * 3 / 4 { high } else { low };
    add("network", "eth0", [cells(count, 3, busier(2e8, 3e8), 9.0), cells(count, 4, busier(1.9e8, 2e8), 3.5)]);
    add("network", "lo", [cells(count, 5, |_| 9e8, 1.1), cells(count, 5, |_| 9e8, 1.1)]);
    add("disk", "nvme0n1", [cells(count, 6, busier(8e7, 5e8), 4.0), cells(count, 7, busier(1.4e8, 9e7), 16.0)]);
    add("pressure", "cpu", [cells(count, 8, busier(4e4, 2e5), 3.0), Vec::new()]);
    add("pressure", "memory", [cells(count, 9, |_| 0.0, 1.0), Vec::new()]);
    add("pressure", "io", [cells(count, 10, busier(1e4, 9e4), 5.0), Vec::new()]);
    let tick_us = at_us.unwrap_or(NOW_US - 200_000);
    Picture {
        host: "db-3".to_owned(),
        window,
        at_us,
        sought: None,
        now_us: NOW_US,
        read_us: NOW_US,
        charts: Arc::new(charts),
        more: Arc::default(),
        series: None,
        facts: facts(tick_us),
        ticks: ticks(tick_us),
        span: None,
        tick_us: Some(tick_us),
        groups: Some(groups(tick_us)),
        hardware: Arc::new(Hardware::fixed()),
        events: Arc::new(events(&window)),
        history: Arc::default(),
        catalog: Arc::default(),
        firing_us: NOW_US,
        firing: vec![Firing {
            rule: "rx-drops".to_owned(),
            labels: "interface=eth0".to_owned(),
            since_us: Some(NOW_US - 15 * SECOND_US),
            condition: "rate(rx_dropped) > 100".to_owned(),
            peak: Some(162.0),
        }],
    }
}

/// The same with the metrics that a view asks for.
pub(super) fn asked(view: &View, is_paused: bool) -> Picture {
    let count = Needs::of(view, None).cells;
    let mut picture = picture(count, is_paused);
    let needs = Needs::of(view, Some(&picture));
    let mut more = More::default();
    for metric in needs.metrics {
        let cells = of_metric(&metric, count);
        more.set(metric, cells);
    }
    picture.more = Arc::new(more);
    picture.history = Arc::new(history(needs.history));
    picture
}

/// Values as a column of such a name could have, always the same.
fn of_metric(metric: &Metric, count: usize) -> Vec<Option<Cell>> {
    let seed = metric.name().bytes().fold(7_usize, |seed, byte| seed.wrapping_mul(31).wrapping_add(usize::from(byte)));
    let Some(column) = metric.declared() else { return Vec::new() };
    let size = 0.05 + noise(seed, 1).powi(3);
    let (mean, burst) = match (column.unit, column.kind) {
        // Nothing goes wrong on this host.
        _ if ["error", "dropped", "fail", "oom", "stall", "reset", "abort", "missed", "discard"]
            .iter()
            .any(|bad| metric.column.contains(bad)) =>
        {
            (0.0, 1.0)
        }
        (Unit::Bytes, Kind::Counter) => (size * 4e8, 5.0),
        (Unit::Bytes, _) => (size * 30.0 * GIB, 1.05),
        (Unit::Micros, Kind::Counter) => (size * 6e5, 2.0),
        (Unit::Micros, _) => (size * 900.0, 4.0),
        (Unit::Ratio, _) => ((size * 0.8).min(1.0), 1.1),
        (Unit::Celsius, _) => (40.0 + size * 20.0, 1.02),
        (_, Kind::Counter) => (size * 9_000.0, 3.0),
        _ => (size * 40.0, 1.2),
    };
    let busier = |at: usize| if at > count * 3 / 4 { mean * 1.4 } else { mean };
    // No share is more than the whole.
    let whole = match (column.unit, column.kind) {
        (Unit::Ratio, _) => 1.0,
        (Unit::Micros, Kind::Counter) => 1e6,
        _ => f64::INFINITY,
    };
    let capped = |cell: Cell| Cell { min: cell.min.min(whole), max: cell.max.min(whole), mean: cell.mean.min(whole) };
    cells(count, seed % 1_000, busier, burst).into_iter().map(|cell| cell.map(capped)).collect()
}

/// Rows of a week, seconds and minutes of longer, and some of what happened.
fn history(columns: usize) -> History {
    let sign = |at: usize| match at * 100 / columns.max(1) {
        2..12 => '.',
        12..25 => '-',
        0..2 | 44..46 => ' ',
        _ => '=',
    };
    let mark = |at: usize| match at {
        _ if at == columns / 5 || at == columns * 7 / 8 => 'x',
        _ if at == columns / 3 || at == columns * 3 / 4 => '!',
        _ => ' ',
    };
    History::of(&(0..columns).map(sign).collect::<String>(), &(0..columns).map(mark).collect::<String>())
}

const GIB: f64 = 1_073_741_824.0;

fn capped(cell: Option<Cell>) -> Option<Cell> {
    cell.map(|cell| Cell { max: cell.max.min(1.0), mean: cell.mean.min(1.0), min: cell.min })
}

fn facts(tick_us: i64) -> Facts {
    let mut facts = Facts::until(tick_us);
    let uptime_us = 9.0 * 86_400e6;
    let mut add = |part: &str, label: &str, mean: &[f64], max: [f64; 2]| facts.set(part, label, mean, max);
    add("cpu", "total", &[0.57, 6.4e6, 2.08e6, 6.4e5, 4.8e5, 0.0], [0.61, 0.0]);
    for core in 0..CORES {
        add("cpu", &core.to_string(), &[0.05 * core as f64 + 0.2], [1.0, 0.0]);
    }
    add("memory", "", &[21.4 * GIB, 23.1 * GIB, 62.7 * GIB, 8.0 * GIB], [21.5 * GIB, 0.0]);
    add("network", "eth0", &[3.03e8, 1.93e8, 162.0, 0.0, 0.0, 0.0], [2.68e9, 6.25e8]);
    add("disk", "nvme0n1", &[8.1e7, 1.37e8, 3.1e5, 2.0, 412.0, 688.0], [1.7e9, 1.66e9]);
    add("pressure", "cpu some", &[8.4e4], [1e5, 0.0]);
    add("pressure", "memory some", &[0.0], [0.0, 0.0]);
    add("pressure", "memory full", &[0.0], [0.0, 0.0]);
    add("pressure", "io some", &[1e4], [3.2e4, 0.0]);
    add("pressure", "io full", &[3e3], [1e4, 0.0]);
    add("host", "", &[9.41, 8.12, 6.77, 12.0, 0.0, uptime_us], [0.0, 0.0]);
    add("kymo", "", &[6.2e4, 84.0 * 1_048_576.0, 8.91 * GIB, 71e6, 20e6, 97e6], [0.0, 0.0]);
    add("collector", "burst", &[21.0, 1920.0, 310.0, 2e4], [0.0, 0.0]);
    add("collector", "system", &[30.0, 900.0, 200.0, 6e3], [0.0, 0.0]);
    facts
}

/// Name, number, CPUs, GiB, threads, and bytes read and written a second.
const PROCESSES: &[(&str, i64, f64, f64, f64, f64, f64)] = &[
    ("python3", 31_877, 0.99, 2.11, 9.0, 1.9e6, 0.0),
    ("postgres", 20_417, 0.96, 7.94, 1.0, 19.8e6, 9e5),
    ("postgres", 20_388, 0.93, 7.9, 1.0, 17.1e6, 1.1e6),
    ("postgres", 20_391, 0.9, 7.91, 1.0, 13.9e6, 7e5),
    ("zstd", 28_995, 0.82, 0.2, 13.0, 0.0, 3.98e8),
    ("postgres", 20_455, 0.71, 7.66, 1.0, 8.4e6, 4e5),
    ("pgbouncer", 1_188, 0.43, 0.04, 1.0, 0.0, 0.0),
    ("vector", 1_203, 0.31, 0.115, 12.0, 1e5, 3.4e6),
    ("ksoftirqd/3", 34, 0.21, 0.0, 1.0, 0.0, 0.0),
    ("redis-server", 1_195, 0.18, 1.42, 5.0, 0.0, 0.0),
    ("nginx", 1_410, 0.15, 0.021, 1.0, 0.0, 6e5),
    ("kymo", 902, 0.06, 0.082, 17.0, 0.0, 3.1e5),
];

fn ticks(tick_us: i64) -> Ticks {
    let mut ticks = Ticks::default();
    let started_us = 5 * MINUTE_US;
    for second in -60..=30 {
        let time_us = tick_us + second * SECOND_US;
        let rows = PROCESSES.iter().enumerate().filter(|(_, row)| row.0 != "zstd" || second >= 0).map(|(at, row)| {
            let (command, pid, cpus, memory, threads, read, written) = *row;
            // It counts from its begin.
            let elapsed = (second + if command == "zstd" { 1 } else { 100 }) as f64;
            // What is shown began in the second before.
            let start_us = if command == "zstd" { 9 * 86_400 * SECOND_US - SECOND_US / 2 } else { started_us };
            let noise = 0.7 + 0.3 * noise(at, usize::try_from(second + 60).unwrap());
            Process {
                command: command.to_owned(),
                pid,
                start_us,
                cpus: if second == 0 { cpus } else { cpus * noise },
                user_us: Some(elapsed * cpus * 8e5),
                system_us: Some(elapsed * cpus * 2e5),
                rss_bytes: Some(memory * GIB).filter(|bytes| *bytes > 0.0),
                threads: Some(threads),
                files: Some(threads * 4.0),
                faults: Some(0.0),
                read_bytes: Some(elapsed * read),
                written_bytes: Some(elapsed * written),
            }
        });
        ticks.set(time_us, rows.collect());
    }
    ticks
}

fn groups(tick_us: i64) -> Groups {
    let group = |path: &str, cpus, memory: f64, of_max, throttled, io| Group {
        path: path.to_owned(),
        cpus: Some(cpus),
        throttled,
        memory: Some(memory * GIB),
        of_max,
        waited: [Some(cpus / 100.0), Some(0.0), Some(io)],
        read: Some(cpus * 1e7),
        written: Some(cpus * 2e7),
        tasks: Some(12.0),
        ..Group::default()
    };
    let groups = vec![
        group("/", 8.95, 50.0, None, None, 0.38),
        group("/system.slice", 8.26, 35.9, None, Some(0.0), 0.38),
        group("/system.slice/system-postgresql.slice", 2.09, 27.4, None, Some(0.0), 0.33),
        group("/system.slice/system-postgresql.slice/postgresql@16-main.service", 2.09, 27.4, None, Some(0.0), 0.33),
        group("/system.slice/backup.service", 4.52, 1.94, Some(0.24), Some(0.0), 0.31),
        group("/system.slice/etl-orders.service", 0.99, 2.21, Some(0.55), Some(0.03), 0.018),
        group("/system.slice/kymo.service", 0.06, 0.09, None, Some(0.0), 0.002),
        group("/user.slice", 0.01, 0.2, None, Some(0.0), 0.0),
        group("/init.scope", 0.0, 0.018, None, Some(0.0), 0.0),
    ];
    Groups::fixed(tick_us, groups)
}

fn events(window: &Window) -> Events {
    let event = |cell: usize, what, name: &str, labels: &str, state: &str, value| Event {
        time_us: window.time_of(cell) + SECOND_US / 2,
        what,
        name: name.to_owned(),
        labels: labels.to_owned(),
        state: state.to_owned(),
        value: Some(value),
        since_us: Some(window.time_of(cell) - 36 * SECOND_US),
        to_us: None,
    };
    let count = window.cells;
    let events = vec![
        event(count.saturating_sub(8), What::Fired, "rx-drops", "interface=eth0", "firing", 162.0),
        event(count * 2 / 3, What::Resolved, "io-stall", "resource=io kind=some", "resolved", 90_000.0),
        event(count / 3, What::Missed, "burst", "", "late", 3.0),
    ];
    let loss = |collector: &str, missed, due| Loss { collector: collector.to_owned(), missed, due, dropped: 0.0 };
    Events { events, losses: vec![loss("burst", 3.0, 71_412.0), loss("system", 0.0, 7_141.0)] }
}
