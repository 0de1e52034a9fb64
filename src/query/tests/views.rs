//! Views of the configuration.

use std::sync::Arc;

use super::{Fixture, one, refusal, rows, settings};
use crate::query::Engine;
use crate::query::sql_view::check::{Wrong, check};
use crate::query::sql_view::{SqlView, SqlViews};

fn views(views: &[(&str, &str)]) -> SqlViews {
    let view = |(name, sql): &(&str, &str)| SqlView {
        name: (*name).into(),
        sql: (*sql).into(),
        doc: "What it\nshows.".into(),
    };
    views.iter().map(view).collect()
}

fn engine(sql_views: &[(&str, &str)]) -> Engine {
    let fixture = Fixture::of(&[1_000], &[500]);
    let (view, folder) = (fixture.view(), Arc::clone(&fixture.folder));
    let rows = move || {
        let _kept = Arc::clone(&folder);
        Arc::clone(&view)
    };
    Engine::with_sql_views(Arc::new(rows), settings(), views(sql_views)).unwrap()
}

#[tokio::test]
async fn a_view_is_used_like_a_table() {
    let engine = engine(&[
        (
            "late",
            "SELECT time, collector, ticks, ticks + 1 AS next, ticks > 5 AS is_old FROM collector WHERE ticks >= 1000",
        ),
        (
            "counted",
            "WITH a AS (SELECT * FROM late) SELECT collector, count(*) AS n, rate(ticks, time) AS r FROM a GROUP BY collector",
        ),
        ("twice", "SELECT a.ticks, b.ticks FROM late a JOIN late b USING (time)"),
    ]);
    for (sql, expected) in [
        ("SELECT count(*), min(ticks) FROM late", "500 1000"),
        ("SELECT count(*) FROM kymo.public.late l JOIN collector c ON l.time = c.time WHERE l.next > 1400", "100"),
        ("SELECT sum(n) FROM counted", "500"),
        ("SELECT max(n) FROM (SELECT n FROM counted WHERE collector = 'slow')", "167"),
        ("SELECT ticks_1 FROM twice WHERE ticks = 1000", "1000"),
        // A name of the statement's own comes first.
        ("WITH late AS (SELECT 7 AS x) SELECT x FROM late", "7"),
        ("SELECT table_type FROM information_schema.tables WHERE table_name = 'late'", "VIEW"),
        ("SELECT table_comment FROM information_schema.tables WHERE table_name = 'late'", "What it shows."),
        ("SELECT count(*), min(view_definition) LIKE 'SELECT%' FROM information_schema.views", "3 true"),
        ("SELECT kind FROM information_schema.columns WHERE table_name = 'late' AND column_name = 'ticks'", "counter"),
        (
            "SELECT data_type FROM information_schema.columns WHERE table_name = 'late' AND column_name = 'is_old'",
            "boolean",
        ),
        ("SELECT relkind FROM pg_class WHERE relname = 'counted'", "v"),
        ("SELECT count(*) FROM pg_views v JOIN pg_class c ON c.relname = v.viewname", "3"),
        ("SHOW TABLES LIKE 'twi%'", "kymo public twice VIEW"),
    ] {
        assert_eq!(one(&engine, sql).await, expected, "{sql}");
    }
    assert_eq!(rows(&engine, "DESCRIBE counted").await.len(), 3);
    let schema = engine.prepare("SELECT ticks AS n, next FROM late").await.unwrap().schema;
    assert_eq!(schema.field(0).metadata()["kymo.kind"], "counter");
    assert!(schema.field(1).metadata().is_empty());
    let plan = rows(&engine, "EXPLAIN SELECT collector, sum(ticks) FROM late GROUP BY collector").await.join("\n");
    assert!(plan.contains("GroupExec"), "planned as the query that it stands for: {plan}");
    let error = refusal(&engine, "SELECT * FROM lat").await.to_string();
    assert!(error.contains("did you mean `late`?"), "{error}");
}

#[tokio::test]
async fn a_wrong_view_fails_only_the_statements_that_use_it() {
    let engine = engine(&[
        ("broken", "SELECT tick FROM collector"),
        ("above", "SELECT * FROM broken"),
        ("a", "SELECT * FROM b"),
        ("b", "SELECT * FROM a"),
        ("fine", "SELECT ticks FROM collector"),
    ]);
    assert_eq!(one(&engine, "SELECT count(*) FROM fine").await, "1500");
    assert_eq!(one(&engine, "SELECT count(*) FROM information_schema.views").await, "1");
    for (sql, texts) in [
        ("SELECT * FROM broken", ["the view `broken` of the configuration", "ticks"]),
        ("SELECT * FROM fine, above", ["the view `broken` of the configuration", "tick"]),
        ("SELECT * FROM b", ["the view `b` of the configuration", "it uses itself: b → a → b"]),
    ] {
        let error = refusal(&engine, sql).await.to_string();
        assert!(texts.iter().all(|text| error.contains(text)), "{sql}: {error}");
    }
}

/// Views that double each other would make a plan that nobody can walk through.
#[tokio::test]
async fn a_statement_is_as_large_as_the_views_that_it_uses() {
    let mut all = vec![("v0".to_owned(), "SELECT time FROM collector".to_owned())];
    for level in 1..8 {
        all.push((format!("v{level}"), format!("SELECT a.time FROM v{0} a, \"v{0}\" b", level - 1)));
    }
    let all: Vec<_> = all.iter().map(|(name, sql)| (&**name, &**sql)).collect();
    let engine = engine(&all);
    engine.prepare("SELECT * FROM v6").await.unwrap();
    let error = refusal(&engine, "SELECT * FROM v7").await.to_string();
    assert!(error.contains("reads 128 tables"), "{error}");
    let error = refusal(&engine, "SELECT 1 FROM v6 x, v6 y").await.to_string();
    assert!(error.contains("reads 128 tables"), "{error}");
}

#[test]
fn views_are_checked_before_anything_starts() {
    let wrong = |given: &[(&str, &str)]| check(&views(given)).unwrap();
    assert_eq!(wrong(&[]), []);
    assert_eq!(wrong(&[("up", "SELECT * FROM below"), ("below", "SELECT 1 AS one")]), []);
    for (name, text) in [
        ("cpu", "hides the table `cpu`"),
        ("range", "hides the table"),
        ("information_schema", "is where tables are"),
        ("public", "is where tables are"),
        ("gap_last", "what it makes of `gap`"),
        ("pg_mine", "PostgreSQL's own tables"),
        ("Late", "a-z, 0-9 and _"),
        ("1st", "begin with no digit"),
        ("", "1 to 63 characters"),
        ("where", "`where` is a word of SQL"),
        ("lateral", "`lateral` is a word of SQL"),
    ] {
        let found = wrong(&[("fine", "SELECT 1 AS one"), (name, "SELECT 1 AS one")]);
        assert!(matches!(&found[..], [(1, Wrong::Name(told))] if told.contains(text)), "{name}: {found:?}");
    }
    for (sql, text) in [
        ("SELEC 1", "SELEC"),
        ("SELECT nope FROM cpu", "nope"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SHOW TABLES", "information_schema"),
        ("EXPLAIN SELECT 1", "a view is a query"),
        ("DROP TABLE cpu", "DROP is refused"),
        ("SELECT * FROM cpu WHERE cpu = ?", "no parameters"),
        ("SELECT * FROM late", "it uses itself: late → late"),
        ("SELECT rate(utilization, time) FROM cpu GROUP BY cpu", "utilization"),
    ] {
        let found = wrong(&[("fine", "SELECT * FROM late"), ("late", sql)]);
        assert!(matches!(&found[..], [(1, Wrong::Sql(told))] if told.contains(text)), "{sql}: {found:?}");
    }
}
