//! What leaves the view: a screen as a file, and the command that shows the same again.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;

use super::choice::Screen;
use super::picture::Picture;
use crate::words::duration;

/// The most files of one second.
const FILES_MAX: usize = 100;

/// Writes a screen to a new file in the folder of the shell. Gives its name.
///
/// # Errors
/// When the folder cannot be written.
pub(super) fn write(text: &str, picture: &Picture) -> io::Result<String> {
    let at_us = picture.at_us.unwrap_or(picture.now_us);
    let time = Timestamp::from_microsecond(at_us).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ").to_string();
    let host: String = picture.host.chars().map(|sign| if sign.is_ascii_alphanumeric() { sign } else { '-' }).collect();
    let mut last = None;
    for number in 1..=FILES_MAX {
        let more = if number == 1 { String::new() } else { format!("-{number}") };
        let name = format!("kymo-top-{host}-{time}{more}.txt");
        match File::create_new(&name) {
            Ok(mut file) => return file.write_all(text.as_bytes()).map(|()| name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into()))
}

/// The command that shows the same moment on the same screen. `source` says where the rows are.
pub(super) fn command(picture: &Picture, screen: Screen, source: &[String]) -> String {
    let length = Duration::from_micros(u64::try_from(picture.window.length_us()).unwrap_or(0));
    let mut words = vec!["kymo".to_owned(), "top".to_owned()];
    words.extend(source.iter().cloned());
    words.extend(["--window".to_owned(), duration(length).replace(' ', "")]);
    let at_us = picture.at_us.unwrap_or(picture.now_us);
    words.extend(["--at".to_owned(), Timestamp::from_microsecond(at_us).unwrap_or_default().to_string()]);
    if screen != Screen::default() {
        words.extend(["--screen".to_owned(), screen.digit().to_string()]);
    }
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |sign: char| sign.is_alphanumeric() || "-_./:=,@+".contains(sign);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The control sequence that gives a text to the clipboard (OSC 52).
pub(super) fn to_clipboard(text: &str) -> String {
    format!("\x1b]52;c;{}\x07", base64(text.as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let sign = SIGNS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= three.len() { char::from(sign) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::fixture::picture;

    #[test]
    fn the_command_shows_the_same_moment() {
        let picture = picture(36, true);
        let source = ["--data".to_owned(), "it's here".to_owned()];
        let text = command(&picture, Screen::default(), &source);
        assert_eq!(text, r"kymo top --data 'it'\''s here' --window 1m12s --at 2026-11-25T14:31:32Z");
        assert!(command(&picture, Screen::Cgroups, &source).ends_with(" --screen 3"));
    }

    #[test]
    fn the_clipboard_gets_base64() {
        assert_eq!(
            ["", "f", "fo", "foo", "kymo"].map(|text| base64(text.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "a3ltbw=="]
        );
        assert_eq!(to_clipboard("foo"), "\x1b]52;c;Zm9v\x07");
    }
}
