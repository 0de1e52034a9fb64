//! `kymo top`: a host in a terminal, live or at any time that was recorded.

mod alerts;
mod asked;
mod busiest;
mod catalog;
mod cells;
mod cgroups;
mod charts;
mod choice;
pub(super) mod clock;
mod events;
mod export;
mod fetch;
mod figures;
mod filter;
#[cfg(test)]
mod fixture;
mod hardware;
mod held;
mod help;
mod history;
mod input;
mod keys;
mod lists;
mod live;
mod metric;
mod needs;
mod own;
mod page;
mod peaks;
mod picture;
mod processes;
mod reader;
mod screen;
mod series;
mod sheet;
mod shown;
mod source;
mod statement;
mod status;
mod tables;
mod terminal;
pub(super) mod units;
mod view;
mod window;

use std::io::Write;

use clap::Args;

use super::connect::{UsageError, block_on};
use super::query;
use crate::words::parse_duration;
use cells::Glyphs;
use choice::Screen;
use clock::Clock;
use fetch::ours_us;
use live::{FRAMES_DEFAULT, Live};
use needs::Needs;
use page::{Palette, Theme};
use picture::Picture;
use reader::Reader;
use source::Source;
use status::{Now, State};
use view::View;

/// `kymo top`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kymo top
  kymo top --at '10 minutes ago' --window 10s
  kymo top --data /var/lib/kymo --at '2026-11-25 14:02:11'
  kymo top --once --size 120x40 > now.txt

Each column of a chart is a stretch of time: its left dots span the least and the
greatest value, its right dots reach from the least to the mean. `?` lists the keys.")]
pub struct Top {
    #[command(flatten)]
    source: query::Source,
    /// Time to show ('10 minutes ago', '14:02', '2026-11-25 14:02:11') [default: the newest]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Length of the charts, from 10ms to 30d
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = length)]
    window: i64,
    /// Host to show, of a folder with several [default: the one with the newest rows]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Screen to begin with, by its key: 1 overview, 2 processes, 3 cgroups, 4 cpu, 5 memory, 6 network, 7 disk, 8 alerts, 9 kymo, 0 all
    #[arg(long, value_name = "KEY", value_parser = screen_of)]
    screen: Option<Screen>,
    /// Print one screen as text, and end
    #[arg(long)]
    once: bool,
    /// Columns and rows of the screen [default: those of the terminal, else 80x24]
    #[arg(long, value_name = "COLUMNSxROWS", value_parser = size, requires = "once")]
    size: Option<(u16, u16)>,
    /// Frames a second at most, from 1 to 30
    #[arg(long, value_name = "N", default_value_t = FRAMES_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=30), conflicts_with = "once")]
    frames: u32,
    /// What charts are drawn with [default: braille; ascii on the Linux console]
    #[arg(long, value_enum)]
    glyphs: Option<Glyphs>,
    /// Background of the terminal. `NO_COLOR=1` turns colours off
    #[arg(long, value_enum, default_value_t, conflicts_with = "once")]
    theme: Theme,
}

/// Shows the host.
///
/// # Errors
/// When nobody answers, an argument is wrong, or the terminal cannot be written.
pub fn run(top: &Top) -> anyhow::Result<()> {
    let mut view = top.view();
    view.size = top.size.or_else(terminal::size).unwrap_or((80, 24));
    if let Some(at) = &top.at {
        let mut reader = top.reader()?;
        let now_us = block_on(async { reader.now(ours_us()).await })?;
        let at_us = view.clock.parse(at, now_us).map_err(UsageError)?;
        view.go_to(at_us.min(now_us), Needs::of(&view, None).cells);
    }
    if !top.once {
        let (no_color, colorfgbg) = (std::env::var("NO_COLOR").ok(), std::env::var("COLORFGBG").ok());
        let palette = Palette::new(top.theme, no_color.as_deref(), colorfgbg.as_deref());
        return Live::new(view, palette, top.frames, top.source_words()).run(top.reader()?);
    }
    let ours_us = ours_us();
    let mut reader = top.reader()?;
    let picture: Picture = block_on(async {
        let needs = Needs::of(&view, None);
        let picture = reader.read(&view.wanted(needs.clone()), ours_us).await?;
        // The first picture tells which rows there are, and so which metrics are seen.
        let known = Needs::of(&view, Some(&picture));
        if known == needs { Ok(picture) } else { reader.read(&view.wanted(known), ours_us).await }
    })?;
    view.busiest.update(&picture);
    let page = screen::draw(&view, Palette::default(), Some(&picture), &State::Live, Now { ours_us, waits_us: 0 });
    Ok(std::io::stdout().lock().write_all(page.text().as_bytes())?)
}

impl Top {
    fn view(&self) -> View {
        let is_console = std::env::var("TERM").is_ok_and(|term| term == "linux");
        let glyphs = self.glyphs.unwrap_or(if is_console { Glyphs::Ascii } else { Glyphs::Braille });
        let mut view = View::new(self.window, glyphs, Clock::local());
        view.is_files = self.source.data.is_some();
        if let Some(screen) = self.screen {
            keys::open(&mut view, screen);
        }
        view
    }

    /// The words of a command that reads the same rows.
    fn source_words(&self) -> Vec<String> {
        let mut words = match &self.source.data {
            Some(folder) => vec!["--data".to_owned(), folder.display().to_string()],
            None => self.source.target.words(),
        };
        words.extend(self.host.iter().flat_map(|host| ["--host".to_owned(), host.clone()]));
        words
    }

    fn reader(&self) -> anyhow::Result<Reader> {
        let source = match &self.source.data {
            Some(folder) => Source::files(folder.clone(), self.source.views().load()?),
            None => Source::daemon(self.source.target.clone()),
        };
        Ok(Reader::new(source, self.host.clone()))
    }
}

/// A window's length in microseconds.
fn length(text: &str) -> Result<i64, String> {
    let us = parse_duration(text).and_then(|duration| i64::try_from(duration.as_micros()).ok());
    us.filter(|us| (window::SHORTEST_US..=window::LONGEST_US).contains(us))
        .ok_or_else(|| "expected a duration from 10ms to 30d, such as 1m".to_owned())
}

/// A screen by its key.
fn screen_of(text: &str) -> Result<Screen, String> {
    let mut signs = text.chars();
    let screen = signs.next().filter(|_| signs.next().is_none()).and_then(Screen::of);
    screen.ok_or_else(|| "expected a digit, such as 2 for the processes".to_owned())
}

/// `80x24`
fn size(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once('x').and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)));
    let fits = |(columns, rows): &(u16, u16)| {
        (screen::WIDTH_MIN..=SIZE_MAX).contains(columns) && (screen::HEIGHT_MIN..=SIZE_MAX).contains(rows)
    };
    parsed.filter(fits).ok_or_else(|| {
        format!("expected columns and rows, such as 80x24, from {}x{} on", screen::WIDTH_MIN, screen::HEIGHT_MIN)
    })
}

/// Columns or rows of a screen.
const SIZE_MAX: u16 = 500;
