/** One chart: its heading, its canvas and its readout. */

import { context, make } from './dom.js';
import { band, label, outlier, path, stack, xOf } from './draw.js';
import { clamp, duration, rounds, short, told } from './number.js';
import { bandAlpha, colour, hatch, pale, ramp } from './palette.js';
import { lower, nearest } from './series.js';

/** @typedef {import('./draw.js').View} View */
/** @typedef {import('./plan.js').Line} Line */
/** @typedef {import('./gaps.js').Gap} Gap */

export class Chart {
  constructor() {
    this.canvas = make('canvas', { 'aria-hidden': 'true' });
    this.title = make('h2');
    this.unit = make('b');
    this.badge = make('span.badge');
    this.value = make('span.val');
    this.read = make('div.read');
    const heading = make('div.gut', {}, this.title, make('div.unit', {}, this.unit, this.badge), this.value);
    this.element = make('section.row', { tabindex: '-1' }, heading, make('div.plot', {}, this.canvas), this.read);
    /** @type {(import('./plan.js').Chart & {label?: string})|null} */
    this.plan = null;
    this.scale = { top: 1, bottom: 0 };
    /** @type {number|null} the greatest value that is drawn, for checks of the page */
    this.peak = null;
  }

  /** @param {import('./plan.js').Chart & {label?: string}} plan @param {string} badge */
  show(plan, badge) {
    if (this.plan?.id !== plan.id) {
      this.title.textContent = plan.title;
      this.unit.textContent = plan.label ?? plan.unit;
      this.element.setAttribute('aria-label', plan.title);
      this.element.dataset.chart = plan.id;
    }
    this.badge.textContent = badge;
    this.plan = plan;
  }

  /** @param {View} view @param {Gap[]} gaps @param {boolean} log @param {number} grow */
  draw(view, gaps, log, grow) {
    const plan = this.plan;
    if (!plan) return;
    const height = Math.round(plan.height * grow);
    const g = context(this.canvas, view.left + view.width, height);
    g.fillStyle = colour('plot');
    g.fillRect(view.left, 0, view.width, height);
    g.save();
    g.beginPath();
    g.rect(view.left, 0, view.width, height);
    g.clip();
    if (plan.kind === 'heat') this.heat(g, view, height);
    else this.plot(g, view, height, log);
    for (const gap of gaps) {
      const x = xOf(view, gap.from),
        wide = xOf(view, gap.to) - x;
      if (gap.isHole && wide > 2) hatch(g, x, 0, wide, height);
    }
    for (const gap of gaps) {
      if (!gap.isHole) {
        const x = xOf(view, gap.from),
          wide = xOf(view, gap.to) - x;
        g.fillStyle = colour('bad');
        if (view.raw && wide > 3) g.fillRect(x, height - 3, wide, 3);
        else g.fillRect(Math.round(x), height - 4, 1.5, 4);
      }
    }
    g.restore();
    this.names(g, view, height);
  }

  /** @param {CanvasRenderingContext2D} g @param {View} view @param {number} height @param {boolean} log */
  plot(g, view, height, log) {
    const plan = /** @type {import('./plan.js').Chart} */ (this.plan);
    const most = (/** @type {Line[]} */ lines, /** @type {'max'|'mean'} */ part) => {
      let top = 0;
      for (const line of lines) {
        const values = line.series.columns[line.column][part],
          time = line.series.time;
        for (let at = lower(time, view.from - view.bucket), to = lower(time, view.to); at < to; at++) {
          if (values[at] * line.factor > top) top = values[at] * line.factor;
        }
      }
      return top;
    };
    const up = plan.lines.filter(line => !line.down),
      down = plan.lines.filter(line => line.down);
    this.peak = most(plan.lines, 'max');
    this.element.dataset.peak = String(this.peak);
    const high = plan.max ?? most(up, 'max'),
      low = most(down, 'max');
    const greatest = Math.max(high, low) || 1;
    const wanted = down.length
      ? { top: Math.max(high * 1.09, greatest * 0.18), bottom: Math.max(low * 1.12, greatest * 0.15) }
      : { top: plan.max ?? greatest * 1.12, bottom: 0 };
    // Small changes keep the scale, so that the picture stands still while it is live.
    const fits = (/** @type {number} */ now, /** @type {number} */ want) => now >= want / 1.09 && now <= want * 1.6;
    if (!fits(this.scale.top, wanted.top) || !fits(this.scale.bottom, wanted.bottom)) this.scale = wanted;
    const { top, bottom } = this.scale;
    const bend = (/** @type {number} */ value) =>
      log ? ((Math.sign(value) * Math.log10(1 + (Math.abs(value) / top) * 1e4)) / 4.00004) * top : value;
    const y = (/** @type {number} */ value) => 1 + ((top - bend(value)) / (top + bottom)) * (height - 2);
    this.y = y;
    this.marks = rounds(Math.max(top, bottom) / 1.05, height > 60 ? 2 : 1, plan.unit);
    g.fillStyle = colour('grid');
    for (const { time } of view.marks ?? []) g.fillRect(Math.round(xOf(view, time)), 0, 1, height);
    for (const mark of this.marks) {
      if (mark <= top) g.fillRect(view.left, Math.round(y(mark)), view.width, 1);
      if (mark <= bottom) g.fillRect(view.left, Math.round(y(-mark)), view.width, 1);
    }
    if (plan.kind === 'stack') {
      if (plan.peak && !view.raw) this.haze(g, view, plan.peak, y);
      stack(g, view, plan.lines, y, plan.steps);
    } else {
      const single = plan.lines.length === 1 || plan.kind === 'mirror';
      if (!view.raw) for (const line of plan.lines) band(g, view, line, y);
      for (const line of plan.lines) path(g, view, line, y, plan.steps, single ? 0.18 : 0);
      if (!view.raw) this.needle(g, view, y, plan);
    }
    if (plan.sides) {
      g.fillStyle = colour('hatch');
      g.fillRect(view.left, Math.round(y(0)), view.width, 1);
      if (height > 50) {
        label(g, plan.sides[0], view.left + 6, 8, 'left', 'text2');
        if ((bottom / (top + bottom)) * height > 22) label(g, plan.sides[1], view.left + 6, height - 8, 'left', 'text2');
      }
    }
    const one = plan.lines[0]?.series;
    if (view.raw && one && view.interval > view.to - view.from)
      label(g, `one tick takes ${duration(view.interval)}`, view.left + view.width - 8, 9, 'right', 'text2');
  }

  /** The peaks of a stack's total. @param {CanvasRenderingContext2D} g @param {View} view @param {Line} line @param {(value: number) => number} y */
  haze(g, view, line, y) {
    const { time } = line.series,
      { max } = line.series.columns[line.column];
    const pixels = Math.max(1, (view.bucket / (view.to - view.from)) * view.width);
    g.fillStyle = pale('neutral', bandAlpha());
    for (let at = lower(time, view.from - view.bucket), to = lower(time, view.to); at < to; at++) {
      if (max[at] >= 0) g.fillRect(xOf(view, time[at]), y(max[at] * line.factor), pixels, y(0) - y(max[at] * line.factor));
    }
  }

  /** @param {CanvasRenderingContext2D} g @param {View} view @param {(value: number) => number} y @param {import('./plan.js').Chart} plan */
  needle(g, view, y, plan) {
    for (const line of plan.kind === 'mirror' ? plan.lines : plan.lines.slice(0, 1)) {
      const at = outlier(view, line);
      if (at < 0) continue;
      const sign = line.down ? -line.factor : line.factor,
        values = line.series.columns[line.column];
      const x = xOf(view, line.series.time[at] + view.bucket / 2),
        tip = y(sign * values.max[at]),
        base = y(sign * values.mean[at]);
      if (Math.abs(tip - base) < 12) continue;
      g.fillStyle = colour(line.colour);
      g.fillRect(x - 1.5, Math.min(tip, base), 3, Math.abs(base - tip));
      g.beginPath();
      g.arc(x, tip + (line.down ? -1 : 1), 3.2, 0, 7);
      g.fillStyle = colour('plot');
      g.fill();
      g.strokeStyle = colour(line.colour);
      g.lineWidth = 1.75;
      g.stroke();
      const isLate = x > view.left + view.width - 110;
      label(
        g,
        told(values.max[at] * line.factor, plan.unit),
        x + (isLate ? -8 : 8),
        tip + (line.down ? -3 : 3),
        isLate ? 'right' : 'left',
        'text',
      );
    }
  }

  /** A row of cells for each line. @param {CanvasRenderingContext2D} g @param {View} view @param {number} height */
  heat(g, view, height) {
    const plan = /** @type {import('./plan.js').Chart} */ (this.plan);
    const colours = ramp(),
      tall = height / plan.lines.length;
    const pixels = Math.max(1, (view.bucket / (view.to - view.from)) * view.width);
    plan.lines.forEach((line, row) => {
      const { time, end } = line.series,
        { mean } = line.series.columns[line.column];
      for (let at = lower(time, view.from - Math.max(view.bucket, view.interval)), to = lower(time, view.to); at < to; at++) {
        if (Number.isNaN(mean[at])) continue;
        const shade = clamp(Math.round(((mean[at] * line.factor) / (plan.max ?? 100)) * 255), 0, 255) * 4;
        g.fillStyle = `rgb(${colours[shade]},${colours[shade + 1]},${colours[shade + 2]})`;
        const wide = view.raw ? (view.interval / (view.to - view.from)) * view.width : pixels;
        g.fillRect(view.raw ? xOf(view, end[at]) - wide : xOf(view, time[at]), row * tall, wide + 0.5, Math.ceil(tall));
      }
    });
  }

  /** @param {CanvasRenderingContext2D} g @param {View} view @param {number} height */
  names(g, view, height) {
    const plan = this.plan;
    if (!plan) return;
    const isPhone = view.left === 0,
      align = isPhone ? 'left' : 'right',
      x = isPhone ? 6 : view.left - 6;
    if (plan.kind === 'heat') {
      label(g, plan.lines[0]?.name ?? '', x, 7, align);
      label(g, plan.lines[plan.lines.length - 1]?.name ?? '', x, height - 7, align);
      return;
    }
    let last = Infinity;
    const write = (/** @type {number} */ value) => {
      const at = clamp((this.y ?? (() => 0))(value), 6, height - 6);
      if (Math.abs(at - last) < 12 || (isPhone && value === 0)) return;
      last = at;
      label(g, short(Math.abs(value), plan.unit), x, at, /** @type {CanvasTextAlign} */ (align));
    };
    const { top, bottom } = this.scale;
    /** @type {number[]} */
    const marks = this.marks ?? [];
    [...marks]
      .reverse()
      .filter(mark => mark <= top)
      .forEach(write);
    marks.filter(mark => mark > 0 && mark <= bottom).forEach(mark => write(-mark));
  }

  /** The values at a time, or the newest. @param {View} view @param {number|null} time */
  readout(view, time) {
    const plan = this.plan;
    if (!plan) return;
    const reach = Math.max(view.bucket, view.interval) * 1.5 + 1000;
    // The newest bucket has few ticks yet, so the one before is told.
    const find = (/** @type {Line} */ line) =>
      time === null
        ? line.series.length - (line.series.length > 1 && !view.raw ? 2 : 1)
        : nearest(line.series, time, view.raw ? 0 : view.bucket, reach);
    const rows = [];
    const lines = [...(plan.peak ? [plan.peak] : []), ...(plan.kind === 'heat' ? [] : plan.lines), ...(plan.more ?? [])];
    for (const line of lines.slice(0, 9)) {
      const at = find(line),
        values = line.series.columns[line.column];
      const isMore = plan.more?.includes(line),
        unit = isMore && plan.unit !== 'B' && plan.unit !== '' ? '' : plan.unit;
      const key = make(line.dash ? 'i.dash' : 'i');
      if (line.colour) key.style.background = line.alpha ? pale(line.colour, line.alpha + 0.3) : colour(line.colour);
      const mean = at < 0 ? NaN : values.mean[at] * line.factor,
        max = at < 0 ? NaN : values.max[at] * line.factor;
      rows.push(
        make('div', {}, key, make('span', {}, line.name), make('b', {}, told(mean, unit)), make('b', {}, view.raw ? '' : told(max, unit))),
      );
    }
    if (plan.kind === 'heat') {
      const seen = plan.lines
        .map(line => ({ name: line.name, at: find(line), line }))
        .filter(one => one.at >= 0)
        .map(one => ({ name: one.name, value: one.line.series.columns[one.line.column].mean[one.at] * one.line.factor }))
        .sort((a, b) => b.value - a.value);
      const pick = [
        ['busiest', seen[0]],
        ['median', seen[Math.floor(seen.length / 2)]],
        ['idlest', seen[seen.length - 1]],
      ];
      for (const [name, one] of /** @type {[string, any][]} */ (pick))
        rows.push(
          make(
            'div',
            {},
            make('i'),
            make('span', {}, name),
            make('b', {}, told(one?.value, '%')),
            make('b', {}, one && name !== 'median' ? `core ${one.name}` : ''),
          ),
        );
    }
    this.read.replaceChildren(...rows);
    const shown = (plan.peak ? [plan.peak] : plan.lines).slice(0, 2).map(line => {
      const at = find(line);
      const key = make('i');
      key.style.background = colour(line.colour);
      return make(
        'span',
        {},
        key,
        `${line.name} ${told(at < 0 ? NaN : line.series.columns[line.column].mean[at] * line.factor, plan.unit)}`,
      );
    });
    this.value.replaceChildren(...shown);
  }
}
