/** The list of tables at the left: which of them have charts. */

import { icon, make } from './dom.js';
import { duration } from './number.js';
import { EVENTS, nameOf } from './plan.js';

/** @param {HTMLElement} nav @param {import('./api.js').Group[]} groups @param {string[]} shown @param {(name: string) => void} toggle */
export function show(nav, groups, shown, toggle) {
  const find = make('input', { placeholder: 'Find table', 'aria-label': 'Find table', spellcheck: 'false' });
  const parts = groups.map(group => {
    const buttons = group.tables
      .filter(table => !EVENTS.includes(table.name))
      .map(table => {
        const detail = table.unavailable
          ? 'not here'
          : table.interval_us
            ? duration(table.interval_us)
            : table.collector === null && group.name !== 'kymo'
              ? 'off'
              : '1 s';
        return make(
          'button',
          {
            'aria-pressed': String(shown.includes(table.name)),
            title: table.unavailable ?? table.doc,
            'data-table': table.name,
            disabled: table.unavailable !== null,
            click: () => toggle(table.name),
          },
          icon('tick', 12),
          make('span', {}, nameOf(table.name)),
          make('span', {}, detail),
        );
      });
    return make('div', {}, make('h3', {}, group.name), ...buttons);
  });
  find.addEventListener('input', () => {
    for (const button of /** @type {NodeListOf<HTMLElement>} */ (nav.querySelectorAll('button[data-table]'))) {
      button.hidden = !`${button.textContent} ${button.dataset.table}`.toLowerCase().includes(find.value.toLowerCase());
    }
  });
  nav.replaceChildren(make('div.find', {}, icon('find', 14), find, make('kbd', {}, '/')), ...parts);
}

/** @param {HTMLElement} nav @param {string[]} shown */
export function mark(nav, shown) {
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (nav.querySelectorAll('button[data-table]')))
    button.setAttribute('aria-pressed', String(shown.includes(button.dataset.table ?? '')));
}
