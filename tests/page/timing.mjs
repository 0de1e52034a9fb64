// How fast the page is: node timing.mjs ADDRESS CHROMIUM TOOLS TIME
// Zooms into 30 days around TIME (µs) and back, each time elsewhere, and opens the page anew. Prints JSON with times in ms: of steps into
// the time, which are fetched, and of those back out of it, which the page mostly has.
import { createRequire } from 'node:module';

const [, , address, executablePath, tools, timeText] = process.argv;
const { chromium } = createRequire(tools + '/')('playwright-core');
const time = Number(timeText),
  DAY = 86_400e6,
  OPENINGS = 7,
  STEPS = 16,
  ROUNDS = 3,
  PAUSE_MS = 120,
  /** Each round zooms into another day. */
  ELSEWHERE = 5.3 * DAY;

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
// From the event to the frame in which the charts stand in the new range, and to the one in which they have its own resolution.
const step = (time, factor) =>
  page.evaluate(
    ([time, delta]) =>
      new Promise((resolve, reject) => {
        const query = new URLSearchParams(location.search),
          canvas = document.querySelector('.row.axis canvas').getBoundingClientRect();
        const to = Number(query.get('to')),
          span = Number(query.get('span')),
          left = 46;
        const x = canvas.left + left + (1 - (to - time) / span) * (canvas.width - left);
        const { drawn, loaded } = document.body.dataset,
          began = performance.now();
        let first = 0;
        document
          .querySelector('.row.axis .plot')
          .dispatchEvent(new WheelEvent('wheel', { deltaY: delta, clientX: x, clientY: canvas.top + 10, bubbles: true, cancelable: true }));
        const look = () => {
          const now = performance.now() - began;
          // What was painted in one frame is seen when the next one begins.
          if (!first && document.body.dataset.drawn !== drawn) requestAnimationFrame(() => (first ||= performance.now() - began));
          if (first && document.body.dataset.loaded !== loaded)
            requestAnimationFrame(() => resolve({ first, whole: performance.now() - began }));
          else if (now > 10_000) reject(new Error(`nothing was drawn at ${location.search}`));
          else requestAnimationFrame(look);
        };
        look();
      }),
    [time, factor],
  );
const into = [],
  back = [];
for (let round = 0; round < ROUNDS; round++) {
  for (let at = 0; at < STEPS * 2; at++) {
    (at < STEPS ? into : back).push(await step(time - round * ELSEWHERE, at < STEPS ? -240 : 240));
    await page.waitForTimeout(PAUSE_MS);
  }
}
console.log(JSON.stringify({ openings, into, back }));
await browser.close();
