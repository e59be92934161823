// What the page is made of: nodes that change in place and only where something changed. Words are only ever text.

export const $ = (id) => document.getElementById(id);

export function make(tag, className = '', text = '') {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

export const svg = (tag) => document.createElementNS('http://www.w3.org/2000/svg', tag);

/** Sets a node's text if it differs. */
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets attributes that differ from what was set before. */
export function set(node, attributes) {
  const known = (node.known ??= {});
  for (const [name, value] of Object.entries(attributes)) {
    if (known[name] !== value) node.setAttribute(name, (known[name] = value));
  }
  return node;
}

/** Sets a class on or off and says whether it is on. */
export const flag = (node, name, on) => node.classList.toggle(name, Boolean(on));

/** As many SVG children as items; the nth stays the nth. */
export function pool(parent, tag, items, paint) {
  while (parent.childElementCount > items.length) parent.lastElementChild.remove();
  while (parent.childElementCount < items.length) parent.append(svg(tag));
  let node = parent.firstElementChild;
  for (const item of items) {
    paint(node, item);
    node = node.nextElementSibling;
  }
}

/** Children that follow their items by key: kept, moved, made or removed. */
export function keyed(parent, items, keyOf, create, update) {
  const before = parent.byKey ?? new Map();
  const after = new Map();
  for (const item of items) {
    let key = String(keyOf(item));
    while (after.has(key)) key += '\u0000';
    after.set(key, item);
  }
  for (const [key, node] of before) if (!after.has(key)) node.remove();
  let place = parent.firstElementChild;
  for (const [key, item] of after) {
    const node = before.get(key) ?? create(item);
    after.set(key, node);
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  parent.byKey = after;
}

/** The rows of a table by its columns: a class, the text of a cell or how to paint it, and `whole` for what may be cut. */
export function rows(body, items, keyOf, columns) {
  const create = () => {
    const row = make('tr');
    columns.forEach(({ className, head }) => row.append(make(head ? 'th' : 'td', className)));
    row.querySelectorAll('th').forEach((head) => (head.scope = 'row'));
    return row;
  };
  keyed(body, items, keyOf, create, (row, item) => {
    columns.forEach(({ text, paint, whole }, i) => {
      const cell = row.children[i];
      if (paint) paint(cell, item);
      else put(cell, text(item));
      if (whole) set(cell, { title: whole(item) });
    });
  });
}

/** A bar in a cell, as long as its share, with words beside it. */
export function bar(cell, share, colour, words) {
  if (!cell.firstChild) {
    cell.append(make('span', 'words'), make('span', 'track'));
    cell.lastChild.append(make('i'));
  }
  put(cell.firstChild, words);
  const fill = cell.lastChild.firstChild;
  const width = `${(100 * Math.min(1, Math.max(0, share || 0))).toFixed(1)}%`;
  if (fill.style.width !== width) fill.style.width = width;
  if (fill.tone !== colour) fill.style.background = fill.tone = colour;
}

/** A list of coloured keys: `[colour, words]`. */
export function legend(host, keys) {
  keyed(
    host,
    keys,
    ([, , key], i) => key ?? i,
    () => {
      const key = make('span', 'key');
      key.append(make('i'), make('span'));
      return key;
    },
    (key, [colour, words]) => {
      if (key.tone !== colour) key.firstChild.style.background = key.tone = colour;
      put(key.lastChild, words);
    },
  );
}

/** A bar of shares side by side. */
export function stack(host, shares, label) {
  keyed(
    host,
    shares.filter(([, , share]) => share > 0),
    ([name]) => name,
    () => make('i'),
    (node, [, colour, share]) => {
      const width = `${(100 * share).toFixed(2)}%`;
      if (node.style.width !== width) node.style.width = width;
      if (node.tone !== colour) node.style.background = node.tone = colour;
    },
  );
  set(host, {
    'aria-label': `${label}: ${shares.map(([name, , share]) => `${name} ${(100 * share).toFixed(1)} %`).join(', ')}`,
  });
}

/** A word with its colour before it. */
export function chip(cell, colour, words) {
  if (!cell.firstChild) cell.append(make('i', 'chip'), make('span'));
  if (cell.tone !== colour) cell.firstChild.style.background = cell.tone = colour;
  put(cell.lastChild, ` ${words}`);
}
