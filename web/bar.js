/** The header and the time bar. */

import { recording } from './api.js';
import { icon, make } from './dom.js';
import { digits, duration, grouped, told } from './number.js';
import { DAY, HOUR, MINUTE, SECOND, clock, date, fineness, parse } from './time.js';

/** @type {[string, number][]} */
export const LENGTHS = [
  ['30 d', 30 * DAY],
  ['7 d', 7 * DAY],
  ['1 d', DAY],
  ['1 h', HOUR],
  ['5 min', 5 * MINUTE],
  ['10 s', 10 * SECOND],
  ['1 s', SECOND],
];
/** @type {[import('./address.js').Place['view'], string][]} */
export const VIEWS = [
  ['charts', 'Charts'],
  ['seconds', 'Seconds'],
  ['alerts', 'Alerts'],
  // Only a daemon runs statements.
  .../** @type {[import('./address.js').Place['view'], string][]} */ (recording ? [] : [['sql', 'SQL']]),
];

/**
 * @typedef {object} Acts
 * @property {(view: import('./address.js').Place['view']) => void} view
 * @property {() => void} live
 * @property {(spans: number) => void} step
 * @property {(span: number) => void} span
 * @property {(time: number) => void} jump
 * @property {() => void} back
 * @property {() => void} theme
 * @property {() => void} help
 * @property {() => void} menu
 */

export class Bar {
  /** @param {HTMLElement} header @param {HTMLElement} bar @param {HTMLElement} dock @param {Acts} acts */
  constructor(header, bar, dock, acts) {
    this.host = make('b');
    this.about = make('span.mute');
    this.health = make('div.health', {}, make('i'), make('span', {}, '…'));
    this.cost = make('span');
    this.missed = make('span');
    const tab = (/** @type {any} */ [view, name]) =>
      make(
        'button',
        { click: () => acts.view(view), 'data-view': view },
        icon(view, 18),
        make('span', {}, name),
        make('span.count', { hidden: true }),
      );
    const tabs = make('div.tabs', { role: 'navigation', 'aria-label': 'Views' }, ...VIEWS.map(tab));
    dock.replaceChildren(...VIEWS.map(tab));
    this.tabs = [...tabs.children, ...dock.children];
    const theme = make('button.icon.theme', { 'aria-label': 'Change colours', click: acts.theme }, icon('sun'), icon('moon'));
    const copy = make(
      'button.icon.wide',
      { 'aria-label': 'Copy link to this view', click: () => navigator.clipboard?.writeText(location.href) },
      icon('link'),
    );
    header.replaceChildren(
      make('div.brand', {}, icon('mark', 20), make('b', {}, 'kymo')),
      make('div.host', {}, this.host, this.about),
      tabs,
      make('div.grow'),
      this.health,
      make('div.cost', {}, this.cost, this.missed),
      make(
        'div.tools',
        {},
        copy,
        theme,
        make('button.icon.wide', { 'aria-label': 'Keys and help', click: acts.help }, icon('help')),
        make('button.icon.only-narrow', { 'aria-label': 'Tables', click: acts.menu }, icon('menu', 18)),
      ),
    );
    this.live = make('button.btn.live', { click: acts.live }, !recording && make('i'), make('span', {}, 'Live'));
    this.date = make('span.mute.lvl');
    this.when = make('span', {}, this.date, make('b'));
    this.jumper = make(
      'button.btn.when',
      { title: 'Jump to date and time', click: () => this.ask(acts) },
      icon('calendar'),
      this.when,
      make('span.mute', {}, 'UTC'),
    );
    this.lengths = LENGTHS.map(([name, span]) => make('button', { click: () => acts.span(span) }, name));
    this.shown = make('span.badge.lvl');
    this.level = make('span.level');
    this.tier = make('span.badge.lvl');
    this.back = make('button.btn.lvl', { click: acts.back }, icon('back'), 'Zoom back');
    bar.replaceChildren(
      this.live,
      make(
        'span.seg.wide',
        {},
        make('button', { 'aria-label': 'Earlier', click: () => acts.step(-0.5) }, icon('left')),
        make('button', { 'aria-label': 'Later', click: () => acts.step(0.5) }, icon('right')),
      ),
      this.jumper,
      make('span.seg.range', { role: 'group', 'aria-label': 'Length' }, ...this.lengths),
      this.shown,
      this.back,
      make('span.grow.lvl'),
      this.level,
      this.tier,
    );
    this.jump = () => this.ask(acts);
  }

  /** @param {import('./address.js').Place} place @param {import('./draw.js').View} view */
  tell(place, view) {
    for (const tab of this.tabs) {
      if (tab.dataset.view === place.view) tab.setAttribute('aria-current', 'page');
      else tab.removeAttribute('aria-current');
    }
    this.live.setAttribute('aria-pressed', String(place.to === null));
    this.live.lastChild.textContent = recording ? 'Show all' : place.to === null ? 'Live' : 'Go live';
    const step = innerWidth < 720 && place.span >= 10 * MINUTE ? MINUTE : fineness(place.span),
      sameDay = Math.floor(view.from / DAY) === Math.floor(view.to / DAY),
      isLong = place.span >= 2 * DAY;
    this.date.textContent = sameDay || !isLong ? `${date(view.from)} ` : '';
    const [from, to] = [clock(view.from, step), clock(view.to, step)];
    // The part of the end that is as at the begin is left out where times are long.
    const end = place.span < SECOND && from.slice(0, 6) === to.slice(0, 6) ? to.slice(6) : to;
    this.when.lastChild.textContent = isLong ? `${date(view.from)} – ${date(view.to)}` : `${from} – ${end}`;
    LENGTHS.forEach(([, span], index) =>
      this.lengths[index].setAttribute('aria-pressed', String(Math.abs(span - place.span) < span * 0.001)),
    );
    const isChip = LENGTHS.some(([, span]) => Math.abs(span - place.span) < span * 0.001);
    this.shown.hidden = isChip;
    this.shown.textContent = `${duration(place.span)} shown`;
    this.back.hidden = isChip && place.to === null;
    const [, amount, unit] = /^(\S+) (.+)$/.exec(duration(place.span / view.width)) ?? ['', '', ''];
    this.level.textContent = `1 pixel = ${+digits(Number(amount), 2)} ${unit}`;
  }

  /** What the data of the view are of: `raw`, or a tier. @param {string} text @param {string} [level] what a pixel is, where it is not a time */
  source(text, level) {
    this.tier.textContent = text;
    this.tier.hidden = text === '';
    if (level) this.level.textContent = level;
  }

  /** @param {import('./status.js').Facts} facts */
  status({ host, degraded, firing, about, cost, ticks }) {
    const known = (/** @type {number} */ value, /** @type {string} */ text) => (Number.isFinite(value) ? [text] : []);
    this.host.textContent = host;
    this.about.textContent = [
      ...known(about.cores, `${about.cores} ${about.cores === 1 ? 'core' : 'cores'}`),
      ...known(about.memory, told(about.memory, 'B')),
      ...known(about.uptime, `up ${duration(about.uptime)}`),
    ].join(', ');
    this.health.classList.toggle('bad', degraded.length > 0);
    this.health.lastChild.textContent = recording ? 'Report' : degraded.length ? 'Degraded' : 'Well';
    this.cost.hidden = !Number.isFinite(cost.cpu);
    this.cost.replaceChildren(make('span.mute', {}, 'own cost '), `${(cost.cpu * 100).toFixed(1)} % of a core, ${told(cost.rss, 'B')}`);
    // Of a very short recording no tick was counted yet.
    this.missed.hidden = !(ticks.scheduled > 0);
    this.missed.title = recording ? 'ticks that were due' : 'ticks that were due in the last hour';
    this.missed.replaceChildren(make('span.mute', {}, 'missed '), `${grouped(ticks.missed)} of ${told(ticks.scheduled, '', 2)} ticks`);
    for (const tab of this.tabs.filter(one => one.dataset.view === 'alerts')) {
      tab.lastChild.hidden = firing === 0;
      tab.lastChild.textContent = String(firing);
      tab.lastChild.title = `${firing} firing`;
    }
    document.title = recording ? `${host}, ${date(recording.from)} ${clock(recording.from, SECOND)} · kymo report` : `${host} · kymo`;
  }

  silent() {
    this.health.classList.add('bad');
    this.health.lastChild.textContent = 'No answer';
  }

  /** @param {Acts} acts */
  ask(acts) {
    document.querySelector('.pop')?.remove();
    const input = make('input', { id: 'to', spellcheck: 'false', autocomplete: 'off', placeholder: '14:12:07.418' });
    const meaning = make('div.sub', { 'aria-live': 'polite' }, ' ');
    const read = () => parse(input.value, recording?.to ?? Date.now() * 1000);
    input.addEventListener('input', () => {
      const time = read();
      meaning.textContent = time === null ? 'Not a time yet.' : `${date(time)}, ${clock(time, 1000)} UTC`;
    });
    const go = () => {
      const time = read();
      if (time === null) return;
      pop.remove();
      acts.jump(time);
    };
    input.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
      if (event.key === 'Enter') go();
    });
    const pop = make(
      'div.pop',
      { role: 'dialog', 'aria-label': 'Jump to date and time' },
      make('label', { for: 'to' }, 'Jump to'),
      input,
      meaning,
      make('div.acts', {}, make('button.btn.go', { click: go }, 'Centre here')),
      make('div.mute', {}, 'Also understood: 14:12, yesterday 9:30, -10m, 25 Nov 14:12:07.418, 2026-11-25T14:12:07.418Z'),
    );
    document.body.append(pop);
    const place = this.jumper.getBoundingClientRect();
    pop.style.left = Math.max(8, Math.min(place.left, innerWidth - 352)) + 'px';
    pop.style.top = place.bottom + 6 + 'px';
    input.focus();
  }
}
