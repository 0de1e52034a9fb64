//! `kymo`: the daemon's own figures, once a second.

use crate::record;

record! {
    /// The daemon's own use of the host and the state of its store. Counters count since the daemon started.
    pub struct Kymo("kymo") {
        labels {}
        values {
            /// CPU time of the process, user and system, over all threads.
            counter cpu_us: i64 [Micros] => "kymo.cpu.time" {},
            /// Resident memory of the process (`/proc/self/statm`).
            gauge rss_bytes: i64 [Bytes] => "process.memory.usage" {},
            /// Rows in memory that are not yet in a Parquet file.
            gauge hot_rows: i64 [Count("{row}")] => "kymo.store.hot.rows" {},
            /// Memory used by these rows.
            gauge hot_bytes: i64 [Bytes] => "kymo.store.hot.size" {},
            /// Size of the journal on disk.
            gauge journal_bytes: i64 [Bytes] => "kymo.store.journal.size" {},
            /// Size of all Parquet files.
            gauge lake_bytes: i64 [Bytes] => "kymo.store.lake.size" {},
            /// Number of Parquet files.
            gauge lake_files: i64 [Count("{file}")] => "kymo.store.lake.files" {},
            /// Flushes that succeeded.
            counter flushes: i64 [Count("{flush}")] => "kymo.store.flushes" {},
            /// Failed flushes. kymo retries a failed flush.
            counter failed_flushes: i64 [Count("{flush}")] => "kymo.store.flushes.failed" {},
            /// Rows dropped because memory was full and no flush succeeded.
            counter lost_rows: i64 [Count("{row}")] => "kymo.store.rows.lost" {},
            /// Rows that could not be written to the journal. They are lost only if kymo is killed or the host
            /// crashes before the next flush.
            counter unjournaled_rows: i64 [Count("{row}")] => "kymo.store.rows.unjournaled" {},
            /// Queries started.
            counter queries: i64 [Count("{query}")] => "kymo.queries" {},
            /// Processes that run queries, or wait for one.
            gauge query_processes: i64 [Count("{process}")] => "kymo.query.processes" {},
            /// Resident memory of these processes, and of the rows in memory that they were given.
            gauge query_rss_bytes: i64 [Bytes] => "kymo.query.memory.usage" {},
            /// Statements that have no row in the table `statement`, because too many ended at once.
            counter statement_rows_lost: i64 [Count("{row}")] => "kymo.statements.rows.lost" {},
            /// Such processes that died: of a query, or killed by kymo because they did not end one, or by someone else.
            counter query_faults: i64 [Count("{fault}")] => "kymo.query.faults" {},
            /// Notifications delivered.
            counter alerts_sent: i64 [Count("{notification}")] => "kymo.alerts.sent" {},
            /// Notifications given up after all retries, or dropped because too many were waiting.
            counter alerts_lost: i64 [Count("{notification}")] => "kymo.alerts.lost" {},
            /// Changes of alerts that are not in the table `alert`, because there were too many at once.
            counter alert_rows_lost: i64 [Count("{row}")] => "kymo.alerts.rows.lost" {},
            /// Metric exports and spans that did not reach their OTLP endpoint.
            counter exports_lost: i64 [Count("{export}")] => "kymo.exports.lost" {},
            /// Label values recorded as "(too many labels)", because a table had 65,534 others at the time.
            counter overflowed_labels: i64 [Count("{label}")] => "kymo.labels.overflowed" {},
        }
    }
}
