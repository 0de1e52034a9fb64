//! Control groups as they were at a moment, as a tree.

use std::collections::{BTreeMap, HashMap};

use arrow::array::RecordBatch;

use super::window::SECOND_US;
use crate::cli::rows::{Rows, float, text, whole};

/// One row of the table.
#[derive(Clone, Debug, Default, PartialEq)]
struct Row {
    usage_us: Option<f64>,
    periods: Option<f64>,
    throttled: Option<f64>,
    memory: Option<f64>,
    memory_max: Option<f64>,
    cpu_us: Option<f64>,
    memory_us: Option<f64>,
    io_us: Option<f64>,
    read: Option<f64>,
    written: Option<f64>,
    tasks: Option<f64>,
}

/// A control group at a moment, with what it did since the tick before. Rates are per second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Group {
    pub(super) path: String,
    /// What stands before its name: the branches of the tree.
    pub(super) branch: String,
    pub(super) name: String,
    pub(super) cpus: Option<f64>,
    /// The share of its periods in which it was throttled.
    pub(super) throttled: Option<f64>,
    pub(super) memory: Option<f64>,
    /// The share of its memory limit.
    pub(super) of_max: Option<f64>,
    /// The shares of the time in which some task waited: for a CPU, memory, and I/O.
    pub(super) waited: [Option<f64>; 3],
    pub(super) read: Option<f64>,
    pub(super) written: Option<f64>,
    pub(super) tasks: Option<f64>,
}

/// What siblings are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum GroupSort {
    #[default]
    Cpus,
    Memory,
    Throttled,
    WaitedForIo,
    Read,
    Written,
}

impl GroupSort {
    /// The one after it.
    pub(super) fn next(self) -> GroupSort {
        use GroupSort::{Cpus, Memory, Read, Throttled, WaitedForIo, Written};
        match self {
            Cpus => Memory,
            Memory => Throttled,
            Throttled => WaitedForIo,
            WaitedForIo => Read,
            Read => Written,
            Written => Cpus,
        }
    }

    fn of(self, group: &Group) -> f64 {
        let value = match self {
            GroupSort::Cpus => group.cpus,
            GroupSort::Memory => group.memory,
            GroupSort::Throttled => group.throttled,
            GroupSort::WaitedForIo => group.waited[2],
            GroupSort::Read => group.read,
            GroupSort::Written => group.written,
        };
        value.unwrap_or(-1.0)
    }
}

/// Groups of one tick, in no order.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    /// When the tick was.
    pub(super) tick_us: Option<i64>,
    groups: Vec<Group>,
}

impl Groups {
    /// Reads the rows around a moment.
    pub(super) fn read(batches: &[RecordBatch], at_us: i64) -> anyhow::Result<Groups> {
        let mut ticks: BTreeMap<i64, HashMap<String, Row>> = BTreeMap::new();
        for batch in batches {
            let rows = Rows::of(batch);
            let (times, paths) = (rows.wholes("time")?, rows.texts("cgroup")?);
            let column = |name| rows.floats(name);
            let (usage, periods, throttled) = (column("usage_us")?, column("periods")?, column("throttled_periods")?);
            let (memory, memory_max) = (column("memory_bytes")?, column("memory_max_bytes")?);
            let (cpu, stalled, io) = (column("cpu_some_us")?, column("memory_some_us")?, column("io_some_us")?);
            let (read, written, tasks) = (column("read_bytes")?, column("write_bytes")?, column("tasks")?);
            for row in 0..rows.count() {
                let Some(time) = whole(&times, row) else { continue };
                let found = Row {
                    usage_us: float(&usage, row),
                    periods: float(&periods, row),
                    throttled: float(&throttled, row),
                    memory: float(&memory, row),
                    memory_max: float(&memory_max, row),
                    cpu_us: float(&cpu, row),
                    memory_us: float(&stalled, row),
                    io_us: float(&io, row),
                    read: float(&read, row),
                    written: float(&written, row),
                    tasks: float(&tasks, row),
                };
                ticks.entry(time).or_default().insert(text(&paths, row).to_owned(), found);
            }
        }
        let tick = ticks.range(at_us..).next().or_else(|| ticks.range(..at_us).next_back());
        let Some((tick_us, now)) = tick else { return Ok(Groups::default()) };
        let before = ticks.range(..tick_us).next_back();
        let groups = now.iter().map(|(path, row)| {
            let last =
                before.and_then(|(time, rows)| Some((rows.get(path)?, (tick_us - time) as f64 / SECOND_US as f64)));
            group(path, row, last)
        });
        Ok(Groups { tick_us: Some(*tick_us), groups: groups.collect() })
    }

    /// Groups as they are told.
    #[cfg(test)]
    pub(super) fn fixed(tick_us: i64, groups: Vec<Group>) -> Groups {
        Groups { tick_us: Some(tick_us), groups }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.groups.len()
    }

    /// As a tree whose siblings are sorted; or as a list. Of what does not match, only the parents of what does are kept.
    pub(super) fn lines(
        &self,
        sort: GroupSort,
        is_reversed: bool,
        is_flat: bool,
        matches: impl Fn(&str) -> bool,
    ) -> Vec<Group> {
        let order = |one: &&Group, other: &&Group| {
            let order = sort.of(other).total_cmp(&sort.of(one));
            (if is_reversed { order.reverse() } else { order }).then(one.path.cmp(&other.path))
        };
        if is_flat {
            let mut found: Vec<&Group> = self.groups.iter().filter(|group| matches(&group.path)).collect();
            found.sort_by(order);
            return found.into_iter().map(|group| Group { name: group.path.clone(), ..group.clone() }).collect();
        }
        let kept = |group: &&Group| {
            let below = if group.path == "/" { "/".to_owned() } else { format!("{}/", group.path) };
            self.groups.iter().any(|one| (one.path == group.path || one.path.starts_with(&below)) && matches(&one.path))
        };
        let kept: Vec<&Group> = self.groups.iter().filter(kept).collect();
        let mut children: BTreeMap<&str, Vec<&Group>> = BTreeMap::new();
        for group in &kept {
            children.entry(self.parent(&group.path)).or_default().push(group);
        }
        children.values_mut().for_each(|siblings| siblings.sort_by(order));
        let mut lines = Vec::new();
        grow(&children, "", "", true, &mut lines);
        lines
    }

    /// The nearest group above one, or nothing.
    fn parent<'a>(&'a self, path: &'a str) -> &'a str {
        if path == "/" {
            return "";
        }
        let mut above = path.match_indices('/').map(|(at, _)| if at == 0 { "/" } else { &path[..at] }).rev();
        let is_known = |above: &&str| self.groups.iter().any(|group| group.path == *above);
        above.find(is_known).unwrap_or("")
    }
}

/// Adds the children of a group, with the branches before their names.
fn grow(children: &BTreeMap<&str, Vec<&Group>>, parent: &str, before: &str, is_root: bool, lines: &mut Vec<Group>) {
    let Some(siblings) = children.get(parent) else { return };
    for (at, group) in siblings.iter().enumerate() {
        let is_last = at + 1 == siblings.len();
        let branch = if is_root { String::new() } else { format!("{before}{}", if is_last { "└ " } else { "├ " }) };
        let name = group.path.strip_prefix(parent).unwrap_or(&group.path).trim_start_matches('/');
        let name = if name.is_empty() { "/" } else { name };
        lines.push(Group { branch, name: name.to_owned(), ..(*group).clone() });
        let below = if is_root { String::new() } else { format!("{before}{}", if is_last { "  " } else { "│ " }) };
        grow(children, &group.path, &below, false, lines);
    }
}

fn group(path: &str, row: &Row, last: Option<(&Row, f64)>) -> Group {
    let step = |of: fn(&Row) -> Option<f64>| Some((of(row)? - of(last?.0)?).max(0.0));
    let rate = |of: fn(&Row) -> Option<f64>| Some(step(of)? / last?.1);
    let share = |of: fn(&Row) -> Option<f64>| Some(rate(of)? / 1e6);
    let periods = step(|row| row.periods).filter(|periods| *periods > 0.0);
    Group {
        path: path.to_owned(),
        cpus: share(|row| row.usage_us),
        throttled: step(|row| row.throttled).zip(periods).map(|(throttled, periods)| throttled / periods),
        memory: row.memory,
        of_max: row.memory.zip(row.memory_max).filter(|(_, max)| *max > 0.0).map(|(memory, max)| memory / max),
        waited: [share(|row| row.cpu_us), share(|row| row.memory_us), share(|row| row.io_us)],
        read: rate(|row| row.read),
        written: rate(|row| row.written),
        tasks: row.tasks,
        ..Group::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Groups {
        let group = |(path, cpus): (&str, f64)| Group { path: path.into(), cpus: Some(cpus), ..Group::default() };
        let groups = [("/", 3.0), ("/a", 1.0), ("/a/x", 0.4), ("/a/y", 0.6), ("/b", 2.0), ("/c/deep", 0.1)].map(group);
        Groups { tick_us: Some(0), groups: groups.into() }
    }

    fn shown(lines: &[Group]) -> Vec<String> {
        lines.iter().map(|group| format!("{}{}", group.branch, group.name)).collect()
    }

    #[test]
    fn groups_are_a_tree_whose_siblings_are_sorted() {
        let lines = groups().lines(GroupSort::Cpus, false, false, |_| true);
        assert_eq!(shown(&lines), ["/", "├ b", "├ a", "│ ├ y", "│ └ x", "└ c/deep"]);
        let lines = groups().lines(GroupSort::Cpus, true, true, |_| true);
        assert_eq!(shown(&lines)[..2], ["/c/deep", "/a/x"]);
    }

    #[test]
    fn a_filter_keeps_the_parents_of_what_matches() {
        let lines = groups().lines(GroupSort::Cpus, false, false, |path| path.ends_with('y'));
        assert_eq!(shown(&lines), ["/", "└ a", "  └ y"]);
    }

    #[test]
    fn rates_are_from_the_tick_before_and_shares_of_limits() {
        let before = Row { usage_us: Some(0.0), periods: Some(10.0), throttled: Some(1.0), ..Row::default() };
        let now = Row {
            usage_us: Some(5e5),
            periods: Some(20.0),
            throttled: Some(4.0),
            memory: Some(2.0),
            memory_max: Some(8.0),
            ..Row::default()
        };
        let group = group("/a", &now, Some((&before, 1.0)));
        assert_eq!((group.cpus, group.throttled, group.of_max, group.read), (Some(0.5), Some(0.3), Some(0.25), None));
    }
}
