//! Draws what kymo itself costs and lost.

use super::page::{Page, Place};
use super::picture::Picture;
use super::units::{bytes, percent, whole};

/// From this width on, everything has its full name.
const WIDE: u16 = 100;

/// What kymo itself costs, and what each collector lost.
pub(super) fn own(page: &mut Page, picture: &Picture, place: Place) {
    let plain = page.palette.plain;
    page.heading(place, true, "kymo itself, in this second and over the window");
    let facts = &picture.facts;
    let of = |at, told: fn(f64) -> String| facts.mean("kymo", "", at).map_or_else(|| "-".to_owned(), told);
    let first =
        format!("{} of a CPU   memory {}   files {}", of(0, |us| percent(us / 1e6)), of(1, bytes), of(2, bytes));
    let second = format!("journal {}   rows in memory {}   query workers {}", of(3, bytes), of(4, bytes), of(5, bytes));
    let is_wide = page.width() >= WIDE;
    if is_wide {
        page.put(1, place.y + 1, &format!("{first}   {second}"), plain);
    } else {
        page.put(1, place.y + 1, &first, plain);
        page.put(1, place.y + 2, &second, plain);
    }
    let widths: [usize; 8] = if is_wide { [16, 12, 11, 11, 11, 11, 11, 10] } else { [12, 11, 8, 8, 9, 9, 10, 9] };
    let line = |cells: [String; 8]| {
        let [name, rest @ ..] = widths;
        let numbers = rest.into_iter().zip(&cells[1..]).map(|(width, text)| format!("{text:>width$}"));
        format!("{:<name$}{}", cells[0], numbers.collect::<String>())
    };
    let late = if is_wide { "LATE " } else { "" };
    let titles = ["COLLECTOR", "TICKS", "MISSED", "DROPPED", "p50", "p99", "max", "READING"];
    let is_late = |title: &str| title.len() == 3;
    let titles = titles.map(|title| if is_late(title) { format!("{late}{title}") } else { title.to_owned() });
    page.put(1, place.y + 3, &line(titles), page.palette.heading);
    for (loss, y) in picture.events.losses.iter().zip(place.y + 4..place.y + place.rows) {
        let of = |at| facts.mean("collector", &loss.collector, at);
        let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |us| format!("{:.2} ms", us / 1e3));
        let text = line([
            loss.collector.clone(),
            whole(loss.due),
            whole(loss.missed),
            whole(loss.dropped),
            ms(of(0)),
            ms(of(2)),
            ms(of(1)),
            of(3).map_or_else(|| "-".to_owned(), |us| percent(us / 1e6)),
        ]);
        page.put(1, y, &text, plain);
    }
}
