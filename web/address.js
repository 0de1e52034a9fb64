/** What is seen, as the address has it: a link shows the same to whoever opens it. */

import { HOUR } from './time.js';

/**
 * @typedef {object} Place
 * @property {'charts'|'seconds'|'alerts'|'sql'} view
 * @property {number} span length, µs
 * @property {number|null} to end, µs; null follows the newest rows
 * @property {string[]|null} tables those with charts; null for the usual ones
 * @property {number|null} moment
 * @property {[number, number]|null} a selection
 * @property {[number, number]|null} b the one that it is compared with
 * @property {string} heat table, column and series of the seconds
 * @property {string} sql
 * @property {boolean} log
 */

/** @type {Place} */
export const START = {
  view: 'charts',
  span: HOUR / 12,
  to: null,
  tables: null,
  moment: null,
  a: null,
  b: null,
  heat: '',
  sql: '',
  log: false,
};
export const SPAN_MIN = 10e3,
  SPAN_MAX = 400 * 24 * HOUR;
const VIEWS = ['charts', 'seconds', 'alerts', 'sql'];

/**
 * What is seen of a report: all of it, where an address names no other time, as nothing is newer.
 * @param {Place} place @param {boolean} isWhole whether the address names no length @param {{from: number, to: number}} recording @returns {Place}
 */
export function within(place, isWhole, { from, to }) {
  if (place.view === 'sql') place = { ...place, view: START.view };
  if (place.to !== null && !isWhole) return place;
  return { ...place, span: isWhole ? Math.max(SPAN_MIN, to - from) : place.span, to: isWhole ? to : (place.to ?? to) };
}

/** @param {string|null} text */
function pair(text) {
  const [from, to] = (text ?? '').split('-').map(Number);
  return from > 0 && to > from ? /** @type {[number, number]} */ ([from, to]) : null;
}

/** @param {string} search @returns {Place} */
export function read(search) {
  const query = new URLSearchParams(search);
  const number = (/** @type {string} */ name) => (/^\d{1,17}$/.test(query.get(name) ?? '') ? Number(query.get(name)) : null);
  const view = query.get('view') ?? START.view;
  return {
    view: /** @type {Place['view']} */ (VIEWS.includes(view) ? view : START.view),
    span: Math.min(SPAN_MAX, Math.max(SPAN_MIN, number('span') ?? START.span)),
    to: number('to'),
    tables: query.has('tables') ? (query.get('tables') ?? '').split(',').filter(Boolean) : null,
    moment: number('at'),
    a: pair(query.get('a')),
    b: pair(query.get('b')),
    heat: query.get('heat') ?? '',
    sql: query.get('q') ?? '',
    log: query.get('log') === '1',
  };
}

/** @param {Place} place */
export function write(place) {
  const query = new URLSearchParams();
  if (place.view !== START.view) query.set('view', place.view);
  query.set('span', String(Math.round(place.span)));
  if (place.to !== null) query.set('to', String(Math.round(place.to)));
  if (place.tables) query.set('tables', place.tables.join(','));
  if (place.moment !== null) query.set('at', String(Math.round(place.moment)));
  if (place.a) query.set('a', place.a.map(Math.round).join('-'));
  if (place.b) query.set('b', place.b.map(Math.round).join('-'));
  if (place.heat) query.set('heat', place.heat);
  if (place.sql) query.set('q', place.sql);
  if (place.log) query.set('log', '1');
  return '?' + query.toString();
}
