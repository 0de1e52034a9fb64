/** A report: a page that brings its rows along, and answers from them what a daemon would. */

import { inflate, unpack } from './block.js';
import { reduce } from './reduce.js';
import { SECOND } from './time.js';

/** @typedef {{isCounter: boolean, isFloat: boolean}} Packed */
/**
 * A table as the page has it. Its rows are in the order of their series.
 * @typedef {object} Head
 * @property {number} width for how long a row stands, µs; 0 for ticks
 * @property {string[]} keys what tells its series apart, the host last
 * @property {string[][]} series the texts of each
 * @property {number[]} rows of each series
 * @property {Record<string, Packed>} columns
 */
/**
 * @typedef {object} Recording
 * @property {string} host @property {string} version
 * @property {number} from @property {number} to the first time after it, µs
 * @property {string|null} note what it lacks
 * @property {import('./api.js').Group[]} groups
 * @property {Record<string, Head>} tables
 */
/** @typedef {{labels: Record<string, string>, first: number, end: number}} Series rows `first` to `end` */
/** @typedef {Head & {name: string, time: Float64Array, all: Series[]}} Table */

/** @param {string} id */
const textOf = id => (typeof document === 'undefined' ? null : (document.getElementById(id)?.textContent ?? null));
const head = textOf('report');
/** What this page has with it; null on a daemon's page. @type {Recording|null} */
export const recording = head ? JSON.parse(head) : null;
const known = /** @type {Recording} */ (recording);

/** The time of a report stands still at its end. */
export const clock = { now: () => known.to, reached: () => Infinity };

/** Columns that were unpacked. @type {Map<string, Promise<Float64Array>>} */
const unpacked = new Map();
/** @type {Map<string, Promise<Table|null>>} */
const opened = new Map();

/** @param {string} table @param {string} column @param {boolean} isFloat */
function block(table, column, isFloat) {
  const id = `rows:${table}:${column}`,
    read = async () => unpack(await inflate(textOf(id) ?? ''), isFloat, known.tables[table].rows);
  const found = unpacked.get(id) ?? read();
  unpacked.set(id, found);
  return found;
}

/** A table with the times of its rows, or null if the report has none of it. @param {string} name */
function open(name) {
  const read = async () => {
    const table = known.tables[name];
    if (!table) return null;
    let first = 0;
    const all = table.series.map((texts, at) => {
      const labels = Object.fromEntries(table.keys.map((key, index) => [key, texts[index]])),
        end = first + table.rows[at];
      return { labels, first: end - table.rows[at], end: (first = end) };
    });
    return { ...table, name, time: await block(name, 'time', false), all };
  };
  const found = opened.get(name) ?? read();
  opened.set(name, found);
  return found;
}

/** @param {Table} table @param {string} column @returns {Promise<import('./reduce.js').Numbers>} */
async function numbers({ name, width, columns }, column) {
  const { isCounter, isFloat } = columns[column];
  if (!width) return { isCounter, values: await block(name, column, isFloat) };
  const [values, low, high] = await Promise.all(['mean', 'min', 'max'].map(what => block(name, `${column}_${what}`, true)));
  return { isCounter, values, low, high };
}

export const tables = async () => ({ groups: known.groups });
export const status = async () => ({ host: known.host, degraded: [] });

/**
 * @param {{table: string, columns: string[], values?: string[], from: number, to: number, buckets: number, labels?: Record<string, string>, tier?: string}} asked
 * @param {AbortSignal} [signal]
 * @returns {Promise<import('./arrow.js').Columns>}
 */
export async function range({ table: name, columns, from, to, buckets, labels = {} }, signal) {
  const table = await open(name),
    found = table ? columns.filter(column => table.columns[column]) : [];
  const values = table ? await Promise.all(found.map(column => numbers(table, column))) : [],
    ticks = table?.width ? await block(name, 'ticks', false) : null;
  signal?.throwIfAborted();
  const keys = table?.keys.slice(0, -1) ?? [],
    seen = (table?.all ?? []).filter(one => Object.entries(labels).every(([label, value]) => one.labels[label] === value));
  const parts = seen.map(series => ({
    series,
    cells: table && found.length ? reduce({ ...table, ...series, ticks }, values, { from, to, buckets }) : [],
  }));
  const cells = parts.flatMap(part => part.cells),
    column = (/** @type {(cell: import('./reduce.js').Cell) => number} */ of) => Float64Array.from(cells, of);
  const texts = (/** @type {(series: Series) => string} */ of) => parts.flatMap(part => part.cells.map(() => of(part.series)));
  const figures = found.flatMap((own, at) => [
    [`${own}_min`, column(cell => (cell.sums[at].count ? cell.sums[at].low : NaN))],
    [`${own}_max`, column(cell => (cell.sums[at].count ? cell.sums[at].high : NaN))],
    [`${own}_mean`, column(cell => cell.sums[at].amount / cell.sums[at].weight)],
  ]);
  const lacking = columns.filter(own => !found.includes(own)).map(own => [`${own}_mean`, new Float64Array(cells.length).fill(NaN)]);
  return {
    length: cells.length,
    names: [...keys, 'time', 'end', ...figures.map(([own]) => String(own)), 'ticks', 'tier', 'host'],
    numbers: Object.fromEntries([
      ['time', column(cell => cell.time)],
      ['end', column(cell => cell.end)],
      ['ticks', column(cell => Math.max(...cell.sums.map(sum => sum.count)))],
      ...figures,
      ...lacking,
    ]),
    texts: Object.fromEntries([
      ...[...keys, 'host'].map(key => [key, texts(series => series.labels[key])]),
      ['tier', texts(() => tierOf(table?.width ?? 0))],
    ]),
  };
}

/** @param {number} width */
const tierOf = width => (width === 0 ? 'raw' : width === SECOND ? '1s' : '1m');

/**
 * A row of a table, with its figures.
 * @typedef {{time: number, labels: Record<string, string>, of: Record<string, number|null>}} Row
 */

/** Rows of a table with some of its columns, in the order of time. Of a table in buckets, counters are rates. @param {string} name @param {string[]} columns @param {number} after @param {number} until µs @returns {Promise<Row[]>} */
export async function rows(name, columns, after, until) {
  const table = await open(name);
  if (!table) return [];
  const values = await Promise.all(columns.map(async column => (table.columns[column] ? (await numbers(table, column)).values : null)));
  const seen = table.all.flatMap(({ labels, first, end }) => {
    const found = [];
    for (let at = first; at < end; at++) {
      const time = table.time[at];
      if (time <= after || time > until) continue;
      const figure = (/** @type {number} */ column) => (Number.isNaN(values[column]?.[at] ?? NaN) ? null : (values[column]?.[at] ?? null));
      found.push({ time, labels, of: Object.fromEntries(columns.map((column, index) => [column, figure(index)])) });
    }
    return found;
  });
  return seen.sort((a, b) => a.time - b.time);
}

/** Whether rows of a table stand for several ticks, and its counters are rates. @param {string} table */
export const isReduced = table => (known.tables[table]?.width ?? 0) > 0;
