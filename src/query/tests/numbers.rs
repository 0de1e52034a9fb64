//! Sums, means and comparisons of doubles and decimals, with the values that PostgreSQL and DuckDB give.

use super::functions::check;
use super::{Fixture, refusal, settings};

/// 0 / 0 and a difference of infinities give a NaN with a sign.
const X: &str =
    "(VALUES (0.0, 1), (-0.0, 2), (1.5, 3), ('nan'::double, 4), (-('nan'::double), 5), (0.0 / 0.0, 6)) t(x, n)";

#[tokio::test]
async fn a_nan_is_one_value_and_the_greatest_and_zero_has_no_sign() {
    let engine = Fixture::of(&[], &[10]).engine(settings());
    let mut wrong = Vec::new();
    for (sql, expected) in [
        (format!("SELECT x, count(*) FROM {X} GROUP BY x ORDER BY x"), "0.0 2|1.5 1|NaN 3"),
        (format!("SELECT n FROM {X} ORDER BY x DESC, n DESC"), "6|5|4|3|2|1"),
        (format!("SELECT count(DISTINCT x), max(x), min(x), max(-x), mode(x) FROM {X}"), "3 NaN 0.0 NaN NaN"),
        (format!("SELECT count(*) FROM (SELECT DISTINCT x FROM {X})"), "3"),
        (format!("SELECT DISTINCT ON (x) n FROM {X} ORDER BY x, n"), "1|3|4"),
        (format!("SELECT n, rank() OVER (ORDER BY x), count(*) OVER (PARTITION BY x) FROM {X} ORDER BY n"), "1 1 2|2 1 2|3 3 1|4 4 3|5 4 3|6 4 3"),
        (format!("SELECT count(*) FROM {X} WHERE x > 1"), "4"),
        (format!("SELECT count(*) FROM {X} WHERE x / x = 'nan'::double AND x BETWEEN 0.0 AND 'nan'::double"), "5"),
        (format!("SELECT count(*) FROM {X} WHERE x IN (SELECT 0.0 / 0.0)"), "3"),
        (format!("SELECT count(*) FROM {X} JOIN (SELECT x AS y FROM {X}) u ON x = y"), "14"),
        (format!("SELECT count(*) FROM {X} JOIN (SELECT x FROM {X}) u USING (x)"), "14"),
        (format!("SELECT count(*) FROM (SELECT x FROM {X} INTERSECT SELECT -('nan'::double))"), "1"),
        ("SELECT 'inf'::double - 'inf'::double = 'nan'::double, greatest(-('nan'::double), 1.0), least(-('nan'::double), 1.0)".into(), "true NaN 1.0"),
        ("SELECT CASE 0.0 / 0.0 WHEN 'nan'::double THEN 'n' END, nullif(0.0 / 0.0, 'nan'::double)".into(), "n null"),
    ] {
        check(&engine, &sql, expected, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn windows_forget_what_has_left_them() {
    let engine = Fixture::of(&[], &[10]).engine(settings());
    let mut wrong = Vec::new();
    let frame = "OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)";
    let rows = |first: &str| format!("(VALUES (1, {first}), (2, 1.5), (3, NULL), (4, 2.5), (5, 3.5)) t(n, x)");
    for (first, early) in [("1e17", "1e17"), ("'inf'::double", "inf"), ("'nan'::double", "NaN")] {
        let sums = format!("{early}|{early}|1.5|2.5|6.0");
        check(&engine, &format!("SELECT sum(x) {frame} FROM {} ORDER BY n", rows(first)), &sums, &mut wrong).await;
        let sql = format!("SELECT avg(x) {frame} FROM {} ORDER BY n DESC LIMIT 3", rows(first));
        check(&engine, &sql, "3.0|2.5|1.5", &mut wrong).await;
        let sql =
            format!("SELECT var_pop(x) {frame}, stddev(x) {frame} > 0.7 FROM {} ORDER BY n DESC LIMIT 1", rows(first));
        check(&engine, &sql, "0.25 true", &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn decimals_keep_their_digits() {
    let engine = Fixture::of(&[], &[10]).engine(settings());
    let mut wrong = Vec::new();
    let x = "(SELECT n, n::decimal(10, 2) AS x FROM (VALUES (1), (2), (2), (NULL)) t(n))";
    for (sql, expected) in [
        (
            format!("SELECT avg(x), sum(x), avg(DISTINCT x), sum(DISTINCT x) FROM {x}"),
            "1.6666666666666667 5.00 1.5 3.00",
        ),
        (format!("SELECT n, avg(x), sum(x) FROM {x} GROUP BY n ORDER BY n"), "1 1.0 1.00|2 2.0 4.00|null null null"),
        (
            "SELECT 99999999999999999999999999999999999999::decimal(38, 0), (-12345678901234567890.5)::numeric(38, 1), \
             CAST(0.1234567890123456789 AS decimal(20, 19)), 1e3::decimal(10, 0)"
                .to_owned(),
            "99999999999999999999999999999999999999 -12345678901234567890.5 0.1234567890123456789 1000",
        ),
        (format!("SELECT sum(x) OVER (ORDER BY n ROWS 1 PRECEDING) FROM {x} ORDER BY 1"), "1.00|2.00|3.00|4.00"),
    ] {
        check(&engine, &sql, expected, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let most = "repeat('9', 38)::decimal(38, 0)";
    let error = refusal(&engine, &format!("SELECT sum(x) FROM (SELECT {most} AS x FROM collector)")).await.to_string();
    assert!(error.contains("DECIMAL(38") && error.contains("sum(x::DOUBLE)"), "{error}");
}
