//! Limits of queries, and how they end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::TryStreamExt;

use super::{Fixture, HOST, START_US, collect, one, refusal, rows, settings};
use crate::batch::to_batch;
use crate::query::{Engine, QueryError, QuerySettings};
use crate::record::Record;
use crate::sampler::report::Collector;
use crate::store::HotBatch;

#[tokio::test]
async fn a_query_ends_at_its_time_limit() {
    let engine =
        Fixture::of(&[], &[3_000]).engine(QuerySettings { time_max: Duration::from_millis(200), ..settings() });
    let sql = "SELECT count(*) FROM collector a, collector b, collector c WHERE a.ticks + b.ticks * c.ticks = 7";
    let error = refusal(&engine, sql).await;
    assert!(matches!(error, QueryError::Time(_)) && error.to_string().contains("0.2 s"), "{error}");
    // Its place is free again once it has noticed. On a busy machine another query may meet the same limit.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let next = loop {
        match collect(&engine, "SELECT time FROM collector").await {
            Err(QueryError::Time(_)) if std::time::Instant::now() < deadline => {}
            next => break next.unwrap(),
        }
    };
    assert_eq!(next.iter().map(RecordBatch::num_rows).sum::<usize>(), 3_000);
}

#[tokio::test]
async fn a_query_ends_at_its_memory_limit() {
    let engine = Fixture::of(&[20_000], &[20_000]).engine(QuerySettings { memory_bytes_max: 1 << 20, ..settings() });
    for sql in [
        "SELECT * FROM collector ORDER BY ticks % 1000, time",
        "SELECT ticks, time, count(*) FROM collector GROUP BY ticks, time",
        "SELECT rate(ticks, time), count(DISTINCT ticks), count(DISTINCT 2 * ticks) FROM collector GROUP BY collector",
        "SELECT count(*) FROM collector a JOIN collector b ON a.ticks = b.ticks AND a.time = b.time",
    ] {
        let error = refusal(&engine, sql).await;
        assert!(matches!(error, QueryError::Memory { bytes_max: 1_048_576, .. }), "{sql}: {error}");
        assert!(error.to_string().contains("`query.memory_bytes_max`"), "{error}");
        assert_eq!(engine.inner.sessions.lock().len(), 0);
    }
    assert_eq!(one(&engine, "SELECT sum(ticks) FROM collector").await, "799980000");
}

/// Buckets of many series take more than the memory of a query: they are told some series at a time.
#[tokio::test]
async fn downsample_tells_more_buckets_than_fit_into_memory() {
    let mut fixture = Fixture::new();
    let names: Vec<_> = (0..200).map(|series| fixture.labels.intern(&format!("c{series}"))).collect();
    for part in 0..10 {
        let row = |row: i64| Collector {
            collector: names[usize::try_from(row % 200).unwrap()],
            ticks: row,
            lateness_max_us: row % 977,
            ..Collector::absent(START_US + row * 1_000)
        };
        let rows: Vec<Collector> = (part * 4_000..(part + 1) * 4_000).map(row).collect();
        let batch = to_batch(&[&rows], &fixture.labels, &Collector::TABLE.schema());
        fixture.hot.push(Arc::new(HotBatch::new(HOST.into(), u64::try_from(part * 4_000).unwrap(), batch)));
    }
    let window = format!("to_timestamp_micros({START_US}), to_timestamp_micros({}), 200", START_US + 40_000_000);
    for columns in ["ticks", "lateness_max_us", "ticks, lateness_max_us"] {
        let figures =
            if columns.contains(',') { "sum(ticks_mean), sum(lateness_max_us_max)" } else { "sum(mean), sum(last)" };
        let sql = format!(
            "SELECT collector, count(*), min(time), max(end_time), {figures} FROM downsample('collector', '{columns}', {window}) \
             GROUP BY collector ORDER BY collector"
        );
        let [whole, sliced] = [256 << 20, 5 << 20]
            .map(|memory_bytes_max| fixture.engine(QuerySettings { memory_bytes_max, ..settings() }));
        let expected = rows(&whole, &sql).await;
        assert!(
            expected.len() == 200 && [" 199 ", " 200 "].iter().any(|count| expected[7].contains(count)),
            "{}",
            expected[7]
        );
        assert_eq!(rows(&sliced, &sql).await, expected);
        let plan = rows(&sliced, &format!("EXPLAIN ANALYZE {sql}")).await.join(" ");
        assert!(plan.contains("slices=") && !plan.contains("slices=1,") && !plan.contains("slices=1]"), "{plan}");
    }
    // A single series that does not fit is refused as any other statement is.
    let small = fixture.engine(QuerySettings { memory_bytes_max: 50 << 10, ..settings() });
    let error = refusal(&small, &format!("SELECT count(*) FROM downsample('collector', 'ticks', {window})")).await;
    assert!(matches!(error, QueryError::Memory { bytes_max: 51_200, .. }), "{error}");
}

#[tokio::test]
async fn a_result_ends_at_the_row_limit() {
    let engine = Fixture::of(&[100], &[100]).engine(QuerySettings { rows_max: Some(150), ..settings() });
    let error = refusal(&engine, "SELECT * FROM collector").await;
    assert!(matches!(error, QueryError::Rows(150)), "{error}");
    assert_eq!(rows(&engine, "SELECT * FROM collector LIMIT 150").await.len(), 150);
}

#[tokio::test]
async fn only_so_many_queries_run_at_once() {
    let engine = Fixture::of(&[], &[30_000, 30_000]).engine(QuerySettings { concurrent_max: 1, ..settings() });
    // Its reader does not read, so it stays.
    let stream = engine.execute("SELECT a.time FROM collector a, collector b").await.unwrap();
    let error = refusal(&engine, "SELECT 1").await;
    assert!(matches!(error, QueryError::Busy(1)), "{error}");
    assert!(matches!(engine.prepare("SELECT 1").await, Err(QueryError::Busy(_))));
    drop(stream);
    assert_eq!(one(&engine, "SELECT 1").await, "1");
    assert_eq!(engine.begun(), 2);
}

#[tokio::test]
async fn a_session_serves_later_queries_and_holds_no_view_between_them() {
    let fixture = Fixture::of(&[10], &[10]);
    let view = fixture.view();
    let held = Arc::downgrade(&view);
    let views = Mutex::new(vec![fixture.view(), view]);
    let engine = Engine::new(Arc::new(move || views.lock().unwrap().pop().unwrap()), settings()).unwrap();
    let mut last = String::new();
    for _ in 0..2 {
        // Without tasks of its own, which can end a moment after the query.
        engine.prepare("SELECT now()").await.unwrap();
        let told = one(&engine, "SELECT now()").await;
        assert!(told > last, "{told} after {last}");
        assert_eq!((engine.inner.sessions.lock().len(), held.strong_count()), (1, 0));
        last = told;
    }
}

#[tokio::test]
async fn the_engine_can_go_while_queries_run() {
    let engine = Fixture::of(&[], &[30_000, 30_000]).engine(settings());
    let mut stream = engine.execute("SELECT a.time FROM collector a, collector b").await.unwrap();
    drop(engine);
    let ended = loop {
        match stream.try_next().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert!(matches!(ended, Err(QueryError::Stopped)), "{ended:?}");
}
