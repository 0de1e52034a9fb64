/** What the mouse, touches and keys mean on the charts. */

/**
 * @typedef {object} Actions
 * @property {() => {from: number, to: number, left: number, width: number}} view
 * @property {(at: number, factor: number) => void} zoom keeps the time `at` in its place
 * @property {(by: number, ends: boolean) => void} pan µs
 * @property {(time: number|null) => void} point
 * @property {(pair: [number, number], second: boolean, ends: boolean) => void} select
 * @property {(time: number) => void} moment
 * @property {() => void} back
 */

/** @param {HTMLElement} area @param {Actions} actions */
export function listen(area, actions) {
  const timeAt = (/** @type {number} */ x) => {
    const view = actions.view(),
      inside = x - area.getBoundingClientRect().left - plotLeft() - view.left;
    return view.from + (inside / view.width) * (view.to - view.from);
  };
  const plotLeft = () => {
    const plot = area.querySelector('.plot');
    return plot ? plot.getBoundingClientRect().left - area.getBoundingClientRect().left : 0;
  };
  const onPlot = (/** @type {Event} */ event) =>
    event.target instanceof Element && event.target.closest('.row:not(.strips) .plot') !== null;

  area.addEventListener(
    'wheel',
    event => {
      if (!onPlot(event)) return;
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 20 : 1;
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        const view = actions.view();
        actions.pan(((event.deltaX * lines) / view.width) * (view.to - view.from), true);
      } else actions.zoom(timeAt(event.clientX), Math.exp(Math.max(-240, Math.min(240, event.deltaY * lines)) * 0.0025));
    },
    { passive: false },
  );

  /** @type {{id: number, x: number, time: number, moved: boolean, select: boolean, second: boolean}|null} */
  let held = null;
  /** @type {Map<number, number>} */
  const fingers = new Map();
  let apart = 0;
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let press;
  area.addEventListener('pointerdown', event => {
    if (!onPlot(event) || event.button !== 0) return;
    fingers.set(event.pointerId, event.clientX);
    if (fingers.size === 2) {
      const [a, b] = [...fingers.values()];
      apart = Math.abs(a - b);
      held = null;
    } else
      held = {
        id: event.pointerId,
        x: event.clientX,
        time: timeAt(event.clientX),
        moved: false,
        select: event.shiftKey,
        second: event.altKey,
      };
    if (event.pointerType === 'touch') {
      const at = timeAt(event.clientX);
      press = setTimeout(() => {
        if (held && !held.moved) actions.moment(at);
        held = null;
      }, 550);
    }
  });
  area.addEventListener('pointermove', event => {
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, event.clientX);
    if (fingers.size === 2) {
      const [a, b] = [...fingers.values()],
        wide = Math.max(10, Math.abs(a - b));
      actions.zoom(timeAt((a + b) / 2), apart / wide);
      apart = wide;
      return;
    }
    if (held && event.pointerId === held.id) {
      if (!held.moved && Math.abs(event.clientX - held.x) < 4) return;
      if (!held.moved) {
        held.moved = true;
        area.setPointerCapture(event.pointerId);
      }
      if (held.select) actions.select(ordered(held.time, timeAt(event.clientX)), held.second, false);
      else actions.pan(held.time - timeAt(event.clientX), false);
      return;
    }
    actions.point(onPlot(event) ? timeAt(event.clientX) : null);
  });
  const release = (/** @type {PointerEvent} */ event) => {
    clearTimeout(press);
    fingers.delete(event.pointerId);
    if (!held || event.pointerId !== held.id) return;
    const done = held;
    held = null;
    if (event.type === 'pointercancel') return;
    if (!done.moved) {
      actions.point(timeAt(event.clientX));
      if (event.pointerType !== 'touch' && !done.select) actions.moment(timeAt(event.clientX));
    } else if (done.select) actions.select(ordered(done.time, timeAt(event.clientX)), done.second, true);
    else actions.pan(0, true);
  };
  area.addEventListener('pointerup', release);
  area.addEventListener('pointercancel', release);
  area.addEventListener('pointerleave', event => {
    // A finger that is lifted leaves the crosshair where it was.
    if (event.pointerType !== 'touch') actions.point(null);
  });
  area.addEventListener('dblclick', event => {
    if (onPlot(event)) actions.back();
  });
}

/** @param {number} a @param {number} b @returns {[number, number]} */
const ordered = (a, b) => (a < b ? [a, b] : [b, a]);
