//! Reading files and directories, with heim's signatures.
//!
//! Files below [the roots](crate::linux) come from this thread's [snapshot](crate::snapshot); others are
//! opened, read and closed at each call. Every future reads when it is polled and is ready then, and so is
//! every stream's next item.
//!
//! Errors name the path. A file that is larger than 16 MiB is an error of the kind
//! [`io::ErrorKind::FileTooLarge`], and text that is not UTF-8 one of [`io::ErrorKind::InvalidData`].

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
/// If the file cannot be opened or read, is too large, or is not UTF-8, and what the parser gives.
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
/// The file is read when this future is polled. A line that is not UTF-8 is an error at its place in the
/// stream, and the lines after it follow.
///
/// # Errors
///
/// If the file cannot be opened or read, or is too large.
pub async fn read_lines<P: AsRef<Path>>(path: P) -> io::Result<Lines> {
    Ok(Lines(Cursor::new(snapshot::read(path.as_ref())?)))
}

/// The lines of a file, each parsed when the stream comes to it.
///
/// Lines that nobody asks for cost nothing, and no line is copied.
///
/// # Errors
///
/// If the file cannot be opened or read, or is too large. Items are errors as in [`read_lines`], or those of
/// the parser.
pub async fn read_lines_into<P, T, E>(path: P) -> io::Result<LinesInto<T, E>>
where
    P: AsRef<Path>,
    T: FromStr<Err = E>,
    E: From<io::Error>,
{
    Ok(LinesInto {
        cursor: Cursor::new(snapshot::read(path.as_ref())?),
        item: PhantomData,
    })
}

/// The entries of a directory, in the kernel's order, without `.` and `..`.
///
/// Directories are not part of the snapshot: they are listed anew at each call, while the stream is polled.
///
/// # Errors
///
/// If the directory cannot be opened. Items are errors if it cannot be read on.
pub async fn read_dir<P: AsRef<Path>>(path: P) -> io::Result<ReadDir> {
    let path = path.as_ref();
    match std::fs::read_dir(path) {
        Ok(entries) => Ok(ReadDir {
            entries,
            path: path.to_path_buf(),
        }),
        Err(source) => Err(file::error("list", path, source)),
    }
}

/// Whether `path` leads to something, symbolic links followed. What cannot be looked at does not exist.
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
    // The stream makes these and holds none, so it is `Send` and `Unpin` whatever they are.
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
        Poll::Ready(
            entry.map(|entry| entry.map_err(|source| file::error("list", &self.path, source))),
        )
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
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Some(self.content.text_of(line))
    }
}
