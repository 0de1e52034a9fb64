/** The daemon's time, as far as its answers tell it. The browser's clock may be minutes off, also where both are one host's. */

import { clamp } from './number.js';
import { SECOND } from './time.js';

/** Answers have their time in whole seconds, and it may be that of the second before. */
const TOLD_LATE_MAX = 2 * SECOND;

export class Clock {
  /** @param {() => number} local the browser's time, µs */
  constructor(local = () => Date.now() * 1000) {
    this.local = local;
    /** How much the daemon's clock is ahead of the browser's, at least and at most. */
    this.least = -Infinity;
    this.most = Infinity;
  }

  /** Learns from an answer. @param {number} sent @param {number} received by the browser's clock @param {number} told the time in it, µs */
  learn(sent, received, told) {
    if (!Number.isFinite(told)) return;
    const least = told - received,
      most = told + TOLD_LATE_MAX - sent;
    this.least = Math.max(this.least, least);
    this.most = Math.min(this.most, most);
    // One of the clocks was set.
    if (this.least > this.most) [this.least, this.most] = [least, most];
  }

  /** The browser's time where answers do not contradict it, else the nearest one that they allow. */
  now() {
    return this.local() + clamp(0, this.least, this.most);
  }

  /** A time that the daemon's clock has surely reached. */
  reached() {
    return this.local() + this.least;
  }
}
