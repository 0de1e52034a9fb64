//! PNG files (the W3C's recommendation of 2003), with the compression that Parquet files have already.

use std::io::{self, Write};

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Bytes of a pixel: red, green and blue.
const PIXEL_BYTES: usize = 3;
/// Eight bits for each colour, in full colour, compressed, filtered and not interlaced.
const FORMAT: [u8; 5] = [8, 2, 0, 0, 0];
/// The filter that tells each byte by how much it differs from that of the pixel above, which suits flat colours.
const UP: u8 = 2;

/// A file of these pixels, row by row, of this width and height.
///
/// # Errors
/// When they cannot be compressed, which would be a bug.
pub(super) fn encode(pixels: &[u8], (width, height): (u32, u32)) -> io::Result<Vec<u8>> {
    let row_bytes = width as usize * PIXEL_BYTES;
    let mut compressed = ZlibEncoder::new(Vec::new(), Compression::best());
    let mut above = vec![0; row_bytes];
    let mut filtered = Vec::with_capacity(row_bytes + 1);
    for row in pixels.chunks_exact(row_bytes) {
        filtered.clear();
        filtered.push(UP);
        filtered.extend(row.iter().zip(&above).map(|(byte, above)| byte.wrapping_sub(*above)));
        compressed.write_all(&filtered)?;
        above.copy_from_slice(row);
    }
    let mut head = [width.to_be_bytes(), height.to_be_bytes()].concat();
    head.extend(FORMAT);
    let mut file = SIGNATURE.to_vec();
    add(&mut file, *b"IHDR", &head)?;
    add(&mut file, *b"IDAT", &compressed.finish()?)?;
    add(&mut file, *b"IEND", &[])?;
    Ok(file)
}

/// Adds a chunk: its length, name, bytes, and the checksum of name and bytes.
fn add(file: &mut Vec<u8>, name: [u8; 4], bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("the image is too large"))?;
    let mut checksum = Crc::new();
    checksum.update(&name);
    checksum.update(bytes);
    file.extend(length.to_be_bytes());
    file.extend(name);
    file.extend(bytes);
    file.extend(checksum.sum().to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::ZlibDecoder;

    use super::*;

    #[test]
    fn pixels_come_back() {
        let pixels = [9, 8, 7, 6, 5, 4, 3, 2, 1, 255, 0, 1];
        let file = encode(&pixels, (2, 2)).unwrap();
        assert!(file.starts_with(&SIGNATURE));
        // What any PNG file ends with.
        assert!(file.ends_with(b"\0\0\0\0IEND\xae\x42\x60\x82"));
        assert_eq!(file[8..29], *b"\0\0\0\x0dIHDR\0\0\0\x02\0\0\0\x02\x08\x02\0\0\0");
        let length = u32::from_be_bytes(file[33..37].try_into().unwrap()) as usize;
        let mut rows = Vec::new();
        ZlibDecoder::new(&file[41..41 + length]).read_to_end(&mut rows).unwrap();
        let mut read = Vec::new();
        for (at, row) in rows.chunks_exact(7).enumerate() {
            assert_eq!(row[0], UP);
            let above = if at == 0 { vec![0; 6] } else { read[read.len() - 6..].to_vec() };
            read.extend(row[1..].iter().zip(above).map(|(byte, above): (&u8, u8)| byte.wrapping_add(above)));
        }
        assert_eq!(read, pixels);
    }
}
