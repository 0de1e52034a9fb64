// What a report computes from its rows, without a browser: node --test tests/page
import assert from 'node:assert/strict';
import test from 'node:test';
import { START, read, within } from '../../web/address.js';
import { unpack } from '../../web/block.js';
import { edge, reduce } from '../../web/reduce.js';

/** A number of 7 bits a byte. @param {number} value @returns {number[]} */
const varint = value => (value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))]);
const signed = value => varint(value < 0 ? -value * 2 - 1 : value * 2);

test('whole numbers are differences within their series', () => {
  const bytes = [3, 2, 1, 2, ...[1_000, -1, 2, -1].flatMap(signed)];
  assert.deepEqual([...unpack(Uint8Array.from(bytes), false, [4, 1])], [1000, 999, NaN, 1001, -1]);
  const large = 4_000_000_000_000_001;
  assert.deepEqual([...unpack(Uint8Array.from([0, ...signed(large), ...signed(-large)]), false, [1, 1])], [large, -large]);
});

test('numbers with a fraction keep their bits', () => {
  const values = [0.1, -1e300, 1 / 3],
    bits = new BigUint64Array(new Float64Array(values).buffer);
  const words = [bits[0], bits[0] ^ bits[1], bits[2]];
  const planes = Array.from({ length: 8 }, (_, plane) => words.map(word => Number((word >> BigInt(8 * plane)) & 255n))).flat();
  assert.deepEqual([...unpack(Uint8Array.from([3, 1, 1, 2, ...planes]), true, [3, 1])], [0.1, NaN, -1e300, 1 / 3]);
});

const stretch = (times, more = {}) => ({ time: Float64Array.from(times), first: 0, end: times.length, width: 0, ticks: null, ...more });
const counter = values => ({ isCounter: true, values: Float64Array.from(values) });
const gauge = values => ({ isCounter: false, values: Float64Array.from(values) });

test('edges of buckets are whole, also where their product is not', () => {
  const window = { from: 100, to: 200, buckets: 3 };
  assert.deepEqual(
    [0, 1, 2, 3].map(bucket => edge(window, bucket)),
    [100, 134, 167, 200],
  );
  assert.equal(edge({ from: 7, to: 7 + 9_007_199_254_740_881, buckets: 10_000 }, 9_999), 9006298534815414);
});

test('a rate is over the step before it, and the first step is from before the window', () => {
  const rows = stretch([0, 1e6, 1.5e6, 1.6e6]),
    cells = reduce(rows, [counter([0, 100, 110, 5])], { from: 1e6, to: 2e6, buckets: 1 });
  // 100 in a second, 10 in half of one, and 5 in 100 ms since it began anew.
  assert.deepEqual(cells, [{ time: 1e6, end: 1.6e6, rows: 3, sums: [{ low: 20, high: 100, amount: 115, weight: 1.6, count: 3 }] }]);
  assert.deepEqual(reduce(rows, [counter([0, 100, 110, 5])], { from: 0, to: 1e6, buckets: 1 }), [], 'nothing leads into the first row');
});

test('one tick has its own time, and a column without a value does not end a rate of one column', () => {
  const rows = stretch([0, 1e6, 2e6]);
  const [cell] = reduce(rows, [counter([1, NaN, 5])], { from: 1e6, to: 3e6, buckets: 1 });
  assert.deepEqual([cell.time, cell.sums[0].high, cell.sums[0].weight], [2e6, 2, 2]);
  const both = reduce(rows, [counter([1, NaN, 5]), gauge([1, 2, 3])], { from: 1e6, to: 3e6, buckets: 1 });
  assert.deepEqual([both[0].rows, both[0].sums[0].count, both[0].sums[1].amount], [2, 0, 5]);
});

test('seconds keep the least and the greatest value, and weigh by their ticks', () => {
  const rows = stretch([0, 1e6, 2e6], { width: 1e6, ticks: Float64Array.from([10, 30, 10]) }),
    column = { ...counter([1, 2, 9]), low: Float64Array.from([0, 1, 9]), high: Float64Array.from([5, 700, 9]) };
  const [cell] = reduce(rows, [column], { from: 0, to: 2e6, buckets: 1 });
  assert.deepEqual([cell.time, cell.end, cell.sums[0].low, cell.sums[0].high], [0, 2e6, 0, 700]);
  assert.equal(cell.sums[0].amount / cell.sums[0].weight, (1 * 10 + 2 * 30) / 40);
});

test('a report opens over all of it, and nothing of it is live', () => {
  const recording = { from: 1e15, to: 1e15 + 60e6 };
  assert.deepEqual(within(read(''), true, recording), { ...START, span: 60e6, to: 1e15 + 60e6 });
  assert.deepEqual(within(read('view=sql&span=1000000'), false, recording), { ...START, span: 1e6, to: 1e15 + 60e6 });
  assert.equal(within(read('span=1000000&to=1000000000000005'), false, recording).to, 1000000000000005);
});
