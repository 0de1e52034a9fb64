//! Plans that are changed for tables of series, and long ones.

use std::time::Duration;

use super::{Fixture, one, rows, settings};
use crate::query::QuerySettings;

#[tokio::test]
async fn groupings_by_labels_and_times_keep_dictionaries() {
    let engine = Fixture::of(&[3_000, 2_500], &[300]).engine(settings());
    for (keys, is_kept) in [
        ("collector", true),
        ("host, collector", true),
        ("date_bin(interval '1 second', time)", true),
        ("collector, date_bin(interval '1 second', time)", true),
        ("upper(collector)", false),
        ("collector, ticks % 3", false),
    ] {
        let sql = format!("SELECT {keys}, count(*), sum(ticks) FROM collector GROUP BY {keys}");
        let plan = rows(&engine, &format!("EXPLAIN {sql}")).await.join("\n");
        assert_eq!(plan.contains("GroupExec"), is_kept, "{plan}");
    }
    // A label that is filtered by is one, too. Its statistics choose row groups.
    let sql =
        "SELECT collector, sum(ticks) FROM collector WHERE collector > 'c' AND collector <> 'zzz' GROUP BY collector";
    let plan = rows(&engine, &format!("EXPLAIN ANALYZE {sql}")).await.join("\n");
    assert!(plan.contains("GroupExec") && plan.contains("row_groups_pruned_statistics=6 total → 6 matched"), "{plan}");
    let nobody = sql.replace("'c'", "'x'");
    let plan = rows(&engine, &format!("EXPLAIN ANALYZE {nobody}")).await.join("\n");
    assert!(plan.contains("GroupExec") && plan.contains("row_groups_pruned_statistics=6 total → 0 matched"), "{plan}");
}

#[tokio::test]
async fn conditions_on_labels_compare_keys_of_dictionaries() {
    let engine = Fixture::of(&[3_000, 2_500], &[300]).engine(settings());
    for (condition, count) in [
        ("collector = 'slow'", 1_933),
        ("'slow' = collector AND ticks < 300", 100),
        ("NOT collector = 'slow' AND collector > 'c'", 1_933),
        ("collector = 'burst' OR collector = 'nobody'", 1_934),
    ] {
        let sql = format!("SELECT ticks, collector FROM collector WHERE {condition}");
        let plan = rows(&engine, &format!("EXPLAIN {sql}")).await.join("\n");
        // The texts of those rows only that pass.
        let (above, _) = plan.split_once("FilterExec").unwrap();
        assert!(above.contains("CAST(collector"), "{plan}");
        assert_eq!(one(&engine, &format!("SELECT count(*) FROM ({sql})")).await, count.to_string(), "{sql}");
    }
    let sql = "SELECT collector, ticks FROM collector WHERE collector = 'system' AND ticks >= 5798 ORDER BY 2";
    assert_eq!(rows(&engine, sql).await, ["system 5798"]);
}

#[tokio::test]
async fn the_newest_rows_are_read_first() {
    let engine = Fixture::of(&[3_000, 7_000], &[200, 100]).engine(settings());
    for (sql, newest) in [
        ("SELECT ticks FROM collector ORDER BY time DESC LIMIT 2", "10299 10298"),
        ("SELECT ticks FROM collector WHERE ticks < 9990 ORDER BY time DESC LIMIT 2", "9989 9988"),
        (
            "SELECT ticks FROM collector WHERE collector = 'slow' AND ticks < 9990 ORDER BY time DESC LIMIT 2",
            "9988 9985",
        ),
        (
            "SELECT t FROM (SELECT ticks AS t, time AS at FROM collector) WHERE t % 1000 = 7 ORDER BY at DESC, t LIMIT 2",
            "10007 9007",
        ),
    ] {
        assert_eq!(rows(&engine, sql).await.join(" "), newest, "{sql}");
        let plan = rows(&engine, &format!("EXPLAIN {sql}")).await.join("\n");
        assert!(plan.contains("reverse_row_groups=true"), "{plan}");
        let oldest = rows(&engine, &sql.replace("DESC", "ASC")).await;
        assert!(oldest.iter().all(|row| row.parse::<i64>().unwrap() < 3_000), "{sql}: {oldest:?}");
    }
    // What was found may rule out the row groups before it, also where a condition chooses rows. How many are ruled out depends on
    // how far the scan is ahead of the sort.
    let engine = Fixture::of(&[10_000], &[]).engine(settings());
    let sql = "SELECT ticks FROM collector WHERE collector = 'slow' ORDER BY time DESC LIMIT 2";
    let plan = rows(&engine, &format!("EXPLAIN ANALYZE {sql}")).await.join("\n");
    assert!(plan.contains("dynamic_rg_pruning=eligible"), "{plan}");
    assert!(plan.contains("page_index_pages_pruned=0 total"), "{plan}");
    // What is sorted by something else is read as it is.
    let plan = rows(&engine, "EXPLAIN SELECT time FROM collector WHERE ticks > 3 ORDER BY ticks DESC LIMIT 2")
        .await
        .join("\n");
    assert!(!plan.contains("reverse_row_groups"), "{plan}");
}

#[tokio::test]
async fn the_row_before_is_found_without_a_sort() {
    let lag = "lag(ticks) OVER (PARTITION BY collector ORDER BY time)";
    let steps = format!(
        "SELECT collector, min(step), max(step), count(step) FROM (SELECT collector, ticks - {lag} AS step FROM collector) GROUP BY collector"
    );
    let fixture = Fixture::of(&[3_000, 2_500], &[200, 300]);
    let engine = fixture.engine(settings());
    let plan = rows(&engine, &format!("EXPLAIN {steps}")).await.join("\n");
    assert!(plan.contains("StepsExec") && !plan.contains("SortExec"), "{plan}");
    let mut told = rows(&engine, &steps).await;
    told.sort();
    assert_eq!(told, ["burst 3 3 1999", "slow 3 3 1999", "system 3 3 1999"]);
    // A LIMIT leaves threads that wait for others.
    for most in [1, 5, 3_000, 5_990] {
        assert_eq!(rows(&engine, &format!("SELECT ticks, {lag} FROM collector LIMIT {most}")).await.len(), most);
    }
    let sql = format!(
        "SELECT ticks, before FROM (SELECT ticks, {lag} AS before FROM collector) WHERE before IS NULL OR ticks <> before + 3 ORDER BY 1"
    );
    assert_eq!(rows(&engine, &sql).await, ["0 null", "1 null", "2 null"]);
    // Rows that are not in the order of time are sorted.
    let mut fixture = Fixture::new();
    fixture.end = 300;
    fixture.add_hot(300);
    fixture.end = 0;
    fixture.add_hot(300);
    let engine = fixture.engine(settings());
    let plan = rows(&engine, &format!("EXPLAIN {steps}")).await.join("\n");
    assert!(!plan.contains("StepsExec") && plan.contains("SortExec"), "{plan}");
    assert_eq!(
        rows(&engine, &format!("{steps} ORDER BY 1")).await,
        ["burst 3 3 199", "slow 3 3 199", "system 3 3 199"]
    );
}

#[tokio::test]
async fn a_row_that_is_there_many_times_is_asked_for_once() {
    // Without that, each of these rows would be compared with each other one.
    let engine = Fixture::of(&[60_000], &[]).engine(QuerySettings { time_max: Duration::from_secs(30), ..settings() });
    for (condition, count) in [
        ("EXISTS (SELECT 1 FROM collector b WHERE b.collector = a.collector)", "60000"),
        ("NOT EXISTS (SELECT 1 FROM collector b WHERE b.collector = a.collector AND b.ticks > 59998)", "40000"),
        ("collector IN (SELECT collector FROM collector WHERE ticks % 3 = 1)", "20000"),
        ("EXISTS (SELECT 1 FROM collector b WHERE b.collector = a.collector AND b.time > a.time)", "59997"),
        ("NOT EXISTS (SELECT 1 FROM collector b WHERE b.collector = a.collector AND a.ticks > b.ticks)", "3"),
        ("EXISTS (SELECT 1 FROM collector b WHERE b.collector = a.collector AND b.time = a.time)", "60000"),
    ] {
        let sql = format!("SELECT count(*) FROM collector a WHERE {condition}");
        assert_eq!(one(&engine, &sql).await, count, "{sql}");
        let plan = rows(&engine, &format!("EXPLAIN {sql}")).await.join("\n");
        // The other one counts.
        let groupings = plan.matches("Aggregate: groupBy=").count();
        assert_eq!(groupings, if condition.contains("b.time = ") { 1 } else { 2 }, "{plan}");
    }
}

#[tokio::test]
async fn a_long_chain_within_the_limits_is_planned() {
    let engine = Fixture::of(&[100], &[100]).engine(settings());
    let chain = (0..500).map(|row| format!("ticks = {row}")).collect::<Vec<_>>().join(" OR ");
    assert_eq!(one(&engine, &format!("SELECT count(*) FROM collector WHERE {chain}")).await, "200");
    let sums = "1 + ".repeat(400);
    assert_eq!(one(&engine, &format!("SELECT {sums} 1")).await, "401");
    let columns = "ticks + ".repeat(200);
    assert_eq!(one(&engine, &format!("SELECT max({columns} 1) FROM collector")).await, (200 * 199 + 1).to_string());
    let nested = format!("{}ticks{}", "abs(".repeat(49), ")".repeat(49));
    assert_eq!(one(&engine, &format!("SELECT max{} FROM collector", &nested[3..])).await, "199");
    let subqueries = format!("SELECT max(ticks) FROM {}collector{}", "(SELECT * FROM ".repeat(49), ")".repeat(49));
    assert_eq!(one(&engine, &subqueries).await, "199");
    let unions = "SELECT 1 UNION ALL ".repeat(99);
    assert_eq!(rows(&engine, &format!("{unions} SELECT ticks FROM collector LIMIT 1000")).await.len(), 299);
}

#[tokio::test]
async fn rows_are_sorted_by_what_the_planner_does_not_understand() {
    let engine = Fixture::of(&[3_000, 2_500], &[500]).engine(settings());
    let lost = "CASE WHEN ticks % 3 < 1 THEN ticks ELSE -1 END";
    for (sql, expected) in [
        (
            format!(
                "SELECT max(a), max(b), sum(c) FROM (SELECT rank() OVER (ORDER BY {lost}) AS a, cume_dist() OVER (ORDER BY {lost} \
                 DESC) AS b, count(*) OVER (PARTITION BY collector) AS c FROM collector)"
            ),
            "6000 1.0 12000000",
        ),
        (
            "SELECT max(n), count(DISTINCT n) FROM (SELECT row_number() OVER (PARTITION BY ticks % 3 < 1 ORDER BY abs(ticks) > 9) \
             AS n FROM collector)"
                .into(),
            "4000 4000",
        ),
        (format!("SELECT ticks FROM collector ORDER BY {lost} DESC, ticks LIMIT 2"), "5997|5994"),
        (format!("SELECT ticks AS \"sort key 0\" FROM collector ORDER BY {lost} DESC LIMIT 1"), "5997"),
        (format!("SELECT ticks FROM (SELECT ticks FROM collector ORDER BY {lost} DESC, ticks) LIMIT 2"), "5997|5994"),
        (format!("SELECT first_value(ticks ORDER BY {lost} DESC) FROM collector"), "5997"),
        (format!("SELECT (array_agg(ticks ORDER BY {lost} DESC))[1:2] FROM collector"), "[5997, 5994]"),
    ] {
        assert_eq!(rows(&engine, &sql).await.join("|"), expected, "{sql}");
    }
}

/// The name of a column and its full name are one key.
#[tokio::test]
async fn keys_that_come_again_order_as_the_first_one_does() {
    let engine = Fixture::of(&[3_000, 2_500], &[500]).engine(settings());
    for (sql, expected) in [
        ("SELECT (array_agg(ticks ORDER BY ticks DESC, collector.ticks))[1:2] FROM collector", "[5999, 5998]"),
        ("SELECT first_value(ticks ORDER BY collector, ticks DESC, ticks) FROM collector", "5997"),
        (
            "SELECT DISTINCT ON (collector) ticks FROM collector ORDER BY collector, collector, ticks DESC",
            "5997|5998|5999",
        ),
        ("SELECT DISTINCT ON (collector) ticks FROM collector ORDER BY collector, ticks DESC, ticks", "5997|5998|5999"),
        (
            "SELECT DISTINCT ON (1) collector, ticks FROM collector ORDER BY 1, ticks DESC, 2",
            "burst 5997|slow 5998|system 5999",
        ),
        ("SELECT ticks FROM collector ORDER BY ticks DESC, collector, ticks LIMIT 2", "5999|5998"),
        ("SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY ticks, ticks DESC) AS n FROM collector)", "6000"),
    ] {
        assert_eq!(rows(&engine, sql).await.join("|"), expected, "{sql}");
    }
}

/// A key that is one value, or in order, is null in the rows of other sets.
#[tokio::test]
async fn grouping_sets_are_complete_and_sorted() {
    let engine = Fixture::of(&[9_000, 9_000], &[3_000]).engine(settings());
    let one = "FROM collector WHERE collector = 'burst'";
    for (sql, expected) in [
        (
            format!("SELECT collector, ticks % 6 AS t, count(*) {one} GROUP BY CUBE (1, 2) ORDER BY 1, 2"),
            "\
          burst 0 3500|burst 3 3500|burst null 7000|null 0 3500|null 3 3500|null null 7000",
        ),
        (
            format!(
                "SELECT collector, count(*) {one} GROUP BY GROUPING SETS ((collector), (collector, time)) HAVING count(*) > 1"
            ),
            "burst 7000",
        ),
        (
            format!("SELECT count(*), sum(n) FROM (SELECT time, count(*) AS n {one} GROUP BY ROLLUP (time))"),
            "7001 14000",
        ),
        (
            "SELECT collector, count(*) FROM collector GROUP BY GROUPING SETS ((collector), (collector, time)) \
             HAVING collector = 'burst' AND count(*) > 1"
                .into(),
            "burst 7000",
        ),
        (
            format!(
                "SELECT collector, t, rank() OVER (PARTITION BY collector ORDER BY t) AS r FROM (SELECT collector, ticks % 6 \
                     AS t {one} GROUP BY CUBE (1, 2)) ORDER BY 1, 2"
            ),
            "burst 0 1|burst 3 2|burst null 3|null 0 1|null 3 2|null null 3",
        ),
        (
            format!(
                "SELECT coalesce(1, ticks) AS k, count(*) {one} GROUP BY ROLLUP (coalesce(1, ticks)) ORDER BY 1 NULLS FIRST"
            ),
            "null 7000|1 7000",
        ),
        (
            "SELECT ticks % 2 + ticks % 3 AS t, count(*) FROM collector GROUP BY ROLLUP (ticks % 2 + ticks % 3) ORDER BY 1".into(),
            "0 3500|1 7000|2 7000|3 3500|null 21000",
        ),
    ] {
        assert_eq!(rows(&engine, &sql).await.join("|"), expected.trim(), "{sql}");
    }
}

/// A condition that has no columns left, and one over two columns of one name.
#[tokio::test]
async fn conditions_stay_where_they_belong() {
    let engine = Fixture::of(&[900, 900], &[300]).engine(settings());
    let of_all = "SELECT x, b FROM (SELECT 7 AS x, b FROM (SELECT count(*) AS b FROM collector) v) q";
    let joined = "(SELECT * FROM collector WHERE ticks < 100) a RIGHT JOIN (SELECT * FROM collector WHERE ticks > 200) b \
                  ON a.time = b.time";
    for (sql, expected) in [
        (format!("{of_all} WHERE x > 8"), ""),
        (format!("{of_all} WHERE x > 6"), "7 2100"),
        ("SELECT x FROM (SELECT CASE WHEN b IS NULL THEN 'x' END AS x FROM (SELECT count(*) AS b FROM collector)) WHERE x = 'x'".into(), ""),
        (format!("SELECT b.ticks, a.ticks FROM {joined} WHERE b.ticks IS NOT DISTINCT FROM a.ticks"), ""),
        (format!("SELECT count(*) FROM {joined} WHERE a.ticks IS NULL AND b.ticks > 300"), "1799"),
        (
            "SELECT a.collector, b.collector FROM collector a JOIN collector b ON a.ticks = b.ticks + 1 ORDER BY b.ticks DESC, \
             a.collector LIMIT 2"
                .into(),
            "system slow|slow burst",
        ),
    ] {
        assert_eq!(rows(&engine, &sql).await.join("|"), expected, "{sql}");
    }
}

#[tokio::test]
async fn a_label_with_one_text_may_be_ordered_by_behind_a_join() {
    let engine = Fixture::of(&[300, 300], &[300]).engine(settings());
    for (sql, expected) in [
        (
            "SELECT a.collector, b.ticks FROM collector a JOIN collector b ON a.ticks % 100 = b.ticks % 7 WHERE a.collector = 'slow' AND \
             b.ticks > 890 ORDER BY 1, 2 DESC LIMIT 2",
            "slow 899|slow 899",
        ),
        (
            "SELECT a.collector, b.ticks FROM (SELECT * FROM collector WHERE collector = 'slow') a LEFT JOIN collector b ON a.time = b.time \
             WHERE a.ticks > 890 ORDER BY a.collector NULLS FIRST, b.ticks DESC LIMIT 2",
            "slow 898|slow 895",
        ),
        (
            "SELECT a.collector, rank() OVER (PARTITION BY '' ORDER BY a.collector) AS r FROM collector a JOIN collector b ON a.ticks % 100 = \
             b.ticks % 7 WHERE a.collector = 'slow' AND b.ticks > 895 ORDER BY r LIMIT 1",
            "slow 1",
        ),
    ] {
        assert_eq!(rows(&engine, sql).await.join("|"), expected, "{sql}");
    }
}

/// The scans of a window are as they were planned, and are shown with what they did.
#[tokio::test]
async fn windows_show_their_scans() {
    let engine = Fixture::of(&[3_000, 2_500], &[300]).engine(settings());
    let sql = "SELECT * FROM downsample('collector', 'ticks', '2024-01-01', '2024-01-01 00:00:10', 5) WHERE collector = 'slow'";
    for explain in ["EXPLAIN", "EXPLAIN ANALYZE"] {
        let plan = rows(&engine, &format!("{explain} {sql}")).await.join("\n");
        let (_, below) = plan.split_once("BucketsExec").unwrap();
        assert!(below.contains("DataSourceExec") && below.contains(".parquet"), "{plan}");
        assert_eq!(below.contains("slices=1"), explain == "EXPLAIN ANALYZE", "{plan}");
        assert_eq!(below.contains("output_rows=1.93 K"), explain == "EXPLAIN ANALYZE", "{plan}");
    }
}
