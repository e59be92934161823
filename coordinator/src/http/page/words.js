// Numbers in words, as the report writes them.

export const dash = '–';

/** A value in words, or a dash. */
export const or = (value, words) =>
  value === null || value === undefined || Number.isNaN(value) ? dash : words(value);

/** Three significant digits; very small and very large numbers with a power of ten. */
export function significant(value) {
  const size = Math.abs(value);
  if (value === 0) return '0';
  if (size < 1e-3 || size >= 1e6) return minus(value.toExponential(2).replace('e+', 'e'));
  const digits = Math.min(5, Math.max(0, 2 - Math.floor(Math.log10(1.0005 * size))));
  return minus(value.toFixed(digits));
}

/** Three significant digits with a unit prefix: `1.26 G`. */
export function si(value) {
  const prefix = [
    [1e12, 'T'],
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ].find(([unit]) => Math.abs(value) >= 0.9995 * unit);
  return prefix ? `${significant(value / prefix[0])} ${prefix[1]}` : significant(value);
}

/** As `si`, without trailing zeros: `5 M`. */
export function tick(value) {
  const [number, unit] = si(value).split(' ');
  const plain = number.includes('.') && !number.includes('e') ? number.replace(/\.?0+$/, '') : number;
  return unit ? `${plain} ${unit}` : plain;
}

export const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

/** A whole number with its thousands apart. */
export const count = (value) => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ',');

export const many = (value, one, more = `${one}s`) => `${count(value)} ${value === 1 ? one : more}`;

/** Seconds as `2 h 03 min`, `1 min 48 s` or `12.3 s`. */
export function duration(seconds) {
  const whole = Math.round(Math.max(0, seconds));
  const two = (part) => String(part).padStart(2, '0');
  if (whole < 1) return `${Math.round(1000 * Math.max(0, seconds))} ms`;
  if (whole < 60) return `${seconds.toFixed(1)} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor(whole / 3600) % 24)} h`;
}

const dated = (options) => {
  const format = new Intl.DateTimeFormat('en-GB', options);
  return (ms) => format.format(ms);
};
export const clock = dated({ hour: '2-digit', minute: '2-digit', second: '2-digit' });
export const minute = dated({ hour: '2-digit', minute: '2-digit' });
export const day = dated({ day: 'numeric', month: 'short' });

/** A cost in the words of its unit: `1.26 GMACs`, `7.1 G parameters`, `12.4 ms`. */
export function cost(value, unit) {
  if (unit === 'ms') return `${significant(value)} ms`;
  const short = si(value);
  return unit === 'MACs' && short.includes(' ') ? `${short}MACs` : `${short} ${unit}`;
}

/** The colour of a budget: from cool and cheap to warm and dear, readable on light and dark. */
export function budgetColour(budget, budgets) {
  const stops = [
    [99, 102, 224],
    [22, 150, 178],
    [62, 163, 82],
    [218, 143, 24],
    [214, 72, 92],
  ];
  const place = (budget / Math.max(1, budgets - 1)) * (stops.length - 1);
  const stop = Math.min(stops.length - 2, Math.floor(place));
  const mix = stops[stop].map((from, i) => Math.round(from + (place - stop) * (stops[stop + 1][i] - from)));
  return `rgb(${mix.join(' ')})`;
}

const minus = (text) => text.replace(/^-/, '−');
