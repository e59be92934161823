// Who trains: a summary of all, a map of ranks where there are many, and a table that draws only the rows in sight.

import { $, bar, chip, flag, legend, make, put, rows, set, stack } from './dom.js';
import { Drawing } from './plot.js';
import { count, dash, duration, many, or, significant } from './words.js';

const FEW = 20; // Rows before "show all".
const HIGH = 31; // Pixels of a row.
/** Colours of what a step is made of. */
export const PHASES = {
  plan: 'var(--soft)',
  batch: 'var(--heat2)',
  compute: 'var(--loss)',
  reduce: 'var(--star)',
  apply: 'var(--auto)',
};
const OTHERS = { idle: PHASES.plan, forming: 'var(--dot)', writing: 'var(--dot)', waiting: 'var(--dot)' };
const ALWAYS = ['idle', 'batch', 'compute', 'reduce', 'apply']; // Whether anyone is there or not.
const COLOURS = new Map(Object.entries({ ...PHASES, ...OTHERS }));
const phaseColour = (phase) => COLOURS.get(phase) ?? 'var(--dot)';

const RANK = { straggler: 4, draining: 3, forming: 2, ready: 1, spare: 0 };
const COLUMNS = [
  { name: 'rank', number: true, of: ({ rank }) => rank ?? Infinity, text: ({ rank }) => or(rank, String) },
  { name: 'name', of: ({ name }) => String(name), text: ({ name }) => String(name), head: true },
  { name: 'state', of: (member) => -RANK[stateOf(member)], paint: stateCell },
  { name: 'phase', of: ({ phase }) => String(phase), paint: phaseCell },
  { name: 'since', number: true, down: true, of: ({ since }) => since ?? -1, text: ({ since }) => or(since, duration) },
  {
    name: 'generation',
    number: true,
    down: true,
    of: ({ generation }) => generation ?? -1,
    text: ({ generation }) => or(generation, count),
  },
  { name: 'step', number: true, of: ({ step }) => step ?? -1, text: ({ step }) => or(step, count) },
  { name: 'applied', number: true, of: ({ applied }) => applied ?? -1, text: ({ applied }) => or(applied, count) },
  { name: 'slowness', number: true, down: true, of: ({ slowness }) => slowness ?? -1, paint: slownessCell },
];

let view = null;
let order = { by: null, down: false };
let held = null; // Places of names while a pointer rests on the table.
let [all, ranks, hovered, scrolled] = [false, null, false, 0];

export function members(next) {
  view = next;
  const list = view.members;
  $('members-none').hidden = list.length > 0;
  $('members-all').hidden = list.length === 0;
  put($('members-lead'), summary(list));
  phases(list);
  $('ranks').hidden = list.length < 17;
  if (list.length >= 17) {
    ranks ??= new Drawing($('ranks'), drawRanks);
    ranks.show(list);
  }
  table();
}

function stateOf(member) {
  if (member.straggler) return 'straggler';
  if (member.draining) return 'draining';
  if (member.spare) return 'spare';
  return member.ready ? 'ready' : 'forming';
}

function summary(list) {
  if (list.length === 0) return '';
  const words = Object.keys(RANK)
    .map((state) => [list.filter((member) => stateOf(member) === state).length, state])
    .filter(([size]) => size > 0)
    .map(([size, state]) => (state === 'straggler' ? many(size, state) : `${count(size)} ${state}`));
  return `${many(list.length, 'member')}: ${words.join(', ')}.${paces(list)} Whoever needs attention stands first.`;
}

function paces(list) {
  const slowest = Math.max(...list.map(({ slowness }) => slowness).filter(Number.isFinite));
  if (slowest === -Infinity) return '';
  return ` Slowness is the time for the same work over the median's; the highest is ${significant(slowest)}.`;
}

function phases(list) {
  const sizes = new Map(ALWAYS.map((phase) => [phase, 0]));
  for (const { phase } of list) {
    const key = COLOURS.has(phase) ? phase : 'waiting';
    sizes.set(key, (sizes.get(key) ?? 0) + 1);
  }
  const shown = [...sizes].map(([phase, size]) => [phase, phaseColour(phase), size]);
  stack(
    $('phases'),
    shown.map(([phase, colour, size]) => [phase, colour, size / list.length]),
    'members by phase',
  );
  legend(
    $('phase-keys'),
    shown.map(([phase, colour, size]) => [colour, `${phase} ${count(size)}`, phase]),
  );
}

/** A cell for every rank, stronger the slower it is. */
function drawRanks(plot, list, width) {
  const ordered = [...list].sort((a, b) => (a.rank ?? Infinity) - (b.rank ?? Infinity));
  const size = Math.max(7, Math.min(18, Math.floor(Math.sqrt((width * 150) / ordered.length))));
  const columns = Math.max(1, Math.floor(width / size));
  const place = (i) => [(i % columns) * size, Math.floor(i / columns) * size];
  const cells = ordered.map((member, i) => ({ member, at: place(i) }));
  plot.fill('cells', 'rect', cells, ({ member, at: [x, y] }) => {
    const over = Math.min(1, Math.max(0, ((member.slowness ?? 1) - 1) / 1));
    return {
      class: `rank ${stateOf(member)}`,
      x,
      y,
      width: size - 1.5,
      height: size - 1.5,
      'fill-opacity': ['straggler', 'draining', 'forming'].includes(stateOf(member))
        ? 1
        : (0.25 + 0.75 * over).toFixed(2),
    };
  });
  const marks = cells.map(({ member, at: [x, y] }) => ({
    key: String(member.name),
    x: x + size / 2 - 0.75,
    y: y + size / 2 - 0.75,
    w: size - 1.5,
    h: size - 1.5,
    text: () => tipOf(member),
  }));
  return {
    height: Math.ceil(ordered.length / columns) * size,
    marks,
    label: `${ordered.length} members by rank, stronger the slower`,
  };
}

function tipOf(member) {
  const { name, rank, phase, since, slowness } = member;
  const lines = [
    name,
    `rank ${or(rank, String)}, ${stateOf(member)}`,
    `${phase || 'no phase'} for ${or(since, duration)}`,
    `slowness ${or(slowness, significant)}`,
  ];
  return lines.join('\n');
}

function stateCell(cell, member) {
  if (!cell.firstChild) cell.append(make('span', 'state'));
  const state = stateOf(member);
  if (cell.state !== state) cell.firstChild.className = `state ${(cell.state = state)}`;
  put(cell.firstChild, state);
}

function phaseCell(cell, { phase }) {
  chip(cell, phase ? phaseColour(phase) : 'none', phase || dash);
}

function slownessCell(cell, { slowness, straggler }) {
  bar(
    cell,
    (slowness ?? 0) / 3,
    straggler ? 'var(--snip)' : 'var(--dot)',
    or(slowness, (pace) => pace.toFixed(2)),
  );
}

function sorted() {
  const wanted = $('find').value.trim().toLowerCase();
  const list = wanted
    ? view.members.filter(({ name }) => String(name).toLowerCase().includes(wanted))
    : [...view.members];
  const column = COLUMNS.find(({ name }) => name === order.by);
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const attention = (a, b) =>
    RANK[stateOf(b)] - RANK[stateOf(a)] ||
    (b.slowness ?? 0) - (a.slowness ?? 0) ||
    compare(a.rank ?? Infinity, b.rank ?? Infinity);
  const chosen = column
    ? (a, b) => (order.down ? -1 : 1) * compare(column.of(a), column.of(b)) || attention(a, b)
    : attention;
  if (!hovered) held = null;
  const place = held;
  list.sort(place ? (a, b) => (place.get(a.name) ?? Infinity) - (place.get(b.name) ?? Infinity) || 0 : chosen);
  if (!held) held = new Map(list.map(({ name }, i) => [name, i]));
  return list;
}

function table() {
  const list = sorted();
  const scroll = $('members-scroll');
  const button = $('all');
  $('tools').hidden = view.members.length <= FEW;
  button.hidden = list.length <= FEW;
  put(button, all ? `show the first ${FEW}` : `show all ${count(list.length)}`);
  set(button, { 'aria-expanded': all });
  put($('found'), list.length < view.members.length ? `${count(list.length)} of ${count(view.members.length)}` : '');
  const windowed = all && list.length > FEW;
  flag(scroll, 'windowed', windowed);
  const first = windowed ? Math.max(0, Math.min(list.length - 40, Math.floor(scrolled / HIGH) - 10)) : 0;
  const shown = list.slice(first, windowed ? first + 40 : FEW);
  space($('members-above'), first);
  rows($('members'), shown, ({ name }) => name, COLUMNS.map(cellOf));
  space($('members-below'), windowed ? list.length - first - shown.length : 0);
  set($('members-table'), { 'aria-rowcount': list.length + 1 });
  [...$('members').children].forEach((row, i) => set(row, { 'aria-rowindex': first + i + 2 }));
}

const cellOf = ({ name, number, head, text, paint }) => ({
  whole: head && text,
  className: paint === slownessCell ? 'barred' : number ? 'n' : name === 'name' ? 'name' : '',
  head,
  text,
  paint,
});

/** Room for rows out of sight. */
function space(body, size) {
  body.hidden = size <= 0;
  if (!body.firstChild) {
    body.append(make('tr'));
    body.firstChild.append(make('td'));
  }
  body.firstChild.style.height = `${HIGH * Math.max(0, size)}px`;
}

for (const { name, number, down } of COLUMNS) {
  const head = set(make('th', number && name !== 'slowness' ? 'n' : ''), { scope: 'col' });
  const button = set(make('button', 'sort', name), { type: 'button' });
  button.addEventListener('click', () => {
    order =
      order.by === name
        ? order.down === Boolean(down)
          ? { by: name, down: !order.down }
          : { by: null, down: false }
        : { by: name, down: Boolean(down) };
    for (const other of $('members-head').children) other.removeAttribute('aria-sort');
    if (order.by) head.setAttribute('aria-sort', order.down ? 'descending' : 'ascending');
    held = null;
    table();
  });
  head.append(button);
  $('members-head').append(head);
}
$('find').addEventListener('input', () => view && table());
$('all').addEventListener('click', () => {
  all = !all;
  $('members-scroll').scrollTop = scrolled = 0;
  table();
});
for (const [event, on] of [
  ['pointerenter', true],
  ['pointerleave', false],
]) {
  $('members').addEventListener(event, () => (hovered = on));
}
let scrolling = false;
$('members-scroll').addEventListener(
  'scroll',
  ({ target }) => {
    if (scrolling || !all) return;
    scrolling = true;
    requestAnimationFrame(() => {
      [scrolling, scrolled] = [false, target.scrollTop];
      table();
    });
  },
  { passive: true },
);
