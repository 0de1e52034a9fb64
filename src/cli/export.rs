//! `kymo export`: rows of a stretch of time, as a data folder of their own.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use arrow::array::RecordBatch;
use clap::Args;
use futures::{Stream, StreamExt, TryStreamExt};

use super::connect::{Target, UsageError, block_on, spin, spinner, unless_interrupted};
use super::new_folder;
use super::offline::{Offline, spill_folder};
use super::query::{self, TRIES_MAX};
use super::rows::{Rows, text};
use super::show;
use super::top::clock::Clock;
use crate::family::FamilyId;
use crate::query::sql_view::SqlViews;
use crate::sampler::wall_us;
use crate::store::cut::{Cut, Size};
use crate::store::verify::{Journaled, Report};
use crate::words::{parse_duration, unknown};

/// `kymo export`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo export --last 5m -o incident
  kymo export --from 14:02 --to 14:07:30 -o incident
  kymo export --data /var/lib/kymo --from '2 hours ago' --table cpu --table process -o slow

Writes all rows of that time, as they are, into a new data folder, which
`kymo query --data`, `kymo top --data`, DuckDB and others open. Without --data, a
running daemon gives its newest rows, too. With --data, only rows in files are seen,
and --last counts back from the newest of them. A time has the zone of this terminal
if it names none. DIR appears when it is complete. Tables of seconds and minutes
(`_1s`, `_1m`) are not exported.")]
pub struct Export {
    #[command(flatten)]
    target: Target,
    /// Take the files of this data folder instead of asking a daemon
    #[arg(long, value_name = "DIR", conflicts_with = "address")]
    data: Option<PathBuf>,
    /// The newest rows: so much time
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["from", "to"], required_unless_present_any = ["from", "to"])]
    last: Option<String>,
    /// Rows from this time on [default: the first]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Rows before this time [default: the last]
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only this table; may be given several times
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,
    /// The new folder
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// Exports the rows.
///
/// # Errors
/// When an argument is wrong, the daemon does not answer, the folder cannot be read, there are no rows, or the new folder cannot be
/// written. Nothing is left behind then.
pub fn run(export: &Export) -> anyhow::Result<()> {
    let wanted = export.wanted(wall_us())?;
    let output = &export.output;
    new_folder::is_absent(output)?;
    let spinner = spinner("exporting rows");
    let work = unless_interrupted(async {
        match &export.data {
            Some(folder) => offline(folder, &wanted, output).await,
            None => online(&export.target, &wanted, output).await,
        }
    });
    let size = block_on(spin(&spinner, work))?;
    let (rows, files) = (show::counted(size.rows, "row"), show::counted(size.files, "file"));
    let span = wanted.stretch.span();
    eprintln!("kymo: exported {rows} {span} into {}: {files}, {}", output.display(), show::bytes(size.bytes));
    Ok(())
}

/// What to export.
#[derive(Clone, Debug)]
struct Wanted {
    families: Vec<FamilyId>,
    stretch: Stretch,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stretch {
    /// So much before the newest row.
    Last(Duration),
    /// From, and before, µs since the epoch.
    Between(Option<i64>, Option<i64>),
}

impl Export {
    fn wanted(&self, now_us: i64) -> anyhow::Result<Wanted> {
        let clock = Clock::local();
        let time = |flag: &str, text: &Option<String>| {
            let parsed = text.as_ref().map(|text| clock.parse(text, now_us)).transpose();
            parsed.map_err(|wrong| UsageError(format!("{flag}: {wrong}")))
        };
        let stretch = match &self.last {
            Some(text) => {
                let wrong = || UsageError(format!("--last: {text:?} is not a duration, such as 30s, 5m or 2h"));
                Stretch::Last(parse_duration(text).filter(|last| !last.is_zero()).ok_or_else(wrong)?)
            }
            None => {
                let (from, to) = (time("--from", &self.from)?, time("--to", &self.to)?);
                if from.zip(to).is_some_and(|(from, to)| from >= to) {
                    return Err(UsageError("--from must be before --to".to_owned()).into());
                }
                Stretch::Between(from, to)
            }
        };
        let find = |name: &String| {
            let known: Vec<&str> = FamilyId::all().map(|family| family.name()).collect();
            let known = known.iter().copied();
            FamilyId::find(name).ok_or_else(|| UsageError(format!("--table: {}", unknown("table", name, known))))
        };
        let mut families = self.table.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        if families.is_empty() {
            families = FamilyId::all().collect();
        }
        families.sort();
        families.dedup();
        Ok(Wanted { families, stretch })
    }
}

impl Stretch {
    /// The condition of the rows, where the newest has the time `newest_us`.
    fn condition(self, newest_us: i64) -> String {
        let time = |us: i64| format!("to_timestamp_micros({us})");
        let (from, to) = match self {
            Stretch::Last(last) => {
                let last_us = i64::try_from(last.as_micros()).unwrap_or(i64::MAX);
                (Some(newest_us.saturating_sub(last_us)), None)
            }
            Stretch::Between(from, to) => (from, to),
        };
        // What comes while tables are read one after the other is left out of all of them.
        let to = to.map_or_else(|| format!("time <= {}", time(newest_us)), |to| format!("time < {}", time(to)));
        from.map_or_else(|| to.clone(), |from| format!("time >= {} AND {to}", time(from)))
    }

    fn span(self) -> String {
        let time = |us: i64| Clock::local().full(us, 3, true);
        match self {
            Stretch::Last(last) => format!("of the last {}", crate::words::duration(last)),
            Stretch::Between(None, None) => "of all time".to_owned(),
            Stretch::Between(Some(from), None) => format!("from {}", time(from)),
            Stretch::Between(None, Some(to)) => format!("before {}", time(to)),
            Stretch::Between(Some(from), Some(to)) => format!("from {} to {}", time(from), time(to)),
        }
    }
}

async fn offline(folder: &Path, wanted: &Wanted, output: &Path) -> anyhow::Result<Size> {
    let journaled = Journaled::read(folder, &mut Report::default());
    let spill = spill_folder();
    let mut tries = 1;
    loop {
        let offline = Offline::open(folder, SqlViews::default(), spill.as_ref())?;
        let files = offline.view.tables.values().flat_map(|table| table.files.iter());
        let newest_us = files.map(|file| file.time_range.1).max();
        let newest_us = newest_us.with_context(|| format!("{} has no rows in files", folder.display()))?;
        let ask = async |sql: String| anyhow::Ok(offline.stream(&sql).await?.map_err(anyhow::Error::from));
        match cut(ask, wanted, newest_us, output).await {
            // A running daemon merged files that were just listed.
            Err(_) if tries < TRIES_MAX && offline.has_lost_files() => tries += 1,
            done => {
                query::warn_of(&offline.scan);
                query::warn_of_journal(journaled, &offline.view);
                return done.with_context(|| format!("export {}", folder.display()));
            }
        }
    }
}

async fn online(target: &Target, wanted: &Wanted, output: &Path) -> anyhow::Result<Size> {
    let ask = async |sql: String| anyhow::Ok(query::ask(&sql, target).await?.1);
    let now: Vec<RecordBatch> = ask("SELECT now() AS now".to_owned()).await?.try_collect().await?;
    let now = now.first().context("the daemon does not say what time it is")?;
    let now_us = Rows::of(now).wholes("now")?.values().first().copied().context("the daemon's time is missing")?;
    cut(ask, wanted, now_us, output).await
}

/// Writes the rows that `ask` gives for statements. Each table is read host by host, in the order of time.
async fn cut<S: Stream<Item = anyhow::Result<RecordBatch>>>(
    ask: impl AsyncFn(String) -> anyhow::Result<S>,
    wanted: &Wanted,
    newest_us: i64,
    output: &Path,
) -> anyhow::Result<Size> {
    let condition = wanted.stretch.condition(newest_us);
    let known: Vec<RecordBatch> =
        ask("SELECT table_name FROM information_schema.tables".to_owned()).await?.try_collect().await?;
    let known = texts(&known, "table_name")?;
    let mut cut = Cut::create(output)?;
    for family in wanted.families.iter().filter(|family| known.iter().any(|name| **name == *family.name())) {
        let table = family.name();
        let failed = || format!("read the table {table}");
        let hosts = format!("SELECT host FROM {table} WHERE {condition} GROUP BY host ORDER BY host");
        let hosts: Vec<RecordBatch> =
            ask(hosts).await.with_context(failed)?.try_collect().await.with_context(failed)?;
        for host in texts(&hosts, "host")? {
            let quoted = host.replace('\'', "''");
            let rows = format!("SELECT * FROM {table} WHERE {condition} AND host = '{quoted}' ORDER BY time");
            let mut rows = pin!(ask(rows).await.with_context(failed)?);
            while let Some(batch) = rows.next().await {
                cut.write(*family, &host, &batch.with_context(failed)?)?;
            }
        }
    }
    if !cut.has_rows() {
        let span = wanted.stretch.span();
        bail!("there are no rows {span}; nothing was written");
    }
    Ok(cut.publish()?)
}

fn texts(batches: &[RecordBatch], column: &str) -> anyhow::Result<Vec<Arc<str>>> {
    let mut all = Vec::new();
    for batch in batches {
        let rows = Rows::of(batch);
        let texts = rows.texts(column)?;
        all.extend((0..rows.count()).map(|row| Arc::from(text(&texts, row))));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_ends_before_its_end_and_has_no_row_that_comes_later() {
        let last = Stretch::Last(Duration::from_micros(30));
        assert_eq!(last.condition(100), "time >= to_timestamp_micros(70) AND time <= to_timestamp_micros(100)");
        let between = Stretch::Between(Some(1), Some(9));
        assert_eq!(between.condition(100), "time >= to_timestamp_micros(1) AND time < to_timestamp_micros(9)");
        assert_eq!(Stretch::Between(None, None).condition(100), "time <= to_timestamp_micros(100)");
    }
}
