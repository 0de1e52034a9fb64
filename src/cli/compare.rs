//! `kymo compare`: what differs between two recordings.

mod estimate;
mod judge;
mod recording;
#[cfg(test)]
mod simulated;
mod text;
mod worth;

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use clap::Args;
use futures::future::try_join;

use super::connect::{UsageError, block_on, spin, spinner, unless_interrupted};
use super::output::{Destination, Format};
use super::top::clock::{Clock, HOW};
use crate::export::show_errors;
use crate::family::FamilyId;
use crate::sampler::wall_us;
use crate::words::unknown;
use estimate::BLOCKS_MIN;
use judge::{Judgement, judge};
use recording::{Grid, Recording};

/// A block of most recordings: so long that what comes every second is in each.
const WIDTH_US: i64 = 1_000_000;
/// Blocks of the shorter recording: these are wider if it is long, and narrower if it is short.
const BLOCKS: [i64; 2] = [16, 64];
/// Blocks of the longer one.
const BLOCKS_MAX: i64 = 1_024;
/// Rows of most tables are as far apart.
const WIDTH_US_MIN: i64 = 250_000;
/// A running daemon may merge files that were just listed. The comparison then lists them again, this many times at most.
const TRIES_MAX: u32 = 5;

/// `kymo compare`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo record -o before -- ./benchmark
  kymo record -o after -- ./benchmark --new-allocator
  kymo compare before after
  kymo compare data --a 14:00..14:10 --b 15:00..15:10
  kymo compare before after --format json

Each series is compared by its means and its peaks in blocks of time, mostly of a second:
counters by their rates, processes by command, CPUs in total. A change is named if it is
far more than the noise of both, so of two recordings of the same load nothing is. `noise`
is the range around the change in which the true one is. Memory and other stocks
count from their value at the beginning; if they differed then, a line below says so.
What kymo itself does is not compared. A process that is in one recording only is
listed; by itself it is a difference only if --tables names `process`.

Exit codes: 0 nothing differs, 1 something does, 2 the comparison failed.")]
pub struct Compare {
    /// Data folder, such as that of `kymo record`
    #[arg(value_name = "A")]
    first: PathBuf,
    /// The one to compare with it [default: the same, with --a and --b]
    #[arg(value_name = "B")]
    second: Option<PathBuf>,
    /// Only these times of A ('14:00..14:10', '2 hours ago..1 hour ago') [default: all]
    #[arg(long, value_name = "FROM..TO")]
    a: Option<String>,
    /// Only these times of B
    #[arg(long, value_name = "FROM..TO")]
    b: Option<String>,
    /// Only these tables, separated by commas
    #[arg(long, value_name = "TABLES", value_delimiter = ',', value_parser = family)]
    tables: Vec<FamilyId>,
    /// Host to compare, of folders with several
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Show so many changes, the most important first; 0 for all
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Output format; all but `table` have every change, with the columns of one thing as rows of one rank
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

fn family(name: &str) -> Result<FamilyId, String> {
    let found = worth::families().find(|family| family.name() == name);
    let known: Vec<&str> = worth::families().map(|family| family.table.name).collect();
    found.ok_or_else(|| unknown("table", name, known.into_iter()))
}

/// Compares, and writes what differs. Returns whether anything does.
///
/// # Errors
/// When a folder cannot be read, or has too little.
pub fn run(arguments: &Compare) -> anyhow::Result<bool> {
    let (a, b) = (times("--a", arguments.a.as_deref())?, times("--b", arguments.b.as_deref())?);
    if arguments.second.is_none() && (a.is_none() || b.is_none()) {
        let wanted = "compare takes two folders, or one with two times of it: --a FROM..TO --b FROM..TO";
        return Err(UsageError(wanted.to_owned()).into());
    }
    let destination = Destination::new(Some(arguments.format), None)?;
    let second = arguments.second.as_ref().unwrap_or(&arguments.first);
    show_errors();
    let work = unless_interrupted(async {
        let mut tries = 1;
        loop {
            let sides = [(arguments.first.as_path(), a), (second.as_path(), b)];
            match compare(arguments, sides).await? {
                Some(compared) => return Ok(compared),
                None if tries < TRIES_MAX => tries += 1,
                None => anyhow::bail!("files vanish while they are read; compare again, or stop the daemon"),
            }
        }
    });
    let (judgement, blocks) = block_on(spin(&spinner("comparing"), work))?;
    if arguments.format == Format::Table {
        let limit = if arguments.limit == 0 { usize::MAX } else { arguments.limit };
        let mut out = stdout().lock();
        text::write(&judgement, limit, &blocks, &mut out)?;
        out.flush()?;
    } else {
        let batch = text::batch(&judgement)?;
        let mut output = destination.open(&batch.schema())?;
        output.write(&batch)?;
        output.finish()?;
    }
    let is_about_processes = arguments.tables.iter().any(|family| family.table.identities().next().is_some());
    Ok(judgement.differs(is_about_processes))
}

/// What differs, and the blocks in words. `None` if files vanished meanwhile.
async fn compare(
    arguments: &Compare,
    sides: [(&Path, Option<(i64, i64)>); 2],
) -> anyhow::Result<Option<(Judgement, String)>> {
    let open = |(folder, times)| Recording::open(folder, times, arguments.host.as_deref());
    let [a, b] = sides.map(open);
    let (a, b) = (a?, b?);
    let grids = grids([a.span, b.span])?;
    let families: Vec<FamilyId> = match &*arguments.tables {
        [] => worth::families().collect(),
        chosen => chosen.to_vec(),
    };
    let read = try_join(a.read(&families, grids[0]), b.read(&families, grids[1])).await;
    if read.is_err() && (a.has_lost_files() || b.has_lost_files()) {
        return Ok(None);
    }
    let (of_a, of_b) = read?;
    let blocks = format!("{} and {} blocks of {}", grids[0].blocks, grids[1].blocks, width(grids[0].width_us));
    Ok(Some((judge(&of_a, &of_b), blocks)))
}

/// The width of a block, to a tenth of a second.
fn width(us: i64) -> String {
    let text = format!("{:.1}", us as f64 / 1e6);
    format!("{} s", text.trim_end_matches(".0"))
}

/// Blocks of one width for both recordings: peaks of wide blocks are greater than those of narrow ones.
fn grids(spans: [(i64, i64); 2]) -> Result<[Grid; 2], UsageError> {
    let lengths = spans.map(|(from, to)| to - from);
    let (short, long) = (lengths[0].min(lengths[1]), lengths[0].max(lengths[1]));
    let [few, many] = BLOCKS;
    let width_us = WIDTH_US.min(short / few).max(short / many).max(long / BLOCKS_MAX);
    let blocks = lengths.map(|length| usize::try_from(length / width_us.max(1)).unwrap_or(0));
    let seconds = lengths.map(|length| format!("{:.1} s", length as f64 / 1e6));
    if width_us < WIDTH_US_MIN {
        let least = (WIDTH_US_MIN * few) as f64 / 1e6;
        return Err(UsageError(format!(
            "the recordings have {} and {}: less than {least} s tells too little",
            seconds[0], seconds[1]
        )));
    }
    if blocks.iter().any(|blocks| *blocks < BLOCKS_MIN + 2) {
        return Err(UsageError(format!(
            "the recordings have {} and {}: they are too unequal; name a part of the longer one with --a or --b",
            seconds[0], seconds[1]
        )));
    }
    let grid = |(from_us, _): (i64, i64), blocks| Grid { from_us, width_us, blocks };
    Ok([grid(spans[0], blocks[0]), grid(spans[1], blocks[1])])
}

/// The two times of `FROM..TO`.
fn times(option: &str, text: Option<&str>) -> Result<Option<(i64, i64)>, UsageError> {
    let Some(text) = text else { return Ok(None) };
    let wrong = |reason: &str| UsageError(format!("{option}: {reason}"));
    let Some((from, to)) = text.split_once("..") else {
        return Err(wrong(&format!("expected FROM..TO with two times, {HOW}, found {text:?}")));
    };
    let read = |text: &str| Clock::local().parse(text, wall_us()).map_err(|error| wrong(&error));
    let (from, to) = (read(from)?, read(to)?);
    if from < to { Ok(Some((from, to))) } else { Err(wrong(&format!("{text:?} ends before it begins"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_told_in_tenths_of_a_second() {
        assert_eq!([511_820, 1_000_000, 2_340_000, 60_000_000].map(width), ["0.5 s", "1 s", "2.3 s", "60 s"]);
    }
}
