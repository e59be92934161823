// A headless Chromium and pages that are watched: nothing they do wrong goes unseen.

import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const PLACES = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

export const LOOKS = [
  { name: 'desktop-light', colorScheme: 'light', viewport: { width: 1280, height: 900 } },
  { name: 'desktop-dark', colorScheme: 'dark', viewport: { width: 1280, height: 900 } },
  {
    name: 'phone-light',
    colorScheme: 'light',
    viewport: { width: 390, height: 844 },
    hasTouch: true,
    isMobile: true,
    deviceScaleFactor: 2,
  },
  {
    name: 'phone-dark',
    colorScheme: 'dark',
    viewport: { width: 390, height: 844 },
    hasTouch: true,
    isMobile: true,
    deviceScaleFactor: 2,
  },
];

export async function launch() {
  const executablePath = PLACES.find((place) => place && existsSync(place));
  if (!executablePath) throw new Error('no Chromium: run scripts/page-deps.sh, or name one in CHROMIUM');
  // Chromium's sandbox does not start for root; the pages are our own.
  return chromium.launch({ executablePath, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] });
}

/**
 * Opens an address in a look of its own, with a clock of the test's if it wants one; `faults` collects what must not
 * happen, `away` allows a lost connection.
 */
export async function open(browser, url, look = LOOKS[0]) {
  const { clock, ...options } = look;
  const context = await browser.newContext({ ...options, reducedMotion: 'reduce', timezoneId: 'UTC', locale: 'en-GB' });
  const page = await context.newPage();
  const watch = { faults: [], away: false };
  const fault = (text) => watch.faults.push(text);
  const { origin } = new URL(url);
  page.on('pageerror', (error) => fault(`an error: ${error.message}`));
  page.on('dialog', (dialog) => (fault(`a dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on('popup', (popup) => fault(`a window: ${popup.url()}`));
  page.on('console', (message) => {
    const lost = /^Failed to load resource: (net::|the server responded with a status of 503)|ERR_/.test(
      message.text(),
    );
    if (['error', 'warning'].includes(message.type()) && !(lost && watch.away)) fault(`console: ${message.text()}`);
  });
  context.on('request', (request) => {
    // A file has no origin: it may ask for itself and nothing else.
    const own = request.url() === url || request.url().startsWith(`${origin}/`);
    if (!own && !request.url().startsWith('data:')) fault(`a request to ${request.url()}`);
  });
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) =>
      window.violations.push(`${event.violatedDirective} ${event.blockedURI}`),
    );
  });
  if (clock) await page.clock.install();
  await page.goto(url, { waitUntil: 'load' });
  return { page, watch, close: () => context.close() };
}
