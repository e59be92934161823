// The live page of a run: the newest state, drawn section by section, at most once a frame.

import { follow } from './link.js';
import { events, loss, spent, speed } from './history.js';
import { members } from './members.js';
import { front, palette } from './palette.js';
import { maps, sampling } from './table.js';
import { head, link } from './head.js';
import { $ } from './dom.js';

const SECTIONS = [palette, front, maps, sampling, members, speed, events, loss, spent];

let state = null;
let waiting = false;

function render() {
  waiting = false;
  const start = performance.now();
  const view = viewOf(state);
  draw(head, view);
  $('sections').hidden = !view.run;
  if (view.run) SECTIONS.forEach((section) => draw(section, view));
  performance.measure('render', { start });
}

/** One section that cannot be drawn leaves the others alone. */
function draw(section, view) {
  try {
    section(view);
  } catch (error) {
    console.error(section.name, error);
  }
}

/** The state with what several sections need of it; whatever is missing is empty. */
function viewOf(state) {
  const list = (name) => (Array.isArray(state[name]) ? state[name] : []);
  const stitches = [...list('stitches')].sort((a, b) => a.cost - b.cost || a.id - b.id);
  const budgets = [...list('budgets')].sort((a, b) => a.id - b.id);
  const place = new Map(budgets.map(({ id }, i) => [id, i]));
  return {
    ...state,
    progress: state.progress ?? {},
    unit: state.cost?.unit ?? 'MACs',
    samples: state.run?.kind === 'vision' ? 'images' : 'texts',
    accuracyWord: state.run?.kind === 'vision' ? 'accuracy' : 'exact match',
    budgets,
    place,
    stitches,
    stitch: new Map(stitches.map((stitch) => [stitch.id, stitch])),
    bins: budgets.map(({ id }) => stitches.filter(({ budget }) => budget === id)),
    palette: list('palette'),
    members: list('members'),
    events: list('events'),
    loss: list('loss'),
    speed: list('speed'),
  };
}

follow({
  state(next) {
    state = next;
    document.title = next.run ? `${titleOf(next)} · ${next.run.job} · ESTA` : 'stands by · ESTA';
    if (!waiting) requestAnimationFrame(render);
    waiting = true;
  },
  link,
});

function titleOf({ run, progress }) {
  if (run.failed !== null && run.failed !== undefined) return 'failed';
  if (run.complete) return 'complete';
  return progress?.total ? `${Math.floor((100 * progress.committed) / progress.total)} %` : run.phase;
}
