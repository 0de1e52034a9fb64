//! The terminal: raw mode and its end, and frames of which only what changed is written.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Another screen, no cursor, and reports of focus.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?1004h";
/// Asks for the background.
const ASK: &str = "\x1b]11;?\x07";
const LEAVE: &str = "\x1b[?1006l\x1b[?1002l\x1b[?1004l\x1b[0m\x1b[?25h\x1b[?1049l";
const MOUSE_ON: &str = "\x1b[?1002h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1002l";
/// Terminals that know synchronised updates show a frame as a whole; others take no notice.
const FRAME_BEGIN: &str = "\x1b[?2026h";
const FRAME_END: &str = "\x1b[?2026l";

/// At the end, the last frame is waited for no longer than this.
const WRITE_TIME_MAX: Duration = Duration::from_millis(300);

/// How the terminal was before; `None` while it is as it was.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// A terminal that shows this program's screen. When it is dropped, or this process panics, it is as it was.
pub(super) struct Terminal {
    shown: Buffer,
    /// `None` at the end.
    frames: Option<SyncSender<String>>,
    writer: JoinHandle<()>,
    is_whole: bool,
    has_mouse: bool,
}

/// Takes the terminal back, at any time and from any thread.
pub(super) fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        let mut out = io::stdout();
        // Nobody is left to hear of an error. A terminal that takes nothing more has its modes back at least.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
        let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
    }
}

/// Columns and rows of the terminal on stdout.
pub(super) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    Some((size.ws_col, size.ws_row)).filter(|(columns, rows)| *columns > 0 && *rows > 0)
}

impl Terminal {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When stdin or stdout is none.
    pub(super) fn enter() -> anyhow::Result<Terminal> {
        size().context("stdout is no terminal: --once prints one screen as text")?;
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
        let (frames, waiting) = sync_channel(1);
        let writer = thread::Builder::new().name("top-write".to_owned()).spawn(move || write_frames(&waiting))?;
        let shown = Buffer::empty(Rect::ZERO);
        let mut terminal = Terminal { shown, frames: Some(frames), writer, is_whole: true, has_mouse: true };
        terminal.resume()?;
        // Those that do not know it say nothing.
        let mut out = io::stdout();
        out.write_all(ASK.as_bytes()).and_then(|()| out.flush())?;
        Ok(terminal)
    }

    /// Takes it again, as after this process was suspended.
    ///
    /// # Errors
    /// When stdin is no terminal.
    pub(super) fn resume(&mut self) -> anyhow::Result<()> {
        let now = tcgetattr(io::stdin()).context("stdin is no terminal: --once prints one screen as text")?;
        // Whoever continues what was not stopped here finds it in raw mode.
        let mut raw = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now).clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).context("set the terminal to raw mode")?;
        let mut out = io::stdout();
        out.write_all(ENTER.as_bytes())?;
        out.write_all(if self.has_mouse { MOUSE_ON } else { MOUSE_OFF }.as_bytes())?;
        out.flush()?;
        self.is_whole = true;
        Ok(())
    }

    /// Lets the terminal select text by itself, or gives the mouse back.
    pub(super) fn toggle_mouse(&mut self) -> bool {
        let text = if self.has_mouse { MOUSE_OFF } else { MOUSE_ON };
        if self.send(text.to_owned()) {
            self.has_mouse = !self.has_mouse;
        }
        self.has_mouse
    }

    /// Writes a text that shows nothing. `false`: the terminal is behind.
    pub(super) fn tell(&self, text: &str) -> bool {
        self.send(text.to_owned())
    }

    /// The next frame is written as a whole.
    pub(super) fn redraw(&mut self) {
        self.is_whole = true;
    }

    /// Writes what changed. `false`: the terminal is behind, so this frame was left out.
    pub(super) fn show(&mut self, next: &Buffer) -> bool {
        let is_whole = self.is_whole || self.shown.area != next.area;
        let changed = if is_whole { changes(&Buffer::empty(next.area), next) } else { changes(&self.shown, next) };
        if changed.is_empty() && !is_whole {
            return true;
        }
        let clear = if is_whole { "\x1b[0m\x1b[2J" } else { "" };
        let is_sent = self.send(format!("{FRAME_BEGIN}{clear}{changed}{FRAME_END}"));
        if is_sent {
            self.shown.clone_from(next);
            self.is_whole = false;
        }
        is_sent
    }

    /// Hands text to the thread that writes, unless that still has some.
    fn send(&self, text: String) -> bool {
        self.frames.as_ref().is_some_and(|frames| frames.try_send(text).is_ok())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // What is still written must not come after the end.
        self.frames = None;
        let begun = Instant::now();
        while !self.writer.is_finished() && begun.elapsed() < WRITE_TIME_MAX {
            thread::sleep(Duration::from_millis(1));
        }
        restore();
    }
}

/// Gives all bytes that come from stdin, until it ends.
pub(super) fn read_bytes(mut taken: impl FnMut(Vec<u8>) -> bool) {
    let mut stdin = io::stdin().lock();
    let mut bytes = [0; 4096];
    loop {
        match stdin.read(&mut bytes) {
            Ok(0) | Err(_) => {
                taken(Vec::new());
                return;
            }
            Ok(count) => {
                if !taken(bytes[..count].to_vec()) {
                    return;
                }
            }
        }
    }
}

fn write_frames(frames: &Receiver<String>) {
    let mut out = io::stdout();
    while let Ok(frame) = frames.recv() {
        // After the end of the screen, nothing may be written over what the shell shows.
        if BEFORE.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            continue;
        }
        if out.write_all(frame.as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// The control sequences that make the second page of the first.
fn changes(shown: &Buffer, next: &Buffer) -> String {
    let mut text = String::new();
    let mut style = None;
    let mut at = None;
    for (x, y, cell) in shown.diff(next) {
        if at != Some((x, y)) {
            let _ = write!(text, "\x1b[{};{}H", y + 1, x + 1);
        }
        if style != Some(cell.style()) {
            set_style(&mut text, cell.style());
            style = Some(cell.style());
        }
        text.push_str(cell.symbol());
        at = Some((x + 1, y));
    }
    if style.is_some() {
        text.push_str("\x1b[0m");
    }
    text
}

fn set_style(text: &mut String, style: Style) {
    text.push_str("\x1b[0");
    if style.add_modifier.contains(Modifier::BOLD) {
        text.push_str(";1");
    }
    if style.add_modifier.contains(Modifier::REVERSED) {
        text.push_str(";7");
    }
    // The palette has these of the 16 colours, and none for the background.
    text.push_str(match style.fg {
        Some(Color::Red) => ";31",
        Some(Color::Blue) => ";34",
        Some(Color::Magenta) => ";35",
        Some(Color::Cyan) => ";36",
        Some(Color::Gray) => ";37",
        Some(Color::LightYellow) => ";93",
        _ => "",
    });
    text.push('m');
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};

    use super::*;

    #[test]
    fn only_what_changed_is_written() {
        let mut shown = Buffer::empty(Rect::new(0, 0, 10, 2));
        let mut next = shown.clone();
        next.set_string(2, 1, "ab", Style::new());
        next.set_string(5, 1, "c", Style::new().fg(Color::Red).add_modifier(Modifier::REVERSED));
        assert_eq!(changes(&shown, &next), "\x1b[2;3H\x1b[0mab\x1b[2;6H\x1b[0;7;31mc\x1b[0m");
        shown = next.clone();
        assert_eq!(changes(&shown, &next), "");
    }

    /// Set where this test is run again as a program of its own, in a terminal.
    const PANICS: &str = "KYMO_TEST_PANICS_IN_A_TERMINAL";

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        if std::env::var_os(PANICS).is_some() {
            let _terminal = Terminal::enter().unwrap();
            // Not on the thread that has the terminal, and while a frame may be written.
            let _ = thread::spawn(|| panic!("as a bug would")).join();
            std::process::exit(7);
        }
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).and_then(|()| unlockpt(&ours)).unwrap();
        tcsetwinsize(&ours, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let theirs = File::from(
            open(ptsname(&ours, Vec::new()).unwrap(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap(),
        );
        let modes = |file: &File| {
            let modes = tcgetattr(file).unwrap();
            (modes.input_modes, modes.output_modes, modes.local_modes)
        };
        let before = modes(&theirs);
        let name = thread::current().name().unwrap().to_owned();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(PANICS, "1")
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs.try_clone().unwrap())
            .spawn()
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
        assert_eq!(modes(&theirs), before);
        drop(theirs);
        let mut written = Vec::new();
        // The last reader of a terminal that nobody has open gets an error.
        let _ = File::from(ours).read_to_end(&mut written);
        let written = String::from_utf8(written).unwrap();
        let at = |text: &str| written.find(text).unwrap_or_else(|| panic!("{text:?} is not in {written:?}"));
        assert!(at(ENTER) < at(LEAVE) && at(LEAVE) < at("as a bug would"), "{written:?}");
    }
}
