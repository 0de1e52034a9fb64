/** Rows of a range, by series: arrays that can be drawn. */

/** @typedef {{min: Float64Array, max: Float64Array, mean: Float64Array}} Values */
/**
 * @typedef {object} Series
 * @property {string} key
 * @property {Record<string, string>} labels
 * @property {number} length
 * @property {Float64Array} time where each bucket begins
 * @property {Float64Array} end its last tick
 * @property {Record<string, Values>} columns NaN where there is no value
 * @property {Float64Array} ticks how many each bucket has
 * @property {string} tier
 */

/**
 * @param {import('./api.js').Rows} answer rows in the order of series and time
 * @param {string[]} columns
 * @returns {Series[]}
 */
export function split(answer, columns) {
  const at = Object.fromEntries(answer.columns.map((column, index) => [column.name, index]));
  const labels = answer.columns.slice(0, at.time).map(column => column.name);
  /** @type {Map<string, any[][]>} */
  const groups = new Map();
  for (const row of answer.rows) {
    const key = row.slice(0, at.time).join('\u0000');
    const group = groups.get(key);
    if (group) group.push(row);
    else groups.set(key, [row]);
  }
  return [...groups].map(([key, rows]) => {
    const pick = (/** @type {number} */ index) => Float64Array.from(rows, row => row[index] ?? NaN);
    const values = (/** @type {string} */ name) => ({
      min: pick(at[name + '_min']),
      max: pick(at[name + '_max']),
      mean: pick(at[name + '_mean']),
    });
    return {
      key,
      labels: Object.fromEntries(labels.map((name, index) => [name, String(rows[0][index] ?? '')])),
      length: rows.length,
      time: pick(at.time),
      end: pick(at.end),
      ticks: pick(at.ticks),
      columns: Object.fromEntries(columns.map(name => [name, values(name)])),
      tier: rows[rows.length - 1][at.tier],
    };
  });
}

/**
 * Old rows up to where the new ones begin, then the new ones; nothing from before `from`.
 * @param {Series[]} old @param {Series[]} fresh @param {number} from @param {number} seam
 * @returns {Series[]}
 */
export function merge(old, fresh, from, seam) {
  const byKey = new Map(fresh.map(one => [one.key, one]));
  const merged = old.map(one => {
    const more = byKey.get(one.key);
    byKey.delete(one.key);
    const first = lower(one.time, from),
      last = lower(one.time, seam);
    const join = (/** @type {Float64Array} */ a, /** @type {Float64Array|undefined} */ b) => {
      const joined = new Float64Array(last - first + (b?.length ?? 0));
      joined.set(a.subarray(first, last));
      if (b) joined.set(b, last - first);
      return joined;
    };
    const columns = Object.fromEntries(
      Object.entries(one.columns).map(([name, values]) => {
        const of = more?.columns[name];
        return [name, { min: join(values.min, of?.min), max: join(values.max, of?.max), mean: join(values.mean, of?.mean) }];
      }),
    );
    const time = join(one.time, more?.time);
    return {
      ...one,
      time,
      end: join(one.end, more?.end),
      ticks: join(one.ticks, more?.ticks),
      length: time.length,
      columns,
      tier: more?.tier ?? one.tier,
    };
  });
  return [...merged.filter(one => one.length > 0), ...byKey.values()];
}

/** The same series without rows. @param {Series} series @returns {Series} */
export function emptied(series) {
  const none = new Float64Array(0);
  const columns = Object.fromEntries(Object.keys(series.columns).map(name => [name, { min: none, max: none, mean: none }]));
  return { ...series, length: 0, time: none, end: none, ticks: none, columns };
}

/** The first index whose value is not below `value`. @param {Float64Array} sorted @param {number} value */
export function lower(sorted, value) {
  let low = 0,
    high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * The bucket that is nearest to a time, or -1 if none is within `reach`.
 * @param {Series} series @param {number} time @param {number} width @param {number} reach
 */
export function nearest(series, time, width, reach) {
  const after = lower(series.time, time - width);
  let best = -1,
    distance = reach;
  for (let index = Math.max(0, after - 1); index < Math.min(series.length, after + 2); index++) {
    const centre = Math.min(series.time[index] + width / 2, series.end[index]);
    if (Math.abs(centre - time) <= distance) {
      best = index;
      distance = Math.abs(centre - time);
    }
  }
  return best;
}
