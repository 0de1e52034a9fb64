//! Draws what happened: alerts, missed ticks and gaps.

use super::events::{Event, Firing, What};
use super::page::{Page, Place};
use super::picture::Picture;
use super::tables::{first_row, is_found, mark};
use super::units::{about, count, duration, whole};
use super::view::View;

/// Reasons of gaps in which no ticks were due.
const WITHOUT_TICKS: &[&str] = &["suspended", "killed", "clock step"];

/// The alerts that are on, or the newest that was.
pub(super) fn alert_row(page: &mut Page, picture: &Picture, view: &View, y: u16) {
    if let Some(firing) = picture.firing.first() {
        let more = match picture.firing.len() {
            1 => String::new(),
            count => format!(" and {} more;", count - 1),
        };
        let style = page.palette.alert;
        let x = page.put(1, y, "FIRING", style) + 1;
        let text = format!("{more} {}", told(firing, picture.firing_us));
        page.put_or_cut(x, y, text.trim_start(), page.width(), page.palette.plain);
        return;
    }
    let text = match picture.events.alerts().next() {
        Some(event) => format!("no alert fires; the last: {}", past(event, view, picture.now_us)),
        None => "no alert fires".to_owned(),
    };
    page.put_or_cut(1, y, &text, page.width(), page.palette.quiet);
}

fn told(firing: &Firing, now_us: i64) -> String {
    let labels = if firing.labels.is_empty() { String::new() } else { format!(", {}", firing.labels) };
    let since = firing.since_us.map(|since| format!(" for {}", about(now_us - since))).unwrap_or_default();
    let condition = if firing.condition.is_empty() { String::new() } else { format!(": {}", firing.condition) };
    let peak = firing.peak.map(|peak| format!(", peak {}", count(peak))).unwrap_or_default();
    format!("{}{since}{labels}{condition}{peak}", firing.rule)
}

fn past(event: &Event, view: &View, now_us: i64) -> String {
    let labels = if event.labels.is_empty() { String::new() } else { format!(", {}", event.labels) };
    let held = event.since_us.filter(|since| event.what == What::Resolved && *since < event.time_us);
    let held = held.map(|since| format!(" after {}", about(event.time_us - since))).unwrap_or_default();
    format!("{} {} {}{labels}{held}", event.state, view.clock.near(event.time_us, now_us), event.name)
}

/// Alerts that are on, and what was.
pub(super) fn alert_list(page: &mut Page, picture: &Picture, view: &View, place: Place) {
    let plain = page.palette.plain;
    page.heading(place, true, &format!("alerts: {} firing", picture.firing.len()));
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
        page.put_or_cut(x, y, &text, place.end, plain);
    }
}

/// All events that are known, the newest first.
pub(super) fn alerts(page: &mut Page, picture: &Picture, view: &View, place: Place) {
    let plain = page.palette.plain;
    let on = u16::try_from(picture.firing.len()).unwrap_or(u16::MAX).min(place.rows / 3);
    page.heading(place, true, &format!("alerts: {} firing", picture.firing.len()));
    for (firing, y) in picture.firing.iter().zip(place.y + 1..).take(usize::from(on)) {
        let style = page.palette.alert;
        let x = page.put(1, y, "FIRING", style) + 1;
        page.put_or_cut(x, y, &told(firing, picture.firing_us), place.end, plain);
    }
    let events = &picture.events.events;
    let below = Place { y: place.y + 1 + on, rows: place.rows.saturating_sub(1 + on), ..place };
    let body = usize::from(below.rows.saturating_sub(1));
    let first = first_row(view.row, body, events.len());
    page.has_table([0, below.end], [below.y + 1, below.y + below.rows], first);
    page.heading(
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
        let text = what(event);
        let x = page.put(1, y, &view.clock.near(event.time_us, picture.now_us), plain) + 2;
        page.put_or_cut(x, y, &text, below.end, plain);
        mark(page, view, below, y, at, is_found(view, &event.name));
    }
}

fn what(event: &Event) -> String {
    match event.what {
        What::Missed if WITHOUT_TICKS.contains(&event.state.as_str()) => {
            format!("x  nothing was recorded: {}", event.state)
        }
        What::Missed => {
            let missed = whole(event.value.unwrap_or(0.0));
            let ticks = if missed == "1" { "tick" } else { "ticks" };
            format!("x  {} missed {missed} {ticks}: {}", event.name, event.state)
        }
        What::Fired => {
            let value = event.value.map(|value| format!(", was {}", count(value))).unwrap_or_default();
            format!("!  {}  {} {}{value}", event.state, event.name, event.labels)
        }
        What::Resolved => format!(":  {}  {} {}", event.state, event.name, event.labels),
    }
}

/// The events nearest to the cursor, the first one first, in so many rows.
pub(super) fn nearest(page: &mut Page, picture: &Picture, view: &View, y: u16, rows: u16) {
    let at_us = view.at_us().unwrap_or(picture.now_us);
    let mut near: Vec<&Event> = picture.events.events.iter().collect();
    near.sort_by_key(|event| (event.time_us - at_us).abs());
    near.truncate(usize::from(rows));
    near.sort_by_key(|event| event.time_us);
    let plain = page.palette.plain;
    for (event, y) in near.into_iter().zip(y..) {
        let time = view.clock.near(event.time_us, picture.now_us);
        let away_us = event.time_us - at_us;
        let side = if away_us < 0 { "before" } else { "after" };
        let far = duration(away_us.abs() as f64);
        let away = match (view.is_live(), away_us) {
            (true, _) => format!("{far} ago"),
            (false, 0) => "at the cursor".to_owned(),
            (false, _) => format!("{far} {side} the cursor"),
        };
        page.put_or_cut(1, y, &format!("{time}  {}, {away}", what(event)), page.width(), plain);
    }
}
