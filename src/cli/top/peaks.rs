//! Peaks of the chosen chart.

use super::asked::Seek;
use super::cells::Cell;
use super::figures::READING;
use super::metric::Metric;
use super::picture::Picture;
use super::shown::chosen;
use super::view::{View, side};
use super::window::SECOND_US;

/// A peak reaches at least so much of the highest one.
const PEAK_SHARE: f64 = 0.5;

/// Whether the chosen chart was read, so that its peaks are known, and the metric that it is of.
pub(super) fn known(view: &View, picture: Option<&Picture>) -> (bool, Option<Metric>) {
    let Some(picture) = picture else { return (false, None) };
    let Some(figure) = chosen(picture, view) else { return (true, None) };
    (figure.missing != Some(READING), figure.of)
}

/// The next or previous peak of the chosen chart. Of the newest moment, `[` finds the highest.
pub(super) fn go(view: &mut View, picture: &Picture, is_next: bool) {
    let Some(figure) = chosen(picture, view).filter(|figure| !figure.cells.is_empty()) else {
        view.note = Some("this row has no peaks; choose a chart with the arrows".to_owned());
        return;
    };
    let peaks = peaks(&figure.cells);
    let at = view.at_us().and_then(|at_us| picture.window.cell_at(at_us));
    let found = match (at, is_next) {
        (None, _) => figure.peak_cell,
        (Some(at), true) => peaks.iter().copied().find(|peak| *peak > at),
        (Some(at), false) => peaks.iter().rev().copied().find(|peak| *peak < at),
    };
    match found {
        Some(cell) => {
            let of = figure.of.clone();
            view.point(picture, cell);
            view.seek = of.map(|metric| {
                let (from_us, to_us) = (picture.window.time_of(cell), picture.window.time_of(cell + 1));
                // The newest second may have begun in the cell before.
                let is_newest = at.is_none() && picture.window.cell_at(picture.now_us) == Some(cell);
                let from_us = if is_newest { from_us.min(picture.now_us - SECOND_US) } else { from_us };
                Seek { metric, from_us, to_us }
            });
        }
        None => view.note = Some(format!("no {} peak of {} in this window", side(is_next), figure.name)),
    }
}

/// Cells that are no lower than their neighbours and reach half of the highest, each run of equal ones once.
fn peaks(cells: &[Option<Cell>]) -> Vec<usize> {
    let height = |at: usize| cells.get(at).copied().flatten().map_or(f64::NEG_INFINITY, |cell| cell.max);
    let highest = (0..cells.len()).map(height).fold(0.0, f64::max);
    let is_peak = |at: &usize| {
        let before = at.checked_sub(1).map_or(f64::NEG_INFINITY, height);
        height(*at) > 0.0
            && height(*at) >= highest * PEAK_SHARE
            && height(*at) > before
            && height(*at) >= height(at + 1)
    };
    (0..cells.len()).filter(is_peak).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_higher_than_their_neighbours() {
        let cells: Vec<_> = [1.0, 9.0, 2.0, 3.0, 2.0, 8.0, 8.0, 1.0].map(|value| Some(Cell::of(value))).into();
        assert_eq!(peaks(&cells), [1, 5]);
        assert_eq!(peaks(&[None, Some(Cell::of(0.0))]), [0_usize; 0]);
    }
}
