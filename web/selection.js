/** Selections: shaded on the charts, with the statistics of what they hold. */

import * as api from './api.js';
import { make } from './dom.js';
import { duration, told } from './number.js';
import { chartsOf, columnsOf, labelsOf } from './plan.js';
import { split } from './series.js';
import { clock } from './time.js';

export class Selection {
  /** @param {() => void} close */
  constructor(close) {
    this.element = make('section.stats', { hidden: true, 'aria-label': 'Selection', tabindex: '0' });
    this.close = close;
    this.shades = [make('div.shade'), make('div.shade.b')];
    this.key = '';
    /** @type {AbortController|null} */
    this.running = null;
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.timer = undefined;
  }

  /** @param {import('./address.js').Place} place @param {api.Table[]} tables */
  show(place, tables) {
    const key = JSON.stringify([place.a, place.b, tables.map(table => table.name)]);
    this.element.hidden = !place.a && !place.b;
    if (key === this.key || this.element.hidden) return;
    this.key = key;
    this.running?.abort();
    const running = new AbortController();
    this.running = running;
    clearTimeout(this.timer);
    this.timer = setTimeout(
      () =>
        this.load(place, tables, running.signal).catch(error => {
          if (!running.signal.aborted)
            this.element.replaceChildren(make('p.mute', {}, error instanceof Error ? error.message : String(error)));
        }),
      200,
    );
  }

  /** @param {import('./address.js').Place} place @param {api.Table[]} tables @param {AbortSignal} signal */
  async load(place, tables, signal) {
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
            const columns = columnsOf(table);
            const answer = await api.range(
              {
                table: table.name,
                columns,
                from: Math.floor(from),
                to: Math.ceil(to),
                buckets: 1,
                labels: labelsOf(table),
                tier: to - from < 3600e6 ? 'raw' : 'auto',
              },
              signal,
            );
            return chartsOf(table, split(answer, columns))
              .filter(plan => plan.kind !== 'heat')
              .flatMap(plan =>
                (plan.peak ? [plan.peak] : plan.lines).map(line => ({ plan, line, values: line.series.columns[line.column] })),
              );
          }),
        );
        return { name, from, to, stats: lists.flat() };
      }),
    );
    const body = rows.flatMap(({ name, from, to, stats }) =>
      stats.map(({ plan, line, values }, index) =>
        make(
          'tr',
          {},
          make(
            'td',
            {},
            index === 0 ? make(`span.key.${name.toLowerCase()}`, {}, name) : '',
            index === 0 ? `${clock(from, 1000)} – ${clock(to, 1000)}, ${duration(to - from)}` : '',
          ),
          make('td', {}, `${plan.title} ${line.name}`),
          ...['min', 'mean', 'max'].map(part => make('td.num', {}, told(/** @type {any} */ (values)[part][0] * line.factor, plan.unit))),
          make(
            'td.num',
            {},
            plan.steps && plan.unit.includes('/s')
              ? told((values.mean[0] * line.factor * (to - from)) / 1e6, plan.unit.replace('/s', ''))
              : '',
          ),
        ),
      ),
    );
    this.element.replaceChildren(
      make('div.acts', {}, make('h2', {}, 'Selection'), make('span.grow'), make('button.btn', { click: this.close }, 'Close')),
      make(
        'table',
        {},
        make(
          'thead',
          {},
          make('tr', {}, ...['time', 'series', 'min', 'mean', 'max', 'total'].map(head => make('th', { scope: 'col' }, head))),
        ),
        make('tbody', {}, ...body),
      ),
    );
  }

  /** @param {HTMLElement} work @param {import('./axis.js').Axis} axis @param {HTMLElement} list @param {import('./draw.js').View} view @param {import('./address.js').Place} place */
  shade(work, axis, list, view, place) {
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
