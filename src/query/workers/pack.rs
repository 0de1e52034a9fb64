//! The rows that a worker asked for, as it is given them: files by name, and rows in memory in its memory file.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};

use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::project_schema;

use crate::family::FamilyId;
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
    let family = FamilyId::find(&wanted.table).ok_or_else(|| io::Error::other("an unknown table"))?;
    let columns = wanted.columns.iter().map(|column| *column as usize).collect();
    let scan = Wanted { family, columns, times: (wanted.from_us, wanted.to_us) };
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
    Ok(Some(Rows { number: wanted.number, files, start, hot }))
}

/// Writes rows as an Arrow IPC stream, and returns where in the file they are; `None` if they go beyond `end`.
fn write(scan: &Wanted, rows: &[HotRows], mut memory: &File, start: u64, end: u64) -> io::Result<Option<Vec<Hot>>> {
    let failed = |error: ArrowError| io::Error::other(error);
    memory.seek(SeekFrom::Start(start))?;
    let schema = project_schema(&scan.family.table.schema(), Some(&scan.columns)).map_err(io::Error::other)?;
    let mut writer = StreamWriter::try_new(memory, &schema).map_err(failed)?;
    let mut hot = Vec::with_capacity(rows.len());
    for rows in rows {
        writer.write(&rows.batch).map_err(failed)?;
        hot.push(describe(rows, memory.stream_position()?));
        if hot.last().is_some_and(|hot| hot.end > end) {
            return Ok(None);
        }
    }
    Ok(Some(hot))
}

/// Rows that end at this byte of the file in memory.
fn describe(HotRows { host, batch, time_range }: &HotRows, end: u64) -> Hot {
    Hot { end, from_us: time_range.0, to_us: time_range.1, rows: batch.num_rows() as u64, host: (**host).into() }
}
