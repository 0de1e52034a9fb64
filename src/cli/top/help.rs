//! All keys and signs.

use super::input::{Arrow, Input, Mouse};
use super::page::Page;

/// Rows of the help. A heading begins with `#`.
const ROWS: &[(&str, &str)] = &[
    ("#TIME", "#ROWS"),
    ("space          pause; go live again", "↑ ↓   k j        chart or row up, down"),
    ("← →      h l   one cell back, on", "pgup/dn ^b ^f    one page"),
    ("shift ←→ H L   ten cells", "g G              first, last"),
    ("ctrl ←→  b w   one window", "tab              charts or table"),
    ("+ -      i o   zoom in, out at ▾", "enter            open, fold; go there"),
    ("[ ]            previous, next peak", "/   n N          search, next, previous"),
    ("{ }            previous, next event", "f                filter: pg cpus>0.5"),
    ("home end ^ $   first cell of view; live", "s S              sort by next; reverse"),
    ("@              go to: 10 min ago, 14:02", "t                group; tree or list"),
    ("bksp     u     the view before", "p                keep chart in overview"),
    ("#MOUSE", "esc              back; all rows; live"),
    ("click          set ▾; select; sort", "#VIEW"),
    ("drag           zoom to the stretch", "x                full screen, and back"),
    ("wheel          zoom at pointer; scroll", "y                scale: own, log, same"),
    ("shift-drag     mark text to copy it", "z U              UTC, local; bits"),
    ("#SIGNS", "e                screen as a file"),
    ("⣇ burst: up to the max  ⣷ load: thick", "c                copy the command"),
    ("⠒ steady  ⡀ zero  blank: not recorded", "< > M            frames; mouse off, on"),
    ("▾ cursor  ! alert fired  : resolved", "^l ^z            redraw; suspend"),
    ("x missed  + began now  ~ held before", "? F1             help; esc closes"),
    ("kept: = rows, - seconds, . minutes", "q ^c             quit"),
    ("1 overview 2 processes 3 cgroups 4 cpu", "5 mem 6 net 7 disk 8 alert 9 kymo 0 all"),
];

/// Columns of the text on the left. With less than two of them, there is one column of text.
const COLUMN: u16 = 40;
/// Rows that a page goes on by.
const PAGE: usize = 10;

/// Rows of the help in a terminal of this width: two texts side by side, or one.
fn rows(width: u16) -> Vec<[&'static str; 2]> {
    if width >= 2 * COLUMN {
        return ROWS.iter().map(|(left, right)| [*left, *right]).collect();
    }
    let left = ROWS.iter().map(|(left, _)| [*left, ""]);
    left.chain(ROWS.iter().map(|(_, right)| [*right, ""])).collect()
}

/// The first row that can be shown, at most the wanted one: the last one shown is the last one there is.
pub(super) fn first_row((width, height): (u16, u16), wanted: usize) -> usize {
    wanted.min(rows(width).len().saturating_sub(usize::from(height.saturating_sub(1))))
}

/// The first row after a key.
pub(super) fn moved(row: usize, input: Input) -> usize {
    match input {
        Input::Arrow(Arrow::Up, _) | Input::Char('k') => row.saturating_sub(1),
        Input::Arrow(Arrow::Down, _) | Input::Char('j') => row + 1,
        Input::PageUp | Input::Ctrl('b') => row.saturating_sub(PAGE),
        Input::PageDown | Input::Ctrl('f') | Input::Char(' ') => row + PAGE,
        Input::Home | Input::Char('g') => 0,
        Input::End | Input::Char('G') => usize::MAX,
        Input::Mouse(Mouse::WheelUp, ..) => row.saturating_sub(3),
        Input::Mouse(Mouse::WheelDown, ..) => row + 3,
        _ => row,
    }
}

/// Covers the page.
pub(super) fn draw(page: &mut Page, first: usize) {
    let (plain, heading) = (page.palette.plain, page.palette.heading);
    let (width, height) = (page.width(), page.height());
    for y in 0..height {
        for x in 0..width {
            page.put(x, y, " ", plain);
        }
    }
    let rows = rows(width);
    let body = usize::from(height.saturating_sub(1));
    let first = first_row((width, height), first);
    let title = if width >= 2 * COLUMN { "kymo top: keys and signs" } else { "keys and signs" };
    let x = page.put(1, 0, title, heading) + 2;
    if rows.len() > body {
        page.put(x, 0, &format!("{}-{} of {} ↑↓", first + 1, first + body, rows.len()), plain);
    }
    let keys = if width >= 60 { "? F1 esc close   q quit" } else { "esc" };
    page.put_before(width.saturating_sub(1), 0, keys, plain);
    for (texts, y) in rows.into_iter().skip(first).zip(1..height) {
        for (text, x) in texts.into_iter().zip([1, COLUMN + 1]) {
            match text.strip_prefix('#') {
                Some(text) => page.put(x, y, text, heading),
                None => page.put(x, y, text, plain),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::input::Held;
    use crate::cli::top::page::Palette;

    #[test]
    fn every_key_can_be_read_at_any_size() {
        for size in [(40, 10), (60, 24), (79, 30), (80, 24), (80, 10), (200, 50)] {
            let mut shown = String::new();
            let mut row = 0;
            loop {
                let mut page = Page::new(size.0, size.1, Palette::default());
                draw(&mut page, row);
                shown.push_str(&page.text());
                let next = first_row(size, moved(row, Input::Arrow(Arrow::Down, Held::Nothing)));
                if next == row {
                    break;
                }
                row = next;
            }
            for (left, right) in ROWS {
                assert!(
                    [left, right].iter().all(|text| shown.contains(text.trim_start_matches('#'))),
                    "{size:?} {left}"
                );
            }
        }
    }
}
