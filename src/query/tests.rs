//! The engine over views made by hand: rows in memory, and in files as the store writes them.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

use super::*;
use crate::family;
use crate::record::Record;
use crate::record::label::Labels;
use crate::sampler::report::Collector;
use crate::store::lake::DataFile;
use crate::store::{HotBatch, TableView};

/// Time of row 0: 2024-01-01T00:00:00Z. Each row is one millisecond later than the row before.
const START_US: i64 = 1_704_067_200_000_000;
const COLLECTORS: [&str; 3] = ["burst", "slow", "system"];

/// A view whose table `collector` holds rows 0, 1, 2 …, some in files and the later ones in memory.
struct Fixture {
    folder: TempDir,
    labels: Labels,
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
        Fixture { folder: TempDir::new().unwrap(), labels, files: Vec::new(), hot: Vec::new(), end: 0 }
    }

    /// With a file for each of `files` and a batch for each of `hot`, of so many rows.
    fn of(files: &[i64], hot: &[i64]) -> Fixture {
        let mut fixture = Fixture::new();
        for rows in files {
            fixture.add_file(*rows);
        }
        for rows in hot {
            fixture.add_hot(*rows);
        }
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
        let columns = Collector::columns(&[&rows], &self.labels.values());
        let range = (START_US + 1_000 * self.end, START_US + 1_000 * (self.end + count - 1));
        self.end += count;
        (RecordBatch::try_new(Collector::TABLE.schema(), columns).unwrap(), range)
    }

    fn add_file(&mut self, rows: i64) {
        let first = u64::try_from(self.end).unwrap();
        let (batch, range) = self.batch(rows);
        // A path with what URLs and object stores treat in special ways.
        let folder = self.folder.path().join("host=a b%2F#1");
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
        self.hot.push(Arc::new(HotBatch { first_seq, batch, time_range }));
    }

    fn view(&self) -> Arc<View> {
        let mut view = View::empty();
        let (position, family) = family::find("collector").unwrap();
        view.tables[position] =
            Arc::new(TableView { family, hot: self.hot.clone(), files: Arc::new(self.files.clone()), latest: None });
        Arc::new(view)
    }

    fn engine(&self, settings: QuerySettings) -> Engine {
        let view = self.view();
        Engine::new(Arc::new(move || Arc::clone(&view)), settings).unwrap()
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

#[tokio::test]
async fn labels_are_the_same_from_memory_and_files() {
    let fixture = Fixture::of(&[300], &[300]);
    let engine = fixture.engine(settings());
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
    let fixture = Fixture::of(&[1_000, 1_000, 1_000], &[1_000, 1_000]);
    let engine = fixture.engine(settings());
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
            .filter(|file| plan.contains(&format!("{}000.parquet", file)) || *file == 0 && plan.contains("/0.parquet"))
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
    let fixture = Fixture::of(&[10_000], &[]);
    let engine = fixture.engine(settings());
    let sql = "EXPLAIN ANALYZE SELECT sum(ticks) FROM collector WHERE time >= '2024-01-01T00:00:09Z'";
    let plan = rows(&engine, sql).await.join("\n");
    assert!(plan.contains("row_groups_pruned_statistics=10 total → 1 matched"), "{plan}");
}

#[tokio::test]
async fn rows_are_counted_without_reading_them() {
    let fixture = Fixture::of(&[1_000, 1_000], &[1_000]);
    let engine = fixture.engine(settings());
    let plan = rows(&engine, "EXPLAIN SELECT count(*) FROM collector").await.join("\n");
    assert!(plan.contains("PlaceholderRowExec") && !plan.contains("parquet"), "{plan}");
}
