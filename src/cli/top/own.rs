//! Draws what kymo itself costs and lost.

use super::page::Page;
use super::picture::Picture;
use super::tables::{Place, heading};
use super::units::{bytes, percent, whole};

/// What kymo itself costs, and what each collector lost.
pub(super) fn own(page: &mut Page, picture: &Picture, place: Place) {
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
