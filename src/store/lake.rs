//! The lake: the Parquet files of a data folder, found at start and kept in the view from then on.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;

use crate::family::FAMILIES;

use super::partition;

/// One published Parquet file. It never changes; it is deleted when it was given up and its last reader is gone.
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
    /// Set when no view but those already taken shows the file.
    given_up: AtomicBool,
}

impl DataFile {
    /// A published file with the rows `sequence.0..sequence.1`.
    #[must_use]
    pub fn new(path: PathBuf, sequence: (u64, u64), rows: u64, bytes: u64, time_range: (i64, i64)) -> DataFile {
        let (first_seq, end_seq) = sequence;
        DataFile { path, first_seq, end_seq, rows, bytes, time_range, given_up: AtomicBool::new(false) }
    }

    /// Has the file deleted when the last view that shows it is dropped.
    pub(super) fn give_up(&self) {
        // Relaxed: dropping the last `Arc` orders this store before `drop`.
        self.given_up.store(true, Ordering::Relaxed);
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if *self.given_up.get_mut()
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %self.path.display(), %error, "delete a file past its retention");
        }
    }
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The file system refused.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another daemon records into it.
    #[error("data folder {} is in use by another kymo ({holder}); stop it or give this one another storage.path", path.display())]
    Held {
        /// The data folder.
        path: PathBuf,
        /// What the holder wrote into the lock file.
        holder: String,
    },
    /// There is no lake in it.
    #[error("{} holds no recordings: there is no folder {} in it", path.display(), LAKE)]
    NoLake {
        /// The folder.
        path: PathBuf,
    },
}

/// The folder of the Parquet files within the data folder.
pub const LAKE: &str = "lake";
const LOCK: &str = "LOCK";

/// A data folder held by this process.
#[derive(Debug)]
pub struct Lake {
    root: PathBuf,
    /// Holds the lock (flock(2)) as long as it is open; the kernel frees it however the process ends.
    _lock: File,
}

impl Lake {
    /// Makes the folder where it is missing, and takes it for this process.
    ///
    /// # Errors
    /// When the folder cannot be made or written, or when another process holds it.
    pub fn open(data: &Path) -> Result<Lake, LakeError> {
        let io = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| LakeError::Io { operation, path, source }
        };
        let root = data.join(LAKE);
        fs::create_dir_all(&root).map_err(io("create the data folder", &root))?;
        let lock_path = data.join(LOCK);
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(io("open the lock", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "unknown".into() } else { holder.trim().into() };
                return Err(LakeError::Held { path: data.into(), holder });
            }
            Err(TryLockError::Error(source)) => {
                return Err(LakeError::Io { operation: "lock", path: lock_path, source });
            }
        }
        let holder = format!("pid {}, since {}\n", std::process::id(), partition::timestamp(crate::sampler::wall_us()));
        lock.set_len(0).and_then(|()| lock.write_all(holder.as_bytes())).map_err(io("write the lock", &lock_path))?;
        Ok(Lake { root, _lock: lock })
    }

    /// The folder of the tables.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The files of one host, after removing what a killed process left half written.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn recover(&self, host: &str) -> Result<Scan, LakeError> {
        scan(&self.root, |table| Ok(vec![partition::host_folder(&self.root, table, host)]), true)
    }
}

/// What stands in a lake.
#[derive(Debug, Default)]
pub struct Scan {
    /// By position in [`FAMILIES`], in the order of sequence numbers.
    pub files: Vec<Vec<Arc<DataFile>>>,
    /// Files that kymo did not write or cannot read, and why. They are left alone.
    pub foreign: Vec<(PathBuf, String)>,
    /// Half-written files that were removed.
    pub removed: Vec<PathBuf>,
}

/// The files of all hosts in `data`, changing nothing; also while a daemon records there.
///
/// # Errors
/// When there is no lake or a folder cannot be read.
pub fn scan_read_only(data: &Path) -> Result<Scan, LakeError> {
    let root = data.join(LAKE);
    if !root.is_dir() {
        return Err(LakeError::NoLake { path: data.into() });
    }
    scan(&root, |table| Ok(entries(&root.join(table))?.into_iter().filter(|path| path.is_dir()).collect()), false)
}

fn scan(
    root: &Path,
    hosts: impl Fn(&'static str) -> Result<Vec<PathBuf>, LakeError>,
    remove_temporaries: bool,
) -> Result<Scan, LakeError> {
    let mut scan = Scan::default();
    for family in FAMILIES {
        let mut files = Vec::new();
        for host in hosts(family.name())? {
            for day in entries(&host)? {
                if !day.is_dir() {
                    scan.foreign.push((day, "not a date= folder".into()));
                    continue;
                }
                for path in entries(&day)? {
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    if partition::is_temporary(name) {
                        if remove_temporaries && fs::remove_file(&path).is_ok() {
                            scan.removed.push(path);
                        }
                        continue;
                    }
                    match partition::sequence_range(name) {
                        None => scan.foreign.push((path, "its name is not <start>_<first>-<last>.parquet".into())),
                        Some(sequence) => match open(&path, sequence) {
                            Ok(file) => files.push(Arc::new(file)),
                            Err(reason) => scan.foreign.push((path, reason)),
                        },
                    }
                }
            }
        }
        files.sort_by_key(|file| (file.first_seq, file.end_seq));
        scan.files.push(files);
    }
    for path in entries(root)? {
        let known =
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| crate::family::find(name).is_some());
        if !known {
            scan.foreign.push((path, "no table has this name".into()));
        }
    }
    Ok(scan)
}

/// What stands in a folder, in the order of names; nothing when there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, LakeError> {
    let io = |source| LakeError::Io { operation: "read folder", path: folder.into(), source };
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let mut paths = listing.map(|entry| Ok(entry.map_err(io)?.path())).collect::<Result<Vec<_>, LakeError>>()?;
    paths.sort();
    Ok(paths)
}

/// Reads a file's footer.
fn open(path: &Path, sequence: (u64, u64)) -> Result<DataFile, String> {
    let file = File::open(path).map_err(|error| format!("open: {error}"))?;
    let bytes = file.metadata().map_err(|error| format!("stat: {error}"))?.len();
    let metadata =
        ParquetMetaDataReader::new().parse_and_finish(&file).map_err(|error| format!("read its footer: {error}"))?;
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
    if rows != sequence.1 - sequence.0 {
        return Err(format!("it has {rows} rows, its name says {}", sequence.1 - sequence.0));
    }
    let time_range = time_range(&metadata).ok_or("it has no statistics of a column time")?;
    Ok(DataFile::new(path.into(), sequence, rows, bytes, time_range))
}

fn time_range(metadata: &ParquetMetaData) -> Option<(i64, i64)> {
    let mut range: Option<(i64, i64)> = None;
    for group in metadata.row_groups() {
        let column = group.columns().iter().find(|column| column.column_path().string() == "time")?;
        let Some(Statistics::Int64(statistics)) = column.statistics() else { return None };
        let (min, max) = (*statistics.min_opt()?, *statistics.max_opt()?);
        range = Some(range.map_or((min, max), |(low, high)| (low.min(min), high.max(max))));
    }
    range
}
