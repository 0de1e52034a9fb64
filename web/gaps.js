/** Missed ticks and holes, which the table `gap` lists. */

import * as api from './api.js';

/** @typedef {{collector: string, reason: string, from: number, to: number, lost: number, isHole: boolean}} Gap */

/** Collectors that are late miss ticks; whatever else makes a gap leaves a hole. */
const LATE = ['late'];
const GAPS_MAX = 4000;

/** @param {number} from @param {number} to @param {number} bucket @param {AbortSignal} [signal] @returns {Promise<Gap[]>} */
export async function load(from, to, bucket, signal) {
  // Marks closer than a bucket are one. Gaps are written when they have ended, so some time later.
  const width = Math.max(1, Math.ceil(bucket));
  const answer = await api.sql(
    `SELECT collector, reason, min(from_us), max(to_us), sum(lost) FROM gap WHERE to_us > ${Math.floor(from)} AND from_us < ${Math.ceil(to)} AND time >= to_timestamp_micros(${Math.floor(from)}) AND time < to_timestamp_micros(${Math.ceil(to) + 86_400_000_000}) GROUP BY collector, reason, from_us / ${width} ORDER BY 3 LIMIT ${GAPS_MAX}`,
    signal,
  );
  return answer.rows.map(([collector, reason, start, end, lost]) => ({
    collector,
    reason,
    from: start,
    to: end,
    lost: lost ?? 0,
    isHole: !LATE.includes(reason),
  }));
}
