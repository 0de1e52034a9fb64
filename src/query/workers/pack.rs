//! The rows that a worker asked for, as it is given them: files by name, and rows in memory in its memory file.

use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};

use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamEncoder;
use datafusion::common::project_schema;

use crate::query::named::Named;
use crate::query::rows::{HotRows, Wanted};
use crate::query::worker::message::{self, Hot, Rows};
use crate::store::View;

/// The answer to a worker that asks for rows. Rows in memory go into the file `memory`, from the byte `start` to `end` at most;
/// `None` if they do not fit.
pub(super) fn pack(
    view: &View,
    wanted: &message::Wanted,
    memory: &File,
    start: u64,
    end: u64,
) -> io::Result<Option<Rows>> {
    let table = Named::find(&wanted.table).ok_or_else(|| io::Error::other("an unknown table"))?;
    let columns = wanted.columns.iter().map(|column| *column as usize).collect();
    let times = (wanted.from_us, wanted.to_us);
    let scan = Wanted { table, columns, times, with_stretches: wanted.with_stretches };
    let found = view.find(&scan).map_err(io::Error::other)?;
    let files = found.files.iter().map(|file| (&**file).into()).collect();
    let hot = match &found.hot[..] {
        [] => Vec::new(),
        // Only their number is asked for.
        hot if scan.columns.is_empty() => hot.iter().map(|hot| describe(hot, start)).collect(),
        hot => match write(&scan, hot, memory, start, end)? {
            Some(hot) => hot,
            None => return Ok(None),
        },
    };
    let stretches = found.stretches.iter().map(Into::into).collect();
    Ok(Some(Rows { number: wanted.number, files, start, hot, stretches }))
}

/// Writes rows as an Arrow IPC stream, and returns where in the file they are; `None` if they go beyond `end`.
pub(super) fn write(
    scan: &Wanted,
    rows: &[HotRows],
    mut memory: &File,
    start: u64,
    end: u64,
) -> io::Result<Option<Vec<Hot>>> {
    let failed = |error: ArrowError| io::Error::other(error);
    memory.seek(SeekFrom::Start(start))?;
    let schema = project_schema(&scan.table.table.schema(), Some(&scan.columns)).map_err(io::Error::other)?;
    let mut encoder = StreamEncoder::try_new(&schema).map_err(failed)?;
    let mut hot = Vec::with_capacity(rows.len());
    let mut position = start;
    for rows in rows {
        let pieces = encoder.encode(&rows.batch).map_err(failed)?;
        position += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        if position > end {
            return Ok(None);
        }
        write_all(memory, &pieces)?;
        hot.push(describe(rows, position));
    }
    Ok(Some(hot))
}

/// Writes the columns as the pieces that they are, with one call for most batches.
fn write_all(mut memory: &File, pieces: &[Buffer]) -> io::Result<()> {
    let mut pieces: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = &mut pieces[..];
    // Leaves out empty ones at the beginning, which would be taken for the end.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match memory.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Rows that end at this byte of the file in memory.
fn describe(HotRows { host, batch, time_range }: &HotRows, end: u64) -> Hot {
    Hot { end, from_us: time_range.0, to_us: time_range.1, rows: batch.num_rows() as u64, host: (**host).into() }
}
