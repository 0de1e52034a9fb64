//! The rows that every screen has: state and time, the axis, kymo's own cost, and the keys.

use std::collections::BTreeSet;

use super::choice::{Question, Screen};
use super::clock::decimals;
use super::events::What;
use super::fetch::RETRY_BUSY;
use super::page::Page;
use super::picture::Picture;
use super::units::{about, bytes, percent, stretch, whole};
use super::view::View;
use super::window::{DAY_US, HOUR_US, MINUTE_US, SECOND_US, Window};

/// Whether what is shown is of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The daemon answers, or a folder is read.
    Live,
    /// It does not, since this time of the host that looks; and why.
    Lost { since_us: i64, reason: String },
    /// It has too much to do.
    Busy { since_us: i64, reason: String },
    /// It answers, but not with rows.
    Refused { since_us: i64, reason: String },
}

impl State {
    /// Why there is nothing new, and since when.
    fn trouble(&self) -> Option<(&'static str, i64, &str)> {
        match self {
            State::Live => None,
            State::Lost { since_us, reason } => Some(("LOST", *since_us, reason)),
            State::Busy { since_us, reason } => Some(("BUSY", *since_us, reason)),
            State::Refused { since_us, reason } => Some(("REFUSED", *since_us, reason)),
        }
    }

    /// Since when there is nothing new.
    pub(super) fn since_us(&self) -> Option<i64> {
        self.trouble().map(|(_, since_us, _)| since_us)
    }

    /// Why there is nothing new.
    pub(super) fn reason(&self) -> Option<&str> {
        self.trouble().map(|(.., reason)| reason)
    }
}

/// What goes on while a picture is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Now {
    /// The time of the host that looks.
    pub(super) ours_us: i64,
    /// For how long another picture has been waited for.
    pub(super) waits_us: i64,
}

/// Steps between marks of the axis.
const STEPS_US: &[i64] = &[
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    SECOND_US,
    2 * SECOND_US,
    5 * SECOND_US,
    10 * SECOND_US,
    20 * SECOND_US,
    30 * SECOND_US,
    MINUTE_US,
    2 * MINUTE_US,
    5 * MINUTE_US,
    10 * MINUTE_US,
    20 * MINUTE_US,
    30 * MINUTE_US,
    HOUR_US,
    2 * HOUR_US,
    4 * HOUR_US,
    6 * HOUR_US,
    12 * HOUR_US,
    DAY_US,
    2 * DAY_US,
    5 * DAY_US,
    10 * DAY_US,
];
/// A picture that takes longer is said to be read.
const WAIT_US: i64 = SECOND_US;
/// What is shown as live says how old it is from this age on.
const OLD_US: i64 = 2 * SECOND_US;
/// Times are hidden by missed ticks if no more than one of so many cells has some.
const MISSED_SHARE: usize = 3;
/// Marks are at least so many columns apart.
const STEP_COLUMNS_MIN: i64 = 9;

/// Host, state, time, window, and alerts that are on.
pub(super) fn status(page: &mut Page, picture: &Picture, view: &View, state: &State, now: Now) {
    let (plain, heading, alert) = (page.palette.plain, page.palette.heading, page.palette.alert);
    let is_wide = page.width() >= 100;
    let age_us = (now.ours_us - picture.read_us).max(0);
    // Whoever pauses sees it at once, before the picture of that moment has come.
    let at_us = picture.at_us.or(view.at_us());
    // The clock of the daemon; files have none, so ours.
    let clock_us = if view.is_files { now.ours_us.max(picture.now_us) } else { picture.now_us + age_us };
    let x = page.put(1, 0, &picture.host, heading) + 2;
    let (word, time_us) = match (state.trouble(), at_us) {
        (Some((word, ..)), _) => (word, at_us.unwrap_or(picture.now_us)),
        (None, Some(at_us)) => ("PAUSED", at_us),
        (None, None) if view.is_files => ("FILES", picture.now_us),
        (None, None) => ("LIVE", clock_us),
    };
    let x = page.put(x, 0, word, heading) + 1;
    let digits = decimals(picture.window.width_us.min(SECOND_US / 2)).max(1);
    let mut text = view.clock.full(time_us, digits, is_wide || clock_us - time_us > DAY_US);
    let ago = about(clock_us - time_us);
    if at_us.is_some() || state.trouble().is_some() {
        text = format!("{text}, {ago} ago");
    } else if view.is_files {
        text = format!("{text}, {ago} old");
    } else if age_us > OLD_US {
        text = format!("{text}, {} old", about(age_us));
    }
    if now.waits_us > WAIT_US && state.trouble().is_none() {
        text = format!("{text}, reading for {}", about(now.waits_us));
    }
    let x = page.put(x, 0, &text, plain) + 3;
    let tier = match picture.charts.tier.as_str() {
        "raw" => ", raw".to_owned(),
        "1s" => ", 1 s tier".to_owned(),
        "1m" => ", 1 min tier".to_owned(),
        _ => String::new(),
    };
    let (length, width) = (stretch(picture.window.length_us()), stretch(picture.window.width_us));
    let windows = [format!("{length}, {width} a cell{tier}"), format!("{length}, {width} a cell"), length];
    let firing = picture.firing.len();
    let alerts = match firing {
        0 => String::new(),
        1 => "1 ALERT".to_owned(),
        many => format!("{many} ALERTS"),
    };
    let end = page.width();
    page.put_before(end.saturating_sub(1), 0, "? help", plain);
    let alerts_end = end.saturating_sub(10);
    let alerts_begin = alerts_end.saturating_sub(u16::try_from(alerts.len()).unwrap_or(0));
    let room = alerts_begin.saturating_sub(x + 2);
    if let Some(window) = windows.iter().find(|window| window.len() <= usize::from(room)) {
        page.put(x, 0, window, plain);
    }
    page.put_before(alerts_end, 0, &alerts, alert);
}

/// Times of the window over its cells, events, and the cursor. `x` is the column of the first cell.
pub(super) fn axis(page: &mut Page, picture: &Picture, view: &View, x: u16, y: u16) {
    let (plain, heading) = (page.palette.plain, page.palette.heading);
    let of = |what| picture.events.events.iter().filter(move |event| event.what == what);
    let cells = |what| of(what).filter_map(|event| picture.window.cell_at(event.time_us));
    let missed: BTreeSet<usize> = cells(What::Missed).collect();
    let cursor = view.at_us().and_then(|at_us| picture.window.cell_at(at_us));
    let mut taken: BTreeSet<usize> = cells(What::Fired).chain(cells(What::Resolved)).chain(cursor).collect();
    // Where most cells have missed ticks, times are of more use than all signs.
    if missed.len() * MISSED_SHARE < picture.window.cells {
        taken.extend(&missed);
    }
    let sign = |page: &mut Page, cell: usize, sign: &str, style| page.put_over(x + column(cell), y, sign, style);
    for cell in &missed {
        sign(page, *cell, "x", heading);
    }
    for (cell, text) in marks(&picture.window, view, &taken) {
        page.put(x + column(cell), y, &text, plain);
    }
    for cell in cells(What::Resolved) {
        sign(page, cell, ":", heading);
    }
    for cell in cells(What::Fired) {
        let alert = page.palette.alert;
        sign(page, cell, "!", alert);
    }
    if let Some(cell) = cursor {
        sign(page, cell, "▾", heading);
    }
}

/// Cells at which marks begin, and their texts. No text stands where a sign is, as the digits that are left would be another time.
fn marks(window: &Window, view: &View, taken: &BTreeSet<usize>) -> Vec<(usize, String)> {
    let apart_us = window.width_us * STEP_COLUMNS_MIN;
    let step_us = STEPS_US.iter().copied().find(|step| *step >= apart_us).unwrap_or(30 * DAY_US);
    let mut marks: Vec<(usize, String)> = Vec::new();
    let mut at_us = view.clock.aligned(window.from_us, step_us);
    while at_us < window.to_us() {
        if let Some(cell) = window.cell_at(at_us).filter(|_| at_us >= window.from_us) {
            let text = format!("|{}", view.clock.mark(at_us, step_us, marks.is_empty()));
            let end = marks.last().map_or(0, |(cell, text)| cell + text.len());
            let is_free = taken.range(cell..cell + text.len()).next().is_none();
            if (marks.is_empty() || cell > end) && cell + text.len() <= window.cells && is_free {
                marks.push((cell, text));
            }
        }
        at_us += step_us;
    }
    marks
}

/// What kymo costs, and what it lost of the window.
pub(super) fn kymo(page: &mut Page, picture: &Picture, y: u16) {
    let plain = page.palette.plain;
    let facts = &picture.facts;
    let mut parts = Vec::new();
    if let Some(cpu) = facts.mean("kymo", "", 0) {
        let memory = facts.mean("kymo", "", 1).map(|rss| format!(", {}", bytes(rss))).unwrap_or_default();
        parts.push(format!("{} of a CPU{memory}", percent(cpu / 1e6)));
    }
    if let Some(loss) = picture.events.fastest() {
        let of = |at| facts.mean("collector", &loss.collector, at);
        let ms = |us: f64| format!("{:.2} ms", us / 1e3);
        let late = match (of(2), of(1)) {
            (Some(p99), Some(max)) if page.width() >= 100 => format!("late p99 {}, max {}", ms(p99), ms(max)),
            (Some(p99), _) => format!("late p99 {}", ms(p99)),
            _ => String::new(),
        };
        let dropped: f64 = picture.events.losses.iter().map(|loss| loss.dropped).sum();
        parts.extend(Some(late).filter(|late| !late.is_empty()));
        // Of a very short recording no tick was counted yet.
        if loss.due > 0.0 {
            parts.push(format!("{} missed {} of {}", loss.collector, whole(loss.missed), whole(loss.due)));
        }
        if page.width() >= 100 || dropped > 0.0 {
            parts.push(format!("dropped {} records", whole(dropped)));
        }
    }
    if let (Some(lake), true) = (facts.mean("kymo", "", 2), page.width() >= 160) {
        parts.push(format!("lake {}", bytes(lake)));
    }
    if parts.is_empty() {
        page.put(1, y, "kymo: nothing recorded of itself here", plain);
        return;
    }
    // A figure that is cut would be another one.
    let mut text = format!("kymo {}", parts.join("   "));
    while text.chars().count() + 1 > usize::from(page.width()) && parts.len() > 1 {
        let least = parts.iter().position(|part| part.starts_with("late")).unwrap_or(parts.len() - 1);
        parts.remove(least);
        text = format!("kymo {}", parts.join("   "));
    }
    page.put(1, y, &text, plain);
}

/// The keys, or the line that is being typed, or what is to be said.
pub(super) fn keys(page: &mut Page, view: &View, state: &State, now: Now, y: u16) {
    let (plain, heading, alert) = (page.palette.plain, page.palette.heading, page.palette.alert);
    if let Some(prompt) = &view.prompt {
        let question = match prompt.of {
            Question::GoTo => "go to: ",
            Question::Search => "search: ",
            Question::Filter => "filter: ",
        };
        let x = page.put(1, y, question, heading);
        let x = page.put(x, y, &prompt.text, plain);
        let x = page.put(x, y, "_", heading) + 2;
        let hint = match prompt.of {
            Question::GoTo => "'10 minutes ago', 14:02, 2026-11-25 14:02:11",
            Question::Search => "part of a name",
            Question::Filter => "pg cpus>0.5 rss>1G",
        };
        page.put(x, y, prompt.error.as_deref().unwrap_or(hint), if prompt.error.is_some() { alert } else { plain });
        return;
    }
    if let Some(note) = &view.note {
        page.put(1, y, note, heading);
        return;
    }
    if let Some((_, since_us, reason)) = state.trouble() {
        let ago = about(now.ours_us - since_us);
        let text = match state {
            State::Busy { .. } => format!("The daemon is busy; next try in {} s: {reason}", RETRY_BUSY.as_secs()),
            State::Refused { .. } => format!("No rows for {ago}; trying again: {reason}"),
            _ => format!("Lost {ago} ago; trying again: {reason}"),
        };
        page.put(1, y, &text, alert);
        return;
    }
    let space = if view.is_live() { "space pause" } else { "space live" };
    let mut keys = vec![space, "←/→ time", "+/- zoom", "[ ] peaks"];
    keys.extend::<&[&str]>(match view.screen {
        Screen::Alerts => &["↑/↓ row", "enter go there", "x full"],
        Screen::Cgroups => &["s sort", "enter fold", "tab panel", "/ search", "f filter", "t flat", "x full"],
        screen if screen.is_list() => &["enter series", "p keep", "/ search", "f filter", "x full", "y scale"],
        _ => &["tab panel", "/ search", "f filter", "s sort", "t commands", "x full", "y scale", "e export"],
    });
    keys.extend(["{ } events", "@ go to"]);
    // The first and the last stand everywhere; of the others, those that fit.
    let ends = ["0-9 screens", "q quit"];
    let mut room = usize::from(page.width()).saturating_sub(2 + ends.iter().map(|key| key.len() + 2).sum::<usize>());
    let mut shown = vec![ends[0]];
    for key in keys {
        let length = key.chars().count() + 2;
        if length <= room {
            shown.push(key);
            room -= length;
        }
    }
    shown.push(ends[1]);
    page.put(1, y, &shown.join("  "), plain);
}

fn column(cells: usize) -> u16 {
    u16::try_from(cells).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::cells::Glyphs;
    use crate::cli::top::clock::Clock;

    #[test]
    fn a_time_on_the_axis_is_whole_or_not_there() {
        let view = View::new(MINUTE_US, Glyphs::Braille, Clock::utc());
        let window = Window::ending_at(14 * HOUR_US, MINUTE_US, 72);
        let texts =
            |taken: &[usize]| -> Vec<(usize, String)> { marks(&window, &view, &taken.iter().copied().collect()) };
        let all = texts(&[]);
        assert_eq!((all.len(), all[0].1.as_str(), all[1].1.as_str()), (7, "|13:58:50", "|13:59"), "{all:?}");
        // A sign in the second one, and one beside the third.
        let left = texts(&[all[1].0 + 2, all[2].0 - 1]);
        assert_eq!(left.iter().map(|(cell, _)| *cell).collect::<Vec<_>>(), [0, 2, 3, 4, 5, 6].map(|at| all[at].0));
        // The first that is left is told as a whole.
        assert_eq!(texts(&[all[0].0])[0].1, "|13:59:00");
    }
}
