// States of runs that the page is shown: files of fixtures/, one too large for a file, and what a second does to one.

import { readFileSync } from 'node:fs';

export const FILES = ['waiting', 'running', 'language', 'standby', 'complete', 'failed', 'hostile'];

/** A state by its name. */
export function stateOf(name) {
  if (name === 'thousand') return thousand();
  return JSON.parse(readFileSync(new URL(`fixtures/${name}.json`, import.meta.url), 'utf8'));
}

/** The same numbers in every run. */
export function dice(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** 1,000 members and 300 stitches in twelve budgets. */
function thousand() {
  const random = dice(7);
  const state = stateOf('running');
  state.run = { ...state.run, id: 'imagenet-77ab', job: 'vit-ti-s-b', generation: 41, epoch: 6 };
  state.stitches = Array.from({ length: 300 }, (_, id) => {
    const cost = Math.round(1.3e9 * 14 ** (id / 299));
    return {
      id,
      path: `ti[0-${id % 11}]>b[${(id % 11) + 1}-11]`,
      budget: Math.floor(id / 25),
      cost,
      macs: cost,
      params: Math.round(cost / 210),
      anchor: id % 149 === 0,
      importance: random() ** 3,
      visits: Math.floor(random() * 90),
      loss: 3.1 - 1.4 * (id / 299) ** 0.6 + 0.3 * random(),
      own: random() - 0.5,
      accuracy: null,
    };
  });
  state.budgets = Array.from({ length: 12 }, (_, id) => {
    const bin = state.stitches.filter((stitch) => stitch.budget === id);
    return {
      id,
      low: bin[0].cost,
      high: bin.at(-1).cost,
      stitches: bin.map((stitch) => stitch.id),
      draws: 300 + Math.floor(random() * 900),
      entropy: 0.5 + random() / 2,
      importance: random() / 40,
      loss: 1.7 + random(),
    };
  });
  state.palette = state.budgets.map(({ id, stitches }) => {
    const stitch = state.stitches[stitches[Math.floor(random() * stitches.length)]];
    return {
      budget: id,
      stitch: stitch.id,
      path: stitch.path,
      macs: stitch.macs,
      params: stitch.params,
      value: -stitch.own,
      accuracy: null,
      file: null,
    };
  });
  state.members = Array.from({ length: 1000 }, (_, rank) => ({
    name: `gpu-${String(Math.floor(rank / 8)).padStart(3, '0')}-${rank % 8}`,
    rank,
    generation: 41,
    phase: rank < 992 ? 'compute' : 'idle',
    step: 61_000,
    since: 0.1,
    applied: 61_000,
    ready: true,
    draining: rank === 17,
    spare: rank >= 992,
    straggler: rank === 333,
    slowness: rank === 333 ? 2.61 : rank < 992 ? 0.9 + 0.25 * random() : null,
  }));
  state.progress = { ...state.progress, committed: 61_004, durable: 61_003, total: 250_000 };
  return state;
}

/** What a second does: steps, phases, losses, and now and then another choice. */
export function second(state, random) {
  const next = structuredClone(state);
  next.now += 1000;
  const steps = Math.max(1, Math.round(next.progress.steps_per_second ?? 1));
  next.progress.committed += steps;
  next.progress.durable = next.progress.committed - 1;
  next.speed = [...next.speed, [next.now, (next.progress.steps_per_second ?? 1) * (0.9 + 0.2 * random())]].slice(-400);
  next.loss = [
    ...next.loss,
    [next.progress.committed, (next.loss.at(-1)?.[1] ?? 2.3) * (0.97 + 0.05 * random())],
  ].slice(-400);
  for (const member of next.members.filter(({ rank, spare }) => rank !== null && !spare)) {
    member.phase = ['idle', 'batch', 'compute', 'compute', 'compute', 'reduce', 'apply'][Math.floor(7 * random())];
    [member.step, member.applied, member.since] = [next.progress.committed, next.progress.committed, random() / 4];
    if (!member.straggler) member.slowness = 0.9 + 0.25 * random();
  }
  for (const stitch of next.stitches) {
    if (random() > 0.2) continue;
    stitch.visits += 1;
    stitch.importance = Math.abs((stitch.importance ?? 0.01) * (0.8 + 0.4 * random()));
    stitch.loss = (stitch.loss ?? 2.2) * (0.98 + 0.02 * random());
  }
  const choice = next.palette[Math.floor(random() * next.palette.length)];
  const bin = choice && next.stitches.filter(({ budget }) => budget === choice.budget);
  if (bin && random() < 0.5) {
    const other = bin[Math.floor(random() * bin.length)];
    Object.assign(choice, { stitch: other.id, path: other.path, macs: other.macs, params: other.params });
  }
  return next;
}
