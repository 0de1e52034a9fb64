/** What the header says: the host, kymo's state, its cost, and which alerts fire. */

import * as api from './api.js';
import { MINUTE, SECOND } from './time.js';

/** @typedef {import('./axis.js').Firing} Firing */
/**
 * @typedef {object} Facts
 * @property {string} host @property {string[]} degraded
 * @property {number} firing
 * @property {{cores: number, memory: number, uptime: number}} about
 * @property {{cpu: number, rss: number}} cost a share of a core, and bytes
 * @property {{missed: number, scheduled: number}} ticks of the last hour
 */

/** Statements cost more than the state, and say less that is new. */
const STATEMENTS_EVERY = 15 * SECOND,
  CHANGES_MAX = 500;

export class Status {
  constructor() {
    /** @type {Firing[]} */
    this.firings = [];
    this.askedAt = -Infinity;
    /** @type {Pick<Facts, 'about'|'cost'|'ticks'>} */
    this.known = { about: { cores: NaN, memory: NaN, uptime: NaN }, cost: { cpu: NaN, rss: NaN }, ticks: { missed: NaN, scheduled: NaN } };
  }

  /** @param {number} wall @returns {Promise<Facts>} */
  async load(wall) {
    const isDue = Math.abs(wall - this.askedAt) >= STATEMENTS_EVERY;
    const [status, alerts] = await Promise.all([api.status(), api.alerts(), isDue && this.ask(wall)]);
    if (isDue) this.askedAt = wall;
    const firing = alerts.rules.reduce((sum, rule) => sum + rule.firing, 0);
    return { host: status.host, degraded: status.degraded, firing, ...this.known };
  }

  /** @param {number} wall */
  async ask(wall) {
    const within = (/** @type {number} */ length) =>
      `time > to_timestamp_micros(${Math.floor(wall - length)}) AND time <= to_timestamp_micros(${Math.ceil(wall)})`;
    const newest = (/** @type {string} */ column, /** @type {string} */ table) =>
      `(SELECT ${column} FROM ${table} WHERE ${within(10 * SECOND)} ORDER BY time DESC LIMIT 1)`;
    const [about, cost, ticks, changes] = await Promise.all([
      api.sql(
        `SELECT (SELECT count(DISTINCT cpu) FROM cpu_1m WHERE cpu <> 'total' AND ${within(5 * MINUTE)}), ${newest('total_bytes', 'memory')}, ${newest('uptime_us', 'host')}`,
      ),
      api.sql(
        `SELECT CAST(max(cpu_us) - min(cpu_us) AS DOUBLE) / (max(CAST(time AS BIGINT)) - min(CAST(time AS BIGINT))), max(rss_bytes) FROM kymo WHERE ${within(15 * SECOND)}`,
      ),
      api.sql(
        `SELECT sum(missed), sum(scheduled) FROM (SELECT increase(missed_ticks, time) AS missed, increase(scheduled_ticks, time) AS scheduled FROM collector WHERE ${within(60 * MINUTE)} GROUP BY collector)`,
      ),
      api.sql(
        `SELECT rule, labels, state, CAST(time AS BIGINT) FROM alert WHERE time <= to_timestamp_micros(${Math.ceil(wall)}) ORDER BY time DESC LIMIT ${CHANGES_MAX}`,
      ),
    ]);
    const [cores, memory, uptime] = numbers(about),
      [cpu, rss] = numbers(cost),
      [missed, scheduled] = numbers(ticks);
    this.known = { about: { cores, memory, uptime }, cost: { cpu, rss }, ticks: { missed, scheduled } };
    this.firings = pairs(changes.rows);
  }
}

/** The first row. What is missing is no number. @param {api.Rows} answer @returns {number[]} */
const numbers = answer => answer.columns.map((_, at) => answer.rows[0]?.[at] ?? NaN);

/** Changes of alerts, newest first, as the times in which they fired. @param {any[][]} rows @returns {Firing[]} */
export function pairs(rows) {
  /** @type {Map<string, Firing>} */
  const open = new Map();
  const found = [];
  for (const [rule, labels, state, time] of [...rows].reverse()) {
    const key = `${rule} ${labels}`;
    if (state === 'firing' || state === 'no data') {
      // From the one to the other it is the same alert.
      if (open.has(key)) continue;
      const firing = { rule, from: time, to: null };
      open.set(key, firing);
      found.push(firing);
    } else {
      const firing = open.get(key);
      if (firing) firing.to = time;
      open.delete(key);
    }
  }
  return found;
}
