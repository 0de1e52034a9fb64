/** How seconds look inside: a column is a second, a row some milliseconds of it. */

import * as api from './api.js';
import { context, make } from './dom.js';
import { label } from './draw.js';
import { clamp, told } from './number.js';
import { colour, ramp } from './palette.js';
import { sentence, unitOf } from './plan.js';
import { split } from './series.js';
import { SECOND, clock, marks } from './time.js';

const SECONDS_MAX = 600,
  TALL = 500,
  LEFT = 56,
  RIGHT = 84;

export class Heat {
  /** @param {(value: string) => void} choose @param {(time: number) => void} moment */
  constructor(choose, moment) {
    this.canvas = make('canvas', { role: 'img', 'aria-label': 'Heat map of seconds' });
    this.title = make('h1');
    this.scale = make('span.legend');
    this.told = make('span.sub', { role: 'status' });
    const select = (/** @type {string} */ name) => make('select.btn', { 'aria-label': name, change: () => choose(this.choice(name)) });
    this.table = select('table');
    this.column = select('column');
    this.series = select('series');
    this.rows = select('rows');
    this.cells = select('cells');
    this.element = make(
      'div.seconds',
      {},
      make('div.pick', {}, this.title, this.table, this.column, this.series, this.rows, this.cells, this.scale),
      make('div.map', {}, this.canvas),
      this.told,
    );
    /** @type {{from: number, seconds: number, rows: number, values: Float64Array, unit: string, name: string}|null} */
    this.shown = null;
    /** @type {api.Rows|null} */
    this.answer = null;
    /** @type {AbortController|null} */
    this.running = null;
    this.canvas.addEventListener('pointermove', (/** @type {PointerEvent} */ event) => this.point(event, null));
    this.canvas.addEventListener('click', (/** @type {PointerEvent} */ event) => this.point(event, moment));
  }

  /** @param {string} changed */
  choice(changed) {
    const parts = [
      this.table.value,
      changed === 'table' ? '' : this.column.value,
      changed === 'table' || changed === 'column' ? '' : this.series.value,
      this.rows.value,
      this.cells.value,
    ];
    return parts.join('|');
  }

  /** @param {import('./address.js').Place} place @param {api.Group[]} groups @param {import('./draw.js').View} view */
  async show(place, groups, view) {
    const fast = groups.flatMap(group => group.tables).filter(table => table.interval_us && table.interval_us <= 20_000);
    if (!fast.length) return;
    const [tableName, columnName, seriesName, rowsText, cells] = place.heat.split('|');
    const table = fast.find(one => one.name === tableName) ?? fast.find(one => one.name === 'network') ?? fast[0];
    const numbers = table.columns.filter(one => one.kind === 'counter' || one.kind === 'gauge');
    const column = numbers.find(one => one.name === columnName) ?? numbers.find(one => one.name === 'utilization') ?? numbers[0];
    const rows = rowsText === '50' ? 50 : 100;
    options(
      this.table,
      fast.map(one => [one.name, one.name]),
      table.name,
    );
    options(
      this.column,
      numbers.map(one => [one.name, one.name]),
      column.name,
    );
    options(
      this.rows,
      [
        ['100', 'rows of 10 ms'],
        ['50', 'rows of 20 ms'],
      ],
      String(rows),
    );
    options(
      this.cells,
      [
        ['max', 'max'],
        ['mean', 'mean'],
      ],
      cells === 'mean' ? 'mean' : 'max',
    );
    this.running?.abort();
    const running = new AbortController();
    this.running = running;
    const seconds = clamp(Math.ceil(place.span / SECOND), 10, SECONDS_MAX);
    const to = Math.ceil(view.to / SECOND) * SECOND,
      from = to - seconds * SECOND;
    // An answer has at most 10,000 buckets.
    const piece = Math.floor(10_000 / rows) * SECOND;
    const parts = [];
    for (let start = from; start < to; start += piece) {
      const end = Math.min(to, start + piece);
      parts.push(
        api.range(
          { table: table.name, columns: [column.name], from: start, to: end, buckets: ((end - start) / SECOND) * rows, tier: 'raw' },
          running.signal,
        ),
      );
    }
    const answers = await Promise.all(parts);
    const all = answers.flatMap(answer => split(answer, [column.name]));
    const keys = [...new Set(all.map(one => one.key))];
    const weight = (/** @type {string} */ key) =>
      all
        .filter(one => one.key === key)
        .reduce((sum, one) => sum + one.columns[column.name].mean.reduce((total, value) => total + (value > 0 ? value : 0), 0), 0);
    const key = keys.find(one => one === seriesName) ?? keys.sort((a, b) => weight(b) - weight(a))[0] ?? '';
    options(
      this.series,
      keys.map(one => [one, one.replaceAll('\u0000', ' ') || 'host']),
      key,
    );
    const [unit, factor] = unitOf(column.unit, column.kind === 'counter');
    const values = new Float64Array(seconds * rows).fill(NaN);
    for (const one of all.filter(each => each.key === key)) {
      const picked = one.columns[column.name][cells === 'mean' ? 'mean' : 'max'];
      for (let index = 0; index < one.length; index++) {
        const cell = Math.round((one.time[index] - from) / (SECOND / rows));
        if (cell >= 0 && cell < values.length) values[cell] = picked[index] * factor;
      }
    }
    this.shown = {
      from,
      seconds,
      rows,
      values,
      unit,
      name: `${key.replaceAll('\u0000', ' ')} ${sentence(column.name).toLowerCase()}`.trim(),
    };
    this.draw();
  }

  renew() {
    if (this.shown) this.draw();
  }

  draw() {
    const shown = this.shown;
    if (!shown) return;
    const { from, seconds, rows, values, unit } = shown;
    const width = this.canvas.parentElement?.clientWidth ?? 800;
    const wide = Math.max(1, Math.floor((width - LEFT - RIGHT) / seconds)),
      tall = Math.max(2, Math.floor(TALL / rows)),
      height = tall * rows;
    const g = context(this.canvas, width, height + 30);
    const seen = values.filter(value => value > 0).sort(),
      low = seen[Math.floor(seen.length * 0.02)] ?? 1,
      high = seen[seen.length - 1] ?? 1;
    const colours = ramp(),
      reach = Math.log(Math.max(high / low, 1.01));
    const shade = (/** @type {number} */ value) => (value > 0 ? clamp(Math.round((Math.log(value / low) / reach) * 235) + 20, 20, 255) : 0);
    const sums = new Float64Array(rows),
      counts = new Float64Array(rows);
    for (let second = 0; second < seconds; second++) {
      for (let row = 0; row < rows; row++) {
        const value = values[second * rows + row];
        const at = shade(value) * 4;
        if (Number.isNaN(value)) g.fillStyle = colour('hatch');
        else {
          g.fillStyle = `rgb(${colours[at]},${colours[at + 1]},${colours[at + 2]})`;
          sums[row] += value;
          counts[row]++;
        }
        g.fillRect(LEFT + second * wide, height - (row + 1) * tall, wide, tall);
      }
    }
    for (let ms = 0; ms <= 1000; ms += 100)
      label(g, ms === 1000 ? '1 s' : `${ms} ms`, LEFT - 6, clamp(height - (ms / 1000) * height, 6, height - 6), 'right');
    for (const { time, label: text } of marks(from, from + seconds * SECOND, seconds * wide))
      label(g, text, clamp(LEFT + ((time - from) / SECOND) * wide, LEFT + 20, LEFT + seconds * wide - 20), height + 12, 'center', 'text2');
    const means = sums.map((sum, row) => (counts[row] ? sum / counts[row] : 0)),
      most = Math.max(...means, 1e-12),
      start = LEFT + seconds * wide + 8;
    g.fillStyle = colour('blue');
    means.forEach((mean, row) =>
      g.fillRect(start, height - (row + 1) * tall, Math.max(0, (mean / most) * (RIGHT - 16)), Math.max(1, tall - 1)),
    );
    label(g, 'mean second', start, height + 12, 'left', 'text2');
    this.title.textContent = shown.name;
    this.scale.textContent = seen.length
      ? `${told(low, unit)} to ${told(high, unit)}, log scale`
      : values.every(Number.isNaN)
        ? 'Nothing was recorded in this time.'
        : 'all zero';
    this.place = { wide, tall, height };
  }

  /** @param {PointerEvent} event @param {((time: number) => void)|null} moment */
  point(event, moment) {
    if (!this.shown || !this.place) return;
    const { from, seconds, rows, values, unit } = this.shown;
    const second = Math.floor((event.offsetX - LEFT) / this.place.wide),
      row = Math.floor((this.place.height - event.offsetY) / this.place.tall);
    if (second < 0 || second >= seconds || row < 0 || row >= rows) return;
    const time = from + second * SECOND + row * (SECOND / rows);
    this.told.textContent = `${clock(time, 1000)}: ${told(values[second * rows + row], unit)}`;
    moment?.(time);
  }
}

/** @param {HTMLSelectElement} select @param {string[][]} choices @param {string} chosen */
function options(select, choices, chosen) {
  select.replaceChildren(...choices.map(([value, name]) => make('option', { value, selected: value === chosen }, name)));
  select.value = chosen;
}
