//! The lake: the Parquet files of a data folder, found at start and kept in the view from then on.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parquet::basic::{LogicalType, TimeUnit, Type as PhysicalType};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use crate::family::PerFamily;
use crate::family::tables::TableId;
use crate::record::tier::essential;

use super::data_folder::{FolderError, LAKE, entries, file_name, open_regular};
use super::disk::Disk;
use super::hot::span;
use super::partition;
use super::trash::Trash;

/// One published Parquet file. It never changes. A file that was given up is deleted once its last reader is gone.
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
    /// An older kymo made its rows, which are those of a tier, and they lack something that each row of it has now. So they are not
    /// merged with others, and nothing is worked out from them.
    pub is_older: bool,
    /// Set once no new view shows the file: where its path goes when the last view is dropped.
    given_up: OnceLock<Arc<Trash>>,
}

impl DataFile {
    /// A published file whose rows have the sequence numbers `sequence.0..sequence.1`.
    #[must_use]
    pub fn new(path: PathBuf, sequence: (u64, u64), rows: u64, bytes: u64, time_range: (i64, i64)) -> DataFile {
        let (first_seq, end_seq) = sequence;
        DataFile { path, first_seq, end_seq, rows, bytes, time_range, is_older: false, given_up: OnceLock::new() }
    }

    /// The same, of rows that may be of an older layout.
    #[must_use]
    pub fn older_if(mut self, is_older: bool) -> DataFile {
        self.is_older = is_older;
        self
    }

    /// The host whose rows it has: the name of its `host=` folder.
    #[must_use]
    pub fn host(&self) -> String {
        partition::host_of(&self.path)
    }

    /// Has the file deleted when the last view that shows it is dropped.
    pub(super) fn give_up(&self, trash: &Arc<Trash>) {
        // Only the first call counts.
        let _ = self.given_up.set(Arc::clone(trash));
    }

    /// Whether it has all rows of the other: its sequence numbers and times include the other's.
    fn has_rows_of(&self, other: &DataFile) -> bool {
        self.first_seq <= other.first_seq
            && other.end_seq <= self.end_seq
            && self.time_range.0 <= other.time_range.0
            && other.time_range.1 <= self.time_range.1
            && self.path.parent() == other.path.parent()
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        if let Some(trash) = self.given_up.get() {
            // This may be the thread of a query.
            trash.add(&self.path);
        }
    }
}

/// Rows of a file are read in batches of so many.
pub(super) const BATCH_ROWS: usize = 8_192;
/// If files vanish while a lake is listed, it is listed again, so often in all.
const SCANS_MAX: u32 = 5;

/// What was found in a lake.
#[derive(Debug, Default)]
pub struct Scan {
    /// In the order of sequence numbers.
    pub files: PerFamily<Vec<Arc<DataFile>>>,
    /// Those of each family's tiers, in the order of [`Tier::ALL`](crate::record::tier::Tier::ALL).
    pub tiers: PerFamily<[Vec<Arc<DataFile>>; 2]>,
    /// One more than the greatest sequence number in any name, also of files that could not be read: no number is given
    /// twice.
    pub end_seqs: PerFamily<u64>,
    /// The same for each family's tiers, of files that could not be read.
    pub tier_end_seqs: PerFamily<[u64; 2]>,
    /// Files with numbers that leave too few for new rows. The next start refuses them.
    pub beyond: Vec<PathBuf>,
    /// Files that kymo did not write or cannot read, and why. They are left alone.
    pub foreign: Vec<(PathBuf, String)>,
    /// Files that were never published. The next start removes them.
    pub temporaries: Vec<PathBuf>,
    /// By tier: how many files have rows of an older layout.
    pub older: BTreeMap<&'static str, u64>,
    /// Files all of whose rows another one has: a compaction was interrupted. The next start deletes them.
    pub superseded: Vec<PathBuf>,
}

/// The files of all hosts in `data`. Changes nothing; a daemon may be recording there.
///
/// # Errors
/// When there is no lake or a folder cannot be read.
pub fn scan_read_only(data: &Path) -> Result<Scan, FolderError> {
    let root = data.join(LAKE);
    if !root.is_dir() {
        return Err(FolderError::NoLake(data.into()));
    }
    let mut tries = 1;
    loop {
        let scan = scan(&root)?;
        // A daemon deleted what was listed and is gone now; another file may have its rows.
        let is_gone = |(path, _): &(PathBuf, String)| path.symlink_metadata().is_err();
        if tries == SCANS_MAX || !scan.foreign.iter().any(is_gone) {
            return Ok(scan);
        }
        tries += 1;
    }
}

/// The files of all hosts in the lake at `root`: this daemon may have had other names, and its limits are those of the folder.
/// Removes what a killed process left half written.
pub(super) fn recover(disk: &dyn Disk, root: &Path) -> Result<Scan, FolderError> {
    let mut scan = scan(root)?;
    if let Some(path) = scan.beyond.pop() {
        return Err(FolderError::Numbers(path));
    }
    scan.temporaries.retain(|path| disk.remove(path).is_ok());
    scan.superseded.retain(|path| {
        // The file that has its rows may not have its name on the device yet. The next start tries again what fails.
        let folder = path.parent().unwrap_or(root);
        disk.sync_folder(folder).and_then(|()| disk.remove(path)).is_ok()
    });
    Ok(scan)
}

fn scan(root: &Path) -> Result<Scan, FolderError> {
    let mut scan = Scan::default();
    for table in TableId::all() {
        let mut all = Vec::new();
        let (hosts, above): (Vec<_>, Vec<_>) =
            entries(&root.join(table.name()))?.into_iter().partition(|path| partition::is_host_folder(path));
        scan.foreign.extend(above.into_iter().map(|path| (path, "not a host= folder".into())));
        for host in hosts {
            let mut files = Vec::new();
            for day in entries(&host)? {
                if !day.is_dir() {
                    scan.foreign.push((day, "not a date= folder".into()));
                    continue;
                }
                for path in entries(&day)? {
                    let name = file_name(&path);
                    if partition::is_temporary(name) {
                        scan.temporaries.push(path);
                        continue;
                    }
                    let Some(sequence) = partition::sequence_range(name) else {
                        scan.foreign.push((path, "its name is not <start>_<first>-<last>.parquet".into()));
                        continue;
                    };
                    if table.tier().is_none() {
                        let end_seq = &mut scan.end_seqs[table.family()];
                        *end_seq = sequence.1.max(*end_seq);
                    }
                    scan.beyond.extend(partition::is_beyond(sequence.1).then(|| path.clone()));
                    match unless_panic(|| open(&path, table, sequence)).unwrap_or_else(|| Err(PANICKED.into())) {
                        Ok(file) => files.push(Arc::new(file)),
                        Err(reason) => {
                            scan.foreign.push((path, reason));
                            if let Some(tier) = table.tier() {
                                let end_seq = &mut scan.tier_end_seqs[table.family()][tier as usize];
                                *end_seq = sequence.1.max(*end_seq);
                            }
                        }
                    }
                }
            }
            let (files, superseded) = without_superseded(files);
            let older = files.iter().filter(|file| file.is_older).count() as u64;
            if older > 0 {
                *scan.older.entry(table.name()).or_default() += older;
            }
            all.extend(files);
            scan.superseded.extend(superseded.iter().map(|file| file.path.clone()));
        }
        all.sort_by_key(|file| (file.first_seq, file.end_seq));
        match table.tier() {
            None => scan.files[table.family()] = all,
            Some(tier) => scan.tiers[table.family()][tier as usize] = all,
        }
    }
    for path in entries(root)? {
        if TableId::find(file_name(&path)).is_none() || !path.is_dir() {
            scan.foreign.push((path, "not the folder of a table".into()));
        }
    }
    Ok(scan)
}

/// The files of a host's table in the order of their sequence numbers, apart from those whose rows another one has.
fn without_superseded(mut files: Vec<Arc<DataFile>>) -> (Vec<Arc<DataFile>>, Vec<Arc<DataFile>>) {
    files.sort_by_key(|file| (file.first_seq, Reverse(file.end_seq)));
    let mut widest: Option<Arc<DataFile>> = None;
    files.into_iter().partition(|file| {
        if widest.as_ref().is_some_and(|widest| widest.has_rows_of(file)) {
            return false;
        }
        if widest.as_ref().is_none_or(|widest| widest.end_seq <= file.end_seq) {
            widest = Some(Arc::clone(file));
        }
        true
    })
}

/// What is told of a file for which [`unless_panic`] gives `None`.
pub(super) const PANICKED: &str = "it is damaged: the Parquet reader panicked";

/// What `read` gives. `None` if it panicked, as the Parquet reader does for some damaged files. It must not leave anything
/// half changed.
pub(super) fn unless_panic<T>(read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}

/// Reads a file's footer.
fn open(path: &Path, table: TableId, sequence: (u64, u64)) -> Result<DataFile, String> {
    let file = open_regular(path).map_err(|error| format!("open: {error}"))?;
    let bytes = file.metadata().map_err(|error| format!("stat: {error}"))?.len();
    let metadata =
        ParquetMetaDataReader::new().parse_and_finish(&file).map_err(|error| format!("read its footer: {error}"))?;
    let first = metadata.file_metadata().schema_descr().columns().first().cloned();
    let is_time = |column: &ColumnDescPtr| {
        let unit = matches!(column.logical_type_ref(), Some(LogicalType::Timestamp(of)) if of.unit == TimeUnit::MICROS);
        column.name() == "time" && column.physical_type() == PhysicalType::INT64 && unit
    };
    if !first.as_ref().is_some_and(is_time) {
        return Err("its first column is not the time in µs".into());
    }
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
    if rows != sequence.1 - sequence.0 {
        return Err(format!("it has {rows} rows, its name says {}", sequence.1 - sequence.0));
    }
    let time_range = time_range(&metadata).ok_or("it has no statistics of a column time")?;
    let columns = metadata.file_metadata().schema_descr().columns();
    let lacks = |name: &str| !columns.iter().any(|column| column.name() == name);
    let is_older = table.tier().is_some() && essential(table.table()).any(lacks);
    Ok(DataFile::new(path.into(), sequence, rows, bytes, time_range).older_if(is_older))
}

fn time_range(metadata: &ParquetMetaData) -> Option<(i64, i64)> {
    let ranges = metadata.row_groups().iter().map(|group| {
        let column = group.columns().iter().find(|column| column.column_path().string() == "time")?;
        let Some(Statistics::Int64(statistics)) = column.statistics() else { return None };
        Some((*statistics.min_opt()?, *statistics.max_opt()?))
    });
    span(ranges.collect::<Option<Vec<_>>>()?)
}
