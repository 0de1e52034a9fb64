/** The page: what is seen, and what becomes of it when someone does something. */

import { SPAN_MAX, SPAN_MIN, read, write } from './address.js';
import * as alertview from './alertview.js';
import * as api from './api.js';
import { Axis, Strip } from './axis.js';
import { Bar, LENGTHS } from './bar.js';
import { Chart } from './chart.js';
import { make } from './dom.js';
import { Heat } from './heat.js';
import { help } from './help.js';
import { listen } from './input.js';
import { clamp } from './number.js';
import { renew } from './palette.js';
import * as panel from './panel.js';
import { EVENTS, USUAL, chartsOf } from './plan.js';
import { Selection } from './selection.js';
import { split } from './series.js';
import * as sqlview from './sqlview.js';
import { Store } from './store.js';
import * as tables from './tables.js';
import { DAY, MINUTE, clock, marks } from './time.js';

const FETCH_AFTER = 45,
  DIM_AFTER = 150,
  STATUS_EVERY = 5000,
  STRIPS_EVERY = 60_000,
  LEFT = 46;
const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

let place = read(location.search);
/** @type {api.Group[]} */
let groups = [];
const store = new Store();
/** @type {Map<string, Chart>} */
const charts = new Map();
/** @type {number|null} */
let pointer = null;
let wall = Date.now() * 1000,
  isDrawing = false,
  chosen = 0;
/** @type {import('./axis.js').Firing[]} */
let firings = [];
/** @type {AbortController|null} */
let momentRun = null;
/** @type {ReturnType<typeof setTimeout>|undefined} */
let fetchTimer;
/** @type {ReturnType<typeof setTimeout>|undefined} */
let dimTimer;
let marking = /** @type {number|null} */ (null);

const nav = make('nav', { id: 'nav', 'aria-label': 'Tables' }),
  work = make('main', { id: 'work', tabindex: '-1' }),
  aside = make('aside', { id: 'aside', 'aria-label': 'Moment', hidden: true });
const dock = make('div.dock', { role: 'navigation', 'aria-label': 'Views' });
const axis = new Axis(),
  strips = [new Strip(), new Strip()],
  names = [make('div'), make('div')];
const top = make(
  'div.row.strips',
  {},
  make('div.gut', {}, ...names),
  make('div.plot', {}, ...strips.map(strip => strip.canvas)),
  make('div.read'),
);
const cross = make('div.cross', { hidden: true }),
  flag = make('div.flag', { hidden: true }),
  progress = make('div.progress', { hidden: true }),
  list = make('div.list'),
  words = make('p'),
  // It is a plot, so that one can drag on from where nothing is.
  note = make('div.row.none', { hidden: true }, make('div.gut'), make('div.plot', {}, words), make('div.read'));
const selection = new Selection(() => go({ ...place, a: null, b: null }));
const foot = make(
  'div.foot',
  {},
  ...['wheel zoom', 'drag pan', 'shift drag select', 'click moment', '? all keys'].map(text =>
    make('span', {}, make('kbd', {}, text.slice(0, text.lastIndexOf(' '))), text.slice(text.lastIndexOf(' ') + 1)),
  ),
);
const heat = new Heat(
  value => go({ ...place, heat: value }),
  time => go({ ...place, moment: time }),
);
byId('body').replaceChildren(nav, work, aside);
document.body.append(dock);

/** @param {number} [width] @returns {import('./draw.js').View} */
function viewNow(width = plotWidth()) {
  const left = innerWidth < 720 ? 0 : LEFT;
  const to = place.to ?? wall,
    from = to - place.span,
    wide = Math.max(50, width - left);
  return { from, to, left, width: wide, bucket: Math.max(1, Math.round(place.span / wide)), interval: 0, raw: false };
}
const plotWidth = () => Math.floor(axis.canvas.parentElement?.clientWidth || work.clientWidth - 346);

const shownTables = () => {
  const names = place.tables ?? USUAL;
  return groups
    .flatMap(group => group.tables)
    .filter(table => names.includes(table.name) && !EVENTS.includes(table.name) && table.unavailable === null);
};

/** Goes to a place; `push` makes it one that the browser's back button returns to. @param {import('./address.js').Place} next @param {boolean} [push] */
function go(next, push = true) {
  const before = place;
  place = { ...next, span: clamp(next.span, SPAN_MIN, SPAN_MAX), to: next.to !== null && next.to > wall + next.span ? wall : next.to };
  if (push) history.pushState(null, '', write(place));
  else history.replaceState(null, '', write(place));
  arrive(before);
}

/** @param {import('./address.js').Place|null} before */
function arrive(before) {
  if (before?.view !== place.view) arrange();
  if (before?.moment !== place.moment) showMoment();
  if (before?.tables !== place.tables) tables.mark(nav, place.tables ?? USUAL);
  selection.show(place, shownTables());
  draw();
  fetchSoon(false);
}

function arrange() {
  const isCharts = place.view === 'charts';
  document.body.dataset.view = place.view;
  if (isCharts) work.replaceChildren(top, axis.element, list, note, progress, cross, flag, selection.element, foot);
  if (place.view === 'seconds') work.replaceChildren(top, heat.element);
  if (place.view === 'sql')
    sqlview.show(work, place.sql, groups, text => {
      place = { ...place, sql: text };
      history.replaceState(null, '', write(place));
    });
  if (place.view === 'alerts')
    alertview.show(work, time => go({ ...place, view: 'charts', to: time + MINUTE, span: 2 * MINUTE, moment: time })).catch(trouble);
  if (place.view === 'seconds') heat.show(place, groups, viewNow()).catch(trouble);
}

/** @param {boolean} extend */
function fetchSoon(extend) {
  clearTimeout(fetchTimer);
  fetchTimer = setTimeout(() => fetchNow(extend), extend ? 0 : FETCH_AFTER);
}

/** @param {boolean} extend */
async function fetchNow(extend) {
  if (place.view === 'seconds') return heat.show(place, groups, viewNow()).catch(trouble);
  if (place.view !== 'charts' || !groups.length) return;
  const view = viewNow();
  clearTimeout(dimTimer);
  if (!extend)
    dimTimer = setTimeout(() => {
      list.classList.add('dim');
      progress.hidden = false;
    }, DIM_AFTER);
  const done = () => {
    clearTimeout(dimTimer);
    list.classList.remove('dim');
    progress.hidden = true;
  };
  try {
    await store.load(shownTables(), view.from, view.to, view.bucket, extend, draw);
    done();
    quiet();
    document.body.dataset.loaded = `${Math.round(view.from)}-${Math.round(view.to)}`;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') return;
    done();
    trouble(error);
  }
}

function draw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    paint();
  });
}

function paint() {
  const view = viewNow();
  view.marks = marks(view.from, view.to, view.width);
  bar.tell(place, view);
  for (const strip of strips) strip.draw(view.left, view.width, view.from, view.to, (strip.to - strip.from) / 600);
  if (place.view !== 'charts') return;
  axis.draw(view, store.gaps, firings);
  const wanted = [];
  for (const table of shownTables()) {
    const loaded = store.loaded.get(table.name);
    if (!loaded) continue;
    const interval = table.interval_us ?? 1e6;
    const raw = (interval / place.span) * view.width >= 4;
    const seen = { ...view, bucket: loaded.bucket, interval, raw };
    const tier = loaded.series.find(series => series.tier)?.tier ?? 'raw';
    const own = store.gaps.filter(gap => gap.collector === table.collector || gap.isHole);
    for (const plan of chartsOf(table, loaded.series))
      wanted.push({ plan, seen, own, badge: tier === 'raw' ? tierName(interval) : tier === '1s' ? '1 s' : '1 min' });
  }
  for (const [id, chart] of charts) {
    if (!wanted.some(one => one.plan.id === id)) {
      chart.element.remove();
      charts.delete(id);
    }
  }
  const room =
    innerHeight >= 1000 && innerWidth >= 1920
      ? clamp(
          (innerHeight - 300) /
            Math.max(
              1,
              wanted.reduce((sum, one) => sum + one.plan.height + 7, 0),
            ),
          1,
          1.8,
        )
      : 1;
  wanted.forEach(({ plan, seen, own, badge }, index) => {
    let chart = charts.get(plan.id);
    if (!chart) charts.set(plan.id, (chart = new Chart()));
    if (list.children[index] !== chart.element) list.insertBefore(chart.element, list.children[index] ?? null);
    chart.show(plan, badge);
    chart.draw(seen, own, place.log, room);
    chart.readout(seen, pointer ?? place.moment);
  });
  const any = wanted.find(one => one.seen.raw)?.seen ?? { ...view };
  const at = pointer ?? place.moment;
  axis.tell(any, at ?? view.to - view.bucket * 2, false);
  const x = at === null ? -1 : view.left + ((at - view.from) / (view.to - view.from)) * view.width;
  const isSeen = at !== null && x >= view.left && x <= view.left + view.width;
  cross.hidden = flag.hidden = !isSeen;
  if (isSeen && at !== null) {
    const plot = axis.canvas.getBoundingClientRect(),
      frame = work.getBoundingClientRect();
    const offset = plot.left - frame.left;
    cross.style.left = offset + x + 'px';
    cross.style.top = axis.element.offsetTop + 22 + 'px';
    cross.style.height = Math.max(0, list.offsetTop + list.offsetHeight - axis.element.offsetTop - 22) + 'px';
    flag.style.left = offset + x + 'px';
    flag.style.top = axis.element.offsetTop + 2 + 'px';
    flag.textContent = clock(at, place.span < 2e6 ? 1000 : 1e6);
  }
  selection.shade(work, axis, list, view, place);
  const known = [...store.loaded.values()];
  note.hidden = wanted.length > 0 || known.length === 0 || store.running !== null;
  if (!note.hidden) words.textContent = 'Nothing was recorded in this time, or no table is chosen.';
}
/** @param {number} interval */
const tierName = interval => (interval < 1e6 ? `${interval / 1000} ms` : `${interval / 1e6} s`);

function showMoment() {
  momentRun?.abort();
  aside.hidden = place.moment === null;
  if (place.moment === null) return;
  momentRun = new AbortController();
  const time = place.moment;
  panel
    .show(
      aside,
      time,
      {
        close: () => go({ ...place, moment: null }),
        move: next => go({ ...place, moment: next }),
        around: () => go({ ...place, view: 'charts', span: 40e3, to: time + 20e3 }),
        sql: text => go({ ...place, view: 'sql', sql: text, moment: null }),
      },
      momentRun.signal,
    )
    .catch(trouble);
}

/** @param {unknown} error */
function trouble(error) {
  if (error instanceof DOMException && error.name === 'AbortError') return;
  const banner = byId('banner');
  const isSilent = error instanceof api.Silent;
  if (isSilent) {
    silentSince ||= Date.now() * 1000;
    bar.silent();
  }
  const text = isSilent
    ? `kymo does not answer at ${location.host} since ${clock(silentSince, 1e6)}. The charts show what was loaded before.`
    : error instanceof Error
      ? error.message
      : String(error);
  banner.replaceChildren(make('span', {}, text), make('button', { click: () => fetchSoon(false) }, 'Try now'));
  banner.hidden = false;
}
let silentSince = 0;
const quiet = () => {
  silentSince = 0;
  byId('banner').hidden = true;
};

/** @param {number} at @param {number} factor */
function zoom(at, factor) {
  const view = viewNow(),
    span = clamp(place.span * factor, SPAN_MIN, SPAN_MAX);
  const isEnd = place.to === null && at > view.to - (view.to - view.from) * 0.04;
  const to = at + (view.to - at) * (span / place.span);

  go({ ...place, span, to: isEnd || (place.to === null && factor > 1) ? null : to }, !wasZoomed());
}
let zoomedAt = 0;
function wasZoomed() {
  const soon = performance.now() - zoomedAt < 600;
  zoomedAt = performance.now();
  return soon;
}

let panned = false;
listen(work, {
  view: viewNow,
  zoom,
  pan: (by, ends) => {
    const to = Math.min((place.to ?? wall) + by, wall + place.span * 0.5);
    if (by !== 0 || !ends) go({ ...place, to }, !panned && !ends);
    panned = !ends;
    if (ends) fetchSoon(false);
  },
  point: time => {
    pointer = time;
    draw();
  },
  select: (pair, second, ends) => go({ ...place, [second ? 'b' : 'a']: pair }, ends),
  moment: time => {
    if (place.view === 'charts') go({ ...place, moment: Math.round(time) });
  },
  back: () => history.back(),
});

const bar = new Bar(byId('header'), byId('bar'), dock, {
  view: view => go({ ...place, view }),
  live: () => go({ ...place, to: place.to === null ? wall : null }),
  step: spans => go({ ...place, to: Math.min((place.to ?? wall) + spans * place.span, wall) }),
  span: span => {
    const centre = pointer ?? place.moment;
    go({ ...place, span, to: place.to === null ? null : Math.min(wall, (centre ?? place.to - place.span / 2) + span / 2) });
  },
  jump: time => go({ ...place, to: time + place.span / 2, moment: time }),
  back: () => history.back(),
  theme: () => setTheme(!document.documentElement.classList.contains('light')),
  help,
  menu: () => nav.classList.toggle('open'),
});

/** @param {boolean} light */
function setTheme(light) {
  document.documentElement.classList.toggle('light', light);
  localStorage.setItem('theme', light ? 'light' : 'dark');
  renew();
  heat.renew();
  draw();
}
const kept = localStorage.getItem('theme');
document.documentElement.classList.toggle('light', kept ? kept === 'light' : matchMedia('(prefers-color-scheme: light)').matches);

addEventListener('keydown', event => {
  if (event.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
    if (event.key === 'Escape') event.target.blur();
    if (event.key === 'Escape') document.querySelector('.pop')?.remove();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const view = viewNow(),
    centre = pointer ?? place.moment ?? (view.from + view.to) / 2,
    step = (view.to - view.from) / 10;
  const interval = Math.max(view.bucket, 1000);
  /** @type {Record<string, () => void>} */
  const keys = {
    '+': () => zoom(centre, 0.5),
    '=': () => zoom(centre, 0.5),
    '-': () => zoom(centre, 2),
    ArrowLeft: () => (event.shiftKey ? go({ ...place, to: view.to - step }) : moveCross(-interval)),
    ArrowRight: () => (event.shiftKey ? go({ ...place, to: Math.min(wall, view.to + step) }) : moveCross(interval)),
    ArrowUp: () => focusChart(-1),
    ArrowDown: () => focusChart(1),
    Enter: () => {
      if (place.view === 'charts' && !(event.target instanceof HTMLButtonElement)) go({ ...place, moment: Math.round(centre) });
      else return false;
    },
    Backspace: () => history.back(),
    l: () => go({ ...place, to: place.to === null ? wall : null }),
    L: () => go({ ...place, to: place.to === null ? wall : null }),
    g: bar.jump,
    y: () => go({ ...place, log: !place.log }),
    '?': help,
    s: () => mark('a'),
    d: () => mark('b'),
    n: () => nextMark(1),
    p: () => nextMark(-1),
    '/': () => /** @type {HTMLElement|null} */ (nav.querySelector('input'))?.focus(),
    Escape: () => {
      document.querySelector('.pop')?.remove();
      nav.classList.remove('open');
      if (place.moment !== null) go({ ...place, moment: null });
    },
  };
  const chip = LENGTHS[Number(event.key) - 1];
  const act = chip ? () => go({ ...place, span: chip[1] }) : (keys[event.key] ?? keys[event.key.toLowerCase()]);
  if (!act) return;
  if (/** @type {any} */ (act()) !== false) event.preventDefault();
});

/** @param {number} by */
function moveCross(by) {
  const view = viewNow();
  pointer = clamp((pointer ?? place.moment ?? (view.from + view.to) / 2) + by, view.from, view.to);
  for (const chart of charts.values()) chart.read.removeAttribute('aria-live');
  [...charts.values()].find(chart => chart.element === list.children[chosen])?.read.setAttribute('aria-live', 'polite');
  draw();
}
/** @param {number} by */
function focusChart(by) {
  chosen = clamp(chosen + by, 0, list.children.length - 1);
  /** @type {HTMLElement|undefined} */ (list.children[chosen])?.focus();
}
/** One end of a selection, then the other. @param {'a'|'b'} which */
function mark(which) {
  const view = viewNow(),
    at = pointer ?? (view.from + view.to) / 2;
  if (marking === null) marking = at;
  else {
    if (marking !== at) go({ ...place, [which]: [Math.min(marking, at), Math.max(marking, at)] });
    marking = null;
  }
}
/** @param {number} by */
function nextMark(by) {
  const at = pointer ?? place.moment ?? viewNow().from;
  const times = [...firings.map(one => one.from), ...store.gaps.filter(gap => gap.isHole).map(gap => gap.from)].sort((a, b) => a - b);
  const next = by > 0 ? times.find(time => time > at + 1) : times.reverse().find(time => time < at - 1);
  if (next !== undefined)
    go({ ...place, moment: Math.round(next), to: place.to === null && next > viewNow().from ? null : next + place.span / 2 });
}

addEventListener('popstate', () => {
  const before = place;
  place = read(location.search);
  arrive(before);
});
new ResizeObserver(() => {
  draw();
  fetchSoon(false);
}).observe(work);

async function loadStatus() {
  try {
    const [status, alerts, cost, changes] = await Promise.all([
      api.status(),
      api.alerts(),
      api.sql(
        "SELECT CAST(max(cpu_us) - min(cpu_us) AS DOUBLE) / (max(CAST(time AS BIGINT)) - min(CAST(time AS BIGINT))), max(rss_bytes) FROM kymo WHERE time > now() - interval '15 seconds'",
      ),
      api.sql('SELECT rule, labels, state, CAST(time AS BIGINT) FROM alert ORDER BY time DESC LIMIT 500'),
    ]);
    const [cpu, rss] = cost.rows[0] ?? [];
    bar.status(
      status,
      alerts.rules.reduce((sum, rule) => sum + rule.firing, 0),
      typeof cpu === 'number' ? { cpu, rss } : null,
    );
    firings = pairs(changes.rows);
    if (status.degraded.length && byId('banner').hidden) {
      byId('banner').replaceChildren(make('span', {}, status.degraded[0]));
      byId('banner').hidden = false;
    }
    draw();
  } catch (error) {
    trouble(error);
  }
}

/** Changes of alerts, newest first, as the times in which they fired. @param {any[][]} rows */
function pairs(rows) {
  /** @type {Map<string, import('./axis.js').Firing>} */
  const open = new Map();
  const found = [];
  for (const [rule, labels, state, time] of [...rows].reverse()) {
    const key = `${rule} ${labels}`;
    if (state === 'firing' || state === 'no data') {
      const firing = { rule, from: time, to: null };
      open.set(key, firing);
      found.push(firing);
    } else {
      const firing = open.get(key);
      if (firing) firing.to = time;
      open.delete(key);
    }
  }
  return found;
}

async function loadStrips() {
  const lengths = [30 * DAY, place.span < DAY / 4 ? DAY / 24 : DAY];
  await Promise.all(
    strips.map(async (strip, index) => {
      strip.to = wall;
      strip.from = wall - lengths[index];
      names[index].replaceChildren(index ? (lengths[1] === DAY ? '1 day' : '1 hour') : '30 days', make('span', {}, 'CPU busy'));
      const bucket = Math.round(lengths[index] / 600);
      const answer = await api.range({
        table: 'cpu',
        columns: ['utilization'],
        from: Math.floor(strip.from),
        to: Math.floor(strip.from) + bucket * 600,
        buckets: 600,
        labels: { cpu: 'total' },
      });
      strip.series = split(answer, ['utilization'])[0] ?? null;
    }),
  );
  draw();
}

async function follow() {
  wall = Date.now() * 1000;
  if (place.to === null && !document.hidden && store.running === null && (pointer === null || place.span > 60e6)) {
    if (place.view === 'charts') await fetchNow(true);
    draw();
  }
  setTimeout(follow, clamp(place.span / 800 / 1000, 1000, 30_000));
}

async function begin() {
  ({ groups } = await api.tables());
  tables.show(nav, groups, place.tables ?? USUAL, name => {
    const now = place.tables ?? USUAL;
    go({ ...place, tables: now.includes(name) ? now.filter(one => one !== name) : [...now, name] });
  });
  history.replaceState(null, '', write(place));
  arrive(null);
  loadStatus();
  loadStrips().catch(trouble);
  setInterval(() => {
    if (!document.hidden) loadStatus();
  }, STATUS_EVERY);
  setInterval(() => {
    if (!document.hidden) loadStrips().catch(trouble);
  }, STRIPS_EVERY);
  follow();
}
begin().catch(trouble);
