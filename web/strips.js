/** The strips above the charts: all kept time, and what is around the view. A click goes there. */

import * as api from './api.js';
import { context, make } from './dom.js';
import { label } from './draw.js';
import { clamp } from './number.js';
import { colour, hatch, pale } from './palette.js';
import { busiest } from './plan.js';
import { split } from './series.js';
import { DAY, HOUR, MINUTE, SECOND, day, marks } from './time.js';

const TALL = 24,
  FUNNEL = 10,
  BUCKETS = 600,
  /** Columns of a strip that have passed before the strip is fetched again. */
  STALE_BUCKETS = 3,
  STALE_US_MIN = 5 * SECOND,
  /** CPU is recorded every 10 ms, which is too coarse for strips of this length. */
  FAST_US_MAX = 10 * SECOND;
const LENGTHS = [SECOND, 10 * SECOND, MINUTE, 10 * MINUTE, HOUR, DAY, 7 * DAY, 30 * DAY];
const NAMES = ['1 s', '10 s', '1 minute', '10 minutes', '1 hour', '1 day', '7 days', '30 days'];

/** How long the strip around a view is. @param {number} span */
export const around = span => LENGTHS.find(length => length >= span * 6) ?? 30 * DAY;

/**
 * Where a strip of this length begins, so that it holds the view.
 * @param {number} length @param {number} from @param {number} to @param {number} wall
 */
export function begin(length, from, to, wall) {
  const round = Math.floor(from / length) * length;
  if (length <= MINUTE && to <= round + length) return round;
  return Math.min((from + to) / 2 - length / 2, wall - length);
}

class Strip {
  constructor() {
    this.canvas = make('canvas', { 'aria-hidden': 'true' });
    this.name = make('div');
    /** @type {import('./series.js').Series|null} */
    this.series = null;
    this.column = '';
    this.length = 0;
    this.bucket = 0;
    this.wanted = 0;
    this.from = 0;
    this.to = 1;
    this.fetchedAt = -Infinity;
    this.runs = 0;
  }

  /** @param {number} length @param {number} from @param {number} wall @param {boolean} hasFast @param {AbortSignal} signal */
  async load(length, from, wall, hasFast, signal) {
    const run = ++this.runs;
    this.wanted = length;
    this.fetchedAt = wall;
    const isFast = hasFast && length <= FAST_US_MAX;
    const asked = isFast
      ? { table: 'network', columns: ['rx_bytes'] }
      : { table: 'cpu', columns: ['utilization'], labels: { cpu: 'total' } };
    // A report may be short, and its rows far apart.
    const sampled = api.recording?.groups.flatMap(group => group.tables).find(one => one.name === asked.table)?.interval_us ?? 0,
      bucket = Math.max(1000, Math.round(length / BUCKETS), sampled),
      count = Math.ceil(length / bucket),
      start = Math.floor(from);
    const answer = await api
      .range({ ...asked, values: ['max', 'mean'], from: start, to: start + bucket * count, buckets: count }, signal)
      .catch(error => {
        // It is asked for again with the next view.
        if (run === this.runs) [this.wanted, this.fetchedAt] = [0, -Infinity];
        throw error;
      });
    // Somebody may have gone elsewhere meanwhile.
    if (run !== this.runs) return;
    const series = split(answer, asked.columns);
    this.column = asked.columns[0];
    this.series = (isFast ? busiest(series, ['rx_bytes'])[0] : series[0]) ?? null;
    [this.from, this.to, this.length, this.bucket] = [from, from + length, length, Math.max(length / BUCKETS, sampled)];
    const what = isFast ? `${this.series?.labels.interface ?? 'network'} rx` : 'CPU busy';
    this.name.replaceChildren(NAMES[LENGTHS.indexOf(length)] ?? 'all of it', make('span', {}, what));
  }

  /** @param {number} left @param {number} width @param {number} from @param {number} to the view @param {import('./axis.js').Firing[]} firings */
  draw(left, width, from, to, firings) {
    const g = context(this.canvas, left + width, TALL + FUNNEL),
      span = this.to - this.from;
    const x = (/** @type {number} */ time) => left + ((time - this.from) / span) * width;
    g.fillStyle = colour('plot');
    g.fillRect(left, 0, width, TALL);
    if (!this.length) return;
    g.save();
    g.beginPath();
    g.rect(left, 0, width, TALL + FUNNEL);
    g.clip();
    if (this.series) this.course(g, x, width / span);
    for (const { time, label: text } of marks(this.from, this.to, width, 80)) {
      g.fillStyle = colour('line');
      g.fillRect(Math.round(x(time)), 0, 1, TALL);
      if (x(time) + g.measureText(text).width + 8 < left + width) label(g, text, x(time) + 4, 7, 'left', 'text2');
    }
    g.fillStyle = colour('warn');
    for (const firing of firings) if (firing.from > this.from) g.fillRect(Math.round(x(firing.from)) - 1, TALL - 6, 2, 6);
    const a = clamp(x(from), left, left + width - 3),
      b = clamp(x(to), a + 3, left + width);
    g.fillStyle = pale('accent', 0.25);
    g.fillRect(a, 0, b - a, TALL);
    g.strokeStyle = colour('accent');
    g.lineWidth = 1.5;
    g.strokeRect(a + 0.75, 0.75, b - a - 1.5, TALL - 1.5);
    g.beginPath();
    g.moveTo(a, TALL);
    g.lineTo(b, TALL);
    g.lineTo(left + width, TALL + FUNNEL);
    g.lineTo(left, TALL + FUNNEL);
    g.fillStyle = pale('accent', 0.09);
    g.fill();
    g.restore();
  }

  /** @param {CanvasRenderingContext2D} g @param {(time: number) => number} x @param {number} scale px for each µs */
  course(g, x, scale) {
    const series = /** @type {import('./series.js').Series} */ (this.series);
    const { time, length } = series,
      { mean, max } = series.columns[this.column];
    const { bucket } = this,
      pixels = Math.max(1, bucket * scale + 0.4);
    let top = this.column === 'utilization' ? 1 : 0;
    for (const value of max) if (value > top) top = value;
    const tall = (TALL - 2) / (top || 1),
      isLight = document.documentElement.classList.contains('light');
    for (const [values, alpha] of /** @type {[Float64Array, number][]} */ ([
      [max, isLight ? 0.3 : 0.42],
      [mean, isLight ? 0.55 : 0.9],
    ])) {
      g.fillStyle = pale('neutral', alpha);
      for (let at = 0; at < length; at++) if (values[at] > 0) g.fillRect(x(time[at]), TALL - values[at] * tall, pixels, values[at] * tall);
    }
    for (let at = 1; at < length; at++) {
      const wide = (time[at] - time[at - 1] - bucket) * scale;
      if (time[at] - time[at - 1] > bucket * 2.5) hatch(g, x(time[at - 1] + bucket), 0, Math.max(2, wide), TALL);
    }
    if (length && time[0] > this.from + bucket * 2.5) hatch(g, x(this.from), 0, x(time[0]) - x(this.from), TALL);
  }
}

export class Strips {
  /** @param {(time: number) => void} go */
  constructor(go) {
    this.all = [new Strip(), new Strip()];
    this.kept = make('div.read');
    this.gut = make('div.gut', {}, ...this.all.map(strip => strip.name));
    this.plot = make('div.plot', {}, ...this.all.map(strip => strip.canvas));
    this.element = make('div.row.strips', {}, this.gut, this.plot, this.kept);
    this.left = 0;
    this.width = 1;
    /** @type {AbortController|null} */
    this.running = null;
    this.isUnderWay = false;
    for (const strip of this.all) {
      const move = (/** @type {PointerEvent} */ event) => {
        const share = (event.offsetX - this.left) / this.width;
        if (share >= 0 && share <= 1) go(strip.from + share * (strip.to - strip.from));
      };
      strip.canvas.addEventListener('pointerdown', move);
      strip.canvas.addEventListener('pointermove', (/** @type {PointerEvent} */ event) => event.buttons === 1 && move(event));
    }
  }

  /** Fetches those strips that do not hold the view, or are old. @param {{from: number, to: number}} view @param {boolean} isLive @param {number} wall @param {boolean} hasFast @param {() => void} arrived */
  async load(view, isLive, wall, hasFast, arrived) {
    // What follows the newest rows comes again soon. Ending it each time would never show it where answers take long.
    if (isLive && this.isUnderWay) return;
    this.leave();
    const running = new AbortController(),
      { signal } = running;
    this.running = running;
    this.isUnderWay = true;
    const [all, near] = this.all,
      length = around(view.to - view.from);
    const runs = [];
    const isOld = (/** @type {Strip} */ strip) => wall - strip.fetchedAt > Math.max(STALE_US_MIN, (strip.length / BUCKETS) * STALE_BUCKETS);
    const again = (/** @type {unknown} */ error) => {
      all.fetchedAt = -Infinity;
      throw error;
    };
    const { from, to } = api.recording ?? { from: wall - 30 * DAY, to: wall };
    if (isOld(all)) runs.push(all.load(to - from, from, wall, hasFast, signal), this.tell(wall, signal).catch(again));
    const isOutside = view.from < near.from || view.to > near.to;
    if (near.wanted !== length || (isLive ? isOld(near) : isOutside))
      runs.push(near.load(length, isLive ? wall - length : begin(length, view.from, view.to, wall), wall, hasFast, signal));
    try {
      await Promise.all(runs.map(run => run.then(arrived)));
    } finally {
      if (this.running === running) this.isUnderWay = false;
    }
  }

  /** Nobody looks at what is under way. */
  leave() {
    this.running?.abort();
    this.isUnderWay = false;
  }

  /** Since when there are rows and their tiers. @param {number} wall @param {AbortSignal} signal */
  async tell(wall, signal) {
    const [raw, seconds, minutes] = await api.kept();
    const since = (/** @type {string} */ name, /** @type {number|null|undefined} */ time) =>
      time === null || time === undefined || time > wall ? '' : `${name} since ${day(time)}`;
    this.kept.replaceChildren(
      make('p', {}, since('raw', raw), make('br'), since('1 s tier', seconds)),
      make('p', {}, since('1 min tier', minutes)),
    );
  }

  /** @param {number} left @param {number} width @param {number} from @param {number} to @param {import('./axis.js').Firing[]} firings */
  draw(left, width, from, to, firings) {
    [this.left, this.width] = [left, width];
    for (const strip of this.all) strip.draw(left, width, from, to, firings);
  }
}
