//! Reading files and directories, with heim's signatures.
//!
//! Files below [the roots](crate::linux) come from this thread's [snapshot]; others are opened,
//! read and closed at each call. Every future and every stream's next item reads when it is polled
//! and is ready then.
//!
//! Errors name the path. A file that is larger than 16 MiB is an error of the kind
//! [`io::ErrorKind::FileTooLarge`], and text that is not UTF-8 one of
//! [`io::ErrorKind::InvalidData`].

use std::io::{self, BufRead};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::file::{self, Content};
use crate::snapshot;

/// The whole file as a string.
///
/// # Errors
///
/// If the file cannot be opened or read, is too large, or is not UTF-8.
pub async fn read_to_string<P: AsRef<Path>>(path: P) -> io::Result<String> {
    let content = snapshot::read(path.as_ref())?;
    Ok(content.text()?.to_owned())
}

/// Parses the whole file, without copying it.
///
/// # Errors
///
/// If the file cannot be opened or read, is too large, or is not UTF-8; and the parser's error.
pub async fn read_into<P, T, E>(path: P) -> Result<T, E>
where
    P: AsRef<Path>,
    T: FromStr<Err = E>,
    E: From<io::Error>,
{
    let content = snapshot::read(path.as_ref())?;
    content.text()?.parse()
}

/// The lines of a file, without their `\n` or `\r\n`.
///
/// The file is read when this future is polled. A line that is not UTF-8 is an error at its place in
/// the stream; the lines after it follow.
///
/// # Errors
///
/// If the file cannot be opened or read, or is too large.
pub async fn read_lines<P: AsRef<Path>>(path: P) -> io::Result<Lines> {
    Ok(Lines(Cursor::new(snapshot::read(path.as_ref())?)))
}

/// The lines of a file, each parsed when the stream reaches it.
///
/// Lines that are not requested cost nothing, and no line is copied.
///
/// # Errors
///
/// If the file cannot be opened or read, or is too large. Items are errors as in [`read_lines`], or
/// those of the parser.
pub async fn read_lines_into<P, T, E>(path: P) -> io::Result<LinesInto<T, E>>
where
    P: AsRef<Path>,
    T: FromStr<Err = E>,
    E: From<io::Error>,
{
    Ok(LinesInto { cursor: Cursor::new(snapshot::read(path.as_ref())?), item: PhantomData })
}

/// The entries of a directory, in the kernel's order, without `.` and `..`.
///
/// Directories are not part of the snapshot: each call lists them again, while the stream is polled.
///
/// # Errors
///
/// If the directory cannot be opened. An item is an error if the directory cannot be read further.
pub async fn read_dir<P: AsRef<Path>>(path: P) -> io::Result<ReadDir> {
    let path = path.as_ref();
    match std::fs::read_dir(path) {
        Ok(entries) => Ok(ReadDir { entries, path: path.to_path_buf() }),
        Err(source) => Err(file::error("list", path, source)),
    }
}

/// Whether `path` exists, following symbolic links. A path that cannot be examined does not exist.
pub async fn path_exists<P: AsRef<Path>>(path: P) -> bool {
    path.as_ref().exists()
}

/// The stream of [`read_lines`].
///
/// It shares the bytes of the tick it was made in and may outlive that tick.
#[derive(Debug)]
pub struct Lines(Cursor);

impl Stream for Lines {
    type Item = io::Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let line = self.0.next_line();
        Poll::Ready(line.map(|line| line.map(str::to_owned)))
    }
}

/// The stream of [`read_lines_into`].
///
/// It shares the bytes of the tick it was made in and may outlive that tick.
#[derive(Debug)]
pub struct LinesInto<T, E> {
    cursor: Cursor,
    // The stream only makes these, so it is `Send` and `Unpin` whatever they are.
    item: PhantomData<fn() -> (T, E)>,
}

impl<T, E> Stream for LinesInto<T, E>
where
    T: FromStr<Err = E>,
    E: From<io::Error>,
{
    type Item = Result<T, E>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let line = self.cursor.next_line();
        Poll::Ready(line.map(|line| line?.parse()))
    }
}

/// The stream of [`read_dir`].
#[derive(Debug)]
pub struct ReadDir {
    entries: std::fs::ReadDir,
    path: PathBuf,
}

impl Stream for ReadDir {
    type Item = io::Result<std::fs::DirEntry>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let entry = self.entries.next();
        Poll::Ready(entry.map(|entry| entry.map_err(|source| file::error("list", &self.path, source))))
    }
}

/// A place in a file's bytes, always at the start of a line.
#[derive(Debug)]
struct Cursor {
    content: Arc<Content>,
    at: usize,
}

impl Cursor {
    fn new(content: Arc<Content>) -> Self {
        Self { content, at: 0 }
    }

    fn next_line(&mut self) -> Option<io::Result<&str>> {
        let mut rest = &self.content.bytes[self.at..];
        let line = rest;
        // A slice's `skip_until` is the C library's vectorised memchr, and cannot fail.
        let len = rest.skip_until(b'\n').unwrap_or(line.len());
        if len == 0 {
            return None;
        }
        self.at += len;
        let line = &line[..len];
        let line = match line {
            [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] | line => line,
        };
        Some(self.content.text_of(line))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use futures::StreamExt;
    use tempfile::TempDir;

    use super::*;
    use crate::{linux, ready, snapshot};

    /// A file below procfs' root, and its path.
    fn file(bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        linux::set_roots(folder.path(), "/sys");
        let path = folder.path().join("file");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn lines(path: &Path) -> Vec<io::Result<String>> {
        let lines = ready(read_lines(path)).unwrap().unwrap();
        ready(lines.collect()).unwrap()
    }

    /// An error like heim's: made from an `io::Error` or by a parser.
    #[derive(Debug)]
    enum Failure {
        Io(io::Error),
        Parse,
    }

    impl From<io::Error> for Failure {
        fn from(error: io::Error) -> Self {
            Self::Io(error)
        }
    }

    #[derive(Debug, PartialEq)]
    struct Number(u8);

    impl FromStr for Number {
        type Err = Failure;

        fn from_str(text: &str) -> Result<Self, Failure> {
            text.trim().parse().map(Self).map_err(|_| Failure::Parse)
        }
    }

    #[test]
    fn lines_are_those_of_the_standard_library() {
        for text in ["", "\n", "a", "a\n", "a\nb", "a\r\nb\r\n", "\n\na\n\n", "a\rb\n", "a\r", "\r\n"] {
            let (_folder, path) = file(text);
            let found: Vec<String> = lines(&path).into_iter().map(Result::unwrap).collect();
            let expected: Vec<&str> = text.lines().collect();
            assert_eq!(found, expected, "{text:?}");
            assert_eq!(ready(read_to_string(&path)).unwrap().unwrap(), text);
        }
    }

    #[test]
    fn lines_are_parsed_when_they_are_asked_for() {
        let (_folder, path) = file("1\n2\nx\n4");
        let parsed = ready(read_lines_into::<_, Number, _>(&path)).unwrap().unwrap();
        crate::pin!(parsed);
        assert_eq!(ready(parsed.next()).unwrap().unwrap().unwrap(), Number(1));
        assert_eq!(ready(parsed.next()).unwrap().unwrap().unwrap(), Number(2));
        assert!(matches!(ready(parsed.next()).unwrap(), Some(Err(Failure::Parse))));
        assert_eq!(ready(parsed.next()).unwrap().unwrap().unwrap(), Number(4));
        assert!(ready(parsed.next()).unwrap().is_none());
        assert!(ready(parsed.next()).unwrap().is_none());
    }

    #[test]
    fn a_whole_file_is_parsed() {
        let (_folder, path) = file("7\n");
        assert_eq!(ready(read_into::<_, Number, _>(&path)).unwrap().unwrap(), Number(7));
        fs::write(&path, "x").unwrap();
        let error = ready(read_into::<_, Number, _>(&path)).unwrap().unwrap_err();
        assert!(matches!(error, Failure::Parse));
        let error = ready(read_into::<_, Number, _>("/nowhere")).unwrap().unwrap_err();
        assert!(matches!(error, Failure::Io(error) if error.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn text_that_is_not_utf8_is_an_error_with_its_path() {
        let (_folder, path) = file(b"one\n\xff\xfe\nthree\n");
        let named = |error: io::Error| {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        };
        named(ready(read_to_string(&path)).unwrap().unwrap_err());
        match ready(read_into::<_, Number, _>(&path)).unwrap() {
            Err(Failure::Io(error)) => named(error),
            other => panic!("{other:?}"),
        }
        let mut lines = lines(&path).into_iter();
        assert_eq!(lines.next().unwrap().unwrap(), "one");
        named(lines.next().unwrap().unwrap_err());
        assert_eq!(lines.next().unwrap().unwrap(), "three");
        assert!(lines.next().is_none());
    }

    #[test]
    fn a_stream_may_outlive_its_tick() {
        let (_folder, path) = file("one\ntwo\n");
        let tick = snapshot::begin();
        let mut old = ready(read_lines(&path)).unwrap().unwrap();
        assert_eq!(ready(old.next()).unwrap().unwrap().unwrap(), "one");
        drop(tick);
        fs::write(&path, "ONE\nTWO\n").unwrap();
        let _tick = snapshot::begin();
        assert_eq!(lines(&path)[1].as_ref().unwrap(), "TWO");
        assert_eq!(ready(old.next()).unwrap().unwrap().unwrap(), "two");
    }

    #[test]
    fn a_file_outside_of_the_roots_is_read_plainly() {
        let (_folder, _) = file("");
        let elsewhere = tempfile::tempdir().unwrap();
        let path = elsewhere.path().join("file");
        let _tick = snapshot::begin();
        for text in ["one", "two"] {
            // Replaced, not rewritten.
            let _ = fs::remove_file(&path);
            fs::write(&path, text).unwrap();
            assert_eq!(ready(read_to_string(&path)).unwrap().unwrap(), text);
        }
    }

    #[test]
    fn a_directory_is_listed() {
        let (folder, path) = file("");
        fs::create_dir(folder.path().join("folder")).unwrap();
        let entries = ready(read_dir(folder.path())).unwrap().unwrap();
        let mut names: Vec<_> = ready(entries.map(|entry| entry.unwrap().file_name()).collect()).unwrap();
        names.sort();
        assert_eq!(names, ["file", "folder"]);
        assert!(ready(path_exists(&path)).unwrap());
        let missing = folder.path().join("missing");
        assert!(!ready(path_exists(&missing)).unwrap());
        let error = ready(read_dir(&missing)).unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("missing"), "{error}");
    }

    /// heim boxes some of these futures as `Send`, and streams may move between threads.
    #[test]
    fn futures_and_streams_are_send() {
        fn send<T: Send>(value: T) -> T {
            value
        }
        let (folder, path) = file("1");
        drop(send(read_to_string(path.clone())));
        drop(send(read_into::<_, Number, _>(path.clone())));
        drop(send(ready(send(read_lines(path.clone()))).unwrap().unwrap()));
        drop(send(ready(send(read_lines_into::<_, Number, _>(path.clone()))).unwrap().unwrap()));
        drop(send(ready(send(read_dir(folder.path().to_path_buf()))).unwrap().unwrap()));
        drop(send(path_exists(path)));
    }
}
