//! The schemas of results, and the tables about tables.

use arrow::datatypes::DataType;
use futures::TryStreamExt;

use super::{Fixture, one, rows, settings};
use crate::family::FAMILIES;

#[tokio::test]
async fn every_batch_has_the_schema_that_was_prepared() {
    // One engine whose view changes from query to query: empty, files only, both, memory only.
    let fixtures = [Fixture::new(), Fixture::of(&[100], &[]), Fixture::of(&[100], &[100]), Fixture::of(&[], &[100])];
    for sql in [
        "SELECT * FROM collector",
        "SELECT collector FROM collector",
        "SELECT count(*) FROM collector",
        "SELECT collector, count(*), avg(ticks), max(time) FROM collector GROUP BY collector",
        "SELECT NULL, 1, 'text', 1.5, true, time, now() FROM collector",
        "SELECT NULL",
        "SELECT upper(collector), substr(collector, 1, 2), concat(collector, ticks), collector || 'x' FROM collector",
        "SELECT arrow_cast(collector, 'Dictionary(Int32, Utf8)'), arrow_cast(collector, 'Utf8View') FROM collector",
        "SELECT array_agg(arrow_cast(collector, 'Dictionary(Int32, Utf8)')) FROM collector",
        "SELECT increase(ticks, time), rate(ticks, time) FROM collector",
        "SELECT date_bin(interval '10 milliseconds', time) AS bin, max(ticks) FROM collector GROUP BY bin",
        "SELECT row_number() OVER (ORDER BY time), lag(ticks) OVER (ORDER BY time) FROM collector",
        "SELECT a.time, b.time FROM collector a LEFT JOIN collector b ON a.ticks = b.ticks + 1",
        "SELECT 1 UNION ALL SELECT ticks FROM collector UNION ALL SELECT 1.5",
        "SELECT CASE WHEN ticks > 5 THEN collector END FROM collector",
        "SELECT (SELECT max(ticks) FROM collector) FROM collector WHERE EXISTS (SELECT 1 FROM collector)",
        "EXPLAIN SELECT * FROM collector",
        "EXPLAIN ANALYZE SELECT * FROM collector",
        "SHOW TABLES",
        "DESCRIBE collector",
        "VALUES (1, 'a'), (2, NULL)",
    ] {
        let mut schemas = Vec::new();
        for fixture in &fixtures {
            let engine = fixture.engine(settings());
            schemas.push(engine.prepare(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).schema);
            let stream = engine.execute(sql).await.unwrap();
            schemas.push(stream.schema());
            for batch in stream.try_collect::<Vec<_>>().await.unwrap_or_else(|error| panic!("{sql}: {error}")) {
                schemas.push(batch.schema());
            }
        }
        assert!(schemas.iter().all(|schema| *schema == schemas[0]), "{sql}: {schemas:?}");
        for field in schemas[0].fields() {
            assert!(field.is_nullable(), "{sql}: {field:?}");
            let ty = field.data_type();
            assert!(!matches!(ty, DataType::Dictionary(..) | DataType::Utf8View | DataType::BinaryView), "{sql}: {ty}");
        }
    }
}

/// Clients are told about a column of a table wherever it stands in a result.
#[tokio::test]
async fn columns_that_a_statement_keeps_are_told() {
    let engine = Fixture::new().engine(settings());
    for (sql, kinds) in [
        ("SELECT * FROM collector LIMIT 1", vec!["time", "label"]),
        ("SELECT ticks AS n, ticks + 1, 'x', collector FROM collector", vec!["counter", "", "", "label"]),
        ("SELECT n FROM (SELECT ticks AS n FROM collector WHERE ticks > 1 ORDER BY time) AS t", vec!["counter"]),
        ("SELECT collector, max(ticks) FROM collector GROUP BY collector", vec!["label", ""]),
        ("SELECT a.ticks, b.collector FROM collector a JOIN collector b ON a.time = b.time", vec!["counter", "label"]),
        ("SELECT DISTINCT host, collector FROM collector", vec!["label", "label"]),
        ("SELECT ticks, lag(ticks) OVER (ORDER BY time) FROM collector", vec!["counter", ""]),
        ("SELECT ticks FROM collector UNION ALL SELECT 1", vec![""]),
        ("WITH t AS (SELECT time FROM collector) SELECT time FROM t", vec!["time"]),
    ] {
        let schema = engine.prepare(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).schema;
        let told = |at: usize| schema.field(at).metadata().get("kymo.kind").map_or("", String::as_str);
        let found: Vec<&str> = (0..kinds.len()).map(told).collect();
        assert_eq!(found, kinds, "{sql}");
    }
    let schema = engine.prepare("SELECT lateness_max_us FROM collector").await.unwrap().schema;
    let told = schema.field(0).metadata();
    assert_eq!(told["kymo.unit"], "µs");
    assert!(told["kymo.doc"].len() > 10 && !told["kymo.doc"].contains('\n'), "{told:?}");
}

#[tokio::test]
async fn columns_are_named_as_they_are_written() {
    let engine = Fixture::new().engine(settings());
    for (sql, expected) in [
        ("SELECT max(ticks), ticks + 1 AS ticks FROM collector GROUP BY 2", "max(ticks),ticks"),
        ("SELECT ticks, ticks FROM collector", "ticks,ticks_1"),
        ("SELECT a.ticks, b.ticks FROM collector a, collector b", "ticks,ticks_1"),
        ("SELECT date_bin(INTERVAL '1 second', time) FROM collector", "date_bin(INTERVAL '1 second', time)"),
        ("SELECT time::date FROM collector ORDER BY time", "time::DATE"),
    ] {
        let schema = engine.prepare(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).schema;
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names.join(","), expected, "{sql}");
    }
}

#[tokio::test]
async fn clients_find_the_tables_in_the_information_schema() {
    let engine = Fixture::new().engine(settings());
    let sql = "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables \
               WHERE table_schema = 'public' ORDER BY table_name";
    let mut expected: Vec<_> =
        FAMILIES.iter().map(|family| format!("kymo public {} BASE TABLE", family.name())).collect();
    expected.sort();
    assert_eq!(rows(&engine, sql).await, expected);
    let columns = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'gap'";
    assert!(rows(&engine, columns).await.contains(&"collector text".to_owned()));
    assert_eq!(rows(&engine, "DESCRIBE gap").await, rows(&engine, "SHOW COLUMNS FROM kymo.public.gap").await);
    assert_eq!(one(&engine, "SELECT count(*) FROM kymo.public.collector").await, "0");
}
