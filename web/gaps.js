/** Missed ticks and holes, which the table `gap` lists. */

import * as api from './api.js';

/** @typedef {{collector: string, reason: string, from: number, to: number, lost: number, isHole: boolean}} Gap */

/** Collectors that are late miss ticks; whatever else makes a gap leaves a hole. */
const LATE = ['late'];
const GAPS_MAX = 4000;

/** @param {number} from @param {number} to @param {number} bucket @param {AbortSignal} [signal] @returns {Promise<Gap[]>} */
export async function load(from, to, bucket, signal) {
  // Marks closer than a bucket are one.
  const width = Math.max(1, Math.ceil(bucket));
  const rows = await api.gaps(from, to, width, GAPS_MAX, signal);
  return rows.map(([collector, reason, start, end, lost]) => ({
    collector,
    reason,
    from: start,
    to: end,
    lost: lost ?? 0,
    isHole: !LATE.includes(reason),
  }));
}
