/** What keys mean. They mean nothing while someone writes. */

import { LENGTHS } from './bar.js';

/**
 * @typedef {object} Acts
 * @property {(factor: number) => void} zoom @property {(direction: number) => void} pan
 * @property {(direction: number) => void} cross @property {(direction: number) => void} chart
 * @property {(which: 'a'|'b') => void} mark @property {(direction: number) => void} next
 * @property {(span: number) => void} span @property {() => void} live @property {() => void} log
 * @property {() => boolean} moment false where Enter means something else
 * @property {() => void} jump @property {() => void} back @property {() => void} help
 * @property {() => void} find @property {() => void} close
 */

/** @param {Acts} acts */
export function listenKeys(acts) {
  addEventListener('keydown', event => {
    if (event.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
      if (event.key !== 'Escape') return;
      event.target.blur();
      document.querySelector('.pop')?.remove();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const sideways = (/** @type {number} */ direction) => (event.shiftKey ? acts.pan(direction) : acts.cross(direction));
    /** @type {Record<string, () => boolean|void>} */
    const keys = {
      '+': () => acts.zoom(0.5),
      '=': () => acts.zoom(0.5),
      '-': () => acts.zoom(2),
      arrowleft: () => sideways(-1),
      arrowright: () => sideways(1),
      arrowup: () => acts.chart(-1),
      arrowdown: () => acts.chart(1),
      enter: () => !(event.target instanceof HTMLButtonElement || event.target instanceof HTMLAnchorElement) && acts.moment(),
      backspace: acts.back,
      l: acts.live,
      g: acts.jump,
      y: acts.log,
      '?': acts.help,
      s: () => acts.mark('a'),
      d: () => acts.mark('b'),
      n: () => acts.next(1),
      p: () => acts.next(-1),
      '/': acts.find,
      escape: acts.close,
    };
    const length = LENGTHS[Number(event.key) - 1];
    const act = length ? () => acts.span(length[1]) : keys[event.key.toLowerCase()];
    if (act && act() !== false) event.preventDefault();
  });
}
