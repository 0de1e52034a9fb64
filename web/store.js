/** The rows that charts show: fetched for what is seen, and renewed at their end while the view follows the newest rows. */

import * as api from './api.js';
import * as gaps from './gaps.js';
import { columnsOf, labelsOf } from './plan.js';
import { emptied, merge, split } from './series.js';

/** @typedef {{table: api.Table, series: import('./series.js').Series[], bucket: number, from: number, to: number}} Loaded */

/** Before the newest bucket, these are fetched again: they may have been incomplete. */
const AGAIN = 2,
  LATE = 2e6,
  GAPS_EVERY = 10e6;

export class Store {
  constructor() {
    /** @type {Map<string, Loaded>} */
    this.loaded = new Map();
    /** @type {gaps.Gap[]} */
    this.gaps = [];
    this.gapsTo = -Infinity;
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
    const width = Math.max(1, Math.round(bucket)),
      start = Math.floor(from / width) * width;
    /** @type {unknown} */
    let failed = null;
    const one = async (/** @type {api.Table} */ table) => {
      // A tick that is longer than the view is seen from its begin to its end.
      const reach = table.interval_us ?? 0;
      const begins = Math.floor((start - reach) / width) * width,
        ends = to + (extend ? 0 : reach);
      const columns = columnsOf(table),
        old = this.loaded.get(table.name);
      const isMore = extend && old && old.bucket === width && old.to > start && old.from <= start + width;
      // Rows may come two seconds late.
      const seam = isMore ? Math.max(begins, Math.floor((old.to - LATE) / width - AGAIN) * width) : begins;
      const count = Math.min(10_000, Math.max(1, Math.ceil((ends - seam) / width) + 1));
      const answer = await api.range(
        { table: table.name, columns, from: seam, to: seam + count * width, buckets: count, labels: labelsOf(table) },
        running.signal,
      );
      const fresh = split(answer, columns);
      // Where nothing was recorded, the charts stay, and are empty.
      const found = fresh.length || !old ? fresh : old.series.map(emptied);
      const series = isMore ? merge(old.series, fresh, begins - width, seam) : found;
      this.loaded.set(table.name, { table, series, bucket: width, from: begins, to: Math.min(to, seam + count * width) });
      arrived();
    };
    const marks = async () => {
      // Gaps are rare, and known some time after they ended.
      if (extend && to - this.gapsTo < GAPS_EVERY && to >= this.gapsTo) return;
      this.gaps = await gaps.load(from, to, width, running.signal);
      this.gapsTo = to;
      arrived();
    };
    await Promise.all(
      [...tables.map(one), marks()].map(each =>
        each.catch(error => {
          failed ??= error;
        }),
      ),
    );
    if (this.running === running) this.running = null;
    if (failed && !running.signal.aborted) throw failed;
  }
}
