//! Writing a query's result: as a table, CSV, JSON lines, an Arrow stream or a Parquet file.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::csv::{Writer as CsvWriter, WriterBuilder as CsvBuilder};
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::json::WriterBuilder as JsonBuilder;
use arrow::json::writer::{LineDelimited, Writer as JsonWriter};
use clap::ValueEnum;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::connect::UsageError;
use super::{show, table};
use crate::query::cells::{plain, plain_schema};

/// A table for people shows this many rows from a result's start and this many from its end: drawing takes far longer
/// than CSV, and nobody reads more.
const END_ROWS_MAX: usize = 5_000;

/// How a query's result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: aligned columns and rounded numbers. A long result shows only its first and last 5,000 rows
    Table,
    /// Comma-separated values with a header line
    Csv,
    /// One JSON object per line
    Json,
    /// An Arrow IPC stream
    Arrow,
    /// A Parquet file
    Parquet,
}

impl Format {
    /// The format that a file's extension names.
    fn of_file(path: &Path) -> Option<Format> {
        match &*path.extension()?.to_str()?.to_ascii_lowercase() {
            "csv" => Some(Format::Csv),
            "json" | "jsonl" | "ndjson" => Some(Format::Json),
            "arrow" | "arrows" | "ipc" => Some(Format::Arrow),
            "parquet" => Some(Format::Parquet),
            _ => None,
        }
    }
}

/// Where a result goes, decided before the query is sent.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) format: Format,
    file: Option<PathBuf>,
}

impl Destination {
    /// The requested format, or else that of the file's extension, or else a table.
    ///
    /// # Errors
    /// When a binary format would go to a terminal.
    pub(super) fn new(format: Option<Format>, file: Option<&Path>) -> Result<Destination, UsageError> {
        let format = format.or_else(|| file.and_then(Format::of_file)).unwrap_or(Format::Table);
        let binary = matches!(format, Format::Arrow | Format::Parquet);
        if binary && file.is_none() && io::stdout().is_terminal() {
            let wanted = "this format is binary: write it to a file with -o FILE, or pipe it to a program";
            return Err(UsageError(wanted.to_owned()));
        }
        Ok(Destination { format, file: file.map(Path::to_owned) })
    }

    /// Whether rows appear on a terminal while they come.
    pub(super) fn is_live(&self) -> bool {
        self.file.is_none() && self.format != Format::Table && io::stdout().is_terminal()
    }

    /// Ready to take rows of this schema.
    pub(super) fn open(&self, schema: &SchemaRef) -> anyhow::Result<Output> {
        let (to, publish): (Box<dyn Write + Send>, _) = match &self.file {
            None => (Box::new(io::stdout()), None),
            Some(path) => {
                let (file, publish) = create(path)?;
                (Box::new(file), publish)
            }
        };
        let reader_gone = Arc::<AtomicBool>::default();
        let out = Watched { to, reader_gone: Arc::clone(&reader_gone) };
        let sink = or_gone(&reader_gone, Sink::new(self.format, BufWriter::new(out), schema))?;
        let width = if self.file.is_none() { table::terminal_width() } else { None };
        Ok(Output { sink, reader_gone, width, publish, rows: 0 })
    }
}

/// Writes a whole file: as a whole, or not at all.
///
/// # Errors
/// When the file system refuses. An existing file then stays as it was.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let (mut file, publish) = create(path)?;
    file.write_all(bytes).with_context(|| format!("write {}", path.display()))?;
    publish.map_or(Ok(()), Publish::publish)
}

/// A file is written under another name first, so that a query that fails half-way leaves the old file as it was. A pipe
/// or a device is written directly.
pub(super) fn create(path: &Path) -> anyhow::Result<(File, Option<Publish>)> {
    let direct = fs::metadata(path).is_ok_and(|found| !found.is_file());
    let partial = if direct { path.to_owned() } else { path.with_added_extension("partial") };
    let file = File::create(&partial).with_context(|| format!("create {}", partial.display()))?;
    Ok((file, (!direct).then(|| Publish { partial, path: path.to_owned(), done: false })))
}

/// Gives a complete file its name, and removes one that is not complete.
#[derive(Debug)]
pub(super) struct Publish {
    partial: PathBuf,
    path: PathBuf,
    done: bool,
}

impl Publish {
    pub(super) fn publish(mut self) -> anyhow::Result<()> {
        let (from, to) = (&self.partial, &self.path);
        fs::rename(from, to).with_context(|| format!("rename {} to {}", from.display(), to.display()))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Publish {
    fn drop(&mut self) {
        if !self.done {
            // The query's error matters more. The name of a file that cannot be removed says that it is partial.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Notes that its reader has gone. The writers of CSV and Parquet turn that error into a text.
struct Watched {
    to: Box<dyn Write + Send>,
    reader_gone: Arc<AtomicBool>,
}

impl Watched {
    fn note(&self, error: &io::Error) {
        self.reader_gone.fetch_or(error.kind() == io::ErrorKind::BrokenPipe, Ordering::Relaxed);
    }
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes).inspect_err(|error| self.note(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush().inspect_err(|error| self.note(error))
    }
}

/// The error of a reader that has gone in place of the one that a writer made of it.
fn or_gone<T>(reader_gone: &AtomicBool, result: anyhow::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| {
        let gone = reader_gone.load(Ordering::Relaxed);
        if gone { io::Error::from(io::ErrorKind::BrokenPipe).into() } else { error }
    })
}

/// A result being written.
pub(super) struct Output {
    sink: Sink,
    reader_gone: Arc<AtomicBool>,
    /// Of the terminal that a table is for.
    width: Option<u16>,
    publish: Option<Publish>,
    /// Rows so far.
    pub(super) rows: u64,
}

type Out = BufWriter<Watched>;

#[expect(clippy::large_enum_variant, reason = "a command makes one")]
enum Sink {
    Table { out: Out, ends: Ends },
    Csv(CsvWriter<Out>),
    Json(JsonWriter<Out, LineDelimited>),
    Arrow(StreamWriter<Out>),
    Parquet(Box<ArrowWriter<Out>>),
}

impl Sink {
    fn new(format: Format, out: Out, schema: &SchemaRef) -> anyhow::Result<Sink> {
        Ok(match format {
            Format::Table => Sink::Table { out, ends: Ends::new(schema) },
            Format::Csv => {
                let mut writer = CsvBuilder::new().with_header(true).build(out);
                // The header comes with the first batch, and a result without rows has one too.
                writer.write(&RecordBatch::new_empty(plain_schema(schema)))?;
                Sink::Csv(writer)
            }
            Format::Json => Sink::Json(JsonBuilder::new().with_explicit_nulls(true).build(out)),
            Format::Arrow => Sink::Arrow(StreamWriter::try_new(out, schema)?),
            Format::Parquet => {
                let compression = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder().set_compression(compression).build();
                Sink::Parquet(Box::new(ArrowWriter::try_new(out, SchemaRef::clone(schema), Some(properties))?))
            }
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        match self {
            Sink::Table { ends, .. } => ends.push(batch),
            Sink::Csv(writer) => writer.write(&plain(batch)?)?,
            Sink::Json(writer) => writer.write(batch)?,
            Sink::Arrow(writer) => writer.write(batch)?,
            Sink::Parquet(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    fn finish(self, width: Option<u16>) -> anyhow::Result<()> {
        match self {
            Sink::Table { mut out, ends } => {
                table::write_within(&ends.table()?, width, &mut out)?;
                out.flush()?;
                ends.tell_left_out();
            }
            Sink::Csv(writer) => writer.into_inner().flush()?,
            Sink::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner().flush()?;
            }
            Sink::Arrow(writer) => writer.into_inner()?.flush()?,
            Sink::Parquet(writer) => writer.into_inner()?.flush()?,
        }
        Ok(())
    }
}

impl Output {
    /// Adds rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        self.rows += batch.num_rows() as u64;
        or_gone(&self.reader_gone, self.sink.write(batch))
    }

    /// Hands on what was written so far. The writer of CSV does so by itself.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        let flushed = match &mut self.sink {
            Sink::Json(writer) => writer.get_mut().flush(),
            Sink::Table { .. } | Sink::Csv(_) | Sink::Arrow(_) | Sink::Parquet(_) => Ok(()),
        };
        or_gone(&self.reader_gone, flushed.map_err(anyhow::Error::from))
    }

    /// Writes the remaining bytes and gives a file its name.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        or_gone(&self.reader_gone, self.sink.finish(self.width))?;
        self.publish.map_or(Ok(()), Publish::publish)
    }
}

/// The first and last rows of a result, at most [`END_ROWS_MAX`] of each.
struct Ends {
    schema: SchemaRef,
    first: Vec<RecordBatch>,
    last: VecDeque<RecordBatch>,
    left_out: usize,
}

impl Ends {
    fn new(schema: &SchemaRef) -> Ends {
        Ends { schema: SchemaRef::clone(schema), first: Vec::new(), last: VecDeque::new(), left_out: 0 }
    }

    fn push(&mut self, batch: &RecordBatch) {
        let room = END_ROWS_MAX - rows_of(&self.first);
        let head = room.min(batch.num_rows());
        if head > 0 {
            self.first.push(batch.slice(0, head));
        }
        self.last.push_back(batch.slice(head, batch.num_rows() - head));
        let mut excess = rows_of(&self.last).saturating_sub(END_ROWS_MAX);
        self.left_out += excess;
        while excess > 0
            && let Some(oldest) = self.last.pop_front()
        {
            let gone = excess.min(oldest.num_rows());
            excess -= gone;
            if gone < oldest.num_rows() {
                self.last.push_front(oldest.slice(gone, oldest.num_rows() - gone));
            }
        }
    }

    fn table(&self) -> anyhow::Result<comfy_table::Table> {
        let mut rows = table::with_columns(&self.schema);
        for batch in &self.first {
            table::add_rows(&mut rows, batch)?;
        }
        if self.left_out > 0 {
            rows.add_row(vec!["…"; self.schema.fields().len()]);
        }
        for batch in &self.last {
            table::add_rows(&mut rows, batch)?;
        }
        Ok(rows)
    }

    fn tell_left_out(&self) {
        if self.left_out > 0 {
            let left_out = show::counted(self.left_out as u64, "row");
            eprintln!("kymo: left out {left_out} from the middle; --format csv or json writes all rows");
        }
    }
}

fn rows_of<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> usize {
    batches.into_iter().map(RecordBatch::num_rows).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::ipc::reader::StreamReader;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
    use prost::bytes::Bytes;

    use super::*;

    fn batch() -> RecordBatch {
        let names: ArrayRef = Arc::new(StringArray::from(vec!["eth0", "lo"]));
        let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(12), None]));
        RecordBatch::try_from_iter_with_nullable([("name", names, false), ("value", values, true)]).unwrap()
    }

    fn written(format: Format, batches: &[RecordBatch]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut output = Destination::new(Some(format), Some(&path)).unwrap().open(&batch().schema()).unwrap();
        batches.iter().for_each(|batch| output.write(batch).unwrap());
        assert!(!path.exists(), "an incomplete file must not have its name");
        output.finish().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::read(path).unwrap()
    }

    #[test]
    fn text_formats_show_null_as_nothing() {
        let text = |format, batches: &[RecordBatch]| String::from_utf8(written(format, batches)).unwrap();
        assert_eq!(text(Format::Csv, &[batch()]), "name,value\neth0,12\nlo,\n");
        assert_eq!(
            text(Format::Json, &[batch()]),
            "{\"name\":\"eth0\",\"value\":12}\n{\"name\":\"lo\",\"value\":null}\n"
        );
        let table = text(Format::Table, &[batch()]);
        let lines: Vec<_> = table.lines().map(str::trim).collect();
        assert_eq!((lines.len(), lines[0], lines[3]), (4, "name  value", "lo"));
        assert!(lines[2].ends_with("  12"), "numbers stand right: {table}");
    }

    #[test]
    fn a_table_has_the_first_and_last_rows_of_a_long_result() {
        let numbers = |range: std::ops::Range<i64>| {
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
            RecordBatch::try_from_iter_with_nullable([("value", values, true)]).unwrap()
        };
        let mut ends = Ends::new(&numbers(0..0).schema());
        (0..300).for_each(|step| ends.push(&numbers(step * 100..(step + 1) * 100)));
        let table = ends.table().unwrap();
        let shown: Vec<_> = table.row_iter().map(|row| row.cell_iter().next().unwrap().content()).collect();
        assert_eq!((shown.len(), ends.left_out), (10_001, 20_000));
        assert_eq!(shown[4_999..5_002], ["4999", "…", "25,000"]);
        assert_eq!(shown[10_000], "29,999");
    }

    #[test]
    fn rows_wider_than_the_terminal_become_blocks() {
        let mut ends = Ends::new(&batch().schema());
        ends.push(&batch());
        let mut blocks = Vec::new();
        table::write_within(&ends.table().unwrap(), Some(10), &mut blocks).unwrap();
        assert_eq!(String::from_utf8(blocks).unwrap(), "name   eth0\nvalue  12\n\nname   lo\nvalue\n");
        let mut lines = Vec::new();
        table::write_within(&ends.table().unwrap(), Some(11), &mut lines).unwrap();
        assert!(lines.starts_with(b"name  value\n"));
    }

    #[test]
    fn a_result_without_rows_still_has_its_columns() {
        assert_eq!(written(Format::Csv, &[]), b"name,value\n");
        assert_eq!(written(Format::Json, &[]), b"");
        assert!(String::from_utf8(written(Format::Table, &[])).unwrap().contains("name"));
        let stream = written(Format::Arrow, &[]);
        assert_eq!(StreamReader::try_new(stream.as_slice(), None).unwrap().schema(), batch().schema());
    }

    #[test]
    fn binary_formats_come_back_the_same() {
        let stream = written(Format::Arrow, &[batch(), batch()]);
        let batches: Vec<_> = StreamReader::try_new(stream.as_slice(), None).unwrap().map(Result::unwrap).collect();
        assert_eq!(batches, [batch(), batch()]);
        let file = written(Format::Parquet, &[batch()]);
        let mut batches = ParquetRecordBatchReader::try_new(Bytes::from(file), 100).unwrap();
        assert_eq!(batches.next().unwrap().unwrap(), batch());
    }

    #[test]
    fn a_failed_query_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        fs::write(&path, "old").unwrap();
        let destination = Destination::new(None, Some(&path)).unwrap();
        assert_eq!(destination.format, Format::Csv);
        assert_eq!(Destination::new(None, Some(Path::new("X.CSV"))).unwrap().format, Format::Csv);
        let mut output = destination.open(&batch().schema()).unwrap();
        output.write(&batch()).unwrap();
        drop(output);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
