//! Comparisons with inner queries and of intervals, with the values that PostgreSQL and DuckDB give.

use super::functions::check;
use super::{Fixture, refusal, settings};

#[tokio::test]
async fn unknown_is_neither_true_nor_false() {
    let engine = Fixture::of(&[], &[10]).engine(settings());
    let mut wrong = Vec::new();
    let a = "(VALUES (1), (2), (NULL)) a(x)";
    let b = "(SELECT y FROM (VALUES (2), (NULL)) b(y))";
    let keyed = "(VALUES (1, 1), (2, 1), (3, 2), (NULL, 3), (NULL, 2)) a(x, k)";
    let of_key = "(SELECT y FROM (VALUES (2, 1), (NULL, 2)) b(y, k) WHERE b.k = a.k)";
    for (sql, expected) in [
        (format!("SELECT x IN {b} FROM {a} ORDER BY x"), "null|true|null"),
        (format!("SELECT x NOT IN {b} FROM {a} ORDER BY x"), "null|false|null"),
        (format!("SELECT x IN (SELECT y FROM {b} WHERE y > 5) FROM {a} ORDER BY x"), "false|false|false"),
        (format!("SELECT x FROM {a} WHERE x = 7 OR x NOT IN {b}"), ""),
        (format!("SELECT x FROM {a} WHERE x NOT IN {b}"), ""),
        (format!("SELECT x FROM {a} WHERE NOT (x = 7 OR x IN {b})"), ""),
        (format!("SELECT x FROM {a} WHERE x = 1 OR x IN {b} ORDER BY x"), "1|2"),
        (format!("SELECT x FROM {a} WHERE (x IN {b}) IS NULL ORDER BY x"), "1|null"),
        (format!("SELECT CASE WHEN x NOT IN {b} THEN 'out' WHEN x = ANY {b} THEN 'in' END FROM {a} ORDER BY x"), "null|in|null"),
        (format!("SELECT count(*) FILTER (WHERE x NOT IN (SELECT 2)), sum((x IN (SELECT 2))::int) FROM {a}"), "1 1"),
        (format!("SELECT x IN (SELECT 2) AS f, count(*) FROM {a} GROUP BY 1 ORDER BY 1"), "false 1|true 1|null 1"),
        // The null of one key is none of another.
        (format!("SELECT x, k FROM {keyed} WHERE x NOT IN {of_key} ORDER BY x"), "1 1|null 3"),
        (format!("SELECT x, k FROM {keyed} WHERE k = 0 OR x NOT IN {of_key} ORDER BY x"), "1 1|null 3"),
        (format!("SELECT x IN {of_key} FROM {keyed} ORDER BY x, k"), "false|true|null|null|false"),
        (format!("SELECT x > ALL {of_key} FROM {keyed} ORDER BY x, k"), "false|false|null|null|true"),
        (format!("SELECT x FROM {keyed} WHERE x > ANY (SELECT y FROM (VALUES (0, 0), (2, 1)) b(y, k) WHERE b.k < a.k) ORDER BY x"), "1|2|3"),
        (format!("SELECT x >= ALL {b}, x < ANY {b} FROM {a} ORDER BY x"), "false true|null null|null null"),
        ("SELECT 2 = ANY (ARRAY[1, NULL]), 1 = ANY (ARRAY[1, NULL]), 2 > ANY (ARRAY[1, NULL])".into(), "null true true"),
        ("SELECT count(*) FROM collector WHERE (collector, time) IN (SELECT collector, max(time) FROM collector GROUP BY 1)".into(), "3"),
        (format!("SELECT sum(CASE WHEN EXISTS (SELECT 1 FROM (VALUES (2)) b(y) WHERE b.y = a.x) THEN 1 ELSE 0 END) FROM {a}"), "1"),
        (format!("SELECT max((SELECT count(*) FROM (VALUES (2), (2)) b(y) WHERE b.y = a.x)) FROM {a}"), "2"),
        ("SELECT count(*) FROM collector WHERE ticks >= ALL (SELECT ticks FROM collector)".into(), "1"),
        ("SELECT count(*) IN (SELECT count(*) FROM collector), count(*) >= ALL (SELECT count(*) FROM kymo) FROM collector".into(), "true true"),
    ] {
        check(&engine, &sql, expected, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let many = format!("{}ticks > 1{}", "ticks > ALL (SELECT ticks FROM collector WHERE ".repeat(9), ")".repeat(9));
    for (sql, text) in [
        (format!("SELECT 1 FROM collector WHERE {many}"), "tables"),
        ("SELECT count(*) FROM collector WHERE collector IN (SELECT ticks FROM collector)".into(), "x::text"),
    ] {
        let error = refusal(&engine, &sql).await.to_string();
        assert!(error.contains(text), "{sql}: {error}");
    }
}

#[tokio::test]
async fn an_inner_query_without_rows_is_null() {
    let engine = Fixture::of(&[], &[10]).engine(settings());
    let mut wrong = Vec::new();
    let none = "(SELECT time FROM collector WHERE ticks > 100)";
    for (sql, expected) in [
        (
            "SELECT (SELECT 1 WHERE false) IS NULL, (SELECT 1) IS NULL, (SELECT count(*) WHERE false) IS NULL".into(),
            "true false false",
        ),
        (format!("SELECT {none} IS NULL, coalesce({none}, TIMESTAMPTZ '2026-01-01Z') = '2026-01-01'"), "true true"),
        (format!("SELECT count(*) FROM collector WHERE time > {none} OR {none} IS NULL"), "10"),
        (
            "SELECT count(*) FROM collector WHERE time = (SELECT time FROM collector ORDER BY time DESC LIMIT 1)"
                .into(),
            "1",
        ),
    ] {
        check(&engine, &sql, expected, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn intervals_of_one_length_are_one_value() {
    let engine = Fixture::of(&[], &[10]).engine(settings());
    let mut wrong = Vec::new();
    let t = "(VALUES (INTERVAL '24 hours', 1), (INTERVAL '1 day', 2), (INTERVAL '61 min', 3), (INTERVAL '-1 h', 4)) t(i, n)";
    let (one, other) = ("SELECT INTERVAL '24 hours' AS i", "SELECT INTERVAL '1 day' AS i");
    for (sql, expected) in [
        (format!("SELECT i::text, count(*) FROM {t} GROUP BY i ORDER BY i"), "-01:00:00 1|01:01:00 1|1 day 2"),
        (format!("SELECT count(*), count(DISTINCT i) FROM (SELECT DISTINCT i FROM {t})"), "3 3"),
        (format!("SELECT n FROM {t} ORDER BY i, n"), "4|3|1|2"),
        (format!("SELECT DISTINCT ON (i) n FROM {t} ORDER BY i, n"), "4|3|1"),
        (format!("SELECT n, rank() OVER (ORDER BY i), count(*) OVER (PARTITION BY i) FROM {t} ORDER BY n"), "1 3 2|2 3 2|3 2 1|4 1 1"),
        (format!("SELECT array_agg(n ORDER BY i, n DESC) FROM {t}"), "[4, 3, 2, 1]"),
        (format!("SELECT count(*) FROM ({one} UNION {other})"), "1"),
        (format!("SELECT count(*) FROM ({one} INTERSECT {other})"), "1"),
        (format!("SELECT count(*) FROM ({one} EXCEPT {other})"), "0"),
        (format!("SELECT count(*) FROM ({one}) a JOIN ({other}) b USING (i)"), "1"),
        (format!("SELECT count(*) FROM ({one}) a, ({other}) b WHERE a.i = b.i AND a.i IN ({other}) AND b.i = ANY ({one})"), "1"),
        (
            "SELECT nullif(INTERVAL '24 hours', INTERVAL '1 day'), CASE INTERVAL '24 hours' WHEN INTERVAL '1 day' THEN 1 END, \
             greatest(INTERVAL '25 hours', INTERVAL '1 day')::text"
                .into(),
            "null 1 1 day 01:00:00",
        ),
    ] {
        check(&engine, &sql, expected, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
