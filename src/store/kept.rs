//! Small files beside the lake that outlive the daemon, each replaced as a whole.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::data_folder::open_regular;
use super::disk::{DiskError, step};
use super::shared::Store;
use super::trouble::Part;
use super::writer::WriteError;

/// A damaged file is kept under its name with this.
const ASIDE: &str = "aside";

impl Store {
    /// Replaces the file `name` in the data folder by `bytes`: readers and the next start see the old ones or the new ones,
    /// also after a power cut. While this fails, [`degraded`](Self::degraded) says so.
    ///
    /// # Errors
    /// When the folder is absent, or the disk refuses.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        let kept = self.replace(name, bytes);
        self.troubles.note(Part::Kept, kept.as_ref().err());
        kept
    }

    /// The same, where it is the caller who tells the trouble.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        self.folder_lock.hold()?;
        let data = &self.settings.path;
        let (path, temporary) = (data.join(name), data.join(format!(".{name}.tmp")));
        let file = self.disk.create(&temporary).map_err(DiskError::of("create", &temporary))?;
        file.append(bytes).map_err(DiskError::of("write", &temporary))?;
        file.sync().map_err(DiskError::of("sync", &temporary))?;
        step("kept file synced")
            .and_then(|()| self.disk.rename(&temporary, &path))
            .map_err(DiskError::of("rename", &temporary))?;
        Ok(self.disk.sync_folder(data).map_err(DiskError::of("sync folder", data))?)
    }

    /// The bytes of the file `name` in the data folder; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is larger than `bytes_max`.
    pub fn read_kept(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        match open_regular(&self.settings.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?.take(bytes_max + 1).read_to_end(&mut bytes)?,
        };
        if bytes.len() as u64 > bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {bytes_max} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Gives the file `name` in the data folder another name, so that it is not read again. Returns its new path. A file that
    /// was set aside before is replaced.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_aside(&self, name: &str) -> Result<PathBuf, DiskError> {
        let path: &Path = &self.settings.path.join(name);
        let aside = self.settings.path.join(format!("{name}.{ASIDE}"));
        self.disk.rename(path, &aside).map_err(DiskError::of("rename", path))?;
        Ok(aside)
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::StoreSettings;
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_a_damaged_one_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (store, ..) = Store::open(StoreSettings::unlimited(folder.path(), "here")).unwrap();
        assert_eq!(store.read_kept("notes", 9).unwrap(), None);
        store.keep("notes", b"one").unwrap();
        store.keep("notes", b"another").unwrap();
        assert_eq!(store.read_kept("notes", 9).unwrap(), Some(b"another".to_vec()));
        assert!(store.read_kept("notes", 6).unwrap_err().to_string().contains("larger than 6 bytes"));
        assert_eq!(store.set_aside("notes").unwrap(), folder.path().join("notes.aside"));
        assert_eq!(store.read_kept("notes", 9).unwrap(), None);
        assert_eq!(std::fs::read(folder.path().join("notes.aside")).unwrap(), b"another");
    }

    #[test]
    fn a_refusal_is_a_trouble_until_it_works() {
        let above = tempfile::tempdir().unwrap();
        let data = above.path().join("data");
        let (store, ..) = Store::open(StoreSettings::unlimited(&data, "here")).unwrap();
        // A folder is in the way.
        std::fs::create_dir(data.join(".notes.tmp")).unwrap();
        let error = store.keep("notes", b"one").unwrap_err().to_string();
        assert!(error.starts_with("create ") && error.contains(".notes.tmp"), "{error}");
        assert_eq!(store.degraded().len(), 1);
        std::fs::remove_dir(data.join(".notes.tmp")).unwrap();
        store.keep("notes", b"one").unwrap();
        assert_eq!(store.degraded(), []);
    }
}
