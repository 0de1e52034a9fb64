/** Rows of a series in buckets, as `/api/v1/range` has them. */

import { lower } from './series.js';

const MICROS = 1e6,
  /** The row before a window is looked for two steps back, but at least and at most so far. */
  BEFORE_MIN = 10e6,
  BEFORE_MAX = 60e6;

/**
 * A column of a table: of ticks as it was recorded; of rows that stand for several ticks their mean (of a counter, that of its rate),
 * with the least and the greatest value.
 * @typedef {{isCounter: boolean, values: Float64Array, low?: Float64Array, high?: Float64Array}} Numbers
 */
/** @typedef {{from: number, to: number, buckets: number}} Window `to` is the first time after it, µs */
/**
 * Rows of one series, in the order of time.
 * @typedef {object} Stretch
 * @property {Float64Array} time of all rows of the table
 * @property {number} first @property {number} end of those that are the series'
 * @property {number} width for how long a row stands, µs; 0 for ticks
 * @property {Float64Array|null} ticks how many a row stands for
 */
/** @typedef {{low: number, high: number, amount: number, weight: number, count: number}} Sum */
/** @typedef {{time: number, end: number, rows: number, sums: Sum[]}} Cell */

/** The first microsecond of a bucket. @param {Window} window @param {number} bucket */
export function edge({ from, to, buckets }, bucket) {
  const product = bucket * (to - from);
  if (product <= Number.MAX_SAFE_INTEGER) return from + Math.ceil(product / buckets);
  const [exact, count] = [BigInt(bucket) * BigInt(to - from), BigInt(buckets)];
  return from + Number((exact + count - 1n) / count);
}

/** The bucket whose edges are around a time. @param {Window} window @param {number} time */
function bucketAt(window, time) {
  let bucket = Math.floor(((time - window.from) / (window.to - window.from)) * window.buckets);
  while (edge(window, bucket) > time) bucket--;
  while (edge(window, bucket + 1) <= time) bucket++;
  return bucket;
}

/** @returns {Sum} */
const nothing = () => ({ low: Infinity, high: -Infinity, amount: 0, weight: 0, count: 0 });

/** What a row has of a column. False if that is nothing. @typedef {(column: number, row: number, into: Sum) => boolean} Look */

/**
 * Ticks: a counter's rate is over the step from the row before it, if that has a value.
 * @param {Stretch} stretch @param {Numbers[]} columns @param {number} begins rows before this are not looked at @param {number} first
 * @returns {Look}
 */
function ofTicks({ time, first: start }, columns, begins, first) {
  const isOne = columns.length === 1;
  // A rate of one column reaches over rows that lack it.
  const before = columns.map(({ values }) => {
    let at = first - 1;
    while (isOne && at >= start && Number.isNaN(values[at])) at--;
    return at >= start && time[at] >= begins ? at : -1;
  });
  return (column, row, into) => {
    const { isCounter, values } = columns[column],
      value = values[row],
      last = before[column];
    before[column] = row;
    if (Number.isNaN(value)) return false;
    if (!isCounter) {
      into.low = into.high = into.amount = value;
      into.weight = into.count = 1;
      return true;
    }
    if (last < 0 || Number.isNaN(values[last]) || time[row] <= time[last]) return false;
    // Below the value before it, it began anew at zero.
    into.amount = value >= values[last] ? value - values[last] : Math.max(0, value);
    into.weight = (time[row] - time[last]) / MICROS;
    into.low = into.high = into.amount / into.weight;
    into.count = 1;
    return true;
  };
}

/** Rows that stand for several ticks. @param {Stretch} stretch @param {Numbers[]} columns @returns {Look} */
const ofBuckets =
  ({ ticks }, columns) =>
  (column, row, into) => {
    const { values, low = values, high = values } = columns[column];
    if (Number.isNaN(values[row])) return false;
    into.count = into.weight = ticks?.[row] ?? 1;
    [into.low, into.high, into.amount] = [low[row], high[row], values[row] * into.count];
    return true;
  };

/** Buckets in the order of time, without those that have no value. @param {Stretch} stretch @param {Numbers[]} columns @param {Window} window @returns {Cell[]} */
export function reduce(stretch, columns, window) {
  const { time, end, width } = stretch,
    { from, to, buckets } = window,
    first = stretch.first + lower(time.subarray(stretch.first, end), from),
    isOne = columns.length === 1,
    before = Math.min(BEFORE_MAX, Math.max(BEFORE_MIN, Math.floor((to - from) / buckets) * 2)),
    look = width ? ofBuckets(stretch, columns) : ofTicks(stretch, columns, from - before, first),
    one = nothing();
  /** @type {Cell[]} */
  const cells = [];
  /** @type {Cell|null} */
  let cell = null;
  let begins = 0,
    until = -Infinity;
  for (let row = first; row < end && time[row] < to; row++) {
    if (isOne && Number.isNaN(columns[0].values[row])) continue;
    if (time[row] >= until) {
      const bucket = bucketAt(window, time[row]);
      begins = edge(window, bucket);
      until = edge(window, bucket + 1);
      cell = null;
    }
    let isEmpty = true;
    for (let column = 0; column < columns.length; column++) {
      if (!look(column, row, one)) continue;
      isEmpty = false;
      if (!cell) cells.push((cell = { time: time[row], end: 0, rows: 0, sums: columns.map(nothing) }));
      const sum = cell.sums[column];
      sum.low = Math.min(sum.low, one.low);
      sum.high = Math.max(sum.high, one.high);
      sum.amount += one.amount;
      sum.weight += one.weight;
      sum.count += one.count;
    }
    if (isEmpty || !cell) continue;
    cell.rows++;
    cell.end = time[row] + width;
    // One tick has its own time.
    if (width) cell.time = Math.ceil(begins / width) * width;
    else if (cell.rows > 1) cell.time = begins;
  }
  return cells;
}
