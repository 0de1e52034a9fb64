//! Rows that are padded with nulls, comparisons that are unknown, and inner queries without rows.

use super::{Fixture, one, refusal, rows, settings};

#[tokio::test]
async fn a_padded_column_is_neither_one_value_nor_in_order() {
    let engine = Fixture::of(&[300, 300], &[100]).engine(settings());
    let joined = "collector a LEFT JOIN (SELECT ticks, 5 AS k FROM collector WHERE ticks < 100) b ON a.ticks = b.ticks";
    for (sql, expected) in [
        (format!("SELECT k, count(*) FROM {joined} GROUP BY k ORDER BY k"), "5 100|null 600"),
        (format!("SELECT k, a.ticks FROM {joined} ORDER BY k, a.ticks DESC LIMIT 2"), "5 99|5 98"),
        (format!("SELECT DISTINCT k, n FROM (SELECT k, count(*) OVER (PARTITION BY k) AS n FROM {joined}) ORDER BY n"), "5 100|null 600"),
        (
            "SELECT b.collector, a.ticks FROM collector b RIGHT JOIN collector a ON a.ticks = b.ticks AND b.ticks = 5 ORDER BY \
             b.ticks, a.ticks LIMIT 2"
                .into(),
            "system 5|null 0",
        ),
    ] {
        assert_eq!(rows(&engine, &sql).await.join("|"), expected, "{sql}");
    }
}

#[tokio::test]
async fn values_are_unknown_beside_nulls() {
    let engine = Fixture::of(&[300, 300], &[99]).engine(settings());
    for (condition, expected) in [
        ("nullif(collector, 'burst') NOT IN (SELECT 'x')", "466"),
        ("TRY_CAST(collector AS int) NOT IN (SELECT 1)", "0"),
        ("NULL NOT IN (SELECT 1)", "0"),
        ("NULL NOT IN (SELECT 1 WHERE false)", "699"),
        ("7 NOT IN (SELECT nullif(ticks, 3) FROM collector WHERE ticks < 5)", "0"),
        ("7 NOT IN (SELECT ticks FROM collector WHERE ticks < 5)", "699"),
        ("lower(collector) NOT IN (SELECT 'slow')", "466"),
        ("collector NOT IN (SELECT 'slow')", "466"),
    ] {
        let sql = format!("SELECT count(*) FROM collector WHERE {condition}");
        assert_eq!(one(&engine, &sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_total_over_no_rows_is_no_row_of_others() {
    let engine = Fixture::of(&[300, 300], &[99]).engine(settings());
    let sets =
        "SELECT d, n FROM (SELECT 'a' AS d, collector, count(*) AS n FROM collector GROUP BY ROLLUP (collector))";
    for (sql, expected) in [
        (format!("{sets} WHERE d = 'b'"), ""),
        (format!("{sets} WHERE d = 'a' ORDER BY n"), "a 233|a 233|a 233|a 699"),
        ("SELECT max(x), min(x), count(*) FROM (SELECT ticks AS x FROM collector ORDER BY x DESC OFFSET 10)".into(), "688 0 689"),
        ("SELECT x FROM (SELECT ticks AS x FROM collector ORDER BY x OFFSET 10) ORDER BY x DESC LIMIT 1".into(), "698"),
        ("SELECT sum(x) FROM (SELECT ticks AS x FROM collector ORDER BY collector, ticks OFFSET 695)".into(), "2774"),
        (
            "SELECT ticks % 2 AS k, grouping(ticks % 2) AS g, count(*) FROM collector GROUP BY ROLLUP (ticks % 2) ORDER BY g, k".into(),
            "0 0 350|1 0 349|null 1 699",
        ),
        (
            "SELECT ticks % 2 + 1 AS k, grouping(ticks % 2 + 1) AS g, count(*) FROM collector GROUP BY CUBE (ticks % 2 + 1) ORDER BY g, k"
                .into(),
            "1 0 350|2 0 349|null 1 699",
        ),
    ] {
        assert_eq!(rows(&engine, &sql).await.join("|"), expected, "{sql}");
    }
}

#[tokio::test]
async fn inner_queries_that_would_be_wrong_are_refused() {
    let engine = Fixture::of(&[], &[30]).engine(settings());
    for (sql, expected) in [
        (
            "SELECT (SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY time) AS n FROM collector e WHERE e.collector = d.c) q) FROM (SELECT DISTINCT collector AS c FROM collector) d",
            "a window function in an inner query",
        ),
        (
            "SELECT x FROM (VALUES (1), (5)) v(x) WHERE x IN (SELECT sum(y) OVER () FROM (VALUES (1), (5)) w(y) WHERE y = x)",
            "a window function",
        ),
        (
            "SELECT x FROM (VALUES (1), (7)) v(x) WHERE EXISTS (SELECT 1 FROM (VALUES (1)) a(y) LEFT JOIN (SELECT y FROM (VALUES (1)) b(y) WHERE y = x) b ON a.y = b.y WHERE b.y IS NULL)",
            "an outer join in an inner query",
        ),
        (
            "SELECT x FROM (VALUES (0)) v(x) WHERE x IN (SELECT count(*) FROM collector WHERE ticks = x)",
            "an aggregate over all rows",
        ),
        (
            "SELECT x FROM (VALUES (0)) v(x) WHERE x NOT IN (SELECT max(ticks) FROM collector WHERE ticks = x)",
            "an aggregate over all rows",
        ),
        (
            "SELECT x FROM (VALUES (0)) v(x) WHERE EXISTS (SELECT count(*) FROM collector WHERE ticks = x HAVING count(*) = 0)",
            "an aggregate over all rows",
        ),
        (
            "SELECT x, n FROM (VALUES (1), (99)) v(x), LATERAL (SELECT count(*) AS n FROM collector WHERE ticks = x HAVING count(*) > 0) l",
            "HAVING without GROUP BY",
        ),
        (
            "SELECT x FROM (VALUES (99)) v(x) WHERE (SELECT count(*) FROM collector WHERE ticks = x HAVING max(ticks) > 0) IS NULL",
            "HAVING without GROUP BY",
        ),
    ] {
        let error = refusal(&engine, sql).await.to_string();
        assert!(error.contains(expected), "{sql}: {error}");
    }
    for (sql, expected) in [
        (
            "SELECT d.c, l.ticks FROM (SELECT DISTINCT collector AS c FROM collector) d, LATERAL (SELECT ticks, row_number() OVER \
             (PARTITION BY collector ORDER BY time DESC) AS n FROM collector e WHERE e.collector = d.c) l WHERE l.n = 1 ORDER BY 1",
            "burst 27|slow 28|system 29",
        ),
        ("SELECT x FROM (VALUES (3), (99)) v(x) WHERE x IN (SELECT max(ticks) FROM collector WHERE ticks = x)", "3"),
        (
            "SELECT x, (SELECT count(*) FROM collector WHERE ticks = x) AS n FROM (VALUES (3), (99)) v(x) ORDER BY x",
            "3 1|99 0",
        ),
    ] {
        assert_eq!(rows(&engine, sql).await.join("|"), expected, "{sql}");
    }
}

#[tokio::test]
async fn equalities_may_be_circular() {
    let engine = Fixture::of(&[300], &[300]).engine(settings());
    for (sql, expected) in [
        (
            "SELECT ticks, count(*) OVER (PARTITION BY ticks) AS n FROM collector WHERE (ticks % 10 + ticks % 10) = ticks ORDER BY ticks",
            "0 1",
        ),
        ("SELECT ticks FROM collector WHERE abs(ticks) = ticks ORDER BY ticks DESC LIMIT 2", "599|598"),
        (
            "SELECT a.ticks, lead(b.ticks) OVER (ORDER BY b.ticks) AS n FROM collector a JOIN collector b ON a.ticks = b.ticks WHERE a.ticks              = b.ticks % 3 ORDER BY b.ticks, a.ticks",
            "0 1|1 2|2 null",
        ),
        (
            "SELECT lead(ticks) OVER (ORDER BY time, collector, ticks) AS n FROM collector WHERE CASE WHEN ticks < 2 THEN collector END =              collector ORDER BY n",
            "1|null",
        ),
    ] {
        assert_eq!(rows(&engine, sql).await.join("|"), expected, "{sql}");
    }
}
