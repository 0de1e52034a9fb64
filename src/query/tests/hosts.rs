//! Rows of several hosts.

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;

use super::{Fixture, HOST, collect, one, refusal, rows, settings};

/// Rows of [`HOST`], and then of the hosts `b` and `c`: each has 1,500 in files and 500 in memory.
pub(super) fn three_hosts() -> Fixture {
    let mut fixture = Fixture::new();
    for host in [HOST, "b", "c"] {
        fixture.host = host;
        [1_000, 500].into_iter().for_each(|rows| fixture.add_file(rows));
        [200, 300].into_iter().for_each(|rows| fixture.add_hot(rows));
    }
    fixture
}

#[tokio::test]
async fn every_row_has_the_host_that_recorded_it() {
    let engine = three_hosts().engine(settings());
    for (sql, expected) in [
        (
            "SELECT host, count(*), min(ticks) FROM collector GROUP BY host ORDER BY 3",
            "a b/#1 2000 0|b 2000 2000|c 2000 4000",
        ),
        ("SELECT count(*) FROM collector WHERE host = 'b'", "2000"),
        ("SELECT min(ticks), max(ticks) FROM collector WHERE host IN ('b', 'nobody')", "2000 3999"),
        ("SELECT count(*) FROM collector WHERE host <> 'b' AND ticks % 2 = 0", "2000"),
        ("SELECT count(*) FROM collector WHERE host LIKE 'a%'", "2000"),
        ("SELECT count(*) FROM collector WHERE upper(host) = 'B' OR ticks = 0", "2001"),
        ("SELECT count(*) FROM collector WHERE host = 'nobody'", "0"),
        ("SELECT count(*) FROM collector WHERE host IS NULL", "0"),
        ("SELECT min(host), max(host), count(DISTINCT host) FROM collector", "a b/#1 c 3"),
        ("SELECT DISTINCT host FROM collector WHERE ticks BETWEEN 1999 AND 2000 ORDER BY 1", "a b/#1|b"),
        ("SELECT host, ticks, host AS again FROM collector ORDER BY ticks DESC LIMIT 1", "c 5999 c"),
        (
            "SELECT a.host, count(*) FROM collector a JOIN collector b USING (host, ticks) GROUP BY 1 ORDER BY 1 DESC LIMIT 1",
            "c 2000",
        ),
    ] {
        assert_eq!(rows(&engine, sql).await.join("|"), expected, "{sql}");
    }
    let schema = engine.prepare("SELECT * FROM collector").await.unwrap().schema;
    let last = schema.fields().last().unwrap();
    assert_eq!((last.name().as_str(), last.data_type()), ("host", &DataType::Utf8));
    let asked = "SELECT data_type, is_nullable FROM information_schema.columns WHERE table_name = 'gap' AND column_name = 'host'";
    assert_eq!(one(&engine, asked).await, "text NO");
    let all = collect(&engine, "SELECT * FROM collector").await.unwrap();
    assert_eq!(all.iter().map(RecordBatch::num_rows).sum::<usize>(), 6_000);
    assert!(all.iter().all(|batch| batch.schema() == schema));
}

#[tokio::test]
async fn a_statement_about_a_host_opens_no_file_of_another() {
    let fixture = three_hosts();
    fixture.files.iter().filter(|file| file.host() != "b").for_each(|file| std::fs::remove_file(&file.path).unwrap());
    let engine = fixture.engine(settings());
    for condition in ["host = 'b'", "host IN ('b')", "host NOT IN ('c', 'a b/#1')", "'b' = host AND ticks > 0"] {
        let sql = format!("SELECT sum(ticks) FROM collector WHERE {condition}");
        assert_eq!(one(&engine, &sql).await, (2_000..4_000).sum::<i64>().to_string(), "{sql}");
    }
    refusal(&engine, "SELECT sum(ticks) FROM collector WHERE host <= 'b'").await;
}

#[tokio::test]
async fn counters_of_different_hosts_are_different_counters() {
    let engine = three_hosts().engine(settings());
    for (sql, expected) in [
        ("SELECT host, increase(ticks, time) FROM collector GROUP BY host ORDER BY 1", "a b/#1 1999|b 1999|c 1999"),
        ("SELECT increase(ticks, time), rate(ticks, time) FROM collector WHERE host = 'b'", "1999 1000.0"),
        (
            "SELECT host, collector, increase(ticks, time) FROM collector WHERE ticks < 4000 GROUP BY 1, 2 ORDER BY 1, 2",
            "a b/#1 burst 1998|a b/#1 slow 1998|a b/#1 system 1995|b burst 1998|b slow 1995|b system 1998",
        ),
        ("SELECT max(more) FROM (SELECT increase(c.ticks, c.time) AS more FROM collector c GROUP BY c.host)", "1999"),
        ("SELECT DISTINCT increase(ticks, time) OVER (PARTITION BY host) FROM collector", "1999"),
        (
            "WITH one AS (SELECT * FROM collector) SELECT count(*) FROM (SELECT rate(ticks, time) FROM one GROUP BY host)",
            "3",
        ),
        (
            "SELECT increase(ticks, time) FILTER (WHERE host = 'c') + 1 AS more FROM collector HAVING increase(ticks, time) FILTER (WHERE host = 'c') > 0",
            "2000",
        ),
    ] {
        assert_eq!(rows(&engine, sql).await.join("|"), expected, "{sql}");
    }
    for sql in [
        "SELECT increase(ticks, time) FROM collector",
        "SELECT collector, rate(ticks, time) FROM collector GROUP BY collector",
        "SELECT increase(ticks, time) OVER () FROM collector",
        "SELECT ticks FROM collector WHERE ticks < (SELECT increase(ticks, time) FROM collector)",
        "SELECT increase(x.ticks, x.time) FROM (SELECT ticks, time, host FROM collector WHERE ticks > 1) AS x",
    ] {
        let error = refusal(&engine, sql).await.to_string();
        assert!(error.contains("are not one counter") && error.contains("WHERE host = '"), "{sql}: {error}");
    }
    let error = refusal(&engine, "SELECT increase(ticks, time, host) FROM collector GROUP BY host").await.to_string();
    assert!(error.contains("two arguments"), "{error}");
}

#[tokio::test]
async fn counters_are_taken_at_their_own_times() {
    let engine = Fixture::of(&[1_000], &[500]).engine(settings());
    let of = |from: &str| format!("SELECT round(rate(a.ticks, b.time)), increase(a.ticks, b.time) FROM {from}");
    let b = "(SELECT time, ticks FROM collector)";
    for from in [
        format!("collector a JOIN {b} b ON a.time = b.time"),
        format!("collector a LEFT JOIN {b} b USING (time)"),
        format!("collector a, {b} b WHERE b.time = a.time"),
    ] {
        assert_eq!(one(&engine, &of(&from)).await, "1000.0 1499", "{from}");
    }
    for from in [
        format!("collector a JOIN {b} b ON a.ticks = b.ticks"),
        format!("collector a JOIN {b} b ON b.time = a.time + interval '1 ms'"),
        format!("(SELECT ticks FROM collector) a CROSS JOIN {b} b"),
    ] {
        let error = refusal(&engine, &of(&from)).await.to_string();
        assert!(error.contains("write rate(a.ticks, a.time), or join by equal times"), "{from}: {error}");
    }
    // A time that is computed may be that of the same rows.
    for from in ["SELECT ticks, max(time) OVER (ORDER BY time) AS t FROM collector"] {
        assert_eq!(one(&engine, &format!("SELECT increase(ticks, t) FROM ({from})")).await, "1499", "{from}");
    }
    let of = "SELECT b.ticks AS more, a.time FROM collector a JOIN collector b ON a.ticks = b.ticks";
    let error = refusal(&engine, &format!("SELECT rate(more, time) FROM ({of})")).await.to_string();
    assert!(error.contains("when more was read: take both from one table, or join by equal times"), "{error}");
    let sql = "SELECT time_above(a.ticks > 5, b.time) FROM collector a JOIN collector b ON a.ticks = b.ticks";
    let error = refusal(&engine, sql).await.to_string();
    assert!(error.contains("the value was read: write time_above(…, a.time), or"), "{error}");
}

/// Queries whose rows have left out `host`, each with its increase over one host of [`three_hosts`].
const WITHOUT_HOST: &[(&str, &str)] = &[
    ("SELECT increase(ticks, time) FROM (SELECT ticks, time FROM collector)", "1999"),
    (
        "WITH a AS (SELECT time AS t, ticks AS c FROM collector), b AS (SELECT c, t FROM a) SELECT rate(c, t) FROM b",
        "1000.0",
    ),
    (
        "SELECT increase(x.more, x.time) FROM (SELECT ticks * 2 AS more, time FROM collector WHERE ticks >= 0) AS x",
        "3998",
    ),
    ("SELECT increase(ticks, time) FROM (SELECT ticks, time FROM collector ORDER BY ticks DESC LIMIT 5000)", "1999"),
    ("SELECT increase(ticks, time) FROM (SELECT DISTINCT ticks, time FROM collector)", "1999"),
    (
        "SELECT increase(ticks, time) FROM (SELECT DISTINCT ON (ticks) ticks, time FROM collector ORDER BY ticks)",
        "1999",
    ),
    (
        "SELECT increase(ticks, time) FROM (SELECT ticks, time FROM collector UNION ALL SELECT ticks, time FROM collector)",
        "1999",
    ),
    (
        "SELECT increase(ticks, time) FROM (SELECT 7 AS ticks, now() AS time WHERE false UNION SELECT ticks, time FROM collector)",
        "1999",
    ),
    (
        "SELECT increase(most, bin) FROM (SELECT max(ticks) AS most, date_bin(interval '100 ms', time) AS bin FROM collector GROUP BY bin)",
        "1900",
    ),
    (
        "SELECT increase(most, bin) FROM (SELECT max(ticks) AS most, date_bin(interval '1 s', time) AS bin, count(*) FROM collector \
         GROUP BY GROUPING SETS ((bin), (bin, host)))",
        "1000",
    ),
    (
        "SELECT increase(ticks, time), rate(more, time) FROM (SELECT a.ticks, a.time, b.scheduled_ticks AS more FROM collector a \
         JOIN collector b ON a.ticks = b.ticks AND a.time = b.time)",
        "1999 2000.0",
    ),
    (
        "SELECT increase(ticks + before, time) FROM (SELECT time, ticks, lag(ticks) OVER (ORDER BY time) AS before FROM collector)",
        "3996",
    ),
    ("SELECT DISTINCT increase(ticks, time) OVER () AS more FROM (SELECT ticks, time FROM collector)", "1999"),
    (
        "SELECT (SELECT increase(ticks, time) FROM (SELECT ticks, time FROM collector)) AS more FROM generate_series(1, 1)",
        "1999",
    ),
    (
        "SELECT increase(ticks, time) FROM (SELECT ticks, time FROM collector WHERE time IN (SELECT time FROM collector)) \
         HAVING count(*) > 1 AND increase(ticks, time) > 0",
        "1999",
    ),
    (
        "SELECT increase(ticks, time) FROM (SELECT ticks, time FROM collector INTERSECT SELECT ticks, time FROM collector)",
        "1999",
    ),
];

#[tokio::test]
async fn rows_without_their_host_are_still_of_one() {
    let (mut one, three) = (Fixture::new(), three_hosts().engine(settings()));
    [1_000, 500].into_iter().for_each(|rows| one.add_file(rows));
    [200, 300].into_iter().for_each(|rows| one.add_hot(rows));
    let one = one.engine(settings());
    for (sql, expected) in WITHOUT_HOST {
        assert_eq!(self::one(&one, sql).await, *expected, "{sql}");
        let error = refusal(&three, sql).await.to_string();
        assert!(error.contains("are not one counter"), "{sql}: {error}");
        // With a condition at the table, they are right over many hosts too.
        let filtered =
            sql.replace("FROM collector", "FROM (SELECT * FROM collector WHERE host = 'a b/#1') AS collector");
        if !sql.contains("collector a") {
            assert_eq!(self::one(&three, &filtered).await, *expected, "{filtered}");
        }
    }
    for (sql, expected) in [
        // The host has another name, or is among the groups of an inner query.
        (
            "SELECT h, increase(c, time) FROM (SELECT host AS h, ticks AS c, time FROM collector) GROUP BY h ORDER BY h",
            "a b/#1 1999|b 1999|c 1999",
        ),
        (
            "SELECT increase(most, bin) FROM (SELECT host, max(ticks) AS most, date_bin(interval '1 s', time) AS bin \
             FROM collector GROUP BY host, bin) WHERE host = 'b'",
            "1000",
        ),
        // Rows of other hosts that a column keeps apart.
        (
            "SELECT ticks / 2000 AS which, increase(ticks, time), count(*) FROM (SELECT DISTINCT ticks, time FROM collector) \
             GROUP BY which ORDER BY which",
            "0 1999 2000|1 1999 2000|2 1999 2000",
        ),
        // Rows of no host.
        ("SELECT increase(value, to_timestamp(value)) FROM generate_series(1, 5)", "4"),
        (
            "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) \
             SELECT increase(i, to_timestamp(i)) FROM n",
            "2",
        ),
        ("SELECT increase(c, t) FROM (VALUES (1, now()), (4, now() + interval '1 s')) AS v (c, t)", "3"),
        (
            "SELECT * FROM (SELECT ticks, increase(ticks, time) OVER (PARTITION BY ticks / 2000) FROM (SELECT ticks, time FROM collector)) ORDER BY 1 LIMIT 1",
            "0 1999",
        ),
    ] {
        assert_eq!(rows(&three, sql).await.join("|"), expected, "{sql}");
    }
    // What the plan cannot carry a host through is refused, with a hint that helps.
    let recursive = |more: &str| {
        format!(
            "WITH RECURSIVE n AS (SELECT ticks, time{more} FROM collector WHERE host = 'b' UNION ALL \
             SELECT ticks + 1, time{more} FROM n WHERE ticks > 4000) SELECT increase(ticks, time) FROM n"
        )
    };
    let error = refusal(&three, &recursive("")).await.to_string();
    assert!(error.contains("add the column host"), "{error}");
    assert_eq!(self::one(&three, &recursive(", host")).await, "1999");
}
