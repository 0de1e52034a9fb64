/** What the header says: the host, kymo's state, its cost, and which alerts fire. */

import * as api from './api.js';
import { SECOND } from './time.js';

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
    const [about, changes] = await Promise.all([api.about(wall), api.changes(wall, CHANGES_MAX)]);
    const [[cores, memory, uptime], [cpu, rss], [missed, scheduled]] = about.map(row => row.map(value => value ?? NaN));
    this.known = { about: { cores, memory, uptime }, cost: { cpu, rss }, ticks: { missed, scheduled } };
    this.firings = pairs(changes.map(([time, rule, labels, state]) => [rule, labels, state, time]));
  }
}

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
