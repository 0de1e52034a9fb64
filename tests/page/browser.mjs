// What the page promises, in a browser, on a real daemon: node browser.mjs ADDRESS CHROMIUM TOOLS
// TOOLS is the folder whose node_modules has playwright-core and axe-core.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

const [, , address, executablePath, tools] = process.argv;
const need = createRequire(tools + '/');
const { chromium } = need('playwright-core');
const axe = need.resolve('axe-core/axe.min.js');

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: 'dark' });
const page = await context.newPage();
const wrong = [];
page.on('console', message => message.type() === 'error' && wrong.push(message.text()));
const statements = [];
page.on('request', request => statements.push(request.postData() ?? ''));
page.on('pageerror', error => wrong.push(error.stack));
page.on('request', request => request.url().startsWith(address) || wrong.push(`asks ${request.url()}`));

const drawn = async search => {
  await page.goto(address + '/' + search);
  await page.waitForSelector('body[data-loaded] section[data-peak]');
};
const place = () => new URL(page.url()).searchParams;
const span = () => Number(place().get('span'));
const settled = () => page.waitForTimeout(700);
const ok = name => console.log(`ok     ${name}`);

const sql = async statement => (await (await fetch(address + '/api/v1/sql?times=us', { method: 'POST', body: statement })).json()).rows;
const range = async (from, to, buckets) => {
  const answer = await (
    await fetch(
      `${address}/api/v1/range?table=network&column=rx_bytes&interface=lo&from=${from}&to=${to}&buckets=${buckets}&tier=raw&times=us`,
    )
  ).json();
  const at = Object.fromEntries(answer.columns.map((column, index) => [column.name, index]));
  return answer.rows.map(row => ({ end: row[at.end], max: row[at.rx_bytes_max] ?? 0 }));
};

// The greatest tick of all: looked for in buckets, and then in the bucket that has it.
const [[first, now]] = await sql('SELECT CAST(min(time) AS BIGINT), CAST(max(time) AS BIGINT) FROM network');
const most = rows => rows.reduce((one, other) => (other.max > one.max ? other : one));
const rough = most(await range(first, now, 1000)),
  width = Math.ceil((now - first) / 1000) + 1;
const burst = most(await range(rough.end - width, rough.end + 1, 10_000));
assert.equal(burst.max, rough.max);
for (const length of [30 * 86_400e6, 86_400e6, 3600e6, 300e6, 60e6, 1e6, 40e3]) {
  const to = length > 60e6 ? Math.max(now, burst.end + 2e6) : Math.round(burst.end + length / 2);
  await drawn(`?tables=network&span=${length}&to=${to}`);
  await page
    .waitForFunction(
      peak => Number(document.querySelector('[data-chart="network:lo"]')?.getAttribute('data-peak')) === peak,
      burst.max * 8,
      { timeout: 8000 },
    )
    .catch(async () =>
      assert.fail(`${length}: drawn ${await page.getAttribute('[data-chart="network:lo"]', 'data-peak')}, recorded ${burst.max * 8}`),
    );
}
ok('a burst of a millisecond is the drawn maximum, to the bit, from 30 d to 40 ms');

// The strips hold the view, and a click on one goes there.
await drawn(`?tables=network&span=1000000&to=${burst.end + 500e3}`);
await page.waitForFunction(() => document.querySelector('.strips .gut')?.textContent?.includes('10 s'));
const strip = await page.locator('.strips canvas').nth(1).boundingBox();
await page.mouse.click(strip.x + strip.width * 0.3, strip.y + 12);
await page.waitForFunction(to => Number(new URLSearchParams(location.search).get('to')) !== to, burst.end + 500e3, { timeout: 3000 });
ok('a click on a strip goes there');

// A strip that failed is asked for again with the next view, and what nobody looks at any more is aborted.
const isStrip = url => url.pathname === '/api/v1/range' && url.searchParams.get('buckets') === '600';
let failures = 0;
await page.route(isStrip, route => (failures++ < 2 ? route.fulfill({ status: 503, body: '{"error":"later"}' }) : route.continue()));
await page.goto(address + '/?tables=network&span=300000000');
await page.waitForFunction(() => document.querySelector('#banner')?.textContent?.includes('later'));
const [again] = await Promise.all([
  page.waitForResponse(answer => isStrip(new URL(answer.url())) && answer.ok()),
  page.keyboard.press('Shift+ArrowLeft'),
]);
assert.ok(failures > 2 && again.ok());
await page.unroute(isStrip);
await drawn('?tables=network&span=60000000');
await page.route('**/api/v1/range?*', () => {});
const [left] = await Promise.all([
  page.waitForEvent('requestfailed'),
  page.keyboard.press('4').then(() => page.waitForTimeout(200).then(() => page.getByRole('button', { name: 'Alerts' }).first().click())),
]);
assert.match(left.failure()?.errorText ?? '', /ABORTED/);
await page.unroute('**/api/v1/range?*');
wrong.splice(0, wrong.length, ...wrong.filter(text => !text.includes('503')));
ok('a strip that failed is asked for again, and what is left is aborted');

await drawn('?span=60000000');
const charts = await page.locator('section[data-chart]').evaluateAll(all => all.map(one => one.dataset.chart.split(':')[0]));
const firsts = ['cpu', 'memory', 'network', 'pressure', 'tcp'].map(name => charts.indexOf(name)).filter(at => at >= 0);
assert.deepEqual(
  firsts,
  [...firsts].sort((a, b) => a - b),
  `charts in the order ${charts}`,
);
// Nothing in a readout touches what is beside it.
const touching = await page.locator('.read > div').evaluateAll(rows =>
  rows
    .filter(row => row.children.length === 4 && row.offsetParent)
    .filter(
      row => row.children[2].getBoundingClientRect().right > row.children[3].getBoundingClientRect().right - row.children[3].scrollWidth,
    )
    .map(row => row.textContent),
);
assert.deepEqual(touching, []);
await page.waitForFunction(() => /\d+ cores?, .*up /.test(document.querySelector('.host .mute')?.textContent ?? ''));
ok('charts are in order, readouts have room, and the header is about the host');

// Shorter than what is recorded, also after panning.
await drawn('?span=4000000');
const plot = await page.locator('[data-chart=cpu] .plot').boundingBox();
const [x, y] = [plot.x + plot.width * 0.5, plot.y + 20];
await page.mouse.move(x, y);
await page.mouse.wheel(0, -200);
await settled();
assert.ok(span() < 4e6 && place().get('to') !== null, page.url());
const before = Number(place().get('to'));
await page.mouse.down();
await page.mouse.move(x + 120, y, { steps: 4 });
await page.mouse.up();
await settled();
assert.ok(Number(place().get('to')) < before, `dragging to the right shows what was earlier, not ${page.url()} after ${before}`);
await page.keyboard.down('Shift');
await page.mouse.move(x - 200, y);
await page.mouse.down();
await page.mouse.move(x - 100, y, { steps: 4 });
await page.mouse.up();
await page.keyboard.up('Shift');
await page.waitForSelector('.stats table tbody tr');
assert.match(place().get('a') ?? '', /^\d+-\d+$/);
ok('the wheel zooms, dragging pans, and shift selects, with statistics');

await page.mouse.click(x - 150, y);
await page.waitForSelector('aside:not([hidden]) tbody tr');
ok('a click shows the processes of its moment');

const link = page.url(),
  title = await page.locator('.when span').first().textContent();
const other = await context.newPage();
await other.goto(link);
await other.waitForSelector('body[data-loaded] section[data-peak]');
assert.equal(await other.locator('.when span').first().textContent(), title);
assert.ok((await other.locator('aside').isVisible()) && (await other.locator('.stats').isVisible()));
await other.close();
ok('a link that is opened anew shows the same');

await page.keyboard.press('Escape');
await page.keyboard.press('4');
await settled();
assert.equal(span(), 3600e6);
await page.keyboard.press('l');
await settled();
assert.equal(place().get('to'), null);
ok('keys set the length, and go live');

// A tick of a second, seen 10 ms at a time.
const [[tick]] = await sql('SELECT CAST(max(time) AS BIGINT) - 10000000 FROM host');
await drawn(`?tables=host&span=10000&to=${tick}`);
await settled();
const repeated = [];
const note = request => request.url().includes('table=host') && repeated.push(request.url());
page.on('request', note);
await page.keyboard.press('Shift+ArrowLeft');
await page.waitForFunction(to => Number(document.body.dataset.loaded?.split('-')[1]) < to, tick);
page.off('request', note);
assert.deepEqual(repeated, [], 'what is between two ticks is known');
const ahead = await browser.newContext({ viewport: { width: 1440, height: 900 } });
await ahead.addInitScript(() => {
  const now = Date.now.bind(Date);
  Date.now = () => now() + 600_000;
});
const early = await ahead.newPage();
await early.goto(address + '/?span=60000000');
await early.waitForSelector('body[data-loaded] section[data-peak]');
const live = async () => Number((await early.getAttribute('body', 'data-loaded'))?.split('-')[1]) / 1000;
for (const until = Date.now() + 20_000; Math.abs((await live()) - Date.now()) > 5000; await early.waitForTimeout(100))
  assert.ok(Date.now() < until, `live ends at ${await live()}`);
await ahead.close();
ok('ticks that are known are not asked for again, and live is the time of the daemon');

await drawn('?span=60000000');
await page.goto(address + '/?view=seconds&span=30000000');
await page.waitForFunction(() => document.querySelector('.seconds h1')?.textContent !== '');
const until = () => page.locator('.map canvas').getAttribute('data-until');
const shown = await until();
await page.waitForFunction(old => Number(document.querySelector('.map canvas')?.getAttribute('data-until')) > Number(old) + 1e6, shown, {
  timeout: 8000,
});
const asked = [];
page.on('request', request => request.url().includes('/api/v1/range') && asked.push(new URL(request.url()).searchParams));
await page.waitForTimeout(1500);
const heats = asked.filter(one => one.get('tier') === 'raw');
assert.ok(heats.length > 0 && heats.every(one => Number(one.get('to')) - Number(one.get('from')) < 8e6), 'only new seconds are fetched');
await page.goto(address + '/?view=alerts');
await page.waitForSelector('.sheet tbody tr');
await page.goto(address + "/?view=sql&q=SELECT '<img src=x onerror=alert(1)>' AS label");
await page.waitForSelector('.sheet textarea');
await settled();
assert.ok(!statements.some(one => one.includes('onerror')), 'a link runs no statement of its own');
await page.getByRole('button', { name: 'Run' }).click();
await page.waitForSelector('.result td');
assert.equal(await page.locator('.result img').count(), 0);
assert.match(await page.locator('.result td').first().textContent(), /^<img/);
ok('seconds go on in live, alerts and SQL are shown, and texts are no HTML');

const timed = 'SELECT time, interface, rx_bytes FROM network ORDER BY time DESC LIMIT 200';
await page.getByLabel('SQL statement').fill(timed);
await page.getByRole('button', { name: 'Run' }).click();
await page.waitForSelector('.plotted section[data-peak]');
const greatest = (await sql(`SELECT max(rx_bytes) FROM (${timed})`))[0][0];
const plotted = Number(await page.getAttribute('.plotted section', 'data-peak'));
assert.ok(greatest > 0 && plotted > 0 && plotted <= greatest, `drawn ${plotted}, recorded ${greatest}`);
for (const [name, begin] of [
  ['CSV', 'time,interface,rx_bytes'],
  ['Arrow', '\xff\xff\xff\xff'],
  ['Parquet', 'PAR1'],
]) {
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name }).click()]);
  const bytes = await readFile(await download.path());
  assert.ok(bytes.latin1Slice(0, 40).startsWith(begin), `${name} begins with ${bytes.latin1Slice(0, 40)}`);
}
ok('rows with times have a chart beside their table, and are downloaded as CSV, Arrow and Parquet');

await page.setViewportSize({ width: 360, height: 780 });
await drawn('?span=60000000');
assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
ok('360 pixels are wide enough');
assert.deepEqual(wrong, [], 'errors in the console, or requests to elsewhere');
ok('the console has no error, and nothing is asked of elsewhere');

// axe is put into the page as a script of its own, which the page's policy refuses.
const checked = await browser.newContext({ viewport: { width: 1440, height: 900 }, bypassCSP: true });
for (const search of ['?span=60000000', '?view=seconds&span=30000000', '?view=alerts', '?view=sql']) {
  const look = await checked.newPage();
  await look.goto(address + '/' + search);
  await look.waitForTimeout(1500);
  // Charts that wait for their rows are dimmed, and no colour has its contrast then.
  await look.waitForSelector('body:not(:has(.list.dim))');
  await look.addScriptTag({ path: axe });
  const found = await look.evaluate(async () =>
    (await window.axe.run()).violations
      .filter(one => ['serious', 'critical'].includes(one.impact))
      .map(one => `${one.id}: ${one.nodes[0].html.slice(0, 160)}`),
  );
  assert.deepEqual(found, [], search);
  await look.close();
}
ok('axe finds nothing serious');
await browser.close();
