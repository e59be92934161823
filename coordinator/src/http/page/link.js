// How the page hears of the run: a stream of events; where that fails, questions; and always how long ago it was heard.

const SILENCE = 10_000; // Nothing changed for so long: ask whether anyone is there.
const ASK = 2_000; // Between two questions without a stream.
const PATIENCE = 8_000; // For one answer.
const AGAIN = [1_000, 2_000, 4_000, 8_000, 15_000]; // Until a lost stream is tried again.

/** Calls `state` with every new state and `link` once a second: `{ kind: live|asking|lost, heard }` in seconds. */
export function follow({ state, link }) {
  let [stream, tries, retry, question, asking, told, heard, reached] = [null, 0, 0, 0, false, '', null, false];

  const hear = (text) => {
    [heard, reached] = [performance.now(), true];
    if (text !== told) state(JSON.parse((told = text)));
    tell();
  };

  const open = () => {
    close();
    stream = new EventSource('api/events');
    stream.addEventListener('state', ({ data }) => {
      tries = 0;
      hear(data);
    });
    stream.onopen = () => clearTimeout(question);
    stream.onerror = lose;
  };

  const close = () => {
    stream?.close();
    stream = null;
    clearTimeout(retry);
  };

  const lose = () => {
    close();
    const pause = AGAIN[Math.min(tries++, AGAIN.length - 1)];
    if (!document.hidden) retry = setTimeout(open, pause * (0.75 + Math.random() / 2));
    ask();
  };

  const ask = async () => {
    if (asking) return;
    asking = true;
    try {
      const answer = await fetch('api/state', { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(answer.statusText);
      hear(await answer.text());
    } catch {
      reached = false;
      if (stream) lose();
    }
    asking = false;
    tell();
    clearTimeout(question);
    if (!stream) question = setTimeout(ask, document.hidden ? 5 * ASK : ASK);
  };

  const tell = () => {
    const ago = heard === null ? null : (performance.now() - heard) / 1000;
    const kind = !reached ? 'lost' : stream?.readyState === EventSource.OPEN ? 'live' : 'asking';
    link({ kind: heard === null && tries === 0 ? 'first' : kind, heard: ago });
  };

  setInterval(() => {
    if (stream && performance.now() - (heard ?? 0) > SILENCE) ask();
    tell();
  }, 1000);

  // A browser opens few streams to one address: a page that nobody sees gives its own up and asks instead.
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) return open();
    close();
    ask();
  });
  addEventListener('online', open);
  open();
}
