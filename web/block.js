/** Blocks of a report: a column of a table, packed. They lie in the page as base64 of gzip. */

/** Bytes of a number with a fraction, each of which is in a plane with those of all other rows. */
const PLANES = 8;

/** A number of 7 bits a byte, the lowest first; up to 2^53. */
class Reader {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  whole() {
    let byte = this.bytes[this.at++],
      value = byte & 127;
    for (let scale = 128; byte & 128; scale *= 128) {
      byte = this.bytes[this.at++];
      value += (byte & 127) * scale;
    }
    return value;
  }

  /** The same with a sign in the lowest bit. */
  signed() {
    const value = this.whole();
    return value % 2 ? -(value + 1) / 2 : value / 2;
  }
}

/**
 * The values of a column, NaN where there is none. First come the lengths of stretches with and without values, by turns, and how
 * many there are; then the values: whole ones as differences within their series, those with a fraction as bits that differ from the
 * value before.
 * @param {Uint8Array} bytes @param {boolean} isFloat @param {number[]} rows of each series
 */
export function unpack(bytes, isFloat, rows) {
  const reader = new Reader(bytes),
    stretches = Array.from({ length: reader.whole() }, () => reader.whole()),
    values = new Float64Array(rows.reduce((sum, count) => sum + count, 0));
  let at = 0;
  stretches.forEach((length, index) => {
    if (index % 2) values.fill(NaN, at, at + length);
    at += length;
  });
  if (isFloat) floats(bytes.subarray(reader.at), values, rows);
  else wholes(reader, values, rows);
  return values;
}

/** @param {Reader} reader @param {Float64Array} values @param {number[]} rows */
function wholes(reader, values, rows) {
  let at = 0;
  for (const count of rows) {
    let value = 0;
    for (const end = at + count; at < end; at++) if (!Number.isNaN(values[at])) values[at] = value += reader.signed();
  }
}

/** @param {Uint8Array} bytes @param {Float64Array} values @param {number[]} rows */
function floats(bytes, values, rows) {
  const known = bytes.length / PLANES,
    words = new Uint32Array(values.buffer);
  const word = (/** @type {number} */ from, /** @type {number} */ one) =>
    bytes[from + one] | (bytes[from + known + one] << 8) | (bytes[from + 2 * known + one] << 16) | (bytes[from + 3 * known + one] << 24);
  let at = 0,
    next = 0;
  for (const count of rows) {
    let low = 0,
      high = 0;
    for (const end = at + count; at < end; at++) {
      if (Number.isNaN(values[at])) continue;
      words[2 * at] = low ^= word(0, next);
      words[2 * at + 1] = high ^= word(4 * known, next);
      next++;
    }
  }
}

/** The bytes of a block. @param {string} text */
export async function inflate(text) {
  const packed = Uint8Array.from(atob(text), letter => letter.charCodeAt(0)),
    plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(plain).arrayBuffer());
}
