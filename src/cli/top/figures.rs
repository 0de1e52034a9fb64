//! What a chart shows of a picture, and the charts of the overview.

use super::cells::Cell;
use super::metric::Metric;
use super::picture::Picture;
use super::statement::metric_of;
use super::units::{count, percent};
use super::view::View;
use super::window::SECOND_US;

/// Of what has rows more seldom, the newest value is told for so long.
const NEWEST_US: i64 = 90 * SECOND_US;
/// What was asked for, and has not come yet.
pub(super) const READING: &str = "reading …";
/// What wide screens show beside the charts that all have.
const EXTRAS: &[(&str, &str, &str)] = &[
    ("tcp", "established", "tcp open"),
    ("tcp", "retransmitted_segments", "retransmit"),
    ("softnet", "time_squeezed", "squeezed"),
    ("vm", "page_faults", "faults"),
    ("host", "context_switches", "switches"),
    ("host", "forks", "forks"),
];

/// One chart, with the numbers beside it.
#[derive(Clone, Debug, Default)]
pub(super) struct Figure {
    pub(super) name: String,
    /// The mean of the last second, or of the cursor's cell.
    pub(super) value: String,
    pub(super) max: String,
    pub(super) peak: String,
    /// The cell of the peak.
    pub(super) peak_cell: Option<usize>,
    /// What else is to be said, the most important first.
    pub(super) details: Vec<String>,
    pub(super) cells: Vec<Option<Cell>>,
    /// Of processors, how busy each was at the moment, in the place of cells.
    pub(super) bars: Vec<f64>,
    /// The column and the series that it is of.
    pub(super) of: Option<Metric>,
    /// The value at the top of the chart.
    pub(super) top: f64,
    /// Whether some cells hold the value of a row before them.
    pub(super) is_held: bool,
    /// Why there are no cells.
    pub(super) missing: Option<&'static str>,
}

/// The metrics of the overview that not every screen has: those of wide ones, and those that were kept.
pub(super) fn extras(view: &View) -> Vec<(String, Metric)> {
    let extras = EXTRAS.iter().filter(|_| view.is_beside());
    let extras = extras.map(|(table, column, name)| ((*name).to_owned(), Metric::whole(table, column)));
    extras.chain(view.kept.iter().map(|metric| (metric.short(11), metric.clone()))).collect()
}

/// All charts of the overview, in their order. Their number does not depend on what was recorded.
pub(super) fn figures(picture: &Picture, view: &View) -> Vec<Figure> {
    let busiest = &view.busiest;
    let interface = busiest.interface.as_deref().unwrap_or("-");
    let device = busiest.device.as_deref().unwrap_or("-");
    let chart = |part, label: &str, which| chart(picture, (part, label, which), view);
    let mut figures = vec![cpu(picture, view), cores(picture), memory(picture, view)];
    for (which, way) in ["rx", "tx"].into_iter().enumerate() {
        let mut figure = chart("network", interface, which);
        figure.name = format!("{way} {interface}");
        figure.details = [("drops/s", which + 2), ("errors/s", which + 4)]
            .into_iter()
            .filter_map(|(what, at)| {
                Some(format!("{:.0} {what}", picture.facts.mean("network", interface, at)?.ceil()))
            })
            .collect();
        figures.push(figure);
    }
    for (which, way) in ["rd", "wr"].into_iter().enumerate() {
        let mut figure = chart("disk", device, which);
        figure.name = format!("{way} {device}");
        let of = |at| picture.facts.mean("disk", device, at);
        let busy = of(2).map(|us| format!("busy {}", percent(us / 1e6)));
        let in_flight = of(3).map(|count| format!("{count:.0} in flight"));
        let operations = of(4 + which).map(|rate| format!("{} ops/s", count(rate)));
        let first = if which == 0 { busy } else { in_flight };
        figure.details = [first, operations].into_iter().flatten().collect();
        figures.push(figure);
    }
    for resource in ["cpu", "memory", "io"] {
        let mut figure = chart("pressure", resource, 0);
        figure.name = format!("psi {resource}");
        if picture.charts.labels("pressure").next().is_none() {
            figure.missing = figure.missing.or(Some("This kernel accounts for no pressure"));
        }
        if resource == "cpu" {
            figure.details =
                picture.facts.mean("host", "", 0).map(|load| format!("load {load:.2}")).into_iter().collect();
        } else {
            let full = picture.facts.mean("pressure", &format!("{resource} full"), 0);
            figure.details = full.map(|us| format!("full {}", percent(us / 1e6))).into_iter().collect();
        }
        figures.push(figure);
    }
    figures.extend(extras(view).into_iter().map(|(name, metric)| of_metric(picture, name, &metric, view)));
    figures
}

fn cpu(picture: &Picture, view: &View) -> Figure {
    let mut figure = chart(picture, ("cpu", "total", 0), view);
    "cpu".clone_into(&mut figure.name);
    let count = picture.facts.cores().len();
    let share = |at| picture.facts.mean("cpu", "total", at).filter(|_| count > 0).map(|us| us / 1e4 / count as f64);
    let both = |one: (&str, usize), other: (&str, usize)| {
        Some(format!("{} {:.0} {} {:.0}", one.0, share(one.1)?, other.0, share(other.1)?))
    };
    figure.details = [both(("us", 1), ("sy", 2)), both(("si", 3), ("io", 4))].into_iter().flatten().collect();
    figure
}

fn cores(picture: &Picture) -> Figure {
    let cores = picture.facts.cores();
    let hottest = cores.iter().max_by(|one, other| one.1.total_cmp(&other.1));
    Figure {
        name: "by core".to_owned(),
        value: format!("{} CPU{}", cores.len(), if cores.len() == 1 { "" } else { "s" }),
        peak: hottest.map(|(_, share)| percent(*share)).unwrap_or_default(),
        details: hottest.map(|(number, _)| format!("core {number}")).into_iter().collect(),
        bars: cores.iter().map(|(_, share)| *share).collect(),
        top: 1.0,
        ..Figure::default()
    }
}

fn memory(picture: &Picture, view: &View) -> Figure {
    let total = picture.facts.mean("memory", "", 2);
    let mut figure = chart(picture, ("memory", "", 0), view);
    figure.top = total.unwrap_or(figure.top);
    "memory".clone_into(&mut figure.name);
    figure.details = [(1, "", " left"), (2, "of ", "")]
        .into_iter()
        .filter_map(|(at, before, after)| {
            Some(format!("{before}{:.0} GiB{after}", picture.facts.mean("memory", "", at)? / GIB))
        })
        .collect();
    figure
}

const GIB: f64 = 1_073_741_824.0;

/// The chart of one value of a series that every picture has.
fn chart(picture: &Picture, (part, label, which): (&'static str, &str, usize), view: &View) -> Figure {
    let Some(metric) = metric_of(part, label, which) else { return Figure::default() };
    // Facts of both kinds of pressure are known.
    let of = if part == "pressure" { format!("{label} some") } else { label.to_owned() };
    let facts = &picture.facts;
    let newest = (facts.mean(part, &of, which), facts.max(part, &of, which));
    let figure = figure(picture, metric, picture.charts.cells(part, label, which), newest, view);
    Figure { is_held: which == 0 && picture.charts.is_held(part, label), ..figure }
}

/// The chart of a metric that was asked for.
pub(super) fn of_metric(picture: &Picture, name: String, metric: &Metric, view: &View) -> Figure {
    let cells = picture.more.cells(metric);
    let newest = newest(picture, cells);
    let figure = figure(picture, metric.clone(), cells, newest, view);
    let missing = figure.missing.or((!picture.more.has(metric)).then_some(READING));
    Figure { name, missing, is_held: picture.more.is_held(metric), ..figure }
}

/// Mean and greatest value of the last second that has some.
fn newest(picture: &Picture, cells: &[Option<Cell>]) -> (Option<f64>, Option<f64>) {
    let Some(last) = cells.iter().rposition(Option::is_some) else { return (None, None) };
    let window = &picture.window;
    if picture.now_us - window.time_of(last + 1) > NEWEST_US {
        return (None, None);
    }
    let count = usize::try_from(SECOND_US / window.width_us).unwrap_or(1).max(1);
    let known: Vec<&Cell> = cells[(last + 1).saturating_sub(count)..=last].iter().flatten().collect();
    let mean = known.iter().map(|cell| cell.mean).sum::<f64>() / known.len() as f64;
    (Some(mean), known.iter().map(|cell| cell.max).max_by(f64::total_cmp))
}

fn figure(
    picture: &Picture,
    metric: Metric,
    cells: &[Option<Cell>],
    newest: (Option<f64>, Option<f64>),
    view: &View,
) -> Figure {
    let known = cells.iter().enumerate().filter_map(|(at, cell)| Some((at, cell.as_ref()?.max)));
    let peak = known.max_by(|one, other| one.1.total_cmp(&other.1));
    // Cells may be older than the newest second.
    let last = picture.window.cell_at(picture.now_us).filter(|at| picture.at_us.is_none() && *at < cells.len());
    let late = last.zip(newest.1).filter(|(_, max)| peak.is_some_and(|(_, peak)| *max > peak));
    let peak = late.or(peak);
    let at_cursor =
        picture.at_us.map(|at_us| picture.window.cell_at(at_us).and_then(|at| cells.get(at).copied().flatten()));
    let (mean, max) = match at_cursor {
        Some(cell) => (cell.map(|cell| cell.mean), cell.map(|cell| cell.max)),
        None => newest,
    };
    let told = |value: f64| metric.told(value, view.has_bits);
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), told);
    let missing = match (picture.catalog.has_table(metric.table), picture.catalog.has(metric.table, metric.column)) {
        (false, _) => Some("This daemon is older: no such table"),
        (true, false) => Some("This daemon is older: no such column"),
        (true, true) => None,
    };
    Figure {
        value: number(mean),
        max: number(max),
        peak: peak.map(|(_, peak)| told(peak)).unwrap_or_default(),
        peak_cell: peak.filter(|(_, peak)| *peak > 0.0).map(|(at, _)| at),
        top: metric.top(peak.map_or(0.0, |(_, peak)| peak)),
        cells: cells.to_vec(),
        of: Some(metric),
        missing,
        ..Figure::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::cells::Glyphs;
    use crate::cli::top::clock::Clock;
    use crate::cli::top::fixture::{asked, picture};
    use crate::cli::top::window::MINUTE_US;

    #[test]
    fn a_peak_is_never_below_the_greatest_value_of_the_newest_second() {
        let view = View::new(MINUTE_US, Glyphs::Braille, Clock::utc());
        let metric = Metric::new("network", "rx_bytes", &[("interface", "eth0")]);
        let cells = vec![Some(Cell::of(1e6)); 36];
        let told = |is_paused| {
            let figure = figure(&picture(36, is_paused), metric.clone(), &cells, (Some(2e6), Some(9e6)), &view);
            (figure.peak, figure.peak_cell, figure.top)
        };
        assert_eq!(told(false), ("9.00 MB/s".to_owned(), Some(35), 9e6));
        assert_eq!(told(true).0, "1.00 MB/s");
    }

    #[test]
    fn a_chart_that_was_not_read_yet_says_so() {
        let view = View::new(MINUTE_US, Glyphs::Braille, Clock::utc());
        let of = |picture: &Picture, metric: &Metric| of_metric(picture, String::new(), metric, &view).missing;
        let metric = Metric::whole("vm", "page_faults");
        assert_eq!(of(&picture(36, false), &metric), Some(READING));
        let mut kept = view.clone();
        kept.kept.push(metric.clone());
        assert_eq!(of(&asked(&kept, false), &metric), None);
    }
}
