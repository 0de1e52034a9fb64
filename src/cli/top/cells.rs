//! What a stretch of time held, and how it looks in one column of text.

use clap::ValueEnum;

/// Values are held across at most so many times the usual distance between them: a longer one is a gap.
const HELD_MAX: f64 = 2.5;

/// Least, greatest and mean value of one stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
}

impl Cell {
    /// A single value.
    pub(super) fn of(value: f64) -> Cell {
        Cell { min: value, max: value, mean: value }
    }

    fn joined(cell: Option<Cell>, other: Cell) -> Cell {
        let Some(cell) = cell else { return other };
        let mean = f64::midpoint(cell.mean, other.mean);
        Cell { min: cell.min.min(other.min), max: cell.max.max(other.max), mean }
    }
}

/// What charts are drawn with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Glyphs {
    /// Two columns of four dots: the left one from the least to the greatest value, the right one up to the mean
    #[default]
    Braille,
    /// Bars up to the greatest value
    Block,
    /// Only ASCII: digits from 0 to 9, a tenth of the scale each, of the greatest value
    Ascii,
}

/// How values between two rows are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A gauge is held until the next row.
    Gauge,
    /// A rate is of the stretch before its row.
    Rate,
}

/// Puts a value into its cell.
pub(super) fn put(cells: &mut [Option<Cell>], at: usize, cell: Cell) {
    if let Some(place) = cells.get_mut(at) {
        *place = Some(Cell::joined(*place, cell));
    }
}

/// Fills the cells between rows where these are further apart than cells are wide.
pub(super) fn fill(cells: &mut [Option<Cell>], kind: Kind) {
    let known: Vec<usize> = (0..cells.len()).filter(|at| cells[*at].is_some()).collect();
    let mut steps: Vec<usize> = known.windows(2).map(|pair| pair[1] - pair[0]).collect();
    steps.sort_unstable();
    let Some(usual) = steps.get(steps.len() / 2).copied().filter(|step| *step > 1) else { return };
    let held_max = (usual as f64 * HELD_MAX).ceil();
    for pair in known.windows(2).filter(|pair| (pair[1] - pair[0]) as f64 <= held_max) {
        let value = match kind {
            Kind::Gauge => cells[pair[0]],
            Kind::Rate => cells[pair[1]],
        };
        // Only the mean of a cell says something about its neighbours.
        cells[pair[0] + 1..pair[1]].fill(value.map(|cell| Cell::of(cell.mean)));
    }
    if kind == Kind::Gauge
        && let Some(last) = known.last()
    {
        let end = cells.len().min(last + usual);
        let value = cells[*last].map(|cell| Cell::of(cell.mean));
        cells[last + 1..end].fill(value);
    }
}

/// The cells of one chart, from the top row to the bottom row.
pub(super) fn draw(cells: &[Option<Cell>], top: f64, rows: usize, glyphs: Glyphs) -> Vec<String> {
    let row = |row: usize| cells.iter().map(move |cell| cell.map_or(' ', |cell| glyph(cell, top, rows, row, glyphs)));
    (0..rows).rev().map(|at| row(at).collect()).collect()
}

/// One cell of a row, of which the lowest is 0.
fn glyph(cell: Cell, top: f64, rows: usize, row: usize, glyphs: Glyphs) -> char {
    match glyphs {
        Glyphs::Braille => braille(cell, top, rows, row),
        Glyphs::Block => block(level(cell.max, top, rows * 8), row),
        Glyphs::Ascii => ascii(cell.max, top, rows, row),
    }
}

fn braille(cell: Cell, top: f64, rows: usize, row: usize) -> char {
    /// Dots of a column, from the lowest to the highest.
    const LEFT: [u32; 4] = [0x40, 0x04, 0x02, 0x01];
    const RIGHT: [u32; 4] = [0x80, 0x20, 0x10, 0x08];
    let dots = rows * 4;
    if cell.max <= 0.0 {
        return if row == 0 { '⡀' } else { ' ' };
    }
    let [min, max, mean] = [cell.min, cell.max, cell.mean].map(|value| level(value, top, dots));
    let lit = |places: [u32; 4], to: usize| {
        let dots = (0..4).filter(|dot| (min..=to.max(min)).contains(&(row * 4 + dot)));
        dots.map(|dot| places[dot]).sum::<u32>()
    };
    match lit(LEFT, max) + lit(RIGHT, mean) {
        0 => ' ',
        dots => char::from_u32(0x2800 + dots).unwrap_or(' '),
    }
}

fn block(level: usize, row: usize) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    match (level + 1).saturating_sub(row * 8) {
        0 => ' ',
        height => BARS[height.min(8) - 1],
    }
}

fn ascii(max: f64, top: f64, rows: usize, row: usize) -> char {
    match level(max, top, rows * 10).checked_sub(row * 10) {
        None => ' ',
        Some(digit @ 0..10) => char::from_digit(u32::try_from(digit).unwrap_or(0), 10).unwrap_or(' '),
        Some(_) => '|',
    }
}

/// The part of the scale that contains a value.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the value is between 0 and `steps`")]
pub(super) fn level(value: f64, top: f64, steps: usize) -> usize {
    if top <= 0.0 || value <= 0.0 || value.is_nan() {
        return 0;
    }
    ((value / top).min(1.0) * steps as f64).min(steps as f64 - 1.0) as usize
}

/// A bar for one number, as the processors have at a moment.
pub(super) fn bar(value: f64, top: f64, glyphs: Glyphs) -> char {
    match glyphs {
        Glyphs::Ascii => ascii(value, top, 1, 0),
        Glyphs::Braille | Glyphs::Block => block(level(value, top, 8), 0),
    }
}

/// How full a cell of a heat map is.
pub(super) fn shade(cell: Option<Cell>, top: f64, glyphs: Glyphs) -> char {
    match (cell, glyphs) {
        (None, _) => ' ',
        (Some(cell), Glyphs::Ascii) => ascii(cell.mean, top, 1, 0),
        (Some(cell), _) => ['·', '░', '▒', '▓', '█'][level(cell.mean, top, 5)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(min: f64, mean: f64, max: f64) -> String {
        draw(&[Some(Cell { min, max, mean })], 1.0, 1, Glyphs::Braille).concat()
    }

    #[test]
    fn a_burst_is_thin_a_load_thick_and_steadiness_flat() {
        assert_eq!(drawn(0.01, 0.02, 1.0), "⣇");
        assert_eq!(drawn(0.01, 0.6, 1.0), "⣷");
        assert_eq!(drawn(0.55, 0.55, 0.55), "⠒");
        assert_eq!(drawn(0.0, 0.0, 0.0), "⡀");
        assert_eq!(drawn(0.001, 0.001, 0.001), "⣀");
        assert_eq!(draw(&[None], 1.0, 1, Glyphs::Braille), [" "]);
    }

    #[test]
    fn a_burst_keeps_its_height_over_several_rows() {
        let burst = Some(Cell { min: 0.0, max: 10.0, mean: 0.1 });
        assert_eq!(draw(&[burst], 10.0, 3, Glyphs::Braille), ["⡇", "⡇", "⣇"]);
        assert_eq!(draw(&[burst], 10.0, 2, Glyphs::Block), ["█", "█"]);
        assert_eq!(draw(&[burst], 10.0, 1, Glyphs::Ascii), ["9"]);
    }

    #[test]
    fn gauges_are_held_and_rates_reach_back_but_gaps_stay() {
        let cells = |kind| {
            let mut cells = vec![None; 24];
            for (at, value) in [(0, 1.0), (4, 2.0), (8, 3.0), (20, 4.0)] {
                cells[at] = Some(Cell::of(value));
            }
            fill(&mut cells, kind);
            cells
                .iter()
                .map(|cell| cell.map_or(' ', |cell: Cell| bar(cell.max, 10.0, Glyphs::Ascii)))
                .collect::<String>()
        };
        assert_eq!(cells(Kind::Gauge), "111122223           4444");
        assert_eq!(cells(Kind::Rate), "122223333           4   ");
    }
}
