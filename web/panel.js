/** A moment: what ran, and which alerts fired, at one time. */

import * as api from './api.js';
import { icon, make } from './dom.js';
import { duration, told } from './number.js';
import { clock, date } from './time.js';

const ROWS = 10;

/** @param {number} time */
const at = time => `to_timestamp_micros(${Math.floor(time)})`;

/**
 * @param {HTMLElement} aside @param {number} time @param {{close: () => void, move: (time: number) => void, around: () => void, sql: (text: string) => void}} actions @param {AbortSignal} signal
 */
export async function show(aside, time, actions, signal) {
  const heading = make('div.big', {}, clock(time, 1000));
  const button = (/** @type {any} */ name, /** @type {string} */ label, /** @type {() => void} */ click) =>
    make('button.icon', { 'aria-label': label, click }, icon(name));
  const processes = make('section', {}, make('h3', {}, 'Processes', make('span', {}, 'newest tick, and how CPU moved within 30 s')));
  const groups = make('section', {}, make('h3', {}, 'Cgroups', make('span', {}, 'newest tick')));
  const alerts = make('section', {}, make('h3', {}, 'Alerts'));
  const statement = `SELECT * FROM process WHERE time > ${at(time - 2e6)} AND time <= ${at(time + 1e6)} ORDER BY time, cpu_ratio DESC`;
  aside.replaceChildren(
    make(
      'header',
      {},
      make(
        'div.acts',
        {},
        make('span.sub', {}, 'Moment'),
        make('span.grow'),
        button('left', 'One second earlier', () => actions.move(time - 1e6)),
        button('right', 'One second later', () => actions.move(time + 1e6)),
        button('close', 'Close the moment', actions.close),
      ),
      heading,
      make('div.sub', {}, `${date(time)}, UTC`),
    ),
    alerts,
    processes,
    groups,
    make(
      'section.acts',
      {},
      make('button.btn', { click: actions.around }, 'Show 40 ms around it'),
      make('button.btn', { click: () => actions.sql(statement) }, 'Open as SQL'),
    ),
  );
  const fill = async (/** @type {HTMLElement} */ section, /** @type {() => Promise<Node[]>} */ load) => {
    try {
      section.append(...(await load()));
    } catch (error) {
      if (!signal.aborted) section.append(make('p.mute', {}, error instanceof Error ? error.message : String(error)));
    }
  };
  await Promise.all([
    fill(alerts, async () => {
      const { rows } = await api.sql(
        `SELECT rule, labels, state, value, CAST(time AS BIGINT) FROM (SELECT *, row_number() OVER (PARTITION BY rule, labels ORDER BY time DESC) AS n FROM alert WHERE time <= ${at(time + 1e6)}) WHERE n = 1 AND state IN ('firing', 'no data') ORDER BY 5 DESC LIMIT 5`,
        signal,
      );
      return rows.length
        ? rows.map(([rule, labels, , value, since]) =>
            make(
              'div.alarm',
              {},
              icon('warn'),
              make('div', {}, make('b', {}, rule), ` fired at ${clock(since, 1000)}`, make('div.sub', {}, `${labels} ${value ?? ''}`)),
            ),
          )
        : [make('p.mute', {}, 'None fired.')];
    }),
    fill(processes, async () => {
      const newest = `(SELECT max(time) FROM process WHERE time > ${at(time - 5e6)} AND time <= ${at(time + 1e6)})`;
      const [{ rows }, courses] = await Promise.all([
        api.sql(
          `SELECT command, pid, cpu_ratio, rss_bytes FROM process WHERE time = ${newest} ORDER BY cpu_ratio DESC NULLS LAST LIMIT ${ROWS}`,
          signal,
        ),
        api.sql(
          `SELECT pid, CAST(time AS BIGINT), cpu_ratio FROM process WHERE time > ${at(time - 30e6)} AND time <= ${at(time + 30e6)} AND cpu_ratio IS NOT NULL ORDER BY time`,
          signal,
        ),
      ]);
      /** @type {Map<number, [number[], number[]]>} */
      const byPid = new Map(rows.map(row => [row[1], [[], []]]));
      for (const [pid, when, ratio] of courses.rows) {
        byPid.get(pid)?.[0].push(ratio);
        byPid.get(pid)?.[1].push(when);
      }
      const body = rows.map(([command, pid, cpu, rss]) =>
        make(
          'tr',
          {},
          make('td', { title: command }, `${command} `, make('small', {}, pid)),
          make('td', {}, cpu === null ? '–' : (cpu * 100).toFixed(1)),
          make('td', {}, told(rss, 'B')),
          make('td', {}, spark(byPid.get(pid)?.[0] ?? [], byPid.get(pid)?.[1] ?? [], time)),
        ),
      );
      return [table(['command', 'CPU %', 'memory', '± 30 s'], body, 'No process was recorded here.')];
    }),
    fill(groups, async () => {
      const { rows } = await api.sql(
        `SELECT cgroup, cpu, memory, io FROM (SELECT cgroup, time, (usage_us - lag(usage_us) OVER w) * 100.0 / (CAST(time AS BIGINT) - lag(CAST(time AS BIGINT)) OVER w) AS cpu, memory_bytes AS memory, (io_some_us - lag(io_some_us) OVER w) * 100.0 / (CAST(time AS BIGINT) - lag(CAST(time AS BIGINT)) OVER w) AS io, row_number() OVER (PARTITION BY cgroup ORDER BY time DESC) AS n FROM cgroup WHERE time > ${at(time - 4e6)} AND time <= ${at(time + 1e6)} WINDOW w AS (PARTITION BY cgroup ORDER BY time)) WHERE n = 1 ORDER BY cpu DESC NULLS LAST LIMIT ${ROWS}`,
        signal,
      );
      const number = (/** @type {number|null} */ value) => (value === null ? '–' : value.toFixed(1));
      return [
        table(
          ['group', 'CPU %', 'memory', 'I/O stalled %'],
          rows.map(([name, cpu, memory, io]) =>
            make(
              'tr',
              {},
              make('td', { title: name }, name || '/'),
              make('td', {}, number(cpu)),
              make('td', {}, told(memory, 'B')),
              make('td', {}, number(io)),
            ),
          ),
          'No control group was recorded here.',
        ),
      ];
    }),
  ]);
}

/** @param {string[]} heads @param {Node[]} rows @param {string} none */
function table(heads, rows, none) {
  if (!rows.length) return make('p.mute', {}, none);
  return make(
    'table',
    {},
    make(
      'thead',
      {},
      make(
        'tr',
        {},
        ...heads.map((head, index) =>
          make('th', { scope: 'col', 'aria-sort': index === 1 ? 'descending' : null }, index === 1 ? head + ' ▾' : head),
        ),
      ),
    ),
    make('tbody', {}, ...rows),
  );
}

/** A small course around the moment. @param {number[]} values @param {number[]} times @param {number} time */
function spark(values, times, time) {
  const [width, height] = [76, 16],
    space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  for (const [key, value] of Object.entries({
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    class: 'spark',
    role: 'img',
    'aria-label': `at most ${(Math.max(0, ...values) * 100).toFixed(1)} % within ${duration(60e6)}`,
  }))
    svg.setAttribute(key, String(value));
  const top = Math.max(0.01, ...values),
    x = (/** @type {number} */ at) => ((at - time + 30e6) / 60e6) * width;
  const line = document.createElementNS(space, 'path');
  line.setAttribute(
    'd',
    values
      .map((value, index) => `${index ? 'L' : 'M'}${x(times[index]).toFixed(1)} ${(height - 1 - (value / top) * (height - 3)).toFixed(1)}`)
      .join(''),
  );
  const mark = document.createElementNS(space, 'path');
  mark.setAttribute('d', `M${width / 2} 0V${height}`);
  mark.setAttribute('class', 'at');
  svg.append(mark, line);
  return svg;
}
