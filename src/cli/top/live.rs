//! The view while somebody looks: takes keys, and draws at most so often a second.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::watch;

use super::export;
use super::fetch::{Failure, Happening, Wish, ours_us, read, watch_signals};
use super::input::{Decoder, Input};
use super::keys::{Action, apply};
use super::metric::Metric;
use super::needs::Needs;
use super::page::{Hits, Page, Palette, Theme, theme_of};
use super::peaks;
use super::picture::Picture;
use super::reader::Reader;
use super::screen;
use super::status::{Now, State};
use super::terminal::{Terminal, read_bytes, restore, size};
use super::view::View;

/// Frames a second that can be chosen.
const FRAMES: &[u32] = &[1, 2, 5, 10, 15, 20, 30];
/// The default.
pub(super) const FRAMES_DEFAULT: u32 = 10;
/// An escape alone is a key after this time.
const ESCAPE_TIME: Duration = Duration::from_millis(50);
/// At the end, a terminal that takes nothing more is waited for no longer than this.
const END_TIME_MAX: Duration = Duration::from_secs(1);

/// A view, what it shows, and how.
pub(super) struct Live {
    pub(super) view: View,
    pub(super) palette: Palette,
    pub(super) frames_per_second: u32,
    /// What the command line says of the source.
    pub(super) source: Vec<String>,
    picture: Option<Picture>,
    state: State,
    hits: Hits,
    pressed: Option<u16>,
    /// A key that waits for the chosen chart, and which metric that is.
    kept: Option<(Input, Option<Metric>)>,
    has_focus: bool,
    /// Since when another picture is waited for.
    waits: Option<Instant>,
    /// When the last answer came.
    answered_us: Option<i64>,
    /// What is shown, and whether it is to be drawn anew as a whole.
    page: Option<Page>,
    is_changed: bool,
}

impl Live {
    pub(super) fn new(mut view: View, palette: Palette, frames_per_second: u32, source: Vec<String>) -> Live {
        view.size = size().unwrap_or((80, 24));
        Live {
            view,
            palette,
            frames_per_second,
            source,
            picture: None,
            state: State::Live,
            hits: Hits::default(),
            pressed: None,
            kept: None,
            has_focus: true,
            waits: None,
            answered_us: None,
            page: None,
            is_changed: true,
        }
    }

    /// Shows it until somebody or a signal ends it.
    ///
    /// # Errors
    /// When there is no terminal.
    pub(super) fn run(mut self, reader: Reader) -> anyhow::Result<()> {
        let (to, happenings) = channel();
        let (wishes, wished) = watch::channel(self.wish());
        let mut terminal = Terminal::enter()?;
        let keys = to.clone();
        thread::Builder::new()
            .name("top-keys".to_owned())
            .spawn(move || read_bytes(|bytes| keys.send(Happening::Bytes(bytes)).is_ok()))
            .context("start the thread that reads keys")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the client")?;
        thread::Builder::new()
            .name("top-read".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let signals = tokio::spawn(watch_signals(to.clone()));
                    read(reader, wished, to).await;
                    signals.abort();
                });
            })
            .context("start the thread that reads rows")?;
        let outcome = self.follow(&mut terminal, &happenings, &wishes);
        // A terminal that takes nothing must not keep this process: its thread may wait for it for ever.
        thread::spawn(|| {
            thread::sleep(END_TIME_MAX);
            std::process::exit(0);
        });
        drop(terminal);
        outcome
    }

    fn follow(
        &mut self,
        terminal: &mut Terminal,
        happenings: &Receiver<Happening>,
        wishes: &watch::Sender<Wish>,
    ) -> anyhow::Result<()> {
        let mut decoder = Decoder::default();
        let mut drawn = Instant::now();
        let mut is_due = true;
        loop {
            let frame = Duration::from_secs(1) / self.frames_per_second;
            let next = if decoder.is_waiting() { ESCAPE_TIME } else { frame.saturating_sub(drawn.elapsed()) };
            match happenings.recv_timeout(next) {
                Ok(happening) => {
                    is_due = true;
                    self.is_changed = true;
                    if self.take(happening, &mut decoder, terminal)? {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(input) = decoder.end() {
                        self.is_changed = true;
                        if self.act(input, terminal)? {
                            return Ok(());
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if self.is_changed {
                let wanted = self.wish();
                let is_other = wishes.borrow().wanted != wanted.wanted;
                if is_other {
                    self.waits.get_or_insert_with(Instant::now);
                }
                wishes.send_if_modified(|wish| {
                    let is_other = *wish != wanted;
                    *wish = wanted;
                    is_other
                });
            }
            // The clock of what is live goes on by itself.
            is_due |= drawn.elapsed() >= frame;
            if is_due && drawn.elapsed() >= frame {
                drawn = Instant::now();
                is_due = !self.draw(terminal);
            }
        }
    }

    /// Takes what happened; `true` at the end.
    fn take(&mut self, happening: Happening, decoder: &mut Decoder, terminal: &mut Terminal) -> anyhow::Result<bool> {
        match happening {
            Happening::Bytes(bytes) if bytes.is_empty() => return Ok(true),
            Happening::Bytes(bytes) => {
                for input in decoder.take(&bytes) {
                    if self.act(input, terminal)? {
                        return Ok(true);
                    }
                }
            }
            Happening::Picture(picture) => {
                self.view.busiest.update(&picture);
                self.view.take_found(&picture);
                self.state = State::Live;
                self.picture = Some(*picture);
                self.waits = None;
                self.answered_us = Some(ours_us());
                if let Some((input, of)) = self.kept.take() {
                    // Another chart may have been chosen meanwhile.
                    let now = peaks::known(&self.view, self.picture.as_ref()).1;
                    if of.is_none() || of == now {
                        return self.act(input, terminal);
                    }
                }
            }
            Happening::Firing(firing) => {
                self.state = State::Live;
                self.answered_us = Some(ours_us());
                if let Some(picture) = &mut self.picture {
                    picture.firing = firing;
                    picture.firing_us = picture.now_us + ours_us() - picture.read_us;
                }
            }
            Happening::Failed(failure) => {
                self.kept = None;
                let since_us = self.state.since_us().or(self.answered_us).unwrap_or_else(ours_us);
                self.state = match failure {
                    Failure::Lost(reason) => State::Lost { since_us, reason },
                    Failure::Busy(reason) => State::Busy { since_us, reason },
                    Failure::Refused(reason) => State::Refused { since_us, reason },
                };
            }
            Happening::Resized => self.view.size = size().unwrap_or(self.view.size),
            Happening::Continued => terminal.resume()?,
            Happening::Ended => return Ok(true),
        }
        Ok(false)
    }

    fn act(&mut self, input: Input, terminal: &mut Terminal) -> anyhow::Result<bool> {
        if let Input::Focus(has_focus) = input {
            self.has_focus = has_focus;
            return Ok(false);
        }
        if let Input::Background(parts) = input {
            if self.palette.theme == Theme::Auto {
                self.palette = Palette::of(theme_of(parts.map(|part| f64::from(part) / f64::from(u16::MAX))));
                terminal.redraw();
            }
            return Ok(false);
        }
        match apply(&mut self.view, input, self.picture.as_ref(), &self.hits, &mut self.pressed) {
            Action::None => {}
            Action::Quit => return Ok(true),
            Action::Redraw => terminal.redraw(),
            Action::Suspend => {
                restore();
                kill_process(getpid(), Signal::STOP).context("suspend")?;
            }
            Action::Faster => self.set_frames(true),
            Action::Slower => self.set_frames(false),
            Action::ToggleMouse => {
                let has_mouse = terminal.toggle_mouse();
                self.view.note = Some(if has_mouse { "the mouse is on" } else { "the mouse is off" }.to_owned());
            }
            Action::Export => self.export(),
            Action::Copy => self.copy(terminal),
            Action::Keep => self.kept = Some((input, peaks::known(&self.view, self.picture.as_ref()).1)),
        }
        Ok(false)
    }

    fn set_frames(&mut self, is_more: bool) {
        let now = self.frames_per_second;
        let found = if is_more {
            FRAMES.iter().find(|frames| **frames > now)
        } else {
            FRAMES.iter().rev().find(|frames| **frames < now)
        };
        self.frames_per_second = found.copied().unwrap_or(now);
        self.view.note = Some(format!("{} frames a second at most", self.frames_per_second));
    }

    /// Writes the screen to a file.
    fn export(&mut self) {
        let (Some(page), Some(picture)) = (&self.page, &self.picture) else { return };
        self.view.note = Some(match export::write(&page.text(), picture) {
            Ok(name) => format!("written to {name}"),
            Err(error) => format!("cannot write the screen to a file here: {error}"),
        });
    }

    /// Gives the command that shows the same to the clipboard, and shows it.
    fn copy(&mut self, terminal: &Terminal) {
        let Some(picture) = &self.picture else { return };
        let command = export::command(picture, self.view.screen, &self.source);
        terminal.tell(&export::to_clipboard(&command));
        self.view.note = Some(command);
    }

    fn wish(&self) -> Wish {
        let needs = Needs::of(&self.view, self.picture.as_ref());
        Wish { wanted: self.view.wanted(needs), has_focus: self.has_focus }
    }

    /// Draws a frame; `false` if the terminal is behind. What goes on by itself is in two rows.
    fn draw(&mut self, terminal: &mut Terminal) -> bool {
        let waits_us = self.waits.map_or(0, |since| i64::try_from(since.elapsed().as_micros()).unwrap_or(0));
        let (picture, now) = (self.picture.as_ref(), Now { ours_us: ours_us(), waits_us });
        let page = match self.page.take().filter(|_| !self.is_changed) {
            Some(mut page) => {
                screen::refresh(&mut page, &self.view, picture, &self.state, now);
                page
            }
            None => screen::draw(&self.view, self.palette, picture, &self.state, now),
        };
        self.is_changed = false;
        let is_shown = terminal.show(&page.buffer);
        let page = self.page.insert(page);
        self.hits.clone_from(&page.hits);
        is_shown
    }
}
