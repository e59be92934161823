// The importance table as heat maps, and where the draws go.

import { $, bar, chip, make, put, rows } from './dom.js';
import { Drawing } from './plot.js';
import { tipOf } from './palette.js';
import { budgetColour, cost, count, or, percent, significant } from './words.js';

const QUANTITIES = [
  {
    key: 'importance',
    name: 'importance',
    note: "against the budget's highest",
    shade: (value, low, high) => value / high,
  },
  {
    key: 'visits',
    name: 'visits',
    note: "against the budget's most visited",
    shade: (value, low, high) => value / high,
  },
  {
    key: 'loss',
    name: 'training loss',
    note: "the budget's lowest is strongest",
    shade: (value, low, high) => (high - value) / (high - low),
  },
];
const ROW = 22;
let drawings = null;

export function maps(view) {
  drawings ??= QUANTITIES.map((quantity, i) => {
    const figure = make('figure');
    const caption = make('figcaption');
    caption.append(make('b', '', quantity.name), ` ${quantity.note}`);
    figure.append(caption);
    $('maps').append(figure);
    return new Drawing(figure, (plot, data, width) =>
      drawMap(plot, data, width, { ...quantity, className: `h${i + 1}` }),
    );
  });
  const widest = Math.max(1, ...view.bins.map((bin) => bin.length));
  for (const drawing of drawings) {
    drawing.host.style.flexBasis = widest > 40 ? '100%' : '300px';
    drawing.show(view);
  }
}

function drawMap(plot, view, width, quantity) {
  const widest = Math.max(1, ...view.bins.map((bin) => bin.length));
  const cell = Math.min(24, (width - 28) / widest);
  const gap = cell > 6 ? 2 : cell > 3 ? 1 : 0.3;
  const picks = new Set(view.palette.map(({ stitch }) => stitch));
  const cells = view.bins.flatMap((bin, row) => {
    const known = bin.map((stitch) => stitch[quantity.key]).filter(Number.isFinite);
    const [low, high] = [Math.min(...known), Math.max(...known)];
    return bin.map((stitch, column) => {
      const value = stitch[quantity.key];
      const share = Number.isFinite(value) && stitch.visits > 0 ? quantity.shade(value, low, high) : null;
      const shade = share === null ? null : Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 1;
      return { stitch, shade, x: 28 + cell * column, y: 2 + ROW * row };
    });
  });
  plot.fill('budgets', 'text', view.budgets, ({ id }) => ({
    class: 'tick e',
    x: 20,
    y: 16 + ROW * view.place.get(id),
    text: String(id),
  }));
  plot.fill('cells', 'rect', cells, ({ stitch, shade, x, y }) => ({
    class: `${shade === null ? 'none' : quantity.className}${picks.has(stitch.id) ? ' picked' : ''}`,
    x: x.toFixed(1),
    y,
    width: (cell - gap).toFixed(1),
    height: ROW - 3,
    'fill-opacity': shade === null ? 1 : (0.06 + 0.94 * shade).toFixed(2),
  }));
  const marks = cells.map(({ stitch, x, y }) => ({
    key: stitch.id,
    x: x + (cell - gap) / 2,
    y: y + (ROW - 3) / 2,
    w: cell - gap,
    h: ROW - 3,
    text: () => tipOf(view, stitch),
  }));
  return { height: 4 + ROW * view.budgets.length, marks, label: `${quantity.name} of every stitch by budget` };
}

export function sampling(view) {
  const { budgets, bins, place, stitches, unit } = view;
  const draws = budgets.reduce((sum, budget) => sum + (budget.draws ?? 0), 0);
  const most = Math.max(1, ...budgets.map((budget) => budget.draws ?? 0));
  const seen = (bin) => bin.filter(({ visits }) => visits > 0).length;
  const colour = (id) => budgetColour(place.get(id), budgets.length);
  const share = (part, whole) => (whole ? percent(part / whole) : '–');
  put(
    $('sampling-lead'),
    [
      `${count(draws)} slots drawn; ${share(seen(stitches), stitches.length)} of all stitches visited.`,
      'Entropy is that of the present distribution over its uniform one:',
      '100\u00a0% draws every stitch of a budget alike.',
    ].join(' '),
  );
  put($('sampling-cost'), unit === 'ms' ? 'time' : unit);
  const words = (value) => (unit === 'ms' ? `${significant(value)} ms` : cost(value, '').trim());
  rows($('sampling'), budgets, ({ id }) => id, [
    { head: true, paint: (cell, { id }) => chip(cell, colour(id), id) },
    { className: 'n', text: ({ low, high }) => `${or(low, words)} – ${or(high, words)}` },
    { className: 'n', text: ({ id }) => count(bins[place.get(id)].length) },
    {
      className: 'barred',
      paint: (cell, { id, draws: own }) =>
        bar(cell, (own ?? 0) / most, colour(id), `${count(own ?? 0)} · ${share(own ?? 0, draws)}`),
    },
    {
      className: 'barred',
      paint: (cell, { id }) => {
        const bin = bins[place.get(id)];
        bar(cell, bin.length ? seen(bin) / bin.length : 0, colour(id), `${seen(bin)} of ${bin.length}`);
      },
    },
    {
      className: 'barred',
      paint: (cell, { id, entropy }) => bar(cell, entropy ?? 0, colour(id), or(entropy, percent)),
    },
    { className: 'n', text: ({ importance }) => or(importance, significant) },
    { className: 'n', text: ({ loss }) => or(loss, significant) },
  ]);
}
