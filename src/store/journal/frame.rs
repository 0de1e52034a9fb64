//! The journal's format on disk, version 1.
//!
//! A segment is the eight bytes `KYMOJNL1` and then frames, one after the other. All numbers are little-endian. A frame:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | CRC32C (RFC 3720, appendix B.4) of all that follows in the frame |
//! | 4 | 4 | length of the body |
//! | 8 | 1 | kind |
//! | 9 | 1 | 0 |
//! | 10 | 2 | number of the table within the segment |
//! | 12 | 4 | count |
//! | 16 | 8 | sequence |
//! | 24 | … | body |
//!
//! | kind | count | sequence | body |
//! |---|---|---|---|
//! | 1, segment: the first frame | 0 | number of the segment | the name of the host, UTF-8 |
//! | 2, table: before the first rows of a table | columns | 0 | lines of UTF-8: the table's name, then a line a column, its name and after a blank its type: `timestamp_us`, `text`, `int64` or `float64` |
//! | 3, labels: before the first rows that use them | texts | key of the first text | for each text its length in bytes, 4 bytes, and the text, UTF-8; keys count from 0 for each table of a segment |
//! | 4, rows | rows | sequence number of the first row | column by column in the table's order, 8 bytes a row, for a text 4: its key. An absent `int64` is the least, an absent `float64` not a number |
//!
//! A frame with a right checksum is whole. Reading a segment ends at the first frame that is not whole.

use std::ops::RangeInclusive;

/// The first bytes of a segment.
pub const MAGIC: [u8; 8] = *b"KYMOJNL1";
/// Length of a frame's header.
pub const HEADER_BYTES: usize = 24;
/// No body is longer: kymo writes none.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// Rows of a frame at most.
pub const ROWS_MAX: usize = 65_536;
/// Bytes of a row at most, and at least: every row has a time.
pub const ROW_BYTES: RangeInclusive<usize> = 8..=4_096;
/// Bytes of a host's name or of a table's description at most.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Whose segment it is.
    Segment = 1,
    /// A table's columns.
    Table = 2,
    /// Texts of a table's labels.
    Labels = 3,
    /// Rows of a table.
    Rows = 4,
}

/// A frame's header without checksum and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame holds.
    pub kind: Kind,
    /// The table within the segment.
    pub table: u16,
    /// Columns, texts or rows.
    pub count: u32,
    /// The segment's number, the first text's key, or the first row's sequence number.
    pub sequence: u64,
}

/// Why a frame cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The segment ends within the frame.
    #[error("the segment ends within a frame")]
    Cut,
    /// The checksum is not that of the bytes.
    #[error("the checksum of a frame is wrong")]
    Checksum,
    /// The checksum is right, but this version does not write such a frame.
    #[error("a frame has {0}")]
    Unknown(&'static str),
}

/// Adds a frame to `out`. `body` adds its body.
pub fn append(out: &mut Vec<u8>, header: Header, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[header.kind as u8, 0]);
    out.extend_from_slice(&header.table.to_le_bytes());
    out.extend_from_slice(&header.count.to_le_bytes());
    out.extend_from_slice(&header.sequence.to_le_bytes());
    body(out);
    let Some(frame) = out.get_mut(start..) else { return };
    let len = u32::try_from(frame.len() - HEADER_BYTES).unwrap_or(u32::MAX);
    frame[4..8].copy_from_slice(&len.to_le_bytes());
    let checksum = crc32c::crc32c(&frame[4..]);
    frame[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// A frame that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub header: Header,
    /// What it holds.
    pub body: &'a [u8],
    /// What follows it.
    pub rest: &'a [u8],
}

/// The first frame of `bytes`; `None` at the end.
///
/// # Errors
/// When it is not whole, or not of this version.
pub fn next(bytes: &[u8]) -> Result<Option<Frame<'_>>, Broken> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Broken::Cut)?;
    let len = length(header);
    if len > BODY_BYTES_MAX {
        return Err(Broken::Checksum);
    }
    let (body, rest) = rest.split_at_checked(len).ok_or(Broken::Cut)?;
    if crc32c::crc32c_append(crc32c::crc32c(&header[4..]), body) != word(header, 0) {
        return Err(Broken::Checksum);
    }
    let kind = match header[8] {
        1 => Kind::Segment,
        2 => Kind::Table,
        3 => Kind::Labels,
        4 => Kind::Rows,
        _ => return Err(Broken::Unknown("a kind that this version does not know")),
    };
    let table = u16::from_le_bytes([header[10], header[11]]);
    Ok(Some(Frame { header: Header { kind, table, count: word(header, 12), sequence: sequence(header) }, body, rest }))
}

/// The length of the body, if `bytes` begin with a header that kymo may have written and are long enough for the body. Other
/// bytes hardly ever look like such a header, so this saves computing checksums where no frame begins.
#[must_use]
pub fn possible_body(bytes: &[u8]) -> Option<usize> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let (len, count) = (length(header), usize::try_from(word(header, 12)).ok()?);
    let fits = header[9] == 0 && len <= rest.len() && sequence(header) <= i64::MAX.cast_unsigned();
    let is_possible = fits
        && match header[8] {
            1 => count == 0 && len <= TEXT_BYTES_MAX && header[10..12] == [0, 0],
            2 => count <= len && len <= TEXT_BYTES_MAX && sequence(header) == 0,
            3 => count > 0 && count.checked_mul(4).is_some_and(|least| least <= len) && len <= BODY_BYTES_MAX,
            4 => (1..=ROWS_MAX).contains(&count) && len % count == 0 && ROW_BYTES.contains(&(len / count)),
            _ => false,
        };
    is_possible.then_some(len)
}

fn word(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn length(header: &[u8; HEADER_BYTES]) -> usize {
    usize::try_from(word(header, 4)).unwrap_or(usize::MAX)
}

fn sequence(header: &[u8; HEADER_BYTES]) -> u64 {
    u64::from(word(header, 16)) | u64::from(word(header, 20)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sequence: u64) -> Header {
        Header { kind: Kind::Rows, table: 7, count: 3, sequence }
    }

    #[test]
    fn frames_are_read_back_in_order() {
        let mut bytes = Vec::new();
        append(&mut bytes, header(1), |body| body.extend_from_slice(b"one"));
        append(&mut bytes, header(u64::MAX - 5), |_| {});
        let first = next(&bytes).unwrap().unwrap();
        assert_eq!((first.header, first.body), (header(1), &b"one"[..]));
        let second = next(first.rest).unwrap().unwrap();
        assert_eq!((second.header, second.body, second.rest), (header(u64::MAX - 5), &b""[..], &b""[..]));
        assert_eq!(next(second.rest), Ok(None));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let mut bytes = Vec::new();
        append(&mut bytes, header(9), |body| body.extend_from_slice(b"some rows"));
        for len in 1..bytes.len() {
            assert_eq!(next(&bytes[..len]), Err(Broken::Cut));
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                assert!(next(&bytes).is_err(), "byte {at}, bit {bit}");
                bytes[at] ^= 1 << bit;
            }
        }
        assert!(next(&[0; 4096]).is_err(), "a page that the file system never wrote");
    }
}
