// Drawings with axes, in the pixels of the page: redrawn in place when their data or their width change.

import { pool, put, set, svg } from './dom.js';
import { renew, speak } from './tips.js';
import { clock, count, day, minute, tick } from './words.js';

/** An axis: values to pixels and back to words. Costs are spaced by ratio where their ends lie four times apart. */
export function axis(kind, [low, high], [from, to]) {
  if (!Number.isFinite(low) || !Number.isFinite(high)) [low, high] = [0, 1];
  if (high <= low) [low, high] = [low - 0.5 * Math.max(1, Math.abs(low)), low + 0.5 * Math.max(1, Math.abs(low))];
  const log = kind === 'cost' && low > 0 && high >= 4 * low;
  const on = log ? (value) => Math.log(Math.max(value, Number.MIN_VALUE)) : (value) => value;
  const at = (value) => from + ((on(value) - on(low)) / (on(high) - on(low))) * (to - from);
  const inside = (values) =>
    values.filter((value) => value >= low - 1e-9 * Math.abs(low) && value <= high * (1 + 1e-9) + 1e-12);
  const apart = (values, room) =>
    values.every((value, i) => i === 0 || Math.abs(at(value) - at(values[i - 1])) >= room);
  const steps = (step, shift = 0) => {
    const first = Math.ceil((low - shift) / step);
    const ticks = Array.from(
      { length: Math.max(0, Math.floor((high - shift) / step + 1e-9) - first + 1) },
      (_, i) => (first + i) * step + shift,
    );
    return { ticks, step };
  };
  const choices = function* (room) {
    if (log) {
      const decades = Array.from({ length: 40 }, (_, i) => 10 ** (Math.floor(Math.log10(low)) + i)).filter(
        (ten) => ten <= high,
      );
      for (const factors of [[1, 1.5, 2, 3, 4, 5, 7], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]]) {
        yield { ticks: inside(decades.flatMap((ten) => factors.map((factor) => factor * ten))) };
      }
    }
    const least = ((high - low) * room) / Math.abs(to - from);
    if (kind === 'time') {
      const shift = new Date(low).getTimezoneOffset() * 60000;
      const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400].find(
        (s) => s * 1000 >= least,
      );
      yield steps(1000 * (step ?? 86400 * Math.ceil(least / 86400000)), shift);
    }
    const ten = 10 ** Math.floor(Math.log10(least));
    const step = [1, 2, 5, 10].map((factor) => factor * ten).find((wide) => wide >= 0.999 * least);
    yield steps(kind === 'step' ? Math.max(1, step) : step);
  };
  const ticks = (room) => {
    let last = { ticks: [] };
    for (const choice of choices(room)) {
      if (apart((last = choice).ticks, room) && last.ticks.length > 1) break;
    }
    return last;
  };
  return { at, ticks, end: high };
}

/** The least and the greatest of some values, stretched by a share of their distance. */
export function extent(values, stretch = 0) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) if (Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return [low - (high - low) * stretch, high + (high - low) * stretch];
}

const line = (points) => points.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');

/** Straight lines through points. */
export const path = (points) => line(points) || 'M0 0';

/** Level until the next point, to the end of the axis. */
export function stairs(points, end) {
  const corners = points.flatMap(([x, y], i) =>
    i
      ? [
          [x, points[i - 1][1]],
          [x, y],
        ]
      : [[x, y]],
  );
  return path(points.length ? [...corners, [end, points.at(-1)[1]]] : []);
}

/** A drawing without axes: layers that keep their nodes, marks that speak. */
export class Drawing {
  constructor(host, draw, along = false) {
    this.svg = svg('svg');
    set(this.svg, { class: 'plot', role: 'img', tabindex: 0 });
    host.append(this.svg);
    this.layers = {};
    speak(this.svg, along);
    [this.host, this.draw, this.width] = [host, draw, 0];
    new ResizeObserver(([{ contentRect }]) => {
      const width = Math.round(contentRect.width);
      if (width === this.width) return;
      this.width = width;
      if (this.data !== undefined) this.show(this.data);
    }).observe(host);
  }

  /** Draws data, as soon as there is room for it; the width is not asked for here, which would lay the page out. */
  show(data) {
    this.data = data;
    const { width } = this;
    if (width === 0) return;
    const { height, label, marks } = this.draw(this, data, width);
    set(this.svg, { viewBox: `0 0 ${width} ${height}`, width, height, 'aria-label': label });
    renew(this.svg, marks);
  }

  layer(name) {
    if (!this.layers[name]) this.svg.append((this.layers[name] = svg('g')));
    return this.layers[name];
  }

  /** As many nodes in a layer as items, each with the attributes (and `text`) that `paint` answers. */
  fill(name, tag, items, paint) {
    pool(this.layer(name), tag, items, (node, item) => {
      const { text, ...attributes } = paint(item);
      set(node, attributes);
      if (text !== undefined) put(node, text);
    });
  }

  /** Draws grid, ticks and names; answers the axes. */
  axes({ width, height, x, y }) {
    const [top, bottom] = [y.name ? 26 : 12, height - 44];
    const words = y.words ?? tick;
    const up = axis(y.kind, y.domain, [bottom, top]);
    const yTicks = up.ticks(38).ticks;
    const left = 14 + 7.4 * Math.max(2, ...yTicks.map((value) => words(value).length));
    const right = width - 12;
    const across = axis(x.kind, x.domain, [left, right]);
    const { ticks: xTicks, step } = across.ticks(x.kind === 'time' ? 76 : 62);
    const said = x.kind === 'time' ? timeWords(step) : (x.words ?? (x.kind === 'step' ? count : tick));
    this.fill(
      'grid',
      'line',
      [
        ...yTicks.map((v) => [left, right, up.at(v), up.at(v)]),
        ...xTicks.map((v) => [across.at(v), across.at(v), bottom, top]),
      ],
      ([x1, x2, y1, y2]) => ({
        class: 'grid',
        x1: x1.toFixed(1),
        x2: x2.toFixed(1),
        y1: y1.toFixed(1),
        y2: y2.toFixed(1),
      }),
    );
    const labels = [
      ...yTicks.map((v) => ['tick e', left - 8, up.at(v) + 4, words(v)]),
      ...xTicks.map((v) => ['tick m', across.at(v), bottom + 18, said(v)]),
      ['axis e', right, bottom + 37, x.name],
      ['axis', 0, 12, y.name ?? ''],
    ];
    this.fill('labels', 'text', labels, ([name, tx, ty, text]) => ({
      class: name,
      x: tx.toFixed(1),
      y: ty.toFixed(1),
      text,
    }));
    return { x: across, y: up, left, right, top, bottom };
  }
}

const timeWords = (step) => (step < 60000 ? clock : step < 86400000 ? minute : day);
