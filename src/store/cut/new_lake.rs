//! A data folder that is written at once: files as the lake has them, and nothing else.
//!
//! They are written below a hidden folder, which gets the name of the lake when all of them are on the device. Before that, the folder
//! holds no recordings for any reader.

use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;

use super::super::data_folder::LAKE;
use super::super::disk::{Disk, DiskError, LocalDisk, make_folders};
use super::super::hot::{HotBatch, span, time_range, times};
use super::super::identity;
use super::super::lake::DataFile;
use super::super::partition;
use super::super::writer::{
    Rows, Target, WriteBatch, WriteError, ZSTD_LEVEL, by_time, is_in_order, split_by_date, write_file,
};
use crate::family::{FamilyId, PerFamily};

/// What takes rows: their batches, each with the place of its first row in its file.
pub(super) type Take<'a> = dyn FnMut(u64, RecordBatch) -> Result<(), WriteError> + 'a;
/// Hands over rows, with these columns or all.
pub(super) type Read<'a> = dyn Fn(Option<&[usize]>, &mut Take<'_>) -> Result<(), WriteError> + 'a;

/// The lake before it is complete.
pub const UNREADY: &str = ".lake.unready";

/// What a new lake has of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The table.
    pub table: &'static str,
    /// How many files it has.
    pub files: u64,
    /// How many rows.
    pub rows: u64,
    /// How large its files are.
    pub bytes: u64,
    /// The first and the last time of its rows.
    pub times: RangeInclusive<i64>,
}

/// A lake that is being written. If it is dropped before it is finished, its folder is as it was.
#[derive(Debug)]
pub struct NewLake {
    folder: PathBuf,
    lake: PathBuf,
    files: PerFamily<Vec<DataFile>>,
}

impl Drop for NewLake {
    fn drop(&mut self) {
        // A lake that is complete has another name by now.
        if fs::remove_dir_all(&self.lake).is_ok() {
            let _ = fs::remove_file(self.folder.join(identity::FILE));
        }
    }
}

impl NewLake {
    /// Begins a lake in `folder`, which is there and is empty.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn begin(folder: &Path) -> Result<NewLake, WriteError> {
        let lake = folder.join(UNREADY);
        LocalDisk.create_folder(&lake).map_err(DiskError::of("create folder", &lake))?;
        Ok(NewLake { folder: folder.into(), lake, files: PerFamily::default() })
    }

    /// Gives the lake its name. Returns what each table has that has rows. One without rows is none: its folder is then as it was.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn finish(self) -> Result<Vec<Written>, WriteError> {
        if self.files.values().all(Vec::is_empty) {
            return Ok(Vec::new());
        }
        let lake = self.folder.join(LAKE);
        LocalDisk.rename(&self.lake, &lake).map_err(DiskError::of("rename to", &lake))?;
        LocalDisk.sync_folder(&self.folder).map_err(DiskError::of("sync folder", &self.folder))?;
        let written = |(family, files): (FamilyId, &Vec<DataFile>)| {
            let (first, last) = span(files.iter().map(|file| file.time_range))?;
            Some(Written {
                table: family.name(),
                files: files.len() as u64,
                rows: files.iter().map(|file| file.rows).sum(),
                bytes: files.iter().map(|file| file.bytes).sum(),
                times: first..=last,
            })
        };
        Ok(self.files.iter().filter_map(written).collect())
    }

    /// Writes rows of a host, whose numbers begin with `first_seq`, as a file for each day. They are in about the order of time.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn add(
        &mut self,
        family: FamilyId,
        interval: Option<Duration>,
        host: &str,
        first_seq: u64,
        batches: &[RecordBatch],
    ) -> Result<(), WriteError> {
        let mut seq = first_seq;
        let hot = batches.iter().map(|batch| {
            let own = HotBatch::new(host.into(), seq, batch.clone());
            seq = own.end_seq();
            Arc::new(own)
        });
        for rows in split_by_date(&hot.collect::<Vec<_>>()) {
            self.day(family, interval, rows)?;
        }
        Ok(())
    }

    /// Writes the rows of a day.
    fn day(&mut self, family: FamilyId, interval: Option<Duration>, rows: Rows) -> Result<(), WriteError> {
        let Rows { host, first_seq, batches } = rows;
        let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let time_range = span(batches.iter().map(time_range)).unwrap_or_default();
        let in_order = batches.iter().flat_map(times).is_sorted();
        let failed = |error: ArrowError| WriteError::Sort(family.name(), error.into());
        let schema = family.table.plain_schema();
        let batches =
            if in_order { batches } else { vec![concat_batches(&schema, &batches).and_then(by_time).map_err(failed)?] };
        let sequence = (first_seq, first_seq + count as u64);
        let target = Target { host: &host, interval, sequence, time_range, in_order, ..of(family) };
        self.publish(family, target, |write| batches.iter().try_for_each(write))
    }

    /// A whole file, as it is.
    pub(super) fn copy(&mut self, family: FamilyId, file: &DataFile) -> Result<(), WriteError> {
        let sequence = (file.first_seq, file.end_seq);
        let path = self.path(family, &file.host(), file.time_range.0, sequence)?;
        let bytes = fs::copy(&file.path, &path).map_err(DiskError::of("copy", &file.path))?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(DiskError::of("sync", &path))?;
        self.sync_folder_of(&path)?;
        self.files[family].push(DataFile::new(path, sequence, file.rows, bytes, file.time_range));
        Ok(())
    }

    /// Some rows of a file, which `read` hands over with these columns or all. They keep their numbers where the file has these in the
    /// order of time; else each has one of the file's.
    pub(super) fn part(
        &mut self,
        family: FamilyId,
        file: &DataFile,
        interval: Option<Duration>,
        read: &Read<'_>,
    ) -> Result<(), WriteError> {
        let (mut first, mut rows, mut times) = (None, 0, None);
        read(Some(&[0]), &mut |at, batch| {
            first.get_or_insert(at);
            rows += batch.num_rows() as u64;
            times = span(times.into_iter().chain([time_range(&batch)]));
            Ok(())
        })?;
        // Its times may reach over the window.
        let (Some(first), Some(time_range)) = (first, times) else { return Ok(()) };
        let sequence = (file.first_seq + first, file.first_seq + first + rows);
        let (host, in_order) = (&*file.host(), is_in_order(&file.path));
        let target = Target { host, interval, sequence, time_range, in_order, ..of(family) };
        self.publish(family, target, |write| read(None, &mut |_, batch| write(&batch)))
    }

    fn publish(
        &mut self,
        family: FamilyId,
        target: Target<'_>,
        rows: impl FnOnce(&mut WriteBatch<'_>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let Target { host, sequence, time_range, .. } = target;
        let path = self.path(family, host, time_range.0, sequence)?;
        let bytes = write_file(&LocalDisk, target, &path, &family.table.plain_schema(), rows)?;
        self.sync_folder_of(&path)?;
        self.files[family].push(DataFile::new(path, sequence, sequence.1 - sequence.0, bytes, time_range));
        Ok(())
    }

    /// Where a file is to be. Its folder is made.
    fn path(&self, family: FamilyId, host: &str, first_us: i64, sequence: (u64, u64)) -> Result<PathBuf, WriteError> {
        let folder = partition::folder(&self.lake, family.name(), host, partition::date_of(first_us));
        make_folders(&LocalDisk, &self.lake, &folder)?;
        Ok(folder.join(partition::file_name(first_us, sequence.0, sequence.1)))
    }

    fn sync_folder_of(&self, path: &Path) -> Result<(), WriteError> {
        let folder = path.parent().unwrap_or(&self.lake);
        Ok(LocalDisk.sync_folder(folder).map_err(DiskError::of("sync folder", folder))?)
    }
}

/// What all files of a table have.
fn of(family: FamilyId) -> Target<'static> {
    Target {
        table: family.into(),
        host: "",
        interval: None,
        sequence: (0, 0),
        time_range: (0, 0),
        in_order: false,
        zstd_level: Some(ZSTD_LEVEL),
        standing: &[],
    }
}
