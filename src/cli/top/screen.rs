//! Lays a screen out.

use super::cells::Glyphs;
use super::charts::{BEFORE, Columns, TABLES, chart, core, headings};
use super::events::{Event, Firing, What};
use super::figures::{Figure, figures};
use super::help;
use super::page::{Page, Palette};
use super::picture::Picture;
use super::status::{State, axis, keys, kymo, status};
use super::tables::{Place, cgroups, first_row, heading, mark, processes};
use super::units::{about, bytes, count, percent, whole};
use super::view::{Panel, Screen, View};

/// The least size that anything is shown in.
pub(super) const WIDTH_MIN: u16 = 40;
/// See [`WIDTH_MIN`].
pub(super) const HEIGHT_MIN: u16 = 10;
/// From this size on, tables stand beside the charts.
const BESIDE: (u16, u16) = (180, 40);
/// So many processes are shown before charts get more rows.
const PROCESSES_BEFORE: u16 = 15;
/// Charts in the order in which they get more rows.
const TALLER: &[usize] = &[0, 6, 5, 3, 9, 0, 6, 4, 7, 3, 5, 9, 2, 4, 8, 7];
/// Charts of screens whose table has the room.
const FEW: &[usize] = &[0, 2, 5, 6, 9];

/// How wide charts are, and whether processors have a row each.
pub(super) fn needs(width: u16, height: u16) -> (usize, bool) {
    let is_beside = is_beside(width, height);
    (usize::from(Columns::of(width, is_beside).cells.max(1)), is_beside)
}

fn is_beside(width: u16, height: u16) -> bool {
    width >= BESIDE.0 && height >= BESIDE.1
}

/// The first column of charts.
pub(super) const CHARTS_X: u16 = BEFORE;

/// A page with a picture, or with why there is none.
pub(super) fn draw(
    size: (u16, u16),
    palette: Palette,
    picture: Option<&Picture>,
    view: &View,
    state: &State,
    ours_us: i64,
) -> Page {
    let mut page = signs(size, palette, picture, view, state, ours_us);
    if view.glyphs == Glyphs::Ascii {
        page.make_ascii();
    }
    page
}

/// The page with all signs that there are.
fn signs(
    (width, height): (u16, u16),
    palette: Palette,
    picture: Option<&Picture>,
    view: &View,
    state: &State,
    ours_us: i64,
) -> Page {
    let mut page = Page::new(width, height, palette);
    if width < WIDTH_MIN || height < HEIGHT_MIN {
        page.put(0, 0, &format!("needs {WIDTH_MIN}x{HEIGHT_MIN}"), palette.plain);
        return page;
    }
    if view.has_help {
        help::draw(&mut page);
        return page;
    }
    let Some(picture) = picture else {
        let text = match state {
            State::Lost { reason, .. } => reason.as_str(),
            State::Live | State::Files => "reading …",
        };
        for (line, y) in wrapped(text, usize::from(width) - 2).iter().zip(1..) {
            page.put(1, y, line, palette.plain);
        }
        page.put(1, height - 1, "q quit", palette.plain);
        return page;
    };
    status(&mut page, picture, view, state, ours_us);
    keys(&mut page, view, state, ours_us, height - 1);
    kymo(&mut page, picture, height - 2);
    match view.screen {
        Screen::Overview if is_beside(width, height) => beside(&mut page, picture, view),
        Screen::Overview => overview(&mut page, picture, view),
        Screen::Processes => {
            with_table(&mut page, picture, view, |page, place| processes(page, picture, view, place, true));
        }
        Screen::Cgroups => with_table(&mut page, picture, view, |page, place| cgroups(page, picture, view, place)),
        Screen::Alerts => with_table(&mut page, picture, view, |page, place| alerts(page, picture, view, place)),
        Screen::Kymo => with_table(&mut page, picture, view, |page, place| own(page, picture, place)),
    }
    page
}

fn overview(page: &mut Page, picture: &Picture, view: &View) {
    let (width, height) = (page.width(), page.height());
    let columns = Columns::of(width, false);
    axis(page, picture, view, BEFORE, 1);
    headings(page, columns, picture.at_us.is_some(), 1);
    let figures = figures(picture, &view.busiest);
    // Status, axis, alert, two rows of headings, kymo and keys; at least three processes, or none at all.
    let room = height.saturating_sub(4);
    let count = u16::try_from(figures.len()).unwrap_or(u16::MAX);
    let (charts, has_table) =
        if room >= count + 6 { (count, true) } else { (count.min(room.saturating_sub(1)), false) };
    let more = if has_table { (room - charts - 3).saturating_sub(PROCESSES_BEFORE) } else { 0 };
    let rows = heights(usize::from(charts), more, TALLER);
    let mut y = 2;
    for (at, (figure, rows)) in figures.iter().zip(&rows).enumerate() {
        chart(page, figure, picture, view, columns, (y, *rows), at == view.figure);
        page.has_figure(y, *rows, at);
        y += rows;
    }
    alert_row(page, picture, view, y);
    if has_table {
        let place = Place { x: 0, end: width, y: y + 1, rows: (height - 2).saturating_sub(y + 1) };
        processes(page, picture, view, place, width >= 100);
    }
}

/// Left when, right what.
fn beside(page: &mut Page, picture: &Picture, view: &View) {
    let (width, height) = (page.width(), page.height());
    let columns = Columns::of(width, true);
    let left = width - TABLES;
    axis(page, picture, view, BEFORE, 1);
    headings(page, columns, picture.at_us.is_some(), 1);
    let figures = figures(picture, &view.busiest);
    let mut cores: Vec<&str> = picture.charts.labels("cpu").filter(|label| *label != "total").collect();
    cores.sort_by_key(|label| label.parse::<u32>().unwrap_or(u32::MAX));
    let room = height.saturating_sub(4);
    let count = u16::try_from(figures.len()).unwrap_or(u16::MAX);
    // Half of the rows at most: hosts with more processors have bars.
    let cores = if cores.len() <= usize::from(room / 2) { cores } else { Vec::new() };
    let taken = count + u16::try_from(cores.len()).unwrap_or(0);
    let rows = heights(figures.len(), room.saturating_sub(taken), TALLER);
    let mut y = 2;
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
    for y in 1..height - 2 {
        page.put(left, y, "│", page.palette.quiet);
    }
    let alert_rows = (u16::try_from(picture.firing.len()).unwrap_or(0) + 3).clamp(5, 9);
    let body = height - 3;
    let upper = (body - alert_rows) * 3 / 5;
    let place = Place { x: left + 1, end: width, y: 1 + upper, rows: body - alert_rows - upper };
    // Keys are for the processes.
    let mut calm = view.clone();
    (calm.panel, calm.row) = (Panel::Charts, 0);
    cgroups(page, picture, &calm, place);
    processes(page, picture, view, Place { y: 1, rows: upper, ..place }, true);
    let place = Place { y: 1 + body - alert_rows, rows: alert_rows, ..place };
    alert_list(page, picture, view, place);
}

/// A few charts over a table.
fn with_table(page: &mut Page, picture: &Picture, view: &View, table: impl FnOnce(&mut Page, Place)) {
    let (width, height) = (page.width(), page.height());
    let columns = Columns::of(width, false);
    axis(page, picture, view, BEFORE, 1);
    headings(page, columns, picture.at_us.is_some(), 1);
    let all = figures(picture, &view.busiest);
    let few: Vec<(usize, &Figure)> = FEW.iter().filter_map(|at| Some((*at, all.get(*at)?))).collect();
    let few = if height >= 20 { &few[..] } else { &few[..few.len().min(1)] };
    let mut y = 2;
    for (at, figure) in few {
        chart(page, figure, picture, view, columns, (y, 1), *at == view.figure);
        page.has_figure(y, 1, *at);
        y += 1;
    }
    table(page, Place { x: 0, end: width, y, rows: (height - 2).saturating_sub(y) });
}

/// Rows of each chart: one, and more for some of them, at most three.
fn heights(count: usize, more: u16, order: &[usize]) -> Vec<u16> {
    let mut heights = vec![1; count];
    for at in order.iter().filter(|at| **at < count).take(usize::from(more)) {
        heights[*at] = (heights[*at] + 1).min(3);
    }
    heights
}

/// The alerts that are on, or the newest that was.
fn alert_row(page: &mut Page, picture: &Picture, view: &View, y: u16) {
    if let Some(firing) = picture.firing.first() {
        let more = match picture.firing.len() {
            1 => String::new(),
            count => format!(" and {} more;", count - 1),
        };
        let style = page.palette.alert;
        let x = page.put(1, y, "FIRING", style) + 1;
        let text = format!("{more} {}", told(firing, picture.firing_us));
        page.put(x, y, text.trim_start(), page.palette.plain);
        return;
    }
    let text = match picture.events.alerts().next() {
        Some(event) => format!("no alert fires; the last: {}", past(event, view, picture.now_us)),
        None => "no alert fires".to_owned(),
    };
    page.put(1, y, &text, page.palette.quiet);
}

fn told(firing: &Firing, now_us: i64) -> String {
    let labels = if firing.labels.is_empty() { String::new() } else { format!(", {}", firing.labels) };
    let since = firing.since_us.map(|since| format!(", for {}", about(now_us - since))).unwrap_or_default();
    let condition = if firing.condition.is_empty() { String::new() } else { format!(": {}", firing.condition) };
    let peak = firing.peak.map(|peak| format!(", peak {}", count(peak))).unwrap_or_default();
    format!("{}{labels}{since}{condition}{peak}", firing.rule)
}

fn past(event: &Event, view: &View, now_us: i64) -> String {
    let labels = if event.labels.is_empty() { String::new() } else { format!(", {}", event.labels) };
    let held = event.since_us.filter(|since| event.what == What::Resolved && *since < event.time_us);
    let held = held.map(|since| format!(" after {}", about(event.time_us - since))).unwrap_or_default();
    format!("{}{labels} {}{held} {}", event.name, event.state, view.clock.near(event.time_us, now_us))
}

/// Alerts that are on, and what was.
fn alert_list(page: &mut Page, picture: &Picture, view: &View, place: Place) {
    let plain = page.palette.plain;
    heading(page, place, true, &format!("alerts: {} firing", picture.firing.len()));
    let room = usize::from(place.rows.saturating_sub(1));
    let firing = picture.firing.iter().map(|firing| (true, told(firing, picture.firing_us)));
    let past = picture.events.alerts().map(|event| (false, past(event, view, picture.now_us)));
    for ((is_on, text), y) in firing.chain(past).take(room).zip(place.y + 1..) {
        let x = if is_on {
            let style = page.palette.alert;
            page.put(place.x + 1, y, "FIRING", style) + 1
        } else {
            place.x + 1
        };
        page.put_within(x, y, &text, place.end.saturating_sub(x), plain);
    }
}

/// All events that are known, the newest first.
fn alerts(page: &mut Page, picture: &Picture, view: &View, place: Place) {
    let plain = page.palette.plain;
    let on = u16::try_from(picture.firing.len()).unwrap_or(u16::MAX).min(place.rows / 3);
    heading(page, place, true, &format!("alerts: {} firing", picture.firing.len()));
    for (firing, y) in picture.firing.iter().zip(place.y + 1..).take(usize::from(on)) {
        let style = page.palette.alert;
        let x = page.put(1, y, "FIRING", style) + 1;
        page.put(x, y, &told(firing, picture.firing_us), plain);
    }
    let events = &picture.events.events;
    let below = Place { y: place.y + 1 + on, rows: place.rows.saturating_sub(1 + on), ..place };
    let body = usize::from(below.rows.saturating_sub(1));
    let first = first_row(view.row, body, events.len());
    page.has_table([0, below.end], [below.y + 1, below.y + below.rows], first);
    heading(
        page,
        below,
        true,
        &format!(
            "events {}-{} of {}, enter goes there",
            events.len().min(first + 1),
            events.len().min(first + body),
            events.len()
        ),
    );
    for ((at, event), y) in events.iter().enumerate().skip(first).take(body).zip(below.y + 1..) {
        let text = match event.what {
            What::Missed if event.name.is_empty() => format!("x  nothing was recorded: {}", event.state),
            What::Missed => {
                let missed = whole(event.value.unwrap_or(0.0));
                let ticks = if missed == "1" { "tick" } else { "ticks" };
                format!("x  {} missed {missed} {ticks}: {}", event.name, event.state)
            }
            What::Fired => {
                let value = event.value.map(|value| format!(", was {}", count(value))).unwrap_or_default();
                format!("!  {} {} {}{value}", event.name, event.labels, event.state)
            }
            What::Resolved => format!(":  {} {} {}", event.name, event.labels, event.state),
        };
        let x = page.put(1, y, &view.clock.near(event.time_us, picture.now_us), plain) + 2;
        page.put(x, y, &text, plain);
        mark(page, view, below, y, at, super::tables::is_found(view, &event.name));
    }
}

/// What kymo itself costs, and what each collector lost.
fn own(page: &mut Page, picture: &Picture, place: Place) {
    let plain = page.palette.plain;
    heading(page, place, true, "kymo itself, in this second and over the window");
    let facts = &picture.facts;
    let of = |at, told: fn(f64) -> String| facts.mean("kymo", "", at).map_or_else(|| "-".to_owned(), told);
    let text = format!(
        "{} of a CPU   memory {}   files {}   journal {}   rows in memory {}   query workers {}",
        of(0, |us| percent(us / 1e6)),
        of(1, bytes),
        of(2, bytes),
        of(3, bytes),
        of(4, bytes),
        of(5, bytes),
    );
    page.put(1, place.y + 1, &text, plain);
    let titles = "COLLECTOR              TICKS     MISSED    DROPPED   LATE p50   LATE p99   LATE max   READING";
    page.put(1, place.y + 3, titles, page.palette.heading);
    for (loss, y) in picture.events.losses.iter().zip(place.y + 4..place.y + place.rows) {
        let of = |at| facts.mean("collector", &loss.collector, at);
        let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |us| format!("{:.2} ms", us / 1e3));
        let text = format!(
            "{:<16} {:>11} {:>10} {:>10} {:>10} {:>10} {:>10} {:>9}",
            loss.collector,
            whole(loss.due),
            whole(loss.missed),
            whole(loss.dropped),
            ms(of(0)),
            ms(of(2)),
            ms(of(1)),
            of(3).map_or_else(|| "-".to_owned(), |us| percent(us / 1e6)),
        );
        page.put(1, y, &text, plain);
    }
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
    use crate::cli::top::clock::Clock;
    use crate::cli::top::fixture::{NOW_US, picture};
    use crate::cli::top::window::MINUTE_US;

    /// A screen of the fixed picture, compared with its file. After a wanted change: `KYMO_BLESS=1 cargo test --lib top`.
    fn shown(name: &str, size: (u16, u16), is_paused: bool, change: impl FnOnce(&mut View)) {
        let (cells, _) = needs(size.0, size.1);
        let picture = picture(cells, is_paused);
        let mut view = View::new(MINUTE_US, Glyphs::Braille, Clock::utc());
        view.busiest.update(&picture);
        if is_paused {
            view.point(&picture, cells / 2);
        }
        change(&mut view);
        let text = draw(size, Palette::default(), Some(&picture), &view, &State::Live, NOW_US).text();
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
        shown("help-80x24", (80, 24), false, |view| view.has_help = true);
        shown("ascii-80x24", (80, 24), false, |view| view.glyphs = Glyphs::Ascii);
    }

    #[test]
    fn any_size_has_a_screen() {
        let picture = picture(36, true);
        for screen in [Screen::Overview, Screen::Processes, Screen::Cgroups, Screen::Alerts, Screen::Kymo] {
            for width in [1, 39, 40, 63, 80, 107, 108, 179, 180, 300] {
                for height in [1, 9, 10, 16, 19, 24, 39, 40, 90] {
                    let mut view = View::new(MINUTE_US, Glyphs::Block, Clock::utc());
                    view.screen = screen;
                    view.row = 500;
                    let page = draw((width, height), Palette::default(), Some(&picture), &view, &State::Files, NOW_US);
                    assert_eq!(page.buffer.content.len(), usize::from(width) * usize::from(height));
                }
            }
        }
    }

    #[test]
    fn a_lost_daemon_says_since_when_and_how_old_the_picture_is() {
        let picture = picture(36, false);
        let mut view = View::new(MINUTE_US, Glyphs::Braille, Clock::utc());
        view.busiest.update(&picture);
        let state = State::Lost { since_us: NOW_US + 1_000_000, reason: "no daemon answers".to_owned() };
        let text = draw((80, 24), Palette::default(), Some(&picture), &view, &state, NOW_US + 13_000_000).text();
        assert!(text.contains("LOST 14:32:07.4 UTC, 13 s ago"), "{text}");
        assert!(text.contains("Lost 12 s ago; trying again: no daemon answers"), "{text}");
        let text = draw((80, 24), Palette::default(), None, &view, &state, NOW_US).text();
        assert!(text.contains("no daemon answers"), "{text}");
    }
}
