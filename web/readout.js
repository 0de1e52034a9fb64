/** The values of a chart at a time, as the column beside it and, on a phone, its heading have them. */

import { make } from './dom.js';
import { grouped, told } from './number.js';
import { colour, pale, ramp } from './palette.js';
import { lower, nearest } from './series.js';

/** @typedef {import('./draw.js').View} View */
/** @typedef {import('./plan.js').Line} Line */

const ROWS_MAX = 9,
  SNAP_PX = 2;

/** Finds the bucket, or the tick, that is told. @param {import('./plan.js').Chart} plan @param {View} view @param {number|null} time */
function finder(plan, view, time) {
  if (time !== null && view.raw && plan.steps) {
    // A step belongs to the tick that ended it. A pointer that is a pixel or two late still means that tick.
    const from = time - (SNAP_PX * (view.to - view.from)) / view.width;
    return (/** @type {Line} */ { series: { end } }) => {
      const at = lower(end, from);
      return at < end.length && end[at] - time <= view.interval * 2.5 ? at : -1;
    };
  }
  const reach = Math.max(view.bucket, view.interval) * 1.5 + 1000;
  // The newest bucket has few ticks yet, so the one before is told.
  return (/** @type {Line} */ line) =>
    time === null
      ? line.series.length - (line.series.length > 1 && !view.raw ? 2 : 1)
      : nearest(line.series, time, view.raw ? 0 : view.bucket, reach);
}

/** What came in the tick: its rate times the time since the one before. @param {View} view @param {Line} line @param {number} at */
export function amount(view, line, at) {
  const { end, columns } = line.series;
  // After missed ticks, a step is longer than the interval.
  const since = at > 0 ? end[at] - end[at - 1] : view.interval;
  return Math.round((columns[line.column].mean[at] * since) / 1e6);
}

/** A sign of the series in its colour; dashed where its line is. @param {Line} line */
function sign(line) {
  const key = make(line.dash ? 'i.dash' : 'i');
  if (line.colour) key.style.background = line.alpha ? pale(line.colour, line.alpha + 0.3) : colour(line.colour);
  return key;
}

/**
 * @param {import('./plan.js').Chart} plan @param {View} view @param {number|null} time
 * @param {Map<Line, number>} outliers the bucket of each line that stands out
 * @returns {HTMLElement[]}
 */
export function rows(plan, view, time, outliers) {
  const find = finder(plan, view, time);
  if (plan.kind === 'heat') return ofCores(plan, find);
  const lines = [...(plan.peak ? [plan.peak] : []), ...plan.lines, ...(plan.more ?? [])];
  return lines.slice(0, ROWS_MAX).map(line => {
    const at = find(line),
      values = line.series.columns[line.column],
      unit = line.unit ?? plan.unit;
    const mean = at < 0 ? NaN : values.mean[at] * line.factor,
      max = at < 0 ? NaN : values.max[at] * line.factor;
    const inTick = at < 0 || line.amount === undefined || Number.isNaN(mean) ? '' : `${grouped(amount(view, line, at))} ${line.amount}`;
    return make(
      at >= 0 && outliers.get(line) === at ? 'div.hot' : 'div',
      {},
      sign(line),
      make('span', {}, line.name),
      make('b', {}, told(mean, unit, view.raw && line.amount === 'B' ? 5 : 3)),
      make('b', {}, view.raw ? inTick : told(max, unit)),
    );
  });
}

/** @param {import('./plan.js').Chart} plan @param {(line: Line) => number} find */
function ranked(plan, find) {
  return plan.lines
    .map(line => ({ name: line.name, at: find(line), line }))
    .filter(one => one.at >= 0)
    .map(one => ({ name: one.name, value: one.line.series.columns[one.line.column].mean[one.at] * one.line.factor }))
    .sort((a, b) => b.value - a.value);
}

/** @param {import('./plan.js').Chart} plan @param {(line: Line) => number} find */
function ofCores(plan, find) {
  const seen = ranked(plan, find);
  const pick = [
    ['busiest', seen[0]],
    ['median', seen[Math.floor(seen.length / 2)]],
    ['idlest', seen[seen.length - 1]],
  ];
  return /** @type {[string, any][]} */ (pick).map(([name, one]) =>
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

/** The most important values, for a heading. @param {import('./plan.js').Chart} plan @param {View} view @param {number|null} time @returns {HTMLElement[]} */
export function headline(plan, view, time) {
  const find = finder(plan, view, time);
  if (plan.kind === 'heat') return [make('span', {}, `busiest ${told(ranked(plan, find)[0]?.value, '%')}`)];
  const lines = plan.peak ? [plan.peak] : plan.kind === 'mirror' ? plan.lines : plan.lines.slice(0, 1);
  return lines.map(line => {
    const at = find(line);
    const value = told(at < 0 ? NaN : line.series.columns[line.column].mean[at] * line.factor, line.unit ?? plan.unit);
    return make('span', {}, sign({ ...line, alpha: undefined }), `${line.name} ${value}`);
  });
}

/** What the colours of a heat map mean. @param {string} low @param {string} high @param {number} width */
export function legend(low, high, width) {
  const bar = make('canvas', { width, height: 8, 'aria-hidden': 'true' }),
    g = bar.getContext('2d'),
    colours = ramp();
  for (let x = 0; x < width; x++) {
    const at = Math.round((x / (width - 1)) * 255) * 4;
    g.fillStyle = `rgb(${colours[at]},${colours[at + 1]},${colours[at + 2]})`;
    g.fillRect(x, 0, 1, 8);
  }
  return make('span.ramp', {}, low, bar, high);
}
