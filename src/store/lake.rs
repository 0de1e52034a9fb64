//! The lake: the Parquet files of a data folder, found at start and kept in the view from then on.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;

use crate::family::FAMILIES;

use super::disk::{Disk, DiskError, create_folders, step};
use super::journal::JOURNAL;
use super::lock::FolderLock;
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
    /// Set when no view but those already taken shows the file: where it is to be deleted.
    given_up: OnceLock<Arc<dyn Disk>>,
}

impl DataFile {
    /// A published file with the rows `sequence.0..sequence.1`.
    #[must_use]
    pub fn new(path: PathBuf, sequence: (u64, u64), rows: u64, bytes: u64, time_range: (i64, i64)) -> DataFile {
        let (first_seq, end_seq) = sequence;
        DataFile { path, first_seq, end_seq, rows, bytes, time_range, given_up: OnceLock::new() }
    }

    /// Has the file deleted from `disk` when the last view that shows it is dropped.
    pub(super) fn give_up(&self, disk: &Arc<dyn Disk>) {
        // It is given up once.
        let _ = self.given_up.set(Arc::clone(disk));
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        let Some(disk) = self.given_up.get() else { return };
        let removed = step("lake.delete").and_then(|()| disk.remove(&self.path));
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // It is found again at the next start, and is old or superseded then as it is now.
                tracing::warn!(file = %self.path.display(), %error, "delete a file that is not needed any more");
            }
            // A day without files needs no folder; that of a day with others stays.
            _ => self.path.parent().into_iter().for_each(|folder| _ = disk.remove_folder(folder)),
        }
    }
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
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
/// A lake is listed so often until nothing of what was listed vanishes meanwhile.
const SCANS_MAX: u32 = 5;

/// A data folder held by this process.
#[derive(Debug)]
pub struct Lake {
    root: PathBuf,
    lock: Arc<FolderLock>,
}

impl Lake {
    /// Makes the folder where it is missing, and takes it for this process.
    ///
    /// # Errors
    /// When the folder cannot be made or written, or when another process holds it.
    pub fn open(disk: &dyn Disk, data: &Path) -> Result<Lake, LakeError> {
        let (root, journal) = (data.join(LAKE), data.join(JOURNAL));
        // Folders above the data folder are made as they are missing, too.
        let above = data.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new(""));
        for folder in [&root, &journal] {
            create_folders(disk, above, folder)?;
        }
        Ok(Lake { root, lock: Arc::new(FolderLock::take(data)?) })
    }

    /// What holds the data folder.
    pub(super) fn lock(&self) -> &Arc<FolderLock> {
        &self.lock
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
    pub fn recover(&self, disk: &Arc<dyn Disk>, host: &str) -> Result<Scan, LakeError> {
        let mut scan = scan(&self.root, |table| Ok(vec![partition::host_folder(&self.root, table, host)]))?;
        scan.temporaries.retain(|path| disk.remove(path).is_ok());
        for path in &scan.superseded {
            // What has its rows was given its name, but maybe not on the device yet. What cannot be removed is at the next
            // start.
            let folder = path.parent().unwrap_or(&self.root);
            let _ = disk.sync_folder(folder).and_then(|()| disk.remove(path));
        }
        Ok(scan)
    }
}

/// What stands in a lake.
#[derive(Debug, Default)]
pub struct Scan {
    /// By position in [`FAMILIES`], in the order of sequence numbers.
    pub files: Vec<Vec<Arc<DataFile>>>,
    /// Files that kymo did not write or cannot read, and why. They are left alone.
    pub foreign: Vec<(PathBuf, String)>,
    /// Files that were never published. A daemon that starts removes them, unless it may not.
    pub temporaries: Vec<PathBuf>,
    /// Files all of whose rows another one has: a compaction was interrupted. A daemon that starts deletes them.
    pub superseded: Vec<PathBuf>,
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
    let hosts = |table: &str| Ok(entries(&root.join(table))?.into_iter().filter(|path| path.is_dir()).collect());
    let mut tries = 1;
    loop {
        let scan = scan(&root, hosts)?;
        // What was listed and is gone now was deleted by a daemon, which may have made another file of it.
        let is_gone = |(path, _): &(PathBuf, String)| path.symlink_metadata().is_err();
        if tries == SCANS_MAX || !scan.foreign.iter().any(is_gone) {
            return Ok(scan);
        }
        tries += 1;
    }
}

fn scan(root: &Path, hosts: impl Fn(&'static str) -> Result<Vec<PathBuf>, LakeError>) -> Result<Scan, LakeError> {
    let mut scan = Scan::default();
    for family in FAMILIES {
        let mut all = Vec::new();
        for host in hosts(family.name())? {
            let mut files = Vec::new();
            for day in entries(&host)? {
                if !day.is_dir() {
                    scan.foreign.push((day, "not a date= folder".into()));
                    continue;
                }
                for path in entries(&day)? {
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    if partition::is_temporary(name) {
                        scan.temporaries.push(path);
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
            let (files, superseded) = without_superseded(files);
            all.extend(files);
            scan.superseded.extend(superseded.iter().map(|file| file.path.clone()));
        }
        all.sort_by_key(|file| (file.first_seq, file.end_seq));
        scan.files.push(all);
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

/// The files of a host's table in the order of their sequence numbers, apart from those whose rows another one has.
fn without_superseded(mut files: Vec<Arc<DataFile>>) -> (Vec<Arc<DataFile>>, Vec<Arc<DataFile>>) {
    files.sort_by_key(|file| (file.first_seq, Reverse(file.end_seq)));
    let mut end_seq = 0;
    files.into_iter().partition(|file| {
        let has_more = file.end_seq > end_seq;
        end_seq = end_seq.max(file.end_seq);
        has_more
    })
}

/// What stands in a folder, in the order of names; nothing when there is no such folder.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, LakeError> {
    let io = |source| LakeError::from(DiskError::of("read folder", folder)(source));
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
