/** Which charts a table has, by its declaration and the series that it has in view. */

/** @typedef {import('./api.js').Table} Table */
/** @typedef {import('./series.js').Series} Series */
/** @typedef {{name: string, column: string, colour: string, factor: number, series: Series, down?: boolean, dash?: boolean, alpha?: number, unit?: string, amount?: string}} Line `amount` is the unit of what came in one tick */
/**
 * @typedef {object} Chart
 * @property {string} id the same as long as the chart is about the same
 * @property {string} title
 * @property {string} unit
 * @property {'lines'|'mirror'|'stack'|'heat'} kind
 * @property {boolean} steps values of ticks are rates over the time before them
 * @property {number} height
 * @property {Line[]} lines
 * @property {Line[]} [more] only in the readout
 * @property {Line} [peak] of a stack: its total
 * @property {number} [max] the end of the scale
 * @property {[string, string]} [sides] of a mirror
 */

/** In this order; an eighth series is one of the others. */
export const COLOURS = ['blue', 'amber', 'teal', 'pink', 'yellow', 'red', 'violet'];
/** Charts that are there before anyone has chosen, and first, in this order. */
export const USUAL = ['cpu', 'memory', 'network', 'disk', 'pressure', 'tcp'];
/** Tables that say when something happened, which other views show. */
export const EVENTS = ['gap', 'alert', 'statement'];
const CORES_HEAT_MIN = 8,
  SERIES_MAX = 7,
  GENERIC_CHARTS_MAX = 8,
  DEVICES_MAX = 4;

const NAMES = /** @type {Record<string, string>} */ ({
  cpu: 'CPU',
  tcp: 'TCP',
  ip: 'IP',
  vm: 'Paging',
  host: 'Load',
  network: 'Interfaces',
  disk: 'Disks',
  softirq: 'Soft IRQ',
  interrupt: 'Interrupts',
  filesystem: 'File systems',
  process: 'Processes',
  process_state: 'Process states',
  cgroup: 'Cgroups',
  sensor: 'Sensors',
  kymo: 'Own cost',
  collector: 'Collectors',
  gap: 'Gaps',
});
/** @param {string} table */
export const nameOf = table => NAMES[table] ?? sentence(table);
/** @param {string} name */
export function sentence(name) {
  const words = name.split('_').map(word => (ABBREVIATIONS.includes(word) ? word.toUpperCase() : word));
  return words.join(' ').replace(/^./, first => first.toUpperCase());
}
const ABBREVIATIONS = ['cpu', 'rss', 'io', 'ip', 'tcp', 'udp', 'icmp', 'irq'];

/** Tables in the order of their charts. @param {Table[]} tables */
export function inOrder(tables) {
  const place = (/** @type {Table} */ table) => (USUAL.includes(table.name) ? USUAL.indexOf(table.name) : USUAL.length);
  return [...tables].sort((a, b) => place(a) - place(b));
}

/**
 * Columns of the series that have these labels, or of all but those.
 * @typedef {{columns: string[], values?: string[], labels?: Record<string, string>, except?: Record<string, string>}} Ask `values` are
 * those that are drawn, if not all
 */

/** What the charts of a table need. No series is in two of them. @param {Table} table @param {Series[]} [known] its series as far as they are known @returns {Ask[]} */
export const asksOf = (table, known = []) => KNOWN[table.name]?.asks(known) ?? [{ columns: columnsOf(table) }];

/** @param {Table} table */
function columnsOf(table) {
  return table.columns
    .filter(column => column.kind === 'counter' || column.kind === 'gauge')
    .map(column => column.name)
    .filter(name => !/^(max_|total_|pid$|parent_pid|user_id|start_us|uptime)/.test(name))
    .slice(0, GENERIC_CHARTS_MAX);
}

/** @param {Table} table @param {Series[]} series */
export const chartsOf = (table, series) => (KNOWN[table.name]?.charts ?? generic(table))(series, table);

/** @param {Series} series @param {string} column */
function weight(series, column) {
  let sum = 0;
  for (const value of series.columns[column]?.mean ?? []) if (value > 0) sum += value;
  return sum;
}

/** @param {Series[]} series @param {string[]} columns */
export function busiest(series, columns) {
  const of = (/** @type {Series} */ one) => columns.reduce((sum, column) => sum + weight(one, column), 0);
  const sorted = [...series].sort((a, b) => of(b) - of(a) || a.key.localeCompare(b.key));
  const active = sorted.filter(one => of(one) > 0);
  return (active.length ? active : sorted).slice(0, DEVICES_MAX);
}

/** Stacks and heat maps have no band. @type {Record<string, {asks: (known: Series[]) => Ask[], charts: (series: Series[], table: Table) => Chart[]}>} */
const KNOWN = {
  cpu: {
    // A core has one line, and a host may have hundreds of cores.
    asks: known => [
      {
        columns: ['user_us', 'nice_us', 'system_us', 'iowait_us', 'softirq_us', 'steal_us', 'utilization'],
        values: ['max', 'mean'],
        labels: { cpu: 'total' },
      },
      {
        columns: ['utilization'],
        ...(known.length > CORES_HEAT_MIN && { values: ['mean'] }),
        except: { cpu: 'total' },
      },
    ],
    charts: series => {
      const total = series.find(one => one.labels.cpu === 'total');
      const cores = series
        .filter(one => one.labels.cpu !== 'total')
        .sort((a, b) => a.labels.cpu.localeCompare(b.labels.cpu, 'en', { numeric: true }));
      const factor = 1e-4 / Math.max(1, cores.length);
      const parts = [
        ['user', 'user_us', 'blue'],
        ['system', 'system_us', 'amber'],
        ['nice', 'nice_us', 'teal'],
        ['iowait', 'iowait_us', 'pink'],
        ['softirq', 'softirq_us', 'yellow'],
        ['steal', 'steal_us', 'red'],
      ];
      const charts = [];
      if (total) {
        // Few hosts run anything at another priority.
        const lines = parts
          .filter(([name, column]) => name !== 'nice' || weight(total, column) > 0)
          .map(([name, column, colour]) => ({ name, column, colour, factor, series: total }));
        charts.push(
          chart('cpu', 'CPU', cores.length > 1 ? `% of ${cores.length}` : '%', 'stack', lines, {
            unit: '%',
            max: 100,
            height: 92,
            steps: true,
            peak: { name: 'busy', column: 'utilization', colour: 'text', factor: 100, series: total },
          }),
        );
      }
      const heat = cores.length >= CORES_HEAT_MIN;
      const lines = cores.slice(0, heat ? 512 : SERIES_MAX).map((one, index) => ({
        name: one.labels.cpu,
        column: 'utilization',
        colour: COLOURS[index % COLOURS.length],
        factor: 100,
        series: one,
      }));
      if (cores.length > 1)
        charts.push(
          chart('cores', 'Cores', '% busy', heat ? 'heat' : 'lines', lines, { unit: '%', max: 100, height: heat ? 64 : 62, steps: true }),
        );
      return charts;
    },
  },
  memory: {
    asks: () => [{ columns: ['used_bytes', 'cached_bytes', 'buffers_bytes', 'free_bytes', 'total_bytes'], values: ['max', 'mean'] }],
    charts: ([one]) => {
      if (!one) return [];
      const part = (/** @type {[string, string, number]} */ [name, column, alpha]) => ({
        name,
        column,
        colour: 'teal',
        alpha,
        factor: 1,
        series: one,
      });
      const total = one.columns.total_bytes.max;
      const parts = /** @type {[string, string, number][]} */ ([
        ['used', 'used_bytes', 0.6],
        ['cache', 'cached_bytes', 0.28],
        ['buffers', 'buffers_bytes', 0.14],
      ]);
      return [
        chart('memory', 'Memory', 'GiB', 'stack', parts.map(part), {
          unit: 'B',
          height: 72,
          max: total[total.length - 1] || undefined,
          more: [{ ...part(['free', 'free_bytes', 0]), colour: '' }],
        }),
      ];
    },
  },
  network: {
    asks: () => [{ columns: ['rx_bytes', 'tx_bytes', 'rx_packets', 'rx_dropped'] }],
    charts: series =>
      busiest(series, ['rx_bytes', 'tx_bytes']).map((one, index) =>
        mirror(
          `network:${one.key}`,
          `Network ${one.labels.interface}`,
          'bit/s',
          one,
          [
            ['rx', 'rx_bytes'],
            ['tx', 'tx_bytes'],
          ],
          8,
          index,
          [
            ['rx packets', 'rx_packets'],
            ['rx dropped', 'rx_dropped'],
          ],
        ),
      ),
  },
  disk: {
    asks: () => [{ columns: ['read_bytes', 'write_bytes', 'in_flight'], labels: { kind: 'disk' } }],
    charts: series =>
      busiest(series, ['read_bytes', 'write_bytes']).flatMap((one, index) => {
        const flight = { name: 'in flight', column: 'in_flight', colour: 'violet', factor: 1, series: one };
        const both = mirror(
          `disk:${one.key}`,
          `Disk ${one.labels.device}`,
          'B/s',
          one,
          [
            ['read', 'read_bytes'],
            ['write', 'write_bytes'],
          ],
          1,
          index,
          [],
        );
        return index > 0
          ? [both]
          : [both, chart(`flight:${one.key}`, 'In flight', 'requests', 'lines', [flight], { unit: '', height: 34 })];
      }),
  },
  pressure: {
    asks: () => [{ columns: ['total_us'] }],
    charts: series => {
      const colours = /** @type {Record<string, string>} */ ({ cpu: 'blue', memory: 'teal', io: 'amber', irq: 'yellow' });
      const shown = series.filter(one => !(one.labels.resource === 'cpu' && one.labels.kind === 'full'));
      const order = ['cpu', 'memory', 'io', 'irq'];
      shown.sort(
        (a, b) => order.indexOf(a.labels.resource) - order.indexOf(b.labels.resource) || b.labels.kind.localeCompare(a.labels.kind),
      );
      const lines = shown.map(one => ({
        name: `${one.labels.resource} ${one.labels.kind}`,
        column: 'total_us',
        colour: colours[one.labels.resource] ?? 'violet',
        dash: one.labels.kind === 'full',
        factor: 1e-4,
        series: one,
      }));
      return lines.length ? [chart('pressure', 'Pressure', '% stalled', 'lines', lines, { unit: '%', height: 74, steps: true })] : [];
    },
  },
  tcp: {
    asks: () => [{ columns: ['retransmitted_segments', 'listen_drops', 'established'] }],
    charts: ([one]) => {
      if (!one) return [];
      const line = (/** @type {string} */ name, /** @type {string} */ column, /** @type {string} */ colour) => ({
        name,
        column,
        colour,
        factor: 1,
        series: one,
      });
      return [
        chart(
          'tcp',
          'TCP',
          'events/s',
          'lines',
          [
            { ...line('retransmits', 'retransmitted_segments', 'red'), amount: '' },
            { ...line('listen drops', 'listen_drops', 'violet'), amount: '' },
          ],
          {
            unit: '/s',
            height: 46,
            steps: true,
            more: [{ ...line('established', 'established', ''), unit: '' }],
          },
        ),
      ];
    },
  },
};

/** @param {string} id @param {string} title @param {string} label @param {Chart['kind']} kind @param {Line[]} lines @param {Partial<Chart> & {unit: string, height: number}} more @returns {Chart & {label: string}} */
function chart(id, title, label, kind, lines, more) {
  return { id, title, label, kind, lines, steps: false, ...more };
}

/** @param {string} id @param {string} title @param {string} unit @param {Series} series @param {[string, string][]} pair @param {number} factor @param {number} index @param {[string, string][]} more */
function mirror(id, title, unit, series, [up, down], factor, index, more) {
  const lines = [
    { name: up[0], column: up[1], colour: 'blue', factor, series, amount: 'B' },
    { name: down[0], column: down[1], colour: 'amber', factor, series, down: true, amount: 'B' },
  ];
  return chart(id, title, unit, 'mirror', lines, {
    unit,
    height: index > 0 ? 52 : unit === 'bit/s' ? 82 : 74,
    steps: true,
    sides: [up[0], down[0]],
    // Only the busiest device has the room.
    more: (index === 0 ? more : []).map(([name, column]) => ({ name, column, colour: '', factor: 1, series, unit: '/s', amount: '' })),
  });
}

/** A series' name. Paths of groups would be longer than the readout, and a process' start says nothing to people. @param {Record<string, string>} labels */
function labelled(labels) {
  const { cgroup, start_us: _, ...own } = labels;
  return Object.values(own).filter(Boolean).join(' ') || cgroup;
}

/** A chart for each column, with the greatest series as lines. @param {Table} declared */
function generic(declared) {
  const wanted = columnsOf(declared);
  return (/** @type {Series[]} */ series) =>
    wanted.flatMap(name => {
      const column = declared.columns.find(one => one.name === name);
      if (!column) return [];
      const shown = [...series]
        .filter(one => one.columns[name]?.mean.some(Number.isFinite))
        .sort((a, b) => weight(b, name) - weight(a, name) || a.key.localeCompare(b.key))
        .slice(0, SERIES_MAX);
      if (!shown.length) return [];
      const isRate = column.kind === 'counter';
      const [unit, factor] = unitOf(column.unit, isRate);
      const title =
        declared.columns.filter(one => one.kind === 'gauge' || one.kind === 'counter').length > 1
          ? sentence(name.replace(/_(bytes|us|ratio|celsius)$/, ''))
          : nameOf(declared.name);
      const lines = shown.map((one, index) => ({
        name: labelled(one.labels) || name.replaceAll('_', ' '),
        column: name,
        colour: COLOURS[index],
        factor,
        series: one,
      }));
      return [
        chart(`${declared.name}:${name}`, title, unit || (column.unit === '1' ? '' : column.unit), 'lines', lines, {
          unit,
          height: 46 + Math.max(0, lines.length - 2) * 10,
          steps: isRate,
        }),
      ];
    });
}

/** The unit in which a column of a table is shown, and the factor to it. @param {Table} table @param {import('./api.js').Column} column @returns {[string, number]} */
export function unitIn(table, column) {
  return table.name === 'network' && column.unit === 'bytes' ? ['bit/s', 8] : unitOf(column.unit, column.kind === 'counter');
}

/** The unit that is shown, and the factor to it. @param {string} unit @param {boolean} isRate @returns {[string, number]} */
export function unitOf(unit, isRate) {
  if (unit === 'bytes') return [isRate ? 'B/s' : 'B', 1];
  if (unit === 'µs') return isRate ? ['%', 1e-4] : ['µs', 1];
  if (unit === 'ratio') return ['%', 100];
  if (unit === '°C') return ['°C', 1];
  if (unit === 'µJ') return isRate ? ['W', 1e-6] : ['µJ', 1];
  return [isRate ? '/s' : '', 1];
}
