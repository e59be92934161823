// A coordinator's page without a coordinator: the shipped files under the shipped policy, and states of a test's choice.

import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';

export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE = new URL('../../coordinator/src/http/page/', import.meta.url);
const STYLE = new URL('../../coordinator/page/src/style/', import.meta.url);
const SHARED = new Set(['theme.css', 'page.css']);
const TYPES = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
};

export class Server {
  #state = null;
  #streams = new Set();
  #server = null;
  port = 0;
  /** Whether the stream of events is refused. */
  mute = false;
  /** Paths asked for. */
  asked = [];

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Listens on a free port, or again on the one it had. */
  async start() {
    this.#server = createServer((request, response) => this.#answer(request, response));
    await new Promise((done, fail) => this.#server.once('error', fail).listen(this.port, '127.0.0.1', done));
    this.port = this.#server.address().port;
    return this;
  }

  /** Ends every connection and stops listening. */
  async stop() {
    const closed = new Promise((done) => this.#server.close(done));
    this.#server.closeAllConnections();
    this.#streams.clear();
    await closed;
  }

  /** Shows a state to whoever asks and whoever listens. */
  show(state) {
    this.#state = JSON.stringify(state);
    for (const stream of this.#streams) stream.write(`event: state\ndata: ${this.#state}\n\n`);
  }

  get listeners() {
    return this.#streams.size;
  }

  #answer(request, response) {
    const path = new URL(request.url, this.url).pathname;
    this.asked.push(path);
    const head = {
      'Content-Security-Policy': POLICY,
      'X-Content-Type-Options': 'nosniff',
      'Cache-Control': 'no-store',
    };
    if (path === '/api/events' && !this.mute) {
      response.writeHead(200, { ...head, 'Content-Type': 'text/event-stream' });
      response.write(`event: state\ndata: ${this.#state}\n\n`);
      this.#streams.add(response);
      response.on('close', () => this.#streams.delete(response));
      return;
    }
    if (path === '/api/state')
      return void response.writeHead(200, { ...head, 'Content-Type': 'application/json' }).end(this.#state);
    const name = path === '/' ? 'index.html' : path.slice(1);
    const type = TYPES[name.split('.').at(-1)];
    if (!/^[a-z]+\.(html|css|js)$/.test(name) || path === '/api/events')
      return void response.writeHead(path === '/api/events' ? 503 : 404, head).end();
    response
      .writeHead(200, { ...head, 'Content-Type': type })
      .end(readFileSync(new URL(name, SHARED.has(name) ? STYLE : PAGE)));
  }
}
