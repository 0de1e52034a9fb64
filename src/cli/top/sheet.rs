//! A screen that is a list of charts.

use std::ops::Range;

use super::charts::{Columns, chart, headings, same_scale};
use super::choice::Scale;
use super::figures::{Figure, of_metric};
use super::lists::{Entry, entries};
use super::metric::Metric;
use super::page::Page;
use super::picture::Picture;
use super::status::axis;
use super::view::View;

/// Rows of other things below the list: what the chosen row is, kymo, and keys.
const BELOW: u16 = 3;
/// The most rows of a chart.
const ROWS_MAX: usize = 4;

/// Rows that are seen, and how many rows of the screen each chart has.
struct Seen {
    range: Range<usize>,
    rows: u16,
}

/// The metrics that are seen from row `y` on.
pub(super) fn metrics(picture: &Picture, view: &View, y: u16) -> Vec<Metric> {
    let entries = entries(picture, view);
    let seen = seen(&entries, view, view.size.1.saturating_sub(y + BELOW));
    entries[seen.range].iter().map(|entry| entry.metric.clone()).collect()
}

/// Draws the list from row `y` on, with its axis.
pub(super) fn draw(page: &mut Page, picture: &Picture, view: &View, y: u16) {
    let columns = Columns::of_list(page.width());
    axis(page, picture, view, columns.before, y);
    headings(page, columns, picture.at_us.is_some(), y);
    let entries = entries(picture, view);
    if entries.is_empty() {
        page.put(1, y + 1, &format!("Nothing matches {:?}. Esc shows all.", view.filter.text()), page.palette.plain);
        return;
    }
    let body = page.height().saturating_sub(y + 1 + BELOW);
    let seen = seen(&entries, view, body);
    let shown = entries.get(seen.range.clone()).unwrap_or_default();
    let mut figures: Vec<Figure> =
        shown.iter().map(|entry| of_metric(picture, entry.name.clone(), &entry.metric, view)).collect();
    if view.scale == Scale::Same {
        same_scale(&mut figures);
    }
    let mut at_y = y + 1;
    for ((at, entry), figure) in seen.range.clone().zip(shown).zip(&figures) {
        if let Some(heading) = entry.heading.as_ref().or_else(|| heading_above(&entries, at, seen.range.start)) {
            page.rule(0, page.width(), at_y, heading);
            at_y += 1;
        }
        chart(page, figure, picture, view, columns, (at_y, seen.rows), at == view.figure);
        page.has_figure(at_y, seen.rows, at);
        let style = page.palette.selected;
        if super::tables::is_found(view, &entry.name) {
            page.style_row(1, columns.before - 11, at_y, style);
        }
        at_y += seen.rows;
    }
    if let Some(entry) = entries.get(view.figure) {
        explain(page, entry, view.figure, entries.len());
    }
}

/// The heading of the first row that is seen, though it stands over one before it.
fn heading_above(entries: &[Entry], at: usize, first: usize) -> Option<&String> {
    if at != first {
        return None;
    }
    entries[..at].iter().rev().find_map(|entry| entry.heading.as_ref())
}

/// What the chosen row is.
fn explain(page: &mut Page, entry: &Entry, at: usize, count: usize) {
    let y = page.height().saturating_sub(BELOW);
    let doc = entry.metric.declared().map_or("", |column| column.doc);
    let doc = doc.split_inclusive(". ").next().unwrap_or_default().trim_end();
    let heading = page.palette.heading;
    let x = page.put(1, y, &format!("{} of {count}  {}", at + 1, entry.metric.name()), heading) + 2;
    page.put(x, y, doc, page.palette.plain);
}

/// The rows that fit into so many of the screen, with the chosen one among them.
fn seen(entries: &[Entry], view: &View, body: u16) -> Seen {
    let chosen = view.figure.min(entries.len().saturating_sub(1));
    let body = usize::from(body);
    if view.is_full {
        let rows = u16::try_from(body.saturating_sub(1).max(1)).unwrap_or(1);
        return Seen { range: chosen..(chosen + 1).min(entries.len()), rows };
    }
    let headings = entries.iter().filter(|entry| entry.heading.is_some()).count();
    let rows = (body.saturating_sub(headings) / entries.len().max(1)).clamp(1, ROWS_MAX);
    let height = |at: usize| rows + usize::from(entries[at].heading.is_some());
    // Two more for the headings of the first row, and what is left over.
    let fits =
        |first: usize| (first..=chosen).map(height).sum::<usize>() + usize::from(entries[first].heading.is_none());
    let first = (0..=chosen).find(|first| entries.is_empty() || fits(*first) <= body).unwrap_or(chosen);
    let mut taken = usize::from(entries.get(first).is_some_and(|entry| entry.heading.is_none()));
    let fitting = (first..entries.len()).take_while(|at| {
        taken += height(*at);
        taken <= body
    });
    let end = fitting.last().map_or(first, |last| last + 1);
    Seen { range: first..end, rows: u16::try_from(rows).unwrap_or(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::cells::Glyphs;
    use crate::cli::top::choice::Screen;
    use crate::cli::top::clock::Clock;
    use crate::cli::top::fixture::picture;
    use crate::cli::top::window::MINUTE_US;

    #[test]
    fn the_chosen_row_is_seen_at_any_height() {
        let picture = picture(31, false);
        let mut view = View::new(MINUTE_US, Glyphs::Braille, Clock::utc());
        view.screen = Screen::All;
        let entries = entries(&picture, &view);
        for body in [3, 4, 10, 19, 44] {
            for chosen in 0..entries.len() {
                view.figure = chosen;
                let seen = seen(&entries, &view, body);
                assert!(seen.range.contains(&chosen), "{body} {chosen} {:?}", seen.range);
                let headings = entries[seen.range.clone()].iter().filter(|entry| entry.heading.is_some()).count();
                assert!(seen.range.len() + headings <= usize::from(body), "{body} {chosen}");
            }
        }
    }
}
