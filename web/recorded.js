/** What a report answers about moments, alerts and itself: as the statements of `daemon.js` do. */

import { isReduced, recording, rows } from './report.js';
import { MINUTE, SECOND } from './time.js';

/** @typedef {import('./report.js').Row} Row */

const FIRING = ['firing', 'no data'];

/** The rate of a counter per µs, between a row and the one before it. @param {string} table @param {string[]} counters @param {Row|undefined} before @param {Row} row */
function rate(table, counters, before, row) {
  const sum = (/** @type {Row|undefined} */ one) =>
    counters.reduce((/** @type {number|null} */ all, name) => {
      const value = one?.of[name] ?? null;
      return all === null || value === null ? null : all + value;
    }, 0);
  const [now, last] = [sum(row), sum(before)];
  if (isReduced(table)) return now === null ? null : now / SECOND;
  return now === null || last === null || !before ? null : (now - last) / (row.time - before.time);
}

/** @param {Row[]} all in the order of time @param {(row: Row) => string} keyOf */
function grouped(all, keyOf) {
  /** @type {Map<string, Row[]>} */
  const groups = new Map();
  for (const row of all) {
    const group = groups.get(keyOf(row)) ?? [];
    groups.set(keyOf(row), group);
    group.push(row);
  }
  return groups;
}

/** The greatest first, and those without a value last. @param {number} at @returns {(a: any[], b: any[]) => number} */
const falling = at => (a, b) => (b[at] ?? -Infinity) - (a[at] ?? -Infinity) || 0;

/** @param {number} from @param {number} to @param {number} width @param {number} most */
export async function gaps(from, to, width, most) {
  /** @type {Map<string, any[]>} */
  const found = new Map();
  for (const { labels, of } of await rows('gap', ['from_us', 'to_us', 'lost'], -Infinity, Infinity)) {
    const { from_us: start, to_us: end, lost } = of;
    if (start === null || end === null || end <= from || start >= to) continue;
    const key = [labels.collector, labels.reason, Math.floor(start / width)].join('\u0000'),
      known = found.get(key);
    if (!known) found.set(key, [labels.collector, labels.reason, start, end, lost]);
    else
      found.set(key, [known[0], known[1], Math.min(known[2], start), Math.max(known[3], end), lost === null ? known[4] : known[4] + lost]);
  }
  return [...found.values()].sort((a, b) => a[2] - b[2]).slice(0, most);
}

/** @param {number} until @param {number} most */
export async function changes(until, most) {
  const all = await rows('alert', ['value', 'peak'], -Infinity, until);
  return all
    .reverse()
    .slice(0, most)
    .map(({ time, labels, of }) => [time, labels.rule, labels.labels, labels.state, of.value, of.peak]);
}

/** @param {number} time @param {number} most */
export async function firing(time, most) {
  const all = await rows('alert', ['value'], -Infinity, time + SECOND);
  return [...grouped(all, row => `${row.labels.rule} ${row.labels.labels}`).values()]
    .map(group => group[group.length - 1])
    .filter(row => FIRING.includes(row.labels.state))
    .map(row => [row.labels.rule, row.labels.labels, row.labels.state, row.of.value, row.time])
    .sort(falling(4))
    .slice(0, most);
}

/** The rules that changed, with their series that fired at the end. */
export async function alerts() {
  const all = await rows('alert', [], -Infinity, Infinity),
    last = await firing(Infinity, Infinity);
  const rules = [...grouped(all, row => row.labels.rule)].map(([name, own]) => {
    const fires = last.filter(([rule]) => rule === name);
    return {
      name,
      table: '',
      condition: '',
      for_us: null,
      state: fires.length ? 'firing' : 'ok',
      firing: fires.length,
      firing_series: fires.map(([, labels]) => ({ labels: { labels } })),
      fired: own.filter(row => FIRING.includes(row.labels.state)).length,
    };
  });
  return { rules };
}

/** @param {number} time @param {number} most */
export async function processes(time, most) {
  const all = await rows('process', ['cpu_ratio', 'rss_bytes', 'read_bytes', 'write_bytes'], time - 5 * SECOND, time + SECOND),
    newest = all[all.length - 1]?.time;
  return [...grouped(all, row => `${row.labels.command} ${row.labels.pid}`).values()]
    .flatMap(group => {
      const at = group.findLastIndex(row => row.time === newest);
      if (at < 0) return [];
      const { labels, of } = group[at],
        io = rate('process', ['read_bytes', 'write_bytes'], group[at - 1], group[at]);
      return [[labels.command, Number(labels.pid), of.cpu_ratio, of.rss_bytes, io === null ? null : io * SECOND]];
    })
    .sort(falling(2))
    .slice(0, most);
}

/** @param {number} time @param {number} around */
export async function courses(time, around) {
  const all = await rows('process', ['cpu_ratio'], time - around, time + around);
  return all.filter(row => row.of.cpu_ratio !== null).map(row => [Number(row.labels.pid), row.time, row.of.cpu_ratio]);
}

/** @param {number} time @param {number} most */
export async function groups(time, most) {
  const all = await rows('cgroup', ['usage_us', 'memory_bytes', 'io_some_us'], time - 4 * SECOND, time + SECOND);
  const percent = (/** @type {string} */ counter, /** @type {Row[]} */ group) => {
    const share = rate('cgroup', [counter], group[group.length - 2], group[group.length - 1]);
    return share === null ? null : share * 100;
  };
  return [...grouped(all, row => row.labels.cgroup)]
    .map(([name, group]) => [name, percent('usage_us', group), group[group.length - 1].of.memory_bytes, percent('io_some_us', group)])
    .sort(falling(1))
    .slice(0, most);
}

/** The newest value of a column at a time, as far as it is not older than `reach`. @param {string} table @param {string} column @param {number} time @param {number} reach @param {Record<string, string>} [labels] */
async function newest(table, column, time, reach, labels = {}) {
  const all = await rows(table, [column], time - reach, time),
    isWanted = (/** @type {Row} */ row) => Object.entries(labels).every(([label, value]) => row.labels[label] === value);
  return all.findLast(isWanted)?.of[column] ?? null;
}

/** @param {number} time */
export const facts = time =>
  Promise.all([
    newest('cpu', 'utilization', time, 5 * SECOND, { cpu: 'total' }),
    newest('memory', 'used_bytes', time, 5 * SECOND),
    newest('host', 'running', time, 5 * SECOND),
    newest('host', 'load1', time, 5 * SECOND),
    newest('tcp', 'established', time, 5 * SECOND),
    newest('host', 'blocked', time, 5 * SECOND),
  ]);

/** Of the header: the host, kymo's cost and missed ticks, over the whole report. @param {number} wall */
export async function about(wall) {
  const cores = new Set((recording?.tables.cpu?.series ?? []).map(([cpu]) => cpu).filter(cpu => cpu !== 'total'));
  const [memory, uptime, own, ticks] = await Promise.all([
    newest('memory', 'total_bytes', wall, 10 * MINUTE),
    newest('host', 'uptime_us', wall, 10 * MINUTE),
    rows('kymo', ['cpu_us', 'rss_bytes'], -Infinity, wall),
    rows('collector', ['missed_ticks', 'scheduled_ticks'], -Infinity, wall),
  ]);
  const [first, last] = [own[0], own[own.length - 1]];
  const sum = (/** @type {string} */ counter) =>
    [...grouped(ticks, row => row.labels.collector).values()].reduce(
      (all, group) => all + ((group[group.length - 1].of[counter] ?? 0) - (group[0].of[counter] ?? 0)),
      0,
    );
  const cpu = own.length > 1 && !isReduced('kymo') ? ((last.of.cpu_us ?? 0) - (first.of.cpu_us ?? 0)) / (last.time - first.time) : null;
  return [
    [cores.size || null, memory, uptime],
    [cpu, own.length ? Math.max(...own.map(row => row.of.rss_bytes ?? 0)) : null],
    ticks.length && !isReduced('collector') ? [sum('missed_ticks'), sum('scheduled_ticks')] : [null, null],
  ];
}

/** Since when there are rows, seconds and minutes. */
export async function kept() {
  const since = recording?.from ?? null,
    width = Math.max(0, ...Object.values(recording?.tables ?? {}).map(table => table.width));
  return [0, SECOND, MINUTE].map(one => (one === width ? since : null));
}

/** @returns {Promise<never>} */
export const sql = async () => {
  throw new Error('A report has no SQL: ask the data folder that it was made of.');
};
