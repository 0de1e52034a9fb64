//! What the families share in reading: polling heim, and parsing the bytes that heim leaves out.

use std::borrow::Cow;
use std::fmt::Display;
use std::future::Future;

use heim::units::Information;

use crate::record::ABSENT;
use crate::sampler::SampleError;

/// An error about `what`.
pub(super) fn failed(what: &'static str, cause: impl Display) -> SampleError {
    SampleError { what, cause: cause.to_string() }
}

/// Calls `parse` with this tick's bytes of the file `name` below procfs' root.
pub(super) fn with_proc<T>(
    name: &'static str,
    parse: impl FnOnce(&[u8]) -> Result<T, SampleError>,
) -> Result<T, SampleError> {
    heim_runtime::snapshot::with_proc(name, parse).map_err(|error| failed(name, error))?
}

/// Reads files below procfs' root that are parsed one after the other, before the first of them is.
pub(super) fn read_ahead(names: impl IntoIterator<Item = &'static str>) {
    heim_runtime::snapshot::read_ahead_proc(names);
}

/// Calls `look` with this tick's bytes of the file `path` below sysfs' root.
pub(super) fn with_sys<T>(path: &str, look: impl FnOnce(&[u8]) -> T) -> std::io::Result<T> {
    heim_runtime::snapshot::with_sys(path, look)
}

/// What a call of heim gives; its futures are ready when they are first polled.
pub(super) fn poll<T>(future: impl Future<Output = T>) -> Result<T, SampleError> {
    heim_runtime::ready(future).map_err(|error| failed("heim", error))
}

/// Takes rows one by one and keeps the first error, so that one bad row costs no other.
#[derive(Debug, Default)]
pub(super) struct Outcome(Option<SampleError>);

impl Outcome {
    /// Notes that something about `what` could not be read.
    pub(super) fn fail(&mut self, what: &'static str, cause: impl Display) {
        self.0.get_or_insert_with(|| failed(what, cause));
    }

    /// Notes the error of a part.
    pub(super) fn note(&mut self, part: Result<(), SampleError>) {
        if let (None, Err(error)) = (&self.0, part) {
            self.0 = Some(error);
        }
    }

    /// The first error, if there was one.
    pub(super) fn into_result(self) -> Result<(), SampleError> {
        self.0.map_or(Ok(()), Err)
    }
}

/// The lines of `bytes`, without their ends. What follows the last end is none: the kernel ends every line, so that was
/// cut, and a cut number looks like a number.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest)?;
        let (line, after) = (rest.get(..end)?, rest.get(end + 1..)?);
        rest = after;
        Some(line)
    })
}

/// The words of `line`, which blanks separate.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// The two sides of the first `=` in `word`.
pub(super) fn pair(word: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = word.iter().position(|byte| *byte == b'=')?;
    Some((&word[..equals], &word[equals + 1..]))
}

/// The decimal number that `word` is. The kernel counts unsigned; what an `i64` cannot hold becomes its greatest.
pub(super) fn number(word: &[u8]) -> Option<i64> {
    /// Of no more digits than this, no number is beyond an `i64`.
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

/// Whether a number in `text` has 17 digits or more; where the longest has 12 to 16, either is said.
///
/// heim multiplies such numbers by 512 or 1000 and beyond 2^64, where they wrap or panic. A thousand times the greatest of
/// fewer digits is below it.
///
/// Of 17 bytes in a row, three groups of four are whole in the text's groups of four.
pub(super) fn has_long_number(text: &[u8]) -> bool {
    const GROUPS: usize = 3;
    // The high halves of digits, and of some other characters.
    let is_digits = |group: &[u8; 4]| u32::from_ne_bytes(*group) & 0xf0f0_f0f0 == 0x3030_3030;
    let mut run = 0;
    text.as_chunks().0.iter().any(|group| {
        run = if is_digits(group) { run + 1 } else { 0 };
        run == GROUPS
    })
}

/// The next word as a number; [`ABSENT`] when there is none.
pub(super) fn next_number<'a>(words: &mut impl Iterator<Item = &'a [u8]>) -> i64 {
    words.next().and_then(number).unwrap_or(ABSENT)
}

/// A count as heim has it. What an `i64` cannot hold becomes its greatest.
pub(super) fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Bytes as heim has them, which is how they are kept: asking for them as bytes would divide fractions.
pub(super) fn bytes(information: Information) -> i64 {
    count(information.value)
}

/// `value` in a unit that is `factor` times finer; absent stays absent.
pub(super) fn scaled(value: i64, factor: i64) -> i64 {
    if value == ABSENT { ABSENT } else { value.saturating_mul(factor) }
}

/// The text of `bytes`, with replacement characters for what is not UTF-8; only then it allocates.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
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
        assert_eq!(pair(b"a=b=c"), Some((&b"a"[..], &b"b=c"[..])));
        assert_eq!((pair(b"="), pair(b"a")), (Some((&b""[..], &b""[..])), None));
    }

    #[test]
    fn numbers_are_digits_only_and_never_wrap() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(number(b"18446744073709551615"), Some(i64::MAX));
        for bad in [&b""[..], b"-1", b"+1", b"1.5", b"1k"] {
            assert_eq!(number(bad), None);
        }
        assert_eq!(count(u64::MAX), i64::MAX);
        assert_eq!((scaled(ABSENT, 1000), scaled(7, 1000), scaled(i64::MAX, 2)), (ABSENT, 7000, i64::MAX));
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

    #[test]
    fn the_first_error_is_kept() {
        let mut outcome = Outcome::default();
        outcome.fail("stat", "one");
        outcome.fail("stat", "two");
        assert_eq!(outcome.into_result().unwrap_err().to_string(), "read stat: one");
        assert!(Outcome::default().into_result().is_ok());
    }
}
