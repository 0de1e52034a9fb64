// Pictures of the page: node pictures.mjs ADDRESS CHROMIUM TOOLS FOLDER END BURST
// END is the time that the page takes for now, BURST when a millisecond received most; both in µs. Prints how long each took.
import { createRequire } from 'node:module';

const [, , address, executablePath, tools, folder, endText, burstText] = process.argv;
const { chromium } = createRequire(tools + '/')('playwright-core');
const end = Number(endText),
  burst = Number(burstText);
const DESK = { width: 1440, height: 900 },
  PHONE = { width: 360, height: 780 },
  HOUR = 3600e6;

const second = burst - (burst % 1e6);
const pair = (from, to) => `${from}-${to}`;
const seconds = new URLSearchParams({
  view: 'seconds',
  span: 300e6,
  to: second + 113e6,
  at: burst,
  a: pair(second - 57e6 + 420e3, second - 31e6 + 380e3),
  b: pair(second + 28e6, second + 53e6 + 960e3),
});
const PICTURES = [
  { name: 'overview-dark', search: `?span=${HOUR}`, at: burst },
  { name: 'overview-light', search: `?span=${HOUR}`, at: burst, light: true },
  { name: '40ms', search: `?span=40000&to=${burst + 22e3}`, at: burst },
  { name: 'seconds', search: '?' + seconds },
  { name: 'phone', search: `?span=${HOUR}`, at: burst, phone: true },
];

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
let failed = false;
for (const { name, search, at, light, phone } of PICTURES) {
  const context = await browser.newContext({
    viewport: phone ? PHONE : DESK,
    colorScheme: light ? 'light' : 'dark',
    isMobile: phone ?? false,
    hasTouch: phone ?? false,
    deviceScaleFactor: phone ? 2 : 1,
    reducedMotion: 'reduce',
  });
  const page = await context.newPage();
  const complain = what => {
    failed = true;
    console.log(`${name}: ${what}`);
  };
  page.on('pageerror', error => complain(error.stack));
  page.on('console', message => message.type() === 'error' && complain(message.text()));
  await page.clock.setFixedTime(end / 1000);
  const began = performance.now();
  await page.goto(address + '/' + search);
  await page.waitForSelector('body[data-loaded]');
  const took = performance.now() - began;
  await page.waitForLoadState('networkidle');
  if (at) {
    const span = Number(new URLSearchParams(search).get('span')),
      to = Number(new URLSearchParams(search).get('to') ?? end);
    const plot = await page.locator('[data-chart="network:eth0"] canvas').boundingBox(),
      left = phone ? 0 : 46;
    const x = plot.x + left + (1 - (to - at) / span) * (plot.width - left);
    if (phone) await page.touchscreen.tap(x, plot.y + 30);
    else await page.mouse.move(x, plot.y + 30);
  }
  await page.waitForTimeout(300);
  await page.screenshot({ path: `${folder}/${name}.png` });
  console.log(`${name}: ${Math.round(took)} ms until it was loaded`);
  await context.close();
}
await browser.close();
process.exitCode = failed ? 1 : 0;
