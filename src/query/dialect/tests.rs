//! Statements as people write them, and what becomes of them.

use datafusion::sql::parser::Statement;

use super::super::guard::check;

/// The statement as the planner gets it.
fn rewritten(sql: &str) -> String {
    match check(sql, 1 << 20) {
        Ok(Statement::Statement(statement)) => statement.to_string(),
        Ok(other) => other.to_string(),
        Err(error) => format!("refused: {error}"),
    }
}

#[track_caller]
fn assert_rewritten(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        assert_eq!(rewritten(sql), *expected, "{sql}");
    }
}

#[test]
fn operators_bind_as_in_postgresql() {
    assert_rewritten(&[
        ("SELECT a IS DISTINCT FROM b AND c AS x", "SELECT a IS DISTINCT FROM b AND c AS x"),
        ("SELECT -2 ^ 2 AS x", "SELECT power(CAST(-2 AS DOUBLE PRECISION), CAST(2 AS DOUBLE PRECISION)) AS x"),
        ("SELECT 2 * 3 ^ 2 AS x", "SELECT 2 * power(CAST(3 AS DOUBLE PRECISION), CAST(2 AS DOUBLE PRECISION)) AS x"),
        ("SELECT 5 # 3 AS x, 7 DIV 2 AS y", "SELECT 5 # 3 AS x, div(7, 2) AS y"),
        ("SELECT 2 ** 3 AS x", "SELECT power(CAST(2 AS DOUBLE PRECISION), CAST(3 AS DOUBLE PRECISION)) AS x"),
        ("SELECT 1_000 AS x, 1 _000", "SELECT 1000 AS x, 1 AS _000"),
        (
            "SELECT a ^@ b AS x, a && b AS y, ~a AS z",
            "SELECT starts_with(a, b) AS x, array_has_any(a, b) AS y, (a # -1) AS z",
        ),
        ("SELECT INTERVAL (a + 1) HOUR AS x", "SELECT ((a + 1)) * INTERVAL '1' HOUR AS x"),
        ("SELECT a ISNULL AS x, b NOTNULL AS y", "SELECT a IS NULL AS x, b IS NOT NULL AS y"),
    ]);
}

#[test]
fn is_distinct_from_takes_one_side() {
    use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, SelectItem, SetExpr, Statement as Sql};

    let Ok(Statement::Statement(statement)) = check("SELECT a IS NOT DISTINCT FROM b + 1 OR c AS x", 1 << 20) else {
        panic!("it is a query")
    };
    let Sql::Query(query) = *statement else { panic!("it is a query") };
    let SetExpr::Select(select) = *query.body else { panic!("it is a SELECT") };
    let [SelectItem::ExprWithAlias { expr, .. }] = select.projection.as_slice() else { panic!("it has one column") };
    let Expr::BinaryOp { left, op: BinaryOperator::Or, .. } = expr else { panic!("OR is outside: {expr}") };
    assert!(matches!(**left, Expr::IsNotDistinctFrom(..)));
}

#[test]
fn columns_are_named_by_their_text_and_told_apart() {
    assert_rewritten(&[
        ("SELECT max(rx_bytes), time FROM network", "SELECT max(rx_bytes) AS \"max(rx_bytes)\", time FROM network"),
        ("SELECT 1 AS a, 2 AS a", "SELECT 1 AS a, 2 AS \"a_1\""),
        (
            "SELECT load1, load1, h.load1 FROM host h",
            "SELECT load1, load1 AS \"load1_1\", h.load1 AS \"load1_2\" FROM host h",
        ),
        ("SELECT *, load1 FROM host", "SELECT *, load1 AS \"load1_1\" FROM host"),
        ("SELECT k.a, k.* FROM k", "SELECT k.a AS \"a_1\", k.* FROM k"),
        ("SELECT * EXCLUDE (load1), load1 FROM host", "SELECT * EXCLUDE (load1), load1 FROM host"),
        ("SELECT time::date FROM host ORDER BY time", "SELECT time::DATE AS \"time::DATE\" FROM host ORDER BY time"),
    ]);
}

#[test]
fn short_forms_are_written_out() {
    assert_rewritten(&[
        ("FROM host", "SELECT * FROM host"),
        ("TABLE host", "SELECT * FROM host"),
        ("SELECT a FROM t UNION ALL TABLE host", "SELECT a FROM t UNION ALL SELECT * FROM host"),
        ("SELECT a FROM kymo.public.host", "SELECT a FROM kymo.public.host AS host"),
        ("SELECT public.host.a, host.* FROM main.host", "SELECT host.a, host.* FROM kymo.public.host AS host"),
        ("SELECT a FROM t OFFSET 5 ROWS FETCH NEXT 3 ROWS ONLY", "SELECT a FROM t LIMIT 3 OFFSET 5 ROWS"),
        ("WITH t AS NOT MATERIALIZED (SELECT 1 AS a) SELECT a FROM t", "WITH t AS (SELECT 1 AS a) SELECT a FROM t"),
        ("SELECT a FROM t SEMI JOIN u ON t.a = u.a", "SELECT a FROM t LEFT SEMI JOIN u ON t.a = u.a"),
        (
            "SELECT count_if(a > 1) AS x, iif(a, 1, 2) AS y FROM t",
            "SELECT count(*) FILTER (WHERE (a > 1)) AS x, CASE WHEN a THEN 1 ELSE 2 END AS y FROM t",
        ),
        (
            "SELECT last(a, time) AS x FROM t",
            "SELECT last_value(a ORDER BY time ASC NULLS LAST) FILTER (WHERE ((a) IS NOT NULL AND (time) IS NOT NULL)) \
             AS x FROM t",
        ),
    ]);
}

#[test]
fn an_inner_query_that_reads_no_table_is_put_in_place_of_its_columns() {
    assert_rewritten(&[
        (
            "SELECT l.y, x + y AS z FROM t CROSS JOIN LATERAL (SELECT t.x * 10 AS y) l WHERE l.y > 1 ORDER BY l.y",
            "SELECT (t.x * 10) AS \"y\", x + (t.x * 10) AS z FROM t WHERE (t.x * 10) > 1 ORDER BY \"y\"",
        ),
        (
            "SELECT g FROM t, LATERAL (SELECT t.x) l(g) LEFT JOIN u ON u.x = l.g",
            "SELECT g FROM t, LATERAL (SELECT t.x) l (g) LEFT JOIN u ON u.x = l.g",
        ),
    ]);
}

#[test]
fn aggregates_keep_the_order_of_an_inner_query() {
    assert_rewritten(&[
        (
            "SELECT string_agg(a, '') AS s, count(*) AS n FROM (SELECT b AS a FROM t ORDER BY b DESC) x",
            "SELECT string_agg(a, '' ORDER BY \"a\" DESC) AS s, count(*) AS n FROM (SELECT b AS a FROM t ORDER BY b DESC) x",
        ),
        (
            "SELECT array_agg(c ORDER BY d) AS s, list(c) AS l FROM (SELECT * FROM t ORDER BY c LIMIT 3)",
            "SELECT array_agg(c ORDER BY d) AS s, array_agg(c ORDER BY \"c\") AS l FROM (SELECT * FROM t ORDER BY c LIMIT 3)",
        ),
        (
            "SELECT list(a) AS l FROM (SELECT a FROM t ORDER BY b)",
            "SELECT array_agg(a) AS l FROM (SELECT a FROM t ORDER BY b)",
        ),
    ]);
}

#[test]
fn patterns_are_compared_one_by_one() {
    assert_rewritten(&[
        ("SELECT a LIKE ANY ('{b%,c}') AS x", "SELECT (a LIKE 'b%' OR a LIKE 'c') AS x"),
        ("SELECT a NOT ILIKE ANY ('b', 'c') AS x", "SELECT (a NOT ILIKE 'b' OR a NOT ILIKE 'c') AS x"),
        ("SELECT a NOT LIKE ALL (ARRAY['b', 'c']) AS x", "SELECT (a NOT LIKE 'b' AND a NOT LIKE 'c') AS x"),
    ]);
}

#[test]
fn an_order_that_is_needed_early_is_that_of_the_result() {
    assert_rewritten(&[
        (
            "SELECT -a AS a FROM t ORDER BY a FETCH FIRST 1 ROW WITH TIES",
            "SELECT -a AS a FROM t QUALIFY CAST(rank() OVER (ORDER BY (-a)) AS BIGINT) <= 1 ORDER BY a",
        ),
        (
            "SELECT (SELECT -b AS b FROM u WHERE u.k = t.k ORDER BY b LIMIT 1) AS x FROM t",
            "SELECT (SELECT first_value(-b ORDER BY (-b)) AS \"value\" FROM u WHERE u.k = t.k) AS x FROM t",
        ),
        ("SELECT a, b FROM t ORDER BY ALL DESC", "SELECT a, b FROM t ORDER BY 1 DESC, 2 DESC"),
        ("SELECT max(a) AS a FROM t ORDER BY max(a) DESC", "SELECT max(a) AS a FROM t ORDER BY a DESC"),
    ]);
}

#[test]
fn distinct_columns_are_ordered_by_their_names() {
    assert_rewritten(&[(
        "SELECT DISTINCT length(cpu) FROM cpu ORDER BY length(cpu) DESC",
        "SELECT DISTINCT length(cpu) AS \"length(cpu)\" FROM cpu ORDER BY \"length(cpu)\" DESC",
    )]);
}

#[test]
fn keys_are_columns_by_their_positions() {
    assert_rewritten(&[
        ("SELECT DISTINCT ON (1) cpu, time FROM cpu", "SELECT DISTINCT ON (cpu) cpu, time FROM cpu"),
        (
            "SELECT DISTINCT ON (2, time) time, a + b AS c FROM t",
            "SELECT DISTINCT ON (a + b, time) time, a + b AS c FROM t",
        ),
        (
            "SELECT a % 2 AS b, c, count(*) AS n FROM t GROUP BY CUBE (1, 2), ROLLUP ((1, c))",
            "SELECT a % 2 AS b, c, count(*) AS n FROM t GROUP BY CUBE (a % 2, c), ROLLUP ((a % 2, c))",
        ),
        (
            "SELECT a, count(*) AS n FROM t GROUP BY GROUPING SETS ((1), ())",
            "SELECT a, count(*) AS n FROM t GROUP BY GROUPING SETS ((a), ())",
        ),
        ("SELECT DISTINCT ON ((1)) a FROM t", "SELECT DISTINCT ON (a) a FROM t"),
        ("SELECT a FROM t GROUP BY ((1)) ORDER BY (1) DESC", "SELECT a FROM t GROUP BY 1 ORDER BY 1 DESC"),
    ]);
    for sql in [
        "SELECT DISTINCT ON (1) * FROM t",
        "SELECT DISTINCT ON (2) a FROM t",
        "SELECT DISTINCT ON (0) a FROM t",
        "SELECT count(*) FROM t GROUP BY ROLLUP (2)",
    ] {
        let refused = rewritten(sql);
        assert!(
            refused.starts_with("refused: ") && refused.contains("name a column of the result"),
            "{sql}: {refused}"
        );
    }
}

#[test]
fn keys_may_begin_with_parentheses() {
    assert_rewritten(&[
        (
            "SELECT count(*) AS n FROM t GROUP BY ROLLUP ((a % 2) + 1, ((b)) * (c), (d), (e, f))",
            "SELECT count(*) AS n FROM t GROUP BY ROLLUP ((a % 2) + 1, ((b)) * (c), d, (e, f))",
        ),
        (
            "SELECT count(*) AS n FROM t GROUP BY GROUPING SETS (((a + 1) * 2, b), ((a) - 1), ())",
            "SELECT count(*) AS n FROM t GROUP BY GROUPING SETS (((a + 1) * 2, b), ((a) - 1), ())",
        ),
    ]);
}

#[test]
fn conditions_of_joins_may_stand_behind_all_of_them() {
    assert_rewritten(&[
        (
            "SELECT a.x FROM a JOIN b JOIN c ON b.x = c.x ON a.x = b.x",
            "SELECT a.x FROM a JOIN (b JOIN c ON b.x = c.x) ON a.x = b.x",
        ),
        (
            "SELECT a.x FROM a JOIN b ON a.x = b.x JOIN c ON b.x = c.x",
            "SELECT a.x FROM a JOIN b ON a.x = b.x JOIN c ON b.x = c.x",
        ),
    ]);
    // A natural join has no condition, so nobody knows which one is whose.
    let refused = rewritten("SELECT a.x FROM a NATURAL JOIN b JOIN c JOIN d ON c.x = d.x ON b.x = c.x");
    assert!(refused.starts_with("refused: not valid SQL"), "{refused}");
}

#[test]
fn names_of_functions_stay_names_of_columns() {
    assert_rewritten(&[
        ("SELECT current_user AS u, user", "SELECT current_user() AS u, user() AS \"user\""),
        ("SELECT user_id AS user FROM process ORDER BY user", "SELECT user_id AS user FROM process ORDER BY user"),
    ]);
}

#[test]
fn an_expression_of_order_by_takes_columns_that_are_read() {
    assert_rewritten(&[
        (
            "SELECT -load1 AS load1 FROM host ORDER BY load1 + 0 DESC LIMIT 3",
            "SELECT \"column_1\" AS \"load1\" FROM (SELECT -load1 AS \"column_1\", load1 + 0 AS \"order_1\" FROM host) AS \
             \"ordered\" ORDER BY \"order_1\" DESC LIMIT 3",
        ),
        ("SELECT -load1 AS load1 FROM host ORDER BY load1", "SELECT -load1 AS load1 FROM host ORDER BY load1"),
        ("SELECT -load1 AS l FROM host ORDER BY load1 + 0", "SELECT -load1 AS l FROM host ORDER BY load1 + 0"),
        (
            "SELECT max(load1) AS load1 FROM host ORDER BY load1 + 0",
            "SELECT max(load1) AS load1 FROM host ORDER BY load1 + 0",
        ),
    ]);
}

#[test]
fn keys_of_outer_joins_are_those_of_both_sides() {
    assert_rewritten(&[
        (
            "SELECT time, load1 FROM host RIGHT JOIN memory USING (time) WHERE time > '2026-01-01' ORDER BY time",
            "SELECT memory.time AS time, load1 FROM host RIGHT JOIN memory ON host.time = memory.time \
             WHERE memory.time > '2026-01-01' ORDER BY time",
        ),
        (
            "SELECT * FROM (SELECT 1 AS s, 2 AS n) a NATURAL FULL JOIN (SELECT 1 AS s, 3 AS m) b",
            "SELECT a.* REPLACE (coalesce(a.\"s\", b.\"s\") AS \"s\"), b.* EXCLUDE (\"s\") \
             FROM (SELECT 1 AS s, 2 AS n) a FULL JOIN (SELECT 1 AS s, 3 AS m) b ON a.\"s\" = b.\"s\"",
        ),
        ("SELECT a FROM t JOIN u USING (a)", "SELECT a FROM t JOIN u USING(a)"),
        (
            "SELECT time, max(load1) FROM host h JOIN memory USING (time) LEFT JOIN vm USING (time) GROUP BY time",
            "SELECT h.time AS time, max(load1) AS \"max(load1)\" FROM host h JOIN memory USING(time) LEFT JOIN vm USING(time) GROUP BY h.time",
        ),
    ]);
    let refused = rewritten("SELECT * FROM cpu NATURAL LEFT JOIN (SELECT * FROM a, b) c");
    assert!(refused.contains("name the common columns"), "{refused}");
}

#[test]
fn comparisons_with_queries_have_their_meaning() {
    assert_rewritten(&[
        (
            "SELECT 1 AS x FROM t WHERE a = ANY ((SELECT b FROM u))",
            "SELECT 1 AS x FROM t WHERE a = ANY(SELECT b FROM u)",
        ),
        ("SELECT a = ANY (l) AS x FROM t", "SELECT (NOT (a <> ALL(l))) AS x FROM t"),
        ("SELECT a > ANY ('{b,c}') AS x FROM t", "SELECT (NOT (a <= ALL(ARRAY['b', 'c']))) AS x FROM t"),
        (
            "SELECT 1 AS x FROM t WHERE (a, b) IN (SELECT c, d FROM u)",
            "SELECT 1 AS x FROM t WHERE EXISTS (SELECT 1 AS \"1\" FROM (SELECT c, d FROM u) AS \"__compared\" \
             (\"__value_1\", \"__value_2\") WHERE \"__value_1\" = (a) AND \"__value_2\" = (b))",
        ),
        ("SELECT 1 AS x FROM t WHERE EXISTS (SELECT max(a) AS m FROM u)", "SELECT 1 AS x FROM t WHERE true"),
        (
            "SELECT 1 AS x FROM t WHERE NOT EXISTS (SELECT FROM u)",
            "SELECT 1 AS x FROM t WHERE NOT EXISTS (SELECT 1 AS \"1\" FROM u)",
        ),
        (
            "SELECT EXISTS (SELECT 1 FROM u WHERE u.a = t.a LIMIT 1) AS x FROM t",
            "SELECT (SELECT count(*) AS \"count(*)\" FROM u WHERE u.a = t.a) > 0 AS x FROM t",
        ),
    ]);
    for sql in
        ["SELECT (a, b) IN (SELECT c, d FROM u) FROM t", "SELECT a FROM t WHERE (a, b) NOT IN (SELECT c, d FROM u)"]
    {
        let refused = rewritten(sql);
        assert!(refused.contains("EXISTS (SELECT 1 FROM"), "{sql}: {refused}");
    }
}

#[test]
fn series_of_times_in_from_are_rows_of_a_function() {
    assert_rewritten(&[
        ("SELECT * FROM generate_series(1, -10, -2)", "SELECT * FROM generate_series(1, -10, -2)"),
        ("SELECT * FROM generate_series((1), 60 * 60 * 24)", "SELECT * FROM generate_series((1), 60 * 60 * 24)"),
        (
            "SELECT * FROM range(DATE '2026-11-25', '2026-11-26'::date, INTERVAL '1 hour')",
            "SELECT * FROM range(DATE '2026-11-25', '2026-11-26'::DATE, INTERVAL '3600000000 microseconds')",
        ),
        (
            "SELECT t FROM Generate_Series(now(), now(), INTERVAL '1 hour') AS s(t)",
            "SELECT t FROM (SELECT unnest(generate_series(now(), now(), INTERVAL '3600000000 microseconds')) AS \"value\") AS s (t)",
        ),
        ("SELECT * FROM range(1, a.b)", "SELECT * FROM (SELECT unnest(range(1, a.b)) AS \"value\") AS \"range\""),
    ]);
}
