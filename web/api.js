/** Who answers: the daemon that serves this page, or the report that it is. */

import * as daemon from './daemon.js';
import * as recorded from './recorded.js';
import * as report from './report.js';

/**
 * @typedef {{name: string, kind: 'time'|'label'|'counter'|'gauge', type: string, unit: string, doc: string}} Column
 * @typedef {{name: string, doc: string, collector: string|null, interval_us: number|null, unavailable: string|null, tiers: string[], columns: Column[]}} Table
 * @typedef {{name: string, tables: Table[]}} Group
 * @typedef {{columns: {name: string, type: string}[], rows: any[][]}} Rows
 */

/** What is recorded here, if this page is a report. */
export const recording = report.recording;

const from = /** @type {Omit<typeof daemon, 'clock'> & {clock: Pick<typeof daemon.clock, 'now'|'reached'>}} */ (
  recording ? { ...report, ...recorded } : daemon
);
export const clock = from.clock;
export const tables = from.tables;
export const status = from.status;
export const alerts = from.alerts;
export const sql = from.sql;
export const range = from.range;
export const gaps = from.gaps;
export const changes = from.changes;
export const firing = from.firing;
export const processes = from.processes;
export const courses = from.courses;
export const groups = from.groups;
export const facts = from.facts;
export const about = from.about;
export const kept = from.kept;
