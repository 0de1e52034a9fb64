//! What the daemon says of itself, once a second.

use crate::record;

record! {
    /// The daemon's own use of the machine and the state of its store. Counters count since the daemon started.
    pub struct Kymo("kymo") {
        labels {}
        values {
            /// CPU time the process used, user and system (`getrusage(2)`).
            counter cpu_us: i64 [Micros] => "kymo.cpu.time" {},
            /// Resident memory (`/proc/self/statm`).
            gauge rss_bytes: i64 [Bytes] => "process.memory.usage" {},
            /// Rows in memory, not yet in a Parquet file.
            gauge hot_rows: i64 [Count("{row}")] => "kymo.store.hot.rows" {},
            /// Memory that these rows take.
            gauge hot_bytes: i64 [Bytes] => "kymo.store.hot.size" {},
            /// Size of the journal on disk.
            gauge journal_bytes: i64 [Bytes] => "kymo.store.journal.size" {},
            /// Size of all Parquet files.
            gauge lake_bytes: i64 [Bytes] => "kymo.store.lake.size" {},
            /// Number of Parquet files.
            gauge lake_files: i64 [Count("{file}")] => "kymo.store.lake.files" {},
            /// Flushes that published what they had.
            counter flushes: i64 [Count("{flush}")] => "kymo.store.flushes" {},
            /// Flushes that failed and will be tried again.
            counter failed_flushes: i64 [Count("{flush}")] => "kymo.store.flushes.failed" {},
            /// Rows dropped from memory because it was full and no flush succeeded.
            counter lost_rows: i64 [Count("{row}")] => "kymo.store.rows.lost" {},
            /// Rows that could not be written to the journal. Unless kymo was killed soon after, files have them.
            counter unjournaled_rows: i64 [Count("{row}")] => "kymo.store.rows.unjournaled" {},
            /// Queries begun.
            counter queries: i64 [Count("{query}")] => "kymo.queries" {},
            /// Notifications delivered.
            counter alerts_sent: i64 [Count("{notification}")] => "kymo.alerts.sent" {},
            /// Notifications given up, or dropped because too many were waiting.
            counter alerts_lost: i64 [Count("{notification}")] => "kymo.alerts.lost" {},
            /// Metric exports and spans that did not reach their OTLP endpoint.
            counter exports_lost: i64 [Count("{export}")] => "kymo.exports.lost" {},
            /// Label texts that came after an interner was full.
            counter overflowed_labels: i64 [Count("{label}")] => "kymo.labels.overflowed" {},
        }
    }
}
