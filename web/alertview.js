/** The alert rules: their states, conditions and newest changes. */

import * as api from './api.js';
import { make } from './dom.js';
import { duration } from './number.js';
import { SECOND, clock, date } from './time.js';

const CHANGES_MAX = 200;

/** @param {HTMLElement} work @param {(time: number) => void} go */
export async function show(work, go) {
  const body = make('div.sheet', {}, make('h1', {}, 'Alerts'));
  work.replaceChildren(body);
  const [{ rules }, changes] = await Promise.all([api.alerts(), api.changes(api.clock.now() + SECOND, CHANGES_MAX)]);
  const heads = (/** @type {string[]} */ names) =>
    make(
      'thead',
      {},
      make('tr', {}, ...names.map(name => make(/^(fired|value|peak)$/.test(name) ? 'th.num' : 'th', { scope: 'col' }, name))),
    );
  const rows = rules.map(rule =>
    make(
      'tr',
      {},
      make('td', {}, make(`span.state.${rule.state}`, {}, rule.state)),
      make('td', {}, make('b', {}, rule.name)),
      make('td', {}, make('code', {}, rule.condition ? `${rule.table}: ${rule.condition}` : '–')),
      make('td', {}, rule.for_us === null ? '–' : rule.for_us ? duration(rule.for_us) : 'at once'),
      make('td', {}, rule.firing_series.map((/** @type {any} */ one) => Object.values(one.labels).join(' ') || 'host').join(', ') || '–'),
      make('td.num', {}, String(rule.fired)),
    ),
  );
  const history = changes.map(([time, rule, labels, state, value, peak]) =>
    make(
      'tr',
      {},
      make('td', {}, make('button.plain', { click: () => go(time) }, `${date(time)} ${clock(time, 1000)}`)),
      make('td', {}, make(`span.state.${state === 'firing' || state === 'no data' ? 'firing' : 'ok'}`, {}, state)),
      make('td', {}, rule),
      make('td', {}, labels),
      make('td.num', {}, value === null ? '–' : String(+Number(value).toPrecision(5))),
      make('td.num', {}, peak === null ? '–' : String(+Number(peak).toPrecision(5))),
    ),
  );
  body.append(
    make(
      'div.result',
      { role: 'region', tabindex: '0', 'aria-label': 'Rules' },
      make('table', {}, heads(['state', 'rule', 'condition', 'holds for', 'fires for', 'fired']), make('tbody', {}, ...rows)),
    ),
    make('h2', {}, 'History'),
    make(
      'div.result',
      { role: 'region', tabindex: '0', 'aria-label': 'History' },
      make('table', {}, heads(['time, UTC', 'change', 'rule', 'series', 'value', 'peak']), make('tbody', {}, ...history)),
    ),
    make('p.mute', {}, history.length ? 'A time opens its charts.' : api.recording ? 'No alert fired.' : 'No alert has fired yet.'),
  );
}
