//! Reads what a screen shows: a few statements for each picture, on one connection.

use anyhow::Context;

use super::cgroups::Groups;
use super::events::{Events, Firing};
use super::picture::Picture;
use super::processes::Ticks;
use super::series::{Charts, Facts};
use super::source::Source;
use super::statement::{self, Host, RECENT_US, SEEK_BUCKETS, Seek};
use super::window::{SECOND_US, Window};
use crate::cli::rows::{Rows, text, whole};

/// Rows as far outside of the window say what is within it: tables that are sampled once a second have a row in each stretch of this
/// length.
const OUTSIDE_US: i64 = 1_200_000;
/// At most so many cells are read for that at each end.
const OUTSIDE_CELLS_MAX: usize = 150;
/// How far to each side of a moment processes are traced.
pub(super) const TRACE_US: i64 = 30 * SECOND_US;
/// Rows come at most so late.
const LATE_US: i64 = 2 * SECOND_US;
/// Tables of one row a second have one in a stretch of this length.
const MOMENT_US: i64 = SECOND_US + 20_000;

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
    slow: Option<Slow>,
}

/// What is read at most twice a cell.
struct Slow {
    window: Window,
    has_cores: bool,
    read_us: i64,
    charts: Charts,
    events: Events,
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
            slow: None,
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
        let pad = usize::try_from(OUTSIDE_US / window.width_us).unwrap_or(0).clamp(1, OUTSIDE_CELLS_MAX);
        let padded = window.padded(pad);
        let is_known = self.slow.as_ref().is_some_and(|slow| {
            let age_us = now_us - slow.read_us;
            at_us.is_none()
                && slow.window == window
                && slow.has_cores == wanted.has_cores
                && age_us < window.width_us / 2
        });
        let slow = match self.slow.take().filter(|_| is_known) {
            Some(slow) => slow,
            None => {
                let charts = self.source.rows(&statement::charts(&padded, &host, wanted.has_cores)).await?;
                let charts = Charts::read(&charts, &padded, pad)?;
                let events = Events::read(&self.source.rows(&statement::events(&window, &host)).await?)?;
                Slow { window, has_cores: wanted.has_cores, read_us: now_us, charts, events }
            }
        };
        let (charts, events) = (slow.charts.clone(), slow.events.clone());
        self.slow = Some(slow);
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
            let rows = self.source.rows(&statement::facts_of_rows(stretch, &host)).await?;
            facts = Facts::read(&rows, to_us)?;
        }
        // Rows of long ago have expired, and tiers are left.
        if facts.is_empty() {
            let rows = self.source.rows(&statement::facts(from_us, to_us, &host)).await?;
            facts = Facts::read(&rows, to_us)?;
        }
        let groups = if wanted.has_groups {
            let at_us = tick_us.unwrap_or(moment_us);
            Groups::read(&self.source.rows(&statement::cgroups(at_us, &host)).await?, at_us)?
        } else {
            Groups::default()
        };
        let (firing, firing_us) = match self.source.firing().await? {
            Some(firing) => (firing, now_us),
            None => (events.firing(), now_us.min(window.to_us())),
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
            facts,
            ticks,
            tick_us,
            groups,
            events,
            firing,
            firing_us,
        })
    }

    /// When a value was greatest, to the row.
    async fn find_peak(&mut self, mut seek: Seek, host: &Host) -> anyhow::Result<Option<i64>> {
        let buckets = i64::try_from(SEEK_BUCKETS).unwrap_or(i64::MAX);
        let mut found = None;
        loop {
            let Some(sql) = statement::peak(&seek, host) else { return Ok(found) };
            let rows = self.source.rows(&sql).await?;
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
            let is_recent = at_us.is_none() && !self.source.is_files() && now_us - newer_us < RECENT_US - SECOND_US / 2;
            let stretch = if is_recent { None } else { Some((newer_us, to_us)) };
            let rows = self.source.rows(&statement::processes(stretch, host)).await?;
            self.ticks.extend(Ticks::read(&rows)?, from_us);
        }
        self.ticks_of = Some((from_us, to_us.min(now_us)));
        Ok(())
    }
}
