//! Which rows, files and batches a query reads.

use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;

use super::{COLLECTORS, Fixture, collect, one, rows, settings, wait_until};
use crate::query::Engine;
use crate::store::View;

#[tokio::test]
async fn memory_and_files_are_one_table() {
    for (files, hot) in [
        (vec![], vec![]),
        (vec![10], vec![]),
        (vec![], vec![10]),
        (vec![2_500, 1, 700], vec![3, 5_000, 1, 20]),
        (vec![1; 20], vec![1; 20]),
    ] {
        let fixture = Fixture::of(&files, &hot);
        let engine = fixture.engine(settings());
        let n = fixture.end;
        assert_eq!(one(&engine, "SELECT count(*) FROM collector").await, n.to_string());
        if n > 0 {
            let sum = n * (n - 1) / 2;
            let sql = "SELECT count(ticks), count(DISTINCT ticks), sum(ticks), min(ticks), max(ticks) FROM collector";
            assert_eq!(one(&engine, sql).await, format!("{n} {n} {sum} 0 {}", n - 1));
            let ordered = rows(&engine, "SELECT ticks, collector FROM collector ORDER BY time").await;
            let expected: Vec<_> =
                (0..n).map(|row| format!("{row} {}", COLLECTORS[usize::try_from(row).unwrap() % 3])).collect();
            assert_eq!(ordered, expected);
        }
    }
}

#[tokio::test]
async fn labels_are_the_same_from_memory_and_files() {
    let engine = Fixture::of(&[300], &[300]).engine(settings());
    for (sql, expected) in [
        (
            "SELECT collector, count(*) FROM collector GROUP BY collector ORDER BY 1",
            vec!["burst 200", "slow 200", "system 200"],
        ),
        ("SELECT count(*) FROM collector WHERE collector = 'slow'", vec!["200"]),
        ("SELECT count(*) FROM collector WHERE collector LIKE 's%'", vec!["400"]),
        ("SELECT count(*) FROM collector WHERE collector IN ('burst', 'zzz')", vec!["200"]),
        ("SELECT min(collector), max(collector), count(DISTINCT collector) FROM collector", vec!["burst system 3"]),
        ("SELECT DISTINCT upper(collector) || '!' FROM collector ORDER BY 1", vec!["BURST!", "SLOW!", "SYSTEM!"]),
        ("SELECT count(*) FROM collector WHERE collector IS NULL", vec!["0"]),
        (
            "SELECT count(*) FROM collector a JOIN collector b ON a.collector = b.collector AND a.ticks = b.ticks",
            vec!["600"],
        ),
        ("SELECT collector FROM collector ORDER BY collector DESC, time LIMIT 1", vec!["system"]),
        ("SELECT missed_ticks FROM collector LIMIT 1", vec!["null"]),
    ] {
        assert_eq!(rows(&engine, sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn extremes_beside_each_other_are_of_all_rows() {
    let engine = Fixture::of(&[100; 20], &[100]).engine(settings());
    for (sql, expected) in [
        ("SELECT min(ticks), max(ticks) FILTER (WHERE ticks BETWEEN 1500 AND 1510) FROM collector", "0 1510"),
        ("SELECT min(ticks), max(ticks + 1) FROM collector", "0 2100"),
        ("SELECT min(ticks), min(scheduled_ticks) FILTER (WHERE ticks > 2050) FROM collector", "0 4102"),
    ] {
        assert_eq!(one(&engine, sql).await, expected, "{sql}");
    }
}

/// A file has several batches, which threads must not take in turns.
#[tokio::test]
async fn steps_of_one_file_are_between_neighbours() {
    let engine = Fixture::of(&[60_000], &[]).engine(settings());
    let steps = "SELECT ticks - lag(ticks) OVER (PARTITION BY collector ORDER BY time) AS step FROM collector \
                 WHERE time > '2024-01-01T00:00:01Z' AND scheduled_ticks >= 0";
    assert_eq!(one(&engine, &format!("SELECT min(step), max(step), count(step) FROM ({steps})")).await, "3 3 58996");
}

#[tokio::test]
async fn the_window_of_time_chooses_files_and_batches() {
    let engine = Fixture::of(&[1_000, 1_000, 1_000], &[1_000, 1_000]).engine(settings());
    let at = |row: i64| format!("'2024-01-01T00:00:{:02}.{:03}Z'", row / 1_000, row % 1_000);
    for (filter, count, files, batches) in [
        (format!("time < {}", at(0)), 0, 0, 0),
        (format!("time <= {}", at(0)), 1, 1, 0),
        (format!("time >= {} AND time < {}", at(1_000), at(2_000)), 1_000, 1, 0),
        (format!("time BETWEEN {} AND {}", at(1_999), at(2_000)), 2, 2, 0),
        (format!("time > {}", at(2_998)), 2_001, 1, 2),
        (format!("time = {}", at(4_500)), 1, 0, 1),
        (format!("time < {} OR time > {}", at(10), at(4_989)), 20, 1, 1),
        (format!("{} < time", at(4_998)), 1, 0, 1),
        (format!("ticks = 4500 AND time > {}", at(3_999)), 1, 0, 1),
        ("ticks = 4500".into(), 1, 3, 2),
        (format!("time > {} AND ticks < 0", at(5_000)), 0, 0, 0),
        ("time > now() - interval '5 minutes'".into(), 0, 0, 0),
        ("time <= now() AND date_trunc('day', time) = '2024-01-01'".into(), 5_000, 3, 2),
    ] {
        let sql = format!("SELECT count(*) FROM collector WHERE {filter}");
        assert_eq!(one(&engine, &sql).await, count.to_string(), "{sql}");
        let plan = rows(&engine, &format!("EXPLAIN {sql}")).await.join("\n");
        let listed = (0..3)
            .filter(|file| plan.contains(&format!("{file}000.parquet")) || *file == 0 && plan.contains("/0.parquet"))
            .count();
        assert_eq!(listed, files, "{plan}");
        let sizes = plan.split("partition_sizes=[").nth(1).map_or("", |rest| rest.split(']').next().unwrap());
        let listed: usize =
            sizes.split(", ").filter(|size| !size.is_empty()).map(|size| size.parse::<usize>().unwrap()).sum();
        assert_eq!(listed, batches, "{plan}");
    }
}

#[tokio::test]
async fn row_groups_outside_the_window_are_not_read() {
    let engine = Fixture::of(&[10_000], &[]).engine(settings());
    let sql = "EXPLAIN ANALYZE SELECT sum(ticks) FROM collector WHERE time >= '2024-01-01T00:00:09Z'";
    let plan = rows(&engine, sql).await.join("\n");
    assert!(plan.contains("row_groups_pruned_statistics=10 total → 1 matched"), "{plan}");
}

#[tokio::test]
async fn rows_are_counted_without_reading_them() {
    let engine = Fixture::of(&[1_000, 1_000], &[1_000]).engine(settings());
    let plan = rows(&engine, "EXPLAIN SELECT count(*) FROM collector").await.join("\n");
    assert!(plan.contains("PlaceholderRowExec") && !plan.contains("parquet"), "{plan}");
}

#[tokio::test]
async fn results_that_are_read_as_they_are_come_in_whole_pages() {
    let mut fixture = Fixture::new();
    fixture.add_file_of(20_000, 20_000);
    let engine = fixture.engine(settings());
    for (sql, is_long) in [
        ("SELECT * FROM collector", true),
        ("SELECT ticks AS t FROM (SELECT * FROM collector WHERE time > '2020-01-01') LIMIT 18000", true),
        // Operators that keep rows have shorter batches, and so has what functions compute: it may be texts of any length.
        ("SELECT repeat(collector, 2) FROM collector", false),
        ("SELECT 1 FROM collector WHERE collector || 'x' <> 'y'", false),
        ("SELECT ticks FROM collector ORDER BY ticks DESC", false),
    ] {
        let batches = collect(&engine, sql).await.unwrap();
        let longest = batches.iter().map(RecordBatch::num_rows).max();
        assert_eq!(longest > Some(8_192), is_long, "{sql}: {longest:?}");
    }
}

#[tokio::test]
async fn a_file_stays_while_a_query_reads_it() {
    let fixture = Fixture::of(&[100], &[]);
    let view = fixture.view();
    let weak = Arc::downgrade(&view);
    let source = Mutex::new(Some(view));
    let engine = Engine::new(
        Arc::new(move || source.lock().unwrap().take().unwrap_or_else(|| Arc::new(View::empty()))),
        settings(),
    )
    .unwrap();
    let stream = engine.execute("SELECT a.ticks FROM collector a, collector b, collector c").await.unwrap();
    assert!(weak.upgrade().is_some());
    drop(stream);
    wait_until("the view is dropped", || weak.upgrade().is_none()).await;
}

#[tokio::test]
async fn the_newest_rows_are_of_several_files_where_the_newest_one_has_few_series() {
    let engine = Fixture::of(&[30, 1], &[]).engine(settings());
    let newest = "SELECT collector, ticks FROM collector_last ORDER BY collector";
    assert_eq!(rows(&engine, newest).await, ["burst 30", "slow 28", "system 29"]);
}
