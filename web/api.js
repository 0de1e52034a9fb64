/** What the daemon answers. */

/**
 * @typedef {{name: string, kind: 'time'|'label'|'counter'|'gauge', type: string, unit: string, doc: string}} Column
 * @typedef {{name: string, doc: string, collector: string|null, interval_us: number|null, unavailable: string|null, tiers: string[], columns: Column[]}} Table
 * @typedef {{name: string, tables: Table[]}} Group
 * @typedef {{columns: {name: string, type: string}[], rows: any[][]}} Rows
 */

/** An answer that says what is wrong. */
export class Refused extends Error {}
/** There is no answer at all. */
export class Silent extends Error {}

/** kymo runs four statements at once by default. One place is left to others. */
const AT_ONCE_MAX = 3;
let running = 0;
/** @type {(() => void)[]} */
const waiting = [];

/** Asks when fewer than three questions run. Those that were aborted while they waited are not asked. @param {string} path @param {RequestInit} more */
async function inTurn(path, more) {
  if (running >= AT_ONCE_MAX) await new Promise(resolve => waiting.push(() => resolve(undefined)));
  running++;
  try {
    more.signal?.throwIfAborted();
    return await ask(path, more);
  } finally {
    running--;
    waiting.shift()?.();
  }
}

/** @param {string} path @param {RequestInit} [more] */
async function ask(path, more) {
  const answer = await fetch(path, more).catch(error => {
    // `fetch` fails with a TypeError when there is no connection, and with another one when it is aborted.
    throw error instanceof TypeError ? new Silent(error.message) : error;
  });
  if (answer.ok) return answer.json();
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
export const sql = (statement, signal) => inTurn('/api/v1/sql?times=us&format=json', { method: 'POST', body: statement, signal });

/**
 * @param {{table: string, columns: string[], from: number, to: number, buckets: number, labels?: Record<string, string>, tier?: string}} asked
 * @param {AbortSignal} [signal]
 * @returns {Promise<Rows>}
 */
export function range({ table, columns, from, to, buckets, labels = {}, tier = 'auto' }, signal) {
  const query = new URLSearchParams({
    ...labels,
    table,
    column: columns.join(','),
    from: String(from),
    to: String(to),
    buckets: String(buckets),
    tier,
    times: 'us',
    format: 'json',
  });
  return inTurn('/api/v1/range?' + query, { signal });
}
