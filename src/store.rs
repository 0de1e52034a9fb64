//! The store: batches in memory, Parquet files on disk, and one atomic view over both.
//!
//! Three kinds of threads meet here. The drain thread appends; the flush turns what is in memory into a file and
//! swaps one for the other; queries take the current [`View`] and keep it as long as they run. Every change makes
//! a new view and publishes it with one pointer swap, so a reader sees each record exactly once, whether it is
//! still in memory or long on disk.

pub mod lake;
pub mod partition;
pub mod retention;
pub mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use arrow::array::RecordBatch;

use crate::batch;
use crate::family::{FAMILIES, Family};
use lake::{DataFile, Lake, LakeError};

/// Batches of about equal size are merged when this many stand in a row, so a table in memory is a handful of
/// batches and each row is copied a few times only.
const MERGE_WIDTH: usize = 8;
/// Batches of this many rows are not merged any further.
const MERGED_ROWS_MAX: usize = 65_536;

/// Everything that can be queried at one moment, one entry a family, in the order of [`FAMILIES`].
#[derive(Clone, Debug)]
pub struct View {
    /// By position in [`FAMILIES`].
    pub tables: Vec<Arc<TableView>>,
}

/// One table at one moment.
#[derive(Clone, Debug)]
pub struct TableView {
    /// What table it is.
    pub family: &'static Family,
    /// Rows that are in no file, in the order they came.
    pub hot: Vec<Arc<HotBatch>>,
    /// Rows on disk, in the order of their sequence numbers.
    pub files: Arc<Vec<Arc<DataFile>>>,
    /// The newest drained rows: they stay here when a flush takes them out of `hot`.
    pub latest: Option<Arc<HotBatch>>,
}

/// Rows in memory with their place in the family's sequence.
#[derive(Debug)]
pub struct HotBatch {
    /// Sequence number of the first row; each row has one more than the row before.
    pub first_seq: u64,
    /// The rows.
    pub batch: RecordBatch,
    /// Smallest and greatest `time`, µs.
    pub time_range: (i64, i64),
}

impl HotBatch {
    /// The sequence number of the row after the last.
    #[must_use]
    pub fn end_seq(&self) -> u64 {
        self.first_seq + self.batch.num_rows() as u64
    }
}

impl View {
    /// A view without any row.
    #[must_use]
    pub fn empty() -> View {
        let table = |family| TableView { family, hot: Vec::new(), files: Arc::default(), latest: None };
        View { tables: FAMILIES.iter().map(|family| Arc::new(table(family))).collect() }
    }
}

/// What a store is given.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The data folder.
    pub path: PathBuf,
    /// The `host=` partition that this daemon writes.
    pub host: String,
    /// Rows in memory beyond this are dropped, oldest first, and counted.
    pub hot_bytes_max: u64,
    /// Files are deleted, oldest first, when all their rows are older than this.
    pub retention_age_max: Option<Duration>,
    /// Files are deleted, oldest first, while all of them together are larger than this.
    pub retention_bytes_max: Option<u64>,
}

/// Counters and sizes, for the `kymo` table and status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Rows in memory only.
    pub hot_rows: u64,
    /// Memory that they take.
    pub hot_bytes: u64,
    /// Size of all files.
    pub lake_bytes: u64,
    /// Number of files.
    pub lake_files: u64,
    /// Flushes that published what they had, since start.
    pub flushes: u64,
    /// Flushes that failed, since start.
    pub failed_flushes: u64,
    /// Rows dropped from memory at `hot_bytes_max`, since start.
    pub lost_rows: u64,
}

/// The store of a running daemon. Shared by its threads.
#[derive(Debug)]
pub struct Store {
    lake: Lake,
    settings: StoreSettings,
    view: ArcSwap<View>,
    /// Guards changes of `view` and the counters; held for moments only, never over I/O.
    state: Mutex<State>,
    /// One flush at a time: two would write the same rows twice.
    flushing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    tables: Vec<TableState>,
    flushes: u64,
    failed_flushes: u64,
    lost_rows: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct TableState {
    next_seq: u64,
    /// Rows before this belong to the flush under way: they are not merged with later ones.
    frozen_seq: u64,
    hot_bytes: u64,
    /// The interval of the collector that samples it, for the files' metadata.
    interval: Option<Duration>,
}
