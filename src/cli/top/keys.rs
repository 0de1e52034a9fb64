//! What keys and the mouse do to the view.

use super::clock::Clock;
use super::figures::figures;
use super::filter::Filter;
use super::input::{Arrow, Held, Input, Mouse};
use super::page::Hits;
use super::picture::Picture;
use super::screen::CHARTS_X;
use super::tables::{listed, listed_groups};
use super::view::{Panel, Prompt, Question, Screen, View};

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
}

/// Rows that the wheel moves.
const WHEEL_ROWS: i64 = 3;

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
            _ => Action::None,
        };
    }
    match input {
        Input::Char('q') => return Action::Quit,
        Input::Ctrl('l') => return Action::Redraw,
        Input::Ctrl('z') => return Action::Suspend,
        Input::Char('>') => return Action::Faster,
        Input::Char('<') => return Action::Slower,
        Input::Char('M') => return Action::ToggleMouse,
        Input::Char('?') | Input::Help => view.has_help = true,
        Input::Char(digit @ ('1' | '2' | '3' | '8' | '9')) => open(view, digit),
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
        Input::Tab | Input::BackTab => {
            view.panel = if view.panel == Panel::Charts { Panel::Table } else { Panel::Charts };
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
        Input::Char('[') => view.peak(picture, false),
        Input::Char(']') => view.peak(picture, true),
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
        Input::Mouse(mouse, x, y) => point(view, picture, hits, pressed, (mouse, x, y)),
        _ => {}
    }
}

fn open(view: &mut View, digit: char) {
    view.screen = match digit {
        '2' => Screen::Processes,
        '3' => Screen::Cgroups,
        '8' => Screen::Alerts,
        '9' => Screen::Kymo,
        _ => Screen::Overview,
    };
    view.row = 0;
    // Tables of whole screens are what arrows are for.
    view.panel = if view.screen == Screen::Overview { Panel::Charts } else { Panel::Table };
}

fn ask(view: &mut View, of: Question) {
    let text = if of == Question::Filter { view.filter.text().to_owned() } else { String::new() };
    view.prompt = Some(Prompt { of, text, error: None });
}

/// Ends a search, then a filter, then goes back to the overview, then to the newest moment.
fn escape(view: &mut View) {
    if !view.search.is_empty() {
        view.search.clear();
    } else if !view.filter.is_empty() {
        view.filter = Filter::default();
    } else if view.screen != Screen::Overview {
        open(view, '1');
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
            let at_us = view.clock.parse(&prompt.text, picture.now_us)?;
            view.go_to(at_us.min(picture.now_us), picture.window.cells);
        }
        Question::Search => {
            prompt.text.clone_into(&mut view.search);
            view.panel = Panel::Table;
            if let Some(picture) = picture {
                search(view, picture, true);
            }
        }
        Question::Filter => {
            view.filter = Filter::parse(&prompt.text)?;
            view.row = 0;
        }
    }
    Ok(())
}

/// How many rows the table of the screen has.
fn names(view: &View, picture: &Picture) -> Vec<String> {
    match view.screen {
        Screen::Overview | Screen::Processes => {
            listed(picture, view).into_iter().map(|(_, line)| line.process.command).collect()
        }
        Screen::Cgroups => listed_groups(picture, view).into_iter().map(|group| group.path).collect(),
        Screen::Alerts => picture.events.events.iter().map(|event| event.name.clone()).collect(),
        Screen::Kymo => Vec::new(),
    }
}

fn rows(view: &mut View, picture: &Picture, by: i64) {
    let (chosen, count) = match view.panel {
        Panel::Charts => (&mut view.figure, figures(picture, &view.busiest).len()),
        Panel::Table => {
            let count = names(view, picture).len();
            (&mut view.row, count)
        }
    };
    let at = i64::try_from(*chosen).unwrap_or(0).saturating_add(by).max(0);
    *chosen = usize::try_from(at).unwrap_or(usize::MAX).min(count.saturating_sub(1));
}

fn search(view: &mut View, picture: &Picture, is_next: bool) {
    if view.search.is_empty() {
        return;
    }
    let wanted = view.search.to_lowercase();
    let names = names(view, picture);
    let count = names.len();
    let order: Vec<usize> =
        (1..=count).map(|by| (view.row + if is_next { by } else { count - by }) % count.max(1)).collect();
    match order.into_iter().find(|at| names[*at].to_lowercase().contains(&wanted)) {
        Some(row) => view.row = row,
        None => view.note = Some(format!("nothing here is named {:?}", view.search)),
    }
}

fn enter(view: &mut View, picture: &Picture) {
    if view.screen == Screen::Alerts
        && let Some(event) = picture.events.events.get(view.row)
    {
        let at_us = event.time_us;
        open(view, '1');
        view.go_to(at_us, picture.window.cells);
    }
}

fn point(view: &mut View, picture: &Picture, hits: &Hits, pressed: &mut Option<u16>, (mouse, x, y): (Mouse, u16, u16)) {
    let cell = x.checked_sub(CHARTS_X).map(usize::from).filter(|cell| *cell < picture.window.cells);
    let figure = hits.figure(y).filter(|_| cell.is_some() || x < CHARTS_X);
    let row = hits.row(x, y);
    match (mouse, figure, cell) {
        (Mouse::WheelUp | Mouse::WheelDown, None, _) => {
            view.panel = Panel::Table;
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
        (Mouse::Release, _, Some(cell)) => {
            match pressed.take().and_then(|x| x.checked_sub(CHARTS_X)).map(usize::from) {
                Some(from) if from != cell => view.span(picture, from, cell),
                Some(_) => view.point(picture, cell),
                None => {}
            }
        }
        (Mouse::Release, _, None) => *pressed = None,
        (Mouse::Drag | Mouse::WheelUp | Mouse::WheelDown, _, _) => {}
    }
}
