// What a report promises, in a browser, from disk: node report.mjs FILE CHROMIUM TOOLS MAX TIME
// MAX is the greatest rate of what `lo` received, in bytes a second, and TIME (µs) is that of its tick.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [, , file, executablePath, tools, maxText, timeText] = process.argv;
const need = createRequire(tools + '/');
const { chromium } = need('playwright-core');
const axe = need.resolve('axe-core/axe.min.js');
const address = pathToFileURL(file).href,
  [max, time] = [Number(maxText), Number(timeText)];

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const wrong = [];
const open = async (hash, more = {}) => {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, offline: true, ...more });
  const page = await context.newPage();
  page.on('console', message => ['error', 'warning'].includes(message.type()) && wrong.push(message.text()));
  page.on('pageerror', error => wrong.push(error.stack));
  page.on('request', request => request.url().split('#')[0] === address || wrong.push(`asks ${request.url().slice(0, 200)}`));
  await page.goto(address + hash);
  return page;
};
const ok = name => console.log(`ok     ${name}`);
const drawn = page => page.waitForSelector('body[data-loaded] section[data-peak]');
const hash = page => new URLSearchParams(new URL(page.url()).hash.slice(1));

const page = await open('');
await drawn(page);
const whole = [Number(hash(page).get('span')), Number(hash(page).get('to'))];
assert.ok(whole[1] - whole[0] < time && time < whole[1], `opens over ${whole}, which does not have ${time}`);
assert.match(await page.title(), /kymo report$/);
assert.match((await page.textContent('.host')) ?? '', /\d+ cores?, .*up /);
assert.equal(await page.locator('button[data-view=sql], textarea').count(), 0);
ok('a report opens over the whole recording, without SQL');

for (const length of [30 * 86_400e6, 86_400e6, 3600e6, 300e6, whole[0], 1e6, 40e3]) {
  const to = length > whole[0] ? whole[1] : Math.round(time + length / 2);
  await page.goto(`${address}#tables=network&span=${length}&to=${to}`);
  await page
    .waitForFunction(peak => Number(document.querySelector('[data-chart="network:lo"]')?.getAttribute('data-peak')) === peak, max * 8, {
      timeout: 8000,
    })
    .catch(async () =>
      assert.fail(`${length}: drawn ${await page.getAttribute('[data-chart="network:lo"]', 'data-peak')}, recorded ${max * 8}`),
    );
}
ok('a burst of a millisecond is the drawn maximum, to the bit, from 30 d to 40 ms');

await page.locator('[data-chart="network:lo"] .plot').click();
await page.waitForSelector('aside:not([hidden]) .at-processes tbody tr');
assert.ok((await page.locator('.at-processes tbody tr').count()) > 1);
assert.match((await page.textContent('.at-host')) ?? '', /CPU busy[\d.]+ %/);
await page.waitForSelector('.strips .gut');
ok('a click shows the processes and the host of its moment');

const plot = await page.locator('[data-chart="network:lo"] .plot').boundingBox();
await page.keyboard.down('Shift');
await page.mouse.move(plot.x + plot.width * 0.4, plot.y + 20);
await page.mouse.down();
await page.mouse.move(plot.x + plot.width * 0.6, plot.y + 20, { steps: 4 });
await page.mouse.up();
await page.keyboard.up('Shift');
await page.waitForSelector('.stats table tbody tr');
const link = new URL(page.url()).hash;
const other = await open(link, { colorScheme: 'light' });
await drawn(other);
assert.ok((await other.locator('aside').isVisible()) && (await other.locator('.stats').isVisible()));
assert.equal(await other.locator('.when span').first().textContent(), await page.locator('.when span').first().textContent());
await other.context().close();
await page.keyboard.press('Escape');
await page.keyboard.press('l');
await page.waitForFunction(span => Number(new URLSearchParams(location.hash.slice(1)).get('span')) === span, whole[0]);
await page.goBack();
await page.waitForFunction(() => new URLSearchParams(location.hash.slice(1)).get('span') === '40000');
ok('a selection has statistics, a link shows the same in light colours, and keys and the way back work');

await page.goto(`${address}#view=seconds&heat=network|rx_bytes|lo|100|max`);
await page.waitForFunction(() => document.querySelector('.seconds .legend')?.textContent?.includes('bit/s'));
const brightest = await page.textContent('.seconds .legend');
const digits = (max * 8).toPrecision(3).replace(/e.*/, '');
assert.ok(brightest?.replace(/\D/g, '').includes(digits.replace(/\D/g, '').slice(0, 3)), `${brightest} has not ${max * 8}`);
await page.goto(`${address}#view=alerts`);
await page.waitForSelector('.sheet h2');
await page.goto(`${address}#view=sql`);
await drawn(page);
ok('the heat map of seconds shows the burst, and alerts have a page');

await page.setViewportSize({ width: 360, height: 780 });
await page.waitForTimeout(500);
assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
assert.deepEqual(wrong, [], 'errors in the console, or requests');
ok('nothing is asked of anyone, the console has no error, and 360 pixels are wide enough');

for (const view of ['#', '#view=seconds', '#view=alerts']) {
  const look = await open(view, { bypassCSP: true });
  await look.waitForTimeout(1000);
  await look.evaluate(await readFile(axe, 'utf8'));
  const found = await look.evaluate(async () =>
    (await window.axe.run()).violations
      .filter(one => ['serious', 'critical'].includes(one.impact))
      .map(one => `${one.id}: ${one.nodes[0].html.slice(0, 160)}`),
  );
  assert.deepEqual(found, [], view);
  await look.context().close();
}
ok('axe finds nothing serious');
await browser.close();
