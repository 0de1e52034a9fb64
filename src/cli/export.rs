//! `kymo export`: a stretch of recorded time as a data folder of its own.

pub(super) mod daemon;

use std::fs;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::emulate_default_handler;
use tokio::signal::unix::{SignalKind, signal};

use super::connect::{InterruptedError, Target, UsageError, block_on, spin, spinner, unless_interrupted};
use super::period::Period;
use super::{new_folder, show};
use crate::family::FamilyId;
use crate::store::cut::{self, Cut, NewLake, Written};
use crate::store::partition::timestamp;
use crate::store::writer::WriteError;
use crate::words::unknown;

/// A running daemon may merge files that were just listed. The export then begins again, this many times at most.
const TRIES_MAX: u32 = 5;
/// Things left out that are named one by one.
const LEFT_OUT_NAMED_MAX: usize = 5;

/// `kymo export`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo export --last 5m -o incident
  kymo export --from '14:02' --to '14:05' --table network --table cpu -o out
  kymo export --data /var/lib/kymo --last 1h -o out

The folder is a data folder: `kymo query --data`, `kymo top --data`, `kymo report`,
`kymo verify` and DuckDB read it. It has each row of the time once, and no tiers.
--data works with or without a running daemon, has the rows that are only in the
journal, and counts --last from the newest row. Without it, the daemon is asked.")]
pub struct Export {
    #[command(flatten)]
    period: Period,
    /// Only this table; may be repeated
    #[arg(long = "table", value_name = "TABLE", value_parser = table)]
    tables: Vec<FamilyId>,
    /// Write into this folder, which must be new or empty
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Read the files of this data folder instead of asking a daemon
    #[arg(long, value_name = "DIR", conflicts_with = "address")]
    data: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// Exports, and says what was written.
///
/// # Errors
/// When an argument is wrong, the daemon does not answer, the folder holds no recordings, or a file cannot be read or written.
/// Then nothing is left behind.
pub fn run(export: &Export) -> anyhow::Result<()> {
    if export.period.is_all() {
        return Err(UsageError("name the time: --last 5m, or --from and --to".to_owned()).into());
    }
    if export.output == Path::new("-") {
        return Err(UsageError("an export is a folder, which stdout cannot take: name one with -o".to_owned()).into());
    }
    if let Some(data) = &export.data {
        check_outside(&export.output, data)?;
    }
    let families = if export.tables.is_empty() { FamilyId::all().collect() } else { export.tables.clone() };
    let destination = Destination::new(&export.output)?;
    let terminated = Arc::new(AtomicBool::new(false));
    let written = match &export.data {
        Some(data) => of_folder(data, &families, &export.period, destination.folder, &terminated),
        None => of_daemon(&export.target, &families, &export.period, destination.folder, &terminated),
    };
    let tables = match written {
        Ok(tables) => tables,
        Err(error) => {
            drop(destination);
            // Nothing is left behind; whoever asked for the end sees that it was that. Relaxed: the flag guards no other data.
            if terminated.load(Ordering::Relaxed) {
                let _ = emulate_default_handler(SIGTERM);
            }
            return Err(error);
        }
    };
    destination.keep();
    describe(&export.output, &tables, &mut io::stdout().lock())?;
    Ok(())
}

/// Refuses a folder within the one that is read: it would be taken for a part of that.
fn check_outside(output: &Path, data: &Path) -> anyhow::Result<()> {
    let Ok(data) = data.canonicalize() else { return Ok(()) };
    let absolute = std::path::absolute(output).with_context(|| format!("find {}", output.display()))?;
    let there = absolute.ancestors().find_map(|folder| folder.canonicalize().ok());
    if there.is_some_and(|there| there.starts_with(&data)) {
        let (output, data) = (output.display(), data.display());
        return Err(UsageError(format!("{output} is within {data}, which is read: name a folder outside of it")).into());
    }
    Ok(())
}

/// Why there is no export, with the time of which there would be one.
pub(super) fn nothing((first_us, newest_us): (i64, i64)) -> anyhow::Error {
    let [first, newest] = [first_us, newest_us].map(timestamp);
    anyhow::anyhow!("nothing was recorded in this time: there are rows from {first} to {newest}")
}

/// The table of this name that has rows of its own.
fn table(name: &str) -> Result<FamilyId, String> {
    FamilyId::find(name).ok_or_else(|| {
        unknown("table", name, FamilyId::all().map(|family| family.name()).collect::<Vec<_>>().into_iter())
    })
}

/// A new folder, which is removed again unless something was written into it.
struct Destination<'a> {
    folder: &'a Path,
    is_new: bool,
    is_kept: bool,
}

impl Destination<'_> {
    fn new(folder: &Path) -> anyhow::Result<Destination<'_>> {
        let is_new = new_folder::is_absent(folder)?;
        fs::create_dir_all(folder).with_context(|| format!("create the folder {}", folder.display()))?;
        Ok(Destination { folder, is_new, is_kept: false })
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Destination<'_> {
    fn drop(&mut self) {
        if self.is_new && !self.is_kept {
            // The error before matters more. A folder that has something in it stays.
            let _ = fs::remove_dir(self.folder);
        }
    }
}

/// The rows of a folder in a period, and the first and the last time of all its rows.
///
/// # Errors
/// When the folder holds no recordings, or cannot be read.
pub(super) fn find(data: &Path, families: &[FamilyId], period: &Period) -> anyhow::Result<(Cut, (i64, i64))> {
    let (first_us, newest_us) = cut::bounds(data)?.with_context(|| format!("{} holds no rows", data.display()))?;
    Ok((Cut::find(data, families, period.times(first_us, newest_us)?)?, (first_us, newest_us)))
}

/// Says what of a folder could not be read.
pub(super) fn warn_of(cut: &Cut) {
    for (path, reason) in cut.left_out.iter().take(LEFT_OUT_NAMED_MAX) {
        eprintln!("kymo: left out {}: {reason}", path.display());
    }
    if cut.left_out.len() > LEFT_OUT_NAMED_MAX {
        eprintln!("kymo: left out {} more", cut.left_out.len() - LEFT_OUT_NAMED_MAX);
    }
}

fn of_folder(
    data: &Path,
    families: &[FamilyId],
    period: &Period,
    to: &Path,
    terminated: &Arc<AtomicBool>,
) -> anyhow::Result<Vec<Written>> {
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGINT, Arc::clone(&stop)).context("wait for Ctrl-C")?;
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop)).context("wait for SIGTERM")?;
    signal_hook::flag::register(SIGTERM, Arc::clone(terminated)).context("wait for SIGTERM")?;
    let mut tries = 1;
    loop {
        let (cut, all) = find(data, families, period)?;
        match cut.write(to, &stop) {
            Err(WriteError::Stopped) => return Err(InterruptedError.into()),
            Err(_) if tries < TRIES_MAX && cut.has_lost_files() => tries += 1,
            written => {
                warn_of(&cut);
                let written = written?;
                return if written.is_empty() { Err(nothing(all)) } else { Ok(written) };
            }
        }
    }
}

fn of_daemon(
    target: &Target,
    families: &[FamilyId],
    period: &Period,
    to: &Path,
    terminated: &AtomicBool,
) -> anyhow::Result<Vec<Written>> {
    let spinner = spinner("waiting for rows");
    let copy = async {
        let mut lake = NewLake::begin(to)?;
        let all = daemon::copy(target, families, period, &mut lake, &spinner).await?;
        let written = lake.finish()?;
        if written.is_empty() { Err(nothing(all)) } else { Ok(written) }
    };
    let work = Box::pin(unless_interrupted(async {
        let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
        tokio::select! {
            written = copy => written,
            _ = terminate.recv() => {
                terminated.store(true, Ordering::Relaxed);
                Err(InterruptedError.into())
            }
        }
    }));
    block_on(async { spin(&spinner, work).await })
}

fn describe(folder: &Path, tables: &[Written], out: &mut impl Write) -> io::Result<()> {
    let wide = tables.iter().map(|one| one.table.len()).max().unwrap_or(0);
    for Written { table, rows, bytes, .. } in tables {
        writeln!(out, "  {table:wide$}  {:>16}  {:>10}", show::counted(*rows, "row"), show::bytes(*bytes))?;
    }
    let folder = folder.display();
    let times = tables.iter().map(|one| &one.times);
    let Some((from, to)) = times.clone().map(RangeInclusive::start).min().zip(times.map(RangeInclusive::end).max())
    else {
        return Ok(());
    };
    let rows = show::counted(tables.iter().map(|one| one.rows).sum(), "row");
    let bytes = show::bytes(tables.iter().map(|one| one.bytes).sum());
    writeln!(
        out,
        "{folder}: {}, {rows}, {bytes}, from {} to {}",
        show::counted(tables.len() as u64, "table"),
        timestamp(*from),
        timestamp(*to)
    )
}
