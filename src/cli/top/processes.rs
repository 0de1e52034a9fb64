//! Processes as they were at a moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::cells::{Cell, put};
use super::window::SECOND_US;
use crate::cli::rows::{Rows, float, text, whole};

/// A tick covers no more than so much time before it.
const TICK_US_MAX: i64 = 5 * SECOND_US;

/// Which process: a number is used again, so its start belongs to it.
type Identity = (i64, i64);

/// One row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) command: String,
    pub(super) pid: i64,
    pub(super) start_us: i64,
    pub(super) cpus: f64,
    pub(super) user_us: Option<f64>,
    pub(super) system_us: Option<f64>,
    pub(super) rss_bytes: Option<f64>,
    pub(super) threads: Option<f64>,
    pub(super) files: Option<f64>,
    pub(super) faults: Option<f64>,
    pub(super) read_bytes: Option<f64>,
    pub(super) written_bytes: Option<f64>,
}

/// Rows of a stretch of time, by tick.
#[derive(Clone, Debug, Default)]
pub(super) struct Ticks {
    /// Pictures share them.
    of: BTreeMap<i64, Arc<Vec<Process>>>,
}

/// A process at a moment, with what it did since the tick before.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) process: Process,
    /// The share of its CPU time in its own code.
    pub(super) user: Option<f64>,
    pub(super) faults: Option<f64>,
    pub(super) read: Option<f64>,
    pub(super) written: Option<f64>,
    /// It began in the stretch of the tick.
    pub(super) is_new: bool,
}

/// What a table is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Cpus,
    Memory,
    Threads,
    Read,
    Written,
    Pid,
    Command,
}

impl Sort {
    const ALL: [Sort; 7] =
        [Sort::Cpus, Sort::Memory, Sort::Threads, Sort::Read, Sort::Written, Sort::Pid, Sort::Command];

    /// The one after it.
    pub(super) fn next(self) -> Sort {
        let at = Sort::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Sort::ALL[(at + 1) % Sort::ALL.len()]
    }

    fn of(self, line: &Line) -> f64 {
        match self {
            Sort::Cpus | Sort::Command => line.process.cpus,
            Sort::Memory => line.process.rss_bytes.unwrap_or(-1.0),
            Sort::Threads => line.process.threads.unwrap_or(-1.0),
            Sort::Read => line.read.unwrap_or(-1.0),
            Sort::Written => line.written.unwrap_or(-1.0),
            Sort::Pid => -(line.process.pid as f64),
        }
    }
}

impl Ticks {
    /// Reads rows.
    pub(super) fn read(batches: &[RecordBatch]) -> anyhow::Result<Ticks> {
        let mut ticks = Ticks::default();
        for batch in batches {
            let rows = Rows::of(batch);
            let (times, commands) = (rows.wholes("time")?, rows.texts("command")?);
            let (pids, starts) = (rows.wholes("pid")?, rows.wholes("start_us")?);
            let column = |name| rows.floats(name);
            let (cpus, user, system) = (column("cpu_ratio")?, column("cpu_user_us")?, column("cpu_system_us")?);
            let (memory, threads, files) = (column("rss_bytes")?, column("threads")?, column("open_files")?);
            let (faults, read, written) = (column("major_faults")?, column("read_bytes")?, column("write_bytes")?);
            for row in 0..rows.count() {
                let (Some(time), Some(pid)) = (whole(&times, row), whole(&pids, row)) else { continue };
                Arc::make_mut(ticks.of.entry(time).or_default()).push(Process {
                    command: text(&commands, row).to_owned(),
                    pid,
                    start_us: whole(&starts, row).unwrap_or(0),
                    cpus: float(&cpus, row).unwrap_or(0.0),
                    user_us: float(&user, row),
                    system_us: float(&system, row),
                    rss_bytes: float(&memory, row),
                    threads: float(&threads, row),
                    files: float(&files, row),
                    faults: float(&faults, row),
                    read_bytes: float(&read, row),
                    written_bytes: float(&written, row),
                });
            }
        }
        Ok(ticks)
    }

    /// Sets the rows of a tick.
    #[cfg(test)]
    pub(super) fn set(&mut self, time_us: i64, rows: Vec<Process>) {
        self.of.insert(time_us, Arc::new(rows));
    }

    /// Adds newer ones and forgets those before a time.
    pub(super) fn extend(&mut self, newer: Ticks, from_us: i64) {
        self.of.extend(newer.of);
        self.of = self.of.split_off(&from_us);
    }

    /// When the newest tick was.
    pub(super) fn newest(&self) -> Option<i64> {
        self.of.keys().next_back().copied()
    }

    /// The first tick at or after a time, if its stretch reaches back to that; else the newest one before it, as far as it is near.
    pub(super) fn at(&self, time_us: i64) -> Option<i64> {
        let after = self.of.range(time_us..).next().map(|(time, _)| *time).filter(|tick| tick - time_us <= TICK_US_MAX);
        let before = self.of.range(..time_us).next_back().map(|(time, _)| *time);
        after.or(before.filter(|tick| time_us - tick <= TICK_US_MAX))
    }

    /// When a tick's stretch begins: with the tick before it.
    pub(super) fn begin(&self, tick_us: i64) -> i64 {
        let before = self.of.range(..tick_us).next_back().map(|(time, _)| *time);
        before.filter(|before| tick_us - before <= TICK_US_MAX).unwrap_or(tick_us - SECOND_US)
    }

    /// The processes of a tick of a host that was started at `boot_us`.
    pub(super) fn lines(&self, tick_us: i64, boot_us: Option<i64>) -> Vec<Line> {
        let Some(rows) = self.of.get(&tick_us) else { return Vec::new() };
        let before = self.of.range(..tick_us).next_back().filter(|(time, _)| tick_us - *time <= TICK_US_MAX);
        let known: HashMap<Identity, &Process> =
            before.iter().flat_map(|(_, rows)| rows.iter()).map(|one| ((one.pid, one.start_us), one)).collect();
        let seconds = before.map_or(1.0, |(time, _)| (tick_us - time) as f64 / SECOND_US as f64);
        let begin = self.begin(tick_us);
        let line = |process: &Process| {
            let last = known.get(&(process.pid, process.start_us)).copied();
            let is_new = last.is_none() && boot_us.is_some_and(|boot| boot + process.start_us > begin);
            // What began in this tick has counted from zero.
            let before = |of: fn(&Process) -> Option<f64>| match last {
                Some(last) => of(last),
                None => Some(0.0).filter(|_| is_new),
            };
            let step = |of: fn(&Process) -> Option<f64>| {
                Some((of(process)? - before(of)?).max(0.0)).filter(|step| step.is_finite())
            };
            let rate = |of: fn(&Process) -> Option<f64>| Some(step(of)? / seconds);
            let (user, system) = (step(|one| one.user_us), step(|one| one.system_us));
            Line {
                user: user
                    .zip(system)
                    .filter(|(user, system)| user + system > 0.0)
                    .map(|(user, system)| user / (user + system)),
                faults: rate(|one| one.faults),
                read: rate(|one| one.read_bytes),
                written: rate(|one| one.written_bytes),
                is_new,
                process: process.clone(),
            }
        };
        rows.iter().map(line).collect()
    }

    /// How busy a process was, in cells from one time to another.
    pub(super) fn trace(&self, pid: i64, start_us: i64, from_us: i64, to_us: i64, count: usize) -> Vec<Option<Cell>> {
        let mut cells = vec![None; count];
        let width_us = ((to_us - from_us) / i64::try_from(count.max(1)).unwrap_or(1)).max(1);
        for (time, rows) in self.of.range(from_us..to_us) {
            let Some(row) = rows.iter().find(|row| row.pid == pid && row.start_us == start_us) else { continue };
            let at = usize::try_from((time - from_us) / width_us).unwrap_or(count);
            put(&mut cells, at, Cell::of(row.cpus));
        }
        cells
    }
}

/// Lines, with how many processes each stands for, in order.
pub(super) fn sorted(mut lines: Vec<(usize, Line)>, sort: Sort, is_reversed: bool) -> Vec<(usize, Line)> {
    lines.sort_by(|(_, one), (_, other)| {
        let by_name = |line: &Line| line.process.command.to_lowercase();
        let order = match sort {
            Sort::Command => by_name(one).cmp(&by_name(other)),
            _ => sort.of(other).total_cmp(&sort.of(one)),
        };
        let order = if is_reversed { order.reverse() } else { order };
        order.then(one.process.pid.cmp(&other.process.pid))
    });
    lines
}

/// Processes of one command as one line each.
pub(super) fn by_command(lines: Vec<Line>) -> Vec<(usize, Line)> {
    let mut groups: BTreeMap<String, (usize, Line)> = BTreeMap::new();
    let add = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    };
    for line in lines {
        let (count, group) = groups.entry(line.process.command.clone()).or_insert_with(|| {
            (
                0,
                Line {
                    process: Process { command: line.process.command.clone(), ..Process::default() },
                    ..Line::default()
                },
            )
        });
        *count += 1;
        group.process.cpus += line.process.cpus;
        group.process.rss_bytes = add(group.process.rss_bytes, line.process.rss_bytes);
        group.process.threads = add(group.process.threads, line.process.threads);
        group.process.files = add(group.process.files, line.process.files);
        group.faults = add(group.faults, line.faults);
        group.read = add(group.read, line.read);
        group.written = add(group.written, line.written);
        group.is_new |= line.is_new;
        group.process.pid = line.process.pid;
        group.process.start_us = line.process.start_us;
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i64, cpus: f64, read: f64) -> Process {
        Process { command: format!("p{pid}"), pid, cpus, read_bytes: Some(read), ..Process::default() }
    }

    fn ticks() -> Ticks {
        let second = |at: i64| at * SECOND_US;
        let of = [
            (second(10), vec![process(1, 0.5, 0.0)]),
            (second(11), vec![process(1, 0.5, 1000.0), Process { start_us: second(3) + 1, ..process(2, 4.0, 0.0) }]),
            (second(12), vec![process(1, 0.5, 3000.0)]),
        ];
        Ticks { of: of.map(|(time, rows)| (time, Arc::new(rows))).into() }
    }

    #[test]
    fn a_moment_has_the_first_tick_at_or_after_it() {
        let ticks = ticks();
        let at = |ms: i64| ticks.at(ms * 1000).map(|tick| tick / SECOND_US);
        assert_eq!([10_000, 10_001, 11_000, 12_500].map(at), [Some(10), Some(11), Some(11), Some(12)]);
        assert_eq!([1_000, 60_000].map(at), [None, None]);
        assert_eq!(ticks.begin(11 * SECOND_US), 10 * SECOND_US);
    }

    #[test]
    fn rates_are_over_the_stretch_of_the_tick_and_new_processes_are_told() {
        let lines = |sort| {
            let lines = ticks().lines(11 * SECOND_US, Some(7 * SECOND_US));
            sorted(lines.into_iter().map(|line| (1, line)).collect(), sort, false)
        };
        let told: Vec<_> =
            lines(Sort::Cpus).iter().map(|(_, line)| (line.process.pid, line.is_new, line.read)).collect();
        assert_eq!(told, [(2, true, Some(0.0)), (1, false, Some(1000.0))]);
        assert!(!ticks().lines(11 * SECOND_US, None)[1].is_new, "when the host was started is not known");
        assert_eq!(lines(Sort::Read)[0].1.process.pid, 1);
        let trace = ticks().trace(2, 3 * SECOND_US + 1, 10 * SECOND_US, 13 * SECOND_US, 3);
        assert_eq!(trace, [None, Some(Cell::of(4.0)), None]);
    }
}
