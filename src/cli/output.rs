//! Writing a query's result: as a table, CSV, JSON lines, an Arrow stream or a Parquet file.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

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

use super::table;

/// Rows of a table that are aligned with each other; longer results come in several blocks, each with its headers, so
/// that the memory this takes has a bound.
const TABLE_ROWS_MAX: usize = 10_000;

/// How a query's result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned, for people
    Table,
    /// Comma-separated values with a header line
    Csv,
    /// One JSON object a line
    Json,
    /// An Arrow IPC stream
    Arrow,
    /// A Parquet file
    Parquet,
}

impl Format {
    /// The format that a file's name asks for.
    fn of_file(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
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
    /// The format as asked for, or else as the file's name says, or else a table.
    pub(super) fn new(format: Option<Format>, file: Option<&Path>) -> anyhow::Result<Destination> {
        let format = format.or_else(|| file.and_then(Format::of_file)).unwrap_or(Format::Table);
        let binary = matches!(format, Format::Arrow | Format::Parquet);
        anyhow::ensure!(
            !binary || file.is_some() || !io::stdout().is_terminal(),
            "this format is not text: write it to a file with -o FILE, or pipe it into a program"
        );
        Ok(Destination { format, file: file.map(Path::to_owned) })
    }

    /// Whether rows appear on a terminal while they come.
    pub(super) fn is_live(&self) -> bool {
        self.file.is_none() && self.format != Format::Table && io::stdout().is_terminal()
    }

    /// Ready to take rows of this schema.
    pub(super) fn open(&self, schema: &SchemaRef) -> anyhow::Result<Output> {
        let (out, publish): (Box<dyn Write + Send>, _) = match &self.file {
            None => (Box::new(io::stdout()), None),
            Some(path) => {
                let (file, publish) = create(path)?;
                (Box::new(file), publish)
            }
        };
        let sink = Sink::new(self.format, BufWriter::new(out), schema)?;
        Ok(Output { sink, publish, rows: 0 })
    }
}

/// A file is written beside its final place, so that a query that fails half-way leaves what was there before. What is
/// no ordinary file, such as a pipe, is written directly.
fn create(path: &Path) -> anyhow::Result<(File, Option<Publish>)> {
    let direct = fs::metadata(path).is_ok_and(|found| !found.is_file());
    let partial = if direct { path.to_owned() } else { partial_path(path) };
    let file = File::create(&partial).with_context(|| format!("create {}", partial.display()))?;
    Ok((file, (!direct).then(|| Publish { partial, path: path.to_owned(), done: false })))
}

fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

/// Gives a complete file its name, and removes one that is not complete.
#[derive(Debug)]
struct Publish {
    partial: PathBuf,
    path: PathBuf,
    done: bool,
}

impl Publish {
    fn publish(mut self) -> anyhow::Result<()> {
        let (from, to) = (&self.partial, &self.path);
        fs::rename(from, to).with_context(|| format!("rename {} to {}", from.display(), to.display()))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Publish {
    fn drop(&mut self) {
        if !self.done {
            // The query's error is what matters; a file that cannot be removed says by its name what it is.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// A result being written.
pub(super) struct Output {
    sink: Sink,
    publish: Option<Publish>,
    rows: u64,
}

type Out = BufWriter<Box<dyn Write + Send>>;

#[expect(clippy::large_enum_variant, reason = "there is one of it, for the time of a command")]
enum Sink {
    Table { out: Out, waiting: Vec<RecordBatch>, schema: SchemaRef, shown: bool },
    Csv(CsvWriter<Out>),
    Json(JsonWriter<Out, LineDelimited>),
    Arrow(StreamWriter<Out>),
    Parquet(Box<ArrowWriter<Out>>),
}

impl Sink {
    fn new(format: Format, out: Out, schema: &SchemaRef) -> anyhow::Result<Sink> {
        Ok(match format {
            Format::Table => Sink::Table { out, waiting: Vec::new(), schema: SchemaRef::clone(schema), shown: false },
            Format::Csv => {
                let mut writer = CsvBuilder::new().with_header(true).build(out);
                // The header comes with the first batch, also when there is no other.
                writer.write(&RecordBatch::new_empty(SchemaRef::clone(schema)))?;
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
}

impl Output {
    /// Adds rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        self.rows += batch.num_rows() as u64;
        match &mut self.sink {
            Sink::Table { out, waiting, shown, .. } => {
                waiting.push(batch.clone());
                if waiting.iter().map(RecordBatch::num_rows).sum::<usize>() >= TABLE_ROWS_MAX {
                    show(out, &std::mem::take(waiting), shown)?;
                }
            }
            Sink::Csv(writer) => writer.write(batch)?,
            Sink::Json(writer) => writer.write(batch)?,
            Sink::Arrow(writer) => writer.write(batch)?,
            Sink::Parquet(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes what is left and, for a file, gives it its name.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        match self.sink {
            Sink::Table { mut out, mut waiting, schema, mut shown } => {
                if waiting.is_empty() && !shown {
                    waiting.push(RecordBatch::new_empty(schema));
                }
                show(&mut out, &waiting, &mut shown)?;
                out.flush()?;
            }
            Sink::Csv(writer) => writer.into_inner().flush()?,
            Sink::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner().flush()?;
            }
            Sink::Arrow(writer) => writer.into_inner()?.flush()?,
            Sink::Parquet(writer) => writer.into_inner()?.flush()?,
        }
        self.publish.map_or(Ok(()), Publish::publish)
    }
}

fn show(out: &mut Out, batches: &[RecordBatch], shown: &mut bool) -> anyhow::Result<()> {
    if let Some(rows) = table::of_batches(batches)? {
        if std::mem::replace(shown, true) {
            writeln!(out)?;
        }
        table::write(&rows, out)?;
    }
    Ok(())
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
        let mut output = destination.open(&batch().schema()).unwrap();
        output.write(&batch()).unwrap();
        drop(output);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
