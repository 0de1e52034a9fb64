/** What a daemon answers, over HTTP. */

import { read as columnsOf } from './arrow.js';
import { Clock } from './clock.js';

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

/** @returns {Promise<{groups: import('./api.js').Group[]}>} */
export const tables = () => ask('/api/v1/tables');
/** @returns {Promise<any>} */
export const status = () => ask('/api/v1/status');
/** @returns {Promise<{rules: any[]}>} */
export const alerts = () => ask('/api/v1/alerts');

/** @param {string} statement @param {AbortSignal} [signal] @returns {Promise<import('./api.js').Rows>} */
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

/** @param {number} time */
const at = time => `to_timestamp_micros(${Math.floor(time)})`;
/** @param {number} time @param {number} before @param {number} after */
const within = (time, before, after) => `time > ${at(time - before)} AND time <= ${at(Math.ceil(time + after))}`;
/** The rate of a counter since the row before, per µs. @param {string} counter */
const rate = counter => `(${counter} - lag(${counter}) OVER w) * 1.0 / (CAST(time AS BIGINT) - lag(CAST(time AS BIGINT)) OVER w)`;
/** @param {string} statement @param {AbortSignal} [signal] */
const rowsOf = async (statement, signal) => (await sql(statement, signal)).rows;

/** Gaps: collector, reason, from, to, lost. Those that begin within `width` of each other are one. @param {number} from @param {number} to @param {number} width @param {number} most @param {AbortSignal} [signal] */
export const gaps = (from, to, width, most, signal) =>
  // Gaps are written when they have ended, so some time later.
  rowsOf(
    `SELECT collector, reason, min(from_us), max(to_us), sum(lost) FROM gap WHERE to_us > ${Math.floor(from)} AND from_us < ${Math.ceil(to)} AND time >= ${at(from)} AND time < ${at(Math.ceil(to) + 86_400_000_000)} GROUP BY collector, reason, from_us / ${width} ORDER BY 3 LIMIT ${most}`,
    signal,
  );

/** Changes of alerts up to a time, newest first: time, rule, labels, state, value, peak. @param {number} until @param {number} most */
export const changes = (until, most) =>
  rowsOf(
    `SELECT CAST(time AS BIGINT), rule, labels, state, value, peak FROM alert WHERE time <= ${at(Math.ceil(until))} ORDER BY time DESC LIMIT ${most}`,
  );

/** Alerts that fire at a time: rule, labels, state, value, since. @param {number} time @param {number} most @param {AbortSignal} signal */
export const firing = (time, most, signal) =>
  rowsOf(
    `SELECT rule, labels, state, value, CAST(time AS BIGINT) FROM (SELECT *, row_number() OVER (PARTITION BY rule, labels ORDER BY time DESC) AS n FROM alert WHERE time <= ${at(time + 1e6)}) WHERE n = 1 AND state IN ('firing', 'no data') ORDER BY 5 DESC LIMIT ${most}`,
    signal,
  );

/** Processes of the newest tick: command, pid, CPU, memory, I/O a second. @param {number} time @param {number} most @param {AbortSignal} signal */
export const processes = (time, most, signal) =>
  rowsOf(
    `SELECT command, pid, cpu_ratio, rss_bytes, io FROM (SELECT command, pid, time, cpu_ratio, rss_bytes, ${rate('(read_bytes + write_bytes)')} * 1e6 AS io FROM process WHERE ${within(time, 5e6, 1e6)} WINDOW w AS (PARTITION BY command, pid ORDER BY time)) WHERE time = (SELECT max(time) FROM process WHERE ${within(time, 5e6, 1e6)}) ORDER BY cpu_ratio DESC NULLS LAST LIMIT ${most}`,
    signal,
  );

/** CPU of processes around a time: pid, time, ratio. @param {number} time @param {number} around @param {AbortSignal} signal */
export const courses = (time, around, signal) =>
  rowsOf(
    `SELECT pid, CAST(time AS BIGINT), cpu_ratio FROM process WHERE ${within(time, around, around)} AND cpu_ratio IS NOT NULL ORDER BY time`,
    signal,
  );

/** Control groups of the newest tick: path, CPU %, memory, I/O stall %. @param {number} time @param {number} most @param {AbortSignal} signal */
export const groups = (time, most, signal) =>
  rowsOf(
    `SELECT cgroup, cpu, memory, io FROM (SELECT cgroup, time, ${rate('usage_us')} * 100 AS cpu, memory_bytes AS memory, ${rate('io_some_us')} * 100 AS io, row_number() OVER (PARTITION BY cgroup ORDER BY time DESC) AS n FROM cgroup WHERE ${within(time, 4e6, 1e6)} WINDOW w AS (PARTITION BY cgroup ORDER BY time)) WHERE n = 1 ORDER BY cpu DESC NULLS LAST LIMIT ${most}`,
    signal,
  );

/** The host's newest figures: CPU, memory, running, load, connections, blocked. @param {number} time @param {AbortSignal} signal @returns {Promise<(number|null)[]>} */
export async function facts(time, signal) {
  const newest = (/** @type {string} */ column, /** @type {string} */ from, where = '') =>
    `(SELECT ${column} FROM ${from} WHERE ${within(time, 5e6, 0)}${where} ORDER BY time DESC LIMIT 1)`;
  const [row] = await rowsOf(
    `SELECT ${newest('utilization', 'cpu', " AND cpu = 'total'")}, ${newest('used_bytes', 'memory')}, ${newest('running', 'host')}, ${newest('load1', 'host')}, ${newest('established', 'tcp')}, ${newest('blocked', 'host')}`,
    signal,
  );
  return row ?? [];
}

/** What the header tells: cores, memory, uptime; CPU and memory of kymo; missed and scheduled ticks of the last hour. @param {number} wall @returns {Promise<(number|null)[][]>} */
export async function about(wall) {
  const newest = (/** @type {string} */ column, /** @type {string} */ table) =>
    `(SELECT ${column} FROM ${table} WHERE ${within(wall, 10e6, 0)} ORDER BY time DESC LIMIT 1)`;
  const found = await Promise.all([
    rowsOf(
      `SELECT (SELECT count(DISTINCT cpu) FROM cpu_1m WHERE cpu <> 'total' AND ${within(wall, 300e6, 0)}), ${newest('total_bytes', 'memory')}, ${newest('uptime_us', 'host')}`,
    ),
    rowsOf(
      `SELECT CAST(max(cpu_us) - min(cpu_us) AS DOUBLE) / (max(CAST(time AS BIGINT)) - min(CAST(time AS BIGINT))), max(rss_bytes) FROM kymo WHERE ${within(wall, 15e6, 0)}`,
    ),
    rowsOf(
      `SELECT sum(missed), sum(scheduled) FROM (SELECT increase(missed_ticks, time) AS missed, increase(scheduled_ticks, time) AS scheduled FROM collector WHERE ${within(wall, 3600e6, 0)} GROUP BY collector)`,
    ),
  ]);
  return found.map(([row]) => row ?? []);
}

/** Since when there are rows, seconds and minutes. @returns {Promise<(number|null)[]>} */
export async function kept() {
  const first = (/** @type {string} */ table) => `(SELECT CAST(min(time) AS BIGINT) FROM ${table})`;
  const [row] = await rowsOf(`SELECT ${first('network')}, ${first('network_1s')}, ${first('network_1m')}`);
  return row ?? [];
}
