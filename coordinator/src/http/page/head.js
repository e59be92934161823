// The head of the page: who answers, what the run is at, and the numbers that stand for it.

import { $, flag, keyed, make, put, set } from './dom.js';
import { clock, count, day, duration, many, or, percent, significant } from './words.js';

const LINK = {
  first: ['warn', 'connecting'],
  live: ['good', 'live'],
  asking: ['warn', 'polling'],
  lost: ['bad', 'not connected'],
};
const TONES = {
  running: 'good',
  finishing: 'info',
  over: 'good',
  complete: 'good',
  failed: 'bad',
  waiting: 'warn',
  forming: 'warn',
  resuming: 'warn',
};
const MODES = {
  pst: 'parameter-efficient stitch fine-tuning',
  snnet: 'direct SN-Net adaptation',
  anchor: 'anchors tuned alone',
};

/** Says whether and when the coordinator was heard. */
export function link({ kind, heard }) {
  const [tone, words] = LINK[kind];
  $('link').dataset.tone = tone;
  put($('link-state'), words);
  put($('link-heard'), heard === null ? '' : `· ${heard < 1.5 ? 'heard just now' : `last heard ${ago(heard)} ago`}`);
  flag(document.body, 'stale', kind === 'lost' && heard !== null);
}

const ago = (seconds) => (seconds < 60 ? `${Math.round(seconds)} s` : duration(seconds));

export function head(view) {
  const { run, progress } = view;
  put($('version'), `esta-coordinator ${view.version ?? ''}`);
  $('progress').hidden = !run;
  notice(view);
  const phase = phaseOf(view);
  $('top-phase').dataset.tone = TONES[phase] ?? 'quiet';
  put($('top-job'), run ? run.job : 'ESTA');
  put($('job'), run ? run.job : 'This coordinator stands by');
  put($('top-word'), run ? phase : 'stands by');
  put($('top-steps'), progress.total ? `${count(progress.committed ?? 0)} / ${count(progress.total)}` : '');
  put($('lead'), run ? leadOf(view) : 'It holds no run of its own, and takes over when the leader ends or is lost.');
  const share = run && progress.total ? Math.min(1, (progress.committed ?? 0) / progress.total) : 0;
  $('bar').firstChild.style.width = `${(100 * share).toFixed(2)}%`;
  if (!run) return;
  const bar = { 'aria-valuemax': progress.total ?? 0, 'aria-valuenow': progress.committed ?? 0 };
  set($('bar'), { ...bar, 'aria-valuetext': `${phase}, ${percent(share)}` });
  keyed(
    $('tiles'),
    tiles(view, phase, share),
    ([name]) => name,
    tile,
    (node, [, value, note, tone]) => {
      put(node.children[1], value);
      put(node.children[2], note);
      node.dataset.tone = tone ?? '';
    },
  );
}

function phaseOf({ run }) {
  if (!run) return 'standby';
  if (failed(run)) return 'failed';
  return run.complete ? 'complete' : run.phase || 'starting';
}

function leadOf({ run, budgets, stitches, rule, now }) {
  const time = run.began ? `, under its present leader since ${day(run.began)} ${clock(run.began)}` : '';
  const long = run.began ? ` (${duration((now - run.began) / 1000)})` : '';
  const space = `${many(stitches.length, 'stitch', 'stitches')} in ${many(budgets.length, 'budget')}`;
  return `Run ${run.id}${time}${long}. ${space}; ${MODES[run.mode] ?? run.mode}; deployed by ${rule}.`;
}

/** What nobody may overlook: a run that failed or is complete, a coordinator that only stands by. */
function notice(view) {
  const said = noticeOf(view);
  $('notice').hidden = !said;
  if (!said) return;
  const { tone, title, text = '', code = '', url = null } = said;
  $('notice').dataset.tone = tone;
  put($('notice-title'), title);
  put($('notice-text'), text);
  put($('notice-code'), code);
  put($('notice-link'), url ?? '');
  $('notice-code').hidden = !code;
  $('notice-link').hidden = !url;
  if (url) $('notice-link').href = url;
  else $('notice-link').removeAttribute('href');
}

function noticeOf({ run, leading, leader, leader_page: page, progress }) {
  if (!leading) {
    if (!leader) return { tone: 'info', title: 'No coordinator leads at the moment' };
    const led = { tone: 'info', title: 'Led by another coordinator', text: `Workers reach it at ${leader}` };
    if (!page) return led;
    return mayFollow(page) ? { ...led, url: page } : { ...led, text: `${led.text}, its page is at ${page}` };
  }
  if (failed(run)) return { tone: 'bad', title: 'The run failed', text: run.failed };
  if (!run?.complete) return null;
  return {
    tone: 'good',
    title: 'The run is complete',
    text: `${many(progress.committed ?? 0, 'step')} are durable. While this coordinator lingers, the palette can be copied:`,
    code: 'esta-coordinator palette pull --coordinator URL --to DIR',
  };
}

const failed = (run) => run !== null && run !== undefined && run.failed !== null && run.failed !== undefined;

/** Whether an address is one that a browser may follow. */
function mayFollow(text) {
  try {
    return ['http:', 'https:'].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}

function tile([name]) {
  const node = make('div', 'tile');
  node.append(make('dt', 'name', name), make('dd', 'value'), make('dd', 'note'));
  return node;
}

function tiles({ run, progress: p, loss, members, stitches, samples, events, now }, phase, share) {
  const formed = events.findLast(({ kind }) => kind === 'formed');
  const over = ['complete', 'failed'].includes(phase);
  const is = (key) => members.filter((member) => member[key]).length;
  const [slow, spare, draining] = [is('straggler'), is('spare'), is('draining')];
  const seen = stitches.filter(({ visits }) => visits > 0).length;
  const worked = members.length - spare;
  const others = [slow && `${slow} slow`, draining && `${draining} draining`, spare && `${spare} spare`].filter(
    Boolean,
  );
  return [
    ['phase', phase, `led in epoch ${or(run.epoch, count)}`, TONES[phase]],
    [
      'steps',
      or(p.committed, count),
      `of ${or(p.total, count)}, ${percent(share)}${p.epoch ? `, epoch ${significant(p.epoch)}` : ''}`,
    ],
    [
      'time left',
      run.complete ? 'none' : or(p.seconds_left, duration),
      over ? 'the run is over' : p.seconds_left ? 'at the present pace' : 'no pace yet',
    ],
    [
      'throughput',
      p.steps_per_second ? `${significant(p.steps_per_second)} steps/s` : '–',
      p.samples_per_second ? `${count(p.samples_per_second)} ${samples}/s` : over ? 'the run is over' : 'no step yet',
    ],
    [
      'training loss',
      or(loss.at(-1)?.[1], significant),
      loss.length > 1 ? `from ${or(loss[0][1], significant)}` : 'of the last steps',
    ],
    [
      'generation',
      or(run.generation, count),
      formed ? `formed ${duration((now - formed.at) / 1000)} ago` : 'none has formed',
    ],
    ['members', count(worked), others.join(', ') || (worked ? 'all keep up' : 'none is here'), slow ? 'warn' : ''],
    [
      'stitches visited',
      stitches.length ? percent(seen / stitches.length) : '–',
      `${count(seen)} of ${count(stitches.length)}`,
    ],
    [
      'record',
      p.lag ? `${many(p.lag, 'step')} behind` : 'up to date',
      `${or(p.durable, count)} durable`,
      p.lag > 100 ? 'warn' : '',
    ],
    [
      'done again',
      or(p.lost, (lost) => many(lost, 'step')),
      `${or(p.skipped, count)} skipped as not finite`,
      p.skipped ? 'warn' : '',
    ],
  ];
}
