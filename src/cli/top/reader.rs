//! Reads what a screen shows: a few statements for each picture, on one connection.

use std::sync::Arc;

use anyhow::Context;

use super::asked::{self, SEEK_BUCKETS, Seek};
use super::catalog::Catalog;
use super::cgroups::Groups;
use super::events::{Events, Firing};
use super::hardware::{self, Hardware};
use super::held::{self, Held};
use super::history::History;
use super::metric::Metric;
use super::picture::Picture;
use super::processes::Ticks;
use super::series::{Charts, Facts, More};
use super::source::Source;
use super::statement::{self, Host, RECENT_US};
use super::window::{SECOND_US, Window};
use crate::cli::rows::{Rows, text, whole};
use crate::record::Table;

/// Rows as far outside of the window say what is within it: tables that are sampled once a second have a row in each stretch of this
/// length.
const OUTSIDE_US: i64 = 1_200_000;
/// At most so many cells are read for that at each end. Before narrower windows, rows are looked for.
const OUTSIDE_CELLS_MAX: usize = 150;
/// How far to each side of a moment processes are traced.
pub(super) const TRACE_US: i64 = 30 * SECOND_US;
/// Rows come at most so late.
const LATE_US: i64 = 2 * SECOND_US;
/// Tables of one row a second have one in a stretch of this length.
const MOMENT_US: i64 = SECOND_US + 20_000;

/// What is kept changes slowly.
const HISTORY_US: i64 = 30 * SECOND_US;
/// And so do file systems and temperatures.
const HARDWARE_US: i64 = 2 * SECOND_US;
/// Cells of so many metrics are remembered.
const METRICS_MAX: usize = 500;

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) length_us: i64,
    pub(super) cells: usize,
    /// A window and a moment in it; the newest without it.
    pub(super) at: Option<(Window, i64)>,
    /// A peak to find in it, which is the moment then.
    pub(super) seek: Option<Seek>,
    pub(super) has_cores: bool,
    pub(super) has_groups: bool,
    /// Metrics whose cells are shown.
    pub(super) metrics: Vec<Metric>,
    /// The metric whose series are told apart.
    pub(super) unfolded: Option<Metric>,
    /// Columns of the row of what is kept; none without it.
    pub(super) history: usize,
}

/// Reads pictures.
pub(super) struct Reader {
    source: Source,
    /// The host that was asked for.
    wanted_host: Option<String>,
    host: Option<Host>,
    /// How far the daemon's clock is before ours; of a folder, when its newest row is.
    ahead_us: i64,
    newest_us: i64,
    /// Processes that were read, and until when, so that only newer ones are asked for.
    ticks: Ticks,
    ticks_of: Option<(i64, i64)>,
    catalog: Option<Arc<Catalog>>,
    slow: Option<Slow>,
    /// When it was read.
    history: Option<(i64, Arc<History>)>,
    /// Of which moment it is, and when it was read.
    hardware: Option<(Option<i64>, i64, Arc<Hardware>)>,
}

/// What is read at most twice a cell, and once where the window has ended.
struct Slow {
    window: Window,
    has_cores: bool,
    read_us: i64,
    charts: Arc<Charts>,
    events: Arc<Events>,
    more: Arc<More>,
    series: Option<(Metric, Arc<Vec<Metric>>)>,
}

impl Reader {
    pub(super) fn new(source: Source, host: Option<String>) -> Reader {
        Reader {
            source,
            wanted_host: host,
            host: None,
            ahead_us: 0,
            newest_us: 0,
            ticks: Ticks::default(),
            ticks_of: None,
            catalog: None,
            slow: None,
            history: None,
            hardware: None,
        }
    }

    /// Whether nothing new comes by itself.
    pub(super) fn is_files(&self) -> bool {
        self.source.is_files()
    }

    /// The newest moment; `ours_us` is the time of this host.
    ///
    /// # Errors
    /// When nobody answers, or there is no such host.
    pub(super) async fn now(&mut self, ours_us: i64) -> anyhow::Result<i64> {
        if self.host.is_none() || self.source.is_files() {
            self.find_host(ours_us).await?;
        }
        Ok(if self.source.is_files() { self.newest_us } else { ours_us + self.ahead_us })
    }

    async fn find_host(&mut self, ours_us: i64) -> anyhow::Result<()> {
        let batches = self.source.rows(statement::HOSTS).await?;
        let mut hosts = Vec::new();
        for batch in &batches {
            let rows = Rows::of(batch);
            let (names, newest, clock) = (rows.texts("host")?, rows.wholes("newest")?, rows.wholes("clock")?);
            for row in 0..rows.count() {
                if let (Some(newest), Some(clock)) = (whole(&newest, row), whole(&clock, row)) {
                    hosts.push((text(&names, row).to_owned(), newest, clock));
                }
            }
        }
        let wanted = |name: &str| self.wanted_host.as_deref().is_none_or(|wanted| wanted == name);
        let names = || hosts.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>().join(", ");
        let Some((name, newest, clock)) = hosts.iter().find(|(name, ..)| wanted(name)) else {
            return Err(match &self.wanted_host {
                Some(wanted) if !hosts.is_empty() => anyhow::anyhow!("there is no host {wanted}; there is {}", names()),
                _ => anyhow::anyhow!("nothing is recorded yet; the first samples come within a second"),
            });
        };
        (self.ahead_us, self.newest_us) = (clock - ours_us, *newest);
        self.host = Some(Host::new(name));
        Ok(())
    }

    /// Reads a picture.
    ///
    /// # Errors
    /// When nobody answers, or a statement fails.
    pub(super) async fn read(&mut self, wanted: &Wanted, ours_us: i64) -> anyhow::Result<Picture> {
        let now_us = self.now(ours_us).await?;
        let host = self.host.clone().context("no host")?;
        let (window, at_us) = match wanted.at {
            Some((window, at_us)) => (window, Some(at_us)),
            None => (Window::ending_at(now_us, wanted.length_us, wanted.cells), None),
        };
        let found = match &wanted.seek {
            Some(seek) => self.find_peak(seek.clone(), &host).await?,
            None => None,
        };
        let at_us = found.or(at_us);
        let sought = wanted.seek.clone();
        let catalog = self.find_catalog().await?;
        self.read_slow(wanted, &window, now_us, &host).await?;
        let (charts, events, more, series) = match &self.slow {
            Some(slow) => (&slow.charts, &slow.events, &slow.more, &slow.series),
            None => anyhow::bail!("no charts were read"),
        };
        let (charts, events) = (Arc::clone(charts), Arc::clone(events));
        let (more, series) = (Arc::clone(more), series.clone());
        let history = self.read_history(wanted.history, now_us, &host).await?;
        let moment_us = at_us.unwrap_or(now_us);
        self.read_ticks(at_us, now_us, &host).await?;
        let tick_us = match at_us {
            Some(at_us) => self.ticks.at(at_us),
            None => self.ticks.newest(),
        };
        let (from_us, to_us) = match (at_us, tick_us) {
            (Some(at_us), _) if window.width_us > SECOND_US => (at_us, at_us + window.width_us),
            (Some(_), Some(tick)) => (tick + 1 - MOMENT_US, tick + 20_000),
            (at_us, _) => (moment_us + 1 - MOMENT_US, at_us.map_or(moment_us, |at| at + window.width_us) + 1),
        };
        let is_newest = at_us.is_none() && !self.source.is_files();
        let mut facts = Facts::default();
        if to_us - from_us < 2 * SECOND_US {
            let stretch = if is_newest { None } else { Some((from_us, to_us)) };
            let rows = self.source.rows(&statement::facts_of_rows(stretch, &host, &catalog)).await?;
            facts = Facts::read(&rows, to_us)?;
        }
        // Rows of long ago have expired, and tiers are left.
        if facts.is_empty() {
            let rows = self.source.rows(&statement::facts(from_us, to_us, &host, &catalog)).await?;
            facts = Facts::read(&rows, to_us)?;
        }
        let groups = match (wanted.has_groups, catalog.has_table("cgroup")) {
            (true, true) => {
                let at_us = tick_us.unwrap_or(moment_us);
                Some(Groups::read(&self.source.rows(&statement::cgroups(at_us, &host, &catalog)).await?, at_us)?)
            }
            (true, false) => Some(Groups::default()),
            (false, _) => None,
        };
        let (firing, firing_us) = match self.source.firing().await? {
            Some(firing) => (firing, now_us),
            None => (events.firing(), now_us.min(window.to_us())),
        };
        let hardware = self.read_hardware(wanted.has_cores, at_us, now_us, &host).await?;
        let span = match at_us {
            Some(_) if tick_us.is_none() && facts.is_empty() => self.source.span(&host).await?,
            _ => None,
        };
        let ticks = self.ticks.clone();
        let read_us = ours_us;
        Ok(Picture {
            sought,
            read_us,
            host: host.name().to_owned(),
            window,
            at_us,
            now_us,
            charts,
            more,
            series,
            facts,
            ticks,
            span,
            tick_us,
            groups,
            hardware,
            events,
            history,
            catalog,
            firing,
            firing_us,
        })
    }

    /// What the one who answers has. It is asked again after it was away: it may be another one then.
    async fn find_catalog(&mut self) -> anyhow::Result<Arc<Catalog>> {
        if let Some(catalog) = self.catalog.as_ref().filter(|_| !self.source.is_new()) {
            return Ok(Arc::clone(catalog));
        }
        // Files are read by this program, which gives nulls for columns that they lack.
        let catalog = if self.source.is_files() {
            Catalog::default()
        } else {
            Catalog::read(&self.source.rows(&Catalog::statement()).await?)?
        };
        self.source.is_known();
        Ok(Arc::clone(self.catalog.insert(Arc::new(catalog))))
    }

    /// Reads cells and events, as far as they are not known.
    async fn read_slow(&mut self, wanted: &Wanted, window: &Window, now_us: i64, host: &Host) -> anyhow::Result<()> {
        let catalog = self.find_catalog().await?;
        let outside = usize::try_from(OUTSIDE_US / window.width_us).unwrap_or(0);
        let (pad, is_narrow) = (outside.clamp(1, OUTSIDE_CELLS_MAX), outside > OUTSIDE_CELLS_MAX);
        let padded = window.padded(pad);
        let is_known = |slow: &Slow| {
            let age_us = now_us - slow.read_us;
            let has_ended = slow.read_us > padded.to_us() + LATE_US;
            slow.window == *window && slow.has_cores == wanted.has_cores && (age_us < window.width_us / 2 || has_ended)
        };
        // Whoever asks may give up while this waits.
        let mut slow = match self.slow.take().filter(is_known) {
            Some(slow) => slow,
            None => {
                let charts = statement::charts(&padded, host, wanted.has_cores, &catalog);
                let mut held = Held::default();
                if let Some(before) = held::charts(&padded, host, wanted.has_cores, &catalog).filter(|_| is_narrow) {
                    held.read_charts(&self.source.rows(&before).await?)?;
                }
                let charts = Charts::read(&self.source.rows(&charts).await?, &padded, pad, &held)?;
                let events = Events::read(&self.source.rows(&statement::events(window, host, &catalog)).await?)?;
                Slow {
                    window: *window,
                    has_cores: wanted.has_cores,
                    read_us: now_us,
                    charts: Arc::new(charts),
                    events: Arc::new(events),
                    more: Arc::default(),
                    series: None,
                }
            }
        };
        let missing: Vec<Metric> = wanted.metrics.iter().filter(|metric| !slow.more.has(metric)).cloned().collect();
        if !missing.is_empty() {
            let mut more = if slow.more.len() > METRICS_MAX { More::default() } else { (*slow.more).clone() };
            for asked in asked::metrics(&missing, &padded, host, &catalog) {
                let mut held = Held::default();
                if let Some(before) = held::metrics(&asked, &padded, host).filter(|_| is_narrow) {
                    held.read_metrics(&asked, &self.source.rows(&before).await?)?;
                }
                more.add(&asked, &self.source.rows(&asked.sql).await?, (&padded, pad), &held)?;
            }
            missing.iter().for_each(|metric| more.know(metric));
            slow.more = Arc::new(more);
        }
        if slow.series.as_ref().map(|(metric, _)| metric) != wanted.unfolded.as_ref() {
            slow.series = match &wanted.unfolded {
                Some(metric) => Some((metric.clone(), Arc::new(self.find_series(metric, window, host).await?))),
                None => None,
            };
        }
        self.slow = Some(slow);
        Ok(())
    }

    /// The series of a metric, each as a metric of its own. None, if its table has no labels.
    async fn find_series(&mut self, metric: &Metric, window: &Window, host: &Host) -> anyhow::Result<Vec<Metric>> {
        let labels: Vec<&'static str> =
            metric.family().into_iter().flat_map(Table::labels).map(|(_, column)| column.name).collect();
        if labels.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for batch in self.source.rows(&asked::series(metric, &labels, window, host)).await? {
            let rows = Rows::of(&batch);
            let columns = labels.iter().map(|label| rows.texts(label)).collect::<anyhow::Result<Vec<_>>>()?;
            found.extend((0..rows.count()).map(|row| {
                let values = columns.iter().map(|column| text(column, row).to_owned());
                Metric { labels: labels.iter().copied().zip(values).collect(), ..metric.clone() }
            }));
        }
        Ok(found)
    }

    /// What is kept, in so many columns.
    async fn read_history(&mut self, columns: usize, now_us: i64, host: &Host) -> anyhow::Result<Arc<History>> {
        if columns == 0 {
            return Ok(Arc::default());
        }
        let is_known =
            |(read_us, history): &&(i64, Arc<History>)| history.columns() == columns && now_us - read_us < HISTORY_US;
        if let Some((_, history)) = self.history.as_ref().filter(is_known) {
            return Ok(Arc::clone(history));
        }
        let catalog = self.find_catalog().await?;
        let rows = self.source.rows(&History::statement(now_us, columns, host, &catalog)).await?;
        let history = Arc::new(History::read(&rows, columns)?);
        self.history = Some((now_us, Arc::clone(&history)));
        Ok(history)
    }

    /// File systems, sensors and power of a moment.
    async fn read_hardware(
        &mut self,
        is_wanted: bool,
        at_us: Option<i64>,
        now_us: i64,
        host: &Host,
    ) -> anyhow::Result<Arc<Hardware>> {
        // Of files, the newest moment is one of the past.
        let of_us = if self.source.is_files() { at_us.or(Some(now_us)) } else { at_us };
        let catalog = self.find_catalog().await?;
        let Some(sql) = hardware::statement(of_us, host, &catalog).filter(|_| is_wanted) else {
            return Ok(Arc::default());
        };
        let is_known = |(of, read_us, _): &&(Option<i64>, i64, _)| {
            *of == of_us && (of_us.is_some() || now_us - read_us < HARDWARE_US)
        };
        if let Some((.., hardware)) = self.hardware.as_ref().filter(is_known) {
            return Ok(Arc::clone(hardware));
        }
        let hardware = Arc::new(Hardware::read(&self.source.rows(&sql).await?, of_us)?);
        self.hardware = Some((of_us, now_us, Arc::clone(&hardware)));
        Ok(hardware)
    }

    /// When a value was greatest, to the row.
    async fn find_peak(&mut self, mut seek: Seek, host: &Host) -> anyhow::Result<Option<i64>> {
        let buckets = i64::try_from(SEEK_BUCKETS).unwrap_or(i64::MAX);
        let mut found = None;
        loop {
            let rows = self.source.rows(&asked::peak(&seek, host)).await?;
            let times = rows.first().map(|batch| Rows::of(batch).wholes("time")).transpose()?;
            let Some(time_us) = times.filter(|times| !times.is_empty()).and_then(|times| whole(&times, 0)) else {
                return Ok(found);
            };
            found = Some(time_us);
            let width_us = (seek.to_us - seek.from_us).div_euclid(buckets);
            // There are no rows that are closer to each other.
            if width_us < 500 {
                return Ok(found);
            }
            (seek.from_us, seek.to_us) = (time_us, (time_us + width_us + 1).min(seek.to_us));
        }
    }

    /// The alerts that are on now, if the one who answers knows them.
    ///
    /// # Errors
    /// When nobody answers.
    pub(super) async fn firing(&mut self) -> anyhow::Result<Option<Vec<Firing>>> {
        self.source.firing().await
    }

    /// Reads the processes around a moment, or only those that are newer than what is known.
    async fn read_ticks(&mut self, at_us: Option<i64>, now_us: i64, host: &Host) -> anyhow::Result<()> {
        let (from_us, to_us) = match at_us {
            Some(at_us) => (at_us - TRACE_US - SECOND_US, at_us + TRACE_US + SECOND_US),
            None => (now_us - 2 * TRACE_US - SECOND_US, now_us + SECOND_US),
        };
        // Whoever asks may give up while this waits.
        let known = self.ticks_of.take().filter(|(known_from, known_to)| *known_from <= from_us && from_us < *known_to);
        let newer_us = match known {
            // Rows that are drained late may be older than the newest.
            Some((_, known_to)) => (known_to - LATE_US).max(from_us),
            None => {
                self.ticks = Ticks::default();
                from_us
            }
        };
        if newer_us < to_us {
            let catalog = self.find_catalog().await?;
            let is_recent = at_us.is_none() && !self.source.is_files() && now_us - newer_us < RECENT_US - SECOND_US / 2;
            let stretch = if is_recent { None } else { Some((newer_us, to_us)) };
            let rows = self.source.rows(&statement::processes(stretch, host, &catalog)).await?;
            self.ticks.extend(Ticks::read(&rows)?, from_us);
        }
        self.ticks_of = Some((from_us, to_us.min(now_us)));
        Ok(())
    }
}
