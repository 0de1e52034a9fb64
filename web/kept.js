/** Answers that are kept, so that a place that was just left is drawn at once. */

/** What is kept of one table. A usual page has up to a megabyte of a table in a view. */
const BYTES_MAX = 8 << 20,
  /** What an answer takes beside its rows. */
  BYTES_MIN = 4 << 10,
  /** The way back from a place is not exactly the way to it. */
  NEARLY = 1.02,
  /** Between two answers with about the same of a view, the finer one is drawn. */
  SHARES = 50;

/**
 * What was fetched of a stretch of time.
 * @typedef {object} Stretch
 * @property {number} bucket @property {number} from @property {number} to µs
 * @property {boolean} isPast whether no further rows can come
 */

/** @template {Stretch} T */
export class Kept {
  /** @param {(one: T) => number} bytesOf how much memory the rows of one take */
  constructor(bytesOf) {
    this.bytesOf = bytesOf;
    /** @type {T[]} the newest last */
    this.all = [];
  }

  /** Keeps one, in the place of another one if that is grown. The oldest ones give way. @param {T} one @param {T} [grown] */
  add(one, grown) {
    this.all = this.all.filter(old => old !== grown && old !== one);
    this.all.push(one);
    let bytes = 0;
    // What is seen stays, however large it is.
    const first = this.all.findLastIndex((old, at) => (bytes += BYTES_MIN + this.bytesOf(old)) > BYTES_MAX && at < this.all.length - 1);
    this.all.splice(0, first + 1);
  }

  /**
   * One that has all of this stretch, as fine as is asked for, and need not be fetched again.
   * @param {number} from @param {number} to @param {number} bucket
   */
  whole(from, to, bucket) {
    const isWhole = (/** @type {T} */ one) =>
      one.isPast && one.bucket <= bucket * NEARLY && one.bucket * 2 > bucket && one.from <= from + bucket && one.to >= to - bucket;
    return this.all.findLast(isWhole);
  }

  /** The one that has most of a view, until that is fetched. @param {number} from @param {number} to */
  nearest(from, to) {
    const share = (/** @type {T} */ one) =>
      Math.round((Math.max(0, Math.min(one.to, to) - Math.max(one.from, from)) / (to - from)) * SHARES);
    let best = this.all.at(-1);
    for (const one of this.all) {
      if (!best || share(one) > share(best) || (share(one) === share(best) && one.bucket < best.bucket)) best = one;
    }
    return best;
  }
}
