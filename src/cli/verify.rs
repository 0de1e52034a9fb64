//! `kymo verify`: checks all files of a data folder.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::show;
use crate::store::verify::{Report, verify};

/// `kymo verify`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Reads every Parquet file and journal segment, and checks footers, pages, checksums, sequence
numbers and the order of times. Changes nothing, and can run while the daemon runs.
Exits with 1 if anything is wrong.")]
pub struct Verify {
    /// Data folder
    #[arg(value_name = "DIR", default_value = "data")]
    data: PathBuf,
}

/// Verifies the folder and reports what is wrong.
///
/// # Errors
/// When something is wrong, or the folder holds no recordings or cannot be read.
pub fn run(arguments: &Verify) -> anyhow::Result<()> {
    let report = verify(&arguments.data)?;
    describe(&report, &mut io::stdout().lock())?;
    match report.wrong.len() {
        0 => Ok(()),
        wrong => bail!("{} in {}", show::counted(wrong as u64, "problem"), arguments.data.display()),
    }
}

fn describe(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for (path, reason) in &report.notes {
        writeln!(out, "note:  {}: {reason}", path.display())?;
    }
    for (path, reason) in &report.wrong {
        writeln!(out, "WRONG: {}: {reason}", path.display())?;
    }
    let (files, rows) = (show::counted(report.files, "file"), show::counted(report.rows, "row"));
    writeln!(out, "files:   {files}, {}, {rows}", show::bytes(report.bytes))?;
    let segments = show::counted(report.segments, "segment");
    let rows = show::counted(report.journal_rows, "row");
    writeln!(out, "journal: {segments}, {}, {rows} not yet in a file", show::bytes(report.segment_bytes))
}
