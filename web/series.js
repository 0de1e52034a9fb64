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
 * @param {import('./arrow.js').Columns} answer rows in the order of series and time
 * @param {string[]} columns
 * @returns {Series[]}
 */
export function split(answer, columns) {
  const { length, names, numbers, texts } = answer;
  const labels = names.slice(0, names.indexOf('time')),
    values = labels.map(name => texts[name] ?? Array.from(numbers[name], value => (Number.isNaN(value) ? '' : String(value))));
  /** @type {Series[]} */
  const series = [];
  for (let from = 0, to = 1; from < length; from = to++) {
    while (to < length && values.every(own => own[to] === own[from])) to++;
    const part = (/** @type {string} */ name) => numbers[name].subarray(from, to);
    const own = values.map(all => all[from]);
    series.push({
      key: own.join('\u0000'),
      labels: Object.fromEntries(labels.map((name, index) => [name, own[index]])),
      length: to - from,
      time: part('time'),
      end: part('end'),
      ticks: part('ticks'),
      columns: Object.fromEntries(
        columns.map(name => {
          // What was not asked for is not drawn.
          const mean = part(name + '_mean'),
            other = (/** @type {string} */ what) => (numbers[name + what] ? part(name + what) : mean);
          return [name, { min: other('_min'), max: other('_max'), mean }];
        }),
      ),
      tier: texts.tier[to - 1],
    });
  }
  return series;
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

/** Memory that numbers of series take. @param {Series[]} series */
export function bytesOf(series) {
  const numbers = (/** @type {Series} */ one) =>
    3 + Object.values(one.columns).reduce((sum, of) => sum + new Set(Object.values(of)).size, 0);
  return series.reduce((sum, one) => sum + one.length * numbers(one) * Float64Array.BYTES_PER_ELEMENT, 0);
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
