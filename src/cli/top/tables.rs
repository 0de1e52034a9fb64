//! Draws the tables of a moment: processes and control groups.

use super::cells::draw;
use super::cgroups::{Group, GroupSort, Groups};
use super::choice::Panel;
use super::figures::READING;
use super::page::{By, Page, Place};
use super::picture::Picture;
use super::processes::{Line, Sort, by_command, sorted};
use super::reader::TRACE_US;
use super::units::{about, bytes, bytes_each_second, count, percent};
use super::view::View;
use super::window::SECOND_US;

/// A column of a table.
struct Column {
    title: &'static str,
    width: u16,
    is_left: bool,
    /// Whether the table is sorted by it.
    is_sorted: bool,
    /// What a click on its title sorts by.
    by: Option<By>,
}

/// The processes of a picture as they are listed, with how many of a command each line stands for.
pub(super) fn listed(picture: &Picture, view: &View) -> Vec<(usize, Line)> {
    let Some(tick_us) = picture.tick_us else { return Vec::new() };
    let lines = picture.ticks.lines(tick_us, picture.boot_us());
    let lines: Vec<Line> = lines.into_iter().filter(|line| view.filter.takes(line)).collect();
    let lines = if view.is_regrouped { by_command(lines) } else { lines.into_iter().map(|line| (1, line)).collect() };
    sorted(lines, view.sort, view.is_reversed)
}

/// Processes of the moment.
pub(super) fn processes(page: &mut Page, picture: &Picture, view: &View, place: Place, has_rule: bool) {
    let lines = listed(picture, view);
    let body = usize::from(place.rows.saturating_sub(2));
    let first = first_row(view.row, body, lines.len());
    let shown = lines.iter().skip(first).take(body);
    page.has_table([place.x, place.end], [place.y + 2, place.y + place.rows], first);
    page.heading(place, has_rule, &processes_heading(picture, view, &lines, first, body));
    let width = place.end - place.x;
    let trace = if width >= 110 { 22 } else { 12 };
    let columns = process_columns(width, trace, view.sort);
    titles(page, place, &columns, &trace_title(picture, trace));
    if lines.is_empty() {
        let text = match picture.tick_us {
            None => nothing(picture, view, "processes"),
            Some(_) => format!("Nothing matches {:?}. Esc shows all.", view.filter.text()),
        };
        page.put(place.x + 1, place.y + 2, &text, page.palette.plain);
        return;
    }
    let tick_us = picture.tick_us.unwrap_or(picture.now_us);
    let (from_us, to_us) = traced(picture, tick_us);
    for (at, (together, line)) in shown.enumerate() {
        let y = place.y + 2 + u16::try_from(at).unwrap_or(u16::MAX);
        let process = &line.process;
        let cells = if view.is_regrouped {
            Vec::new()
        } else {
            picture.ticks.trace(process.pid, process.start_us, from_us, to_us, usize::from(trace))
        };
        let top = cells.iter().flatten().map(|cell| cell.max).fold(1.0, f64::max);
        let drawn = draw(&cells, top, 1, view.glyphs).concat();
        let or_none = |value: Option<f64>, told: fn(f64) -> String| value.map_or_else(|| "-".to_owned(), told);
        let age = picture.boot_us().map(|boot_us| about_short(tick_us - boot_us - process.start_us));
        let id = if view.is_regrouped { format!("{together} x") } else { process.pid.to_string() };
        let mut cells = vec![
            id,
            process.command.clone(),
            format!("{:.2}", process.cpus),
            drawn,
            or_none(process.rss_bytes.filter(|bytes| *bytes > 0.0), bytes),
            or_none(process.threads, |threads| format!("{threads:.0}")),
            or_none(line.read, bytes_each_second),
            or_none(line.written, bytes_each_second),
        ];
        if width >= 110 {
            cells.insert(3, or_none(line.user, |share| format!("{:.0} %", share * 100.0)));
            cells.insert(7, or_none(process.files, |files| format!("{files:.0}")));
            cells.insert(8, or_none(line.faults, count));
            cells.push(age.filter(|_| !view.is_regrouped).unwrap_or_else(|| "-".to_owned()));
        }
        row(page, place, y, &columns, &cells);
        if line.is_new {
            page.put(place.x, y, "+", page.palette.heading);
        }
        mark(page, view, place, y, first + at, is_found(view, &process.command));
    }
}

/// Why there are no rows of a moment.
fn nothing(picture: &Picture, view: &View, what: &str) -> String {
    let Some(at_us) = picture.at_us else { return format!("No {what} were recorded in the last seconds.") };
    if let Some((from_us, to_us, reason)) = picture.events.nothing_at(at_us) {
        let why = if reason == "killed" { "kymo or the host was killed" } else { "the host was suspended" };
        let [from, to] = [from_us, to_us].map(|us| view.clock.near(us, picture.now_us));
        return format!("Nothing was recorded from {from} to {to}: {why}.");
    }
    match picture.charts.tier.as_str() {
        "1s" => "Raw samples of this time have expired; 1 s is the finest left.".to_owned(),
        "1m" => "Raw samples of this time have expired; 1 min is the finest left.".to_owned(),
        _ => match picture.span.filter(|(first_us, newest_us)| !(*first_us..=*newest_us).contains(&at_us)) {
            Some((first_us, newest_us)) => {
                let [from, to] = [first_us, newest_us].map(|us| view.clock.minute(us));
                format!("Nothing was recorded then, but from {from} to {to}.")
            }
            None => format!("No {what} were recorded at this time."),
        },
    }
}

/// What the heading says: which of how many, when, and how much of the CPU time they explain.
fn processes_heading(picture: &Picture, view: &View, lines: &[(usize, Line)], first: usize, body: usize) -> String {
    let Some(tick_us) = picture.tick_us else { return "processes".to_owned() };
    // The sum of nothing is minus zero.
    let used = lines.iter().map(|(_, line)| line.process.cpus).fold(0.0, |sum, cpus| sum + cpus);
    let range = match lines.len() {
        0 => "0 of 0".to_owned(),
        all => format!("{}-{} of {all}", first + 1, all.min(first + body)),
    };
    let is_of_tick = (picture.facts.to_us - tick_us).abs() < 2 * SECOND_US;
    let busy =
        picture.facts.busy_cpus().filter(|_| is_of_tick).map(|busy| format!(" of {busy:.1} busy")).unwrap_or_default();
    let what = if view.is_regrouped { "commands" } else { "processes" };
    let filtered = if view.filter.is_empty() { String::new() } else { format!(" [{}]", view.filter.text()) };
    format!("{what}{filtered} {range}, {}; they use {used:.1}{busy} CPUs", stretch_text(picture, view, tick_us))
}

/// `14:32:06.2-07.2`
fn stretch_text(picture: &Picture, view: &View, tick_us: i64) -> String {
    let from = view.clock.time(picture.ticks.begin(tick_us), 1);
    let to = view.clock.time(tick_us, 1);
    format!("{from}-{}", to.get(6..).unwrap_or_default())
}

/// The time of the small traces.
fn traced(picture: &Picture, tick_us: i64) -> (i64, i64) {
    match picture.at_us {
        Some(at_us) => (at_us - TRACE_US, at_us + TRACE_US),
        None => (tick_us + 1 - 2 * TRACE_US, tick_us + 1),
    }
}

fn trace_title(picture: &Picture, width: u16) -> String {
    match (picture.at_us, width) {
        (None, _) => "last minute".to_owned(),
        (Some(_), 22) => "-30 s      ▾     +30 s".to_owned(),
        (Some(_), _) => "-30s ▾ +30 s".to_owned(),
    }
}

fn process_columns(width: u16, trace: u16, sort: Sort) -> Vec<Column> {
    let column = |title, width, is_left, of: Option<Sort>| Column {
        title,
        width,
        is_left,
        is_sorted: of == Some(sort),
        by: of.map(By::Process),
    };
    let right = |title, width, of| column(title, width, false, of);
    let left = |title, width, of| column(title, width, true, of);
    let mut columns = vec![
        right("PID", 8, Some(Sort::Pid)),
        left("COMMAND", 16, Some(Sort::Command)),
        right("CPUS", 5, Some(Sort::Cpus)),
        left("", trace + 1, None),
        right("RSS", 10, Some(Sort::Memory)),
        right("THR", 5, Some(Sort::Threads)),
        right("READ/s", 10, Some(Sort::Read)),
        right("WRITE/s", 10, Some(Sort::Written)),
    ];
    if width >= 110 {
        columns.insert(3, right("USER", 6, None));
        columns.insert(7, right("FILES", 6, None));
        columns.insert(8, right("MAJFLT/s", 9, None));
        columns.push(right("AGE", 9, None));
    }
    columns
}

/// The control groups of a picture as they are listed.
pub(super) fn listed_groups(picture: &Picture, view: &View) -> Vec<Group> {
    let Some(groups) = &picture.groups else { return Vec::new() };
    let lines = groups.lines(view.group_sort, view.is_reversed, view.is_regrouped, |path| view.filter.takes_name(path));
    let is_hidden = |path: &str| {
        let is_below = |folded: &String| {
            path != folded
                && (folded == "/" || path.strip_prefix(folded.as_str()).is_some_and(|rest| rest.starts_with('/')))
        };
        view.filter.is_empty() && !view.is_regrouped && view.folded.iter().any(is_below)
    };
    lines.into_iter().filter(|group| !is_hidden(&group.path)).collect()
}

/// Control groups of the moment, as a tree.
pub(super) fn cgroups(page: &mut Page, picture: &Picture, view: &View, place: Place) {
    let groups = listed_groups(picture, view);
    let body = usize::from(place.rows.saturating_sub(2));
    let first = first_row(view.row, body, groups.len());
    page.has_table([place.x, place.end], [place.y + 2, place.y + place.rows], first);
    let known = picture.groups.as_ref();
    let count = known.map_or(0, Groups::count);
    let when = known.and_then(|groups| groups.tick_us).map(|tick| view.clock.time(tick, 1)).unwrap_or_default();
    let filtered = if view.filter.is_empty() { String::new() } else { format!(" [{}]", view.filter.text()) };
    let range =
        if groups.is_empty() { String::new() } else { format!("{}-{} of ", first + 1, groups.len().min(first + body)) };
    let text = match known {
        Some(_) => format!("cgroups{filtered} {range}{count}, {when}; psi: % of the time that some task waited"),
        None => "cgroups".to_owned(),
    };
    page.heading(place, true, &text);
    let is_wide = place.end - place.x >= 100;
    let right = |title, width, of: Option<GroupSort>| Column {
        title,
        width,
        is_left: false,
        is_sorted: of == Some(view.group_sort),
        by: of.map(By::Group),
    };
    let numbers = if is_wide { 73 } else { 53 };
    let name = (place.end - place.x).saturating_sub(numbers + 2);
    let mut columns = vec![
        Column { title: "CGROUP", width: name, is_left: true, is_sorted: false, by: None },
        right("CPUS", 6, Some(GroupSort::Cpus)),
        right("THROT", 7, Some(GroupSort::Throttled)),
        right("MEMORY", 10, Some(GroupSort::Memory)),
        right("psi cpu", 8, None),
        right("mem", 5, None),
        right("io", 5, Some(GroupSort::WaitedForIo)),
        right("TASKS", 6, None),
    ];
    if is_wide {
        columns.insert(4, right("OF MAX", 7, None));
        columns.insert(8, right("READ/s", 9, Some(GroupSort::Read)));
        columns.insert(9, right("WRITE/s", 9, Some(GroupSort::Written)));
    }
    titles(page, place, &columns, "");
    if groups.is_empty() {
        let text = match (known, count) {
            (None, _) => READING.to_owned(),
            (_, 0) => nothing(picture, view, "control groups"),
            _ => format!("Nothing matches {:?}. Esc shows all.", view.filter.text()),
        };
        page.put(place.x + 1, place.y + 2, &text, page.palette.plain);
        return;
    }
    for (at, group) in groups.iter().skip(first).take(body).enumerate() {
        let y = place.y + 2 + u16::try_from(at).unwrap_or(u16::MAX);
        let or_none = |value: Option<f64>, told: fn(f64) -> String| value.map_or_else(|| "-".to_owned(), told);
        let mut cells = vec![
            format!("{}{}{}", group.branch, group.name, if view.folded.contains(&group.path) { " …" } else { "" }),
            or_none(group.cpus, |cpus| format!("{cpus:.2}")),
            or_none(group.throttled, percent_or_zero),
            or_none(group.memory, bytes),
            or_none(group.waited[0], points),
            or_none(group.waited[1], points),
            or_none(group.waited[2], points),
            or_none(group.tasks, |tasks| format!("{tasks:.0}")),
        ];
        if is_wide {
            cells.insert(4, or_none(group.of_max, |share| format!("{:.0} %", share * 100.0)));
            cells.insert(8, or_none(group.read, bytes_each_second));
            cells.insert(9, or_none(group.written, bytes_each_second));
        }
        row(page, place, y, &columns, &cells);
        mark(page, view, place, y, first + at, is_found(view, &group.path));
    }
}

/// The first row that is shown, so that the chosen one is.
pub(super) fn first_row(row: usize, body: usize, count: usize) -> usize {
    (row + 1).saturating_sub(body).min(count.saturating_sub(1))
}

/// Whether a search is about it.
pub(super) fn is_found(view: &View, name: &str) -> bool {
    !view.search.is_empty() && name.to_lowercase().contains(&view.search.to_lowercase())
}

pub(super) fn mark(page: &mut Page, view: &View, place: Place, y: u16, row: usize, is_found: bool) {
    if view.panel == Panel::Table && view.row == row {
        page.put(place.x, y, "▸", page.palette.heading);
    }
    if is_found {
        let style = page.palette.selected;
        page.style_row(place.x, place.end, y, style);
    }
}

/// Titles over columns; the one without a title has the other.
fn titles(page: &mut Page, place: Place, columns: &[Column], other: &str) {
    let title = |column: &Column| {
        let title = if column.title.is_empty() { other } else { column.title };
        if column.is_sorted { format!("▾{title}") } else { title.to_owned() }
    };
    let titles: Vec<String> = columns.iter().map(title).collect();
    let y = place.y + 1;
    row(page, place, y, columns, &titles);
    let mut x = place.x + 1;
    for column in columns {
        if let Some(by) = column.by {
            page.has_title([x, x + column.width], y, by);
        }
        x += column.width;
    }
    let style = page.palette.heading;
    page.style_row(place.x, place.end, y, style);
}

fn row(page: &mut Page, place: Place, y: u16, columns: &[Column], cells: &[String]) {
    let style = page.palette.plain;
    let mut x = place.x + 1;
    for (column, text) in columns.iter().zip(cells) {
        if x + column.width > place.end {
            break;
        }
        if column.is_left {
            // A space stands before it, as numbers have one.
            page.put_within(x + 1, y, text, column.width.saturating_sub(1), style);
        } else {
            page.put_before(x + column.width, y, text, style);
        }
        x += column.width;
    }
}

/// A share in per cent without its sign, as the title has it.
fn points(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        percent if percent < 0.05 => "0".to_owned(),
        percent if percent < 9.95 => format!("{percent:.1}"),
        percent => format!("{percent:.0}"),
    }
}

fn percent_or_zero(share: f64) -> String {
    if share == 0.0 { "0".to_owned() } else { percent(share) }
}

/// An age, in its largest unit.
fn about_short(us: i64) -> String {
    match us / SECOND_US {
        ..100 => format!("{:.1} s", us as f64 / 1e6),
        _ => about(us).split_inclusive(' ').take(2).collect::<String>().trim_end().to_owned(),
    }
}
