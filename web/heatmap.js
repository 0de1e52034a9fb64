/** Seconds as pixels: a column is a second, a row some milliseconds of it. */

import { context } from './dom.js';
import { label } from './draw.js';
import { clamp, short, told } from './number.js';
import { colour, pale, ramp } from './palette.js';
import { SECOND, clock, marks } from './time.js';

/**
 * @typedef {object} Cells
 * @property {number} from @property {number} seconds @property {number} rows of a second
 * @property {Float64Array} max @property {Float64Array} mean NaN where nothing was recorded
 * @property {number} until what comes later is not known yet
 * @property {string} unit
 */
/** @typedef {{width: number, wide: number, tall: number}} Size of the picture, a second and a row, in px */

/** Room for labels, and for the mean second. */
export const LEFT = 46,
  RIGHT = 76;
const LANE = 36,
  MAP = 56,
  AXIS = 24,
  ROWS_PX_MIN = 200,
  /** Half of the moment's time and of a label. */
  FLAG = 64,
  /** The lowest cells are as dark as the quietest fiftieth. */
  LOW_SHARE = 0.02,
  DARKEST = 20;

/** @param {number} width of all @param {number} height of all @param {Cells} cells @returns {Size} */
export function sizeOf(width, height, { seconds, rows }) {
  return {
    width,
    wide: Math.max(1, Math.floor((width - LEFT - RIGHT) / seconds)),
    tall: Math.max(2, Math.floor(Math.max(ROWS_PX_MIN, height - MAP - AXIS) / rows)),
  };
}

/** The values of the darkest and of the brightest colour. @param {Float64Array} values */
export function reach(values) {
  const seen = values.filter(value => value > 0).sort();
  return seen.length ? { low: seen[Math.floor(seen.length * LOW_SHARE)], high: seen[seen.length - 1] } : null;
}

/** @param {HTMLCanvasElement} canvas @param {Cells} cells @param {'max'|'mean'} part @param {Size} size @param {import('./address.js').Place} place */
export function draw(canvas, cells, part, size, place) {
  const { from, seconds, rows } = cells,
    { wide, tall } = size,
    high = tall * rows,
    across = wide * seconds;
  const g = context(canvas, size.width, MAP + high + AXIS);
  lane(g, cells, wide);
  g.imageSmoothingEnabled = false;
  g.drawImage(picture(cells, part), LEFT, MAP, across, high);
  for (let tenth = 0; tenth <= 10; tenth += rows * tall < 300 ? 2 : 1)
    label(g, tenth === 10 ? '1 s' : `${tenth * 100} ms`, LEFT - 6, MAP + clamp(high - (tenth / 10) * high, 6, high - 6), 'right');
  for (const { time, label: text } of marks(from, from + seconds * SECOND, across, 84)) {
    const x = LEFT + ((time - from) / SECOND) * wide;
    g.fillStyle = colour('line');
    g.fillRect(Math.round(x), MAP + high, 1, 4);
    const isCovered = place.moment !== null && Math.abs(time - place.moment) * (wide / SECOND) < FLAG;
    if (!isCovered) label(g, text, clamp(x, LEFT + 14, LEFT + across - 20), MAP + high + 13, 'center', 'text2');
  }
  meanSecond(g, cells, LEFT + across + 6, tall, high);
  outline(g, cells, size, place.a, 'A');
  outline(g, cells, size, place.b, 'B');
  if (place.moment !== null) cross(g, cells, size, place.moment);
}

/** A pixel for each cell. @param {Cells} cells @param {'max'|'mean'} part */
function picture(cells, part) {
  const { seconds, rows, from, until } = cells,
    values = cells[part],
    colours = ramp();
  const image = new ImageData(seconds, rows),
    { low, high } = reach(values) ?? { low: 1, high: 1 },
    span = Math.log(Math.max(high / low, 1.01));
  const missing = [1, 3, 5].map(at => parseInt(colour('hatch').slice(at, at + 2), 16));
  for (let second = 0; second < seconds; second++) {
    for (let row = 0; row < rows; row++) {
      const value = values[second * rows + row],
        place = ((rows - 1 - row) * seconds + second) * 4;
      if (Number.isNaN(value)) {
        image.data.set(missing, place);
        image.data[place + 3] = from + second * SECOND + row * (SECOND / rows) < until ? 255 : 0;
        continue;
      }
      const shade = value > 0 ? clamp(Math.round((Math.log(value / low) / span) * (255 - DARKEST)) + DARKEST, DARKEST, 255) : 0;
      image.data.set(colours.subarray(shade * 4, shade * 4 + 4), place);
    }
  }
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [seconds, rows];
  canvas.getContext('2d')?.putImageData(image, 0, 0);
  return canvas;
}

/** Each second as a whole: its greatest cell, and its mean. @param {CanvasRenderingContext2D} g @param {Cells} cells @param {number} wide */
function lane(g, { seconds, rows, max, mean, unit }, wide) {
  g.fillStyle = colour('plot');
  g.fillRect(LEFT, 0, seconds * wide, LANE);
  let top = 0;
  for (const value of max) if (value > top) top = value;
  const scale = (LANE - 2) / (top || 1);
  g.beginPath();
  for (let second = 0; second < seconds; second++) {
    let most = 0,
      sum = 0,
      count = 0;
    for (let at = second * rows; at < (second + 1) * rows; at++) {
      if (max[at] > most) most = max[at];
      if (Number.isNaN(mean[at])) continue;
      sum += mean[at];
      count++;
    }
    g.fillStyle = pale('blue', most === top ? 1 : 0.4);
    g.fillRect(LEFT + second * wide, LANE - most * scale, wide, most * scale);
    if (count) g.lineTo(LEFT + (second + 0.5) * wide, LANE - (sum / count) * scale);
  }
  g.strokeStyle = colour('blue');
  g.lineWidth = 1.5;
  g.stroke();
  label(g, short(top, unit), LEFT - 6, 7, 'right');
  label(g, '0', LEFT - 6, LANE - 5, 'right');
}

/** What all seconds have in common. @param {CanvasRenderingContext2D} g @param {Cells} cells @param {number} x @param {number} tall @param {number} high */
function meanSecond(g, { seconds, rows, mean, unit }, x, tall, high) {
  const means = new Float64Array(rows);
  let total = 0,
    all = 0;
  for (let row = 0; row < rows; row++) {
    let sum = 0,
      count = 0;
    for (let second = 0; second < seconds; second++) {
      const value = mean[second * rows + row];
      if (Number.isNaN(value)) continue;
      sum += value;
      count++;
    }
    means[row] = count ? sum / count : 0;
    total += sum;
    all += count;
  }
  const most = Math.max(...means) || 1;
  g.fillStyle = pale('blue', 0.8);
  means.forEach((value, row) => {
    g.fillRect(x, MAP + high - (row + 1) * tall, (value / most) * (RIGHT - 12), Math.max(1, tall - 1));
  });
  label(g, 'mean second', x, MAP - 25, 'left', 'text2');
  label(g, all ? told(total / all, unit) : '–', x, MAP - 11, 'left');
}

/** A selection runs through time, so its ends are steps. @param {CanvasRenderingContext2D} g @param {Cells} cells @param {Size} size @param {[number, number]|null} pair @param {'A'|'B'} name */
function outline(g, { from, seconds, rows }, { wide, tall }, pair, name) {
  if (!pair || pair[1] <= from || pair[0] >= from + seconds * SECOND) return;
  const high = rows * tall;
  const at = (/** @type {number} */ time) => {
    const inside = clamp(time - from, 0, seconds * SECOND),
      second = Math.floor(inside / SECOND);
    return { x: LEFT + second * wide, y: MAP + high - ((inside % SECOND) / SECOND) * high };
  };
  const [a, b] = pair.map(at),
    isOne = a.x === b.x;
  g.beginPath();
  if (isOne) g.rect(a.x, b.y, wide, a.y - b.y);
  else {
    g.moveTo(a.x, a.y);
    g.lineTo(a.x, MAP);
    g.lineTo(b.x, MAP);
    g.lineTo(b.x, b.y);
    g.lineTo(b.x + wide, b.y);
    g.lineTo(b.x + wide, MAP + high);
    g.lineTo(a.x + wide, MAP + high);
    g.lineTo(a.x + wide, a.y);
    g.closePath();
  }
  g.lineWidth = 3.5;
  g.strokeStyle = pale('plot', 0.75);
  g.stroke();
  g.lineWidth = 1.5;
  g.setLineDash(name === 'B' ? [4, 3] : []);
  g.strokeStyle = colour('text');
  g.stroke();
  g.setLineDash(name === 'B' ? [3, 2] : []);
  g.strokeStyle = colour('accent');
  g.fillStyle = colour(name === 'A' ? 'accent' : 'bg');
  g.beginPath();
  g.roundRect(a.x + 0.75, MAP - 18.25, 16, 14.5, 3);
  g.fill();
  g.stroke();
  g.setLineDash([]);
  g.fillStyle = colour(name === 'A' ? 'on-accent' : 'accent');
  g.textAlign = 'center';
  g.fillText(name, a.x + 8.75, MAP - 10.5);
}

/** @param {CanvasRenderingContext2D} g @param {Cells} cells @param {Size} size @param {number} time */
function cross(g, { from, seconds, rows }, { wide, tall }, time) {
  const inside = time - from,
    high = rows * tall;
  if (inside < 0 || inside >= seconds * SECOND) return;
  const x = LEFT + Math.floor(inside / SECOND) * wide,
    row = Math.floor((inside % SECOND) / (SECOND / rows)),
    y = MAP + high - (row + 1) * tall;
  g.fillStyle = pale('text', 0.6);
  g.fillRect(Math.round(x + wide / 2), MAP, 1, high);
  g.fillRect(LEFT, Math.round(y + tall / 2), seconds * wide, 1);
  g.lineWidth = 4;
  g.strokeStyle = colour('plot');
  g.beginPath();
  g.roundRect(x - 4, y - 4, wide + 8, tall + 8, 3);
  g.stroke();
  g.lineWidth = 1.75;
  g.strokeStyle = colour('text');
  g.stroke();
  const text = clock(time, 1000),
    half = g.measureText(text).width / 2 + 6,
    middle = clamp(x + wide / 2, LEFT + half, LEFT + seconds * wide - half);
  g.fillStyle = colour('text');
  g.beginPath();
  g.roundRect(middle - half, MAP + high + 5, half * 2, 16, 3);
  g.fill();
  g.fillStyle = colour('bg');
  g.textAlign = 'center';
  g.fillText(text, middle, MAP + high + 13.5);
}

/** The time of a cell, or null where none is. @param {Cells} cells @param {Size} size @param {number} x @param {number} y */
export function timeAt({ from, seconds, rows }, { wide, tall }, x, y) {
  const second = Math.floor((x - LEFT) / wide),
    row = Math.floor((MAP + rows * tall - y) / tall);
  if (second < 0 || second >= seconds || row < 0 || row >= rows) return null;
  return from + second * SECOND + row * (SECOND / rows);
}
