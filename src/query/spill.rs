//! Where sorts and joins put what they cannot hold in memory: files without a name, bounded together.
//!
//! A file without a name ends with the process that has it open, however that process ends. So nothing is left behind.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::spill_file::{SpillFile, SpillWriter, TempFileFactory};
use futures::{Stream, stream};
use prost::bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::fstatvfs;
use rustix::io::pread;

use super::error::QueryError;

/// The last twentieth of a disk is left to what is recorded.
const DISK_PARTS: u64 = 20;
/// The disk is looked at after so many bytes.
const LOOK_BYTES: u64 = 1 << 20;
const DISK_FULL: &str = "less than a twentieth of it is free, which is kept for recordings";
/// Size of a read.
const READ_BYTES: usize = 128 << 10;

/// Where a query may spill, and how much.
#[derive(Clone, Debug)]
pub(super) struct SpillSettings {
    /// A folder of the file system that takes the files.
    pub(super) folder: PathBuf,
    /// All files of a query together.
    pub(super) bytes_max: u64,
}

/// The spilled files of one query.
#[derive(Clone, Debug)]
pub(super) struct Spill(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: SpillSettings,
    used: AtomicU64,
    /// A write was refused, because it reached the limit.
    full: AtomicBool,
    /// Why the disk refused a write.
    refused: Mutex<Option<String>>,
}

impl Spill {
    pub(super) fn new(settings: SpillSettings) -> Spill {
        Spill(Arc::new(Shared {
            settings,
            used: AtomicU64::new(0),
            full: AtomicBool::new(false),
            refused: Mutex::default(),
        }))
    }

    /// What the query failed of, if that was spilling.
    pub(super) fn error(&self) -> Option<QueryError> {
        let refused = self.0.refused().clone();
        let full = self.0.full.load(Ordering::Relaxed).then_some(QueryError::Spill(self.0.settings.bytes_max));
        full.or(refused.map(QueryError::SpillRefused))
    }

    /// For the next query.
    pub(super) fn reset(&self) {
        self.0.full.store(false, Ordering::Relaxed);
        *self.0.refused() = None;
    }
}

impl Shared {
    fn refused(&self) -> MutexGuard<'_, Option<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TempFileFactory for Spill {
    fn create_temp_file(&self, _: &str) -> Result<Arc<dyn SpillFile>> {
        let made = tempfile::tempfile_in(&self.0.settings.folder);
        let file = made.inspect_err(|error| *self.0.refused() = Some(error.to_string()))?;
        Ok(Arc::new(Spilled { file: Arc::new(file), bytes: Arc::default(), of: Arc::clone(&self.0) }))
    }
}

struct Spilled {
    file: Arc<File>,
    bytes: Arc<AtomicU64>,
    of: Arc<Shared>,
}

impl Drop for Spilled {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl SpillFile for Spilled {
    fn size(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed))
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        let file = Arc::clone(&self.file);
        let chunks = stream::try_unfold(0, move |start| {
            let chunk =
                chunk(&file, start).map(|chunk| (!chunk.is_empty()).then(|| (start + chunk.len() as u64, chunk)));
            std::future::ready(chunk.map(|some| some.map(|(next, chunk)| (chunk, next))))
        });
        Ok(Box::pin(chunks))
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        let file = self.file.try_clone()?;
        Ok(Box::new(Writer { file, bytes: Arc::clone(&self.bytes), of: Arc::clone(&self.of), until_look: 0 }))
    }
}

/// The bytes of a file from `start` on; none at its end.
fn chunk(file: &File, start: u64) -> Result<Bytes> {
    let mut bytes = Vec::with_capacity(READ_BYTES);
    pread(file, spare_capacity(&mut bytes), start).map_err(|error| DataFusionError::IoError(error.into()))?;
    Ok(bytes.into())
}

struct Writer {
    file: File,
    bytes: Arc<AtomicU64>,
    of: Arc<Shared>,
    /// Bytes until the disk is looked at.
    until_look: u64,
}

impl Writer {
    fn put(&mut self, buffer: &[u8]) -> io::Result<()> {
        match self.until_look.checked_sub(buffer.len() as u64) {
            Some(left) => self.until_look = left,
            None => {
                self.until_look = LOOK_BYTES;
                let disk = fstatvfs(&self.file)?;
                if is_full(disk.f_bavail, disk.f_blocks) {
                    return Err(io::Error::other(DISK_FULL));
                }
            }
        }
        self.file.write_all(buffer)
    }
}

fn is_full(free: u64, all: u64) -> bool {
    free < all / DISK_PARTS
}

impl Write for Writer {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = buffer.len() as u64;
        let used = self.of.used.fetch_add(length, Ordering::Relaxed).saturating_add(length);
        // Counted before it is written, so that two threads cannot both take the rest.
        self.bytes.fetch_add(length, Ordering::Relaxed);
        if used > self.of.settings.bytes_max {
            self.of.full.store(true, Ordering::Relaxed);
            return Err(io::Error::other("the query's spilled files have reached their limit"));
        }
        self.put(buffer).inspect_err(|error| *self.of.refused() = Some(error.to_string()))?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl SpillWriter for Writer {
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    fn spill(folder: &tempfile::TempDir, bytes_max: u64) -> Spill {
        Spill::new(SpillSettings { folder: folder.path().to_owned(), bytes_max })
    }

    #[tokio::test]
    async fn what_was_written_is_read_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let spill = spill(&folder, 1 << 20);
        let file = spill.create_temp_file("a sort").unwrap();
        let written: Vec<u8> = (0..300_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let mut writer = file.open_writer().unwrap();
        for part in written.chunks(70_000) {
            writer.write_all(part).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(file.size(), Some(300_000));
        // Twice: a file may be read again.
        for _ in 0..2 {
            let read: Vec<Bytes> = file.read_stream().unwrap().try_collect().await.unwrap();
            assert!(read.concat() == written);
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "it has no name");
    }

    #[test]
    fn the_end_of_a_disk_is_left_to_recordings() {
        assert!(!is_full(5_000, 100_000));
        assert!(is_full(4_999, 100_000));
        // A file system that does not say its size.
        assert!(!is_full(0, 0));
    }

    #[test]
    fn all_files_together_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let spill = spill(&folder, 1_000);
        let files = [(); 2].map(|()| spill.create_temp_file("a sort").unwrap());
        files[0].open_writer().unwrap().write_all(&[0; 600]).unwrap();
        assert!(spill.error().is_none());
        files[1].open_writer().unwrap().write_all(&[0; 600]).unwrap_err();
        assert!(matches!(spill.error(), Some(QueryError::Spill(1_000))));
        spill.reset();
        drop(files);
        spill.create_temp_file("a sort").unwrap().open_writer().unwrap().write_all(&[0; 1_000]).unwrap();
        assert!(spill.error().is_none());
    }
}
