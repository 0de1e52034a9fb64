//! Attributes of sysfs: files that hold one value of one device.
//!
//! They are not read through the snapshot. If a device is gone, the snapshot opens the path again, which may by now be
//! another device's: the kernel reuses numbers such as that of `hwmon3`. A descriptor that is kept stays with its
//! device. The snapshot also keeps only 128 files a thread, fewer than a large host has sensors, and asks a silent
//! driver twice.

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::CWD;
use rustix::io::{Errno, pread, retry_on_intr};

use super::folder::open_file_at;
use super::text::text;

/// The bytes read of an attribute. Longer names are cut.
const BYTES_MAX: usize = 256;
/// The bytes read of an attribute that is a number: up to 20, and blanks after them.
const NUMBER_BYTES_MAX: usize = 32;

/// An attribute that is kept open, and the value that was last read, if it is as short as a number. A family reads all
/// attributes that have a row before it parses the first, as [`Reader::append`](super::reader::Reader::append) says.
#[derive(Debug)]
pub(crate) struct Attribute {
    file: OwnedFd,
    bytes: [u8; NUMBER_BYTES_MAX],
    read: Result<usize, Errno>,
}

impl Attribute {
    /// Opens the attribute; nothing is read yet.
    pub(crate) fn open(path: &Path) -> Result<Attribute, Errno> {
        Ok(Attribute { file: open_file_at(CWD, path)?, bytes: [0; NUMBER_BYTES_MAX], read: Ok(0) })
    }

    /// Reads the value that [`last`](Self::last) gives.
    pub(crate) fn read(&mut self) {
        self.read = retry_on_intr(|| pread(&self.file, &mut self.bytes, 0));
    }

    /// Calls `look` with the bytes that were last read, without blanks at the end. The error is the driver's;
    /// [`is_gone`](super::reader::is_gone) tells whether the device is gone.
    pub(crate) fn last<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Result<T, Errno> {
        let len = self.read?;
        Ok(look(self.bytes.get(..len).unwrap_or_default().trim_ascii_end()))
    }

    /// The same with the bytes that it holds now, up to 256.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Result<T, Errno> {
        let mut bytes = [0_u8; BYTES_MAX];
        let len = retry_on_intr(|| pread(&self.file, &mut bytes, 0))?;
        Ok(look(bytes.get(..len).unwrap_or_default().trim_ascii_end()))
    }
}

/// The text of the attribute at `path`; `None` if it is empty or cannot be read.
pub(crate) fn text_at(path: &Path) -> Option<String> {
    let said = Attribute::open(path).ok()?.with(|bytes| text(bytes).into_owned()).ok()?;
    (!said.is_empty()).then_some(said)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::reading::text::integer;

    #[test]
    fn an_attribute_stays_with_what_it_was_opened_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("temp1_input");
        fs::write(&path, " -5 \n\n").unwrap();
        let mut attribute = Attribute::open(&path).unwrap();
        assert_eq!(attribute.with(<[u8]>::to_vec), Ok(b" -5".to_vec()));
        fs::write(&path, "7\n").unwrap();
        assert_eq!((attribute.last(integer), attribute.with(integer)), (Ok(None), Ok(Some(7))));
        attribute.read();
        assert_eq!(attribute.last(integer), Ok(Some(7)));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "8\n").unwrap();
        assert_eq!(attribute.with(integer), Ok(Some(7)));
        assert_eq!(text_at(&path).as_deref(), Some("8"));
        fs::write(&path, "x".repeat(BYTES_MAX + 1)).unwrap();
        assert_eq!(text_at(&path).unwrap().len(), BYTES_MAX);
        assert_eq!((text_at(folder.path()), text_at(&folder.path().join("no"))), (None, None));
    }
}
