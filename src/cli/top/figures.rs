//! The charts of the overview: what each one shows of a picture.

use super::cells::Cell;
use super::picture::Picture;
use super::units::{bytes, bytes_per_second, count, percent};

/// Others than shares are at least scaled to this rate of bytes.
const BYTES_TOP_MIN: f64 = 1e6;
/// Shares without a natural end are at least scaled to this.
const SHARE_TOP_MIN: f64 = 0.1;

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
    /// The table, the series and which of its values it is.
    pub(super) of: Option<(&'static str, String, usize)>,
    /// The value at the top of the chart.
    pub(super) top: f64,
}

/// Which of several interfaces and devices are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Busiest {
    pub(super) interface: Option<String>,
    pub(super) device: Option<String>,
}

impl Busiest {
    /// Chooses anew for a picture.
    pub(super) fn update(&mut self, picture: &Picture) {
        self.interface = picture.charts.busiest("network", self.interface.as_deref());
        self.device = picture.charts.busiest("disk", self.device.as_deref());
    }
}

/// How values of a chart are told.
type Told = fn(f64) -> String;

/// All charts, in their order. Their number does not depend on what was recorded.
pub(super) fn figures(picture: &Picture, busiest: &Busiest) -> Vec<Figure> {
    let interface = busiest.interface.as_deref().unwrap_or("-");
    let device = busiest.device.as_deref().unwrap_or("-");
    let mut figures = vec![cpu(picture), cores(picture), memory(picture)];
    for (which, way) in ["rx", "tx"].into_iter().enumerate() {
        let mut figure =
            chart(picture, ("network", interface, which), 1.0, bytes_per_second, |peak| peak.max(BYTES_TOP_MIN));
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
        let mut figure = chart(picture, ("disk", device, which), 1.0, bytes_per_second, |peak| peak.max(BYTES_TOP_MIN));
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
        let mut figure = chart(picture, ("pressure", resource, 0), 1e6, percent, |peak| peak.max(SHARE_TOP_MIN));
        figure.name = format!("psi {resource}");
        if picture.charts.labels("pressure").next().is_none() {
            figure.details = vec!["no PSI".to_owned()];
        } else if resource == "cpu" {
            figure.details =
                picture.facts.mean("host", "", 0).map(|load| format!("load {load:.2}")).into_iter().collect();
        } else {
            let full = picture.facts.mean("pressure", &format!("{resource} full"), 0);
            figure.details = full.map(|us| format!("full {}", percent(us / 1e6))).into_iter().collect();
        }
        figures.push(figure);
    }
    figures
}

fn cpu(picture: &Picture) -> Figure {
    let mut figure = chart(picture, ("cpu", "total", 0), 1.0, percent, |_| 1.0);
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

fn memory(picture: &Picture) -> Figure {
    let total = picture.facts.mean("memory", "", 2);
    let mut figure = chart(picture, ("memory", "", 0), 1.0, bytes, |peak| peak);
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

/// The chart of one value of a series. Values are divided by `unit`.
fn chart(
    picture: &Picture,
    (part, label, which): (&'static str, &str, usize),
    unit: f64,
    told: Told,
    top: fn(f64) -> f64,
) -> Figure {
    let scaled = |cell: &Cell| Cell { min: cell.min / unit, max: cell.max / unit, mean: cell.mean / unit };
    let cells: Vec<Option<Cell>> =
        picture.charts.cells(part, label, which).iter().map(|cell| cell.as_ref().map(scaled)).collect();
    let known = cells.iter().enumerate().filter_map(|(at, cell)| Some((at, cell.as_ref()?.max)));
    let peak = known.max_by(|one, other| one.1.total_cmp(&other.1));
    let at_cursor =
        picture.at_us.map(|at_us| picture.window.cell_at(at_us).and_then(|at| cells.get(at).copied().flatten()));
    let (mean, max) = match at_cursor {
        Some(cell) => (cell.map(|cell| cell.mean), cell.map(|cell| cell.max)),
        None => {
            let facts = &picture.facts;
            let of = |value: Option<f64>| value.map(|value| value / unit);
            (of(facts.mean(part, label, which)), of(facts.max(part, label, which)))
        }
    };
    let (mean, max) = match (part, at_cursor) {
        // Its facts have another label.
        ("pressure", None) => {
            let of = |value: Option<f64>| value.map(|value| value / unit);
            let label = format!("{label} some");
            (of(picture.facts.mean(part, &label, which)), of(picture.facts.max(part, &label, which)))
        }
        _ => (mean, max),
    };
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), told);
    Figure {
        value: number(mean),
        max: number(max),
        peak: peak.map(|(_, peak)| told(peak)).unwrap_or_default(),
        peak_cell: peak.filter(|(_, peak)| *peak > 0.0).map(|(at, _)| at),
        of: Some((part, label.to_owned(), which)),
        top: top(peak.map_or(0.0, |(_, peak)| peak)),
        cells,
        ..Figure::default()
    }
}
