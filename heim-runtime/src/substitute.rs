//! Other bytes in the place of a file's, for as long as a closure runs.
//!
//! Most lines of a file are the same as a tick ago. A caller that knows which can let heim parse only the others: a
//! [`Substitute`] holds the text that heim gets when it reads the file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::file::Content;
use crate::snapshot;

/// Bytes in place of a file below procfs' root.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use heim_runtime::{fs, linux, ready, substitute::Substitute};
///
/// let mut uptime = Substitute::new("uptime");
/// uptime.push(b"1.00 ");
/// uptime.push(b"2.00\n");
/// let read = || ready(fs::read_to_string(linux::procfs_root().join("uptime")));
/// assert_eq!(uptime.during(read)??, "1.00 2.00\n");
/// assert_ne!(read()??, "1.00 2.00\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Substitute {
    /// Its path is relative to the root.
    content: Arc<Content>,
}

impl Substitute {
    /// A substitute for the file `name` below procfs' root, without bytes yet.
    #[must_use]
    pub fn new(name: impl AsRef<Path>) -> Self {
        Self { content: Arc::new(Content::new(name.as_ref().to_path_buf())) }
    }

    /// Removes all bytes; keeps their room.
    pub fn clear(&mut self) {
        self.bytes().clear();
    }

    /// Adds bytes at the end.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes().extend_from_slice(bytes);
    }

    /// Calls `read`. Meanwhile this thread's readers of the file, including heim, get these bytes. Readers of
    /// [`snapshot::with_proc`] still get the file's own bytes.
    ///
    /// Only the innermost substitute is in effect, whatever its file.
    ///
    /// # Errors
    ///
    /// The error of `read`.
    pub fn during<R>(&mut self, read: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        let _back = Back(snapshot::replace_substitute(Some(Arc::clone(&self.content))));
        read()
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        if Arc::get_mut(&mut self.content).is_none() {
            // A stream of heim outlived the closure and still reads the old bytes.
            let mut own = Content::new(self.content.path.clone());
            own.bytes.clone_from(&self.content.bytes);
            self.content = Arc::new(own);
        }
        match Arc::get_mut(&mut self.content) {
            Some(content) => &mut content.bytes,
            None => unreachable!("it was just made and has no other owner"),
        }
    }
}

/// Restores the previous substitute, even if the closure panicked.
struct Back(Option<Arc<Content>>);

impl Drop for Back {
    fn drop(&mut self) {
        snapshot::replace_substitute(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::{fs, linux, ready};

    fn read(name: &str) -> io::Result<String> {
        ready(fs::read_to_string(linux::procfs_root().join(name)))?
    }

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        linux::set_roots(folder.path(), "/sys");
        std::fs::write(folder.path().join("stat"), "real").unwrap();
        std::fs::write(folder.path().join("uptime"), "real").unwrap();
        folder
    }

    #[test]
    fn only_the_named_file_is_replaced_and_only_meanwhile() {
        let _tree = tree();
        let mut stat = Substitute::new("stat");
        stat.push(b"other");
        stat.during(|| {
            assert_eq!((read("stat")?, read("uptime")?), ("other".into(), "real".into()));
            snapshot::with_proc("stat", |bytes| assert_eq!(bytes, b"real"))
        })
        .unwrap();
        assert_eq!(read("stat").unwrap(), "real");
        stat.clear();
        stat.push(b"new");
        let mut inner = Substitute::new("stat");
        stat.during(|| {
            assert_eq!(inner.during(|| read("stat"))?, "");
            assert_eq!(read("stat")?, "new");
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_panic_ends_it() {
        let _tree = tree();
        let mut stat = Substitute::new("stat");
        let panicked = catch_unwind(AssertUnwindSafe(|| stat.during(|| -> io::Result<()> { panic!("as heim may") })));
        assert!(panicked.is_err());
        assert_eq!(read("stat").unwrap(), "real");
    }

    #[test]
    fn a_stream_that_outlives_it_keeps_its_bytes() {
        use futures::StreamExt;
        let _tree = tree();
        let mut stat = Substitute::new("stat");
        stat.push(b"one\ntwo\n");
        let lines = stat.during(|| ready(fs::read_lines(linux::procfs_root().join("stat")))?);
        stat.clear();
        stat.push(b"three");
        let lines: Vec<_> = ready(lines.unwrap().map(Result::unwrap).collect()).unwrap();
        assert_eq!(lines, ["one", "two"]);
    }
}
