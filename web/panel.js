/** A moment: what ran, and which alerts fired, at one time. */

import * as api from './api.js';
import { icon, make } from './dom.js';
import { duration, told } from './number.js';
import { clock, date } from './time.js';

const ROWS_MAX = 10,
  ALERTS_MAX = 5,
  AROUND = 30e6,
  /** A process rose if it takes so many times what it usually takes, and more than a twentieth of a core. */
  ROSE = 1.5,
  ROSE_RATIO_MIN = 0.05;

/** @param {number|null} value */
const percent = value => (value === null ? '–' : value.toFixed(1));

/**
 * @param {HTMLElement} aside @param {number} time @param {{close: () => void, move: (time: number) => void, around: () => void, sql: (text: string) => void}} actions @param {AbortSignal} signal
 */
export async function show(aside, time, actions, signal) {
  const button = (/** @type {any} */ name, /** @type {string} */ label, /** @type {() => void} */ click) =>
    make('button.icon', { 'aria-label': label, click }, icon(name));
  const section = (/** @type {string} */ title, /** @type {string} */ note) =>
    make(`section.at-${title.toLowerCase()}`, {}, make('h3', {}, title, make('span', {}, note)));
  const parts = {
    alerts: section('Alerts', ''),
    processes: section('Processes', 'newest tick, and CPU within 30 s'),
    groups: section('Cgroups', 'newest tick, by path'),
    host: section('Host', 'newest tick at or before the moment'),
  };
  const near = `time > to_timestamp_micros(${Math.floor(time - 2e6)}) AND time <= to_timestamp_micros(${Math.floor(time + 1e6)})`,
    statement = `SELECT * FROM process WHERE ${near} ORDER BY time, cpu_ratio DESC`;
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
      make('div.big', {}, clock(time, 1000)),
      make('div.sub', {}, `${date(time)}, UTC`),
    ),
    ...Object.values(parts),
    make(
      'section.acts',
      {},
      make('button.btn', { click: actions.around }, 'Show 40 ms around it'),
      !api.recording && make('button.btn', { click: () => actions.sql(statement) }, 'Open as SQL'),
    ),
  );
  const fill = async (/** @type {HTMLElement} */ into, /** @type {Promise<Node[]>} */ nodes) => {
    try {
      into.append(...(await nodes));
    } catch (error) {
      if (!signal.aborted) into.append(make('p.mute', {}, error instanceof Error ? error.message : String(error)));
    }
  };
  await Promise.all([
    fill(parts.processes, processes(time, signal)),
    fill(parts.groups, groups(time, signal)),
    fill(parts.alerts, alerts(time, signal)),
    fill(parts.host, host(time, signal)),
  ]);
}

/** @param {number} time @param {AbortSignal} signal */
async function alerts(time, signal) {
  const rows = await api.firing(time, ALERTS_MAX, signal);
  if (!rows.length) return [make('p.mute', {}, 'None fired.')];
  return rows.map(([rule, labels, , value, since]) =>
    make(
      'div.alarm',
      {},
      icon('warn'),
      make(
        'div',
        {},
        make('b', {}, rule),
        ` fired at ${clock(since, 1000)}`,
        make('div.sub', {}, [labels.replaceAll('=', ' '), value === null ? '' : told(value, '')].filter(Boolean).join(': ')),
      ),
    ),
  );
}

/** @param {number} time @param {AbortSignal} signal */
async function processes(time, signal) {
  const [rows, courses] = await Promise.all([api.processes(time, ROWS_MAX, signal), api.courses(time, AROUND, signal)]);
  /** @type {Map<number, [number[], number[]]>} */
  const byPid = new Map(rows.map(row => [row[1], [[], []]]));
  for (const [pid, when, ratio] of courses) {
    byPid.get(pid)?.[0].push(ratio);
    byPid.get(pid)?.[1].push(when);
  }
  let isAny = false;
  const body = rows.map(([command, pid, cpu, rss, io]) => {
    const [ratios, times] = byPid.get(pid) ?? [[], []];
    const isRisen = rose(ratios, cpu);
    isAny ||= isRisen;
    return make(
      isRisen ? 'tr.rose' : 'tr',
      {},
      make('td', { title: command }, `${command} `, make('small', {}, pid)),
      make('td', {}, cpu === null ? '–' : (cpu * 100).toFixed(1)),
      make('td', {}, rss ? told(rss, 'B') : '–'),
      make('td', {}, io === null ? '–' : io < 1 ? '0' : told(io, 'B/s', 2)),
      make('td', {}, spark(ratios, times, time)),
    );
  });
  return [
    table(['command', 'CPU %', 'memory', 'I/O', 'CPU, ± 30 s'], body, 'No process was recorded here.'),
    ...(isAny ? [make('p.mute', {}, 'Marked rows take over 1.5 times their usual CPU.')] : []),
  ];
}

/** Whether a share of a core is far above those around it. @param {number[]} ratios @param {number|null} now */
export function rose(ratios, now) {
  const usual = [...ratios].sort((a, b) => a - b)[Math.floor(ratios.length / 2)] ?? 0;
  return now !== null && ratios.length > 2 && now > ROSE_RATIO_MIN && now > ROSE * usual;
}

/** @param {number} time @param {AbortSignal} signal */
async function groups(time, signal) {
  const rows = await api.groups(time, ROWS_MAX, signal);
  const paths = new Set(rows.map(([name]) => name));
  const body = [...rows]
    .sort((a, b) => String(a[0]).localeCompare(String(b[0])))
    .map(([name, cpu, memory, io]) => {
      // A group below one that is shown needs only its own name.
      const above = name.slice(0, name.lastIndexOf('/')),
        isBelow = above !== '' && paths.has(above);
      return make(
        'tr',
        {},
        make(isBelow ? 'td.deep' : 'td', { title: name }, isBelow ? name.slice(above.length + 1) : name.replace(/^\//, '') || '/'),
        make('td', {}, percent(cpu)),
        make('td', {}, told(memory, 'B')),
        make('td', {}, percent(io)),
      );
    });
  return [table(['group', 'CPU %', 'memory', 'I/O stall %'], body, 'No control group was recorded here.', false)];
}

/** @param {number} time @param {AbortSignal} signal */
async function host(time, signal) {
  const [busy, used, running, load, established, blocked] = await api.facts(time, signal);
  const number = (/** @type {number|null|undefined} */ value) => (typeof value === 'number' ? String(+value.toFixed(2)) : '–');
  const facts = [
    ['CPU busy', told(typeof busy === 'number' ? busy * 100 : NaN, '%')],
    ['running', number(running)],
    ['memory used', told(used ?? NaN, 'B')],
    ['blocked', number(blocked)],
    ['load, 1 min', number(load)],
    ['TCP established', number(established)],
  ];
  return [make('dl', {}, ...facts.map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value))))];
}

/** @param {string[]} heads @param {Node[]} rows @param {string} none @param {boolean} [isSorted] by the second column */
function table(heads, rows, none, isSorted = true) {
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
          make(
            'th',
            { scope: 'col', 'aria-sort': isSorted && index === 1 ? 'descending' : null },
            isSorted && index === 1 ? head + ' ▾' : head,
          ),
        ),
      ),
    ),
    make('tbody', {}, ...rows),
  );
}

/** A small course around the moment. @param {number[]} values @param {number[]} times @param {number} time */
function spark(values, times, time) {
  const [width, height] = [72, 16],
    space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  for (const [key, value] of Object.entries({
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    class: 'spark',
    role: 'img',
    'aria-label': `at most ${(Math.max(0, ...values) * 100).toFixed(1)} % within ${duration(2 * AROUND)}`,
  }))
    svg.setAttribute(key, String(value));
  const top = Math.max(0.01, ...values),
    x = (/** @type {number} */ at) => ((at - time + AROUND) / (2 * AROUND)) * width;
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
