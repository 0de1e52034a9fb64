//! Rows that carry their own number, and a look at which of them a store has.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use kymo::batch::to_batch;
use kymo::family::FamilyId;
use kymo::family::tables::TableId;
use kymo::record::Record;
use kymo::record::label::Labels;
use kymo::record::tier::Tier;
use kymo::sampler::report::{Collector, Gap};
use kymo::store::disk::Disk;
use kymo::store::{Append, Appender, Loss, Opened, Store, StoreSettings, View};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// From one row to the next: some hundred rows are an hour.
const DISTANCE_US: i64 = 10_000_000;
/// The series of the table `collector`.
const SERIES: i64 = 7;
/// A whole hour.
const START_US: i64 = 1_790_000_000 / 3600 * 3600 * 1_000_000;
/// Compaction merges the files of such a period.
pub const WINDOW: Duration = Duration::from_secs(1800);

/// The tables that have rows here, and the column of each that has a row's number.
pub const TABLES: [(FamilyId, &str); 2] = [(FamilyId::of::<Gap>(), "lost"), (FamilyId::of::<Collector>(), "ticks")];

pub fn settings(path: &Path) -> StoreSettings {
    StoreSettings {
        journal_sync_interval: Duration::from_secs(3600),
        compaction_interval: Some(WINDOW),
        ..StoreSettings::unlimited(path, "test")
    }
}

/// A store whose journal is written.
pub struct Running {
    pub store: Arc<Store>,
    appender: Mutex<Appender>,
    pub opened: Opened,
    threads: Vec<JoinHandle<()>>,
    labels: [Labels; 2],
}

impl Running {
    pub fn open(disk: Arc<dyn Disk>, settings: StoreSettings) -> Running {
        let (store, appender, opened) = Store::open_on(disk, settings).unwrap();
        let appender = Mutex::new(appender);
        store.set_source(FamilyId::of::<Collector>(), "c", Duration::from_millis(1));
        let (writes, syncs) = store.start_journal();
        let threads = vec![thread::spawn(writes), thread::spawn(syncs)];
        Running { store, appender, opened, threads, labels: Default::default() }
    }

    /// Appends `rows` rows to each of the tables, numbered from `first` on, and waits until they are shown.
    pub fn append(&self, first: [u64; 2], rows: u64) -> Vec<Loss> {
        let mut losses = self.hand_over(first, rows);
        let mut appender = self.appender.lock().unwrap();
        while appender.is_waiting() {
            thread::sleep(Duration::from_millis(1));
            assert!(appender.submit(Vec::new()).is_empty(), "rows are handed over twice");
            appender.show();
        }
        losses.extend(appender.take_losses());
        losses
    }

    /// Appends rows of any tables, and waits until they are shown.
    #[allow(dead_code, reason = "the kills have no use for it")]
    pub fn append_all(&self, appends: Vec<Append>) {
        let mut appender = self.appender.lock().unwrap();
        appender.append(appends);
        while appender.is_waiting() {
            thread::sleep(Duration::from_millis(1));
            appender.show();
        }
    }

    /// Appends as [`append`](Self::append) does and as a drain does, without waiting.
    pub fn hand_over(&self, first: [u64; 2], rows: u64) -> Vec<Loss> {
        let [gaps, collectors] = &self.labels;
        let number = |first: u64| (first..first + rows).map(u64::cast_signed);
        let gap = |number: i64| Gap {
            collector: gaps.intern(&format!("c{}", number % 7)),
            reason: gaps.intern(&format!("r{}", number % 300)),
            lost: number,
            ..Gap::absent(time(number))
        };
        let collector = |number: i64| Collector {
            collector: collectors.intern(&format!("c{}", number % SERIES)),
            ticks: number,
            ..Collector::absent(time(number))
        };
        let gap_rows: Vec<Gap> = number(first[0]).map(gap).collect();
        let collector_rows: Vec<Collector> = number(first[1]).map(collector).collect();
        let mut appender = self.appender.lock().unwrap();
        let submitted = appender.submit(vec![
            append(FamilyId::of::<Gap>(), to_batch(&[&gap_rows], gaps, &Gap::TABLE.schema())),
            append(FamilyId::of::<Collector>(), to_batch(&[&collector_rows], collectors, &Collector::TABLE.schema())),
        ]);
        // Each row once, also while earlier ones wait for a disk that hangs.
        assert!(submitted.len() == 2 && submitted.iter().all(|(_, new)| new.batch.num_rows() as u64 == rows));
        appender.show();
        appender.take_losses()
    }

    pub fn close(self) {
        self.store.stop_journal();
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn append(family: FamilyId, batch: RecordBatch) -> Append {
    Append { family, batch }
}

/// The time of the row of this number, µs.
pub fn time(number: i64) -> i64 {
    START_US + number * DISTANCE_US
}

/// By tier of the table `collector`: how many rows its buckets are made of, and the sum of the increases of `ticks`, which the rows
/// have their number in.
pub fn in_tiers(view: &View) -> [(i64, i64); 2] {
    let table = &view.tables[FamilyId::of::<Collector>()];
    Tier::ALL.map(|tier| {
        let id = TableId::of_tier(table.family, tier).unwrap();
        let columns = ["ticks", "ticks_increase"].map(|name| id.table().column(name).unwrap().0);
        let open = view.open_buckets(id, &columns).unwrap();
        let mut batches: Vec<RecordBatch> = open.into_iter().map(|(_, batch, _)| batch).collect();
        for file in table.files_of(Some(tier)).iter() {
            let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file.path).unwrap()).unwrap();
            batches.extend(builder.build().unwrap().map(Result::unwrap));
        }
        let sum = |name: &str| {
            let column = |batch: &RecordBatch| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
            batches.iter().filter_map(|batch| arrow::compute::sum(&column(batch))).sum::<i64>()
        };
        (sum("ticks"), sum("ticks_increase"))
    })
}

/// The same of rows numbered from 0 on, of which there are `rows`.
pub fn of_rows(rows: u64) -> (i64, i64) {
    let rows = rows.cast_signed();
    let increase = |series: i64| (series < rows).then(|| (rows - 1 - series) / SERIES * SERIES);
    (rows, (0..SERIES).filter_map(increase).sum())
}

/// By table: the numbers of the rows that a view has in memory and files, in order. Panics at a row with wrong values.
pub fn numbers(view: &View) -> [Vec<u64>; 2] {
    TABLES.map(|(family, number)| {
        let table = &view.tables[family];
        let mut numbers = Vec::new();
        for file in table.files.iter() {
            let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file.path).unwrap()).unwrap();
            let before = numbers.len();
            for batch in builder.build().unwrap() {
                take(&batch.unwrap(), number, &mut numbers);
            }
            assert_eq!((numbers.len() - before) as u64, file.end_seq - file.first_seq);
        }
        for hot in &table.hot {
            take(&hot.batch, number, &mut numbers);
        }
        numbers.sort_unstable();
        numbers
    })
}

fn take(batch: &RecordBatch, number: &str, numbers: &mut Vec<u64>) {
    let found = batch.column_by_name(number).unwrap().as_primitive::<Int64Type>();
    let times = batch.column_by_name("time").unwrap().as_primitive::<TimestampMicrosecondType>();
    let names = arrow::compute::cast(batch.column_by_name("collector").unwrap(), &arrow::datatypes::DataType::Utf8);
    let names = names.unwrap();
    for row in 0..batch.num_rows() {
        let number = found.value(row);
        assert_eq!(times.value(row), time(number));
        assert_eq!(names.as_string::<i32>().value(row), format!("c{}", number % 7));
        assert!(!found.is_null(row));
        numbers.push(number.cast_unsigned());
    }
}
