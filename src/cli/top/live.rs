//! The view while somebody looks: takes keys, and draws at most so often a second.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::watch;

use super::fetch::{Happening, Wish, ours_us, read, watch_signals};
use super::input::{Decoder, Input};
use super::keys::{Action, apply};
use super::page::{Hits, Palette};
use super::picture::Picture;
use super::reader::Reader;
use super::screen;
use super::status::State;
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
    pub(super) is_files: bool,
    picture: Option<Picture>,
    state: State,
    hits: Hits,
    pressed: Option<u16>,
    has_focus: bool,
    size: (u16, u16),
}

impl Live {
    pub(super) fn new(view: View, palette: Palette, frames_per_second: u32, is_files: bool) -> Live {
        Live {
            view,
            palette,
            frames_per_second,
            is_files,
            picture: None,
            state: if is_files { State::Files } else { State::Live },
            hits: Hits::default(),
            pressed: None,
            has_focus: true,
            size: size().unwrap_or((80, 24)),
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
                    if self.take(happening, &mut decoder, terminal)? {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(input) = decoder.end()
                        && self.act(input, terminal)?
                    {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            wishes.send_if_modified(|wish| {
                let wanted = self.wish();
                let is_other = *wish != wanted;
                *wish = wanted;
                is_other
            });
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
                self.state = if self.is_files { State::Files } else { State::Live };
                self.picture = Some(*picture);
            }
            Happening::Firing(firing) => {
                self.state = if self.is_files { State::Files } else { State::Live };
                if let Some(picture) = &mut self.picture {
                    picture.firing = firing;
                    picture.firing_us = picture.now_us + ours_us() - picture.read_us;
                }
            }
            Happening::Failed(reason) => {
                let since_us = match &self.state {
                    State::Lost { since_us, .. } => *since_us,
                    _ => ours_us(),
                };
                self.state = State::Lost { since_us, reason };
            }
            Happening::Resized => self.size = size().unwrap_or(self.size),
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

    fn wish(&self) -> Wish {
        let (cells, has_cores) = screen::needs(self.size.0, self.size.1);
        Wish { wanted: self.view.wanted(cells, has_cores), has_focus: self.has_focus }
    }

    /// Draws a frame; `false` if the terminal is behind.
    fn draw(&mut self, terminal: &mut Terminal) -> bool {
        let page = screen::draw(self.size, self.palette, self.picture.as_ref(), &self.view, &self.state, ours_us());
        self.hits = page.hits;
        terminal.show(page.buffer)
    }
}
