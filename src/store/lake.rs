//! The lake: the Parquet files of a data folder.

use std::path::PathBuf;

/// One published Parquet file. It never changes.
#[derive(Debug)]
pub struct DataFile {
    /// Where it is.
    pub path: PathBuf,
    /// Sequence number of its first row.
    pub first_seq: u64,
    /// One more than the sequence number of its last row.
    pub end_seq: u64,
    /// Number of rows.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Smallest and greatest `time`, µs.
    pub time_range: (i64, i64),
}
