//! A page of text to draw on, and its colours.

use clap::ValueEnum;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};

use super::cgroups::GroupSort;
use super::processes::Sort;

/// What the terminal's background is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Theme {
    /// As the terminal says, or `COLORFGBG`; if neither does, only colours that can be read on both
    #[default]
    Auto,
    /// Light text on dark
    Dark,
    /// Dark text on light
    Light,
}

/// Styles by what they mean. Nothing is said by colour alone, and the background is never painted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Palette {
    pub(super) plain: Style,
    pub(super) heading: Style,
    pub(super) chart: Style,
    /// A greatest value far above the mean.
    pub(super) burst: Style,
    pub(super) alert: Style,
    pub(super) selected: Style,
    pub(super) quiet: Style,
    /// What is known of the background. Without colours it does not matter, and is not automatic.
    pub(super) theme: Theme,
}

impl Palette {
    /// `colours` is what the variables `NO_COLOR` and `COLORFGBG` hold.
    pub(super) fn new(theme: Theme, no_color: Option<&str>, colorfgbg: Option<&str>) -> Palette {
        if no_color.is_some_and(|value| !value.is_empty()) {
            return Palette { theme: Theme::Dark, ..Palette::without_colours() };
        }
        Palette::of(if theme == Theme::Auto { background(colorfgbg) } else { theme })
    }

    fn without_colours() -> Palette {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        Palette { heading: bold, alert: reversed, selected: reversed, burst: bold, ..Palette::default() }
    }

    /// Colours for a background.
    pub(super) fn of(theme: Theme) -> Palette {
        let without = Palette::without_colours();
        let colours = Palette { alert: without.alert.fg(Color::Red), theme, ..without };
        match theme {
            Theme::Auto => Palette { burst: Style::new().fg(Color::Magenta), ..colours },
            Theme::Dark => Palette {
                chart: Style::new().fg(Color::Cyan),
                burst: Style::new().fg(Color::LightYellow),
                quiet: Style::new().fg(Color::Gray),
                ..colours
            },
            Theme::Light => {
                Palette { chart: Style::new().fg(Color::Blue), burst: Style::new().fg(Color::Magenta), ..colours }
            }
        }
    }
}

/// The theme of a background, whose parts reach from 0 to 1.
pub(super) fn theme_of([red, green, blue]: [f64; 3]) -> Theme {
    if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 { Theme::Light } else { Theme::Dark }
}

/// `15;0` is light on dark: the last number is the background.
fn background(colorfgbg: Option<&str>) -> Theme {
    match colorfgbg.and_then(|text| text.rsplit(';').next()?.parse::<u8>().ok()) {
        Some(0..=6 | 8) => Theme::Dark,
        Some(7 | 9..=15) => Theme::Light,
        _ => Theme::Auto,
    }
}

/// What stands where, for the mouse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hits {
    /// The first row of each chart, how many rows it has, and which it is.
    figures: Vec<(u16, u16, usize)>,
    /// The columns and rows of the table's body, and which of its rows comes first.
    table: Option<([u16; 2], [u16; 2], usize)>,
    /// Titles of the table: columns, the row, and what they sort by.
    titles: Vec<([u16; 2], u16, By)>,
    /// The first column of charts.
    pub(super) charts_x: u16,
    /// The row of what is kept, and its columns.
    pub(super) history: Option<(u16, usize)>,
}

/// What a title sorts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Process(Sort),
    Group(GroupSort),
}

impl Hits {
    /// The chart in a row.
    pub(super) fn figure(&self, y: u16) -> Option<usize> {
        self.figures.iter().find(|(first, rows, _)| (*first..first + rows).contains(&y)).map(|(.., at)| *at)
    }

    /// The row of the table at a place.
    pub(super) fn row(&self, x: u16, y: u16) -> Option<usize> {
        let ([left, right], [top, bottom], first) = self.table?;
        ((left..right).contains(&x) && (top..bottom).contains(&y)).then(|| first + usize::from(y - top))
    }

    /// What the title at a place sorts by.
    pub(super) fn title(&self, x: u16, y: u16) -> Option<By> {
        let is_at = |([left, right], row, _): &&([u16; 2], u16, By)| (*left..*right).contains(&x) && *row == y;
        self.titles.iter().find(is_at).map(|(.., by)| *by)
    }

    /// Rows of a page of the table, or charts of a page of a list.
    pub(super) fn page_rows(&self) -> i64 {
        let charts = i64::try_from(self.figures.len()).unwrap_or(1).max(1);
        self.table.map_or(charts, |(_, [top, bottom], _)| i64::from(bottom.saturating_sub(top)).max(1))
    }
}

/// Text at places. What does not fit is left out.
pub(super) struct Page {
    pub(super) buffer: Buffer,
    pub(super) palette: Palette,
    pub(super) hits: Hits,
}

/// A place on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) x: u16,
    pub(super) end: u16,
    pub(super) y: u16,
    /// With heading and titles.
    pub(super) rows: u16,
}

impl Page {
    pub(super) fn new(width: u16, height: u16, palette: Palette) -> Page {
        Page { buffer: Buffer::empty(Rect::new(0, 0, width, height)), palette, hits: Hits::default() }
    }

    pub(super) fn width(&self) -> u16 {
        self.buffer.area.width
    }

    pub(super) fn height(&self) -> u16 {
        self.buffer.area.height
    }

    /// Text from a column on. Gives the column after it.
    pub(super) fn put(&mut self, x: u16, y: u16, text: &str, style: Style) -> u16 {
        self.put_within(x, y, text, u16::MAX, style)
    }

    /// A sign in the place of what stands there, with no part of its style.
    pub(super) fn put_over(&mut self, x: u16, y: u16, sign: &str, style: Style) {
        if let Some(cell) = self.buffer.cell_mut((x, y)) {
            cell.reset();
        }
        self.put(x, y, sign, style);
    }

    /// Text from a column on, of at most so many columns.
    pub(super) fn put_within(&mut self, x: u16, y: u16, text: &str, columns: u16, style: Style) -> u16 {
        if x >= self.width() || y >= self.height() {
            return x;
        }
        self.buffer.set_stringn(x, y, text, usize::from(columns), style).0
    }

    /// Text from a column on, up to another one. What does not fit ends with a sign that it goes on.
    pub(super) fn put_or_cut(&mut self, x: u16, y: u16, text: &str, end: u16, style: Style) {
        let end = end.min(self.width());
        let room = end.saturating_sub(x);
        self.put_within(x, y, text, room, style);
        if text.chars().count() > usize::from(room) && room > 0 {
            self.put_over(end - 1, y, "…", style);
        }
    }

    /// Text that ends before a column.
    pub(super) fn put_before(&mut self, end: u16, y: u16, text: &str, style: Style) {
        let width = u16::try_from(text.chars().count()).unwrap_or(0);
        self.put_within(end.saturating_sub(width), y, text, end, style);
    }

    /// The heading of a part.
    pub(super) fn heading(&mut self, place: Place, has_rule: bool, text: &str) {
        if has_rule {
            self.rule(place.x, place.end, place.y, text);
        } else {
            let style = self.palette.heading;
            self.put_within(place.x + 1, place.y, text, place.end - place.x - 1, style);
        }
    }

    /// A line across, `─ text ─────`, from one column to another.
    pub(super) fn rule(&mut self, x: u16, end: u16, y: u16, text: &str) {
        let style = self.palette.quiet;
        for column in x..end.min(self.width()) {
            self.put(column, y, "─", style);
        }
        let heading = self.palette.heading;
        self.put_within(x + 2, y, &format!(" {text} "), end.saturating_sub(x + 3), heading);
    }

    /// Remembers where a chart stands.
    pub(super) fn has_figure(&mut self, y: u16, rows: u16, at: usize) {
        self.hits.figures.push((y, rows, at));
    }

    /// Remembers where the rows of the table stand, and which comes first.
    pub(super) fn has_table(&mut self, columns: [u16; 2], rows: [u16; 2], first: usize) {
        self.hits.table = Some((columns, rows, first));
    }

    /// Remembers where a title stands.
    pub(super) fn has_title(&mut self, columns: [u16; 2], y: u16, by: By) {
        self.hits.titles.push((columns, y, by));
    }

    /// Makes a row empty.
    pub(super) fn clear_row(&mut self, y: u16) {
        for x in 0..self.width() {
            if let Some(cell) = self.buffer.cell_mut((x, y)) {
                cell.reset();
            }
        }
    }

    /// The style of a whole row.
    pub(super) fn style_row(&mut self, x: u16, end: u16, y: u16, style: Style) {
        let width = end.min(self.width()).saturating_sub(x);
        if y < self.height() {
            self.buffer.set_style(Rect::new(x, y, width, 1), style);
        }
    }

    /// With ASCII in the place of signs and frames. Names stay as they are.
    pub(super) fn make_ascii(&mut self) {
        const SIGNS: &[(&str, &str)] = &[
            ("▸", ">"),
            ("▾", "v"),
            ("─", "-"),
            ("│", "|"),
            ("├", "|"),
            ("└", "`"),
            ("←", "<"),
            ("→", ">"),
            ("↑", "^"),
            ("↓", "v"),
            ("…", "."),
        ];
        for cell in &mut self.buffer.content {
            if let Some((_, plain)) = SIGNS.iter().find(|(sign, _)| *sign == cell.symbol()) {
                cell.set_symbol(plain);
            }
        }
    }

    /// As plain text, without spaces at the ends of lines.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for row in self.buffer.content.chunks(usize::from(self.width().max(1))) {
            let line: String = row.iter().map(ratatui_core::buffer::Cell::symbol).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_environment() {
        let palette = Palette::new(Theme::Auto, Some("1"), Some("15;0"));
        assert_eq!((palette.chart.fg, palette.burst.fg, palette.alert.fg), (None, None, None));
        assert_eq!(Palette::new(Theme::Auto, None, Some("15;0")).chart.fg, Some(Color::Cyan));
        assert_eq!(Palette::new(Theme::Auto, None, Some("0;default;15")).chart.fg, Some(Color::Blue));
        assert_eq!(Palette::new(Theme::Auto, Some(""), None).burst.fg, Some(Color::Magenta));
        assert_eq!(Palette::new(Theme::Light, None, Some("15;0")).chart.fg, Some(Color::Blue));
        assert_eq!([[0.0, 0.0, 0.2], [1.0, 1.0, 0.9]].map(theme_of), [Theme::Dark, Theme::Light]);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut page = Page::new(10, 2, Palette::default());
        page.put(7, 0, "abcdef", Style::new());
        page.put(50, 0, "x", Style::new());
        page.put(0, 5, "x", Style::new());
        page.put_before(3, 1, "abcdef", Style::new());
        page.put_or_cut(4, 1, "abcdef", 8, Style::new());
        assert_eq!(page.text(), "       abc\nabc abc…\n");
    }
}
