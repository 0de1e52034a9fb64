//! What keys and the mouse do to the view.

use super::choice::{Panel, Prompt, Question, Screen};
use super::clock::Clock;
use super::fetch::ours_us;
use super::filter::Filter;
use super::help;
use super::history::{HISTORY_X, age_of};
use super::input::{Arrow, Held, Input, Mouse};
use super::lists::entries;
use super::metric::Metric;
use super::page::{By, Hits};
use super::peaks;
use super::picture::Picture;
use super::shown::{chosen, chosen_group, count};
use super::tables::{listed, listed_groups};
use super::view::View;

/// What is left to do outside of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    Quit,
    Redraw,
    Suspend,
    Faster,
    Slower,
    ToggleMouse,
    /// Write the screen to a file.
    Export,
    /// Give the command that shows the same to the clipboard.
    Copy,
    /// Take the key again when the chosen chart was read.
    Keep,
}

/// Rows that the wheel moves.
const WHEEL_ROWS: i64 = 3;

/// So many charts are kept in the overview.
const KEPT_MAX: usize = 10;

/// Takes one input. `pressed` is where a drag began.
pub(super) fn apply(
    view: &mut View,
    input: Input,
    picture: Option<&Picture>,
    hits: &Hits,
    pressed: &mut Option<u16>,
) -> Action {
    view.note = None;
    if let Input::Ctrl('c') = input {
        return Action::Quit;
    }
    if view.prompt.is_some() {
        type_in(view, input, picture);
        return Action::None;
    }
    if view.has_help {
        return match input {
            Input::Char('q') => Action::Quit,
            Input::Char('?') | Input::Escape | Input::Help => {
                view.has_help = false;
                Action::None
            }
            input => {
                view.help_row = help::first_row(view.size, help::moved(view.help_row, input));
                Action::None
            }
        };
    }
    match input {
        Input::Char('q') => return Action::Quit,
        Input::Ctrl('l') => return Action::Redraw,
        Input::Ctrl('z') => return Action::Suspend,
        Input::Char('>') => return Action::Faster,
        Input::Char('<') => return Action::Slower,
        Input::Char('M') => return Action::ToggleMouse,
        Input::Char('e') => return Action::Export,
        Input::Char('c') => return Action::Copy,
        Input::Char('?') | Input::Help => (view.has_help, view.help_row) = (true, 0),
        Input::Char(digit @ '0'..='9') => {
            if let Some(screen) = Screen::of(digit) {
                open(view, screen);
            }
        }
        Input::Char('x') => view.is_full = !view.is_full,
        Input::Char('y') => {
            view.scale = view.scale.next();
            view.note = Some(view.scale.told().to_owned());
        }
        Input::Char('U') => {
            view.has_bits = !view.has_bits;
            view.note = Some(if view.has_bits { "networks in bits" } else { "networks in bytes" }.to_owned());
        }
        Input::Char('z') => {
            view.clock = if view.clock.is_utc() { Clock::local() } else { Clock::utc() };
        }
        Input::Char('@') => ask(view, Question::GoTo),
        Input::Char('/') => ask(view, Question::Search),
        Input::Char('f') => ask(view, Question::Filter),
        Input::Char('s') if view.screen == Screen::Cgroups => view.group_sort = view.group_sort.next(),
        Input::Char('s') => view.sort = view.sort.next(),
        Input::Char('S') => view.is_reversed = !view.is_reversed,
        Input::Char('t') => view.is_regrouped = !view.is_regrouped,
        // A list has no table.
        Input::Tab | Input::BackTab if !view.screen.is_list() => {
            view.panel = if view.panel == Panel::Charts { Panel::Table } else { Panel::Charts };
        }
        Input::Char('[' | ']') if !peaks::known(view, picture).0 => {
            view.note = Some("the peak is shown when this chart was read".to_owned());
            return Action::Keep;
        }
        Input::Backspace | Input::Char('u') => view.back(),
        Input::Escape => escape(view),
        _ => {
            if let Some(picture) = picture {
                with_picture(view, input, picture, hits, pressed);
            }
        }
    }
    Action::None
}

fn with_picture(view: &mut View, input: Input, picture: &Picture, hits: &Hits, pressed: &mut Option<u16>) {
    match input {
        Input::Char(' ') => view.pause(picture),
        Input::Arrow(Arrow::Left, Held::Nothing) | Input::Char('h') => view.step(picture, -1),
        Input::Arrow(Arrow::Right, Held::Nothing) | Input::Char('l') => view.step(picture, 1),
        Input::Arrow(Arrow::Left, Held::Shift) | Input::Char('H') => view.step(picture, -10),
        Input::Arrow(Arrow::Right, Held::Shift) | Input::Char('L') => view.step(picture, 10),
        Input::Arrow(Arrow::Left, Held::Ctrl) | Input::Char('b') => view.page(picture, -1),
        Input::Arrow(Arrow::Right, Held::Ctrl) | Input::Char('w') => view.page(picture, 1),
        Input::Char('+' | '=' | 'i') => view.zoom(picture, true),
        Input::Char('-' | 'o') => view.zoom(picture, false),
        Input::Char('[') => peaks::go(view, picture, false),
        Input::Char(']') => peaks::go(view, picture, true),
        Input::Char('{') => view.event(picture, false),
        Input::Char('}') => view.event(picture, true),
        Input::Home | Input::Char('^') => view.point(picture, 0),
        Input::End | Input::Char('$') => view.go_live(),
        Input::Arrow(Arrow::Up, _) | Input::Char('k') => rows(view, picture, -1),
        Input::Arrow(Arrow::Down, _) | Input::Char('j') => rows(view, picture, 1),
        Input::PageUp | Input::Ctrl('b') => rows(view, picture, -hits.page_rows()),
        Input::PageDown | Input::Ctrl('f') => rows(view, picture, hits.page_rows()),
        Input::Char('g') => rows(view, picture, i64::MIN),
        Input::Char('G') => rows(view, picture, i64::MAX),
        Input::Char('n') => search(view, picture, true),
        Input::Char('N') => search(view, picture, false),
        Input::Enter => enter(view, picture),
        Input::Char('p') => keep(view, picture),
        Input::Mouse(mouse, x, y) => point(view, picture, hits, pressed, (mouse, x, y)),
        _ => {}
    }
}

/// Shows a screen.
pub(super) fn open(view: &mut View, screen: Screen) {
    view.screen = screen;
    (view.row, view.figure, view.is_full, view.unfolded) = (0, 0, false, None);
    // Tables of whole screens are what arrows are for.
    let has_charts = screen == Screen::Overview || screen.is_list();
    view.panel = if has_charts { Panel::Charts } else { Panel::Table };
}

fn ask(view: &mut View, of: Question) {
    let text = if of == Question::Filter { view.filter.text().to_owned() } else { String::new() };
    view.prompt = Some(Prompt { of, text, error: None });
}

/// Ends what was chosen last: the whole screen, a search, a filter, another screen than the overview, another time than now.
fn escape(view: &mut View) {
    if view.is_full {
        view.is_full = false;
    } else if !view.search.is_empty() {
        view.search.clear();
    } else if !view.filter.is_empty() {
        view.filter = Filter::default();
    } else if view.screen != Screen::Overview {
        open(view, Screen::Overview);
    } else {
        view.go_live();
    }
}

fn type_in(view: &mut View, input: Input, picture: Option<&Picture>) {
    let Some(prompt) = &mut view.prompt else { return };
    match input {
        Input::Escape => view.prompt = None,
        Input::Backspace => {
            prompt.text.pop();
            prompt.error = None;
        }
        Input::Ctrl('u') => prompt.text.clear(),
        Input::Char(typed) => {
            prompt.text.push(typed);
            prompt.error = None;
        }
        Input::Enter => {
            let prompt = prompt.clone();
            if let Err(error) = answer(view, &prompt, picture) {
                view.prompt = Some(Prompt { error: Some(error), ..prompt });
            } else {
                view.prompt = None;
            }
        }
        _ => {}
    }
}

fn answer(view: &mut View, prompt: &Prompt, picture: Option<&Picture>) -> Result<(), String> {
    match prompt.of {
        Question::GoTo => {
            let picture = picture.ok_or("nothing was read yet")?;
            // A view that is paused is not read again, and time goes on.
            let since_us = if view.is_files { 0 } else { (ours_us() - picture.read_us).max(0) };
            let now_us = picture.now_us + since_us;
            let at_us = view.clock.parse(&prompt.text, now_us)?;
            view.go_to(at_us.min(now_us), picture.window.cells);
        }
        Question::Search => {
            prompt.text.clone_into(&mut view.search);
            view.panel = if view.screen.is_list() { Panel::Charts } else { Panel::Table };
            if let Some(picture) = picture {
                search(view, picture, true);
            }
        }
        Question::Filter => {
            view.filter = Filter::parse(&prompt.text)?;
            view.row = 0;
            if view.screen.is_list() {
                view.figure = 0;
            }
        }
    }
    Ok(())
}

/// What the rows of the screen's table or list are called.
fn names(view: &View, picture: &Picture) -> Vec<String> {
    match view.screen {
        Screen::Overview | Screen::Processes => {
            listed(picture, view).into_iter().map(|(_, line)| line.process.command).collect()
        }
        Screen::Cgroups => listed_groups(picture, view).into_iter().map(|group| group.path).collect(),
        Screen::Alerts => picture.events.events.iter().map(|event| event.name.clone()).collect(),
        Screen::Kymo => Vec::new(),
        _ => {
            let entries = entries(picture, view).into_iter();
            entries.map(|entry| format!("{} {}", entry.name, entry.metric.name())).collect()
        }
    }
}

/// The row that keys move, of the charts or of the table.
fn chosen_row(view: &mut View) -> &mut usize {
    if view.panel == Panel::Charts { &mut view.figure } else { &mut view.row }
}

fn rows(view: &mut View, picture: &Picture, by: i64) {
    let count = match view.panel {
        Panel::Charts => count(picture, view),
        Panel::Table => names(view, picture).len(),
    };
    let chosen = chosen_row(view);
    let at = i64::try_from(*chosen).unwrap_or(0).saturating_add(by).max(0);
    *chosen = usize::try_from(at).unwrap_or(usize::MAX).min(count.saturating_sub(1));
}

fn search(view: &mut View, picture: &Picture, is_next: bool) {
    if view.search.is_empty() {
        return;
    }
    let wanted = view.search.to_lowercase();
    let names = names(view, picture);
    let (count, at) = (names.len(), *chosen_row(view));
    let order: Vec<usize> = (1..=count).map(|by| (at + if is_next { by } else { count - by }) % count.max(1)).collect();
    match order.into_iter().find(|at| names[*at].to_lowercase().contains(&wanted)) {
        Some(row) => *chosen_row(view) = row,
        None => view.note = Some(format!("nothing here is named {:?}", view.search)),
    }
}

/// Goes to an event, folds a group, or shows the series of a metric.
fn enter(view: &mut View, picture: &Picture) {
    if view.screen.is_list() {
        let metric = chosen(picture, view).and_then(|figure| figure.of);
        view.unfolded = metric.filter(|metric| view.unfolded.as_ref() != Some(metric));
        let has_series = |metric: &Metric| metric.family().is_some_and(|table| table.labels().next().is_some());
        if view.unfolded.as_ref().is_some_and(|metric| !has_series(metric)) {
            view.note = Some("this has one series only".to_owned());
        }
    } else if view.screen == Screen::Cgroups
        && let Some(group) = chosen_group(picture, view)
        && !view.folded.remove(&group.path)
    {
        view.folded.insert(group.path);
    } else if view.screen == Screen::Alerts
        && let Some(event) = picture.events.events.get(view.row)
    {
        let at_us = event.time_us;
        open(view, Screen::Overview);
        view.go_to(at_us, picture.window.cells);
    }
}

/// Keeps the chosen chart in the overview, or leaves it out again.
fn keep(view: &mut View, picture: &Picture) {
    let Some(metric) = chosen(picture, view).and_then(|figure| figure.of) else { return };
    let name = metric.name();
    let said = match view.kept.iter().position(|kept| *kept == metric) {
        Some(at) => {
            view.kept.remove(at);
            "is no longer kept in the overview"
        }
        None if view.screen == Screen::Overview => "is in the overview already",
        None if view.kept.len() >= KEPT_MAX => "has no room in the overview; p leaves another one out",
        None => {
            view.kept.push(metric);
            "is kept in the overview"
        }
    };
    view.note = Some(format!("{name} {said}"));
}

/// A click on a title sorts by it, and another one turns the order round.
fn sort_by(view: &mut View, by: By) {
    let is_same = match by {
        By::Process(sort) => std::mem::replace(&mut view.sort, sort) == sort,
        By::Group(sort) => std::mem::replace(&mut view.group_sort, sort) == sort,
    };
    view.is_reversed = is_same && !view.is_reversed;
}

fn point(view: &mut View, picture: &Picture, hits: &Hits, pressed: &mut Option<u16>, (mouse, x, y): (Mouse, u16, u16)) {
    let cell_at = |x: u16| x.checked_sub(hits.charts_x).map(usize::from).filter(|cell| *cell < picture.window.cells);
    let cell = cell_at(x);
    let figure = hits.figure(y).filter(|_| cell.is_some() || x < hits.charts_x);
    let row = hits.row(x, y);
    if let (Mouse::Press, Some((_, columns))) = (mouse, hits.history.filter(|(row, _)| *row == y)) {
        if let Some(column) = x.checked_sub(HISTORY_X).map(usize::from).filter(|column| *column < columns) {
            view.go_to(picture.now_us - age_of(column, columns), picture.window.cells);
        }
        return;
    }
    if let (Mouse::Press, Some(by)) = (mouse, hits.title(x, y)) {
        sort_by(view, by);
        return;
    }
    match (mouse, figure, cell) {
        (Mouse::WheelUp | Mouse::WheelDown, None, _) => {
            view.panel = if view.screen.is_list() { Panel::Charts } else { Panel::Table };
            rows(view, picture, if mouse == Mouse::WheelUp { -WHEEL_ROWS } else { WHEEL_ROWS });
        }
        (Mouse::WheelUp | Mouse::WheelDown, Some(_), Some(cell)) => {
            if !view.is_live() {
                view.point(picture, cell);
            }
            view.zoom(picture, mouse == Mouse::WheelUp);
        }
        (Mouse::Press, Some(at), _) => {
            view.panel = Panel::Charts;
            view.figure = at;
            *pressed = cell.and(Some(x));
        }
        (Mouse::Press, None, _) => {
            *pressed = None;
            if let Some(row) = row {
                view.panel = Panel::Table;
                rows(view, picture, i64::MIN);
                rows(view, picture, i64::try_from(row).unwrap_or(0));
            }
        }
        (Mouse::Release, _, Some(cell)) => match pressed.take().and_then(cell_at) {
            Some(from) if from != cell => view.span(picture, from, cell),
            Some(_) => view.point(picture, cell),
            None => {}
        },
        (Mouse::Release, _, None) => *pressed = None,
        (Mouse::Drag | Mouse::WheelUp | Mouse::WheelDown, _, _) => {}
    }
}
