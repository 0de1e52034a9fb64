//! `kymo top` in a terminal, for tests that look at it and press keys.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::people::terminal;
use crate::running::{PATIENCE, command};

/// A view in a terminal, and all that it wrote.
pub struct Looking {
    pub child: Child,
    ours: File,
    written: Receiver<Vec<u8>>,
    text: String,
}

impl Looking {
    pub fn begin(arguments: &[&str]) -> Looking {
        Looking::begin_in(Path::new("."), arguments)
    }

    pub fn begin_in(folder: &Path, arguments: &[&str]) -> Looking {
        Looking::with(folder, arguments, |_| ())
    }

    pub fn with(folder: &Path, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Looking {
        let (ours, theirs) = terminal(80);
        let mut command = command(&["top"]);
        command.args(arguments).env("TZ", "UTC").env("NO_COLOR", "1").stdin(theirs.try_clone().unwrap());
        command.current_dir(folder);
        change(&mut command);
        let child = command.stdout(theirs).stderr(Stdio::null()).spawn().unwrap();
        let (to, written) = channel();
        let mut reading = ours.try_clone().unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reading.read(&mut bytes) {
                if to.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Looking { child, ours, written, text: String::new() }
    }

    /// Waits until this was written, and forgets all up to there, which it gives.
    pub fn wait_for(&mut self, wanted: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let end = loop {
            if let Some(at) = self.text.find(wanted) {
                break at + wanted.len();
            }
            let bytes = self.written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            let bytes = bytes.unwrap_or_else(|_| panic!("{wanted:?} was not shown, but\n{}", self.text));
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        };
        self.text.drain(..end).collect()
    }

    /// The whole screen as text, once it is as wanted.
    pub fn until(&mut self, is_wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.press("\x0c");
            self.wait_for("\x1b[2J");
            let shown = screen(&self.wait_for("\x1b[?2026l"));
            if is_wanted(&shown) {
                return shown;
            }
            assert!(Instant::now() < deadline, "not as wanted:\n{shown}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn press(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    pub fn wait_for_end(mut self) {
        self.wait_for("\x1b[?1049l");
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it did not end");
            thread::sleep(Duration::from_millis(5));
        }
        assert!(self.child.wait().unwrap().success());
    }
}

/// What a frame shows that was written as a whole.
fn screen(frame: &str) -> String {
    let mut rows = vec![vec![' '; 80]; 24];
    let (mut x, mut y) = (0, 0);
    let mut rest = frame;
    while let Some(sign) = rest.chars().next() {
        if let Some(sequence) = rest.strip_prefix("\x1b[") {
            let end = sequence.find(|sign: char| sign.is_ascii_alphabetic()).unwrap();
            if sequence[end..].starts_with('H') {
                let (row, column) = sequence[..end].split_once(';').unwrap();
                (y, x) = (row.parse::<usize>().unwrap() - 1, column.parse::<usize>().unwrap() - 1);
            }
            rest = &sequence[end + 1..];
            continue;
        }
        rows[y][x] = sign;
        x += 1;
        rest = &rest[sign.len_utf8()..];
    }
    let lines: Vec<String> = rows.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned()).collect();
    lines.join("\n")
}
