//! One side of a comparison: the series of a stretch of a data folder, in blocks of time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::bail;
use jiff::Timestamp;

use super::worth::{columns, is_stock};
use crate::cli::offline::Offline;
use crate::cli::rows::{Rows, float, text};
use crate::family::FamilyId;
use crate::query::sql_view::SqlViews;
use crate::record::{Column, Kind};
use crate::words::list;

/// Columns of one statement.
const COLUMNS_MAX: usize = 32;
/// Series of one table.
const ENTITIES_MAX: usize = 20_000;
/// The first rows of a table are within this time.
const START_US: i64 = 10_000_000;
/// Of what kymo itself does, nothing is compared.
const OWN_COMMAND: &str = "kymo";

/// Blocks of equal length, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) from_us: i64,
    pub(super) width_us: i64,
    pub(super) blocks: usize,
}

impl Grid {
    pub(super) fn to_us(self) -> i64 {
        self.from_us + self.width_us * i64::try_from(self.blocks).unwrap_or(i64::MAX)
    }

    fn block(self, time_us: i64) -> Option<usize> {
        let block = usize::try_from((time_us - self.from_us).div_euclid(self.width_us)).ok()?;
        (block < self.blocks).then_some(block)
    }
}

/// One column of one thing.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// The mean of each block, of a counter that of its rate; NaN where there is none.
    pub(super) means: Vec<f64>,
    /// The greatest value of each block, where it is known.
    pub(super) peaks: Vec<f64>,
    /// Its rows.
    pub(super) rows: f64,
    /// The value at the beginning of the recording, of a stock.
    pub(super) start: Option<f64>,
}

/// All columns of a table that are compared, by the table and the name of what they are of.
pub(super) type Things = BTreeMap<(FamilyId, String), Vec<Series>>;

/// A stretch of a data folder.
pub(super) struct Recording {
    offline: Offline,
    host: String,
    /// The times of its first and last row.
    pub(super) span: (i64, i64),
}

impl Recording {
    /// Opens a folder, and takes the rows of these times of it, or all.
    ///
    /// # Errors
    /// When the folder cannot be read, has no rows then, or has those of several hosts.
    pub(super) fn open(folder: &Path, times: Option<(i64, i64)>, host: Option<&str>) -> anyhow::Result<Recording> {
        let offline = Offline::open(folder, SqlViews::default(), None)?;
        let files = || {
            let tables = super::worth::families().map(|family| &offline.view.tables[family]);
            tables.flat_map(|table| table.all_files().flat_map(|(_, files)| files.iter()))
        };
        let hosts: BTreeSet<String> = files().map(|file| file.host()).collect();
        let host = match (host, hosts.len()) {
            (Some(host), _) if hosts.contains(host) => host.to_owned(),
            (Some(host), _) => bail!("{} has no rows of the host {host}", folder.display()),
            (None, 0 | 1) => hosts.first().cloned().unwrap_or_default(),
            (None, _) => {
                let hosts = list(hosts.iter().map(String::as_str));
                bail!("{} has recordings of several hosts, {hosts}: choose one with --host", folder.display())
            }
        };
        // A bucket of a tier begins before the first row.
        let rows = super::worth::families().flat_map(|family| offline.view.tables[family].files.iter());
        let rows = rows.filter(|file| file.host() == host).map(|file| file.time_range);
        let all = || files().filter(|file| file.host() == host).map(|file| file.time_range);
        let span = |one: (i64, i64), other: (i64, i64)| (one.0.min(other.0), one.1.max(other.1));
        let Some((first, last)) = rows.reduce(span).or_else(|| all().reduce(span)) else {
            bail!("{} has no rows yet", folder.display())
        };
        let (from, to) = times.unwrap_or((first, last));
        let span = (from.max(first), to.min(last));
        if span.0 >= span.1 {
            bail!(
                "{} has no rows from {} to {}: it has some from {} to {}",
                folder.display(),
                time(from),
                time(to),
                time(first),
                time(last)
            );
        }
        Ok(Recording { offline, host, span })
    }

    /// Whether files are gone: a running daemon may merge what was just listed.
    pub(super) fn has_lost_files(&self) -> bool {
        self.offline.has_lost_files()
    }

    /// The series of these tables.
    ///
    /// # Errors
    /// When the rows cannot be read, or are of more things than can be compared.
    pub(super) async fn read(&self, families: &[FamilyId], grid: Grid) -> anyhow::Result<Things> {
        let mut things = Things::new();
        for family in families {
            let table = &self.offline.view.tables[*family];
            if table.all_files().all(|(_, files)| files.is_empty()) {
                continue;
            }
            let mut reading = Reading {
                recording: self,
                family: *family,
                grid,
                columns: columns(*family),
                things: &mut things,
                count: 0,
            };
            if family.table.identities().next().is_some() {
                reading.processes().await?;
            } else {
                reading.blocks().await?;
            }
            reading.starts().await?;
        }
        Ok(things)
    }
}

/// A time in SQL and for people.
pub(super) fn time(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| "-".to_owned(), |time| time.to_string())
}

struct Reading<'a> {
    recording: &'a Recording,
    family: FamilyId,
    grid: Grid,
    columns: Vec<&'static Column>,
    things: &'a mut Things,
    /// Things of this table.
    count: usize,
}

impl Reading<'_> {
    /// Means and peaks, from rows or tiers.
    async fn blocks(&mut self) -> anyhow::Result<()> {
        let columns = self.columns.clone();
        for (chunk, of_chunk) in columns.chunks(COLUMNS_MAX).enumerate() {
            let names: Vec<&str> = of_chunk.iter().map(|column| column.name).collect();
            let figure =
                |name: &str, what: &str| if names.len() == 1 { what.to_owned() } else { format!("{name}_{what}") };
            let figures: Vec<String> = (0..)
                .zip(&names)
                .map(|(at, name): (usize, _)| {
                    let [mean, max, count] = ["mean", "max", "count"].map(|what| figure(name, what));
                    format!("{mean} AS mean{at}, {max} AS max{at}, {count} AS count{at}")
                })
                .collect();
            let sql = format!(
                "SELECT {}, {} FROM downsample('{}', '{}', '{}', '{}', {}) WHERE {}",
                self.labels("time"),
                figures.join(", "),
                self.family.name(),
                names.join(","),
                time(self.grid.from_us),
                time(self.grid.to_us()),
                self.grid.blocks,
                self.filter()
            );
            for batch in self.recording.offline.rows(&sql).await? {
                let rows = Rows::of(&batch);
                let (things, times) = (self.names(&rows)?, rows.wholes("time")?);
                for at in 0..of_chunk.len() {
                    let [means, peaks, counts] =
                        [format!("mean{at}"), format!("max{at}"), format!("count{at}")].map(|name| rows.floats(&name));
                    let (means, peaks, counts) = (means?, peaks?, counts?);
                    for (row, thing) in things.iter().enumerate() {
                        let (Some(block), Some(mean)) = (self.grid.block(times.value(row)), float(&means, row)) else {
                            continue;
                        };
                        let series = self.series(thing, chunk * COLUMNS_MAX + at)?;
                        add(&mut series.means, block, mean);
                        add(&mut series.peaks, block, float(&peaks, row).unwrap_or(f64::NAN));
                        series.rows += float(&counts, row).unwrap_or(0.0);
                    }
                }
            }
        }
        Ok(())
    }

    /// Means of all processes of a command together. At a tick at which none has a row, they have nothing.
    async fn processes(&mut self) -> anyhow::Result<()> {
        let within = self.within();
        let block = format!(
            "date_bin(interval '{} microseconds', time, TIMESTAMPTZ '{}')",
            self.grid.width_us,
            time(self.grid.from_us)
        );
        let mut ticks = vec![0.0; self.grid.blocks];
        let sql = format!(
            "SELECT block, count(*) AS ticks FROM (SELECT DISTINCT time, {block} AS block FROM process WHERE {within}) GROUP BY block"
        );
        for batch in self.recording.offline.rows(&sql).await? {
            let rows = Rows::of(&batch);
            let (times, counts) = (rows.wholes("block")?, rows.floats("ticks")?);
            for row in 0..rows.count() {
                if let Some(block) = self.grid.block(times.value(row)) {
                    ticks[block] = counts.value(row);
                }
            }
        }
        let none: Vec<f64> = ticks.iter().map(|ticks| if *ticks > 0.0 { 0.0 } else { f64::NAN }).collect();
        let columns = self.columns.clone();
        let of_kind = |kind: Kind| columns.iter().enumerate().filter(move |(_, column)| column.kind == kind);
        let listed = |kind: Kind, of: &dyn Fn(usize, &str) -> String| {
            of_kind(kind).map(|(at, column)| of(at, column.name)).collect::<Vec<_>>().join(", ")
        };
        let gauges = listed(Kind::Gauge, &|at, name| format!("sum({name}) AS value{at}"));
        let increases = listed(Kind::Counter, &|at, name| format!("increase({name}, time) AS increase{at}"));
        let counters = listed(Kind::Counter, &|at, _| format!("sum(increase{at}) AS value{at}"));
        let statements = [
            (
                Kind::Gauge,
                format!(
                    "SELECT command, {block} AS block, {gauges} FROM process WHERE {within} GROUP BY command, {block}"
                ),
            ),
            (
                Kind::Counter,
                format!(
                    "SELECT command, block, {counters} FROM (SELECT command, pid, start_us, {block} AS block, {increases} FROM process \
                 WHERE {within} GROUP BY command, pid, start_us, {block}) GROUP BY command, block"
                ),
            ),
        ];
        for (kind, sql) in statements {
            for batch in self.recording.offline.rows(&sql).await? {
                let rows = Rows::of(&batch);
                let (commands, times) = (rows.texts("command")?, rows.wholes("block")?);
                for (at, _) in of_kind(kind) {
                    let values = rows.floats(&format!("value{at}"))?;
                    for row in 0..rows.count() {
                        let (Some(block), Some(value)) = (self.grid.block(times.value(row)), float(&values, row))
                        else {
                            continue;
                        };
                        let over =
                            if kind == Kind::Counter { self.grid.width_us as f64 / 1e6 } else { ticks[block].max(1.0) };
                        let series = self.series(text(&commands, row), at)?;
                        if series.rows == 0.0 {
                            series.means.clone_from(&none);
                        }
                        add(&mut series.means, block, value / over);
                        series.rows += 1.0;
                    }
                }
            }
        }
        self.things.remove(&(self.family, OWN_COMMAND.to_owned()));
        Ok(())
    }

    /// What stocks were at the beginning, of what was there then.
    async fn starts(&mut self) -> anyhow::Result<()> {
        let columns = self.columns.clone();
        let stocks: Vec<(usize, &Column)> =
            columns.iter().copied().enumerate().filter(|(_, column)| is_stock(column)).collect();
        if stocks.is_empty() {
            return Ok(());
        }
        let (table, filter) = (self.family.name(), self.filter());
        let (from, to) = (time(self.grid.from_us), time(self.grid.from_us + START_US));
        let names: Vec<&str> = stocks.iter().map(|(_, column)| column.name).collect();
        let sql = format!(
            "SELECT {}, {} FROM {table} WHERE {filter} AND time = (SELECT min(time) FROM {table} WHERE {filter} AND time >= TIMESTAMPTZ '{from}' \
             AND time < TIMESTAMPTZ '{to}')",
            self.labels("time"),
            names.join(", ")
        );
        for batch in self.recording.offline.rows(&sql).await? {
            let rows = Rows::of(&batch);
            let things = self.names(&rows)?;
            for (at, column) in &stocks {
                let values = rows.floats(column.name)?;
                for (row, thing) in things.iter().enumerate() {
                    let series = self.things.get_mut(&(self.family, thing.clone())).and_then(|all| all.get_mut(*at));
                    if let (Some(series), Some(value)) = (series, float(&values, row)) {
                        *series.start.get_or_insert(0.0) += value;
                    }
                }
            }
        }
        Ok(())
    }

    fn series(&mut self, thing: &str, at: usize) -> anyhow::Result<&mut Series> {
        let key = (self.family, thing.to_owned());
        if !self.things.contains_key(&key) {
            self.count += 1;
            if self.count > ENTITIES_MAX {
                let table = self.family.name();
                bail!("`{table}` has more than {ENTITIES_MAX} series: choose other tables with --tables");
            }
        }
        let empty = || Series {
            means: vec![f64::NAN; self.grid.blocks],
            peaks: vec![f64::NAN; self.grid.blocks],
            rows: 0.0,
            start: None,
        };
        let all = self.things.entry(key).or_insert_with(|| self.columns.iter().map(|_| empty()).collect());
        Ok(&mut all[at])
    }

    /// The labels that name a thing, and another column.
    fn labels(&self, and: &str) -> String {
        let labels: Vec<&str> = self.naming().collect();
        [labels, vec![and]].concat().join(", ")
    }

    /// The labels that name a thing in both recordings. Which CPU did something, or which slot a process had, is chance.
    fn naming(&self) -> impl Iterator<Item = &'static str> + use<> {
        let all = match self.family.name() {
            "softnet" => 0,
            "disk" | "filesystem" | "process" => 1,
            _ => usize::MAX,
        };
        self.family.table.labels().map(|(_, label)| label.name).take(all)
    }

    /// The name of what each row is of.
    fn names(&self, rows: &Rows<'_>) -> anyhow::Result<Vec<String>> {
        let labels = self.naming().map(|label| rows.texts(label)).collect::<anyhow::Result<Vec<_>>>()?;
        let name = |row| {
            labels.iter().map(|label| text(label, row)).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
        };
        Ok((0..rows.count()).map(name).collect())
    }

    /// The condition on rows that are compared.
    fn filter(&self) -> String {
        let host = format!("host = '{}'", self.recording.host.replace('\'', "''"));
        if self.family.name() == "cpu" { format!("{host} AND cpu = 'total'") } else { host }
    }

    fn within(&self) -> String {
        let (from, to) = (time(self.grid.from_us), time(self.grid.to_us()));
        format!("{} AND time >= TIMESTAMPTZ '{from}' AND time < TIMESTAMPTZ '{to}'", self.filter())
    }
}

/// Several series may be one thing.
fn add(blocks: &mut [f64], block: usize, value: f64) {
    if let Some(sum) = blocks.get_mut(block) {
        *sum = if sum.is_nan() { value } else { *sum + value };
    }
}
