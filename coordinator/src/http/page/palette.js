// The palette as a table, and every stitch by what it costs and how well it does.

import { $, legend, make, put, rows } from './dom.js';
import { Drawing, extent, stairs } from './plot.js';
import { budgetColour, cost, or, percent, si, significant } from './words.js';

const MARKS = {
  snip: (x, y) => `M${x - 5.5} ${y}a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0 -11 0z`,
  loss: (x, y) => `M${x} ${y - 9.5}l9.5 9.5l-9.5 9.5l-9.5 -9.5z`,
  auto: (x, y) => `M${x - 6.6} ${y - 6.6}h13.2v13.2h-13.2z`,
};
const markOf = (rule) => (MARKS[rule] ? rule : 'auto');
let chosen = null; // The measure a reader asked for.
let drawing = null;
let last = null;

export function palette(view) {
  const { unit, rule } = view;
  const known = view.palette.filter(({ stitch }) => view.stitch.has(stitch));
  $('palette-none').hidden = known.length > 0;
  $('palette-table').hidden = known.length === 0;
  const measure = measureOf(view);
  const best = new Set(frontOf(view, measure).map(({ choice }) => choice.stitch));
  const value = { auto: 'own part of loss', snip: 'importance', loss: 'loss' }[rule] ?? 'value';
  const better = rule === 'snip' ? 'higher' : 'lower';
  put(
    $('palette-lead'),
    [
      'One model per budget; a constraint means at most.',
      `This job deploys by ${rule}: inside a budget it compares the ${value}, ${better} is better.`,
      `● marks the Pareto front by ${wordOf(view, measure)}.`,
    ].join(' '),
  );
  put($('palette-value'), value);
  put($('h-palette'), view.run.complete ? 'The palette' : 'The palette, as it would be deployed now');
  const given = (key) => known.some((choice) => choice[key] !== null && choice[key] !== undefined);
  const columns = { cost: unit === 'ms', accuracy: given('accuracy'), file: given('file') };
  for (const [name, on] of Object.entries(columns)) $(`palette-${name}`).hidden = !on;
  const optional = (name, text) => (cell, choice) => {
    cell.hidden = !columns[name];
    put(cell, text(choice));
  };
  rows($('palette'), known, ({ budget }) => budget, [
    { head: true, paint: (cell, { budget }) => budgetCell(cell, view, budget) },
    { className: 'path', paint: stitchCell, whole: ({ path }) => String(path) },
    { className: 'n', paint: optional('cost', ({ stitch }) => cost(view.stitch.get(stitch).cost, unit)) },
    { className: 'n', text: ({ macs }) => or(macs, si) },
    { className: 'n', text: ({ params }) => or(params, si) },
    // A rule's value is higher where it is better; losses are shown as they are.
    { className: 'n', text: ({ value }) => or(value, (known) => significant(rule === 'snip' ? known : -known)) },
    { className: 'n', text: ({ stitch }) => or(view.stitch.get(stitch).loss, significant) },
    { className: 'n', paint: optional('accuracy', ({ accuracy }) => or(accuracy, percent)) },
    { className: `on ${markOf(rule)}`, text: ({ stitch }) => (best.has(stitch) ? '●' : '') },
    { className: 'file', paint: optional('file', ({ file }) => or(file, String)), whole: ({ file }) => file ?? '' },
  ]);
}

function budgetCell(cell, { place, budgets, unit }, id) {
  if (!cell.firstChild) cell.append(make('i', 'chip'), make('span'), make('small'));
  const at = place.get(id) ?? 0;
  cell.firstChild.style.background = budgetColour(at, budgets.length);
  put(cell.children[1], ` ${id} `);
  put(cell.lastChild, budgets[at] ? `≤ ${cost(budgets[at].high, unit)}` : '');
}

function stitchCell(cell, { stitch, path }) {
  if (!cell.firstChild) cell.append(make('b'), document.createTextNode(' '), make('bdi'));
  const changed = cell.firstChild.textContent !== '' && cell.firstChild.textContent !== String(stitch);
  put(cell.firstChild, String(stitch));
  put(cell.lastChild, path ?? '');
  if (changed) flash(cell);
}

const capital = (word) => word[0].toUpperCase() + word.slice(1);
const hasBoth = ({ stitches }) =>
  ['accuracy', 'loss'].every((measure) => stitches.some((stitch) => Number.isFinite(stitch[measure])));
const measureOf = (view) =>
  (hasBoth(view) && chosen) || (view.stitches.some(({ accuracy }) => Number.isFinite(accuracy)) ? 'accuracy' : 'loss');
const wordOf = ({ accuracyWord }, measure) => (measure === 'accuracy' ? `held-out ${accuracyWord}` : 'training loss');

/** Shows for a moment that a choice is another one. */
function flash(cell) {
  cell.classList.remove('fresh');
  requestAnimationFrame(() => cell.classList.add('fresh'));
}

/** The choices that no cheaper one equals, cheapest first. */
function frontOf(view, measure) {
  const choices = view.palette.map((choice) => ({ choice, stitch: view.stitch.get(choice.stitch) }));
  const measured = choices
    .filter(({ stitch }) => Number.isFinite(stitch?.[measure]))
    .sort((a, b) => a.stitch.cost - b.stitch.cost);
  let best = measure === 'accuracy' ? -Infinity : Infinity;
  return measured.filter(({ stitch }) => {
    const better = measure === 'accuracy' ? stitch[measure] > best : stitch[measure] < best;
    if (better) best = stitch[measure];
    return better;
  });
}

export function front(view) {
  last = view;
  const measure = measureOf(view);
  $('measure').hidden = !hasBoth(view);
  for (const button of $('measure').children) button.setAttribute('aria-pressed', button.dataset.measure === measure);
  const shown = view.stitches.filter((stitch) => Number.isFinite(stitch[measure]));
  const evaluated = measure === 'accuracy';
  put($('h-front'), `${evaluated ? capital(view.accuracyWord) : 'Training loss'} against cost`);
  put(
    $('front-lead'),
    [
      `${shown.length} of ${view.stitches.length} stitches have been ${evaluated ? 'evaluated' : 'visited'};`,
      `${evaluated ? 'higher' : 'lower'} is better.`,
      evaluated || hasBoth(view)
        ? ''
        : 'Accuracies come when the run ends; until then the loss of its training steps stands for a stitch.',
      'The stairs are the front of the palette: the best it offers at most at a cost.',
    ]
      .filter(Boolean)
      .join(' '),
  );
  const rule = markOf(view.rule);
  legend($('front-keys'), [
    ['', 'stitch', 'dot'],
    ['', 'anchor', 'anchor'],
    ['', `chosen by ${view.rule}`, 'rule'],
  ]);
  ['dot', 'anchor', rule].forEach((mark, i) => ($('front-keys').children[i].firstChild.className = `mark ${mark}`));
  for (const host of document.querySelectorAll('[data-budgets]')) {
    legend(
      host,
      view.budgets.map(({ id }, i) => [budgetColour(i, view.budgets.length), String(id), `b${id}`]),
    );
  }
  $('front-none').hidden = shown.length > 0;
  $('front').hidden = shown.length === 0;
  drawing ??= new Drawing($('front'), drawFront);
  drawing.show({ view, measure, shown });
}

function drawFront(plot, { view, measure, shown }, width) {
  const height = width < 560 ? 320 : 420;
  const scale = measure === 'accuracy' ? 100 : 1;
  const [low, high] = extent(shown.map(({ cost }) => cost));
  const x = {
    kind: 'cost',
    domain: [0.94 * low, 1.05 * high],
    name:
      view.unit === 'ms'
        ? 'ms of a forward pass'
        : view.unit === 'MACs'
          ? `MACs of ${view.samples === 'images' ? 'one image' : 'the longest text'}`
          : view.unit,
  };
  const y = {
    domain: extent(
      shown.map((stitch) => scale * stitch[measure]),
      0.08,
    ),
    name: `${wordOf(view, measure)}${measure === 'accuracy' ? ', %' : ''}`,
  };
  const axes = plot.axes({ width, height, x, y });
  const at = (stitch) => [axes.x.at(stitch.cost), axes.y.at(scale * stitch[measure])];
  const colour = ({ budget }) => budgetColour(view.place.get(budget) ?? 0, view.budgets.length);
  const rule = markOf(view.rule);
  const points = frontOf(view, measure).map(({ stitch }) => at(stitch));
  plot.fill('front', 'path', [points], () => ({ class: `front by-${rule}`, d: stairs(points, axes.right) }));
  plot.fill('dots', 'circle', shown, (stitch) => {
    const [cx, cy] = at(stitch);
    return {
      class: stitch.anchor ? 'stitch anchor' : 'stitch',
      cx: cx.toFixed(1),
      cy: cy.toFixed(1),
      r: stitch.anchor ? 4.6 : 3.4,
      fill: colour(stitch),
    };
  });
  const picks = view.palette
    .map(({ stitch }) => view.stitch.get(stitch))
    .filter((stitch) => Number.isFinite(stitch?.[measure]));
  plot.fill('picks', 'path', picks, (stitch) => ({
    class: `pick-of ${rule}`,
    d: MARKS[rule](...at(stitch).map((v) => +v.toFixed(1))),
  }));
  const marks = shown.map((stitch) => {
    const [mx, my] = at(stitch);
    return { key: stitch.id, x: mx, y: my, text: () => tipOf(view, stitch) };
  });
  return { height, marks, label: `${wordOf(view, measure)} against cost of ${shown.length} stitches` };
}

/** Everything about a stitch in a few lines. */
export function tipOf({ unit, palette, accuracyWord }, stitch) {
  const { id, path, anchor, budget, macs, params, visits, importance, loss, own, accuracy } = stitch;
  const costs = [cost(stitch.cost, unit)];
  if (unit !== 'MACs') costs.push(or(macs, (macs) => cost(macs, 'MACs')));
  if (unit !== 'parameters') costs.push(`${or(params, si)} parameters`);
  const lines = [
    `stitch ${id}: ${path}${anchor ? ' (anchor)' : ''}`,
    `budget ${budget} · ${costs.join(' · ')}`,
    `${visits ?? 0} visits · importance ${or(importance, significant)}`,
    `loss ${or(loss, significant)} · own part ${or(own, significant)}`,
  ];
  if (Number.isFinite(accuracy)) lines.push(`${accuracyWord} ${percent(accuracy)}`);
  if (palette.some((choice) => choice.stitch === id)) lines.push('would be deployed');
  return lines.join('\n');
}

$('measure').addEventListener('click', ({ target }) => {
  if (!target.dataset.measure) return;
  chosen = target.dataset.measure;
  front(last);
  palette(last);
});
