/** The rows that charts show: fetched for what is seen, and renewed at their end while the view follows the newest rows. */

import * as api from './api.js';
import { bucketOf } from './bucket.js';
import * as gaps from './gaps.js';
import { Kept } from './kept.js';
import { asksOf } from './plan.js';
import { bytesOf, emptied, merge, split } from './series.js';

/** @typedef {import('./kept.js').Stretch & {table: api.Table, series: import('./series.js').Series[]}} Loaded */
/** @typedef {import('./kept.js').Stretch & {gaps: gaps.Gap[]}} Gaps */

/** Before the newest bucket, these are fetched again: they may have been incomplete. */
const AGAIN = 2,
  LATE = 2e6,
  /** So many more are fetched on both sides: the way back from a place misses the way to it by some pixels. */
  MARGIN = 12,
  GAPS_EVERY = 10e6,
  /** Gaps are written when they have ended. A tick may hang for minutes. */
  GAPS_LATE = 3600e6,
  GAP_BYTES = 100;

export class Store {
  constructor() {
    /** @type {Map<string, Loaded>} what is drawn */
    this.loaded = new Map();
    /** @type {Map<string, Kept<Loaded>>} */
    this.kept = new Map();
    /** @type {Gaps} */
    this.marks = { gaps: [], bucket: 0, from: 0, to: -Infinity, isPast: false };
    /** @type {Kept<Gaps>} */
    this.keptMarks = new Kept(marks => marks.gaps.length * GAP_BYTES);
    /** @type {AbortController|null} */
    this.running = null;
  }

  get gaps() {
    return this.marks.gaps;
  }

  /** Nobody looks at what is under way. */
  leave() {
    this.running?.abort();
    this.running = null;
  }

  /** Takes what was fetched before and has most of a view, until that is fetched. @param {number} from @param {number} to */
  recall(from, to) {
    for (const [name, kept] of this.kept) {
      const nearest = kept.nearest(from, to);
      if (nearest) this.loaded.set(name, nearest);
    }
    this.marks = this.keptMarks.nearest(from, to) ?? this.marks;
  }

  /**
   * Fetches these tables from `from` to `to`, of which a pixel shows `pixel`. What is under way is aborted.
   * @param {api.Table[]} tables @param {number} from @param {number} to @param {number} pixel @param {boolean} extend
   * @param {() => void} arrived
   */
  async load(tables, from, to, pixel, extend, arrived) {
    this.running?.abort();
    const running = new AbortController();
    this.running = running;
    const now = api.clock.reached();
    /** @type {unknown} */
    let failed = null;
    const one = async (/** @type {api.Table} */ table) => {
      // A tick that is longer than the view is seen from its begin to its end.
      const reach = table.interval_us ?? 0,
        width = bucketOf(pixel, reach),
        start = Math.floor(from / width) * width,
        more = extend ? 0 : MARGIN * width;
      const begins = Math.floor((start - reach - more) / width) * width,
        ends = to + (extend ? 0 : reach) + more;
      const old = this.loaded.get(table.name),
        kept = this.kept.get(table.name) ?? new Kept(one => bytesOf(one.series));
      this.kept.set(table.name, kept);
      const known = kept.whole(begins + more, ends - more, width);
      if (known) {
        this.loaded.set(table.name, known);
        return arrived();
      }
      const isMore = extend && old && old.bucket === width && old.to > start && old.from <= start + width;
      // Rows may come two seconds late.
      const seam = isMore ? Math.max(begins, Math.floor((old.to - LATE) / width - AGAIN) * width) : begins;
      const count = Math.min(10_000, Math.max(1, Math.ceil((ends - seam) / width) + 1));
      const parts = asksOf(table, old?.series).map(async ({ columns, values, labels, except }) => {
        const asked = { table: table.name, columns, values, from: seam, to: seam + count * width, buckets: count, labels };
        const series = split(await api.range(asked, running.signal), columns);
        return except ? series.filter(one => Object.entries(except).some(([name, value]) => one.labels[name] !== value)) : series;
      });
      const fresh = (await Promise.all(parts)).flat();
      // Where nothing was recorded, the charts stay, and are empty.
      const found = fresh.length || !old ? fresh : old.series.map(emptied);
      const series = isMore ? merge(old.series, fresh, begins - width, seam) : found;
      const until = seam + count * width,
        isPast = until < now - LATE;
      const loaded = { table, series, bucket: width, from: begins, to: isPast ? until : Math.min(to, until), isPast };
      this.loaded.set(table.name, loaded);
      kept.add(loaded, isMore ? old : undefined);
      arrived();
    };
    const marks = async () => {
      const width = Math.max(1, Math.round(pixel));
      const known = this.keptMarks.whole(from, to, width);
      if (known) this.marks = known;
      // Gaps are rare.
      if (known || (extend && to - this.marks.to < GAPS_EVERY && to >= this.marks.to)) return;
      const more = extend ? 0 : MARGIN * width,
        until = to + more,
        isPast = until < now - GAPS_LATE;
      const found = await gaps.load(from - more, until, width, running.signal);
      this.marks = { gaps: found, bucket: width, from: from - more, to: isPast ? until : to, isPast };
      this.keptMarks.add(this.marks);
      arrived();
    };
    // Gaps are in all charts: if they came last, all would be drawn once more.
    await Promise.all(
      [marks(), ...tables.map(one)].map(each =>
        each.catch(error => {
          failed ??= error;
        }),
      ),
    );
    if (this.running === running) this.running = null;
    // Who asks for another view has aborted this one.
    running.signal.throwIfAborted();
    if (failed) throw failed;
  }
}
