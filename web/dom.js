/** Elements. Texts are never read as HTML. */

/**
 * @param {string} tag with classes, such as `div.row.axis`
 * @param {Record<string, any>} [attributes] with listeners as functions
 * @param {(Node|string|null|undefined|false)[]} children
 * @returns {any}
 */
export function make(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split('.');
  const element = document.createElement(name || 'div');
  if (classes.length) element.className = classes.join(' ');
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(key, value);
    else if (key === 'value') /** @type {any} */ (element).value = value;
    else element.setAttribute(key, value === true ? '' : String(value));
  }
  element.append(
    ...children.filter(child => child !== null && child !== undefined && child !== false).map(child => /** @type {Node|string} */ (child)),
  );
  return element;
}

const SHAPES = {
  mark: 'M2.2 9.2H5l1.3-4.5 2.1 7.2 1.5-4 .8 1.3H14 M14.6 8A6.6 6.6 0 1 1 1.4 8a6.6 6.6 0 0 1 13.2 0',
  left: 'm10 3.5-4.5 4.5L10 12.5',
  right: 'M6 3.5 10.5 8 6 12.5',
  close: 'm4 4 8 8M12 4l-8 8',
  tick: 'm3.5 8.4 3 3 6-7',
  menu: 'M2 4h12M2 8h12M2 12h12',
  back: 'M6 3 2.5 6.5 6 10M2.8 6.5h6.4a4 4 0 0 1 0 8H7',
  sun: 'M10.8 8a2.8 2.8 0 1 1-5.6 0 2.8 2.8 0 0 1 5.6 0M8 1.6v1.2M8 13.2v1.2M1.6 8h1.2M13.2 8h1.2M3.5 3.5l.8.8M11.7 11.7l.8.8M12.5 3.5l-.8.8M4.3 11.7l-.8.8',
  moon: 'M13.6 9.8A6 6 0 1 1 6.2 2.4a4.8 4.8 0 0 0 7.4 7.4',
  find: 'M11 6.8a4.2 4.2 0 1 1-8.4 0 4.2 4.2 0 0 1 8.4 0M10 10l3.6 3.6',
  help: 'M14.2 8A6.2 6.2 0 1 1 1.8 8a6.2 6.2 0 0 1 12.4 0M6.2 6.3a1.9 1.9 0 1 1 2.6 1.8c-.6.2-.8.6-.8 1.2M8 11.4v.1',
  link: 'M6.8 9.2a2.6 2.6 0 0 0 3.7 0l2-2a2.6 2.6 0 0 0-3.7-3.7l-.6.6M9.2 6.8a2.6 2.6 0 0 0-3.7 0l-2 2a2.6 2.6 0 0 0 3.7 3.7l.6-.6',
  calendar:
    'M2 4.5A1.5 1.5 0 0 1 3.5 3h9A1.5 1.5 0 0 1 14 4.5v8a1.5 1.5 0 0 1-1.5 1.5h-9A1.5 1.5 0 0 1 2 12.5zM2 6.5h12M5.2 1.6V4M10.8 1.6V4',
  warn: 'M8 2 14.6 13.6H1.4zM8 6.4v3.2M8 11.6v.1',
  charts: 'M1.8 13.8h12.4M2 9.5l3.4-4 3 3L14 3',
  seconds: 'M2.5 2.5h11v11h-11zM6.2 2.5v11M9.8 2.5v11M2.5 6.2h11M2.5 9.8h11',
  alerts: 'M3.5 11.5h9l-1.2-1.8V7a3.3 3.3 0 0 0-6.6 0v2.7zM6.8 13.8h2.4',
  sql: 'M13 3.8c0 1.1-2.2 2-5 2s-5-.9-5-2 2.2-2 5-2 5 .9 5 2v8.4c0 1.1-2.2 2-5 2s-5-.9-5-2V3.8M3 8c0 1.1 2.2 2 5 2s5-.9 5-2',
};

/** @param {keyof typeof SHAPES} name @param {number} [size] */
export function icon(name, size = 16) {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  for (const [key, value] of Object.entries({ width: size, height: size, viewBox: '0 0 16 16', 'aria-hidden': 'true' }))
    svg.setAttribute(key, String(value));
  const path = document.createElementNS(space, 'path');
  path.setAttribute('d', SHAPES[name]);
  svg.append(path);
  return svg;
}

/** The pixel ratio of canvases that have a size and a font. @type {WeakMap<HTMLCanvasElement, number>} */
const ready = new WeakMap();

/** A canvas of this size in CSS pixels, cleared. @param {HTMLCanvasElement} canvas @param {number} width @param {number} height */
export function context(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)],
    g = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  if (canvas.width !== w || canvas.height !== h || ready.get(canvas) !== ratio) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = width + 'px';
    canvas.style.height = height + 'px';
    // It stays until the size changes. Reading a font takes as long as drawing a line.
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.font = '11px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif';
    g.lineJoin = 'round';
    g.textBaseline = 'middle';
    ready.set(canvas, ratio);
  }
  g.clearRect(0, 0, width, height);
  return g;
}
