//! The engine over views made by hand: rows in memory, and in files as the store writes them.

mod bursts;
mod comparisons;
mod downsample;
mod functions;
mod hosts;
mod limits;
mod nulls;
mod numbers;
mod plan;
mod scan;
mod schema;
mod statement;
mod views;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

use super::*;
use crate::batch::columns::columns;
use crate::family::FamilyId;
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
        self.add_file_of(rows, 1_000);
    }

    /// Adds a file with row groups of so many rows.
    fn add_file_of(&mut self, rows: i64, group_rows: usize) {
        let first = u64::try_from(self.end).unwrap();
        let (batch, range) = self.batch(rows);
        let folder = self.folder.path().join(format!("host={}/date=2024-01-01", self.host.replace('/', "%2F")));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{first}.parquet"));
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
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

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
