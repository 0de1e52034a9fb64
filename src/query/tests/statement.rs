//! What statements mean, and the hints of those that are wrong.

use super::{Fixture, one, refusal, rows, settings};

#[tokio::test]
async fn statements_have_the_meaning_that_people_expect() {
    let engine = Fixture::of(&[10], &[10]).engine(settings());
    for (sql, expected) in [
        ("SELECT -2 ^ 2", "4.0"),
        ("SELECT 7 / 0", "null"),
        ("SELECT true IS DISTINCT FROM true AND false", "false"),
        ("SELECT count(*) FROM collector WHERE collector = 0", "0"),
        ("SELECT count(*) FROM collector WHERE collector SIMILAR TO 's(low|ystem)'", "13"),
        ("SELECT max(ticks) FROM collector WHERE ticks <= ALL (SELECT ticks FROM collector)", "0"),
        ("SELECT 1 >= ALL (SELECT x FROM (VALUES (1), (NULL)) t(x))", "null"),
        ("SELECT 3 > ANY (SELECT x FROM (VALUES (1), (NULL)) t(x))", "true"),
        ("SELECT 3 > ALL (SELECT x FROM (VALUES (1)) t(x) WHERE x > 1)", "true"),
        (
            "SELECT string_agg(x::text, '' ORDER BY x) FROM (SELECT * FROM (VALUES (1), (1), (2)) a(x) EXCEPT ALL VALUES (1)) t",
            "12",
        ),
        ("SELECT k FROM (VALUES (1)) a(k) RIGHT JOIN (VALUES (2)) b(k) USING (k)", "2"),
        ("SELECT sum(k) FROM (VALUES (1)) a(k) FULL JOIN (VALUES (2)) b(k) USING (k)", "3"),
        ("SELECT k FROM (VALUES (1)) a(k) JOIN (VALUES (1)) b(k) USING (k) LEFT JOIN (VALUES (2)) c(k) USING (k)", "1"),
        (
            "SELECT count(ticks) FROM collector a JOIN kymo b USING (time, host) JOIN gap c USING (time, host) WHERE time > '2026-01-01' \
             GROUP BY ALL",
            "0",
        ),
        ("SELECT sum(x) FROM (VALUES (1), (2)) t(x) WHERE x NOT IN (VALUES (x - 1), (2))", "1"),
        ("SELECT row_number() OVER () - 3 FROM (VALUES (1))", "-2"),
        ("SELECT lag(x, 1, x) OVER (ORDER BY x) FROM (VALUES (7)) t(x)", "7"),
        ("SELECT x FROM (VALUES (2), (NULL), (1)) t(x) ORDER BY x DESC LIMIT 1", "2"),
        ("SELECT ticks * 2 AS twice FROM collector WHERE twice = 38", "38"),
        ("SELECT arg_max(collector, ticks) FROM collector", "slow"),
        (
            "SELECT max(before) FROM (SELECT a.ticks, (SELECT count(*) FROM collector b WHERE b.ticks < a.ticks) AS before \
             FROM collector a) t",
            "19",
        ),
        (
            "SELECT min(before) FROM (SELECT a.ticks, (SELECT count(*) FROM collector b WHERE b.ticks < a.ticks) AS before \
             FROM collector a) t",
            "0",
        ),
        (
            "SELECT string_agg(l.ticks::text, ' ' ORDER BY l.ticks) FROM (SELECT DISTINCT collector FROM collector) d, \
             LATERAL (SELECT ticks FROM collector c WHERE c.collector = d.collector ORDER BY ticks DESC LIMIT 1) l",
            "17 18 19",
        ),
        ("SELECT DISTINCT length('ab') FROM collector ORDER BY length('ab')", "2"),
        ("SELECT current_schema, version() LIKE 'kymo %', pg_typeof(1.5)", "public true double precision"),
        ("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE relname = 'cpu'", "1"),
        ("SELECT min(ordinal_position) FROM information_schema.columns", "1"),
        ("SELECT count(*) FROM information_schema.views", "0"),
        ("SHOW TABLES LIKE 'netw%k'", "kymo public network BASE TABLE"),
        ("SHOW search_path", "public"),
        (
            "SHOW FUNCTIONS LIKE 'rat_'",
            "rate aggregate rate(counter, time) double precision How much a counter grew per second from the first to the last row. It \
             may begin anew between two rows.",
        ),
        (
            "SHOW FUNCTIONS LIKE 'down%'",
            "downsample table downsample('network', 'rx_bytes', now() - interval '1 hour', now(), 1000) null A column of a table in a \
             window of time, for each series in so many buckets: min, max, mean, first, last, count, missed and the tier that has them.",
        ),
        ("SELECT count(*) FROM information_schema.routines WHERE routine_name LIKE 'x''y'", "0"),
        (
            "SELECT string_agg(function_type || ' ' || coalesce(data_type, '?'), ', ' ORDER BY routine_name, function_type) \
             FROM information_schema.routines WHERE routine_name IN ('first_value', 'generate_series', 'year', 'date_bin', 'abs', 'max')",
            "scalar bigint or double precision, scalar timestamp with time zone or timestamp without time zone, aggregate any, window \
             any, scalar anyarray, table ?, aggregate any, scalar bigint",
        ),
        (
            "SELECT string_agg(routine_name, ' ') FROM information_schema.routines WHERE description = 'A function of DataFusion.' \
             OR routine_name = 'calculate'",
            "null",
        ),
    ] {
        assert_eq!(one(&engine, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn functions_of_counters_work_in_sql() {
    let engine = Fixture::of(&[1_000, 1_000], &[1_000, 1_000]).engine(settings());
    for (sql, expected) in [
        ("SELECT increase(ticks, time) FROM collector", "3999"),
        ("SELECT rate(ticks, time) FROM collector", "1000.0"),
        (
            "SELECT rate(ticks, time), increase(scheduled_ticks, time) FROM collector WHERE collector = 'slow'",
            "1000.0 7992",
        ),
        ("SELECT increase(missed_ticks, time), rate(missed_ticks, time) FROM collector", "null null"),
        ("SELECT increase(ticks, time) FROM collector WHERE ticks = 5", "null"),
        ("SELECT rate(ticks, time) FROM collector WHERE ticks < 0", "null"),
        ("SELECT increase(CAST(ticks AS DOUBLE), time) FROM collector", "3999.0"),
        ("SELECT increase(ticks % 100, time) FROM collector", "3960"),
        ("SELECT rate(ticks, time) FILTER (WHERE collector = 'burst') FROM collector", "1000.0"),
        ("SELECT sum(r) FROM (SELECT rate(ticks, time) AS r FROM collector GROUP BY collector)", "3000.0"),
    ] {
        assert_eq!(one(&engine, sql).await, expected, "{sql}");
    }
    let bins = "SELECT increase(ticks, time) FROM collector GROUP BY collector, date_bin(interval '1 second', time)";
    assert_eq!(rows(&engine, bins).await.len(), 12);
    for (sql, text) in [
        ("SELECT rate(ticks) FROM collector", "two arguments"),
        ("SELECT rate(collector, time) FROM collector", "the counter must be a number"),
        ("SELECT rate(ticks, ticks) FROM collector", "the time must be a timestamp"),
        ("SELECT rate(DISTINCT ticks, time) FROM collector", "DISTINCT"),
    ] {
        let error = refusal(&engine, sql).await.to_string();
        assert!(error.contains(text), "{sql}: {error}");
    }
}

#[tokio::test]
async fn mistakes_are_told_with_what_would_be_right() {
    let engine = Fixture::of(&[10], &[10]).engine(settings());
    for (sql, texts) in [
        ("SELECT * FROM cpus", vec!["unknown table `cpus`; did you mean `cpu`?"]),
        ("SELECT * FROM 'file.parquet'", vec!["unknown table", "file.parquet", "`collector`, `kymo`, `gap`"]),
        ("SELECT * FROM \"/etc/passwd\"", vec!["unknown table"]),
        ("SELECT * FROM other.public.cpu", vec!["unknown table `other.public.cpu`"]),
        ("SELECT cpuu.user_us FROM cpu", vec!["no table of this query is named `cpuu`; there is cpu"]),
        ("SELECT c.user_uss FROM cpu c", vec!["unknown column `c.user_uss`; did you mean `user_us`?"]),
        ("SELECT cpu.user_us FROM cpu c", vec!["only its alias", "c.user_us FROM cpu c"]),
        ("SELECT cpu.x.user_us FROM cpu", vec!["a column has no parts"]),
        ("SELECT max(user_us::int), max(user_us) FROM cpu", vec!["once with a cast", "max(x)::int"]),
        ("SELECT host FROM cpu JOIN memory USING (time)", vec!["as in t.host", "USING (host)"]),
        (
            "SELECT peak_rate(rx_bytes_increase, time, INTERVAL '1 s') FROM network_1s",
            vec!["sum(rx_bytes_increase)", "max(rx_bytes_max_rate)"],
        ),
        ("SHOW COLUMNS FROM nothing", vec!["nothing"]),
        ("DESCRIBE nothing", vec!["nothing"]),
        ("SELECT tick FROM collector", vec!["tick", "ticks"]),
        ("SELECT foo(1)", vec!["foo"]),
        ("SELECT CAST(collector AS BIGINT) FROM collector", vec!["Cannot cast string '", "write a value of that type"]),
        ("SELECT nothing_like_it(ticks) FROM collector", vec!["no function `nothing_like_it`"]),
        ("SELECT collector FROM collector WHERE collector = \"slow\"", vec!["'slow'"]),
        ("SELECT ticks, count(*) FROM collector", vec!["GROUP BY"]),
        ("SELECT * FROM read_csv('x')", vec!["read_csv is refused", "generate_series(…)"]),
        ("DROP TABLE cpu", vec!["DROP is refused", "SELECT"]),
    ] {
        let error = refusal(&engine, sql).await.to_string();
        for text in texts {
            assert!(error.contains(text), "{sql}: {error}");
        }
    }
    assert_eq!(one(&engine, "SELECT count(*) FROM collector").await, "20");
    assert_eq!(one(&engine, "SELECT sum(value) FROM generate_series(1, 10)").await, "55");
    assert_eq!(one(&engine, "SELECT lpad('7', 3, '0')").await, "007");
}
