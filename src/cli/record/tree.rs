//! The processes of a command among those of a recording: itself, and what it and its descendants have started.

use std::collections::HashSet;

/// A row of the table `process`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) pid: i64,
    pub(super) start_us: i64,
    pub(super) parent_pid: i64,
    pub(super) rss_bytes: i64,
}

/// The processes that were seen below a root.
#[derive(Debug)]
pub(super) struct Tree {
    root: i64,
    /// By pid and start: a process stays in it when its parent ends and another process adopts it.
    known: HashSet<(i64, i64)>,
}

/// What the processes of a tree had at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) processes: u64,
    pub(super) rss_bytes: i64,
}

impl Tree {
    /// The tree below the process `root`, which belongs to it.
    pub(super) fn of(root: i64) -> Tree {
        Tree { root, known: HashSet::new() }
    }

    /// Takes the rows of one time, which come in the order of time.
    pub(super) fn sum(&mut self, rows: &[Process]) -> Sum {
        let is_root = |row: &&Process| row.pid == self.root;
        self.known.extend(rows.iter().filter(is_root).map(|row| (row.pid, row.start_us)));
        let is_known = |known: &HashSet<_>, row: &Process| known.contains(&(row.pid, row.start_us));
        let mut pids: HashSet<i64> = rows.iter().filter(|row| is_known(&self.known, row)).map(|row| row.pid).collect();
        loop {
            let before = pids.len();
            for row in rows
                .iter()
                .filter(|row| row.parent_pid == self.root || pids.contains(&row.parent_pid))
                .copied()
                .collect::<Vec<_>>()
            {
                pids.insert(row.pid);
                self.known.insert((row.pid, row.start_us));
            }
            if pids.len() == before {
                break;
            }
        }
        let of_tree = rows.iter().filter(|row| is_known(&self.known, row));
        of_tree.fold(Sum::default(), |sum, row| Sum {
            processes: sum.processes + 1,
            rss_bytes: sum.rss_bytes.saturating_add(row.rss_bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pid: i64, parent_pid: i64, rss_bytes: i64) -> Process {
        Process { pid, start_us: 1, parent_pid, rss_bytes }
    }

    #[test]
    fn a_tree_has_what_its_processes_start_also_when_they_have_ended() {
        let mut tree = Tree::of(10);
        // A child has a lower id than its parent once the ids began anew.
        let rows = [row(1, 0, 500), row(3, 20, 4), row(10, 1, 1), row(20, 10, 2), row(30, 1, 800)];
        assert_eq!(tree.sum(&rows), Sum { processes: 3, rss_bytes: 7 });
        let rows = [row(1, 0, 500), row(3, 1, 5), row(30, 1, 800), row(40, 3, 6)];
        assert_eq!(tree.sum(&rows), Sum { processes: 2, rss_bytes: 11 });
        let another = Process { start_us: 2, ..row(3, 1, 9) };
        assert_eq!(tree.sum(&[another]), Sum::default(), "the id is of another process now");
    }
}
