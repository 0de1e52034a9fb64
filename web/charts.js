/** All charts below one axis, and the crosshair through them. */

import { Axis } from './axis.js';
import { Chart } from './chart.js';
import { make } from './dom.js';
import { clamp } from './number.js';
import { chartsOf } from './plan.js';
import { clock, marks } from './time.js';

/** @typedef {import('./draw.js').View} View */
/**
 * @typedef {object} Seen
 * @property {View} view
 * @property {import('./address.js').Place} place
 * @property {number|null} pointer a time
 * @property {import('./api.js').Table[]} tables
 * @property {import('./store.js').Store} store
 * @property {import('./axis.js').Firing[]} firings
 */

/** From this size on, rows grow with the window. */
const TALL = 1000,
  WIDE = 1920,
  GROW_MAX = 1.8,
  /** What is above and below the rows. */
  FRAME = 270,
  ROW_FRAME = 7;
const HINTS = [
  ['wheel', 'zoom'],
  ['drag', 'pan'],
  ['shift drag', 'select'],
  ['click', 'moment'],
  ['?', 'all keys'],
];

/** @param {string} tier @param {number} interval */
const nameOf = (tier, interval) =>
  tier === 'raw' ? (interval < 1e6 ? `${interval / 1000} ms` : `${interval / 1e6} s`) : tier === '1s' ? '1 s' : '1 min';

export class Charts {
  constructor() {
    /** @type {Map<string, Chart>} */
    this.all = new Map();
    this.axis = new Axis();
    this.list = make('div.list');
    this.cross = make('div.cross', { hidden: true });
    this.flag = make('div.flag', { hidden: true });
    this.progress = make('div.progress', { hidden: true });
    this.words = make('p');
    // It is a plot, so that one can drag on from where nothing is.
    this.note = make('div.row.none', { hidden: true }, make('div.gut'), make('div.plot', {}, this.words), make('div.read'));
    this.foot = make('div.foot', {}, ...HINTS.map(([key, act]) => make('span', {}, make('kbd', {}, key), act)));
    this.chosen = 0;
    /** @type {number|null} the time that is read out */
    this.told = null;
  }

  /** @param {HTMLElement} selection @returns {HTMLElement[]} */
  elements(selection) {
    return [this.axis.element, this.list, this.note, this.progress, this.cross, this.flag, this.foot, selection];
  }

  /** Paints all; says which tiers are seen. @param {HTMLElement} work @param {Seen} seen @returns {string} */
  paint(work, seen) {
    const { view, place, store } = seen;
    view.marks = marks(view.from, view.to, view.width);
    const at = seen.pointer ?? place.moment;
    this.axis.draw(view, store.gaps, seen.firings, at);
    const wanted = this.wanted(seen);
    for (const [id, chart] of this.all) {
      if (wanted.some(one => one.plan.id === id)) continue;
      chart.element.remove();
      this.all.delete(id);
    }
    const tall = wanted.reduce((sum, one) => sum + one.plan.height + ROW_FRAME, 0),
      grow = innerHeight >= TALL && innerWidth >= WIDE ? clamp((innerHeight - FRAME) / Math.max(1, tall), 1, GROW_MAX) : 1;
    wanted.forEach(({ plan, series, view: own, gaps, badge }, index) => {
      let chart = this.all.get(plan.id);
      if (!chart) this.all.set(plan.id, (chart = new Chart()));
      if (this.list.children[index] !== chart.element) this.list.insertBefore(chart.element, this.list.children[index] ?? null);
      chart.show(plan, badge);
      // Most of a frame is drawing, and often only the pointer has moved, or the rows of one table have come.
      const { from, to, left, width } = view,
        known = [series, store.marks, from, to, left, width, place.log, grow, devicePixelRatio];
      const isOther = chart.isOther(known);
      if (isOther) chart.draw(own, gaps, place.log, grow);
      if (isOther || at !== this.told) chart.readout(own, at);
    });
    this.told = at;
    const finest = wanted.map(one => one.view).sort((a, b) => Number(b.raw) - Number(a.raw) || a.interval - b.interval)[0] ?? view;
    this.axis.tell(finest, at ?? view.to - view.bucket * 2);
    this.point(work, view, at);
    this.note.hidden = wanted.length > 0 || store.loaded.size === 0 || store.running !== null;
    if (!this.note.hidden) this.words.textContent = 'Nothing was recorded in this time, or no table is chosen.';
    const tiers = [...new Set(wanted.map(one => one.tier))];
    return ['raw', '1s', '1m']
      .filter(tier => tiers.includes(tier))
      .map(tier => (tier === 'raw' ? 'raw' : nameOf(tier, 0)))
      .join(' + ');
  }

  /** The charts that there are data for. @param {Seen} seen */
  wanted({ view, place, tables, store }) {
    return tables.flatMap(table => {
      const loaded = store.loaded.get(table.name);
      if (!loaded) return [];
      const interval = table.interval_us ?? 1e6;
      const own = { ...view, bucket: loaded.bucket, interval, raw: (interval / place.span) * view.width >= 4 };
      const tier = loaded.series.find(series => series.tier)?.tier ?? 'raw';
      const gaps = store.gaps.filter(gap => gap.collector === table.collector || gap.isHole);
      return chartsOf(table, loaded.series).map(plan => ({
        plan,
        series: loaded.series,
        view: own,
        gaps,
        tier,
        badge: nameOf(tier, interval),
      }));
    });
  }

  /** The line through all charts, with its time. @param {HTMLElement} work @param {View} view @param {number|null} time */
  point(work, view, time) {
    const x = time === null ? -1 : view.left + ((time - view.from) / (view.to - view.from)) * view.width;
    const isSeen = time !== null && x >= view.left && x <= view.left + view.width;
    this.cross.hidden = this.flag.hidden = !isSeen;
    if (!isSeen || time === null) return;
    const offset = this.axis.canvas.getBoundingClientRect().left - work.getBoundingClientRect().left,
      top = this.axis.element.offsetTop;
    this.cross.style.left = offset + x + 'px';
    this.cross.style.top = top + 22 + 'px';
    this.cross.style.height = Math.max(0, this.list.offsetTop + this.list.offsetHeight - top - 22) + 'px';
    this.flag.textContent = clock(time, view.to - view.from < 2e6 ? 1000 : 1e6);
    const half = this.flag.offsetWidth / 2;
    this.flag.style.left = clamp(offset + x, half, work.clientWidth - half) + 'px';
    this.flag.style.top = top + 2 + 'px';
  }

  /** While it takes long. @param {boolean} isLate */
  dim(isLate) {
    this.list.classList.toggle('dim', isLate);
    this.progress.hidden = !isLate;
    if (isLate) this.progress.style.top = this.axis.element.offsetTop + this.axis.element.offsetHeight - 2 + 'px';
  }

  /** The chart whose values are read out. @param {number} by */
  focus(by) {
    this.chosen = clamp(this.chosen + by, 0, this.list.children.length - 1);
    /** @type {HTMLElement|undefined} */ (this.list.children[this.chosen])?.focus();
  }

  announce() {
    for (const chart of this.all.values()) {
      if (chart.element === this.list.children[this.chosen]) chart.read.setAttribute('aria-live', 'polite');
      else chart.read.removeAttribute('aria-live');
    }
  }

  renew() {
    for (const chart of this.all.values()) chart.paintLegend();
  }
}
