// Screenshots of every view at 1440 x 900: `node test/shots.js REPORT.html [FOLDER]`; `task=with_open` chooses the circuit.

import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { openBrowser, openPage } from "./browser.js";
import { DOCS } from "./pages.js";

// Writes view.png for each view that the page has something for, and returns what went wrong.
export async function takeShots(url, folder, task) {
  mkdirSync(folder, { recursive: true });
  const browser = await openBrowser(),
    { page, problems, outside } = browser;
  // Away from all that would show a note beside the pointer.
  const rest = () => page.mouse.move(2, 2);
  const shoot = name =>
    rest()
      .then(() => page.waitForTimeout(250))
      .then(() => page.screenshot({ path: join(folder, `${name}.png`) }));
  await openPage(page, url);
  const tab = name => page.locator("#bar .tabs button", { hasText: name });
  const shootBridge = async () => {
    await tab("Bridge").click();
    if (!(await page.locator(".chart").count())) return;
    await shoot("bridge");
    const steering = page.locator("h2", { hasText: "Steering:" }).first();
    if (!(await steering.count())) return;
    await steering.evaluate(each => scrollTo(0, each.getBoundingClientRect().top + scrollY - 70));
    await shoot("steering");
  };
  if (!(await tab("Circuit").count())) {
    await shoot("finetunes");
    await browser.close();
    return [...problems, ...outside];
  }
  await shoot("overview");
  await tab("Circuit").click();
  await page.waitForTimeout(500);
  if (!(await page.locator(".frame").count())) {
    await shootBridge();
    await browser.close();
    return [...problems, ...outside];
  }
  if (task) await page.locator("#bar select").selectOption({ label: task });
  await page.locator(".frame .spot").first().waitFor();
  await shoot("circuit");
  const live = page.locator(".paths button:not(.elsewhere)").filter({ hasText: ".v[" }).first();
  if (await live.count()) await live.click();
  await page.evaluate(() => scrollTo(0, 0));
  await shoot("path");
  await page.keyboard.press("Escape");
  // Of a large circuit it may lie outside the window.
  await page.locator(".frame .spot[data-node*='.attn.v[']").last().dispatchEvent("click");
  await shoot("node");
  await page.locator(".side").evaluate(side => {
    side.scrollTop = 1240;
  });
  await shoot("node-more");
  await page.keyboard.press("Escape");
  await tab("Card").click();
  await shoot("card");
  await tab("Compare").click();
  await shoot("compare");
  await shootBridge();
  await browser.close();
  return [...problems, ...outside];
}

// Writes live.png of a served page: a prompt, run as it is and with one node ablated.
export async function takeLiveShot(address, folder, { prompt, node }) {
  mkdirSync(folder, { recursive: true });
  const browser = await openBrowser(),
    { page, problems } = browser;
  browser.home = address;
  await openPage(page, `${address}#view=circuit&merged=true`);
  const tryIt = page.locator("section[aria-label='Try it']");
  await tryIt.locator("textarea").fill(prompt);
  await tryIt.locator("input[type=checkbox]").check();
  await page.locator(`[data-node='${node}']`).first().click();
  await tryIt.locator("button", { hasText: /^Run$/ }).click();
  await tryIt.locator(".bars").first().waitFor();
  await tryIt.evaluate(each => each.scrollIntoView({ block: "end" }));
  await page.mouse.move(2, 2);
  await page.waitForTimeout(400);
  await page.screenshot({ path: join(folder, "live.png") });
  await browser.close();
  return problems;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [report, folder] = process.argv.slice(2).filter(each => !each.startsWith("task=")),
    task = process.argv.find(each => each.startsWith("task="))?.slice(5);
  console.log(await takeShots(pathToFileURL(resolve(report)).href, folder ?? join(DOCS, "report"), task));
}
