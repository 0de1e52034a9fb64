/** Times in µs since the epoch, UTC: their texts, and the marks of an axis. */

export const SECOND = 1e6,
  MINUTE = 60e6,
  HOUR = 3600e6,
  DAY = 86_400e6;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
/** @param {number} value @param {number} [count] */
const pad = (value, count = 2) => String(value).padStart(count, '0');

/** `25 Nov` @param {number} us */
export function day(us) {
  const date = new Date(us / 1000);
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
}
/** `25 Nov 2026` @param {number} us */
export const date = us => `${day(us)} ${new Date(us / 1000).getUTCFullYear()}`;

/**
 * The time of day, as finely as `step` needs: `14:12`, `14:12:07`, `14:12:07.418`.
 * @param {number} us @param {number} step
 */
export function clock(us, step) {
  const inDay = ((us % DAY) + DAY) % DAY;
  const whole = `${pad(Math.floor(inDay / HOUR))}:${pad(Math.floor(inDay / MINUTE) % 60)}`;
  if (step >= MINUTE) return whole;
  const seconds = `${whole}:${pad(Math.floor(inDay / SECOND) % 60)}`;
  if (step >= SECOND) return seconds;
  return `${seconds}.${pad(Math.floor(inDay % SECOND), 6).slice(0, step >= 1000 ? 3 : 6)}`;
}

/** How finely a view of this length is told. @param {number} span */
export const fineness = span => (span > 2 * DAY ? MINUTE : span >= 30 * SECOND ? SECOND : span >= 5000 ? 1000 : 100);

const STEPS = [
  1,
  2,
  5,
  10,
  20,
  50,
  100,
  200,
  500,
  1e3,
  2e3,
  5e3,
  10e3,
  20e3,
  50e3,
  100e3,
  200e3,
  500e3,
  1e6,
  2e6,
  5e6,
  10e6,
  15e6,
  30e6,
  60e6,
  120e6,
  300e6,
  600e6,
  900e6,
  1800e6,
  HOUR,
  2 * HOUR,
  3 * HOUR,
  6 * HOUR,
  12 * HOUR,
  DAY,
  2 * DAY,
  3 * DAY,
  7 * DAY,
  14 * DAY,
  28 * DAY,
];

/**
 * Round times from `from` to `to`, at most one for `pixels` of `width`.
 * @param {number} from @param {number} to @param {number} width @param {number} [pixels]
 * @returns {{time: number, label: string}[]}
 */
export function marks(from, to, width, pixels = 70) {
  const least = ((to - from) / Math.max(1, width)) * pixels;
  const step = STEPS.find(one => one >= least) ?? 28 * DAY;
  const found = [];
  for (let time = Math.ceil(from / step) * step; time <= to; time += step) {
    let label = step >= DAY || time % DAY === 0 ? day(time) : clock(time, step);
    if (step < SECOND && time % SECOND !== 0) label = '.' + pad(Math.floor(time % SECOND), 6).slice(0, step >= 1000 ? 3 : 6);
    found.push({ time, label });
  }
  return found;
}

/**
 * A time as people write it: `14:12`, `yesterday 9:30`, `-10m`, `25 Nov 14:12:07.418`, RFC 3339, or a number since the epoch.
 * @param {string} text @param {number} at what is now
 * @returns {number|null}
 */
export function parse(text, at) {
  const input = text.trim();
  const ago = /^-\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)$/.exec(input);
  if (ago) {
    const unit = { ms: 1000, s: SECOND, m: MINUTE, min: MINUTE, h: HOUR, d: DAY }[ago[2]] ?? SECOND;
    return at - Number(ago[1]) * unit;
  }
  if (/^\d{10,16}$/.test(input)) return Number(input) * 10 ** (input.length < 12 ? 6 : input.length < 15 ? 3 : 0);
  const named =
    /^(?:(today|yesterday)|(\d{1,2})\s+([A-Za-z]{3})[a-z]*(?:\s+(\d{4}))?)?[\s,]*(?:(\d{1,2}):(\d{2})(?::(\d{2})(\.\d{1,6})?)?)?$/.exec(
      input,
    );
  if (named && input) {
    const [, word, dayOf, monthName, year, hours, minutes, seconds, part] = named;
    let start = Math.floor(at / DAY) * DAY - (word === 'yesterday' ? DAY : 0);
    if (dayOf) {
      const month = MONTHS.findIndex(one => one.toLowerCase() === monthName.toLowerCase());
      if (month < 0) return null;
      start = Date.UTC(Number(year ?? new Date(at / 1000).getUTCFullYear()), month, Number(dayOf)) * 1000;
    }
    return (
      start +
      Number(hours ?? 0) * HOUR +
      Number(minutes ?? 0) * MINUTE +
      Number(seconds ?? 0) * SECOND +
      Math.round(Number(part ?? 0) * SECOND)
    );
  }
  const rfc = /^(\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?)?)(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})?$/.exec(input);
  if (!rfc) return null;
  const base = Date.parse(rfc[1].replace(' ', 'T') + (rfc[1].length > 10 ? (rfc[3] ?? 'Z') : ''));
  return Number.isNaN(base) ? null : base * 1000 + Math.round(Number(rfc[2] ?? 0) * SECOND);
}
