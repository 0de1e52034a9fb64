/** What the daemon answers. */

import { read as columnsOf } from './arrow.js';
import { Clock } from './clock.js';

/**
 * @typedef {{name: string, kind: 'time'|'label'|'counter'|'gauge', type: string, unit: string, doc: string}} Column
 * @typedef {{name: string, doc: string, collector: string|null, interval_us: number|null, unavailable: string|null, tiers: string[], columns: Column[]}} Table
 * @typedef {{name: string, tables: Table[]}} Group
 * @typedef {{columns: {name: string, type: string}[], rows: any[][]}} Rows
 */

/** What answers tell of the daemon's time. */
export const clock = new Clock();

/** An answer that says what is wrong. */
export class Refused extends Error {}
/** There is no answer at all. */
export class Silent extends Error {}

/** kymo runs four statements at once by default. One place is left to others. */
const AT_ONCE_MAX = 3;
let running = 0;
/** Each is given the place of a question that has ended. @type {(() => void)[]} */
const waiting = [];

/**
 * Asks when fewer than three questions run. Those that were aborted while they waited are not asked.
 * @template T
 * @param {string} path @param {RequestInit} more @param {(answer: Response) => Promise<T>} read
 */
async function inTurn(path, more, read) {
  if (running < AT_ONCE_MAX) running++;
  else await new Promise(resolve => waiting.push(() => resolve(undefined)));
  try {
    more.signal?.throwIfAborted();
    return await read(await fetched(path, more));
  } finally {
    const next = waiting.shift();
    if (next) next();
    else running--;
  }
}

/** @param {Response} answer @returns {Promise<any>} */
const json = answer => answer.json();
/** @param {string} path */
const ask = async path => json(await fetched(path));

/** @param {string} path @param {RequestInit} [more] */
async function fetched(path, more) {
  const sent = clock.local();
  const answer = await fetch(path, more).catch(error => {
    // `fetch` fails with a TypeError when there is no connection, and with another one when it is aborted.
    throw error instanceof TypeError ? new Silent(error.message) : error;
  });
  clock.learn(sent, clock.local(), Date.parse(answer.headers.get('date') ?? '') * 1000);
  if (answer.ok) return answer;
  const text = await answer.text();
  let why = text;
  try {
    why = JSON.parse(text).error;
  } catch {
    // Something between here and kymo has answered.
  }
  throw new Refused(why || `${answer.status}`);
}

/** @returns {Promise<{groups: Group[]}>} */
export const tables = () => ask('/api/v1/tables');
/** @returns {Promise<any>} */
export const status = () => ask('/api/v1/status');
/** @returns {Promise<{rules: any[]}>} */
export const alerts = () => ask('/api/v1/alerts');

/** @param {string} statement @param {AbortSignal} [signal] @returns {Promise<Rows>} */
export const sql = (statement, signal) => inTurn('/api/v1/sql?times=us&format=json', { method: 'POST', body: statement, signal }, json);

/**
 * @param {{table: string, columns: string[], values?: string[], from: number, to: number, buckets: number, labels?: Record<string, string>, tier?: string}} asked
 * @param {AbortSignal} [signal]
 * @returns {Promise<import('./arrow.js').Columns>}
 */
export function range({ table, columns, values = [], from, to, buckets, labels = {}, tier = 'auto' }, signal) {
  const query = new URLSearchParams({
    ...labels,
    table,
    column: columns.join(','),
    ...(values.length && { values: values.join(',') }),
    from: String(from),
    to: String(to),
    buckets: String(buckets),
    tier,
    format: 'arrow',
  });
  return inTurn('/api/v1/range?' + query, { signal }, async answer => columnsOf(await answer.arrayBuffer()));
}
