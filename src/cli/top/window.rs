//! Which stretch of time is shown, in cells of one width.

/// Widths of cells: each divides a second, a minute, an hour or a day, so cells of one width always begin at the same times.
const WIDTHS_US: &[i64] = &[
    200,
    500,
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    20 * MS,
    40 * MS,
    100 * MS,
    200 * MS,
    500 * MS,
    SECOND_US,
    2 * SECOND_US,
    5 * SECOND_US,
    10 * SECOND_US,
    20 * SECOND_US,
    MINUTE_US,
    2 * MINUTE_US,
    5 * MINUTE_US,
    10 * MINUTE_US,
    20 * MINUTE_US,
    HOUR_US,
    2 * HOUR_US,
    4 * HOUR_US,
    8 * HOUR_US,
    12 * HOUR_US,
    DAY_US,
];

const MS: i64 = 1_000;
/// A second.
pub(super) const SECOND_US: i64 = 1_000_000;
/// A minute.
pub(super) const MINUTE_US: i64 = 60 * SECOND_US;
/// An hour.
pub(super) const HOUR_US: i64 = 60 * MINUTE_US;
/// A day.
pub(super) const DAY_US: i64 = 24 * HOUR_US;

/// The shortest window that can be asked for.
pub(super) const SHORTEST_US: i64 = 10 * MS;
/// The longest one.
pub(super) const LONGEST_US: i64 = 30 * DAY_US;

/// Cells of one width, one after the other. They begin at multiples of their width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from_us: i64,
    pub(super) width_us: i64,
    pub(super) cells: usize,
}

impl Window {
    /// The window of about this length whose last cell contains `time_us`.
    pub(super) fn ending_at(time_us: i64, length_us: i64, cells: usize) -> Window {
        let width_us = width_of(length_us, cells);
        let last = time_us.div_euclid(width_us);
        Window { from_us: (last - count(cells) + 1) * width_us, width_us, cells }
    }

    /// The window of about this length with `time_us` in its middle, or in the cell `at`.
    pub(super) fn around(time_us: i64, length_us: i64, cells: usize, at: Option<usize>) -> Window {
        let width_us = width_of(length_us, cells);
        let at = at.unwrap_or(cells / 2).min(cells.saturating_sub(1));
        Window { from_us: (time_us.div_euclid(width_us) - count(at)) * width_us, width_us, cells }
    }

    /// The first time after it.
    pub(super) fn to_us(self) -> i64 {
        self.time_of(self.cells)
    }

    /// How long it is.
    pub(super) fn length_us(&self) -> i64 {
        self.width_us * count(self.cells)
    }

    /// When a cell begins.
    pub(super) fn time_of(&self, cell: usize) -> i64 {
        self.from_us + self.width_us * count(cell)
    }

    /// The cell that contains a time.
    pub(super) fn cell_at(&self, time_us: i64) -> Option<usize> {
        let cell = usize::try_from((time_us - self.from_us).div_euclid(self.width_us)).ok()?;
        Some(cell).filter(|cell| *cell < self.cells)
    }

    /// The same width, so many cells later.
    pub(super) fn moved(&self, cells: i64) -> Window {
        Window { from_us: self.from_us + cells * self.width_us, ..*self }
    }

    /// The next narrower or wider cells. The cell of `time_us` stays in its column. `None` at the end of the scale.
    pub(super) fn zoomed(&self, time_us: i64, is_closer: bool) -> Option<Window> {
        let at = WIDTHS_US.iter().position(|width| *width == self.width_us)?;
        let width = if is_closer { WIDTHS_US.get(at.checked_sub(1)?)? } else { WIDTHS_US.get(at + 1)? };
        let length_us = width * count(self.cells);
        let is_allowed = !is_closer || self.length_us() > SHORTEST_US;
        let zoomed = Window::around(time_us, length_us, self.cells, self.cell_at(time_us));
        Some(zoomed).filter(|_| is_allowed && (is_closer || self.length_us() < LONGEST_US))
    }

    /// With cells before and after it, so that values that reach into it from outside are known.
    pub(super) fn padded(&self, cells: usize) -> Window {
        Window { from_us: self.from_us - self.width_us * count(cells), cells: self.cells + 2 * cells, ..*self }
    }
}

/// A count of cells as a factor of times.
fn count(cells: usize) -> i64 {
    i64::try_from(cells).unwrap_or(i64::MAX)
}

/// The narrowest width with which so many cells span a length.
fn width_of(length_us: i64, cells: usize) -> i64 {
    let wanted = length_us.div_euclid(count(cells.max(1)));
    let fits = |width: &&i64| **width >= wanted && **width * count(cells) >= length_us;
    WIDTHS_US.iter().find(fits).copied().unwrap_or(DAY_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_divide_a_second_a_minute_an_hour_or_a_day() {
        for width in WIDTHS_US {
            assert!([SECOND_US, MINUTE_US, HOUR_US, DAY_US].iter().any(|whole| whole % width == 0), "{width}");
        }
        assert!(WIDTHS_US.is_sorted());
    }

    #[test]
    fn cells_begin_at_multiples_of_their_width_and_cover_what_was_asked_for() {
        for length_us in [SHORTEST_US, 700 * MS, MINUTE_US, HOUR_US, DAY_US, LONGEST_US] {
            for cells in [20, 36, 56, 66] {
                let window = Window::ending_at(1_795_786_307_539_651, length_us, cells);
                assert_eq!(window.from_us.rem_euclid(window.width_us), 0);
                assert!(window.length_us() >= length_us || window.width_us == DAY_US);
                assert_eq!(window.cell_at(1_795_786_307_539_651), Some(cells - 1));
            }
        }
        let window = Window::ending_at(0, MINUTE_US, 36);
        assert_eq!((window.width_us, window.length_us()), (2 * SECOND_US, 72 * SECOND_US));
    }

    #[test]
    fn zooming_keeps_a_time_in_its_column() {
        let time_us = 1_795_786_307_539_651;
        let mut window = Window::around(time_us, DAY_US, 36, Some(11));
        let mut steps = 0;
        while let Some(closer) = window.zoomed(time_us, true) {
            assert_eq!(closer.cell_at(time_us), Some(11), "{closer:?}");
            assert!(closer.width_us < window.width_us);
            window = closer;
            steps += 1;
        }
        assert!(steps > 15 && window.length_us() <= 2 * SHORTEST_US, "{window:?}");
        while let Some(wider) = window.zoomed(time_us, false) {
            window = wider;
        }
        assert!(window.length_us() >= LONGEST_US, "{window:?}");
    }
}
