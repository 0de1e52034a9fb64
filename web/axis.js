/** The time axis: marks, the lane of alerts, the lane of missed ticks; and the two strips above it. */

import { context, make } from './dom.js';
import { label, xOf } from './draw.js';
import { colour, hatch, pale } from './palette.js';
import { clock, date, day, fineness, marks } from './time.js';

/** @typedef {{rule: string, from: number, to: number|null}} Firing */

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

  /** @param {import('./draw.js').View} view @param {import('./gaps.js').Gap[]} gaps @param {Firing[]} alerts */
  draw(view, gaps, alerts) {
    const height = 50,
      span = view.to - view.from;
    const g = context(this.canvas, view.left + view.width, height);
    this.name.textContent = span < 2e6 ? `${day(view.from)}, ${clock(view.from, 1e6)}` : `${day(view.to)}, UTC`;
    for (const { time, label: text } of view.marks ?? []) {
      const x = xOf(view, time);
      g.fillStyle = colour('line');
      g.fillRect(Math.round(x), 19, 1, 4);
      if (x > view.left + 18 && x < view.left + view.width - 18) label(g, text, x, 10, 'center', 'text2');
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
      const at = Math.max(view.left + 4, Math.min(end + 5, view.left + view.width - wide - 4));
      if (at > free && at > x + 6) {
        label(g, rule, at, 30, 'left', 'text2');
        free = at + wide + 10;
      }
    }
    for (const gap of gaps) {
      const x = xOf(view, gap.from),
        wide = Math.max(1.5, xOf(view, gap.to) - x);
      if (gap.isHole) hatch(g, x, 36, wide, 14);
      else {
        g.fillStyle = colour('bad');
        g.fillRect(x, 40, wide, 6);
      }
    }
    g.restore();
  }

  /** @param {import('./draw.js').View} view @param {number} time @param {boolean} isOne */
  tell(view, time, isOne) {
    const step = fineness(view.to - view.from),
      wide = view.bucket;
    const from = isOne || view.raw ? time : Math.floor(time / wide) * wide;
    this.time.textContent =
      view.raw || wide < step ? `${date(time)} ${clock(time, Math.min(1000, step))}` : `${clock(from, step)} – ${clock(from + wide, step)}`;
    const [, , mean, max] = this.heads.children;
    mean.textContent = view.raw ? 'value' : 'mean';
    max.textContent = view.raw ? '' : 'max';
  }
}

export class Strip {
  constructor() {
    this.canvas = make('canvas', { 'aria-hidden': 'true' });
    /** @type {import('./series.js').Series|null} */
    this.series = null;
    this.from = 0;
    this.to = 1;
  }

  /** @param {number} left @param {number} width @param {number} from @param {number} to the view @param {number} bucket */
  draw(left, width, from, to, bucket) {
    const g = context(this.canvas, left + width, 34),
      span = this.to - this.from;
    const x = (/** @type {number} */ time) => left + ((time - this.from) / span) * width;
    g.fillStyle = colour('plot');
    g.fillRect(left, 0, width, 24);
    g.save();
    g.beginPath();
    g.rect(left, 0, width, 34);
    g.clip();
    if (this.series) {
      const { time, length } = this.series,
        { mean, max } = this.series.columns.utilization;
      const pixels = Math.max(1, (bucket / span) * width + 0.5);
      for (const [values, name] of /** @type {[Float64Array, string][]} */ ([
        [max, 'hatch'],
        [mean, 'neutral'],
      ])) {
        g.fillStyle = pale(name, name === 'hatch' ? 1 : 0.75);
        for (let at = 0; at < length; at++) if (values[at] > 0) g.fillRect(x(time[at]), 24 - values[at] * 22, pixels, values[at] * 22);
      }
    }
    for (const { time, label: text } of marks(this.from, this.to, width, 90)) {
      g.fillStyle = colour('line');
      g.fillRect(Math.round(x(time)), 0, 1, 24);
      label(g, text, x(time) + 4, 7, 'left', 'text2');
    }
    const a = Math.min(left + width - 3, Math.max(left, x(from))),
      b = Math.max(a + 3, Math.min(left + width, x(to)));
    g.fillStyle = pale('accent', 0.25);
    g.fillRect(a, 0, b - a, 24);
    g.strokeStyle = colour('accent');
    g.lineWidth = 1.5;
    g.strokeRect(a + 0.75, 0.75, b - a - 1.5, 22.5);
    g.beginPath();
    g.moveTo(a, 24);
    g.lineTo(b, 24);
    g.lineTo(left + width, 34);
    g.lineTo(left, 34);
    g.fillStyle = pale('accent', 0.07);
    g.fill();
    g.restore();
  }
}
