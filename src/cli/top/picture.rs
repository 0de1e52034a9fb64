//! All that one screen shows, as it was read: nothing here changes while it is drawn.

use std::sync::Arc;

use super::asked::Seek;
use super::catalog::Catalog;
use super::cgroups::Groups;
use super::events::{Events, Firing};
use super::hardware::Hardware;
use super::history::History;
use super::metric::Metric;
use super::processes::Ticks;
use super::series::{Charts, Facts, More};
use super::window::Window;

/// What was read.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) host: String,
    pub(super) window: Window,
    /// The moment of tables and numbers, if it is not the newest.
    pub(super) at_us: Option<i64>,
    /// The peak that was looked for, which that is then.
    pub(super) sought: Option<Seek>,
    /// The newest moment: the time of the daemon, or the newest row of a folder.
    pub(super) now_us: i64,
    /// When it was read, by the clock of the host that looks.
    pub(super) read_us: i64,
    pub(super) charts: Arc<Charts>,
    /// Of the metrics that were asked for.
    pub(super) more: Arc<More>,
    /// A metric that is told apart by its series, and these.
    pub(super) series: Option<(Metric, Arc<Vec<Metric>>)>,
    pub(super) facts: Facts,
    pub(super) ticks: Ticks,
    /// From when to when something was recorded, if nothing was at the moment.
    pub(super) span: Option<(i64, i64)>,
    /// The tick whose processes are shown.
    pub(super) tick_us: Option<i64>,
    /// Control groups, if they were asked for.
    pub(super) groups: Option<Groups>,
    /// File systems, sensors and power, if they were asked for.
    pub(super) hardware: Arc<Hardware>,
    pub(super) events: Arc<Events>,
    /// What is kept, if it was asked for.
    pub(super) history: Arc<History>,
    /// What the one who answered has.
    pub(super) catalog: Arc<Catalog>,
    /// Alerts that are on now, also while the past is shown; of a folder, at the end of the window.
    pub(super) firing: Vec<Firing>,
    /// When they are on.
    pub(super) firing_us: i64,
}

impl Picture {
    /// When the host was started.
    pub(super) fn boot_us(&self) -> Option<i64> {
        #[expect(clippy::cast_possible_truncation, reason = "a time since the start of a host")]
        let uptime_us = self.facts.mean("host", "", 5)? as i64;
        Some(self.facts.to_us - uptime_us)
    }
}
