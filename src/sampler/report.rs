//! A collector's own tables: its counts once a second, and a row for every stretch of time without samples.

use crate::record;

record! {
    /// Counts of each collector since it was started, and the lateness of its ticks in the last second. Counts include
    /// the tick at the row's `time`.
    pub struct Collector("collector") {
        labels {
            /// The collector's name in the configuration.
            collector => "kymo.collector",
        }
        values {
            /// Ticks that were due: taken and missed.
            counter scheduled_ticks: i64 [Count("{tick}")] => "kymo.collector.ticks.scheduled" {},
            /// Ticks taken.
            counter ticks: i64 [Count("{tick}")] => "kymo.collector.ticks" {},
            /// Ticks skipped because the thread did not run when they were due.
            counter missed_ticks: i64 [Count("{tick}")] => "kymo.collector.ticks.missed" {},
            /// Rows recorded.
            counter pushed_records: i64 [Count("{record}")] => "kymo.collector.records" {},
            /// Rows dropped because the buffer between the collector and the store was full.
            counter dropped_records: i64 [Count("{record}")] => "kymo.collector.records.dropped" {},
            /// How many times a table could not be read at a tick.
            counter failed_reads: i64 [Count("{error}")] => "kymo.collector.read.errors" {},
            /// Values left out (NULL) because they cannot be true: a temperature that no sensor can mean, a limit that a
            /// driver has not set, a part larger than the whole, a share above 1, a count below zero. They are
            /// counted each time that they are read.
            counter impossible_values: i64 [Count("{value}")] => "kymo.collector.values.impossible" {},
            /// Time spent reading and parsing.
            counter read_us: i64 [Micros] => "kymo.collector.read.time" {},
            /// Median lateness of the last second's ticks: the time from a tick's deadline until the thread woke. If
            /// ticks were missed, the time from the first missed deadline.
            gauge lateness_p50_us: i64 [Micros] => "kymo.collector.lateness" {"quantile" = "0.5"},
            /// Lateness of the last second's ticks, 99th percentile.
            gauge lateness_p99_us: i64 [Micros] => "kymo.collector.lateness" {"quantile" = "0.99"},
            /// Greatest lateness of the last second's ticks.
            gauge lateness_max_us: i64 [Micros] => "kymo.collector.lateness" {"quantile" = "1"},
        }
    }
}

record! {
    /// Periods for which samples are missing, because they were not taken or were lost, and why. Steps of the wall clock are
    /// recorded too, because `time` follows the wall clock.
    pub struct Gap("gap") {
        labels {
            /// The collector that missed the samples, or found the clock step. Empty for `killed`. For `memory full`, `not
            /// recovered` and `files gone`: the table that lost rows.
            collector => "kymo.collector",
            /// Why samples are missing. `late`: the thread did not run when ticks were due. `suspended`: the host was
            /// suspended, so no ticks were due. `clock step`: the wall clock was set from `from_us` to `to_us`. `memory
            /// full`: flushes failed until memory was full. `killed`: kymo was killed or the host crashed. `not
            /// recovered`: no file and no journal segment has these rows, although later ones were found. `files gone`:
            /// files were deleted, and not by kymo.
            reason => "kymo.gap.reason",
        }
        values {
            /// When the first missed tick was due, or the period began, µs since the epoch.
            gauge from_us: i64 [Micros],
            /// When the next tick was taken, or the period ended, µs since the epoch.
            gauge to_us: i64 [Micros],
            /// Ticks missed, or rows lost. 0 for suspensions and clock steps; NULL after a kill.
            gauge lost: i64 [Count("{tick}")],
        }
    }
}
