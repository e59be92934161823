// What a mark of a drawing says under the pointer, a finger or the arrow keys; it stays while the drawing changes.

import { $, put, set, svg } from './dom.js';

let shown = null; // { drawing, key }

/** Makes a drawing's `marks` speak: `{ key, x, y, w?, h?, text() }` in its pixels; `along` compares x alone. */
export function speak(drawing, along) {
  drawing.marks = [];
  drawing.ring = svg('rect');
  drawing.append(set(drawing.ring, { class: 'ring', visibility: 'hidden' }));
  const point = (event) => {
    const box = drawing.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const mark = nearest(drawing.marks, x, y, along);
    if (mark) show(drawing, mark);
    else hide(drawing);
  };
  drawing.addEventListener('pointermove', point);
  drawing.addEventListener('pointerdown', point);
  drawing.addEventListener('pointerleave', () => hide(drawing));
  drawing.addEventListener('blur', () => hide(drawing));
  drawing.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === 'Escape') hide(drawing);
    if (!step || drawing.marks.length === 0) return;
    event.preventDefault();
    const at = shown?.drawing === drawing ? drawing.marks.findIndex((mark) => mark.key === shown.key) : -1;
    show(drawing, drawing.marks[Math.min(drawing.marks.length - 1, Math.max(0, at + step))]);
  });
}

/** After a drawing changed: the same mark goes on speaking, or falls silent with it. */
export function renew(drawing, marks) {
  drawing.marks = marks;
  drawing.append(drawing.ring);
  if (shown?.drawing !== drawing) return;
  const mark = marks.find(({ key }) => key === shown.key);
  if (mark) show(drawing, mark);
  else hide(drawing);
}

function nearest(marks, x, y, along) {
  let [best, least] = [null, along ? Infinity : 22];
  for (const mark of marks) {
    const [dx, dy] = [
      Math.max(0, Math.abs(mark.x - x) - (mark.w ?? 0) / 2),
      Math.max(0, Math.abs(mark.y - y) - (mark.h ?? 0) / 2),
    ];
    const distance = along ? Math.abs(mark.x - x) + dy / 1000 : Math.hypot(dx, dy);
    if (distance < least) [best, least] = [mark, distance];
  }
  return best;
}

function show(drawing, mark) {
  if (shown && shown.drawing !== drawing) hide(shown.drawing);
  shown = { drawing, key: mark.key };
  const [w, h] = [mark.w ?? 15, mark.h ?? 15];
  set(drawing.ring, {
    x: mark.x - w / 2,
    y: mark.y - h / 2,
    width: w,
    height: h,
    rx: mark.w ? 1 : 8,
    visibility: 'visible',
  });
  const tip = $('tip');
  put(tip, mark.text());
  tip.hidden = false;
  const box = drawing.getBoundingClientRect();
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  const [x, y] = [box.left + mark.x, box.top + mark.y];
  const above = y - h / 2 - height - 10;
  tip.style.left = `${Math.max(8, Math.min(document.documentElement.clientWidth - width - 8, x - width / 2))}px`;
  tip.style.top = `${above > 56 ? above : y + h / 2 + 10}px`;
}

function hide(drawing) {
  if (shown?.drawing !== drawing) return;
  shown = null;
  set(drawing.ring, { visibility: 'hidden' });
  $('tip').hidden = true;
}

// What scrolls takes the words along.
addEventListener('scroll', () => shown && renew(shown.drawing, shown.drawing.marks), { passive: true, capture: true });
