//! Lays a screen out.

use super::alerts::{alert_list, alert_row, alerts, nearest};
use super::cells::Glyphs;
use super::charts::{Columns, TABLES, chart, core, headings, same_scale};
use super::choice::{Panel, Scale, Screen};
use super::figures::{Figure, figures};
use super::help;
use super::history;
use super::needs::Needs;
use super::own::own;
use super::page::{Page, Palette, Place};
use super::picture::Picture;
use super::sheet;
use super::shown;
use super::status::{Now, State, axis, keys, kymo, status};
use super::tables::{cgroups, processes};
use super::view::View;

/// The least size that anything is shown in.
pub(super) const WIDTH_MIN: u16 = 40;
/// See [`WIDTH_MIN`].
pub(super) const HEIGHT_MIN: u16 = 10;
/// So many processes are shown before charts get more rows.
const PROCESSES_BEFORE: u16 = 15;
/// Charts in the order in which they get more rows.
const TALLER: &[usize] = &[0, 6, 5, 3, 9, 0, 6, 4, 7, 3, 5, 9, 2, 4, 8, 7];
/// Events below the table, on screens with a row of what is kept.
const EVENTS: u16 = 2;

impl Needs {
    /// Of a view; which metrics are seen may depend on what was read.
    pub(super) fn of(view: &View, picture: Option<&Picture>) -> Needs {
        let metrics = match picture {
            Some(picture) if view.screen.is_list() => sheet::metrics(picture, view, top(view)),
            picture => shown::metrics(picture, view),
        };
        Needs {
            cells: usize::from(columns(view).cells.max(1)),
            has_cores: view.is_beside(),
            metrics,
            history: if view.is_tall() { history::columns_of(view.size.0) } else { 0 },
        }
    }
}

fn columns(view: &View) -> Columns {
    let (width, _) = view.size;
    if view.screen.is_list() { Columns::of_list(width) } else { Columns::of(width, view.is_beside()) }
}

/// The row of the axis.
fn top(view: &View) -> u16 {
    if view.is_tall() { 2 } else { 1 }
}

/// A page with a picture, or with why there is none.
pub(super) fn draw(view: &View, palette: Palette, picture: Option<&Picture>, state: &State, now: Now) -> Page {
    let mut page = signs(view, palette, picture, state, now);
    if view.glyphs == Glyphs::Ascii {
        page.make_ascii();
    }
    page
}

/// Draws only what changes by itself: the first and the last row.
pub(super) fn refresh(page: &mut Page, view: &View, picture: Option<&Picture>, state: &State, now: Now) {
    let (Some(picture), false) = (picture, view.has_help || is_too_small(view)) else { return };
    let last = page.height() - 1;
    page.clear_row(0);
    page.clear_row(last);
    status(page, picture, view, state, now);
    keys(page, view, state, now, last);
    if view.glyphs == Glyphs::Ascii {
        page.make_ascii();
    }
}

fn is_too_small(view: &View) -> bool {
    view.size.0 < WIDTH_MIN || view.size.1 < HEIGHT_MIN
}

/// The page with all signs that there are.
fn signs(view: &View, palette: Palette, picture: Option<&Picture>, state: &State, now: Now) -> Page {
    let (width, height) = view.size;
    let mut page = Page::new(width, height, palette);
    if is_too_small(view) {
        page.put(0, 0, &format!("needs {WIDTH_MIN}x{HEIGHT_MIN}"), palette.plain);
        return page;
    }
    if view.has_help {
        help::draw(&mut page, view.help_row);
        return page;
    }
    let Some(picture) = picture else {
        for (line, y) in wrapped(state.reason().unwrap_or("reading …"), usize::from(width) - 2).iter().zip(1..) {
            page.put(1, y, line, palette.plain);
        }
        page.put(1, height - 1, "q quit", palette.plain);
        return page;
    };
    status(&mut page, picture, view, state, now);
    keys(&mut page, view, state, now, height - 1);
    kymo(&mut page, picture, height - 2);
    if view.is_tall() {
        let age_us = view.at_us().map_or(0, |at_us| picture.now_us - at_us);
        history::draw(&mut page, &picture.history, age_us, 1);
    }
    let page_of = &mut page;
    match view.screen {
        Screen::Overview if view.is_full => full(page_of, picture, view, |page, place| {
            processes(page, picture, view, place, true);
        }),
        Screen::Overview if view.is_beside() => beside(page_of, picture, view),
        Screen::Overview => overview(page_of, picture, view),
        screen if screen.is_list() => sheet::draw(page_of, picture, view, top(view)),
        Screen::Cgroups => with_table(page_of, picture, view, |page, place| cgroups(page, picture, view, place)),
        Screen::Alerts => with_table(page_of, picture, view, |page, place| alerts(page, picture, view, place)),
        Screen::Kymo => with_table(page_of, picture, view, |page, place| own(page, picture, place)),
        _ => with_table(page_of, picture, view, |page, place| processes(page, picture, view, place, true)),
    }
    page
}

/// The charts of the overview, on one scale if that was chosen.
fn scaled(mut figures: Vec<Figure>, view: &View) -> Vec<Figure> {
    if view.scale == Scale::Same {
        same_scale(&mut figures);
    }
    figures
}

fn overview(page: &mut Page, picture: &Picture, view: &View) {
    let (width, height) = view.size;
    let columns = columns(view);
    let top = top(view);
    axis(page, picture, view, columns.before, top);
    headings(page, columns, picture.at_us.is_some(), top);
    let figures = scaled(figures(picture, view), view);
    let events = if view.is_tall() { EVENTS } else { 0 };
    // Status, axis, alert, two rows of headings, kymo and keys; at least three processes, or none at all.
    let room = height.saturating_sub(top + 3 + events);
    let count = u16::try_from(figures.len()).unwrap_or(u16::MAX);
    let (charts, has_table) =
        if room >= count + 6 { (count, true) } else { (count.min(room.saturating_sub(1)), false) };
    let more = if has_table { (room - charts - 3).saturating_sub(PROCESSES_BEFORE) } else { 0 };
    let rows = heights(usize::from(charts), more, TALLER);
    let mut y = top + 1;
    for (at, (figure, rows)) in figures.iter().zip(&rows).enumerate() {
        chart(page, figure, picture, view, columns, (y, *rows), at == view.figure);
        page.has_figure(y, *rows, at);
        y += rows;
    }
    alert_row(page, picture, view, y);
    if has_table {
        let place = Place { x: 0, end: width, y: y + 1, rows: (height - 2 - events).saturating_sub(y + 1) };
        processes(page, picture, view, place, width >= 100);
    }
    nearest(page, picture, view, height - 2 - events, events);
}

/// Left when, right what.
fn beside(page: &mut Page, picture: &Picture, view: &View) {
    let (width, height) = view.size;
    let columns = columns(view);
    let left = width - TABLES;
    let top = top(view);
    axis(page, picture, view, columns.before, top);
    headings(page, columns, picture.at_us.is_some(), top);
    let figures = scaled(figures(picture, view), view);
    let mut cores: Vec<&str> = picture.charts.labels("cpu").filter(|label| *label != "total").collect();
    cores.sort_by_key(|label| label.parse::<u32>().unwrap_or(u32::MAX));
    let room = height.saturating_sub(top + 3);
    let count = u16::try_from(figures.len()).unwrap_or(u16::MAX);
    // Half of the rows at most: hosts with more processors have bars.
    let cores = if cores.len() <= usize::from(room / 2) { cores } else { Vec::new() };
    let taken = count + u16::try_from(cores.len()).unwrap_or(0);
    let rows = heights(figures.len(), room.saturating_sub(taken), TALLER);
    let mut y = top + 1;
    for (at, (figure, rows)) in figures.iter().zip(&rows).enumerate() {
        if at == 1 && !cores.is_empty() {
            for label in &cores {
                core(page, label, picture, view, columns, y);
                y += 1;
            }
        }
        if y + rows <= height - 2 {
            chart(page, figure, picture, view, columns, (y, *rows), at == view.figure);
            page.has_figure(y, *rows, at);
        }
        y += rows;
    }
    for y in top..height - 2 {
        page.put(left, y, "│", page.palette.quiet);
    }
    let alert_rows = (u16::try_from(picture.firing.len()).unwrap_or(0) + 3).clamp(5, 9);
    let hardware = &picture.hardware;
    let body = height - 2 - top - hardware.rows();
    let upper = (body - alert_rows) * 3 / 5;
    let place = Place { x: left + 1, end: width, y: top + upper, rows: body - alert_rows - upper };
    // Keys are for the processes.
    let mut calm = view.clone();
    (calm.panel, calm.row) = (Panel::Charts, 0);
    cgroups(page, picture, &calm, place);
    processes(page, picture, view, Place { y: top, rows: upper, ..place }, true);
    let place = Place { y: top + body - alert_rows, rows: alert_rows, ..place };
    alert_list(page, picture, view, place);
    hardware.draw(page, Place { y: top + body, rows: hardware.rows(), ..place });
}

/// A few charts over a table.
fn with_table(page: &mut Page, picture: &Picture, view: &View, table: impl FnOnce(&mut Page, Place)) {
    if view.is_full {
        return full(page, picture, view, table);
    }
    let (width, height) = view.size;
    let columns = columns(view);
    let top = top(view);
    axis(page, picture, view, columns.before, top);
    headings(page, columns, picture.at_us.is_some(), top);
    let charts = scaled(shown::charted(picture, view), view);
    let count = if height >= 20 { charts.len() } else { 1 };
    let mut y = top + 1;
    for (at, figure) in charts.iter().enumerate().take(count) {
        chart(page, figure, picture, view, columns, (y, 1), at == view.figure);
        page.has_figure(y, 1, at);
        y += 1;
    }
    table(page, Place { x: 0, end: width, y, rows: (height - 2).saturating_sub(y) });
}

/// The chosen chart, or the table, as large as the screen.
fn full(page: &mut Page, picture: &Picture, view: &View, table: impl FnOnce(&mut Page, Place)) {
    let (width, height) = view.size;
    let columns = columns(view);
    let top = top(view);
    axis(page, picture, view, columns.before, top);
    headings(page, columns, picture.at_us.is_some(), top);
    let rows = (height - 2).saturating_sub(top + 1);
    match shown::chosen(picture, view).filter(|_| view.panel == Panel::Charts) {
        Some(figure) => {
            chart(page, &figure, picture, view, columns, (top + 1, rows), true);
            page.has_figure(top + 1, rows, view.figure);
        }
        None => table(page, Place { x: 0, end: width, y: top + 1, rows }),
    }
}

/// Rows of each chart: one, and more for some of them, at most three.
fn heights(count: usize, more: u16, order: &[usize]) -> Vec<u16> {
    let mut heights = vec![1; count];
    for at in order.iter().filter(|at| **at < count).take(usize::from(more)) {
        heights[*at] = (heights[*at] + 1).min(3);
    }
    heights
}

/// A text in lines of at most so many characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let fits = lines
            .last()
            .is_some_and(|line| line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width);
        if !fits {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::catalog::Catalog;
    use crate::cli::top::clock::Clock;
    use crate::cli::top::fixture::{NOW_US, asked, picture};
    use crate::cli::top::window::MINUTE_US;

    fn now() -> Now {
        Now { ours_us: NOW_US, waits_us: 0 }
    }

    /// A screen of the fixed picture, compared with its file. After a wanted change: `KYMO_BLESS=1 cargo test --lib top`.
    fn shown(name: &str, size: (u16, u16), is_paused: bool, change: impl FnOnce(&mut View)) {
        let mut view = View::new(MINUTE_US, Glyphs::Braille, Clock::utc());
        view.size = size;
        change(&mut view);
        let cells = Needs::of(&view, None).cells;
        let picture = picture(cells, is_paused);
        view.busiest.update(&picture);
        if is_paused {
            view.point(&picture, cells / 2);
        }
        let picture = asked(&view, is_paused);
        let text = draw(&view, Palette::default(), Some(&picture), &State::Live, now()).text();
        let golden = format!("{}/tests/golden/top/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("KYMO_BLESS").is_some() {
            std::fs::write(&golden, &text).unwrap();
        }
        let lines = text.lines().map(|line| line.chars().count());
        assert!(lines.clone().count() == usize::from(size.1) && lines.max() <= Some(usize::from(size.0)));
        assert_eq!(text, std::fs::read_to_string(&golden).unwrap(), "{name}");
    }

    #[test]
    fn screens_of_a_fixed_picture_are_as_promised() {
        shown("overview-80x24", (80, 24), false, |_| ());
        shown("overview-120x40", (120, 40), true, |_| ());
        shown("overview-200x50", (200, 50), false, |_| ());
        shown("processes-80x24", (80, 24), true, |view| view.screen = Screen::Processes);
        shown("cgroups-120x40", (120, 40), true, |view| view.screen = Screen::Cgroups);
        shown("alerts-80x24", (80, 24), false, |view| view.screen = Screen::Alerts);
        shown("kymo-120x40", (120, 40), false, |view| view.screen = Screen::Kymo);
        shown("cpu-80x24", (80, 24), false, |view| view.screen = Screen::Cpu);
        shown("cpu-120x40", (120, 40), false, |view| view.screen = Screen::Cpu);
        shown("memory-120x40", (120, 40), true, |view| view.screen = Screen::Memory);
        shown("network-80x24", (80, 24), true, |view| view.screen = Screen::Network);
        shown("network-200x50", (200, 50), false, |view| view.screen = Screen::Network);
        shown("disk-80x24", (80, 24), false, |view| view.screen = Screen::Disk);
        shown("all-80x24", (80, 24), false, |view| view.screen = Screen::All);
        shown("all-120x40", (120, 40), false, |view| (view.screen, view.figure) = (Screen::All, 40));
        shown("full-80x24", (80, 24), true, |view| (view.is_full, view.figure) = (true, 6));
        shown("log-80x24", (80, 24), false, |view| view.scale = Scale::Log);
        shown("help-80x24", (80, 24), false, |view| view.has_help = true);
        shown("help-50x20", (50, 20), false, |view| (view.has_help, view.help_row) = (true, 5));
        shown("kymo-80x24", (80, 24), false, |view| view.screen = Screen::Kymo);
        shown("ascii-80x24", (80, 24), false, |view| view.glyphs = Glyphs::Ascii);
    }

    #[test]
    fn any_size_has_a_screen() {
        for digit in '0'..='9' {
            for width in [1, 39, 40, 63, 80, 107, 108, 179, 180, 300] {
                for height in [1, 9, 10, 16, 19, 24, 39, 40, 90] {
                    let mut view = View::new(MINUTE_US, Glyphs::Block, Clock::utc());
                    view.size = (width, height);
                    view.screen = Screen::of(digit).unwrap();
                    (view.row, view.figure, view.is_full) = (500, 500, height == 16);
                    let picture = asked(&view, true);
                    let mut page = draw(&view, Palette::default(), Some(&picture), &State::Live, now());
                    assert_eq!(page.buffer.content.len(), usize::from(width) * usize::from(height));
                    let before = page.text();
                    refresh(&mut page, &view, Some(&picture), &State::Live, now());
                    assert_eq!(page.text(), before, "what changes by itself is drawn as before");
                }
            }
        }
    }

    #[test]
    fn what_does_not_answer_says_since_when_and_how_old_the_picture_is() {
        let mut view = View::new(MINUTE_US, Glyphs::Braille, Clock::utc());
        let picture = asked(&view, false);
        view.busiest.update(&picture);
        let of = |state: &State, picture: Option<&Picture>, late_us: i64, waits_us: i64| {
            let now = Now { ours_us: NOW_US + late_us, waits_us };
            draw(&view, Palette::default(), picture, state, now).text()
        };
        let lost = State::Lost { since_us: NOW_US + 1_000_000, reason: "no daemon answers".to_owned() };
        let text = of(&lost, Some(&picture), 13_000_000, 0);
        assert!(text.contains("LOST 14:32:07.4 UTC, 13 s ago"), "{text}");
        assert!(text.contains("Lost 12 s ago; trying again: no daemon answers"), "{text}");
        assert!(of(&lost, None, 0, 0).contains("no daemon answers"));
        let busy = State::Busy { since_us: NOW_US, reason: "8 queries are running".to_owned() };
        let text = of(&busy, Some(&picture), 3_000_000, 0);
        assert!(text.contains("BUSY 14:32:07.4 UTC, 3 s ago"), "{text}");
        assert!(text.contains("The daemon is busy; next try in 2 s: 8 queries"), "{text}");
        let text = of(&State::Live, Some(&picture), 5_000_000, 4_000_000);
        assert!(text.contains("5 s old") && text.contains("reading for 4 s"), "{text}");
    }

    #[test]
    fn the_header_says_how_old_files_are_and_what_is_paused_at_once() {
        let mut view = View::new(MINUTE_US, Glyphs::Braille, Clock::utc());
        let picture = asked(&view, false);
        view.is_files = true;
        let header = |view: &View, late_us: i64| {
            let now = Now { ours_us: NOW_US + late_us, waits_us: 0 };
            draw(view, Palette::default(), Some(&picture), &State::Live, now).text().lines().next().unwrap().to_owned()
        };
        assert!(header(&view, 0).contains("FILES 14:32:07.4 UTC, 0 s old"), "{}", header(&view, 0));
        assert!(header(&view, 83_000_000).contains("FILES 14:32:07.4 UTC, 1 min 23 s old"));
        view.is_files = false;
        assert!(header(&view, 1_000_000).contains("LIVE 14:32:08.4 UTC  "), "{}", header(&view, 1_000_000));
        assert!(header(&view, 2_100_000).contains("LIVE 14:32:09.5 UTC, 2 s old"), "{}", header(&view, 2_100_000));
        // The picture of the moment has not come yet.
        view.pause(&picture);
        assert!(header(&view, 5_000_000).contains("PAUSED 14:32:06.0 UTC, 6 s ago"), "{}", header(&view, 5_000_000));
    }

    #[test]
    fn a_chart_says_that_an_older_daemon_lacks_it() {
        let mut view = View::new(MINUTE_US, Glyphs::Braille, Clock::utc());
        let mut picture = asked(&view, false);
        picture.catalog = Catalog::without(&[("network", "tx_bytes")], &["pressure"]).into();
        view.busiest.update(&picture);
        let text = draw(&view, Palette::default(), Some(&picture), &State::Live, now()).text();
        let lacking = text.lines().filter(|line| line.contains("This daemon is older")).count();
        assert_eq!(lacking, 4, "{text}");
    }
}
