//! A column as a block: `web/block.js` reads it.
//!
//! First come the lengths of stretches of rows with and without values, by turns, and before them how many there are. Then come the
//! values: whole ones as differences from the value before in their series, in as few bytes as they need; those with a fraction as bits
//! that differ from the value before, the lowest bytes of all of them first.

use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

/// A browser counts in doubles, and the sign takes a bit.
const WHOLE_MAX: u64 = 1 << 52;
/// Higher levels save 2 % and take twice the time.
const LEVEL: u32 = 6;

/// The values of a column, in the order of series and time.
#[derive(Debug)]
pub(super) enum Values {
    Wholes(Vec<Option<i64>>),
    Floats(Vec<Option<f64>>),
}

/// A column that is packed.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) is_float: bool,
    /// As base64 of gzip.
    pub(super) text: String,
}

impl Values {
    /// Packs them. `rows` has how many each series has.
    pub(super) fn pack(self, rows: &[usize]) -> Block {
        let (is_float, bytes) = match self {
            Values::Wholes(values) if values.iter().flatten().all(|value| value.unsigned_abs() < WHOLE_MAX) => {
                (false, wholes(&values, rows))
            }
            // The nearest numbers that a browser has.
            Values::Wholes(values) => {
                (true, floats(&values.into_iter().map(|value| value.map(|of| of as f64)).collect::<Vec<_>>(), rows))
            }
            Values::Floats(values) => (
                true,
                floats(&values.into_iter().map(|value| value.filter(|of| !of.is_nan())).collect::<Vec<_>>(), rows),
            ),
        };
        Block { is_float, text: gzipped(&bytes) }
    }
}

/// Bytes as base64 of gzip.
fn gzipped(bytes: &[u8]) -> String {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    // A vector takes all.
    let packed = encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default();
    BASE64_STANDARD.encode(packed)
}

fn wholes(values: &[Option<i64>], rows: &[usize]) -> Vec<u8> {
    let mut bytes = stretches(values);
    for own in series(values, rows) {
        let mut before = 0_i64;
        for value in own.iter().copied().flatten() {
            let step = value.wrapping_sub(before);
            before = value;
            // The sign is the lowest bit.
            varint((step.wrapping_shl(1) ^ (step >> 63)).cast_unsigned(), &mut bytes);
        }
    }
    bytes
}

fn floats(values: &[Option<f64>], rows: &[usize]) -> Vec<u8> {
    let mut words = Vec::with_capacity(values.len());
    for own in series(values, rows) {
        let mut before = 0_u64;
        for value in own.iter().flatten() {
            words.push(value.to_bits() ^ before);
            before = value.to_bits();
        }
    }
    let mut bytes = stretches(values);
    for plane in 0..size_of::<u64>() {
        bytes.extend(words.iter().map(|word| word.to_le_bytes()[plane]));
    }
    bytes
}

/// The values of each series.
fn series<'a, T>(values: &'a [T], rows: &'a [usize]) -> impl Iterator<Item = &'a [T]> {
    rows.iter().scan(values, |rest, count| {
        let (own, more) = rest.split_at(*count);
        *rest = more;
        Some(own)
    })
}

/// The lengths of stretches of rows with and without a value, by turns; none where all have one.
fn stretches<T>(values: &[Option<T>]) -> Vec<u8> {
    let mut lengths: Vec<usize> = Vec::new();
    if values.iter().any(Option::is_none) {
        lengths.extend(values.first().is_some_and(Option::is_none).then_some(0));
        lengths.extend(values.chunk_by(|one, next| one.is_some() == next.is_some()).map(<[_]>::len));
    }
    let mut bytes = Vec::new();
    varint(lengths.len() as u64, &mut bytes);
    lengths.into_iter().for_each(|length| varint(length as u64, &mut bytes));
    bytes
}

/// 7 bits a byte, the lowest first; all but the last have the highest bit.
fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 128 {
        bytes.push(value.to_le_bytes()[0] | 128);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_differences_within_their_series() {
        let values = [Some(1_000), Some(999), None, Some(1_001), Some(-1)];
        // Two with a value, one without, two with one; 1000, -1, +2; -1 of another series.
        assert_eq!(wholes(&values, &[4, 1]), [3, 2, 1, 2, 0xd0, 0x0f, 1, 4, 1]);
        assert_eq!(wholes(&[None, Some(0)], &[2]), [3, 0, 1, 1, 0]);
        assert_eq!(wholes(&[Some(5), Some(5)], &[1, 1]), [0, 10, 10]);
    }

    #[test]
    fn numbers_with_a_fraction_are_planes_of_changed_bits() {
        let bytes = floats(&[Some(1.5), None, Some(1.5)], &[3]);
        assert_eq!(bytes[..4], [3, 1, 1, 1]);
        let planes: Vec<&[u8]> = bytes[4..].chunks(2).collect();
        assert_eq!(planes[6..], [[0xf8, 0], [0x3f, 0]]);
        assert!(planes[..6].iter().all(|plane| *plane == [0, 0]));
    }

    #[test]
    fn what_a_browser_cannot_count_is_a_float() {
        let of = |value: i64| Values::Wholes(vec![Some(value)]).pack(&[1]).is_float;
        assert!(!of(4_000_000_000_000_000) && of(i64::MAX) && of(i64::MIN));
    }
}
