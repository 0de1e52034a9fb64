/** The keys, in a dialog. */

import { recording } from './api.js';
import { make } from './dom.js';

const KEYS = [
  ['wheel, + -', 'zoom'],
  ['drag, shift ← →', 'pan'],
  ['← →', 'crosshair'],
  ['↑ ↓', 'chart before, after'],
  ['shift drag, S', 'select; S again ends it'],
  ['alt shift drag, D', 'second selection'],
  ['click, Enter', 'moment'],
  ['double click, Backspace', 'zoom back'],
  ['L', recording ? 'all of it' : 'live'],
  ['G', 'jump to a time'],
  ['1 – 7', 'length'],
  ['N P', 'next, previous alert or gap'],
  ['Y', 'logarithmic scale'],
  ['/', 'find table'],
  ['Esc', 'close'],
];

export function help() {
  const dialog = make(
    'dialog.help',
    { 'aria-label': 'Keys' },
    make('h2', {}, 'Keys'),
    make('dl', {}, ...KEYS.flatMap(([key, meaning]) => [make('dt', {}, key), make('dd', {}, meaning)])),
    make('form', { method: 'dialog' }, make('button.btn.go', { autofocus: true, click: () => dialog.close() }, 'Close')),
  );
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
