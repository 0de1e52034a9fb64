/** Streams of Arrow IPC as columns. Numbers lie in the answer as they can be drawn, so that nothing is parsed. */

/**
 * @typedef {object} Columns
 * @property {number} length
 * @property {string[]} names in their order
 * @property {Record<string, Float64Array>} numbers numbers and times (µs); NaN where there is none
 * @property {Record<string, string[]>} texts empty where there is none
 */
/** @typedef {{name: string, type: number, isFloat: boolean}} Field */

const CONTINUATION = 0xffffffff,
  SCHEMA = 1,
  BATCH = 3,
  /** Kinds of types, as Arrow's Schema.fbs numbers them. */
  INT = 2,
  FLOAT = 3,
  TEXT = 5,
  TIMESTAMP = 10,
  DOUBLE = 2,
  STRUCT_BYTES = 16;

/** A table of a flatbuffer. */
class Table {
  /** @param {DataView} bytes @param {number} at */
  constructor(bytes, at) {
    this.bytes = bytes;
    this.at = at;
  }
  /** Where a field is, or 0. @param {number} index */
  place(index) {
    const lists = this.at - this.bytes.getInt32(this.at, true),
      entry = 4 + 2 * index;
    const offset = entry < this.bytes.getUint16(lists, true) ? this.bytes.getUint16(lists + entry, true) : 0;
    return offset && this.at + offset;
  }
  /** @param {number} index */
  byte(index) {
    const at = this.place(index);
    return at ? this.bytes.getUint8(at) : 0;
  }
  /** @param {number} index */
  short(index) {
    const at = this.place(index);
    return at ? this.bytes.getInt16(at, true) : 0;
  }
  /** @param {number} index */
  int(index) {
    const at = this.place(index);
    return at ? this.bytes.getInt32(at, true) : 0;
  }
  /** @param {number} index */
  long(index) {
    const at = this.place(index);
    return at ? long(this.bytes, at) : 0;
  }
  /** @param {number} index */
  table(index) {
    const at = this.place(index);
    return new Table(this.bytes, at + this.bytes.getUint32(at, true));
  }
  /** Where the elements of a list are, and how many. @param {number} index @returns {[number, number]} */
  list(index) {
    const at = this.place(index);
    if (!at) return [0, 0];
    const list = at + this.bytes.getUint32(at, true);
    return [list + 4, this.bytes.getUint32(list, true)];
  }
  /** @param {number} index */
  text(index) {
    const [at, length] = this.list(index);
    return new TextDecoder().decode(new Uint8Array(this.bytes.buffer, this.bytes.byteOffset + at, length));
  }
}

/** Whole numbers up to 2^53. @param {DataView} bytes @param {number} at */
const long = (bytes, at) => Number(bytes.getBigInt64(at, true));

/** @param {ArrayBuffer} buffer a stream, whose messages begin at multiples of 8 @returns {Columns} */
export function read(buffer) {
  const bytes = new DataView(buffer);
  /** @type {Field[]} */
  let fields = [];
  /** @type {Columns[]} */
  const batches = [];
  let at = 0;
  while (at + 8 <= buffer.byteLength && bytes.getUint32(at, true) === CONTINUATION) {
    const head = bytes.getInt32(at + 4, true);
    if (head === 0) return joined(fields, batches);
    const message = new Table(bytes, at + 8 + bytes.getUint32(at + 8, true)),
      kind = message.byte(1),
      body = at + 8 + head;
    if (kind === SCHEMA) fields = fieldsOf(message.table(2));
    else if (kind === BATCH) batches.push(batch(fields, message.table(2), body));
    else throw new Error(`an answer has a message of the kind ${kind}`);
    at = body + Math.ceil(message.long(3) / 8) * 8;
  }
  throw new Error('an answer ended too early');
}

/** @param {Table} schema @returns {Field[]} */
function fieldsOf(schema) {
  const [first, count] = schema.list(1),
    { bytes } = schema;
  return Array.from({ length: count }, (_, index) => {
    const at = first + 4 * index,
      field = new Table(bytes, at + bytes.getUint32(at, true));
    const name = field.text(0),
      type = field.byte(2);
    const isFloat = type === FLOAT && field.table(3).short(0) === DOUBLE,
      isWhole = type === INT && field.table(3).int(0) === 64;
    if (field.place(4) || !(type === TEXT || type === TIMESTAMP || isFloat || isWhole))
      throw new Error(`the column ${name} of an answer has another type`);
    return { name, type, isFloat };
  });
}

/** @param {Field[]} fields @param {Table} found @param {number} body @returns {Columns} */
function batch(fields, found, body) {
  const { bytes } = found,
    length = found.long(0),
    [buffers] = found.list(2);
  let next = 0;
  const piece = () => {
    const at = buffers + STRUCT_BYTES * next++;
    return { at: body + long(bytes, at), length: long(bytes, at + 8) };
  };
  const columns = empty(fields);
  columns.length = length;
  for (const field of fields) {
    const valid = piece(),
      values = piece();
    const isAbsent = (/** @type {number} */ row) => valid.length > 0 && !((bytes.getUint8(valid.at + (row >> 3)) >> (row & 7)) & 1);
    if (field.type === TEXT) {
      const { at } = piece();
      later(columns.texts, field.name, () => texts(bytes, length, values.at, at, isAbsent));
    } else columns.numbers[field.name] = numbers(bytes.buffer, length, values.at, field.isFloat, valid.length > 0, isAbsent);
  }
  return columns;
}

/** @param {ArrayBufferLike} buffer @param {number} length @param {number} at @param {boolean} isFloat @param {boolean} hasAbsent @param {(row: number) => boolean} isAbsent */
function numbers(buffer, length, at, isFloat, hasAbsent, isAbsent) {
  const values = isFloat ? new Float64Array(buffer, at, length) : Float64Array.from(new BigInt64Array(buffer, at, length), Number);
  if (hasAbsent) for (let row = 0; row < length; row++) if (isAbsent(row)) values[row] = NaN;
  return values;
}

/** @param {DataView} bytes @param {number} length @param {number} ends @param {number} at @param {(row: number) => boolean} isAbsent */
function texts(bytes, length, ends, at, isAbsent) {
  const decoder = new TextDecoder(),
    all = new Uint8Array(bytes.buffer);
  let text = '',
    known = all.subarray(0, 0);
  return Array.from({ length }, (_, row) => {
    if (isAbsent(row)) return '';
    const own = all.subarray(at + bytes.getInt32(ends + 4 * row, true), at + bytes.getInt32(ends + 4 * row + 4, true));
    // Mostly that of the row before.
    if (own.length !== known.length || !own.every((byte, index) => byte === known[index])) text = decoder.decode(own);
    known = own;
    return text;
  });
}

/** Texts are made when somebody reads them, as nobody reads some. @param {Record<string, string[]>} texts @param {string} name @param {() => string[]} of */
function later(texts, name, of) {
  /** @type {string[]|undefined} */
  let made;
  Object.defineProperty(texts, name, { enumerable: true, get: () => (made ??= of()) });
}

/** @param {Field[]} fields @returns {Columns} */
const empty = fields => ({ length: 0, names: fields.map(field => field.name), numbers: {}, texts: {} });

/** @param {Field[]} fields @param {Columns[]} batches @returns {Columns} */
function joined(fields, batches) {
  if (batches.length === 1) return batches[0];
  const whole = empty(fields);
  whole.length = batches.reduce((sum, one) => sum + one.length, 0);
  for (const { name, type } of fields) {
    if (type === TEXT) {
      later(whole.texts, name, () => batches.flatMap(one => one.texts[name]));
      continue;
    }
    const values = new Float64Array(whole.length);
    let at = 0;
    for (const one of batches) {
      values.set(one.numbers[name], at);
      at += one.length;
    }
    whole.numbers[name] = values;
  }
  return whole;
}
