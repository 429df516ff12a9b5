// A page in headless Chromium that may talk to nobody but `home`: every other request, and every error, is kept.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const QUIET = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export async function openBrowser({ width = 1440, height = 900, scheme = "light" } = {}) {
  const profile = await mkdtemp(join(tmpdir(), "page-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: QUIET,
    viewport: { width, height },
    colorScheme: scheme,
    acceptDownloads: true,
  });
  const page = context.pages()[0] ?? (await context.newPage()),
    problems = [],
    outside = [];
  const browser = {
    page,
    problems,
    outside,
    home: null,
    async close() {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
  page.on("console", message => {
    if (message.type() === "error" || message.type() === "warning") problems.push(message.text());
  });
  page.on("pageerror", error => problems.push(String(error)));
  await context.route(/^(https?|wss?):/, route => {
    const url = route.request().url();
    if (browser.home && url.startsWith(browser.home)) return route.continue();
    outside.push(url);
    return route.abort();
  });
  return browser;
}

export async function openPage(page, url) {
  // From one address to another of the same file nothing would be loaded.
  await page.goto("about:blank");
  await page.goto(url);
  await page.waitForSelector("html[data-ready]");
}
