/** Series as pixels: bands from min to max, lines of the mean, and ticks as steps. */

import { bandAlpha, colour, pale } from './palette.js';
import { lower } from './series.js';

/**
 * @typedef {object} View what the plot shows, and where
 * @property {number} from @property {number} to µs
 * @property {number} left @property {number} width px
 * @property {number} bucket µs of a bucket
 * @property {number} interval µs between ticks
 * @property {boolean} raw whether each tick is seen
 * @property {{time: number, label: string}[]} [marks]
 */
/** @typedef {import('./plan.js').Line} Line */

/** @param {View} view @param {number} time */
export const xOf = (view, time) => view.left + ((time - view.from) / (view.to - view.from)) * view.width;

/** Nothing was recorded for longer than this. @param {View} view */
const apart = view => Math.max(view.bucket, view.interval) * 2.5 + 1000;

/**
 * Stretches without a hole, as ranges of indexes that are in view.
 * @param {View} view @param {Line} line
 * @returns {[number, number][]}
 */
export function stretches(view, line) {
  const { time, end, length, columns } = line.series;
  const mean = columns[line.column].mean;
  const first = Math.max(0, lower(time, view.from - apart(view)) - 1),
    last = Math.min(length, lower(time, view.to) + 1);
  /** @type {[number, number][]} */
  const found = [];
  let start = first;
  for (let index = first; index < last; index++) {
    const hole = index > start && time[index] - Math.max(end[index - 1], time[index - 1]) > apart(view);
    if (hole || Number.isNaN(mean[index])) {
      if (index > start) found.push([start, index]);
      start = Number.isNaN(mean[index]) ? index + 1 : index;
    }
  }
  if (last > start) found.push([start, last]);
  return found;
}

/** Where a bucket's values stand: in its middle, or at its tick. @param {View} view @param {Line} line @param {number} index */
const placeOf = (view, line, index) =>
  xOf(
    view,
    view.raw ? line.series.end[index] : line.series.time[index] + Math.min(view.bucket, Math.max(0, view.to - line.series.time[index])) / 2,
  );

/** @param {CanvasRenderingContext2D} g @param {View} view @param {Line} line @param {(value: number) => number} y */
export function band(g, view, line, y) {
  const { time } = line.series,
    { min, max } = line.series.columns[line.column];
  const sign = line.down ? -line.factor : line.factor;
  const pixels = Math.max(1, (view.bucket / (view.to - view.from)) * view.width);
  g.fillStyle = pale(line.colour, bandAlpha());
  for (const [from, to] of stretches(view, line)) {
    for (let index = from; index < to; index++) {
      const a = y(sign * max[index]),
        b = y(sign * min[index]);
      g.fillRect(xOf(view, time[index]), Math.min(a, b), pixels, Math.max(1, Math.abs(b - a)));
    }
  }
}

/** @param {CanvasRenderingContext2D} g @param {View} view @param {Line} line @param {(value: number) => number} y @param {boolean} steps @param {number} [area] */
export function path(g, view, line, y, steps, area = 0) {
  const mean = line.series.columns[line.column].mean,
    sign = line.down ? -line.factor : line.factor;
  const isStep = view.raw && steps;
  for (const [from, to] of stretches(view, line)) {
    const trace = () => {
      for (let index = from; index < to; index++) {
        const x = placeOf(view, line, index),
          height = y(sign * mean[index]);
        if (isStep) g.lineTo(xOf(view, before(view, line, index)), height);
        g.lineTo(x, height);
      }
    };
    const begin = isStep ? xOf(view, before(view, line, from)) : placeOf(view, line, from);
    if (area) {
      g.beginPath();
      g.moveTo(begin, y(0));
      trace();
      g.lineTo(placeOf(view, line, to - 1), y(0));
      g.fillStyle = pale(line.colour, area);
      g.fill();
    }
    g.beginPath();
    trace();
    g.strokeStyle = colour(line.colour);
    g.lineWidth = view.raw ? 1.25 : 1.5;
    g.setLineDash(line.dash ? [4, 3] : []);
    g.stroke();
    g.setLineDash([]);
    if (view.raw) dots(g, view, line, y, from, to);
  }
}

/** @param {CanvasRenderingContext2D} g @param {View} view @param {Line} line @param {(value: number) => number} y @param {number} from @param {number} to */
function dots(g, view, line, y, from, to) {
  const mean = line.series.columns[line.column].mean,
    sign = line.down ? -line.factor : line.factor;
  if ((view.interval / (view.to - view.from)) * view.width < 7) return;
  for (let index = from; index < to; index++) {
    const x = placeOf(view, line, index);
    if (x < view.left - 4 || x > view.left + view.width + 4) continue;
    g.beginPath();
    g.arc(x, y(sign * mean[index]), 2.1, 0, 7);
    g.fillStyle = colour(line.colour);
    g.fill();
  }
}

/** The tick before one: its step began there. @param {View} view @param {Line} line @param {number} index */
function before(view, line, index) {
  const { end } = line.series;
  const earlier = index > 0 ? end[index - 1] : end[index] - view.interval;
  return end[index] - earlier > apart(view) ? end[index] - view.interval : earlier;
}

/**
 * Means on top of each other.
 * @param {CanvasRenderingContext2D} g @param {View} view @param {Line[]} lines @param {(value: number) => number} y @param {boolean} steps
 */
export function stack(g, view, lines, y, steps) {
  const sum = new Float64Array(lines[0].series.length);
  const isStep = view.raw && steps;
  const parts = stretches(view, lines[0]);
  for (const line of lines) {
    const mean = line.series.columns[line.column].mean;
    const upper = sum.map((low, index) => low + (Number.isNaN(mean[index]) ? 0 : mean[index] * line.factor));
    for (const [from, to] of parts) {
      const trace = (/** @type {Float64Array} */ heights, /** @type {boolean} */ back) => {
        for (let step = from; step < to; step++) {
          const index = back ? to - 1 - (step - from) : step;
          const x = placeOf(view, line, index),
            first = isStep ? xOf(view, before(view, line, index)) : x;
          g.lineTo(back ? x : first, y(heights[index]));
          if (isStep) g.lineTo(back ? first : x, y(heights[index]));
        }
      };
      g.beginPath();
      trace(upper, false);
      trace(sum, true);
      g.fillStyle = pale(line.colour, line.alpha ?? 0.62);
      g.fill();
      g.beginPath();
      trace(upper, false);
      const isLast = line === lines[lines.length - 1];
      g.strokeStyle = line.alpha ? colour(line.colour) : isLast ? pale('text', 0.75) : pale(line.colour, 0.9);
      g.lineWidth = isLast || line.alpha ? 1 : 0.5;
      g.stroke();
    }
    sum.set(upper);
  }
}

/** Of fewer buckets than this, no p99 can be told. */
const BUCKETS_MIN = 50;

/**
 * A bucket whose maximum stands far above all others: its index, or -1. In raw, a tick that is far above the next one.
 * @param {View} view @param {Line} line
 */
export function outlier(view, line) {
  const { time } = line.series,
    { max } = line.series.columns[line.column];
  const from = lower(time, view.from - (view.raw ? 0 : view.bucket)),
    to = lower(time, view.to);
  const seen = [...max.subarray(from, to)].filter(Number.isFinite).sort((a, b) => a - b);
  if (seen.length < (view.raw ? 4 : BUCKETS_MIN)) return -1;
  const most = seen[seen.length - 1],
    usual = view.raw ? 2 * seen[seen.length - 2] : 1.5 * seen[Math.floor(seen.length * 0.99) - 1];
  return most > usual && usual > 0 ? from + max.subarray(from, to).indexOf(most) : -1;
}

/** A text on a ground of its own, for where lines may run. @param {CanvasRenderingContext2D} g @param {string} text @param {number} right @param {number} y */
export function plate(g, text, right, y) {
  const wide = g.measureText(text).width;
  g.fillStyle = colour('plot');
  g.fillRect(right - wide - 4, y - 7, wide + 8, 14);
  label(g, text, right, y, 'right', 'text2');
}

/** A text that can be read over data. @param {CanvasRenderingContext2D} g @param {string} text @param {number} x @param {number} y @param {CanvasTextAlign} align @param {string} [name] */
export function label(g, text, x, y, align, name = 'text3') {
  g.textAlign = align;
  g.lineWidth = 3;
  g.strokeStyle = colour('plot');
  g.strokeText(text, x, y);
  g.fillStyle = colour(name);
  g.fillText(text, x, y);
}
