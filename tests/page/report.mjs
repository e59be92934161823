// A run's report in a browser: `node report.mjs --file REPORT [--shots DIR]`. It is a file that needs nothing but itself, and is
// looked at as one somebody was sent.

import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import { LOOKS, launch, open } from './browser.mjs';

const { values: options } = parseArgs({ options: { file: { type: 'string' }, shots: { type: 'string' } } });

/** Runs in the page: what is wrong with it, and how much there is of it. */
function look() {
  const wrong = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const drawn = (node) => node.getBoundingClientRect().width > 0 && node.getBoundingClientRect().height > 0;
  for (const shut of all('details')) shut.open = true;
  for (const section of all('section')) {
    const title = section.querySelector('h2')?.textContent;
    if (!title) wrong.push('a section has no title');
    if (!drawn(section)) wrong.push(`${title}: nothing is shown`);
  }
  const tables = all('table');
  for (const table of tables) {
    const heads = table.tHead.rows[0].cells.length;
    if (!drawn(table)) wrong.push('a table is not shown');
    for (const row of table.tBodies[0].rows)
      if (row.cells.length !== heads) wrong.push(`a row of ${row.cells.length} cells under ${heads} heads`);
  }
  const plots = all('svg.plot');
  for (const plot of plots) {
    const label = plot.getAttribute('aria-label');
    if (!label) wrong.push('a drawing has no label');
    if (!drawn(plot)) wrong.push(`${label}: not drawn`);
    if (!plot.querySelector('path, rect, circle')) wrong.push(`${label}: empty`);
    for (const mark of plot.querySelectorAll('path, rect, circle'))
      if (/NaN|Infinity/.test(mark.outerHTML)) wrong.push(`${label}: ${mark.outerHTML.slice(0, 80)}`);
  }
  if (document.scripts.length) wrong.push('it has scripts');
  const spill = document.documentElement.scrollWidth - innerWidth;
  if (spill > 0) wrong.push(`it is ${spill} px wider than the window`);
  wrong.push(...window.violations.map((breach) => `policy: ${breach}`));
  return { wrong: [...new Set(wrong)], sections: all('section').length, tables: tables.length, plots: plots.length };
}

async function read(browser, url, looks) {
  const { page, watch, close } = await open(browser, url, looks);
  const seen = await page.evaluate(look);
  if (options.shots) await page.screenshot({ path: `${options.shots}/report-${looks.name}.png`, fullPage: true });
  await close();
  const wrong = [...watch.faults, ...seen.wrong];
  if (!seen.tables || !seen.plots) wrong.push(`${seen.tables} tables and ${seen.plots} drawings are no report`);
  if (wrong.length) throw new Error(`${looks.name}:\n  ${wrong.join('\n  ')}`);
  return seen;
}

if (!options.file) throw new Error('--file is missing');
if (options.shots) mkdirSync(options.shots, { recursive: true });
const browser = await launch();
try {
  let seen = null;
  for (const looks of LOOKS) seen = await read(browser, pathToFileURL(resolve(options.file)).href, looks);
  console.log(`ok: ${seen.sections} sections, ${seen.tables} tables, ${seen.plots} drawings`);
} catch (error) {
  console.error(`failed: ${error.message}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
