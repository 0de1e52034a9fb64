/** Selections: shaded on the charts, with the statistics of what they hold. */

import * as api from './api.js';
import { icon, make } from './dom.js';
import { clamp, digits, duration, rounds, told } from './number.js';
import { asksOf, chartsOf, unitIn } from './plan.js';
import { split } from './series.js';
import { clock } from './time.js';

/** A selection is asked for in at most so many parts, whose means stand for ticks where there are more of those. */
const PARTS_MAX = 2000;

/** @typedef {{min: number, mean: number, p99: number, max: number, total: number, above: (limit: number) => number}} Statistics */

/**
 * What a line's parts come to. Parts without rows count for nothing.
 * @param {Pick<import('./plan.js').Line, 'series'|'column'>} line @param {number} width of a part, µs
 * @returns {Statistics} the total is in units times seconds; the time above a limit in µs
 */
export function statistics({ series, column }, width) {
  const { min, max, mean } = series.columns[column];
  let low = Infinity,
    high = -Infinity,
    sum = 0,
    ticks = 0,
    total = 0;
  const seen = mean.filter(Number.isFinite).sort();
  mean.forEach((value, at) => {
    if (!Number.isFinite(value)) return;
    low = Math.min(low, min[at]);
    high = Math.max(high, max[at]);
    sum += value * series.ticks[at];
    ticks += series.ticks[at];
    total += (value * width) / 1e6;
  });
  return {
    min: ticks ? low : NaN,
    max: ticks ? high : NaN,
    mean: ticks ? sum / ticks : NaN,
    p99: seen[Math.ceil(seen.length * 0.99) - 1] ?? NaN,
    total,
    above: limit => seen.filter(value => value > limit).length * width,
  };
}

/** @typedef {import('./series.js').Series} Series */
/** @typedef {{plan: Pick<import('./plan.js').Chart, 'id'|'title'|'unit'|'steps'>, line: Pick<import('./plan.js').Line, 'name'|'column'|'factor'|'series'>}} Told */

/** Whether a total means something: of rates. @param {Told['plan']} plan */
const isSum = plan => plan.steps && plan.unit.includes('/s');

/** The lines of a table's charts, with what their rows are told in. @param {api.Table} table @param {Series[]} series @returns {Told[]} */
const drawn = (table, series) =>
  chartsOf(table, series)
    .filter(plan => plan.kind !== 'heat')
    .flatMap(plan => (plan.peak ? [plan.peak] : plan.lines).map(line => ({ plan, line })));

/** One counter of one series, whether or not a chart draws it. @param {api.Table} table @param {Series[]} series @param {{column: string, key: string}} only @returns {Told[]} */
export function single(table, series, { column, key }) {
  const declared = table.columns.find(one => one.name === column),
    one = series.find(each => each.key === key);
  if (!declared || !one) return [];
  const [unit, factor] = unitIn(table, declared);
  const plan = { id: column, title: column, unit, steps: declared.kind === 'counter' };
  return [{ plan, line: { name: column, column, factor, series: one } }];
}

export class Selection {
  /** @param {() => void} close @param {() => void} arrived */
  constructor(close, arrived) {
    this.arrived = arrived;
    this.element = make('section.stats', { hidden: true, 'aria-label': 'Selection', tabindex: '0' });
    this.close = close;
    this.shades = [make('div.shade'), make('div.shade.b')];
    this.key = '';
    /** @type {AbortController|null} */
    this.running = null;
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.timer = undefined;
  }

  /** @param {import('./address.js').Place} place @param {api.Table[]} tables @param {{column: string, key: string}|null} [only] one counter of one series */
  show(place, tables, only = null) {
    const key = JSON.stringify([place.a, place.b, tables.map(table => table.name), only?.column, only?.key]);
    this.element.hidden = !place.a && !place.b;
    if (key === this.key || this.element.hidden) return;
    this.key = key;
    this.running?.abort();
    const running = new AbortController();
    this.running = running;
    clearTimeout(this.timer);
    this.timer = setTimeout(
      () =>
        this.load(place, tables, only, running.signal).catch(error => {
          if (!running.signal.aborted)
            this.element.replaceChildren(make('p.mute', {}, error instanceof Error ? error.message : String(error)));
        }),
      200,
    );
  }

  /** @param {import('./address.js').Place} place @param {api.Table[]} tables @param {{column: string, key: string}|null} only @param {AbortSignal} signal */
  async load(place, tables, only, signal) {
    const pairs = /** @type {[string, [number, number]][]} */ (
      [
        ['A', place.a],
        ['B', place.b],
      ].filter(([, pair]) => pair)
    );
    const rows = await Promise.all(
      pairs.map(async ([name, [from, to]]) => {
        const lists = await Promise.all(
          tables.map(async table => {
            // Of cores, a selection says nothing, and of one counter it says all.
            const [{ columns, labels }] = only ? [{ columns: [only.column], labels: {} }] : asksOf(table);
            // As many parts as there are ticks, if those are few.
            const parts = clamp(Math.ceil((to - from) / (table.interval_us ?? 1e6)), 1, PARTS_MAX);
            const width = Math.max(1, Math.ceil((to - from) / parts));
            const answer = await api.range(
              { table: table.name, columns, from: Math.floor(from), to: Math.ceil(to), buckets: parts, labels },
              signal,
            );
            const series = split(answer, columns);
            return (only ? single(table, series, only) : drawn(table, series)).map(one => ({ ...one, is: statistics(one.line, width) }));
          }),
        );
        return { name, from, to, stats: lists.flat() };
      }),
    );
    const [first, second] = rows;
    const when = (/** @type {{from: number, to: number}} */ { from, to }) => `${clock(from, 1000)} – ${clock(to, 1000)}`,
      length = (/** @type {{from: number, to: number}} */ { from, to }) => duration(to - from);
    const of = (/** @type {string} */ name) => (name === first.name ? first : second),
      sign = (/** @type {string} */ name) => make(`span.key.${name.toLowerCase()}`, {}, name);
    const body = first.stats.flatMap(({ plan, line, is }) => {
      const other = second?.stats.find(one => one.plan.id === plan.id && one.line.name === line.name)?.is;
      // The same limit for both, so that their times above it can be compared.
      const limit = rounds(Math.max(is.max, other?.max ?? 0) * line.factor, 2, plan.unit)[1] ?? 0;
      const row = (/** @type {string} */ name, /** @type {Statistics} */ one, /** @type {string} */ title) =>
        make(
          'tr',
          {},
          ...(only
            ? [make('td', {}, sign(name), when(of(name))), make('td.num', {}, length(of(name)))]
            : [make('td', {}, title), make('td', {}, sign(name))]),
          ...[one.min, one.mean, one.p99, one.max].map(value => make('td.num', {}, told(value * line.factor, plan.unit))),
          make('td.num', {}, isSum(plan) ? told(one.total * line.factor, plan.unit.replace('/s', '')) : ''),
          make(
            'td.num',
            {},
            limit ? `${one.above(limit / line.factor) ? duration(one.above(limit / line.factor)) : '0 s'} > ${told(limit, plan.unit)}` : '',
          ),
        );
      const found = [row(first.name, is, plan.title.toLowerCase() === line.name ? plan.title : `${plan.title} ${line.name}`)];
      if (other) {
        const times = (/** @type {number} */ a, /** @type {number} */ b) => make('td.num', {}, b > 0 ? `${digits(a / b)} ×` : '–');
        found.push(
          row(second.name, other, ''),
          make(
            'tr.ratio',
            {},
            make('td', {}, only ? 'A compared with B' : ''),
            make('td', {}, only ? '' : 'A / B'),
            times(is.min, other.min),
            times(is.mean, other.mean),
            times(is.p99, other.p99),
            times(is.max, other.max),
            isSum(plan) ? times(is.total, other.total) : make('td'),
            make('td'),
          ),
        );
      }
      return found;
    });
    const close = make('button.icon.small', { 'aria-label': 'Close the selection', click: this.close }, icon('close', 14));
    const lengths = rows.map(one => make('span.sub', {}, sign(one.name), `${when(one)}, ${length(one)}`));
    const heads = ['Selection', only ? 'length' : '', 'min', 'mean', 'p99', 'max', 'total', 'time above'].map((head, at) =>
      make(at > (only ? 0 : 1) ? 'th.num' : 'th', { scope: 'col' }, head),
    );
    if (only) heads[7].append(close);
    this.element.replaceChildren(
      only ? '' : make('div.acts', {}, make('h2', {}, 'Selection'), ...lengths, make('span.grow'), close),
      make('table', {}, make('thead', {}, make('tr', {}, ...heads)), make('tbody', {}, ...body)),
    );
    this.arrived();
  }

  /** @param {HTMLElement} work @param {import('./axis.js').Axis} axis @param {HTMLElement} list @param {import('./draw.js').View} view @param {import('./address.js').Place} place */
  shade(work, axis, list, view, place) {
    // Asking where things are makes the browser lay them out.
    if (!place.a && !place.b) return this.shades.forEach(shade => shade.remove());
    const offset = axis.canvas.getBoundingClientRect().left - work.getBoundingClientRect().left;
    [place.a, place.b].forEach((pair, index) => {
      const shade = this.shades[index];
      if (!pair) return shade.remove();
      const x = (/** @type {number} */ time) =>
        view.left + Math.min(1, Math.max(0, (time - view.from) / (view.to - view.from))) * view.width;
      shade.style.left = offset + x(pair[0]) + 'px';
      shade.style.width = Math.max(1, x(pair[1]) - x(pair[0])) + 'px';
      shade.style.top = list.offsetTop + 'px';
      shade.style.height = list.offsetHeight + 'px';
      shade.hidden = x(pair[0]) === x(pair[1]);
      if (!shade.isConnected) work.append(shade);
    });
  }
}
