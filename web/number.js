/** Numbers for people: values with their unit, in few digits. */

/** @typedef {'bit/s'|'B/s'|'B'|'%'|'/s'|'s'|''|string} Unit */

/** @param {number} value @param {number} low @param {number} high */
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/**
 * So many significant digits, and never fewer than stand before the point.
 * @param {number} value @param {number} [significant]
 */
export function digits(value, significant = 3) {
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size < 0.005) return value.toExponential(0);
  return value.toFixed(clamp(significant - 1 - Math.floor(Math.log10(size) + 1e-9), 0, significant - 1));
}

const DECIMAL = [
  [1e12, 'T'],
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
];
const BINARY = [
  [2 ** 40, 'Ti'],
  [2 ** 30, 'Gi'],
  [2 ** 20, 'Mi'],
  [2 ** 10, 'Ki'],
];

/**
 * A value with its unit: `1.20 Gbit/s`, `19.2 GiB`, `45.1 %`.
 * @param {number|null|undefined} value @param {Unit} unit @param {number} [significant]
 */
export function told(value, unit, significant = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  if (unit === '%') return `${value.toFixed(1)} %`;
  if (unit === 'µs') return duration(value);
  const size = Math.abs(value);
  const steps = /** @type {[number, string][]} */ (unit === 'B' ? BINARY : DECIMAL);
  const step = steps.find(([from]) => size >= from * 0.9995);
  const text = step ? `${digits(value / step[0], significant)} ${step[1]}${unit}` : `${digits(value, significant)} ${unit}`;
  return text.trimEnd();
}

/**
 * For the labels of an axis, which say the unit elsewhere.
 * @param {number} value @param {Unit} unit
 */
export function short(value, unit) {
  if (unit === '%') return `${+value.toFixed(2)} %`;
  if (unit === 'µs') return duration(value);
  const steps = /** @type {[number, string][]} */ (unit === 'B' ? BINARY : DECIMAL);
  const step = steps.find(([from]) => Math.abs(value) >= from * 0.9995);
  return step ? `${+(value / step[0]).toPrecision(3)} ${step[1].replace('i', '')}` : String(+value.toPrecision(3));
}

/** A duration in µs. @param {number} us */
export function duration(us) {
  const size = Math.abs(us);
  for (const [from, name] of /** @type {[number, string][]} */ ([
    [86_400e6, 'd'],
    [3600e6, 'h'],
    [60e6, 'min'],
    [1e6, 's'],
    [1e3, 'ms'],
  ])) {
    if (size >= from * 0.9995) return `${+digits(us / from)} ${name}`;
  }
  return `${+digits(us)} µs`;
}

/** @param {number} value */
export const grouped = value =>
  Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');

/**
 * Two to four round numbers from 0 to at most `max`.
 * @param {number} max @param {number} count of steps, at least @param {Unit} unit
 */
export function rounds(max, count, unit) {
  if (!(max > 0)) return [0];
  const base = unit === 'B' ? 1024 ** Math.floor(Math.log(max) / Math.log(1024)) : 1;
  const rough = max / base / count;
  const power = 10 ** Math.floor(Math.log10(rough) + 1e-9);
  const step = ([8, 6, 5, 4, 3, 2.5, 2, 1.5].find(one => one * power <= rough * 1.0001) ?? 1) * power * base;
  const values = [0];
  for (let value = step; value <= max * 1.0001 && values.length < 4; value += step) values.push(value);
  return values;
}
