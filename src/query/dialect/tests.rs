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
fn distinct_columns_are_ordered_by_their_names() {
    assert_rewritten(&[(
        "SELECT DISTINCT length(cpu) FROM cpu ORDER BY length(cpu) DESC",
        "SELECT DISTINCT length(cpu) AS \"length(cpu)\" FROM cpu ORDER BY \"length(cpu)\" DESC",
    )]);
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
    ]);
    let refused = rewritten("SELECT * FROM cpu NATURAL LEFT JOIN (SELECT * FROM a, b) c");
    assert!(refused.contains("name the common columns"), "{refused}");
}

#[test]
fn comparisons_with_queries_have_their_meaning() {
    assert_rewritten(&[
        ("SELECT 1 AS x FROM t WHERE a = ANY (SELECT b FROM u)", "SELECT 1 AS x FROM t WHERE a IN (SELECT b FROM u)"),
        (
            "SELECT 1 AS x FROM t WHERE a <> ALL (SELECT b FROM u)",
            "SELECT 1 AS x FROM t WHERE a NOT IN (SELECT b FROM u)",
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
    let many = format!(
        "SELECT 1 WHERE 1 > ALL (SELECT a FROM host WHERE a {}",
        "> ALL (SELECT a FROM host WHERE a ".repeat(9)
    );
    let many = format!("{many} > 1{}", ")".repeat(10));
    assert!(rewritten(&many).contains("tables"), "{}", rewritten(&many));
}
