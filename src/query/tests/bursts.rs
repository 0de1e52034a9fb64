//! `peak_rate`, `time_above` and `longest_run` in whole statements.

use super::hosts::three_hosts;
use super::{Fixture, QuerySettings, one, refusal, rows, settings};

/// Row n of `collector` is of the collector n % 3, n ms after the start, and has n ticks.
#[tokio::test]
async fn bursts_are_found_in_files_and_in_memory() {
    let engine = Fixture::of(&[900, 300], &[150, 150]).engine(settings());
    for (sql, expected) in [
        (
            "SELECT collector, peak_rate(ticks, time, interval '30 ms') AS peak FROM collector GROUP BY collector ORDER BY 1",
            "burst 1000.0|slow 1000.0|system 1000.0",
        ),
        // A jump of 500 ticks between two rows that are a millisecond apart, and the first window with it.
        (
            "SELECT peak_rate(jump, time, '10 ms'), peak_rate_at(jump, time, '10 ms') - min(time) FROM \
             (SELECT time, ticks + CASE WHEN ticks > 1000 THEN 499 ELSE 0 END AS jump FROM collector)",
            "50900.0 PT0.991S",
        ),
        ("SELECT peak_rate(ticks::DOUBLE, time, interval '1 ms') FROM collector", "1000.0"),
        (
            "SELECT peak_rate(ticks, time, interval '1 hour'), peak_rate_at(ticks, time, '1 hour') FROM collector",
            "null null",
        ),
        (
            "SELECT time_above(ticks BETWEEN 100 AND 299 OR ticks = 700, time) AS held FROM collector WHERE collector = 'burst'",
            "0.198",
        ),
        (
            "SELECT longest_run(ticks BETWEEN 100 AND 299 OR ticks = 700, time) AS run, \
             longest_run_at(ticks BETWEEN 100 AND 299 OR ticks = 700, time) - min(time) FROM collector",
            "0.2 PT0.1S",
        ),
        // A row says nothing for longer than the third argument.
        ("SELECT time_above(true, time) FROM collector WHERE ticks IN (0, 10, 1000)", "1.0"),
        ("SELECT time_above(ticks >= 0, time, interval '20 ms') FROM collector WHERE ticks IN (0, 10, 1000)", "0.03"),
        ("SELECT longest_run(ticks >= 0, time, '20 ms') FROM collector WHERE ticks IN (0, 10, 1000)", "0.03"),
        (
            "SELECT time_above(ticks < 0, time), longest_run(NULL, time), longest_run_at(ticks < 0, time) FROM collector",
            "0.0 0.0 null",
        ),
        (
            "SELECT time_above(ticks > 0, time), longest_run(ticks > 0, time) FROM collector WHERE ticks < 0",
            "null null",
        ),
        ("SELECT DISTINCT peak_rate(ticks, time, '1 ms') OVER (PARTITION BY host) FROM collector", "1000.0"),
        (
            "SELECT count(*), min(peak) FROM (SELECT peak_rate(ticks, time, '30 ms') AS peak FROM collector \
             GROUP BY date_bin(interval '100 ms', time))",
            "15 1000.0",
        ),
        (
            "SELECT syntax_example FROM information_schema.routines WHERE routine_name = 'peak_rate'",
            "peak_rate(counter, time, interval '100 ms')",
        ),
    ] {
        assert_eq!(rows(&engine, sql).await.join("|"), expected, "{sql}");
    }
}

#[tokio::test]
async fn mistakes_in_them_are_told() {
    let engine = Fixture::of(&[10], &[10]).engine(settings());
    for (sql, expected) in [
        ("SELECT peak_rate(ticks, time) FROM collector", "write peak_rate(counter, time, interval '100 ms')"),
        ("SELECT peak_rate(ticks, time, 10) FROM collector", "write interval '100 ms'"),
        ("SELECT peak_rate(ticks, time, 'soon') FROM collector", "'soon' is no length of time"),
        ("SELECT peak_rate(ticks, time, interval '-1 s') FROM collector", "at least a microsecond"),
        ("SELECT peak_rate(ticks, time, time - time) FROM collector", "must be a constant"),
        ("SELECT peak_rate(ticks, ticks, '1 s') FROM collector", "must be a timestamp"),
        ("SELECT time_above(ticks, time) FROM collector", "write time_above(x > 5, time)"),
        ("SELECT longest_run(ticks > 5) FROM collector", "write longest_run(condition, time)"),
        ("SELECT longest_run(DISTINCT ticks > 5, time) FROM collector", "refused"),
        ("SELECT longest_run(ticks > 5, time) OVER (ORDER BY time) FROM collector", "without ORDER BY"),
        ("SELECT max_rate(ticks, time) FROM collector", "use peak_rate(counter, time"),
        ("SELECT longest_runs(ticks > 5, time) FROM collector", "did you mean `longest_run`"),
        ("SELECT peak_rate(lateness_max_us, time, '1 s') FROM collector", "is a gauge"),
    ] {
        let error = refusal(&engine, sql).await.to_string();
        assert!(error.contains(expected), "{sql}: {error}");
    }
}

#[tokio::test]
async fn hosts_are_different_series() {
    let engine = three_hosts().engine(settings());
    for call in
        ["peak_rate(ticks, time, '10 ms')", "time_above(ticks > 5, time)", "longest_run(ticks > 5, time, '1 s')"]
    {
        let error = refusal(&engine, &format!("SELECT {call} FROM collector")).await.to_string();
        assert!(error.contains("are not one counter"), "{call}: {error}");
        let by_host =
            format!("SELECT count(*) FROM (SELECT {call} AS x FROM collector GROUP BY host) WHERE x IS NOT NULL");
        assert_eq!(one(&engine, &by_host).await, "3", "{by_host}");
    }
}

/// A hundred files and batches, so that each thread has some, on whatever machine.
#[tokio::test]
async fn increases_of_rows_in_order_keep_no_rows() {
    let small = QuerySettings { memory_bytes_max: 512 << 10, ..settings() };
    let mut fixture = Fixture::of(&[2_000; 50], &[2_000; 50]);
    let sql = "SELECT increase(ticks, time), rate(ticks, time) FROM collector WHERE ticks >= 0";
    assert_eq!(one(&fixture.engine(small), sql).await, "199999 1000.0");
    let by_label = "SELECT collector, increase(ticks, time) FROM collector GROUP BY collector ORDER BY collector";
    assert_eq!(rows(&fixture.engine(small), by_label).await, ["burst 199998", "slow 199998", "system 199995"]);
    // Where all times come twice, all rows are kept.
    let twice = "SELECT increase(ticks, time) FROM (SELECT time, ticks FROM collector UNION ALL SELECT time, ticks FROM collector)";
    assert_eq!(one(&fixture.engine(settings()), twice).await, "199999");
    let error = refusal(&fixture.engine(small), twice).await.to_string();
    assert!(error.contains("`query.memory_bytes_max`"), "{error}");
    // The clock was set back by half a second: two files and two batches have the same times as others.
    fixture.end -= 500;
    fixture.add_file(1_000);
    fixture.add_hot(1_000);
    assert_eq!(one(&fixture.engine(small), sql).await, "201499 1000.0");
}
