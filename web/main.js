/** The page: what is seen, and what becomes of it when someone does something. */

import { SPAN_MAX, SPAN_MIN, read, within, write } from './address.js';
import * as alertview from './alertview.js';
import * as api from './api.js';
import { Banner } from './banner.js';
import { Bar } from './bar.js';
import { Charts } from './charts.js';
import { make } from './dom.js';
import { Heat } from './heat.js';
import { help } from './help.js';
import { listen } from './input.js';
import { listenKeys } from './keys.js';
import { clamp } from './number.js';
import { renew } from './palette.js';
import * as panel from './panel.js';
import { EVENTS, USUAL, inOrder } from './plan.js';
import { Selection } from './selection.js';
import * as sqlview from './sqlview.js';
import { Status } from './status.js';
import { Store } from './store.js';
import { Strips } from './strips.js';
import * as tables from './tables.js';
import { MINUTE, SECOND } from './time.js';

/** Steps of a zoom that follow each other closely are fetched once, but the first one is fetched at once. */
const FETCH_PAUSE_MS = 45,
  DIM_AFTER_MS = 150,
  /** A plot that is so much wider or narrower wants other buckets. */
  WIDER_SHARE = 0.1,
  /** What is looked at comes first: strips wait until nobody moves. */
  STRIPS_AFTER_MS = 250,
  STATUS_EVERY_MS = 5000,
  /** Newer rows are fetched when they are so much of the view: each time costs the daemon. */
  FOLLOW_SHARE = 0.01,
  FOLLOW_MS_MIN = 1000,
  FOLLOW_MS_MAX = 30_000,
  /** Zoom steps that follow each other are one step back. */
  ZOOM_PAUSE_MS = 600,
  LEFT = 46,
  PHONE = 720;
const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

const { recording } = api;
/** The place of the address: of a report, what stands after `#`, as a file has no other. */
function addressed() {
  const text = recording ? location.hash.slice(1) : location.search;
  return recording ? within(read(text), !/\bspan=/.test(text), recording) : read(text);
}
/** @param {import('./address.js').Place} next */
const link = next => (recording ? write(next).replace('?', '#') : write(next));

let place = addressed();
/** @type {api.Group[]} */
let groups = [];
let wall = api.clock.now(),
  isDrawing = false,
  isPanning = false,
  isAsking = false,
  movedAt = -Infinity,
  fetchedWidth = 1,
  zoomedAt = -Infinity;
/** @type {number|null} */
let pointer = null;
/** @type {number|null} one end of a selection, set by a key */
let marked = null;
/** @type {AbortController|null} */
let momentRun = null;
/** @type {string|undefined} */
let degraded;
/** @type {ReturnType<typeof setTimeout>|undefined} */
let fetchTimer;
/** @type {ReturnType<typeof setTimeout>|undefined} */
let stripsTimer;
/** @type {ReturnType<typeof setTimeout>|undefined} */
let followTimer;
/** @type {ReturnType<typeof setTimeout>|undefined} */
let dimTimer;

const nav = make('nav', { id: 'nav', 'aria-label': 'Tables' }),
  work = make('main', { id: 'work', tabindex: '-1' }),
  aside = make('aside', { id: 'aside', 'aria-label': 'Moment', hidden: true }),
  dock = make('div.dock', { role: 'navigation', 'aria-label': 'Views' });
byId('body').replaceChildren(nav, work, aside);
document.body.append(dock);
const store = new Store(),
  status = new Status(),
  charts = new Charts(),
  banner = new Banner(byId('banner'), () => {
    fetchSoon(false);
    loadStatus();
  }),
  selection = new Selection(() => go({ ...place, a: null, b: null }), draw),
  strips = new Strips(time => go({ ...place, to: Math.min(wall, time + place.span / 2) }, false)),
  heat = new Heat(
    value => go({ ...place, heat: value }),
    time => go({ ...place, moment: time }),
    (pair, isSecond) => go({ ...place, [isSecond ? 'b' : 'a']: pair }),
  );

/** @returns {import('./draw.js').View} */
function viewNow() {
  const left = innerWidth < PHONE ? 0 : LEFT,
    plot = Math.floor(charts.axis.canvas.parentElement?.clientWidth || work.clientWidth - 350);
  const to = place.to ?? wall,
    from = to - place.span,
    width = Math.max(50, plot - left);
  return { from, to, left, width, bucket: Math.max(1, Math.round(place.span / width)), interval: 0, raw: false };
}

const shownTables = () => {
  const names = place.tables ?? USUAL;
  const all = groups.flatMap(group => group.tables);
  return inOrder(all.filter(table => names.includes(table.name) && !EVENTS.includes(table.name) && table.unavailable === null));
};
/** Says what the selection holds: of all charts, or of the counter whose seconds are seen. */
function showSelection() {
  if (place.view !== 'seconds') selection.show(place, shownTables());
  else if (heat.shown)
    selection.show(
      place,
      groups.flatMap(group => group.tables).filter(one => one.name === heat.tableName),
      heat.shown,
    );
}
const hasFast = () => groups.some(group => group.tables.some(table => table.name === 'network' && table.interval_us !== null));

/** Goes to a place; `push` makes it one that the browser's back button returns to. @param {import('./address.js').Place} next @param {boolean} [push] */
function go(next, push = true) {
  const before = place;
  place = { ...next, span: clamp(next.span, SPAN_MIN, SPAN_MAX), to: next.to !== null && next.to > wall + next.span ? wall : next.to };
  if (recording) place = within(place, false, recording);
  if (push) history.pushState(null, '', link(place));
  else history.replaceState(null, '', link(place));
  arrive(before);
}

/** @param {import('./address.js').Place|null} before */
function arrive(before) {
  if (before && before.view !== place.view) {
    store.leave();
    heat.leave();
    strips.leave();
  }
  if (before?.view !== place.view || (place.view === 'sql' && before.sql !== place.sql)) arrange();
  // The timer of the place before may be half a minute away.
  if (place.to === null && (before?.to !== null || before.span !== place.span || before.view !== place.view)) {
    wall = api.clock.now();
    followSoon();
  }
  if (before?.moment !== place.moment) showMoment();
  if (before?.tables !== place.tables) tables.mark(nav, place.tables ?? USUAL);
  showSelection();
  if (place.view === 'charts') store.recall(viewNow().from, viewNow().to);
  draw();
  fetchSoon(false);
}

function arrange() {
  document.body.dataset.view = place.view;
  if (place.view === 'charts') work.replaceChildren(strips.element, ...charts.elements(selection.element));
  if (place.view === 'seconds') work.replaceChildren(strips.element, heat.element, selection.element);
  if (place.view === 'sql')
    sqlview.show(work, place.sql, groups, text => {
      place = { ...place, sql: text };
      history.replaceState(null, '', link(place));
    });
  if (place.view === 'alerts')
    alertview
      .show(work, time => go({ ...place, view: 'charts', to: time + MINUTE, span: 2 * MINUTE, moment: time }))
      .catch(error => banner.trouble(error));
}

/** @param {boolean} extend */
function fetchSoon(extend) {
  clearTimeout(fetchTimer);
  const isFirst = performance.now() - movedAt > FETCH_PAUSE_MS;
  movedAt = performance.now();
  fetchTimer = setTimeout(() => fetchNow(extend), extend || isFirst ? 0 : FETCH_PAUSE_MS);
}

/** @param {boolean} extend */
async function fetchNow(extend) {
  if (!groups.length || (place.view !== 'charts' && place.view !== 'seconds')) return;
  const view = viewNow();
  fetchedWidth = view.width;
  clearTimeout(dimTimer);
  if (!extend) dimTimer = setTimeout(() => charts.dim(true), DIM_AFTER_MS);
  try {
    if (place.view === 'charts') await store.load(shownTables(), view.from, view.to, view.bucket, extend, draw);
    else await heat.show(place, groups, view, wall, extend);
    clearTimeout(dimTimer);
    charts.dim(false);
    banner.quiet(degraded);
    document.body.dataset.loaded = `${Math.round(view.from)}-${Math.round(view.to)}`;
    if (place.view === 'seconds') showSelection();
    draw();
    clearTimeout(stripsTimer);
    stripsTimer = setTimeout(() => strips.load(view, place.to === null, wall, hasFast(), draw).catch(failed), STRIPS_AFTER_MS);
  } catch (error) {
    failed(error);
  }
}

/** @param {unknown} error */
function failed(error) {
  // Who goes elsewhere aborts what is under way.
  if (error instanceof DOMException && error.name === 'AbortError') return;
  clearTimeout(dimTimer);
  charts.dim(false);
  trouble(error);
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
  document.body.dataset.drawn = `${Math.round(view.from)}-${Math.round(view.to)}`;
  bar.tell(place, view);
  strips.element.style.gridTemplateColumns = place.view === 'seconds' ? heat.columns() : '';
  if (place.view === 'seconds') {
    strips.draw(0, heat.width(), view.from, view.to, status.firings);
    heat.draw(place);
    bar.source(heat.source(), heat.level());
  } else if (place.view === 'charts') {
    strips.draw(view.left, view.width, view.from, view.to, status.firings);
    bar.source(charts.paint(work, { view, place, pointer, tables: shownTables(), store, firings: status.firings }));
    selection.shade(work, charts.axis, charts.list, view, place);
  } else bar.source('', ' ');
}

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
  if (banner.trouble(error)) bar.silent();
}

/** @param {number} at @param {number} factor */
function zoom(at, factor) {
  const view = viewNow(),
    span = clamp(place.span * factor, SPAN_MIN, SPAN_MAX);
  const isEnd = place.to === null && at > view.to - (view.to - view.from) * 0.04;
  const to = at + (view.to - at) * (span / place.span);
  const isFirst = performance.now() - zoomedAt >= ZOOM_PAUSE_MS;
  zoomedAt = performance.now();
  go({ ...place, span, to: isEnd || (place.to === null && factor > 1) ? null : to }, isFirst);
}

listen(work, {
  view: viewNow,
  zoom,
  pan: (by, ends) => {
    const to = Math.min((place.to ?? wall) + by, wall + place.span * 0.5);
    if (by !== 0 || !ends) go({ ...place, to }, !isPanning && !ends);
    isPanning = !ends;
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

const toggleLive = () => go(recording ? within(place, true, recording) : { ...place, to: place.to === null ? wall : null });
const bar = new Bar(byId('header'), byId('bar'), dock, {
  view: view => go({ ...place, view }),
  live: toggleLive,
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
  charts.renew();
  draw();
}
const kept = localStorage.getItem('theme');
document.documentElement.classList.toggle('light', kept ? kept === 'light' : matchMedia('(prefers-color-scheme: light)').matches);

const centre = () => pointer ?? place.moment ?? (place.to ?? wall) - place.span / 2;
listenKeys({
  zoom: factor => zoom(centre(), factor),
  pan: direction => go({ ...place, to: Math.min(wall, (place.to ?? wall) + (direction * place.span) / 10) }),
  cross: direction => {
    const view = viewNow();
    pointer = clamp(centre() + direction * Math.max(view.bucket, 1000), view.from, view.to);
    charts.announce();
    draw();
  },
  chart: direction => charts.focus(direction),
  mark: which => {
    const at = centre();
    if (marked !== null && marked !== at) go({ ...place, [which]: [Math.min(marked, at), Math.max(marked, at)] });
    marked = marked === null ? at : null;
  },
  next: direction => {
    const at = pointer ?? place.moment ?? viewNow().from;
    const times = [...status.firings, ...store.gaps.filter(gap => gap.isHole)].map(one => one.from).sort((a, b) => a - b);
    const next = direction > 0 ? times.find(time => time > at + 1) : times.reverse().find(time => time < at - 1);
    if (next === undefined) return;
    go({ ...place, moment: Math.round(next), to: place.to === null && next > viewNow().from ? null : next + place.span / 2 });
  },
  span: span => go({ ...place, span }),
  live: toggleLive,
  log: () => go({ ...place, log: !place.log }),
  moment: () => {
    if (place.view === 'charts') go({ ...place, moment: Math.round(centre()) });
    return place.view === 'charts';
  },
  jump: bar.jump,
  back: () => history.back(),
  help,
  find: () => /** @type {HTMLElement|null} */ (nav.querySelector('input'))?.focus(),
  close: () => {
    document.querySelector('.pop')?.remove();
    nav.classList.remove('open');
    if (place.moment !== null) go({ ...place, moment: null });
  },
});

addEventListener('popstate', () => {
  const before = place;
  place = addressed();
  arrive(before);
});
new ResizeObserver(() => {
  draw();
  // A scroll bar that comes with the charts is no reason to fetch them again.
  if (Math.abs(viewNow().width / fetchedWidth - 1) > WIDER_SHARE) fetchSoon(false);
}).observe(work);

async function loadStatus() {
  // An answer may take longer than the time to the next question.
  if (document.hidden || isAsking) return;
  isAsking = true;
  try {
    const facts = await status.load(wall);
    degraded = recording?.note ?? facts.degraded[0];
    if (!banner.isTrouble || banner.silentSince) banner.quiet(degraded);
    bar.status(facts);
    draw();
  } catch (error) {
    trouble(error);
  } finally {
    isAsking = false;
  }
}

async function follow() {
  wall = api.clock.now();
  const isStill = pointer !== null && place.span <= MINUTE;
  if (place.to === null && !document.hidden && store.running === null && !isStill) {
    await fetchNow(true);
    draw();
  }
  followSoon();
}

/** Looks for newer rows after a share of what is seen. */
function followSoon() {
  const every = place.view === 'seconds' ? SECOND : place.span * FOLLOW_SHARE;
  clearTimeout(followTimer);
  followTimer = setTimeout(follow, clamp(every / 1000, FOLLOW_MS_MIN, FOLLOW_MS_MAX));
}

async function begin() {
  ({ groups } = await api.tables());
  wall = api.clock.now();
  history.replaceState(null, '', link(place));
  arrive(null);
  // What is looked at comes first: it is on its way while the list of tables is made.
  clearTimeout(fetchTimer);
  const fetched = fetchNow(false);
  tables.show(nav, groups, place.tables ?? USUAL, name => {
    const now = place.tables ?? USUAL;
    go({ ...place, tables: now.includes(name) ? now.filter(one => one !== name) : [...now, name] });
  });
  await fetched;
  // The charts are drawn before the daemon is asked for more.
  await new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));
  loadStatus();
  // Nothing is newer than a report.
  if (recording) return;
  setInterval(loadStatus, STATUS_EVERY_MS);
  follow();
}
begin().catch(trouble);
