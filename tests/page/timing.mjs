// How fast the page is: node timing.mjs ADDRESS CHROMIUM TOOLS TIME
// Zooms into TIME (µs) from 30 days and back, and opens the page anew. Prints JSON with times in ms.
import { createRequire } from 'node:module';

const [, , address, executablePath, tools, timeText] = process.argv;
const { chromium } = createRequire(tools + '/')('playwright-core');
const time = Number(timeText),
  DAY = 86_400e6,
  OPENINGS = 7,
  STEPS = 16,
  ROUNDS = 2;

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const openings = [];
for (let at = 0; at < OPENINGS; at++) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  const began = performance.now();
  await page.goto(`${address}/?span=3600000000&to=${time + 900e6}`);
  await page.waitForSelector('body[data-loaded] section[data-peak]');
  openings.push(performance.now() - began);
  await context.close();
}

const page = await (await browser.newContext({ viewport: { width: 1440, height: 900 } })).newPage();
await page.goto(`${address}/?span=${30 * DAY}&to=${time + 12 * 3600e6}`);
await page.waitForSelector('body[data-loaded] section[data-peak]');
await page.waitForTimeout(2000);
// From the event to the frame in which all that was asked for is drawn.
const step = factor =>
  page.evaluate(
    ([time, delta]) =>
      new Promise((resolve, reject) => {
        const query = new URLSearchParams(location.search),
          canvas = document.querySelector('.row.axis canvas').getBoundingClientRect();
        const to = Number(query.get('to')),
          span = Number(query.get('span')),
          left = 46;
        const x = canvas.left + left + (1 - (to - time) / span) * (canvas.width - left);
        const before = document.body.dataset.loaded,
          began = performance.now();
        document
          .querySelector('.row.axis .plot')
          .dispatchEvent(new WheelEvent('wheel', { deltaY: delta, clientX: x, clientY: canvas.top + 10, bubbles: true, cancelable: true }));
        const look = () => {
          if (document.body.dataset.loaded !== before) requestAnimationFrame(() => resolve(performance.now() - began));
          else if (performance.now() - began > 10_000) reject(new Error(`nothing was drawn at ${location.search}`));
          else requestAnimationFrame(look);
        };
        look();
      }),
    [time, factor],
  );
const zooms = [];
for (let round = 0; round < ROUNDS; round++) {
  for (let at = 0; at < STEPS * 2; at++) {
    zooms.push(await step(at < STEPS ? -240 : 240));
    await page.waitForTimeout(120);
  }
}
console.log(JSON.stringify({ openings, zooms }));
await browser.close();
