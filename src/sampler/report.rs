//! What a collector says of itself: its counts once a second, and a row for every stretch of time it missed.

use crate::record;

record! {
    /// What each collector did, counted since it was started, and how late its ticks were in the last second. Each
    /// row counts everything up to and including the tick that it is stamped with.
    pub struct Collector("collector") {
        labels {
            /// The collector's name in the configuration.
            collector => "kymo.collector",
        }
        values {
            /// Ticks that the clock called for: taken and missed ones.
            counter scheduled_ticks: i64 [Count("{tick}")] => "kymo.collector.ticks.scheduled" {},
            /// Ticks taken.
            counter ticks: i64 [Count("{tick}")] => "kymo.collector.ticks" {},
            /// Ticks skipped because the thread was not running when they were due.
            counter missed_ticks: i64 [Count("{tick}")] => "kymo.collector.ticks.missed" {},
            /// Records that went into the rings.
            counter pushed_records: i64 [Count("{record}")] => "kymo.collector.records" {},
            /// Records that found their ring full.
            counter dropped_records: i64 [Count("{record}")] => "kymo.collector.records.dropped" {},
            /// Times that a family could not be read at a tick.
            counter failed_reads: i64 [Count("{error}")] => "kymo.collector.read.errors" {},
            /// Time spent reading and parsing.
            counter read_us: i64 [Micros] => "kymo.collector.read.time" {},
            /// Median lateness of the last second's ticks: how long after its deadline the thread woke. Where it missed
            /// ticks, after the first that it missed.
            gauge lateness_p50_us: i64 [Micros] => "kymo.collector.lateness" {"quantile" = "0.5"},
            /// 99th percentile of the last second's lateness.
            gauge lateness_p99_us: i64 [Micros] => "kymo.collector.lateness" {"quantile" = "0.99"},
            /// Greatest lateness of the last second.
            gauge lateness_max_us: i64 [Micros] => "kymo.collector.lateness" {"quantile" = "1"},
        }
    }
}

record! {
    /// Stretches of time for which samples are missing, and why; and jumps of the wall clock, which `time` follows.
    pub struct Gap("gap") {
        labels {
            /// The collector that missed them; the table where rows were lost after sampling; "" where all did.
            collector => "kymo.collector",
            /// `late`: the thread did not run when ticks were due. `suspended`: the host was, so no tick was due.
            /// `clock step`: the wall clock was set, from what it would have said to what it said at the next tick.
            /// `memory full`: no flush succeeded for too long. `killed`: kymo was, or the host went down. `not recovered`:
            /// rows are neither in files nor in the journal, though later ones are. `files gone`: somebody deleted them.
            reason => "kymo.gap.reason",
        }
        values {
            /// When the first missed tick was due or the stretch began, µs since the epoch.
            gauge from_us: i64 [Micros],
            /// When the next tick was taken, µs since the epoch.
            gauge to_us: i64 [Micros],
            /// Ticks missed, or rows lost; none for suspensions, clock steps and after a kill.
            gauge lost: i64 [Count("{tick}")],
        }
    }
}
