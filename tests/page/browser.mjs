// What the page promises, in a browser, on a real daemon: node browser.mjs ADDRESS CHROMIUM TOOLS
// TOOLS is the folder whose node_modules has playwright-core and axe-core.
import assert from 'node:assert/strict';
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
for (const length of [3600e6, 300e6, 60e6, 1e6, 40e3]) {
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
ok('a burst of a millisecond is the drawn maximum, to the bit, from 1 h to 40 ms');

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

await drawn('?span=60000000');
await page.goto(address + '/?view=seconds&span=30000000');
await page.waitForFunction(() => document.querySelector('.seconds h1')?.textContent !== '');
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
ok('seconds, alerts and SQL are shown, and texts are no HTML');

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
