//! Draws charts with the numbers beside them.

use std::borrow::Cow;

use super::cells::{Cell, bar, draw, shade};
use super::choice::{Panel, Scale};
use super::figures::Figure;
use super::metric::Metric;
use super::page::Page;
use super::picture::Picture;
use super::view::View;
use super::window::{HOUR_US, MINUTE_US, SECOND_US};

/// Columns before a chart: a sign, its name and its value.
const BEFORE: u16 = 22;
/// The same where names are long.
const BEFORE_LIST: u16 = 38;
/// Columns of a value, with a space before it.
const VALUE: u16 = 10;
/// Columns of tables beside charts.
pub(super) const TABLES: u16 = 83;
/// Powers of ten of a logarithmic scale.
const DECADES: f64 = 3.0;
/// A greatest value so many times the mean is a burst.
const BURST: f64 = 4.0;

/// Which columns there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// Columns before the cells.
    pub(super) before: u16,
    /// Cells of each chart.
    pub(super) cells: u16,
    /// The greatest value of the moment, and when the peak was.
    pub(super) has_max: bool,
    /// Columns of what else is said; in rows below the name if there are none.
    pub(super) details: u16,
}

impl Columns {
    /// As fits a width.
    pub(super) fn of(width: u16, has_tables_beside: bool) -> Columns {
        let before = BEFORE;
        if has_tables_beside {
            Columns { before, cells: width.saturating_sub(TABLES + 51), has_max: true, details: 0 }
        } else if width >= 108 {
            Columns { before, cells: width - 64, has_max: true, details: 13 }
        } else {
            Columns { before, cells: width.saturating_sub(44), has_max: false, details: 11 }
        }
    }

    /// Of a list of charts, whose names are long.
    pub(super) fn of_list(width: u16) -> Columns {
        let (before, has_max) = (BEFORE_LIST, width >= 108);
        let after = if has_max { 29 } else { 11 };
        Columns { before, cells: width.saturating_sub(before + after).max(1), has_max, details: 0 }
    }

    fn max_end(self) -> u16 {
        self.before + self.cells + 10
    }

    fn peak_end(self) -> u16 {
        if self.has_max { self.max_end() + 10 } else { self.max_end() }
    }

    fn at_end(self) -> u16 {
        if self.has_max { self.peak_end() + 8 } else { self.peak_end() }
    }
}

/// The words above the columns.
pub(super) fn headings(page: &mut Page, columns: Columns, is_paused: bool, y: u16) {
    let style = page.palette.heading;
    page.hits.charts_x = columns.before;
    page.put_before(columns.before - 1, y, if is_paused { "▾mean" } else { "now" }, style);
    if columns.has_max {
        page.put_before(columns.max_end(), y, if is_paused { "▾max" } else { "max 1 s" }, style);
        page.put_before(columns.at_end(), y, "at", style);
    }
    page.put_before(columns.peak_end(), y, "peak", style);
}

/// One chart in so many rows.
pub(super) fn chart(
    page: &mut Page,
    figure: &Figure,
    picture: &Picture,
    view: &View,
    columns: Columns,
    (y, rows): (u16, u16),
    is_chosen: bool,
) {
    let (plain, chart, burst) = (page.palette.plain, page.palette.chart, page.palette.burst);
    if is_chosen {
        let style = if view.panel == Panel::Charts { page.palette.heading } else { page.palette.quiet };
        page.put(0, y, "▸", style);
    }
    page.put_within(1, y, &figure.name, columns.before - VALUE - 1, plain);
    page.put_before(columns.before - 1, y, &figure.value, plain);
    if figure.is_held {
        page.put(columns.before - 1, y, "~", page.palette.quiet);
    }
    let (cells, top) = scaled(figure, view.scale);
    let mut drawn = draw(&cells, top, usize::from(rows), view.glyphs);
    if let Some(text) = figure.missing {
        drawn.clear();
        page.put_within(columns.before, y, text, columns.cells, page.palette.quiet);
    }
    for (row, line) in (y..).zip(&drawn) {
        let columns = (columns.before..).take(usize::from(columns.cells));
        for ((x, glyph), cell) in columns.zip(line.chars()).zip(&figure.cells) {
            let style = if cell.is_some_and(is_burst) { burst } else { chart };
            page.put(x, row, glyph.encode_utf8(&mut [0; 4]), style);
        }
    }
    if !figure.bars.is_empty() {
        bars(page, figure, view, columns, y);
    }
    if columns.has_max {
        page.put_before(columns.max_end(), y, &figure.max, plain);
        let at = figure.peak_cell.map(|cell| at_text(picture, view, cell)).unwrap_or_default();
        page.put_before(columns.at_end(), y, &at, plain);
    }
    page.put_before(columns.peak_end(), y, &figure.peak, plain);
    let mut details = figure.details.iter();
    if columns.details > 0
        && let Some(first) = details.next()
    {
        page.put_within(columns.at_end() + 1, y, first, columns.details, plain);
    }
    for (row, detail) in (y + 1..y + rows).zip(details) {
        page.put_within(2, row, detail, columns.before - 3, page.palette.quiet);
    }
}

/// Cells and the top of their scale. On a logarithmic scale, each third of the height is ten times as much.
fn scaled(figure: &Figure, scale: Scale) -> (Cow<'_, [Option<Cell>]>, f64) {
    if scale != Scale::Log {
        return (Cow::Borrowed(&figure.cells), figure.top);
    }
    let share = |value: f64| if value <= 0.0 { 0.0 } else { (1.0 + (value / figure.top).log10() / DECADES).max(1e-9) };
    let cell = |cell: &Option<Cell>| {
        cell.map(|cell| Cell { min: share(cell.min), max: share(cell.max), mean: share(cell.mean) })
    };
    (Cow::Owned(figure.cells.iter().map(cell).collect()), 1.0)
}

/// Gives all charts of one unit the same scale.
pub(super) fn same_scale(figures: &mut [Figure]) {
    let unit = |figure: &Figure| figure.of.as_ref().map(Metric::scale);
    let tops: Vec<_> = figures.iter().map(|figure| (unit(figure), figure.top)).collect();
    for figure in figures.iter_mut().filter(|figure| figure.of.is_some()) {
        let of = unit(figure);
        let of_unit = tops.iter().filter(|(other, _)| *other == of).map(|(_, top)| *top);
        figure.top = of_unit.fold(figure.top, f64::max);
    }
}

/// One character for each processor; of more than fit, the busiest of neighbours.
fn bars(page: &mut Page, figure: &Figure, view: &View, columns: Columns, y: u16) {
    let style = page.palette.chart;
    let cells = usize::from(columns.cells.max(1));
    let each = figure.bars.len().div_ceil(cells);
    let shown: Vec<f64> = figure.bars.chunks(each).map(|part| part.iter().copied().fold(0.0, f64::max)).collect();
    // Apart as far as there is room, at most three columns.
    let apart = (cells / shown.len().max(1)).clamp(1, 3);
    for (at, value) in shown.iter().enumerate() {
        let x = columns.before + u16::try_from(at * apart).unwrap_or(u16::MAX);
        page.put(x, y, bar(*value, figure.top, view.glyphs).encode_utf8(&mut [0; 4]), style);
    }
}

/// One processor as a row of a heat map of means.
pub(super) fn core(page: &mut Page, label: &str, picture: &Picture, view: &View, columns: Columns, y: u16) {
    let (plain, chart) = (page.palette.plain, page.palette.chart);
    let cells = picture.charts.cells("cpu", label, 0);
    page.put(2, y, &format!(" core {label}"), plain);
    let line: String = cells.iter().map(|cell| shade(*cell, 1.0, view.glyphs)).collect();
    page.put_within(columns.before, y, &line, columns.cells, chart);
    let told = |value: Option<f64>| value.map(super::units::percent).unwrap_or_default();
    let cursor =
        picture.at_us.map(|at_us| picture.window.cell_at(at_us).and_then(|at| cells.get(at).copied().flatten()));
    let (mean, max) = match cursor {
        Some(cell) => (cell.map(|cell| cell.mean), cell.map(|cell| cell.max)),
        None => (picture.facts.mean("cpu", label, 0), picture.facts.max("cpu", label, 0)),
    };
    page.put_before(columns.before - 1, y, &told(mean), plain);
    page.put_before(columns.max_end(), y, &told(max), plain);
    let known = cells.iter().enumerate().filter_map(|(at, cell)| Some((at, cell.as_ref()?.max)));
    if let Some((at, peak)) = known.max_by(|one, other| one.1.total_cmp(&other.1)) {
        // Cells may be older than the newest second.
        let (at, peak) = match max.filter(|max| picture.at_us.is_none() && *max > peak) {
            Some(max) => (cells.len() - 1, max),
            None => (at, peak),
        };
        page.put_before(columns.peak_end(), y, &told(Some(peak)), plain);
        page.put_before(columns.at_end(), y, &at_text(picture, view, at), plain);
    }
}

fn is_burst(cell: Cell) -> bool {
    cell.max > BURST * cell.mean
}

/// When a cell began, as far as it tells cells apart.
fn at_text(picture: &Picture, view: &View, cell: usize) -> String {
    let time_us = picture.window.time_of(cell);
    match picture.window.width_us {
        ..SECOND_US => part(&view.clock.time(time_us, 3), 6, 12),
        SECOND_US..MINUTE_US => part(&view.clock.time(time_us, 0), 3, 8),
        MINUTE_US..HOUR_US => part(&view.clock.time(time_us, 0), 0, 5),
        _ => view.clock.mark(time_us, super::window::DAY_US, true),
    }
}

/// A part of a time of day.
fn part(text: &str, from: usize, to: usize) -> String {
    text.get(from..to).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(table: &'static str, column: &'static str, value: f64) -> Figure {
        let cells = vec![Some(Cell::of(value))];
        Figure { of: Some(Metric::new(table, column, &[])), top: value, cells, ..Figure::default() }
    }

    #[test]
    fn a_logarithmic_scale_has_three_powers_of_ten() {
        let share = |value: f64| {
            let of = Figure { top: 1000.0, ..figure("network", "rx_bytes", value) };
            let (cells, top) = scaled(&of, Scale::Log);
            format!("{:.1}", cells[0].unwrap().max * 3.0 / top)
        };
        assert_eq!([1000.0, 100.0, 10.0, 1.0, 0.5, 0.0].map(share), ["3.0", "2.0", "1.0", "0.0", "0.0", "0.0"]);
    }

    #[test]
    fn the_same_scale_is_for_values_that_can_be_compared() {
        let mut figures = [
            figure("network", "rx_bytes", 3e6),
            figure("disk", "read_bytes", 9e6),
            figure("memory", "used_bytes", 1e9),
            figure("host", "load1", 4.0),
        ];
        same_scale(&mut figures);
        assert_eq!(figures.map(|figure| figure.top.to_string()), ["9000000", "9000000", "1000000000", "4"]);
    }
}
