//! `kymo report`: the page with a stretch of recorded time in it, as one file that needs nothing else.

mod block;
mod document;
mod fold;
mod series;
mod table;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytesize::ByteSize;
use clap::Args;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::connect::{Target, UsageError, block_on, spin, spinner, unless_interrupted};
use super::export::{daemon, find, nothing, warn_of};
use super::offline::spill_folder;
use super::output::{Publish, create};
use super::period::Period;
use super::show;
use crate::family::FamilyId;
use crate::record::tier::Tier;
use crate::sampler::report::Collector;
use crate::serve::http::tables::{Recorded, groups};
use crate::store::cut::{Cut, NewLake};
use crate::words::list;
use table::Packed;

/// A running daemon may merge files that were just listed. The report then begins again, this many times at most.
const TRIES_MAX: u32 = 5;
/// Rows in a report take about this share of what they take in files, or more.
const SHARE_MIN: f64 = 0.25;
/// A table that charts do not show, and whose rows have nothing in common.
const LEFT_OUT: &str = "statement";
/// From this size on rows are left out, unless another one is named: a browser opens such a file within some seconds.
const SIZE_MAX: u64 = 64 << 20;

/// `kymo report`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo record -o out -- make test
  kymo report out -o report.html
  kymo report --last 5m -o incident.html      of the running daemon

The file has the page and its data in it, and loads nothing. It opens in a browser from
disk. It has every row, as long as it stays below --size-max; beyond that, the least, the
greatest and the mean value of each second, and then of each minute. The page says so.")]
pub struct Report {
    /// Data folder, of `kymo run`, `kymo record` or `kymo export` [default: ask the daemon]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The same
    #[arg(long, value_name = "DIR", conflicts_with_all = ["folder", "address"])]
    data: Option<PathBuf>,
    #[command(flatten)]
    period: Period,
    /// Host to report, of a folder with several
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Write to this file; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Size from which on rows are left out
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize(SIZE_MAX))]
    size_max: ByteSize,
    #[command(flatten)]
    target: Target,
}

/// Writes the report.
///
/// # Errors
/// When an argument is wrong, the daemon does not answer, the folder holds no recordings or cannot be read, the time is too long for a
/// report, or the file cannot be written. An existing file then stays as it was.
pub fn run(report: &Report) -> anyhow::Result<()> {
    let folder = report.folder.as_ref().or(report.data.as_ref());
    let all = Wanted {
        period: &Period::all(),
        host: report.host.as_deref(),
        size_max: report.size_max.as_u64(),
        is_of_daemon: false,
    };
    let made = match folder {
        Some(folder) => made_of(folder, Wanted { period: &report.period, ..all })?,
        None => {
            let copied = copy_of(&report.target, &report.period)?;
            made_of(copied.path(), Wanted { is_of_daemon: true, ..all })?
        }
    };
    if report.output == Path::new("-") {
        let mut out = BufWriter::new(std::io::stdout().lock());
        made.write(&mut out)?;
        out.flush()?;
    } else {
        writeln!(std::io::stdout(), "{}", made.publish(&report.output)?)?;
    }
    if let Some(note) = &made.note {
        eprintln!("kymo: {note}");
    }
    Ok(())
}

/// Writes the report of a whole folder. Gives a line about it.
///
/// # Errors
/// As [`run`].
pub(super) fn of_folder(folder: &Path, output: &Path) -> anyhow::Result<String> {
    let all = Wanted { period: &Period::all(), host: None, size_max: SIZE_MAX, is_of_daemon: false };
    made_of(folder, all)?.publish(output)
}

/// The rows of a daemon in a folder of their own, which lives as long as what is returned.
fn copy_of(target: &Target, period: &Period) -> anyhow::Result<TempDir> {
    if period.is_all() {
        let wanted = "name a data folder, or a time of the daemon's: --last 5m, or --from and --to";
        return Err(UsageError(wanted.to_owned()).into());
    }
    let folder = spill_folder().context("make a folder in $TMPDIR, or in /var/tmp")?;
    let families: Vec<FamilyId> = tables().collect();
    let spinner = spinner("waiting for rows");
    let work = unless_interrupted(async {
        let mut lake = NewLake::begin(folder.path())?;
        let all = daemon::copy(target, &families, period, &mut lake, &spinner).await?;
        if lake.finish()?.is_empty() { Err(nothing(all)) } else { Ok(()) }
    });
    block_on(async { spin(&spinner, work).await })?;
    Ok(folder)
}

/// The tables that a report has.
fn tables() -> impl Iterator<Item = FamilyId> {
    FamilyId::all().filter(|family| family.name() != LEFT_OUT)
}

/// A report, ready to be written.
struct Made {
    recording: Value,
    tables: Vec<(&'static str, Packed)>,
    note: Option<String>,
    width_us: i64,
    length_us: i64,
}

/// What a report is to have.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    period: &'a Period,
    host: Option<&'a str>,
    size_max: u64,
    /// Whether the folder is a copy of what a daemon has.
    is_of_daemon: bool,
}

fn made_of(folder: &Path, wanted: Wanted<'_>) -> anyhow::Result<Made> {
    let families: Vec<FamilyId> = tables().collect();
    let mut tries = 1;
    loop {
        let (mut cut, all) = find(folder, &families, wanted.period)?;
        if cut.times().is_none() {
            return Err(nothing(all));
        }
        let left_out = choose_host(&mut cut, wanted, folder)?;
        match Made::new(&cut, wanted.size_max) {
            Err(_) if tries < TRIES_MAX && cut.has_lost_files() => tries += 1,
            made => {
                warn_of(&cut);
                if let Some(left_out) = left_out {
                    eprintln!("kymo: {left_out}");
                }
                return made;
            }
        }
    }
}

/// Leaves out all hosts but one. Gives what to say of those that were not asked for.
fn choose_host(cut: &mut Cut, wanted: Wanted<'_>, folder: &Path) -> anyhow::Result<Option<String>> {
    let hosts = cut.hosts();
    let folder = if wanted.is_of_daemon { "the daemon".to_owned() } else { folder.display().to_string() };
    if let Some(host) = wanted.host {
        if !hosts.contains(host) {
            bail!("{folder} has no rows of the host {host}: it has some of {}", list(hosts.iter().map(AsRef::as_ref)));
        }
        cut.keep_host(host);
        return Ok(None);
    }
    if hosts.len() < 2 {
        return Ok(None);
    }
    // A folder that says who records into it is of one host, which may have had other names.
    if !wanted.is_of_daemon && cut.recorder().is_none() {
        let hosts = list(hosts.iter().map(AsRef::as_ref));
        bail!("{folder} has recordings of several hosts, {hosts}: choose one with --host");
    }
    let newest = hosts.iter().max_by_key(|host| cut.newest_of(host)).cloned().unwrap_or_default();
    let others = list(hosts.iter().map(AsRef::as_ref).filter(|host: &&str| **host != *newest));
    cut.keep_host(&newest);
    Ok(Some(format!("the report is of {newest}; --host chooses an earlier name of this host: {others}")))
}

impl Made {
    /// With all rows if that is not too large, else in seconds, else in minutes.
    fn new(cut: &Cut, size_max: u64) -> anyhow::Result<Made> {
        let (from_us, to_us) = cut.times().context("nothing was recorded in this time")?;
        let is_hopeless = cut.bytes() as f64 * SHARE_MIN > size_max as f64;
        let widths = [0, Tier::Second.width_us(), Tier::Minute.width_us()];
        for width_us in widths.into_iter().filter(|width_us| *width_us > 0 || !is_hopeless) {
            let Some(tables) = packed(cut, width_us, size_max)? else { continue };
            let mut notes: Vec<String> = lost(width_us, size_max).into_iter().collect();
            if !cut.left_out.is_empty() {
                let files = show::counted(cut.left_out.len() as u64, "file");
                notes.push(format!("{files} could not be read when this report was made; their rows are missing."));
            }
            let note = (!notes.is_empty()).then(|| notes.join(" "));
            let recording = recording(cut, (from_us, to_us), &tables, note.as_deref());
            let made = Made { recording, tables, note, width_us, length_us: to_us - from_us };
            if made.bytes() <= size_max {
                return Ok(made);
            }
        }
        bail!(
            "even in minutes this takes more than {}: name a shorter time with --last, or --from and --to, or a greater --size-max",
            ByteSize(size_max).display().iec()
        )
    }

    fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        document::write(&self.recording, &self.tables, to)
    }

    /// Writes it to a file: as a whole, or not at all. Gives a line about it.
    fn publish(&self, output: &Path) -> anyhow::Result<String> {
        let path = output.display();
        let (file, publish) = create(output)?;
        let mut out = BufWriter::new(file);
        self.write(&mut out).and_then(|()| out.flush()).with_context(|| format!("write {path}"))?;
        drop(out);
        publish.map_or(Ok(()), Publish::publish)?;
        Ok(format!("{path}: {}, {}", show::bytes(self.bytes()), self.told()))
    }

    /// How large it is.
    fn bytes(&self) -> u64 {
        let mut counted = Counted(0);
        // Counting never fails.
        let _ = self.write(&mut counted);
        counted.0
    }

    /// What it has, in a few words.
    fn told(&self) -> String {
        let what = match self.width_us {
            0 => "every row",
            second if second == Tier::Second.width_us() => "each second",
            _ => "each minute",
        };
        let rounded = self.length_us / 1_000 * 1_000;
        let length = std::time::Duration::from_micros(rounded.unsigned_abs());
        format!("{what} of {}", crate::words::duration(length))
    }
}

/// Counts bytes.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All tables that have rows, in buckets of this width where they were sampled more often. `None` once they are too large.
fn packed(cut: &Cut, width_us: i64, size_max: u64) -> anyhow::Result<Option<Vec<(&'static str, Packed)>>> {
    let ticks = table::ticks_of(cut, FamilyId::of::<Collector>())?;
    let (mut all, mut bytes) = (Vec::new(), 0);
    for family in tables() {
        let interval_us = cut.interval(family).and_then(|interval| i64::try_from(interval.as_micros()).ok());
        // Tables of which no file says how often they were sampled have rows in the journal only, which are few.
        let is_folded = width_us > 0 && interval_us.is_some_and(|interval_us| interval_us < width_us);
        let packed =
            if is_folded { table::buckets(cut, family, width_us, &ticks)? } else { table::ticks(cut, family, &ticks)? };
        let Some(packed) = packed else { continue };
        bytes += packed.blocks.iter().map(|(_, block)| block.text.len() as u64).sum::<u64>();
        if bytes > size_max {
            return Ok(None);
        }
        all.push((family.name(), packed));
    }
    Ok(Some(all))
}

/// What a report in buckets lacks.
fn lost(width_us: i64, size_max: u64) -> Option<String> {
    let (unit, length) = match width_us {
        0 => return None,
        second if second == Tier::Second.width_us() => ("second", "1 s"),
        _ => ("minute", "1 min"),
    };
    Some(format!(
        "This report has the least, the greatest and the mean value of each {unit}, as all rows take more than {}. When something \
         happened within {length} is lost; how high it was is not.",
        ByteSize(size_max).display().iec()
    ))
}

/// What the page knows before it unpacks anything.
fn recording(cut: &Cut, (from_us, to_us): (i64, i64), tables: &[(&str, Packed)], note: Option<&str>) -> Value {
    let of = |family: FamilyId| match tables.iter().find(|(name, _)| *name == family.name()) {
        Some((_, packed)) => {
            Recorded { collector: packed.collector.clone(), interval_us: packed.interval_us, unavailable: None }
        }
        None => Recorded { unavailable: Some("nothing of it was recorded in this time".into()), ..Recorded::default() },
    };
    let hosts = cut.hosts();
    let heads: Map<String, Value> =
        tables.iter().map(|(name, packed)| ((*name).to_owned(), packed.head.clone())).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "host": hosts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", "),
        "from": from_us,
        "to": to_us + 1,
        "note": note,
        "groups": groups(of)["groups"],
        "tables": heads,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array};

    use super::*;
    use crate::record::TIME_ZONE;

    const START_US: i64 = 1_795_617_120_000_000;

    /// A minute and a half of an interface, sampled every millisecond.
    fn cut() -> (TempDir, Cut) {
        let network = FamilyId::find("network").unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        let rows = 90_000;
        let mut bytes = 0;
        let schema = network.table.plain_schema();
        let columns = schema.fields().iter().map(|field| match field.name().as_str() {
            "time" => {
                let times = (0..rows).map(|row| START_US + row * 1_000);
                Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone(TIME_ZONE)) as ArrayRef
            }
            "interface" => Arc::new(StringArray::from_iter_values((0..rows).map(|_| "eth0"))),
            "rx_bytes" => Arc::new(Int64Array::from_iter_values((0..rows).map(|_| {
                bytes += random.i64(0..100_000);
                bytes
            }))),
            _ => new_null_array(field.data_type(), usize::try_from(rows).unwrap()),
        });
        let batch = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut lake = NewLake::begin(folder.path()).unwrap();
        lake.add(network, Some(Duration::from_millis(1)), "h", 0, &[batch]).unwrap();
        lake.finish().unwrap();
        let cut = Cut::find(folder.path(), &[network], 0..i64::MAX).unwrap();
        (folder, cut)
    }

    #[test]
    fn rows_that_do_not_fit_are_told_in_seconds_and_then_in_minutes_and_never_in_part() {
        let (_folder, cut) = cut();
        let width = |made: &Made| made.recording["tables"]["network"]["width"].as_i64();
        let all = Made::new(&cut, u64::MAX).unwrap();
        assert_eq!((width(&all), &all.note), (Some(0), &None));
        assert_eq!(all.recording["tables"]["network"]["rows"], json!([90_000]));
        assert_eq!(all.recording["to"], START_US + 89_999_001);
        let seconds = Made::new(&cut, all.bytes() - 1).unwrap();
        assert_eq!(width(&seconds), Some(1_000_000));
        assert_eq!(seconds.recording["tables"]["network"]["rows"], json!([90]));
        let note = seconds.note.clone().unwrap();
        assert!(note.contains("of each second, as all rows take more than"), "{note}");
        let minutes = Made::new(&cut, seconds.bytes() - 1).unwrap();
        assert_eq!((width(&minutes), minutes.told()), (Some(60_000_000), "each minute of 1m 29s 999ms".to_owned()));
        let refused = Made::new(&cut, minutes.bytes() - 1).err().unwrap().to_string();
        assert!(refused.contains("name a shorter time with --last"), "{refused}");
    }

    #[test]
    fn a_report_is_of_one_host() {
        let (folder, cut) = cut();
        let (from_us, _) = cut.times().unwrap();
        let network = FamilyId::find("network").unwrap();
        let schema = network.table.plain_schema();
        let columns = schema.fields().iter().map(|field| match field.name().as_str() {
            "time" => Arc::new(TimestampMicrosecondArray::from(vec![from_us]).with_timezone(TIME_ZONE)) as ArrayRef,
            "interface" => Arc::new(StringArray::from(vec!["eth0"])),
            _ => new_null_array(field.data_type(), 1),
        });
        let batch = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
        let other = tempfile::tempdir().unwrap();
        let mut lake = NewLake::begin(other.path()).unwrap();
        lake.add(network, None, "older", 100_000, &[batch]).unwrap();
        lake.finish().unwrap();
        let part = "lake/network/host=older";
        std::fs::rename(other.path().join(part), folder.path().join(part)).unwrap();

        let period = Period::all();
        let wanted = |host| Wanted { period: &period, host, size_max: u64::MAX, is_of_daemon: false };
        let refused = made_of(folder.path(), wanted(None)).err().unwrap().to_string();
        assert!(refused.contains("several hosts, h, older: choose one with --host"), "{refused}");
        let refused = made_of(folder.path(), wanted(Some("none"))).err().unwrap().to_string();
        assert!(refused.contains("no rows of the host none: it has some of h, older"), "{refused}");
        let of = |wanted| made_of(folder.path(), wanted).unwrap().recording["host"].clone();
        assert_eq!([of(wanted(Some("h"))), of(wanted(Some("older")))], ["h", "older"]);
        // One host may have had other names: the folder says who records there.
        std::fs::write(folder.path().join("HOST"), "name h\n").unwrap();
        assert_eq!(of(wanted(None)), "h");
    }

    #[test]
    fn a_folder_without_rows_in_the_time_is_no_report() {
        let (folder, _) = cut();
        let none = Cut::find(folder.path(), &[FamilyId::find("network").unwrap()], 0..START_US).unwrap();
        assert_eq!(Made::new(&none, u64::MAX).err().unwrap().to_string(), "nothing was recorded in this time");
    }
}
