//! The engine over views made by hand: rows in memory, and in files as the store writes them.

mod functions;

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

use super::*;
use crate::batch::columns::columns;
use crate::family::FamilyId;
use crate::query::named::Named;
use crate::record::Record;
use crate::record::label::Labels;
use crate::sampler::report::Collector;
use crate::store::lake::DataFile;
use crate::store::{HotBatch, TableView};

/// Time of row 0: 2024-01-01T00:00:00Z. Each row is one millisecond later than the row before.
const START_US: i64 = 1_704_067_200_000_000;
/// Its folder has what URLs and object stores treat in special ways.
const HOST: &str = "a b/#1";
const COLLECTORS: [&str; 3] = ["burst", "slow", "system"];

/// A view whose table `collector` holds rows 0, 1, 2 …, some in files and the later ones in memory.
struct Fixture {
    folder: Arc<TempDir>,
    labels: Labels,
    /// The host of what is added next.
    host: &'static str,
    files: Vec<Arc<DataFile>>,
    hot: Vec<Arc<HotBatch>>,
    end: i64,
}

impl Fixture {
    fn new() -> Fixture {
        let labels = Labels::default();
        // Values of the dictionary that no row uses, in front of, between and behind those that are used.
        for text in ["aaa", "burst", "middle", "slow", "system", "zzz"] {
            labels.intern(text);
        }
        let folder = Arc::new(TempDir::new().unwrap());
        Fixture { folder, labels, host: HOST, files: Vec::new(), hot: Vec::new(), end: 0 }
    }

    /// With a file for each of `files` and a batch for each of `hot`, of so many rows.
    fn of(files: &[i64], hot: &[i64]) -> Fixture {
        let mut fixture = Fixture::new();
        files.iter().for_each(|rows| fixture.add_file(*rows));
        hot.iter().for_each(|rows| fixture.add_hot(*rows));
        fixture
    }

    fn batch(&mut self, count: i64) -> (RecordBatch, (i64, i64)) {
        let rows: Vec<Collector> = (self.end..self.end + count)
            .map(|row| Collector {
                collector: self.labels.intern(COLLECTORS[usize::try_from(row).unwrap() % 3]),
                ticks: row,
                scheduled_ticks: 2 * row,
                ..Collector::absent(START_US + 1_000 * row)
            })
            .collect();
        let columns = columns(&[&rows], &self.labels.dictionary());
        let range = (START_US + 1_000 * self.end, START_US + 1_000 * (self.end + count - 1));
        self.end += count;
        (RecordBatch::try_new(Collector::TABLE.schema(), columns).unwrap(), range)
    }

    fn add_file(&mut self, rows: i64) {
        let first = u64::try_from(self.end).unwrap();
        let (batch, range) = self.batch(rows);
        let folder = self.folder.path().join(format!("host={}/date=2024-01-01", self.host.replace('/', "%2F")));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{first}.parquet"));
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1_000)).build();
        let options = ArrowWriterOptions::new().with_skip_arrow_metadata(true).with_properties(properties);
        let mut writer =
            ArrowWriter::try_new_with_options(File::create(&path).unwrap(), batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let bytes = path.metadata().unwrap().len();
        let count = batch.num_rows() as u64;
        self.files.push(Arc::new(DataFile::new(path, (first, first + count), count, bytes, range)));
    }

    fn add_hot(&mut self, rows: i64) {
        let first_seq = u64::try_from(self.end).unwrap();
        let (batch, time_range) = self.batch(rows);
        self.hot.push(Arc::new(HotBatch { first_seq, host: self.host.into(), batch, time_range }));
    }

    fn view(&self) -> Arc<View> {
        let mut view = View::empty();
        let family = FamilyId::of::<Collector>();
        view.tables[family] = Arc::new(TableView {
            hot: self.hot.clone(),
            files: Arc::new(self.files.clone()),
            ..TableView::clone(&view.tables[family])
        });
        Arc::new(view)
    }

    /// An engine over the view. It keeps the files.
    fn engine(&self, settings: QuerySettings) -> Engine {
        let (view, folder) = (self.view(), Arc::clone(&self.folder));
        let view = move || {
            let _kept = Arc::clone(&folder);
            Arc::clone(&view)
        };
        Engine::new(Arc::new(view), settings).unwrap()
    }
}

fn settings() -> QuerySettings {
    QuerySettings::default()
}

async fn collect(engine: &Engine, sql: &str) -> Result<Vec<RecordBatch>, QueryError> {
    engine.execute(sql).await?.try_collect().await
}

/// All rows as text, columns separated by a blank.
async fn rows(engine: &Engine, sql: &str) -> Vec<String> {
    let batches = collect(engine, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let options = FormatOptions::default().with_null("null");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" "));
        }
    }
    rows
}

async fn one(engine: &Engine, sql: &str) -> String {
    let rows = rows(engine, sql).await;
    assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
    rows[0].clone()
}

async fn refusal(engine: &Engine, sql: &str) -> QueryError {
    match collect(engine, sql).await {
        Ok(batches) => panic!("{sql} gave {} batches", batches.len()),
        Err(error) => error,
    }
}

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

/// Rows of [`HOST`], and then of the hosts `b` and `c`: each has 1,500 in files and 500 in memory.
fn three_hosts() -> Fixture {
    let mut fixture = Fixture::new();
    for host in [HOST, "b", "c"] {
        fixture.host = host;
        [1_000, 500].into_iter().for_each(|rows| fixture.add_file(rows));
        [200, 300].into_iter().for_each(|rows| fixture.add_hot(rows));
    }
    fixture
}

#[tokio::test]
async fn every_row_has_the_host_that_recorded_it() {
    let engine = three_hosts().engine(settings());
    for (sql, expected) in [
        (
            "SELECT host, count(*), min(ticks) FROM collector GROUP BY host ORDER BY 3",
            "a b/#1 2000 0|b 2000 2000|c 2000 4000",
        ),
        ("SELECT count(*) FROM collector WHERE host = 'b'", "2000"),
        ("SELECT min(ticks), max(ticks) FROM collector WHERE host IN ('b', 'nobody')", "2000 3999"),
        ("SELECT count(*) FROM collector WHERE host <> 'b' AND ticks % 2 = 0", "2000"),
        ("SELECT count(*) FROM collector WHERE host LIKE 'a%'", "2000"),
        ("SELECT count(*) FROM collector WHERE upper(host) = 'B' OR ticks = 0", "2001"),
        ("SELECT count(*) FROM collector WHERE host = 'nobody'", "0"),
        ("SELECT count(*) FROM collector WHERE host IS NULL", "0"),
        ("SELECT min(host), max(host), count(DISTINCT host) FROM collector", "a b/#1 c 3"),
        ("SELECT DISTINCT host FROM collector WHERE ticks BETWEEN 1999 AND 2000 ORDER BY 1", "a b/#1|b"),
        ("SELECT host, ticks, host AS again FROM collector ORDER BY ticks DESC LIMIT 1", "c 5999 c"),
        (
            "SELECT a.host, count(*) FROM collector a JOIN collector b USING (host, ticks) GROUP BY 1 ORDER BY 1 DESC LIMIT 1",
            "c 2000",
        ),
    ] {
        assert_eq!(rows(&engine, sql).await.join("|"), expected, "{sql}");
    }
    let schema = engine.prepare("SELECT * FROM collector").await.unwrap().schema;
    let last = schema.fields().last().unwrap();
    assert_eq!((last.name().as_str(), last.data_type()), ("host", &DataType::Utf8));
    let asked = "SELECT data_type, is_nullable FROM information_schema.columns WHERE table_name = 'gap' AND column_name = 'host'";
    assert_eq!(one(&engine, asked).await, "text NO");
    let all = collect(&engine, "SELECT * FROM collector").await.unwrap();
    assert_eq!(all.iter().map(RecordBatch::num_rows).sum::<usize>(), 6_000);
    assert!(all.iter().all(|batch| batch.schema() == schema));
}

#[tokio::test]
async fn a_statement_about_a_host_opens_no_file_of_another() {
    let fixture = three_hosts();
    fixture.files.iter().filter(|file| file.host() != "b").for_each(|file| std::fs::remove_file(&file.path).unwrap());
    let engine = fixture.engine(settings());
    for condition in ["host = 'b'", "host IN ('b')", "host NOT IN ('c', 'a b/#1')", "'b' = host AND ticks > 0"] {
        let sql = format!("SELECT sum(ticks) FROM collector WHERE {condition}");
        assert_eq!(one(&engine, &sql).await, (2_000..4_000).sum::<i64>().to_string(), "{sql}");
    }
    refusal(&engine, "SELECT sum(ticks) FROM collector WHERE host <= 'b'").await;
}

#[tokio::test]
async fn counters_of_different_hosts_are_different_counters() {
    let engine = three_hosts().engine(settings());
    for (sql, expected) in [
        ("SELECT host, increase(ticks, time) FROM collector GROUP BY host ORDER BY 1", "a b/#1 1999|b 1999|c 1999"),
        ("SELECT increase(ticks, time), rate(ticks, time) FROM collector WHERE host = 'b'", "1999 1000.0"),
        (
            "SELECT host, collector, increase(ticks, time) FROM collector WHERE ticks < 4000 GROUP BY 1, 2 ORDER BY 1, 2",
            "a b/#1 burst 1998|a b/#1 slow 1998|a b/#1 system 1995|b burst 1998|b slow 1995|b system 1998",
        ),
        ("SELECT max(more) FROM (SELECT increase(c.ticks, c.time) AS more FROM collector c GROUP BY c.host)", "1999"),
        ("SELECT DISTINCT increase(ticks, time) OVER (PARTITION BY host) FROM collector", "1999"),
        (
            "WITH one AS (SELECT * FROM collector) SELECT count(*) FROM (SELECT rate(ticks, time) FROM one GROUP BY host)",
            "3",
        ),
        (
            "SELECT increase(ticks, time) FILTER (WHERE host = 'c') + 1 AS more FROM collector HAVING increase(ticks, time) FILTER (WHERE host = 'c') > 0",
            "2000",
        ),
    ] {
        assert_eq!(rows(&engine, sql).await.join("|"), expected, "{sql}");
    }
    for sql in [
        "SELECT increase(ticks, time) FROM collector",
        "SELECT collector, rate(ticks, time) FROM collector GROUP BY collector",
        "SELECT increase(ticks, time) OVER () FROM collector",
        "SELECT ticks FROM collector WHERE ticks < (SELECT increase(ticks, time) FROM collector)",
        "SELECT increase(x.ticks, x.time) FROM (SELECT ticks, time, host FROM collector WHERE ticks > 1) AS x",
    ] {
        let error = refusal(&engine, sql).await.to_string();
        assert!(error.contains("are not one counter") && error.contains("WHERE host = '"), "{sql}: {error}");
    }
    let error = refusal(&engine, "SELECT increase(ticks, time, host) FROM collector GROUP BY host").await.to_string();
    assert!(error.contains("two arguments"), "{error}");
}

/// Queries whose rows have left out `host`, each with its increase over one host of [`three_hosts`].
const WITHOUT_HOST: &[(&str, &str)] = &[
    ("SELECT increase(ticks, time) FROM (SELECT ticks, time FROM collector)", "1999"),
    (
        "WITH a AS (SELECT time AS t, ticks AS c FROM collector), b AS (SELECT c, t FROM a) SELECT rate(c, t) FROM b",
        "1000.0",
    ),
    (
        "SELECT increase(x.more, x.time) FROM (SELECT ticks * 2 AS more, time FROM collector WHERE ticks >= 0) AS x",
        "3998",
    ),
    ("SELECT increase(ticks, time) FROM (SELECT ticks, time FROM collector ORDER BY ticks DESC LIMIT 5000)", "1999"),
    ("SELECT increase(ticks, time) FROM (SELECT DISTINCT ticks, time FROM collector)", "1999"),
    (
        "SELECT increase(ticks, time) FROM (SELECT DISTINCT ON (ticks) ticks, time FROM collector ORDER BY ticks)",
        "1999",
    ),
    (
        "SELECT increase(ticks, time) FROM (SELECT ticks, time FROM collector UNION ALL SELECT ticks, time FROM collector)",
        "1999",
    ),
    (
        "SELECT increase(ticks, time) FROM (SELECT 7 AS ticks, now() AS time WHERE false UNION SELECT ticks, time FROM collector)",
        "1999",
    ),
    (
        "SELECT increase(most, bin) FROM (SELECT max(ticks) AS most, date_bin(interval '100 ms', time) AS bin FROM collector GROUP BY bin)",
        "1900",
    ),
    (
        "SELECT increase(most, bin) FROM (SELECT max(ticks) AS most, date_bin(interval '1 s', time) AS bin, count(*) FROM collector \
         GROUP BY GROUPING SETS ((bin), (bin, host)))",
        "1000",
    ),
    (
        "SELECT increase(ticks, time), rate(more, time) FROM (SELECT a.ticks, a.time, b.scheduled_ticks AS more FROM collector a \
         JOIN collector b ON a.ticks = b.ticks)",
        "1999 2000.0",
    ),
    (
        "SELECT increase(ticks + before, time) FROM (SELECT time, ticks, lag(ticks) OVER (ORDER BY time) AS before FROM collector)",
        "3996",
    ),
    ("SELECT DISTINCT increase(ticks, time) OVER () AS more FROM (SELECT ticks, time FROM collector)", "1999"),
    (
        "SELECT (SELECT increase(ticks, time) FROM (SELECT ticks, time FROM collector)) AS more FROM generate_series(1, 1)",
        "1999",
    ),
    (
        "SELECT increase(ticks, time) FROM (SELECT ticks, time FROM collector WHERE time IN (SELECT time FROM collector)) \
         HAVING count(*) > 1 AND increase(ticks, time) > 0",
        "1999",
    ),
    (
        "SELECT increase(ticks, time) FROM (SELECT ticks, time FROM collector INTERSECT SELECT ticks, time FROM collector)",
        "1999",
    ),
];

#[tokio::test]
async fn rows_without_their_host_are_still_of_one() {
    let (mut one, three) = (Fixture::new(), three_hosts().engine(settings()));
    [1_000, 500].into_iter().for_each(|rows| one.add_file(rows));
    [200, 300].into_iter().for_each(|rows| one.add_hot(rows));
    let one = one.engine(settings());
    for (sql, expected) in WITHOUT_HOST {
        assert_eq!(self::one(&one, sql).await, *expected, "{sql}");
        let error = refusal(&three, sql).await.to_string();
        assert!(error.contains("are not one counter"), "{sql}: {error}");
        // With a condition at the table, they are right over many hosts too.
        let filtered =
            sql.replace("FROM collector", "FROM (SELECT * FROM collector WHERE host = 'a b/#1') AS collector");
        if !sql.contains("collector a") {
            assert_eq!(self::one(&three, &filtered).await, *expected, "{filtered}");
        }
    }
    for (sql, expected) in [
        // The host has another name, or is among the groups of an inner query.
        (
            "SELECT h, increase(c, time) FROM (SELECT host AS h, ticks AS c, time FROM collector) GROUP BY h ORDER BY h",
            "a b/#1 1999|b 1999|c 1999",
        ),
        (
            "SELECT increase(most, bin) FROM (SELECT host, max(ticks) AS most, date_bin(interval '1 s', time) AS bin \
             FROM collector GROUP BY host, bin) WHERE host = 'b'",
            "1000",
        ),
        // Rows of other hosts that a column keeps apart.
        (
            "SELECT ticks / 2000 AS which, increase(ticks, time), count(*) FROM (SELECT DISTINCT ticks, time FROM collector) \
             GROUP BY which ORDER BY which",
            "0 1999 2000|1 1999 2000|2 1999 2000",
        ),
        // Rows of no host.
        ("SELECT increase(value, to_timestamp(value)) FROM generate_series(1, 5)", "4"),
        (
            "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) \
             SELECT increase(i, to_timestamp(i)) FROM n",
            "2",
        ),
        ("SELECT increase(c, t) FROM (VALUES (1, now()), (4, now() + interval '1 s')) AS v (c, t)", "3"),
        (
            "SELECT * FROM (SELECT ticks, increase(ticks, time) OVER (PARTITION BY ticks / 2000) FROM (SELECT ticks, time FROM collector)) ORDER BY 1 LIMIT 1",
            "0 1999",
        ),
    ] {
        assert_eq!(rows(&three, sql).await.join("|"), expected, "{sql}");
    }
    // What the plan cannot carry a host through is refused, with a hint that helps.
    let recursive = |more: &str| {
        format!(
            "WITH RECURSIVE n AS (SELECT ticks, time{more} FROM collector WHERE host = 'b' UNION ALL \
             SELECT ticks + 1, time{more} FROM n WHERE ticks > 4000) SELECT increase(ticks, time) FROM n"
        )
    };
    let error = refusal(&three, &recursive("")).await.to_string();
    assert!(error.contains("add the column host"), "{error}");
    assert_eq!(self::one(&three, &recursive(", host")).await, "1999");
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
async fn functions_of_counters_work_in_sql() {
    let engine = Fixture::of(&[1_000, 1_000], &[1_000, 1_000]).engine(settings());
    for (sql, expected) in [
        ("SELECT increase(ticks, time) FROM collector", "3999"),
        ("SELECT rate(ticks, time) FROM collector", "1000.0"),
        (
            "SELECT rate(ticks, time), increase(scheduled_ticks, time) FROM collector WHERE collector = 'slow'",
            "1000.0 7992",
        ),
        ("SELECT increase(missed_ticks, time), rate(missed_ticks, time) FROM collector", "null null"),
        ("SELECT increase(ticks, time) FROM collector WHERE ticks = 5", "null"),
        ("SELECT rate(ticks, time) FROM collector WHERE ticks < 0", "null"),
        ("SELECT increase(CAST(ticks AS DOUBLE), time) FROM collector", "3999.0"),
        ("SELECT increase(ticks % 100, time) FROM collector", "3960"),
        ("SELECT rate(ticks, time) FILTER (WHERE collector = 'burst') FROM collector", "1000.0"),
        ("SELECT sum(r) FROM (SELECT rate(ticks, time) AS r FROM collector GROUP BY collector)", "3000.0"),
    ] {
        assert_eq!(one(&engine, sql).await, expected, "{sql}");
    }
    let bins = "SELECT increase(ticks, time) FROM collector GROUP BY collector, date_bin(interval '1 second', time)";
    assert_eq!(rows(&engine, bins).await.len(), 12);
    for (sql, text) in [
        ("SELECT rate(ticks) FROM collector", "two arguments"),
        ("SELECT rate(collector, time) FROM collector", "the counter must be a number"),
        ("SELECT rate(ticks, ticks) FROM collector", "the time must be a timestamp"),
        ("SELECT rate(DISTINCT ticks, time) FROM collector", "DISTINCT"),
    ] {
        let error = refusal(&engine, sql).await.to_string();
        assert!(error.contains(text), "{sql}: {error}");
    }
}

#[tokio::test]
async fn mistakes_are_told_with_what_would_be_right() {
    let engine = Fixture::of(&[10], &[10]).engine(settings());
    for (sql, texts) in [
        ("SELECT * FROM cpus", vec!["unknown table `cpus`; did you mean `cpu`?"]),
        ("SELECT * FROM 'file.parquet'", vec!["unknown table", "file.parquet", "`collector`, `kymo`, `gap`"]),
        ("SELECT * FROM \"/etc/passwd\"", vec!["unknown table"]),
        ("SELECT * FROM other.public.cpu", vec!["unknown table `other.public.cpu`"]),
        ("SHOW COLUMNS FROM nothing", vec!["nothing"]),
        ("DESCRIBE nothing", vec!["nothing"]),
        ("SELECT tick FROM collector", vec!["tick", "ticks"]),
        ("SELECT foo(1)", vec!["foo"]),
        ("SELECT CAST(collector AS BIGINT) FROM collector", vec!["Cannot cast string '", "write a value of that type"]),
        ("SELECT nothing_like_it(ticks) FROM collector", vec!["no function `nothing_like_it`"]),
        ("SELECT collector FROM collector WHERE collector = \"slow\"", vec!["'slow'"]),
        ("SELECT ticks, count(*) FROM collector", vec!["GROUP BY"]),
        ("SELECT * FROM read_csv('x')", vec!["read_csv is refused", "generate_series(…)"]),
        ("DROP TABLE cpu", vec!["DROP is refused", "SELECT"]),
    ] {
        let error = refusal(&engine, sql).await.to_string();
        for text in texts {
            assert!(error.contains(text), "{sql}: {error}");
        }
    }
    assert_eq!(one(&engine, "SELECT count(*) FROM collector").await, "20");
    assert_eq!(one(&engine, "SELECT sum(value) FROM generate_series(1, 10)").await, "55");
    assert_eq!(one(&engine, "SELECT lpad('7', 3, '0')").await, "007");
}

#[tokio::test]
async fn clients_find_the_tables_in_the_information_schema() {
    let engine = Fixture::new().engine(settings());
    let sql = "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables \
               WHERE table_schema = 'public' ORDER BY table_name";
    let mut expected: Vec<_> =
        Named::all().map(|named| format!("kymo public {} BASE TABLE", named.table.name)).collect();
    expected.sort();
    assert_eq!(rows(&engine, sql).await, expected);
    let columns = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'gap'";
    assert!(rows(&engine, columns).await.contains(&"collector text".to_owned()));
    assert_eq!(rows(&engine, "DESCRIBE gap").await, rows(&engine, "SHOW COLUMNS FROM kymo.public.gap").await);
    assert_eq!(one(&engine, "SELECT count(*) FROM kymo.public.collector").await, "0");
}

#[tokio::test]
async fn statements_have_the_meaning_that_people_expect() {
    let engine = Fixture::of(&[10], &[10]).engine(settings());
    for (sql, expected) in [
        ("SELECT -2 ^ 2", "4.0"),
        ("SELECT 7 / 0", "null"),
        ("SELECT true IS DISTINCT FROM true AND false", "false"),
        ("SELECT count(*) FROM collector WHERE collector = 0", "0"),
        ("SELECT count(*) FROM collector WHERE collector SIMILAR TO 's(low|ystem)'", "13"),
        ("SELECT max(ticks) FROM collector WHERE ticks <= ALL (SELECT ticks FROM collector)", "0"),
        ("SELECT 1 >= ALL (SELECT x FROM (VALUES (1), (NULL)) t(x))", "null"),
        ("SELECT 3 > ANY (SELECT x FROM (VALUES (1), (NULL)) t(x))", "true"),
        ("SELECT 3 > ALL (SELECT x FROM (VALUES (1)) t(x) WHERE x > 1)", "true"),
        (
            "SELECT string_agg(x::text, '' ORDER BY x) FROM (SELECT * FROM (VALUES (1), (1), (2)) a(x) EXCEPT ALL VALUES (1)) t",
            "12",
        ),
        ("SELECT k FROM (VALUES (1)) a(k) RIGHT JOIN (VALUES (2)) b(k) USING (k)", "2"),
        ("SELECT sum(k) FROM (VALUES (1)) a(k) FULL JOIN (VALUES (2)) b(k) USING (k)", "3"),
        ("SELECT row_number() OVER () - 3 FROM (VALUES (1))", "-2"),
        ("SELECT lag(x, 1, x) OVER (ORDER BY x) FROM (VALUES (7)) t(x)", "7"),
        ("SELECT x FROM (VALUES (2), (NULL), (1)) t(x) ORDER BY x DESC LIMIT 1", "2"),
        ("SELECT ticks * 2 AS twice FROM collector WHERE twice = 38", "38"),
        ("SELECT arg_max(collector, ticks) FROM collector", "slow"),
        (
            "SELECT max(before) FROM (SELECT a.ticks, (SELECT count(*) FROM collector b WHERE b.ticks < a.ticks) AS before \
             FROM collector a) t",
            "19",
        ),
        (
            "SELECT min(before) FROM (SELECT a.ticks, (SELECT count(*) FROM collector b WHERE b.ticks < a.ticks) AS before \
             FROM collector a) t",
            "0",
        ),
        (
            "SELECT string_agg(l.ticks::text, ' ' ORDER BY l.ticks) FROM (SELECT DISTINCT collector FROM collector) d, \
             LATERAL (SELECT ticks FROM collector c WHERE c.collector = d.collector ORDER BY ticks DESC LIMIT 1) l",
            "17 18 19",
        ),
        ("SELECT DISTINCT length('ab') FROM collector ORDER BY length('ab')", "2"),
        ("SELECT current_schema, version() LIKE 'kymo %', pg_typeof(1.5)", "public true double precision"),
        ("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE relname = 'cpu'", "1"),
        ("SELECT min(ordinal_position) FROM information_schema.columns", "1"),
        ("SELECT count(*) FROM information_schema.views", "0"),
        ("SHOW TABLES LIKE 'netw%k'", "kymo public network BASE TABLE"),
        ("SHOW search_path", "public"),
    ] {
        assert_eq!(one(&engine, sql).await, expected, "{sql}");
    }
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
async fn a_file_stays_while_a_query_reads_it() {
    let fixture = Fixture::of(&[100], &[]);
    let view = fixture.view();
    let weak = Arc::downgrade(&view);
    let source = std::sync::Mutex::new(Some(view));
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

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
