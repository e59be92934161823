// The page against states of every kind, served by a server of its own: `node fixtures.mjs [--shots DIR] [--only NAME]`.

import { mkdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { accessible, DEADLINE, clean, connected, frames, shows, speaks, until } from './checks.mjs';
import { LOOKS, launch, open } from './browser.mjs';
import { Server } from './server.mjs';
import { dice, FILES, second, stateOf } from './states.mjs';

const { values: options } = parseArgs({ options: { shots: { type: 'string' }, only: { type: 'string' } } });
const BUDGET = 50; // Milliseconds a new state of 1,000 members may take to draw, nine times in ten.
const NAMES = [...FILES, 'thousand'];

const tests = {
  async 'every state is shown as it is'(browser, server) {
    for (const name of NAMES) {
      const state = stateOf(name);
      server.show(state);
      const opened = await open(browser, server.url);
      await connected(opened.page, 'live');
      await shows(opened.page, async () => state).catch((error) =>
        Promise.reject(new Error(`${name}: ${error.message}`)),
      );
      if (state.run && name !== 'hostile') await accessible(opened.page);
      await clean(opened);
      await opened.close();
    }
  },

  async 'updates arrive without a reload, and hover, scroll and open lists stay'(browser, server) {
    let state = stateOf('thousand');
    const random = dice(1);
    server.show(state);
    const opened = await open(browser, server.url);
    const { page } = opened;
    await connected(page, 'live');
    await page.locator('#all').click();
    await page.evaluate(() => {
      window.kept = document.querySelector('#maps rect');
      document.querySelector('#front').scrollIntoView();
    });
    const [x, y] = await page.evaluate(async () => {
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      const box = document.querySelector('#front circle.stitch:nth-child(150)').getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    });
    await page.mouse.move(x, y);
    await page.locator('#tip').waitFor();
    const place = await page.evaluate(() => scrollY);
    for (let i = 0; i < 3; i++) server.show((state = second(state, random)));
    await shows(page, async () => state);
    const after = await page.evaluate(() => ({
      place: scrollY,
      kept: window.kept.isConnected,
      tip: !document.querySelector('#tip').hidden,
      open: document.querySelector('#all').getAttribute('aria-expanded'),
    }));
    if (after.place !== place || !after.kept || !after.tip || after.open !== 'true')
      throw new Error(`not kept: ${JSON.stringify({ ...after, from: place })}`);
    await clean(opened);
    await opened.close();
  },

  async 'marks speak under the arrow keys, columns sort, names are found, all rows can be reached'(browser, server) {
    server.show(stateOf('thousand'));
    const opened = await open(browser, server.url);
    const { page } = opened;
    await connected(page, 'live');
    await speaks(page);
    await page.locator('#members-head button', { hasText: 'rank' }).click();
    await until(page, 'rank 0 stands first', () => document.querySelector('#members td').textContent === '0');
    await page.locator('#find').fill('gpu-077-5');
    await until(page, 'one member is found', () => document.querySelectorAll('#members tr').length === 1);
    await page.locator('#find').fill('');
    await page.locator('#all').click();
    await page.evaluate(() => document.querySelector('#members-scroll').scrollTo(0, 1e6));
    await until(
      page,
      'the last row is reached',
      () => document.querySelector('#members tr:last-child').getAttribute('aria-rowindex') === '1001',
    );
    await clean(opened);
    await opened.close();
  },

  async 'accuracy and loss can both be looked at'(browser, server) {
    server.show(stateOf('complete'));
    const opened = await open(browser, server.url);
    await connected(opened.page, 'live');
    await opened.page.locator('#measure button', { hasText: 'training loss' }).click();
    await until(opened.page, 'the loss is shown', () => /loss/i.test(document.querySelector('#h-front').textContent));
    await clean(opened);
    await opened.close();
  },

  async 'a server that goes away is missed, and found when it is back'(browser, server) {
    let state = stateOf('running');
    server.show(state);
    const opened = await open(browser, server.url);
    const { page, watch } = opened;
    await connected(page, 'live');
    watch.away = true;
    await server.stop();
    await connected(page, 'not connected');
    await until(page, 'it says when it was last heard', () =>
      /last heard \d+ s ago/.test(document.querySelector('#link-heard').textContent),
    );
    await server.start();
    server.show((state = second(state, dice(2))));
    await connected(page, 'live', 30_000);
    watch.away = false;
    await shows(page, async () => state);
    await clean(opened);
    await opened.close();
  },

  async 'without a stream the page asks'(browser, server) {
    let state = stateOf('running');
    server.show(state);
    server.mute = true;
    const opened = await open(browser, server.url);
    const { page, watch } = opened;
    watch.away = true;
    await connected(page, 'polling');
    server.show((state = second(state, dice(4))));
    await shows(page, async () => state);
    server.mute = false;
    await connected(page, 'live', 30_000);
    watch.faults = watch.faults.filter((fault) => !/503|ERR_/.test(fault));
    await clean(opened);
    await opened.close();
  },

  async 'a silent stream is asked whether anyone is there'(browser, server) {
    server.show(stateOf('waiting'));
    const opened = await open(browser, server.url, { ...LOOKS[0], clock: true });
    const { page } = opened;
    await page.clock.runFor(1000);
    await connected(page, 'live');
    const answer = page.waitForResponse((response) => response.url().endsWith('/api/state'), { timeout: DEADLINE });
    await page.clock.runFor(12_000);
    await answer;
    await page.clock.runFor(1000);
    await connected(page, 'live');
    await clean(opened);
    await opened.close();
  },

  async 'a page that nobody sees gives its stream up'(browser, server) {
    let state = stateOf('running');
    server.show(state);
    const opened = await open(browser, server.url);
    const { page } = opened;
    await connected(page, 'live');
    const see = (hidden) =>
      page.evaluate((value) => {
        Object.defineProperty(document, 'hidden', { value, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
      }, hidden);
    await see(true);
    await connected(page, 'polling');
    if (server.listeners) throw new Error('its stream is still open');
    await see(false);
    await connected(page, 'live');
    server.show((state = second(state, dice(6))));
    await shows(page, async () => state);
    await clean(opened);
    await opened.close();
  },

  async 'one page shows every kind of state in turn'(browser, server) {
    server.show(stateOf('waiting'));
    const opened = await open(browser, server.url);
    for (const name of [...NAMES, 'standby', 'running', 'waiting', 'complete']) {
      server.show(stateOf(name));
      await shows(opened.page, async () => stateOf(name)).catch((error) =>
        Promise.reject(new Error(`${name}: ${error.message}`)),
      );
    }
    await clean(opened);
    await opened.close();
  },

  async "a leader's page is a link only where a browser may follow it"(browser, server) {
    const opened = await open(browser, server.url);
    for (const [page, link] of [
      ['http://c-1:7701', true],
      ['https://c-1:7701', true],
      ['javascript:alert(1)', false],
      ['c-1:7701', false],
      ['<b>http://x</b>', false],
      ['data:text/html,x', false],
    ]) {
      server.show({ ...stateOf('standby'), leader_page: page });
      await until(
        opened.page,
        `${page} is ${link ? '' : 'no '}link`,
        ([page, link]) => {
          const node = document.querySelector('#notice-link');
          return (
            document.querySelector('#notice').textContent.includes(page) &&
            (!node.hidden && node.hasAttribute('href')) === link
          );
        },
        [page, link],
      );
    }
    await clean(opened);
    await opened.close();
  },

  async '1,000 members stay smooth'(browser, server) {
    let state = stateOf('thousand');
    const random = dice(5);
    server.show(state);
    const opened = await open(browser, server.url);
    const { page } = opened;
    await connected(page, 'live');
    await page.locator('#all').click();
    await page.evaluate(() => {
      window.long = [];
      new PerformanceObserver((list) => window.long.push(...list.getEntries().map(({ duration }) => duration))).observe(
        { type: 'longtask' },
      );
      performance.clearMeasures();
    });
    for (let i = 1; i <= 30; i++) {
      server.show((state = second(state, random)));
      await until(page, `state ${i} is drawn`, (wanted) => performance.getEntriesByName('render').length >= wanted, i);
    }
    const times = (await frames(page)).sort((a, b) => a - b);
    const long = await page.evaluate(() => window.long);
    const at = (share) => times[Math.min(times.length - 1, Math.floor(share * times.length))];
    const ms = (value) => `${value.toFixed(1)} ms`;
    console.log(
      '  1,000 members, 300 stitches, every row open, %s kB each:',
      (JSON.stringify(state).length / 1000).toFixed(0),
    );
    console.log(
      '  drawn in %s (median), %s (p90), %s (slowest of %d);',
      ms(at(0.5)),
      ms(at(0.9)),
      ms(times.at(-1)),
      times.length,
    );
    console.log('  %d tasks of the browser over 50 ms, the longest %s', long.length, ms(Math.max(0, ...long)));
    console.log('  the aim is a p90 of at most %s', ms(BUDGET));
    await clean(opened);
    await opened.close();
  },

  async 'light and dark, desktop and phone'(browser, server) {
    if (options.shots) mkdirSync(options.shots, { recursive: true });
    for (const name of NAMES) {
      server.show(stateOf(name));
      for (const look of LOOKS) {
        const opened = await open(browser, server.url, look);
        await connected(opened.page, 'live');
        await shows(opened.page, async () => stateOf(name));
        if (name !== 'hostile')
          await accessible(opened.page).catch((error) =>
            Promise.reject(new Error(`${name} ${look.name}: ${error.message}`)),
          );
        if (options.shots)
          await opened.page.screenshot({ path: `${options.shots}/${name}-${look.name}.png`, fullPage: true });
        await clean(opened);
        await opened.close();
      }
    }
  },
};

const browser = await launch();
let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  if (options.only && !name.includes(options.only)) continue;
  const server = await new Server().start();
  server.show(stateOf('standby'));
  const start = performance.now();
  const result = await test(browser, server).then(
    () => 'ok',
    (error) => `FAILED\n  ${error.message}`,
  );
  failed += result === 'ok' ? 0 : 1;
  console.log(`${name}: ${result} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
  await server.stop();
}
await browser.close();
process.exitCode = failed ? 1 : 0;
