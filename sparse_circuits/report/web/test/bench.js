// What a page of twenty tasks weighs and how soon it is there, and how many frames a second a drag of 2,000 edges has.

import { stat } from "node:fs/promises";
import { openBrowser, openPage } from "./browser.js";
import { pathOf, urlOf, writePages } from "./pages.js";

if (!process.argv.includes("--again")) writePages("large", "twenty");
const { size } = await stat(pathOf("twenty"));
const browser = await openBrowser(),
  { page } = browser;

const loads = [];
for (let i = 0; i < 5; i++) {
  const start = performance.now();
  await openPage(page, urlOf("twenty", "#view=circuit"));
  await page.locator(".spot").first().waitFor();
  loads.push(performance.now() - start);
}
loads.sort((a, b) => a - b);

await openPage(page, urlOf("large", "#view=circuit&merged=true"));
const edges = await page.locator(".link").count(),
  box = await page.locator(".frame").boundingBox();
const idle = await page.evaluate(
  () =>
    new Promise(done => {
      let n = 0;
      const start = performance.now();
      const tick = () => (performance.now() - start > 1000 ? done(n) : (n++, requestAnimationFrame(tick)));
      tick();
    }),
);
await page.mouse.move(box.x + 500, box.y + box.height - 12);
await page.mouse.down();
await page.evaluate(() => {
  window.frames_ = [];
  const tick = time => {
    window.frames_.push(time);
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
});
const until = performance.now() + 4000;
for (let i = 0; performance.now() < until; i++)
  await page.mouse.move(box.x + 500 + 200 * Math.sin(i / 12), box.y + box.height - 12 - 80 * Math.cos(i / 12));
const frames = await page.evaluate(() => window.frames_);
await page.mouse.up();
const gaps = frames
  .slice(1)
  .map((time, i) => time - frames[i])
  .sort((a, b) => a - b);
await browser.close();

console.log(
  `twenty tasks: ${(size / 1e6).toFixed(2)} MB, drawn after ${loads[2].toFixed(0)} ms (median of 5; ${loads[0].toFixed(0)} to ${loads[4].toFixed(0)})`,
);
console.log(
  `dragging ${edges} edges: ${((1000 * gaps.length) / (frames.at(-1) - frames[0])).toFixed(0)} frames/s, 95 % of frames within ${gaps[Math.floor(0.95 * gaps.length)].toFixed(0)} ms; at rest ${idle} frames/s`,
);
