//! Functions, casts and operators in whole statements, with the values that PostgreSQL or DuckDB gives.

use super::{Engine, Fixture, TryStreamExt, one, refusal, rows, settings};

/// Notes a statement that gives another row, or none.
pub(super) async fn check(engine: &Engine, sql: &str, expected: &str, wrong: &mut Vec<String>) {
    let ran = match engine.execute(sql).await {
        Ok(batches) => batches.try_collect::<Vec<_>>().await,
        Err(error) => Err(error),
    };
    match ran {
        Err(error) => wrong.push(format!("{sql}: {error}")),
        Ok(_) => {
            let told = rows(engine, sql).await.join("|");
            if told != expected {
                wrong.push(format!("{sql}: {told}, not {expected}"));
            }
        }
    }
}

#[tokio::test]
async fn times_have_the_fields_and_differences_of_postgresql() {
    let engine = Fixture::of(&[], &[10]).engine(settings());
    let mut wrong = Vec::new();
    for (sql, expected) in [
        (
            "SELECT extract(epoch FROM timestamptz '2026-11-25 14:45:17.179718Z' - timestamptz '2026-11-25 14:42:21.179922Z')",
            "175.999796",
        ),
        ("SELECT extract(epoch FROM max(time) - min(time)) FROM collector", "0.009"),
        // The recording begins at 2024-01-01 00:00 in UTC, which is 01:00 in Berlin.
        (
            "SELECT count(*) FROM collector WHERE (time AT TIME ZONE 'Europe/Berlin')::timestamp >= TIMESTAMP '2024-01-01 01:00:00.004'",
            "6",
        ),
        (
            "SELECT count(*) FROM collector WHERE time::timestamp AT TIME ZONE 'Europe/Berlin' >= TIMESTAMPTZ '2023-12-31 23:00:00.004Z'",
            "6",
        ),
        (
            "SELECT count(*) FROM collector WHERE time::date AT TIME ZONE 'Europe/Berlin' = TIMESTAMPTZ '2023-12-31 23:00Z'",
            "10",
        ),
        (
            "SELECT ((t AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Berlin') - t)::text FROM (SELECT min(time)::timestamp AS t FROM collector)",
            "01:00:00",
        ),
        (
            "SELECT (t AT TIME ZONE 'Asia/Tokyo')::timestamp(0), (t AT TIME ZONE 'Asia/Tokyo')::timestamp(3), \
             (t AT TIME ZONE 'Asia/Tokyo')::timestamp FROM (SELECT timestamptz '2026-11-25 14:42:20.5006Z' AS t)",
            "2026-11-25T23:42:21 2026-11-25T23:42:20.501 2026-11-25T23:42:20.500600",
        ),
        (
            "SELECT last_day(timestamptz '2026-10-31 23:42:20.6Z' AT TIME ZONE 'Europe/Berlin'), date_diff('day', timestamptz \
             '2026-10-24 22:42Z' AT TIME ZONE 'Europe/Berlin', timestamp '2026-10-25'), date_diff('hour', timestamp '2026-11-25', \
             timestamptz '2026-11-25 14:42Z' AT TIME ZONE 'Asia/Tokyo'), datesub('day', timestamp '2026-11-25', timestamptz \
             '2026-11-25 20:00Z' AT TIME ZONE 'Asia/Tokyo')",
            "2026-11-30 0 23 1",
        ),
        (
            "SELECT t::timestamp(3), t::timestamp(3)::timestamp(0), t::timestamp(0) FROM (SELECT timestamp '2026-11-25 14:42:21.579722' AS t)",
            "2026-11-25T14:42:21.580 2026-11-25T14:42:22 2026-11-25T14:42:22",
        ),
        (
            "SELECT (t + INTERVAL '500 ms')::timestamp(0), (t - INTERVAL '60 years')::timestamp(0) FROM (SELECT timestamp '2026-11-25 14:42:21.179922' AS t)",
            "2026-11-25T14:42:22 1966-11-25T14:42:21",
        ),
        ("SELECT ('2026-11-25 14:42:21.679922'::timestamp(0))::text", "2026-11-25 14:42:22"),
        (
            "SELECT extract(minute FROM a - b), extract(second FROM a - b) FROM (SELECT timestamp '2026-11-25 14:45:17' AS a, timestamp '2026-11-25 14:42:21' AS b)",
            "2 56",
        ),
    ] {
        check(&engine, sql, expected, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn intervals_and_texts_of_times_are_those_of_postgresql() {
    let engine = Fixture::of(&[], &[10]).engine(settings());
    let mut wrong = Vec::new();
    for (sql, expected) in [
        ("SELECT INTERVAL '36 hours' > INTERVAL '1 day', INTERVAL '24 hours' = INTERVAL '1 day'", "true true"),
        ("SELECT (timestamptz '2026-11-27Z' - timestamptz '2026-11-25Z') > INTERVAL '1 day'", "true"),
        ("SELECT (INTERVAL '90 minutes' * 2)::text, (INTERVAL '1 hour' / 2)::text", "03:00:00 00:30:00"),
        ("SELECT ((max(time) - min(time)) / 3)::text FROM collector", "00:00:00.003"),
        (
            "SELECT (timestamp '2026-11-25' + INTERVAL '1h30m')::text, (date '2026-11-25' + INTERVAL '1 hour')::text",
            "2026-11-25 01:30:00 2026-11-25 01:00:00",
        ),
        ("SELECT '1 day ago'::interval::text, INTERVAL 'PT5M'::text", "-1 days 00:05:00"),
        (
            "SELECT to_char(timestamptz '2026-11-25 14:42:21.179922Z', 'YYYY-MM-DD HH24:MI:SS.MS')",
            "2026-11-25 14:42:21.179",
        ),
        (
            "SELECT strftime(timestamp '2026-11-25 14:42', '%H:%M'), date_format(timestamp '2026-11-25 14:42', '%Y')",
            "14:42 2026",
        ),
        (
            "SELECT (min(time))::text, 'at ' || min(time) FROM collector",
            "2024-01-01 00:00:00+00 at 2024-01-01 00:00:00+00",
        ),
        (
            "SELECT count(*) FROM collector WHERE time > '2024-01-01 00:00' AND time::text LIKE '2024-01-01 00:00:00.00%'",
            "9",
        ),
        (
            "SELECT count(*) FROM collector WHERE time IN ('2024-01-01', '2024-01-01 00:00:00.005') OR time BETWEEN '2024-01-01 00:00:00.001Z' AND '2024-01-01 00:00:00.002Z'",
            "4",
        ),
        (
            "SELECT arrow_typeof(now()), arrow_typeof(date_bin(INTERVAL '1 s', now())), arrow_typeof(timestamp '2026-11-25')",
            "Timestamp(µs, \"UTC\") Timestamp(µs, \"UTC\") Timestamp(µs)",
        ),
        (
            "SELECT to_timestamp(1795617740.208691)::text, to_timestamp('2026-11-25 14:43', 'YYYY-MM-DD HH24:MI')::text",
            "2026-11-25 14:42:20.208691+00 2026-11-25 14:43:00+00",
        ),
        (
            "SELECT avg(gap)::text FROM (SELECT time - lag(time) OVER (ORDER BY time) AS gap FROM collector)",
            "00:00:00.001",
        ),
        (
            "SELECT (percentile_cont(0.5) WITHIN GROUP (ORDER BY gap))::text FROM (SELECT time - lag(time) OVER (ORDER BY time) AS gap FROM collector)",
            "00:00:00.001",
        ),
        (
            "SELECT max(t)::text FROM (VALUES (timestamptz '2026-11-25 14:43Z'), (timestamptz '2026-11-25')) v(t)",
            "2026-11-25 14:43:00+00",
        ),
        ("SELECT max(i)::text FROM (VALUES (INTERVAL '36 hours'), (INTERVAL '1 day')) t(i)", "1 day 12:00:00"),
        (
            "SELECT time_bucket('1 week', timestamptz '2026-11-25 14:42Z')::text, date_trunc('day', timestamptz '2026-11-25 23:30Z', 'Europe/Berlin')::text",
            "2026-11-23 00:00:00+00 2026-11-25 23:00:00+00",
        ),
        (
            "SELECT date_bin(INTERVAL '1 day', timestamptz '2026-11-25 23:30Z' AT TIME ZONE 'Europe/Berlin')::text",
            "2026-11-26 00:00:00+01",
        ),
        (
            "SELECT date_bin(INTERVAL '7 days', timestamptz '2026-11-25 14:42Z')::text, date_bin(INTERVAL '1 month', timestamp '2026-11-25')::text",
            "2026-11-23 00:00:00+00 2026-11-01 00:00:00",
        ),
        (
            "SELECT date_trunc('milliseconds', timestamp '2026-11-25 14:42:21.179922')::text, epoch_ms(timestamp '2026-11-25 14:42:21.179')",
            "2026-11-25 14:42:21.179 1795617741179",
        ),
        (
            "SELECT date_diff('second', min(time), max(time) + INTERVAL '2 s'), (now() - to_minutes(5) < now()) FROM collector",
            "2 true",
        ),
    ] {
        check(&engine, sql, expected, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn senseless_times_are_refused_with_what_would_be_right() {
    let engine = Fixture::of(&[], &[10]).engine(settings());
    for (sql, text) in [
        ("SELECT count(*) FROM collector WHERE time > 1795617780", "to_timestamp(1795617780)"),
        ("SELECT time + 5 FROM collector", "INTERVAL '5 seconds'"),
        ("SELECT now() - '5 minutes'", "INTERVAL '5 minutes'"),
        ("SELECT count(*) FROM collector WHERE time > 'soon'", "'soon' is no time"),
        ("SELECT to_char(time, 'Hello') FROM collector", "pattern"),
        ("SELECT INTERVAL '1 day' < 'soon'", "'soon' is no interval"),
        ("SELECT 5 / (max(time) - min(time)) FROM collector", "extract(epoch FROM"),
        ("SELECT 1795617780::timestamp", "to_timestamp"),
        ("SELECT extract(fortnight FROM time) FROM collector", "fortnight"),
        (
            "SELECT local AT TIME ZONE 'Asia/Tokyo' FROM (SELECT time AT TIME ZONE 'Europe/Berlin' AS local FROM collector)",
            "write x::timestamp AT TIME ZONE 'Asia/Tokyo'",
        ),
    ] {
        let error = refusal(&engine, sql).await.to_string();
        assert!(error.contains(text), "{sql}: {error}");
    }
}

#[tokio::test]
async fn numbers_are_rounded_and_never_wrap() {
    let engine = Fixture::of(&[], &[10]).engine(settings());
    let mut wrong = Vec::new();
    for (sql, expected) in [
        ("SELECT (0.5::float8)::int, (1.5::float8)::int, (x)::bigint FROM (SELECT 2.5::float8 AS x)", "0 2 2"),
        ("SELECT 2.7::int, (-2.7)::bigint, CAST(0.999 AS bigint), 2.5::numeric(4,1)::int", "3 -3 1 3"),
        ("SELECT mod(7, 3), div(7, 2), sign(-3), ceiling(1.2), xor(5, 3), bit_count(255)", "1 3 -1.0 2.0 6 8"),
        ("SELECT sum(ticks), sum(DISTINCT ticks), avg(ticks) FROM collector", "45 45 4.5"),
        ("SELECT sum(ticks) FROM collector WHERE ticks < 0", "null"),
        ("SELECT max(s) FROM (SELECT sum(ticks) OVER (ORDER BY time ROWS 2 PRECEDING) AS s FROM collector)", "24"),
        (
            "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ticks), mode(ticks % 2), median(ticks) FROM collector",
            "4 0 4.5",
        ),
        (
            "SELECT percentile_cont(0.35) WITHIN GROUP (ORDER BY 1e9 * ticks DESC), quantile_cont(DISTINCT ticks % 2, 0.25) FROM collector",
            "5850000000.0 0.25",
        ),
        (
            "SELECT max(p) FROM (SELECT quantile_cont(ticks, 0.5) OVER (ORDER BY time ROWS 2 PRECEDING) AS p FROM collector)",
            "8.0",
        ),
        ("SELECT 5::decimal(10, 2) / 3, 2 / 3::numeric", "1.6666666666666667 0.6666666666666666"),
        ("SELECT percentile_cont(ARRAY[0, 0.5]) WITHIN GROUP (ORDER BY ticks) FROM collector", "[0.0, 4.5]"),
        (
            "SELECT width_bucket(0.35, 0, 1, 10), printf('%.1f%%', 12.34), format('{:>4}', 7), pg_size_pretty(2048::bigint)",
            "4 12.3%    7 2048 bytes",
        ),
        (
            "SELECT regexp_extract(s, 'b') IS NULL, regexp_extract(s, 'b') = '', length([1, 2]), length(s) FROM (VALUES ('a'), (NULL)) t(s) \
             ORDER BY s",
            "false true 2 1|true null 2 null",
        ),
        (
            "SELECT md5('a'), regexp_substr('eth0', '[a-z]+'), regexp_extract('eth0', '([a-z]+)([0-9]+)', 2)",
            "0cc175b9c0f1b6a831c399e269772661 eth 0",
        ),
        (
            "SELECT 'abcdef'::varchar(3), 'abc'::char(5), every(ticks >= 0), variance(ticks) FROM collector",
            "abc abc true 9.166666666666666",
        ),
    ] {
        check(&engine, sql, expected, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Planning takes no longer for many operators.
    let (signs, mixed) = ("- ".repeat(100), "+ 3 - 2 * 1 ".repeat(150));
    assert_eq!(one(&engine, &format!("SELECT max({signs} ticks), max(ticks {mixed}) FROM collector")).await, "9 159");
    assert_eq!(rows(&engine, "SELECT generate_series(1, 3) AS n").await, ["1", "2", "3"]);
    for sql in [
        "SELECT 9223372036854775807 + 1",
        "SELECT ticks - 9223372036854775807 - 10 FROM collector",
        "SELECT (ticks + 1) * 9223372036854775807 FROM collector",
        "SELECT sum(x) FROM (VALUES (9223372036854775807), (1)) AS t(x)",
        "SELECT sum(9223372036854775807 - ticks) FROM collector GROUP BY collector",
    ] {
        let error = refusal(&engine, sql).await.to_string();
        assert!(error.contains("64-bit integer") && error.contains("DECIMAL(38, 0)"), "{sql}: {error}");
    }
}

/// Rows 0 to 3,999 are a millisecond apart, and `ticks` is the row.
#[tokio::test]
async fn increases_of_buckets_add_up_to_the_whole() {
    let engine = Fixture::of(&[1_000, 1_000], &[1_000, 1_000]).engine(settings());
    for (bucket, buckets) in [
        ("date_bin(INTERVAL '1 second', time)", 4),
        ("time_bucket('300 ms', time)", 14),
        ("date_trunc('second', time)", 4),
        ("time", 4_000),
        ("floor(extract(epoch FROM time) * 10)", 40),
        // Each comes many times.
        ("extract(millisecond FROM time) % 10", 10),
        ("CASE WHEN time < '2024-01-01 00:00:00.5' THEN 'before' ELSE 'after' END", 2),
    ] {
        let each = format!("SELECT {bucket} AS b, increase(ticks, time) AS more FROM collector GROUP BY b");
        let sql = format!("SELECT count(*), sum(more) FROM ({each})");
        assert_eq!(one(&engine, &sql).await, format!("{buckets} 3999"), "{sql}");
        let each =
            format!("SELECT collector, {bucket} AS b, increase(ticks, time) AS more FROM collector GROUP BY 1, 2");
        let sql = format!("SELECT collector, sum(more) FROM ({each}) GROUP BY collector ORDER BY 1");
        assert_eq!(rows(&engine, &sql).await, ["burst 3999", "slow 3996", "system 3996"], "{sql}");
    }
    // The time of another table is the same one where a join says so.
    for joined in ["collector a JOIN collector b ON a.time = b.time", "collector a, collector b WHERE b.time = a.time"]
    {
        let each = format!(
            "SELECT date_bin(INTERVAL '300 ms', b.time) AS t, increase(a.ticks, a.time) AS more FROM {joined} GROUP BY 1"
        );
        assert_eq!(one(&engine, &format!("SELECT sum(more) FROM ({each})")).await, "3999", "{each}");
    }
    for (sql, expected) in [
        // The first bucket has no step into it, and each later one has one.
        (
            "SELECT date_bin(INTERVAL '1 second', time) AS b, increase(ticks, time), rate(ticks, time) FROM collector GROUP BY b ORDER BY b LIMIT 2",
            "2024-01-01T00:00:00Z 999 1000.0|2024-01-01T00:00:01Z 1000 1000.0",
        ),
        (
            "SELECT count(*) FROM (SELECT b, rate(t, time) AS r FROM (SELECT date_bin(INTERVAL '1 s', time) AS b, ticks AS t, time FROM collector) x GROUP BY b HAVING increase(t, time) = 1000)",
            "3",
        ),
        (
            "SELECT max(increase(ticks, time)) OVER () FROM collector GROUP BY date_bin(INTERVAL '1 s', time) LIMIT 1",
            "1000",
        ),
    ] {
        assert_eq!(rows(&engine, sql).await.join("|"), expected, "{sql}");
    }
}

#[tokio::test]
async fn counters_have_increases_over_moving_windows() {
    let engine = Fixture::of(&[1_000], &[1_000]).engine(settings());
    for (sql, expected) in [
        (
            "SELECT min(i), max(i) FROM (SELECT increase(ticks, time) OVER (ORDER BY time ROWS 99 PRECEDING) AS i FROM collector)",
            "1 99",
        ),
        (
            "SELECT round(max(r), 6) FROM (SELECT rate(ticks, time) OVER (PARTITION BY collector ORDER BY time RANGE INTERVAL '30 ms' PRECEDING) AS r FROM collector)",
            "1000.0",
        ),
        (
            "SELECT max(i) FROM (SELECT increase(ticks % 100, time) OVER (ORDER BY time DESC ROWS 9 PRECEDING) AS i FROM collector)",
            "9",
        ),
        ("SELECT max(i) FROM (SELECT increase(ticks, time) OVER (ORDER BY time) AS i FROM collector)", "1999"),
    ] {
        assert_eq!(one(&engine, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn senseless_rates_are_refused() {
    let engine = Fixture::of(&[100], &[100]).engine(settings());
    for sql in [
        "SELECT rate(load1, time) FROM host",
        "SELECT increase(h.load1, h.time) OVER (ORDER BY h.time) FROM host AS h",
        "SELECT increase(x, time) FROM (SELECT load1 + 1 AS x, time FROM host) t",
    ] {
        let error = refusal(&engine, sql).await.to_string();
        assert!(error.contains("host.load1 is a gauge") && error.contains("avg(load1)"), "{sql}: {error}");
    }
    // Two values at each time.
    let twice =
        "(SELECT collector, ticks, time FROM collector UNION ALL SELECT collector, ticks + 1, time FROM collector)";
    for sql in [
        format!("SELECT rate(ticks, time) FROM {twice}"),
        format!("SELECT date_bin(INTERVAL '10 ms', time), increase(ticks, time) FROM {twice} GROUP BY 1"),
        format!("SELECT increase(ticks, time) OVER (ORDER BY time) FROM {twice}"),
        format!("SELECT increase(ticks, time) OVER (ORDER BY time ROWS 9 PRECEDING) FROM {twice}"),
    ] {
        let error = refusal(&engine, &sql).await.to_string();
        assert!(error.contains("rows of several counters") && error.contains("GROUP BY"), "{sql}: {error}");
    }
    let join = "SELECT rate(a.ticks + b.ticks, a.time) FROM collector a JOIN collector b ON a.collector <> b.collector";
    let error = refusal(&engine, join).await.to_string();
    assert!(error.contains("GROUP BY collector"), "{error}");
    // The same rows twice are no second counter.
    let same = "(SELECT ticks, time FROM collector UNION ALL SELECT ticks, time FROM collector)";
    assert_eq!(one(&engine, &format!("SELECT increase(ticks, time) FROM {same}")).await, "199");
}
