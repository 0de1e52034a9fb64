//! What whoever looks has chosen: the time, the screen, what is sorted and searched.

use std::collections::BTreeSet;

use super::asked::Seek;
use super::busiest::Busiest;
use super::cells::{Glyphs, level};
use super::cgroups::GroupSort;
use super::choice::{Panel, Prompt, Scale, Screen};
use super::clock::Clock;
use super::filter::Filter;
use super::metric::Metric;
use super::needs::Needs;
use super::picture::Picture;
use super::processes::Sort;
use super::reader::Wanted;
use super::window::Window;

/// Views that can be gone back to.
const BEFORE_MAX: usize = 50;
/// From this size on, tables stand beside the charts.
const BESIDE: (u16, u16) = (180, 40);
/// From this height on, there is a row of what is kept.
const TALL: u16 = 40;
/// A time to look at: a window and the cursor in it, or the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    length_us: i64,
    at: Option<(Window, i64)>,
}

/// All that was chosen.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(super) struct View {
    /// Columns and rows of the terminal.
    pub(super) size: (u16, u16),
    pub(super) screen: Screen,
    pub(super) panel: Panel,
    pub(super) has_help: bool,
    /// The first row of the help that is shown, where not all fit.
    pub(super) help_row: usize,
    place: Place,
    before: Vec<Place>,
    /// The peak that is looked for within the cursor's cell.
    pub(super) seek: Option<Seek>,
    pub(super) sort: Sort,
    pub(super) group_sort: GroupSort,
    pub(super) is_reversed: bool,
    /// Processes by command; groups as a list.
    pub(super) is_regrouped: bool,
    pub(super) filter: Filter,
    pub(super) search: String,
    pub(super) prompt: Option<Prompt>,
    /// The chosen chart.
    pub(super) figure: usize,
    /// The chosen row of the table.
    pub(super) row: usize,
    /// Metrics that the overview shows too.
    pub(super) kept: Vec<Metric>,
    /// The metric whose series have rows of their own.
    pub(super) unfolded: Option<Metric>,
    /// Control groups whose children are hidden.
    pub(super) folded: BTreeSet<String>,
    /// Whether the chosen chart or the table has the whole screen.
    pub(super) is_full: bool,
    pub(super) scale: Scale,
    /// Networks in bits.
    pub(super) has_bits: bool,
    pub(super) busiest: Busiest,
    pub(super) clock: Clock,
    pub(super) glyphs: Glyphs,
    /// Rows are read from files: now is their newest one.
    pub(super) is_files: bool,
    /// Said once, until the next key.
    pub(super) note: Option<String>,
}

impl View {
    pub(super) fn new(length_us: i64, glyphs: Glyphs, clock: Clock) -> View {
        View {
            size: (80, 24),
            screen: Screen::default(),
            panel: Panel::default(),
            has_help: false,
            help_row: 0,
            place: Place { length_us, at: None },
            before: Vec::new(),
            seek: None,
            sort: Sort::default(),
            group_sort: GroupSort::default(),
            is_reversed: false,
            is_regrouped: false,
            filter: Filter::default(),
            search: String::new(),
            prompt: None,
            figure: 0,
            row: 0,
            kept: Vec::new(),
            unfolded: None,
            folded: BTreeSet::new(),
            is_full: false,
            scale: Scale::default(),
            has_bits: false,
            busiest: Busiest::default(),
            clock,
            glyphs,
            is_files: false,
            note: None,
        }
    }

    /// Whether tables stand beside the charts of the overview.
    pub(super) fn is_beside(&self) -> bool {
        self.screen == Screen::Overview && self.size.0 >= BESIDE.0 && self.size.1 >= BESIDE.1
    }

    /// Whether there is room for what is kept, and more charts over a table.
    pub(super) fn is_tall(&self) -> bool {
        self.size.1 >= TALL
    }

    /// What to read for it.
    pub(super) fn wanted(&self, needs: Needs) -> Wanted {
        let Needs { cells, has_cores, metrics, history } = needs;
        let at = self.place.at.map(|(window, at_us)| {
            if window.cells == cells {
                return (window, at_us);
            }
            // The screen has another width now.
            let share = window.cell_at(at_us).unwrap_or(window.cells / 2) as f64 / window.cells.max(1) as f64;
            let column = level(share, 1.0, cells);
            (Window::around(at_us, window.width_us * as_i64(cells), cells, Some(column)), at_us)
        });
        Wanted {
            length_us: self.place.length_us,
            cells,
            at,
            seek: self.seek.clone(),
            has_cores,
            has_groups: self.is_beside() || self.screen == Screen::Cgroups,
            metrics,
            unfolded: self.unfolded.clone().filter(|_| self.screen.is_list()),
            history,
        }
    }

    /// Takes the moment of a peak that was found, unless the cursor went on meanwhile.
    pub(super) fn take_found(&mut self, picture: &Picture) {
        if let (Some(at_us), Some((window, _))) = (picture.at_us, self.place.at)
            && self.seek.is_some()
            && self.seek == picture.sought
        {
            self.seek = None;
            self.place.at = Some((window, at_us));
        }
    }

    /// Whether the newest is shown.
    pub(super) fn is_live(&self) -> bool {
        self.place.at.is_none()
    }

    /// The cursor.
    pub(super) fn at_us(&self) -> Option<i64> {
        self.place.at.map(|(_, at_us)| at_us)
    }

    /// Stops at the newest moment, or goes on.
    pub(super) fn pause(&mut self, picture: &Picture) {
        match self.place.at {
            Some(_) => self.go_live(),
            None => {
                let last = picture.window.time_of(picture.window.cells.saturating_sub(1));
                self.go(Place { at: Some((picture.window, last)), ..self.place });
            }
        }
    }

    pub(super) fn go_live(&mut self) {
        if !self.is_live() {
            self.go(Place { at: None, ..self.place });
        }
    }

    /// Moves the cursor by cells. The window follows where it would leave it.
    pub(super) fn step(&mut self, picture: &Picture, cells: i64) {
        let (window, at_us) = self.at_or_end(picture);
        let to_us = (at_us + cells * window.width_us).min(picture.now_us);
        self.seek = None;
        self.place = Place { at: Some((following(window, to_us), to_us)), ..self.place };
    }

    /// Moves the window by its length.
    pub(super) fn page(&mut self, picture: &Picture, windows: i64) {
        let (window, at_us) = self.at_or_end(picture);
        let cells = windows * as_i64(window.cells);
        let moved = window.moved(cells);
        let to_us = (at_us + cells * window.width_us).min(picture.now_us);
        let window = if moved.cell_at(to_us).is_some() { moved } else { following(window, to_us) };
        self.seek = None;
        self.place = Place { at: Some((window, to_us)), ..self.place };
    }

    /// Shows narrower or wider cells, with the cursor's in its column.
    pub(super) fn zoom(&mut self, picture: &Picture, is_closer: bool) {
        // Of what is live, the picture may be of the zoom before.
        let newest = || Window::ending_at(picture.now_us, self.place.length_us, picture.window.cells);
        let window = self.place.at.map_or_else(newest, |(window, _)| window);
        let at_us = self.at_us().unwrap_or(picture.now_us);
        let Some(zoomed) = window.zoomed(at_us, is_closer) else {
            self.note =
                Some(if is_closer { "10 ms is the shortest window" } else { "30 d is the longest window" }.into());
            return;
        };
        let at = self.place.at.map(|(_, at_us)| (zoomed, at_us));
        self.go(Place { length_us: zoomed.length_us(), at });
    }

    /// Puts the cursor at a time, in a window around it.
    pub(super) fn go_to(&mut self, at_us: i64, cells: usize) {
        let window = Window::around(at_us, self.place.length_us, cells, None);
        self.go(Place { at: Some((window, at_us)), ..self.place });
    }

    /// Puts the cursor into a cell of the picture.
    pub(super) fn point(&mut self, picture: &Picture, cell: usize) {
        let at_us = picture.window.time_of(cell).min(picture.now_us);
        self.go(Place { at: Some((picture.window, at_us)), ..self.place });
    }

    /// Shows a stretch of the picture as a whole.
    pub(super) fn span(&mut self, picture: &Picture, one: usize, other: usize) {
        let (from, to) = (picture.window.time_of(one.min(other)), picture.window.time_of(one.max(other) + 1));
        let middle = from + (to - from) / 2;
        let window = Window::around(middle, to - from, picture.window.cells, None);
        self.go(Place { length_us: window.length_us(), at: Some((window, middle)) });
    }

    /// The time that was shown before.
    pub(super) fn back(&mut self) {
        self.seek = None;
        match self.before.pop() {
            Some(place) => self.place = place,
            None => self.note = Some("there is no earlier view".to_owned()),
        }
    }

    /// The next or previous event.
    pub(super) fn event(&mut self, picture: &Picture, is_next: bool) {
        let at_us = self.at_us().unwrap_or(picture.now_us);
        // The cursor is at the begin of its cell.
        let width_us = picture.window.width_us;
        let mut times: Vec<i64> = picture.events.events.iter().map(|event| event.time_us).collect();
        times.sort_unstable();
        let found = if is_next {
            times.into_iter().find(|time| *time >= at_us + width_us)
        } else {
            times.into_iter().rev().find(|time| *time < at_us)
        };
        match found {
            Some(time) if picture.window.cell_at(time).is_some() => {
                self.go(Place { at: Some((picture.window, time)), ..self.place });
            }
            Some(time) => self.go_to(time, picture.window.cells),
            None => self.note = Some(format!("no {} event is known", side(is_next))),
        }
    }

    fn at_or_end(&self, picture: &Picture) -> (Window, i64) {
        let last = picture.window.time_of(picture.window.cells.saturating_sub(1));
        self.place.at.unwrap_or((picture.window, last))
    }

    fn go(&mut self, place: Place) {
        self.seek = None;
        self.before.push(self.place);
        if self.before.len() > BEFORE_MAX {
            self.before.remove(0);
        }
        self.place = place;
    }
}

/// Where something is, in words.
pub(super) fn side(is_next: bool) -> &'static str {
    if is_next { "later" } else { "earlier" }
}

/// A window that has a time, moved as little as possible.
fn following(window: Window, at_us: i64) -> Window {
    let cell = (at_us - window.from_us).div_euclid(window.width_us);
    let beyond = if cell < 0 { cell } else { (cell - as_i64(window.cells) + 1).max(0) };
    window.moved(beyond)
}

fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::window::{MINUTE_US, SECOND_US};

    #[test]
    fn a_window_follows_the_cursor_by_as_little_as_possible() {
        let window = Window::ending_at(1_000 * SECOND_US, MINUTE_US, 36);
        assert_eq!(following(window, window.from_us), window);
        assert_eq!(following(window, window.from_us - 1), window.moved(-1));
        assert_eq!(following(window, window.to_us()), window.moved(1));
    }
}
