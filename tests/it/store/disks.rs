//! The disk of this host, with something that happens before each operation.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use kymo::store::disk::{Disk, DiskFile, LocalDisk};

/// What a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Write,
    Sync,
    Rename,
    Remove,
    Cut,
    CreateFolder,
    RemoveFolder,
    SyncFolder,
}

/// Decides what becomes of an operation.
pub trait Before: Debug + Send + Sync + 'static {
    /// Called before each operation, which is not done if this is an error. A write that is refused writes the first half.
    fn before(&self, operation: Operation) -> io::Result<()>;
}

#[derive(Debug)]
pub struct Guarded<B>(pub Arc<B>);

#[derive(Debug)]
struct GuardedFile<B>(Arc<B>, Arc<dyn DiskFile>);

impl<B: Before> DiskFile for GuardedFile<B> {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.0.before(Operation::Write) {
            self.1.append(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.1.append(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.before(Operation::Sync).and_then(|()| self.1.sync())
    }
}

impl<B: Before> Disk for Guarded<B> {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.before(Operation::Create)?;
        Ok(Arc::new(GuardedFile(Arc::clone(&self.0), LocalDisk.create(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.before(Operation::Rename).and_then(|()| LocalDisk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.before(Operation::Remove).and_then(|()| LocalDisk.remove(path))
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        self.0.before(Operation::Cut).and_then(|()| LocalDisk.cut(path, len))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.0.before(Operation::CreateFolder).and_then(|()| LocalDisk.create_folder(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.0.before(Operation::RemoveFolder).and_then(|()| LocalDisk.remove_folder(path))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.0.before(Operation::SyncFolder).and_then(|()| LocalDisk.sync_folder(path))
    }
}
