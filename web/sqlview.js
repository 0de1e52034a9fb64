/** The SQL box: a statement, its rows as a table, and downloads. */

import * as api from './api.js';
import { make } from './dom.js';
import { chartOf, isTime } from './sqlchart.js';
import { clock, date } from './time.js';

const ROWS_SHOWN_MAX = 500;
const WORDS = ['SELECT', 'FROM', 'WHERE', 'GROUP BY', 'ORDER BY', 'LIMIT', 'date_bin', 'increase', 'rate', 'now()', 'interval'];

/** @param {HTMLElement} work @param {string} statement @param {import('./api.js').Group[]} groups @param {(text: string) => void} keep */
export function show(work, statement, groups, keep) {
  const text = make('textarea', {
    rows: '6',
    spellcheck: 'false',
    'aria-label': 'SQL statement',
    value: statement || 'SELECT * FROM cpu_last',
  });
  const hints = make('div.hints', { role: 'group', 'aria-label': 'Completions' });
  const told = make('p.sub', { role: 'status' });
  const chart = make('div.plotted');
  const result = make('div.result', { role: 'region', tabindex: '0', 'aria-label': 'Result' });
  const names = [
    ...WORDS,
    ...new Set(
      groups.flatMap(group =>
        group.tables.flatMap(table => [table.name, `${table.name}_last`, ...table.tiers, ...table.columns.map(column => column.name)]),
      ),
    ),
  ];
  const complete = () => {
    const word = /[A-Za-z_0-9]+$/.exec(text.value.slice(0, text.selectionStart))?.[0] ?? '';
    const found =
      word.length < 2 ? [] : names.filter(name => name.toLowerCase().startsWith(word.toLowerCase()) && name !== word).slice(0, 10);
    hints.replaceChildren(
      ...found.map(name =>
        make(
          'button.badge',
          {
            click: () => {
              text.setRangeText(name, text.selectionStart - word.length, text.selectionStart, 'end');
              text.focus();
              complete();
            },
          },
          name,
        ),
      ),
    );
  };
  /** @type {AbortController|null} */
  let running = null;
  const run = async () => {
    running?.abort();
    const mine = new AbortController();
    running = mine;
    keep(text.value);
    told.textContent = 'Running…';
    const began = performance.now();
    try {
      const rows = await api.sql(text.value, mine.signal);
      told.textContent = `${rows.rows.length} ${rows.rows.length === 1 ? 'row' : 'rows'} in ${Math.round(performance.now() - began)} ms${rows.rows.length > ROWS_SHOWN_MAX ? `, the first ${ROWS_SHOWN_MAX} of them below` : ''}`;
      const drawn = chartOf(rows, result.clientWidth);
      chart.replaceChildren(...(drawn ? [drawn] : []));
      const times = rows.columns.map((_, at) => isTime(rows, at));
      const cell = (/** @type {any} */ value, /** @type {number} */ at) =>
        value === null ? '–' : times[at] && typeof value === 'number' ? `${date(value)} ${clock(value, 1)}` : String(value);
      result.replaceChildren(
        make(
          'table',
          {},
          make(
            'thead',
            {},
            make(
              'tr',
              {},
              ...rows.columns.map(({ name, type }, at) =>
                make(/^u?int|^float/.test(type) && !times[at] ? 'th.num' : 'th', { scope: 'col', title: type }, name),
              ),
            ),
          ),
          make(
            'tbody',
            {},
            ...rows.rows
              .slice(0, ROWS_SHOWN_MAX)
              .map(row =>
                make(
                  'tr',
                  {},
                  ...row.map((value, at) => make(typeof value === 'number' && !times[at] ? 'td.num' : 'td', {}, cell(value, at))),
                ),
              ),
          ),
        ),
      );
    } catch (error) {
      if (mine.signal.aborted) return;
      told.textContent = error instanceof Error ? error.message : String(error);
      chart.replaceChildren();
      result.replaceChildren();
    }
  };
  const download = (/** @type {string} */ format, /** @type {string} */ name) =>
    make(
      'a.btn',
      {
        href: '#',
        download: name,
        click: (/** @type {Event} */ event) => {
          const link = /** @type {HTMLAnchorElement} */ (event.currentTarget);
          link.href = '/api/v1/sql?' + new URLSearchParams({ q: text.value, format });
        },
      },
      { csv: 'CSV', arrow: 'Arrow', parquet: 'Parquet' }[format] ?? format,
    );
  text.addEventListener('input', complete);
  text.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run();
    } else if (event.key === 'Tab' && hints.firstChild) {
      event.preventDefault();
      hints.firstChild.click();
    }
  });
  work.replaceChildren(
    make(
      'div.sheet',
      {},
      make('h1', {}, 'SQL'),
      text,
      hints,
      make(
        'div.acts',
        {},
        make('button.btn.go', { click: run }, 'Run'),
        make('span.mute', {}, 'Ctrl Enter runs, Tab completes'),
        make('span.grow'),
        download('csv', 'kymo.csv'),
        download('arrow', 'kymo.arrows'),
        download('parquet', 'kymo.parquet'),
      ),
      told,
      chart,
      result,
    ),
  );
  // A link from elsewhere may have filled the box, so nothing runs before somebody has seen it.
  if (statement) told.textContent = 'Press Run.';
  text.focus();
}
