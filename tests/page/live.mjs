// The page of a real coordinator: `node live.mjs --url URL [--shots DIR] [--until running|complete|failed] [--deadline SECONDS]
// [--expect-members N] [--expect-event KIND] [--expect-leaders N] [--through-losses N]`. Waits for the run to be there, stays while its
// coordinator is lost and comes back so many times, then checks every section against the state. Says in lines what it sees on the way.

import { mkdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { accessible, clean, connected, shows, speaks, until } from './checks.mjs';
import { LOOKS, launch, open } from './browser.mjs';

const { values: options } = parseArgs({
  options: {
    url: { type: 'string' },
    shots: { type: 'string' },
    until: { type: 'string', default: 'running' },
    deadline: { type: 'string', default: '300' },
    'expect-members': { type: 'string' },
    'expect-leaders': { type: 'string' },
    'through-losses': { type: 'string', default: '0' },
    'expect-event': { type: 'string', multiple: true, default: [] },
  },
});

async function look(browser) {
  const end = Date.now() + 1000 * Number(options.deadline);
  const left = () => Math.max(1, end - Date.now());
  const opened = await open(browser, options.url);
  const { page } = opened;
  await connected(page, 'live', left());
  opened.watch.away = options['through-losses'] !== '0';
  for (let loss = 0; loss < Number(options['through-losses']); loss++) {
    console.log('live');
    await connected(page, 'not connected', left());
    console.log('lost');
    await connected(page, 'live', left());
  }
  // Other kinds of events come while the run goes on, so they are waited for before its end is.
  for (const kind of options['expect-event']) {
    await until(page, `an event "${kind}"`, counts, [kind, 1], left());
  }
  if (options['expect-leaders']) {
    await until(page, `${options['expect-leaders']} leaders`, counts, ['leads', options['expect-leaders']], left());
  }
  if (options['expect-members']) {
    await until(
      page,
      `${options['expect-members']} members`,
      tileReads,
      ['members', options['expect-members']],
      left(),
    );
  }
  await until(page, `the run is ${options.until}`, phaseIn, [options.until, 'complete', 'failed'], left());
  const phase = await page.locator('#tiles .value').first().innerText();
  if (phase !== options.until)
    throw new Error(`the run is ${phase}: ${(await page.locator('#notice').innerText()).replaceAll('\n', ' ')}`);
  await shows(page, () => page.evaluate(() => fetch('api/state').then((answer) => answer.json())));
  await accessible(page);
  const state = await page.evaluate(() => fetch('api/state').then((answer) => answer.json()));
  if (!state.run) throw new Error('the state is of no run');
  if (state.loss?.length && state.speed?.length && state.stitches?.some(({ loss }) => loss !== null))
    await speaks(page);
  await clean(opened);
  await opened.close();
  if (options.shots) await shots(browser);
  const { run, progress, members } = state;
  const seen = [`step ${progress.committed} of ${progress.total}`, `generation ${run.generation}`];
  seen.push(`${members.length} members`, `${state.events.length} events`);
  return `${run.job} is ${phase}, ${seen.join(', ')}`;
}

/** In the page: whether the run's phase is one of some. */
const phaseIn = (phases) => phases.includes(document.querySelector('#tiles .value')?.textContent);

/** In the page: whether a tile has a value. */
function tileReads([name, value]) {
  const tile = [...document.querySelectorAll('#tiles .tile')].find(
    (node) => node.querySelector('.name').textContent === name,
  );
  return tile?.querySelector('.value').textContent.replaceAll(',', '') === value;
}

/** In the page: whether the newest events hold so many of a kind; all of them are opened for it. */
function counts([kind, count]) {
  const button = document.querySelector('#events-all');
  if (!button.hidden && button.getAttribute('aria-expanded') === 'false') button.click();
  return [...document.querySelectorAll('#events .kind')].filter((node) => node.textContent === kind).length >= count;
}

async function shots(browser) {
  mkdirSync(options.shots, { recursive: true });
  for (const look of LOOKS) {
    const opened = await open(browser, options.url, look);
    await connected(opened.page, 'live');
    await opened.page.screenshot({ path: `${options.shots}/live-${look.name}.png`, fullPage: true });
    await clean(opened);
    await opened.close();
  }
}

if (!options.url) throw new Error('--url is missing');
const browser = await launch();
try {
  console.log(`ok: ${await look(browser)}`);
} catch (error) {
  console.error(`failed: ${error.message}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
