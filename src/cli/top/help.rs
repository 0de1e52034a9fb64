//! All keys and signs.

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
    ("home end ^ $   oldest of window; live", "s S              sort by next; reverse"),
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
    ("x ticks missed  + began in this tick", "? F1             help; esc closes"),
    ("kept: = rows, - seconds, . minutes", "q ^c             quit"),
    ("1 overview 2 processes 3 cgroups 4 cpu", "5 mem 6 net 7 disk 8 alert 9 kymo 0 all"),
];

/// Covers the page.
pub(super) fn draw(page: &mut Page) {
    let (plain, heading) = (page.palette.plain, page.palette.heading);
    for y in 0..page.height() {
        for x in 0..page.width() {
            page.put(x, y, " ", plain);
        }
    }
    page.put(1, 0, "kymo top: keys and signs", heading);
    page.put_before(page.width().saturating_sub(1), 0, "? F1 esc close   q quit", plain);
    for ((left, right), y) in ROWS.iter().zip(1..) {
        for (text, x) in [(left, 1), (right, 41)] {
            match text.strip_prefix('#') {
                Some(text) => page.put(x, y, text, heading),
                None => page.put(x, y, text, plain),
            };
        }
    }
}
