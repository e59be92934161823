// What happened: throughput with the events beneath it, the list of events, the loss, and where the time goes.

import { $, chip, keyed, legend, make, put, rows, set, stack } from './dom.js';
import { PHASES } from './members.js';
import { Drawing, extent, path } from './plot.js';
import { clock, count, day, or, percent, significant, tick } from './words.js';

const FEW = 12;
const TONES = {
  formed: 'good',
  resumed: 'good',
  finished: 'good',
  written: 'good',
  'keeps-up': 'good',
  preparing: 'quiet',
  forgone: 'quiet',
  ended: 'quiet',
  straggler: 'warn',
  foreign: 'warn',
  skipped: 'warn',
  redo: 'warn',
  lost: 'bad',
  gone: 'bad',
  'turned-away': 'bad',
  failed: 'bad',
  stranded: 'bad',
};
const LANES = [
  ['var(--auto)', 'forms, resumes, keeps up, finishes', 'good'],
  ['var(--dot)', 'prepares, ends', 'quiet'],
  ['var(--star)', 'slow, skipped, done again', 'warn'],
  ['var(--snip)', 'lost, turned away, failed', 'bad'],
];
const toneOf = ({ kind }) => TONES[kind] ?? 'quiet';
let [pace, losses, all, last] = [null, null, false, null];

export function speed(view) {
  legend($('event-keys'), LANES);
  const none = view.speed.length === 0;
  $('speed-none').hidden = !none;
  $('speed').hidden = $('event-keys').hidden = none;
  pace ??= new Drawing($('speed'), drawSpeed, true);
  pace.show(view);
}

function drawSpeed(plot, { speed: points, events: happened, now, run }, width) {
  const height = 280;
  const from = Math.min(...[points[0]?.[0], run.began].filter(Number.isFinite), now - 1000);
  const inside = happened.filter(({ at }) => at >= from && at <= now + 60000);
  const high = Math.max(0.001, ...points.map(([, rate]) => rate).filter(Number.isFinite));
  const axes = plot.axes({
    width,
    height,
    x: { kind: 'time', domain: [from, now], name: 'local time' },
    y: { domain: [-0.34 * high, 1.1 * high], name: 'steps per second', words: (v) => (v < 0 ? '' : tick(v)) },
  });
  const zero = axes.y.at(0);
  const drawn = points
    .filter(([, rate]) => Number.isFinite(rate))
    .map(([at, rate]) => [axes.x.at(at), axes.y.at(rate)]);
  plot.fill('lines', 'path', [0], () => ({ class: 'trace', d: path(drawn) }));
  const lane = (event) =>
    zero +
    12 +
    (axes.bottom - zero - 18) * (LANES.findIndex(([, , tone]) => tone === toneOf(event)) / (LANES.length - 1));
  plot.fill(
    'ticks',
    'path',
    inside.filter((event) => ['bad', 'good'].includes(toneOf(event))),
    (event) => ({
      class: `at ${toneOf(event)}`,
      d: `M${axes.x.at(event.at).toFixed(1)} ${axes.top}V${zero.toFixed(1)}`,
    }),
  );
  plot.fill('events', 'circle', inside, (event) => ({
    class: `event ${toneOf(event)}`,
    cx: axes.x.at(event.at).toFixed(1),
    cy: lane(event).toFixed(1),
    r: 3.6,
  }));
  const marks = [
    ...points
      .filter(([, rate]) => Number.isFinite(rate))
      .map(([at, rate]) => ({
        key: `p${at}`,
        x: axes.x.at(at),
        y: axes.y.at(rate),
        text: () => `${clock(at)}\n${significant(rate)} steps/s`,
      })),
    ...inside.map((event) => ({
      key: keyOf(event),
      x: axes.x.at(event.at),
      y: lane(event),
      w: 8,
      h: 8,
      text: () => `${clock(event.at)} ${event.kind}\n${cut(event.text)}`,
    })),
  ].sort((a, b) => a.x - b.x);
  return { height, marks, label: `steps per second over time, and ${inside.length} events` };
}

const cut = (text) => (String(text).length > 200 ? `${String(text).slice(0, 200)}…` : String(text ?? ''));
const keyOf = ({ at, kind, text }) => `${at} ${kind} ${text}`;

export function events(view) {
  last = view;
  const latest = view.events.toReversed();
  $('events-none').hidden = latest.length > 0;
  $('events-all').hidden = latest.length <= FEW;
  put($('events-all'), all ? `show the last ${FEW}` : `show all ${count(latest.length)}`);
  set($('events-all'), { 'aria-expanded': all });
  const create = () => {
    const node = make('li');
    node.append(make('time'), make('b', 'kind'), make('bdi'), make('small'));
    return node;
  };
  keyed($('events'), all ? latest : latest.slice(0, FEW), keyOf, create, (node, event) => {
    const [time, kind, text, generation] = node.children;
    put(time, day(event.at) === day(view.now) ? clock(event.at) : `${day(event.at)} ${clock(event.at)}`);
    set(time, { datetime: new Date(event.at).toISOString() });
    put(kind, String(event.kind));
    set(node, { 'data-tone': toneOf(event) });
    put(text, String(event.text ?? ''));
    put(
      generation,
      or(event.generation, (of) => `generation ${count(of)}`),
    );
  });
}

$('events-all').addEventListener('click', () => {
  all = !all;
  events(last);
});

export function loss(view) {
  const points = view.loss.filter(([, value]) => Number.isFinite(value));
  $('loss-none').hidden = points.length > 0;
  $('loss').hidden = points.length === 0;
  losses ??= new Drawing($('loss'), drawLoss, true);
  if (points.length) losses.show({ points, total: view.progress.total });
}

function drawLoss(plot, { points }, width) {
  const height = 270;
  const x = { kind: 'step', domain: extent([0, ...points.map(([step]) => step)]), name: 'step' };
  const axes = plot.axes({
    width,
    height,
    x,
    y: {
      domain: extent(
        points.map(([, value]) => value),
        0.06,
      ),
      name: 'cross entropy',
    },
  });
  const at = ([step, value]) => [axes.x.at(step), axes.y.at(value)];
  plot.fill('lines', 'path', [0], () => ({ class: 'trace', d: path(points.map(at)) }));
  const marks = points.map((point) => ({
    key: point[0],
    x: at(point)[0],
    y: at(point)[1],
    text: () => `step ${count(point[0])}\nloss ${significant(point[1])}`,
  }));
  return {
    height,
    marks,
    label: `training loss over ${count(points.at(-1)[0])} steps, last ${significant(points.at(-1)[1])}`,
  };
}

export function spent(view) {
  const shares = Object.entries(PHASES).map(([phase, colour]) => [phase, colour, view.time?.[phase] ?? 0]);
  const none = shares.every(([, , share]) => share === 0);
  $('spent-none').hidden = !none;
  $('spent').hidden = $('spent-rows').parentNode.hidden = none;
  stack($('spent'), shares, 'where the time goes');
  rows($('spent-rows'), shares, ([phase]) => phase, [
    { head: true, paint: (cell, [phase, colour]) => chip(cell, colour, phase) },
    { className: 'n', text: ([, , share]) => percent(share) },
  ]);
}
