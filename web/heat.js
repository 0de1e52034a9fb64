/** How seconds look inside: which counter, from when, and what its cells are. */

import * as api from './api.js';
import { make } from './dom.js';
import { LEFT, draw, reach, sizeOf, timeAt } from './heatmap.js';
import { clamp, duration, short, told } from './number.js';
import { busiest, unitIn } from './plan.js';
import { legend } from './readout.js';
import { split } from './series.js';
import { SECOND, clock } from './time.js';

const SECONDS_MIN = 10,
  SECONDS_MAX = 600,
  /** Tables that are sampled less often look the same in all rows. */
  INTERVAL_US_MAX = 20_000,
  BUCKETS_MAX = 10_000,
  /** Rows may come so late, so these seconds are fetched again. */
  LATE_SECONDS = 3,
  PADDING = 10;

/** @typedef {import('./heatmap.js').Cells & {id: string, column: string, key: string}} Shown */

export class Heat {
  /** @param {(value: string) => void} choose @param {(time: number) => void} moment @param {(pair: [number, number], isSecond: boolean) => void} select */
  constructor(choose, moment, select) {
    this.canvas = make('canvas', { role: 'img', 'aria-label': 'Heat map of seconds' });
    this.title = make('h1');
    this.scale = make('span.legend');
    this.told = make('span.sub.told', { role: 'status' });
    const list = (/** @type {string} */ name) => make('select.btn', { 'aria-label': name, change: () => choose(this.choice(name)) });
    this.table = list('table');
    this.column = list('column');
    this.series = list('series');
    this.rows = list('rows');
    this.cells = list('cells');
    this.map = make('div.map', {}, this.canvas);
    const lists = [this.table, this.column, this.series, this.rows, this.cells];
    this.element = make('div.seconds', {}, make('div.pick', {}, this.title, ...lists, this.told, this.scale), this.map);
    /** @type {Shown|null} */
    this.shown = null;
    this.tableName = '';
    this.interval = 1000;
    /** @type {AbortController|null} */
    this.running = null;
    /** @type {number|null} */
    let since = null;
    this.canvas.addEventListener('pointerdown', (/** @type {PointerEvent} */ event) => {
      since = event.shiftKey ? this.point(event) : null;
    });
    this.canvas.addEventListener('pointermove', (/** @type {PointerEvent} */ event) => this.tell(event));
    this.canvas.addEventListener('pointerup', (/** @type {PointerEvent} */ event) => {
      const time = this.point(event);
      if (time === null) return;
      if (since === null) moment(time);
      else if (since !== time) select(since < time ? [since, time] : [time, since], event.altKey);
      since = null;
    });
  }

  /** @param {string} changed */
  choice(changed) {
    const isTable = changed === 'table';
    return [
      this.table.value,
      isTable ? '' : this.column.value,
      isTable || changed === 'column' ? '' : this.series.value,
      this.rows.value,
      this.cells.value,
    ].join('|');
  }

  /** @param {import('./address.js').Place} place @param {api.Group[]} groups @param {{to: number}} view @param {number} wall @param {boolean} extend */
  async show(place, groups, view, wall, extend) {
    const fast = groups.flatMap(group => group.tables).filter(one => one.interval_us && one.interval_us <= INTERVAL_US_MAX);
    if (!fast.length) {
      this.told.textContent = 'No table here has ticks within a second.';
      return;
    }
    const [tableName, columnName, seriesName, rowsText, cellsText] = place.heat.split('|');
    const table = fast.find(one => one.name === tableName) ?? fast.find(one => one.name === 'network') ?? fast[0];
    const numbers = table.columns.filter(one => one.kind === 'counter' || one.kind === 'gauge');
    const column = numbers.find(one => one.name === columnName) ?? numbers.find(one => one.name === 'utilization') ?? numbers[0];
    const rows = rowsText === '50' ? 50 : 100;
    [this.tableName, this.interval] = [table.name, table.interval_us ?? 1000];
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
        ['max', 'cells: max'],
        ['mean', 'cells: mean'],
      ],
      cellsText === 'mean' ? 'mean' : 'max',
    );
    this.running?.abort();
    const running = new AbortController();
    this.running = running;
    const seconds = clamp(Math.ceil(place.span / SECOND), SECONDS_MIN, SECONDS_MAX),
      to = Math.ceil(view.to / SECOND) * SECOND,
      from = to - seconds * SECOND;
    const id = [table.name, column.name, seriesName, rows, seconds].join('|'),
      old =
        extend && this.shown?.id === id && from >= this.shown.from && from < this.shown.until - LATE_SECONDS * SECOND ? this.shown : null;
    const start = old ? Math.floor(old.until / SECOND - LATE_SECONDS) * SECOND : from;
    const all = await load(table.name, column.name, start, to, rows, running.signal);
    const sorted = busiest(all, [column.name]),
      known = [...new Set(all.map(one => one.key))];
    const key = old?.key ?? known.find(one => one === seriesName) ?? sorted[0]?.key ?? known[0] ?? '';
    if (!old)
      options(
        this.series,
        known.map(one => [one, one.replaceAll('\u0000', ' ').trim() || 'host']),
        key,
      );
    const [unit, factor] = unitIn(table, column);
    const cells = { max: new Float64Array(seconds * rows).fill(NaN), mean: new Float64Array(seconds * rows).fill(NaN) };
    for (const part of /** @type {('max'|'mean')[]} */ (['max', 'mean'])) {
      if (old) cells[part].set(old[part].subarray(((from - old.from) / SECOND) * rows));
      for (const one of all.filter(each => each.key === key)) {
        const values = one.columns[column.name][part];
        for (let index = 0; index < one.length; index++) {
          // A bucket with a single tick may have that tick's time.
          const cell = Math.floor((one.time[index] - from) / (SECOND / rows));
          if (cell >= 0 && cell < seconds * rows) cells[part][cell] = values[index] * factor;
        }
      }
    }
    const until = Math.min(wall, to);
    this.shown = { id, column: column.name, key, from, seconds, rows, ...cells, until, unit };
    this.title.textContent =
      `${key.replaceAll('\u0000', ' ').trim()} ${column.name.replace(/_(bytes|us)$/, '').replaceAll('_', ' ')}`.trim();
    this.canvas.dataset.until = String(until);
  }

  /** Nobody looks at what is under way. */
  leave() {
    this.running?.abort();
  }

  /** The grid of what stands above: it has the edges of the map. */
  columns() {
    return `${LEFT + PADDING}px ${this.width()}px minmax(0, 1fr)`;
  }
  width() {
    const shown = this.shown;
    return shown ? this.size(shown).wide * shown.seconds : Math.max(50, this.map.clientWidth - LEFT);
  }
  source() {
    return `raw ${duration(this.interval)}`;
  }
  level() {
    return this.shown ? `1 column = 1 s, 1 row = ${1000 / this.shown.rows} ms` : ' ';
  }

  /** @param {Shown} shown @returns {import('./heatmap.js').Size} */
  size(shown) {
    const frame = this.element.parentElement,
      rest = frame ? [...frame.children].filter(one => one !== this.element).reduce((sum, one) => sum + one.clientHeight, 0) : 0;
    const room = (frame?.clientHeight ?? 700) - rest - (this.map.offsetTop - this.element.offsetTop) - 8;
    return sizeOf(this.map.clientWidth || 800, room, shown);
  }

  /** @param {import('./address.js').Place} place */
  draw(place) {
    const shown = this.shown;
    if (!shown) return;
    const part = this.cells.value === 'mean' ? 'mean' : 'max',
      ends = reach(shown[part]);
    draw(this.canvas, shown, part, this.size(shown), place);
    if (ends) this.scale.replaceChildren(legend(short(ends.low, shown.unit), `${told(ends.high, shown.unit)}, log`, 128));
    else this.scale.textContent = shown[part].every(Number.isNaN) ? 'Nothing was recorded in this time.' : 'all zero';
  }

  /** @param {PointerEvent} event */
  point(event) {
    return this.shown && timeAt(this.shown, this.size(this.shown), event.offsetX, event.offsetY);
  }

  /** @param {PointerEvent} event */
  tell(event) {
    const time = this.point(event),
      shown = this.shown;
    if (time === null || !shown) return;
    const value = shown[this.cells.value === 'mean' ? 'mean' : 'max'][Math.round((time - shown.from) / (SECOND / shown.rows))];
    this.told.textContent = `${clock(time, 1000)}  ${told(value, shown.unit)}`;
  }
}

/** @param {string} table @param {string} column @param {number} from @param {number} to @param {number} rows @param {AbortSignal} signal */
async function load(table, column, from, to, rows, signal) {
  const piece = Math.floor(BUCKETS_MAX / rows) * SECOND,
    parts = [];
  for (let start = from; start < to; start += piece) {
    const end = Math.min(to, start + piece),
      buckets = ((end - start) / SECOND) * rows;
    parts.push(api.range({ table, columns: [column], from: start, to: end, buckets, tier: 'raw' }, signal));
  }
  return (await Promise.all(parts)).flatMap(answer => split(answer, [column]));
}

/** @param {HTMLSelectElement} select @param {string[][]} choices @param {string} chosen */
function options(select, choices, chosen) {
  const same = choices.length === select.options.length && choices.every(([value], at) => select.options[at].value === value);
  if (!same) select.replaceChildren(...choices.map(([value, name]) => make('option', { value }, name)));
  select.value = chosen;
}
