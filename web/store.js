/** The rows that charts show: fetched for what is seen, and renewed at their end while the view follows the newest rows. */

import * as api from './api.js';
import * as gaps from './gaps.js';
import { columnsOf, labelsOf } from './plan.js';
import { merge, split } from './series.js';

/** @typedef {{table: api.Table, series: import('./series.js').Series[], bucket: number, from: number, to: number}} Loaded */

/** Before the newest bucket, these are fetched again: they may have been incomplete. */
const AGAIN = 2;

export class Store {
  constructor() {
    /** @type {Map<string, Loaded>} */
    this.loaded = new Map();
    /** @type {gaps.Gap[]} */
    this.gaps = [];
    /** @type {AbortController|null} */
    this.running = null;
  }

  /**
   * Fetches these tables from `from` to `to`, in buckets of about `bucket`. What is under way is aborted.
   * @param {api.Table[]} tables @param {number} from @param {number} to @param {number} bucket @param {boolean} extend
   * @param {() => void} arrived
   */
  async load(tables, from, to, bucket, extend, arrived) {
    this.running?.abort();
    const running = new AbortController();
    this.running = running;
    const width = Math.max(1, Math.round(bucket)), start = Math.floor(from / width) * width;
    const buckets = Math.min(10_000, Math.ceil((to - start) / width) + 1);
    /** @type {unknown} */
    let failed = null;
    const one = async (/** @type {api.Table} */ table) => {
      const columns = columnsOf(table), old = this.loaded.get(table.name);
      const isMore = extend && old && old.bucket === width && old.to > start && old.from <= start + width;
      const begin = isMore ? Math.max(start, Math.floor(old.to / width) * width - AGAIN * width - 2_000_000 + 2_000_000 % width) : start;
      const seam = Math.floor(begin / width) * width;
      const count = isMore ? Math.max(1, Math.ceil((to - seam) / width) + 1) : buckets;
      const answer = await api.range({ table: table.name, columns, from: seam, to: seam + count * width, buckets: count, labels: labelsOf(table) }, running.signal);
      const fresh = split(answer, columns);
      const series = isMore ? merge(old.series, fresh, start - width, seam) : fresh;
      this.loaded.set(table.name, { table, series, bucket: width, from: start, to: Math.min(to, seam + count * width) });
      arrived();
    };
    const marks = async () => {
      this.gaps = await gaps.load(from, to, width, running.signal);
      arrived();
    };
    await Promise.all([...tables.map(one), marks()].map(each => each.catch(error => { failed ??= error; })));
    if (this.running === running) this.running = null;
    if (failed && !running.signal.aborted) throw failed;
  }
}
