/** The line below the time bar: what does not work, since when, and what comes next. */

import { Silent } from './daemon.js';
import { make } from './dom.js';
import { clock } from './time.js';

export class Banner {
  /** @param {HTMLElement} element @param {() => void} again */
  constructor(element, again) {
    this.element = element;
    this.again = again;
    this.silentSince = 0;
    this.isTrouble = false;
  }

  /** Says what went wrong; true if kymo does not answer at all. @param {unknown} error */
  trouble(error) {
    if (error instanceof DOMException && error.name === 'AbortError') return false;
    const isSilent = error instanceof Silent;
    if (isSilent) this.silentSince ||= Date.now() * 1000;
    const why = error instanceof Error ? error.message : String(error);
    const text = isSilent
      ? `kymo does not answer at ${location.host} since ${clock(this.silentSince, 1e6)}. The charts show what was loaded before.`
      : why;
    this.isTrouble = true;
    this.element.replaceChildren(make('span', {}, text), make('button', { click: this.again }, 'Try now'));
    this.element.hidden = false;
    return isSilent;
  }

  /** It works again, or works badly in a way that kymo says itself. @param {string|undefined} [degraded] */
  quiet(degraded) {
    this.silentSince = 0;
    this.isTrouble = false;
    this.element.hidden = degraded === undefined;
    if (degraded) this.element.replaceChildren(make('span', {}, degraded));
  }
}
