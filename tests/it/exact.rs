//! Random statements over random rows give what a search through all rows gives, wherever the rows are: in memory, in files, in
//! merged files, and on the way from one to the other.
//!
//! - `KYMO_SEEDS`: ten statements for each; 30 unless set. `KYMO_EXACT_SEED` is the seed of the first recording; printed, and
//!   another in each run unless set.

mod data;
mod question;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use fastrand::Rng;
use futures::TryStreamExt;
use kymo::query::{Engine, QuerySettings};

use data::Data;
use question::{Question, Value, question};

const SEEDS: u64 = 30;
const STATEMENTS_A_SEED: u64 = 10;
/// Statements over the rows of one recording.
const STATEMENTS_A_RECORDING: u64 = 50;

#[test]
fn random_statements_are_exact() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("expected a number"));
    let first = number("KYMO_EXACT_SEED").unwrap_or_else(|| fastrand::u32(..).into());
    println!("KYMO_EXACT_SEED={first}");
    let statements = STATEMENTS_A_SEED * number("KYMO_SEEDS").unwrap_or(SEEDS);
    let recordings = statements.div_ceil(STATEMENTS_A_RECORDING);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for thread in (0..).take(threads) {
            scope.spawn(move || (first + thread..first + recordings).step_by(threads).for_each(ask));
        }
    });
    println!("{} statements over {recordings} recordings", recordings * STATEMENTS_A_RECORDING);
}

/// Records, and asks while the rows move from memory to files.
fn ask(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let data = Data::record(&mut random);
    let (store, ends) = (Arc::clone(&data.store), AtomicBool::new(false));
    let views = Arc::clone(&store);
    let engine = Engine::new(Arc::new(move || views.view()), QuerySettings::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let moves = random.bool();
    thread::scope(|scope| {
        scope.spawn(|| {
            while moves && !ends.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(20));
                store.flush().unwrap();
                store.compact(i64::MAX / 2, Duration::ZERO, &AtomicBool::new(false)).unwrap();
            }
        });
        let _end = OnDrop(&ends);
        for _ in 0..STATEMENTS_A_RECORDING {
            let Question { sql, rows, is_ordered } = question(&mut random, &data);
            let answer = runtime.block_on(async { engine.execute(&*sql).await?.try_collect::<Vec<_>>().await });
            let told = match answer {
                Ok(batches) => batches.iter().flat_map(values).collect::<Vec<_>>(),
                Err(error) => panic!("KYMO_EXACT_SEED={seed} KYMO_SEEDS=1: {sql}: {error}"),
            };
            let (told, expected) = if is_ordered { (told, rows) } else { (sorted(told), sorted(rows)) };
            let at = told.iter().zip(&expected).position(|(told, expected)| !is_equal(told, expected));
            let at = at.or((told.len() != expected.len()).then_some(told.len().min(expected.len())));
            if let Some(at) = at {
                let counts = (told.len(), expected.len());
                let (told, expected) = (told.get(at), expected.get(at));
                panic!(
                    "KYMO_EXACT_SEED={seed} KYMO_SEEDS=1: {sql}: row {at}: {told:?}, not {expected:?}; {counts:?} rows"
                );
            }
        }
    });
}

/// Ends the other thread, also if this one panics.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// By what is no float: those have no exact value, and no row is told apart by them alone.
fn sorted(mut rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    rows.sort_by_cached_key(|row| {
        row.iter()
            .filter(|value| !matches!(value, Value::Float(_)))
            .map(|value| format!("{value:?}"))
            .collect::<Vec<_>>()
    });
    rows
}

fn is_equal(told: &[Value], expected: &[Value]) -> bool {
    let is_equal = |(told, expected): (&Value, &Value)| match (told, expected) {
        (Value::Float(told), Value::Float(expected)) => (told - expected).abs() <= 1e-9 * expected.abs().max(1e-3),
        (told, expected) => told == expected,
    };
    told.len() == expected.len() && told.iter().zip(expected).all(is_equal)
}

fn values(batch: &RecordBatch) -> Vec<Vec<Value>> {
    let columns: Vec<Vec<Value>> = batch.columns().iter().map(column).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect()
}

fn column(column: &ArrayRef) -> Vec<Value> {
    let (ty, value): (DataType, fn(&ArrayRef, usize) -> Value) = match column.data_type() {
        DataType::Utf8 => (DataType::Utf8, |column, row| Value::Text(column.as_string::<i32>().value(row).into())),
        DataType::Float64 => {
            (DataType::Float64, |column, row| Value::Float(column.as_primitive::<Float64Type>().value(row)))
        }
        DataType::Timestamp(_, zone) => (DataType::Timestamp(TimeUnit::Microsecond, zone.clone()), |column, row| {
            let micros = cast(column, &DataType::Int64).unwrap();
            Value::Int(micros.as_primitive::<Int64Type>().value(row))
        }),
        _ => (DataType::Int64, |column, row| Value::Int(column.as_primitive::<Int64Type>().value(row))),
    };
    let column = cast(column, &ty).unwrap();
    (0..column.len()).map(|row| if column.is_null(row) { Value::Null } else { value(&column, row) }).collect()
}
