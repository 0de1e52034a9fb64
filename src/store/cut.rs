//! A data folder with some rows of another: made under another name beside its place, and put there in one step.
//!
//! It has rows and no tiers, and numbers them anew. Its files are like those of compaction.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use jiff::civil::Date;
use parquet::arrow::ArrowWriter;

use super::data_folder::LAKE;
use super::disk::{Disk, DiskError, DiskFile, LocalDisk, make_folders};
use super::hot::times;
use super::partition;
use super::writer::{Target, WriteError, ZSTD_LEVEL, encoder, note_sequence};
use crate::family::tables::TableId;
use crate::family::{FamilyId, PerFamily};

/// A folder that is being made. Dropped before it is published, it leaves nothing behind.
pub struct Cut {
    folder: PathBuf,
    temporary: PathBuf,
    next_seqs: PerFamily<u64>,
    open: Option<Open>,
    done: Size,
    is_published: bool,
}

/// What a cut has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Rows of all tables.
    pub rows: u64,
    /// Parquet files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
}

/// The file that rows are written to.
struct Open {
    family: FamilyId,
    host: String,
    date: Date,
    /// Its folder, and its name until its last row is known.
    folder: PathBuf,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    writer: ArrowWriter<Appending>,
    first_seq: u64,
    first_us: i64,
    last_us: i64,
}

/// For the encoder, which owns what it writes to.
struct Appending(Arc<dyn DiskFile>);

impl Write for Appending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Cut {
    /// A cut that is to become `folder`, which must not be there yet, or be empty.
    ///
    /// # Errors
    /// When a folder cannot be made beside it.
    pub fn create(folder: &Path) -> Result<Cut, WriteError> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let temporary = folder.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        fs::create_dir(&temporary).map_err(DiskError::of("create folder", &temporary))?;
        let cut = Cut {
            folder: folder.into(),
            temporary,
            next_seqs: PerFamily::default(),
            open: None,
            done: Size::default(),
            is_published: false,
        };
        make_folders(&LocalDisk, &cut.temporary, &cut.temporary.join(LAKE))?;
        Ok(cut)
    }

    /// Adds rows of a host, which come in the order of time. Columns are found by their names: one that the rows lack is null, and
    /// one that the table lacks is left out.
    ///
    /// # Errors
    /// When the rows do not fit the table, or the disk refuses.
    pub fn write(&mut self, family: FamilyId, host: &str, rows: &RecordBatch) -> Result<(), WriteError> {
        let sort = |error: ArrowError| WriteError::Sort(family.name(), error.into());
        let schema = family.table.schema();
        let rows = converted(rows, &schema).map_err(sort)?;
        let times = times(&rows);
        let mut start = 0;
        while let Some(first_us) = times.get(start).copied() {
            let date = partition::date_of(first_us);
            let len = times[start..].iter().take_while(|time| partition::date_of(**time) == date).count();
            let is_open =
                self.open.as_ref().is_some_and(|open| (open.family, &*open.host, open.date) == (family, host, date));
            if !is_open {
                self.close()?;
                self.open = Some(self.begin(family, host, date, first_us, &schema)?);
            }
            if let Some(open) = &mut self.open {
                let encode = WriteError::parquet("write", &open.path);
                open.writer.write(&rows.slice(start, len)).map_err(encode)?;
                open.last_us = open.last_us.max(times[start + len - 1]);
            }
            self.next_seqs[family] += len as u64;
            start += len;
        }
        Ok(())
    }

    /// Whether rows were added.
    #[must_use]
    pub fn has_rows(&self) -> bool {
        self.open.is_some() || self.done.rows > 0
    }

    /// Gives the folder its name. Returns what it has.
    ///
    /// # Errors
    /// When the disk refuses, or something else has the name by now.
    pub fn publish(mut self) -> Result<Size, WriteError> {
        self.close()?;
        let renamed = fs::rename(&self.temporary, &self.folder);
        renamed.map_err(DiskError::of("rename to", &self.folder))?;
        self.is_published = true;
        let above = self.folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        LocalDisk.sync_folder(above).map_err(DiskError::of("sync folder", above))?;
        Ok(self.done)
    }

    fn begin(
        &self,
        family: FamilyId,
        host: &str,
        date: Date,
        first_us: i64,
        schema: &SchemaRef,
    ) -> Result<Open, WriteError> {
        let lake = self.temporary.join(LAKE);
        let folder = partition::folder(&lake, family.name(), host, date);
        make_folders(&LocalDisk, &lake, &folder)?;
        let first_seq = self.next_seqs[family];
        let path = folder.join(partition::temporary_name(&partition::file_name(first_us, first_seq, first_seq + 1)));
        let file = LocalDisk.create(&path).map_err(DiskError::of("create", &path))?;
        let target = Target {
            table: TableId::raw(family),
            host,
            interval: None,
            sequence: (first_seq, first_seq),
            time_range: (first_us, first_us),
            in_order: false,
            zstd_level: ZSTD_LEVEL,
        };
        let writer =
            encoder(target, Appending(Arc::clone(&file)), schema).map_err(WriteError::parquet("write", &path))?;
        let host = host.to_owned();
        Ok(Open { family, host, date, folder, path, file, writer, first_seq, first_us, last_us: first_us })
    }

    /// Finishes the file that is being written.
    fn close(&mut self) -> Result<(), WriteError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let end_seq = self.next_seqs[open.family];
        let encode = WriteError::parquet("write", &open.path);
        note_sequence(&mut open.writer, (open.first_seq, end_seq));
        open.writer.finish().map_err(&encode)?;
        let bytes = open.writer.bytes_written() as u64;
        open.file.sync().map_err(DiskError::of("sync", &open.path))?;
        let path = open.folder.join(partition::file_name(open.first_us, open.first_seq, end_seq));
        LocalDisk.rename(&open.path, &path).map_err(DiskError::of("rename to", &path))?;
        LocalDisk.sync_folder(&open.folder).map_err(DiskError::of("sync folder", &open.folder))?;
        self.done.rows += end_seq - open.first_seq;
        self.done.files += 1;
        self.done.bytes += bytes;
        Ok(())
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if !self.is_published {
            // What cannot be removed has a name that no reader takes for a data folder's file.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// The rows with the columns of `schema`.
fn converted(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| match rows.column_by_name(field.name()) {
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}
