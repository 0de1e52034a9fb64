//! Which charts a screen shows, and what is asked for them.

use super::cgroups::Group;
use super::choice::Screen;
use super::figures::{Figure, extras, figures, of_metric};
use super::lists::entries;
use super::metric::Metric;
use super::picture::Picture;
use super::tables::listed_groups;
use super::units::percent;
use super::view::View;

/// Charts of screens whose table has the room, by their places in the overview.
const FEW: &[usize] = &[0, 2, 5, 6, 9];
/// Charts of a control group, the most telling first.
const OF_GROUP: &[(&str, &str)] = &[
    ("throttled_us", "throttled"),
    ("usage_us", "cpu"),
    ("io_some_us", "psi io"),
    ("memory_bytes", "memory"),
    ("write_bytes", "write"),
    ("read_bytes", "read"),
    ("cpu_some_us", "psi cpu"),
    ("memory_some_us", "psi memory"),
];
/// Charts of kymo itself.
const OWN: &[(&str, &str, &str)] = &[
    ("kymo", "cpu_us", "cpu"),
    ("kymo", "rss_bytes", "memory"),
    ("collector", "lateness_max_us", "late, max"),
    ("collector", "missed_ticks", "missed"),
    ("kymo", "queries", "queries"),
    ("kymo", "hot_bytes", "rows in RAM"),
    ("kymo", "journal_bytes", "journal"),
    ("kymo", "lake_bytes", "files"),
];
/// So many of them fit on a small screen.
const SMALL: usize = 5;

/// The charts of the screen, in the order in which arrows choose them.
pub(super) fn charted(picture: &Picture, view: &View) -> Vec<Figure> {
    let of = |(name, metric): (String, Metric)| of_metric(picture, name, &metric, view);
    match view.screen {
        Screen::Overview => figures(picture, view),
        Screen::Processes | Screen::Alerts => {
            let mut all: Vec<Option<Figure>> = figures(picture, view).into_iter().map(Some).collect();
            FEW.iter().filter_map(|at| all.get_mut(*at)?.take()).collect()
        }
        Screen::Cgroups => of_group(picture, view),
        Screen::Kymo => own(view).into_iter().map(of).collect(),
        Screen::Cpu | Screen::Memory | Screen::Network | Screen::Disk | Screen::All => {
            entries(picture, view).into_iter().map(|entry| of((entry.name, entry.metric))).collect()
        }
    }
}

/// How many charts the screen has.
pub(super) fn count(picture: &Picture, view: &View) -> usize {
    if view.screen.is_list() { entries(picture, view).len() } else { charted(picture, view).len() }
}

/// The chosen chart.
pub(super) fn chosen(picture: &Picture, view: &View) -> Option<Figure> {
    if view.screen.is_list() {
        let entry = entries(picture, view).into_iter().nth(view.figure)?;
        return Some(of_metric(picture, entry.name, &entry.metric, view));
    }
    charted(picture, view).into_iter().nth(view.figure)
}

/// What is to be asked for, of screens that are no list.
pub(super) fn metrics(picture: Option<&Picture>, view: &View) -> Vec<Metric> {
    let named = match view.screen {
        Screen::Overview => extras(view),
        Screen::Kymo => own(view),
        Screen::Cgroups => {
            picture.map(|picture| group_metrics(chosen_group(picture, view).as_ref(), view)).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    named.into_iter().map(|(_, metric)| metric).collect()
}

fn own(view: &View) -> Vec<(String, Metric)> {
    let count = if view.is_tall() { OWN.len() } else { SMALL };
    OWN.iter().take(count).map(|(table, column, name)| ((*name).to_owned(), Metric::whole(table, column))).collect()
}

/// The control group that is chosen in the table.
pub(super) fn chosen_group(picture: &Picture, view: &View) -> Option<Group> {
    let groups = listed_groups(picture, view);
    let at = view.row.min(groups.len().saturating_sub(1));
    groups.into_iter().nth(at)
}

/// The metrics of a group. The uppermost one seldom has a limit, so there any group is told that is throttled.
fn group_metrics(group: Option<&Group>, view: &View) -> Vec<(String, Metric)> {
    let path = group.map_or("/", |group| group.path.as_str());
    let count = if view.is_tall() { OF_GROUP.len() } else { SMALL };
    let metric = |(column, name): &(&'static str, &str)| {
        let is_any = view.row == 0 && *column == "throttled_us";
        let labels: &[(&'static str, &str)] = if is_any { &[] } else { &[("cgroup", path)] };
        ((*name).to_owned(), Metric::new("cgroup", column, labels))
    };
    OF_GROUP.iter().take(count).map(metric).collect()
}

fn of_group(picture: &Picture, view: &View) -> Vec<Figure> {
    let group = chosen_group(picture, view);
    let details = |name: &str| -> Option<String> {
        let group = group.as_ref()?;
        match name {
            "throttled" if view.row == 0 => Some("any group".to_owned()),
            "throttled" => group.throttled.map(|share| format!("{} periods", percent(share))),
            "memory" => group.of_max.map(|share| format!("{} of max", percent(share))),
            "cpu" => group.tasks.map(|tasks| format!("{tasks:.0} tasks")),
            _ => None,
        }
    };
    let metrics = group_metrics(group.as_ref(), view);
    let figure = |(name, metric): (String, Metric)| {
        let details = details(&name).into_iter().collect();
        Figure { details, ..of_metric(picture, name, &metric, view) }
    };
    metrics.into_iter().map(figure).collect()
}
