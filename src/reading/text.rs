//! The text of the kernel's files: lines, words and numbers, parsed from bytes.

use std::borrow::Cow;

use crate::record::ABSENT;

/// The lines of `bytes`, without their ends. The kernel ends every line, so bytes after the last end are a line that
/// was cut. They are left out, as a cut number looks like a number.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest)?;
        let (line, after) = (rest.get(..end)?, rest.get(end + 1..)?);
        rest = after;
        Some(line)
    })
}

/// The words of `line`, which blanks separate.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// What stands between single blanks in `line`.
pub(crate) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b' ')
}

/// The two sides of the first `separator` in `bytes`.
pub(crate) fn cut(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// The two sides of the last `separator` in `bytes`.
pub(crate) fn cut_last(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().rposition(|byte| *byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// The decimal number in `word`. An unsigned one that an `i64` cannot hold becomes the greatest `i64`.
pub(crate) fn number(word: &[u8]) -> Option<i64> {
    /// No number of this many digits or fewer exceeds an `i64`.
    const DIGITS_SAFE: usize = 18;

    if word.is_empty() {
        return None;
    }
    let mut value = 0_i64;
    for byte in word {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = if word.len() <= DIGITS_SAFE {
            value * 10 + i64::from(digit)
        } else {
            value.saturating_mul(10).saturating_add(i64::from(digit))
        };
    }
    Some(value)
}

/// The number in `bytes`, which may be negative. `None` if an `i64` cannot hold it.
pub(crate) fn integer(bytes: &[u8]) -> Option<i64> {
    /// No number of this many bytes or fewer exceeds an `i64`.
    const BYTES_SAFE: usize = 18;

    if bytes.len() > BYTES_SAFE {
        return str::from_utf8(bytes).ok()?.parse().ok();
    }
    match bytes.strip_prefix(b"-") {
        Some(digits) => number(digits).map(|value| -value),
        None => number(bytes),
    }
}

/// The hundredths in `word`, a number with two decimals.
pub(crate) fn hundredths(word: &[u8]) -> Option<f64> {
    let (whole, [b'.', decimals @ ..]) = word.split_at_checked(word.len().checked_sub(3)?)? else { return None };
    Some(number(whole)? as f64 * 100.0 + number(decimals)? as f64)
}

/// The next word as a number; [`ABSENT`] when there is none.
pub(crate) fn next_number<'a>(words: &mut impl Iterator<Item = &'a [u8]>) -> i64 {
    words.next().and_then(number).unwrap_or(ABSENT)
}

/// The first `N` of `words` as numbers; `None` if one is missing or no number.
pub(crate) fn numbers<'a, const N: usize>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    for value in &mut numbers {
        *value = number(words.next()?)?;
    }
    Some(numbers)
}

/// Whether `text` has a number of 17 digits or more. If its longest has 12 to 16 digits, the answer may be either.
///
/// heim multiplies numbers by 512, so that long ones exceed 2^64 and wrap or panic; those of 16 digits do not.
/// Among 17 bytes in a row, at least three whole groups of four lie on the text's grid of four.
pub(crate) fn has_long_number(text: &[u8]) -> bool {
    const GROUPS: usize = 3;
    // The high halves of digits, and of some other characters.
    let is_digits = |group: &[u8; 4]| u32::from_ne_bytes(*group) & 0xf0f0_f0f0 == 0x3030_3030;
    let mut run = 0;
    text.as_chunks().0.iter().any(|group| {
        run = if is_digits(group) { run + 1 } else { 0 };
        run == GROUPS
    })
}

/// A copy of `line` with room for longer numbers, so that the line can later be replaced without allocating.
pub(crate) fn with_room(line: &[u8]) -> Vec<u8> {
    let mut copy = Vec::with_capacity(2 * line.len());
    copy.extend_from_slice(line);
    copy
}

/// The text of `bytes`, with replacement characters for bytes that are not UTF-8. Allocates only for those.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_words_are_what_stands_between_ends_and_blanks() {
        let found: Vec<&[u8]> = lines(b"a b\n\n c\ncut").collect();
        assert_eq!(found, [&b"a b"[..], b"", b" c"]);
        let found: Vec<&[u8]> = words(b"  8 \t 0 sda\r").collect();
        assert_eq!(found, [&b"8"[..], b"0", b"sda"]);
        assert_eq!(cut(b"a=b=c", b'='), Some((&b"a"[..], &b"b=c"[..])));
        assert_eq!((cut(b"=", b'='), cut(b"a", b'=')), (Some((&b""[..], &b""[..])), None));
    }

    #[test]
    fn numbers_are_digits_only_and_never_wrap() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(number(b"18446744073709551615"), Some(i64::MAX));
        for bad in [&b""[..], b"-1", b"+1", b"1.5", b"1k"] {
            assert_eq!(number(bad), None);
        }
    }

    #[test]
    fn integers_may_be_negative() {
        for (text, value) in [("0", 0), ("-40000", -40_000), ("9223372036854775807", i64::MAX)] {
            assert_eq!(integer(text.as_bytes()), Some(value));
        }
        for bad in ["", "-", "--1", "1.5", "1 2", "0x1", "9223372036854775808", "\u{fffd}"] {
            assert_eq!(integer(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(integer(b"\xff"), None);
    }

    #[test]
    fn long_numbers_are_found_wherever_they_stand() {
        for before in 0..8 {
            for after in 0..8 {
                let of = |digits| format!("{}{}{}", "x".repeat(before), "9".repeat(digits), "x".repeat(after));
                assert!((17..40).all(|digits| has_long_number(of(digits).as_bytes())), "{before}");
                assert!((0..12).all(|digits| !has_long_number(of(digits).as_bytes())), "{before}");
            }
        }
    }
}
