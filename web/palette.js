/** Colours as the style sheet has them, for canvases. */

/** @type {Map<string, string>} */
const known = new Map();
/** @type {CSSStyleDeclaration|null} */
let style = null;
/** @type {CanvasPattern|null} */
let pattern = null;

/** After the theme has changed. */
export function renew() {
  known.clear();
  style = null;
  pattern = null;
}

/** @param {string} name of a token, such as `blue` */
export function colour(name) {
  let value = known.get(name);
  if (value === undefined) {
    style ??= getComputedStyle(document.documentElement);
    value = style.getPropertyValue('--' + name).trim() || '#888888';
    known.set(name, value);
  }
  return value;
}

/** @param {string} name @param {number} alpha */
export function pale(name, alpha) {
  const [red, green, blue] = bytes(colour(name));
  return `rgba(${red},${green},${blue},${alpha})`;
}

/** @param {string} hex */
const bytes = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));

/** How strongly bands are filled. */
export const bandAlpha = () => (document.documentElement.classList.contains('light') ? 0.26 : 0.32);

/** A table of 256 colours from nothing to the most. @returns {Uint8ClampedArray} */
export function ramp() {
  const stops = [0, 1, 2, 3, 4, 5].map(at => bytes(colour(`heat${at}`)));
  const table = new Uint8ClampedArray(256 * 4);
  for (let at = 0; at < 256; at++) {
    const place = (at / 255) * (stops.length - 1),
      low = Math.min(stops.length - 2, Math.floor(place));
    for (let part = 0; part < 3; part++)
      table[at * 4 + part] = stops[low][part] + (stops[low + 1][part] - stops[low][part]) * (place - low);
    table[at * 4 + 3] = 255;
  }
  return table;
}

/** Fills what was not recorded. @param {CanvasRenderingContext2D} g @param {number} x @param {number} y @param {number} width @param {number} height */
export function hatch(g, x, y, width, height) {
  if (!pattern) {
    const tile = document.createElement('canvas');
    tile.width = tile.height = 6;
    const k = /** @type {CanvasRenderingContext2D} */ (tile.getContext('2d'));
    k.strokeStyle = colour('hatch');
    k.beginPath();
    for (const [fromX, fromY, toX, toY] of [
      [-1, 7, 7, -1],
      [-1, 1, 1, -1],
      [5, 7, 7, 5],
    ]) {
      k.moveTo(fromX, fromY);
      k.lineTo(toX, toY);
    }
    k.stroke();
    pattern = g.createPattern(tile, 'repeat');
  }
  g.fillStyle = colour('bg');
  g.fillRect(x, y, width, height);
  if (pattern) g.fillStyle = pattern;
  g.fillRect(x, y, width, height);
}
