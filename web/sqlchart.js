/** A chart of a statement's rows: a column of times, columns of numbers, and texts that tell series apart. */

import { Chart } from './chart.js';
import { context, make } from './dom.js';
import { label, xOf } from './draw.js';
import { COLOURS } from './plan.js';
import { marks } from './time.js';

/** Times in µs from 2001 to 2100. */
const TIME_MIN = 1e15,
  TIME_MAX = 4.1e15,
  HEIGHT = 200,
  TICKS = 18,
  LEFT = 46,
  /** A point with so many pixels gets a dot. */
  DOT_PX = 4;
const TIMES = /^(time|end|at|since|until|bucket|second|minute|hour|day)$|_at$|_time$/;

/** Whether a column has times, by its name and values. @param {import('./api.js').Rows} rows @param {number} at */
export function isTime({ columns, rows }, at) {
  return TIMES.test(columns[at].name) && rows.every(row => row[at] === null || (row[at] > TIME_MIN && row[at] < TIME_MAX));
}

/**
 * The lines that rows have, or none: the first column of times, and each other column of numbers by the texts beside it.
 * @param {import('./api.js').Rows} answer
 * @returns {import('./plan.js').Line[]}
 */
export function linesOf(answer) {
  const { columns, rows } = answer;
  const timeAt = columns.findIndex((_, at) => isTime(answer, at));
  const ofType = (/** @type {RegExp} */ type) =>
    columns.flatMap(({ type: own }, at) => (at !== timeAt && !isTime(answer, at) && type.test(own) ? [at] : []));
  const numbers = ofType(/^u?int|^float/),
    texts = ofType(/text/).filter(at => columns[at].name !== 'host');
  if (timeAt < 0 || !numbers.length) return [];
  /** @type {Map<string, any[][]>} */
  const groups = new Map();
  for (const row of rows) {
    if (row[timeAt] === null) continue;
    const key = texts.map(at => row[at] ?? '').join(' ');
    const own = groups.get(key);
    if (own) own.push(row);
    else groups.set(key, [row]);
  }
  const lines = [...groups].flatMap(([key, own]) => {
    const sorted = own.sort((a, b) => a[timeAt] - b[timeAt]),
      time = Float64Array.from(sorted, row => row[timeAt]);
    return numbers.map(at => {
      const values = Float64Array.from(sorted, row => row[at] ?? NaN),
        name = columns[at].name;
      const series = {
        key,
        labels: {},
        length: time.length,
        time,
        end: time,
        ticks: values.map(() => 1),
        columns: { [name]: { min: values, max: values, mean: values } },
        tier: 'raw',
      };
      return { name: [key, numbers.length > 1 || !key ? name : ''].filter(Boolean).join(' '), column: name, colour: '', factor: 1, series };
    });
  });
  const long = lines.filter(line => line.series.length > 1);
  return long.slice(0, COLOURS.length).map((line, at) => ({ ...line, colour: COLOURS[at] }));
}

/** The chart, or null where rows have none. @param {import('./api.js').Rows} answer @param {number} width */
export function chartOf(answer, width) {
  const lines = linesOf(answer);
  if (!lines.length) return null;
  const times = lines.flatMap(line => [line.series.time[0], line.series.time[line.series.length - 1]]),
    longest = lines.reduce((one, other) => (other.series.length > one.series.length ? other : one)).series;
  const from = Math.min(...times),
    to = Math.max(...times),
    bucket = Math.max(1, (longest.time[longest.length - 1] - longest.time[0]) / (longest.length - 1));
  const chart = new Chart();
  chart.show({ id: 'sql', title: 'Result', unit: '', kind: 'lines', steps: false, height: HEIGHT, lines }, '');
  const below = make('canvas', { 'aria-hidden': 'true' });
  chart.canvas.after(below);
  const plot = Math.max(100, width - chartFrame());
  /** @type {import('./draw.js').View} */
  const view = { from, to: Math.max(to, from + 1), left: LEFT, width: plot - LEFT, bucket, interval: bucket, raw: false };
  view.raw = (bucket / (view.to - view.from)) * view.width >= DOT_PX;
  view.marks = marks(view.from, view.to, view.width);
  chart.draw(view, [], false, 1);
  chart.readout(view, null);
  const g = context(below, plot, TICKS);
  for (const { time, label: text } of view.marks) label(g, text, xOf(view, time), 10, 'center', 'text2');
  chart.canvas.addEventListener('pointermove', (/** @type {PointerEvent} */ event) =>
    chart.readout(view, view.from + ((event.offsetX - LEFT) / view.width) * (view.to - view.from)),
  );
  chart.canvas.addEventListener('pointerleave', () => chart.readout(view, null));
  return chart.element;
}

/** What stands beside the plot. */
const chartFrame = () => (innerWidth < 720 ? 0 : innerWidth < 1200 ? 112 + 222 : 116 + 232);
