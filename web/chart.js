/** One chart: its heading, its canvas and its readout. */

import { context, make } from './dom.js';
import { band, label, outlier, path, plate, stack, xOf } from './draw.js';
import { clamp, duration, rounds, short, told } from './number.js';
import { bandAlpha, colour, hatch, pale, ramp } from './palette.js';
import { headline, legend, rows } from './readout.js';
import { lower } from './series.js';
import { SECOND, clock } from './time.js';

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
    this.legend = make('div');
    const heading = make('div.gut', {}, this.title, make('div.unit', {}, this.unit, this.badge), this.legend, this.value);
    this.element = make('section.row', { tabindex: '-1' }, heading, make('div.plot', {}, this.canvas), this.read);
    /** @type {(import('./plan.js').Chart & {label?: string})|null} */
    this.plan = null;
    this.scale = { top: 1, bottom: 0 };
    /** @type {number|null} the greatest value that is drawn, for checks of the page */
    this.peak = null;
    this.y = (/** @type {number} */ value) => value;
    /** @type {Map<Line, number>} buckets and ticks that stand out */
    this.outliers = new Map();
    /** For heat maps: a pixel for each column of each row. */
    this.image = make('canvas');
    /** @type {unknown[]} what the canvas shows */
    this.drawn = [];
  }

  /** Whether the canvas shows something else than what this is made of; then it is drawn next. @param {unknown[]} parts */
  isOther(parts) {
    const isSame = this.drawn.length === parts.length && parts.every((part, at) => part === this.drawn[at]);
    this.drawn = parts;
    return !isSame;
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
    this.badge.hidden = badge === '';
    this.plan = plan;
    if (plan.kind === 'heat' && !this.legend.firstChild) this.paintLegend();
  }

  /** Again after the colours have changed. */
  paintLegend() {
    this.drawn = [];
    if (this.plan?.kind === 'heat') this.legend.replaceChildren(legend('0', String(this.plan.max ?? 100), 44));
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
      if ((gap.isHole && wide > 2) || (view.raw && wide > 3)) hatch(g, x, 0, wide, height);
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
    // Values that stand out are told above all else.
    this.outliers.clear();
    if (plan.kind === 'lines' || plan.kind === 'mirror') this.needle(g, view, this.y, plan);
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
          time = view.raw ? line.series.end : line.series.time;
        // The step of a tick may reach into the view from behind its end.
        const to = Math.min(time.length, lower(time, view.to) + (view.raw ? 1 : 0));
        for (let at = lower(time, view.from - view.bucket); at < to; at++) {
          if (values[at] * line.factor > top) top = values[at] * line.factor;
        }
      }
      return top;
    };
    const up = plan.lines.filter(line => !line.down),
      down = plan.lines.filter(line => line.down);
    this.peak = most(plan.peak ? [plan.peak] : plan.lines, 'max');
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
    this.marks = rounds(Math.max(top, bottom), height > 60 ? 2 : 1, plan.unit);
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
      // The first lines are those that people look for, so they are on top.
      if (!view.raw) for (const line of [...plan.lines].reverse()) band(g, view, line, y);
      for (const line of [...plan.lines].reverse()) path(g, view, line, y, plan.steps, single ? 0.18 : 0);
    }
    if (plan.sides) {
      g.fillStyle = colour('hatch');
      g.fillRect(view.left, Math.round(y(0)), view.width, 1);
      if (height > 60) {
        // On a phone, the labels of the scale are at the left.
        const [x, align] = /** @type {[number, CanvasTextAlign]} */ (view.left ? [view.left + 6, 'left'] : [view.width - 6, 'right']);
        label(g, plan.sides[0], x, 8, align, 'text2');
        if ((bottom / (top + bottom)) * height > 22) label(g, plan.sides[1], x, height - 8, align, 'text2');
      }
    }
    const one = plan.lines[0]?.series;
    if (!view.raw || !one || !plan.steps || view.interval <= view.to - view.from) return;
    const at = lower(one.end, view.to);
    if (at >= one.length || at === 0) return;
    const part = (/** @type {number} */ time) => clock(time, 1000).slice(view.interval < SECOND ? 8 : 0);
    plate(g, `one tick from ${part(one.end[at - 1])} to ${part(one.end[at])}`, view.left + view.width - 8, 9);
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
      const x = xOf(view, view.raw ? line.series.end[at] : line.series.time[at] + view.bucket / 2),
        tip = y(sign * values.max[at]),
        base = y(sign * values.mean[at]);
      if (!view.raw && Math.abs(tip - base) < 12) continue;
      this.outliers.set(line, at);
      if (!view.raw) {
        g.fillStyle = colour(line.colour);
        g.fillRect(x - 1.5, Math.min(tip, base), 3, Math.abs(base - tip));
      }
      g.beginPath();
      g.arc(x, tip + (view.raw ? 0 : line.down ? -1 : 1), view.raw ? 3.6 : 3.2, 0, 7);
      g.fillStyle = colour('plot');
      g.fill();
      g.strokeStyle = colour(line.colour);
      g.lineWidth = 1.75;
      g.stroke();
      const value = values.max[at] * line.factor,
        text = view.raw ? `${told(value, plan.unit, 5)} in one ${duration(view.interval)} tick` : told(value, plan.unit);
      const isLate = x + g.measureText(text).width + 16 > view.left + view.width,
        below = view.raw ? 6 : 3;
      label(g, text, x + (isLate ? -9 : 9), tip + (line.down ? -below : below), isLate ? 'right' : 'left', 'text');
    }
  }

  /** A row of cells for each line. @param {CanvasRenderingContext2D} g @param {View} view @param {number} height */
  heat(g, view, height) {
    const plan = /** @type {import('./plan.js').Chart} */ (this.plan);
    // A pixel of the image is a column of a core. As rectangles, hundreds of cores would take long.
    const image = new ImageData(Math.ceil(view.width), plan.lines.length),
      pixels = new Uint32Array(image.data.buffer),
      colours = new Uint32Array(ramp().buffer);
    const bucket = Math.max(1, (view.bucket / (view.to - view.from)) * view.width);
    plan.lines.forEach((line, row) => {
      const { time, end } = line.series,
        { mean } = line.series.columns[line.column];
      const ahead = view.raw ? view.interval : 0;
      for (let at = lower(time, view.from - Math.max(view.bucket, view.interval)), to = lower(time, view.to + ahead); at < to; at++) {
        if (Number.isNaN(mean[at])) continue;
        const shade = clamp(Math.round(((mean[at] * line.factor) / (plan.max ?? 100)) * 255), 0, 255);
        const wide = view.raw ? (view.interval / (view.to - view.from)) * view.width : bucket,
          begin = (view.raw ? xOf(view, end[at]) - wide : xOf(view, time[at])) - view.left;
        const [left, right] = [begin, begin + wide].map(x => clamp(Math.round(x), 0, image.width));
        pixels.fill(colours[shade], row * image.width + left, row * image.width + Math.max(right, Math.min(left + 1, image.width)));
      }
    });
    this.image.width = image.width;
    this.image.height = image.height;
    this.image.getContext('2d')?.putImageData(image, 0, 0);
    g.imageSmoothingEnabled = false;
    g.drawImage(this.image, view.left, 0, view.width, height);
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
      const at = clamp(this.y(value), 6, height - 6);
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
    if (!this.plan) return;
    this.read.replaceChildren(...rows(this.plan, view, time, this.outliers));
    this.value.replaceChildren(...headline(this.plan, view, time));
  }
}
