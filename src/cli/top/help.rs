//! All keys and signs.

use super::page::Page;

/// Rows of the help. A heading begins with `#`.
const ROWS: &[(&str, &str)] = &[
    ("#TIME", "#ROWS"),
    ("space          pause; go live again", "↑ ↓   k j        chart or row up, down"),
    ("← →      h l   one cell back, on", "pgup/dn ^b ^f    one page"),
    ("shift ←→ H L   ten cells", "g G              first, last"),
    ("ctrl ←→  b w   one window", "tab              charts or table"),
    ("+ -      i o   zoom in, out at ▾", "enter            go to the alert"),
    ("[ ]            previous, next peak", "/   n N          search, next, previous"),
    ("{ }            previous, next event", "f                filter: pg cpus>0.5"),
    ("home end ^ $   oldest of window; live", "s S              sort by next; reverse"),
    ("@              go to: 10 min ago, 14:02", "t                group; tree or list"),
    ("bksp     u     the view before", "esc              back; all rows; live"),
    ("#MOUSE", "#VIEW"),
    ("click          set ▾; select a row", "1 overview  2 processes  3 cgroups"),
    ("drag           zoom to the stretch", "8 alerts    9 kymo"),
    ("wheel          zoom at pointer; scroll", "z                UTC or local time"),
    ("shift-drag     mark text to copy it", "< >              fewer, more frames"),
    ("#SIGNS", "M                mouse off, on"),
    ("⣇   burst: thin up to the max", "^l ^z            redraw; suspend"),
    ("⣷   load: thick up to the mean", "? F1             this page; esc closes it"),
    ("⠒   steady: starts at the min", "q ^c             quit"),
    ("⡀   zero; a blank is not recorded", ""),
    ("▾ cursor  ! alert fired  : resolved", "x ticks missed   + began in this tick"),
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
