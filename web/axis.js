/** The time axis: marks, the lane of alerts, the lane of missed ticks. */

import { context, make } from './dom.js';
import { label, xOf } from './draw.js';
import { duration } from './number.js';
import { colour, hatch, pale } from './palette.js';
import { DAY, clock, day, fineness } from './time.js';

/** @typedef {{rule: string, from: number, to: number|null}} Firing */

/** Half of the crosshair's time and of a label, px. */
const FLAG = 62;

export class Axis {
  constructor() {
    this.canvas = make('canvas', { 'aria-hidden': 'true' });
    this.name = make('div.mute');
    this.time = make('b.t');
    this.heads = make('div', {}, make('i'), make('span'), make('b', {}, 'mean'), make('b', {}, 'max'));
    this.element = make(
      'div.row.axis',
      {},
      make('div.gut', {}, this.name, make('div.mute.lane', {}, 'Alerts'), make('div.mute.lane', {}, 'Missed ticks')),
      make('div.plot', {}, this.canvas),
      make('div.read', {}, make('div', {}, this.time), this.heads),
    );
  }

  /** @param {import('./draw.js').View} view @param {import('./gaps.js').Gap[]} gaps @param {Firing[]} alerts @param {number|null} at where the crosshair's time covers others */
  draw(view, gaps, alerts, at) {
    const height = 50,
      span = view.to - view.from;
    const g = context(this.canvas, view.left + view.width, height);
    this.name.textContent = span < 2e6 ? `${day(view.from)}, ${clock(view.from, 1e6)}` : `${day(view.to)}, UTC`;
    for (const { time, label: text } of view.marks ?? []) {
      const x = xOf(view, time);
      g.fillStyle = colour('line');
      g.fillRect(Math.round(x), 19, 1, 4);
      const isCovered = at !== null && Math.abs(x - xOf(view, at)) < FLAG;
      if (!isCovered && x > view.left + 18 && x < view.left + view.width - 18) label(g, text, x, 10, 'center', 'text2');
    }
    g.fillStyle = colour('line');
    g.fillRect(view.left, 22, view.width, 1);
    g.save();
    g.beginPath();
    g.rect(view.left, 20, view.width, 30);
    g.clip();
    let free = -Infinity;
    for (const { rule, from, to } of alerts) {
      const x = xOf(view, from),
        end = xOf(view, to ?? view.to);
      if (end < view.left || x > view.left + view.width) continue;
      g.fillStyle = pale('warn', 0.3);
      g.fillRect(x, 25, Math.max(2, end - x), 9);
      g.fillStyle = colour('warn');
      g.beginPath();
      g.moveTo(x, 24);
      g.lineTo(x + 5.5, 34.5);
      g.lineTo(x - 5.5, 34.5);
      g.fill();
      const wide = g.measureText(rule).width;
      // Where there is no room behind the bar, the name stands in it, or before it.
      const isLast = end + wide + 9 > view.left + view.width,
        place = Math.max(view.left + 4, isLast ? (end - x > wide + 20 ? x + 9 : x - wide - 9) : end + 5);
      if (place > free && view.left > 0) {
        label(g, rule, place, 30, 'left', 'text2');
        free = Math.max(end, place + wide) + 10;
      }
    }
    for (const gap of gaps) {
      const x = xOf(view, gap.from),
        wide = Math.max(1.5, xOf(view, gap.to) - x);
      if (!gap.isHole) {
        g.fillStyle = colour('bad');
        g.fillRect(x, 40, wide, 6);
      }
    }
    this.holes(g, view, gaps);
    g.restore();
  }

  /** What was not recorded, of all collectors together, with its length. @param {CanvasRenderingContext2D} g @param {import('./draw.js').View} view @param {import('./gaps.js').Gap[]} gaps */
  holes(g, view, gaps) {
    let until = -Infinity;
    for (const { from, to, isHole } of gaps) {
      if (!isHole || to <= until) continue;
      const x = xOf(view, from),
        end = xOf(view, to),
        text = `gap ${duration(to - from)}`;
      hatch(g, x, 36, Math.max(1.5, end - x), 14);
      if (end + g.measureText(text).width + 8 < view.left + view.width && view.left > 0) label(g, text, end + 5, 43, 'left');
      until = to;
    }
  }

  /** @param {import('./draw.js').View} view @param {number} time */
  tell(view, time) {
    const step = fineness(view.to - view.from),
      wide = view.bucket,
      from = Math.floor(time / wide) * wide,
      told = (/** @type {number} */ at) => (view.to - view.from > DAY ? `${day(at)} ` : '') + clock(at, step);
    this.time.textContent = view.raw || wide < step ? clock(time, Math.min(1000, step)) : `${told(from)} – ${told(from + wide)}`;
    const [, , mean, max] = this.heads.children;
    mean.textContent = view.raw ? 'value' : 'mean';
    max.textContent = view.raw ? 'in the tick' : 'max';
  }
}
