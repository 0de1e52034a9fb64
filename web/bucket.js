/** How long the buckets are that a table is asked for. */

import { MINUTE, SECOND } from './time.js';

/** Tiers, and the intervals of tables that have them. Stretches of rows are read much faster from the widest tier that fits. */
const TIERS = [
    { width: SECOND, interval: SECOND / 20 },
    { width: MINUTE, interval: MINUTE / 2 },
  ],
  /** Buckets of up to so many pixels look the same, as most lines are wider. */
  PIXELS_MAX = 2,
  /** Of shorter buckets than this share of the interval, each has one tick, as of this. */
  TICK_SHARE = 0.1,
  TICK_BUCKET_MAX = SECOND / 2;

/** µs. @param {number} pixel how much time a pixel shows @param {number} interval of the table's ticks */
export function bucketOf(pixel, interval) {
  const tier = TIERS.find(one => pixel < one.width && pixel * PIXELS_MAX >= one.width && interval <= one.interval);
  return tier?.width ?? Math.max(1, Math.round(pixel), Math.floor(Math.min(interval * TICK_SHARE, TICK_BUCKET_MAX)));
}
