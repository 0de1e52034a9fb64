//! `kymo verify`: whether a data folder is as it should be.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::show;
use crate::store::verify::{Report, verify};

/// `kymo verify`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Reads every Parquet file and journal segment: footers, pages, order of time, sequence numbers,
checksums. Changes nothing; kymo may be running meanwhile. Exit code 1 when something is wrong.")]
pub struct Verify {
    /// The data folder
    #[arg(value_name = "DIR", default_value = "data")]
    pub data: PathBuf,
}

/// Verifies, and says what is wrong.
///
/// # Errors
/// When something is wrong, or the folder holds no recordings or cannot be read.
pub fn run(arguments: &Verify) -> anyhow::Result<()> {
    let report = verify(&arguments.data)?;
    describe(&report, &mut io::stdout().lock())?;
    match report.wrong.len() {
        0 => Ok(()),
        1 => bail!("one thing is wrong in {}", arguments.data.display()),
        wrong => bail!("{wrong} things are wrong in {}", arguments.data.display()),
    }
}

fn describe(report: &Report, out: &mut impl Write) -> io::Result<()> {
    for (path, reason) in &report.notes {
        writeln!(out, "note:  {}: {reason}", path.display())?;
    }
    for (path, reason) in &report.wrong {
        writeln!(out, "WRONG: {}: {reason}", path.display())?;
    }
    writeln!(out, "files:   {}, {}, {} rows", report.files, show::bytes(report.bytes), report.rows)?;
    let (segments, bytes) = (report.segments, show::bytes(report.segment_bytes));
    writeln!(out, "journal: {segments} segments, {bytes}, {} rows", report.journal_rows)
}
