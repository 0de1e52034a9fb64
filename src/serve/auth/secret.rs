//! A token, and what is kept of it.
//!
//! A token has 256 random bits, so nobody guesses one, and a plain SHA-256 is enough at rest: there are no likely tokens to try.

use std::fmt::{self, Write};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// What every token begins with, so that people and scanners of repositories recognize one.
const PREFIX: &str = "kymo_";
const RANDOM_BYTES: usize = 32;
const DIGEST_BYTES: usize = 32;
/// Nothing longer is taken for a token.
const BYTES_MAX: usize = 256;

/// A token as its owner has it. It is not shown by `{:?}`.
pub struct Secret(String);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// When the kernel has no random numbers.
    pub fn generate() -> Result<Secret, getrandom::Error> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random)?;
        Ok(Secret(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random))))
    }

    /// The text that its owner shows.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}…")
    }
}

/// The SHA-256 of a token.
#[derive(Clone, Copy, Debug)]
pub struct Digest([u8; DIGEST_BYTES]);

impl Digest {
    /// That of a text which a client shows as its token. `None` if it is too long for one.
    #[must_use]
    pub fn of(text: &str) -> Option<Digest> {
        (text.len() <= BYTES_MAX).then(|| Digest(Sha256::digest(text).into()))
    }

    /// Whether both are equal. It takes as long whether they are or not.
    #[must_use]
    pub fn is(&self, other: &Digest) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Two hexadecimal digits for each byte, as `sha256sum` prints them.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, byte| {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Reads hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Digest> {
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
        let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        let is_plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>()?;
        Some(Digest(bytes.try_into().ok().filter(|_| is_plain)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognized_and_has_256_random_bits() {
        let (one, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(one.text(), other.text());
        let random = one.text().strip_prefix("kymo_").unwrap();
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(random).unwrap().len(), 32);
        assert_eq!(format!("{one:?}"), "kymo_…");
    }

    #[test]
    fn a_digest_is_that_of_sha256sum() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = Digest::of("abc").unwrap();
        assert_eq!(digest.to_hex(), hex);
        assert!(Digest::from_hex(hex).unwrap().is(&digest));
        assert!(!Digest::of("abd").unwrap().is(&digest));
        for wrong in ["", "ab", &hex[1..], &format!("{hex}00"), &hex.replace('b', "+"), &hex.replace('b', "ä")] {
            assert!(Digest::from_hex(wrong).is_none(), "{wrong}");
        }
        assert!(Digest::of(&"x".repeat(257)).is_none());
    }
}
