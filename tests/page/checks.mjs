// What must hold of the page, whoever serves it: every check takes a watched page and says in a line what is wrong.

export const DEADLINE = 20_000;

/** Waits until a condition in the page holds. */
export async function until(page, what, condition, argument, timeout = DEADLINE) {
  try {
    await page.waitForFunction(condition, argument, { timeout, polling: 100 });
  } catch {
    throw new Error(`${what}: not within ${timeout / 1000} s`);
  }
}

const text = (page, selector) => page.locator(selector).first().innerText();

/** Nothing forbidden happened: errors, foreign requests, breaches of the policy, markup from strings. */
export async function clean({ page, watch }) {
  const breaches = await page.evaluate(() => window.violations);
  const bred = await page.evaluate(() => {
    const own = [...document.scripts].filter((script) => !script.src.endsWith('/live.js')).length;
    const strange = document.querySelectorAll(
      'img, iframe, object, embed, form, base, [onerror], [onload], [onmouseover], [onclick], svg script, a[href^="javascript" i]',
    ).length;
    return { own, strange, hacked: 'hacked' in window, styled: document.querySelectorAll('style').length };
  });
  const faults = [...watch.faults, ...breaches.map((breach) => `policy: ${breach}`)];
  if (bred.own || bred.strange || bred.styled) faults.push(`strange markup: ${JSON.stringify(bred)}`);
  if (bred.hacked) faults.push('a string ran as a script');
  if (faults.length) throw new Error(`the page is not clean:\n  ${faults.join('\n  ')}`);
}

/** The connection reads so: `live`, `polling`, `not connected`. */
export const connected = (page, words, timeout) =>
  until(
    page,
    `the connection reads "${words}"`,
    (wanted) => document.querySelector('#link-state').textContent === wanted,
    words,
    timeout,
  );

/** Every section is there and says what the state says; where a run moves on, `state` is asked for again. */
export async function shows(page, ask) {
  let wrong = ['nothing was looked at'];
  const end = Date.now() + DEADLINE;
  while (wrong.length && Date.now() < end) {
    const before = await ask();
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    wrong = await page.evaluate(compare, before);
  }
  if (wrong.length) throw new Error(`the page differs from the state:\n  ${wrong.join('\n  ')}`);
}

/** Runs in the page: what differs between a state and what is shown. */
function compare(state) {
  const wrong = [];
  const $ = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const seen = (node) => Boolean(node) && !node.closest('[hidden]');
  const same = (what, shown, wanted) =>
    String(shown).replaceAll('\u00a0', ' ') === String(wanted) ||
    wrong.push(
      `${what}: ${JSON.stringify(String(shown).slice(0, 80))} instead of ${JSON.stringify(String(wanted).slice(0, 80))}`,
    );
  const holds = (what, condition) => condition || wrong.push(what);
  const count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ',');
  if (!state.run) {
    holds('sections of a run are shown by a coordinator that stands by', !seen($('#sections')));
    for (const known of [state.leader, state.leader_page])
      holds('it does not say who leads', !known || $('#notice').textContent.includes(known));
    return wrong;
  }
  const tile = (name) =>
    all('#tiles .tile')
      .find((node) => node.querySelector('.name').textContent === name)
      ?.querySelector('.value').textContent;
  same('job', $('#job').textContent, state.run.job);
  const failed = state.run.failed !== null && state.run.failed !== undefined;
  same('phase', tile('phase'), failed ? 'failed' : state.run.complete ? 'complete' : state.run.phase || 'starting');
  same('steps', tile('steps'), count(state.progress.committed));
  same('progress bar', $('#bar').getAttribute('aria-valuenow'), state.progress.committed);
  same('done again', tile('done again').split(' ')[0], count(state.progress.lost));
  same(
    'lag',
    tile('record'),
    state.progress.lag
      ? `${count(state.progress.lag)} step${state.progress.lag === 1 ? '' : 's'} behind`
      : 'up to date',
  );
  same('members', tile('members'), count(state.members.filter((member) => !member.spare).length));
  holds(
    'a failed run does not say why',
    !failed || (seen($('#notice')) && $('#notice').textContent.includes(state.run.failed)),
  );
  holds(
    'a complete run does not say so',
    !state.run.complete || (seen($('#notice')) && $('#notice-title').textContent === 'The run is complete'),
  );
  same('choices', all('#palette tr').length, state.palette.length);
  const rows = new Map(all('#palette tr').map((row) => [row.querySelector('b').textContent, row]));
  for (const choice of state.palette) {
    const row = rows.get(String(choice.stitch));
    if (!row) wrong.push(`stitch ${choice.stitch} of the palette is not shown`);
    else same(`path of stitch ${choice.stitch}`, row.querySelector('bdi').textContent, choice.path);
    if (row && choice.file) same('file', row.querySelector('.file').textContent, choice.file);
    if (row && Number.isFinite(choice.accuracy))
      holds('accuracy of a choice', row.textContent.includes(`${(100 * choice.accuracy).toFixed(1)}\u00a0%`));
  }
  const measure = state.stitches.some(({ accuracy }) => Number.isFinite(accuracy)) ? 'accuracy' : 'loss';
  same(
    'points of the scatter',
    all('#front circle.stitch').length,
    state.stitches.filter((stitch) => stitch[measure] !== null).length,
  );
  same('cells of the heat maps', all('#maps rect:not(.ring)').length, 3 * state.stitches.length);
  // Each budget's most important stitch has its full shade.
  const shades = state.budgets.flatMap(({ id }) => {
    const bin = state.stitches.filter(({ budget, importance }) => budget === id && Number.isFinite(importance));
    const most = Math.max(...bin.map(({ importance }) => importance));
    const visited = bin.filter(({ visits }) => visits > 0);
    return visited.map(({ importance }) => (most > 0 ? Math.min(1, Math.max(0, importance / most)) : 1));
  });
  same(
    'shades of the importance map',
    [...all('#maps svg')[0].querySelectorAll('rect:not(.ring, .none)')]
      .map((cell) => cell.getAttribute('fill-opacity'))
      .sort()
      .join(' '),
    shades
      .map((shade) => (0.06 + 0.94 * shade).toFixed(2))
      .sort()
      .join(' '),
  );
  same('framed cells', all('#maps rect.picked').length, 3 * state.palette.length);
  same('budgets of the sampling', all('#sampling tr').length, state.budgets.length);
  for (const [i, budget] of [...state.budgets].sort((a, b) => a.id - b.id).entries()) {
    const cells = all(`#sampling tr:nth-child(${i + 1}) > *`).map((cell) => cell.textContent);
    same(`draws of budget ${budget.id}`, cells[3].split(' ')[0], count(budget.draws));
    same(
      `entropy of budget ${budget.id}`,
      cells[5],
      budget.entropy === null ? '–' : `${(100 * budget.entropy).toFixed(1)} %`,
    );
    holds(`mean loss of budget ${budget.id}`, (cells[7] === '–') === !Number.isFinite(budget.loss));
  }
  const named = new Set(state.members.map(({ name }) => name));
  same(
    'rows of members',
    all('#members tr').length,
    Math.min(state.members.length, $('#all').getAttribute('aria-expanded') === 'true' ? 40 : 20),
  );
  holds(
    'a row names no member',
    all('#members .name').every((cell) => named.has(cell.textContent)),
  );
  const column = new Map(all('#members-head th').map((head, i) => [head.textContent.trim().split(/\s/)[0], i]));
  for (const row of all('#members tr')) {
    const [member, namesake] = state.members.filter(({ name }) => name === row.querySelector('.name').textContent);
    if (!member || namesake) continue;
    const cell = (name) => row.children[column.get(name)].textContent.trim();
    const generation = member.generation === null ? '–' : count(member.generation);
    same(`generation of ${member.name}`, cell('generation'), generation);
    same(`phase of ${member.name}`, cell('phase'), member.phase);
    holds(`slowness of ${member.name}`, (cell('slowness') === '–') === !Number.isFinite(member.slowness));
  }
  const slow = state.members.find(({ straggler }) => straggler);
  holds(
    'a straggler is not first',
    !slow || $('#members-head [aria-sort]') || $('#members tr .state').textContent === 'straggler',
  );
  holds('events', state.events.length === 0 || $('#events bdi').textContent === state.events.at(-1).text);
  holds(
    'the throughput curve',
    state.speed.length < 2 || $('#speed .trace').getAttribute('d').split('L').length === state.speed.length,
  );
  holds(
    'the loss curve',
    state.loss.length < 2 || $('#loss .trace').getAttribute('d').split('L').length === state.loss.length,
  );
  if (seen($('#spent')))
    same(
      'share of computing',
      all('#spent-rows tr')[2].lastChild.textContent,
      `${(100 * state.time.compute).toFixed(1)} %`,
    );
  return wrong;
}

/** Whoever cannot see or use a mouse finds their way. */
export async function accessible(page) {
  const wrong = await page.evaluate(() => {
    const wrong = [];
    const all = (selector) => [...document.querySelectorAll(selector)].filter((node) => !node.closest('[hidden]'));
    const levels = all('h1, h2, h3').map((node) => Number(node.tagName[1]));
    if (levels[0] !== 1 || levels.some((level, i) => i && level > levels[i - 1] + 1))
      wrong.push(`headings jump: ${levels}`);
    for (const head of all('thead th')) if (head.scope !== 'col') wrong.push('a head of a column has no scope');
    for (const drawing of all('svg.plot'))
      if (!drawing.getAttribute('aria-label') || drawing.tabIndex !== 0)
        wrong.push('a drawing has no label or cannot be reached');
    for (const control of all('button, input'))
      if (!(control.textContent || control.closest('label'))) wrong.push('a control has no name');
    if (document.documentElement.scrollWidth > innerWidth)
      wrong.push(`the page is ${document.documentElement.scrollWidth - innerWidth} px wider than the window`);
    const luminance = (colour) => {
      const [r, g, b] = colour
        .match(/[\d.]+/g)
        .map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (node) => {
      for (let at = node; at; at = at.parentElement) {
        const colour = getComputedStyle(at).backgroundColor;
        if (!colour.endsWith(', 0)')) return colour;
      }
      return 'rgb(255, 255, 255)';
    };
    for (const node of all('main *, .top *')) {
      if (
        ![...node.childNodes].some((child) => child.nodeType === 3 && /[\p{L}\p{N}]/u.test(child.data)) ||
        node.closest('svg')
      )
        continue;
      const [dark, light] = [luminance(getComputedStyle(node).color), luminance(behind(node))].sort((a, b) => a - b);
      const contrast = (light + 0.05) / (dark + 0.05);
      if (contrast < 4.5) wrong.push(`contrast ${contrast.toFixed(2)}: ${node.textContent.slice(0, 30)}`);
    }
    return [...new Set(wrong)];
  });
  if (wrong.length) throw new Error(`not accessible:\n  ${wrong.join('\n  ')}`);
}

/** A mark of every drawing speaks under the arrow keys. */
export async function speaks(page) {
  for (const host of ['#front', '#maps figure', '#speed', '#loss']) {
    const drawing = page.locator(`${host} svg.plot`).first();
    await drawing.focus();
    await page.keyboard.press('End');
    const said = await text(page, '#tip');
    if (!/\d/.test(said)) throw new Error(`${host} says nothing under the arrow keys: ${JSON.stringify(said)}`);
    await page.keyboard.press('Escape');
  }
}

/** Milliseconds of every drawing of a state so far, and of tasks that kept the page from answering. */
export const frames = (page) =>
  page.evaluate(() => performance.getEntriesByName('render').map(({ duration }) => duration));
