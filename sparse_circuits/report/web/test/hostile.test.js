// Whatever a corpus, a label or an address holds, it is drawn as text.

import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { openBrowser, openPage } from "./browser.js";
import { urlOf, writePages } from "./pages.js";

let browser, page;

before(async () => {
  writePages("hostile");
  browser = await openBrowser();
  page = browser.page;
});
after(async () => {
  await browser?.close();
});

async function isWhole() {
  assert.equal(await page.evaluate(() => window.broken), undefined);
  assert.equal(await page.locator("img, #page script").count(), 0);
  assert.deepEqual(browser.problems, []);
  assert.deepEqual(browser.outside, []);
  assert.ok(
    await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth + 1),
    "nothing is wider than the page",
  );
}

for (const view of ["overview", "circuit", "card", "compare", "bridge", "finetunes"])
  it(`hostile text stays text in ${view}`, async () => {
    await openPage(page, urlOf("hostile", `#view=${view}&node=1.attn.q%5B3%5D`));
    assert.match(await page.locator("main").innerText(), /script/);
    await isWhole();
  });

it("weights that are no numbers say so", async () => {
  await openPage(page, urlOf("hostile", "#view=circuit&merged=true&node=1.attn.q%5B3%5D"));
  assert.match(await page.locator(".card").innerText(), /not a number/);
  await isWhole();
});

for (const hash of [
  "#view=%00&circuit=-3&pair=1e9&threshold=x&notes=[&pinned={}",
  "#view=circuit&circuit=999&pair=999&node=<img src=x>&path=ov999",
  "#notes=%7B%220%22%3A%7B%22labels%22%3A%5B1%5D%2C%22groups%22%3A5%7D%7D&view=circuit&interventions=[null]",
])
  it(`an address of nonsense opens: ${hash}`, async () => {
    await openPage(page, urlOf("hostile", hash));
    assert.ok(await page.locator("main").innerText());
    await isWhole();
  });
