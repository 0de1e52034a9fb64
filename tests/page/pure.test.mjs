// What the page computes between rows and pixels, without a browser: node --test tests/page
import assert from 'node:assert/strict';
import test from 'node:test';
import { START, read, write } from '../../web/address.js';
import { read as readArrow } from '../../web/arrow.js';
import { bucketOf } from '../../web/bucket.js';
import { Clock } from '../../web/clock.js';
import { Kept } from '../../web/kept.js';
import { digits, duration, rounds, short, told } from '../../web/number.js';
import { amount } from '../../web/readout.js';
import { single, statistics } from '../../web/selection.js';
import { bytesOf, lower, merge, nearest, split } from '../../web/series.js';
import { linesOf } from '../../web/sqlchart.js';
import { pairs } from '../../web/status.js';
import { around, begin } from '../../web/strips.js';
import { DAY, clock, marks, parse } from '../../web/time.js';

const AT = Date.UTC(2026, 10, 25, 14, 30) * 1000;

test('an address that was written is read as the same place', () => {
  const places = [
    { ...START },
    {
      ...START,
      view: 'seconds',
      span: 40_000,
      to: AT,
      tables: ['cpu', 'gap'],
      moment: AT - 1,
      a: [AT - 9, AT - 3],
      b: [AT - 2, AT],
      heat: 'network|rx_bytes|eth0|100|max',
      log: true,
    },
    { ...START, view: 'sql', sql: "SELECT '</script>&a=b' FROM cpu" },
  ];
  for (const place of places) assert.deepEqual(read(write(place)), place);
});

test('an address from elsewhere cannot make a place that there is not', () => {
  const place = read('?view=evil&span=-5&to=abc&a=9-1&b=x');
  assert.deepEqual(place, START);
  assert.equal(read('?span=1').span, 10_000);
});

test('numbers have their unit and few digits', () => {
  assert.equal(told(1.2001e9, 'bit/s'), '1.20 Gbit/s');
  assert.equal(told(20.26 * 2 ** 30, 'B'), '20.3 GiB');
  assert.equal(told(45.14, '%'), '45.1 %');
  assert.equal(told(NaN, 'B/s'), '–');
  assert.equal(digits(0), '0');
  assert.equal(short(600e6, 'bit/s'), '600 M');
  assert.deepEqual([40e3, 1e6, 90 * 60e6, 30 * DAY].map(duration), ['40 ms', '1 s', '1.5 h', '30 d']);
});

test('labels of an axis are round and begin at zero', () => {
  assert.deepEqual(rounds(100, 2, '%'), [0, 50, 100]);
  assert.deepEqual(
    rounds(62 * 2 ** 30, 2, 'B').map(value => value / 2 ** 30),
    [0, 30, 60],
  );
  assert.deepEqual(rounds(0, 2, ''), [0]);
});

test('marks of time are round, in order, and not too many', () => {
  for (const span of [10e3, 1e6, 300e6, DAY, 30 * DAY]) {
    const found = marks(AT - span, AT, 850);
    assert.ok(found.length >= 2 && found.length <= 12, `${span}: ${found.length}`);
    assert.ok(found.every((mark, index) => index === 0 || mark.time > found[index - 1].time));
  }
  assert.equal(clock(AT + 7_418_000, 1000), '14:30:07.418');
});

test('times are read as people write them', () => {
  const day = AT - (AT % DAY);
  for (const [text, time] of [
    ['14:12', day + 14.2 * 3600e6],
    ['yesterday 9:30', day - DAY + 9.5 * 3600e6],
    ['-10m', AT - 600e6],
    ['25 Nov 14:12:07.418', day + (14 * 3600 + 12 * 60 + 7.418) * 1e6],
    ['2026-11-25T14:12:07.418Z', day + (14 * 3600 + 12 * 60 + 7.418) * 1e6],
    ['1795615927418', 1795615927418000],
  ])
    assert.equal(Math.round(parse(text, AT)), Math.round(time), text);
  for (const text of ['', 'soon', '25 Foo', '2026-13-45']) assert.equal(parse(text, AT), null, text);
});

const NAMES = ['interface', 'time', 'end', 'rx_min', 'rx_max', 'rx_mean', 'ticks', 'tier', 'host'];
/** Columns of these rows. */
const columnsOf = rows => {
  const texts = {},
    numbers = {};
  NAMES.forEach((name, at) => {
    const own = rows.map(row => row[at]);
    if (typeof own[0] === 'string') texts[name] = own;
    else numbers[name] = Float64Array.from(own, value => value ?? NaN);
  });
  return { length: rows.length, names: NAMES, numbers, texts };
};
const answer = columnsOf([
  ['a', 0, 5, 1, 9, 3, 5, 'raw', 'h'],
  ['a', 10, 15, 0.1 + 0.2, 7, null, 5, 'raw', 'h'],
  ['b', 0, 5, 1, 2, 1, 5, 'raw', 'h'],
]);

/** Two batches of texts, whole numbers, times and floats, each of which is absent once, as pyarrow writes them. */
const STREAM =
  '/////yABAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAQAAADEAAAAfAAAADgAAAAEAAAAXP///wAAAQMQAAAAHAAAAAQAAAAAAAAABAAAAGJ1c3kAAAYACAAGAAYAAAAAAAIAjP///wAAAQoQAAAAIAAAAAQAAAAAAAAABAAAAHRpbWUAAAAACAAMAAYACAAIAAAAAAACAAQAAAADAAAAVVRDAMz///8AAAECEAAAABwAAAAEAAAAAAAAAAMAAABwaWQACAAMAAgABwAIAAAAAAAAAUAAAAAQABQACAAGAAcADAAAABAAEAAAAAAAAQUQAAAAGAAAAAQAAAAAAAAAAwAAAGNwdQAEAAQABAAAAAAAAAD/////KAEAABQAAAAAAAAADAAWAAYABQAIAAwADAAAAAADBAAYAAAAeAAAAAAAAAAAAAoAGAAMAAQACAAKAAAArAAAABAAAAADAAAAAAAAAAAAAAAJAAAAAAAAAAAAAAABAAAAAAAAAAgAAAAAAAAAEAAAAAAAAAAYAAAAAAAAAAIAAAAAAAAAIAAAAAAAAAABAAAAAAAAACgAAAAAAAAAGAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAAYAAAAAAAAAFgAAAAAAAAAAQAAAAAAAABgAAAAAAAAABgAAAAAAAAAAAAAAAQAAAADAAAAAAAAAAEAAAAAAAAAAwAAAAAAAAABAAAAAAAAAAMAAAAAAAAAAAAAAAAAAAADAAAAAAAAAAEAAAAAAAAAAwAAAAAAAAAAAAAAAQAAAAIAAAACAAAAYWEAAAAAAAADAAAAAAAAAAEAAAAAAAAAAgAAAAAAAAAAAAAAAAAAAAFAHhgkCgYAAgAAAAAAAAADAAAAAAAAAAUAAAAAAAAANDMzMzMz0z8AAAAAAAAAAAAAAAAAABRA/////ygBAAAUAAAAAAAAAAwAFgAGAAUACAAMAAwAAAAAAwQAGAAAADAAAAAAAAAAAAAKABgADAAEAAgACgAAAKwAAAAQAAAAAQAAAAAAAAAAAAAACQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAgAAAAAAAAACAAAAAAAAAADAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAAgAAAAAAAAAGAAAAAAAAAAAAAAAAAAAABgAAAAAAAAACAAAAAAAAAAgAAAAAAAAAAEAAAAAAAAAKAAAAAAAAAAIAAAAAAAAAAAAAAAEAAAAAQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAQAAAAAAAAABAAAAAAAAAAAAAAADAAAAYsOkAAAAAAAHAAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAP////8AAAAA';

test('a stream of Arrow becomes columns, to the bit', () => {
  const bytes = Uint8Array.from(atob(STREAM), character => character.charCodeAt(0));
  const { length, names, numbers, texts } = readArrow(bytes.buffer);
  assert.deepEqual([length, names], [4, ['cpu', 'pid', 'time', 'busy']]);
  assert.deepEqual(texts.cpu, ['a', 'a', '', 'bä']);
  assert.deepEqual([...numbers.pid], [1, 2, NaN, 7]);
  assert.deepEqual([...numbers.time], [1700000000000001, 2, 3, 4]);
  assert.deepEqual([...numbers.busy], [0.1 + 0.2, NaN, 5, NaN]);
  assert.throws(() => readArrow(bytes.buffer.slice(0, 800)), /ended too early|bounds/);
  assert.throws(() => readArrow(new TextEncoder().encode('{"error":"x"}').buffer), /ended too early/);
});

test('what was not asked for takes no memory, and has the mean', () => {
  const { rx_min: _, rx_max: __, ...numbers } = answer.numbers;
  const [a, b] = split({ ...answer, numbers }, ['rx']);
  assert.deepEqual([a.columns.rx.max[0], a.columns.rx.min[0]], [3, 3]);
  assert.equal(bytesOf([a, b]), 3 * 4 * 8);
});

test('what is kept is drawn at once, and not fetched again where it is whole', () => {
  const kept = new Kept(() => 1_000_000);
  const month = { bucket: 100, from: 0, to: 1000, isPast: true },
    day = { bucket: 10, from: 400, to: 500, isPast: true },
    now = { bucket: 10, from: 950, to: 1050, isPast: false };
  assert.equal(kept.nearest(0, 10), undefined);
  [month, day, now].forEach(one => kept.add(one));
  assert.equal(kept.nearest(410, 480), day);
  assert.equal(kept.nearest(300, 600), month);
  assert.equal(kept.nearest(960, 1040), now);
  assert.equal(kept.whole(405, 495, 10), day);
  assert.equal(kept.whole(405, 495, 5), undefined, 'it is not as fine');
  assert.equal(kept.whole(405, 495, 25), undefined, 'it is too fine for a picture of so much');
  assert.equal(kept.whole(960, 1040, 10), undefined, 'rows may still come');
  const grown = { ...now, to: 1100 };
  kept.add(grown, now);
  assert.equal(kept.nearest(960, 1100), grown);
  for (let at = 0; at < 50; at++) kept.add({ ...day });
  assert.ok(kept.all.length === 8 && !kept.all.includes(month), `${kept.all.length} megabytes`);
  const large = new Kept(() => 1e9);
  [month, day].forEach(one => large.add(one));
  assert.deepEqual(large.all, [day], 'what is seen stays');
});

test('buckets are as long as those of a tier where that looks the same, and not shorter than ticks need', () => {
  const [tick, second, minute] = [1000, 1e6, 60e6];
  assert.equal(bucketOf(2400, tick), 2400);
  assert.deepEqual(
    [0.4, 0.6, 1, 1.4].map(pixel => bucketOf(pixel * second, tick) / second),
    [0.4, 1, 1, 1.4],
  );
  assert.deepEqual(
    [29, 31, 59, 61].map(seconds => bucketOf(seconds * second, tick) / second),
    [29, 60, 60, 61],
  );
  assert.equal(bucketOf(0.6 * second, 0.1 * second), 0.6 * second, 'ten ticks a second have no seconds');
  assert.equal(bucketOf(40 * second, minute), 40 * second, 'a minute has one tick');
  assert.equal(bucketOf(9.4, second), 0.1 * second);
  assert.equal(bucketOf(0.01, tick), 100);
  assert.ok(bucketOf(10, 600 * second) < second, 'single ticks are no tier');
});

test('the time is that of the daemon, where the browser has another one', () => {
  let local = 1000e6;
  const clock = new Clock(() => local);
  assert.deepEqual([clock.now(), clock.reached()], [1000e6, -Infinity], 'nothing is known yet');
  clock.learn(local - 1000, local, 999e6);
  assert.equal(clock.now(), 1000e6);
  assert.ok(clock.reached() >= 999e6 && clock.reached() <= 1000e6);
  clock.learn(local, local, NaN);
  local = 2000e6;
  // The browser's clock was set, so it is ten minutes ahead.
  clock.learn(local - 1000, local, 1400e6);
  clock.learn(local + 400_000, local + 500_000, 1401e6);
  assert.ok(Math.abs(clock.now() - 1400e6) <= 2.1e6, `${clock.now()}`);
  assert.ok(clock.reached() <= 1400.6e6);
});

test('the amount of a step after missed ticks is that of the whole step', () => {
  const values = { mean: Float64Array.of(1e6, 1e6, 2e6), min: [], max: [] };
  const line = { column: 'rx', series: { end: Float64Array.of(1000, 2000, 12_000), columns: { rx: values } } };
  const view = { interval: 1000 };
  assert.deepEqual(
    [0, 1, 2].map(at => amount(view, line, at)),
    [1000, 1000, 20_000],
  );
});

test('a selection tells of a counter that no chart draws', () => {
  const table = { name: 'disk', columns: [{ name: 'rx', kind: 'counter', unit: 'bytes' }] };
  const [told, ...more] = single(table, split(answer, ['rx']), { column: 'rx', key: 'b' });
  assert.deepEqual([told.plan.unit, told.line.series.length, more], ['B/s', 1, []]);
  assert.equal(statistics(told.line, 10).max, 2);
  assert.deepEqual(single(table, split(answer, ['rx']), { column: 'rx', key: 'gone' }), []);
});

test('rows become series, and every bit stays', () => {
  const [a, b] = split(answer, ['rx']);
  assert.deepEqual([a.labels, a.length, b.length], [{ interface: 'a' }, 2, 1]);
  assert.equal(a.columns.rx.min[1], 0.1 + 0.2);
  assert.equal(bytesOf([a, b]), 3 * 6 * 8);
  assert.ok(Number.isNaN(a.columns.rx.mean[1]));
});

test('new rows take the place of old ones from the seam on', () => {
  const old = split(answer, ['rx']);
  const fresh = split(
    columnsOf([
      ['a', 10, 19, 5, 5, 5, 9, 'raw', 'h'],
      ['a', 20, 25, 6, 6, 6, 5, 'raw', 'h'],
      ['c', 20, 25, 6, 6, 6, 5, 'raw', 'h'],
    ]),
    ['rx'],
  );
  const merged = merge(old, fresh, 5, 10);
  assert.deepEqual(
    merged.map(one => [one.labels.interface, [...one.time], [...one.columns.rx.mean]]),
    [
      ['a', [10, 20], [5, 6]],
      ['c', [20], [6]],
    ],
  );
});

test('the bucket at a time is found, and none is where there is a gap', () => {
  const [a] = split(answer, ['rx']);
  assert.equal(lower(a.time, 10), 1);
  assert.equal(nearest(a, 12, 10, 15), 1);
  assert.equal(nearest(a, 500, 10, 15), -1);
});

test('statistics count only what was recorded', () => {
  const values = Float64Array.of(1, 5, NaN, 3);
  const series = { ticks: Float64Array.of(1, 1, 0, 2), columns: { rx: { min: values, max: values, mean: values } } };
  const { above, ...is } = statistics({ series, column: 'rx' }, 1e6);
  assert.deepEqual(is, { min: 1, max: 5, mean: 3, p99: 5, total: 9 });
  assert.equal(above(2), 2e6);
});

test('rows with times and numbers become lines, by the texts beside them', () => {
  const column = (name, type) => ({ name, type });
  const rows = [
    [AT, 'b', 1, AT],
    [AT + 1e6, 'a', 4, AT],
    [AT, 'a', 2, AT],
    [AT + 1e6, 'b', null, AT],
  ];
  const columns = [column('time', 'int64'), column('interface', 'text'), column('rate', 'float64'), column('peak_at', 'int64')];
  assert.deepEqual(
    linesOf({ columns, rows }).map(line => [line.name, [...line.series.time], [...line.series.columns.rate.mean]]),
    [
      ['b', [AT, AT + 1e6], [1, NaN]],
      ['a', [AT, AT + 1e6], [2, 4]],
    ],
  );
  assert.deepEqual(linesOf({ columns: columns.slice(1), rows: rows.map(row => row.slice(1, 3)) }), []);
});

test('the strip around a view holds it, and is longer', () => {
  for (const span of [10e3, 40e3, 1e6, 10e6, 300e6, 3600e6, DAY]) {
    const length = around(span),
      from = begin(length, AT - span, AT, AT + DAY);
    assert.ok(length >= 6 * span && from <= AT - span && from + length >= AT, `${span}: ${length} from ${from}`);
  }
});

test('changes of an alert become the times in which it fired', () => {
  const changes = [
    ['drops', 'a', 'firing', 9],
    ['drops', 'a', 'resolved', 5],
    ['drops', 'a', 'no data', 3],
    ['drops', 'b', 'firing', 4],
    ['drops', 'a', 'firing', 2],
  ];
  assert.deepEqual(pairs(changes), [
    { rule: 'drops', from: 2, to: 5 },
    { rule: 'drops', from: 4, to: null },
    { rule: 'drops', from: 9, to: null },
  ]);
});
