//! Keys and the mouse, from the bytes that a terminal sends (xterm's control sequences, SGR mouse reports).

/// What somebody did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Char(char),
    Ctrl(char),
    Arrow(Arrow, Held),
    Home,
    End,
    PageUp,
    PageDown,
    Enter,
    Tab,
    BackTab,
    Backspace,
    Escape,
    Help,
    Mouse(Mouse, u16, u16),
    Focus(bool),
    /// The terminal's background: red, green and blue, each of 0xffff.
    Background([u16; 3]),
}

/// Which arrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrow {
    Up,
    Down,
    Left,
    Right,
}

/// What was held with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Nothing,
    Shift,
    Ctrl,
}

/// What the mouse did, at a column and a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mouse {
    Press,
    Drag,
    Release,
    WheelUp,
    WheelDown,
}

/// Bytes that are not understood yet.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    bytes: Vec<u8>,
}

/// What the front of the bytes is.
enum Front {
    Input(Option<Input>, usize),
    /// More bytes may come.
    Unfinished,
}

/// No sequence is longer.
const SEQUENCE_BYTES_MAX: usize = 32;

impl Decoder {
    /// Takes bytes and gives what they are. An escape at the end may be the begin of a sequence.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Input> {
        self.bytes.extend_from_slice(bytes);
        let mut inputs = Vec::new();
        while !self.bytes.is_empty() {
            let Front::Input(input, used) = front(&self.bytes) else { break };
            inputs.extend(input);
            self.bytes.drain(..used.max(1));
        }
        inputs
    }

    /// Nothing more came: what is unfinished is the key Escape.
    pub(super) fn end(&mut self) -> Option<Input> {
        // The rest of an answer comes, and is no key.
        if self.bytes.starts_with(b"\x1b]") && self.bytes.len() > 2 {
            return None;
        }
        let is_escape = self.bytes.first() == Some(&0x1b);
        self.bytes.clear();
        is_escape.then_some(Input::Escape)
    }

    /// Whether it waits for more bytes.
    pub(super) fn is_waiting(&self) -> bool {
        !self.bytes.is_empty()
    }
}

fn front(bytes: &[u8]) -> Front {
    let one = |input| Front::Input(Some(input), 1);
    match bytes[0] {
        0x1b => sequence(bytes),
        b'\r' | b'\n' => one(Input::Enter),
        b'\t' => one(Input::Tab),
        0x7f | 0x08 => one(Input::Backspace),
        byte @ 1..=26 => one(Input::Ctrl(char::from(byte - 1 + b'a'))),
        0 | 28..=31 => Front::Input(None, 1),
        first => {
            let length = match first {
                0x00..0x80 => 1,
                0xc0..0xe0 => 2,
                0xe0..0xf0 => 3,
                0xf0..0xf8 => 4,
                _ => return Front::Input(None, 1),
            };
            let Some(bytes) = bytes.get(..length) else { return Front::Unfinished };
            let text = std::str::from_utf8(bytes).ok().and_then(|text| text.chars().next());
            Front::Input(text.map(Input::Char), length)
        }
    }
}

fn sequence(bytes: &[u8]) -> Front {
    match bytes.get(1) {
        None => Front::Unfinished,
        Some(b'O') => match bytes.get(2) {
            None => Front::Unfinished,
            Some(last) => Front::Input(letter(*last, Held::Nothing), 3),
        },
        Some(b'[') => {
            let Some(end) = bytes.iter().skip(2).position(|byte| (0x40..=0x7e).contains(byte)) else {
                return if bytes.len() > SEQUENCE_BYTES_MAX {
                    Front::Input(None, bytes.len())
                } else {
                    Front::Unfinished
                };
            };
            let end = end + 2;
            let parameters = std::str::from_utf8(&bytes[2..end]).unwrap_or_default();
            Front::Input(control(parameters, bytes[end]), end + 1)
        }
        Some(b']') => string(bytes),
        Some(0x1b) => Front::Input(Some(Input::Escape), 1),
        // With Alt: the key alone.
        Some(_) => Front::Input(None, 1),
    }
}

/// An answer of the terminal: `11;rgb:0000/0000/0000`, ended by a bell or an escape and a backslash.
fn string(bytes: &[u8]) -> Front {
    let Some(end) = bytes.iter().skip(2).position(|byte| matches!(byte, 0x07 | 0x1b)) else {
        return if bytes.len() > SEQUENCE_BYTES_MAX { Front::Input(None, bytes.len()) } else { Front::Unfinished };
    };
    let end = end + 2;
    let after = match (bytes[end], bytes.get(end + 1)) {
        (0x1b, None) => return Front::Unfinished,
        (0x1b, Some(b'\\')) => end + 2,
        (0x1b, Some(_)) => end,
        _ => end + 1,
    };
    let text = std::str::from_utf8(&bytes[2..end]).unwrap_or_default();
    let parts: Vec<&str> = text.strip_prefix("11;rgb:").unwrap_or_default().split('/').collect();
    let input = match parts[..] {
        [red, green, blue] => part(red).zip(part(green)).zip(part(blue)),
        _ => None,
    };
    Front::Input(input.map(|((red, green), blue)| Input::Background([red, green, blue])), after)
}

/// A part of a colour, of one to four hexadecimal digits.
fn part(digits: &str) -> Option<u16> {
    let most = (1_u32 << (4 * u32::try_from(digits.len()).ok().filter(|count| (1..=4).contains(count))?)) - 1;
    let value = u32::from_str_radix(digits, 16).ok()?;
    u16::try_from(value * 0xffff / most).ok()
}

fn control(parameters: &str, last: u8) -> Option<Input> {
    if let Some(report) = parameters.strip_prefix('<') {
        return mouse(report, last);
    }
    let mut numbers = parameters.split(';').map(|number| number.parse::<u16>().unwrap_or(0));
    let first = numbers.next().unwrap_or(0);
    let held = match numbers.next() {
        Some(2) => Held::Shift,
        Some(5) => Held::Ctrl,
        _ => Held::Nothing,
    };
    match (last, first) {
        (b'I', _) => Some(Input::Focus(true)),
        (b'O', _) => Some(Input::Focus(false)),
        (b'Z', _) => Some(Input::BackTab),
        (b'~', 1 | 7) => Some(Input::Home),
        (b'~', 4 | 8) => Some(Input::End),
        (b'~', 5) => Some(Input::PageUp),
        (b'~', 6) => Some(Input::PageDown),
        (b'~', 11) => Some(Input::Help),
        (b'~', _) => None,
        (last, _) => letter(last, held),
    }
}

fn letter(last: u8, held: Held) -> Option<Input> {
    Some(match last {
        b'A' => Input::Arrow(Arrow::Up, held),
        b'B' => Input::Arrow(Arrow::Down, held),
        b'C' => Input::Arrow(Arrow::Right, held),
        b'D' => Input::Arrow(Arrow::Left, held),
        b'H' => Input::Home,
        b'F' => Input::End,
        b'P' => Input::Help,
        _ => return None,
    })
}

/// `button;column;row`, from 1 on.
fn mouse(report: &str, last: u8) -> Option<Input> {
    let mut numbers = report.split(';').map(|number| number.parse::<u16>().ok());
    let (button, x, y) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let mouse = match (button & !0b1_1100, last) {
        (64, b'M') => Mouse::WheelUp,
        (65, b'M') => Mouse::WheelDown,
        (0, b'M') => Mouse::Press,
        (0, b'm') => Mouse::Release,
        (32, b'M') => Mouse::Drag,
        _ => return None,
    };
    Some(Input::Mouse(mouse, x.saturating_sub(1), y.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Vec<Input> {
        Decoder::default().take(bytes)
    }

    #[test]
    fn sequences_are_keys_and_the_mouse() {
        assert_eq!(
            of(b"q\x1b[A\x1b[1;2C\x1b[1;5D\x1bOB"),
            [
                Input::Char('q'),
                Input::Arrow(Arrow::Up, Held::Nothing),
                Input::Arrow(Arrow::Right, Held::Shift),
                Input::Arrow(Arrow::Left, Held::Ctrl),
                Input::Arrow(Arrow::Down, Held::Nothing),
            ]
        );
        assert_eq!(
            of(b"\x1b[<0;30;5M\x1b[<0;30;5m\x1b[<65;1;1M"),
            [
                Input::Mouse(Mouse::Press, 29, 4),
                Input::Mouse(Mouse::Release, 29, 4),
                Input::Mouse(Mouse::WheelDown, 0, 0),
            ]
        );
        assert_eq!(
            of("ü\x03\r\t\x7f\x1b[H\x1b[6~\x1bOP\x1b[O".as_bytes()),
            [
                Input::Char('ü'),
                Input::Ctrl('c'),
                Input::Enter,
                Input::Tab,
                Input::Backspace,
                Input::Home,
                Input::PageDown,
                Input::Help,
                Input::Focus(false),
            ]
        );
    }

    #[test]
    fn sequences_may_come_in_parts_and_an_escape_alone_is_a_key() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.take(b"\x1b"), []);
        assert_eq!(decoder.take(b"[1;"), []);
        assert_eq!(decoder.take(b"5C"), [Input::Arrow(Arrow::Right, Held::Ctrl)]);
        assert!(!decoder.is_waiting());
        assert_eq!(decoder.take(b"\x1b"), []);
        assert_eq!(decoder.end(), Some(Input::Escape));
    }

    #[test]
    fn the_terminal_tells_its_background() {
        assert_eq!(
            of(b"\x1b]11;rgb:ffff/8080/0000\x1b\\q"),
            [Input::Background([0xffff, 0x8080, 0]), Input::Char('q')]
        );
        assert_eq!(of(b"\x1b]11;rgb:ff/80/0\x07"), [Input::Background([0xffff, 0x8080, 0])]);
        assert_eq!(of(b"\x1b]11;rgba:1/2/3/4\x07j\x1b]4;x\x07"), [Input::Char('j')]);
        let mut decoder = Decoder::default();
        assert_eq!(decoder.take(b"\x1b]11;rgb:0000/00"), []);
        assert_eq!(decoder.take(b"00/0000\x1b"), []);
        assert_eq!(decoder.take(b"\\"), [Input::Background([0, 0, 0])]);
    }

    #[test]
    fn any_bytes_are_taken() {
        let mut decoder = Decoder::default();
        for byte in 0..=255_u8 {
            decoder.take(&[0x1b, b'[', byte, byte, 0xff, byte]);
        }
        for _ in 0..100 {
            decoder.take(b"\x1b[11111111111111111111111111111111111");
        }
        assert!(decoder.bytes.len() < 200, "{}", decoder.bytes.len());
    }
}
