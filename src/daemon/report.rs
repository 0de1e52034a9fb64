//! The daemon's own figures, for the table `kymo`.

use rustix::time::{ClockId, clock_gettime};

use crate::family::kymo::Kymo;
use crate::query::statements::Statements;
use crate::record::{ABSENT, Record};

use super::operator::Daemon;

impl Daemon {
    /// A row of the table `kymo` at `time`, with the figures as of now.
    pub(super) fn report(&self, time: i64) -> Kymo {
        let stats = self.store.stats();
        let workers = self.workers.status();
        let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Kymo {
            cpu_us: process_cpu_us(),
            rss_bytes: rss_bytes().unwrap_or(ABSENT),
            hot_rows: count(stats.hot_rows),
            hot_bytes: count(stats.hot_bytes),
            lake_bytes: count(stats.lake_bytes),
            journal_bytes: count(stats.journal_bytes),
            lake_files: count(stats.lake_files),
            flushes: count(stats.flushes),
            failed_flushes: count(stats.failed_flushes),
            lost_rows: count(stats.lost_rows),
            unjournaled_rows: count(stats.unjournaled_rows),
            queries: count(self.workers.begun()),
            query_processes: count(workers.processes),
            query_rss_bytes: count(workers.rss_bytes),
            query_faults: count(workers.faults),
            statement_rows_lost: count(self.workers.history().lost()),
            alerts_sent: count(self.outbox.sent()),
            alerts_lost: count(self.outbox.lost()),
            alert_rows_lost: count(self.board.lost_changes()),
            exports_lost: count(self.exports.count()),
            overflowed_labels: count(self.collectors.overflowed_labels()),
            ..Kymo::absent(time)
        }
    }
}

/// CPU time of all threads, ended ones too (`clock_gettime(2)`, `CLOCK_PROCESS_CPUTIME_ID`).
fn process_cpu_us() -> i64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

/// The second number of `/proc/self/statm`, in pages (`proc_pid_statm(5)`).
fn rss_bytes() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * i64::try_from(rustix::param::page_size()).ok()?)
}
